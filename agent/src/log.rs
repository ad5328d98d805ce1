//! Reads the logs of containers: all of them or the last lines, and on as they grow.
//!
//! A task's log is spread over the files of its attempts, `<attempt>/container.log.1` before `<attempt>/container.log`,
//! and older ones with higher numbers before them.
//! A reader keeps the open file, so that a rotation loses nothing that it has not read.

mod line;

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use swarm_runtime::record::{EXIT_FILE, LOG_FILE};
use tokio::sync::mpsc;

pub use line::Line;

/// How often growing logs are looked at.
const POLL: Duration = Duration::from_millis(100);
/// The most lines that `tail` keeps apart; more is all.
const LONGEST_TAIL: i64 = 1_000_000;
/// A line longer than this is cut: the shim writes shorter ones.
const LONGEST_LINE: usize = 256 << 10;
/// Lines in one batch to the network.
const BATCH: usize = 64;

/// Which lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// The last lines; negative is all.
    pub tail: i64,
    /// Only lines since, in nanoseconds since the epoch.
    pub since: u64,
    /// Go on as the log grows.
    pub follow: bool,
}

/// Sends a task's lines until there are no more, or nobody wants them.
pub async fn read(folder: PathBuf, wish: Wish, lines: mpsc::Sender<Vec<Line>>) -> io::Result<()> {
    let mut reader = blocking(move || Reader::open(folder, wish)).await?;
    loop {
        let batch;
        (reader, batch) = blocking(move || {
            let batch = reader.batch()?;
            Ok((reader, batch))
        })
        .await?;
        if !batch.is_empty() {
            if lines.send(batch).await.is_err() {
                return Ok(());
            }
            continue;
        }
        if !wish.follow {
            return Ok(());
        }
        while !reader.has_more()? {
            if reader.is_over() {
                return Ok(());
            }
            tokio::select! {
                () = lines.closed() => return Ok(()),
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

struct Reader {
    /// The task's folder.
    folder: PathBuf,
    since: u64,
    /// Files still to be read, the oldest first.
    next: VecDeque<PathBuf>,
    current: Option<Current>,
    /// The newest attempt whose files were listed.
    attempt: u32,
    /// The newest attempt, whether or not its log is there yet.
    newest: u32,
    /// The end of the last attempt was seen before the last look at its log.
    over: bool,
}

struct Current {
    path: PathBuf,
    file: BufReader<File>,
    inode: u64,
    /// A line whose end is not written yet.
    begun: Vec<u8>,
}

impl Reader {
    fn open(folder: PathBuf, wish: Wish) -> io::Result<Self> {
        let attempts = attempts(&folder)?;
        let attempt = attempts.last().copied().unwrap_or(0);
        let files = attempts.iter().flat_map(|attempt| files(&folder, *attempt));
        let mut next: VecDeque<PathBuf> = files.collect();
        let mut start = None;
        if (0..=LONGEST_TAIL).contains(&wish.tail) {
            start = Some(tail(&next, usize::try_from(wish.tail).unwrap_or(0))?);
        }
        let mut skip = 0;
        if let Some((index, offset)) = start {
            next.drain(..index);
            skip = offset;
        }
        let since = wish.since;
        let mut reader =
            Self { folder, since, next, current: None, attempt, newest: attempt, over: false };
        reader.advance()?;
        if let Some(current) = &mut reader.current {
            current.file.seek(SeekFrom::Start(skip))?;
        }
        Ok(reader)
    }

    /// Opens the next file that is there.
    fn advance(&mut self) -> io::Result<bool> {
        while let Some(path) = self.next.pop_front() {
            match File::open(&path) {
                Ok(file) => {
                    let inode = file.metadata()?.ino();
                    let file = BufReader::new(file);
                    self.current = Some(Current { path, file, inode, begun: Vec::new() });
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Some lines; none when all was read that there is now.
    fn batch(&mut self) -> io::Result<Vec<Line>> {
        let mut batch = Vec::new();
        while batch.len() < BATCH {
            let Some(current) = &mut self.current else { break };
            match current.line()? {
                Some(line) => {
                    let line = line::parse(&line).filter(|line| line.time >= self.since);
                    batch.extend(line);
                }
                None if !self.advance_over_end()? => break,
                None => {}
            }
        }
        Ok(batch)
    }

    /// At the end of a file: goes to the next one, if the log goes on there.
    fn advance_over_end(&mut self) -> io::Result<bool> {
        if !self.next.is_empty() {
            return self.advance();
        }
        let Some(current) = &self.current else { return Ok(false) };
        // Renamed: a rotation put a new file in its place.
        let rotated = fs::metadata(&current.path).is_ok_and(|meta| meta.ino() != current.inode);
        if rotated {
            self.next.push_back(current.path.clone());
        } else {
            self.list_new_attempts()?;
        }
        self.advance()
    }

    /// An attempt whose log is not there yet is looked for again.
    fn list_new_attempts(&mut self) -> io::Result<()> {
        for attempt in attempts(&self.folder)? {
            self.newest = attempt;
            let log = self.folder.join(attempt.to_string()).join(LOG_FILE);
            if attempt > self.attempt && log.exists() {
                self.attempt = attempt;
                self.next.extend(files(&self.folder, attempt));
            }
        }
        Ok(())
    }

    /// A cheap look whether another batch would have something.
    fn has_more(&mut self) -> io::Result<bool> {
        let Some(current) = &mut self.current else {
            self.list_new_attempts()?;
            return self.advance();
        };
        let length = current.file.get_ref().metadata()?.len();
        if length > current.file.stream_position()? {
            return Ok(true);
        }
        self.advance_over_end()
    }

    /// Whether nothing more can come: the container has ended and its log was read once more since.
    fn is_over(&mut self) -> bool {
        let ended = !self.folder.exists()
            || self.newest > 0
                && self.folder.join(self.newest.to_string()).join(EXIT_FILE).exists();
        std::mem::replace(&mut self.over, ended) && ended
    }
}

impl Current {
    /// The next whole line, without its end.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut piece = io::Read::take(&mut self.file, LONGEST_LINE as u64);
        piece.read_until(b'\n', &mut self.begun)?;
        if self.begun.last() == Some(&b'\n') {
            self.begun.pop();
        } else if self.begun.len() < LONGEST_LINE {
            return Ok(None);
        }
        Ok(Some(std::mem::take(&mut self.begun)))
    }
}

fn attempts(folder: &Path) -> io::Result<Vec<u32>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut attempts: Vec<u32> = names.collect();
    attempts.sort_unstable();
    Ok(attempts)
}

/// An attempt's files, oldest first. The two newest are named even where they are not there yet.
fn files(folder: &Path, attempt: u32) -> Vec<PathBuf> {
    let folder = folder.join(attempt.to_string());
    let number = |entry: fs::DirEntry| {
        let name = entry.file_name();
        name.to_str()?.strip_prefix(LOG_FILE)?.strip_prefix('.')?.parse::<u32>().ok()
    };
    let found = fs::read_dir(&folder).into_iter().flatten().flatten().filter_map(number);
    let mut numbers: BTreeSet<u32> = found.collect();
    numbers.insert(1);
    let older = numbers.iter().rev().map(|number| folder.join(format!("{LOG_FILE}.{number}")));
    older.chain([folder.join(LOG_FILE)]).collect()
}

/// Where the last `count` lines begin: which file, and at which byte.
fn tail(files: &VecDeque<PathBuf>, count: usize) -> io::Result<(usize, u64)> {
    let mut starts: VecDeque<(usize, u64)> = VecDeque::new();
    let mut end = (0, 0);
    for (index, path) in files.iter().enumerate() {
        let mut file = match File::open(path) {
            Ok(file) => BufReader::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let mut offset = 0;
        loop {
            let length = file.skip_until(b'\n')?;
            if length == 0 {
                break;
            }
            starts.push_back((index, offset));
            if starts.len() > count {
                starts.pop_front();
            }
            offset += length as u64;
        }
        end = (index, offset);
    }
    Ok(starts.front().copied().unwrap_or(end))
}

#[cfg(test)]
#[path = "log/tests.rs"]
mod tests;
