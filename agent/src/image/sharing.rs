//! Copies images from other hosts, over mutual TLS on the agents' port. Each blob is compared with its digest. A large one
//! comes in pieces from all of them at once (`gather`), others from one: they begin with different hosts, and one that
//! breaks off goes on from the next.
//!
//! Some of the hosts may still be fetching the image themselves. What is on its way there is waited for, as long as
//! bytes come; so one pull from the registry is enough for hosts that begin together.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, unfold};
use prost::bytes::Bytes;
use swarm_proto::id::{Digest, NodeId};
use swarm_proto::object::{ImageHolder, RegistryLogin, RegistryName};
use swarm_proto::transport::{Tls, node_name};
use swarm_proto::wire;
use swarm_proto::wire::image_store_client::ImageStoreClient;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::ImageError;
use super::answer::LARGEST_MANIFEST;
use super::gather::{Gathered, gather, is_large};
use super::manifest::Descriptor;
use super::pull::{Writer, blocking};
use super::store::{Store, sha256};

/// A host that says nothing for so long is passed over.
const PATIENCE: Duration = Duration::from_secs(30);
/// Hosts that have enough to do, or that fetch a blob themselves, are asked again after a pause.
pub(super) const PAUSE: Duration = Duration::from_millis(250);
/// For so long, and from each byte on that comes to them.
const WAIT: Duration = Duration::from_secs(30);
/// The length of a blob from somewhere on.
const TO_ITS_END: u64 = 0;
/// How many bytes of a blob have come to a host that fetches it, in its answer.
const COMING: &str = "swarm-coming";

/// What the cluster knows of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// What was asked for, or what the name stands for on hosts; `None`: no other host holds it.
    pub digest: Option<Digest>,
    /// The name was given on a host, not by a registry.
    pub local: bool,
    /// Who holds it.
    pub holders: Vec<ImageHolder>,
}

/// Knows which hosts hold an image.
#[tonic::async_trait]
pub trait Directory: Send + Sync {
    /// Who holds the content, or with no digest what the whole name stands for. Nobody, when that cannot be told now.
    async fn find(&self, name: &str, digest: Option<&Digest>) -> Known;

    /// Whether a node is a member of the cluster.
    async fn is_member(&self, node: NodeId) -> bool;

    /// The cluster's login at a registry, where this host needs it and there is one.
    async fn login(&self, _registry: &RegistryName) -> Option<RegistryLogin> {
        None
    }
}

/// The other hosts.
pub struct Neighbours {
    /// This host's certificate.
    pub tls: Arc<Tls>,
    /// This host.
    pub node: NodeId,
    /// Who has what.
    pub directory: Arc<dyn Directory>,
}

impl Neighbours {
    /// The way to copies of an image.
    pub(super) fn copies(&self, holders: Vec<ImageHolder>) -> Copies {
        let place = |holder: ImageHolder| {
            let channel = self.tls.channel(&holder.address, &node_name(holder.node));
            let client = ImageStoreClient::new(channel);
            Place { name: holder.hostname, client, given_up: AtomicBool::new(false) }
        };
        let places = holders.into_iter().filter(|holder| holder.node != self.node).map(place);
        let (places, shift) = (places.collect(), self.node.0);
        Copies { places, shift, ..Copies::default() }
    }
}

/// A host that holds an image.
pub(super) struct Place {
    pub(super) name: String,
    client: ImageStoreClient<Channel>,
    given_up: AtomicBool,
}

/// Why a host did not give a blob.
pub(super) enum Miss {
    /// It has enough to do.
    Busy,
    /// It is fetching it, and has so many bytes.
    Coming(u64),
    /// It has not got this one.
    Absent,
    /// It is not asked again for this image.
    Failed(String),
}

impl Miss {
    /// How many bytes have come to a host that may give it later.
    pub(super) fn later(&self) -> Option<u64> {
        match self {
            Self::Busy => Some(0),
            Self::Coming(bytes) => Some(*bytes),
            Self::Absent | Self::Failed(_) => None,
        }
    }
}

/// What came of asking all hosts for a blob.
pub(super) enum Round {
    /// It is in the store.
    Whole,
    /// Nobody gives it, or more of it, now.
    Missing {
        /// Some may yet, and so many bytes have come to them.
        later: Option<u64>,
        /// Some of it came.
        brought: bool,
    },
}

/// The hosts that hold one image.
#[derive(Default)]
pub(super) struct Copies {
    places: Vec<Place>,
    shift: u64,
    failures: Mutex<Vec<String>>,
    /// Pieces of several hosts did not make what a digest says: one of them lies, and nobody knows which.
    doubted: AtomicBool,
}

impl Copies {
    /// Whom to ask for a blob, in order.
    fn order(&self, digest: &Digest) -> impl Iterator<Item = &Place> {
        let count = self.places.len();
        let number = u64::from_str_radix(&digest.hex()[..8], 16).unwrap_or_default();
        let first = number.wrapping_add(self.shift) % (count.max(1) as u64);
        let first = usize::try_from(first).unwrap_or_default();
        let places = (0..count).map(move |turn| &self.places[(first + turn) % count]);
        places.filter(|place| !place.given_up.load(Ordering::Relaxed))
    }

    /// With which of so many layers this host begins; with the first where it copies from nobody.
    pub(super) fn first_of(&self, layers: usize) -> usize {
        if self.places.is_empty() || layers == 0 {
            return 0;
        }
        usize::try_from(self.shift % layers as u64).unwrap_or_default()
    }

    /// Why hosts did not give what they hold; empty when none failed.
    pub(super) fn failures(&self) -> String {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).join("; ")
    }

    /// Takes down why a host did not give something.
    pub(super) fn note(&self, place: &Place, digest: &Digest, miss: Miss) {
        let reason = match miss {
            Miss::Busy => "it has enough to do".to_owned(),
            // A host that only tries to get it itself says nothing of where it is.
            Miss::Coming(_) => return,
            Miss::Absent => "it does not have it".to_owned(),
            Miss::Failed(reason) => {
                place.given_up.store(true, Ordering::Relaxed);
                reason
            }
        };
        tracing::debug!(host = place.name, %digest, reason, "no copy from this host");
        self.fail(format!("host {}: {reason}", place.name));
    }

    /// Pieces of several hosts do not make what a digest says: from here on, one host gives all of a blob.
    pub(super) fn doubt(&self, given: &str) {
        self.doubted.store(true, Ordering::Relaxed);
        self.fail(format!("pieces do not make what their digest says: {given}"));
    }

    fn fail(&self, failure: String) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if !failures.contains(&failure) {
            failures.push(failure);
        }
    }

    /// A manifest or index, compared with its digest.
    pub(super) async fn document(&self, digest: &Digest) -> Option<Vec<u8>> {
        let mut patience = Patience::begin(Instant::now());
        loop {
            let mut later = None;
            for place in self.order(digest) {
                match place.document(digest).await {
                    Ok(bytes) => return Some(bytes),
                    Err(miss) => self.miss(place, digest, miss, &mut later),
                }
            }
            if !patience.allows(later?, Instant::now()) {
                return None;
            }
            sleep(PAUSE).await;
        }
    }

    /// A blob's bytes from an offset on, from the first host that gives it now.
    pub(super) async fn stream(
        &self,
        digest: &Digest,
        offset: u64,
    ) -> Option<BoxStream<'static, io::Result<Bytes>>> {
        for place in self.order(digest) {
            match place.open(digest, offset, TO_ITS_END).await {
                Ok(stream) => return Some(stream),
                Err(miss) => self.note(place, digest, miss),
            }
        }
        None
    }

    /// Brings a blob into the store; false when no host gives it. It has a turn while bytes come, not while it waits.
    pub(super) async fn blob(
        &self,
        store: &Store,
        descriptor: &Descriptor,
        turns: &Semaphore,
    ) -> Result<bool, ImageError> {
        let mut patience = Patience::begin(Instant::now());
        loop {
            let turn = take_turn(turns).await?;
            let round = self.round(store, descriptor).await?;
            drop(turn);
            let Round::Missing { later, brought } = round else { return Ok(true) };
            if brought {
                patience = Patience::begin(Instant::now());
            }
            if !later.is_some_and(|bytes| patience.allows(bytes, Instant::now())) {
                return Ok(false);
            }
            sleep(PAUSE).await;
        }
    }

    /// Asks all hosts once, in pieces where that may be, else one after the other.
    async fn round(&self, store: &Store, descriptor: &Descriptor) -> Result<Round, ImageError> {
        let digest = &descriptor.digest;
        let places: Vec<&Place> = self.order(digest).collect();
        let is_trusted = !self.doubted.load(Ordering::Relaxed);
        if is_trusted
            && places.len() > 1
            && is_large(descriptor)
            && let Gathered::Round(round) = gather(self, store, descriptor, &places).await?
        {
            return Ok(round);
        }
        let mut later = None;
        for place in self.order(digest) {
            match place.blob(store, descriptor).await? {
                Ok(()) => return Ok(Round::Whole),
                Err(miss) => self.miss(place, digest, miss, &mut later),
            }
        }
        Ok(Round::Missing { later, brought: false })
    }

    /// Takes down why a host did not give something. `later`: one may yet, and so many bytes have come to such hosts.
    fn miss(&self, place: &Place, digest: &Digest, miss: Miss, later: &mut Option<u64>) {
        if let Some(bytes) = miss.later() {
            *later = Some(later.unwrap_or(0).saturating_add(bytes));
        }
        self.note(place, digest, miss);
    }
}

/// How long hosts are waited for that do not have something yet.
struct Patience {
    until: Instant,
    most: u64,
}

impl Patience {
    fn begin(now: Instant) -> Self {
        Self { until: now + WAIT, most: 0 }
    }

    /// Whether to ask once more, when so many bytes have come to them.
    fn allows(&mut self, bytes: u64, now: Instant) -> bool {
        if bytes > self.most {
            *self = Self { until: now + WAIT, most: bytes };
        }
        now < self.until
    }
}

/// A turn among the downloads of this host.
pub(super) async fn take_turn(turns: &Semaphore) -> Result<SemaphorePermit<'_>, ImageError> {
    turns.acquire().await.map_err(|error| ImageError::Stopped(error.to_string()))
}

/// The answer of a host that is fetching a blob itself, and has so many bytes.
pub(crate) fn coming(digest: &Digest, bytes: u64) -> Status {
    let mut status = Status::aborted(format!("`{digest}` is on its way to this host"));
    status.metadata_mut().insert(COMING, bytes.into());
    status
}

impl Place {
    async fn open(
        &self,
        digest: &Digest,
        offset: u64,
        length: u64,
    ) -> Result<BoxStream<'static, io::Result<Bytes>>, Miss> {
        let request = wire::ReadBlobRequest { digest: digest.to_string(), offset, length };
        let mut client = self.client.clone();
        match timeout(PATIENCE, client.read_blob(request)).await {
            Ok(Ok(parts)) => Ok(bytes(parts.into_inner())),
            Ok(Err(status)) => Err(match status.code() {
                Code::ResourceExhausted => Miss::Busy,
                Code::NotFound => Miss::Absent,
                Code::Aborted if status.metadata().contains_key(COMING) => {
                    let bytes = status.metadata().get(COMING).and_then(|text| text.to_str().ok());
                    Miss::Coming(bytes.and_then(|text| text.parse().ok()).unwrap_or_default())
                }
                _ => Miss::Failed(first_line(status.message())),
            }),
            Err(_) => Err(Miss::Failed(SILENT.to_owned())),
        }
    }

    async fn document(&self, digest: &Digest) -> Result<Vec<u8>, Miss> {
        let mut stream = self.open(digest, 0, TO_ITS_END).await?;
        let mut document = Vec::new();
        while let Some(part) = stream.next().await {
            document.extend(part.map_err(|error| Miss::Failed(error.to_string()))?);
            if document.len() > LARGEST_MANIFEST {
                return Err(Miss::Failed("its manifest is larger than 4 MiB".to_owned()));
            }
        }
        if sha256(&document) == *digest {
            Ok(document)
        } else {
            Err(Miss::Failed(WRONG.to_owned()))
        }
    }

    /// A part of a blob, as long as it is to be.
    pub(super) async fn piece(&self, digest: &Digest, part: Range<u64>) -> Result<Vec<u8>, Miss> {
        let length = part.end - part.start;
        let mut stream = self.open(digest, part.start, length).await?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let mut piece = Vec::with_capacity(length);
        while piece.len() < length {
            let part = match stream.next().await {
                Some(part) => part.map_err(|error| broken(&error.to_string()))?,
                None => return Err(broken("it ended early")),
            };
            // A host of an earlier version goes on to the blob's end.
            piece.extend_from_slice(&part[..part.len().min(length - piece.len())]);
        }
        Ok(piece)
    }

    /// Takes a blob from this host, from where an earlier source left off. The outer error is this host's own.
    async fn blob(
        &self,
        store: &Store,
        descriptor: &Descriptor,
    ) -> Result<Result<(), Miss>, ImageError> {
        let Descriptor { digest, size, .. } = descriptor;
        loop {
            let (partial, target) = (store.partial_blob(digest), store.blob(digest));
            let mut writer = Writer::open(&partial).await?;
            let begun = writer.length();
            if begun < *size {
                let stream = match self.open(digest, begun, TO_ITS_END).await {
                    Ok(stream) => stream,
                    Err(miss) => return Ok(Err(miss)),
                };
                let (back, reason) = writer.take(stream, *size).await?;
                if let Some(reason) = reason {
                    return Ok(Err(broken(&reason)));
                }
                writer = back;
            }
            let expected = digest.clone();
            match blocking(move || writer.finish(&target, &expected)).await {
                Ok(()) => return Ok(Ok(())),
                // What an earlier source gave may be what is wrong: once more, all of it from here.
                Err(ImageError::Corrupt { .. }) if begun > 0 => {}
                Err(ImageError::Corrupt { .. }) => return Ok(Err(Miss::Failed(WRONG.to_owned()))),
                Err(error) => return Err(error),
            }
        }
    }
}

fn broken(reason: &str) -> Miss {
    Miss::Failed(format!("the copy breaks off: {reason}"))
}

const SILENT: &str = "it does not answer";
const WRONG: &str = "what it gives is not what the digest says";

fn bytes(parts: Streaming<wire::BlobPart>) -> BoxStream<'static, io::Result<Bytes>> {
    let next = |mut parts: Streaming<wire::BlobPart>| async move {
        let part = match timeout(PATIENCE, parts.message()).await {
            Ok(Ok(Some(part))) => Ok(Bytes::from(part.data)),
            Ok(Ok(None)) => return None,
            Ok(Err(status)) => Err(io::Error::other(first_line(status.message()))),
            Err(_) => Err(io::Error::other(SILENT)),
        };
        Some((part, parts))
    };
    unfold(parts, next).boxed()
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
