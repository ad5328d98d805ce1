//! Why a lab command fails.

use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// What went wrong, with its subject.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// A file or folder.
    #[error("cannot {what} `{}`", path.display())]
    File {
        /// A verb: "read".
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A system call without a path.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A link, address or neighbour.
    #[error("cannot connect {host}")]
    Link {
        /// Which host.
        host: String,
        /// What the kernel refused.
        source: swarm_runtime::kernel::netlink::NetlinkError,
    },
    /// A program inside a host ended badly.
    #[error("`{command}` on {host} failed: {output}")]
    Program {
        /// The command line.
        command: String,
        /// Where.
        host: String,
        /// What it said.
        output: String,
    },
    /// Something did not come about in time.
    #[error("{what} within {seconds} s{detail}")]
    Late {
        /// "n2 was not ready".
        what: String,
        /// How long was waited.
        seconds: u64,
        /// What is known of the reason; empty or starting with a colon.
        detail: String,
    },
    /// Refused before anything was done.
    #[error("{message}")]
    Refused {
        /// What and why.
        message: String,
        /// What to do.
        hint: String,
    },
}

impl Error {
    /// For `map_err` on an operation with a path.
    pub(super) fn file(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }

    /// For `map_err` on a system call.
    pub(super) fn system<E: Into<std::io::Error>>(
        what: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::System { what, source: source.into() }
    }

    /// For `map_err` on a change of a link.
    pub(super) fn link<E: Into<swarm_runtime::kernel::netlink::NetlinkError>>(
        host: &str,
    ) -> impl FnOnce(E) -> Self {
        let host = host.to_owned();
        move |source| Self::Link { host, source: source.into() }
    }

    /// A refusal with its hint.
    pub(super) fn refused(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { message: message.into(), hint: hint.into() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let failure = match std::error::Error::source(&error) {
            None => Self::refused(error.to_string()),
            Some(source) => Self::because(&error, source),
        };
        match error {
            Error::Refused { hint, .. } if !hint.is_empty() => failure.hint(hint),
            _ => failure,
        }
    }
}
