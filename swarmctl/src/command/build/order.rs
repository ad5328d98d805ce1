//! What is to be built, from the files of this machine to the image on a node.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use swarm_dockerfile::{Base, Dockerfile, Ignore, Plan, Platform, Wishes};
use swarm_manifests::ImageReference;
use swarm_proto::wire;
use swarm_proto::wire::build_input::Input;
use swarm_proto::wire::build_output::Output;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Streaming};

use super::context::{Context, Found};
use super::{progress, upload};
use crate::command::Call;
use crate::connect;
use crate::failure::Failure;
use crate::output;

/// Messages that wait for the connection.
const WAITING: usize = 4;
/// Larger Dockerfiles and files of patterns are refused.
const MOST_BYTES: u64 = 1 << 20;

/// An image that is to be built.
pub(in crate::command) struct Order {
    /// The folder that instructions copy from.
    pub(in crate::command) context: PathBuf,
    pub(in crate::command) instructions: Instructions,
    pub(in crate::command) names: Vec<String>,
    /// The stage that becomes the image; the last one where there is none.
    pub(in crate::command) target: Option<String>,
    pub(in crate::command) build_args: BTreeMap<String, String>,
    pub(in crate::command) secrets: Vec<wire::BuildSecret>,
    /// Whether nothing is used that an earlier build made.
    pub(in crate::command) no_cache: bool,
    /// Whether registries are asked what names stand for now.
    pub(in crate::command) pull: bool,
    /// Who builds; a node that takes tasks where there is none.
    pub(in crate::command) node: Option<String>,
    /// Of the image, in place of those of the Dockerfile with the same name.
    pub(in crate::command) labels: BTreeMap<String, String>,
    /// What every `RUN` has.
    pub(in crate::command) steps: wire::BuildSteps,
}

/// Where the instructions stand.
pub(in crate::command) enum Instructions {
    /// A Dockerfile; `-` is standard input.
    File(PathBuf),
    /// A text, and what it is called in messages.
    Text { text: String, name: String },
}

/// An order that was read and checked, with all that it needs of this machine. Nothing was sent yet.
pub(in crate::command) struct Ready {
    order: Order,
    text: String,
    file: String,
    plan: Plan,
    found: Found,
}

impl Order {
    /// Reads all that a build needs, and tells everything that is wrong with its Dockerfile.
    pub(in crate::command) fn prepare(self) -> Result<Ready, Failure> {
        let folder = folder(&self.context)?;
        let (text, file) = match &self.instructions {
            Instructions::File(path) => {
                (read_text(path, "name the Dockerfile with `-f FILE`")?, path.display().to_string())
            }
            Instructions::Text { text, name } => (text.clone(), name.clone()),
        };
        let dockerfile = swarm_dockerfile::read(&text, &file).map_err(|wrong| problems(&wrong))?;
        let wishes = Wishes {
            target: self.target.clone(),
            build_args: self.build_args.clone(),
            secrets: Some(self.secrets.iter().map(|secret| secret.id.clone()).collect()),
            platform: here(),
        };
        let plan =
            swarm_dockerfile::plan(&dockerfile, &wishes).map_err(|wrong| problems(&wrong))?;
        for warning in &plan.warnings {
            output::warn(&warning.to_string());
        }
        tell_of_unused(&dockerfile, &wishes);
        let beside = match &self.instructions {
            Instructions::File(path) => path.clone(),
            Instructions::Text { .. } => folder.join("Dockerfile"),
        };
        let context = Context { folder: folder.clone(), ignore: ignore(&beside, &folder)? };
        let found = context.found()?;
        for warning in &found.warnings {
            output::warn(warning);
        }
        Ok(Ready { order: self, text, file, plan, found })
    }
}

impl Ready {
    /// The Dockerfile's name.
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// What would be built.
    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What would be sent.
    pub(super) fn found(&self) -> &Found {
        &self.found
    }

    /// The registries of the images that it begins with or takes files from.
    fn registries(&self) -> Vec<String> {
        let bases = self.plan.stages.iter().filter_map(|stage| match &stage.base {
            Base::Image(name) => Some(name),
            Base::Scratch | Base::Stage(_) => None,
        });
        let others = self.plan.stages.iter().flat_map(|stage| &stage.images);
        let names = bases.chain(others).filter_map(|name| name.parse().ok());
        let registries: BTreeSet<String> =
            names.map(|reference: ImageReference| reference.registry).collect();
        registries.into_iter().collect()
    }

    /// Has a node build it, and shows how far that is.
    pub(in crate::command) async fn carry_out(
        self,
        call: &Call,
    ) -> Result<wire::BuildDone, Failure> {
        let registries = self.registries();
        let Self { order, text, file, found, .. } = self;
        let start = wire::BuildStart {
            dockerfile: text,
            file,
            names: order.names,
            target: order.target.unwrap_or_default(),
            build_args: order.build_args,
            secrets: order.secrets,
            no_cache: order.no_cache,
            pull: order.pull,
            node: order.node.unwrap_or_default(),
            labels: order.labels,
            steps: Some(order.steps),
            registries,
            logins: Vec::new(),
        };
        let streams = call.cluster.call(async |mut client| {
            let (sender, inputs) = mpsc::channel(WAITING);
            let outputs = client.build(ReceiverStream::new(inputs)).await?.into_inner();
            Ok(Response::new((sender, outputs)))
        });
        let (sender, outputs) = streams.await?;
        // Only now is anything done: a request is never sent twice. There is room: nothing was sent yet.
        let _ = sender.try_send(wire::BuildInput { input: Some(Input::Start(start)) });
        let upload = upload::send(found, sender.clone());
        let done = follow(outputs, upload).await?;
        // Until here the open stream said that somebody waits.
        drop(sender);
        Ok(done)
    }
}

/// Shows what the build says until its end, while the context goes up.
async fn follow(
    mut outputs: Streaming<wire::BuildOutput>,
    upload: impl Future<Output = Result<(), Failure>>,
) -> Result<wire::BuildDone, Failure> {
    let mut upload = std::pin::pin!(upload);
    let mut is_sent = false;
    let mut progress = progress::Progress::default();
    loop {
        tokio::select! {
            said = connect::next(&mut outputs, |message| message.output, lost) => match said? {
                Output::Done(done) => return Ok(done),
                other => progress.show(&other),
            },
            sent = &mut upload, if !is_sent => {
                sent?;
                is_sent = true;
            }
        }
    }
}

fn lost(why: &str) -> Failure {
    Failure::refused(format!("the build was lost: {why}"))
        .hint("what it had done is kept on its node: run it again, or see `swarmctl node ls`")
}

/// A secret that nothing mounts is mostly a mistake of writing.
fn tell_of_unused(dockerfile: &Dockerfile, wishes: &Wishes) {
    let used = dockerfile.secrets();
    for id in wishes.secrets.iter().flatten().filter(|id| !used.contains(*id)) {
        output::warn(&format!(
            "no `RUN --mount=type=secret` of `{}` names the secret `{id}`",
            dockerfile.file()
        ));
    }
}

fn problems(problems: &swarm_dockerfile::Problems) -> Failure {
    Failure::refused(problems.to_string())
}

/// This machine's processor, for a look at the Dockerfile; the node that builds puts its own in its place.
fn here() -> Platform {
    Platform::linux(match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    })
}

fn folder(context: &Path) -> Result<PathBuf, Failure> {
    let shown = context.display();
    let text = context.to_string_lossy();
    if text == "-" || text.contains("://") || text.starts_with("git@") {
        return Err(Failure::usage(format!("the context `{shown}` is no folder")).hint(
            "build from a folder of this machine; with nothing in it, where no file is copied",
        ));
    }
    let folder = std::fs::canonicalize(context)
        .map_err(|error| Failure::because(format!("cannot open the context `{shown}`"), &error))?;
    if !folder.is_dir() {
        return Err(Failure::usage(format!("the context `{shown}` is no folder"))
            .hint("name a Dockerfile with `-f FILE`, and the folder with the files after it"));
    }
    Ok(folder)
}

/// The patterns beside the Dockerfile, else those of the context.
fn ignore(dockerfile: &Path, folder: &Path) -> Result<Ignore, Failure> {
    let [beside, within] = Ignore::file_names(&dockerfile.display().to_string());
    for path in [PathBuf::from(beside), folder.join(within)] {
        if path.is_file() {
            let text = read_text(&path, "see what it is")?;
            return Ignore::read(&text, &path.display().to_string())
                .map_err(|wrong| problems(&wrong));
        }
    }
    Ok(Ignore::default())
}

/// A text file, or standard input.
fn read_text(path: &Path, hint: &str) -> Result<String, Failure> {
    let shown = path.display();
    let failed = |error: std::io::Error| {
        Failure::because(format!("cannot read `{shown}`"), &error).hint(hint)
    };
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(failed)?)
    };
    let mut bytes = Vec::new();
    source.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Failure::refused(format!("`{shown}` is larger than 1 MiB")));
    }
    String::from_utf8(bytes)
        .map_err(|error| Failure::because(format!("`{shown}` is no text"), &error))
}
