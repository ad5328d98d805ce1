//! The loop of one task: ask what is next, do it, ask again.

use std::sync::Arc;
use std::time::Duration;

use swarm_proto::assignment::TaskAssignment;
use swarm_proto::id::{TaskId, Timestamp};
use swarm_proto::object::{HealthState, TaskHealth, TaskState, TaskStatus};
use swarm_runtime::ExitRecord;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{Shared, actual};
use crate::clock;
use crate::executor::{Built, EndWatch, Found, TaskError};
use crate::health::Watch;
use crate::health::monitor::first_line;
use crate::image::Image;
use crate::journal::{Progress, Record};
use crate::lease::Standing;
use crate::step::{self, Actual, Presence, Step, Wish};

/// Between tries of what must succeed sometime: taking down and removing.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Between two words of how far an image is: each goes through the log of the controllers.
const TELL_FETCH: Duration = Duration::from_secs(10);
/// Restarts without a controller that are counted.
const COUNTED_RESTARTS: usize = 64;

/// Why a task ended that its host stopped by itself.
const FENCED: &str = "stopped by its host: no controller was in reach for too long";

/// One task on this host.
pub(super) struct TaskLoop {
    shared: Arc<Shared>,
    wish: watch::Receiver<Arc<TaskAssignment>>,
    task: Arc<TaskAssignment>,
    actual: Actual,
    image: Option<Arc<Image>>,
    built: Option<Built>,
    end: Option<EndWatch>,
    exit: Option<ExitRecord>,
    /// The checks of its health, while it runs and has some.
    checks: Option<Watch>,
    /// Ends when it listens, while that is waited for.
    listens: Option<AbortOnDropHandle<()>>,
    /// Why it cannot go on, before that has become its status.
    failure: Option<TaskError>,
    pause: Duration,
}

impl TaskLoop {
    /// A task that was just assigned.
    pub(super) fn new(
        shared: &Arc<Shared>,
        task: &Arc<TaskAssignment>,
    ) -> (Self, watch::Sender<Arc<TaskAssignment>>) {
        let status = TaskStatus::new(TaskState::Assigned, clock::now());
        let progress = Progress {
            status,
            stopping: None,
            reported: false,
            restarts: Vec::new(),
            fenced: false,
        };
        Self::with(shared, task, progress)
    }

    /// A task of an earlier agent: its container is taken over as it is found.
    pub(super) async fn resume(
        shared: &Arc<Shared>,
        task: &Arc<TaskAssignment>,
        progress: Option<Progress>,
    ) -> (Self, watch::Sender<Arc<TaskAssignment>>) {
        let Some(progress) = progress else { return Self::new(shared, task) };
        if progress.reported {
            shared.board.set_heard(task.id);
        }
        let status = progress.status.clone();
        let heard = progress.reported;
        let (mut this, wish) = Self::with(shared, task, progress);
        shared.board.set_status(task.id, status.clone());
        if heard {
            shared.board.set_heard(task.id);
        }
        if !status.state.is_terminal() {
            this.look().await;
        }
        if this.actual.container == Presence::Running {
            tracing::info!(task = %task.name, id = %task.id, "took over a running container");
            if let Err(error) = shared.executor.adopt(task, status.attempt).await {
                let error = error.sentence();
                tracing::warn!(task = %task.name, %error, "cannot take over its networks");
            }
            this.begin_checks().await;
        }
        (this, wish)
    }

    fn with(
        shared: &Arc<Shared>,
        task: &Arc<TaskAssignment>,
        progress: Progress,
    ) -> (Self, watch::Sender<Arc<TaskAssignment>>) {
        let (sender, wish) = watch::channel(Arc::clone(task));
        let this = Self {
            shared: Arc::clone(shared),
            wish,
            task: Arc::clone(task),
            actual: actual(progress),
            image: None,
            built: None,
            end: None,
            exit: None,
            checks: None,
            listens: None,
            failure: None,
            pause: FIRST_PAUSE,
        };
        (this, sender)
    }

    pub(super) fn id(&self) -> TaskId {
        self.task.id
    }

    /// Goes on until the task is gone from this host.
    pub(super) async fn run(mut self) {
        loop {
            self.task = Arc::clone(&self.wish.borrow_and_update());
            self.actual.reported = self.shared.board.is_heard(self.task.id);
            let cut_off = *self.shared.reach.cut_off.borrow();
            self.look_at_lease();
            if self.task.desired > TaskState::Running {
                self.actual.told.get_or_insert_with(clock::now);
            }
            let step = match self.failure {
                Some(_) if !self.actual.status.state.is_terminal() => Step::Settle,
                _ => step::next(&Wish::of(&self.task), &self.actual, clock::now(), cut_off),
            };
            if self.take(step).await {
                return;
            }
        }
    }

    /// Whether it may still run. What its lease stops, that has stopped also when a controller comes back meanwhile.
    fn look_at_lease(&mut self) {
        self.actual.lease = self.shared.reach.lease.standing(&self.task);
        let runs = self.actual.container == Presence::Running;
        if runs && self.actual.lease != Standing::Valid && !self.actual.fenced {
            tracing::warn!(task = %self.task.name, "stops: no controller was in reach for too long");
            self.actual.fenced = true;
        }
    }

    /// Does one step; true when it was the last.
    async fn take(&mut self, step: Step) -> bool {
        match step {
            Step::Accept => self.come_to(TaskState::Accepted),
            Step::Fetch => self.fetch().await,
            Step::Build => self.build().await,
            Step::BecomeReady => self.come_to(TaskState::Ready),
            Step::Start => self.start().await,
            Step::BecomeRunning => self.come_to(TaskState::Running),
            Step::Await(until) => self.wait(until).await,
            Step::Stop => self.stop().await,
            Step::Kill => self.kill().await,
            Step::Settle if self.actual.status.state.is_terminal() => self.settle().await,
            Step::Settle => self.conclude(),
            Step::Restart => self.restart(),
            Step::Remove => return self.remove().await,
        }
        false
    }

    fn come_to(&mut self, state: TaskState) {
        self.actual.status.state = state;
        self.actual.status.since = clock::now();
        self.report();
    }

    /// Writes the status down and reports it.
    fn report(&mut self) {
        let progress = Progress {
            status: self.actual.status.clone(),
            stopping: self.actual.stopping,
            reported: false,
            restarts: self.actual.restarts.clone(),
            fenced: self.actual.fenced,
        };
        self.shared.note(Record::Progress(self.task.id, progress));
        self.shared.board.set_status(self.task.id, self.actual.status.clone());
    }

    async fn fetch(&mut self) {
        if self.actual.status.state < TaskState::Preparing {
            self.come_to(TaskState::Preparing);
        }
        let (executor, task) = (Arc::clone(&self.shared.executor), Arc::clone(&self.task));
        let (mut fetching, before) = (executor.fetch(&task), self.actual.status.message.clone());
        let fetched = loop {
            tokio::select! {
                fetched = &mut fetching => break fetched,
                // The download goes on for others; this task is not wanted any more.
                () = unwanted(self.wish.clone()) => return,
                () = tokio::time::sleep(TELL_FETCH) => self.tell_fetch(executor.fetching(&task)),
            }
        };
        self.actual.status.message = before;
        match fetched {
            Ok(image) => (self.image, self.actual.fetched) = (Some(image), true),
            Err(error) => self.failure = Some(error),
        }
    }

    /// Says how far the image is; it is not worth the journal.
    fn tell_fetch(&mut self, so_far: Option<String>) {
        let status = &mut self.actual.status;
        if let Some(so_far) = so_far.filter(|text| *text != status.message) {
            status.message = so_far;
            self.shared.board.set_status(self.task.id, status.clone());
        }
    }

    async fn build(&mut self) {
        let Some(image) = &self.image else {
            self.actual.fetched = false;
            return;
        };
        let contents = self.shared.executor.assigned().contents();
        tokio::select! {
            () = contents.wait_for(&self.task.container) => {}
            () = unwanted(self.wish.clone()) => return,
        }
        match self.shared.executor.build(&self.task, image).await {
            Ok(built) => (self.built, self.actual.built) = (Some(built), true),
            Err(error) => self.failure = Some(error),
        }
    }

    async fn start(&mut self) {
        let (Some(image), Some(built)) = (self.image.clone(), self.built.take()) else {
            (self.actual.fetched, self.actual.built) = (self.image.is_some(), false);
            return;
        };
        if self.actual.status.state < TaskState::Starting {
            self.come_to(TaskState::Starting);
        }
        let attempt = self.actual.status.attempt;
        match self.shared.executor.start(&self.task, attempt, &image, built).await {
            Ok(found) => self.found(found),
            Err(error) => self.failure = Some(error),
        }
        // Only the start needs the image; the layers stay, of course.
        self.image = None;
        if self.actual.container == Presence::Running {
            self.begin_checks().await;
            match self.actual.status.health {
                None if !self.actual.awaited => self.come_to(TaskState::Running),
                _ => self.report(),
            }
        }
    }

    /// Looks at its health from now on, where somebody asked for that.
    async fn begin_checks(&mut self) {
        let check = self.shared.executor.health_check(&self.task).await;
        let status = &mut self.actual.status;
        let Some(check) = check.filter(|_| self.actual.stopping.is_none()) else {
            // The words of an earlier check explain why it stops.
            status.health = status.health.take().filter(|_| self.actual.stopping.is_some());
            return self.wait_for_listener();
        };
        let started = status.started_at.unwrap_or_else(clock::now);
        let mut begin = TaskHealth::starting(started);
        if status.state == TaskState::Running {
            begin.state = HealthState::Healthy;
        }
        let known = status.health.get_or_insert(begin).clone();
        let (executor, places) = (&self.shared.executor, &self.shared.checks);
        self.checks = Some(Watch::start(executor, places, &self.task, check, (known, started)));
    }

    /// Led to it before it listens, clients that wait would be refused.
    fn wait_for_listener(&mut self) {
        let begins = self.actual.status.state < TaskState::Running;
        self.actual.awaited =
            begins && self.actual.stopping.is_none() && wakes_on_connection(&self.task);
        if self.actual.awaited {
            let (executor, task) = (Arc::clone(&self.shared.executor), Arc::clone(&self.task));
            let listens = tokio::spawn(async move { executor.listens(&task).await });
            self.listens = Some(AbortOnDropHandle::new(listens));
        }
    }

    fn take_health(&mut self) {
        if let Some(checks) = &mut self.checks {
            self.actual.status.health = Some(checks.health());
            self.report();
        }
    }

    /// Takes in what there is of the container.
    fn found(&mut self, found: Found) {
        self.end = None;
        self.actual.container = match found {
            Found::Absent => Presence::Absent,
            Found::Created => Presence::Created,
            Found::Running { pid, started_at, end } => {
                self.actual.status.pid = Some(pid);
                self.actual.status.started_at = Some(Timestamp(started_at));
                self.end = Some(end);
                Presence::Running
            }
            Found::Exited(record) => {
                self.exit = Some(record);
                Presence::Exited
            }
        };
    }

    async fn look(&mut self) {
        let attempt = self.actual.status.attempt;
        match self.shared.executor.inspect(self.task.id, attempt).await {
            Ok(found) => self.found(found),
            Err(error) => {
                let error = error.sentence();
                tracing::warn!(task = %self.task.name, %error, "cannot look at its container");
                self.rest().await;
            }
        }
    }

    async fn wait(&mut self, until: Option<Timestamp>) {
        let status = &self.actual.status;
        let alone = status.state.is_terminal() || status.is_unhealthy();
        let is_over = status.state.is_terminal();
        let mut cut_off = self.shared.reach.cut_off.clone();
        let lease = &self.shared.reach.lease;
        let ended = tokio::select! {
            changed = self.wish.changed() => {
                if changed.is_err() {
                    // The worker is gone: the program ends.
                    std::future::pending::<()>().await;
                }
                false
            }
            () = ended(&mut self.end) => true,
            () = sleep_until(until) => false,
            () = changed(&mut self.checks) => {
                self.take_health();
                false
            }
            () = over(&mut self.listens) => {
                (self.listens, self.actual.awaited) = (None, false);
                false
            }
            _ = cut_off.changed(), if alone => false,
            () = lease.changed(&self.task, self.actual.lease), if !is_over => false,
            () = self.shared.board.heard.notified(), if alone => false,
        };
        if ended {
            self.look().await;
        }
    }

    async fn stop(&mut self) {
        self.actual.stopping = Some(clock::now());
        (self.checks, self.listens, self.actual.awaited) = (None, None, false);
        self.report();
        if !self.task.container.pre_stop.is_empty() && self.pre_stop().await {
            return self.look().await;
        }
        let attempt = self.actual.status.attempt;
        if let Err(error) = self.shared.executor.stop(&self.task, attempt).await {
            tracing::warn!(task = %self.task.name, error = %error.sentence(), "cannot stop it");
            self.look().await;
        }
    }

    /// Does what shall be done before the stop signal, as long as its grace lasts; true when the container has ended
    /// meanwhile.
    async fn pre_stop(&mut self) -> bool {
        let (grace, executor) = (self.task.container.stop_grace_period, &self.shared.executor);
        tokio::select! {
            () = executor.pre_stop(&self.task) => false,
            () = ended(&mut self.end) => true,
            () = tokio::time::sleep(grace) => false,
        }
    }

    async fn kill(&mut self) {
        let attempt = self.actual.status.attempt;
        match self.shared.executor.kill(self.task.id, attempt).await {
            Ok(()) => self.actual.killed = true,
            Err(error) => {
                tracing::warn!(task = %self.task.name, error = %error.sentence(), "cannot kill it");
                self.rest().await;
            }
        }
        self.look().await;
    }

    /// The run is over: says how it ended.
    fn conclude(&mut self) {
        let wanted = self.task.desired > TaskState::Running;
        // It was stopped though it shall run.
        let sick = !wanted && self.actual.stopping.is_some();
        let status = &mut self.actual.status;
        status.pid = None;
        let (state, message) = match (self.failure.take(), self.exit.take()) {
            (None, exit) if !wanted && self.actual.fenced => {
                status.exit_code = exit.map(|exit| exit.code);
                (TaskState::Failed, FENCED.to_owned())
            }
            (None, exit) if sick => {
                status.exit_code = exit.map(|exit| exit.code);
                (TaskState::Failed, unhealthy(status))
            }
            (Some(error), _) => {
                let state =
                    if error.is_permanent() { TaskState::Rejected } else { TaskState::Failed };
                (state, error.sentence())
            }
            (None, Some(exit)) => {
                status.exit_code = Some(exit.code);
                let started = exit.started_at_ms.map(Timestamp);
                status.started_at = started.or(status.started_at);
                let message = describe(&exit);
                if exit.code == 0 {
                    (TaskState::Complete, message)
                } else {
                    (TaskState::Failed, message)
                }
            }
            (None, None) if wanted => (TaskState::Shutdown, String::new()),
            (None, None) => (TaskState::Failed, "its container is lost".to_owned()),
        };
        let stopped = wanted;
        status.state = if stopped { TaskState::Shutdown } else { state };
        status.since = clock::now();
        status.message = if stopped { String::new() } else { message };
        let (state, message) = (status.state, status.message.clone());
        tracing::info!(task = %self.task.name, id = %self.task.id, %state, %message, "ended");
        self.actual.container = Presence::Absent;
        (self.end, self.checks, self.built, self.actual.built) = (None, None, None, false);
        self.actual.settled = false;
        self.report();
    }

    async fn settle(&mut self) {
        let attempt = self.actual.status.attempt;
        match self.shared.executor.settle(self.task.id, attempt).await {
            Ok(()) => {
                self.actual.settled = true;
                self.pause = FIRST_PAUSE;
                self.shared.networks.wake();
            }
            Err(error) => {
                let error = error.sentence();
                tracing::warn!(task = %self.task.name, %error, "cannot take down what it needed");
                self.rest().await;
            }
        }
    }

    fn restart(&mut self) {
        let now = clock::now();
        tracing::info!(task = %self.task.name, "restarted without a controller");
        self.actual.restarts.push(now);
        let surplus = self.actual.restarts.len().saturating_sub(COUNTED_RESTARTS);
        self.actual.restarts.drain(..surplus);
        self.actual.status = TaskStatus {
            message: "restarted by its host while no controller was in reach".to_owned(),
            attempt: self.actual.status.attempt + 1,
            ..TaskStatus::new(TaskState::Accepted, now)
        };
        (self.actual.stopping, self.actual.killed) = (None, false);
        self.actual.fenced = false;
        self.actual.fetched = self.image.is_some();
        self.report();
    }

    async fn remove(&mut self) -> bool {
        if let Err(error) = self.shared.executor.remove(self.task.id).await {
            let error = error.sentence();
            tracing::warn!(task = %self.task.name, %error, "cannot remove it");
            self.rest().await;
            return false;
        }
        self.shared.note(Record::TaskGone(self.task.id));
        self.shared.board.task_gone(self.task.id);
        self.shared.networks.wake();
        true
    }

    /// Pauses after a failure, longer each time.
    async fn rest(&mut self) {
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

/// Why a task ended that was stopped for its health.
fn unhealthy(status: &TaskStatus) -> String {
    let why = match status.state {
        TaskState::Running => "unhealthy",
        _ => "never became healthy",
    };
    let output = status.health.as_ref().map(|health| first_line(&health.output));
    match output.filter(|output| !output.is_empty()) {
        Some(output) => format!("{why}: {output}"),
        None => why.to_owned(),
    }
}

/// Whether it may be started for connections that wait already.
fn wakes_on_connection(task: &TaskAssignment) -> bool {
    task.measure.as_ref().is_some_and(|measure| measure.connections)
}

fn describe(exit: &ExitRecord) -> String {
    if let Some(message) = &exit.message {
        return message.clone();
    }
    match (exit.oom_killed, exit.signal) {
        (true, _) => "killed for want of memory".to_owned(),
        (false, Some(signal)) => format!("ended by signal {signal}"),
        (false, None) if exit.code == 0 => String::new(),
        (false, None) => format!("exit code {}", exit.code),
    }
}

async fn unwanted(mut wish: watch::Receiver<Arc<TaskAssignment>>) {
    let over = wish.wait_for(|task| task.desired > TaskState::Running).await.is_ok();
    if !over {
        std::future::pending::<()>().await;
    }
}

async fn ended(end: &mut Option<EndWatch>) {
    match end {
        Some(end) => end.ended().await,
        None => std::future::pending().await,
    }
}

async fn changed(checks: &mut Option<Watch>) {
    match checks {
        Some(checks) => checks.changed().await,
        None => std::future::pending().await,
    }
}

/// Returns when a piece of work is over, also one that failed.
async fn over(work: &mut Option<AbortOnDropHandle<()>>) {
    match work {
        Some(work) => drop(work.await),
        None => std::future::pending().await,
    }
}

async fn sleep_until(until: Option<Timestamp>) {
    match until {
        Some(time) => tokio::time::sleep(time.since(clock::now())).await,
        None => std::future::pending().await,
    }
}
