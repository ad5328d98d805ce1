//! `RUN`: a program in a container, whose changes become a layer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use swarm_dockerfile::{Mount, Network, Run};
use swarm_proto::spec::NetworkMode;
use swarm_runtime::ExitRecord;
use swarm_runtime::record::LOG_FILE;
use tokio::sync::mpsc;

use super::content::Content;
use super::mounts::{self, Ready};
use super::progress::Reporter;
use super::snapshot::Snapshot;
use super::walk::{self, Found};
use super::work::Work;
use super::{BuildError, attached, blocking, path, stub};
use crate::executor::{OneShot, mount_memory};
use crate::log;

/// The folder of the container, in that of its step; the container's own is `1` in it, as logs are read.
const BOX: &str = "box";
const ATTEMPT: &str = "1";
/// Batches of lines that wait for whoever shows them.
const WAITING: usize = 4;
/// Memory that a container's configuration and log may take, in pages, where they may not lie on the disk.
const BOX_PAGES: u64 = 8 << 10;
const BOX_FILES: usize = 128;

/// The folder of a step's container, for taking down what was left.
pub(super) fn container_folder(step: &Path) -> PathBuf {
    step.join(BOX).join(ATTEMPT)
}

/// What a step's mounts are made of, as far as it counts for its result: not caches, nor secrets.
pub(super) async fn content(work: &Work, run: &Run) -> Result<Content, BuildError> {
    let mut content = Content::default();
    for mount in &run.mounts {
        let Mount::Bind { from, source, .. } = mount else { continue };
        let layers = work.folders_of(from).await?;
        let (source, view) = (source.clone(), work.view());
        content = blocking(move || {
            let root = Snapshot::make(&view, &layers)?.before()?;
            let failed = |error| BuildError::disk("look for", &source)(error);
            let real = path::real(&root, source.as_bytes()).map_err(failed)?;
            if path::stat(&root, &real).map_err(failed)?.is_none() {
                return Err(BuildError::NoSource {
                    path: source.trim_start_matches('/').to_owned(),
                });
            }
            let found = Found { named: real.clone(), real };
            let nodes = walk::nodes(&root, &found, None).map_err(failed)?;
            let mut content = content;
            content.add(&root, &found, &nodes).map_err(failed)?;
            Ok(content)
        })
        .await?;
    }
    Ok(content)
}

/// Runs the program on a snapshot. Whatever comes of it, nothing is left but what changed.
pub(super) async fn run(
    work: &Work,
    run: &Run,
    snapshot: &Arc<Snapshot>,
    folder: &Path,
    reporter: &Reporter,
) -> Result<(), BuildError> {
    let outcome = match mounts::make(work, run, folder).await {
        Ok(ready) => in_container(work, run, snapshot, folder, reporter, ready).await,
        Err(error) => Err(error),
    };
    let folder = folder.to_owned();
    let detached = blocking(move || attached::detach_all(&folder)).await;
    outcome.and(detached)
}

async fn in_container(
    work: &Work,
    run: &Run,
    snapshot: &Arc<Snapshot>,
    folder: &Path,
    reporter: &Reporter,
    ready: Ready,
) -> Result<(), BuildError> {
    let all = folder.join(BOX);
    let secret = mounts::has_secret_variables(run);
    let (of_box, of_container) = (all.clone(), container_folder(folder));
    let before = Arc::clone(snapshot);
    let targets: Vec<String> = ready.mounts.keys().cloned().collect();
    let stubs = blocking(move || {
        std::fs::create_dir_all(&of_box).map_err(BuildError::disk("make", &of_box))?;
        if secret {
            mount_memory(&of_box, BOX_PAGES, BOX_FILES)?;
        }
        std::fs::create_dir_all(&of_container).map_err(BuildError::disk("make", &of_container))?;
        // There from the beginning, so that whoever reads it finds it.
        let log = of_container.join(LOG_FILE);
        std::fs::File::create(&log).map_err(BuildError::disk("make", &log))?;
        let targets = targets.iter().map(String::as_str);
        stub::missing(&before.before()?, targets).map_err(BuildError::disk("look into", "/"))
    })
    .await?;
    // The mounts are gone when the container is; the caches are held until then.
    let Ready { mounts, secrets, held } = ready;
    let environment = run.hidden_env.iter().chain(&run.env).cloned().chain(secrets).collect();
    let one = OneShot {
        name: work.name_of(folder),
        folder: container_folder(folder),
        rootfs: snapshot.rootfs(),
        arguments: run.arguments.clone(),
        environment,
        user: run.user.clone(),
        workdir: run.workdir.clone(),
        network: match run.network {
            Network::Default => work.step_options().network,
            Network::Host => NetworkMode::Host,
            Network::None => NetworkMode::None,
        },
        mounts,
        memory: work.memory(),
        options: work.step_options().clone(),
    };
    let output = tokio::spawn(show(all, reporter.clone()));
    let ended = work.one_shots().run(one, work.cancelled()).await;
    drop(held);
    match ended {
        Ok(ended) => {
            // All of the log is there now; who shows it may be slow, or gone.
            let shown = output.await;
            shown.map_err(|error| BuildError::Stopped(error.to_string()))?;
            succeeded(ended)?;
        }
        Err(error) => {
            output.abort();
            return Err(if work.is_cancelled() { BuildError::Cancelled } else { error.into() });
        }
    }
    let after = Arc::clone(snapshot);
    blocking(move || stub::remove(&after.root()?, &stubs).map_err(BuildError::disk("tidy", "/")))
        .await
}

fn succeeded(ended: ExitRecord) -> Result<(), BuildError> {
    if ended.code == 0 {
        return Ok(());
    }
    let more = match (ended.oom_killed, ended.message) {
        (true, _) => ": it used up its memory".to_owned(),
        (false, Some(message)) => format!(": {message}"),
        (false, None) => String::new(),
    };
    Err(BuildError::Ended { code: ended.code, more })
}

/// Tells what the program says, line by line.
async fn show(folder: PathBuf, reporter: Reporter) {
    let (sender, mut batches) = mpsc::channel(WAITING);
    let wish = log::Wish { tail: -1, since: 0, follow: true };
    let reading = tokio::spawn(log::read(folder, wish, sender));
    while let Some(batch) = batches.recv().await {
        for line in batch {
            reporter.output(line.stream, line.content).await;
        }
    }
    match reading.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "cannot read what a build says"),
        Err(error) => tracing::warn!(%error, "cannot read what a build says"),
    }
}
