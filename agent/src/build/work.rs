//! One build under way: its stages, each as soon as those that it needs are there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use swarm_dockerfile::{Action, Base, From, Image, Plan, StageEnd, StageRun, Step};
use swarm_proto::id::Digest;
use swarm_proto::spec::{ContentBytes, ImageSpec, PullPolicy};
use tokio::sync::{SemaphorePermit, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cache::Made;
use super::cache_mount::CacheMounts;
use super::progress::{Progress, Reporter};
use super::{BuildError, BuildRequest, Builder, StepOptions, description, step};
use crate::executor::OneShots;
use crate::image::{Claim, Images, LayerBlob, Reference};

/// A stage that is done, or an image that was there before.
#[derive(Debug, Clone)]
pub(super) struct Done {
    pub(super) end: StageEnd,
    /// The lowest first.
    pub(super) layers: Vec<LayerBlob>,
}

type Stages = Vec<watch::Sender<Option<Arc<Done>>>>;
type BaseImages = tokio::sync::Mutex<BTreeMap<String, Arc<Done>>>;

/// See the module.
pub(super) struct Work {
    builder: Arc<Builder>,
    request: BuildRequest,
    plan: Plan,
    /// Its own folder, removed afterwards.
    folder: PathBuf,
    /// Among all builds of this host.
    id: String,
    /// What the client sent, unpacked.
    context: PathBuf,
    progress: mpsc::Sender<Progress>,
    cancelled: CancellationToken,
    stages: Stages,
    /// This host's images, as this build may fetch them.
    sources: Images,
    images: BaseImages,
    /// What no removal takes away meanwhile.
    claim: Arc<Claim>,
    steps: AtomicU32,
    views: AtomicU32,
}

/// What a build works with.
pub(super) struct Means {
    pub(super) folder: PathBuf,
    pub(super) id: String,
    pub(super) context: PathBuf,
    pub(super) progress: mpsc::Sender<Progress>,
    pub(super) cancelled: CancellationToken,
}

impl Work {
    pub(super) fn new(
        builder: Arc<Builder>,
        request: BuildRequest,
        plan: Plan,
        means: Means,
    ) -> Self {
        let Means { folder, id, context, progress, cancelled } = means;
        let claim = Arc::new(builder.images.claim());
        let sources = builder.images.with_logins(request.logins.clone());
        let stages = plan.stages.iter().map(|_| watch::Sender::new(None)).collect();
        Self {
            builder,
            request,
            plan,
            folder,
            id,
            context,
            progress,
            cancelled,
            stages,
            sources,
            images: BaseImages::default(),
            claim,
            steps: AtomicU32::new(0),
            views: AtomicU32::new(0),
        }
    }

    /// Builds all stages that are needed, and gives the last one. When this returns, nothing of it goes on.
    pub(super) async fn build(self: &Arc<Self>) -> Result<Arc<Done>, BuildError> {
        for warning in &self.plan.warnings {
            self.tell(Progress::Warning(warning.to_string())).await;
        }
        let mut running = JoinSet::new();
        for place in 0..self.plan.stages.len() {
            let work = Arc::clone(self);
            running.spawn(async move { work.stage(place).await });
        }
        let mut failure = None;
        while let Some(joined) = running.join_next().await {
            let outcome =
                joined.unwrap_or_else(|error| Err(BuildError::Stopped(error.to_string())));
            if let Err(error) = outcome {
                // The others have no use any more.
                self.cancelled.cancel();
                // What failed says more than what was given up for it.
                if !matches!(failure, Some(ref known) if !matches!(known, BuildError::Cancelled)) {
                    failure = Some(error);
                }
            }
        }
        match (failure, self.stages.last().and_then(|last| last.borrow().clone())) {
            (Some(error), _) => Err(error),
            (None, Some(done)) => Ok(done),
            (None, None) => Err(BuildError::Cancelled),
        }
    }

    async fn stage(self: Arc<Self>, place: usize) -> Result<(), BuildError> {
        let planned = &self.plan.stages[place];
        for needed in &planned.needs {
            self.done(*needed).await?;
        }
        let done = match &planned.base {
            Base::Scratch => {
                let end = Image::scratch(&planned.platform).into();
                Arc::new(Done { end, layers: Vec::new() })
            }
            Base::Image(reference) => self.image(reference).await?,
            Base::Stage(other) => self.done(*other).await?,
        };
        let name = planned.name.clone().unwrap_or_else(|| planned.index.to_string());
        let mut run = StageRun::begin(&self.plan, place, &done.end)?;
        let mut layers = done.layers.clone();
        let mut dates = description::Dates::begin(&done.end.image, self.epoch());
        while let Some(step) = run.next_step()? {
            if self.is_cancelled() {
                return Err(BuildError::Cancelled);
            }
            let made =
                self.step(place, &name, &step, &layers).await.map_err(|error| match error {
                    BuildError::Cancelled => BuildError::Cancelled,
                    source => BuildError::Step {
                        file: self.request.file.clone(),
                        line: step.line,
                        text: step.text.clone(),
                        source: Box::new(source),
                    },
                })?;
            match made {
                Some(Made { layer: Some(layer), made_at }) => {
                    layers.push(layer);
                    dates.layer(made_at);
                }
                Some(Made { layer: None, .. }) => run.made_no_layer(),
                None => {}
            }
            dates.told(run.image());
            for warning in run.take_warnings() {
                self.tell(Progress::Warning(warning.to_string())).await;
            }
        }
        let mut end = run.finish();
        dates.fill(&mut end.image);
        self.stages[place].send_replace(Some(Arc::new(Done { end, layers })));
        Ok(())
    }

    /// One step; nothing comes of one that only changes the configuration.
    async fn step(
        &self,
        place: usize,
        stage: &str,
        step: &Step,
        layers: &[LayerBlob],
    ) -> Result<Option<Made>, BuildError> {
        let number = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        let reporter = Reporter { to: self.progress.clone(), step: number };
        let (stage, text) = (stage.to_owned(), step.text.clone());
        reporter.tell(Progress::Begun { step: number, stage, text }).await;
        let folder = self.folder.join(format!("{place}-{number}"));
        let (made, cached) = match &step.action {
            Action::Configure => (None, false),
            action => {
                let done = step::carry_out(self, action, layers, folder, &reporter).await?;
                (Some(done.made), done.cached)
            }
        };
        reporter.tell(Progress::Ended { step: number, cached }).await;
        Ok(made)
    }

    async fn tell(&self, progress: Progress) {
        let _ = self.progress.send(progress).await;
    }

    /// Waits for a stage.
    async fn done(&self, place: usize) -> Result<Arc<Done>, BuildError> {
        let mut watched = self.stages[place].subscribe();
        tokio::select! {
            done = watched.wait_for(Option::is_some) => {
                done.ok().and_then(|done| done.clone()).ok_or(BuildError::Cancelled)
            }
            () = self.cancelled.cancelled() => Err(BuildError::Cancelled),
        }
    }

    /// An image of a registry, or of this host: what a name stands for here comes first, unless the registry shall be
    /// asked.
    async fn image(&self, text: &str) -> Result<Arc<Done>, BuildError> {
        let mut known = self.images.lock().await;
        if let Some(done) = known.get(text) {
            return Ok(Arc::clone(done));
        }
        let images = self.images();
        let reference: Reference = text.parse()?;
        let here = images.known(&reference).filter(|_| !self.request.pull);
        let digest = match reference.digest.clone().or(here) {
            Some(digest) => digest,
            None => images.resolve(text).await?,
        };
        let spec = ImageSpec {
            digest: Some(digest),
            pull_policy: PullPolicy::Missing,
            ..ImageSpec::new(reference.to_string())
        };
        let image = tokio::select! {
            image = images.ensure(&spec) => image?,
            () = self.cancelled.cancelled() => return Err(BuildError::Cancelled),
        };
        let parts = images.parts(&image.digest).await?;
        parts.layers.iter().for_each(|layer| self.count_on(layer));
        let described: Image = serde_json::from_slice(&parts.config)
            .map_err(|source| BuildError::Description { what: "configuration", source })?;
        let done = Arc::new(Done { end: described.into(), layers: parts.layers });
        known.insert(text.to_owned(), Arc::clone(&done));
        Ok(done)
    }

    /// Where somebody's files lie: layers, the lowest first.
    pub(super) async fn folders_of(&self, from: &From) -> Result<Vec<PathBuf>, BuildError> {
        Ok(match from {
            From::Context => vec![self.context.clone()],
            From::Stage(place) => self.folders(&self.done(*place).await?.layers),
            From::Image(text) => self.folders(&self.image(text).await?.layers),
            From::Nothing => Vec::new(),
        })
    }

    /// Where layers lie unpacked.
    pub(super) fn folders(&self, layers: &[LayerBlob]) -> Vec<PathBuf> {
        layers.iter().map(|layer| self.images().layer_folder(&layer.diff_id)).collect()
    }

    /// A folder for a look at some layers.
    pub(super) fn view(&self) -> PathBuf {
        let number = self.views.fetch_add(1, Ordering::Relaxed);
        self.folder.join(format!("view-{number}"))
    }

    /// A step's container has this name among all of this host.
    pub(super) fn name_of(&self, folder: &Path) -> String {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        format!("{}-{name}", self.id)
    }

    pub(super) fn images(&self) -> &Images {
        &self.sources
    }

    pub(super) fn one_shots(&self) -> &OneShots {
        &self.builder.one_shots
    }

    pub(super) fn caches(&self) -> &Arc<CacheMounts> {
        &self.builder.cache_mounts
    }

    pub(super) fn secret(&self, id: &str) -> Option<Arc<ContentBytes>> {
        self.request.secrets.get(id).cloned()
    }

    /// What every program has.
    pub(super) fn step_options(&self) -> &StepOptions {
        &self.request.steps
    }

    pub(super) fn memory(&self) -> Option<u64> {
        self.request.memory
    }

    /// No file is younger, in seconds since the epoch.
    pub(super) fn epoch(&self) -> Option<u64> {
        self.request.source_date_epoch
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }

    pub(super) async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    /// What an earlier build made of a step, if all of it is still here.
    pub(super) fn known(&self, key: &Digest) -> Option<Made> {
        let made = self.builder.cache.find(key).filter(|_| !self.request.no_cache)?;
        let whole = made.layer.as_ref().is_none_or(|layer| self.has_layer(layer));
        whole.then_some(made)
    }

    /// What stays where it is as long as this build.
    pub(super) fn claim(&self) -> &Arc<Claim> {
        &self.claim
    }

    /// A layer stays where it is as long as this build.
    pub(super) fn count_on(&self, layer: &LayerBlob) {
        self.claim.add(&layer.diff_id);
        self.claim.add(&layer.digest);
    }

    /// Whether a layer is here, and stays.
    fn has_layer(&self, layer: &LayerBlob) -> bool {
        self.count_on(layer);
        self.images().has_layer(layer)
    }

    pub(super) fn keep(&self, key: &Digest, made: &Made) -> Result<(), BuildError> {
        self.builder.cache.keep(key, made)
    }

    /// Waits until a step may be worked on: all builds of this host together have few at a time.
    pub(super) async fn permit(&self) -> Result<SemaphorePermit<'_>, BuildError> {
        tokio::select! {
            permit = self.builder.permits.acquire() => permit.map_err(|_| BuildError::Cancelled),
            () = self.cancelled.cancelled() => Err(BuildError::Cancelled),
        }
    }
}
