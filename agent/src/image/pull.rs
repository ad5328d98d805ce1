//! Downloads blobs: resumed where they broke off, bounded in number, compared with their digest.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
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
use super::scattered::settle;
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
    blocking(move || writer.finish(&partial, &target, &expected)).await
}

/// The growing file, with the hash of what it has.
pub(super) struct Writer {
    file: File,
    hash: Sha256,
    length: u64,
}

impl Writer {
    /// Opens what an earlier try left from the beginning on, and hashes it.
    pub(super) async fn open(path: &Path) -> Result<Self, ImageError> {
        let path = path.to_owned();
        blocking(move || {
            settle(&path).map_err(ImageError::disk("prepare", &path))?;
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false);
            let mut file = options.open(&path).map_err(ImageError::disk("open", &path))?;
            let mut hash = Sha256::new();
            let mut buffer = vec![0; 128 << 10];
            let mut length = 0;
            loop {
                let got = file.read(&mut buffer).map_err(ImageError::disk("read", &path))?;
                if got == 0 {
                    return Ok(Self { file, hash, length });
                }
                hash.update(&buffer[..got]);
                length += got as u64;
            }
        })
        .await
    }

    /// Bytes that are there.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Forgets what there is: the registry does not serve parts.
    fn restart(&mut self) -> Result<(), ImageError> {
        self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(written)?;
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
            while let Some(chunk) = receiver.blocking_recv() {
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

    pub(super) fn finish(
        self,
        partial: &Path,
        target: &Path,
        expected: &Digest,
    ) -> Result<(), ImageError> {
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
