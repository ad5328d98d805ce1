//! The nodes that can run tasks of one spec, best first: where the service, and then everybody, has the least.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use swarm_proto::id::NodeId;
use swarm_proto::object::Node;

use super::filter::{Question, crowded, refusal};

/// What makes a node better than another of the same group; less is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// Tasks of the service failed there lately.
    is_flaky: bool,
    /// The service's tasks there.
    own: u32,
    /// All tasks there.
    load: u32,
    node: NodeId,
}

/// Nodes with the same values of all labels to spread over.
type Group<'a> = Vec<&'a str>;

/// See the module. All tasks of a batch ask for the same, so a node that once refuses one is not asked again.
#[derive(Debug)]
pub(super) struct Candidates<'a> {
    groups: BTreeMap<Group<'a>, BinaryHeap<Reverse<Rank>>>,
    /// The service's tasks by the first labels' values, by those of the first two, and so on.
    counts: BTreeMap<Group<'a>, u32>,
}

impl<'a> Candidates<'a> {
    pub(super) fn new(question: &Question<'a, '_>, flaky: &BTreeSet<NodeId>) -> Self {
        let mut groups: BTreeMap<Group<'a>, Vec<Reverse<Rank>>> = BTreeMap::new();
        let nodes = question.state.nodes.values();
        for node in nodes.filter(|node| refusal(question, node).is_none()) {
            let rank = rank(question, node.id, flaky.contains(&node.id));
            groups.entry(group(question, node)).or_default().push(Reverse(rank));
        }
        let groups = groups.into_iter().map(|(group, ranks)| (group, ranks.into()));
        let mut candidates = Self { groups: groups.collect(), counts: BTreeMap::new() };
        if !question.spec.placement.spread.is_empty() {
            for (node, count) in question.placed.nodes_of(question.state, question.service.id) {
                candidates.count(question, node, count);
            }
        }
        candidates
    }

    /// The best node for a further task.
    pub(super) fn best(&mut self, question: &Question<'a, '_>) -> Option<&'a Node> {
        loop {
            let (group, rank) = self.first()?;
            let heap = self.groups.get_mut(&group)?;
            let now = self::rank(question, rank.node, rank.is_flaky);
            if now != rank {
                heap.pop();
                heap.push(Reverse(now));
                continue;
            }
            let node = question.state.nodes.get(&rank.node).map(|node| &*node.object);
            let Some(node) = node.filter(|node| crowded(question, node).is_none()) else {
                heap.pop();
                if heap.is_empty() {
                    self.groups.remove(&group);
                }
                continue;
            };
            return Some(node);
        }
    }

    /// Notes that a node got a task of the service.
    pub(super) fn took(&mut self, question: &Question<'a, '_>, node: &'a Node) {
        if !question.spec.placement.spread.is_empty() {
            self.count(question, node, 1);
        }
    }

    /// The group with the best node, and that node. The groups are few.
    fn first(&self) -> Option<(Group<'a>, Rank)> {
        let tops = self.groups.iter().filter_map(|(group, heap)| Some((group, heap.peek()?.0)));
        let key = |(group, rank): &(&Group<'a>, Rank)| {
            let depths = 1..=group.len();
            let counts = depths.map(|depth| self.counts.get(&group[..depth]).copied().unwrap_or(0));
            (rank.is_flaky, counts.collect::<Vec<u32>>(), *rank)
        };
        tops.min_by_key(key).map(|(group, rank)| (group.clone(), rank))
    }

    fn count(&mut self, question: &Question<'a, '_>, node: &'a Node, tasks: u32) {
        let group = group(question, node);
        for depth in 1..=group.len() {
            *self.counts.entry(group[..depth].to_vec()).or_default() += tasks;
        }
    }
}

fn group<'a>(question: &Question<'a, '_>, node: &'a Node) -> Group<'a> {
    let labels = question.spec.placement.spread.iter();
    labels.map(|label| label.value(node).unwrap_or_default()).collect()
}

fn rank(question: &Question<'_, '_>, node: NodeId, is_flaky: bool) -> Rank {
    let own = question.placed.of_service(question.state, question.service.id, node);
    let load = question.placed.load(question.state, node).tasks;
    Rank { is_flaky, own, load, node }
}
