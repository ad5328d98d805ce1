//! What a task needs next. Pure: the loop of each task asks, does it, and asks again.
//!
//! Every step may run twice: after a crash of the agent the same question is asked of what is really there.

use std::time::Duration;

use swarm_proto::assignment::{TaskAssignment, Withdrawal};
use swarm_proto::id::Timestamp;
use swarm_proto::object::{HealthState, TaskState, TaskStatus};
use swarm_proto::spec::{RestartCondition, RestartPolicy};

use crate::lease::Standing;

/// The longest pause between restarts, unless the policy's own delay is longer.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// How long a stop waits for the word that no client is led to the task any more. Controllers wait for nodes at most
/// two seconds.
pub const WITHDRAWAL_LIMIT: Duration = Duration::from_secs(3);

/// What the controller wants of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// How far it shall come: `Ready`, `Running`, `Shutdown` or `Remove`.
    pub desired: TaskState,
    /// How long after the stop signal the kill comes.
    pub grace: Duration,
    /// For restarts without a controller.
    pub restart: RestartPolicy,
    /// Whether clients are still led to it.
    pub withdrawal: Option<Withdrawal>,
}

impl Wish {
    /// The wish in an assignment.
    pub fn of(task: &TaskAssignment) -> Self {
        Self {
            desired: task.desired,
            grace: task.container.stop_grace_period,
            restart: task.restart,
            withdrawal: task.withdrawal,
        }
    }
}

/// What is known of a task's container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// There is none.
    Absent,
    /// It is set up, its program does not run yet.
    Created,
    /// Its program runs.
    Running,
    /// Its program has ended.
    Exited,
}

/// Where a task stands on this host.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actual {
    /// As reported.
    pub status: TaskStatus,
    /// Its container.
    pub container: Presence,
    /// Its image is at hand.
    pub fetched: bool,
    /// Its volumes and networks stand.
    pub built: bool,
    /// When it was first told to end.
    pub told: Option<Timestamp>,
    /// When its stop began.
    pub stopping: Option<Timestamp>,
    /// Clients may wait for it, and it does not listen yet.
    pub awaited: bool,
    /// SIGKILL was sent.
    pub killed: bool,
    /// What its run needed is gone from the host.
    pub settled: bool,
    /// A controller has heard of its end.
    pub reported: bool,
    /// When this agent restarted it by itself.
    pub restarts: Vec<Timestamp>,
    /// Whether it may run, as far as that depends on the word of a leader.
    pub lease: Standing,
    /// It stops, or was stopped, because it might not run any longer.
    pub fenced: bool,
}

/// What to do next for one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Say that the task is known.
    Accept,
    /// Bring the image.
    Fetch,
    /// Set up volumes and networks.
    Build,
    /// Say that it could start at once.
    BecomeReady,
    /// Create the container if need be, and run its program.
    Start,
    /// Say that it runs: it was found running.
    BecomeRunning,
    /// Nothing, until the wish changes, the container ends or the time has come.
    Await(Option<Timestamp>),
    /// Do what comes before the stop signal, and send that.
    Stop,
    /// Send SIGKILL.
    Kill,
    /// Note how it ended, and take down what its run needed.
    Settle,
    /// Begin another attempt: no controller is there to replace the task.
    Restart,
    /// Remove every trace.
    Remove,
}

/// The next step.
pub fn next(wish: &Wish, actual: &Actual, now: Timestamp, cut_off: bool) -> Step {
    if actual.status.state.is_terminal() {
        return after_end(wish, actual, now, cut_off);
    }
    if wish.desired > TaskState::Running {
        return towards_end(wish, actual, now);
    }
    match actual.container {
        Presence::Exited => Step::Settle,
        // It stops because of its health, or because nobody says that it may go on.
        Presence::Running if actual.stopping.is_some() => towards_end(wish, actual, now),
        Presence::Running if actual.fenced => without_lease(actual),
        Presence::Running => while_running(wish, actual, now, cut_off),
        // It ran, and is gone without a record: the host went down.
        Presence::Absent if actual.status.state == TaskState::Running => Step::Settle,
        Presence::Absent | Presence::Created => towards_start(wish, actual),
    }
}

fn towards_start(wish: &Wish, actual: &Actual) -> Step {
    let state = actual.status.state;
    if state < TaskState::Accepted {
        return Step::Accept;
    }
    if !actual.fetched {
        return Step::Fetch;
    }
    if !actual.built {
        return Step::Build;
    }
    if state < TaskState::Ready {
        return Step::BecomeReady;
    }
    if wish.desired < TaskState::Running {
        return Step::Await(None);
    }
    // It may run elsewhere by now.
    if actual.lease != Standing::Valid {
        return Step::Await(None);
    }
    // A pause before a restart is the controller's to keep, who then wishes it to run: this host's clock may be wrong.
    Step::Start
}

/// What its health asks for. Without checks it is healthy as soon as it runs, and listens if clients wait for it.
fn while_running(wish: &Wish, actual: &Actual, now: Timestamp, cut_off: bool) -> Step {
    let runs = actual.status.state >= TaskState::Running;
    let Some(health) = &actual.status.health else {
        return if runs || actual.awaited { Step::Await(None) } else { Step::BecomeRunning };
    };
    match health.state {
        HealthState::Healthy if !runs => Step::BecomeRunning,
        HealthState::Starting | HealthState::Healthy => Step::Await(None),
        // No client was ever led to it.
        HealthState::Unhealthy if !runs => Step::Stop,
        HealthState::Unhealthy if cut_off || wish.withdrawal == Some(Withdrawal::Done) => {
            Step::Stop
        }
        HealthState::Unhealthy => at_latest(health.since, now),
    }
}

/// Stops once clients were given enough time to be led elsewhere. A time in the future is from before the clock was set
/// back.
fn at_latest(since: Timestamp, now: Timestamp) -> Step {
    let latest = since.after(WITHDRAWAL_LIMIT);
    if latest <= now || since > now { Step::Stop } else { Step::Await(Some(latest)) }
}

fn towards_end(wish: &Wish, actual: &Actual, now: Timestamp) -> Step {
    // One that does not run yet needs no time to stop: taking it down kills it.
    if actual.container != Presence::Running {
        return Step::Settle;
    }
    match actual.stopping {
        _ if actual.killed => Step::Await(None),
        _ if actual.lease == Standing::Overdue => Step::Kill,
        None if wish.withdrawal == Some(Withdrawal::UnderWay) => {
            at_latest(actual.told.unwrap_or(now), now)
        }
        None => Step::Stop,
        Some(since) if since.after(wish.grace) <= now => Step::Kill,
        Some(since) => Step::Await(Some(since.after(wish.grace))),
    }
}

/// It stops in the time that its lease leaves it: clients are not waited for.
fn without_lease(actual: &Actual) -> Step {
    match actual.lease {
        _ if actual.killed => Step::Await(None),
        Standing::Overdue => Step::Kill,
        Standing::Valid | Standing::Expired => Step::Stop,
    }
}

fn after_end(wish: &Wish, actual: &Actual, now: Timestamp, cut_off: bool) -> Step {
    if !actual.settled {
        return Step::Settle;
    }
    if wish.desired >= TaskState::Remove {
        return Step::Remove;
    }
    let may_run = actual.lease == Standing::Valid;
    if !cut_off || !may_run || actual.reported || wish.desired != TaskState::Running {
        return Step::Await(None);
    }
    match restart_at(&wish.restart, actual) {
        None => Step::Await(None),
        // One that ended in the future was noted before the clock was set back, perhaps by years.
        Some(time) if time > now && actual.status.since <= now => Step::Await(Some(time)),
        Some(_) => Step::Restart,
    }
}

/// When the policy restarts an ended task; `None` is never.
fn restart_at(policy: &RestartPolicy, actual: &Actual) -> Option<Timestamp> {
    let failed = actual.status.state != TaskState::Complete;
    let wanted = match policy.condition {
        RestartCondition::None => false,
        RestartCondition::OnFailure => failed,
        RestartCondition::Any => true,
    };
    let ended = actual.status.since;
    let counts = |time: &&Timestamp| policy.window.is_zero() || ended.since(**time) < policy.window;
    let recent = u32::try_from(actual.restarts.iter().filter(counts).count()).unwrap_or(u32::MAX);
    if !wanted || policy.max_attempts.is_some_and(|most| recent >= most) {
        return None;
    }
    let doubled = policy.delay.saturating_mul(1 << recent.min(10));
    Some(ended.after(doubled.min(policy.delay.max(LONGEST_PAUSE))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Presence::{Absent, Created, Exited, Running};
    use TaskState as S;
    use swarm_proto::object::TaskHealth;

    fn wish(desired: TaskState) -> Wish {
        let restart = RestartPolicy::default();
        Wish { desired, grace: Duration::from_secs(10), restart, withdrawal: None }
    }

    fn actual(state: TaskState, container: Presence) -> Actual {
        Actual {
            status: TaskStatus::new(state, Timestamp(1_000)),
            container,
            fetched: true,
            built: true,
            told: None,
            stopping: None,
            awaited: false,
            killed: false,
            settled: true,
            reported: false,
            restarts: Vec::new(),
            lease: Standing::Valid,
            fenced: false,
        }
    }

    const NOW: Timestamp = Timestamp(50_000);

    #[test]
    fn the_way_up() {
        let table = [
            (S::Assigned, Absent, false, false, Step::Accept),
            (S::Accepted, Absent, false, false, Step::Fetch),
            (S::Preparing, Absent, false, false, Step::Fetch),
            (S::Preparing, Absent, true, false, Step::Build),
            (S::Preparing, Absent, true, true, Step::BecomeReady),
            (S::Ready, Absent, true, true, Step::Start),
            (S::Ready, Absent, false, false, Step::Fetch),
            (S::Starting, Absent, true, true, Step::Start),
            (S::Starting, Created, true, true, Step::Start),
            (S::Starting, Running, false, false, Step::BecomeRunning),
            (S::Running, Running, false, false, Step::Await(None)),
            (S::Starting, Exited, false, false, Step::Settle),
            (S::Running, Exited, true, true, Step::Settle),
            (S::Running, Absent, false, false, Step::Settle),
        ];
        for (state, container, fetched, built, expected) in table {
            let actual = Actual { fetched, built, ..actual(state, container) };
            let step = next(&wish(S::Running), &actual, NOW, false);
            assert_eq!(step, expected, "{state} {container:?} {fetched} {built}");
        }
    }

    #[test]
    fn a_ready_task_waits_until_it_shall_run() {
        let ready = actual(S::Ready, Absent);
        assert_eq!(next(&wish(S::Ready), &ready, NOW, false), Step::Await(None));
        assert_eq!(next(&wish(S::Running), &ready, NOW, false), Step::Start);
    }

    #[test]
    fn the_way_down() {
        let running = actual(S::Running, Running);
        let stopping = Actual { stopping: Some(Timestamp(45_000)), ..running.clone() };
        let overdue = Actual { stopping: Some(Timestamp(40_000)), ..running.clone() };
        let killed = Actual { killed: true, ..overdue.clone() };
        let created = actual(S::Starting, Created);
        let table = [
            (&running, Step::Stop),
            (&stopping, Step::Await(Some(Timestamp(55_000)))),
            (&overdue, Step::Kill),
            (&killed, Step::Await(None)),
            (&created, Step::Settle),
            (&actual(S::Running, Exited), Step::Settle),
            (&actual(S::Ready, Absent), Step::Settle),
            (&actual(S::Assigned, Absent), Step::Settle),
        ];
        for desired in [S::Shutdown, S::Remove] {
            for (actual, expected) in &table {
                assert_eq!(next(&wish(desired), actual, NOW, false), *expected, "{actual:?}");
            }
        }
    }

    #[test]
    fn one_that_clients_may_wait_for_runs_once_it_listens() {
        let awaited = Actual { awaited: true, ..actual(S::Starting, Running) };
        assert_eq!(next(&wish(S::Running), &awaited, NOW, false), Step::Await(None));
        assert_eq!(next(&wish(S::Shutdown), &awaited, NOW, false), Step::Stop);
        let ended = Actual { container: Exited, ..awaited };
        assert_eq!(next(&wish(S::Running), &ended, NOW, false), Step::Settle);
    }

    fn checked(state: TaskState, health: HealthState) -> Actual {
        let mut actual = actual(state, Running);
        let since = Timestamp(49_000);
        actual.status.health = Some(TaskHealth { state: health, ..TaskHealth::starting(since) });
        actual
    }

    #[test]
    fn a_task_with_a_check_runs_once_it_is_healthy() {
        use HealthState::{Healthy, Starting, Unhealthy};
        let latest = Step::Await(Some(Timestamp(52_000)));
        let table = [
            (S::Starting, Starting, Step::Await(None)),
            (S::Starting, Healthy, Step::BecomeRunning),
            (S::Starting, Unhealthy, Step::Stop),
            (S::Running, Healthy, Step::Await(None)),
            (S::Running, Starting, Step::Await(None)),
            (S::Running, Unhealthy, latest),
        ];
        for (state, health, expected) in table {
            let step = next(&wish(S::Running), &checked(state, health), NOW, false);
            assert_eq!(step, expected, "{state} {health}");
        }
    }

    #[test]
    fn an_unhealthy_task_stops_once_no_client_is_led_to_it() {
        let sick = checked(S::Running, HealthState::Unhealthy);
        let told = |withdrawal| Wish { withdrawal: Some(withdrawal), ..wish(S::Running) };
        let under_way = next(&told(Withdrawal::UnderWay), &sick, NOW, false);
        assert_eq!(under_way, Step::Await(Some(Timestamp(52_000))));
        assert_eq!(next(&told(Withdrawal::Done), &sick, NOW, false), Step::Stop);
        assert_eq!(next(&wish(S::Running), &sick, Timestamp(52_000), false), Step::Stop, "long");
        assert_eq!(next(&wish(S::Running), &sick, Timestamp(1), false), Step::Stop, "set back");
        assert_eq!(next(&wish(S::Running), &sick, NOW, true), Step::Stop, "cut off");
        let stopping = Actual { stopping: Some(Timestamp(49_500)), ..sick.clone() };
        let until = Step::Await(Some(Timestamp(59_500)));
        assert_eq!(next(&wish(S::Running), &stopping, NOW, false), until, "its grace");
        let overdue = Actual { stopping: Some(Timestamp(40_000)), ..sick };
        assert_eq!(next(&wish(S::Running), &overdue, NOW, false), Step::Kill);
    }

    #[test]
    fn a_stop_waits_until_no_client_is_led_to_the_task() {
        let running = Actual { told: Some(Timestamp(49_000)), ..actual(S::Running, Running) };
        let told = |withdrawal| Wish { withdrawal, ..wish(S::Shutdown) };
        let under_way = told(Some(Withdrawal::UnderWay));
        let until = Step::Await(Some(Timestamp(52_000)));
        assert_eq!(next(&under_way, &running, NOW, false), until);
        assert_eq!(next(&under_way, &running, Timestamp(52_000), false), Step::Stop, "too long");
        assert_eq!(next(&told(Some(Withdrawal::Done)), &running, NOW, false), Step::Stop);
        assert_eq!(next(&told(None), &running, NOW, false), Step::Stop, "nobody says anything");
        let ready = actual(S::Ready, Absent);
        assert_eq!(next(&under_way, &ready, NOW, false), Step::Settle, "nobody was led there");
    }

    #[test]
    fn after_the_end() {
        let failed = actual(S::Failed, Absent);
        let unsettled = Actual { settled: false, ..failed.clone() };
        for desired in [S::Running, S::Shutdown, S::Remove] {
            assert_eq!(next(&wish(desired), &unsettled, NOW, true), Step::Settle);
        }
        assert_eq!(next(&wish(S::Remove), &failed, NOW, true), Step::Remove);
        assert_eq!(next(&wish(S::Shutdown), &failed, NOW, true), Step::Await(None));
        assert_eq!(next(&wish(S::Running), &failed, NOW, false), Step::Await(None));
    }

    #[test]
    fn cut_off_the_agent_restarts_by_policy() {
        let failed = actual(S::Failed, Absent);
        let complete = actual(S::Complete, Absent);
        let policy = |condition, max_attempts| Wish {
            restart: RestartPolicy { condition, max_attempts, ..RestartPolicy::default() },
            ..wish(S::Running)
        };
        let any = policy(RestartCondition::Any, None);
        assert_eq!(next(&any, &failed, NOW, true), Step::Restart);
        assert_eq!(next(&any, &complete, NOW, true), Step::Restart);
        let early = Timestamp(2_000);
        assert_eq!(next(&any, &failed, early, true), Step::Await(Some(Timestamp(6_000))));
        assert_eq!(next(&any, &failed, Timestamp(999), true), Step::Restart, "set back");
        let heard = Actual { reported: true, ..failed.clone() };
        assert_eq!(next(&any, &heard, NOW, true), Step::Await(None), "the controller replaces it");

        let failures = policy(RestartCondition::OnFailure, Some(2));
        assert_eq!(next(&failures, &complete, NOW, true), Step::Await(None));
        assert_eq!(next(&failures, &failed, NOW, true), Step::Restart);
        let often = Actual { restarts: vec![Timestamp(100), Timestamp(900)], ..failed.clone() };
        assert_eq!(next(&failures, &often, NOW, true), Step::Await(None), "attempts are used up");
        let never = policy(RestartCondition::None, None);
        assert_eq!(next(&never, &failed, NOW, true), Step::Await(None));
    }

    #[test]
    fn without_a_lease_nothing_runs() {
        let with = |lease, actual: &Actual| Actual { lease, fenced: true, ..actual.clone() };
        let running = actual(S::Running, Running);
        let stopping = Actual { stopping: Some(Timestamp(45_000)), ..running.clone() };
        let killed = Actual { killed: true, ..stopping.clone() };
        let sick = Actual { status: unhealthy(&running), ..running.clone() };
        let table = [
            (&running, Standing::Expired, Step::Stop),
            (&running, Standing::Overdue, Step::Kill),
            (&sick, Standing::Expired, Step::Stop),
            (&stopping, Standing::Expired, Step::Await(Some(Timestamp(55_000)))),
            (&stopping, Standing::Overdue, Step::Kill),
            (&killed, Standing::Overdue, Step::Await(None)),
            // What began to stop has no way back.
            (&running, Standing::Valid, Step::Stop),
            (&stopping, Standing::Valid, Step::Await(Some(Timestamp(55_000)))),
        ];
        for (actual, lease, expected) in table {
            for cut_off in [false, true] {
                let actual = with(lease, actual);
                assert_eq!(next(&wish(S::Running), &actual, NOW, cut_off), expected, "{actual:?}");
            }
        }
        let told = with(Standing::Overdue, &stopping);
        assert_eq!(next(&wish(S::Shutdown), &told, NOW, false), Step::Kill);
        let ready = Actual { lease: Standing::Expired, ..actual(S::Ready, Absent) };
        assert_eq!(next(&wish(S::Running), &ready, NOW, false), Step::Await(None));
        let failed = Actual { lease: Standing::Expired, ..actual(S::Failed, Absent) };
        assert_eq!(next(&wish(S::Running), &failed, NOW, true), Step::Await(None));
    }

    fn unhealthy(actual: &Actual) -> TaskStatus {
        let health = TaskHealth::starting(NOW);
        let health = Some(TaskHealth { state: HealthState::Unhealthy, ..health });
        TaskStatus { health, ..actual.status.clone() }
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let mut pauses = Vec::new();
        for restarts in 0..6 {
            let actual =
                Actual { restarts: vec![Timestamp(0); restarts], ..actual(S::Failed, Absent) };
            let at = restart_at(&RestartPolicy::default(), &actual).unwrap();
            pauses.push(at.since(Timestamp(1_000)).as_secs());
        }
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
    }

    #[test]
    fn old_restarts_leave_the_window() {
        let restart = RestartPolicy {
            max_attempts: Some(1),
            window: Duration::from_millis(500),
            ..RestartPolicy::default()
        };
        let with = |times: &[u64]| Actual {
            restarts: times.iter().copied().map(Timestamp).collect(),
            ..actual(S::Failed, Absent)
        };
        assert!(restart_at(&restart, &with(&[100])).is_some());
        assert!(restart_at(&restart, &with(&[600])).is_none());
    }
}
