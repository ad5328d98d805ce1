//! Which images lie on which nodes, as agents tell in their sessions, and who fetches one now. Only the leader knows; a new
//! one is told anew.
//!
//! Of nodes that begin with the same image at the same moment, the one that asks first finds nobody and goes to the
//! registry. The others are told of those that asked before them, never after: nobody waits for itself.

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

/// Images of which it is known who fetches them.
const MOST_FETCHED: usize = 256;
/// For so long after it asked, a node counts as one that fetches the image, in milliseconds.
const FETCHES_FOR: u64 = 10 * 60 * 1000;

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
    held: BTreeMap<Digest, Held>,
    nodes: BTreeMap<NodeId, BTreeSet<Digest>>,
    /// Nodes that asked for an image and did not get it yet, in the order in which they asked, with their last time.
    fetching: BTreeMap<Digest, Vec<(NodeId, Timestamp)>>,
}

impl Images {
    /// A node told all that it holds.
    pub(in crate::core) fn take(&mut self, node: NodeId, images: Vec<HeldImage>) {
        self.drop_node(node);
        for image in images.into_iter().take(MOST_IMAGES) {
            self.drop_fetching(&image.digest, node);
            let held = self.held.entry(image.digest.clone()).or_default();
            held.nodes.insert(node);
            self.nodes.entry(node).or_default().insert(image.digest);
            let names = image.names.into_iter().filter(|held| held.name.len() <= LONGEST_NAME);
            for name in names.take(MOST_NAMES) {
                held.names.entry(name.name).or_default().insert(node, (name.at, name.local));
            }
        }
    }

    /// A node that asks where an image lies is going to fetch it, and will have its parts for others.
    pub(in crate::core) fn note(&mut self, wanted: &WantedImage, now: Timestamp) {
        let (Some(digest), Some(asker)) = (&wanted.digest, wanted.asker) else { return };
        self.fetching.retain(|_, nodes| {
            nodes.retain(|(_, at)| at.0.saturating_add(FETCHES_FOR) > now.0);
            !nodes.is_empty()
        });
        if self.fetching.len() >= MOST_FETCHED && !self.fetching.contains_key(digest) {
            return;
        }
        let nodes = self.fetching.entry(digest.clone()).or_default();
        match nodes.iter_mut().find(|(node, _)| *node == asker) {
            Some((_, at)) => *at = now,
            None => nodes.push((asker, now)),
        }
    }

    /// Nodes that asked for an image before one that asks now, and do not hold it; others first for each that asks.
    fn fetching_before(&self, digest: &Digest, asker: NodeId) -> impl Iterator<Item = NodeId> {
        let nodes = self.fetching.get(digest).map_or(&[][..], Vec::as_slice);
        let before = nodes.iter().position(|(node, _)| *node == asker).unwrap_or(nodes.len());
        turned(&nodes[..before], asker.0).map(|(node, _)| *node)
    }

    fn drop_fetching(&mut self, digest: &Digest, node: NodeId) {
        if let Some(nodes) = self.fetching.get_mut(digest) {
            nodes.retain(|(other, _)| *other != node);
            if nodes.is_empty() {
                self.fetching.remove(digest);
            }
        }
    }

    /// Forgets nodes that the state no longer knows.
    pub(in crate::core) fn forget(&mut self, state: &State) {
        self.fetching.retain(|_, nodes| {
            nodes.retain(|(node, _)| state.nodes.contains_key(node));
            !nodes.is_empty()
        });
        let gone = self.nodes.keys().filter(|node| !state.nodes.contains_key(*node));
        for node in gone.copied().collect::<Vec<_>>() {
            self.drop_node(node);
        }
    }

    fn drop_node(&mut self, node: NodeId) {
        for digest in self.nodes.remove(&node).unwrap_or_default() {
            let Some(held) = self.held.get_mut(&digest) else { continue };
            held.nodes.remove(&node);
            held.names.retain(|_, nodes| {
                nodes.remove(&node);
                !nodes.is_empty()
            });
            if held.nodes.is_empty() {
                self.held.remove(&digest);
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
        let given = self.held.iter().filter_map(|(digest, held)| Some((newest(held)?, digest)));
        given.max().map(|(_, digest)| digest.clone())
    }

    fn is_local(&self, name: &str, digest: &Digest) -> bool {
        let names = self.held.get(digest).and_then(|held| held.names.get(name));
        names.is_some_and(|nodes| nodes.values().any(|(_, local)| *local))
    }
}

fn is_ready(state: &State, node: NodeId) -> bool {
    state.nodes.get(&node).is_some_and(|node| node.status == NodeStatus::Ready)
}

/// Who holds an image, then who asked for it before and so has its parts as they come. Of many some are named, others
/// for each that asks.
pub(super) fn find(state: &State, observed: &Observed, wanted: &WantedImage) -> Decision {
    let WantedImage { reference: name, digest, asker } = wanted;
    let (images, asker) = (&observed.images, *asker);
    let digest = digest.clone().or_else(|| images.named(state, name));
    let held = digest.as_ref().and_then(|digest| images.held.get(digest));
    let nodes = held.into_iter().flat_map(|held| &held.nodes).filter(|node| Some(**node) != asker);
    let ready: Vec<ImageHolder> = nodes
        .filter(|node| is_ready(state, **node))
        .filter_map(|node| holder(state.nodes.get(node)?))
        .collect();
    let holders = turned(&ready, asker.map_or(0, |asker| asker.0)).cloned();
    let before = digest.as_ref().zip(asker);
    let before = before.map(|(digest, asker)| images.fetching_before(digest, asker));
    let before = before.into_iter().flatten();
    let fetching = before
        .filter(|node| is_ready(state, *node) && held.is_none_or(|held| !held.nodes.contains(node)))
        .filter_map(|node| holder(state.nodes.get(&node)?));
    let holders = holders.chain(fetching).take(MOST_HOLDERS);
    let local = digest.as_ref().is_some_and(|digest| images.is_local(name, digest));
    let found = FoundImage { holders: holders.collect(), digest: held.and(digest), local };
    let mut decision = Decision::new(Vec::new(), Vec::new());
    decision.done = CommandDone::Found(found);
    decision
}

/// All of them once, beginning with another one for each number.
fn turned<T>(all: &[T], number: u64) -> impl Iterator<Item = &T> {
    let first = usize::try_from(number % (all.len().max(1) as u64)).unwrap_or_default();
    all[first..].iter().chain(&all[..first])
}

fn holder(node: &Node) -> Option<ImageHolder> {
    let description = &node.description;
    Some(ImageHolder {
        node: node.id,
        hostname: description.hostname.clone(),
        address: format!("{}:{}", description.address?, description.agent_port),
    })
}
