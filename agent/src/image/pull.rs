//! Downloads blobs: resumed where they broke off, bounded in number, compared with their digest.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use prost::bytes::Bytes;
use sha2::{Digest as _, Sha256};
use swarm_proto::id::Digest;
use tokio::sync::mpsc;

use super::answer::innermost;
use super::manifest::Descriptor;
use super::rate::slowed;
use super::registry::Source;
use super::scattered::{settle, without_gap};
use super::store::{Store, digest_of};
use super::{ImageError, Rate};
use crate::durable;

/// How often a broken stream is taken up again without a single byte of progress.
const FRUITLESS_TRIES: u32 = 4;
/// Chunks between the network and the disk.
const CHUNKS: usize = 8;

/// Brings a blob into the store.
pub(super) async fn blob(
    store: &Store,
    source: &Source,
    descriptor: &Descriptor,
    rate: &Arc<Rate>,
) -> Result<(), ImageError> {
    let (digest, partial) = (&descriptor.digest, store.partial_blob(&descriptor.digest));
    if store.blob(digest).exists() {
        return Ok(());
    }
    let mut writer = Writer::open(&partial).await?;
    let mut fruitless = 0;
    while writer.length < descriptor.size {
        let before = writer.length;
        let stream = source.blob(digest, writer.length).await?;
        if !stream.resumed && writer.length > 0 {
            writer.restart()?;
        }
        let bytes = slowed(stream.bytes, Arc::clone(rate));
        let (back, broken) = writer.take(bytes, descriptor.size).await?;
        writer = back;
        let Some(reason) = broken else { break };
        fruitless = if writer.length > before { 0 } else { fruitless + 1 };
        tracing::debug!(%digest, length = writer.length, %reason, "a download broke off");
        if fruitless == FRUITLESS_TRIES {
            let detail = format!("the download breaks off: {reason}");
            let reference = source.reference().to_string();
            return Err(ImageError::Unavailable { reference, detail });
        }
        tokio::time::sleep(Duration::from_millis(200) * 2_u32.pow(fruitless)).await;
    }
    let target = store.blob(digest);
    let expected = digest.clone();
    blocking(move || writer.finish(&target, &expected)).await
}

/// The growing file, with the hash of what it has up to its first gap.
pub(super) struct Writer {
    file: File,
    path: PathBuf,
    hash: Sha256,
    length: u64,
}

impl Writer {
    /// Opens what an earlier try left from the beginning on, and hashes it. What lies behind a gap goes once something
    /// comes to take its place: a source that fails at once costs nothing.
    pub(super) async fn open(path: &Path) -> Result<Self, ImageError> {
        let path = path.to_owned();
        blocking(move || {
            let known = without_gap(&path).map_err(ImageError::disk("look at", &path))?;
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false);
            let file = options.open(&path).map_err(ImageError::disk("open", &path))?;
            let mut writer = Self { file, path, hash: Sha256::new(), length: 0 };
            let read = writer.read(known);
            read.map_err(ImageError::disk("read", &writer.path))?;
            Ok(writer)
        })
        .await
    }

    fn read(&mut self, known: u64) -> io::Result<()> {
        let mut buffer = vec![0; 128 << 10];
        let mut known = (&self.file).take(known);
        loop {
            let got = known.read(&mut buffer)?;
            if got == 0 {
                return Ok(());
            }
            self.hash.update(&buffer[..got]);
            self.length += got as u64;
        }
    }

    /// Bytes that are there.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Forgets what there is: the registry does not serve parts.
    fn restart(&mut self) -> Result<(), ImageError> {
        let emptied = settle(&self.path).and_then(|()| self.file.set_len(0));
        emptied.and_then(|()| self.file.rewind()).map_err(written)?;
        (self.hash, self.length) = (Sha256::new(), 0);
        Ok(())
    }

    /// Takes a stream in, on a thread for blocking work. The reason is given when it broke off.
    pub(super) async fn take(
        mut self,
        mut stream: impl futures_util::Stream<Item = io::Result<Bytes>> + Unpin,
        limit: u64,
    ) -> Result<(Self, Option<String>), ImageError> {
        let (sender, mut receiver) = mpsc::channel::<Bytes>(CHUNKS);
        let mut received = self.length;
        let writing = tokio::task::spawn_blocking(move || {
            let mut is_settled = false;
            while let Some(chunk) = receiver.blocking_recv() {
                if !is_settled {
                    settle(&self.path)?;
                    is_settled = true;
                }
                self.file.write_all(&chunk)?;
                self.hash.update(&chunk);
                self.length += chunk.len() as u64;
            }
            Ok(self)
        });
        let broken = loop {
            match stream.next().await {
                None => break None,
                Some(Err(error)) => break Some(innermost(&error)),
                Some(Ok(chunk)) => {
                    received += chunk.len() as u64;
                    // A stream without end must not fill the disk.
                    if received > limit {
                        break Some("more comes than there is to be".to_owned());
                    }
                    // Failing to send: the writer has failed.
                    if sender.send(chunk).await.is_err() {
                        break None;
                    }
                }
            }
        };
        drop(sender);
        let writer = writing.await.map_err(|e| ImageError::Stopped(e.to_string()))?;
        let writer = writer.map_err(written)?;
        let broken =
            broken.or_else(|| (writer.length < limit).then(|| "the stream ended early".to_owned()));
        Ok((writer, broken))
    }

    /// Names the file, which is whole now, if it is what its digest says; else it goes.
    pub(super) fn finish(self, target: &Path, expected: &Digest) -> Result<(), ImageError> {
        let partial = &self.path;
        settle(partial).map_err(ImageError::disk("prepare", partial))?;
        let found = digest_of(self.hash);
        if found != *expected {
            std::fs::remove_file(partial).map_err(ImageError::disk("remove", partial))?;
            let expected = expected.to_string();
            return Err(ImageError::Corrupt { expected, found: found.to_string() });
        }
        self.file.sync_data().map_err(ImageError::disk("sync", partial))?;
        durable::rename(partial, target).map_err(ImageError::disk("name", target))
    }
}

fn written(error: io::Error) -> ImageError {
    ImageError::disk("write a download into", "blobs")(error)
}

/// Runs blocking work aside.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ImageError::Stopped(error.to_string()))?
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::super::pieces::PIECE;
    use super::super::scattered::{Scattered, arrived};
    use super::*;

    fn bytes(count: u64) -> Vec<u8> {
        vec![7; usize::try_from(count).unwrap()]
    }

    #[tokio::test]
    async fn what_lies_behind_a_gap_goes_only_once_something_comes() {
        let folder = tempfile::tempdir().unwrap();
        let partial = folder.path().join("abc.part");
        let size = 3 * PIECE;
        let (pieces, _) = Scattered::open(&partial, size).await.unwrap();
        let pieces = pieces.write(0, bytes(PIECE)).await.unwrap();
        drop(pieces.write(2, bytes(PIECE)).await.unwrap());
        let writer = Writer::open(&partial).await.unwrap();
        assert_eq!(writer.length(), PIECE);
        let refused = stream::iter([Err(io::Error::other("no such blob"))]);
        let (writer, broken) = writer.take(refused, size).await.unwrap();
        assert_eq!((writer.length(), broken.as_deref()), (PIECE, Some("no such blob")));
        assert_eq!(arrived(&partial), 2 * PIECE, "both pieces stay");
        let some = stream::iter([Ok(Bytes::from(bytes(9)))]);
        let (writer, _) = writer.take(some, size).await.unwrap();
        assert_eq!((writer.length(), arrived(&partial)), (PIECE + 9, PIECE + 9));
        let rest = stream::iter([Ok(Bytes::from(bytes(2 * PIECE - 9)))]);
        let (writer, broken) = writer.take(rest, size).await.unwrap();
        assert_eq!(broken, None);
        let (target, mut hash) = (folder.path().join("abc"), Sha256::new());
        hash.update(bytes(size));
        writer.finish(&target, &digest_of(hash)).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), bytes(size));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[tokio::test]
    async fn all_pieces_are_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let partial = folder.path().join("abc.part");
        for (given, is_right) in [(7, true), (8, false)] {
            let (mut pieces, _) = Scattered::open(&partial, 2 * PIECE).await.unwrap();
            for piece in [1, 0] {
                let bytes = bytes(PIECE).iter().map(|_| given).collect();
                pieces = pieces.write(piece, bytes).await.unwrap();
            }
            let (target, mut hash) = (folder.path().join("abc"), Sha256::new());
            hash.update(bytes(2 * PIECE));
            let writer = Writer::open(&partial).await.unwrap();
            assert_eq!(writer.finish(&target, &digest_of(hash)).is_ok(), is_right);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "as before, or new");
        }
    }
}
