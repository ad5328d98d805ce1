//! A blob whose pieces come in any order: the growing file of downloads, and beside it a map of which pieces are there.
//! Where there is no map, a growing file is what it always was: all of a blob from its beginning on.
//!
//! A piece is marked after it was written, so what a stopped agent left is what it says. What a power cut makes of it, the
//! blob's digest tells, as of every download.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::ImageError;
use super::pieces::{PIECE, count, range};
use super::pull::blocking;
use super::store::MAP;
use crate::durable;

/// Bytes before the marks: the blob's size and a piece's, low bytes first.
const HEAD: usize = 16;

/// What a map says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Map {
    size: u64,
    piece: u64,
    here: Vec<bool>,
}

impl Map {
    /// `None`: it is not one.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (size, rest) = bytes.split_first_chunk()?;
        let (piece, marks) = rest.split_first_chunk()?;
        let (size, piece) = (u64::from_le_bytes(*size), u64::from_le_bytes(*piece));
        let is_one = piece > 0 && size.div_ceil(piece) == marks.len() as u64;
        let here = marks.iter().map(|mark| *mark != 0).collect();
        is_one.then_some(Self { size, piece, here })
    }

    fn bytes(&self) -> Vec<u8> {
        let marks = self.here.iter().map(|is_here| u8::from(*is_here));
        let head = self.size.to_le_bytes().into_iter().chain(self.piece.to_le_bytes());
        head.chain(marks).collect()
    }

    /// Where so many of the first pieces end.
    fn end_of(&self, pieces: usize) -> u64 {
        (pieces as u64).saturating_mul(self.piece).min(self.size)
    }

    /// Bytes from the beginning on without a gap.
    fn prefix(&self) -> u64 {
        self.end_of(self.here.iter().take_while(|is_here| **is_here).count())
    }

    /// So long is the file at least, when all of this is in it.
    fn extent(&self) -> u64 {
        self.end_of(self.here.iter().rposition(|is_here| *is_here).map_or(0, |last| last + 1))
    }

    /// Bytes that are there.
    fn arrived(&self) -> u64 {
        let each = self.here.iter().enumerate().filter(|(_, is_here)| **is_here);
        each.map(|(piece, _)| self.end_of(piece + 1) - self.end_of(piece)).sum()
    }
}

fn map_of(partial: &Path) -> PathBuf {
    partial.with_extension(&MAP[1..])
}

fn read_map(partial: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(map_of(partial)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn length(path: &Path) -> io::Result<u64> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// How many bytes have come into a growing file.
pub(super) fn arrived(partial: &Path) -> u64 {
    let map = read_map(partial).ok().flatten();
    match map.as_deref().map(Map::parse) {
        Some(map) => map.map_or(0, |map| map.arrived()),
        None => length(partial).unwrap_or(0),
    }
}

/// How many bytes a growing file has from its beginning on without a gap.
pub(super) fn without_gap(partial: &Path) -> io::Result<u64> {
    let there = length(partial)?;
    let Some(map) = read_map(partial)? else { return Ok(there) };
    Ok(Map::parse(&map).map_or(0, |map| map.prefix()).min(there))
}

/// Makes a growing file one that begins at the beginning and has no gap, by forgetting what lies behind the first one.
pub(super) fn settle(partial: &Path) -> io::Result<()> {
    let map = map_of(partial);
    if !map.exists() {
        return Ok(());
    }
    let known = without_gap(partial)?;
    if known < length(partial)? {
        OpenOptions::new().write(true).open(partial)?.set_len(known)?;
    }
    fs::remove_file(map)
}

/// See the module.
#[derive(Debug)]
pub(super) struct Scattered {
    file: File,
    map: File,
    partial: PathBuf,
    size: u64,
}

impl Scattered {
    /// Opens what an earlier try left of a blob of so many bytes; answers with which pieces are there.
    pub(super) async fn open(partial: &Path, size: u64) -> Result<(Self, Vec<bool>), ImageError> {
        let partial = partial.to_owned();
        blocking(move || {
            let here = begin(&partial, size).map_err(ImageError::disk("prepare", &partial))?;
            let mut options = OpenOptions::new();
            let options = options.write(true).create(true).truncate(false);
            let file = options.open(&partial).map_err(ImageError::disk("open", &partial))?;
            let map = map_of(&partial);
            let map = OpenOptions::new().write(true).open(&map);
            let map = map.map_err(ImageError::disk("open", map_of(&partial)))?;
            Ok((Self { file, map, partial, size }, here))
        })
        .await
    }

    /// Takes a whole piece in, on a thread for blocking work.
    pub(super) async fn write(self, piece: usize, bytes: Vec<u8>) -> Result<Self, ImageError> {
        blocking(move || {
            let from = range(piece, self.size).start;
            let written = self.file.write_all_at(&bytes, from);
            written.map_err(ImageError::disk("write a download into", &self.partial))?;
            let marked = self.map.write_all_at(&[1], (HEAD + piece) as u64);
            marked.map_err(ImageError::disk("write", map_of(&self.partial)))?;
            Ok(self)
        })
        .await
    }
}

/// Sees that there is a map that fits, and says which pieces are there.
fn begin(partial: &Path, size: u64) -> io::Result<Vec<bool>> {
    let there = length(partial)?;
    let map = read_map(partial)?.and_then(|map| Map::parse(&map));
    if let Some(map) = map
        && (map.size, map.piece) == (size, PIECE)
        && map.extent() <= there
    {
        return Ok(map.here);
    }
    settle(partial)?;
    let there = length(partial)?;
    let here = (0..count(size)).map(|piece| range(piece, size).end <= there).collect();
    let map = Map { size, piece: PIECE, here };
    durable::write(&map_of(partial), &map.bytes())?;
    Ok(map.here)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: u64 = 4 * PIECE + 5;

    fn partial(folder: &tempfile::TempDir) -> PathBuf {
        folder.path().join("abc.part")
    }

    fn piece(number: u8, length: u64) -> Vec<u8> {
        vec![number; usize::try_from(length).unwrap()]
    }

    #[tokio::test]
    async fn pieces_are_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let partial = partial(&folder);
        let (file, here) = Scattered::open(&partial, SIZE).await.unwrap();
        assert_eq!(here, [false; 5]);
        let file = file.write(4, piece(4, 5)).await.unwrap();
        drop(file.write(0, piece(1, PIECE)).await.unwrap());
        assert_eq!(arrived(&partial), PIECE + 5);
        let (file, here) = Scattered::open(&partial, SIZE).await.unwrap();
        assert_eq!(here, [true, false, false, false, true]);
        drop(file.write(2, piece(2, PIECE)).await.unwrap());
        settle(&partial).unwrap();
        assert_eq!(fs::read(&partial).unwrap(), piece(1, PIECE), "up to the first gap");
        assert!(!map_of(&partial).exists());
        assert_eq!(arrived(&partial), PIECE);
        settle(&partial).unwrap();
    }

    #[tokio::test]
    async fn what_a_stream_left_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let partial = partial(&folder);
        fs::write(&partial, piece(1, 2 * PIECE + 1)).unwrap();
        let (file, here) = Scattered::open(&partial, SIZE).await.unwrap();
        assert_eq!(here, [true, true, false, false, false]);
        drop(file);
        fs::write(&partial, piece(1, SIZE)).unwrap();
        fs::remove_file(map_of(&partial)).unwrap();
        let (_, here) = Scattered::open(&partial, SIZE).await.unwrap();
        assert_eq!(here, [true; 5]);
    }

    #[tokio::test]
    async fn a_map_that_cannot_be_right_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let partial = partial(&folder);
        let whole = Map { size: SIZE, piece: PIECE, here: vec![true; 5] };
        let other = Map { size: SIZE + PIECE, here: vec![true; 6], ..whole.clone() };
        let table = [
            (whole.bytes(), 0, [false; 5]),
            (whole.bytes(), SIZE - 1, [true, true, true, true, false]),
            (whole.bytes(), SIZE, [true; 5]),
            (other.bytes(), 2 * PIECE, [true, true, false, false, false]),
            (b"short".to_vec(), SIZE, [false; 5]),
            (whole.bytes()[..20].to_vec(), SIZE, [false; 5]),
        ];
        for (map, length, expected) in table {
            fs::write(&partial, piece(1, length)).unwrap();
            fs::write(map_of(&partial), &map).unwrap();
            let (_, here) = Scattered::open(&partial, SIZE).await.unwrap();
            assert_eq!(here, expected, "{} {length}", map.len());
        }
    }

    proptest! {
        #[test]
        fn a_map_is_read_as_it_was_written(
            marks in prop::collection::vec(any::<bool>(), 1..40),
            short in 0..PIECE,
        ) {
            let size = marks.len() as u64 * PIECE - short;
            let map = Map { size, piece: PIECE, here: marks };
            prop_assert_eq!(Map::parse(&map.bytes()), Some(map.clone()));
            prop_assert!(map.prefix() <= map.arrived() && map.arrived() <= map.extent());
            prop_assert!(map.extent() <= size);
        }

        #[test]
        fn no_bytes_are_too_odd_for_a_map(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(map) = Map::parse(&bytes) {
                prop_assert!(map.arrived() <= map.size);
            }
        }
    }
}
