//! Backups, and the loss of every controller at once: a new cluster begins from the last backup, and the agents come
//! back to it with the containers that they have.

use swarm_controller::core::{Input, Restored, RestoringHost, State, restore};
use swarm_proto::id::{RaftId, Timestamp};
use swarm_proto::object::Availability;

use crate::client::Deployer;
use crate::machine::Stop;
use crate::violation::{demand, violated};
use crate::world::{Happening, World};

/// What was backed up, and what is under way to be.
#[derive(Default)]
pub(crate) struct Archive {
    asked: Option<Asked>,
    last: Option<Backup>,
}

/// A backup that waits for the cluster's word that its state is the newest.
struct Asked {
    token: u64,
    /// What the deployers had been promised before: it is in the backup.
    deployers: Vec<Deployer>,
    /// The reads of the registers that a backup is.
    reads: Vec<usize>,
}

#[derive(Clone)]
struct Backup {
    state: Vec<u8>,
    term: u64,
    deployers: Vec<Deployer>,
}

impl World {
    /// Asks for a backup.
    pub(crate) fn ask_for_backup(&mut self) {
        let Some(controller) = self.some_controller() else { return };
        let token = self.token();
        let reads = self.registers.begin_to_read_all();
        self.archive.asked = Some(Asked { token, deployers: self.deployers.clone(), reads });
        let run = self.controllers[&controller].run;
        let delay = self.random.between(1, 20);
        let input = Input::ReadBarrier { token };
        self.at(delay, Happening::Ask { controller, run, input });
    }

    /// A controller's shell may read for this token now: a backup, if it was asked for one.
    pub(crate) fn take_backup(&mut self, controller: u64, token: u64) {
        let Some(asked) = self.archive.asked.take_if(|asked| asked.token == token) else { return };
        let host = &self.controllers[&controller];
        let state = host.published.clone();
        let term = host.core.as_ref().map_or(0, |core| core.status().term);
        let held = self.registers_in(&state);
        self.registers.end_to_read_all(asked.reads, held);
        self.archive.last =
            Some(Backup { state: state.to_bytes(), term, deployers: asked.deployers });
        self.did("backup");
    }

    /// Every controller's disk is lost, and the last backup is restored on one machine.
    pub(crate) fn lose_all_controllers(&mut self) {
        let Some(backup) = self.archive.last.clone() else { return };
        self.archive.asked = None;
        for number in self.machine_numbers() {
            self.lose_controller(number);
        }
        let (number, begun) = self.restore(&backup);
        self.begin_anew(&begun.state, begun.raft_id, backup.deployers);
        self.start_machine(number);
        self.start_controller(begun.raft_id.0);
        self.did("restore");
    }

    fn lose_controller(&mut self, number: u64) {
        let Some(machine) = self.machines.get_mut(&number) else { return };
        if !machine.wanted {
            return self.scrap_machine(number);
        }
        machine.demoted = false;
        machine.agent.is_stale = true;
        if let Some(id) = machine.controller.take() {
            self.stop_controller(id, Stop::Kill);
        }
    }

    /// Restores on a machine that the backup knows, or on a new one; gives its number.
    fn restore(&mut self, backup: &Backup) -> (u64, Restored) {
        let known = match State::from_bytes(&backup.state) {
            Ok(state) => state.nodes,
            Err(error) => violated("a backup can be read", error),
        };
        for number in self.machine_numbers() {
            let node = self.machines[&number].agent.node;
            if !known.contains_key(&node) {
                // It joined later, and the restored cluster turns it away.
                self.scrap_machine(number);
            }
        }
        let hosts = self.machines.iter().filter(|(_, machine)| machine.agent.node != self.anchor());
        let hosts: Vec<u64> = hosts.map(|(number, _)| *number).collect();
        let old = if self.random.chance(60) { self.random.one_of(&hosts).copied() } else { None };
        let number = old.unwrap_or_else(|| self.new_machine_number());
        let host = match old {
            Some(number) => RestoringHost::Known(self.machines[&number].agent.node),
            None => RestoringHost::New(format!("n{number}")),
        };
        let when = (Timestamp(self.now), self.random.draw());
        let address = format!("n{number}:2377");
        let begun = match restore(&backup.state, backup.term, &host, &address, when) {
            Ok(Some(begun)) => begun,
            other => violated("a backup can be restored", format!("{other:?}")),
        };
        if old.is_none() {
            self.add_machine(number, begun.node, None);
        }
        self.found_controller(number, begun.raft_id, begun.batch.clone());
        (number, begun)
    }

    /// What was promised after the backup is void, and what was promised before is not.
    fn begin_anew(&mut self, state: &State, first: RaftId, promised: Vec<Deployer>) {
        self.promises.begin_anew();
        self.voters = vec![vec![first]];
        self.check.begin_anew(state);
        self.calls.clear();
        self.tokens.clear();
        self.tenant_is_here = state.stacks.get("tenant").is_some_and(|stack| !stack.removing);
        for (deployer, then) in self.deployers.iter_mut().zip(promised) {
            deployer.begin_anew(then);
            deployer.check(state);
        }
        let held = self.registers_in(state);
        self.registers.begin_anew(held);
        let mut drained = state.nodes.values().filter(|n| n.availability == Availability::Drain);
        let drained = drained.next().map(|node| node.id);
        self.operator.begin_anew(drained);
        demand(state.nodes.contains_key(&self.anchor()), "a backup is whole", || self.anchor());
    }
}
