//! What this host holds, and what it is called.

use swarm_proto::id::{Digest, Timestamp};
use swarm_proto::object::{HeldImage, HeldName};
use swarm_proto::spec::ImageSpec;

use super::manifest::{self, Manifest};
use super::store::Record;
use super::{ImageError, Images, Inner, ListedImage, Reference};
use crate::clock;

/// Images of which others are told, the newest.
const MOST_TOLD: usize = 256;
/// Names of one image of which others are told, the newest.
const MOST_NAMES: usize = 16;
/// Digits with which a digest may be begun instead of written whole.
const FEWEST_DIGITS: usize = 7;

/// All that there is to say of an image on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    /// The image and its names.
    pub held: HeldImage,
    /// Bytes of its layers as they travel.
    pub size: u64,
    /// When it came.
    pub came_at: Timestamp,
    /// Its layers, the lowest first.
    pub layers: Vec<LayerDetails>,
    /// Its configuration, as it is: JSON.
    pub config: Vec<u8>,
    /// Tasks of this host that use it.
    pub tasks: Vec<String>,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerDetails {
    /// As it travels.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// Uncompressed.
    pub diff_id: Digest,
    /// What the manifest says it is.
    pub media_type: String,
}

impl Images {
    /// All images that are whole on this host, one line for each name.
    pub fn list(&self) -> Vec<ListedImage> {
        let mut listed = Vec::new();
        for record in self.inner.records().values() {
            let line = |reference: &str| ListedImage {
                reference: reference.to_owned(),
                digest: record.digest.clone(),
                size: record.size,
                created_at: record.created_at,
            };
            listed.extend(record.references.keys().map(|name| line(name)));
            if record.references.is_empty() {
                listed.push(line(""));
            }
        }
        listed.sort_by(|a, b| (&a.reference, &a.digest).cmp(&(&b.reference, &b.digest)));
        listed
    }

    /// All that there is to say of an image, given by a name, its digest, or the first digits of that.
    pub fn details(&self, image: &str) -> Result<Details, ImageError> {
        let record = self.inner.look_up(image)?;
        let (_, manifest) = self.inner.manifest_of(&record)?;
        let config = self.inner.document_here("configuration", &manifest.config.digest)?;
        let layers = manifest.layers.into_iter().zip(&record.layers);
        Ok(Details {
            held: held(&record),
            size: record.size,
            came_at: record.created_at,
            layers: layers
                .map(|(layer, diff_id)| LayerDetails {
                    digest: layer.digest,
                    size: layer.size,
                    diff_id: diff_id.clone(),
                    media_type: layer.media_type,
                })
                .collect(),
            config,
            tasks: self.inner.tasks_of(&record),
        })
    }

    /// Gives an image one more name; answers with the whole name. What had it before loses it.
    pub async fn tag(&self, image: &str, name: &str) -> Result<(Digest, String), ImageError> {
        let reference: Reference = name.parse()?;
        if reference.digest.is_some() {
            return Err(ImageError::Archive {
                reason: format!("`{name}` is a digest, not a name"),
            });
        }
        let name = reference.to_string();
        let _writing = self.inner.writing.lock().await;
        let digest = self.inner.look_up(image)?.digest;
        let mut changed = Vec::new();
        {
            let mut records = self.inner.records();
            for record in records.values_mut() {
                if record.digest == digest {
                    record.references.insert(name.clone(), clock::now());
                    record.local.insert(name.clone());
                } else if record.references.remove(&name).is_some() {
                    record.local.remove(&name);
                } else {
                    continue;
                }
                changed.push(record.clone());
            }
        }
        self.inner.write(changed).await?;
        Ok((digest, name))
    }
}

impl Inner {
    /// Tells others what there is.
    pub(super) fn tell(&self) {
        let mut records: Vec<Record> = self.records().values().cloned().collect();
        records.sort_by_key(|record| (std::cmp::Reverse(record.came_at()), record.digest.clone()));
        let held: Vec<HeldImage> = records.iter().take(MOST_TOLD).map(held).collect();
        self.held.send_if_modified(|told| {
            let changed = *told != held;
            *told = held;
            changed
        });
    }

    /// The image that a name, a digest, or a digest's first digits mean.
    pub(super) fn look_up(&self, image: &str) -> Result<Record, ImageError> {
        let records = self.records();
        if let Some(record) = image.parse().ok().and_then(|digest: Digest| records.get(&digest)) {
            return Ok(record.clone());
        }
        let absent = || ImageError::NotHere { image: image.to_owned() };
        let digits = image.strip_prefix("sha256:").unwrap_or(image);
        let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if digits.len() >= FEWEST_DIGITS && digits.chars().all(is_hex) {
            let mut found = records.values().filter(|r| r.digest.hex().starts_with(digits));
            if let (Some(one), None) = (found.next(), found.next()) {
                return Ok(one.clone());
            }
        }
        let reference: Reference = image.parse()?;
        if let Some(digest) = &reference.digest {
            return records.get(digest).cloned().ok_or_else(absent);
        }
        let name = reference.to_string();
        let times = records.values().filter_map(|r| Some((*r.references.get(&name)?, r)));
        let newest = times.max_by_key(|(time, _)| *time);
        newest.map(|(_, record)| record.clone()).ok_or_else(absent)
    }

    /// An image's own manifest, with its digest.
    pub(super) fn manifest_of(&self, record: &Record) -> Result<(Digest, Manifest), ImageError> {
        manifest::own(&record.digest, |digest| self.document_here("manifest", digest))
    }

    /// A document of an image that is whole.
    pub(super) fn document_here(
        &self,
        what: &'static str,
        digest: &Digest,
    ) -> Result<Vec<u8>, ImageError> {
        self.store.read_blob(digest).ok_or_else(|| ImageError::Invalid {
            what,
            digest: digest.to_string(),
            reason: "it is missing, or damaged, on this host's disk".to_owned(),
        })
    }

    /// Names of this host's tasks that use an image.
    pub(super) fn tasks_of(&self, record: &Record) -> Vec<String> {
        let users = self.users.get().map(|users| users()).unwrap_or_default();
        let uses = |image: &ImageSpec| {
            let name: Option<Reference> = image.reference.parse().ok();
            image.digest.as_ref().map_or_else(
                || name.is_some_and(|name| record.references.contains_key(&name.to_string())),
                |digest| *digest == record.digest,
            )
        };
        users.into_iter().filter(|user| uses(&user.image)).map(|user| user.task).collect()
    }
}

/// What others are told of an image.
fn held(record: &Record) -> HeldImage {
    let mut names: Vec<HeldName> = record
        .references
        .iter()
        .map(|(name, at)| HeldName {
            name: name.clone(),
            at: *at,
            local: record.local.contains(name),
        })
        .collect();
    names.sort_by_key(|held| (std::cmp::Reverse(held.at), held.name.clone()));
    names.truncate(MOST_NAMES);
    HeldImage { digest: record.digest.clone(), names }
}
