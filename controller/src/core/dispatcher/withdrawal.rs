//! Tasks that clients were led to and shall not be any more: because they shall end, or are unhealthy. From the moment
//! the state says so, networks no longer lead to them; their agents stop them only once each node that has the networks
//! has confirmed that. Nobody waits for a node that is away, has no such network yet, or takes too long.
//!
//! This is the leader's own sight of its sessions, and not replicated: a new leader begins anew. An agent waits no longer
//! than [`LIMIT`] and a second either way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use swarm_proto::assignment::Withdrawal;
use swarm_proto::id::{NetworkId, NodeId, TaskId, Timestamp};
use swarm_proto::object::{Network, NodeStatus, Task, TaskState};

use crate::core::rules::Observed;
use crate::core::state::{State, Stored};

/// How long nodes are waited for.
const LIMIT: Duration = Duration::from_secs(2);
/// A node that was not heard for so long is not waited for.
const SILENCE: Duration = Duration::from_millis(2_500);

/// See the module.
#[derive(Default)]
pub(super) struct Withdrawals {
    tasks: BTreeMap<TaskId, Leaving>,
}

struct Leaving {
    node: NodeId,
    until: Timestamp,
    /// The versions of its networks that lead to it no more.
    networks: Vec<(NetworkId, u64)>,
    is_done: bool,
    /// Whether its agent was told that it is done.
    is_told: bool,
}

/// Whether a task was a member of its networks that clients were led to, and shall not be one any more.
fn leaves(task: &Task) -> bool {
    let shall_not = task.desired > TaskState::Running || task.status.is_unhealthy();
    task.status.state == TaskState::Running && shall_not && !task.attachments.is_empty()
}

impl Withdrawals {
    /// How far a task's withdrawal is, to be told to its agent.
    pub(super) fn of(
        &mut self,
        state: &State,
        task: &Stored<Task>,
        now: Timestamp,
    ) -> Option<Withdrawal> {
        let node = task.node.filter(|_| leaves(task))?;
        let version = |network: NetworkId| state.network_versions.get(&network).copied();
        let networks = task.attachments.iter().map(|attachment| attachment.network);
        let leaving = self.tasks.entry(task.id).or_insert_with(|| Leaving {
            node,
            until: now.after(LIMIT),
            networks: networks.filter_map(|id| Some((id, version(id)?))).collect(),
            is_done: false,
            is_told: false,
        });
        leaving.is_told = leaving.is_done;
        Some(if leaving.is_done { Withdrawal::Done } else { Withdrawal::UnderWay })
    }

    /// Looks which withdrawals are done. Returns the nodes whose agents have not been told.
    pub(super) fn settle(
        &mut self,
        state: &State,
        observed: &Observed,
        now: Timestamp,
    ) -> BTreeSet<NodeId> {
        self.tasks.retain(|id, _| state.tasks.get(id).is_some_and(|task| leaves(task)));
        let mut standing: BTreeMap<NetworkId, u64> = BTreeMap::new();
        let mut untold = BTreeSet::new();
        for leaving in self.tasks.values_mut() {
            let is_out = |(id, version): &(NetworkId, u64)| {
                let Some(network) = state.networks.get(id) else { return true };
                let stands =
                    *standing.entry(*id).or_insert_with(|| stands(state, network, observed, now));
                *version <= stands
            };
            leaving.is_done |= now >= leaving.until || leaving.networks.iter().all(is_out);
            if leaving.is_done && !leaving.is_told {
                untold.insert(leaving.node);
            }
        }
        untold
    }
}

/// The version of a network that stands on every node that is waited for.
fn stands(state: &State, network: &Network, observed: &Observed, now: Timestamp) -> u64 {
    let mut least = u64::MAX;
    for gateway in &network.gateways {
        let Some(node) = state.nodes.get(&gateway.node) else { continue };
        let heard = now.since(observed.silent_since(node.id)) <= SILENCE;
        if node.status != NodeStatus::Ready || !heard || !state.index.needs(network.id, node.id) {
            continue;
        }
        match observed.confirmed.get(&(network.id, node.id)) {
            Some(version) => least = least.min(*version),
            // It has not made the network yet. Or it has not told this leader, which is new.
            None if now.since(observed.since) > LIMIT => {}
            None => least = 0,
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use swarm_proto::object::{
        Availability, Network, Node, NodeAttachment, NodeDescription, Role, TaskStatus,
    };
    use swarm_proto::spec::NetworkSpec;

    use super::*;
    use crate::core::state::Versions;

    const NOW: Timestamp = Timestamp(100_000);
    const NETWORK: NetworkId = NetworkId(1);

    fn node(id: u64, status: NodeStatus) -> Stored<Node> {
        let node = Node {
            id: NodeId(id),
            role: Role::Agent,
            availability: Availability::Active,
            labels: BTreeMap::new(),
            status,
            status_since: Timestamp(0),
            description: NodeDescription::default(),
            raft_id: None,
            controller_address: None,
            joined_at: Timestamp(0),
            declared_lost: false,
            recent_downs: Vec::new(),
        };
        Stored { object: Arc::new(node), versions: Versions::default() }
    }

    /// A task that shall end on node 1, of a network that nodes 1 to 3 have, at version 7; all have been heard.
    fn scene() -> (State, Observed, Stored<Task>) {
        let gateway = |node| NodeAttachment {
            node: NodeId(node),
            address: [10, 0, 0, u8::try_from(node).unwrap()].into(),
            mac: [0; 6],
        };
        let network = Network {
            id: NETWORK,
            stack: "s".into(),
            key: "n".into(),
            name: "s_n".into(),
            spec: NetworkSpec::default(),
            vni: 1,
            subnet: [10, 0, 0, 0].into(),
            prefix_length: 24,
            gateways: (1..=3).map(gateway).collect(),
            removing: false,
        };
        let task = Task {
            id: "1.1.1".parse().unwrap(),
            spec_version: 1,
            node: Some(NodeId(1)),
            desired: TaskState::Shutdown,
            start_after: None,
            status: TaskStatus::new(TaskState::Running, Timestamp(0)),
            attachments: vec![swarm_proto::object::Attachment {
                network: NETWORK,
                address: [10, 0, 0, 9].into(),
                mac: [0; 6],
            }],
            created_at: Timestamp(0),
            run: None,
            resources: [].into(),
            preempted_by: None,
            standby: false,
        };
        let task = Stored { object: Arc::new(task), versions: Versions::default() };
        let mut state = State::default();
        let stored = Stored { object: Arc::new(network), versions: Versions::default() };
        state.networks.insert(NETWORK, stored);
        state.network_versions.insert(NETWORK, 7);
        state.tasks.insert(task.id, task.clone());
        let mut observed = Observed::default();
        for id in 1..=3 {
            state.nodes.insert(NodeId(id), node(id, NodeStatus::Ready));
            state.index.network_nodes.insert((NETWORK, NodeId(id)), 1);
            observed.heard.insert(NodeId(id), NOW);
            observed.confirmed.insert((NETWORK, NodeId(id)), 6);
        }
        (state, observed, task)
    }

    fn confirm(observed: &mut Observed, node: u64) {
        observed.confirmed.insert((NETWORK, NodeId(node)), 7);
    }

    #[test]
    fn it_is_done_once_each_node_has_confirmed() {
        let (state, mut observed, task) = scene();
        let mut all = Withdrawals::default();
        assert_eq!(all.of(&state, &task, NOW), Some(Withdrawal::UnderWay));
        for node in 1..=3 {
            assert!(all.settle(&state, &observed, NOW).is_empty(), "before node {node}");
            confirm(&mut observed, node);
        }
        assert_eq!(all.settle(&state, &observed, NOW), [NodeId(1)].into());
        assert_eq!(all.settle(&state, &observed, NOW), [NodeId(1)].into(), "not told yet");
        assert_eq!(all.of(&state, &task, NOW), Some(Withdrawal::Done));
        assert!(all.settle(&state, &observed, NOW).is_empty());
    }

    #[test]
    fn nobody_waits_for_ever_or_for_nodes_that_are_away() {
        let (mut state, mut observed, task) = scene();
        let mut all = Withdrawals::default();
        all.of(&state, &task, NOW);
        confirm(&mut observed, 1);
        assert!(all.settle(&state, &observed, NOW).is_empty());
        let late = NOW.after(LIMIT);
        assert_eq!(all.settle(&state, &observed, late), [NodeId(1)].into(), "two seconds");

        state.nodes.insert(NodeId(2), node(2, NodeStatus::Down));
        observed.heard.insert(NodeId(3), Timestamp(NOW.0 - 3_000));
        let mut all = Withdrawals::default();
        all.of(&state, &task, NOW);
        assert_eq!(all.settle(&state, &observed, NOW), [NodeId(1)].into(), "down, and silent");
    }

    #[test]
    fn a_node_without_the_network_is_waited_for_only_by_a_new_leader() {
        let (state, mut observed, task) = scene();
        (1..=2).for_each(|node| confirm(&mut observed, node));
        observed.confirmed.remove(&(NETWORK, NodeId(3)));
        observed.since = NOW;
        let mut all = Withdrawals::default();
        all.of(&state, &task, NOW);
        assert!(all.settle(&state, &observed, NOW).is_empty(), "it may have it");
        observed.since = Timestamp(0);
        assert_eq!(all.settle(&state, &observed, NOW), [NodeId(1)].into());
    }

    #[test]
    fn a_new_leader_waits_for_nodes_that_it_has_not_heard_yet() {
        let (state, mut observed, task) = scene();
        (1..=2).for_each(|node| confirm(&mut observed, node));
        observed.heard.remove(&NodeId(3));
        observed.since = NOW;
        let mut all = Withdrawals::default();
        all.of(&state, &task, NOW);
        assert!(all.settle(&state, &observed, NOW).is_empty(), "it leads clients there, perhaps");
        observed.since = Timestamp(0);
        assert_eq!(all.settle(&state, &observed, NOW), [NodeId(1)].into(), "it is silent");
    }

    #[test]
    fn only_what_clients_were_led_to_is_withdrawn() {
        let (state, _, task) = scene();
        let with = |change: fn(&mut Task)| {
            let mut task = task.clone();
            change(Arc::make_mut(&mut task.object));
            Withdrawals::default().of(&state, &task, NOW)
        };
        assert_eq!(with(|task| task.desired = TaskState::Running), None);
        assert_eq!(with(|task| task.status.state = TaskState::Starting), None);
        assert_eq!(with(|task| task.attachments.clear()), None);
        let sick = with(|task| {
            task.desired = TaskState::Running;
            let health = swarm_proto::object::TaskHealth::starting(Timestamp(0));
            let state = swarm_proto::object::HealthState::Unhealthy;
            task.status.health = Some(swarm_proto::object::TaskHealth { state, ..health });
        });
        assert_eq!(sick, Some(Withdrawal::UnderWay));
    }
}
