//! When a deploy counts as done.

use swarm_proto::id::{ServiceId, Timestamp};
use swarm_proto::object::{
    Availability, JobRun, NodeStatus, RunState, Switch, TaskState, UpdateState, UpdateStatus,
};
use swarm_proto::spec::{
    Concurrency, Dependency, JobSchedule, MissedRuns, RestartCondition, ServiceMode,
};
use swarmctl::convergence::{ServiceProgress, of_node, of_service, of_stack};
use swarmctl::state::State;

use crate::objects::{service, state, task};

/// The counter with all its tasks running.
fn running() -> State {
    let mut state = state();
    state.tasks.clear();
    let tasks = [
        task(1, 1, 1, TaskState::Running),
        task(1, 2, 1, TaskState::Running),
        task(1, 3, 1, TaskState::Running),
        task(2, 1, 1, TaskState::Running),
    ];
    state.tasks.extend(tasks.map(|task| (task.id, task)));
    for node in state.nodes.values_mut() {
        node.status = NodeStatus::Ready;
        node.availability = Availability::Active;
    }
    state
}

fn web(state: &State) -> ServiceProgress {
    of_service(state, &state.services.values().next().unwrap().clone())
}

#[test]
fn all_running_is_done() {
    let state = running();
    assert!(of_stack(&state, "counter").iter().all(ServiceProgress::is_converged));
    assert_eq!(web(&state).words(), "3 of 3 running");
}

#[test]
fn an_empty_slot_is_owed_and_says_why() {
    let progress = web(&state());
    assert!(!progress.is_converged());
    assert_eq!((progress.done, progress.wanted), (2, 3));
    let (task, why) = &progress.stuck[0];
    assert_eq!(task, "counter_web.3");
    assert!(why.starts_with("pending: no suitable node"), "{why}");
}

#[test]
fn old_tasks_must_go() {
    let mut state = running();
    let service = state.services.values_mut().next().unwrap();
    service.spec_version = 2;
    let progress = web(&state);
    assert_eq!((progress.done, progress.leaving), (0, 3));
    for slot in 1..=3 {
        let mut task = task(1, slot, 2, TaskState::Running);
        task.spec_version = 2;
        state.tasks.insert(task.id, task);
    }
    let progress = web(&state);
    assert_eq!((progress.done, progress.leaving), (3, 3));
    assert_eq!(progress.words(), "3 of 3 running, 3 stopping");
    for task in state.tasks.values_mut().filter(|task| task.spec_version == 1) {
        task.desired = TaskState::Shutdown;
        task.status.state = TaskState::Shutdown;
    }
    assert!(web(&state).is_converged());
}

#[test]
fn a_task_above_the_number_must_go() {
    let mut state = running();
    let mut extra = task(1, 4, 1, TaskState::Running);
    extra.node = Some(swarm_proto::id::NodeId(1));
    state.tasks.insert(extra.id, extra);
    assert_eq!(web(&state).leaving, 1);
}

#[test]
fn a_lost_node_owes_a_replacement_but_no_end() {
    let mut state = running();
    state.nodes.values_mut().next().unwrap().status = NodeStatus::Down;
    let progress = web(&state);
    assert_eq!((progress.done, progress.leaving), (2, 0));
    let replacement = task(1, 1, 2, TaskState::Running);
    let mut replacement =
        swarm_proto::object::Task { node: Some(swarm_proto::id::NodeId(2)), ..replacement };
    replacement.spec_version = 1;
    state.tasks.insert(replacement.id, replacement);
    assert!(web(&state).is_converged());
}

#[test]
fn one_shots_count_when_complete() {
    let mut state = running();
    for task in state.tasks.values_mut() {
        task.status.state = TaskState::Complete;
    }
    assert_eq!(web(&state).done, 0);
    for service in state.services.values_mut() {
        service.spec.restart.condition = RestartCondition::OnFailure;
    }
    assert!(web(&state).is_converged());
}

#[test]
fn a_failure_without_restart_is_final() {
    let mut state = running();
    let task = state.tasks.values_mut().next().unwrap();
    task.status.state = TaskState::Failed;
    task.status.exit_code = Some(3);
    assert_eq!(web(&state).lost, None);
    for service in state.services.values_mut() {
        service.spec.restart.condition = RestartCondition::None;
    }
    assert_eq!(
        web(&state).lost,
        Some(("task `counter_web.1`".to_owned(), "exit code 3".to_owned()))
    );
}

#[test]
fn a_global_service_wants_each_eligible_node() {
    let mut state = running();
    state.tasks.clear();
    let mut global = service(1, "web");
    global.spec.mode = ServiceMode::Global;
    state.services.insert(global.id, global);
    assert_eq!(web(&state).wanted, 3);
    let last = state.nodes.values_mut().last().unwrap();
    last.labels.insert("zone".to_owned(), "C".to_owned());
    assert_eq!(web(&state).wanted, 2, "constraints compare without case");
}

#[test]
fn a_service_that_goes_is_owed_until_it_is_gone() {
    let mut state = running();
    state.services.values_mut().next().unwrap().removing = true;
    assert_eq!(web(&state).words(), "being removed, 3 stopping");
    state.tasks.retain(|id, _| id.service.0 != 1);
    assert!(!web(&state).is_converged());
    assert_eq!(web(&state).words(), "being removed");
}

/// The counter's web service as a job of three completions, two at a time, with one run.
fn job(state: &mut State, run: RunState) {
    let service = state.services.values_mut().next().unwrap();
    service.spec.mode = ServiceMode::ReplicatedJob { total: 3, max_concurrent: 2 };
    let is_over = run != RunState::Running;
    service.runs.started = 1;
    service.runs.list = vec![JobRun {
        number: 1,
        scheduled_at: None,
        started_at: Timestamp(1),
        ended_at: is_over.then_some(Timestamp(2)),
        state: run,
        message: if run == RunState::Failed {
            "task counter_web.2: exit code 3".into()
        } else {
            String::new()
        },
        spec_version: 1,
        total: Some(3),
        slots_after: 0,
        completed: if is_over { 2 } else { 0 },
        failed: u32::from(run == RunState::Failed),
        one_off: false,
        command: None,
    }];
    for task in state.tasks.values_mut().filter(|task| task.id.service == ServiceId(1)) {
        task.run = Some(1);
    }
}

#[test]
fn a_job_is_done_once_its_run_is_complete() {
    let mut state = running();
    job(&mut state, RunState::Running);
    let progress = web(&state);
    assert_eq!((progress.done, progress.wanted), (0, 3));
    assert_eq!(progress.words(), "0 of 3 completed");
    for task in state.tasks.values_mut().filter(|task| task.run == Some(1)) {
        task.status.state = TaskState::Complete;
    }
    // Not before the run itself says so.
    assert!(!web(&state).is_converged());
    job(&mut state, RunState::Complete);
    assert!(web(&state).is_converged());
    job(&mut state, RunState::Stopped);
    assert!(web(&state).is_converged());
    // The run of an older spec counts for nothing.
    state.services.values_mut().next().unwrap().spec_version = 2;
    assert!(!web(&state).is_converged());
}

#[test]
fn a_job_that_failed_ends_the_wait() {
    let mut state = running();
    job(&mut state, RunState::Failed);
    let why = ("job `counter_web`".to_owned(), "task counter_web.2: exit code 3".to_owned());
    assert_eq!(web(&state).lost, Some(why));
    // One whose task is never started again need not wait for the others.
    job(&mut state, RunState::Running);
    let task = state.tasks.values_mut().find(|task| task.run == Some(1)).unwrap();
    task.status.state = TaskState::Failed;
    task.status.exit_code = Some(3);
    assert_eq!(web(&state).lost, None);
    state.services.values_mut().next().unwrap().spec.restart.condition = RestartCondition::None;
    let why = ("task `counter_web.1`".to_owned(), "exit code 3".to_owned());
    assert_eq!(web(&state).lost, Some(why));
}

#[test]
fn a_scheduled_job_owes_nothing() {
    let mut state = running();
    job(&mut state, RunState::Running);
    let service = state.services.values_mut().next().unwrap();
    service.spec.schedule = Some(JobSchedule {
        expression: "@daily".into(),
        time_zone: JobSchedule::TIME_ZONE.into(),
        missed: MissedRuns::default(),
        concurrency: Concurrency::default(),
    });
    assert!(web(&state).is_converged());
}

/// The counter, whose first service's update stands so.
fn updated(state: UpdateState) -> State {
    let mut found = running();
    let service = found.services.values_mut().next().unwrap();
    let update = UpdateStatus::begin(1, state, 3, Timestamp(1));
    service.update = Some(update.finish(state, "why".to_owned(), Timestamp(2)));
    found
}

#[test]
fn an_update_is_waited_for_until_its_last_task_was_watched() {
    let progress = web(&updated(UpdateState::Updating));
    assert!(!progress.is_converged());
    assert_eq!(progress.words(), "3 of 3 running, watched");
    assert_eq!(progress.failed, None);
    let progress = web(&updated(UpdateState::Completed));
    assert!(progress.is_converged());
    assert_eq!(progress.failed, None);
}

#[test]
fn an_update_that_holds_with_its_canary_is_not_waited_for() {
    let mut state = updated(UpdateState::Held);
    let web_service = state.services.values_mut().next().unwrap();
    web_service.spec_version = 2;
    let (id, name) = (web_service.id, web_service.name());
    let first = state.tasks.values_mut().find(|task| task.id.service == id).unwrap();
    first.spec_version = 2;
    let progress = web(&state);
    assert!(progress.is_converged(), "{progress:#?}");
    assert_eq!(progress.failed, None);
    let holds = format!("holds at 1 of 3 until `swarmctl promote {name}`");
    assert_eq!(progress.words(), format!("3 of 3 running, {holds}"));
    // Nor is what waits for it: a service whose update comes later, or one that goes.
    let mut needs = state.services[&id].clone();
    needs.id = ServiceId(99);
    needs.key = "api".to_owned();
    needs.update = Some(UpdateStatus::begin(1, UpdateState::Updating, 3, Timestamp(1)));
    needs.spec.depends_on = vec![Dependency::started(&state.services[&id].key)];
    let stack = needs.stack.clone();
    state.services.insert(needs.id, needs);
    let api = of_stack(&state, &stack).into_iter().find(|one| one.key == "api").unwrap();
    assert!(api.is_converged(), "{api:#?}");
    assert!(api.words().ends_with("waits for an update that holds"), "{}", api.words());
}

#[test]
fn a_blue_green_update_is_waited_for_until_it_holds_after_its_switch() {
    let mut state = updated(UpdateState::Updating);
    let web_service = state.services.values_mut().next().unwrap();
    web_service.spec_version = 2;
    web_service.update.as_mut().unwrap().switch = Switch::Due;
    let (id, name) = (web_service.id, web_service.name());
    for slot in 1..=3 {
        let mut new = task(1, slot, 2, TaskState::Running);
        (new.spec_version, new.standby) = (2, true);
        state.tasks.insert(new.id, new);
    }
    let progress = web(&state);
    assert_eq!((progress.done, progress.leaving), (0, 0), "the old ones serve, and nobody else");
    assert!(!progress.is_converged());
    let update = state.services.get_mut(&id).unwrap().update.as_mut().unwrap();
    (update.state, update.switch) = (UpdateState::Held, Switch::Done(Timestamp(3)));
    for task in state.tasks.values_mut().filter(|task| task.id.service == id) {
        task.standby = task.spec_version == 1;
    }
    let progress = web(&state);
    assert!(progress.is_converged(), "{progress:#?}");
    let holds = format!("3 of 3 running, old tasks stand by until `swarmctl promote {name}`");
    assert_eq!(progress.words(), holds);
}

#[test]
fn an_update_that_stopped_or_was_taken_back_has_failed() {
    let mut state = updated(UpdateState::Paused);
    // Slots that it has not come to run what they ran.
    state.services.values_mut().next().unwrap().spec_version = 2;
    let progress = web(&state);
    assert_eq!((progress.done, progress.leaving), (3, 0));
    assert_eq!(progress.failed.as_deref(), Some("why"));
    assert_eq!(progress.words(), "3 of 3 running, update paused");
    let mut state = updated(UpdateState::RollbackCompleted);
    assert_eq!(
        web(&state).failed.as_deref(),
        Some("why"),
        "by itself: nothing is left to go back to"
    );
    let service = state.services.values_mut().next().unwrap();
    service.previous = Some(Box::new(service.spec.clone()));
    assert_eq!(web(&state).failed, None, "by hand");
}

#[test]
fn a_node_that_drains_owes_its_tasks_and_says_why_they_stay() {
    let mut state = running();
    let node = state.nodes.values().next().unwrap().clone();
    for task in state.tasks.values_mut() {
        task.node = Some(node.id);
    }
    assert_eq!(of_node(&state, &node).words(), "4 tasks are left");
    let mut next = task(1, 1, 2, TaskState::Pending);
    next.node = None;
    next.status.message = "no suitable node: n1 is drained".to_owned();
    state.tasks.insert(next.id, next);
    let stuck = of_node(&state, &node).stuck;
    let why = "its successor is pending: no suitable node: n1 is drained";
    assert_eq!(stuck, [("counter_web.1".to_owned(), why.to_owned())]);
    for task in state.tasks.values_mut().filter(|task| task.node.is_some()).skip(1) {
        task.status.state = TaskState::Shutdown;
    }
    assert_eq!(of_node(&state, &node).words(), "1 task is left");
    assert!(!of_node(&state, &node).is_converged());
    for task in state.tasks.values_mut().filter(|task| task.node.is_some()) {
        task.status.state = TaskState::Failed;
    }
    assert!(of_node(&state, &node).is_converged());
}
