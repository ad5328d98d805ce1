//! Why a task cannot be run, and whether trying again could help.

use std::io;
use std::path::PathBuf;

use swarm_proto::failure::sentence;
use swarm_proto::spec::ContentKind;
use swarm_runtime::ContainerError;

use crate::image::ImageError;
use crate::network::NetworkError;
use crate::volume::VolumeError;

/// Why a task does not run.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// It can never run on this host as it is.
    #[error("{0}")]
    Unfit(String),
    /// It mounts a volume of which this host was not told.
    #[error("volume `{0}` was not assigned to this host")]
    NoVolume(String),
    /// The bytes of one of its files are not on this host.
    #[error("{0} `{1}` was not sent to this host")]
    NoContent(ContentKind, String),
    /// About its image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// About a volume.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// About its networks.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// About its container.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// A file of the container could not be written.
    #[error("cannot {action} `{}`", path.display())]
    Disk {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The step's thread died.
    #[error("the step was broken off: {0}")]
    Stopped(String),
}

impl TaskError {
    /// Makes the mapping of an I/O error on a path.
    pub(crate) fn disk(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Disk { action, path, source }
    }

    /// Whether the task is `Rejected` (it can never run here) and not `Failed`.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Unfit(_) | Self::Volume(VolumeError::Name(_)) => true,
            Self::Image(error) => error.is_permanent(),
            Self::Network(error) => matches!(error, NetworkError::NoAddress { .. }),
            _ => false,
        }
    }

    /// The whole story in one sentence, causes included.
    pub fn sentence(&self) -> String {
        sentence(self)
    }
}
