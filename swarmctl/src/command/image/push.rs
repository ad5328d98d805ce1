//! `image push`: an image from a node to a registry, with how far each of its blobs is.

use std::collections::BTreeMap;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use swarm_manifests::ImageReference;
use swarm_proto::docker_config;
use swarm_proto::object::RegistryName;
use swarm_proto::wire;
use swarm_proto::wire::BlobStep;
use swarm_proto::wire::images_client::ImagesClient;
use swarm_proto::wire::push_progress::Said;

use super::whole;
use crate::command::Call;
use crate::connect;
use crate::failure::Failure;
use crate::output;
use crate::view;

/// Digits by which a blob is told from others.
const DIGITS: usize = 12;

/// Sends an image to a registry, from a node that holds it
///
/// It goes as it is held, so its digest stays, and only what the registry has not got is sent. The digest goes to standard
/// output, progress to standard error. The cluster's login at the registry is used (`swarmctl login`), else that of the
/// node's own Docker file, else that of this machine's.
#[derive(Debug, clap::Args)]
pub(crate) struct Push {
    /// Its name, digest, or the first digits of that
    image: String,
    /// The name that it gets in the registry, `host/name:tag`; by default its own
    target: Option<String>,
    /// The node to send it from; by default one that holds it
    #[arg(long)]
    node: Option<String>,
    /// Say nothing of progress
    #[arg(short, long)]
    quiet: bool,
}

pub(super) async fn push(push: Push, call: &Call) -> Result<(), Failure> {
    let target = target(push.target.as_deref().unwrap_or(&push.image))?;
    let request = wire::PushImageRequest {
        node: push.node.unwrap_or_default(),
        image: whole(&push.image)?,
        brought: own_login(&target).await,
        target,
        login: None,
    };
    let ask = async |channel| ImagesClient::new(channel).push(request.clone()).await;
    let mut told = call.cluster.call_service(ask).await?;
    let mut progress = Progress::new(push.quiet);
    loop {
        match connect::next(&mut told, |message| message.said, lost).await? {
            Said::Started(started) => progress.started(&started),
            Said::Blob(blob) => progress.show(&blob),
            Said::Done(done) => {
                progress.finish();
                tell(&done, push.quiet);
                output::data(&done.digest);
                return Ok(());
            }
        }
    }
}

fn lost(why: &str) -> Failure {
    Failure::refused(format!("the push was lost: {why}"))
        .hint("what has arrived is not sent again: run it again, or see `swarmctl node ls`")
}

fn tell(done: &wire::PushDone, quiet: bool) {
    if !done.index.is_empty() {
        output::warn(&format!(
            "the image is for several platforms ({}); the node's own was pushed, which is what it holds",
            done.index
        ));
    }
    if !quiet {
        output::talk(&format!("{} is {}, {} bytes", done.target, done.digest, done.size));
    }
}

/// The whole name that an image gets.
fn target(name: &str) -> Result<String, Failure> {
    let reference: ImageReference = name
        .parse()
        .map_err(|error| Failure::because(format!("`{name}` is no image's name"), &error))?;
    if reference.digest.is_some() || whole(name)? == name && !name.contains('/') {
        return Err(Failure::usage(format!("`{name}` is no name that a registry can give"))
            .hint("say which: `swarmctl image push IMAGE HOST/NAME:TAG`"));
    }
    Ok(reference.to_string())
}

/// This machine's own login at the registry of a whole name. Nothing is wrong with having none.
async fn own_login(target: &str) -> Option<wire::RegistryLogin> {
    let registry: RegistryName = target.split_once('/')?.0.parse().ok()?;
    match docker_config::look_up(&docker_config::own_path()?, &registry).await {
        Ok(login) => login.as_ref().map(Into::into),
        Err(error) => {
            let why = swarm_proto::failure::sentence(&error);
            output::warn(&format!("this machine's own login is not used: {why}"));
            None
        }
    }
}

/// Shows how far blobs are: a bar each on a terminal, else a line for each that is done.
struct Progress {
    quiet: bool,
    /// `None` when lines are printed.
    bars: Option<MultiProgress>,
    drawn: BTreeMap<String, ProgressBar>,
}

impl Progress {
    fn new(quiet: bool) -> Self {
        let bars = (output::draws() && !quiet)
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)));
        Self { quiet, bars, drawn: BTreeMap::new() }
    }

    fn started(&self, started: &wire::PushStarted) {
        if !self.quiet {
            output::talk(&format!("pushing {} from {}", started.target, started.node));
        }
    }

    fn show(&mut self, blob: &wire::PushedBlob) {
        let Some(bars) = &self.bars else {
            if let Some(line) = line(blob).filter(|_| !self.quiet) {
                output::talk(&line);
            }
            return;
        };
        let bar = self.drawn.entry(blob.digest.clone()).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new(blob.size));
            bar.set_style(style());
            bar.set_prefix(short(&blob.digest));
            bar
        });
        bar.set_position(position(blob));
        bar.set_message(words(blob));
        if is_there(blob.step()) {
            bar.abandon();
        }
    }

    fn finish(&mut self) {
        for bar in self.drawn.values() {
            bar.abandon();
        }
    }
}

pub(super) fn style() -> ProgressStyle {
    let bar = if output::colours() { "{bar:20.green}" } else { "{bar:20}" };
    ProgressStyle::with_template(&format!("{{prefix}} [{bar}] {{wide_msg}}"))
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

pub(super) fn short(digest: &str) -> String {
    digest.strip_prefix("sha256:").unwrap_or(digest).chars().take(DIGITS).collect()
}

fn is_there(step: BlobStep) -> bool {
    matches!(step, BlobStep::There | BlobStep::Mounted | BlobStep::Sent)
}

fn position(blob: &wire::PushedBlob) -> u64 {
    if is_there(blob.step()) { blob.size } else { blob.sent }
}

fn words(blob: &wire::PushedBlob) -> String {
    let size = view::bytes(blob.size);
    match blob.step() {
        BlobStep::Waiting | BlobStep::Unspecified => format!("waits, {size}"),
        BlobStep::Sending => format!("{} of {size}", view::bytes(blob.sent)),
        BlobStep::Again => format!("once more: {}", blob.reason),
        BlobStep::There => format!("there already, {size}"),
        BlobStep::Mounted => format!("taken from another repository, {size}"),
        BlobStep::Sent => format!("sent, {size}"),
    }
}

/// The line for what has changed for good, or is worth a word.
fn line(blob: &wire::PushedBlob) -> Option<String> {
    let worth = is_there(blob.step()) || blob.step() == BlobStep::Again;
    worth.then(|| format!("{}: {}", short(&blob.digest), words(blob)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_of_each_blob_that_is_there() {
        let blob = |step: BlobStep, sent| wire::PushedBlob {
            digest: format!("sha256:{}", "ab".repeat(32)),
            size: 4096,
            step: step.into(),
            sent,
            reason: "the connection broke".to_owned(),
        };
        assert_eq!(line(&blob(BlobStep::Sending, 1024)), None);
        assert_eq!(words(&blob(BlobStep::Sending, 1024)), "1.0 KiB of 4.0 KiB");
        let there = line(&blob(BlobStep::There, 0)).unwrap();
        assert_eq!(there, "abababababab: there already, 4.0 KiB");
        let again = line(&blob(BlobStep::Again, 0)).unwrap();
        assert_eq!(again, "abababababab: once more: the connection broke");
        assert_eq!(position(&blob(BlobStep::Mounted, 0)), 4096);
    }

    #[test]
    fn a_target_is_a_name_with_a_tag() {
        assert_eq!(target("web").unwrap(), "docker.io/library/web:latest");
        assert_eq!(target("a.example:5000/x/y:1").unwrap(), "a.example:5000/x/y:1");
        let digest = format!("a.example/x@sha256:{}", "0".repeat(64));
        for name in ["0123456789ab", "Web", digest.as_str(), &format!("sha256:{}", "0".repeat(64))]
        {
            assert!(target(name).is_err(), "`{name}` was taken");
        }
    }
}
