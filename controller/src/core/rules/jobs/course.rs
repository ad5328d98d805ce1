//! The course of one run: which of its places are done, which have to wait, and which get a task now.

use std::collections::BTreeMap;

use swarm_proto::entry::{Action, Counter, ObjectId};
use swarm_proto::id::{NodeId, Slot, Timestamp};
use swarm_proto::object::{
    Availability, JobRun, Node, NodeStatus, RunState, Service, Task, TaskState,
};
use swarm_proto::spec::{RestartCondition, RestartPolicy, ServiceMode};

use super::super::Plan;
use super::super::restart::{delay, ended_at, may_restart, release};
use super::super::slot::{Next, SlotView, next_task, stop, stop_task};
use super::end;
use crate::core::state::{State, Stored, is_one_off, stays_open};

/// New tasks of one run in one pass: more come with the next.
const NEW_TASKS: usize = 500;

/// How far one place of a run is.
enum Place<'a> {
    /// Has no task of this run, or one that was stopped or lost.
    Empty,
    /// Its task is not over.
    Busy(&'a Stored<Task>),
    /// A task completed here.
    Done,
    /// Its task failed, and another one follows.
    Failed(&'a Stored<Task>),
    /// Its task failed, and that was the last one.
    GaveUp(String),
}

/// How far all places of a run are.
#[derive(Default)]
struct Tally<'a> {
    done: u32,
    gave_up: u32,
    /// Why the first of them did.
    reason: String,
    /// Places with a task of this run that is not over.
    busy: usize,
    /// Tasks of other runs, or stopped ones, that are not over: none starts in addition to them.
    others: usize,
    /// Places whose former task is still there: the next one waits for its end.
    held: Vec<(Slot, Option<&'a Stored<Task>>)>,
    /// Places that get one when there is room, those first that had one.
    failed: Vec<(Slot, Option<&'a Stored<Task>>)>,
    empty: Vec<(Slot, Option<&'a Stored<Task>>)>,
}

/// Everything that is known of a run.
struct Course<'a> {
    state: &'a State,
    service: &'a Service,
    run: &'a JobRun,
    slots: &'a BTreeMap<Slot, SlotView<'a>>,
    policy: RestartPolicy,
    now: Timestamp,
}

pub(super) fn advance(
    state: &State,
    service: &Service,
    run: &JobRun,
    slots: &BTreeMap<Slot, SlotView<'_>>,
    now: Timestamp,
    plan: &mut Plan,
) {
    let never = RestartPolicy { condition: RestartCondition::None, ..service.spec.restart };
    let policy = if run.one_off { never } else { service.spec.task_restart() };
    let course = Course { state, service, run, slots, policy, now };
    if run.is_active() {
        course.advance(plan);
    } else if stays_open(service, run) {
        course.take_up(plan);
    }
}

impl Course<'_> {
    fn advance(&self, plan: &mut Plan) {
        let places = self.places();
        let tally = self.tally(&places, plan);
        let over = tally.done + tally.gave_up;
        if !places.is_empty() && over as usize == places.len() {
            return self.finish(&tally, plan);
        }
        let room = self.most_at_once().saturating_sub(tally.busy);
        let held = tally.held.iter().take(room);
        let fresh = tally.failed.iter().chain(&tally.empty).take(room.saturating_sub(tally.others));
        for (slot, failed) in held.chain(fresh).take(NEW_TASKS) {
            self.give_task(*slot, *failed, plan);
        }
    }

    /// Goes on with a run on all nodes when there is one that has not had it.
    fn take_up(&self, plan: &mut Plan) {
        let is_new = |slot: &Slot| matches!(self.place(*slot), Place::Empty);
        if self.places().iter().any(is_new) {
            let read = [(ObjectId::Service(self.service.id), Counter::Spec)];
            let again = end(self.service, self.run, RunState::Running, String::new(), (0, 0));
            plan.add(self.state, &read, vec![again]);
        }
    }

    fn places(&self) -> Vec<Slot> {
        let run = self.run;
        if run.one_off {
            return u32::try_from(run.number).map(Slot::OneOff).into_iter().collect();
        }
        if let Some(total) = run.total {
            let first = run.slots_after.saturating_add(1);
            return (first..first.saturating_add(total)).map(Slot::Replica).collect();
        }
        let keeps_task = |node: NodeId| {
            let view = self.slots.get(&Slot::Node(node));
            let newest = view.and_then(SlotView::newest);
            newest.is_some_and(|task| {
                task.run == Some(run.number)
                    && task.desired <= TaskState::Running
                    && !task.status.state.is_terminal()
            })
        };
        let nodes = self.state.nodes.values();
        let wanted = nodes.filter(|node| is_eligible(self.service, node) || keeps_task(node.id));
        wanted.map(|node| Slot::Node(node.id)).collect()
    }

    fn most_at_once(&self) -> usize {
        match self.service.spec.mode {
            ServiceMode::ReplicatedJob { max_concurrent, .. } if !self.run.one_off => {
                max_concurrent as usize
            }
            _ => usize::MAX,
        }
    }

    fn place(&self, slot: Slot) -> Place<'_> {
        let history = self.state.history((self.service.id, slot));
        let is_own = history.run == Some(self.run.number);
        if is_own && history.is_complete {
            return Place::Done;
        }
        let newest = self.slots.get(&slot).and_then(SlotView::newest);
        let newest = newest.filter(|task| task.run == Some(self.run.number));
        match newest.filter(|task| task.desired <= TaskState::Running) {
            // Whether a one-off task did its work is for a person to judge: it is never repeated.
            None if self.run.one_off && is_own => {
                Place::GaveUp("its task was stopped or lost with its node".to_owned())
            }
            None => Place::Empty,
            Some(task) if !task.status.state.is_terminal() => Place::Busy(task),
            Some(task) if may_restart(&self.policy, task, &history, self.now) => {
                Place::Failed(task)
            }
            Some(task) => Place::GaveUp(self.reason(task)),
        }
    }

    fn reason(&self, task: &Task) -> String {
        let name = self.state.task_name(task.id);
        match (task.status.message.as_str(), task.status.exit_code) {
            ("", Some(code)) => format!("task {name}: exit code {code}"),
            ("", None) => format!("task {name}: {}", task.status.state),
            (message, _) => format!("task {name}: {message}"),
        }
    }

    fn tally(&self, places: &[Slot], plan: &mut Plan) -> Tally<'_> {
        let mut tally = Tally { others: self.strangers(), ..Tally::default() };
        for slot in places.iter().copied() {
            let view = self.slots.get(&slot);
            let is_alive = view.is_some_and(SlotView::is_alive);
            let place = self.place(slot);
            let is_busy = matches!(place, Place::Busy(_));
            tally.busy += usize::from(is_busy);
            tally.others += usize::from(is_alive && !is_busy);
            let failed = match place {
                Place::Done => {
                    tally.done += 1;
                    self.stop_successor(view, plan);
                    continue;
                }
                Place::GaveUp(reason) => {
                    if tally.gave_up == 0 {
                        tally.reason = reason;
                    }
                    tally.gave_up += 1;
                    continue;
                }
                Place::Busy(task) => {
                    if let Some(view) = view.filter(|_| task.desired == TaskState::Ready) {
                        release(self.state, self.service, task, view, self.now, plan);
                    }
                    continue;
                }
                Place::Failed(task) => Some(task),
                Place::Empty => None,
            };
            match (is_alive, failed) {
                (true, _) => tally.held.push((slot, failed)),
                (false, Some(_)) => tally.failed.push((slot, failed)),
                (false, None) => tally.empty.push((slot, failed)),
            }
        }
        tally
    }

    /// A task that was told to stop may complete all the same: the one that was to follow it is not needed.
    fn stop_successor(&self, view: Option<&SlotView<'_>>, plan: &mut Plan) {
        let wanted = view.into_iter().flat_map(SlotView::wanted);
        for task in wanted.filter(|task| !task.status.state.is_terminal()) {
            let read = [(ObjectId::Task(task.id), Counter::Desired)];
            plan.add(self.state, &read, vec![stop_task(task)]);
        }
    }

    /// Tasks of runs that are over which are still being stopped, in slots that this run has no place in.
    fn strangers(&self) -> usize {
        let (after, total) = (self.run.slots_after, self.run.total.unwrap_or(0));
        let own = after.saturating_add(1)..=after.saturating_add(total);
        let is_place = |slot: &Slot| matches!(slot, Slot::Replica(n) if own.contains(n));
        let over = |task: &Task| {
            let run = task.run.and_then(|run| self.service.runs.get(run));
            run.is_none_or(|run| !run.is_active())
        };
        let others = self.slots.iter().filter(|(slot, _)| !is_place(slot));
        let tasks = others.flat_map(|(_, view)| view.tasks.iter());
        tasks
            .filter(|task| !task.status.state.is_terminal() && over(task) && !is_one_off(task))
            .count()
    }

    fn give_task(&self, slot: Slot, failed: Option<&Stored<Task>>, plan: &mut Plan) {
        let (state, service) = (self.state, self.service);
        let mut read = vec![(ObjectId::Service(service.id), Counter::Spec)];
        let view = self.slots.get(&slot);
        let held = view.is_some_and(SlotView::is_alive);
        let start_after = failed.and_then(|task| {
            let history = state.history((service.id, slot));
            let at = ended_at(task, &history).after(delay(&self.policy, history.failures));
            (at > self.now).then_some(at)
        });
        read.extend(failed.map(|task| (ObjectId::Task(task.id), Counter::Desired)));
        let mut actions: Vec<Action> = view.map(stop).unwrap_or_default();
        let next = Next {
            run: Some(self.run.number),
            start_after,
            held,
            ..Next::of_version(service.spec_version)
        };
        actions.push(next_task(state, service, slot, next, self.now));
        plan.add(state, &read, actions);
    }

    fn finish(&self, tally: &Tally<'_>, plan: &mut Plan) {
        let outcome = if tally.gave_up == 0 { RunState::Complete } else { RunState::Failed };
        let counts = (tally.done, tally.gave_up);
        let read = [(ObjectId::Service(self.service.id), Counter::Spec)];
        let over = end(self.service, self.run, outcome, tally.reason.clone(), counts);
        plan.add(self.state, &read, vec![over]);
    }
}

/// Whether a node gets a task of a job on all nodes.
fn is_eligible(service: &Service, node: &Node) -> bool {
    node.status == NodeStatus::Ready
        && node.availability == Availability::Active
        && service.spec.placement.allows(node)
}
