//! One file of the log: preallocated, written from the front, synced after each frame.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::DiskError;
use super::frame::{self, Scan};
use super::room;
use super::snapshot::sync_dir;

/// The size of a segment; one with a larger frame grows.
const SIZE: u64 = 8 << 20;
/// The name of a segment that is being made.
const NEW: &str = "new";

/// See the module.
#[derive(Debug)]
pub(super) struct Segment {
    /// Counts segments, from 1.
    pub(super) number: u64,
    /// How many frames it holds.
    pub(super) frames: u32,
    /// The highest index of the entries in it that still count; 0 without any.
    pub(super) last_entry: u64,
    path: PathBuf,
    file: File,
    /// Where the next frame goes.
    end: u64,
}

impl Segment {
    /// Makes an empty one, durable with its space on return. Without room nothing is left of it.
    pub(super) fn create(folder: &Path, number: u64) -> Result<Self, DiskError> {
        let aside = folder.join(NEW);
        let made = Self::create_by(&aside, folder, number);
        made.map_err(|source| {
            if room::is_want(&source) {
                // What was taken of the last room is given back; if that fails, the next try does it.
                let _ = fs::remove_file(&aside);
                return DiskError::Full(room::shortage(folder));
            }
            DiskError::File { action: "make", path: aside, source }
        })
    }

    fn create_by(aside: &Path, folder: &Path, number: u64) -> io::Result<Self> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(aside)?;
        reserve(&file)?;
        file.sync_all()?;
        let path = folder.join(name(number));
        fs::rename(aside, &path)?;
        sync_dir(folder)?;
        Ok(Self { number, frames: 0, last_entry: 0, path, file, end: 0 })
    }

    /// Opens one and reads it. A frame at its end whose write was cut off is left where it is.
    pub(super) fn load(folder: &Path, number: u64) -> Result<(Self, Scan), DiskError> {
        let path = folder.join(name(number));
        let read = || {
            let file = File::options().read(true).write(true).open(&path)?;
            // What was written before a crash may still wait for its sync.
            file.sync_all()?;
            Ok((file, fs::read(&path)?))
        };
        let (file, content) = read().map_err(|source| DiskError::File {
            action: "read",
            path: path.clone(),
            source,
        })?;
        let scan = frame::scan(number, &content);
        let scan = scan.map_err(|cause| DiskError::Frame { path: path.clone(), cause })?;
        let frames = u32::try_from(scan.payloads.len()).unwrap_or(u32::MAX);
        let end = scan.end as u64;
        Ok((Self { number, frames, last_entry: 0, path, file, end }, scan))
    }

    /// Whether a payload still fits in; the first one always does.
    pub(super) fn fits(&self, payload: &[u8]) -> bool {
        self.frames == 0 || self.end + frame::size(payload.len()) as u64 <= SIZE
    }

    /// Writes a payload as the next frame, durable on return.
    pub(super) fn append(&mut self, payload: &[u8]) -> Result<(), DiskError> {
        let frame = frame::encode(self.number, self.frames, payload)
            .map_err(|cause| DiskError::Frame { path: self.path.clone(), cause })?;
        self.file.write_all_at(&frame, self.end).map_err(|error| self.failed("write", error))?;
        self.file.sync_data().map_err(|error| self.failed("sync", error))?;
        self.end += frame.len() as u64;
        self.frames += 1;
        Ok(())
    }

    /// Takes away what follows the last whole frame.
    pub(super) fn cut(&mut self) -> Result<(), DiskError> {
        let erase = || {
            self.file.set_len(self.end)?;
            reserve(&self.file)?;
            self.file.sync_all()
        };
        erase().map_err(|error| self.failed("cut", error))
    }

    /// Removes the file. It may be there again after a crash.
    pub(super) fn remove(self) -> Result<(), DiskError> {
        fs::remove_file(&self.path).map_err(|error| self.failed("remove", error))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, action: &'static str, source: io::Error) -> DiskError {
        DiskError::File { action, path: self.path.clone(), source }
    }
}

/// The numbers of a folder's segments, ascending. What is left of an unfinished one is removed.
pub(super) fn list(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for found in fs::read_dir(folder)? {
        let found = found?;
        let text = found.file_name();
        match text.to_str().and_then(|text| text.parse::<u64>().ok()) {
            Some(number) => numbers.push(number),
            None if text == NEW => fs::remove_file(found.path())?,
            None => {}
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Names that sort as the numbers do.
fn name(number: u64) -> String {
    format!("{number:016}")
}

/// Takes the space of a whole segment, which reads as zeros, so that writing in it needs no more.
fn reserve(file: &File) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, SIZE) {
        Err(Errno::OPNOTSUPP) => {
            let from = file.metadata()?.len();
            let zeros = vec![0; usize::try_from(SIZE.saturating_sub(from)).unwrap_or(0)];
            let mut file = file;
            io::Seek::seek(&mut file, io::SeekFrom::Start(from))?;
            file.write_all(&zeros)
        }
        reserved => Ok(reserved?),
    }
}
