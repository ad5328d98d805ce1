//! What goes into the cores and comes out of them.

use std::sync::Arc;

use swarm_controller::core::{DiskBatch, Event, FromAgent, Input, Output, SnapshotMessage, State};
use swarm_proto::id::RaftId;

use crate::client::Answer;
use crate::fault::Repair;
use crate::violation::{demand, violated};
use crate::world::{Happening, World};

/// Milliseconds that a sync takes at least.
const QUICKEST_SYNC: u64 = 1;
/// Milliseconds between two tries to write on a full disk.
const NO_ROOM: u64 = 200;

impl World {
    /// An input of a core, which takes it at once or, in a busy process, with all that come before it wakes.
    pub(crate) fn input(&mut self, id: u64, input: Input) {
        let Some(controller) = self.controllers.get_mut(&id) else { return };
        if controller.core.is_none() {
            return;
        }
        let run = controller.run;
        controller.waiting.push(input);
        if controller.waiting.len() > 1 {
            return;
        }
        match self.random.between(0, 2 * self.busy + 1).saturating_sub(self.busy) {
            0 => self.wake(id),
            after => self.at(after, Happening::Wake { controller: id, run }),
        }
    }

    /// Hands all that waits to a core, and carries out what that brings about.
    pub(crate) fn wake(&mut self, id: u64) {
        let Some(controller) = self.controllers.get_mut(&id) else { return };
        let inputs = std::mem::take(&mut controller.waiting);
        let Some(core) = controller.core.as_mut() else { return };
        if inputs.is_empty() {
            return;
        }
        let outputs = core.handle_all(inputs, controller.clock.read(self.now));
        let status = core.status();
        // A group's only voter leads at once, but may not tell before its vote is on disk.
        if status.leading && controller.disk.promised().0 >= status.term {
            self.promises.leads(status.term, id);
        }
        if status.applied >= self.check.applied {
            self.note_voters(status.members.voters);
        }
        if status.applied > self.check.applied {
            self.check.applied = status.applied;
            self.look_at_majority(status.applied);
        }
        for output in outputs {
            self.carry_out(id, output);
        }
    }

    /// These vote by what a controller knows that has applied as much as any.
    fn note_voters(&mut self, mut voters: Vec<RaftId>) {
        voters.sort_unstable();
        if self.voters.last() != Some(&voters) {
            self.voters.retain(|known| *known != voters);
            self.voters.push(voters);
        }
    }

    /// Somebody applied an entry that nobody had. It was committed by the voters of that time, who may have changed.
    fn look_at_majority(&self, index: u64) {
        let holds = |id: &&RaftId| self.controllers.get(&id.0).is_some_and(|c| c.disk.holds(index));
        let is_majority =
            |voters: &Vec<RaftId>| voters.iter().filter(holds).count() > voters.len() / 2;
        let committed = self.voters.iter().rev().take(4).any(is_majority);
        demand(committed, "what is applied is on a majority's disks", || {
            let latest: Vec<_> = self.voters.iter().rev().take(4).collect();
            format!("entry {index} is on too few disks of any of {latest:?}")
        });
    }

    fn carry_out(&mut self, id: u64, output: Output) {
        match output {
            Output::Send { to, messages } => {
                for bytes in messages {
                    self.promises.sends(id, &bytes, &self.controllers[&id].disk);
                    self.send(id, to, Input::PeerMessage { bytes }, false);
                }
            }
            Output::SendSnapshot { to, snapshot } => {
                let message = self.snapshot_message(&snapshot);
                self.send(id, to, message, true);
            }
            Output::Persist(batch) => self.persist(id, batch),
            Output::Reply { token, result } => {
                let answer = match result {
                    Ok(done) => Answer::Done(done),
                    Err(refusal) => Answer::Refused(refusal),
                };
                self.answer(token, answer);
            }
            Output::ReadReady { token } => {
                self.take_backup(id, token);
                let value = self.read_register(id, token);
                self.answer(token, Answer::Read(value));
            }
            Output::ReadFailed { token } => self.answer(token, Answer::NotRead),
            Output::SessionSend { session, message } => {
                if let Some(at) = self.session_arrival(session, true) {
                    self.at_time(at, Happening::ToAgent { session, message });
                }
            }
            Output::SessionEnd { session, .. } => {
                if let Some(at) = self.session_arrival(session, true) {
                    self.at_time(at, Happening::SessionEnded { session });
                }
            }
            Output::Applied { state, events } => self.publish(id, state, &events),
            Output::Fatal(reason) => {
                violated("a controller never has to stop", format!("{id}: {reason}"))
            }
            Output::MembersChanged(members) => {
                let ids = |ids: Vec<RaftId>| ids.into_iter().map(|id| id.0).collect::<Vec<_>>();
                let applied = self.controllers[&id].core.as_ref().map(|c| c.state().applied);
                self.tell(|| {
                    let (voters, learners) = (ids(members.voters), ids(members.learners));
                    format!("{id} at {applied:?}: voters {voters:?}, learners {learners:?}")
                });
            }
            Output::Spared(spared) => self.tell(|| format!("{id} is spared: {spared}")),
            Output::LeaderChanged { leader } => {
                let term = self.controllers[&id].core.as_ref().map(|c| c.status().term);
                self.tell(|| format!("{id} in term {term:?} follows {leader:?}"));
            }
        }
    }

    fn publish(&mut self, id: u64, state: Arc<State>, events: &[Event]) {
        if !self.check.has_seen(&state) {
            self.tell_of_changes(state.applied, events);
        }
        self.check.look(&state, events);
        if let Some(controller) = self.controllers.get_mut(&id) {
            controller.published = state;
        }
    }

    /// A snapshot arrives whole, or in parts that the shell reads.
    fn snapshot_message(&mut self, snapshot: &SnapshotMessage) -> Input {
        if self.random.chance(50) {
            return Input::PeerMessage { bytes: snapshot.encode() };
        }
        match State::from_bytes(&snapshot.data()) {
            Ok(state) => {
                Input::PeerSnapshot { message: snapshot.message.clone(), state: Box::new(state) }
            }
            Err(error) => violated("a snapshot can be read", error),
        }
    }

    /// A message to another controller; perhaps it never arrives, perhaps twice.
    fn send(&mut self, from: u64, to: RaftId, message: Input, snapshot: bool) {
        let to = to.0;
        let run = self.controllers[&from].run;
        let machine = self.controllers[&from].machine;
        let there = self.controllers.get(&to).map(|controller| controller.machine);
        let [first, second] = match there {
            Some(there) => self.network.arrivals(&mut self.random, self.now, machine, there),
            None => [None, None],
        };
        if snapshot {
            let at = first.unwrap_or(self.now) + 2;
            let ok = first.is_some();
            self.at_time(at, Happening::SnapshotSent { from, run, to, ok });
        } else if first.is_none() && self.random.chance(30) {
            self.at(2, Happening::Unreachable { from, run, to });
        }
        if let Some(at) = second {
            self.at_time(at, Happening::Message { to, message: message.clone() });
        }
        if let Some(at) = first {
            self.at_time(at, Happening::Message { to, message });
        }
    }

    fn persist(&mut self, id: u64, batch: DiskBatch) {
        let controller = self.controllers.get_mut(&id).unwrap();
        controller.disk.queue(batch);
        if !controller.syncing {
            self.begin_sync(id);
        }
    }

    /// Writes all that waits, and plans when it is durable.
    fn begin_sync(&mut self, id: u64) {
        let controller = self.controllers.get_mut(&id).unwrap();
        controller.syncing = controller.disk.write();
        controller.sync_begun = self.now;
        if controller.syncing {
            let slowest = self.sync + controller.disk.slow;
            let delay = QUICKEST_SYNC + self.random.between(slowest / 5, slowest + 1);
            let run = controller.run;
            self.at(delay, Happening::Synced { controller: id, run });
        }
    }

    pub(crate) fn end_sync(&mut self, id: u64, run: u64) {
        let controller = self.controllers.get_mut(&id).unwrap();
        if controller.run != run {
            return;
        }
        if let Some(trap) = controller.trap.take() {
            let machine = controller.machine;
            self.cut_power(machine, Some(trap));
            let lasts = self.random.between(300, 6_000);
            return self.at(lasts, Happening::Repair(Repair::Machine(machine)));
        }
        if controller.disk.fails {
            return self.fail_disk(id);
        }
        if controller.disk.full {
            if controller.disk.reserve == 0 {
                controller.sync_begun += NO_ROOM;
                return self.at(NO_ROOM, Happening::Synced { controller: id, run });
            }
            controller.disk.reserve -= 1;
        }
        if let Some(batch) = controller.disk.sync() {
            let micros = (self.now - controller.sync_begun) * 1_000;
            self.at(0, Happening::Persisted { controller: id, run, batch, micros });
        }
        self.begin_sync(id);
    }

    /// What an agent says reaches the controller that holds its session.
    pub(crate) fn agent_says(&mut self, session: u64, message: FromAgent) {
        if let Some(at) = self.session_arrival(session, false) {
            self.at_time(at, Happening::FromAgent { session, message });
        }
    }

    /// When the next message of a session arrives. Messages of one way keep their order.
    fn session_arrival(&mut self, session: u64, down: bool) -> Option<u64> {
        let delay = self.network.stream_delay();
        let session = self.sessions.get_mut(&session)?;
        let last = if down { &mut session.last_down } else { &mut session.last_up };
        *last = (self.now + delay).max(*last);
        Some(*last)
    }
}
