//! What other hosts and controllers ask of this host's images: blobs to copy, archives in and out, names, removal.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::time::Duration;

use swarm_proto::convert::{Fields, each};
use swarm_proto::id::Digest;
use swarm_proto::object::RegistryLogin;
use swarm_proto::spec::ImageSpec;
use swarm_proto::transport::{Peer, PeerRole, known_peer};
use swarm_proto::wire;
use swarm_proto::wire::image_store_server::{ImageStore, ImageStoreServer};
use swarm_proto::wire::load_image_request::Part;
use swarm_proto::wire::pull_progress::Said as PullSaid;
use swarm_proto::wire::push_progress::Said;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::image::{
    BlobStep, Details, Images, Import, LayerProgress, LoginCheck, Logins, Needed, PushStep, Rate,
    Removed, coming,
};
use crate::server::{given, refusal};

/// Blobs that are sent at the same time: the disk and the network are the tasks' too.
const SENDS: usize = 8;
/// Who waits longer for a turn is told that there is enough to do.
const TURN: Duration = Duration::from_secs(5);
/// Bytes in one message.
const PART: usize = 256 << 10;
/// Messages that wait for the network, or for the disk.
const WAITING: usize = 4;

/// The service of this host's images.
pub struct ImageStoreService {
    images: Images,
    hostname: String,
    sends: Arc<Semaphore>,
}

impl ImageStoreService {
    /// The service of this host.
    pub fn server(images: Images, hostname: String) -> ImageStoreServer<Self> {
        let sends = Arc::new(Semaphore::new(SENDS));
        ImageStoreServer::new(Self { images, hostname, sends })
    }

    /// Refuses a host that was removed from the cluster, whatever its certificate says.
    async fn check(&self, peer: &Peer) -> Result<(), Status> {
        let Some(node) = peer.node_id.filter(|_| peer.role == PeerRole::Agent) else {
            return Ok(());
        };
        let member = match self.images.neighbours() {
            Some(neighbours) => neighbours.directory.is_member(node).await,
            None => false,
        };
        if member {
            return Ok(());
        }
        let why = format!("node {node} is no member of the cluster, as far as this host can tell");
        Err(Status::permission_denied(why))
    }
}

type Parts<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl ImageStore for ImageStoreService {
    type ReadBlobStream = Parts<wire::BlobPart>;

    async fn read_blob(
        &self,
        request: Request<wire::ReadBlobRequest>,
    ) -> Result<Response<Self::ReadBlobStream>, Status> {
        self.check(known_peer(&request)?).await?;
        let wire::ReadBlobRequest { digest, offset, length } = request.into_inner();
        let digest: Digest =
            digest.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
        if let Some(bytes) = self.images.coming(&digest) {
            return Err(coming(&digest, bytes));
        }
        let turn = timeout(TURN, Arc::clone(&self.sends).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(Status::resource_exhausted("this host sends enough already"));
        };
        let mut file = self
            .images
            .open_blob(&digest)
            .ok_or_else(|| Status::not_found(format!("`{digest}` is not on this host")))?;
        let (sender, parts) = mpsc::channel(WAITING);
        let rate = self.images.shares();
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            // By the protocol, none is all that there is.
            let length = if length == 0 { u64::MAX } else { length };
            if let Err(error) = send(&mut file, (offset, length), &rate, &sender) {
                // An error means that nobody listens any more.
                let _ = sender.blocking_send(Err(Status::data_loss(error.to_string())));
            }
        });
        Ok(Response::new(ReceiverStream::new(parts)))
    }

    async fn load(
        &self,
        request: Request<Streaming<wire::LoadImageRequest>>,
    ) -> Result<Response<wire::LoadImageResponse>, Status> {
        let mut parts = request.into_inner();
        let first = parts.message().await?.and_then(|message| message.part);
        let Some(Part::Start(start)) = first else {
            return Err(Status::invalid_argument("the first message must say what is loaded"));
        };
        let (sender, receiver) = mpsc::channel(WAITING);
        let archive = Incoming { receiver, part: Vec::new(), at: 0, ended: false };
        let tag = Some(start.tag).filter(|tag| !tag.is_empty());
        let images = &self.images;
        let taken = async {
            match start.import {
                Some(import) => Ok(vec![images.import(archive, wished(import)).await?]),
                None => images.load(archive, tag).await,
            }
        };
        let pump = async move {
            loop {
                let part = match parts.message().await {
                    Ok(Some(wire::LoadImageRequest { part: Some(Part::Data(data)) })) => data,
                    Ok(Some(_)) => continue,
                    // Nothing is what tells the end from a broken connection.
                    Ok(None) => Vec::new(),
                    Err(_) => return,
                };
                let end = part.is_empty();
                if sender.send(part).await.is_err() || end {
                    return;
                }
            }
        };
        let (loaded, ()) = tokio::join!(taken, pump);
        let loaded = loaded.map_err(|error| refusal(&error))?;
        let images = loaded.into_iter().map(|image| wire::LoadedImage {
            names: image.names,
            digest: image.digest.to_string(),
        });
        let node = self.hostname.clone();
        Ok(Response::new(wire::LoadImageResponse { images: images.collect(), node }))
    }

    type SaveStream = Parts<wire::ArchivePart>;

    async fn save(
        &self,
        request: Request<wire::SaveImageRequest>,
    ) -> Result<Response<Self::SaveStream>, Status> {
        let export = self.images.export(&request.into_inner().images);
        let export = export.map_err(|error| refusal(&error))?;
        let (sender, parts) = mpsc::channel(WAITING);
        tokio::task::spawn_blocking(move || {
            let out = Outgoing { sender: sender.clone() };
            let written = export.write(io::BufWriter::with_capacity(PART, out));
            if let Err(error) = written {
                let why = format!("the archive breaks off: {error}");
                let _ = sender.blocking_send(Err(Status::data_loss(why)));
            }
        });
        Ok(Response::new(ReceiverStream::new(parts)))
    }

    async fn inspect(
        &self,
        request: Request<wire::InspectImageRequest>,
    ) -> Result<Response<wire::ImageDetails>, Status> {
        let details = self.images.details(&request.into_inner().image);
        let details = details.map_err(|error| refusal(&error))?;
        Ok(Response::new(shown(details, &self.hostname)))
    }

    async fn tag(
        &self,
        request: Request<wire::TagImageRequest>,
    ) -> Result<Response<wire::TagImageResponse>, Status> {
        let wire::TagImageRequest { image, name, .. } = request.into_inner();
        let tagged = self.images.tag(&image, &name).await;
        let (digest, name) = tagged.map_err(|error| refusal(&error))?;
        let (node, digest) = (self.hostname.clone(), digest.to_string());
        Ok(Response::new(wire::TagImageResponse { node, digest, name }))
    }

    async fn remove(
        &self,
        request: Request<wire::RemoveImageRequest>,
    ) -> Result<Response<wire::RemovedImages>, Status> {
        let wire::RemoveImageRequest { image, needed, .. } = request.into_inner();
        let removed = self.images.remove(&image, &by_digest(needed)?).await;
        removed.map(|removed| self.told(removed)).map_err(|error| refusal(&error))
    }

    async fn prune(
        &self,
        request: Request<wire::PruneImagesRequest>,
    ) -> Result<Response<wire::RemovedImages>, Status> {
        let wire::PruneImagesRequest { older_than, local, needed, .. } = request.into_inner();
        let age = Duration::from_millis(older_than);
        let removed = self.images.prune(age, local, &by_digest(needed)?).await;
        removed.map(|removed| self.told(removed)).map_err(|error| refusal(&error))
    }

    async fn prune_builds(
        &self,
        request: Request<wire::PruneBuildsRequest>,
    ) -> Result<Response<wire::RemovedImages>, Status> {
        let age = Duration::from_millis(request.into_inner().unused_for);
        let trimmed = self.images.trim(age).await.map_err(|error| refusal(&error))?;
        Ok(Response::new(wire::RemovedImages {
            freed: trimmed.freed,
            caches: trimmed.things,
            node: self.hostname.clone(),
            ..wire::RemovedImages::default()
        }))
    }

    type PushStream = Parts<wire::PushProgress>;

    async fn push(
        &self,
        request: Request<wire::PushImageRequest>,
    ) -> Result<Response<Self::PushStream>, Status> {
        let request = request.into_inner();
        let logins = Logins::of_cluster(given(request.login)?).or_brought(given(request.brought)?);
        let images = self.images.with_logins(logins);
        let (sender, parts) = mpsc::channel(WAITING);
        let names = (request.image, request.target);
        tokio::spawn(push(images, self.hostname.clone(), names, sender));
        Ok(Response::new(ReceiverStream::new(parts)))
    }

    type PullStream = Parts<wire::PullProgress>;

    async fn pull(
        &self,
        request: Request<wire::PullImageRequest>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let wire::PullImageRequest { image, digest, login, .. } = request.into_inner();
        let images = self.images.with_logins(Logins::of_cluster(given(login)?));
        let digest = Fields("PullImageRequest").text("digest", &digest);
        let digest = digest.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let spec = ImageSpec { digest: Some(digest), ..ImageSpec::new(image) };
        let (sender, parts) = mpsc::channel(WAITING);
        tokio::spawn(pull(images, self.hostname.clone(), spec, sender));
        Ok(Response::new(ReceiverStream::new(parts)))
    }

    async fn check_login(
        &self,
        request: Request<wire::RegistryLogin>,
    ) -> Result<Response<wire::CheckLoginResponse>, Status> {
        let login = RegistryLogin::try_from(request.into_inner())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let check = self.images.check_login(&login).await.map_err(|error| refusal(&error))?;
        Ok(Response::new(wire::CheckLoginResponse { open: check == LoginCheck::Open }))
    }
}

/// Sends an image as long as somebody listens, and tells how far it is.
async fn push(
    images: Images,
    hostname: String,
    (image, target): (String, String),
    sender: mpsc::Sender<Result<wire::PushProgress, Status>>,
) {
    let say = |said| Ok(wire::PushProgress { said: Some(said) });
    let started = Said::Started(wire::PushStarted { node: hostname, target: target.clone() });
    if sender.send(say(started)).await.is_err() {
        return;
    }
    let (steps, mut told) = mpsc::channel(WAITING);
    let telling = async {
        while let Some(step) = told.recv().await {
            if sender.send(say(Said::Blob(shown_step(step)))).await.is_err() {
                return;
            }
        }
    };
    let pushing = async { tokio::join!(images.push(&image, &target, steps), telling).0 };
    let pushed = tokio::select! {
        pushed = pushing => pushed,
        () = sender.closed() => return,
    };
    let done = pushed.map(|pushed| wire::PushProgress {
        said: Some(Said::Done(wire::PushDone {
            target: pushed.target,
            digest: pushed.digest.to_string(),
            size: pushed.size,
            index: pushed.index.map(|index| index.to_string()).unwrap_or_default(),
        })),
    });
    // An error means that nobody listens any more.
    let _ = sender.send(done.map_err(|error| refusal(&error))).await;
}

/// Fetches an image, and tells how far it is. It goes on when nobody listens any more: other tasks may want it, too.
async fn pull(
    images: Images,
    hostname: String,
    spec: ImageSpec,
    sender: mpsc::Sender<Result<wire::PullProgress, Status>>,
) {
    let say = |said| Ok(wire::PullProgress { node: hostname.clone(), said: Some(said) });
    let (steps, mut told) = mpsc::channel::<Vec<LayerProgress>>(1);
    let telling = async {
        while let Some(layers) = told.recv().await {
            let layers = layers.into_iter().map(shown_layer).collect();
            let layers = PullSaid::Layers(wire::PulledLayers { layers });
            if sender.send(say(layers)).await.is_err() {
                return;
            }
        }
    };
    let (pulled, ()) = tokio::join!(images.pull(&spec, steps), telling);
    let done = pulled.map(|image| wire::PullDone { digest: image.digest.to_string() });
    let done = match done {
        Ok(done) => say(PullSaid::Done(done)),
        Err(error) => Err(refusal(&error)),
    };
    // An error means that nobody listens any more.
    let _ = sender.send(done).await;
}

fn shown_layer(layer: LayerProgress) -> wire::PulledLayer {
    let LayerProgress { digest, size, received, unpacked } = layer;
    wire::PulledLayer { digest: digest.to_string(), size, received, unpacked }
}

fn shown_step(step: PushStep) -> wire::PushedBlob {
    let PushStep { digest, size, step } = step;
    let (mut sent, mut reason) = (0, String::new());
    let step = match step {
        BlobStep::Waiting => wire::BlobStep::Waiting,
        BlobStep::Sending(bytes) => {
            sent = bytes;
            wire::BlobStep::Sending
        }
        BlobStep::Again(why) => {
            reason = why;
            wire::BlobStep::Again
        }
        BlobStep::There => wire::BlobStep::There,
        BlobStep::Mounted => wire::BlobStep::Mounted,
        BlobStep::Sent => wire::BlobStep::Sent,
    };
    wire::PushedBlob { digest: digest.to_string(), size, step: step.into(), sent, reason }
}

impl ImageStoreService {
    fn told(&self, removed: Removed) -> Response<wire::RemovedImages> {
        let Removed { untagged, removed, freed } = removed;
        let removed = removed.iter().map(ToString::to_string).collect();
        let (node, error) = (self.hostname.clone(), String::new());
        Response::new(wire::RemovedImages { untagged, removed, freed, node, error, caches: 0 })
    }
}

/// Empty is not given.
fn wished(import: wire::ImportImage) -> Import {
    let wire::ImportImage { name, changes, message, platform } = import;
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    Import { name: given(name), changes, message: given(message), platform: given(platform) }
}

fn by_digest(needed: BTreeMap<String, String>) -> Result<Needed, Status> {
    let parsed = needed
        .into_iter()
        .map(|(digest, by)| Ok((Fields("RemoveImageRequest").text("needed", &digest)?, by)));
    parsed
        .collect::<Result<_, swarm_proto::convert::ConvertError>>()
        .map_err(|error| Status::invalid_argument(error.to_string()))
}

fn shown(details: Details, hostname: &str) -> wire::ImageDetails {
    let layers = details.layers.into_iter().map(|layer| wire::ImageLayer {
        digest: layer.digest.to_string(),
        size: layer.size,
        diff_id: layer.diff_id.to_string(),
        media_type: layer.media_type,
    });
    wire::ImageDetails {
        node: hostname.to_owned(),
        digest: details.held.digest.to_string(),
        names: each(&details.held.names),
        size: details.size,
        came_at: details.came_at.0,
        layers: layers.collect(),
        config: details.config,
        tasks: details.tasks,
        nodes: Vec::new(),
    }
}

/// Sends so many bytes of a file from an offset on, until its end or until nobody listens.
fn send(
    file: &mut std::fs::File,
    (offset, length): (u64, u64),
    rate: &Rate,
    sender: &mpsc::Sender<Result<wire::BlobPart, Status>>,
) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    let mut wanted = file.take(length);
    loop {
        let mut data = Vec::with_capacity(PART);
        wanted.by_ref().take(PART as u64).read_to_end(&mut data)?;
        std::thread::sleep(rate.take(data.len()));
        if data.is_empty() || sender.blocking_send(Ok(wire::BlobPart { data })).is_err() {
            return Ok(());
        }
    }
}

/// An archive as it comes, for a thread that may block.
struct Incoming {
    receiver: mpsc::Receiver<Vec<u8>>,
    part: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.part.len() && !self.ended {
            let part = self.receiver.blocking_recv();
            let broken = || io::Error::new(io::ErrorKind::UnexpectedEof, "the connection broke");
            self.part = part.ok_or_else(broken)?;
            self.at = 0;
            self.ended = self.part.is_empty();
        }
        let rest = self.part.get(self.at..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.at += length;
        Ok(length)
    }
}

/// An archive as it goes, from a thread that may block.
struct Outgoing {
    sender: mpsc::Sender<Result<wire::ArchivePart, Status>>,
}

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = &bytes[..bytes.len().min(PART)];
        let sent = self.sender.blocking_send(Ok(wire::ArchivePart { data: part.to_vec() }));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
