//! The pure core: one controller's Raft member, replicated state, rules and sessions. Same inputs, same outputs:
//! no clock, no randomness, no disk and no network in here.

mod append;
pub mod command;
pub mod config;
mod dispatcher;
pub mod input;
mod leader;
mod log;
mod member;
pub mod output;
pub mod planted;
mod reads;
pub mod rules;
pub mod session;
pub mod state;
mod survivor;
mod timing;
mod version;

use std::sync::Arc;

use raft::eraftpb::EntryType;
use swarm_proto::entry::{Action, Entry, Group};
use swarm_proto::id::{NodeId, RaftId, Timestamp};
use swarm_proto::object::{Cluster, Role};
use swarm_proto::version::ClusterVersion;

pub use command::{Command, CommandDone, FoundImage, Refusal, RefusalKind, WantedImage};
pub use config::CoreConfig;
pub use input::{Input, Shortage};
pub use output::{
    DiskBatch, DiskEntry, DiskSnapshot, Members, Output, Recovered, SnapshotBody, SnapshotMessage,
};
pub use session::{FromAgent, ToAgent};
pub use state::{Content, Event, Reserved, State};
pub use survivor::{Survivor, survive};
pub use timing::Timing;
pub use version::Program;

use leader::Leader;
use log::Log;
use member::{Happening, Member};
use planted::Fault;
use reads::{Reader, Reads};
use state::{Applied, SnapshotError};
use version::{Programs, newer, read_entry};

/// Why a core cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The disk holds something that does not fit together.
    #[error("the disk's content does not fit together: {0}")]
    Recovered(String),
    /// The cluster's version is one that this program does not know.
    #[error("{0}")]
    Newer(String),
}

impl From<SnapshotError> for StartError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Newer(_) => Self::Newer(error.to_string()),
            error => Self::Recovered(error.to_string()),
        }
    }
}

/// What one controller's core knows of the Raft group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Who leads, as far as this member knows.
    pub leader: Option<RaftId>,
    /// Whether this member leads.
    pub leading: bool,
    /// The term.
    pub term: u64,
    /// The last index known to be committed.
    pub commit: u64,
    /// The last applied index.
    pub applied: u64,
    /// The checksum of the state there.
    pub checksum: u64,
    /// The group's members.
    pub members: Members,
    /// How long elections are waited for, and what that follows.
    pub timing: Timing,
    /// Whether the group goes on without this member: it has no vote, and another one leads that knows so.
    pub spared: bool,
    /// While this member's disk has no room.
    pub shortage: Option<Shortage>,
}

/// One controller without its surroundings.
pub struct Core {
    member: Member,
    state: State,
    leader: Option<Leader>,
    reads: Reads,
    programs: Programs,
    knows: ClusterVersion,
    now: Timestamp,
    /// How far the wall clock was stepped back in all.
    stepped_back: u64,
    known_leader: Option<RaftId>,
    spared: bool,
    events: Vec<Event>,
    /// The version of the state that was given out last.
    published: u64,
    stopped: bool,
}

impl Core {
    /// Starts from what the disk held; a new member's disk holds nothing.
    #[expect(clippy::needless_pass_by_value, reason = "what the disk held is used up")]
    pub fn new(config: CoreConfig) -> Result<Self, StartError> {
        let (log, snapshot) = Log::recover(&config.recovered)?;
        let state = match &snapshot {
            Some(snapshot) => config.planted.snapshot(read_snapshot(snapshot, config.knows)?),
            None => State::default(),
        };
        let member = Member::new(&config, log, state.applied)?;
        Ok(Self {
            member,
            state,
            leader: None,
            reads: Reads::default(),
            programs: Programs::new(config.raft_id, config.knows),
            knows: config.knows,
            now: Timestamp(0),
            stepped_back: 0,
            known_leader: None,
            spared: false,
            events: Vec::new(),
            published: 0,
            stopped: false,
        })
    }

    /// Takes in what happened at wall-clock time `now`, and says what to do.
    pub fn handle(&mut self, input: Input, now: Timestamp) -> Vec<Output> {
        self.handle_all([input], now)
    }

    /// Takes in all that happened until wall-clock time `now`, in order. What it brings about goes to the disk and to
    /// the other members at once, not input by input.
    pub fn handle_all(
        &mut self,
        inputs: impl IntoIterator<Item = Input>,
        now: Timestamp,
    ) -> Vec<Output> {
        if self.stopped {
            return Vec::new();
        }
        self.now = self.steady(now);
        self.member.look_at_clock(self.now);
        if let Some(leader) = &mut self.leader {
            leader.look_at_clock(self.now);
        }
        let mut out = Vec::new();
        let mut replies = Vec::new();
        for input in inputs {
            // A leader's snapshot waits for nothing: the state that came with it is that of the next one in raft-rs.
            let alone = matches!(input, Input::PeerSnapshot { .. });
            self.take(input, &mut out, &mut replies);
            if alone {
                self.work(&mut out, &mut replies);
            }
        }
        self.work(&mut out, &mut replies);
        self.finish(&mut out, replies);
        out
    }

    /// Leading makes work for raft-rs, whose results make work for the leader.
    fn work(&mut self, out: &mut Vec<Output>, replies: &mut Vec<Output>) {
        loop {
            let worked = self.settle(out, replies);
            self.lead(replies);
            if !worked && !self.member.has_work() {
                break;
            }
        }
    }

    /// Time never falls: after a step back of the wall clock it goes on from where it was.
    fn steady(&mut self, now: Timestamp) -> Timestamp {
        let steady = Timestamp(now.0.saturating_add(self.stepped_back));
        if steady < self.now {
            self.stepped_back += self.now.0 - steady.0;
            return self.now;
        }
        steady
    }

    fn take(&mut self, input: Input, out: &mut Vec<Output>, replies: &mut Vec<Output>) {
        match input {
            Input::Tick => self.tick(out, replies),
            Input::PeerMessage { bytes } => self.member.step(&bytes),
            Input::PeerSnapshot { message, state } => self.member.step_snapshot(&message, state),
            Input::PeerProgram { peer, program } => self.programs.told(peer, program, &self.state),
            Input::PeerUnreachable(peer) => self.member.unreachable(peer),
            Input::SnapshotSent { to, ok } => self.member.snapshot_sent(to, ok),
            Input::Room(shortage) => self.member.set_room(shortage),
            Input::Persisted { batch, micros } => {
                self.member.synced(micros);
                self.member.on_persisted(batch, out);
            }
            Input::Command { token, request_id, command } => {
                if let Some(leader) = &mut self.leader {
                    leader.command(token, request_id, command, replies);
                } else {
                    let result = Err(Refusal::unavailable("this controller does not lead"));
                    replies.push(Output::Reply { token, result });
                }
            }
            Input::ReadBarrier { token } => self.reads.add(Reader::Barrier(token), replies),
            Input::SessionOpened { session, node } => {
                if let Some(leader) = &mut self.leader {
                    leader.dispatcher().open(session, node, out);
                } else {
                    let reason = "this controller does not lead".to_owned();
                    out.push(Output::SessionEnd { session, reason });
                }
            }
            Input::SessionMessage { session, message } => {
                if let Some(leader) = &mut self.leader {
                    leader.receive(session, message, &self.state, self.now, out);
                }
            }
            Input::SessionClosed { session } => {
                if let Some(leader) = &mut self.leader {
                    leader.dispatcher().close(session);
                }
            }
            Input::StepDown => self.member.step_down(),
        }
    }

    fn tick(&mut self, out: &mut Vec<Output>, replies: &mut Vec<Output>) {
        self.member.tick();
        self.member.yield_for_room();
        self.reads.tick(&mut self.member, replies);
        if let Some(leader) = &mut self.leader {
            leader.tick(&self.member);
            let heartbeats = leader.dispatcher().take_heartbeats();
            if !heartbeats.is_empty() {
                self.reads.add(Reader::Heartbeats(heartbeats), replies);
            }
            leader.change_members(&mut self.member, &self.state);
            leader.raise_version(&mut self.member, &self.programs, self.now);
        }
        self.member.compact_when_due(&self.state, out);
    }

    /// Lets raft-rs run until it has nothing more to do now.
    fn settle(&mut self, out: &mut Vec<Output>, replies: &mut Vec<Output>) -> bool {
        let mut worked = false;
        self.reads.ask_new(&mut self.member);
        while let Some(happened) = self.member.next(out) {
            worked = true;
            self.look_at_role(out, replies);
            for happening in happened {
                self.happen(happening, out, replies);
            }
            self.member.offer_snapshot(&self.state);
        }
        self.look_at_role(out, replies);
        worked
    }

    fn look_at_role(&mut self, out: &mut Vec<Output>, replies: &mut Vec<Output>) {
        let leads = self.member.is_leader();
        let term = self.member.term();
        let same = self.leader.as_ref().is_some_and(|leader| leads && leader.term() == term);
        if !same {
            if let Some(leader) = self.leader.take() {
                leader.end(out, replies);
                self.reads.fail_answers(replies);
            }
            if leads {
                self.leader = Some(Leader::new(term, self.now, self.member.planted()));
            }
        }
        let leader = self.member.leader();
        if leader != self.known_leader {
            self.known_leader = leader;
            out.push(Output::LeaderChanged { leader });
        }
        let spared = self.member.is_spared();
        if spared != self.spared {
            self.spared = spared;
            out.push(Output::Spared(spared));
        }
    }

    fn happen(&mut self, happening: Happening, out: &mut Vec<Output>, replies: &mut Vec<Output>) {
        match happening {
            Happening::ReadState(context, index) => {
                let early = self.member.planted().has(Fault::ReadBeforeApplied);
                self.reads.on_confirmed(&context, if early { 0 } else { index });
            }
            Happening::Restored(snapshot, state) => {
                match take_snapshot(&snapshot, state, self.knows) {
                    Ok(state) => {
                        self.state = self.member.planted().snapshot(state);
                        self.events.push(Event::Replaced);
                        out.push(Output::MembersChanged(self.member.members()));
                    }
                    Err(error) => self.stop(out, error.to_string()),
                }
            }
            Happening::Committed(entry) => self.apply(&entry, out, replies),
        }
    }

    fn apply(
        &mut self,
        entry: &raft::eraftpb::Entry,
        out: &mut Vec<Output>,
        replies: &mut Vec<Output>,
    ) {
        self.state.applied = entry.index;
        match entry.get_entry_type() {
            EntryType::EntryNormal if entry.data.is_empty() => {}
            EntryType::EntryNormal => self.apply_normal(entry, out, replies),
            EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
                if let Some(members) = self.member.apply_conf_change(entry) {
                    out.push(Output::MembersChanged(members));
                }
            }
        }
    }

    fn apply_normal(
        &mut self,
        entry: &raft::eraftpb::Entry,
        out: &mut Vec<Output>,
        replies: &mut Vec<Output>,
    ) {
        let own = self.leader.as_mut().and_then(|leader| leader.take_applied(entry.index));
        let (before, applied) = if let Some((state, applied)) = own {
            (Some(std::mem::replace(&mut self.state, state)), applied)
        } else {
            match self.apply_decoded(entry) {
                Ok(applied) => (None, applied),
                Err(reason) => return self.stop(out, reason),
            }
        };
        if let Some(leader) = &mut self.leader {
            leader.dispatcher().note(before.as_ref(), &self.state, &applied.events);
            leader.on_applied(entry.index, &applied.groups, replies);
        }
        self.events.extend(applied.events);
    }

    /// Applies an entry of which nothing was kept here: most are other leaders'.
    fn apply_decoded(&mut self, entry: &raft::eraftpb::Entry) -> Result<Applied, String> {
        let decoded = read_entry(entry.index, &entry.data, self.knows)?;
        let planted = self.member.planted();
        if planted.has(Fault::ApplyTwice) && entry.index % 64 == self.member.id() {
            planted.apply(&mut self.state, &decoded);
        }
        let applied = planted.apply(&mut self.state, &decoded);
        if applied.checksum_matches {
            Ok(applied)
        } else {
            Err(format!("the state differs from the leader's at entry {}", entry.index))
        }
    }

    fn stop(&mut self, out: &mut Vec<Output>, reason: String) {
        if !self.stopped {
            out.push(Output::Fatal(reason));
        }
        self.stopped = true;
    }

    fn lead(&mut self, replies: &mut Vec<Output>) {
        let Some(leader) = &mut self.leader else { return };
        for (token, done) in
            leader.work(&mut self.member, &self.state, &self.programs, self.now, replies)
        {
            self.reads.add(Reader::Answer(token, done), replies);
        }
        self.reads.ask_new(&mut self.member);
    }

    /// State first, then what may be said because of it.
    fn finish(&mut self, out: &mut Vec<Output>, mut replies: Vec<Output>) {
        // Some changes, such as new join tokens, are no event for anybody.
        if !self.events.is_empty() || self.published != self.state.version {
            self.published = self.state.version;
            let events = std::mem::take(&mut self.events);
            out.push(Output::Applied { state: Arc::new(self.state.clone()), events });
        }
        self.reads.on_applied(self.state.applied, &mut replies);
        out.extend(replies);
        let heartbeats = self.reads.take_heartbeats();
        if let Some(leader) = &mut self.leader {
            leader.dispatcher().answer(&heartbeats, &self.state, out);
            leader.dispatch(&self.state, self.now, out);
        }
    }

    /// The applied state; cloning it costs nothing.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What this member knows of the group.
    pub fn status(&self) -> Status {
        Status {
            leader: self.member.leader(),
            leading: self.member.is_leader(),
            term: self.member.term(),
            commit: self.member.commit(),
            applied: self.state.applied,
            checksum: self.state.checksum,
            members: self.member.members(),
            timing: self.member.timing(),
            spared: self.member.is_spared(),
            shortage: self.member.shortage().cloned(),
        }
    }

    /// How long elections are waited for, and what that follows.
    pub fn timing(&self) -> Timing {
        self.member.timing()
    }

    /// [`Timing::election_ms`] alone.
    pub fn election_ms(&self) -> u64 {
        self.member.election_ms()
    }
}

/// The snapshot's state, which was read outside if it came in parts.
fn take_snapshot(
    snapshot: &raft::eraftpb::Snapshot,
    state: Option<Box<State>>,
    knows: ClusterVersion,
) -> Result<State, StartError> {
    state.map_or_else(|| read_snapshot(snapshot, knows), |state| known(*state, knows))
}

fn read_snapshot(
    snapshot: &raft::eraftpb::Snapshot,
    knows: ClusterVersion,
) -> Result<State, StartError> {
    known(State::from_bytes(&snapshot.data)?, knows)
}

fn known(state: State, knows: ClusterVersion) -> Result<State, StartError> {
    if state.cluster_version > knows {
        return Err(StartError::Newer(newer(state.cluster_version, knows)));
    }
    Ok(state)
}

/// The disk content of a new cluster's first controller: node 1, raft id 1. `swarm-controller init` writes it, then
/// `run` starts from it.
pub fn bootstrap(
    cluster: Cluster,
    hostname: &str,
    controller_address: &str,
    now: Timestamp,
) -> DiskBatch {
    bootstrap_at(ClusterVersion::NEWEST, cluster, hostname, controller_address, now)
}

/// The same for a cluster that is not to begin with the newest version.
pub fn bootstrap_at(
    version: ClusterVersion,
    cluster: Cluster,
    hostname: &str,
    controller_address: &str,
    now: Timestamp,
) -> DiskBatch {
    let mut state = State { applied: 1, ..State::default() };
    let join = Command::Join {
        hostname: hostname.to_owned(),
        role: Role::Controller,
        controller_address: Some(controller_address.to_owned()),
    };
    let mut actions = vec![Action::SetCluster(Box::new(cluster))];
    if version > ClusterVersion::FIRST {
        actions.push(Action::SetClusterVersion(version));
    }
    if let Ok(decision) = rules::command::decide(&state, &join, now) {
        actions.extend(decision.actions);
    }
    let groups = vec![Group { actions, ..Group::default() }];
    state::apply(&mut state, &Entry { time: now, checksum: 0, groups });
    survivor::whole(&state, 1, RaftId(1))
}

/// The host on which a backup is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoringHost {
    /// It belonged to the cluster, as this node.
    Known(NodeId),
    /// It did not; its name.
    New(String),
}

/// The beginning of a restored cluster.
#[derive(Debug)]
pub struct Restored {
    /// What `swarm-controller restore` writes to the disk, and `run` starts from.
    pub batch: DiskBatch,
    /// The state in it.
    pub state: State,
    /// The host's node.
    pub node: NodeId,
    /// Its member of the new Raft group.
    pub raft_id: RaftId,
}

/// Makes a new cluster with one controller out of a backup's state (a `StateSnapshot`) and term; `mark` is random, for
/// its incarnation. `None` when the host is a node that the backup does not know.
pub fn restore(
    backup: &[u8],
    term: u64,
    host: &RestoringHost,
    controller_address: &str,
    (now, mark): (Timestamp, u64),
) -> Result<Option<Restored>, StartError> {
    let mut state = State::from_bytes(backup)?.restored(now, mark);
    let joined = match host {
        RestoringHost::Known(node) => {
            state.make_first_controller(*node, controller_address).map(|raft_id| (*node, raft_id))
        }
        RestoringHost::New(hostname) => {
            let (node, raft_id) = (NodeId(state.next.node), RaftId(state.next.raft));
            let join = Command::Join {
                hostname: hostname.clone(),
                role: Role::Controller,
                controller_address: Some(controller_address.to_owned()),
            };
            rules::command::decide(&state, &join, now).ok().map(|decision| {
                let group = Group { actions: decision.actions, ..Group::default() };
                state::apply(&mut state, &Entry { time: now, checksum: 0, groups: vec![group] });
                (node, raft_id)
            })
        }
    };
    Ok(joined.map(|(node, raft_id)| {
        let batch = survivor::whole(&state, term + 1, raft_id);
        Restored { batch, state, node, raft_id }
    }))
}
