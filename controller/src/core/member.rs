//! One member of the Raft group: drives raft-rs, keeps the log in memory, and says what goes to disk and to peers.

mod room;
pub(super) mod snapshot;

use std::collections::{BTreeMap, VecDeque};

use prost_for_raft::Message as _;
use raft::eraftpb::{
    ConfChange, ConfChangeV2, ConfState, Entry, EntryType, HardState, Message, MessageType,
    Snapshot,
};
use raft::{RawNode, SnapshotStatus, StateRole};
use swarm_proto::id::{RaftId, Timestamp};

use super::config::CoreConfig;
use super::log::Log;
use super::output::{DiskBatch, DiskEntry, DiskSnapshot, Output};
use super::planted::{Fault, Planted};
use super::timing::{Pace, Timing};
use super::{Members, Shortage, StartError, State, append};

const MAX_MESSAGE: u64 = 1 << 20;
const MAX_UNCOMMITTED: u64 = 64 << 20;
const MAX_COMMITTED_AT_ONCE: u64 = 8 << 20;

/// Something raft-rs handed out that waits for the disk.
struct Waiting {
    /// The batch that must be on disk first; `None` when nothing was to be written.
    batch: Option<u64>,
    /// The number raft-rs gave it; `None` for a batch of our own.
    ready: Option<u64>,
    /// Whether the batch holds a vote, a term, or that new members were agreed on.
    promise: bool,
    /// A leader's snapshot in the batch: applied only once it is on disk.
    snapshot: Option<u64>,
    messages: Vec<Message>,
    /// Since when it waits.
    since: Timestamp,
}

/// When snapshots of our own are made; see [`CoreConfig`].
#[derive(Clone, Copy)]
struct Snapshots {
    every: u64,
    trailing: u64,
    bytes: u64,
}

/// What came out of raft-rs, for the core to act on.
pub(super) enum Happening {
    /// A leader's snapshot replaces the state. Its state, when it was read outside.
    Restored(Snapshot, Option<Box<State>>),
    /// An entry is committed.
    Committed(Entry),
    /// A read with this context may look at the state from this index on.
    ReadState(Vec<u8>, u64),
}

/// See the module.
pub(super) struct Member {
    raw: RawNode<Log>,
    planted: Planted,
    seed: u64,
    /// Counts elections this member began, so that its time-outs differ.
    attempt: u64,
    batches: u64,
    /// Term and vote that were last given to the disk.
    promised: (u64, u64),
    waiting: VecDeque<Waiting>,
    /// Highest batch that is on disk.
    persisted: u64,
    snapshots: Snapshots,
    /// The index of the last snapshot of our own.
    snapshot_index: u64,
    /// The state that the snapshot offered last is to be made of.
    offered: Option<State>,
    /// The state of the leader's snapshot that is being taken in.
    arrived: Option<Box<State>>,
    pace: Pace,
    /// While the disk has no room.
    shortage: Option<Shortage>,
    now: Timestamp,
    /// Who led last, also while nobody does.
    last_leader: u64,
}

impl Member {
    pub(super) fn new(config: &CoreConfig, log: Log, applied: u64) -> Result<Self, StartError> {
        let pace = Pace::new(config.tick_ms, config.election_ticks);
        let settings = raft::Config {
            id: config.raft_id.0,
            election_tick: config.election_ticks,
            min_election_tick: config.election_ticks,
            max_election_tick: 2 * pace.longest_ticks() + 2,
            heartbeat_tick: config.heartbeat_ticks,
            applied,
            max_size_per_msg: MAX_MESSAGE,
            max_inflight_msgs: 256,
            check_quorum: true,
            pre_vote: true,
            max_uncommitted_size: MAX_UNCOMMITTED,
            max_committed_size_per_ready: MAX_COMMITTED_AT_ONCE,
            ..raft::Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&settings, log, &logger);
        let raw = raw.map_err(|error| StartError::Recovered(error.to_string()))?;
        let promised = (raw.raft.term, raw.raft.vote);
        let mut member = Self {
            raw,
            planted: config.planted,
            promised,
            seed: config.seed,
            attempt: 0,
            batches: 0,
            waiting: VecDeque::new(),
            persisted: 0,
            snapshots: Snapshots {
                every: config.snapshot_every,
                trailing: config.snapshot_trailing,
                bytes: config.snapshot_bytes,
            },
            snapshot_index: applied,
            offered: None,
            arrived: None,
            pace,
            shortage: None,
            now: Timestamp(0),
            last_leader: raft::INVALID_ID,
        };
        member.set_timeout();
        Ok(member)
    }

    /// raft-rs draws its election time-outs at random; this one follows from what the member is and did, and lies in
    /// the same range. The voters that may follow a lost leader take turns within it, so that they do not stand against
    /// each other; and the first of them waits until nobody else is loyal to the lost leader any more.
    fn set_timeout(&mut self) {
        if self.raw.raft.leader_id != raft::INVALID_ID {
            self.last_leader = self.raw.raft.leader_id;
        }
        let least = self.pace.election_ticks();
        let voters = &self.raw.store().conf_state().voters;
        let heirs = || voters.iter().filter(|id| **id != self.last_leader);
        let count = heirs().count().max(1);
        let own = if heirs().any(|id| *id == self.id()) {
            heirs().filter(|id| **id < self.id()).count()
        } else {
            0
        };
        let first = usize::try_from(self.term() % count as u64).unwrap_or(0);
        let turn = (own + first) % count;
        let share = least / count;
        let extra = usize::try_from(self.mixed() % (share as u64 / 2 + 1)).unwrap_or(0);
        self.raw.raft.set_randomized_election_timeout(least + 1 + turn * least / count + extra);
    }

    /// A number that looks like chance and follows from what the member is and did.
    fn mixed(&self) -> u64 {
        let mut mixed = self.seed
            ^ self.raw.raft.id.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ self.raw.raft.term.wrapping_mul(0xbf58_476d_1ce4_e5b9)
            ^ self.attempt.wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// What this member knows of the group's timing.
    pub(super) fn timing(&self) -> Timing {
        self.pace.timing()
    }

    /// [`Timing::election_ms`] alone.
    pub(super) fn election_ms(&self) -> u64 {
        self.pace.election_ms()
    }

    /// The clock was looked at.
    pub(super) fn look_at_clock(&mut self, now: Timestamp) {
        self.now = now;
        self.pace.look_at_clock(now);
    }

    /// A sync of the disk took so long.
    pub(super) fn synced(&mut self, micros: u64) {
        self.pace.synced(micros);
    }

    pub(super) fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    pub(super) fn leader(&self) -> Option<RaftId> {
        let id = self.raw.raft.leader_id;
        (id != raft::INVALID_ID).then_some(RaftId(id))
    }

    pub(super) fn term(&self) -> u64 {
        self.raw.raft.term
    }

    pub(super) fn commit(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    pub(super) fn last_index(&self) -> u64 {
        self.raw.raft.raft_log.last_index()
    }

    pub(super) fn planted(&self) -> Planted {
        self.planted
    }

    pub(super) fn id(&self) -> u64 {
        self.raw.raft.id
    }

    /// Whether everything of earlier terms is applied.
    pub(super) fn is_caught_up(&self) -> bool {
        self.raw.raft.apply_to_current_term() || self.planted.has(Fault::LeadTooEarly)
    }

    /// Whether the group goes on without this member. That it has no vote is not enough: as the last leader it may be the
    /// only one to know, and whoever leads next still needs it. What a leader commits in its own term, it knows all before.
    pub(super) fn is_spared(&self) -> bool {
        let follows = self.leader().is_some_and(|leader| leader.0 != self.id());
        let votes = self.raw.store().conf_state().voters.contains(&self.id());
        !votes && follows && self.raw.raft.apply_to_current_term()
    }

    pub(super) fn members(&self) -> Members {
        let conf = self.raw.store().conf_state();
        let ids = |ids: &[u64]| ids.iter().copied().map(RaftId).collect();
        Members { voters: ids(&conf.voters), learners: ids(&conf.learners) }
    }

    /// A tick. It does not count for elections while a promise or a snapshot is on its way to the disk.
    pub(super) fn tick(&mut self) {
        let oldest = self.waiting.iter().find(|waiting| waiting.batch.is_some());
        let voters = &self.raw.store().conf_state().voters;
        self.pace.tick(oldest.map(|waiting| waiting.since), |id| voters.contains(&id));
        if !self.is_leader() && (self.awaits_promise() || self.awaits_snapshot()) {
            return;
        }
        let was_leader = self.is_leader();
        if self.raw.tick() && !was_leader {
            self.attempt += 1;
        }
        self.set_timeout();
    }

    fn awaits_promise(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.promise)
    }

    /// Whether a leader's snapshot is in the log but not applied yet. An election would look at the entries between,
    /// which are gone.
    fn awaits_snapshot(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.snapshot.is_some())
    }

    /// A peer's message. Proposals are never forwarded between members: only leaders propose. Leadership is not taken
    /// over while a snapshot is on its way to the disk, or without room on it.
    pub(super) fn step(&mut self, bytes: &[u8]) {
        let Ok(message) = Message::decode(bytes) else { return };
        let refused = match message.get_msg_type() {
            MessageType::MsgPropose => true,
            MessageType::MsgReadIndex => !self.may_confirm_reads(),
            MessageType::MsgTimeoutNow => self.awaits_snapshot() || self.shortage.is_some(),
            _ => false,
        };
        if message.to == self.id() && !refused {
            self.pace.hear(&message, bytes);
            if self.planted.has(Fault::VoteTwice) {
                self.raw.raft.vote = raft::INVALID_ID;
            }
            // What raft-rs does not expect (an unknown peer, an old message) changes nothing.
            let _ = self.raw.step(message);
            self.set_timeout();
        }
    }

    /// A leader's snapshot, whose state was read outside.
    pub(super) fn step_snapshot(&mut self, message: &[u8], state: Box<State>) {
        self.arrived = Some(state);
        self.step(message);
    }

    pub(super) fn unreachable(&mut self, peer: RaftId) {
        self.raw.report_unreachable(peer.0);
    }

    pub(super) fn snapshot_sent(&mut self, to: RaftId, ok: bool) {
        let status = if ok { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.raw.report_snapshot(to.0, status);
    }

    /// Proposes an entry; `None` when it was not taken.
    pub(super) fn propose(&mut self, data: Vec<u8>) -> Option<u64> {
        self.raw.propose(Vec::new(), data).ok()?;
        Some(self.last_index())
    }

    pub(super) fn propose_conf_change(&mut self, change: ConfChangeV2) -> bool {
        self.raw.propose_conf_change(Vec::new(), change).is_ok()
    }

    pub(super) fn has_pending_conf(&self) -> bool {
        self.raw.raft.has_pending_conf()
    }

    /// Applies a committed change of the group's members.
    pub(super) fn apply_conf_change(&mut self, entry: &Entry) -> Option<Members> {
        if self.planted.has(Fault::LoseConfChange) && entry.index % 3 == self.id() % 3 {
            return None;
        }
        let data = entry.data.as_slice();
        let conf_state = if entry.get_entry_type() == EntryType::EntryConfChange {
            self.raw.apply_conf_change(&ConfChange::decode(data).ok()?)
        } else {
            self.raw.apply_conf_change(&ConfChangeV2::decode(data).ok()?)
        };
        let conf_state: ConfState = conf_state.ok()?;
        self.raw.mut_store().set_conf_state(conf_state);
        if self.is_leader() && self.raw.raft.prs().get(self.id()).is_none() {
            // raft-rs leads on though it is no member any more, and panics at the next answer.
            let term = self.term();
            self.raw.raft.become_follower(term, raft::INVALID_ID);
        }
        self.set_timeout();
        Some(self.members())
    }

    /// Whether a member has nearly all of the log and is in touch. One that has confirmed nothing yet has not even
    /// started: raft-rs takes a new member for active.
    pub(super) fn has_nearly_all(&self, member: RaftId) -> bool {
        let progress = self.raw.raft.prs().get(member.0);
        progress.is_some_and(|p| {
            p.recent_active && p.matched > 0 && p.matched + 100 >= self.last_index()
        })
    }

    /// The other members that were heard since the last look for a quorum.
    pub(super) fn active(&self) -> Vec<RaftId> {
        let own = self.id();
        let progress = self.raw.raft.prs().iter();
        let active =
            progress.filter(|(id, peer)| **id != own && peer.recent_active && peer.matched > 0);
        active.map(|(id, _)| RaftId(*id)).collect()
    }

    /// Hands leadership to the member in touch that has most of the log.
    pub(super) fn step_down(&mut self) {
        if let Some(best) = self.best_of(|_, _| true).filter(|_| self.is_leader()) {
            self.raw.transfer_leader(best);
        }
    }

    pub(super) fn read_index(&mut self, context: Vec<u8>) {
        if self.may_confirm_reads() {
            self.raw.read_index(context);
        }
    }

    /// Whether this member, should it lead, has a vote. Else raft-rs takes it for the only voter of a group with one, and
    /// confirms reads by itself, though that one may have elected itself. Who asks in vain asks again.
    fn may_confirm_reads(&self) -> bool {
        let votes = self.raw.store().conf_state().voters.contains(&self.id());
        votes || !self.is_leader()
    }

    /// A batch is on disk, with all before it.
    pub(super) fn on_persisted(&mut self, batch: u64, out: &mut Vec<Output>) {
        self.persisted = self.persisted.max(batch);
        let mut released = Vec::new();
        let mut ready = None;
        let mut restored = None;
        while let Some(front) = self.waiting.front() {
            if front.batch.is_some_and(|batch| batch > self.persisted) {
                break;
            }
            let Some(done) = self.waiting.pop_front() else { break };
            released.extend(done.messages);
            ready = done.ready.or(ready);
            restored = done.snapshot.or(restored);
        }
        if let Some(number) = ready {
            self.raw.on_persist_ready(number);
        }
        if let Some(index) = restored {
            self.raw.advance_apply_to(index);
        }
        self.send(released, out);
    }

    pub(super) fn has_work(&self) -> bool {
        self.raw.has_ready()
    }

    /// Takes one bundle of work out of raft-rs; `None` when there is none.
    pub(super) fn next(&mut self, out: &mut Vec<Output>) -> Option<Vec<Happening>> {
        if !self.raw.has_ready() {
            return None;
        }
        let mut ready = self.raw.ready();
        let mut happened = Vec::new();
        let mut at_once = ready.take_messages();
        let states = ready.take_read_states();
        happened.extend(states.into_iter().map(|s| Happening::ReadState(s.request_ctx, s.index)));
        let snapshot = (!ready.snapshot().is_empty()).then(|| ready.snapshot().clone());
        let entries = ready.take_entries();
        let members_agreed = ready.committed_entries().iter().any(changes_members)
            && !self.planted.has(Fault::ForgetAgreedMembers);
        let hard_state = ready.hs().cloned().filter(|_| ready.must_sync());
        let hard_state = hard_state.or_else(|| members_agreed.then(|| self.raw.raft.hard_state()));
        let hard_state = hard_state.filter(|_| !self.planted.has(Fault::ForgetHardState));
        let mut messages = ready.take_persisted_messages();
        if self.planted.has(Fault::SendBeforePersisted) {
            self.send(std::mem::take(&mut messages), out);
        }
        let number = ready.number();
        let promised = hard_state.as_ref().map_or(self.promised, |state| (state.term, state.vote));
        let promise = promised != self.promised || members_agreed;
        self.promised = promised;
        let index = snapshot.as_ref().map(|snapshot| snapshot.get_metadata().index);
        let arrived = self.arrived.take().filter(|state| Some(state.applied) == index);
        let taken = snapshot.as_ref().map(|snapshot| snapshot::on_disk(snapshot, arrived.clone()));
        if let Some(snapshot) = &snapshot {
            self.raw.mut_store().restore(snapshot);
        }
        let batch = self.write(taken, &entries, hard_state, out);
        if promise || self.awaits_promise() {
            // Not even a leader speaks in a term that its disk may forget: a group's only voter leads at once. And a
            // member that hears of its removal goes away: who then forgets it would wait for its vote for ever.
            at_once.append(&mut messages);
            messages = at_once;
        } else {
            let (light, later): (Vec<_>, _) = messages.into_iter().partition(needs_no_disk);
            at_once.extend(light);
            self.send(at_once, out);
            messages = later;
        }
        self.waiting.push_back(Waiting {
            batch,
            ready: Some(number),
            promise,
            snapshot: index,
            messages,
            since: self.now,
        });
        let committed = ready.take_committed_entries();
        self.raw.advance_append_async(ready);
        happened.extend(snapshot.map(|snapshot| Happening::Restored(snapshot, arrived)));
        let last = committed.last().map(|entry| entry.index);
        happened.extend(committed.into_iter().map(Happening::Committed));
        self.on_persisted(self.persisted, out);
        if let Some(last) = last {
            self.raw.advance_apply_to(last);
        }
        Some(happened)
    }

    /// Puts what must last into the log and a batch; says the batch's number.
    fn write(
        &mut self,
        snapshot: Option<DiskSnapshot>,
        entries: &[Entry],
        hard_state: Option<HardState>,
        out: &mut Vec<Output>,
    ) -> Option<u64> {
        if snapshot.is_none() && entries.is_empty() && hard_state.is_none() {
            return None;
        }
        let mut truncate_from = None;
        if let Some(snapshot) = &snapshot {
            truncate_from = Some(0);
            self.snapshot_index = snapshot.index;
        }
        if let Some(cut) = self.raw.mut_store().append(entries) {
            truncate_from = truncate_from.or(Some(cut));
        }
        self.batches += 1;
        let to_disk = |entry: &Entry| DiskEntry {
            index: entry.index,
            term: entry.term,
            data: entry.encode_to_vec(),
        };
        // With a snapshot the commit index must be on disk too.
        let hard_state =
            hard_state.or_else(|| snapshot.as_ref().map(|_| self.raw.raft.hard_state()));
        out.push(Output::Persist(DiskBatch {
            number: self.batches,
            truncate_from,
            snapshot,
            compact_to: None,
            entries: entries.iter().map(to_disk).collect(),
            hard_state: hard_state.map(|state| state.encode_to_vec()),
        }));
        Some(self.batches)
    }

    fn send(&mut self, messages: Vec<Message>, out: &mut Vec<Output>) {
        let mut by_peer: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
        for message in append::join(messages, MAX_MESSAGE) {
            let bytes = self.pace.encode(&message);
            if message.get_msg_type() == MessageType::MsgSnapshot {
                self.send_snapshot(&message, bytes, out);
            } else {
                by_peer.entry(message.to).or_default().push(bytes);
            }
        }
        for (to, messages) in by_peer {
            out.push(Output::Send { to: RaftId(to), messages });
        }
    }
}

fn changes_members(entry: &Entry) -> bool {
    entry.get_entry_type() != EntryType::EntryNormal
}

/// Answers that promise nothing about the disk, so that a slow disk does not cost the leadership.
fn needs_no_disk(message: &Message) -> bool {
    matches!(
        message.get_msg_type(),
        MessageType::MsgHeartbeatResponse
            | MessageType::MsgReadIndex
            | MessageType::MsgReadIndexResp
    )
}
