//! Extended attributes that belong to a file, rather than to its host or file system.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// Attributes by name.
pub(super) type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// What travels with a file: the same as is unpacked from layers.
fn travels(name: &[u8]) -> bool {
    (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
        || name == b"security.capability"
}

/// Those of an open file or folder, sorted.
pub(super) fn read(fd: impl AsFd) -> io::Result<Attributes> {
    let mut list = match rustix::fs::flistxattr_query(&fd) {
        Ok(length) => vec![0; length],
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let length = rustix::fs::flistxattr(&fd, list.as_mut_slice())?;
    let mut found = Vec::new();
    for name in list[..length].split(|byte| *byte == 0).filter(|name| travels(name)) {
        let mut value = vec![0; rustix::fs::fgetxattr_query(&fd, name)?];
        let length = rustix::fs::fgetxattr(&fd, name, value.as_mut_slice())?;
        value.truncate(length);
        found.push((name.to_vec(), value));
    }
    found.sort();
    Ok(found)
}

/// Gives them to another file. File systems without them are fine.
pub(super) fn write(fd: impl AsFd, attributes: &Attributes) -> io::Result<()> {
    for (name, value) in attributes {
        match rustix::fs::fsetxattr(&fd, name.as_slice(), value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Whether a folder of an overlay's upper layer hides all that is below it.
pub(super) fn is_opaque(fd: impl AsFd) -> io::Result<bool> {
    let mut value = [0_u8; 8];
    match rustix::fs::fgetxattr(&fd, "trusted.overlay.opaque", &mut value[..]) {
        Ok(length) => Ok(&value[..length] == b"y"),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
