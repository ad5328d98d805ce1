//! What a node has, what of it is kept for the host or reserved by tasks, and what is free.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use swarm_proto::object::{GenericResource, HostShare, NodeDescription};

use super::bytes;
use crate::state::Reserved;

/// Parts of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ShareView {
    /// CPUs in thousandths.
    pub millicpus: u64,
    /// Memory in bytes.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u64,
}

impl From<HostShare> for ShareView {
    fn from(HostShare { millicpus, memory, pids }: HostShare) -> Self {
        Self { millicpus, memory, pids }
    }
}

/// A kind of generic resources of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResourceView {
    /// How many there are.
    pub total: u64,
    /// How many tasks have.
    pub reserved: u64,
    /// How many are free.
    pub free: u64,
    /// All names; none where they are counted.
    pub names: BTreeSet<String>,
    /// Those that tasks have.
    pub reserved_names: BTreeSet<String>,
}

/// All kinds of a node; those that tasks have of before, though the node says no more that it has them, too.
pub(super) fn resources(
    description: &NodeDescription,
    reserved: &Reserved,
) -> BTreeMap<String, ResourceView> {
    let has = &description.generic_resources;
    let kinds: BTreeSet<&String> = has.keys().chain(reserved.resources.keys()).collect();
    let names = |resource: Option<&GenericResource>| match resource {
        Some(GenericResource::Named(names)) => names.clone(),
        Some(GenericResource::Count(_)) | None => BTreeSet::new(),
    };
    let count = |resource: Option<&GenericResource>| resource.map_or(0, GenericResource::len);
    let view = |kind: &String| {
        let (all, taken) = (has.get(kind), reserved.resources.get(kind));
        ResourceView {
            total: count(all),
            reserved: count(taken),
            free: count(all).saturating_sub(count(taken)),
            names: names(all),
            reserved_names: names(taken),
        }
    };
    kinds.into_iter().map(|kind| (kind.clone(), view(kind))).collect()
}

/// `2.5`
pub(super) fn cpus(millicpus: u64) -> String {
    let text = format!("{}.{:03}", millicpus / 1000, millicpus % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `1.4 CPUs, 3.2 GiB, 900 pids, 1 gpu`
pub(super) fn free(share: ShareView, resources: &BTreeMap<String, ResourceView>) -> String {
    let mut words = vec![
        format!("{} CPUs", cpus(share.millicpus)),
        bytes(share.memory),
        format!("{} pids", share.pids),
    ];
    words.extend(resources.iter().map(|(kind, resource)| format!("{} {kind}", resource.free)));
    words.join(", ")
}
