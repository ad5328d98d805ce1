//! What inputs begin with: files that people wrote.

use std::io;
use std::path::PathBuf;

/// All files below folders and some more, in an order that does not depend on the disk. Links are not followed: an example
/// may hold some that lead nowhere.
pub(crate) fn read(mut folders: Vec<PathBuf>, mut files: Vec<PathBuf>) -> io::Result<Vec<Vec<u8>>> {
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    files.iter().map(std::fs::read).collect()
}
