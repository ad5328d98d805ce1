//! One core with an obedient disk, pretended agents, and commands in words.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use swarm_controller::core::rules::forecast;
use swarm_controller::core::{
    Command, Core, CoreConfig, DiskBatch, FromAgent, Input, Output, Recovered, bootstrap,
};
use swarm_proto::assignment::VolumeReport;
use swarm_proto::id::{NodeId, RaftId, TaskId, Timestamp};
use swarm_proto::object::{
    Availability, Cluster, GenericResource, HealthState, Listener, NodeDescription, Role, Secret,
    TaskHealth, TaskUsage,
};
use swarm_proto::spec::{Protocol, StackSpec};

use super::agent::{Agent, status};
use super::words::{changes, line, reply};
use super::{autoscale, rebalance, service};
use crate::{SYNC, spec};

pub(super) const START: u64 = 1_700_000_000_000;
const TICK: u64 = 25;
/// Tasks of a plan that are shown.
const SHOWN: usize = 8;

pub(super) struct Bench {
    core: Core,
    now: u64,
    agents: BTreeMap<u64, Agent>,
    /// What tasks use from now on, by their ids, or else by their services' names; `None` is not known.
    usages: BTreeMap<String, Option<TaskUsage>>,
    sessions: u64,
    tokens: u64,
    said: String,
    disk: Recovered,
}

fn cluster() -> Cluster {
    Cluster {
        task_history: 2,
        address_pools: vec![([10, 200, 0, 0].into(), 16)],
        ..Cluster::new("0".repeat(32), String::new(), Secret::default())
    }
}

fn description(number: u64) -> NodeDescription {
    NodeDescription {
        hostname: format!("n{number}"),
        address: Some([192, 0, 2, u8::try_from(number).unwrap()].into()),
        os: "linux".to_owned(),
        arch: "amd64".to_owned(),
        millicpus: 4_000,
        memory: 4 << 30,
        ..NodeDescription::default()
    }
}

impl Bench {
    pub(super) fn new() -> Self {
        let first = bootstrap(cluster(), "n1", "n1:2377", Timestamp(START));
        let snapshot = first.snapshot.map(|s| (s.index, s.term, s.encode()));
        let recovered = Recovered { hard_state: first.hard_state, snapshot, entries: Vec::new() };
        let core = Core::new(CoreConfig::new(RaftId(1), recovered.clone())).unwrap();
        let mut bench = Self {
            core,
            disk: recovered,
            now: START,
            agents: BTreeMap::new(),
            usages: BTreeMap::new(),
            sessions: 0,
            tokens: 0,
            said: String::new(),
        };
        bench.advance(1_000);
        bench
    }

    /// Carries out a line, and says what changed.
    pub(super) fn command(&mut self, line: &str) -> String {
        let before = self.core.state().clone();
        self.said.clear();
        let words: Vec<&str> = line.split_whitespace().collect();
        self.carry_out(&words);
        let mut said = std::mem::take(&mut self.said);
        said.push_str(&changes(&before, self.core.state()));
        said
    }

    fn carry_out(&mut self, words: &[&str]) {
        match words {
            ["nodes", count] => {
                for number in 1..=count.parse().unwrap() {
                    self.join(number);
                }
            }
            ["listens", node, port, owner] => self.listens(node, port, owner),
            ["routes", node, prefix] => self.routes(node, prefix),
            ["has", node, words @ ..] => self.has(node, words),
            ["deploy", stack, services @ ..] => self.deploy(stack, services, false),
            ["deploy-prune", stack, services @ ..] => self.deploy(stack, services, true),
            ["plan", stack, services @ ..] => self.plan(stack, services),
            ["rm", stack] => self.ask(Command::RemoveStack { stack: (*stack).to_owned() }),
            ["scale", service, replicas] => self.ask(Command::Scale {
                service: (*service).to_owned(),
                replicas: replicas.parse().unwrap(),
            }),
            ["job-run" | "job-stop" | "one-off", ..] => self.job(words),
            ["outage", time] => self.restart(time),
            ["service", verb, service, more @ ..] => {
                self.ask(service::command(verb, service, more));
            }
            ["cluster", options @ ..] => self.ask(rebalance::update(options)),
            ["rebalance", services @ ..] => self.ask(rebalance::begin(services)),
            ["node", node, "lost"] => {
                self.ask(Command::DeclareNodeLost { node: (*node).to_owned() });
            }
            ["node", node, wish] => self.wish(node, wish),
            ["node-rm", node, force @ ..] => {
                let (node, force) = ((*node).to_owned(), !force.is_empty());
                self.ask(Command::RemoveNode { node, force });
            }
            ["network-create" | "network-rm" | "volume-create" | "volume-rm", ..] => {
                self.object(words);
            }
            ["node-down", nodes @ ..] => self.silence(nodes),
            ["node-up" | "node-forgets", node] => {
                let agent = self.agent(node);
                agent.silent = false;
                if words[0] == "node-forgets" {
                    agent.tasks.clear();
                }
                self.connect(number(node));
            }
            ["tick", time] => self.advance(milliseconds(time)),
            ["run"] => self.obey(),
            ["status", task, state, message @ ..] => self.report(task, state, &message.join(" ")),
            ["health", task, health, output @ ..] => self.health(task, health, &output.join(" ")),
            ["uses", whose, words @ ..] => self.uses(whose, words),
            ["demand", node, services @ ..] => self.demand(node, services),
            ["autoscale"] => self.ask(Command::ListScaling),
            ["confirm", node] => self.confirm(node),
            ["holds", node, volume, image @ ..] => self.holds(node, volume, image.first()),
            ["show", what @ ..] => self.show(what),
            other => panic!("unknown command {other:?}"),
        }
        self.advance(TICK * 4);
    }

    fn confirm(&mut self, node: &str) {
        let agent = self.agent(node);
        let (session, message) = (agent.session.unwrap(), agent.confirmation());
        self.input(Input::SessionMessage { session, message });
    }

    fn job(&mut self, words: &[&str]) {
        match words {
            ["job-run", service] => self.ask(Command::RunJob { service: (*service).to_owned() }),
            ["job-stop", service, run @ ..] => self.ask(Command::StopRuns {
                service: (*service).to_owned(),
                run: run.first().map(|run| run.parse().unwrap()),
            }),
            ["one-off", service, command @ ..] => self.ask(Command::RunOneOff {
                service: (*service).to_owned(),
                command: (!command.is_empty())
                    .then(|| command.iter().map(|word| (*word).to_owned()).collect()),
            }),
            other => panic!("unknown command {other:?}"),
        }
    }

    /// Objects outside of stacks.
    fn object(&mut self, words: &[&str]) {
        match words {
            ["volume-rm", volume, force @ ..] => self.ask(Command::RemoveVolume {
                volume: (*volume).to_owned(),
                force: !force.is_empty(),
            }),
            ["network-create", name, subnet @ ..] => self.ask(Command::CreateNetwork {
                name: (*name).to_owned(),
                subnet: subnet.first().map(|subnet| prefix(subnet)),
                internal: false,
                labels: BTreeMap::new(),
            }),
            ["network-rm", network] => {
                self.ask(Command::RemoveNetwork { network: (*network).to_owned() });
            }
            ["volume-create", name] => self
                .ask(Command::CreateVolume { name: (*name).to_owned(), labels: BTreeMap::new() }),
            other => panic!("unknown command {other:?}"),
        }
    }

    /// What a disk would hold.
    fn keep(&mut self, batch: DiskBatch) {
        let disk = &mut self.disk;
        if let Some(from) = batch.truncate_from {
            disk.entries.retain(|entry| entry.index < from);
        }
        if let Some(snapshot) = batch.snapshot {
            disk.snapshot = Some((snapshot.index, snapshot.term, snapshot.encode()));
            disk.entries.retain(|entry| entry.index > snapshot.index);
        }
        disk.entries.extend(batch.entries);
        disk.hard_state = batch.hard_state.or(disk.hard_state.take());
    }

    /// The leader is gone after an outage: another one knows nothing but what is on the disk.
    fn restart(&mut self, outage: &str) {
        self.now += milliseconds(outage);
        let config = CoreConfig::new(RaftId(1), self.disk.clone());
        self.core = Core::new(config).unwrap();
        self.advance(1_000);
        let numbers: Vec<u64> = self.agents.keys().copied().collect();
        for number in numbers {
            self.connect(number);
        }
    }

    fn silence(&mut self, nodes: &[&str]) {
        for node in nodes {
            self.agent(node).silent = true;
        }
    }

    fn agent(&mut self, node: &str) -> &mut Agent {
        self.agents.get_mut(&number(node)).expect("a known node")
    }

    fn input(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for output in self.core.handle(input, Timestamp(self.now)) {
                match output {
                    Output::Persist(batch) => {
                        inputs.push(Input::Persisted { batch: batch.number, micros: SYNC });
                        self.keep(batch);
                    }
                    Output::Reply { result, .. } => self.said.push_str(&reply(&result)),
                    Output::SessionSend { session, message } => {
                        let mut agents = self.agents.values_mut();
                        if let Some(agent) = agents.find(|a| a.session == Some(session))
                            && !agent.silent
                        {
                            agent.receive(message);
                        }
                    }
                    Output::SessionEnd { session, reason } => {
                        let _ = writeln!(self.said, "session {session} ends: {reason}");
                    }
                    Output::Fatal(reason) => panic!("{reason}"),
                    _ => {}
                }
            }
        }
    }

    fn advance(&mut self, milliseconds: u64) {
        let end = self.now + milliseconds;
        while self.now < end {
            self.now += TICK;
            self.input(Input::Tick);
            if self.now.is_multiple_of(1_000) {
                let sessions: Vec<u64> = self
                    .agents
                    .values()
                    .filter(|agent| !agent.silent)
                    .filter_map(|agent| agent.session)
                    .collect();
                for session in sessions {
                    let message = FromAgent::Heartbeat;
                    self.input(Input::SessionMessage { session, message });
                }
            }
            if self.now.is_multiple_of(5_000) {
                self.measure();
            }
        }
    }

    fn uses(&mut self, whose: &str, words: &[&str]) {
        self.usages.insert(whose.to_owned(), autoscale::usage(words));
    }

    /// Connections wait on a node for services, by their full names.
    fn demand(&mut self, node: &str, services: &[&str]) {
        let state = self.core.state();
        let known = state.services.values().filter(|one| services.contains(&one.name().as_str()));
        let message = FromAgent::Demand(known.map(|service| service.id).collect());
        let session = self.agent(node).session.unwrap();
        self.input(Input::SessionMessage { session, message });
    }

    /// Each agent tells what its tasks use.
    fn measure(&mut self) {
        let agents = self.agents.values().filter(|agent| !agent.silent);
        let told = agents.filter_map(|agent| {
            let usages = autoscale::measured(agent, &self.usages);
            Some((agent.session?, usages)).filter(|(_, usages)| !usages.is_empty())
        });
        for (session, usages) in told.collect::<Vec<_>>() {
            let message = FromAgent::Usage(usages);
            self.input(Input::SessionMessage { session, message });
        }
    }

    fn join(&mut self, number: u64) {
        if self.agents.contains_key(&number) {
            return;
        }
        if number > 1 {
            self.tokens += 1;
            let command = Command::Join {
                hostname: format!("n{number}"),
                role: Role::Agent,
                controller_address: None,
            };
            let (token, request_id) = (self.tokens, format!("join{number}"));
            self.input(Input::Command { token, request_id, command });
        }
        self.agents.insert(number, Agent::new(description(number)));
        self.connect(number);
    }

    fn connect(&mut self, number: u64) {
        self.sessions += 1;
        let session = self.sessions;
        let agent = self.agents.get_mut(&number).unwrap();
        agent.session = Some(session);
        let message = agent.hello();
        self.input(Input::SessionOpened { session, node: NodeId(number) });
        self.input(Input::SessionMessage { session, message });
    }

    /// What a deploy would bring about.
    fn plan(&mut self, stack: &str, services: &[&str]) {
        let spec = spec::stack(stack, services);
        let command = Command::Deploy { spec, prune: false, warnings: Vec::new() };
        let now = Timestamp(self.now);
        let foreseen = forecast::forecast(self.core.state(), &command, stack, now).unwrap();
        for change in foreseen.changes {
            let _ = writeln!(self.said, "  - {change}");
        }
        for task in foreseen.tasks.iter().take(SHOWN) {
            let _ = match &task.node {
                Ok(node) => writeln!(self.said, "  {} on {node}", task.task),
                Err(reason) => writeln!(self.said, "  {} \"{reason}\"", task.task),
            };
        }
        if foreseen.tasks.len() > SHOWN {
            let _ = writeln!(self.said, "  {} tasks", foreseen.tasks.len());
        }
        for gone in foreseen.preempted {
            let (from, to) = (gone.priority, gone.for_priority);
            let _ = writeln!(
                self.said,
                "  {} ({from}) on {} would make place for {} ({to})",
                gone.task, gone.node, gone.for_task
            );
        }
        if foreseen.is_cut {
            self.said.push_str("  more would follow at once\n");
        }
    }

    /// What a node has from now on: `cpus=4000 memory=512 pids=100 reserve-cpus=500 gpu=a;b slots=4`.
    fn has(&mut self, node: &str, words: &[&str]) {
        let description = &mut self.agent(node).description;
        for word in words {
            let (key, value) = word.split_once('=').unwrap();
            let number = value.parse::<u64>();
            match (key, number) {
                ("cpus", Ok(number)) => description.millicpus = number,
                ("memory", Ok(number)) => description.memory = number << 20,
                ("pids", Ok(number)) => description.pids = number,
                ("reserve-cpus", Ok(number)) => description.reserve.millicpus = number,
                ("reserve-memory", Ok(number)) => description.reserve.memory = number << 20,
                ("reserve-pids", Ok(number)) => description.reserve.pids = number,
                (kind, Ok(0)) => drop(description.generic_resources.remove(kind)),
                (kind, number) => {
                    let names = || value.split(';').map(str::to_owned).collect();
                    let resource = number
                        .map_or_else(|_| GenericResource::Named(names()), GenericResource::Count);
                    description.generic_resources.insert(kind.to_owned(), resource);
                }
            }
        }
        self.describe(node);
    }

    fn listens(&mut self, node: &str, port: &str, owner: &str) {
        let listener = Listener {
            protocol: Protocol::Tcp,
            address: [0, 0, 0, 0].into(),
            port: port.parse().unwrap(),
            owner: owner.to_owned(),
        };
        self.agent(node).description.listeners.push(listener);
        self.describe(node);
    }

    fn routes(&mut self, node: &str, prefix: &str) {
        self.agent(node).description.routed_prefixes.push(self::prefix(prefix));
        self.describe(node);
    }

    fn describe(&mut self, node: &str) {
        let agent = self.agent(node);
        let message = FromAgent::Description(agent.description.clone());
        let session = agent.session.unwrap();
        self.input(Input::SessionMessage { session, message });
    }

    fn deploy(&mut self, stack: &str, services: &[&str], prune: bool) {
        let spec: StackSpec = spec::stack(stack, services);
        self.ask(Command::Deploy { spec, prune, warnings: Vec::new() });
    }

    fn wish(&mut self, node: &str, wish: &str) {
        let mut command = (None, BTreeMap::new());
        match wish.split_once('=') {
            Some((key, value)) => {
                command.1.insert(key.to_owned(), value.to_owned());
            }
            None => {
                command.0 = Some(match wish {
                    "drain" => Availability::Drain,
                    "pause" => Availability::Pause,
                    _ => Availability::Active,
                });
            }
        }
        self.ask(Command::UpdateNode {
            node: node.to_owned(),
            availability: command.0,
            set_labels: command.1,
            remove_labels: Vec::new(),
        });
    }

    fn ask(&mut self, command: Command) {
        self.tokens += 1;
        let (token, request_id) = (self.tokens, format!("request{}", self.tokens));
        self.input(Input::Command { token, request_id, command });
    }

    /// Every agent in touch does what it was told, until nothing is left to do.
    fn obey(&mut self) {
        for _ in 0..200 {
            let version = self.core.state().version;
            let now = self.now;
            let mut said = Vec::new();
            for agent in self.agents.values_mut().filter(|agent| !agent.silent) {
                let Some(session) = agent.session else { continue };
                said.extend(agent.obey(now).into_iter().map(|message| (session, message)));
            }
            for (session, message) in said {
                self.input(Input::SessionMessage { session, message });
            }
            self.advance(TICK * 2);
            if self.core.state().version == version {
                return;
            }
        }
        panic!("the agents and the core never come to rest");
    }

    fn report(&mut self, task: &str, state: &str, message: &str) {
        let id: TaskId = task.parse().unwrap();
        let mut reported = status(state.parse().unwrap(), self.now);
        message.clone_into(&mut reported.message);
        if state == "failed" {
            reported.exit_code = Some(1);
        }
        let agent = self.agents.values_mut().find(|agent| agent.tasks.contains_key(&id));
        let agent = agent.expect("an agent that has the task");
        agent.tasks.get_mut(&id).unwrap().1 = reported.clone();
        let session = agent.session.unwrap();
        let message = FromAgent::Statuses(vec![(id, reported)]);
        self.input(Input::SessionMessage { session, message });
    }

    /// A task's agent tells what the checks of its health say.
    fn health(&mut self, task: &str, health: &str, output: &str) {
        let id: TaskId = task.parse().unwrap();
        let state = match health {
            "starting" => HealthState::Starting,
            "healthy" => HealthState::Healthy,
            "unhealthy" => HealthState::Unhealthy,
            other => panic!("unknown health {other}"),
        };
        let agent = self.agents.values_mut().find(|agent| agent.tasks.contains_key(&id));
        let agent = agent.expect("an agent that has the task");
        let known = &mut agent.tasks.get_mut(&id).unwrap().1;
        let output = output.to_owned();
        known.health =
            Some(TaskHealth { state, output, ..TaskHealth::starting(Timestamp(self.now)) });
        let (session, known) = (agent.session.unwrap(), known.clone());
        let message = FromAgent::Statuses(vec![(id, known)]);
        self.input(Input::SessionMessage { session, message });
    }

    fn holds(&mut self, node: &str, volume: &str, image: Option<&&str>) {
        let state = self.core.state().clone();
        let found = state.volumes.values().find(|known| known.name == volume).unwrap();
        let report = VolumeReport {
            id: found.id,
            name: volume.to_owned(),
            created_at: Timestamp(self.now),
            filled_from: image.map(|image| {
                let reference = format!("docker.io/library/app:{image}");
                (reference, spec::digest(image).parse().unwrap())
            }),
        };
        let agent = self.agent(node);
        agent.volumes.insert(found.id, report);
        let session = agent.session.unwrap();
        let message = FromAgent::Volumes(agent.volumes.values().cloned().collect());
        self.input(Input::SessionMessage { session, message });
    }

    fn show(&mut self, what: &[&str]) {
        match what {
            ["network", name, node] => {
                let agent = &self.agents[&number(node)];
                let network = agent.networks.values().find(|network| network.name == *name);
                let Some(network) = network else {
                    self.said.push_str("  none\n");
                    return;
                };
                let (address, length) = (network.subnet, network.prefix_length);
                let _ = writeln!(self.said, "  vni {:#x} subnet {address}/{length}", network.vni);
                if let Some((address, _)) = network.gateway {
                    let _ = writeln!(self.said, "  gateway {address}");
                }
                for peer in &network.peers {
                    let _ = writeln!(self.said, "  peer {} at {}", peer.address, peer.host);
                }
                for (name, addresses) in &network.names {
                    let _ = writeln!(self.said, "  name {name} = {addresses:?}");
                }
                for vip in &network.vips {
                    let _ = writeln!(self.said, "  vip {} -> {:?}", vip.at, vip.backends);
                }
                for ingress in &network.ingress {
                    let port = ingress.at.published;
                    let _ = writeln!(self.said, "  port {port} -> {:?}", ingress.backends);
                }
            }
            ["tasks"] => {
                for task in self.core.state().tasks.values() {
                    self.said.push_str(&line(self.core.state(), task));
                }
            }
            ["agent", node] => {
                let agent = &self.agents[&number(node)];
                for (task, known) in agent.tasks.values() {
                    let (id, name) = (task.id, &task.name);
                    let _ =
                        write!(self.said, "  has {name} ({id}) {}/{}", known.state, task.desired);
                    let _ = match task.withdrawal {
                        Some(withdrawal) => writeln!(self.said, " withdrawal {withdrawal:?}"),
                        None => writeln!(self.said),
                    };
                }
                for (id, network) in &agent.networks {
                    let _ = writeln!(self.said, "  has network {id} {}", network.name);
                }
            }
            ["plan"] => self.said.push_str(&rebalance::plan(self.core.state(), self.now)),
            ["quarantine"] => {
                let _ = writeln!(self.said, "  {} addresses", self.core.state().quarantine.len());
            }
            other => panic!("cannot show {other:?}"),
        }
    }
}

fn number(node: &str) -> u64 {
    node.trim_start_matches('n').parse().unwrap()
}

fn prefix(text: &str) -> (std::net::Ipv4Addr, u8) {
    let (address, length) = text.split_once('/').unwrap();
    (address.parse().unwrap(), length.parse().unwrap())
}

fn milliseconds(text: &str) -> u64 {
    match text.strip_suffix("ms") {
        Some(number) => number.parse().unwrap(),
        None => text.trim_end_matches('s').parse::<u64>().unwrap() * 1_000,
    }
}
