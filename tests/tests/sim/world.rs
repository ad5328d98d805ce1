//! The machines, the time and everything under way between them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use swarm_controller::core::{FromAgent, Input, State, ToAgent, bootstrap};
use swarm_proto::id::{NodeId, RaftId, Timestamp};
use swarm_proto::object::{Cluster, Secret, Service, TaskState};
use swarm_tests::random::Random;

use crate::autoscale;
use crate::check::{self, Check};
use crate::client::{Answer, Call, Deployer, Who};
use crate::disaster::Archive;
use crate::fault::{Kind, Repair};
use crate::machine::{Controller, Machine};
use crate::mutant::Mutant;
use crate::network::Network;
use crate::operator::Operator;
use crate::promise::Promises;
use crate::register::Registers;
use crate::session::Session;
use crate::violation::{demand, violated};

pub(crate) const TICK: u64 = 25;
const START: u64 = 1_700_000_000_000;
/// Entries that each run commits at least.
pub(crate) const COMMITS: u64 = 300;
/// Milliseconds with faults, at least and at most.
const FAULTY: (u64, u64) = (40_000, 150_000);
/// Milliseconds without faults until all is at rest, at most.
const QUIET: u64 = 240_000;

/// What a run came to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) commits: u64,
    pub(crate) acknowledged: u64,
    pub(crate) elections: u64,
    /// How often each kind of fault fired.
    pub(crate) faults: BTreeMap<Kind, u64>,
    /// How often each operation was done.
    pub(crate) operations: BTreeMap<&'static str, u64>,
    checksum: u64,
}

/// Something that happens at a time.
pub(crate) enum Happening {
    Tick { controller: u64, run: u64 },
    Wake { controller: u64, run: u64 },
    Message { to: u64, message: Input },
    Unreachable { from: u64, run: u64, to: u64 },
    SnapshotSent { from: u64, run: u64, to: u64, ok: bool },
    Synced { controller: u64, run: u64 },
    Persisted { controller: u64, run: u64, batch: u64, micros: u64 },
    AgentStep { machine: u64, run: u64 },
    ToAgent { session: u64, message: ToAgent },
    FromAgent { session: u64, message: FromAgent },
    SessionEnded { session: u64 },
    Ask { controller: u64, run: u64, input: Input },
    Answer { token: u64, answer: Answer },
    Turn(Who),
    LetGo(u64),
    Trap,
    Break,
    Repair(Repair),
}

/// In the order of time, and of planning.
struct Planned {
    time: u64,
    order: u64,
    happening: Happening,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    /// The heap's greatest is the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.time, other.order).cmp(&(self.time, self.order))
    }
}

/// See the module.
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) seed: u64,
    pub(crate) mutant: Option<Mutant>,
    tells: bool,
    pub(crate) now: u64,
    pub(crate) network: Network,
    pub(crate) machines: BTreeMap<u64, Machine>,
    /// Every member that ever was, by raft id.
    pub(crate) controllers: BTreeMap<u64, Controller>,
    pub(crate) sessions: BTreeMap<u64, Session>,
    pub(crate) operator: Operator,
    pub(crate) deployers: Vec<Deployer>,
    pub(crate) registers: Registers,
    pub(crate) archive: Archive,
    pub(crate) tenant_is_here: bool,
    pub(crate) calls: BTreeMap<Who, Call>,
    pub(crate) tokens: BTreeMap<u64, (Who, String)>,
    pub(crate) check: Check,
    pub(crate) promises: Promises,
    /// Every set of voters that there was, in the order of their coming.
    pub(crate) voters: Vec<Vec<RaftId>>,
    pub(crate) faulty: bool,
    /// The kinds of faults that this run may have.
    pub(crate) kinds: BTreeSet<Kind>,
    pub(crate) acknowledged: u64,
    /// How long the disks of this run take, at most, to sync.
    pub(crate) sync: u64,
    /// How long the processes of this run, at most, leave what comes waiting, in milliseconds.
    pub(crate) busy: u64,
    pub(crate) snapshot_every: u64,
    pub(crate) snapshot_trailing: u64,
    pub(crate) next_session: u64,
    pub(crate) next_request: u64,
    anchor: NodeId,
    next_token: u64,
    order: u64,
    planned: BinaryHeap<Planned>,
    faults: BTreeMap<Kind, u64>,
    operations: BTreeMap<&'static str, u64>,
}

fn cluster(subnet_prefix_length: u8) -> Cluster {
    Cluster {
        task_history: 2,
        address_pools: vec![([10, 200, 0, 0].into(), 16)],
        subnet_prefix_length,
        ..Cluster::new("0".repeat(32), String::new(), Secret::default())
    }
}

impl World {
    pub(crate) fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        let mut random = Random::new(seed);
        let controllers =
            random.one_of(&[1, 2, 3, 3, 3, 3, 3, 4, 5, 5, 5, 6, 7]).copied().unwrap_or(3);
        let sync = if random.chance(50) { 6 } else { 60 };
        let kinds = Kind::ALL.iter().map(|(kind, _)| *kind);
        let kinds = kinds.filter(|_| random.chance(80)).collect();
        let agents = random.between(1, 6);
        let mut world = Self {
            seed,
            mutant,
            tells: std::env::var_os("SWARM_SIM_TELL").is_some(),
            now: START,
            network: Network::default(),
            machines: BTreeMap::new(),
            controllers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            operator: Operator::default(),
            deployers: (0..2).map(Deployer::new).collect(),
            registers: Registers::default(),
            archive: Archive::default(),
            tenant_is_here: false,
            calls: BTreeMap::new(),
            tokens: BTreeMap::new(),
            check: Check::default(),
            promises: Promises::default(),
            voters: vec![vec![RaftId(1)]],
            faulty: false,
            kinds,
            acknowledged: 0,
            sync,
            busy: random.one_of(&[0, 0, 2, 8]).copied().unwrap_or(0),
            snapshot_every: random.between(20, 150),
            snapshot_trailing: random.between(0, 30),
            next_session: 0,
            next_request: 0,
            anchor: NodeId(controllers + 1),
            next_token: 0,
            order: 0,
            planned: BinaryHeap::new(),
            faults: BTreeMap::new(),
            operations: BTreeMap::new(),
            random,
        };
        world.build(controllers, agents);
        world
    }

    /// Makes the cluster, in good weather.
    fn build(&mut self, controllers: u64, agents: u64) {
        self.add_machine(1, NodeId(1), None);
        // Where networks are small, addresses are soon used again.
        let length = self.random.one_of(&[24, 26, 26]).copied().unwrap_or(24);
        let first = bootstrap(cluster(length), "n1", "n1:2377", Timestamp(START));
        self.found_controller(1, RaftId(1), first);
        self.start_controller(1);
        self.operator.build(controllers, agents);
        self.at(1_000, Happening::Turn(Who::Operator));
        let deadline = self.now + QUIET;
        while !self.operator.is_idle() || !self.members_are_as_wished() {
            self.run_for(100);
            demand(self.now < deadline, "a cluster can be built", || self.machines.len());
        }
    }

    /// The node whose labels are the registers; it stays.
    pub(crate) fn anchor(&self) -> NodeId {
        self.anchor
    }

    pub(crate) fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    /// Says what happens, to who wants to follow a run.
    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        if self.tells {
            println!("{:>9} {}", self.now - START, what());
        }
    }

    /// A fault came about.
    pub(crate) fn fired(&mut self, kind: Kind) {
        self.tell(|| format!("fault {kind:?}"));
        *self.faults.entry(kind).or_default() += 1;
    }

    /// An operation was done.
    pub(crate) fn did(&mut self, operation: &'static str) {
        self.tell(|| operation.to_owned());
        *self.operations.entry(operation).or_default() += 1;
    }

    pub(crate) fn at(&mut self, after: u64, happening: Happening) {
        self.at_time(self.now + after, happening);
    }

    pub(crate) fn at_time(&mut self, time: u64, happening: Happening) {
        self.order += 1;
        self.planned.push(Planned { time, order: self.order, happening });
    }

    pub(crate) fn run_for(&mut self, milliseconds: u64) {
        let end = self.now + milliseconds;
        while let Some(next) = self.planned.peek() {
            if next.time > end {
                break;
            }
            let Some(next) = self.planned.pop() else { break };
            self.now = next.time;
            match self.pause_of(&next.happening) {
                // In its order: what was sent later may arrive at that very moment.
                Some(until) => self.planned.push(Planned { time: until, ..next }),
                None => self.happen(next.happening),
            }
        }
        self.now = end;
    }

    /// Lets everybody work while things break.
    pub(crate) fn run_with_faults(&mut self) {
        self.faulty = true;
        let deployers = (0..self.deployers.len()).map(Who::Deployer);
        let writers = (0..3).map(Who::Writer);
        for who in deployers.chain(writers).chain([Who::Tenant, Who::Owner]).collect::<Vec<_>>() {
            self.at(10, Happening::Turn(who));
        }
        self.at(2_000, Happening::Break);
        let begun = self.now;
        while self.now < begun + FAULTY.0
            || (self.check.commits() < COMMITS && self.now < begun + FAULTY.1)
        {
            self.run_for(1_000);
        }
    }

    /// Ends all faults, and waits until nothing is left to do.
    pub(crate) fn heal_and_settle(&mut self) {
        self.faulty = false;
        self.heal();
        let deadline = self.now + QUIET;
        let mut calm = 0;
        while calm < 3 && self.now < deadline {
            self.run_for(1_000);
            calm = if self.is_at_rest() { calm + 1 } else { 0 };
        }
    }

    fn is_at_rest(&self) -> bool {
        let Some(core) = self.leading_core() else { return false };
        let state = core.state();
        let same = |id: u64| {
            let core = self.controllers[&id].core.as_ref();
            core.is_some_and(|core| core.state().applied == state.applied)
        };
        let is_paused = |service: &Service| {
            service.update.as_ref().is_some_and(|update| update.state.is_paused())
        };
        self.calls.is_empty()
            // Somebody takes it up again, at its turn.
            && !state.services.values().any(|service| is_paused(service))
            && self.operator.is_idle()
            && self.machines.values().all(|machine| machine.wanted && !machine.demoted)
            && self.members_are_as_wished()
            && self.live_controllers().into_iter().all(same)
            && check::owed(state).is_empty()
            && check::leaving(state).is_empty()
            && autoscale::asleep(state).is_empty()
            && !state.networks.values().any(|network| network.removing)
            && state.quarantine.is_empty()
            && self.running() == known_to_run(state)
    }

    /// How each controller is, for people.
    fn statuses(&self) -> Vec<String> {
        let told = self.controllers.iter().map(|(id, controller)| {
            let machine = self.machines.get(&controller.machine);
            let on = machine.map(|machine| (machine.on, machine.wanted, machine.controller));
            let status = controller.core.as_ref().map(swarm_controller::core::Core::status);
            format!("{id} on {} {on:?}: {status:?}", controller.machine)
        });
        told.collect()
    }

    fn running(&self) -> BTreeSet<swarm_proto::id::TaskId> {
        self.machines.values().flat_map(|machine| machine.agent.running()).collect()
    }

    /// What must hold in the end.
    pub(crate) fn finish(mut self) -> Outcome {
        let Some(core) = self.leading_core() else {
            violated("somebody leads in the end", self.statuses().join("\n  "))
        };
        let state = core.state().clone();
        let bytes = state.to_bytes();
        for id in self.live_controllers() {
            let core = self.controllers[&id].core.as_ref();
            let applied = core.map(|core| core.state().applied);
            demand(applied == Some(state.applied), "all controllers catch up", || {
                format!("{id} applied {applied:?} of {}", state.applied)
            });
            let same = core.is_some_and(|core| core.state().to_bytes() == bytes);
            demand(same, "the same entries make the same state", || format!("{id} differs"));
            let entries = self.controllers[&id].disk.entries() as u64;
            // The last snapshot may still be in the making, and one that lagged takes in much at once.
            let most = 2 * self.snapshot_every + self.snapshot_trailing + 400;
            demand(entries <= most, "the log is bounded", || format!("{entries} entries"));
        }
        demand(self.members_are_as_wished(), "members become as wished", || {
            format!("{:?} instead of {:?}", core.status().members, self.live_controllers())
        });
        for deployer in &self.deployers {
            deployer.check(&state);
        }
        demand(self.calls.is_empty(), "every command is answered in the end", || {
            format!("{:?} wait", self.calls.keys())
        });
        demand(self.operator.is_idle(), "operations end", || "the operator waits");
        Check::at_rest(&state);
        demand(self.running() == known_to_run(&state), "controllers know what runs", || {
            format!("{:?} run, {:?} should", self.running(), known_to_run(&state))
        });
        let moves = self.check.moves.count();
        let moved = (moves > 0).then_some(("move task", moves));
        let registers = std::mem::take(&mut self.registers);
        registers.check(self.registers_in(&state));
        Outcome {
            commits: self.check.commits(),
            acknowledged: self.acknowledged,
            elections: self.promises.elections(),
            faults: self.faults,
            operations: self.operations.into_iter().chain(moved).collect(),
            checksum: state.checksum,
        }
    }

    /// When a controller gets time again, if it gets none now.
    fn pause_of(&self, happening: &Happening) -> Option<u64> {
        let controller = match happening {
            Happening::Tick { controller, .. }
            | Happening::Wake { controller, .. }
            | Happening::Persisted { controller, .. }
            | Happening::Ask { controller, .. } => controller,
            Happening::Message { to, .. } => to,
            Happening::Unreachable { from, .. } | Happening::SnapshotSent { from, .. } => from,
            Happening::FromAgent { session, .. } => &self.sessions.get(session)?.controller,
            _ => return None,
        };
        let until = self.controllers.get(controller)?.paused_until;
        (until > self.now).then_some(until)
    }

    fn runs(&self, controller: u64, run: u64) -> bool {
        self.controllers.get(&controller).is_some_and(|controller| controller.run == run)
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Tick { controller: id, run } if self.runs(id, run) => {
                self.wake(id);
                self.input(id, Input::Tick);
                self.wake(id);
                let after = self.controllers[&id].clock.lasts(TICK);
                self.at(after, Happening::Tick { controller: id, run });
            }
            Happening::Wake { controller, run } if self.runs(controller, run) => {
                self.wake(controller);
            }
            Happening::Message { to, message } => self.input(to, message),
            Happening::Unreachable { from, run, to } if self.runs(from, run) => {
                self.input(from, Input::PeerUnreachable(RaftId(to)));
            }
            Happening::SnapshotSent { from, run, to, ok } if self.runs(from, run) => {
                self.input(from, Input::SnapshotSent { to: RaftId(to), ok });
            }
            Happening::Synced { controller, run } => self.end_sync(controller, run),
            Happening::Persisted { controller, run, batch, micros }
                if self.runs(controller, run) =>
            {
                self.input(controller, Input::Persisted { batch, micros });
            }
            Happening::AgentStep { machine, run } => self.agent_step(machine, run),
            Happening::ToAgent { session, message } => self.tell_agent(session, message),
            Happening::FromAgent { session, message } => self.hear_agent(session, message),
            Happening::SessionEnded { session } => self.end_session(session),
            Happening::Ask { controller, run, input } if self.runs(controller, run) => {
                self.input(controller, input);
            }
            Happening::Answer { token, answer } => self.hear_answer(token, answer),
            Happening::Turn(who) => self.turn(who),
            Happening::LetGo(machine) => self.let_go(machine),
            Happening::Trap => self.set_trap(Kind::LostWrites),
            Happening::Break if self.faulty => self.break_something(),
            Happening::Repair(repair) => self.repair(repair),
            _ => {}
        }
    }
}

fn known_to_run(state: &State) -> BTreeSet<swarm_proto::id::TaskId> {
    let runs = |task: &&swarm_controller::core::state::Stored<_>| is_running(task);
    state.tasks.values().filter(runs).map(|task| task.id).collect()
}

fn is_running(task: &swarm_proto::object::Task) -> bool {
    task.status.state == TaskState::Running
}
