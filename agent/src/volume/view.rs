//! An image's merged root, for reading.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::tree;

/// Opens the root that an image's layers make together. Several layers are stacked by overlayfs on a thread with a
/// mount namespace of its own: nothing is mounted on the host, and nothing stays after a crash.
pub(super) fn with_root<T: Send + 'static>(
    layers: &[PathBuf],
    work: impl FnOnce(OwnedFd) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match layers {
        [] => Err(io::Error::new(io::ErrorKind::NotFound, "the image has no layers")),
        [only] => work(tree::open_root(only)?),
        _ => {
            let layers = layers.to_vec();
            let thread = std::thread::Builder::new().name("image-view".into());
            let running = thread.spawn(move || work(stack(&layers)?))?;
            running.join().map_err(|_| io::Error::other("the copying thread died"))?
        }
    }
}

/// Stacks the layers at the lowest one's own folder, which in this namespace nobody else sees.
fn stack(layers: &[PathBuf]) -> io::Result<OwnedFd> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let topmost_first: Vec<_> = layers.iter().rev().map(|layer| layer.to_string_lossy()).collect();
    let options = format!("lowerdir={}", topmost_first.join(":"));
    mount(
        Some("overlay"),
        &layers[0],
        Some("overlay"),
        MsFlags::MS_RDONLY,
        Some(options.as_str()),
    )?;
    tree::open_root(&layers[0])
}
