//! `build`: makes an image of a Dockerfile and a folder, on a node.

mod context;
mod given;
pub(super) mod order;
mod progress;
pub(super) mod stack;
mod steps;
mod upload;
mod view;

use std::path::PathBuf;

use swarm_manifests::ImageReference;

use super::Call;
use crate::failure::Failure;
use crate::output::{self, Format};
use given::{Argument, SecretOption};
use order::{Instructions, Order};
use steps::StepFlags;
use view::{BuiltView, PlanView};

/// Builds an image of a Dockerfile on a node, with no daemon
///
/// The Dockerfile is read and checked here before anything is sent; then the folder goes to a node as an archive, without
/// what `.dockerignore` names, and the node builds. The image is there under its names. Its digest goes to standard
/// output, progress to standard error. Ctrl-C gives the build up.
#[derive(Debug, clap::Args)]
pub(crate) struct Build {
    /// The Dockerfile, `-` for standard input; `Dockerfile` in the context without it
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// A name for the image: `name:tag`
    #[arg(short, long, value_name = "NAME:TAG", value_parser = image_name)]
    tag: Vec<String>,
    /// A build argument, `NAME=value`, or `NAME` to pass this command's own variable
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]", value_parser = given::argument)]
    arguments: Vec<Argument>,
    /// The stage to build, by its name or number; the last one without it
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// A secret for `RUN --mount=type=secret`: `id=ID,src=FILE`, or `id=ID,env=VARIABLE`
    #[arg(long, value_name = "id=ID,src=FILE", value_parser = given::secret)]
    secret: Vec<SecretOption>,
    /// A label of the image, in place of one of the Dockerfile
    #[arg(long, value_name = "NAME=VALUE", value_parser = given::label)]
    label: Vec<(String, String)>,
    /// Use nothing that an earlier build made
    #[arg(long)]
    no_cache: bool,
    /// Ask registries what the images' names stand for now
    #[arg(long)]
    pull: bool,
    /// The node that builds; without it one that takes tasks, the same for the same name
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Only read and check, and say what would be built; needs no cluster
    #[arg(long)]
    pub(crate) check: bool,
    /// The folder with the files
    #[arg(value_name = "CONTEXT")]
    folder: PathBuf,
    // Last: its heading would count for those after it.
    #[command(flatten)]
    steps: StepFlags,
}

impl Build {
    /// What is to be built, as the options have it.
    fn order(&self) -> Result<Order, Failure> {
        let file = self.file.clone().unwrap_or_else(|| self.folder.join("Dockerfile"));
        Ok(Order {
            context: self.folder.clone(),
            instructions: Instructions::File(file),
            names: self.tag.clone(),
            target: self.target.clone(),
            build_args: given::values(&self.arguments),
            secrets: given::read_secrets(&self.secret)?,
            no_cache: self.no_cache,
            pull: self.pull,
            node: self.node.clone(),
            labels: self.label.iter().cloned().collect(),
            steps: self.steps.read(),
        })
    }
}

/// Says what would be built.
pub(crate) fn check(build: &Build, format: Format) -> Result<(), Failure> {
    let ready = build.order()?.prepare()?;
    let view = PlanView::new(ready.file(), ready.plan(), ready.found());
    output::data(&view.text(format)?);
    Ok(())
}

pub(crate) async fn run(build: &Build, call: &Call) -> Result<(), Failure> {
    let done = build.order()?.prepare()?.carry_out(call).await?;
    let view = BuiltView { digest: &done.digest, size: done.size, names: &build.tag };
    output::data(&view.text(call.format)?);
    Ok(())
}

/// A name that an image may have.
fn image_name(text: &str) -> Result<String, String> {
    let reference: ImageReference = text.parse().map_err(|error| format!("{error}"))?;
    match reference.digest {
        Some(_) => Err("an image's digest is what the build says, not what it is told".to_owned()),
        None => Ok(text.to_owned()),
    }
}
