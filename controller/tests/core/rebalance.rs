//! Moves of tasks to where they would be placed now: each makes the spread more even, so they end and none is taken back,
//! there are no more of them than allowed, and no service loses more by them than its update policy lets it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use swarm_controller::core::Command;
use swarm_controller::core::rules::rebalance::foresee;
use swarm_controller::core::state::State;
use swarm_proto::entry::{Action, Group};
use swarm_proto::id::{NodeId, ServiceId, TaskId, Timestamp};
use swarm_proto::object::{
    Availability, NodeStatus, Rebalance, RebalanceMode, Service, Task, TaskState,
};
use swarm_proto::spec::{ServiceMode, UpdateOrder};

use crate::history::{History, machine};
use crate::spec;

/// What happens before the cluster is told to move tasks, and what goes wrong meanwhile.
#[derive(Debug, Clone)]
enum Step {
    Deploy(usize, String),
    Join(u8),
    Drain(u64, bool),
    Lose(u64),
    Return(u64),
    Label(u64, u8),
    /// The n-th task that runs, or would, ends by itself.
    Fail(usize),
    Rebalance(usize),
    /// Agents do what they can, for some of the tasks.
    Obey(u8),
    Wait(u64),
}

fn options() -> impl Strategy<Value = String> {
    let order = prop_oneof![Just(""), Just(",start-first")];
    let placement = prop_oneof![
        4 => Just(""),
        2 => Just(",spread=zone"),
        1 => Just(",spread=zone,spread=rack"),
        1 => Just(",per-node=2"),
        1 => Just(",constraint=node.labels.zone!=a"),
        1 => Just(",apart=web"),
        1 => Just(",volume=data"),
        1 => Just(",cpus=1000"),
    ];
    (order, placement, 1_u32..7, 0_u32..3, 0_u32..3).prop_map(
        |(order, placement, replicas, parallelism, delay)| {
            format!(
                "replicas={replicas}{order}{placement},parallelism={parallelism},\
                 update-delay={delay},monitor=2,deadline=30"
            )
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_usize..4, options()).prop_map(|(key, options)| Step::Deploy(key, options)),
        3 => (0_u8..3).prop_map(Step::Join),
        2 => (1_u64..6, any::<bool>()).prop_map(|(node, drain)| Step::Drain(node, drain)),
        1 => (1_u64..6).prop_map(Step::Lose),
        1 => (1_u64..6).prop_map(Step::Return),
        1 => (1_u64..6, 0_u8..3).prop_map(|(node, zone)| Step::Label(node, zone)),
        2 => (0_usize..20).prop_map(Step::Fail),
        2 => (0_usize..4).prop_map(Step::Rebalance),
        12 => any::<u8>().prop_map(Step::Obey),
        4 => (1_u64..40_000).prop_map(Step::Wait),
    ]
}

/// Rests without a move after which none is expected: longer than failures are remembered.
const QUIET: usize = 70;
const KEYS: [&str; 4] = ["web", "other", "api", "one"];

struct Moves {
    history: History,
    services: BTreeMap<usize, String>,
    /// When each move was begun.
    moved_at: Vec<Timestamp>,
}

impl Moves {
    fn new() -> Self {
        let history = History::new();
        let mut moves = Self { history, services: BTreeMap::new(), moved_at: Vec::new() };
        (0..3).for_each(|zone| moves.join(zone));
        moves
    }

    fn ask(&mut self, command: &Command) {
        // What is refused changes nothing.
        if let Some(group) = self.history.decide(command) {
            self.carry_out(group);
        }
    }

    fn join(&mut self, zone: u8) {
        let number = self.history.join(machine());
        self.label(number, zone);
    }

    fn label(&mut self, node: u64, zone: u8) {
        let zone = ["a", "b", "c"][usize::from(zone)].to_owned();
        let rack = format!("r{}", node % 2);
        self.ask(&Command::UpdateNode {
            node: format!("n{node}"),
            availability: None,
            set_labels: [("zone".to_owned(), zone), ("rack".to_owned(), rack)].into(),
            remove_labels: Vec::new(),
        });
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Deploy(key, options) => {
                self.services.insert(*key, options.clone());
                let services = self.services.iter();
                let services: Vec<String> =
                    services.map(|(key, options)| format!("{}:{options}", KEYS[*key])).collect();
                let services: Vec<&str> = services.iter().map(String::as_str).collect();
                let spec = spec::stack("shop", &services);
                self.ask(&Command::Deploy { spec, prune: false, warnings: Vec::new() });
            }
            Step::Join(zone) if self.history.state.nodes.len() < 6 => self.join(*zone),
            Step::Join(_) => {}
            Step::Drain(node, drain) => {
                let wish = if *drain { Availability::Drain } else { Availability::Active };
                self.history.set_availability(*node, wish);
            }
            Step::Lose(node) => self.set_status(*node, NodeStatus::Down),
            Step::Return(node) => self.set_status(*node, NodeStatus::Ready),
            Step::Label(node, zone) => self.label(*node, *zone),
            Step::Fail(number) => {
                let open = |task: &&TaskId| {
                    let task = &self.history.state.tasks[*task];
                    !task.status.state.is_terminal() && task.node.is_some()
                };
                let open: Vec<TaskId> =
                    self.history.state.tasks.keys().filter(open).copied().collect();
                if let Some(task) = open.get(number % open.len().max(1)) {
                    self.history.report(*task, TaskState::Failed);
                }
            }
            Step::Rebalance(key) => {
                let services = vec![format!("shop_{}", KEYS[*key])];
                self.ask(&Command::Rebalance { services });
            }
            Step::Obey(chance) => self.obey(*chance),
            Step::Wait(milliseconds) => {
                self.history.now = Timestamp(self.history.now.0 + milliseconds);
            }
        }
        self.settle();
    }

    fn set_status(&mut self, node: u64, status: NodeStatus) {
        if self.history.state.nodes.contains_key(&NodeId(node)) {
            self.history.set_status(node, status);
        }
    }

    /// What each node's agent does next with its tasks; the chance says with which.
    fn obey(&mut self, chance: u8) {
        let tasks: Vec<Task> =
            self.history.state.tasks.values().map(|task| Task::clone(task)).collect();
        for (bit, task) in tasks.into_iter().enumerate() {
            let node = task.node.and_then(|node| self.history.state.nodes.get(&node));
            let is_ready = node.is_some_and(|node| node.status == NodeStatus::Ready);
            if task.status.state.is_terminal() || !is_ready || chance >> (bit % 8) & 1 == 0 {
                continue;
            }
            match (task.desired, task.status.state) {
                (desired, _) if desired > TaskState::Running => {
                    self.history.report(task.id, TaskState::Shutdown);
                }
                (TaskState::Running, state) if state < TaskState::Running => {
                    self.history.report(task.id, TaskState::Running);
                }
                _ => {}
            }
        }
        let removing = self.history.state.index.removing.iter().copied();
        self.history.observed.gone_tasks.extend(removing);
    }

    /// Passes until the rules are content: they must be, soon.
    fn settle(&mut self) {
        for _ in 0..30 {
            let Some(pass) = self.history.pass() else { return };
            pass.groups.into_iter().for_each(|group| self.carry_out(group));
        }
        panic!("the rules find no rest");
    }

    /// Each group is held against the promise.
    fn carry_out(&mut self, group: Group) {
        let counted = group.actions.iter().filter(|one| matches!(one, Action::CountMove(_)));
        let moves = counted.count();
        let before = self.history.state.clone();
        self.history.apply(vec![group]);
        if moves > 0 {
            self.moved_at.extend(std::iter::repeat_n(self.history.now, moves));
            promise(&before, &self.history.state);
        }
    }

    /// Five seconds in which all agents do what they should.
    fn rest(&mut self) {
        self.step(&Step::Wait(5_000));
        self.step(&Step::Obey(u8::MAX));
    }

    fn is_settled(&self) -> bool {
        self.history.state.index.unsettled.is_empty()
            && self
                .history
                .state
                .tasks
                .values()
                .all(|task| task.status.state.is_terminal() == (task.desired > TaskState::Running))
    }
}

/// A move takes no more of a service's tasks than its policy lets it.
fn promise(before: &State, after: &State) {
    let serving = |state: &State, service: ServiceId| {
        let tasks = state.tasks.values().filter(|task| task.id.service == service);
        tasks
            .filter(|task| {
                (task.status.state, task.desired) == (TaskState::Running, TaskState::Running)
            })
            .count()
    };
    for (id, service) in &after.services {
        let (ran, runs) = (serving(before, *id), serving(after, *id));
        let policy = service.update_policy();
        let spare = match (policy.order, policy.parallelism) {
            (UpdateOrder::StartFirst | UpdateOrder::BlueGreen, _) => 0,
            (UpdateOrder::StopFirst, 0) => u32::MAX,
            (UpdateOrder::StopFirst, some) => some,
        };
        let ServiceMode::Replicated { replicas } = service.spec.mode else { continue };
        let least = replicas.saturating_sub(spare) as usize;
        assert!(runs == ran || runs >= least, "{replicas} replicas, {ran} ran, {runs} are left");
    }
}

/// How uneven a service's tasks are: in each place that it is spread over, from the widest on, then on nodes.
fn unevenness(state: &State, service: &Service) -> Vec<u64> {
    let labels = &service.spec.placement.spread;
    let tasks = state.tasks.values().filter(|task| task.id.service == service.id);
    let stay =
        tasks.filter(|task| task.desired == TaskState::Running && !task.status.state.is_terminal());
    let nodes: Vec<_> = stay.map(|task| &state.nodes[&task.node.unwrap()]).collect();
    let squares = |counts: BTreeMap<Vec<String>, u64>| counts.values().map(|n| n * n).sum::<u64>();
    let mut levels: Vec<u64> = Vec::new();
    for depth in 1..=labels.len() {
        let mut counts: BTreeMap<Vec<String>, u64> = BTreeMap::new();
        for node in &nodes {
            let values = labels[..depth].iter().map(|label| label.value(node).unwrap().to_owned());
            *counts.entry(values.collect()).or_default() += 1;
        }
        levels.push(squares(counts));
    }
    let mut counts: BTreeMap<Vec<String>, u64> = BTreeMap::new();
    for node in &nodes {
        *counts.entry(vec![node.id.to_string()]).or_default() += 1;
    }
    levels.push(squares(counts));
    levels
}

/// The same of all services, and of all tasks together.
fn all_unevenness(state: &State) -> (BTreeMap<ServiceId, Vec<u64>>, u64) {
    let services = state.services.values();
    let of_each = services.map(|service| (service.id, unevenness(state, service))).collect();
    let mut loads: BTreeMap<NodeId, u64> = BTreeMap::new();
    let open = state.tasks.values().filter(|task| !task.status.state.is_terminal());
    open.filter_map(|task| task.node).for_each(|node| *loads.entry(node).or_default() += 1);
    (of_each, loads.values().map(|load| load * load).sum())
}

/// No more moves within any minute than the setting allows.
fn assert_bounded(moved_at: &[Timestamp], most: usize) {
    for window in moved_at.windows(most + 1) {
        let span = window[most].since(window[0]);
        assert!(span >= Rebalance::MINUTE, "{} moves within {span:?}", most + 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happened: once it is over, each move makes things more even, and after some there are none.
    #[test]
    fn moves_end_and_are_never_taken_back(steps in prop::collection::vec(step(), 1..50), most in 1_u32..8) {
        let mut run = Moves::new();
        let set = Command::UpdateCluster {
            rebalance: Some(RebalanceMode::Auto),
            moves_per_minute: Some(most),
        };
        run.ask(&set);
        run.step(&Step::Deploy(0, "replicas=4,monitor=2".to_owned()));
        for step in &steps {
            run.step(step);
        }
        let restored = State::from_bytes(&run.history.state.to_bytes()).unwrap();
        prop_assert_eq!(restored.to_bytes(), run.history.state.to_bytes());
        let (index, kept) = (&restored.index, &run.history.state.index);
        prop_assert_eq!((&index.loads, &index.crowds), (&kept.loads, &kept.crowds));
        prop_assert_eq!((&index.near, &index.spread_out), (&kept.near, &kept.spread_out));
        let nodes: BTreeSet<u64> = run.history.state.nodes.keys().map(|node| node.0).collect();
        for node in nodes {
            run.step(&Step::Return(node));
            run.step(&Step::Drain(node, false));
        }
        let mut known: Option<(BTreeMap<ServiceId, Vec<u64>>, u64)> = None;
        let mut moves = run.moved_at.len();
        let mut quiet = 0;
        for _ in 0..400 {
            run.rest();
            if !run.is_settled() {
                continue;
            }
            let now = all_unevenness(&run.history.state);
            let has_moved = run.moved_at.len() > moves;
            if let Some((services, load)) = known.as_ref().filter(|_| has_moved) {
                let better = now.0.iter().any(|(id, own)| own < &services[id]);
                let no_worse = now.0.iter().all(|(id, own)| own <= &services[id]);
                prop_assert!(
                    no_worse && (better || now.1 < *load),
                    "{known:?} became {now:?}: {:?}", run.history.state.cluster
                );
            }
            moves = run.moved_at.len();
            known = Some(now);
            quiet = if has_moved { 0 } else { quiet + 1 };
            if quiet > QUIET {
                break;
            }
        }
        assert_bounded(&run.moved_at, most as usize);
        if known.is_some() {
            prop_assert!(quiet > QUIET, "the moves find no end");
            let left = foresee(&run.history.state, run.history.now);
            prop_assert!(left.moves.is_empty(), "{:?} would still be moved", left.moves);
        }
    }
}
