//! The container's log in CRI form, bounded in size: one line is
//! `2016-10-06T00:17:09.669794202Z stdout F text`, with `P` for a part of a line that goes on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::sink::Sink;
use crate::message::{LogLimits, LogOptions, LogSink};
use crate::record;

/// Longer lines are split into parts of this size.
const MAX_LINE: usize = 16 * 1024;

/// Where a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub(super) const ALL: [Self; 2] = [Self::Stdout, Self::Stderr];

    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A line of output, or a part of a long one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) stream: Stream,
    /// Whether more of the same line follows.
    pub(super) is_part: bool,
    pub(super) text: &'a [u8],
    /// Since the Unix epoch.
    pub(super) time: Duration,
}

/// The log of one container.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    limits: LogLimits,
    sink: Sink,
    /// What came of each stream's line so far.
    begun: [Vec<u8>; 2],
}

impl Log {
    /// Opens the log in a container's folder; an old one goes on.
    pub(super) fn open(dir: &Path, options: &LogOptions) -> io::Result<Self> {
        let path = dir.join(record::LOG_FILE);
        let (mut file, mut size) = (None, 0);
        if options.sink != LogSink::Nowhere {
            let opened = append(&path)?;
            size = opened.metadata()?.len();
            file = Some(opened);
        }
        let (sink, begun) = (Sink::new(&options.sink), [Vec::new(), Vec::new()]);
        Ok(Self { path, file, size, limits: options.limits, sink, begun })
    }

    /// Takes what a stream brought at a time. A disk that is full or broken costs lines, never the
    /// container.
    pub(super) fn take(&mut self, stream: Stream, bytes: &[u8], now: Duration) {
        let mut batch = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let begun = &mut self.begun[stream as usize];
            let room = MAX_LINE - begun.len();
            let window = &rest[..rest.len().min(room + 1)];
            match window.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    begun.extend_from_slice(&rest[..end]);
                    let text = std::mem::take(begun);
                    self.line(&mut batch, Line { stream, is_part: false, text: &text, time: now });
                    rest = &rest[end + 1..];
                }
                None if window.len() > room => {
                    begun.extend_from_slice(&rest[..room]);
                    let text = std::mem::take(begun);
                    self.line(&mut batch, Line { stream, is_part: true, text: &text, time: now });
                    rest = &rest[room..];
                }
                None => {
                    begun.extend_from_slice(rest);
                    rest = &[];
                }
            }
        }
        self.write(&batch);
    }

    /// Writes what is begun, when a stream has ended without an end of line.
    pub(super) fn finish(&mut self, now: Duration) {
        for stream in Stream::ALL {
            let begun = std::mem::take(&mut self.begun[stream as usize]);
            if !begun.is_empty() {
                let mut batch = Vec::new();
                self.line(&mut batch, Line { stream, is_part: false, text: &begun, time: now });
                self.write(&batch);
            }
        }
    }

    /// Adds a line to a batch for the file, and sends it elsewhere.
    fn line(&mut self, batch: &mut Vec<u8>, line: Line<'_>) {
        if self.file.is_some() {
            batch.extend_from_slice(prefix(line.stream, line.time).as_bytes());
            batch.extend_from_slice(if line.is_part { b"P " } else { b"F " });
            batch.extend_from_slice(line.text);
            batch.push(b'\n');
        }
        self.sink.send(line);
    }

    /// Writes whole lines, setting the file aside first when they would not fit.
    fn write(&mut self, mut lines: &[u8]) {
        while !lines.is_empty() {
            let room = self.limits.max_bytes.saturating_sub(self.size);
            let fitting = fitting(lines, usize::try_from(room).unwrap_or(usize::MAX));
            if fitting == 0 && self.size > 0 {
                if self.rotate().is_err() {
                    return;
                }
                continue;
            }
            // A line longer than a whole file goes into a file of its own.
            let first =
                lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |at| at + 1);
            let now = fitting.max(if fitting == 0 { first } else { 0 });
            if self.file.as_mut().is_none_or(|file| file.write_all(&lines[..now]).is_err()) {
                return;
            }
            self.size += now as u64;
            lines = &lines[now..];
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let kept = |number: u32| {
            let mut path = self.path.clone().into_os_string();
            path.push(format!(".{number}"));
            PathBuf::from(path)
        };
        for number in (1..self.limits.files.max(1)).rev() {
            let from = if number == 1 { self.path.clone() } else { kept(number - 1) };
            match fs::rename(from, kept(number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.limits.files <= 1 {
            fs::remove_file(&self.path)?;
        }
        self.file = Some(append(&self.path)?);
        self.size = 0;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

/// How many bytes of whole lines fit into `room`.
fn fitting(lines: &[u8], room: usize) -> usize {
    if lines.len() <= room {
        return lines.len();
    }
    lines[..room].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}

fn prefix(stream: Stream, now: Duration) -> String {
    let now = SignedDuration::try_from(now).unwrap_or_default();
    let time = Timestamp::from_duration(now).unwrap_or_default();
    format!("{time:.9} {} ", stream.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::new(1_475_713_029, 669_794_202);
    const TIME: &str = "2016-10-06T00:17:09.669794202Z";

    fn log(limits: LogLimits) -> (tempfile::TempDir, Log) {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions { limits, sink: LogSink::File };
        let log = Log::open(dir.path(), &options).unwrap();
        (dir, log)
    }

    fn text(dir: &tempfile::TempDir, name: &str) -> String {
        fs::read_to_string(dir.path().join(name)).unwrap_or_default()
    }

    #[test]
    fn lines_of_both_streams_are_kept_apart() {
        let (dir, mut log) = log(LogLimits::default());
        log.take(Stream::Stdout, b"one\ntw", NOW);
        log.take(Stream::Stderr, b"bad\n", NOW);
        log.take(Stream::Stdout, b"o\n\nlast", NOW);
        log.finish(NOW);
        log.finish(NOW);
        let wanted = format!(
            "{TIME} stdout F one\n{TIME} stderr F bad\n{TIME} stdout F two\n{TIME} stdout F \n{TIME} stdout F last\n"
        );
        assert_eq!(text(&dir, "container.log"), wanted);
    }

    #[test]
    fn long_lines_are_parts() {
        let (dir, mut log) = log(LogLimits::default());
        let long = vec![b'x'; 2 * MAX_LINE + 5];
        for piece in long.chunks(1000) {
            log.take(Stream::Stdout, piece, NOW);
        }
        log.take(Stream::Stdout, b"\n", NOW);
        log.take(Stream::Stdout, &vec![b'y'; MAX_LINE], NOW);
        log.take(Stream::Stdout, b"\n", NOW);
        let lines = text(&dir, "container.log");
        let parts: Vec<_> = lines
            .lines()
            .map(|line| {
                let fields: Vec<_> = line.splitn(4, ' ').collect();
                (fields[2].to_owned(), fields[3].len())
            })
            .collect();
        let part = |tag: &str, length| (tag.to_owned(), length);
        assert_eq!(
            parts,
            vec![part("P", MAX_LINE), part("P", MAX_LINE), part("F", 5), part("F", MAX_LINE)]
        );
    }

    #[test]
    fn the_log_stays_within_its_bounds_and_keeps_the_newest() {
        let (dir, mut log) = log(LogLimits { max_bytes: 200, files: 2 });
        for number in 0..100 {
            log.take(Stream::Stdout, format!("line {number:03}\n").as_bytes(), NOW);
        }
        log.take(Stream::Stdout, b"a\nb\nc\nd\ne\nf\ng\nh\n", NOW);
        let (now, before) = (text(&dir, "container.log"), text(&dir, "container.log.1"));
        assert!(now.len() <= 200 && before.len() <= 200, "{} {}", now.len(), before.len());
        assert!(now.ends_with(" h\n"), "{now}");
        assert!(before.lines().chain(now.lines()).all(|line| line.starts_with(TIME)));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn one_file_and_oversized_lines_work() {
        let (dir, mut log) = log(LogLimits { max_bytes: 50, files: 1 });
        log.take(Stream::Stdout, &[vec![b'z'; 300], b"\nend\n".to_vec()].concat(), NOW);
        assert!(text(&dir, "container.log").ends_with("F end\n"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_old_log_goes_on() {
        let (dir, mut first) = log(LogLimits::default());
        first.take(Stream::Stdout, b"one\n", NOW);
        let mut second = Log::open(dir.path(), &LogOptions::default()).unwrap();
        second.take(Stream::Stdout, b"two\n", NOW);
        assert_eq!(text(&dir, "container.log").lines().count(), 2);
    }

    #[test]
    fn a_log_that_goes_nowhere_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions { sink: LogSink::Nowhere, ..LogOptions::default() };
        let mut log = Log::open(dir.path(), &options).unwrap();
        log.take(Stream::Stdout, b"one\ntwo", NOW);
        log.finish(NOW);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
