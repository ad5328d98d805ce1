//! Resources that nodes count or name.

use super::fields::{ConvertError, Fields};
use crate::object::{GenericResource, GenericResources, HostShare};
use crate::spec::{Amount, ResourceRequest};
use crate::wire;

impl From<(&String, &GenericResource)> for wire::GenericResource {
    fn from((kind, resource): (&String, &GenericResource)) -> Self {
        let (count, names) = match resource {
            GenericResource::Count(count) => (Some(*count), Vec::new()),
            GenericResource::Named(names) => (None, names.iter().cloned().collect()),
        };
        Self { kind: kind.clone(), count, names }
    }
}

impl TryFrom<wire::GenericResource> for (String, GenericResource) {
    type Error = ConvertError;

    fn try_from(resource: wire::GenericResource) -> Result<Self, ConvertError> {
        let at = Fields("GenericResource");
        let value = match resource.count {
            Some(_) if !resource.names.is_empty() => {
                return Err(at.refuse("names", "stands beside a number"));
            }
            Some(count) => GenericResource::Count(count),
            None => {
                let count = resource.names.len();
                let names: std::collections::BTreeSet<String> =
                    resource.names.into_iter().collect();
                if names.len() < count {
                    return Err(at.refuse("names", "holds one name twice"));
                }
                GenericResource::Named(names)
            }
        };
        Ok((resource.kind, value))
    }
}

/// Resources as they travel.
pub(super) fn resources(resources: &GenericResources) -> Vec<wire::GenericResource> {
    resources.iter().map(Into::into).collect()
}

impl Fields {
    /// Resources by kind.
    pub fn resources(
        self,
        field: &str,
        list: Vec<wire::GenericResource>,
    ) -> Result<GenericResources, ConvertError> {
        let kind = |(kind, _): &(String, GenericResource)| kind.clone();
        Ok(self.keyed(field, list, kind)?.into_values().collect())
    }
}

impl From<&HostShare> for wire::HostShare {
    fn from(share: &HostShare) -> Self {
        Self { millicpus: share.millicpus, memory: share.memory, pids: share.pids }
    }
}

impl From<wire::HostShare> for HostShare {
    fn from(share: wire::HostShare) -> Self {
        Self { millicpus: share.millicpus, memory: share.memory, pids: share.pids }
    }
}

impl From<&ResourceRequest> for wire::ResourceRequest {
    fn from(request: &ResourceRequest) -> Self {
        use wire::resource_request::Amount as Wire;
        let amount = match &request.amount {
            Amount::Count(count) => Wire::Count(*count),
            Amount::All => Wire::All(wire::Nothing {}),
            Amount::Ids(ids) => Wire::Ids(wire::Words { words: ids.clone() }),
        };
        Self {
            kind: request.kind.clone(),
            amount: Some(amount),
            capabilities: request.capabilities.clone(),
        }
    }
}

impl TryFrom<wire::ResourceRequest> for ResourceRequest {
    type Error = ConvertError;

    fn try_from(request: wire::ResourceRequest) -> Result<Self, ConvertError> {
        use wire::resource_request::Amount as Wire;
        let amount = match request.amount {
            Some(Wire::Count(count)) => Amount::Count(count),
            Some(Wire::All(_)) => Amount::All,
            Some(Wire::Ids(ids)) => Amount::Ids(ids.words),
            None => return Err(Fields("ResourceRequest").refuse("amount", "is missing")),
        };
        Ok(Self { kind: request.kind, amount, capabilities: request.capabilities })
    }
}
