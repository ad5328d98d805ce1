//! The folder that a build takes files from, as an archive that is the same for the same files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use swarm_dockerfile::Ignore;
use tar::{Builder, EntryType, Header};

use crate::failure::Failure;

/// A folder, and what of it is left out.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) folder: PathBuf,
    pub(super) ignore: Ignore,
}

/// What is sent, sorted by path.
#[derive(Debug)]
pub(super) struct Found {
    folder: PathBuf,
    entries: BTreeMap<PathBuf, Metadata>,
    /// What is no file, folder or symbolic link, and so is left out.
    pub(super) warnings: Vec<String>,
}

impl Context {
    /// Everything below the folder that is not left out, and the folders above it. Symbolic links are not followed.
    pub(super) fn found(&self) -> Result<Found, Failure> {
        let mut found =
            Found { folder: self.folder.clone(), entries: BTreeMap::new(), warnings: Vec::new() };
        // Folders that are left out, but may hold what is not: they come with what is in them.
        let mut left_out: BTreeMap<PathBuf, Metadata> = BTreeMap::new();
        let mut waiting = vec![PathBuf::new()];
        while let Some(below) = waiting.pop() {
            for path in self.listed(&below)? {
                let failed = |error| self.failed(&path, &error);
                let metadata = fs::symlink_metadata(self.folder.join(&path)).map_err(failed)?;
                let ignored = self.is_ignored(&path);
                if metadata.is_dir() {
                    if !ignored || self.ignore.may_keep_below(&path.to_string_lossy()) {
                        waiting.push(path.clone());
                    }
                    if ignored {
                        left_out.insert(path, metadata);
                        continue;
                    }
                }
                if !ignored {
                    found.add(path, metadata);
                }
            }
        }
        found.add_folders_above(&mut left_out);
        Ok(found)
    }

    fn is_ignored(&self, path: &Path) -> bool {
        !self.ignore.is_empty() && self.ignore.ignores(&path.to_string_lossy())
    }

    fn listed(&self, below: &Path) -> Result<Vec<PathBuf>, Failure> {
        let failed = |error| self.failed(below, &error);
        let entries = fs::read_dir(self.folder.join(below)).map_err(failed)?;
        let paths = entries.map(|entry| Ok(below.join(entry?.file_name())));
        paths.collect::<io::Result<_>>().map_err(failed)
    }

    fn failed(&self, path: &Path, error: &io::Error) -> Failure {
        let shown = self.folder.join(path);
        Failure::because(format!("cannot read `{}` of the context", shown.display()), error)
            .hint("name what is not needed in `.dockerignore`")
    }
}

impl Found {
    /// How many files, folders and symbolic links there are.
    pub(super) fn count(&self) -> usize {
        self.entries.len()
    }

    /// How many bytes are in the files.
    pub(super) fn bytes(&self) -> u64 {
        self.entries.values().filter(|entry| entry.is_file()).map(Metadata::len).sum()
    }

    fn add(&mut self, path: PathBuf, metadata: Metadata) {
        let kind = metadata.file_type();
        if kind.is_file() || kind.is_dir() || kind.is_symlink() {
            self.entries.insert(path, metadata);
            return;
        }
        let what = match kind {
            kind if kind.is_socket() => "a socket",
            kind if kind.is_fifo() => "a pipe",
            _ => "a device",
        };
        self.warnings
            .push(format!("`{}` of the context is {what}, and is not sent", path.display()));
    }

    fn add_folders_above(&mut self, left_out: &mut BTreeMap<PathBuf, Metadata>) {
        let above: BTreeSet<PathBuf> = self
            .entries
            .keys()
            .flat_map(|path| path.ancestors().skip(1).map(Path::to_path_buf))
            .collect();
        for path in above {
            if let Some(metadata) = left_out.remove(&path) {
                self.entries.insert(path, metadata);
            }
        }
    }

    /// Writes the archive. Paths, kinds, permissions, times in seconds, targets and bytes count; owners do not.
    pub(super) fn write(&self, output: impl Write) -> Result<(), Failure> {
        let mut archive = Builder::new(output);
        // What is sent before a parent's end has the parent before it: paths are sorted by their parts.
        for (path, metadata) in &self.entries {
            self.append(&mut archive, path, metadata).map_err(|error| {
                let shown = self.folder.join(path);
                Failure::because(
                    format!("cannot send `{}` of the context", shown.display()),
                    &error,
                )
            })?;
        }
        let end = archive.into_inner().and_then(|mut output| output.flush());
        end.map_err(|error| Failure::because("cannot send the context", &error))
    }

    fn append(
        &self,
        archive: &mut Builder<impl Write>,
        path: &Path,
        metadata: &Metadata,
    ) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_mode(metadata.mode() & 0o7777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
        header.set_size(0);
        if metadata.is_dir() {
            header.set_entry_type(EntryType::Directory);
            return archive.append_data(&mut header, path, io::empty());
        }
        if metadata.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            let target = fs::read_link(self.folder.join(path))?;
            return archive.append_link(&mut header, path, target);
        }
        let file = File::open(self.folder.join(path))?;
        // It may have been written to since it was found: what is sent has one length.
        let size = file.metadata()?.len();
        header.set_entry_type(EntryType::Regular);
        header.set_size(size);
        let mut exact = Exact { file, left: size };
        archive.append_data(&mut header, path, &mut exact)
    }
}

/// So many bytes of a file, and an error when it has fewer.
struct Exact {
    file: File,
    left: u64,
}

impl Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.file.read(&mut buffer[..most])?;
        if length == 0 {
            return Err(io::Error::other("it became shorter while it was read"));
        }
        self.left -= length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn context(ignore: &str, files: &[&str]) -> (tempfile::TempDir, Context) {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        let ignore = Ignore::read(ignore, ".dockerignore").unwrap();
        let context = Context { folder: folder.path().to_owned(), ignore };
        (folder, context)
    }

    fn names(context: &Context) -> Vec<String> {
        let mut bytes = Vec::new();
        context.found().unwrap().write(&mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().unwrap();
        entries.map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
    }

    #[test]
    fn what_is_left_out_is_not_sent_but_folders_above_what_is_kept_are() {
        let files =
            ["a.txt", "a/b.txt", "logs/keep.log", "logs/x.log", "target/y", "deep/t/keep/z"];
        let (_folder, context) =
            context("*.log\nlogs\n!logs/keep.log\ntarget\ndeep\n!deep/t/keep\n", &files);
        let expected = [
            "a",
            "a/b.txt",
            "a.txt",
            "deep",
            "deep/t",
            "deep/t/keep",
            "deep/t/keep/z",
            "logs",
            "logs/keep.log",
        ];
        assert_eq!(names(&context), expected);
    }

    #[test]
    fn an_archive_is_the_same_for_the_same_files_and_keeps_what_they_are() {
        let long = format!("{}/{}", "d".repeat(90), "f".repeat(90));
        let (folder, context) = context("", &["run", &long, "empty/x"]);
        fs::remove_file(folder.path().join("empty/x")).unwrap();
        fs::set_permissions(folder.path().join("run"), fs::Permissions::from_mode(0o4750)).unwrap();
        let target = format!("../{}", "t".repeat(120));
        symlink(&target, folder.path().join("link")).unwrap();
        let pack = || {
            let mut bytes = Vec::new();
            context.found().unwrap().write(&mut bytes).unwrap();
            bytes
        };
        let bytes = pack();
        assert_eq!(bytes, pack());
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut seen = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let (path, header) =
                (entry.path().unwrap().display().to_string(), entry.header().clone());
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
            let link = entry.link_name().unwrap().map(|link| link.display().to_string());
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            seen.insert(path, (header.mode().unwrap(), link, content));
        }
        assert_eq!(seen["run"], (0o4750, None, "run".to_owned()));
        assert_eq!(seen["link"].1.as_ref(), Some(&target));
        assert_eq!(seen[&long].2, long);
        assert!(seen.contains_key("empty"));
    }

    #[test]
    fn a_socket_is_told_and_not_sent() {
        let (folder, context) = context("", &["x"]);
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("s")).unwrap();
        let found = context.found().unwrap();
        assert_eq!(found.count(), 1);
        assert!(found.warnings[0].contains("a socket"), "{:?}", found.warnings);
    }
}
