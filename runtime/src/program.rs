//! The sealed copy of the `swarm-runtime` program that every shim runs from.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

/// A copy of the program in memory that nobody can change any more: a container that gets hold of
/// `/proc/…/exe` of its shim or init holds this copy, never a file of the host.
///
/// Make one when the caller starts and share it; all shims then share its pages.
#[derive(Debug)]
pub struct ShimProgram {
    fd: OwnedFd,
}

/// The program could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The program could not be read.
    #[error("could not read the runtime program `{}`", path.display())]
    Read {
        /// The program's file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The copy could not be made.
    #[error("could not seal a copy of `{}` in memory", path.display())]
    Seal {
        /// The program's file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ShimProgram {
    /// Copies the program at `path` into memory and seals the copy. Debug information is left out.
    pub fn seal(path: &Path) -> Result<Self, ProgramError> {
        let read = |source| ProgramError::Read { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(read)?;
        let mut header = [0; 64];
        file.read_exact(&mut header).map_err(read)?;
        let size = loaded_size(&mut file, &header).map_err(read)?;
        file.seek(SeekFrom::Start(0)).map_err(read)?;
        copy_sealed(&mut file, header, size)
            .map(|fd| Self { fd })
            .map_err(|source| ProgramError::Seal { path: path.to_owned(), source })
    }

    /// Runs a command of the copy with one end of a socket as its standard input. The process hands over to a copy of
    /// itself and ends: the caller talks first, and then waits for it.
    pub(crate) fn run(&self, command: &str) -> io::Result<(Child, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        // No pre_exec, no uid, no process group: std then uses posix_spawn, which does not copy this process's page
        // tables.
        let child = Command::new(self.path())
            .arg(command)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()?;
        Ok((child, ours))
    }

    /// The path under which this process can execute the copy.
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }
}

impl AsFd for ShimProgram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// How many bytes of an ELF file the kernel and the loader need: up to the end of the last segment.
fn loaded_size(file: &mut File, header: &[u8; 64]) -> io::Result<u64> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "not a 64-bit ELF program");
    if header[..4] != *b"\x7fELF" || header[4] != 2 {
        return Err(invalid());
    }
    let offset = u64_at(header, 32);
    let entry_size = usize::from(u16_at(header, 54));
    let entries = usize::from(u16_at(header, 56));
    if entry_size < 56 {
        return Err(invalid());
    }
    let mut table = vec![0; entry_size * entries];
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(&mut table)?;
    let end_of = |entry: &[u8]| u64_at(entry, 8).saturating_add(u64_at(entry, 32));
    let segments = table.chunks_exact(entry_size).map(end_of).max().ok_or_else(invalid)?;
    Ok(segments.max(offset + table.len() as u64).min(file.metadata()?.len()))
}

fn copy_sealed(file: &mut File, mut header: [u8; 64], size: u64) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Newer kernels want it said that the copy is for running; older ones do not know the flag.
    let made = match memfd_create("swarm-runtime", flags | MemfdFlags::EXEC) {
        Err(rustix::io::Errno::INVAL) => memfd_create("swarm-runtime", flags)?,
        other => other?,
    };
    let mut copy = File::from(made);
    // The section table lies behind what is copied: take it out of the header.
    header[40..48].fill(0);
    header[60..64].fill(0);
    copy.write_all(&header)?;
    file.seek(SeekFrom::Start(64))?;
    io::copy(&mut file.take(size.saturating_sub(64)), &mut copy)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&copy, seals)?;
    Ok(copy.into())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(value)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_program_runs_and_cannot_be_changed() {
        let program = ShimProgram::seal(Path::new("/bin/true")).unwrap();
        assert!(Command::new(program.path()).status().unwrap().success());
        let mut file = File::from(program.fd.try_clone().unwrap());
        file.seek(SeekFrom::Start(0)).unwrap();
        let error = file.write(b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn what_is_not_a_program_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("script");
        std::fs::write(&path, [b'#'; 100]).unwrap();
        let error = ShimProgram::seal(&path).unwrap_err();
        assert!(error.to_string().contains("script"), "{error}");
        assert!(ShimProgram::seal(&dir.path().join("absent")).is_err());
    }
}
