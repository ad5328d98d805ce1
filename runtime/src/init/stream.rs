//! The standard streams of a program.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Uid, fchown};

use super::{Identity, InitError};
use crate::sys;

/// Makes a descriptor this standard stream.
pub(super) fn put(fd: &OwnedFd, number: i32) -> Result<(), InitError> {
    sys::duplicate_onto(fd.as_fd(), number).map_err(InitError::step("set standard streams"))
}

/// Makes a descriptor this standard stream and the program's own, so that one that is not root can open `/dev/stdout`.
pub(super) fn give(fd: &OwnedFd, number: i32, identity: &Identity) -> Result<(), InitError> {
    fchown(fd, Some(Uid::from_raw(identity.uid)), None)
        .map_err(InitError::call("hand over standard streams"))?;
    put(fd, number)
}

/// Makes a terminal the session's, and all standard streams.
pub(super) fn give_terminal(peer: &OwnedFd, identity: &Identity) -> Result<(), InitError> {
    rustix::process::ioctl_tiocsctty(peer)
        .map_err(InitError::call("make the terminal the session's"))?;
    (0..=2).try_for_each(|number| give(peer, number, identity))
}
