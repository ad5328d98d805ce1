//! Makes assignments true: keeps the journal, runs a small loop for each task, applies networks, removes volumes.

mod networks;
mod task;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use swarm_proto::assignment::{AssignmentDiff, NetworkChange, TaskAssignment, VolumeReport};
use swarm_proto::failure::sentence;
use swarm_proto::id::{Attempt, NetworkId, TaskId};
use swarm_proto::object::TaskState;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep};

use crate::board::Board;
use crate::executor::{Executor, TaskError};
use crate::health;
use crate::image::ImageUser;
use crate::journal::{Contents, Journal, JournalError, Progress, Record};
use crate::lease::{Lease, Standing};
use crate::step::{Actual, Presence};
use networks::Applying;
use task::TaskLoop;

/// Between two looks at what shall stop.
const STOP_LOOK: Duration = Duration::from_millis(50);

/// Why a message of a controller was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum AssignError {
    /// The journal could not be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// It changes what is not here: whoever says so must begin anew.
    #[error("a change of network {network} to version {version} does not fit what is here")]
    Misfit {
        /// The network.
        network: NetworkId,
        /// What would come of it.
        version: u64,
    },
}

/// Whether controllers are in reach.
#[derive(Debug, Clone)]
pub struct Reach {
    /// True while none has been for some time.
    pub cut_off: watch::Receiver<bool>,
    /// How long tasks may run without the word of a leader.
    pub lease: Arc<Lease>,
}

/// What all loops share.
struct Shared {
    journal: Mutex<Journal>,
    executor: Arc<dyn Executor>,
    board: Arc<Board>,
    reach: Reach,
    networks: Applying,
    /// Places for checks of tasks' health.
    checks: Arc<Semaphore>,
    loops: Mutex<HashMap<TaskId, watch::Sender<Arc<TaskAssignment>>>>,
}

impl Shared {
    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn loops(&self) -> MutexGuard<'_, HashMap<TaskId, watch::Sender<Arc<TaskAssignment>>>> {
        self.loops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes something of which no other record depends; a failure is only logged.
    fn note(&self, record: Record) {
        if let Err(error) = self.journal().append(&[record]) {
            tracing::error!(%error, "cannot note progress");
        }
    }
}

/// The worker of a host.
pub struct Worker {
    shared: Arc<Shared>,
}

impl Worker {
    /// Takes over what an earlier agent left: networks, then running containers, then removes what nobody owns.
    pub async fn start(
        journal: Journal,
        executor: Arc<dyn Executor>,
        board: Arc<Board>,
        reach: Reach,
    ) -> Self {
        let contents = journal.contents().clone();
        let (networks, changes) = Applying::new();
        let shared = Arc::new(Shared {
            journal: Mutex::new(journal),
            executor,
            board,
            reach,
            networks,
            checks: Arc::new(Semaphore::new(health::AT_ONCE)),
            loops: Mutex::default(),
        });
        set_assigned(shared.executor.as_ref(), &contents);
        networks::apply(&shared).await;
        let mut loops = Vec::new();
        for task in contents.tasks.values() {
            let progress = contents.progress.get(&task.id).cloned();
            loops.push(TaskLoop::resume(&shared, task, progress).await);
        }
        let known: BTreeSet<TaskId> = contents.tasks.keys().copied().collect();
        for error in shared.executor.retain_networks(known.clone()).await {
            tracing::warn!(error = %sentence(&error), "cannot remove what an earlier run left");
        }
        if let Err(error) = shared.executor.retain(known).await {
            tracing::warn!(error = %error.sentence(), "cannot remove what an earlier run left");
        }
        for task in loops {
            run(&shared, task);
        }
        tokio::spawn(networks::run(Arc::clone(&shared), changes));
        tokio::spawn(watch_volumes(Arc::clone(&shared)));
        let worker = Self { shared };
        worker.remove_volumes(&contents);
        worker
    }

    /// Takes a message of a controller in. What it says is on disk before anything is done about it.
    pub async fn assign(&self, complete: bool, diff: AssignmentDiff) -> Result<(), AssignError> {
        let (records, gone) = self.records(complete, diff)?;
        if !records.is_empty() {
            let file = {
                let mut journal = self.shared.journal();
                journal.append(&records)?;
                journal.handle()?
            };
            let synced = tokio::task::spawn_blocking(move || file.sync_data()).await;
            if let Ok(Err(error)) = synced {
                tracing::error!(%error, "cannot sync the journal");
            }
        }
        let contents = self.shared.journal().contents().clone();
        set_assigned(self.shared.executor.as_ref(), &contents);
        self.act(&records, &contents);
        for task in gone.tasks {
            self.shared.board.task_gone(task);
        }
        self.shared.networks.change(&self.shared.board, &contents, gone.networks);
        Ok(())
    }

    /// Stops every task and takes away what was made for it; volumes keep their content. Gives back how many tasks and
    /// networks are left where that takes longer than so long.
    pub async fn stop_all(&self, patience: Duration) -> Result<usize, AssignError> {
        self.assign(true, AssignmentDiff::default()).await?;
        let end = Instant::now() + patience;
        loop {
            let left = self.contents().tasks.len() + self.shared.networks.leaving();
            if left == 0 || Instant::now() >= end {
                return Ok(left);
            }
            sleep(STOP_LOOK).await;
        }
    }

    /// What this host was told, and how far it is.
    pub fn contents(&self) -> Contents {
        self.shared.journal().contents().clone()
    }

    /// The running tasks that shall be measured, each with its attempt.
    pub fn measured(&self) -> Vec<(Arc<TaskAssignment>, Attempt)> {
        let journal = self.shared.journal();
        let contents = journal.contents();
        let tasks = contents.tasks.values().filter(|task| task.measure.is_some());
        let runs = tasks.filter_map(|task| {
            let status = &contents.progress.get(&task.id)?.status;
            let runs = status.state == TaskState::Running && task.desired <= TaskState::Running;
            runs.then(|| (Arc::clone(task), status.attempt))
        });
        runs.collect()
    }

    /// The tasks that use an image: all but those of whose end a controller has heard.
    pub fn image_users(&self) -> Vec<ImageUser> {
        let journal = self.shared.journal();
        let contents = journal.contents();
        let over = |task: &TaskAssignment| {
            let progress = contents.progress.get(&task.id);
            progress.is_some_and(|one| one.status.state >= TaskState::Complete && one.reported)
        };
        let tasks = contents.tasks.values().filter(|task| !over(task));
        let user = |task: &Arc<TaskAssignment>| ImageUser {
            task: task.name.clone(),
            image: task.container.image.clone(),
        };
        tasks.map(user).collect()
    }

    /// All named volumes that are on this host.
    pub async fn volume_reports(&self) -> Result<Vec<VolumeReport>, TaskError> {
        self.shared.executor.volume_reports().await
    }

    /// A task's name for people.
    pub fn task_name(&self, task: TaskId) -> Option<String> {
        let journal = self.shared.journal();
        journal.contents().tasks.get(&task).map(|task| task.name.clone())
    }

    /// A controller has heard how these tasks ended: it decides what follows, also after a restart of this agent.
    pub fn note_heard(&self, tasks: &[TaskId]) {
        let mut journal = self.shared.journal();
        let known = |task: &TaskId| journal.contents().progress.get(task).cloned();
        let heard = tasks.iter().filter_map(|task| Some((*task, known(task)?)));
        let records: Vec<Record> = heard
            .map(|(task, progress)| Record::Progress(task, Progress { reported: true, ..progress }))
            .collect();
        if let Err(error) = journal.append(&records) {
            tracing::error!(%error, "cannot note what was heard");
        }
    }

    fn act(&self, records: &[Record], contents: &Contents) {
        let mut volumes = false;
        for record in records {
            match record {
                Record::Task(task) => self.tell(task),
                Record::Volume(volume) => volumes |= volume.remove,
                _ => {}
            }
        }
        if volumes {
            self.remove_volumes(contents);
        }
    }

    /// Gives a task's loop its new wish, or begins one.
    fn tell(&self, task: &Arc<TaskAssignment>) {
        if let Some(wish) = self.shared.loops().get(&task.id) {
            wish.send_replace(Arc::clone(task));
            return;
        }
        run(&self.shared, TaskLoop::new(&self.shared, task));
    }

    /// What a message changes, as records, and what it removes that is not here anyway.
    fn records(
        &self,
        complete: bool,
        diff: AssignmentDiff,
    ) -> Result<(Vec<Record>, Gone), AssignError> {
        let journal = self.shared.journal();
        let known = journal.contents();
        let mut records = Vec::new();
        let mut removed_tasks: BTreeSet<TaskId> = diff.removed_tasks.into_iter().collect();
        let mut removed_networks: BTreeSet<NetworkId> = diff.removed_networks.into_iter().collect();
        let mut removed_volumes: BTreeSet<_> = diff.removed_volumes.into_iter().collect();
        if complete {
            removed_tasks.extend(absent(&known.tasks, diff.tasks.iter().map(|task| task.id)));
            removed_networks
                .extend(absent(&known.networks, diff.networks.iter().map(|network| network.id)));
            removed_volumes
                .extend(absent(&known.volumes, diff.volumes.iter().map(|volume| volume.id)));
        }
        for volume in diff.volumes {
            if known.volumes.get(&volume.id) != Some(&volume) || volume.remove {
                records.push(Record::Volume(volume));
            }
        }
        let is_known = |id: &_| known.volumes.contains_key(id);
        records.extend(removed_volumes.into_iter().filter(is_known).map(Record::VolumeGone));
        for network in diff.networks {
            if known.networks.get(&network.id).map(AsRef::as_ref) != Some(&network) {
                records.push(Record::Network(Arc::new(network)));
            }
        }
        if let Some(NetworkChange { id, version, .. }) = misfit(&diff.network_changes, known) {
            return Err(AssignError::Misfit { network: *id, version: *version });
        }
        records.extend(diff.network_changes.into_iter().map(Record::NetworkChange));
        for id in &removed_networks {
            records.extend(known.networks.contains_key(id).then_some(Record::NetworkGone(*id)));
        }
        for task in diff.tasks {
            if known.tasks.get(&task.id).map(AsRef::as_ref) != Some(&task) {
                records.push(Record::Task(Arc::new(task)));
            }
        }
        let mut gone = Gone { tasks: Vec::new(), networks: removed_networks };
        for id in removed_tasks {
            match known.tasks.get(&id) {
                None => gone.tasks.push(id),
                Some(task) => {
                    let task = TaskAssignment { desired: TaskState::Remove, ..(**task).clone() };
                    records.push(Record::Task(Arc::new(task)));
                }
            }
        }
        Ok((records, gone))
    }

    /// Removes the volumes that shall go. One that a task still mounts waits for the next time it is told.
    fn remove_volumes(&self, contents: &Contents) {
        let doomed: Vec<_> = contents.volumes.values().filter(|v| v.remove).cloned().collect();
        if doomed.is_empty() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            for volume in doomed {
                let removed = shared.executor.remove_volume(volume.id, volume.name.clone()).await;
                match removed {
                    Ok(()) => tracing::info!(volume = %volume.name, "removed"),
                    Err(error) => {
                        let error = error.sentence();
                        tracing::warn!(volume = %volume.name, %error, "cannot remove a volume");
                    }
                }
            }
            shared.board.volumes_changed();
        });
    }
}

/// What is asked to be removed and not here.
struct Gone {
    tasks: Vec<TaskId>,
    networks: BTreeSet<NetworkId>,
}

/// The first change that does not begin where the network is, after those before it.
fn misfit<'a>(changes: &'a [NetworkChange], known: &Contents) -> Option<&'a NetworkChange> {
    let mut versions: BTreeMap<NetworkId, u64> =
        known.networks.iter().map(|(id, network)| (*id, network.version)).collect();
    changes.iter().find(|change| {
        let before = versions.insert(change.id, change.version);
        before != Some(change.from)
    })
}

fn absent<K: Ord + Copy, V>(known: &BTreeMap<K, V>, wanted: impl Iterator<Item = K>) -> Vec<K> {
    let wanted: BTreeSet<K> = wanted.collect();
    known.keys().filter(|id| !wanted.contains(id)).copied().collect()
}

fn set_assigned(executor: &dyn Executor, contents: &Contents) {
    let volumes = contents.volumes.values().map(|volume| (volume.id, volume.name.clone()));
    executor.assigned().set(contents.networks.clone(), volumes.collect());
    executor.assigned().contents().keep_for(contents.tasks.values().map(AsRef::as_ref));
}

fn run(shared: &Arc<Shared>, task: (TaskLoop, watch::Sender<Arc<TaskAssignment>>)) {
    let (task, wish) = task;
    shared.loops().insert(task.id(), wish);
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let id = task.id();
        task.run().await;
        shared.loops().remove(&id);
    });
}

async fn watch_volumes(shared: Arc<Shared>) {
    loop {
        shared.executor.volume_made().await;
        shared.board.volumes_changed();
    }
}

fn actual(progress: Progress) -> Actual {
    Actual {
        status: progress.status,
        container: Presence::Absent,
        fetched: false,
        built: false,
        told: None,
        stopping: progress.stopping,
        awaited: false,
        killed: false,
        settled: false,
        reported: progress.reported,
        restarts: progress.restarts,
        lease: Standing::Valid,
        fenced: progress.fenced,
    }
}
