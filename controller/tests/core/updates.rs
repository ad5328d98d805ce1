//! Updates under random failures: what they promise, and that each comes to an end.

use std::collections::BTreeMap;

use proptest::prelude::*;
use swarm_controller::core::Command;
use swarm_controller::core::state::State;
use swarm_proto::entry::Action;
use swarm_proto::id::{ServiceId, Slot, TaskId, Timestamp};
use swarm_proto::object::{
    Availability, NodeStatus, Service, Switch, Task, TaskState, UpdateState,
};
use swarm_proto::spec::{ServiceMode, UpdateOrder};

use crate::history::{History, machine};
use crate::spec;

/// Fails at once.
const FAILS: &str = "9";
/// Runs for two seconds.
const CRASHES: &str = "8";
/// Is never there.
const HANGS: &str = "7";

#[derive(Debug, Clone)]
enum Step {
    Deploy(String),
    Scale(u32),
    Pause,
    Resume,
    RollBack,
    Promote,
    /// Another service of higher priority wants so many places.
    Rush(u32),
    Drain(u64, bool),
    Lose(u64),
    Return(u64),
    /// The n-th task that runs ends by itself.
    Fail(usize),
    /// Agents do what they can, for some of the tasks.
    Obey(u8),
    Wait(u64),
}

fn options() -> impl Strategy<Value = String> {
    let image = prop_oneof![
        4 => (1_u8..5).prop_map(|image| image.to_string()),
        2 => Just(FAILS.to_owned()),
        2 => Just(CRASHES.to_owned()),
        1 => Just(HANGS.to_owned()),
    ];
    let action = prop_oneof![Just("pause"), Just("continue"), Just("rollback")];
    let ratio = prop_oneof![Just("0"), Just("0.3"), Just("0.5"), Just("1")];
    let order = prop_oneof![
        Just(""),
        Just(",start-first"),
        Just(",blue-green"),
        Just(",blue-green,hold=20s")
    ];
    let delay = prop_oneof![Just("0"), Just("3")];
    let canary = prop_oneof![
        3 => Just(""),
        1 => Just(",canary=1"),
        1 => Just(",canary=40%"),
        1 => Just(",canary=2+20s"),
    ];
    let rest = (action, ratio, order, delay, 0_u32..4, 1_u32..7, canary);
    (image, rest).prop_map(|(image, rest)| {
        let (action, ratio, order, delay, parallelism, replicas, canary) = rest;
        let canary = if order.starts_with(",blue-green") { "" } else { canary };
        format!(
            "web:image={image},replicas={replicas},cpus=1000,failure={action},ratio={ratio}{order}{canary},\
             update-delay={delay},parallelism={parallelism},deadline=60,\
             rollback-ratio={ratio},rollback-parallelism={parallelism},rollback-deadline=60"
        )
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => options().prop_map(Step::Deploy),
        1 => (0_u32..8).prop_map(Step::Scale),
        1 => Just(Step::Pause),
        2 => Just(Step::Resume),
        1 => Just(Step::RollBack),
        1 => Just(Step::Promote),
        1 => (0_u32..5).prop_map(Step::Rush),
        1 => (1_u64..5, any::<bool>()).prop_map(|(node, drain)| Step::Drain(node, drain)),
        1 => (1_u64..5).prop_map(Step::Lose),
        1 => (1_u64..5).prop_map(Step::Return),
        2 => (0_usize..8).prop_map(Step::Fail),
        12 => any::<u8>().prop_map(Step::Obey),
        3 => (1_u64..8_000).prop_map(Step::Wait),
    ]
}

struct Updates {
    history: History,
    /// When each task came to run.
    ran_at: BTreeMap<TaskId, Timestamp>,
}

impl Updates {
    fn new() -> Self {
        let mut history = History::new();
        for _ in 1..=4 {
            history.join(machine());
        }
        Self { history, ran_at: BTreeMap::new() }
    }

    fn ask(&mut self, command: &Command) {
        // What is refused changes nothing.
        let _ = self.history.ask(command);
    }

    fn service(&self) -> Option<&Service> {
        self.history.state.services.values().next().map(|service| &**service)
    }

    fn step(&mut self, step: &Step) {
        let service = "shop_web".to_owned();
        match step {
            Step::Deploy(options) => {
                let spec = spec::stack("shop", &[options.as_str()]);
                self.ask(&Command::Deploy { spec, prune: true, warnings: Vec::new() });
            }
            Step::Scale(replicas) => self.ask(&Command::Scale { service, replicas: *replicas }),
            Step::Pause => self.ask(&Command::PauseService { service }),
            Step::Resume => self.ask(&Command::ResumeService { service }),
            Step::RollBack => self.ask(&Command::RollBackService { service }),
            Step::Promote => self.ask(&Command::PromoteService { service }),
            Step::Rush(replicas) => {
                let rush = format!("rush:replicas={replicas},cpus=3000,priority=1");
                let spec = spec::stack("other", &[&rush]);
                self.ask(&Command::Deploy { spec, prune: true, warnings: Vec::new() });
            }
            Step::Drain(node, drain) => {
                let wish = if *drain { Availability::Drain } else { Availability::Active };
                self.history.set_availability(*node, wish);
            }
            Step::Lose(node) => self.history.set_status(*node, NodeStatus::Down),
            Step::Return(node) => self.history.set_status(*node, NodeStatus::Ready),
            Step::Fail(number) => {
                let running = self.history.state.tasks.values().filter(|task| is_running(task));
                let running: Vec<TaskId> = running.map(|task| task.id).collect();
                if let Some(task) = running.get(number % running.len().max(1)) {
                    self.report(*task, TaskState::Failed);
                }
            }
            Step::Obey(chance) => self.obey(*chance),
            Step::Wait(milliseconds) => {
                self.history.now = Timestamp(self.history.now.0 + milliseconds);
            }
        }
        self.settle();
    }

    fn report(&mut self, task: TaskId, state: TaskState) {
        if state == TaskState::Running {
            self.ran_at.insert(task, self.history.now);
        }
        self.history.report(task, state);
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
            let image =
                self.history.state.task_spec(&task).unwrap().container.image.reference.clone();
            let runs = task.status.state == TaskState::Running;
            let crashes =
                self.ran_at.get(&task.id).is_some_and(|at| at.0 + 2_000 <= self.history.now.0);
            let next = match image.rsplit(':').next() {
                _ if task.desired > TaskState::Running => TaskState::Shutdown,
                _ if task.desired < TaskState::Running => continue,
                Some(FAILS) => TaskState::Failed,
                Some(HANGS) => continue,
                Some(CRASHES) if runs && crashes => TaskState::Failed,
                _ if runs => continue,
                _ => TaskState::Running,
            };
            self.report(task.id, next);
        }
        let removing = self.history.state.index.removing.iter().copied();
        self.history.observed.gone_tasks.extend(removing);
    }

    /// Passes until the rules are content: they must be, soon. Each is held against the promise.
    fn settle(&mut self) {
        for _ in 0..30 {
            let Some(pass) = self.history.pass() else { return };
            for group in pass.groups {
                let before = self.history.state.clone();
                // Who takes another's place does not ask what that one's service promises.
                let takes = |action: &Action| matches!(action, Action::PreemptTasks { .. });
                let keeps = !group.actions.iter().any(takes);
                self.history.apply(vec![group]);
                if keeps {
                    promise(&before, &self.history.state);
                }
                keep_canary(&before, &self.history.state);
                switch_at_once(&before, &self.history.state);
            }
        }
        panic!("the rules find no rest");
    }
}

fn is_running(task: &Task) -> bool {
    task.status.state == TaskState::Running && task.desired == TaskState::Running && !task.standby
}

/// Slots in which a task serves, on a node that is there; also on one that drains.
fn serving(state: &State, service: ServiceId) -> std::collections::BTreeSet<Slot> {
    let stays = |task: &&Task| {
        let node = task.node.and_then(|node| state.nodes.get(&node));
        node.is_some_and(|node| node.status == NodeStatus::Ready)
    };
    let tasks = state.tasks.values().map(|task| &**task);
    let tasks = tasks.filter(|task| task.id.service == service && is_running(task));
    tasks.filter(stays).map(|task| task.id.slot).collect()
}

/// What the rules do by themselves leaves so many running: the replicas less the parallelism, slots not counted in which
/// the update has failed and may.
fn promise(before: &State, after: &State) {
    for (id, service) in &after.services {
        let Some(old) = before.services.get(id) else { continue };
        let (ran, runs) = (serving(before, *id), serving(after, *id));
        if runs.len() >= ran.len() || service.removing {
            continue;
        }
        let bound = |service: &Service| {
            let policy = service.update_policy();
            match (policy.order, policy.parallelism) {
                _ if switches(service) => 0,
                (UpdateOrder::StartFirst | UpdateOrder::BlueGreen, _) => 0,
                (UpdateOrder::StopFirst, 0) => usize::MAX / 2,
                (UpdateOrder::StopFirst, some) => some as usize,
            }
        };
        let number = old.update.as_ref().map_or(u64::MAX, |update| update.number);
        let failed = |slot: &Slot| {
            let history = after.slots.get(&(*id, *slot));
            history.is_some_and(|history| history.failed_update == number) && !runs.contains(slot)
        };
        let slots: std::collections::BTreeSet<Slot> =
            after.tasks.keys().filter(|task| task.service == *id).map(|task| task.slot).collect();
        let failed = slots.iter().filter(|slot| failed(slot)).count();
        let ServiceMode::Replicated { replicas } = service.spec.mode else { continue };
        assert!(
            runs.len() + failed + bound(old).max(bound(service)) >= replicas as usize,
            "{replicas} replicas, {ran:?} ran, {runs:?} are left, {failed} failed: {:?}",
            service.update
        );
    }
}

fn switches(service: &Service) -> bool {
    service
        .update
        .as_ref()
        .is_some_and(|update| update.state.is_open() && update.switch != Switch::None)
}

/// Before a blue-green update switches, clients meet no more of the new spec than they did; after it, nothing else.
fn switch_at_once(before: &State, after: &State) {
    for (id, service) in after.services.iter().filter(|(_, service)| switches(service)) {
        let update = service.update.as_ref().unwrap();
        let met = |state: &State, new: bool| {
            let tasks = state.tasks.values().filter(|task| task.id.service == *id);
            let met = tasks.filter(|task| is_running(task));
            met.filter(|task| (task.spec_version == service.spec_version) == new).count()
        };
        match update.switch {
            Switch::None => {}
            Switch::Due => assert!(met(after, true) <= met(before, true), "{update:?}"),
            Switch::Done(_) => assert_eq!(met(after, false), 0, "{update:?}"),
        }
    }
}

/// What the rules do by themselves gives no more slots the new spec than the canary has, before it is promoted, and
/// takes the old spec from none that has it.
fn keep_canary(before: &State, after: &State) {
    for (id, service) in &after.services {
        let Some(old) = before.services.get(id) else { continue };
        let (Some(canary), Some(update)) = (service.spec.canary, &service.update) else { continue };
        let is_bound = matches!(update.state, UpdateState::Updating | UpdateState::Held)
            && old.update.as_ref().is_some_and(|old| old.number == update.number)
            && !update.promoted
            && service.spec_version != service.previous_version;
        let ServiceMode::Replicated { replicas } = service.spec.mode else { continue };
        if !is_bound {
            continue;
        }
        let new = |state: &State| {
            let tasks = state.tasks.values().filter(|task| task.id.service == *id);
            let wanted = tasks.filter(|task| task.desired <= TaskState::Running);
            let new = wanted.filter(|task| task.spec_version == service.spec_version);
            new.map(|task| task.id.slot).collect::<std::collections::BTreeSet<Slot>>().len()
        };
        let most = canary.slots(replicas as usize);
        assert!(
            new(after) <= most.max(new(before)),
            "{replicas} replicas, {} run the new spec: {update:?}",
            new(after)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever fails, and whoever takes places: no update takes more away than its policy allows, each ends, and one
    /// that ended well left only tasks of the spec in force. A restored snapshot is the same state.
    #[test]
    fn updates_keep_their_promise_and_end(steps in prop::collection::vec(step(), 1..60)) {
        let mut updates = Updates::new();
        updates.step(&Step::Deploy("web:replicas=4,image=1".to_owned()));
        for step in &steps {
            updates.step(step);
        }
        let restored = State::from_bytes(&updates.history.state.to_bytes()).unwrap();
        prop_assert_eq!(restored.to_bytes(), updates.history.state.to_bytes());
        prop_assert_eq!(&restored.index.unsettled, &updates.history.state.index.unsettled);
        prop_assert_eq!(&restored.index.counts, &updates.history.state.index.counts);
        updates.step(&Step::Rush(0));
        for node in 1..=4 {
            updates.step(&Step::Return(node));
            updates.step(&Step::Drain(node, false));
        }
        for _ in 0..600 {
            let Some(service) = updates.service() else { break };
            if service.update.as_ref().is_none_or(|update| !update.state.is_open()) {
                break;
            }
            if service.update.as_ref().is_some_and(|update| update.state == UpdateState::Held) {
                updates.step(&Step::Promote);
            }
            updates.step(&Step::Obey(u8::MAX));
            updates.step(&Step::Wait(1_500));
        }
        let service = updates.service().unwrap();
        if let Some(update) = &service.update {
            prop_assert!(!update.state.is_open(), "it never ends: {:?}", update);
            let current = |task: &Task| task.spec_version == service.spec_version;
            let mut wanted = updates.history.state.tasks.values().filter(|t| t.desired <= TaskState::Running);
            let kept = update.state.is_paused() || update.failures > 0;
            prop_assert!(kept || wanted.all(|task| current(task)));
        }
    }
}
