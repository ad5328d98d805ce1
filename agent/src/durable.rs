//! Files that are whole after any crash: written aside, synced, renamed into place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Begins the name of what is not finished; removed at the next start.
pub(crate) const UNFINISHED: &str = ".tmp-";

/// A name beside `path` that no other writer of this process uses.
pub(crate) fn unfinished(folder: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    folder.join(format!("{UNFINISHED}{}-{number}", std::process::id()))
}

/// Replaces a file's content.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let aside = unfinished(folder);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(content)?;
    file.sync_all()?;
    rename(&aside, path)
}

/// Renames and syncs the folder, so that the new name outlives a power cut.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    let folder = to.parent().unwrap_or(Path::new("/"));
    File::open(folder)?.sync_all()
}

/// Removes what earlier runs left unfinished in a folder.
pub(crate) fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            crate::tree::remove_path(&entry.path())?;
        }
    }
    Ok(())
}
