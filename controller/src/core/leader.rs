//! What only the leader does: decides commands, runs passes, keeps sessions, changes the group's members.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2};
use swarm_proto::entry::{Action, Entry, Group, Request};
use swarm_proto::id::{NetworkId, NodeId, RaftId, Timestamp};
use swarm_proto::wire;

use super::command::{Command, CommandDone, Refusal};
use super::dispatcher::Dispatcher;
use super::member::Member;
use super::output::Output;
use super::planted::{Fault, Planted};
use super::rules::driver::{self, Pass};
use super::rules::quorum::{self, Sight};
use super::rules::{self, Observed};
use super::session::FromAgent;
use super::state::{Applied, State, answer};
use super::version::Programs;

/// Proposals that may be under way at once: more wait for the next tick.
const IN_FLIGHT: usize = 64;
/// Actions in them. The others take a message only once they have applied what came before it: with too much on its way,
/// they answer late, and a leader that hears nobody steps down.
const ACTIONS_IN_FLIGHT: usize = 6_000;
/// Commands that may wait for the leader to be ready.
const WAITING: usize = 1_000;
/// Messages of agents that may wait for the leader to be ready.
const EARLY: usize = 20_000;
/// A member of the Raft group counts as in touch that was heard within so many ticks.
const HEARD_TICKS: u64 = 40;
/// A longer gap between two looks at the clock means that this process slept: nobody could be heard.
const SLEPT_MS: u64 = 1_000;

/// A command that waits for its entry.
struct Waiter {
    token: u64,
    /// Which group of the entry is the command's; `None` when only the entries before it count.
    group: Option<usize>,
    done: CommandDone,
}

/// With fewer actions, what an entry makes of the state is found anew when it is committed: as quickly as it is kept, for
/// what is kept has to be copied before it is changed.
const KEPT_FROM: usize = 16;

/// An entry that is proposed and not applied.
struct Flight {
    actions: usize,
    /// What the state is once it is applied, and what that tells. Nobody else proposes in this term, so it is exact.
    kept: Option<(State, Applied)>,
}

/// See the module.
pub(super) struct Leader {
    term: u64,
    /// The state as it will be once everything proposed is applied.
    head: Option<State>,
    observed: Observed,
    dispatcher: Dispatcher,
    waiters: BTreeMap<u64, Vec<Waiter>>,
    /// Entries that are proposed and not applied, by index.
    in_flight: BTreeMap<u64, Flight>,
    waiting: Vec<(u64, String, Command)>,
    /// What agents said before the leader was ready.
    early: Vec<(u64, FromAgent)>,
    /// The head's version that the rules were content with.
    content: Option<u64>,
    wake_at: Option<Timestamp>,
    /// The state's version that was dispatched last.
    dispatched: Option<u64>,
    /// Whether reports went into the log, and assignments out, since the last tick.
    reported: bool,
    sent: bool,
    /// Whether the rules had their turn since the clock was looked at.
    passed: bool,
    last_now: Timestamp,
    /// Ticks of this leadership.
    ticks: u64,
    /// When each other member of the Raft group was heard last, in ticks.
    heard: BTreeMap<RaftId, u64>,
    /// How far cluster time, as other leaders' clocks left it, is ahead of this controller's clock.
    ahead: u64,
}

impl Leader {
    pub(super) fn new(term: u64, now: Timestamp, planted: Planted) -> Self {
        Self {
            term,
            head: None,
            observed: Observed { since: now, planted, ..Observed::default() },
            dispatcher: Dispatcher::new(planted),
            waiters: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            waiting: Vec::new(),
            early: Vec::new(),
            content: None,
            wake_at: None,
            dispatched: None,
            reported: false,
            sent: false,
            passed: false,
            last_now: now,
            ticks: 0,
            heard: BTreeMap::new(),
            ahead: 0,
        }
    }

    /// Cluster time: this controller's clock, put forward so that it goes on where earlier leaders' clocks were.
    fn clock(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.0.saturating_add(self.ahead))
    }

    /// The term it leads in.
    pub(super) fn term(&self) -> u64 {
        self.term
    }

    pub(super) fn dispatcher(&mut self) -> &mut Dispatcher {
        &mut self.dispatcher
    }

    /// An agent spoke.
    pub(super) fn receive(
        &mut self,
        session: u64,
        message: FromAgent,
        state: &State,
        now: Timestamp,
        out: &mut Vec<Output>,
    ) {
        if self.head.is_none() {
            // Judged by a state that lags, what agents say would look like talk of unknown tasks.
            if self.early.len() < EARLY {
                self.early.push((session, message));
            } else {
                self.dispatcher.end(session, "the controllers are overloaded", out);
            }
            return;
        }
        // What agents confirm is read by the rules, and that somebody waits.
        if matches!(message, FromAgent::Confirmation { .. } | FromAgent::Demand(_)) {
            self.content = None;
        }
        let now = self.clock(now);
        self.dispatcher.receive(session, message, state, &mut self.observed, now, out);
    }

    /// A client's command. Waits until everything of earlier terms is applied.
    pub(super) fn command(
        &mut self,
        token: u64,
        request: String,
        command: Command,
        replies: &mut Vec<Output>,
    ) {
        if self.waiting.len() < WAITING {
            self.waiting.push((token, request, command));
        } else {
            let result = Err(Refusal::unavailable("the controllers are overloaded: try again"));
            replies.push(Output::Reply { token, result });
        }
    }

    /// The clock was looked at. After a leap everybody gets time to be heard again.
    pub(super) fn look_at_clock(&mut self, now: Timestamp) {
        if now.0.saturating_sub(self.last_now.0) > SLEPT_MS {
            self.observed.since = self.clock(now);
        }
        self.last_now = now;
        self.passed = false;
    }

    /// A tick: what was held back to be coalesced may go.
    pub(super) fn tick(&mut self, member: &Member) {
        self.reported = false;
        self.sent = false;
        self.ticks += 1;
        for peer in member.active() {
            self.heard.insert(peer, self.ticks);
        }
    }

    fn check_quorum(
        &self,
        head: &State,
        member: &Member,
        command: &Command,
    ) -> Result<(), Refusal> {
        let checked = quorum::check(head, &self.sight(member), command);
        if checked.is_err() && self.ticks < HEARD_TICKS {
            let why = "the leader is new and has not heard all controllers yet: try again";
            return Err(Refusal::unavailable(why));
        }
        checked
    }

    fn sight(&self, member: &Member) -> Sight {
        let lately = |(_, at): &(&RaftId, &u64)| **at + HEARD_TICKS >= self.ticks;
        let heard = self.heard.iter().filter(lately).map(|(peer, _)| *peer);
        let heard = heard.chain([RaftId(member.id())]).collect();
        Sight { members: member.members(), heard }
    }

    /// Everything that can be done now. Says commands that need no entry but must not be answered by a deposed leader.
    pub(super) fn work(
        &mut self,
        member: &mut Member,
        state: &State,
        programs: &Programs,
        now: Timestamp,
        replies: &mut Vec<Output>,
    ) -> Vec<(u64, CommandDone)> {
        if self.head.is_none() && member.is_caught_up() {
            self.head = Some(state.clone());
            self.ahead = state.clock.0.saturating_sub(now.0);
            self.observed.since = self.clock(now);
            for (session, message) in std::mem::take(&mut self.early) {
                self.receive(session, message, state, now, replies);
            }
        }
        let now = self.clock(now);
        if self.head.is_none() {
            return Vec::new();
        }
        let mut unchanged = Vec::new();
        for (token, request, command) in std::mem::take(&mut self.waiting) {
            let asked = (token, request, &command);
            unchanged.extend(self.decide(member, programs, asked, now, replies));
        }
        // What agents say and what the rules want waits until there is room.
        if member.refuse_for_room().is_none() {
            self.report(member, now, replies);
            self.pass(member, now);
        }
        unchanged
    }

    fn decide(
        &mut self,
        member: &mut Member,
        programs: &Programs,
        (token, request, command): (u64, String, &Command),
        now: Timestamp,
        replies: &mut Vec<Output>,
    ) -> Option<(u64, CommandDone)> {
        let head = self.head.as_ref()?;
        if let Some(known) = head.requests.get(&request).filter(|_| !request.is_empty()) {
            // Its entry may still be under way: the answer waits for everything proposed so far.
            if let Some(done) = answer::decode(known) {
                return self.answer_after_all(member, token, done);
            }
        }
        let decided = rules::command::decide_by(head, &self.observed, command, now);
        if let Command::FindImage(wanted) = command {
            self.observed.images.note(wanted, now);
        }
        let decided = decided.and_then(|decision| {
            programs.allow(head, &decision.actions)?;
            self.check_quorum(head, member, command)?;
            Ok(decision)
        });
        let decision = match decided {
            Ok(decision) => decision,
            Err(refusal) => {
                replies.push(Output::Reply { token, result: Err(refusal) });
                return None;
            }
        };
        let done = decision.done.clone();
        if decision.actions.is_empty() {
            return self.answer_after_all(member, token, done);
        }
        if let Some(refusal) = member.refuse_for_room() {
            replies.push(Output::Reply { token, result: Err(refusal) });
            return None;
        }
        let mut group = decision.into_group(head);
        if !request.is_empty() {
            group.request = Some(Request { id: request, answer: answer::encode(&done) });
        }
        if let Some(index) = self.propose(member, vec![group], now) {
            if member.planted().has(Fault::AnswerBeforeCommit) {
                replies.push(Output::Reply { token, result: Ok(done) });
                return None;
            }
            let waiter = Waiter { token, group: Some(0), done };
            self.waiters.entry(index).or_default().push(waiter);
        } else {
            let result = Err(Refusal::unavailable("the log does not take entries now: try again"));
            replies.push(Output::Reply { token, result });
        }
        None
    }

    /// Answers once everything proposed so far is applied, or, when nothing is under way, once leadership is confirmed.
    fn answer_after_all(
        &mut self,
        member: &Member,
        token: u64,
        done: CommandDone,
    ) -> Option<(u64, CommandDone)> {
        if self.in_flight.is_empty() {
            return Some((token, done));
        }
        let last = self.in_flight.last_key_value().map_or(member.last_index(), |(index, _)| *index);
        self.waiters.entry(last).or_default().push(Waiter { token, group: None, done });
        None
    }

    /// Proposes groups as one entry, and moves the head on.
    fn propose(&mut self, member: &mut Member, groups: Vec<Group>, now: Timestamp) -> Option<u64> {
        let head = self.head.as_mut()?;
        let entry = Entry { time: now, checksum: head.checksum, groups };
        let index = member.propose(wire::Entry::from(&entry).encode_to_vec())?;
        let applied = member.planted().apply(head, &entry);
        head.applied = index;
        let actions = actions(&entry.groups);
        let kept = (actions >= KEPT_FROM).then(|| (head.clone(), applied));
        self.in_flight.insert(index, Flight { actions, kept });
        Some(index)
    }

    /// Proposes what a pass came to, which left the state that its entry makes of the head.
    fn propose_pass(&mut self, member: &mut Member, pass: Pass, now: Timestamp) -> Option<u64> {
        if !member.planted().is_none() {
            return self.propose(member, pass.groups, now);
        }
        let head = self.head.as_mut()?;
        let entry = Entry { time: now, checksum: head.checksum, groups: pass.groups };
        let index = member.propose(wire::Entry::from(&entry).encode_to_vec())?;
        *head = State { applied: index, ..pass.state };
        let groups = vec![true; entry.groups.len()];
        let applied = Applied { events: pass.events, groups, checksum_matches: true };
        let kept = Some((head.clone(), applied));
        self.in_flight.insert(index, Flight { actions: actions(&entry.groups), kept });
        Some(index)
    }

    /// What an entry of this leader's own makes of the state, where that was kept.
    pub(super) fn take_applied(&mut self, index: u64) -> Option<(State, Applied)> {
        self.in_flight.remove(&index)?.kept
    }

    /// Whether so much is under way that nothing is added by itself.
    fn is_full(&self) -> bool {
        self.in_flight.len() >= IN_FLIGHT
            || self.in_flight.values().map(|flight| flight.actions).sum::<usize>()
                >= ACTIONS_IN_FLIGHT
    }

    /// What agents reported goes into the log: at once, then at most once in a tick.
    fn report(&mut self, member: &mut Member, now: Timestamp, out: &mut Vec<Output>) {
        let Some(head) = &self.head else { return };
        let is_due = !self.reported && !self.is_full();
        if !is_due || !self.dispatcher.has_reports(head) {
            return;
        }
        let groups = self.dispatcher.take_reports(head, now);
        self.reported = true;
        if !groups.is_empty() && self.propose(member, groups, now).is_none() {
            // Nothing reported may be lost: agents connect again and say everything.
            self.dispatcher.end_all("the log does not take entries now", out);
        }
    }

    /// Runs the rules, once for all that happened until now: heartbeats and elections wait meanwhile. What they have left
    /// to do comes next time.
    fn pass(&mut self, member: &mut Member, now: Timestamp) {
        let Some(head) = self.head.as_ref().filter(|_| !self.passed) else { return };
        let due = self.wake_at.is_some_and(|at| at <= now);
        if (self.content == Some(head.version) && !due) || self.is_full() {
            return;
        }
        rules::autoscale::remember(head, &mut self.observed.usage, now);
        let pass = driver::pass(head, &self.observed, now);
        self.passed = true;
        self.wake_at = pass.wake_at;
        if pass.groups.is_empty() {
            self.content = Some(head.version);
            return;
        }
        let complete = pass.complete;
        if self.propose_pass(member, pass, now).is_some() {
            let version = self.head.as_ref().map(|head| head.version);
            self.content = version.filter(|_| complete);
        }
    }

    /// An entry was applied: answers those who waited for it.
    pub(super) fn on_applied(&mut self, index: u64, groups: &[bool], replies: &mut Vec<Output>) {
        for waiter in self.waiters.remove(&index).unwrap_or_default() {
            let applied = waiter.group.is_none_or(|group| groups.get(group) == Some(&true));
            let result = if applied {
                Ok(waiter.done)
            } else {
                Err(Refusal::unavailable("the state changed meanwhile: try again"))
            };
            replies.push(Output::Reply { token: waiter.token, result });
        }
    }

    /// Sends agents what changed: at once, then at most once in a tick.
    pub(super) fn dispatch(&mut self, state: &State, now: Timestamp, out: &mut Vec<Output>) {
        if self.head.is_none() || self.sent {
            return;
        }
        self.forget_old_facts(state);
        let before = out.len();
        let now = self.clock(now);
        self.dispatcher.dispatch(state, &self.observed, now, out);
        self.sent = out.len() > before;
    }

    /// What agents confirmed of things that the state no longer knows.
    fn forget_old_facts(&mut self, state: &State) {
        if self.dispatched == Some(state.version) {
            return;
        }
        self.dispatched = Some(state.version);
        let head = self.head.as_ref().unwrap_or(state);
        self.observed.gone_tasks.retain(|task| head.tasks.contains_key(task));
        self.observed.usage.forget(head);
        self.observed.images.forget(head);
        let known = |network: &NetworkId, node: NodeId| {
            let network = head.networks.get(network);
            network.is_some_and(|network| network.gateways.iter().any(|gate| gate.node == node))
        };
        self.observed.gone_networks.retain(|(network, node)| known(network, *node));
        self.observed.confirmed.retain(|(network, node), _| known(network, *node));
        self.observed.heard.retain(|node, _| head.nodes.contains_key(node));
    }

    /// Leadership is lost: what was not applied may or may not come.
    pub(super) fn end(mut self, out: &mut Vec<Output>, replies: &mut Vec<Output>) {
        self.dispatcher.end_all("another controller leads now", out);
        let lost =
            || Err(Refusal::unavailable("the controllers are choosing a new leader: try again"));
        let waiters = self.waiters.into_values().flatten().map(|waiter| waiter.token);
        let waiting = self.waiting.into_iter().map(|(token, _, _)| token);
        for token in waiters.chain(waiting) {
            replies.push(Output::Reply { token, result: lost() });
        }
    }

    /// Raises the cluster version once every controller knows a higher one.
    pub(super) fn raise_version(
        &mut self,
        member: &mut Member,
        programs: &Programs,
        now: Timestamp,
    ) {
        let version = self.head.as_ref().and_then(|head| programs.raise(head, &member.members()));
        if let Some(version) = version {
            let actions = vec![Action::SetClusterVersion(version)];
            // One that the log does not take is proposed again with the next tick.
            self.propose(member, vec![Group { actions, ..Group::default() }], self.clock(now));
        }
    }

    /// One step that brings the group's members nearer to the controllers of the state.
    pub(super) fn change_members(&self, member: &mut Member, state: &State) {
        let Some(head) = self.head.as_ref().filter(|_| !member.has_pending_conf()) else { return };
        let members = member.members();
        let (wanted, staying) = (controllers(state), controllers(head));
        if let Some(change) = next_change(member, &members, &wanted, &staying) {
            member.propose_conf_change(change);
        }
    }
}

fn actions(groups: &[Group]) -> usize {
    groups.iter().map(|group| group.actions.len()).sum()
}

/// The members that a state wants.
fn controllers(state: &State) -> BTreeSet<RaftId> {
    state.nodes.values().filter_map(|node| node.raft_id).collect()
}

fn change(kind: ConfChangeType, id: RaftId) -> ConfChangeV2 {
    let mut single = ConfChangeSingle { node_id: id.0, ..ConfChangeSingle::default() };
    single.set_change_type(kind);
    let mut change = ConfChangeV2::default();
    change.set_changes(vec![single]);
    change
}

/// Voters that must go become learners first; learners become voters once they have nearly all of the log. One that is not
/// `staying`, though the state has not come so far yet, gets no vote any more: a learner that hears that it must go leaves,
/// and nothing behind that in the log may make it one that the group waits for.
fn next_change(
    member: &mut Member,
    members: &super::Members,
    wanted: &BTreeSet<RaftId>,
    staying: &BTreeSet<RaftId>,
) -> Option<ConfChangeV2> {
    let has = |id: &RaftId| members.voters.contains(id) || members.learners.contains(id);
    if let Some(new) = wanted.iter().find(|id| !has(id)) {
        return Some(change(ConfChangeType::AddLearnerNode, *new));
    }
    let ready =
        |id: &&RaftId| staying.contains(id) && wanted.contains(id) && member.has_nearly_all(**id);
    if let Some(ready) = members.learners.iter().find(ready) {
        return Some(change(ConfChangeType::AddNode, *ready));
    }
    if let Some(old) = members.learners.iter().find(|id| !wanted.contains(id)) {
        if old.0 == member.id() {
            // Elected before it knew that its vote was taken: it hands over, and the next leader removes it.
            member.step_down();
            return None;
        }
        return Some(change(ConfChangeType::RemoveNode, *old));
    }
    let mut leaving = members.voters.iter().filter(|id| !wanted.contains(id));
    // The leader itself goes last, so that it hands over to one that stays.
    let Some(old) = leaving.clone().find(|id| id.0 != member.id()) else {
        if leaving.next().is_some() {
            member.step_down();
        }
        return None;
    };
    (members.voters.len() > 1).then(|| change(ConfChangeType::AddLearnerNode, *old))
}
