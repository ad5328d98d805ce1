//! Uploads that are under way, each a file that grows: `<number>-<digest of the repository's name>`. What came is kept when
//! a connection, or the agent, breaks off, and is compared with the digest before it is a blob: after a restart all of it
//! is read once more. Those that nobody touched for a day go.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderValue, LOCATION, RANGE};
use sha2::{Digest as _, Sha256};
use swarm_proto::id::Digest;
use swarm_proto::transport::random_hex;
use tokio::sync::{OwnedMutexGuard, Semaphore, mpsc};
use tokio::time::timeout;

use super::body;
use super::range::{self, Part};
use super::refusal::{Code, Refusal};
use super::route::UploadId;
use crate::image::{ImageError, Images, RepositoryName, digest_of};

/// Uploads under way on one host.
const MOST: usize = 256;
/// Those that are written to at the same time.
const THREADS: usize = 64;
/// No blob is larger.
const LARGEST: u64 = 64 << 30;
/// Uploads that nobody touched for so long go.
const KEPT_FOR: Duration = Duration::from_hours(24);
/// A request on an upload waits so long for the one before, whose connection may be broken.
const TURN: Duration = Duration::from_secs(70);
/// Chunks between the network and the disk.
const CHUNKS: usize = 8;
/// Between two looks at the disk's room.
const LOOK_EVERY: u64 = 64 << 20;
/// Bytes that are read at a time.
const BUFFER: usize = 128 << 10;

/// See the module.
pub(super) struct Uploads {
    folder: PathBuf,
    images: Images,
    /// Each that is written to has a thread.
    threads: Arc<Semaphore>,
    sessions: Mutex<BTreeMap<UploadId, Arc<Session>>>,
}

/// An upload.
struct Session {
    file: PathBuf,
    /// Bytes that came.
    length: AtomicU64,
    touched: Mutex<SystemTime>,
    /// It became a blob, or was given up.
    ended: AtomicBool,
    /// `None`: it is to be read first.
    writer: Arc<tokio::sync::Mutex<Option<Writer>>>,
}

/// The growing file, with the hash of what it has.
struct Writer {
    file: File,
    hash: Sha256,
    length: u64,
}

impl Uploads {
    /// Finds what an earlier run of the agent left.
    pub(super) fn open(folder: &Path, images: Images) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut sessions = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().into_string().unwrap_or_default();
            let id = name.split_once('-').and_then(|(id, _)| id.parse().ok());
            let Some(id) = id else { continue };
            let told = entry.metadata()?;
            let session = Session::new(entry.path(), told.len(), told.modified()?);
            sessions.insert(id, Arc::new(session));
        }
        Ok(Self {
            folder: folder.to_owned(),
            images,
            threads: Arc::new(Semaphore::new(THREADS)),
            sessions: Mutex::new(sessions),
        })
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<UploadId, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, repository: &RepositoryName, id: &UploadId) -> PathBuf {
        let name = Digest::of([repository.as_str().as_bytes()]);
        self.folder.join(format!("{}-{}", id.as_str(), name.hex()))
    }

    fn session(&self, repository: &RepositoryName, id: &UploadId) -> Result<Arc<Session>, Refusal> {
        let file = self.file(repository, id);
        let found = self.sessions().get(id).filter(|session| session.file == file).cloned();
        let session = found.ok_or_else(unknown)?;
        session.touch();
        Ok(session)
    }

    /// Begins one.
    pub(super) fn begin(&self, repository: &RepositoryName) -> Result<UploadId, Refusal> {
        let failed = |error: &dyn std::fmt::Display| {
            Refusal::new(Code::Unknown, format!("cannot begin an upload: {error}"))
        };
        let id = random_hex::<16>().map_err(|error| failed(&error))?;
        let id: UploadId = id.parse().map_err(|()| failed(&"no number"))?;
        let mut sessions = self.sessions();
        if sessions.len() >= MOST {
            let message = format!("{MOST} uploads are under way: end or cancel one");
            return Err(Refusal::new(Code::TooManyRequests, message));
        }
        let file = self.file(repository, &id);
        let mut options = OpenOptions::new();
        let made = options.write(true).create_new(true).mode(0o600).open(&file);
        made.map_err(|error| failed(&error))?;
        sessions.insert(id.clone(), Arc::new(Session::new(file, 0, SystemTime::now())));
        Ok(id)
    }

    /// Bytes that came.
    pub(super) fn length(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
    ) -> Result<u64, Refusal> {
        Ok(self.session(repository, id)?.length.load(Ordering::Acquire))
    }

    /// The refusal of a chunk that does not follow what came.
    pub(super) fn out_of_order(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
    ) -> Result<Refusal, Refusal> {
        Ok(out_of_order(repository, id, self.length(repository, id)?))
    }

    /// Adds a request's body; answers with the bytes that are there.
    pub(super) async fn append(
        &self,
        (repository, id): (&RepositoryName, &UploadId),
        part: Option<Part>,
        body: Incoming,
    ) -> Result<u64, Refusal> {
        let session = self.session(repository, id)?;
        let turn = session.turn().await?;
        let begun = session.length.load(Ordering::Acquire);
        if part.is_some_and(|part| part.from != begun) {
            return Err(out_of_order(repository, id, begun));
        }
        let most = part.map_or(LARGEST, |part| part.length).min(LARGEST.saturating_sub(begun));
        let thread = timeout(TURN, Arc::clone(&self.threads).acquire_owned()).await;
        let busy = || Refusal::new(Code::TooManyRequests, "too many uploads come at once");
        let thread = thread.ok().and_then(Result::ok).ok_or_else(busy)?;
        let (sender, receiver) = mpsc::channel(CHUNKS);
        let (images, written) = (self.images.clone(), Arc::clone(&session));
        // It goes on to the end of what came when nobody waits for it any more, and then lets others have their turn.
        let writing = tokio::task::spawn_blocking(move || {
            let _thread = thread;
            written.take(turn, receiver, &images)
        });
        let came = pump(body, sender, most).await;
        let stopped = |error: &dyn std::fmt::Display| Refusal::new(Code::Unknown, error);
        let (turn, taken) = writing.await.map_err(|error| stopped(&error))?;
        taken?;
        session.touch();
        let received = came?;
        if received > most || part.is_some_and(|part| part.length != received) {
            session.take_back(turn, begun).map_err(|error| stopped(&error))?;
            let message = format!("{received} bytes came, and {most} were told of or may come");
            return Err(Refusal::new(Code::SizeInvalid, message));
        }
        Ok(session.length.load(Ordering::Acquire))
    }

    /// Makes a blob of it, where it is what the digest says; where it is not, it goes.
    pub(super) async fn finish(
        &self,
        (repository, id): (&RepositoryName, &UploadId),
        digest: Digest,
    ) -> Result<(), Refusal> {
        let session = self.session(repository, id)?;
        let turn = session.turn().await?;
        let checked = Arc::clone(&session);
        let found = tokio::task::spawn_blocking(move || checked.sync(turn));
        let failed = |error: &dyn std::fmt::Display| Refusal::new(Code::Unknown, error);
        let (turn, found) = found.await.map_err(|error| failed(&error))?;
        let found = found.map_err(|error| failed(&error))?;
        if found != digest {
            self.remove(id, &session);
            drop(turn);
            let message = format!("what came is `{found}`, not `{digest}`: send it again");
            return Err(Refusal::new(Code::DigestInvalid, message));
        }
        self.images.host_upload(repository.clone(), digest, session.file.clone()).await?;
        self.remove(id, &session);
        Ok(())
    }

    /// Gives one up.
    pub(super) async fn cancel(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
    ) -> Result<(), Refusal> {
        let session = self.session(repository, id)?;
        let _turn = session.turn().await?;
        self.remove(id, &session);
        Ok(())
    }

    /// Takes away what nobody touched for long.
    pub(super) fn trim(&self) {
        let before = SystemTime::now().checked_sub(KEPT_FOR);
        let is_old = |session: &Session| before.is_some_and(|before| session.touched() <= before);
        let old: Vec<_> = {
            let all = self.sessions();
            let old = all.iter().filter(|(_, session)| is_old(session));
            old.map(|(id, session)| (id.clone(), Arc::clone(session))).collect()
        };
        for (id, session) in old {
            // One that is written to is not old.
            if let Ok(_turn) = session.writer.try_lock() {
                tracing::info!(upload = id.as_str(), "an upload that nobody goes on with goes");
                self.remove(&id, &session);
            }
        }
    }

    fn remove(&self, id: &UploadId, session: &Session) {
        self.sessions().remove(id);
        session.ended.store(true, Ordering::Release);
        match fs::remove_file(&session.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %session.file.display(), %error, "cannot remove an upload");
            }
            _ => {}
        }
    }
}

/// Where an upload is, for everybody who goes on with it.
pub(super) fn location(repository: &RepositoryName, id: &UploadId) -> String {
    format!("/v2/{repository}/blobs/uploads/{}", id.as_str())
}

fn unknown() -> Refusal {
    Refusal::new(Code::BlobUploadUnknown, "there is no such upload")
}

fn out_of_order(repository: &RepositoryName, id: &UploadId, length: u64) -> Refusal {
    let message = format!("{length} bytes have come: go on from there");
    let mut refusal = Refusal::new(Code::BlobUploadInvalid, message)
        .with_status(StatusCode::RANGE_NOT_SATISFIABLE);
    for (name, text) in [(RANGE, range::progress(length)), (LOCATION, location(repository, id))] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            refusal = refusal.with_header(name, value);
        }
    }
    refusal
}

/// Passes a body on, until it ends or is more than is taken; answers with the bytes that came.
async fn pump(mut body: Incoming, sender: mpsc::Sender<Bytes>, most: u64) -> Result<u64, Refusal> {
    let mut received = 0;
    while let Some(bytes) = body::next(&mut body).await? {
        received += bytes.len() as u64;
        // Failing to send: the disk refused, which is told by who writes.
        if received > most || sender.send(bytes).await.is_err() {
            break;
        }
    }
    Ok(received)
}

type Turn = OwnedMutexGuard<Option<Writer>>;

impl Session {
    fn new(file: PathBuf, length: u64, touched: SystemTime) -> Self {
        Self {
            file,
            length: AtomicU64::new(length),
            touched: Mutex::new(touched),
            ended: AtomicBool::new(false),
            writer: Arc::default(),
        }
    }

    fn touched(&self) -> SystemTime {
        *self.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touch(&self) {
        *self.touched.lock().unwrap_or_else(PoisonError::into_inner) = SystemTime::now();
    }

    /// One request after the other.
    async fn turn(&self) -> Result<Turn, Refusal> {
        let Ok(turn) = timeout(TURN, Arc::clone(&self.writer).lock_owned()).await else {
            let message = "another request is sending to this upload";
            let refusal = Refusal::new(Code::BlobUploadInvalid, message);
            return Err(refusal.with_status(StatusCode::CONFLICT));
        };
        if self.ended.load(Ordering::Acquire) { Err(unknown()) } else { Ok(turn) }
    }

    /// The file with its hash.
    fn writer<'a>(&self, turn: &'a mut Turn) -> io::Result<&'a mut Writer> {
        if turn.is_none() {
            let writer = Writer::open(&self.file)?;
            self.length.store(writer.length, Ordering::Release);
            **turn = Some(writer);
        }
        turn.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Writes what comes.
    fn take(
        &self,
        mut turn: Turn,
        mut receiver: mpsc::Receiver<Bytes>,
        images: &Images,
    ) -> (Turn, Result<(), Refusal>) {
        let taken = self.write(&mut turn, &mut receiver, images);
        if taken.is_err() {
            // What is in the file is to be read anew.
            *turn = None;
            let length = fs::metadata(&self.file).map_or(0, |file| file.len());
            self.length.store(length, Ordering::Release);
        }
        (turn, taken)
    }

    fn write(
        &self,
        turn: &mut Turn,
        receiver: &mut mpsc::Receiver<Bytes>,
        images: &Images,
    ) -> Result<(), Refusal> {
        let disk = |error| ImageError::disk("write", &self.file)(error);
        let writer = self.writer(turn).map_err(disk)?;
        let mut since = LOOK_EVERY;
        while let Some(chunk) = receiver.blocking_recv() {
            if since >= LOOK_EVERY {
                images.check_room("an upload")?;
                since = 0;
            }
            since += chunk.len() as u64;
            writer.file.write_all(&chunk).map_err(disk)?;
            writer.hash.update(&chunk);
            writer.length += chunk.len() as u64;
            self.length.store(writer.length, Ordering::Release);
        }
        Ok(())
    }

    /// Forgets what came after so many bytes.
    fn take_back(&self, mut turn: Turn, length: u64) -> io::Result<()> {
        *turn = None;
        OpenOptions::new().write(true).open(&self.file)?.set_len(length)?;
        self.length.store(length, Ordering::Release);
        Ok(())
    }

    /// Brings all of it to the disk; answers with its digest.
    fn sync(&self, mut turn: Turn) -> (Turn, io::Result<Digest>) {
        let digest = self.writer(&mut turn).and_then(|writer| {
            writer.file.sync_data()?;
            Ok(digest_of(writer.hash.clone()))
        });
        // Nobody may write to what is a blob next.
        *turn = None;
        (turn, digest)
    }
}

impl Writer {
    fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).append(true).open(path)?;
        let (mut hash, mut length) = (Sha256::new(), 0);
        let mut buffer = vec![0; BUFFER];
        loop {
            let got = file.read(&mut buffer)?;
            if got == 0 {
                return Ok(Self { file, hash, length });
            }
            hash.update(&buffer[..got]);
            length += got as u64;
        }
    }
}
