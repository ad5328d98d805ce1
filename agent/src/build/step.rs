//! One step of a stage: from the layers below it to a layer of its own, or to what an earlier build made of it.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{FileType, OFlags};
use swarm_dockerfile::{Action, Copy, From, Ignore, Mount, Source, Workdir};
use swarm_proto::id::Digest;

use super::cache::{self, Made};
use super::content::Content;
use super::copy::{Rules, Target};
use super::owner::{self, Owner};
use super::progress::Reporter;
use super::snapshot::Snapshot;
use super::walk::{self, Found};
use super::work::Work;
use super::{BuildError, attached, blocking, layer, path, run};
use crate::image::{LayerBlob, plain_reader, unpack_archive};
use crate::{clock, tree};

/// Says which way of making layers a record of the cache is of.
const FORM: &[u8] = b"1";
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
const BZIP2: &[u8] = b"BZh";

/// What became of a step.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) made: Made,
    pub(super) cached: bool,
}

/// Carries out what touches files, unless an earlier build did.
pub(super) async fn carry_out(
    work: &Work,
    action: &Action,
    below: &[LayerBlob],
    folder: PathBuf,
    reporter: &Reporter,
) -> Result<Outcome, BuildError> {
    let key = key(work, action, below).await?;
    if let Some(made) = work.known(&key) {
        return Ok(Outcome { made, cached: true });
    }
    let _permit = work.permit().await?;
    let layers = match action {
        // Its files depend on nothing that is there.
        Action::Copy(copy) if copy.link => Vec::new(),
        _ => work.folders(below),
    };
    let snapshot = {
        let folder = folder.clone();
        blocking(move || Snapshot::make(&folder, &layers).map(Arc::new)).await?
    };
    let done = match action {
        Action::Configure => Ok(false),
        Action::Workdir(workdir) => make_workdir(&snapshot, workdir.clone()).await,
        Action::Copy(step) => {
            let (from, below) = (work.folders_of(&step.from).await?, work.folders(below));
            let copying = Copying {
                copy: step.as_ref().clone(),
                time: work.epoch().unwrap_or_else(|| clock::now().0 / 1000),
                views: (work.view(), work.view()),
            };
            let snapshot = Arc::clone(&snapshot);
            blocking(move || copying.carry_out(&snapshot, &from, &below)).await.map(|()| true)
        }
        Action::Run(step) => {
            run::run(work, step, &snapshot, &folder, reporter).await.map(|()| true)
        }
    };
    let made = match done {
        Ok(true) => pack(work, &snapshot).await.map(Some),
        Ok(false) => Ok(None),
        Err(error) => Err(error),
    };
    let removed = blocking(move || attached::remove(&folder)).await;
    let made = Made { layer: made?, made_at: clock::now() };
    removed?;
    work.keep(&key, &made)?;
    Ok(Outcome { made, cached: false })
}

/// The changes as a layer of the store.
async fn pack(work: &Work, snapshot: &Arc<Snapshot>) -> Result<LayerBlob, BuildError> {
    let (snapshot, latest) = (Arc::clone(snapshot), work.epoch());
    let layer = work.images().add_layer(work.claim(), move |out| {
        let upper = tree::open_root(&snapshot.changes())?;
        let before = snapshot.before().map_err(io::Error::other)?;
        layer::write(&upper, &before, latest, out)
    });
    Ok(layer.await?)
}

/// Everything that a step's result depends on. Whose files are taken counts by what they are, not by where they are.
async fn key(work: &Work, action: &Action, below: &[LayerBlob]) -> Result<Digest, BuildError> {
    let mut told = action.clone();
    let content = match &mut told {
        Action::Copy(copy) => {
            let content = copied(work, copy).await?;
            copy.from = From::Nothing;
            content
        }
        Action::Run(step) => {
            let content = run::content(work, step).await?;
            for mount in &mut step.mounts {
                if let Mount::Bind { from, .. } = mount {
                    *from = From::Nothing;
                }
            }
            content
        }
        Action::Configure | Action::Workdir(_) => Content::default(),
    };
    let told = serde_json::to_vec(&told)
        .map_err(|source| BuildError::Description { what: "cache key", source })?;
    let options = match action {
        Action::Run(_) => serde_json::to_vec(work.step_options()),
        _ => Ok(Vec::new()),
    };
    let options =
        options.map_err(|source| BuildError::Description { what: "cache key", source })?;
    let content = content.digest();
    let epoch = work.epoch().map(|epoch| epoch.to_string()).unwrap_or_default();
    let linked = matches!(action, Action::Copy(copy) if copy.link && copy.owner.is_none());
    let below = if linked { &[] } else { below };
    let below = below.iter().map(|layer| layer.diff_id.as_str().as_bytes());
    let own = [FORM, &told, content.as_str().as_bytes(), epoch.as_bytes(), &options];
    Ok(cache::key(own.into_iter().chain(below)))
}

/// What a copy takes.
async fn copied(work: &Work, copy: &Copy) -> Result<Content, BuildError> {
    let (layers, view, copy) = (work.folders_of(&copy.from).await?, work.view(), copy.clone());
    blocking(move || {
        let mut content = Content::default();
        let excluded = excluded(&copy)?;
        // Heredocs come with the step itself.
        let paths = copy.sources.iter().filter_map(|source| match source {
            Source::Path(path) => Some(path),
            Source::File { .. } => None,
        });
        let root = Snapshot::make(&view, &layers)?.before()?;
        for text in paths {
            for found in walk::find(&root, text)? {
                let failed = |error| BuildError::disk("read", shown(&found))(error);
                let nodes = walk::nodes(&root, &found, excluded.as_ref()).map_err(failed)?;
                content.add(&root, &found, &nodes).map_err(failed)?;
            }
        }
        Ok(content)
    })
    .await
}

fn shown(found: &Found) -> String {
    format!("/{}", path::shown(&found.named))
}

fn excluded(copy: &Copy) -> Result<Option<Ignore>, BuildError> {
    if copy.exclude.is_empty() {
        return Ok(None);
    }
    let rules = Ignore::of_patterns(&copy.exclude);
    rules.map(Some).map_err(|error| BuildError::Unsupported(format!("--exclude: {error}")))
}

/// True when something was made.
async fn make_workdir(snapshot: &Arc<Snapshot>, workdir: Workdir) -> Result<bool, BuildError> {
    let snapshot = Arc::clone(snapshot);
    blocking(move || {
        let failed = |error| BuildError::disk("make the folder", &workdir.path)(error);
        let before = snapshot.before()?;
        let real = path::real(&before, workdir.path.as_bytes()).map_err(failed)?;
        if path::stat(&before, &real).map_err(failed)?.is_some_and(|stat| walk::is_folder(&stat)) {
            return Ok(false);
        }
        let owner = owner::find(&before, &workdir.user)?;
        let root = snapshot.root()?;
        let mut target = Target::new(&root, Rules { owner: Some(owner), mode: None });
        target.folder(workdir.path.as_bytes()).map_err(failed)?;
        Ok(true)
    })
    .await
}

/// `COPY` or `ADD`, as it is carried out.
struct Copying {
    copy: Copy,
    /// Of files that have none of their own: seconds since the epoch.
    time: u64,
    /// Folders for looks at the source and at the image.
    views: (PathBuf, PathBuf),
}

impl Copying {
    fn carry_out(
        self,
        snapshot: &Snapshot,
        from: &[PathBuf],
        below: &[PathBuf],
    ) -> Result<(), BuildError> {
        let copy = &self.copy;
        let source = Snapshot::make(&self.views.0, from)?.before()?;
        let owner = match &copy.owner {
            Some(owner) => {
                Some(owner::find(&Snapshot::make(&self.views.1, below)?.before()?, owner)?)
            }
            None => match copy.from {
                From::Context | From::Nothing => Some((0, 0)),
                From::Stage(_) | From::Image(_) => None,
            },
        };
        let root = snapshot.root()?;
        let mut target = Target::new(&root, Rules { owner, mode: copy.mode.clone() });
        let excluded = excluded(copy)?;
        for one in &copy.sources {
            match one {
                Source::File { name, content } => {
                    let time = i64::try_from(self.time).unwrap_or(i64::MAX);
                    let (to, into) = (copy.target.as_bytes(), copy.into_folder);
                    target
                        .put_content(name, content.as_bytes(), to, into, time)
                        .map_err(BuildError::disk("write", &copy.target))?;
                }
                Source::Path(text) => {
                    for found in walk::find(&source, text)? {
                        self.put(&source, &found, text, excluded.as_ref(), owner, &mut target)?;
                    }
                }
            }
        }
        target.finish().map_err(BuildError::disk("finish", &copy.target))
    }

    fn put(
        &self,
        source: &OwnedFd,
        found: &Found,
        text: &str,
        excluded: Option<&Ignore>,
        owner: Option<Owner>,
        target: &mut Target<'_>,
    ) -> Result<(), BuildError> {
        let copy = &self.copy;
        if copy.unpack
            && copy.from == From::Context
            && let Some(archive) = Archive::open(source, found)?
        {
            let failed = |error| BuildError::disk("unpack", shown(found))(error);
            let folder = target.folder(copy.target.as_bytes()).map_err(failed)?;
            let owner = copy.owner.as_ref().and(owner);
            return archive.unpack(folder, owner).map_err(BuildError::disk("unpack", shown(found)));
        }
        let failed = |error| BuildError::disk("copy", shown(found))(error);
        let nodes = walk::nodes(source, found, excluded).map_err(failed)?;
        if copy.parents {
            let kept = kept_from(text);
            return target
                .put_with_parents(source, found, &nodes, copy.target.as_bytes(), kept)
                .map_err(BuildError::disk("copy", shown(found)));
        }
        target
            .put(source, found, &nodes, copy.target.as_bytes(), copy.into_folder)
            .map_err(BuildError::disk("copy", shown(found)))
    }
}

/// How many folders at the start of a path are not kept by `--parents`: those before a `/./`.
fn kept_from(text: &str) -> usize {
    text.split_once("/./").map_or(0, |(before, _)| path::parts(before.as_bytes()).count())
}

/// An archive that `ADD` unpacks.
struct Archive {
    file: File,
}

impl Archive {
    /// Nothing where a file is no archive.
    fn open(root: &OwnedFd, found: &Found) -> Result<Option<Self>, BuildError> {
        let failed = |error| BuildError::disk("read", shown(found))(error);
        let stat = path::stat(root, &found.real).map_err(failed)?;
        let is_file = |mode| FileType::from_raw_mode(mode) == FileType::RegularFile;
        if !stat.is_some_and(|stat| is_file(stat.st_mode)) {
            return Ok(None);
        }
        let open = || path::open(root, &found.real, OFlags::RDONLY).map(File::from);
        let mut start = Vec::new();
        open().map_err(failed)?.take(8).read_to_end(&mut start).map_err(failed)?;
        for (magic, name) in [(XZ, "xz"), (BZIP2, "bzip2")] {
            if start.starts_with(magic) {
                return Err(BuildError::Unsupported(format!(
                    "`{}` is compressed with {name}, which is not unpacked here\n\n\
                     hint: pack it with gzip or zstd, or take it as it is with COPY",
                    shown(found)
                )));
            }
        }
        let mut header = Vec::new();
        let plain = plain_reader("", open().map_err(failed)?).map_err(failed)?;
        // What looks compressed and is not is a file as any other.
        if plain.take(512).read_to_end(&mut header).is_err() || !is_header(&header) {
            return Ok(None);
        }
        Ok(Some(Self { file: open().map_err(failed)? }))
    }

    fn unpack(self, folder: OwnedFd, owner: Option<Owner>) -> io::Result<()> {
        unpack_archive(plain_reader("", self.file)?, folder, owner)
    }
}

/// Whether these bytes begin an archive: the header's sum is right.
fn is_header(bytes: &[u8]) -> bool {
    let Ok(block) = <[u8; 512]>::try_from(bytes) else { return false };
    if block.iter().all(|byte| *byte == 0) {
        return false;
    }
    let header = tar::Header::from_byte_slice(&block);
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { u32::from(b' ') } else { u32::from(*byte) })
        .sum();
    header.cksum().is_ok_and(|told| told == sum)
}
