//! `image pull`: nodes fetch an image, with how far its layers are.

use std::collections::BTreeMap;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};
use swarm_manifests::ImageReference;
use swarm_proto::wire;
use swarm_proto::wire::images_client::ImagesClient;
use swarm_proto::wire::pull_progress::Said;

use super::push::{short, style};
use crate::command::Call;
use crate::connect;
use crate::failure::Failure;
use crate::output;
use crate::view;

/// Has nodes fetch an image before a task needs it: from nodes that hold it, else from its registry
///
/// All get the same content, whose digest goes to standard output; progress goes to standard error.
#[derive(Debug, clap::Args)]
pub(crate) struct Pull {
    /// Its name, with a tag or a digest
    image: String,
    /// The node; by default the controller's own
    #[arg(long, conflicts_with = "all")]
    node: Option<String>,
    /// All nodes that are ready
    #[arg(long)]
    all: bool,
    /// Say nothing of progress
    #[arg(short, long)]
    quiet: bool,
}

pub(super) async fn pull(pull: Pull, call: &Call) -> Result<(), Failure> {
    let name = &pull.image;
    let reference: ImageReference = name
        .parse()
        .map_err(|error| Failure::because(format!("`{name}` is no image's name"), &error))?;
    let request = wire::PullImageRequest {
        node: pull.node.unwrap_or_default(),
        all: pull.all,
        image: reference.to_string(),
        ..wire::PullImageRequest::default()
    };
    let ask = async |channel| ImagesClient::new(channel).pull(request.clone()).await;
    let mut told = call.cluster.call_service(ask).await?;
    let mut progress = Progress::new(pull.quiet, pull.all);
    let (mut digest, mut failed) = (None, 0);
    while let Some(message) = told.message().await.map_err(|status| connect::refusal(&status))? {
        match message.said {
            Some(Said::Layers(layers)) => progress.show(&message.node, &layers.layers),
            Some(Said::Done(done)) => {
                progress.end(&message.node);
                digest = Some(done.digest);
            }
            Some(Said::Failed(why)) => {
                progress.end(&message.node);
                failed += 1;
                output::warn(&format!("node {}: {why}", message.node));
            }
            None => {}
        }
    }
    if let Some(digest) = &digest {
        output::data(digest);
    }
    match (digest, failed) {
        (Some(_), 0) => Ok(()),
        (None, 0) => Err(Failure::refused("the controller ended the stream before all was said")),
        (_, 1) => Err(Failure::refused("a node has not got the image")),
        (_, failed) => Err(Failure::refused(format!("{failed} nodes have not got the image"))),
    }
}

/// What a bar is of: a layer of the one node, or one of several nodes.
type Key = (String, usize);

/// Shows how far layers are: bars on a terminal, else a line for each that is ready.
struct Progress {
    quiet: bool,
    /// One bar for each node.
    by_node: bool,
    /// `None` when lines are printed.
    bars: Option<MultiProgress>,
    drawn: BTreeMap<Key, ProgressBar>,
    /// Layers that are ready on each node.
    ready: BTreeMap<String, usize>,
}

impl Progress {
    fn new(quiet: bool, by_node: bool) -> Self {
        let bars = (output::draws() && !quiet)
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)));
        Self { quiet, by_node, bars, drawn: BTreeMap::new(), ready: BTreeMap::new() }
    }

    fn show(&mut self, node: &str, layers: &[wire::PulledLayer]) {
        if self.bars.is_some() {
            return self.draw(node, layers);
        }
        let before = self.ready.insert(node.to_owned(), ready(layers));
        if let Some(line) = line(node, layers, before).filter(|_| !self.quiet) {
            output::talk(&line);
        }
    }

    fn draw(&mut self, node: &str, layers: &[wire::PulledLayer]) {
        if self.by_node {
            let (received, size) = sums(layers);
            let message =
                format!("{}, {} of {} layers", of(received, size), ready(layers), layers.len());
            return self.set((node.to_owned(), 0), node.to_owned(), (received, size), message);
        }
        for (at, layer) in layers.iter().enumerate() {
            let position = (layer.received, layer.size);
            self.set((node.to_owned(), at), short(&layer.digest), position, words(layer));
        }
    }

    fn set(&mut self, key: Key, prefix: String, (received, size): (u64, u64), message: String) {
        let Some(bars) = &self.bars else { return };
        let bar = self.drawn.entry(key).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new(size));
            bar.set_style(style());
            bar.set_prefix(prefix);
            bar
        });
        bar.set_length(size);
        bar.set_position(received);
        bar.set_message(message);
    }

    fn end(&mut self, node: &str) {
        let of_node = self.drawn.iter().filter(|((name, _), _)| name == node);
        of_node.for_each(|(_, bar)| bar.abandon());
    }
}

fn ready(layers: &[wire::PulledLayer]) -> usize {
    layers.iter().filter(|layer| layer.unpacked).count()
}

/// Bytes that have come, and all.
fn sums(layers: &[wire::PulledLayer]) -> (u64, u64) {
    let sum = |of: fn(&wire::PulledLayer) -> u64| {
        layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(of(layer)))
    };
    (sum(|layer| layer.received), sum(|layer| layer.size))
}

fn of(received: u64, size: u64) -> String {
    format!("{} of {}", view::bytes(received), view::bytes(size))
}

fn words(layer: &wire::PulledLayer) -> String {
    let size = view::bytes(layer.size);
    match (layer.unpacked, layer.received) {
        (true, _) => format!("ready, {size}"),
        (false, 0) => format!("waits, {size}"),
        (false, received) if received >= layer.size => format!("is unpacked, {size}"),
        (false, received) => of(received, layer.size),
    }
}

/// The line for what has changed: another layer is ready. `before`: how many were.
fn line(node: &str, layers: &[wire::PulledLayer], before: Option<usize>) -> Option<String> {
    let (now, (received, size)) = (ready(layers), sums(layers));
    (before != Some(now)).then(|| {
        format!("node {node}: {now} of {} layers are ready, {}", layers.len(), of(received, size))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(received: u64, unpacked: bool) -> wire::PulledLayer {
        wire::PulledLayer { digest: "sha256:x".to_owned(), size: 4096, received, unpacked }
    }

    #[test]
    fn each_layer_says_how_far_it_is() {
        let all = [layer(0, false), layer(1024, false), layer(4096, false), layer(4096, true)];
        let said = all.each_ref().map(words);
        let expected =
            ["waits, 4.0 KiB", "1.0 KiB of 4.0 KiB", "is unpacked, 4.0 KiB", "ready, 4.0 KiB"];
        assert_eq!(said, expected);
        let told = "node n1: 1 of 4 layers are ready, 9.0 KiB of 16 KiB";
        assert_eq!(line("n1", &all, None).as_deref(), Some(told));
        assert_eq!(line("n1", &all, Some(0)).as_deref(), Some(told));
        assert_eq!(line("n1", &all, Some(1)), None);
    }
}
