//! `build`: makes an image of a Dockerfile and a folder, on a node.

mod context;
mod given;
mod progress;
mod upload;
mod view;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use swarm_dockerfile::{Dockerfile, Ignore, Plan, Platform, Wishes};
use swarm_manifests::ImageReference;
use swarm_proto::wire;
use swarm_proto::wire::build_input::Input;
use swarm_proto::wire::build_output::Output;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Streaming};

use super::Call;
use crate::connect;
use crate::failure::Failure;
use crate::output::{self, Format};
use context::Context;
use given::{Argument, SecretOption};
use view::{BuiltView, PlanView};

/// Messages that wait for the connection.
const WAITING: usize = 4;
/// Larger Dockerfiles and files of patterns are refused.
const MOST_BYTES: u64 = 1 << 20;

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
    context: PathBuf,
}

/// A Dockerfile that was read, with what it is read for.
struct Prepared {
    text: String,
    file: String,
    wishes: Wishes,
    plan: Plan,
    context: Context,
    secrets: Vec<wire::BuildSecret>,
}

/// Says what would be built.
pub(crate) fn check(build: &Build, format: Format) -> Result<(), Failure> {
    let prepared = prepare(build)?;
    let context = prepared.context.found()?;
    for warning in &context.warnings {
        output::warn(warning);
    }
    let view = PlanView::new(&prepared.file, &prepared.plan, &context);
    output::data(&view.text(format)?);
    Ok(())
}

pub(crate) async fn run(build: &Build, call: &Call) -> Result<(), Failure> {
    let mut prepared = prepare(build)?;
    let context = prepared.context.found()?;
    for warning in &context.warnings {
        output::warn(warning);
    }
    let start = wire::BuildStart {
        dockerfile: prepared.text,
        file: prepared.file,
        names: build.tag.clone(),
        target: prepared.wishes.target.unwrap_or_default(),
        build_args: prepared.wishes.build_args,
        secrets: std::mem::take(&mut prepared.secrets),
        no_cache: build.no_cache,
        pull: build.pull,
        node: build.node.clone().unwrap_or_default(),
    };
    let streams = call.cluster.call(async |mut client| {
        let (sender, inputs) = mpsc::channel(WAITING);
        let outputs = client.build(ReceiverStream::new(inputs)).await?.into_inner();
        Ok(Response::new((sender, outputs)))
    });
    let (sender, outputs) = streams.await?;
    // Only now is anything done: a request is never sent twice. There is room: nothing was sent yet.
    let _ = sender.try_send(wire::BuildInput { input: Some(Input::Start(start)) });
    let upload = upload::send(context, sender.clone());
    let done = follow(outputs, upload).await?;
    // Until here the open stream said that somebody waits.
    drop(sender);
    let view = BuiltView { digest: &done.digest, size: done.size, names: &build.tag };
    output::data(&view.text(call.format)?);
    Ok(())
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
            said = next(&mut outputs) => match said? {
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

async fn next(outputs: &mut Streaming<wire::BuildOutput>) -> Result<Output, Failure> {
    match outputs.message().await {
        Ok(Some(message)) => message.output.ok_or_else(|| lost("it said nothing")),
        Ok(None) => Err(lost("the connection ended")),
        Err(status) if connect::is_passing(&status) => Err(lost(status.message())),
        Err(status) => Err(connect::refusal(&status)),
    }
}

fn lost(why: &str) -> Failure {
    Failure::refused(format!("the build was lost: {why}"))
        .hint("what it had done is kept on its node: run it again, or see `swarmctl node ls`")
}

/// Reads all that a build needs from this machine, and tells everything that is wrong with the Dockerfile.
fn prepare(build: &Build) -> Result<Prepared, Failure> {
    let folder = folder(&build.context)?;
    let path = build.file.clone().unwrap_or_else(|| build.context.join("Dockerfile"));
    let file = path.display().to_string();
    let text = read_text(&path, "name the Dockerfile with `-f FILE`")?;
    let dockerfile = swarm_dockerfile::read(&text, &file).map_err(|wrong| problems(&wrong))?;
    let secrets = given::read_secrets(&build.secret)?;
    let wishes = Wishes {
        target: build.target.clone(),
        build_args: given::values(&build.arguments),
        secrets: Some(secrets.iter().map(|secret| secret.id.clone()).collect()),
        platform: here(),
    };
    let plan = swarm_dockerfile::plan(&dockerfile, &wishes).map_err(|wrong| problems(&wrong))?;
    for warning in &plan.warnings {
        output::warn(&warning.to_string());
    }
    told_of_unused(&dockerfile, &wishes);
    let context = Context { folder: folder.clone(), ignore: ignore(&path, &folder)? };
    Ok(Prepared { text, file, wishes, plan, context, secrets })
}

/// A secret that nothing mounts is mostly a mistake of writing.
fn told_of_unused(dockerfile: &Dockerfile, wishes: &Wishes) {
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

/// A name that an image may have.
fn image_name(text: &str) -> Result<String, String> {
    let reference: ImageReference = text.parse().map_err(|error| format!("{error}"))?;
    match reference.digest {
        Some(_) => Err("an image's digest is what the build says, not what it is told".to_owned()),
        None => Ok(text.to_owned()),
    }
}
