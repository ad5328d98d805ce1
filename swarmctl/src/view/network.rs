use std::collections::BTreeMap;

use serde::Serialize;
use swarm_proto::id::Timestamp;
use swarm_proto::object::{Network, Service};

use super::{View, owned};
use crate::state::State;

/// An overlay network, as `network ls` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkView {
    /// Its id.
    pub id: u64,
    /// Its full name.
    pub name: String,
    /// The stack it belongs to; `null` for one that belongs to none.
    pub stack: Option<String>,
    /// The key in the stack's file.
    pub key: Option<String>,
    /// The VXLAN network identifier.
    pub vni: u32,
    /// `10.0.1.0/24`
    pub subnet: String,
    /// No way out for its containers.
    pub internal: bool,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// Full names of the services that are on it.
    pub services: Vec<String>,
    /// Nodes' own addresses on it, by host name.
    pub gateways: BTreeMap<String, String>,
    /// Being removed.
    pub removing: bool,
}

impl NetworkView {
    /// The view of one network.
    pub fn of(state: &State, network: &Network) -> Self {
        let is_on = |service: &&Service| {
            service.spec.networks.iter().any(|attachment| match &attachment.external {
                Some(name) => *name == network.name,
                None => service.stack == network.stack && attachment.network == network.key,
            })
        };
        let services = state.services_by_name().into_iter().filter(is_on);
        let gateways = network.gateways.iter();
        Self {
            id: network.id.0,
            name: network.name.clone(),
            stack: owned(&network.stack, &network.stack),
            key: owned(&network.stack, &network.key),
            vni: network.vni,
            subnet: format!("{}/{}", network.subnet, network.prefix_length),
            internal: network.spec.internal,
            labels: network.spec.labels.clone(),
            services: services.map(Service::name).collect(),
            gateways: gateways
                .map(|gateway| (state.node_name(gateway.node), gateway.address.to_string()))
                .collect(),
            removing: network.removing,
        }
    }
}

impl View for NetworkView {
    const COLUMNS: &'static [&'static str] = &["NAME", "STACK", "SUBNET", "SERVICES"];
    const WIDE_COLUMNS: &'static [&'static str] = &["ID", "VNI", "INTERNAL", "GATEWAYS"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        let removing = if self.removing { " (removing)" } else { "" };
        vec![
            format!("{}{removing}", self.name),
            self.stack.clone().unwrap_or_default(),
            self.subnet.clone(),
            self.services.join(","),
        ]
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        let gateways: Vec<String> =
            self.gateways.iter().map(|(node, address)| format!("{node}={address}")).collect();
        vec![
            self.id.to_string(),
            format!("{:#x}", self.vni),
            self.internal.to_string(),
            gateways.join(","),
        ]
    }
}
