//! What a copy takes: paths and patterns below a root, and everything in the folders that they mean, in a steady order.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, OFlags, Stat};
use swarm_dockerfile::{Glob, Ignore};

use super::{BuildError, path};
use crate::tree;

/// Any number of folders, in a pattern.
const ANY_FOLDERS: &[u8] = b"**";

/// One thing that a path or a pattern means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// As it was written, with patterns replaced.
    pub(super) named: Vec<u8>,
    /// Where it lies, all symlinks followed.
    pub(super) real: Vec<u8>,
}

/// What a path or pattern means. A path that leads nowhere is an error, a pattern that fits nothing is not.
pub(super) fn find(root: &OwnedFd, text: &str) -> Result<Vec<Found>, BuildError> {
    let failed = |error| BuildError::disk("look for", format!("/{text}"))(error);
    let mut named: Vec<Vec<u8>> = vec![Vec::new()];
    for part in path::parts(text.as_bytes()) {
        let mut next = Vec::new();
        for folder in &named {
            next.extend(expand(root, folder, part).map_err(failed)?);
        }
        named = next;
    }
    let mut found = Vec::new();
    for named in named {
        let real = path::real(root, &named).map_err(failed)?;
        match path::stat(root, &real).map_err(failed)? {
            Some(_) => found.push(Found { named, real }),
            None if is_pattern(text.as_bytes()) => {}
            None => return Err(BuildError::NoSource { path: text.to_owned() }),
        }
    }
    Ok(found)
}

fn is_pattern(text: &[u8]) -> bool {
    text.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'))
}

/// One component of a pattern, below one folder.
fn expand(root: &OwnedFd, folder: &[u8], part: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    if !is_pattern(part) {
        return Ok(vec![path::join(folder, part)]);
    }
    if part == ANY_FOLDERS {
        return any_folders(root, folder);
    }
    let wrong = |error: &dyn std::error::Error| {
        io::Error::new(io::ErrorKind::InvalidInput, error.to_string())
    };
    let text = std::str::from_utf8(part).map_err(|error| wrong(&error))?;
    let glob = Glob::new(text).map_err(|error| wrong(&error))?;
    let mut names = names(root, folder)?;
    names.retain(|name| std::str::from_utf8(name).is_ok_and(|name| glob.matches(name)));
    Ok(names.into_iter().map(|name| path::join(folder, &name)).collect())
}

/// A folder and all those in it, however deep.
fn any_folders(root: &OwnedFd, folder: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let (mut found, mut ahead) = (Vec::new(), vec![folder.to_vec()]);
    while let Some(folder) = ahead.pop() {
        for name in names(root, &folder)?.into_iter().rev() {
            let inner = path::join(&folder, &name);
            let stat =
                path::stat(root, &path::real(root, &folder).map(|real| path::join(&real, &name))?)?;
            if stat.is_some_and(|stat| is_folder(&stat)) {
                ahead.push(inner);
            }
        }
        found.push(folder);
    }
    Ok(found)
}

/// The names in a folder, in order; none where there is no folder.
fn names(root: &OwnedFd, folder: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let real = path::real(root, folder)?;
    if !path::stat(root, &real)?.is_some_and(|stat| is_folder(&stat)) {
        return Ok(Vec::new());
    }
    let mut names = tree::names(path::open(root, &real, OFlags::RDONLY | OFlags::DIRECTORY)?)?;
    names.sort();
    Ok(names)
}

pub(super) fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// A file or folder that is taken.
#[derive(Debug)]
pub(super) struct Node {
    /// Below what was found; empty is that itself.
    pub(super) below: Vec<u8>,
    pub(super) stat: Stat,
}

/// What was found and everything in it, but for what is excluded: folders before what is in them, names in order.
pub(super) fn nodes(
    root: &OwnedFd,
    found: &Found,
    excluded: Option<&Ignore>,
) -> io::Result<Vec<Node>> {
    let mut nodes: Vec<(Node, bool)> = Vec::new();
    let mut ahead = vec![Vec::new()];
    while let Some(below) = ahead.pop() {
        let at = path::join(&found.real, &below);
        let Some(stat) = path::stat(root, &at)? else { continue };
        let inside = is_folder(&stat);
        if inside {
            let mut inner =
                tree::names(path::open(root, &at, OFlags::RDONLY | OFlags::DIRECTORY)?)?;
            inner.sort_by(|a, b| b.cmp(a));
            ahead.extend(inner.iter().map(|name| path::join(&below, name)));
        }
        // A file that was named itself is looked at by its name.
        let told = if below.is_empty() { path::split(&found.named).1 } else { &below };
        let applies = !(inside && below.is_empty());
        let ignored = applies && excluded.is_some_and(|rules| rules.ignores(&path::shown(told)));
        nodes.push((Node { below, stat }, ignored));
    }
    Ok(drop_ignored(nodes))
}

/// A folder that is excluded stays where something in it is not.
fn drop_ignored(nodes: Vec<(Node, bool)>) -> Vec<Node> {
    let mut needed = HashSet::new();
    let mut kept = Vec::new();
    for (node, ignored) in nodes.into_iter().rev() {
        if ignored && !needed.contains(&node.below) {
            continue;
        }
        if !node.below.is_empty() {
            needed.insert(path::split(&node.below).0.to_vec());
        }
        kept.push(node);
    }
    kept.reverse();
    kept
}
