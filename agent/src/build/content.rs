//! What copied files are, as a digest: their paths, kinds, permissions, owners, attributes and bytes, not their times.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, OFlags};
use sha2::{Digest as _, Sha256};
use swarm_proto::id::Digest;

use super::walk::{Found, Node};
use super::{attribute, path};
use crate::image::digest_of;

/// Gathers files into one digest.
#[derive(Debug, Default)]
pub(super) struct Content {
    hash: Sha256,
}

impl Content {
    /// Takes in what was found, with what is in it.
    pub(super) fn add(&mut self, root: &OwnedFd, found: &Found, nodes: &[Node]) -> io::Result<()> {
        self.part(path::split(&found.named).1);
        for node in nodes {
            self.node(root, &path::join(&found.real, &node.below), node)?;
        }
        Ok(())
    }

    /// Takes in something else that counts.
    pub(super) fn part(&mut self, bytes: &[u8]) {
        self.hash.update((bytes.len() as u64).to_le_bytes());
        self.hash.update(bytes);
    }

    /// What all of it is.
    pub(super) fn digest(self) -> Digest {
        digest_of(self.hash)
    }

    fn node(&mut self, root: &OwnedFd, at: &[u8], node: &Node) -> io::Result<()> {
        let stat = &node.stat;
        self.part(&node.below);
        for number in [stat.st_mode, stat.st_uid, stat.st_gid] {
            self.hash.update(number.to_le_bytes());
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let mut file = File::from(path::open(root, at, OFlags::RDONLY)?);
                self.attributes(&file)?;
                self.hash.update(u64::try_from(stat.st_size).unwrap_or(0).to_le_bytes());
                io::copy(&mut file, &mut Hashing(&mut self.hash))?;
            }
            FileType::Directory => {
                self.attributes(&path::open(root, at, OFlags::RDONLY | OFlags::DIRECTORY)?)?;
            }
            FileType::Symlink => {
                let (folder, name) = path::split(at);
                let folder = path::open(root, folder, OFlags::PATH | OFlags::DIRECTORY)?;
                let target = rustix::fs::readlinkat(&folder, name, Vec::new())?;
                self.part(target.as_bytes());
            }
            _ => {}
        }
        Ok(())
    }

    fn attributes(&mut self, fd: impl std::os::fd::AsFd) -> io::Result<()> {
        for (name, value) in attribute::read(fd)? {
            self.part(&name);
            self.part(&value);
        }
        Ok(())
    }
}

struct Hashing<'a>(&'a mut Sha256);

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
