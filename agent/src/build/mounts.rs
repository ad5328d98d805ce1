//! What `RUN --mount` asks for, made ready: folders of contexts, stages and images, caches, secrets in memory.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Gid, Mode, Uid};
use swarm_dockerfile::{From, Mount, Run};

use super::cache_mount::Held;
use super::copy::{Rules, Target};
use super::walk::{self, Found};
use super::work::Work;
use super::{BuildError, attached, blocking, path};
use crate::executor::{Mounted, mount_memory};
use crate::tree;

/// What a file in memory takes at least.
const PAGE: u64 = 4096;

/// Everything that a step's program is given beside its root.
#[derive(Debug, Default)]
pub(super) struct Ready {
    pub(super) mounts: BTreeMap<String, Mounted>,
    /// Values of secrets.
    pub(super) secrets: Vec<(String, String)>,
    /// Caches, which are given back with this.
    pub(super) held: Vec<Held>,
}

/// Makes a step's mounts ready below its folder.
pub(super) async fn make(work: &Work, run: &Run, folder: &Path) -> Result<Ready, BuildError> {
    let mut ready = Ready::default();
    take_caches(work, run, folder, &mut ready).await?;
    let mut files = Vec::new();
    for (number, mount) in run.mounts.iter().enumerate() {
        match mount {
            Mount::Cache { .. } => {}
            Mount::Tmpfs { target, size } => {
                ready.mounts.insert(target.clone(), Mounted::Memory { size: *size });
            }
            Mount::Bind { target, from, source, writable } => {
                let place = folder.join(format!("bind-{number}"));
                let path = bind(work, from, source, *writable, place).await?;
                let mounted = Mounted::Host { path, read_only: !writable };
                ready.mounts.insert(target.clone(), mounted);
            }
            Mount::Secret { id, target, env, required, uid, gid, mode } => {
                let Some(bytes) = work.secret(id) else {
                    if *required {
                        return Err(BuildError::NoSecret(id.clone()));
                    }
                    continue;
                };
                if let Some(name) = env {
                    let value = String::from_utf8(bytes.reveal().to_vec()).map_err(|_| {
                        BuildError::Unsupported(format!(
                            "secret `{id}` is no text, so no variable can have it"
                        ))
                    })?;
                    ready.secrets.push((name.clone(), value));
                }
                if let Some(target) = target {
                    files.push((target.clone(), bytes, (*uid, *gid, *mode)));
                }
            }
        }
    }
    let mounted = secret_files(folder.join("secrets"), files).await?;
    ready.mounts.extend(mounted);
    if let Some(script) = &run.script {
        let path = folder.join("script");
        let content = script.content.clone();
        let file = path.clone();
        blocking(move || write_file(&file, content.as_bytes(), (0, 0, 0o755))).await?;
        ready.mounts.insert(script.path.clone(), Mounted::Host { path, read_only: true });
    }
    Ok(ready)
}

/// A part of a root at a path of the host, through which no symlink leads.
async fn bind(
    work: &Work,
    from: &From,
    source: &str,
    writable: bool,
    place: PathBuf,
) -> Result<PathBuf, BuildError> {
    let layers = work.folders_of(from).await?;
    // What is only read of one folder needs no mount of its own.
    let plain = match layers.as_slice() {
        [only] if !writable => Some(only.clone()),
        _ => None,
    };
    let source = source.to_owned();
    blocking(move || {
        let root = match plain {
            Some(root) => root,
            None => attached::attach(&place, &layers)?,
        };
        let opened = tree::open_root(&root).map_err(BuildError::disk("open", &root))?;
        let real = path::real(&opened, source.as_bytes())
            .map_err(BuildError::disk("look for", &source))?;
        if path::stat(&opened, &real).map_err(BuildError::disk("look for", &source))?.is_none() {
            return Err(BuildError::NoSource { path: source.trim_start_matches('/').to_owned() });
        }
        Ok(root.join(OsStr::from_bytes(&real)))
    })
    .await
}

/// In the order of their ids, so that no two steps wait for one another.
async fn take_caches(
    work: &Work,
    run: &Run,
    folder: &Path,
    ready: &mut Ready,
) -> Result<(), BuildError> {
    let mut caches: Vec<&Mount> =
        run.mounts.iter().filter(|mount| matches!(mount, Mount::Cache { .. })).collect();
    caches.sort_by_key(|mount| match mount {
        Mount::Cache { id, .. } => id.as_str(),
        _ => "",
    });
    for (number, mount) in caches.into_iter().enumerate() {
        let Mount::Cache { target, id, from, source, read_only, sharing, uid, gid, mode } = mount
        else {
            continue;
        };
        let held = tokio::select! {
            held = work.caches().take(id, *sharing) => held,
            () = work.cancelled() => return Err(BuildError::Cancelled),
        };
        if !held.path.is_dir() {
            let content = match from {
                None => None,
                Some(from) => Some(work.folders_of(from).await?),
            };
            let begin = NewCache {
                content,
                source: source.clone(),
                view: folder.join(format!("cache-{number}")),
                owner: (*uid, *gid, *mode),
            };
            let caches = Arc::clone(work.caches());
            let aside = caches.aside();
            let made = aside.clone();
            blocking(move || begin.make(&made)).await?;
            held.give(&aside).map_err(BuildError::disk("name", &held.path))?;
        }
        let mounted = Mounted::Host { path: held.path.clone(), read_only: *read_only };
        ready.mounts.insert(target.clone(), mounted);
        ready.held.push(held);
    }
    Ok(())
}

/// A cache that is not there yet.
struct NewCache {
    /// Whose files it begins with.
    content: Option<Vec<PathBuf>>,
    source: String,
    /// A folder to look at them from.
    view: PathBuf,
    /// With its permissions.
    owner: (u32, u32, u32),
}

impl NewCache {
    fn make(self, aside: &Path) -> Result<(), BuildError> {
        fs::create_dir(aside).map_err(BuildError::disk("make", aside))?;
        let root = tree::open_root(aside).map_err(BuildError::disk("open", aside))?;
        if let Some(layers) = self.content {
            let source = super::snapshot::Snapshot::make(&self.view, &layers)?.before()?;
            fill(&source, &self.source, &root)?;
        }
        let (uid, gid, mode) = self.owner;
        rustix::fs::fchown(&root, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .and_then(|()| rustix::fs::fchmod(&root, Mode::from_raw_mode(mode)))
            .map_err(|error| BuildError::disk("give away", aside)(error.into()))
    }
}

fn fill(source: &OwnedFd, text: &str, root: &OwnedFd) -> Result<(), BuildError> {
    let failed = |error| BuildError::disk("copy into a cache", text)(error);
    let real = path::real(source, text.as_bytes()).map_err(failed)?;
    let found = Found { named: real.clone(), real };
    let nodes = walk::nodes(source, &found, None).map_err(failed)?;
    if !nodes.first().is_some_and(|top| walk::is_folder(&top.stat)) {
        return Err(BuildError::NoSource { path: text.trim_start_matches('/').to_owned() });
    }
    let mut target = Target::new(root, Rules::default());
    let put = target.put(source, &found, &nodes, b"", false);
    put.and_then(|()| target.finish()).map_err(failed)
}

type SecretFile = (String, Arc<swarm_proto::spec::ContentBytes>, (u32, u32, u32));

/// Secrets lie in memory, each in a file of its own.
async fn secret_files(
    folder: PathBuf,
    files: Vec<SecretFile>,
) -> Result<Vec<(String, Mounted)>, BuildError> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    blocking(move || {
        fs::create_dir_all(&folder).map_err(BuildError::disk("make", &folder))?;
        let pages: u64 = files.iter().map(|(_, bytes, _)| bytes.size().div_ceil(PAGE).max(1)).sum();
        mount_memory(&folder, pages + 1, files.len() + 1)?;
        let mut mounted = Vec::new();
        for (number, (target, bytes, owner)) in files.into_iter().enumerate() {
            let path = folder.join(number.to_string());
            write_file(&path, bytes.reveal(), owner)?;
            mounted.push((target, Mounted::Secret { path }));
        }
        Ok(mounted)
    })
    .await
}

fn write_file(path: &Path, bytes: &[u8], owner: (u32, u32, u32)) -> Result<(), BuildError> {
    let (uid, gid, mode) = owner;
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        // The owner first: a change of it takes the set-user-id bit away.
        fchown(&file, Some(uid), Some(gid))?;
        file.set_permissions(Permissions::from_mode(mode & 0o7777))
    };
    write().map_err(BuildError::disk("write", path))
}

/// Whether a step's program gets something that must not lie on the disk, not even in its own configuration.
pub(super) fn has_secret_variables(run: &Run) -> bool {
    run.mounts.iter().any(|mount| matches!(mount, Mount::Secret { env: Some(_), .. }))
}
