//! Makes an image of a file system: an archive of its files becomes the one layer.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use swarm_dockerfile::{History, Image as Description, Platform};
use swarm_proto::id::Timestamp;

use super::archive::Loaded;
use super::built::{NewImage, documents};
use super::{
    ImageError, Images, LayerBlob, Reference, architecture, name_of, plain_reader_of, room,
};
use crate::clock;

/// What its history says where nobody says something else.
const MESSAGE: &str = "Imported from -";
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
const BZIP2: &[u8] = b"BZh";

/// How a file system becomes an image.
#[derive(Debug, Clone, Default)]
pub struct Import {
    /// Its name; it has none but its digest without.
    pub name: Option<String>,
    /// Instructions as in a Dockerfile that say how it runs, one each.
    pub changes: Vec<String>,
    /// Stands in its history.
    pub message: Option<String>,
    /// What it is for, as `linux/amd64`; by default this host.
    pub platform: Option<String>,
}

fn wrong(reason: impl Into<String>) -> ImageError {
    ImageError::Archive { reason: reason.into() }
}

impl Images {
    /// Makes an image of a file system's archive: a tar file, perhaps compressed with gzip or zstd.
    pub async fn import(
        &self,
        archive: impl Read + Send + 'static,
        wish: Import,
    ) -> Result<Loaded, ImageError> {
        let images = self.clone();
        // Not given up when nobody waits any more: what was begun is cleared away in any case.
        let importing = tokio::spawn(async move { images.take_in(archive, wish).await });
        importing.await.map_err(|error| ImageError::Stopped(error.to_string()))?
    }

    async fn take_in(
        &self,
        archive: impl Read + Send + 'static,
        wish: Import,
    ) -> Result<Loaded, ImageError> {
        let name: Option<Reference> = wish.name.as_deref().map(str::parse).transpose()?;
        if let Some(name) = name.as_ref().filter(|name| name.digest.is_some()) {
            return Err(wrong(format!("`{name}` is a digest, not a name")));
        }
        check_platform(wish.platform.as_deref())?;
        let description = describe(&wish, clock::now())?;
        let claim = Arc::new(self.claim());
        let (folder, reserve) = (self.inner.store.blobs.clone(), self.inner.reserve);
        let write = move |out: &mut dyn Write| copy(archive, (&folder, reserve), out);
        let made = self.add_layer(&claim, write).await;
        let layer = match made {
            Ok(layer) => layer,
            Err(error) => {
                let begun = claim.content();
                drop(claim);
                self.remove_unkept(begun).await?;
                return Err(refused(error));
            }
        };
        let image = self.keep_import(name.clone(), description, layer).await?;
        let names: Vec<String> = name.iter().map(name_of).collect();
        tracing::info!(digest = %image, ?names, "imported an image");
        Ok(Loaded { names, digest: image })
    }

    async fn keep_import(
        &self,
        name: Option<Reference>,
        description: Description,
        layer: LayerBlob,
    ) -> Result<swarm_proto::id::Digest, ImageError> {
        let layers = vec![layer];
        let (config, manifest) =
            documents(description, &layers).map_err(|error| wrong(error.to_string()))?;
        let kept = self.keep_built(NewImage { name, manifest, config, layers }).await?;
        Ok(kept.digest.clone())
    }
}

fn check_platform(text: Option<&str>) -> Result<(), ImageError> {
    let Some(text) = text else { return Ok(()) };
    let platform: Platform = text
        .parse()
        .map_err(|error: swarm_dockerfile::InvalidPlatform| wrong(error.to_string()))?;
    if platform.os == "linux" && platform.architecture == architecture() {
        return Ok(());
    }
    let here = architecture();
    Err(wrong(format!("it is to be for {text}, and this node is linux/{here}")))
}

/// The configuration, without its layer.
fn describe(wish: &Import, now: Timestamp) -> Result<Description, ImageError> {
    let platform =
        Platform { os: "linux".to_owned(), architecture: architecture().to_owned(), variant: None };
    let described = swarm_dockerfile::change(Description::scratch(&platform), &wish.changes);
    let described = described.map_err(|problems| wrong(problems.to_string()))?;
    let seconds = i64::try_from(now.0 / 1000).unwrap_or(i64::MAX);
    let now = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).to_string();
    let comment = wish.message.clone().unwrap_or_else(|| MESSAGE.to_owned());
    let history = History { created: Some(now.clone()), comment, ..History::default() };
    Ok(Description { created: Some(now), history: vec![history], ..described })
}

/// Copies an archive in plain form. What is wrong with it is an error of invalid data.
fn copy(
    mut archive: impl Read + Send + 'static,
    (folder, reserve): (&Path, Option<u64>),
    out: &mut dyn Write,
) -> io::Result<()> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let mut start = Vec::new();
    archive.by_ref().take(8).read_to_end(&mut start)?;
    if start.is_empty() {
        return Err(invalid("it is empty"));
    }
    for (magic, name) in [(XZ, "xz"), (BZIP2, "bzip2")] {
        if start.starts_with(magic) {
            return Err(invalid(&format!(
                "it is compressed with {name}, which is not unpacked here: pack it with gzip or zstd"
            )));
        }
    }
    let plain = plain_reader_of(io::Cursor::new(start).chain(archive))?;
    let mut plain = room::Guarded::new(plain, "the file system", folder, reserve);
    let mut buffer = vec![0; 128 << 10];
    loop {
        let length = match plain.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(match plain.refused.take() {
                    Some(refused) => io::Error::new(io::ErrorKind::StorageFull, refused),
                    None => invalid(&error.to_string()),
                });
            }
        };
        out.write_all(&buffer[..length])?;
    }
}

/// What is wrong with the archive, and not with this host.
fn refused(error: ImageError) -> ImageError {
    match error {
        ImageError::Disk { source, .. } if source.kind() == io::ErrorKind::InvalidData => {
            wrong(source.to_string())
        }
        ImageError::Invalid { what: "layer", reason, .. } => wrong(reason),
        other => other,
    }
}
