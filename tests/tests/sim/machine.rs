//! Machines with their agents and controllers: starting, stopping, losing power.

use std::sync::Arc;

use swarm_controller::core::{Core, CoreConfig, DiskBatch, Input, State};
use swarm_proto::id::{NodeId, RaftId};

use crate::agent::Agent;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::fault::{Kind, Repair};
use crate::violation::{demand, violated};
use crate::world::{Happening, TICK, World};

/// A machine. Its number is not its node's, which may be replaced by another.
pub(crate) struct Machine {
    pub(crate) agent: Agent,
    /// Its controller, by raft id.
    pub(crate) controller: Option<u64>,
    pub(crate) on: bool,
    /// Whether the operator wants it in the cluster.
    pub(crate) wanted: bool,
    /// Whether its controller is to leave, though the machine stays.
    pub(crate) demoted: bool,
}

/// One member of the Raft group.
pub(crate) struct Controller {
    pub(crate) machine: u64,
    pub(crate) core: Option<Core>,
    pub(crate) disk: Disk,
    /// Counts its processes, so that events of an earlier one are ignored.
    pub(crate) run: u64,
    /// What its shell shows to readers.
    pub(crate) published: Arc<State>,
    pub(crate) clock: Clock,
    pub(crate) paused_until: u64,
    /// What it takes in when it wakes.
    pub(crate) waiting: Vec<Input>,
    /// Whether a sync is under way.
    pub(crate) syncing: bool,
    pub(crate) sync_begun: u64,
    /// What goes wrong in its next sync.
    pub(crate) trap: Option<Kind>,
    /// A stored bit is wrong.
    pub(crate) flipped: bool,
    /// Its disk cannot be read: it never starts again.
    pub(crate) unreadable: bool,
}

/// How a controller's process ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// What it wrote stays in the machine's memory.
    Kill,
    /// The machine loses power: what was not synced may be lost, and is when that is the fault; a record may be torn.
    Power(Option<Kind>),
}

impl Controller {
    pub(crate) fn new(machine: u64, clock: Clock) -> Self {
        Self {
            machine,
            core: None,
            disk: Disk::default(),
            run: 0,
            published: Arc::default(),
            clock,
            paused_until: 0,
            waiting: Vec::new(),
            syncing: false,
            sync_begun: 0,
            trap: None,
            flipped: false,
            unreadable: false,
        }
    }
}

impl World {
    pub(crate) fn machine_numbers(&self) -> Vec<u64> {
        self.machines.keys().copied().collect()
    }

    /// Controllers that should run, by raft id.
    pub(crate) fn live_controllers(&self) -> Vec<u64> {
        let wanted = self.machines.values().filter(|machine| machine.wanted && !machine.demoted);
        wanted.filter_map(|machine| machine.controller).collect()
    }

    pub(crate) fn some_machine(&mut self) -> u64 {
        let machines = self.machine_numbers();
        self.random.one_of(&machines).copied().unwrap_or(1)
    }

    /// A controller that runs now.
    pub(crate) fn some_controller(&mut self) -> Option<u64> {
        let running = self.controllers.iter().filter(|(_, controller)| controller.core.is_some());
        let running: Vec<u64> = running.map(|(id, _)| *id).collect();
        self.random.one_of(&running).copied()
    }

    /// A machine with a new agent; the cluster has let it in as this node.
    pub(crate) fn add_machine(&mut self, machine: u64, node: NodeId, raft_id: Option<RaftId>) {
        let agent = Agent::new(machine, node);
        let new = Machine { agent, controller: None, on: true, wanted: true, demoted: false };
        let run = self.machines.insert(machine, new).map_or(0, |old| old.agent.run + 1);
        self.machines.get_mut(&machine).unwrap().agent.run = run;
        self.at(10, Happening::AgentStep { machine, run });
        if let Some(id) = raft_id {
            self.add_controller(machine, id);
        }
    }

    /// A machine gets a controller with an empty disk, in place of the one that it had.
    pub(crate) fn add_controller(&mut self, machine: u64, raft_id: RaftId) {
        if self.machines.contains_key(&machine) {
            let clock = Clock::new(self.now, self.random.between(0, 9_000));
            self.place_controller(machine, raft_id, Controller::new(machine, clock));
            self.start_controller(raft_id.0);
        }
    }

    /// A machine gets the first controller of a group, whose disk begins with this.
    pub(crate) fn found_controller(&mut self, machine: u64, raft_id: RaftId, first: DiskBatch) {
        let mut new = Controller::new(machine, Clock::new(self.now, 0));
        new.disk.queue(first);
        new.disk.write();
        new.disk.sync();
        self.place_controller(machine, raft_id, new);
    }

    fn place_controller(&mut self, machine: u64, raft_id: RaftId, mut new: Controller) {
        let Some(host) = self.machines.get_mut(&machine) else { return };
        host.controller = Some(raft_id.0);
        new.disk.mutant = self.mutant.and_then(crate::mutant::Mutant::disk);
        if self.controllers.insert(raft_id.0, new).is_some() {
            violated("a raft id is never reused", format!("{raft_id} was given out twice"));
        }
    }

    /// A machine leaves for good.
    pub(crate) fn scrap_machine(&mut self, machine: u64) {
        self.cut_power(machine, None);
        self.machines.remove(&machine);
    }

    /// A machine that was sent away is switched off, or its controller stopped, once the controller is no member any more: the change of the
    /// members may need its vote.
    pub(crate) fn let_go(&mut self, machine: u64) {
        let controller = self.machines.get(&machine).and_then(|machine| machine.controller);
        let stays = controller.is_some_and(|id| !self.departs(RaftId(id)));
        let Some(host) = self.machines.get_mut(&machine) else { return };
        if stays {
            self.at(10, Happening::LetGo(machine));
        } else if host.demoted && host.wanted {
            host.demoted = false;
            host.controller = None;
            if let Some(id) = controller {
                self.stop_controller(id, Stop::Kill);
            }
        } else {
            self.scrap_machine(machine);
        }
    }

    /// Whether a controller that was taken out knows that it may go: the group goes on without it, or who leads turns it
    /// away. So do the real ones.
    fn departs(&self, id: RaftId) -> bool {
        let turned_away = self.leading_core().is_some_and(|core| {
            let members = core.status().members;
            !members.voters.contains(&id) && !members.learners.contains(&id)
        });
        let own = self.controllers.get(&id.0).and_then(|controller| controller.core.as_ref());
        turned_away
            || own.is_some_and(|core| {
                let state = core.state();
                let wanted = state.nodes.values().any(|node| node.raft_id == Some(id));
                id.0 < state.next.raft && !wanted && core.status().spared
            })
    }

    pub(crate) fn start_controller(&mut self, id: u64) {
        let Some(controller) = self.controllers.get_mut(&id) else { return };
        let machine = self.machines.get(&controller.machine);
        let may = machine.is_some_and(|machine| machine.on && machine.controller == Some(id));
        if controller.core.is_some() || controller.unreadable || !may {
            return;
        }
        let recovered = match controller.disk.load() {
            Ok(recovered) => recovered,
            Err(reason) if !controller.flipped => {
                violated("a disk can be read after a crash", format!("{id}: {reason}"))
            }
            Err(_) => {
                controller.unreadable = true;
                return self.fired(Kind::BitFlip);
            }
        };
        let last = recovered.entries.last().map_or(0, |entry| entry.index);
        demand(controller.disk.holds(last), "what a controller starts from is on disk", || {
            format!("{id} starts from entry {last}, which its disk does not hold")
        });
        controller.run += 1;
        let run = controller.run;
        #[cfg_attr(not(feature = "planted-faults"), expect(unused_mut, reason = "for a fault"))]
        let mut config = CoreConfig {
            seed: self.seed,
            tick_ms: TICK,
            snapshot_every: self.snapshot_every,
            snapshot_trailing: self.snapshot_trailing,
            // Now and then a few large entries are enough.
            snapshot_bytes: self.snapshot_every * 512,
            ..CoreConfig::new(RaftId(id), recovered)
        };
        #[cfg(feature = "planted-faults")]
        if let Some(crate::mutant::Mutant::Core(fault)) = self.mutant {
            config.planted = swarm_controller::core::planted::Planted::new(fault);
        }
        let core = match Core::new(config) {
            Ok(core) => core,
            Err(error) => violated("a disk can be read after a crash", format!("{id}: {error}")),
        };
        controller.published = Arc::new(core.state().clone());
        controller.paused_until = 0;
        controller.syncing = false;
        let status = core.status();
        self.promises.starts(status.term, id);
        controller.core = Some(core);
        self.tell(|| format!("{id} starts: {status:?}"));
        self.tell_of_room(id);
        self.at(1, Happening::Tick { controller: id, run });
    }

    pub(crate) fn stop_controller(&mut self, id: u64, stop: Stop) {
        let Some(controller) = self.controllers.get_mut(&id) else { return };
        if controller.core.take().is_some() {
            controller.run += 1;
            controller.waiting.clear();
            controller.disk.kill();
            self.tell(|| format!("{id} stops"));
        }
        let Some(controller) = self.controllers.get_mut(&id) else { return };
        if let Stop::Power(fault) = stop {
            for kind in controller.disk.lose_unsynced(&mut self.random, fault) {
                self.fired(kind);
            }
        }
        let sessions = self.sessions.iter().filter(|(_, session)| session.controller == id);
        let sessions: Vec<u64> = sessions.map(|(session, _)| *session).collect();
        for session in sessions {
            self.end_session(session);
        }
    }

    /// A machine loses power, perhaps so that this fault of its disk comes about.
    pub(crate) fn cut_power(&mut self, number: u64, fault: Option<Kind>) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(&number).filter(|machine| machine.on) else {
            return;
        };
        machine.on = false;
        machine.agent.power_cut(now);
        let session = machine.agent.session.take();
        let controller = machine.controller;
        if let Some(session) = session {
            self.sessions.remove(&session);
        }
        if let Some(controller) = controller {
            self.stop_controller(controller, Stop::Power(fault));
        }
    }

    pub(crate) fn start_machine(&mut self, number: u64) {
        let Some(machine) = self.machines.get_mut(&number).filter(|machine| !machine.on) else {
            return;
        };
        machine.on = true;
        let (run, controller) = (machine.agent.run, machine.controller);
        self.at(50, Happening::AgentStep { machine: number, run });
        if let Some(controller) = controller {
            self.start_controller(controller);
        }
    }

    /// An agent's process dies and starts again; its containers go on.
    pub(crate) fn kill_agent(&mut self, number: u64) {
        let Some(machine) = self.machines.get_mut(&number).filter(|machine| machine.on) else {
            return;
        };
        machine.agent.restart();
        let run = machine.agent.run;
        let session = machine.agent.session.take();
        if let Some(session) = session {
            self.sessions.remove(&session);
        }
        let pause = self.random.between(50, 3_000);
        self.at(pause, Happening::AgentStep { machine: number, run });
    }

    /// A controller's sync ended badly: its process stops, and is started again.
    pub(crate) fn fail_disk(&mut self, id: u64) {
        self.fired(Kind::FailedSync);
        let controller = self.controllers.get_mut(&id).unwrap();
        controller.disk.fails = false;
        // What a failed sync left is as good as lost.
        controller.disk.lose_unsynced(&mut self.random, None);
        self.stop_controller(id, Stop::Kill);
        let pause = self.random.between(1_000, 2_000);
        self.at(pause, Happening::Repair(Repair::Controller(id)));
    }
}
