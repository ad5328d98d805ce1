use std::collections::BTreeMap;

use serde::Serialize;
use swarm_proto::id::Timestamp;
use swarm_proto::object::{Service, Volume};
use swarm_proto::spec::MountSource;

use super::{View, owned, short_image, time};
use crate::state::State;

/// A named volume, as `volume ls` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VolumeView {
    /// Its id.
    pub id: u64,
    /// Its full name.
    pub name: String,
    /// The stack that declared it; `null` for one that belongs to none.
    pub stack: Option<String>,
    /// The key in the stack's file.
    pub key: Option<String>,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// The nodes that hold a copy.
    pub nodes: Vec<HoldingView>,
    /// Full names of the services that mount it.
    pub used_by: Vec<String>,
    /// Being removed.
    pub removing: bool,
}

/// A node's copy of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HoldingView {
    /// The node's host name.
    pub node: String,
    /// When the node made it.
    pub created_at: String,
    /// The image that filled it.
    pub filled_from: Option<FilledFromView>,
    /// Its removal has begun.
    pub removing: bool,
}

/// The image content that filled a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FilledFromView {
    /// The image's name.
    pub image: String,
    /// Its content.
    pub digest: String,
}

impl VolumeView {
    /// The view of one volume.
    pub fn of(state: &State, volume: &Volume) -> Self {
        let nodes = volume.holdings.iter().map(|(node, holding)| HoldingView {
            node: state.node_name(*node),
            created_at: time(holding.created_at),
            filled_from: holding.filled_from.as_ref().map(|filled| FilledFromView {
                image: filled.reference.clone(),
                digest: filled.digest.to_string(),
            }),
            removing: holding.removing,
        });
        let is_of = |service: &Service, source: &MountSource| match source {
            MountSource::Volume { external: Some(name), .. } => *name == volume.name,
            MountSource::Volume { volume: key, external: None, .. } => {
                service.stack == volume.stack && *key == volume.key
            }
            _ => false,
        };
        let used_by = state.services_by_name().into_iter().filter(|service| {
            let mut mounts = service.spec.container.mounts.iter();
            mounts.any(|mount| is_of(service, &mount.source))
        });
        Self {
            id: volume.id.0,
            name: volume.name.clone(),
            stack: owned(&volume.stack, &volume.stack),
            key: owned(&volume.stack, &volume.key),
            labels: volume.spec.labels.clone(),
            nodes: nodes.collect(),
            used_by: used_by.map(Service::name).collect(),
            removing: volume.removing,
        }
    }
}

impl View for VolumeView {
    const COLUMNS: &'static [&'static str] = &["NAME", "STACK", "NODES", "USED BY"];
    const WIDE_COLUMNS: &'static [&'static str] = &["ID", "FILLED FROM", "LABELS"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        let nodes: Vec<&str> = self.nodes.iter().map(|holding| holding.node.as_str()).collect();
        let removing = if self.removing { " (removing)" } else { "" };
        vec![
            format!("{}{removing}", self.name),
            self.stack.clone().unwrap_or_default(),
            nodes.join(","),
            self.used_by.join(","),
        ]
    }

    fn wide_cells(&self, _now: Timestamp) -> Vec<String> {
        let mut filled: Vec<&str> = self
            .nodes
            .iter()
            .filter_map(|holding| holding.filled_from.as_ref())
            .map(|filled| short_image(&filled.image))
            .collect();
        filled.dedup();
        let labels: Vec<String> =
            self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        vec![self.id.to_string(), filled.join(","), labels.join(",")]
    }
}
