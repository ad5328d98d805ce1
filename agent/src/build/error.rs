//! Why a build fails.

use std::io;
use std::path::PathBuf;

use swarm_dockerfile::Problems;
use swarm_runtime::rootfs::MountError;

use crate::executor::TaskError;
use crate::image::{ImageError, ParseReferenceError};

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile cannot be built as it is.
    #[error("{0}")]
    Dockerfile(#[from] Problems),
    /// One instruction failed.
    #[error("{file}:{line}: `{text}`")]
    Step {
        /// The Dockerfile's name.
        file: String,
        /// Its line in the Dockerfile; zero for a trigger of the base image.
        line: usize,
        /// The instruction.
        text: String,
        /// What is wrong.
        source: Box<BuildError>,
    },
    /// A program ended badly.
    #[error("its program ended with code {code}{more}")]
    Ended {
        /// The exit code; 128 and the signal, where one ended it.
        code: i32,
        /// What else is known.
        more: String,
    },
    /// A path leads nowhere.
    #[error(
        "`/{path}` is not there\n\nhint: paths start at the root of the build's context, stage or image, and what \
             the ignore file excludes is not there"
    )]
    NoSource {
        /// The path.
        path: String,
    },
    /// A user or group cannot be told.
    #[error("owner `{owner}`: {reason}")]
    Owner {
        /// As written.
        owner: String,
        /// Why not.
        reason: String,
    },
    /// Something is asked for that is not served.
    #[error("{0}")]
    Unsupported(String),
    /// A secret did not come with the build.
    #[error(
        "secret `{0}` is required and was not given\n\nhint: give it with `--secret id={0},src=FILE`"
    )]
    NoSecret(String),
    /// The image's name is none.
    #[error(transparent)]
    Name(#[from] ParseReferenceError),
    /// About an image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// About a root.
    #[error(transparent)]
    Root(#[from] MountError),
    /// About a container.
    #[error(transparent)]
    Container(#[from] TaskError),
    /// What the client sends cannot be used.
    #[error("the build's context cannot be used: {0}")]
    Context(String),
    /// The disk refused, or a file cannot be copied.
    #[error("cannot {action} `{}`", path.display())]
    Disk {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// An image description cannot be read or written.
    #[error("the {what} of the image cannot be used")]
    Description {
        /// `configuration` or `manifest`.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// Nobody wants it any more, or another part of it failed.
    #[error("the build was cancelled")]
    Cancelled,
    /// A thread died.
    #[error("the build was broken off: {0}")]
    Stopped(String),
}

impl BuildError {
    /// Makes the mapping of an I/O error on a path.
    pub(super) fn disk(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Disk { action, path, source }
    }
}
