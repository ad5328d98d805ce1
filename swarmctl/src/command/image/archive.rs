//! `image load`, `image import` and `image save`: archives of images and of file systems, in and out.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use swarm_proto::wire;
use swarm_proto::wire::images_client::ImagesClient;
use swarm_proto::wire::load_image_request::Part;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Response;

use super::whole;
use crate::command::Call;
use crate::connect;
use crate::failure::Failure;
use crate::output;

/// Bytes in one message.
const PART: usize = 256 << 10;
/// Messages that wait for the connection.
const WAITING: usize = 4;
/// Standard input or output.
const STANDARD: &str = "-";

/// Takes the images of an archive to a node: `docker save`'s, or a tar file of an OCI layout, perhaps gzipped
///
/// Other nodes copy them from there when a task needs them. A name without a registry's host then means the loaded image,
/// whatever Docker Hub has under it.
#[derive(Debug, clap::Args)]
pub(crate) struct Load {
    /// The archive, or `-` for standard input
    file: PathBuf,
    /// The node; by default the controller's own
    #[arg(long)]
    node: Option<String>,
    /// A name for the image, where the archive says none
    #[arg(long, value_name = "NAME")]
    tag: Option<String>,
}

/// Makes an image of a file system: a tar file of its files, perhaps compressed with gzip or zstd, becomes its one layer
///
/// Other nodes copy it from there when a task needs it.
#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// The archive, or `-` for standard input
    file: PathBuf,
    /// The image's name; without one it is known by its digest
    name: Option<String>,
    /// How it runs: an instruction as in a Dockerfile, such as `CMD ["/bin/sh"]`
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Stands in its history
    #[arg(short, long)]
    message: Option<String>,
    /// What it is for, which must be what the node is
    #[arg(long, value_name = "OS/ARCHITECTURE")]
    platform: Option<String>,
    /// The node; by default the controller's own
    #[arg(long)]
    node: Option<String>,
}

/// Writes images into an archive: a tar file of an OCI layout that `docker load` reads as well
#[derive(Debug, clap::Args)]
pub(crate) struct Save {
    /// Names, digests, or the first digits of one
    #[arg(required = true)]
    images: Vec<String>,
    /// Where to write it, or `-` for standard output
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// The node to take them from; by default one that holds them
    #[arg(long)]
    node: Option<String>,
}

pub(super) async fn load(load: Load, call: &Call) -> Result<(), Failure> {
    let start = wire::LoadImageStart {
        node: load.node.unwrap_or_default(),
        tag: load.tag.unwrap_or_default(),
        import: None,
    };
    let answer = take(&load.file, start, call).await?;
    for image in answer.images {
        let names = match image.names.as_slice() {
            [] => String::from("an image without a name"),
            names => names.join(", "),
        };
        output::talk(&format!("loaded {names} on node {}: {}", answer.node, image.digest));
    }
    Ok(())
}

pub(super) async fn import(import: Import, call: &Call) -> Result<(), Failure> {
    let Import { file, name, change, message, platform, node } = import;
    if file.to_str().is_some_and(|text| text.contains("://")) {
        let why = format!("`{}` is not read: only a file or standard input is", file.display());
        return Err(Failure::refused(why).hint("`curl -L URL | swarmctl image import - NAME`"));
    }
    // Nothing is sent of what is wrong.
    let scratch = swarm_dockerfile::Image::scratch(&swarm_dockerfile::Platform::default());
    swarm_dockerfile::change(scratch, &change)
        .map_err(|problems| Failure::refused(problems.to_string()))?;
    let name = name.as_deref().map(whole).transpose()?;
    let import = wire::ImportImage {
        name: name.unwrap_or_default(),
        changes: change,
        message: message.unwrap_or_default(),
        platform: platform.unwrap_or_default(),
    };
    let node = node.unwrap_or_default();
    let start = wire::LoadImageStart { node, tag: String::new(), import: Some(import) };
    let answer = take(&file, start, call).await?;
    for image in answer.images {
        let names = image.names.join(", ");
        let called = if names.is_empty() { "an image without a name" } else { &names };
        output::talk(&format!("imported {called} on node {}", answer.node));
        output::data(&image.digest);
    }
    Ok(())
}

/// Takes an archive to a node.
async fn take(
    file: &Path,
    start: wire::LoadImageStart,
    call: &Call,
) -> Result<wire::LoadImageResponse, Failure> {
    let archive = open(file)?;
    let ask = async |channel| {
        let (sender, parts) = mpsc::channel(WAITING);
        let parts = ReceiverStream::new(parts);
        let answers = ImagesClient::new(channel).load(parts).await?.into_inner();
        Ok(Response::new((sender, answers)))
    };
    let (sender, mut answers) = call.cluster.call_service(ask).await?;
    // Only now is anything done: a request is never sent twice.
    let _ = sender.try_send(wire::LoadImageRequest { part: Some(Part::Start(start)) });
    let reading = tokio::task::spawn_blocking(move || send(archive, &sender));
    let answer = answers.message().await.map_err(|status| connect::refusal(&status))?;
    let Some(answer) = answer else {
        return Err(Failure::refused("the controller ended the stream before all was taken"));
    };
    let read = reading.await.map_err(|error| Failure::because("cannot read on", &error))?;
    read.map_err(|error| Failure::because(format!("cannot read `{}`", file.display()), &error))?;
    Ok(answer)
}

fn open(file: &Path) -> Result<Box<dyn Read + Send>, Failure> {
    if file == Path::new(STANDARD) {
        return Ok(Box::new(io::stdin()));
    }
    let opened = File::open(file);
    let opened = opened
        .map_err(|error| Failure::because(format!("cannot open `{}`", file.display()), &error))?;
    Ok(Box::new(opened))
}

/// Sends the archive, and an empty part at its end. Nobody who listens any more says why in an answer.
fn send(
    mut archive: Box<dyn Read + Send>,
    sender: &mpsc::Sender<wire::LoadImageRequest>,
) -> io::Result<()> {
    loop {
        let mut data = Vec::with_capacity(PART);
        archive.by_ref().take(PART as u64).read_to_end(&mut data)?;
        let is_last = data.is_empty();
        let part = wire::LoadImageRequest { part: Some(Part::Data(data)) };
        if sender.blocking_send(part).is_err() || is_last {
            return Ok(());
        }
    }
}

pub(super) async fn save(save: Save, call: &Call) -> Result<(), Failure> {
    let images = save.images.iter().map(|image| whole(image)).collect::<Result<_, _>>()?;
    let request = wire::SaveImageRequest { node: save.node.unwrap_or_default(), images };
    let ask = async |channel| ImagesClient::new(channel).save(request.clone()).await;
    let mut parts = call.cluster.call_service(ask).await?;
    let mut target = Target::open(&save.file)?;
    while let Some(part) = parts.message().await.map_err(|status| connect::refusal(&status))? {
        target.write(&part.data)?;
    }
    target.finish()
}

/// Where an archive is written. A file gets its name once it is whole.
struct Target {
    path: PathBuf,
    /// The file, and the name that it has meanwhile; `None` is standard output.
    file: Option<(File, PathBuf)>,
}

impl Target {
    fn open(path: &Path) -> Result<Self, Failure> {
        let target = |file| Self { path: path.to_owned(), file };
        if path == Path::new(STANDARD) {
            return Ok(target(None));
        }
        let mut aside = path.as_os_str().to_owned();
        aside.push(".part");
        let aside = PathBuf::from(aside);
        let file = File::create(&aside).map_err(|error| {
            Failure::because(format!("cannot make `{}`", aside.display()), &error)
        })?;
        Ok(target(Some((file, aside))))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = match &mut self.file {
            Some((file, _)) => file.write_all(bytes),
            None => output::raw(bytes),
        };
        written.map_err(|error| self.failure(&error))
    }

    fn finish(mut self) -> Result<(), Failure> {
        let Some((file, aside)) = &self.file else { return Ok(()) };
        let done = file.sync_all().and_then(|()| fs::rename(aside, &self.path));
        done.map_err(|error| self.failure(&error))?;
        self.file = None;
        Ok(())
    }

    fn failure(&self, error: &io::Error) -> Failure {
        Failure::because(format!("cannot write `{}`", self.path.display()), error)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Half an archive is worse than none.
        if let Some((_, aside)) = &self.file {
            let _ = fs::remove_file(aside);
        }
    }
}
