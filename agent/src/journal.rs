//! What this host was told and how far each task is, on disk, so that a restarted agent goes on before any controller
//! is reached.
//!
//! One append-only file of framed JSON records (length, CRC-32, payload). A torn end, from a crash in mid-write, is
//! cut off at start. What a controller assigned is synced before it is acted on; a task's progress is only written,
//! for after a power cut no container is left of which it could tell. The file is rewritten when most of it is stale.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use swarm_proto::assignment::{NetworkAssignment, NetworkChange, TaskAssignment, VolumeAssignment};
use swarm_proto::id::{NetworkId, TaskId, Timestamp, VolumeId};
use swarm_proto::object::TaskStatus;

use crate::durable;

const HEADER: usize = 8;
/// Below this size the file is never rewritten.
const SMALL: u64 = 256 << 10;
/// A record beyond this is damage, not data.
const LARGEST: usize = 64 << 20;

/// How far a task is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// As reported.
    pub status: TaskStatus,
    /// When the stop signal was sent.
    pub stopping: Option<Timestamp>,
    /// A controller has heard of its end.
    pub reported: bool,
    /// When this agent restarted it by itself.
    pub restarts: Vec<Timestamp>,
    /// It stops, or was stopped, because no controller was in reach for too long.
    #[serde(default)]
    pub fenced: bool,
}

/// Serde without its `rc` feature, which would be everybody's.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(
        value: &Arc<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<T>, D::Error> {
        T::deserialize(deserializer).map(Arc::new)
    }
}

/// The same for networks, whose lists were not always in order.
mod shared_network {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer};
    use swarm_proto::assignment::NetworkAssignment;

    pub(super) use super::shared::serialize;

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<NetworkAssignment>, D::Error> {
        NetworkAssignment::deserialize(deserializer).map(|network| Arc::new(network.sorted()))
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// A task as assigned.
    Task(#[serde(with = "shared")] Arc<TaskAssignment>),
    /// How far it is.
    Progress(TaskId, Progress),
    /// Removed without a trace.
    TaskGone(TaskId),
    /// A network as assigned.
    Network(#[serde(with = "shared_network")] Arc<NetworkAssignment>),
    /// What changed of one.
    NetworkChange(NetworkChange),
    /// No longer assigned.
    NetworkGone(NetworkId),
    /// A volume as assigned.
    Volume(VolumeAssignment),
    /// No longer assigned.
    VolumeGone(VolumeId),
}

/// The sum of all records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents {
    /// Assigned tasks.
    pub tasks: BTreeMap<TaskId, Arc<TaskAssignment>>,
    /// How far they are.
    pub progress: BTreeMap<TaskId, Progress>,
    /// Assigned networks.
    pub networks: BTreeMap<NetworkId, Arc<NetworkAssignment>>,
    /// Assigned volumes.
    pub volumes: BTreeMap<VolumeId, VolumeAssignment>,
}

impl Contents {
    fn apply(&mut self, record: &Record) {
        match record {
            Record::Task(task) => drop(self.tasks.insert(task.id, Arc::clone(task))),
            Record::Progress(id, progress) => drop(self.progress.insert(*id, progress.clone())),
            Record::TaskGone(id) => {
                self.tasks.remove(id);
                self.progress.remove(id);
            }
            Record::Network(network) => {
                self.networks.insert(network.id, Arc::clone(network));
            }
            Record::NetworkChange(change) => {
                if let Some(network) = self.networks.get_mut(&change.id) {
                    change.apply(Arc::make_mut(network));
                }
            }
            Record::NetworkGone(id) => drop(self.networks.remove(id)),
            Record::Volume(volume) => drop(self.volumes.insert(volume.id, volume.clone())),
            Record::VolumeGone(id) => drop(self.volumes.remove(id)),
        }
    }

    fn records(&self) -> impl Iterator<Item = Record> {
        let tasks = self.tasks.values().cloned().map(Record::Task);
        let progress = self.progress.iter().map(|(id, p)| Record::Progress(*id, p.clone()));
        let networks = self.networks.values().cloned().map(Record::Network);
        let volumes = self.volumes.values().cloned().map(Record::Volume);
        tasks.chain(progress).chain(networks).chain(volumes)
    }
}

/// The journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the journal `{}`", path.display())]
pub struct JournalError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    contents: Contents,
    length: u64,
    /// The length after the last rewrite.
    base: u64,
}

impl Journal {
    /// Opens or makes the journal, cutting a torn end off.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let fail = |action| {
            let path = path.to_owned();
            move |source| JournalError { action, path, source }
        };
        let mut options = OpenOptions::new();
        let options = options.create(true).append(true).read(true).mode(0o600);
        let file = options.open(path).map_err(fail("open"))?;
        let bytes = fs::read(path).map_err(fail("read"))?;
        let (contents, whole) = read(&bytes);
        if whole < bytes.len() {
            tracing::warn!(path = %path.display(), from = whole, "cut off a torn end");
            file.set_len(whole as u64).map_err(fail("cut"))?;
        }
        let length = whole as u64;
        Ok(Self { path: path.to_owned(), file, contents, length, base: length.max(SMALL) })
    }

    /// What the journal says.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Writes records in one piece.
    pub fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        let mut bytes = Vec::new();
        for record in records {
            frame(record, &mut bytes).map_err(|source| self.error("encode", source))?;
            self.contents.apply(record);
        }
        if self.length + bytes.len() as u64 > self.base * 4 {
            return self.rewrite();
        }
        self.file.write_all(&bytes).map_err(|source| self.error("write", source))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// A second handle on the file, for syncing on another thread. After a rewrite the old file's sync does no harm:
    /// the new one was synced before it got its name.
    pub fn handle(&self) -> Result<File, JournalError> {
        self.file.try_clone().map_err(|source| self.error("open", source))
    }

    fn rewrite(&mut self) -> Result<(), JournalError> {
        let mut bytes = Vec::new();
        for record in self.contents.records() {
            frame(&record, &mut bytes).map_err(|source| self.error("encode", source))?;
        }
        durable::write(&self.path, &bytes).map_err(|source| self.error("rewrite", source))?;
        let file = OpenOptions::new().append(true).read(true).open(&self.path);
        self.file = file.map_err(|source| self.error("open", source))?;
        self.length = bytes.len() as u64;
        self.base = self.length.max(SMALL);
        Ok(())
    }

    fn error(&self, action: &'static str, source: io::Error) -> JournalError {
        JournalError { action, path: self.path.clone(), source }
    }
}

fn frame(record: &Record, bytes: &mut Vec<u8>) -> io::Result<()> {
    let payload = serde_json::to_vec(record)?;
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
    bytes.extend_from_slice(&payload);
    Ok(())
}

/// The sum of all whole records, and where the last of them ends.
fn read(bytes: &[u8]) -> (Contents, usize) {
    let mut contents = Contents::default();
    let mut at = 0;
    while let Some((record, next)) = read_one(bytes, at) {
        contents.apply(&record);
        at = next;
    }
    (contents, at)
}

fn read_one(bytes: &[u8], at: usize) -> Option<(Record, usize)> {
    let number = |at: usize| {
        let bytes = bytes.get(at..at + HEADER / 2)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let length = usize::try_from(number(at)?).ok()?;
    let checksum = number(at + HEADER / 2)?;
    let payload = bytes.get(at + HEADER..at + HEADER + length.min(LARGEST))?;
    let whole = crc32fast::hash(payload) == checksum;
    let record = serde_json::from_slice(payload).ok().filter(|_| whole)?;
    Some((record, at + HEADER + length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use swarm_proto::object::TaskState;

    fn records() -> Vec<Record> {
        let first = testing::task("1.1.1");
        let second = testing::task("1.2.1");
        let volume =
            VolumeAssignment { id: VolumeId(3), name: "counter_vol".into(), remove: false };
        vec![
            Record::Task(Arc::new(first.clone())),
            Record::Task(Arc::new(second.clone())),
            Record::Progress(first.id, testing::progress(TaskState::Running)),
            Record::Network(Arc::new(testing::network(7))),
            Record::Volume(volume),
            Record::Progress(first.id, testing::progress(TaskState::Failed)),
            Record::TaskGone(second.id),
            Record::VolumeGone(VolumeId(3)),
            Record::NetworkGone(NetworkId(7)),
        ]
    }

    #[test]
    fn any_torn_end_leaves_the_whole_records_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut bytes, mut ends, mut sums) = (Vec::new(), vec![0], vec![Contents::default()]);
        for record in records() {
            frame(&record, &mut bytes).unwrap();
            ends.push(bytes.len());
            let mut sum = sums.last().unwrap().clone();
            sum.apply(&record);
            sums.push(sum);
        }
        for cut in 0..=bytes.len() {
            fs::write(&path, &bytes[..cut]).unwrap();
            let whole = ends.iter().rposition(|end| *end <= cut).unwrap();
            let mut journal = Journal::open(&path).unwrap();
            assert_eq!(journal.contents(), &sums[whole], "cut at {cut}");
            // Life goes on after the cut.
            journal.append(&records()).unwrap();
            let again = Journal::open(&path).unwrap();
            assert_eq!(again.contents(), journal.contents(), "appended after a cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_ends_the_journal_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        Journal::open(&path).unwrap().append(&records()[..3]).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let journal = Journal::open(&path).unwrap();
        assert!(journal.contents().progress.is_empty());
        assert!(fs::metadata(&path).unwrap().len() < bytes.len() as u64);
    }

    #[test]
    fn the_file_does_not_grow_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::open(&path).unwrap();
        let task = testing::task("1.1.1");
        journal.append(&[Record::Task(Arc::new(task.clone()))]).unwrap();
        let progress = Record::Progress(task.id, testing::progress(TaskState::Running));
        for _ in 0..20_000 {
            journal.append(std::slice::from_ref(&progress)).unwrap();
        }
        assert!(fs::metadata(&path).unwrap().len() <= SMALL * 4);
        let again = Journal::open(&path).unwrap();
        assert_eq!(again.contents(), journal.contents());
        assert_eq!(again.contents().tasks.len(), 1);
    }
}
