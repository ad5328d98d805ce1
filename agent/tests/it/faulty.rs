//! A host that serves another one's blobs badly.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use swarm_proto::wire;
use swarm_proto::wire::image_store_server::{ImageStore, ImageStoreServer};
use tokio::sync::mpsc::Sender;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::sharing::Host;

/// Bytes in one message.
const PART: usize = 100_000;
/// Larger blobs are served badly.
const LARGE: usize = 1_000_000;

/// See the module.
#[derive(Clone)]
pub(crate) struct Faulty {
    blobs: PathBuf,
    fault: Fault,
    asked: Arc<Mutex<Vec<Asked>>>,
    sent: Arc<AtomicUsize>,
}

/// What was wanted of a blob.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asked {
    pub(crate) name: String,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// What a host does wrong with large blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It knows of no lengths, as an earlier version.
    KnowsNoLength,
    /// It breaks off after so many bytes of what is wanted from its beginning.
    BreaksOff(usize),
    /// It dies after so many bytes, whatever is asked of it.
    Dies(usize),
    /// It changes a bit here and there.
    Lies,
    /// It waits so long before each part.
    IsSlow(Duration),
    /// It says nothing more after so many bytes.
    FallsSilent(usize),
    /// It gives a byte less than it was asked for.
    EndsEarly,
}

impl Faulty {
    pub(crate) fn of(host: &Host, fault: Fault) -> Self {
        let blobs = host.folder.path().join("blobs/sha256");
        Self { blobs, fault, asked: Arc::default(), sent: Arc::default() }
    }

    pub(crate) fn server(&self) -> ImageStoreServer<Self> {
        ImageStoreServer::new(self.clone())
    }

    /// What was wanted of large blobs.
    pub(crate) fn asked_of_large(&self) -> Vec<Asked> {
        let length = |name: &str| fs::metadata(self.blobs.join(name)).unwrap().len();
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|asked| length(&asked.name) > LARGE as u64).cloned().collect()
    }

    /// Bytes of large blobs that were sent.
    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    /// Sends bytes as badly as this host does.
    async fn send(
        self,
        bytes: Vec<u8>,
        offset: u64,
        sender: Sender<Result<wire::BlobPart, Status>>,
    ) {
        let mut of_this = 0;
        for part in bytes.chunks(PART) {
            let mut data = part.to_vec();
            match self.fault {
                Fault::BreaksOff(after) if offset == 0 && of_this >= after => {
                    return die(&sender).await;
                }
                Fault::Dies(after) if self.sent() >= after => return die(&sender).await,
                Fault::FallsSilent(after) if self.sent() >= after => sender.closed().await,
                Fault::IsSlow(pause) => tokio::time::sleep(pause).await,
                Fault::Lies => data[0] ^= 1,
                _ => {}
            }
            of_this += data.len();
            self.sent.fetch_add(data.len(), Ordering::SeqCst);
            if sender.send(Ok(wire::BlobPart { data })).await.is_err() {
                return;
            }
        }
    }
}

async fn die(sender: &Sender<Result<wire::BlobPart, Status>>) {
    let _ = sender.send(Err(Status::unavailable("the host dies"))).await;
}

type Parts<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl ImageStore for Faulty {
    type ReadBlobStream = Parts<wire::BlobPart>;

    async fn read_blob(
        &self,
        request: Request<wire::ReadBlobRequest>,
    ) -> Result<Response<Self::ReadBlobStream>, Status> {
        let wire::ReadBlobRequest { digest, offset, length } = request.into_inner();
        let name = digest.trim_start_matches("sha256:").to_owned();
        let mut bytes = fs::read(self.blobs.join(&name)).unwrap();
        self.asked.lock().unwrap().push(Asked { name, offset, length });
        let is_large = bytes.len() > LARGE;
        bytes.drain(..usize::try_from(offset).unwrap());
        if length > 0 && self.fault != Fault::KnowsNoLength {
            bytes.truncate(usize::try_from(length).unwrap());
        }
        if is_large && self.fault == Fault::EndsEarly {
            bytes.pop();
        }
        let (sender, parts) = tokio::sync::mpsc::channel(4);
        let served = if is_large {
            self.clone()
        } else {
            Self { fault: Fault::None, sent: Arc::default(), ..self.clone() }
        };
        tokio::spawn(served.send(bytes, offset, sender));
        Ok(Response::new(ReceiverStream::new(parts)))
    }

    async fn load(
        &self,
        _: Request<Streaming<wire::LoadImageRequest>>,
    ) -> Result<Response<wire::LoadImageResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    type SaveStream = Parts<wire::ArchivePart>;

    async fn save(
        &self,
        _: Request<wire::SaveImageRequest>,
    ) -> Result<Response<Self::SaveStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn inspect(
        &self,
        _: Request<wire::InspectImageRequest>,
    ) -> Result<Response<wire::ImageDetails>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn tag(
        &self,
        _: Request<wire::TagImageRequest>,
    ) -> Result<Response<wire::TagImageResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn remove(
        &self,
        _: Request<wire::RemoveImageRequest>,
    ) -> Result<Response<wire::RemovedImages>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn prune(
        &self,
        _: Request<wire::PruneImagesRequest>,
    ) -> Result<Response<wire::RemovedImages>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn prune_builds(
        &self,
        _: Request<wire::PruneBuildsRequest>,
    ) -> Result<Response<wire::RemovedImages>, Status> {
        Err(Status::unimplemented("not here"))
    }

    type PushStream = Parts<wire::PushProgress>;

    async fn push(
        &self,
        _: Request<wire::PushImageRequest>,
    ) -> Result<Response<Self::PushStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    type PullStream = Parts<wire::PullProgress>;

    async fn pull(
        &self,
        _: Request<wire::PullImageRequest>,
    ) -> Result<Response<Self::PullStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn check_login(
        &self,
        _: Request<wire::RegistryLogin>,
    ) -> Result<Response<wire::CheckLoginResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}
