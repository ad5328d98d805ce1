//! The machines, the clock and everything under way between them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use swarm_controller::core::{
    Command, Core, CoreConfig, FromAgent, Input, Output, State, ToAgent, bootstrap,
};
use swarm_proto::id::{NodeId, RaftId, Timestamp};
use swarm_proto::object::{Cluster, Role, Secret};

use crate::agent::Agent;
use crate::check::Check;
use crate::client::Client;
use crate::disk::Disk;
use crate::fault::Fault;
use crate::random::Random;

const TICK: u64 = 25;
const START: u64 = 1_700_000_000_000;
const FAULTY: u64 = 90_000;
const QUIET: u64 = 150_000;

/// What a run came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) commits: u64,
    pub(crate) acknowledged: u64,
    pub(crate) faults: u64,
    pub(crate) elections: u64,
    checksum: u64,
}

impl Outcome {
    pub(crate) fn add(&mut self, other: &Self) {
        self.commits += other.commits;
        self.acknowledged += other.acknowledged;
        self.faults += other.faults;
        self.elections += other.elections;
    }
}

/// Something that happens at a time.
enum Happening {
    Tick { controller: u64, run: u64 },
    Message { from: u64, to: u64, bytes: Vec<u8>, snapshot: bool },
    SnapshotSent { from: u64, run: u64, to: u64, ok: bool },
    Synced { controller: u64, run: u64, batch: u64 },
    AgentStep { agent: u64, run: u64 },
    ToAgent { agent: u64, session: u64, message: ToAgent },
    SessionEnded { agent: u64, session: u64 },
    FromAgent { controller: u64, run: u64, session: u64, message: FromAgent },
    Client(usize),
    Break,
    Repair(Fault),
}

struct Controller {
    core: Option<Core>,
    disk: Disk,
    run: u64,
    /// How far this controller's clock is ahead.
    skew: u64,
}

/// See the module.
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) machines: u64,
    pub(crate) controllers: u64,
    pub(crate) cut: BTreeSet<(u64, u64)>,
    pub(crate) loss: u64,
    pub(crate) slow_disk: Option<u64>,
    pub(crate) faults: u64,
    /// How long the disks of this run take, at most, to sync.
    sync: u64,
    seed: u64,
    now: u64,
    order: u64,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    hosts: BTreeMap<u64, Controller>,
    agents: BTreeMap<u64, Agent>,
    off: BTreeSet<u64>,
    clients: Vec<Client>,
    /// Which client waits for a token, with the number it tried.
    tokens: BTreeMap<u64, (usize, u64)>,
    next_token: u64,
    next_session: u64,
    joined: u64,
    acknowledged: u64,
    check: Check,
    faulty: bool,
}

fn cluster() -> Cluster {
    Cluster {
        id: "0".repeat(32),
        ca_certificate: String::new(),
        ca_key: Secret::default(),
        controller_token: Secret::default(),
        agent_token: Secret::default(),
        heartbeat: Duration::from_secs(1),
        node_down_after: Duration::from_secs(4),
        task_history: 2,
        address_pool: ([10, 200, 0, 0].into(), 16),
        subnet_prefix_length: 24,
        vxlan_port: 4789,
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let controllers = if random.chance(30) { 5 } else { 3 };
        let machines = controllers + random.between(0, 3);
        let sync = if random.chance(50) { 6 } else { 60 };
        let mut world = Self {
            random,
            machines,
            controllers,
            cut: BTreeSet::new(),
            loss: 1,
            slow_disk: None,
            faults: 0,
            sync,
            seed,
            now: START,
            order: 0,
            heap: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            hosts: BTreeMap::new(),
            agents: BTreeMap::new(),
            off: BTreeSet::new(),
            clients: (0..2).map(Client::new).collect(),
            tokens: BTreeMap::new(),
            next_token: 1,
            next_session: 1,
            joined: 1,
            acknowledged: 0,
            check: Check::default(),
            faulty: true,
        };
        for id in 1..=controllers {
            let controller = Controller {
                core: None,
                disk: Disk::default(),
                run: 0,
                skew: world.random.between(0, 9_000),
            };
            world.hosts.insert(id, controller);
        }
        let first = bootstrap(cluster(), "n1", "n1:2377", Timestamp(START));
        let host = world.hosts.get_mut(&1).unwrap();
        host.disk.write(first);
        host.disk.sync(1);
        for id in 1..=controllers {
            world.start_controller(id);
        }
        world.join_everybody();
        world
    }

    /// Lets all machines in, in order, so that machine, node and raft id have the same number.
    fn join_everybody(&mut self) {
        while self.joined < self.machines {
            let number = self.joined + 1;
            let controller = number <= self.controllers;
            let role = if controller { Role::Controller } else { Role::Agent };
            let hostname = format!("n{number}");
            let address = controller.then(|| format!("{hostname}:2377"));
            let command = Command::Join { hostname, role, controller_address: address };
            self.run_for(1_000);
            let token = self.token();
            let leader = self.leader().expect("the first controller leads");
            self.input(
                leader,
                Input::Command { token, request_id: format!("join{number}"), command },
            );
            self.run_for(1_000);
            let state = self.newest_state();
            assert!(state.nodes.contains_key(&NodeId(number)), "n{number} did not join");
            self.joined = number;
        }
        for id in 1..=self.machines {
            self.agents.insert(id, Agent::new(NodeId(id)));
            self.at(10, Happening::AgentStep { agent: id, run: 0 });
        }
        self.run_for(3_000);
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    fn at(&mut self, after: u64, happening: Happening) {
        self.order += 1;
        self.heap.push(Reverse((self.now + after, self.order)));
        self.happenings.insert(self.order, happening);
    }

    fn run_for(&mut self, milliseconds: u64) {
        let end = self.now + milliseconds;
        while let Some(Reverse((time, order))) = self.heap.peek().copied() {
            if time > end {
                break;
            }
            self.heap.pop();
            self.now = time;
            if let Some(happening) = self.happenings.remove(&order) {
                self.happen(happening);
            }
        }
        self.now = end;
    }

    pub(crate) fn run_with_faults(&mut self) {
        for client in 0..self.clients.len() {
            self.at(10, Happening::Client(client));
        }
        self.at(2_000, Happening::Break);
        self.run_for(FAULTY);
    }

    pub(crate) fn heal_and_settle(&mut self) {
        self.faulty = false;
        self.cut.clear();
        self.loss = 0;
        self.slow_disk = None;
        for machine in 1..=self.machines {
            self.start_machine(machine);
        }
        for controller in 1..=self.controllers {
            self.start_controller(controller);
        }
        self.run_for(QUIET);
    }

    pub(crate) fn finish(self) -> Outcome {
        let state = self.newest_state().clone();
        for host in self.hosts.values() {
            let core = host.core.as_ref().expect("every controller runs in the end");
            assert_eq!(core.state().applied, state.applied, "a controller lags in the end");
            assert_eq!(core.state().checksum, state.checksum, "states differ in the end");
        }
        for client in &self.clients {
            client.check(&state);
            assert!(client.command.is_none(), "{} was never answered", client.stack);
        }
        let unsettled = &state.index.unsettled;
        let tasks = state.tasks.values().filter(|task| unsettled.contains(&task.id.service));
        let tasks: Vec<_> = tasks
            .map(|task| {
                format!(
                    "{} {}/{} {}",
                    task.id, task.status.state, task.desired, task.status.message
                )
            })
            .collect();
        assert!(unsettled.is_empty(), "services {unsettled:?} did not converge: {tasks:#?}");
        assert!(state.quarantine.is_empty(), "addresses stay in quarantine");
        let running: BTreeSet<_> = self.agents.values().flat_map(Agent::running).collect();
        let known = state
            .tasks
            .values()
            .filter(|task| task.status.state == swarm_proto::object::TaskState::Running);
        let known: BTreeSet<_> = known.map(|task| task.id).collect();
        assert_eq!(running, known, "agents and controllers disagree on what runs");
        Outcome {
            commits: self.check.commits(),
            acknowledged: self.acknowledged,
            faults: self.faults,
            elections: self.check.elections(),
            checksum: state.checksum,
        }
    }

    fn newest_state(&self) -> &State {
        let states = self.hosts.values().filter_map(|host| host.core.as_ref()).map(Core::state);
        states.max_by_key(|state| state.applied).expect("some controller runs")
    }

    /// The controller that leads in the highest term.
    fn leader(&self) -> Option<u64> {
        let cores = self.hosts.iter().filter_map(|(id, host)| Some((*id, host.core.as_ref()?)));
        let leaders = cores.map(|(id, core)| (core.status(), id)).filter(|(s, _)| s.leading);
        leaders.max_by_key(|(status, id)| (status.term, *id)).map(|(_, id)| id)
    }

    pub(crate) fn start_controller(&mut self, id: u64) {
        if self.off.contains(&id) {
            return;
        }
        let seed = self.seed;
        let Some(host) = self.hosts.get_mut(&id).filter(|host| host.core.is_none()) else { return };
        host.run += 1;
        let config = CoreConfig {
            seed,
            tick_ms: TICK,
            snapshot_every: 60,
            snapshot_trailing: 10,
            ..CoreConfig::new(RaftId(id), host.disk.recover())
        };
        host.core = Some(Core::new(config).expect("a crashed disk can be read"));
        let run = host.run;
        let term = host.core.as_ref().map_or(0, |core| core.status().term);
        self.check.started(term, id);
        self.at(1, Happening::Tick { controller: id, run });
    }

    pub(crate) fn crash_controller(&mut self, id: u64) {
        let Some(host) = self.hosts.get_mut(&id).filter(|host| host.core.is_some()) else { return };
        host.core = None;
        host.run += 1;
        host.disk.crash(&mut self.random);
        for agent in self.agents.values_mut().filter(|agent| agent.controller == id) {
            agent.disconnect();
        }
    }

    pub(crate) fn crash_machine(&mut self, machine: u64) {
        if self.off.insert(machine) {
            self.crash_controller(machine);
            let now = self.now;
            if let Some(agent) = self.agents.get_mut(&machine) {
                agent.power_cut(now);
            }
        }
    }

    pub(crate) fn start_machine(&mut self, machine: u64) {
        if self.off.remove(&machine) {
            self.start_controller(machine);
            let run = self.agents.get(&machine).map_or(0, |agent| agent.run);
            self.at(50, Happening::AgentStep { agent: machine, run });
        }
    }

    /// A controller's clock is set to another time.
    pub(crate) fn step_clock(&mut self, controller: u64) {
        let skew = self.random.between(0, 30_000);
        if let Some(host) = self.hosts.get_mut(&controller) {
            host.skew = skew;
        }
    }

    pub(crate) fn plan_repair(&mut self, fault: Fault, after: u64) {
        self.at(after, Happening::Repair(fault));
        let next = after / 2 + self.random.between(200, 5_000);
        self.at(next, Happening::Break);
    }

    fn input(&mut self, controller: u64, input: Input) {
        let Some(host) = self.hosts.get_mut(&controller) else { return };
        let now = Timestamp(self.now + host.skew);
        let Some(core) = host.core.as_mut() else { return };
        let outputs = core.handle(input, now);
        let status = core.status();
        if outputs.iter().any(|output| matches!(output, Output::Send { .. })) {
            self.check.spoke(status.term, controller);
        }
        if status.leading {
            self.check.leads(status.term, controller);
        }
        for output in outputs {
            self.output(controller, output);
        }
    }

    fn output(&mut self, controller: u64, output: Output) {
        match output {
            Output::Send { to, messages } => {
                for bytes in messages {
                    let delay = self.random.between(1, 12);
                    let (from, to, snapshot) = (controller, to.0, false);
                    self.at(delay, Happening::Message { from, to, bytes, snapshot });
                }
            }
            Output::SendSnapshot { to, snapshot } => {
                let delay = self.random.between(1, 12);
                let (from, to, bytes) = (controller, to.0, snapshot.encode());
                self.at(delay, Happening::Message { from, to, bytes, snapshot: true });
            }
            Output::Persist(batch) => {
                let number = batch.number;
                let host = self.hosts.get_mut(&controller).unwrap();
                host.disk.write(batch);
                let run = host.run;
                let slow = self.slow_disk == Some(controller);
                let slowest = if slow { 900 } else { self.sync };
                let delay = self.random.between(slowest / 5 + 1, slowest + 2);
                self.at(delay, Happening::Synced { controller, run, batch: number });
            }
            Output::Reply { token, result } => self.reply(token, result.is_ok()),
            Output::SessionSend { session, message } => {
                if let Some((agent, delay)) = self.agent_of(session) {
                    self.at(delay, Happening::ToAgent { agent, session, message });
                }
            }
            Output::SessionEnd { session, .. } => {
                if let Some((agent, delay)) = self.agent_of(session) {
                    self.at(delay, Happening::SessionEnded { agent, session });
                }
            }
            Output::Applied { state, events } => self.check.applied(&state, &events),
            Output::Fatal(reason) => panic!("controller {controller} stopped: {reason}"),
            Output::ReadReady { .. }
            | Output::ReadFailed { .. }
            | Output::LeaderChanged { .. }
            | Output::MembersChanged(_) => {}
        }
    }

    /// Session messages of one session keep their order: their delay is fixed.
    fn agent_of(&self, session: u64) -> Option<(u64, u64)> {
        let agent = self.agents.iter().find(|(_, agent)| agent.session == Some(session));
        agent.map(|(id, _)| (*id, 3))
    }

    fn reply(&mut self, token: u64, ok: bool) {
        let Some((number, tried)) = self.tokens.remove(&token) else { return };
        let client = &mut self.clients[number];
        if client.tried != tried || client.command.is_none() {
            return;
        }
        if ok {
            client.acknowledged = tried;
            client.command = None;
            self.acknowledged += 1;
        } else {
            client.retry_at = self.now + 100;
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Tick { controller, run } => {
                if self.hosts[&controller].run == run {
                    self.input(controller, Input::Tick);
                    self.at(TICK, Happening::Tick { controller, run });
                }
            }
            Happening::Message { from, to, bytes, snapshot } => {
                let lost = self.cut.contains(&(from, to)) || self.random.chance(self.loss);
                if snapshot {
                    let run = self.hosts[&from].run;
                    self.at(5, Happening::SnapshotSent { from, run, to, ok: !lost });
                }
                if !lost {
                    self.input(to, Input::PeerMessage { bytes });
                }
            }
            Happening::SnapshotSent { from, run, to, ok } => {
                if self.hosts[&from].run == run {
                    self.input(from, Input::SnapshotSent { to: RaftId(to), ok });
                }
            }
            Happening::Synced { controller, run, batch } => {
                let host = self.hosts.get_mut(&controller).unwrap();
                if host.run == run {
                    host.disk.sync(batch);
                    self.input(controller, Input::Persisted { batch });
                }
            }
            Happening::AgentStep { agent, run } => self.agent_step(agent, run),
            Happening::ToAgent { agent, session, message } => {
                self.tell_agent(agent, session, message);
            }
            Happening::SessionEnded { agent, session } => {
                let agent = self.agents.get_mut(&agent).unwrap();
                if agent.session == Some(session) {
                    agent.disconnect();
                }
            }
            Happening::FromAgent { controller, run, session, message } => {
                if self.hosts[&controller].run == run {
                    self.input(controller, Input::SessionMessage { session, message });
                }
            }
            Happening::Client(client) => self.client_turn(client),
            Happening::Break if self.faulty => self.break_something(),
            Happening::Repair(fault) => self.repair(fault),
            Happening::Break => {}
        }
    }

    fn tell_agent(&mut self, id: u64, session: u64, message: ToAgent) {
        let now = self.now;
        let Some(agent) = self.agents.get_mut(&id) else { return };
        if agent.session != Some(session) {
            return;
        }
        if self.cut.contains(&(agent.controller, id)) {
            // A stream that lost a message is broken.
            agent.disconnect();
        } else {
            agent.receive(message, now);
        }
    }

    fn agent_step(&mut self, id: u64, run: u64) {
        let now = self.now;
        let Some(agent) = self.agents.get_mut(&id) else { return };
        if agent.run != run || self.off.contains(&id) {
            return;
        }
        if agent.session.is_some() && now > agent.heard + 5_000 {
            let (session, controller) = (agent.session.unwrap(), agent.controller);
            agent.disconnect();
            if !self.cut.contains(&(id, controller)) {
                self.input(controller, Input::SessionClosed { session });
            }
        } else if agent.session.is_none() {
            self.connect(id);
        } else {
            let mut reports = agent.step(now, &mut self.random);
            if now % 1_000 < 100 {
                reports.push(FromAgent::Heartbeat);
            }
            for report in reports {
                self.agent_says(id, report);
            }
        }
        self.at(100, Happening::AgentStep { agent: id, run });
    }

    fn connect(&mut self, id: u64) {
        let Some(leader) = self.leader() else { return };
        if self.cut.contains(&(id, leader)) || self.cut.contains(&(leader, id)) {
            return;
        }
        self.next_session += 1;
        let session = self.next_session;
        let now = self.now;
        let agent = self.agents.get_mut(&id).unwrap();
        agent.session = Some(session);
        agent.controller = leader;
        agent.heard = now;
        let hello = agent.hello();
        let node = agent.node;
        self.input(leader, Input::SessionOpened { session, node });
        self.agent_says(id, hello);
    }

    fn agent_says(&mut self, id: u64, message: FromAgent) {
        let agent = self.agents.get_mut(&id).unwrap();
        let Some(session) = agent.session else { return };
        let controller = agent.controller;
        if self.cut.contains(&(id, controller)) {
            agent.disconnect();
            return;
        }
        let run = self.hosts[&controller].run;
        self.at(3, Happening::FromAgent { controller, run, session, message });
    }

    fn client_turn(&mut self, number: usize) {
        let now = self.now;
        let faulty = self.faulty;
        let client = &mut self.clients[number];
        if client.command.is_none() && faulty {
            client.next(&mut self.random);
            client.retry_at = now;
        }
        if now >= client.retry_at
            && let Some(command) = client.command.clone()
        {
            client.retry_at = now + 3_000;
            let (tried, request_id) = (client.tried, client.request_id());
            if let Some(leader) = self.leader() {
                let token = self.token();
                self.tokens.insert(token, (number, tried));
                self.input(leader, Input::Command { token, request_id, command });
            }
        }
        let pause = self.random.between(50, 2_000);
        self.at(pause, Happening::Client(number));
    }
}
