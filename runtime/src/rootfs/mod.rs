//! The container's file systems: its root, what is mounted in it, its devices, and what of the kernel
//! it may not see. Every step works on descriptors; no path of the container is given to the kernel
//! outside a [`Root`].

pub(crate) mod device;
pub(crate) mod mask;
pub(crate) mod mount;
mod options;
mod overlay;
mod root;

use std::io;
use std::path::PathBuf;

pub(crate) use options::Options;
pub(crate) use overlay::mount as mount_layers;
pub use overlay::mount_detached;
pub use root::{Missing, Root};

/// A file system could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// There is no layer.
    #[error("the root file system has no layer")]
    NoLayer,
    /// Only one of the two folders for changes is given.
    #[error("`upper_dir` and `work_dir` go together")]
    HalfWritable,
    /// A folder cannot be used as a layer.
    #[error("could not use layer `{}`", path.display())]
    Layer {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel did not mount the layers.
    #[error("could not mount the layers of the root file system")]
    Overlay {
        /// Why.
        source: io::Error,
    },
    /// A mount option is not served.
    #[error("mount `{}`: option `{option}` is not supported", destination.display())]
    Option {
        /// Where it would be mounted.
        destination: PathBuf,
        /// The option.
        option: String,
    },
    /// The source of a bind mount is not there.
    #[error("mount `{}`: could not open source `{}`", destination.display(), path.display())]
    Source {
        /// Where it would be mounted.
        destination: PathBuf,
        /// The source.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The place to mount on is not fit.
    #[error("mount `{}`: {reason}", destination.display())]
    Place {
        /// Where it would be mounted.
        destination: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The kernel refused.
    #[error("mount `{}`: could not {action}", destination.display())]
    Kernel {
        /// Where it would be mounted.
        destination: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A device could not be made or is not what it should be.
    #[error("device `{}`: {reason}", path.display())]
    Device {
        /// The device.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}
