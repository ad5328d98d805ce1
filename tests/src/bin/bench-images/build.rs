//! The counter app's image, built by a lab's agent and by buildah in a storage of its own.

use std::fs;
use std::path::Path;
use std::time::Instant;

use swarm_tests::bench::{Beside, Case, Outcome, output, root, swarmctl, text};

use crate::lab::{REGISTRY, sync};
use crate::peers::Tools;

const COLD: Case = Case { name: "build of the counter app, no step cached", unit: "s" };
const WARM: Case = Case { name: "build of the counter app, all steps cached", unit: "s" };
const BASE: &str = "python:alpine";

/// Seconds of each round.
#[derive(Default)]
pub(crate) struct Builds {
    cold: (Vec<f64>, Vec<f64>),
    warm: (Vec<f64>, Vec<f64>),
}

impl Builds {
    /// Builds in alternating rounds. The base image is fetched by everybody before.
    pub(crate) fn measure(tools: &Tools, work: &Path, node: &str, rounds: usize) -> Outcome<Self> {
        let context = root().join("manifests/counter");
        let storage = work.join("buildah");
        fs::create_dir_all(&storage)?;
        let from = format!("docker://{REGISTRY}/library/{BASE}");
        output(tools.buildah(&storage).args(["pull", "-q", "--tls-verify=false", &from]))?;
        let (pulled, base) =
            (format!("{REGISTRY}/library/{BASE}"), format!("docker.io/library/{BASE}"));
        output(tools.buildah(&storage).args(["tag", &pulled, &base]))?;
        // Into its own build cache and images, too.
        ours(&context, node, &[])?;
        let mut builds = Self::default();
        for _ in 0..rounds {
            sync()?;
            builds.cold.0.push(ours(&context, node, &["--no-cache"])?);
            sync()?;
            builds.cold.1.push(theirs(tools, &storage, &context, "--no-cache")?);
            sync()?;
            builds.warm.0.push(ours(&context, node, &[])?);
            sync()?;
            builds.warm.1.push(theirs(tools, &storage, &context, "--layers")?);
        }
        output(tools.buildah(&storage).args(["rmi", "--all", "--force"]))?;
        Ok(builds)
    }

    /// Lines of the table.
    pub(crate) fn rows(self) -> [Beside; 2] {
        [(COLD, self.cold), (WARM, self.warm)].map(|(case, (ours, theirs))| Beside {
            case,
            ours,
            peers: vec![("buildah", theirs)],
        })
    }
}

fn ours(context: &Path, node: &str, more: &[&str]) -> Outcome<f64> {
    let begun = Instant::now();
    let build = ["build", "--node", node, "--tag", "bench-counter:1", text(context)];
    swarmctl(&[&build[..], more].concat())?;
    Ok(begun.elapsed().as_secs_f64())
}

fn theirs(tools: &Tools, storage: &Path, context: &Path, cache: &str) -> Outcome<f64> {
    let begun = Instant::now();
    let mut build = tools.buildah(storage);
    build.args(["bud", "--isolation", "chroot", "--pull-never", "--layers", cache, "--quiet"]);
    output(build.args(["--tag", "bench-counter:1", text(context)]))?;
    Ok(begun.elapsed().as_secs_f64())
}
