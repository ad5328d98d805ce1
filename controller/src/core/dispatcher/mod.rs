//! The leader's sessions with agents: desired state down, coalesced; what agents report up, gathered for the log.

mod assignment;
mod network;
mod report;
mod template;
mod withdrawal;

use std::collections::{BTreeMap, BTreeSet};

use swarm_proto::assignment::{AssignmentDiff, VolumeReport, Withdrawal};
use swarm_proto::entry::{Counter, Group, ObjectId};
use swarm_proto::id::{NetworkId, NodeId, TaskId, Timestamp, VolumeId};
use swarm_proto::object::{Cluster, NodeDescription, NodeStatus, Task, TaskStatus};
use swarm_proto::spec::ContentId;

use super::output::Output;
use super::planted::{Fault, Planted};
use super::rules::Observed;
use super::session::{FromAgent, ToAgent};
use super::state::{Event, Roster, State, Stored, tasks_of};
use network::{NetworkCache, Told};
use withdrawal::Withdrawals;

/// Nodes whose sessions get a message in one round.
const SESSIONS_AT_ONCE: usize = 256;
/// Tasks of which they are told, if each tells of one: whoever else wants something of the leader waits meanwhile.
const TASKS_AT_ONCE: usize = 2_000;

/// Counters of a task and of its service's spec, and how far its withdrawal is: what changes its assignment.
type Print = (u64, u64, Option<Withdrawal>);

/// One agent's session, and what it was sent.
struct Session {
    node: NodeId,
    greeted: bool,
    /// Whether the complete set went out.
    complete: bool,
    sequence: u64,
    /// The state's version that was looked at last.
    seen: u64,
    /// Tasks of which the hello spoke, until the complete set is out.
    has: BTreeSet<TaskId>,
    /// What the sent assignments were made from.
    tasks: BTreeMap<TaskId, Print>,
    /// Tasks that may have changed since; `None` where all are to be looked at.
    changed: Option<BTreeSet<TaskId>>,
    networks: BTreeMap<NetworkId, Told>,
    /// Whether the agent takes what changed of them.
    takes_network_changes: bool,
    volumes: BTreeMap<VolumeId, bool>,
    /// Secrets and configs that the agent holds for its tasks.
    contents: BTreeSet<ContentId>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Dispatcher {
    planted: Planted,
    sessions: BTreeMap<u64, Session>,
    /// From which session on the next round goes: none waits for long because others always have something new.
    turn: u64,
    by_node: BTreeMap<NodeId, u64>,
    cache: NetworkCache,
    roster: Roster,
    withdrawals: Withdrawals,
    /// Of tasks by their node, which has some.
    statuses: BTreeMap<NodeId, BTreeMap<TaskId, TaskStatus>>,
    /// Tasks that each newly greeted agent has: what it lacks of the state is lost.
    greetings: BTreeMap<NodeId, BTreeSet<TaskId>>,
    descriptions: BTreeMap<NodeId, NodeDescription>,
    /// Those that say more than all controllers understand yet.
    withheld: BTreeMap<NodeId, NodeDescription>,
    /// Nodes that spoke though the state does not take them for ready.
    awake: BTreeSet<NodeId>,
    volumes: BTreeMap<NodeId, Vec<VolumeReport>>,
    /// Sessions with a heartbeat that was not answered, one entry for each.
    heartbeats: Vec<u64>,
}

impl Dispatcher {
    pub(super) fn new(planted: Planted) -> Self {
        Self { planted, ..Self::default() }
    }

    /// An agent connected. A newer session of a node ends the older one.
    pub(super) fn open(&mut self, session: u64, node: NodeId, out: &mut Vec<Output>) {
        if let Some(older) = self.by_node.insert(node, session) {
            self.sessions.remove(&older);
            let reason = "a newer session of this node began".to_owned();
            out.push(Output::SessionEnd { session: older, reason });
        }
        self.sessions.insert(
            session,
            Session {
                node,
                greeted: false,
                complete: false,
                sequence: 0,
                seen: 0,
                has: BTreeSet::new(),
                tasks: BTreeMap::new(),
                changed: None,
                networks: BTreeMap::new(),
                takes_network_changes: false,
                volumes: BTreeMap::new(),
                contents: BTreeSet::new(),
            },
        );
    }

    /// Takes down which tasks an entry changed, so that sessions need not look at all of theirs. Where nobody knows how the
    /// state was `before`, rather too many are looked at.
    pub(super) fn note(&mut self, before: Option<&State>, after: &State, events: &[Event]) {
        for event in events {
            match event {
                Event::Task(task) => self.note_task(task.node, task.id),
                Event::Removed { object: ObjectId::Task(id), .. } => match before {
                    Some(before) => {
                        let node = before.tasks.get(id).and_then(|task| task.node);
                        self.note_task(node, *id);
                    }
                    None => self.sessions.values_mut().for_each(|session| session.changed = None),
                },
                Event::Service(service) => {
                    let id = ObjectId::Service(service.id);
                    let spec = |state: &State| state.version_of(&id, Counter::Spec);
                    if before.is_none_or(|before| spec(before) != spec(after)) {
                        tasks_of(after, service.id)
                            .for_each(|task| self.note_task(task.node, task.id));
                    }
                }
                _ => {}
            }
        }
    }

    fn note_task(&mut self, node: Option<NodeId>, task: TaskId) {
        let session = node.and_then(|node| self.by_node.get(&node));
        let session = session.and_then(|session| self.sessions.get_mut(session));
        if let Some(changed) = session.and_then(|session| session.changed.as_mut()) {
            changed.insert(task);
        }
    }

    /// A session broke off. The node counts as down only once it was not heard for long enough.
    pub(super) fn close(&mut self, session: u64) {
        if let Some(closed) = self.sessions.remove(&session)
            && self.by_node.get(&closed.node) == Some(&session)
        {
            self.by_node.remove(&closed.node);
        }
    }

    /// Ends every session: another controller leads.
    pub(super) fn end_all(&mut self, reason: &str, out: &mut Vec<Output>) {
        self.by_node.clear();
        for session in std::mem::take(&mut self.sessions).into_keys() {
            out.push(Output::SessionEnd { session, reason: reason.to_owned() });
        }
    }

    pub(super) fn end(&mut self, session: u64, reason: &str, out: &mut Vec<Output>) {
        self.close(session);
        out.push(Output::SessionEnd { session, reason: reason.to_owned() });
    }

    /// Takes in what an agent said.
    pub(super) fn receive(
        &mut self,
        id: u64,
        message: FromAgent,
        state: &State,
        observed: &mut Observed,
        now: Timestamp,
        out: &mut Vec<Output>,
    ) {
        let Some(session) = self.sessions.get(&id) else {
            out.push(Output::SessionEnd { session: id, reason: "the session is over".to_owned() });
            return;
        };
        let (node, greeted) = (session.node, session.greeted);
        if !state.nodes.contains_key(&node) {
            return self.end(id, "this node is not a member of the cluster", out);
        }
        if greeted == matches!(message, FromAgent::Hello { .. }) {
            return self.end(id, "a session begins with one hello", out);
        }
        observed.heard.insert(node, now);
        if state.nodes.get(&node).is_some_and(|node| node.status != NodeStatus::Ready) {
            self.awake.insert(node);
        }
        match message {
            FromAgent::Hello { description, statuses, volumes, takes_network_changes, .. } => {
                let has: BTreeSet<TaskId> = statuses.iter().map(|(task, _)| *task).collect();
                self.greet(id, (has.clone(), takes_network_changes), state, out);
                self.descriptions.insert(node, description);
                // What was said in an earlier session of tasks that the agent does not have any more is no news.
                if let Some(waiting) = self.statuses.get_mut(&node) {
                    waiting.retain(|task, _| has.contains(task));
                }
                self.greetings.insert(node, has);
                self.take_statuses(node, statuses, state);
                self.volumes.insert(node, volumes);
            }
            FromAgent::Heartbeat => self.heartbeats.push(id),
            FromAgent::Statuses(statuses) => self.take_statuses(node, statuses, state),
            FromAgent::Usage(usages) => observed.usage.take(state, node, usages, now),
            FromAgent::Demand(services) => observed.usage.demand(state, &services, now),
            FromAgent::Images(images) => observed.images.take(node, images),
            FromAgent::Description(description) => {
                self.descriptions.insert(node, description);
            }
            FromAgent::Volumes(volumes) => {
                self.volumes.insert(node, volumes);
            }
            FromAgent::Confirmation { networks, removed_networks, removed_tasks } => {
                let known = |network: &NetworkId| state.networks.contains_key(network);
                for (network, version) in networks.into_iter().filter(|(id, _)| known(id)) {
                    observed.confirmed.insert((network, node), version);
                    observed.gone_networks.remove(&(network, node));
                }
                for network in removed_networks.into_iter().filter(|id| known(id)) {
                    observed.confirmed.remove(&(network, node));
                    observed.gone_networks.insert((network, node));
                }
                let of_node = |task: &TaskId| {
                    state.tasks.get(task).is_some_and(|task| task.node == Some(node))
                };
                observed.gone_tasks.extend(removed_tasks.into_iter().filter(of_node));
            }
        }
    }

    /// Takes the heartbeats that came since. An answer is the word of a leader, for which an agent may let some tasks
    /// run on: it is given once those who vote have confirmed that this controller led when the heartbeat had come.
    pub(super) fn take_heartbeats(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.heartbeats)
    }

    /// Answers heartbeats of sessions that still stand.
    pub(super) fn answer(&mut self, heartbeats: &[u64], state: &State, out: &mut Vec<Output>) {
        let controllers = self.addresses(state);
        let standing = heartbeats.iter().filter(|id| self.sessions.contains_key(id));
        for session in standing {
            let message = ToAgent::Alive { controllers: controllers.clone() };
            out.push(Output::SessionSend { session: *session, message });
        }
    }

    fn greet(
        &mut self,
        id: u64,
        (has, takes_network_changes): (BTreeSet<TaskId>, bool),
        state: &State,
        out: &mut Vec<Output>,
    ) {
        let controllers = self.addresses(state);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.greeted = true;
        session.has = has;
        session.takes_network_changes = takes_network_changes;
        let cluster = state.cluster.as_ref();
        let message = ToAgent::Welcome {
            node: session.node,
            heartbeat: cluster
                .map_or(std::time::Duration::from_secs(1), |cluster| cluster.heartbeat),
            controllers,
            vxlan_port: cluster.map_or(Cluster::VXLAN_PORT, |cluster| cluster.vxlan_port),
        };
        out.push(Output::SessionSend { session: id, message });
    }

    /// Every controller's `host:port`.
    fn addresses(&mut self, state: &State) -> Vec<String> {
        self.roster.of(state).iter().map(|(_, _, address)| address.clone()).collect()
    }

    /// Only a task's own node may speak of it.
    fn take_statuses(&mut self, node: NodeId, statuses: Vec<(TaskId, TaskStatus)>, state: &State) {
        let own = |task: &TaskId| state.tasks.get(task).is_some_and(|t| t.node == Some(node));
        let mut waiting = self.statuses.remove(&node).unwrap_or_default();
        for (task, status) in statuses.into_iter().filter(|(task, _)| own(task)) {
            // What is not in the log yet only rises, too.
            if waiting.get(&task).is_none_or(|before| status.state >= before.state) {
                waiting.insert(task, status);
            }
        }
        if !waiting.is_empty() {
            self.statuses.insert(node, waiting);
        }
    }

    /// Whether something that agents reported is not in the log yet.
    pub(super) fn has_reports(&self, state: &State) -> bool {
        let withheld = !self.withheld.is_empty() && report::all_know(state);
        withheld
            || !self.statuses.is_empty()
            || !self.greetings.is_empty()
            || !self.descriptions.is_empty()
            || !self.awake.is_empty()
            || !self.volumes.is_empty()
    }

    /// Takes what agents reported, as groups for the log.
    pub(super) fn take_reports(&mut self, state: &State, now: Timestamp) -> Vec<Group> {
        report::groups(self, state, now)
    }

    /// Sends agents what changed for them since they were sent something last: so many at once, the others next time. What
    /// else changes for them until then goes with it.
    pub(super) fn dispatch(
        &mut self,
        state: &State,
        observed: &Observed,
        now: Timestamp,
        out: &mut Vec<Output>,
    ) {
        let withdrawn = self.withdrawals.settle(state, observed, now);
        let (mut sent, mut tasks) = (0, 0);
        let mut removed = Vec::new();
        let waits = |session: &Session| {
            let again = withdrawn.contains(&session.node);
            session.greeted && (session.seen != state.version || again)
        };
        let in_turn = self.sessions.range(self.turn..).chain(self.sessions.range(..self.turn));
        let waiting: Vec<u64> =
            in_turn.filter(|(_, session)| waits(session)).map(|(id, _)| *id).collect();
        for id in waiting {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            if !state.nodes.contains_key(&session.node) {
                removed.push(id);
                continue;
            }
            if sent >= SESSIONS_AT_ONCE || tasks >= TASKS_AT_ONCE {
                self.turn = id;
                break;
            }
            let again = withdrawn.contains(&session.node);
            let parts = (&mut self.cache, &mut self.withdrawals);
            let changes = session.changes(state, parts, again, now);
            if let Some((complete, mut diff, contents)) = changes {
                sent += 1;
                tasks += diff.tasks.len();
                session.sequence += 1;
                if self.planted.has(Fault::DropAssignment) && session.sequence.is_multiple_of(8) {
                    diff.tasks.pop();
                }
                let sequence = session.sequence;
                let message = ToAgent::Assignments { complete, sequence, diff, contents };
                out.push(Output::SessionSend { session: id, message });
            }
            session.seen = state.version;
        }
        for id in removed {
            self.end(id, "this node was removed from the cluster", out);
        }
        self.cache.keep_only(state);
    }
}

impl Session {
    /// What the agent must be told; `None` when nothing changed for it.
    fn changes(
        &mut self,
        state: &State,
        (cache, withdrawals): (&mut NetworkCache, &mut Withdrawals),
        again: bool,
        now: Timestamp,
    ) -> Option<(bool, AssignmentDiff, assignment::Contents)> {
        let complete = !self.complete;
        let own = state.index.node_versions.get(&self.node).copied().unwrap_or(0);
        let stale = |(id, told): (&NetworkId, &Told)| {
            told.is_before(state.network_versions.get(id).copied())
        };
        if !complete && !again && own <= self.seen && !self.networks.iter().any(stale) {
            // What else changed of its tasks is nothing that an agent is told.
            self.changed = Some(BTreeSet::new());
            return None;
        }
        let mut diff = AssignmentDiff::default();
        let changed = self.changed.replace(BTreeSet::new()).filter(|_| !complete && !again);
        let has = std::mem::take(&mut self.has);
        let withdrawal = |task: &Stored<Task>| withdrawals.of(state, task, now);
        let sent = (&has, &mut self.tasks);
        let changed = changed.as_ref();
        assignment::tasks(state, self.node, sent, changed, &mut diff, withdrawal);
        assignment::volumes(state, self.node, changed, &mut self.volumes, &mut diff);
        let told = (&mut self.networks, self.takes_network_changes);
        network::tell(state, self.node, told, cache, &mut diff);
        let contents = assignment::contents(state, &self.tasks, changed, &mut self.contents);
        self.complete = true;
        let anything = complete || !contents.is_empty() || diff != AssignmentDiff::default();
        anything.then_some((complete, diff, contents))
    }
}
