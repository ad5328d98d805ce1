//! Secrets and configs as files: one file system in memory for each task, `files` in its folder, whose files are
//! mounted into the container one by one. All of it blocks.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use swarm_proto::assignment::TaskAssignment;
use swarm_proto::spec::{ContentBytes, FileMount};

use super::TaskError;
use crate::content::ContentStore;

/// Its folder in the task's.
pub(super) const NAME: &str = "files";
/// What a file takes at least.
const PAGE: u64 = 4096;

/// Makes a task's files anew, and says where each lies, by its path in the container.
pub(super) fn make(
    task_folder: &Path,
    task: &TaskAssignment,
    contents: &ContentStore,
) -> Result<BTreeMap<String, PathBuf>, TaskError> {
    let folder = task_folder.join(NAME);
    unmake(&folder)?;
    let mut made = BTreeMap::new();
    let files = &task.container.files;
    if files.is_empty() {
        return Ok(made);
    }
    let bytes = |file: &FileMount| {
        let bytes = file.content().and_then(|id| contents.get(&id));
        bytes.ok_or_else(|| TaskError::NoContent(file.kind, file.source.clone()))
    };
    let bytes = files.iter().map(bytes).collect::<Result<Vec<_>, _>>()?;
    fs::create_dir_all(&folder).map_err(TaskError::disk("make", &folder))?;
    let pages: u64 = bytes.iter().map(|one| one.size().div_ceil(PAGE).max(1)).sum();
    mount_memory(&folder, pages + 1, bytes.len() + 1)?;
    for (number, (file, bytes)) in files.iter().zip(bytes).enumerate() {
        let path = folder.join(number.to_string());
        write(&path, file, &bytes).map_err(TaskError::disk("write", &path))?;
        made.insert(file.target.clone(), path);
    }
    Ok(made)
}

/// A file system of so many pages and files. Where the kernel can (6.4 and later), it is never swapped out.
pub(crate) fn mount_memory(folder: &Path, pages: u64, files: usize) -> Result<(), TaskError> {
    let options = format!("mode=0700,size={},nr_inodes={files}", pages * PAGE);
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let try_with =
        |options: &str| mount(Some("swarm"), folder, Some("tmpfs"), flags, Some(options));
    let mounted = match try_with(&format!("{options},noswap")) {
        Err(Errno::EINVAL) => try_with(&options),
        other => other,
    };
    mounted.map_err(|errno| TaskError::disk("mount memory at", folder)(errno.into()))
}

fn write(path: &Path, file: &FileMount, bytes: &ContentBytes) -> std::io::Result<()> {
    let mut made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    made.write_all(bytes.reveal())?;
    // The owner first: a change of it takes the set-user-id bit away.
    fchown(&made, Some(file.uid), Some(file.gid))?;
    made.set_permissions(Permissions::from_mode(file.mode & 0o7777))
}

/// Takes the contents of files that stand back into memory. What cannot be read, or was changed, comes again with the
/// next session.
pub(super) fn take_back(task_folder: &Path, task: &TaskAssignment, contents: &ContentStore) {
    let folder = task_folder.join(NAME);
    for (number, file) in task.container.files.iter().enumerate() {
        let Some(id) = file.content().filter(|id| contents.get(id).is_none()) else { continue };
        let path = folder.join(number.to_string());
        let taken = read(&path).ok().is_some_and(|bytes| contents.put(id, bytes).is_ok());
        if !taken {
            let (kind, source) = (file.kind, &file.source);
            tracing::info!(task = %task.name, %kind, %source, "waits for the next session");
        }
    }
}

/// Reads a file into one buffer, which is overwritten when it goes.
fn read(path: &Path) -> std::io::Result<ContentBytes> {
    let file = File::open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let mut bytes = Vec::with_capacity(length.saturating_add(1));
    std::io::Read::read_to_end(&mut &file, &mut bytes)?;
    Ok(ContentBytes::new(bytes))
}

/// Removes a folder of files in memory. Nothing there is fine. Containers that run keep theirs.
pub(super) fn unmake(folder: &Path) -> Result<(), TaskError> {
    loop {
        match umount2(folder, MntFlags::MNT_DETACH) {
            // One may lie on top of another, after a crash between two steps.
            Ok(()) => {}
            // Not mounted, or not there.
            Err(Errno::EINVAL | Errno::ENOENT) => break,
            Err(errno) => return Err(TaskError::disk("unmount", folder)(errno.into())),
        }
    }
    super::remove(folder)
}
