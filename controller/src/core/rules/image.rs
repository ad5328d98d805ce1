//! Which images lie on which nodes, as agents tell in their sessions. Only the leader knows; a new one is told anew.

use std::collections::{BTreeMap, BTreeSet};

use swarm_proto::id::{Digest, NodeId, Timestamp};
use swarm_proto::object::{HeldImage, ImageHolder, Node, NodeStatus};

use super::Observed;
use super::command::Decision;
use crate::core::command::{CommandDone, FoundImage, WantedImage};
use crate::core::state::State;

/// Images of one node that are remembered: agents tell no more.
const MOST_IMAGES: usize = 256;
/// Names of one image on one node.
const MOST_NAMES: usize = 16;
/// Characters of a name.
const LONGEST_NAME: usize = 512;
/// Nodes that are named to somebody who wants a copy.
const MOST_HOLDERS: usize = 16;

/// When a node's image got a name, and whether it was given on a node.
type Given = (Timestamp, bool);

/// An image, on all nodes.
#[derive(Debug, Clone, Default, PartialEq)]
struct Held {
    nodes: BTreeSet<NodeId>,
    names: BTreeMap<String, BTreeMap<NodeId, Given>>,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Images {
    images: BTreeMap<Digest, Held>,
    nodes: BTreeMap<NodeId, BTreeSet<Digest>>,
}

impl Images {
    /// A node told all that it holds.
    pub(in crate::core) fn take(&mut self, node: NodeId, images: Vec<HeldImage>) {
        self.drop_node(node);
        for image in images.into_iter().take(MOST_IMAGES) {
            let held = self.images.entry(image.digest.clone()).or_default();
            held.nodes.insert(node);
            self.nodes.entry(node).or_default().insert(image.digest);
            let names = image.names.into_iter().filter(|held| held.name.len() <= LONGEST_NAME);
            for name in names.take(MOST_NAMES) {
                held.names.entry(name.name).or_default().insert(node, (name.at, name.local));
            }
        }
    }

    /// Forgets nodes that the state no longer knows.
    pub(in crate::core) fn forget(&mut self, state: &State) {
        let gone = self.nodes.keys().filter(|node| !state.nodes.contains_key(*node));
        for node in gone.copied().collect::<Vec<_>>() {
            self.drop_node(node);
        }
    }

    fn drop_node(&mut self, node: NodeId) {
        for digest in self.nodes.remove(&node).unwrap_or_default() {
            let Some(held) = self.images.get_mut(&digest) else { continue };
            held.nodes.remove(&node);
            held.names.retain(|_, nodes| {
                nodes.remove(&node);
                !nodes.is_empty()
            });
            if held.nodes.is_empty() {
                self.images.remove(&digest);
            }
        }
    }

    /// What a name stands for on ready nodes. What was given on a node counts before what a registry gave, then the
    /// newest, and of equals the highest digest, so that everybody says the same.
    fn named(&self, state: &State, name: &str) -> Option<Digest> {
        let newest = |held: &Held| {
            let nodes = held.names.get(name)?.iter().filter(|(node, _)| is_ready(state, **node));
            nodes.map(|(_, (at, local))| (*local, *at)).max()
        };
        let given = self.images.iter().filter_map(|(digest, held)| Some((newest(held)?, digest)));
        given.max().map(|(_, digest)| digest.clone())
    }

    fn is_local(&self, name: &str, digest: &Digest) -> bool {
        let names = self.images.get(digest).and_then(|held| held.names.get(name));
        names.is_some_and(|nodes| nodes.values().any(|(_, local)| *local))
    }
}

fn is_ready(state: &State, node: NodeId) -> bool {
    state.nodes.get(&node).is_some_and(|node| node.status == NodeStatus::Ready)
}

/// Who holds an image. Of many some are named, others for each that asks.
pub(super) fn find(state: &State, observed: &Observed, wanted: &WantedImage) -> Decision {
    let WantedImage { reference: name, digest, asker } = wanted;
    let (images, asker) = (&observed.images, *asker);
    let digest = digest.clone().or_else(|| images.named(state, name));
    let held = digest.as_ref().and_then(|digest| images.images.get(digest));
    let nodes = held.into_iter().flat_map(|held| &held.nodes).filter(|node| Some(**node) != asker);
    let ready: Vec<ImageHolder> = nodes
        .filter(|node| is_ready(state, **node))
        .filter_map(|node| holder(state.nodes.get(node)?))
        .collect();
    let first = asker.map_or(0, |asker| asker.0) % (ready.len().max(1) as u64);
    let first = usize::try_from(first).unwrap_or_default();
    let holders = ready.iter().cycle().skip(first).take(ready.len().min(MOST_HOLDERS)).cloned();
    let local = digest.as_ref().is_some_and(|digest| images.is_local(name, digest));
    let found = FoundImage { holders: holders.collect(), digest: held.and(digest), local };
    let mut decision = Decision::new(Vec::new(), Vec::new());
    decision.done = CommandDone::Found(found);
    decision
}

fn holder(node: &Node) -> Option<ImageHolder> {
    let description = &node.description;
    Some(ImageHolder {
        node: node.id,
        hostname: description.hostname.clone(),
        address: format!("{}:{}", description.address?, description.agent_port),
    })
}
