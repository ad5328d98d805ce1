//! Whether a stack is as its specs say: what runs, what is still missing, and why.

mod job;
mod node;

use std::collections::{BTreeMap, BTreeSet};

use swarm_proto::id::Slot;
use swarm_proto::object::{
    Availability, Node, NodeStatus, Service, Switch, Task, TaskState, UpdateState,
};
use swarm_proto::spec::{RestartCondition, ServiceMode};

use crate::state::State;
pub use job::{RunProgress, of_run};
pub use node::of_node;

/// What a progress is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A service whose tasks shall run.
    Service,
    /// One whose tasks shall complete.
    Job,
    /// A node whose tasks shall go.
    Node,
}

/// How far one service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceProgress {
    /// Its key in the file.
    pub key: String,
    /// Places that should have a running (or complete) task.
    pub wanted: usize,
    /// Places that have one of the current spec.
    pub done: usize,
    /// Tasks that still have to go.
    pub leaving: usize,
    /// The service itself is being removed.
    pub removing: bool,
    /// The service will be removed once the others of its stack run.
    pub goes_later: bool,
    /// Why places are empty: task name and reason, most telling first.
    pub stuck: Vec<(String, String)>,
    /// A task or job that ended badly and is never replaced, and why: nothing is to be waited for.
    pub lost: Option<(String, String)>,
    /// What it is about.
    pub what: What,
    /// Where its update stands, while it has not ended well.
    pub update: Option<UpdateState>,
    /// Why its update, or the rollback after it, did not end well.
    pub failed: Option<String>,
    /// What its update waits for, where it holds with its canary: nothing more is to be waited for.
    pub holds: Option<String>,
    /// It waits for the update of another service of its stack, which holds.
    pub is_behind: bool,
}

impl ServiceProgress {
    /// A service of which nothing is wanted.
    pub fn of_nothing(key: &str) -> Self {
        Self {
            key: key.to_owned(),
            wanted: 0,
            done: 0,
            leaving: 0,
            removing: false,
            goes_later: false,
            stuck: Vec::new(),
            lost: None,
            what: What::Service,
            update: None,
            failed: None,
            holds: None,
            is_behind: false,
        }
    }

    /// Whether nothing is owed before somebody decides.
    pub fn is_converged(&self) -> bool {
        if self.is_behind && !self.removing {
            return true;
        }
        let moves = self.update.is_some_and(UpdateState::is_under_way) || self.goes_later;
        self.done >= self.wanted && self.leaving == 0 && !self.removing && !moves
    }

    /// In words: `2 of 3 running, 1 stopping`.
    pub fn words(&self) -> String {
        if self.what == What::Node {
            return match self.leaving {
                1 => "1 task is left".to_owned(),
                left => format!("{left} tasks are left"),
            };
        }
        if self.removing {
            return match self.leaving {
                0 => "being removed".to_owned(),
                leaving => format!("being removed, {leaving} stopping"),
            };
        }
        if self.goes_later {
            return "goes once the others run".to_owned();
        }
        let leaving = match self.leaving {
            0 => String::new(),
            leaving => format!(", {leaving} stopping"),
        };
        let verb = if self.what == What::Job { "completed" } else { "running" };
        if let Some(holds) = &self.holds {
            return format!("{} of {} {verb}{leaving}, {holds}", self.done, self.wanted);
        }
        let update = match self.update {
            _ if self.is_behind => ", waits for an update that holds",
            Some(state) if !state.is_under_way() => ", update paused",
            // The tasks that are left to exchange say so.
            _ if self.done < self.wanted || self.leaving > 0 => "",
            Some(_) => ", watched",
            None => "",
        };
        format!("{} of {} {verb}{leaving}{update}", self.done, self.wanted)
    }
}

/// How far each service of a stack is, in the order of their names.
pub fn of_stack(state: &State, stack: &str) -> Vec<ServiceProgress> {
    let leaving = state.stacks.get(stack).map(|stack| &stack.leaving.services);
    let goes_later = |key: &String| leaving.is_some_and(|leaving| leaving.contains(key));
    let services = state.services_of(stack);
    let behind = behind(&services);
    let of_service = |service: &Service| {
        let goes_later = goes_later(&service.key);
        let waits = behind.contains(service.key.as_str()) || goes_later && !behind.is_empty();
        let is_behind = waits && !is_in(service, UpdateState::Held);
        ServiceProgress { goes_later, is_behind, ..of_service(state, service) }
    };
    services.into_iter().map(of_service).collect()
}

/// The services of a stack whose updates wait for one that holds, and it.
fn behind<'a>(services: &[&'a Service]) -> BTreeSet<&'a str> {
    let holds = |service: &&&Service| is_in(service, UpdateState::Held);
    let held: BTreeSet<&str> = services.iter().filter(holds).map(|one| one.key.as_str()).collect();
    let mut found = held.clone();
    loop {
        let waits = |service: &&&Service| {
            let mut needed = service.spec.depends_on.iter();
            is_in(service, UpdateState::Updating)
                && !found.contains(service.key.as_str())
                && needed.any(|needed| found.contains(needed.service.as_str()))
        };
        let more: Vec<&str> = services.iter().filter(waits).map(|one| one.key.as_str()).collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

fn is_in(service: &Service, state: UpdateState) -> bool {
    service.update.as_ref().is_some_and(|update| update.state == state)
}

/// What an update waits for that holds with its canary.
pub fn holds(state: &State, service: &Service) -> Option<String> {
    if !is_in(service, UpdateState::Held) {
        return None;
    }
    if service.update.as_ref().is_some_and(|update| update.switch != Switch::None) {
        return Some(format!("old tasks stand by until `swarmctl promote {}`", service.name()));
    }
    let wanted = |task: &&Task| {
        task.desired <= TaskState::Running && !matches!(task.id.slot, Slot::OneOff(_))
    };
    let slots = |tasks: Vec<&Task>| -> BTreeSet<Slot> {
        tasks.into_iter().map(|task| task.id.slot).collect()
    };
    let tasks: Vec<&Task> = state.tasks_of(service.id).filter(wanted).collect();
    let is_new = |task: &&Task| task.spec_version == service.spec_version;
    let new = slots(tasks.iter().copied().filter(is_new).collect()).len();
    let all = slots(tasks).len();
    Some(format!("holds at {new} of {all} until `swarmctl promote {}`", service.name()))
}

/// How far one service is.
pub fn of_service(state: &State, service: &Service) -> ServiceProgress {
    if service.spec.mode.is_job() {
        return job::of_service(state, service);
    }
    let slots = if service.removing { BTreeSet::new() } else { wanted_slots(state, service) };
    let mut by_slot: BTreeMap<Slot, Vec<&Task>> = BTreeMap::new();
    for task in state.tasks_of(service.id) {
        by_slot.entry(task.id.slot).or_default().push(task);
    }
    let mut progress = ServiceProgress {
        wanted: slots.len(),
        removing: service.removing,
        update: unfinished(service),
        failed: failed(service),
        holds: holds(state, service),
        ..ServiceProgress::of_nothing(&service.key)
    };
    by_slot.retain(|slot, _| service.removing || !matches!(slot, Slot::OneOff(_)));
    for (slot, tasks) in &by_slot {
        let is_wanted = slots.contains(slot);
        let leaves = |task: &&&Task| {
            let stays = counts(service, task) || switches(service);
            let is_old = !is_wanted || !stays || task.desired > TaskState::Running;
            is_old && is_alive(state, task)
        };
        progress.leaving += tasks.iter().filter(leaves).count();
        if is_wanted && tasks.iter().any(|task| is_done(state, service, task)) {
            progress.done += 1;
        }
        if is_wanted && !tasks.iter().any(|task| is_done(state, service, task)) {
            progress.stuck.extend(stuck(state, tasks));
            progress.lost = progress.lost.or_else(|| lost(state, service, tasks));
        }
    }
    progress
}

/// Whether a service's update leads clients over at once: its old tasks stay until it says so.
fn switches(service: &Service) -> bool {
    let update = service.update.as_ref().filter(|update| update.state.is_under_way());
    update.is_some_and(|update| update.switch != Switch::None)
}

/// Where a service's update stands, unless it ended.
fn unfinished(service: &Service) -> Option<UpdateState> {
    let state = service.update.as_ref()?.state;
    (state.is_open() || state.is_paused()).then_some(state)
}

/// That a service's update is paused, or was taken back by itself: one that somebody rolled back could go forward again.
fn failed(service: &Service) -> Option<String> {
    let update = service.update.as_ref()?;
    let was_taken_back =
        update.state == UpdateState::RollbackCompleted && service.previous.is_none();
    (update.state.is_paused() || was_taken_back).then(|| update.message.clone())
}

/// Runs the current spec, or has done so to its end where that is enough.
fn is_done(state: &State, service: &Service, task: &Task) -> bool {
    let runs = task.status.state == TaskState::Running
        && task.desired == TaskState::Running
        && !task.standby
        && !task.status.is_unhealthy();
    let is_complete = task.status.state == TaskState::Complete
        && service.spec.restart.condition != RestartCondition::Any;
    counts(service, task) && (is_complete || runs && !on_lost_node(state, task))
}

/// Whether a task is of a spec that should run: while an update is paused or holds, also of the one before.
fn counts(service: &Service, task: &Task) -> bool {
    let stands = |state: UpdateState| state.is_paused() || state == UpdateState::Held;
    service.update.as_ref().is_some_and(|update| stands(update.state))
        || task.spec_version == service.spec_version
}

/// Is on a node that could still say that it ended.
fn is_alive(state: &State, task: &Task) -> bool {
    task.node.is_some() && !task.status.state.is_terminal() && !on_lost_node(state, task)
}

fn wanted_slots(state: &State, service: &Service) -> BTreeSet<Slot> {
    match service.spec.mode {
        ServiceMode::Replicated { replicas } => (1..=replicas).map(Slot::Replica).collect(),
        ServiceMode::ReplicatedJob { total, .. } => (1..=total).map(Slot::Replica).collect(),
        ServiceMode::Global | ServiceMode::GlobalJob => {
            let eligible = |node: &&Node| {
                node.status == NodeStatus::Ready
                    && node.availability == Availability::Active
                    && service.spec.placement.allows(node)
            };
            state.nodes.values().filter(eligible).map(|node| Slot::Node(node.id)).collect()
        }
    }
}

/// A task whose node is down says nothing any more.
fn on_lost_node(state: &State, task: &Task) -> bool {
    let node = task.node.and_then(|node| state.nodes.get(&node));
    node.is_some_and(|node| node.status == NodeStatus::Down)
}

/// The reason that the newest task of an empty place gives; while that one only starts, how the one before ended.
fn stuck(state: &State, tasks: &[&Task]) -> Option<(String, String)> {
    let is_telling =
        |task: &&&Task| !task.status.message.is_empty() && task.status.state != TaskState::Shutdown;
    let task = tasks.iter().rev().take(2).find(is_telling)?;
    let why = format!("{}: {}", task.status.state, task.status.message);
    Some((state.task_name(task), why))
}

/// A place whose task failed and that the restart policy leaves so.
fn lost(state: &State, service: &Service, tasks: &[&Task]) -> Option<(String, String)> {
    let task = tasks.last()?;
    let is_final = service.spec.restart.condition == RestartCondition::None
        && task.spec_version == service.spec_version
        && matches!(task.status.state, TaskState::Failed | TaskState::Rejected);
    if !is_final {
        return None;
    }
    Some((format!("task `{}`", state.task_name(task)), failure(task)))
}

/// How a task failed, in words.
fn failure(task: &Task) -> String {
    match (task.status.message.as_str(), task.status.exit_code) {
        ("", Some(code)) => format!("exit code {code}"),
        ("", None) => task.status.state.to_string(),
        (message, _) => message.to_owned(),
    }
}
