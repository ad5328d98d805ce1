//! Files beside the stack file: they are read here, on the workstation, and travel with the deploy.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use swarm_proto::spec::{ContentBytes, ContentId, ContentKind, ContentSpec, FileMount};

use super::stack::Declared;
use super::{Decoder, contents, mounts};
use crate::paths::BESIDE;
use crate::stack::ContentSource;
use crate::tree::{At, shorten};

/// The longest key that is made of a path.
const LONGEST_KEY: usize = 63;

/// Whether the source of a bind lies beside the stack file, and not on the hosts.
pub(super) fn is_beside(source: &str) -> bool {
    source.starts_with(BESIDE) || !source.starts_with(['/', '~'])
}

/// A bind of a file beside the stack file, as a config of its own.
pub(super) fn bind(
    d: &Decoder<'_>,
    at: At,
    source: &str,
    target: String,
    read_only: bool,
    declared: &Declared<'_>,
) -> Option<FileMount> {
    let shown = shorten(source);
    let path = PathBuf::from(mounts::host_path(d, source));
    let metadata = std::fs::metadata(&path);
    if metadata.as_ref().is_ok_and(std::fs::Metadata::is_dir) {
        let message = format!("the folder `{shown}` is on this machine, not on the hosts");
        let hint = "only single files travel with a stack: name them, use a volume, or give an absolute path that exists on the hosts";
        d.problems.error_hint(at, message, hint);
        return None;
    }
    if !read_only {
        let message =
            format!("`{shown}` is on this machine: a container on a host cannot write it");
        let hint = "add `:ro` (`read_only: true`), use a volume, or give an absolute path that exists on the hosts";
        d.problems.error_hint(at, message, hint);
        return None;
    }
    let key = key(d, &path, declared);
    if !d.found.borrow().configs.contains_key(&key) {
        let bytes = read(d, at, ContentKind::Config, &path)?;
        let id = contents::keep(d, ContentKind::Config, &key, ContentSource::File(path), bytes);
        let spec = ContentSpec { digest: Some(id.digest), ..ContentSpec::default() };
        d.found.borrow_mut().configs.insert(key.clone(), spec);
    }
    // A script stays one.
    let is_program = metadata.is_ok_and(|found| found.permissions().mode() & 0o111 != 0);
    let mode = FileMount::MODE | if is_program { 0o111 } else { 0 };
    let kind = ContentKind::Config;
    Some(FileMount { kind, source: key, digest: None, target, uid: 0, gid: 0, mode })
}

/// The key of a file's config: its path, as far as a key may hold it, and something of its own where that is taken.
fn key(d: &Decoder<'_>, path: &Path, declared: &Declared<'_>) -> String {
    let inner = path.strip_prefix(d.folder).unwrap_or(path).display().to_string();
    let letter = |c: char| if c.is_ascii_alphanumeric() || "._".contains(c) { c } else { '-' };
    let plain: String = inner.chars().map(letter).collect();
    let plain = plain.trim_start_matches(['-', '.', '_']);
    let is_other =
        |found: &ContentSource| !matches!(found, ContentSource::File(one) if one == path);
    let known = (ContentKind::Config, plain.to_owned());
    let taken = declared.contents(ContentKind::Config).contains_key(plain)
        || d.found.borrow().sources.get(&known).is_some_and(is_other);
    if !taken && !plain.is_empty() && plain.len() <= LONGEST_KEY {
        return plain.to_owned();
    }
    let digest = ContentId::of(ContentKind::Config, path.display().to_string().as_bytes()).digest;
    let (start, end) = (plain.len().saturating_sub(LONGEST_KEY - 9), &digest.hex()[..8]);
    let plain = plain[start..].trim_start_matches(['-', '.', '_']);
    if plain.is_empty() { end.to_owned() } else { format!("{plain}-{end}") }
}

/// Reads a file whole. What is wrong is told.
pub(super) fn read(
    d: &Decoder<'_>,
    at: At,
    kind: ContentKind,
    path: &Path,
) -> Option<ContentBytes> {
    let shown = path.display().to_string();
    let refused = |what: &str, hint: &str| {
        d.problems.error_hint(at, format!("the file `{}` {what}", shorten(&shown)), hint);
    };
    let from = format!("it is looked for from `{}`", d.folder.display());
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            refused("does not exist", &from);
            return None;
        }
        Err(error) => {
            refused(&format!("cannot be read: {error}"), "");
            return None;
        }
    };
    if !metadata.is_file() {
        refused("is not a file", &from);
        return None;
    }
    if metadata.len() > kind.most_bytes() {
        refuse_size(d, at, kind, &shown);
        return None;
    }
    // Read into one buffer, for what a growing one leaves behind is not overwritten; a byte more shows that it grew.
    let most = metadata.len() + 1;
    let mut bytes = Vec::with_capacity(usize::try_from(most + 1).unwrap_or(usize::MAX));
    let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    let bytes = ContentBytes::new(bytes);
    match read {
        Ok(_) if bytes.size() == metadata.len() => Some(bytes),
        Ok(_) => {
            refused("changed while it was read", "try again");
            None
        }
        Err(error) => {
            refused(&format!("cannot be read: {error}"), "");
            None
        }
    }
}

/// Says that a content is too large.
pub(super) fn refuse_size(d: &Decoder<'_>, at: At, kind: ContentKind, what: &str) {
    let message = format!("`{}` is too large for a {kind}", shorten(what));
    let hint = format!("a {kind} has at most {} bytes: put more into a volume", kind.most_bytes());
    d.problems.error_hint(at, message, hint);
}
