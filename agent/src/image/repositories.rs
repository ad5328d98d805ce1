//! Repositories of this host's registry on disk, each a folder named by the digest of its name: `name`, `blobs/<digest>`,
//! `manifests/<digest>.json` and `tags/<tag>.json`. What they tell of lies among the blobs of all images.
//!
//! Each file is whole or not there, and a change is done with its last file: a manifest is there before its tag, and goes
//! after it. `freed/<digest>` is a note that a blob may be nobody's: written before the last file that tells of the blob
//! goes, or before the blob has its name, and gone once that was looked at. An agent that starts looks at all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use swarm_proto::id::{Digest, Timestamp};

use super::repository::{HostedManifest, HostedTag, Repository, RepositoryName, Tag};
use super::store::sha256;
use crate::durable;

/// Repositories on one host.
const MOST_REPOSITORIES: usize = 10_000;
/// Blobs, manifests and tags of one repository, each.
const MOST_ENTRIES: usize = 50_000;
const ENDING: &str = "json";

/// Why a repository cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// There are too many of something.
    #[error("there are {most} {what} already, and no more are taken")]
    TooMany {
        /// `repositories`, or what one of them has.
        what: &'static str,
        /// The bound.
        most: usize,
    },
    /// The disk refused.
    #[error("cannot change the repository in `{}`", path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

pub(super) type Index = BTreeMap<RepositoryName, Repository>;

/// See the module.
#[derive(Debug)]
pub(super) struct Repositories {
    folder: PathBuf,
    freed: PathBuf,
    index: Mutex<Index>,
    /// Held while files change.
    writing: Mutex<()>,
}

impl Repositories {
    /// Reads what there is. Nothing is made before something is pushed.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let (folder, freed) = (root.join("repositories"), root.join("freed"));
        let mut index = Index::new();
        if freed.exists() {
            durable::sweep(&freed)?;
        }
        if folder.exists() {
            durable::sweep(&folder)?;
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                if let Some((name, repository)) = read(&path)? {
                    index.insert(name, repository);
                } else {
                    tracing::warn!(path = %path.display(), "this is no repository");
                }
            }
        }
        Ok(Self { folder, freed, index: Mutex::new(index), writing: Mutex::default() })
    }

    /// All of them, as long as the answer lives. Whoever wants images' records as well takes those first.
    pub(super) fn hold(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, name: &RepositoryName) -> PathBuf {
        self.folder.join(sha256(name.as_str().as_bytes()).hex())
    }

    fn failed(&self, name: &RepositoryName) -> impl FnOnce(io::Error) -> RepositoryError {
        let path = self.place(name);
        move |source| RepositoryError::Disk { path, source }
    }

    /// From now on the repository has the blob.
    pub(super) fn add_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        at: Timestamp,
    ) -> Result<(), RepositoryError> {
        let _writing = self.write();
        self.make_place(name, |repository| (repository.blobs.len(), "blobs of this repository"))?;
        let file = self.place(name).join("blobs").join(digest.hex());
        durable::write(&file, at.0.to_string().as_bytes()).map_err(self.failed(name))?;
        self.hold().entry(name.clone()).or_default().blobs.insert(digest.clone(), at);
        Ok(())
    }

    /// From now on the repository has the manifest, and the tag, where there is one, stands for it.
    pub(super) fn add_manifest(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        manifest: HostedManifest,
        tag: Option<(&Tag, HostedTag)>,
    ) -> Result<(), RepositoryError> {
        let _writing = self.write();
        let most = |repository: &Repository| {
            let (manifests, tags) = (repository.manifests.len(), repository.tags.len());
            (manifests.max(tags), "manifests or tags of this repository")
        };
        self.make_place(name, most)?;
        let place = self.place(name);
        let file = place.join("manifests").join(format!("{}.{ENDING}", digest.hex()));
        write_json(&file, &manifest).map_err(self.failed(name))?;
        self.hold().entry(name.clone()).or_default().manifests.insert(digest.clone(), manifest);
        let Some((tag, stands)) = tag else { return Ok(()) };
        self.write_tag(name, tag, stands)
    }

    /// The push of this tag gave the host's image its name.
    pub(super) fn names_image(
        &self,
        name: &RepositoryName,
        tag: &Tag,
    ) -> Result<(), RepositoryError> {
        let _writing = self.write();
        let known = self.hold().get(name).and_then(|known| known.tags.get(tag).cloned());
        let Some(known) = known.filter(|known| !known.names_image) else { return Ok(()) };
        self.write_tag(name, tag, HostedTag { names_image: true, ..known })
    }

    fn write_tag(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        stands: HostedTag,
    ) -> Result<(), RepositoryError> {
        let file = tag_file(&self.place(name), tag);
        write_json(&file, &stands).map_err(self.failed(name))?;
        self.hold().entry(name.clone()).or_default().tags.insert(tag.clone(), stands);
        Ok(())
    }

    /// Takes a tag away.
    pub(super) fn remove_tag(
        &self,
        name: &RepositoryName,
        tag: &Tag,
    ) -> Result<Option<HostedTag>, RepositoryError> {
        let _writing = self.write();
        let known = self.hold().get(name).and_then(|known| known.tags.get(tag).cloned());
        if known.is_some() {
            remove_file(&tag_file(&self.place(name), tag)).map_err(self.failed(name))?;
            if let Some(repository) = self.hold().get_mut(name) {
                repository.tags.remove(tag);
            }
            self.drop_empty(name)?;
        }
        Ok(known)
    }

    /// Takes a manifest away, after its tags, which are answered; `None`: there is none.
    pub(super) fn remove_manifest(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Vec<(Tag, HostedTag)>>, RepositoryError> {
        let _writing = self.write();
        let tags: Option<Vec<(Tag, HostedTag)>> = self.hold().get(name).and_then(|known| {
            let tags = known.tags.iter().filter(|(_, stands)| stands.digest == *digest);
            let tags = tags.map(|(tag, stands)| (tag.clone(), stands.clone())).collect();
            known.manifests.contains_key(digest).then_some(tags)
        });
        let Some(tags) = tags else { return Ok(None) };
        let place = self.place(name);
        for (tag, _) in &tags {
            remove_file(&tag_file(&place, tag)).map_err(self.failed(name))?;
            if let Some(repository) = self.hold().get_mut(name) {
                repository.tags.remove(tag);
            }
        }
        self.note(digest).map_err(self.failed(name))?;
        let file = place.join("manifests").join(format!("{}.{ENDING}", digest.hex()));
        remove_file(&file).map_err(self.failed(name))?;
        if let Some(repository) = self.hold().get_mut(name) {
            repository.manifests.remove(digest);
        }
        self.drop_empty(name)?;
        Ok(Some(tags))
    }

    /// Takes a blob away from the repository; false: it has none of that digest.
    pub(super) fn remove_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, RepositoryError> {
        let _writing = self.write();
        if !self.hold().get(name).is_some_and(|known| known.blobs.contains_key(digest)) {
            return Ok(false);
        }
        self.note(digest).map_err(self.failed(name))?;
        let file = self.place(name).join("blobs").join(digest.hex());
        remove_file(&file).map_err(self.failed(name))?;
        if let Some(repository) = self.hold().get_mut(name) {
            repository.blobs.remove(digest);
        }
        self.drop_empty(name)?;
        Ok(true)
    }

    /// Writes down that a blob may be nobody's.
    pub(super) fn note(&self, digest: &Digest) -> io::Result<()> {
        fs::create_dir_all(&self.freed)?;
        durable::write(&self.freed.join(digest.hex()), b"")
    }

    /// It was looked at.
    pub(super) fn forget_note(&self, digest: &Digest) -> io::Result<()> {
        remove_file(&self.freed.join(digest.hex()))
    }

    /// Blobs of which notes tell.
    pub(super) fn notes(&self) -> io::Result<BTreeSet<Digest>> {
        if !self.freed.exists() {
            return Ok(BTreeSet::new());
        }
        let entries: Result<Vec<_>, _> = fs::read_dir(&self.freed)?.collect();
        let names = entries?.into_iter().filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names.filter_map(|name| format!("sha256:{name}").parse().ok()).collect())
    }

    /// A repository's folder is whole once it has its name.
    fn make_place(
        &self,
        name: &RepositoryName,
        most: impl FnOnce(&Repository) -> (usize, &'static str),
    ) -> Result<(), RepositoryError> {
        {
            let index = self.hold();
            if let Some((count, what)) = index.get(name).map(most)
                && count >= MOST_ENTRIES
            {
                return Err(RepositoryError::TooMany { what, most: MOST_ENTRIES });
            }
            if !index.contains_key(name) && index.len() >= MOST_REPOSITORIES {
                let (what, most) = ("repositories", MOST_REPOSITORIES);
                return Err(RepositoryError::TooMany { what, most });
            }
        }
        let place = self.place(name);
        if place.exists() {
            return Ok(());
        }
        let make = || {
            fs::create_dir_all(&self.folder)?;
            let aside = durable::unfinished(&self.folder);
            for part in ["blobs", "manifests", "tags"] {
                fs::create_dir_all(aside.join(part))?;
            }
            durable::write(&aside.join("name"), name.as_str().as_bytes())?;
            durable::rename(&aside, &place)
        };
        make().map_err(self.failed(name))
    }

    /// A repository without anything is none.
    fn drop_empty(&self, name: &RepositoryName) -> Result<(), RepositoryError> {
        let mut index = self.hold();
        if !index.get(name).is_some_and(Repository::is_empty) {
            return Ok(());
        }
        index.remove(name);
        drop(index);
        let aside = durable::unfinished(&self.folder);
        let gone = durable::rename(&self.place(name), &aside);
        gone.and_then(|()| crate::tree::remove_path(&aside)).map_err(self.failed(name))
    }
}

fn tag_file(place: &Path, tag: &Tag) -> PathBuf {
    place.join("tags").join(format!("{tag}.{ENDING}"))
}

fn write_json(file: &Path, content: &impl Serialize) -> io::Result<()> {
    durable::write(file, &serde_json::to_vec(content)?)
}

/// Removes a file for good.
fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// The repository in a folder; `None` where that is not one.
fn read(place: &Path) -> io::Result<Option<(RepositoryName, Repository)>> {
    let Ok(name) = fs::read_to_string(place.join("name")) else { return Ok(None) };
    let Ok(name) = name.parse::<RepositoryName>() else { return Ok(None) };
    let mut repository = Repository::default();
    for (file, content) in files(&place.join("blobs"))? {
        let (digest, at) = (format!("sha256:{file}").parse(), String::from_utf8(content).ok());
        if let (Ok(digest), Some(at)) = (digest, at.and_then(|at| at.parse().ok())) {
            repository.blobs.insert(digest, Timestamp(at));
        }
    }
    for (file, content) in files(&place.join("manifests"))? {
        let hex = file.strip_suffix(".json").unwrap_or_default();
        let (digest, known) = (format!("sha256:{hex}").parse(), parsed(place, &file, &content));
        if let (Ok(digest), Some(known)) = (digest, known) {
            repository.manifests.insert(digest, known);
        }
    }
    for (file, content) in files(&place.join("tags"))? {
        let tag = file.strip_suffix(".json").unwrap_or_default().parse();
        if let (Ok(tag), Some(stands)) = (tag, parsed::<HostedTag>(place, &file, &content))
            && repository.manifests.contains_key(&stands.digest)
        {
            repository.tags.insert(tag, stands);
        }
    }
    Ok(Some((name, repository)))
}

fn parsed<T: DeserializeOwned>(place: &Path, file: &str, content: &[u8]) -> Option<T> {
    let parsed = serde_json::from_slice(content);
    if let Err(error) = &parsed {
        tracing::warn!(place = %place.display(), file, %error, "cannot read a repository's record");
    }
    parsed.ok()
}

/// The files of a folder, without what an earlier run left unfinished, which goes.
fn files(folder: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    durable::sweep(folder)?;
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, fs::read(entry.path())?));
        }
    }
    Ok(found)
}
