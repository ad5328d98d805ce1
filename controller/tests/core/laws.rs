//! Laws of the rules, on made-up histories.

use std::collections::BTreeSet;

use proptest::prelude::*;
use swarm_controller::core::Command;
use swarm_controller::core::state::State;
use swarm_proto::id::{TaskId, Timestamp};
use swarm_proto::object::{
    Availability, Cluster, GenericResource, GenericResources, HostShare, JobRuns, NodeDescription,
    NodeStatus, Secret, Service, TaskState,
};

use swarm_proto::spec::ServiceMode;

use crate::history::History;
use crate::{preemption, reservations, spec};

/// What the jobs below ask for at most; a redeploy may ask for less while tasks run.
const MOST_AT_ONCE: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    /// With or without `--prune`.
    Deploy(u8, Vec<String>, bool),
    /// Makes or removes the network or volume that belongs to no stack.
    Share(bool, bool),
    Remove(u8),
    Scale(u8, u32),
    Wish(u64, Availability),
    RunJob(u8, bool),
    StopRuns(u8),
    Status(u64, NodeStatus),
    /// What a node has becomes less, or is whole again.
    Has(u64, bool),
    /// The n-th task comes to a state.
    Report(usize, TaskState),
    /// All nodes confirm what stands, and forget what is gone.
    Confirm,
    Wait(u64),
}

fn cluster() -> Cluster {
    Cluster {
        task_history: 2,
        address_pools: vec![([10, 200, 0, 0].into(), 16)],
        subnet_prefix_length: 27,
        ..Cluster::new("0".repeat(32), String::new(), Secret::default())
    }
}

fn services() -> impl Strategy<Value = Vec<String>> {
    let option = prop_oneof![
        Just("replicas=3".to_owned()),
        Just("replicas=6,cpus=1500".to_owned()),
        Just("global".to_owned()),
        Just("image=2".to_owned()),
        Just("image=3,start-first,replicas=2".to_owned()),
        Just("port=-:80,replicas=2".to_owned()),
        Just("hostport=9000:80,replicas=2".to_owned()),
        Just("volume=data".to_owned()),
        Just("nonet,net=other,replicas=2".to_owned()),
        Just("net=other,dnsrr,replicas=2".to_owned()),
        Just("restart=none,parallelism=0,replicas=4".to_owned()),
        Just("extnet=front,replicas=2".to_owned()),
        Just("extnet=s0_other,dnsrr,image=2".to_owned()),
        Just("extvolume=common,replicas=2".to_owned()),
        Just("job=4/2,delay=1s".to_owned()),
        Just("job=3/3,attempts=1,restart=on-failure,image=2".to_owned()),
        Just("globaljob,restart=none".to_owned()),
        Just("replicas=4,need=gpu*1".to_owned()),
        Just("replicas=2,need=gpu*2,image=2".to_owned()),
        Just("need=gpu:a".to_owned()),
        Just("need=gpu:a,priority=2,replicas=2".to_owned()),
        Just("replicas=2,need=slots*3,priority=1".to_owned()),
        Just("replicas=4,cpus=1800,priority=-1,keeps".to_owned()),
        Just("global,memory=700,priority=-2".to_owned()),
        Just("job=4/3,cpus=1500,priority=-3,delay=1s".to_owned()),
        Just("need=gpu*all,start-first".to_owned()),
        Just("replicas=5,need=slots*2,pids=40".to_owned()),
        Just("global,need=slots*1,cpus=700".to_owned()),
        Just("job=3/3,need=gpu*1,memory=200".to_owned()),
        Just("replicas=3,memory=300,pids=30,cpus=1200".to_owned()),
        Just("job=2/1,every=20s,concurrency=allow,history=2".to_owned()),
        Just("job=3/2,every=15s,concurrency=replace,missed=run-all".to_owned()),
        Just("globaljob,every=30s,missed=run-once,history=1".to_owned()),
    ];
    let service = (prop_oneof![Just("a"), Just("b"), Just("c")], option);
    prop::collection::vec(service.prop_map(|(key, option)| format!("{key}:{option}")), 1..4)
}

fn step() -> impl Strategy<Value = Step> {
    let availability = prop_oneof![
        Just(Availability::Active),
        Just(Availability::Drain),
        Just(Availability::Pause)
    ];
    let status = prop_oneof![Just(NodeStatus::Ready), Just(NodeStatus::Down)];
    let reached = prop_oneof![
        4 => Just(TaskState::Running),
        2 => Just(TaskState::Shutdown),
        1 => Just(TaskState::Failed),
        1 => Just(TaskState::Complete),
        1 => Just(TaskState::Rejected),
    ];
    prop_oneof![
        3 => (0_u8..2, services(), any::<bool>())
            .prop_map(|(stack, services, prune)| Step::Deploy(stack, services, prune)),
        2 => any::<(bool, bool)>().prop_map(|(network, make)| Step::Share(network, make)),
        1 => (0_u8..2).prop_map(Step::Remove),
        2 => (0_u8..2, 0_u32..8).prop_map(|(stack, replicas)| Step::Scale(stack, replicas)),
        1 => (0_u8..2, any::<bool>()).prop_map(|(stack, one_off)| Step::RunJob(stack, one_off)),
        1 => (0_u8..2).prop_map(Step::StopRuns),
        1 => (1_u64..5, availability).prop_map(|(node, wish)| Step::Wish(node, wish)),
        1 => (1_u64..5, status).prop_map(|(node, status)| Step::Status(node, status)),
        1 => (1_u64..5, any::<bool>()).prop_map(|(node, whole)| Step::Has(node, whole)),
        8 => (0_usize..40, reached).prop_map(|(task, state)| Step::Report(task, state)),
        2 => Just(Step::Confirm),
        2 => (1_u64..90_000).prop_map(Step::Wait),
    ]
}

/// The command that makes or removes the network `front` or the volume `common`.
fn shared(network: bool, make: bool) -> Command {
    let labels = std::collections::BTreeMap::new();
    let (front, volume) = ("front".to_owned(), "common".to_owned());
    match (network, make) {
        (true, true) => {
            Command::CreateNetwork { name: front, subnet: None, internal: false, labels }
        }
        (true, false) => Command::RemoveNetwork { network: front },
        (false, true) => Command::CreateVolume { name: volume, labels },
        (false, false) => Command::RemoveVolume { volume, force: true },
    }
}

/// What a node has: two of the four have GPUs.
fn description(number: u64, whole: bool) -> NodeDescription {
    let names = if whole { vec!["a", "b", "c"] } else { vec!["c"] };
    let gpus = GenericResource::Named(names.into_iter().map(str::to_owned).collect());
    let slots = GenericResource::Count(if whole { 4 } else { 1 });
    let mut generic_resources = GenericResources::from([("slots".to_owned(), slots)]);
    if number.is_multiple_of(2) {
        generic_resources.insert("gpu".to_owned(), gpus);
    }
    NodeDescription {
        millicpus: if whole { 4_000 } else { 2_000 },
        memory: 1 << 30,
        pids: 200,
        generic_resources,
        reserve: HostShare { millicpus: 300, memory: 1 << 26, pids: 50 },
        ..NodeDescription::default()
    }
}

/// Every law is held against each entry of it.
fn lawful() -> History {
    let mut history = History::of(cluster(), laws);
    for number in 1..=4 {
        history.join(description(number, true));
    }
    history
}

fn ask(history: &mut History, command: &Command) {
    // What is refused changes nothing.
    let _ = history.ask(command);
}

impl Step {
    fn take(self, history: &mut History) {
        match self {
            Self::Deploy(stack, services, prune) => {
                let services: Vec<&str> = services.iter().map(String::as_str).collect();
                let spec = spec::stack(&format!("s{stack}"), &services);
                ask(history, &Command::Deploy { spec, prune, warnings: Vec::new() });
            }
            Self::Share(network, make) => ask(history, &shared(network, make)),
            Self::Remove(stack) => {
                ask(history, &Command::RemoveStack { stack: format!("s{stack}") });
            }
            Self::Scale(stack, replicas) => {
                ask(history, &Command::Scale { service: format!("s{stack}_a"), replicas });
            }
            Self::RunJob(stack, one_off) => {
                let service = format!("s{stack}_a");
                let one_off = one_off.then(|| vec!["x".to_owned()]);
                ask(
                    history,
                    &match one_off {
                        Some(command) => Command::RunOneOff { service, command: Some(command) },
                        None => Command::RunJob { service },
                    },
                );
            }
            Self::StopRuns(stack) => {
                ask(history, &Command::StopRuns { service: format!("s{stack}_a"), run: None });
            }
            Self::Wish(node, availability) => history.set_availability(node, availability),
            Self::Status(node, status) => history.set_status(node, status),
            Self::Has(node, whole) => history.describe(node, description(node, whole)),
            Self::Report(number, state) => report(history, number, state),
            Self::Confirm => confirm(history),
            Self::Wait(milliseconds) => history.now = Timestamp(history.now.0 + milliseconds),
        }
        settle(history);
    }
}

fn report(history: &mut History, number: usize, state: TaskState) {
    let placed = history.state.tasks.values().filter(|task| task.node.is_some());
    let placed: Vec<TaskId> = placed.map(|task| task.id).collect();
    if let Some(task) = placed.get(number % placed.len().max(1)) {
        history.report(*task, state);
    }
}

fn confirm(history: &mut History) {
    let (state, observed) = (&history.state, &mut history.observed);
    for network in state.networks.values() {
        for gateway in &network.gateways {
            let key = (network.id, gateway.node);
            let version = state.network_versions.get(&network.id).copied().unwrap_or(0);
            observed.confirmed.insert(key, version);
            if !state.index.needs(network.id, gateway.node) {
                observed.gone_networks.insert(key);
            }
        }
    }
    observed.gone_tasks.extend(state.index.removing.iter().copied());
}

/// Passes until the rules are content: they must be, soon.
fn settle(history: &mut History) {
    for _ in 0..20 {
        let Some(pass) = history.pass() else { return };
        preemption::law(&history.state, &history.observed, &pass.groups, history.now);
        history.apply(pass.groups);
        // What was planned is exactly what comes of it: a leader does not apply it again.
        assert_eq!(pass.state.tasks, history.state.tasks);
        assert_eq!(pass.state.index, history.state.index);
        assert_eq!(pass.state.to_bytes(), history.state.to_bytes());
        assert_eq!(pass.events, history.told);
    }
    panic!("the rules find no rest");
}

fn laws(before: &State, after: &State) {
    let mut held = BTreeSet::new();
    for task in after.tasks.values() {
        if let Some(old) = before.tasks.get(&task.id) {
            assert!(task.status.state >= old.status.state, "{} fell", task.id);
            assert!(task.desired >= old.desired, "{} is wanted less", task.id);
            assert!(old.node.is_none() || old.node == task.node, "{} moved", task.id);
        }
        if !task.status.state.is_terminal() || task.status.state == TaskState::Orphaned {
            for place in &task.attachments {
                let key = (place.network, u32::from(place.address));
                assert!(held.insert(key), "{} is held twice", place.address);
                assert!(!after.quarantine.contains_key(&key), "{} quarantined", place.address);
            }
        }
    }
    for service in after.services.values() {
        for vip in &service.vips {
            assert!(held.insert((vip.network, vip.address.into())), "{} twice", vip.address);
        }
    }
    for network in after.networks.values() {
        for gateway in &network.gateways {
            let fresh = held.insert((network.id, gateway.address.into()));
            assert!(fresh, "{} twice", gateway.address);
        }
    }
    for (name, _) in after.index.external_networks.keys() {
        let network = after.index.network_names.get(name).and_then(|id| after.networks.get(id));
        assert!(network.is_some_and(|network| !network.removing), "{name} is in use");
    }
    for (name, _) in after.index.external_volumes.keys() {
        let volume = after.index.volume_names.get(name).and_then(|id| after.volumes.get(id));
        assert!(volume.is_some_and(|volume| !volume.removing), "{name} is in use");
    }
    for service in after.services.values() {
        let old = before.services.get(&service.id).map(|old| &old.object);
        runs_are_lawful(after, old.map(|old| &old.runs), service);
    }
    reservations::law(before, after);
}

/// No time is run twice, times rise, what is over stays so, histories are bounded, and no more tasks run at a time than
/// may.
fn runs_are_lawful(state: &State, old: Option<&JobRuns>, service: &Service) {
    let runs = &service.runs;
    if let Some(old) = old {
        assert!(runs.started >= old.started && runs.decided_until >= old.decided_until);
    }
    let fresh = runs.list.iter().filter(|run| old.is_none_or(|old| old.get(run.number).is_none()));
    for run in fresh {
        let decided = old.map_or(Timestamp(0), |old| old.decided_until);
        assert!(run.scheduled_at.is_none_or(|at| at > decided), "{run:?} repeats a time");
        assert!(old.is_none_or(|old| run.number > old.started), "{run:?} repeats a number");
    }
    let over = runs.list.iter().filter(|run| !run.is_active()).count();
    let kept = service.spec.run_history.unwrap_or(JobRuns::HISTORY) as usize;
    assert!(over <= kept.max(old.map_or(0, |old| old.list.len())) + 1, "{over} runs are kept");
    for run in &runs.list {
        assert!(run.total.is_none_or(|total| run.completed + run.failed <= total));
        let tasks = state.tasks.values().filter(|task| task.id.service == service.id);
        let going = tasks.filter(|task| {
            task.run == Some(run.number)
                && task.desired == TaskState::Running
                && !task.status.state.is_terminal()
        });
        // What another mode ended is stopped by the next pass.
        if run.is_active() && matches!(service.spec.mode, ServiceMode::ReplicatedJob { .. }) {
            let going = going.count();
            assert!(going <= MOST_AT_ONCE, "{going} tasks of run {} at a time", run.number);
        }
    }
}

/// A place that was made for one task went to others of its service before it, which had only waited for their
/// predecessors' end: that one made place once more.
#[test]
fn histories_that_were_unlawful_once() {
    let deploy = |stack, services: &[&str]| {
        Step::Deploy(stack, services.iter().map(|&one| one.to_owned()).collect(), false)
    };
    let successors = [
        deploy(0, &["a:global,memory=700,priority=-2", "c:replicas=2,need=gpu*2,image=2"]),
        deploy(1, &["a:job=3/3,need=gpu*1,memory=200"]),
        deploy(0, &["c:job=3/3,need=gpu*1,memory=200"]),
    ];
    let drained = [
        deploy(0, &["a:replicas=5,need=slots*2,pids=40"]),
        Step::Has(1, false),
        deploy(1, &["a:job=4/3,cpus=1500,priority=-3,delay=1s"]),
        deploy(0, &["b:replicas=4,cpus=1800,priority=-1,keeps"]),
        Step::Confirm,
        Step::Wish(2, Availability::Drain),
    ];
    let one_off = [
        deploy(0, &["a:replicas=2,need=slots*3,priority=1"]),
        deploy(1, &["a:replicas=5,need=slots*2,pids=40"]),
        Step::Wish(1, Availability::Drain),
        Step::RunJob(0, true),
    ];
    for steps in [Vec::from(successors), Vec::from(drained), Vec::from(one_off)] {
        let mut history = lawful();
        for step in steps {
            step.take(&mut history);
        }
    }
}

/// So many histories; the environment's `PROPTEST_CASES` may ask for more.
fn cases() -> ProptestConfig {
    let config = ProptestConfig::default();
    let is_set = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig { cases: if is_set { config.cases } else { 64 }, ..config }
}

proptest! {
    #![proptest_config(cases())]

    /// Whatever happens: addresses are unique, states rise, tasks stay, what is in use stays, nodes are not overcommitted,
    /// the rules come to rest, and a restored snapshot is the same state with the same indexes.
    #[test]
    fn laws_hold(steps in prop::collection::vec(step(), 1..40)) {
        let mut history = lawful();
        for step in steps {
            step.take(&mut history);
        }
        let restored = State::from_bytes(&history.state.to_bytes()).unwrap();
        let mut index = restored.index.clone();
        // What is looked at next, and when nodes were told, starts afresh.
        index.gateways = history.state.index.gateways.clone();
        index.node_versions = history.state.index.node_versions.clone();
        prop_assert_eq!(&index, &history.state.index);
        prop_assert_eq!(restored.to_bytes(), history.state.to_bytes());
    }
}
