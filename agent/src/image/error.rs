//! What can go wrong with an image.

use std::io;
use std::path::PathBuf;

use swarm_proto::id::Digest;

use super::reference::ParseReferenceError;

/// Why an image is not there.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The name is not one.
    #[error(transparent)]
    Name(#[from] ParseReferenceError),
    /// No registry that was asked has it.
    #[error("image `{reference}` was not found: {detail}")]
    NotFound {
        /// The image.
        reference: String,
        /// Who said so.
        detail: String,
    },
    /// The registry wants credentials, or has no such repository: registries do not say which.
    #[error("image `{reference}` was refused by `{registry}`: not found, or access is denied")]
    Denied {
        /// The image.
        reference: String,
        /// Who said so.
        registry: String,
    },
    /// No registry could be asked.
    #[error("image `{reference}` cannot be fetched: {detail}")]
    Unavailable {
        /// The image.
        reference: String,
        /// Each registry with its reason.
        detail: String,
    },
    /// The registry lets nobody push it there who has this login, or none.
    #[error("`{registry}` does not take image `{reference}`: access is denied")]
    PushDenied {
        /// The name that it was to get.
        reference: String,
        /// Who said so.
        registry: String,
    },
    /// The registry cannot be reached, or does not do what a registry does.
    #[error("image `{reference}` cannot be pushed: {detail}")]
    NotPushed {
        /// The name that it was to get.
        reference: String,
        /// Why.
        detail: String,
    },
    /// A registry does not take a name and password.
    #[error("`{registry}` refuses this name and password")]
    LoginRefused {
        /// Which.
        registry: String,
    },
    /// A registry cannot be asked whether it takes a name and password.
    #[error("`{registry}` cannot be asked: {detail}")]
    LoginUntried {
        /// Which.
        registry: String,
        /// Why.
        detail: String,
    },
    /// The image has nothing for this kind of machine.
    #[error("image `{reference}` has nothing for {platform}, only for {found}")]
    Platform {
        /// The image.
        reference: String,
        /// This machine, `linux/amd64`.
        platform: String,
        /// What there is.
        found: String,
    },
    /// What came is not what its digest says.
    #[error("content `{expected}` arrived damaged: its digest is `{found}`")]
    Corrupt {
        /// What was asked for.
        expected: String,
        /// What came.
        found: String,
    },
    /// A manifest, configuration or layer that cannot be understood.
    #[error("{what} `{digest}` cannot be used: {reason}")]
    Invalid {
        /// `manifest`, `configuration` or `layer`.
        what: &'static str,
        /// Its digest.
        digest: String,
        /// Why.
        reason: String,
    },
    /// The pull policy forbids a download and the content is not here.
    #[error("image `{reference}` (`{digest}`) is not on this host and its pull policy is `never`")]
    Absent {
        /// The image.
        reference: String,
        /// Its content.
        digest: Digest,
    },
    /// There is no such image on this host.
    #[error("there is no image `{image}` on this host")]
    NotHere {
        /// Name or digest.
        image: String,
    },
    /// Something needs the image.
    #[error("image `{image}` is in use: {by}")]
    InUse {
        /// Name or digest.
        image: String,
        /// By what.
        by: String,
    },
    /// An archive of images cannot be taken in.
    #[error("the archive cannot be loaded: {reason}")]
    Archive {
        /// Why.
        reason: String,
    },
    /// The disk would be too full.
    #[error(
        "image `{image}` needs {needed} MiB, and of the disk of `{path}` {free} MiB are free, of which {reserve} MiB are kept (`image_reserve`)"
    )]
    NoRoom {
        /// The image.
        image: String,
        /// What it takes, at least, in MiB.
        needed: u64,
        /// Where.
        path: PathBuf,
        /// What is free, in MiB.
        free: u64,
        /// What images must leave free, in MiB.
        reserve: u64,
    },
    /// The disk refused.
    #[error("cannot {action} `{path}`")]
    Disk {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The work was broken off.
    #[error("the image's download was broken off: {0}")]
    Stopped(String),
    /// A shared download ended with an error that another waiter has already seen.
    #[error(transparent)]
    Shared(#[from] std::sync::Arc<ImageError>),
}

impl ImageError {
    /// Whether this image can never run here, however often it is tried.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Unavailable { .. }
            | Self::Corrupt { .. }
            | Self::Disk { .. }
            | Self::NoRoom { .. }
            | Self::InUse { .. }
            | Self::NotPushed { .. }
            | Self::LoginUntried { .. }
            | Self::Stopped(_) => false,
            Self::Name(_)
            | Self::NotFound { .. }
            | Self::Denied { .. }
            | Self::Platform { .. }
            | Self::Invalid { .. }
            | Self::NotHere { .. }
            | Self::Archive { .. }
            | Self::PushDenied { .. }
            | Self::LoginRefused { .. }
            | Self::Absent { .. } => true,
            Self::Shared(inner) => inner.is_permanent(),
        }
    }

    /// What was said of registries, without the image's name; else the whole.
    pub(super) fn detail(&self) -> String {
        match self {
            Self::NotFound { detail, .. } | Self::Unavailable { detail, .. } => detail.clone(),
            Self::Denied { registry, .. } => format!("{registry} denies access"),
            other => other.to_string(),
        }
    }

    /// Whether a registry was asked and does not give it.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::Denied { .. })
    }

    /// What a person may do about it, where a registry or the way to it is the matter.
    pub fn hint(&self) -> Option<String> {
        let registry_of = |reference: &str| {
            reference.split('/').next().filter(|name| !name.is_empty()).map(str::to_owned)
        };
        match self.inner() {
            Self::Denied { reference, .. } => {
                let registry = registry_of(reference)?;
                Some(format!(
                    "check the name; an image that is not public needs `swarmctl login {registry}`"
                ))
            }
            Self::PushDenied { reference, .. } => Some(format!(
                "`swarmctl login {}` with a name that may push there, and try again",
                registry_of(reference)?
            )),
            Self::LoginRefused { .. } => {
                Some("check the name and password; some registries want a token".to_owned())
            }
            Self::Unavailable { detail, .. }
            | Self::NotPushed { detail, .. }
            | Self::LoginUntried { detail, .. } => of_the_way(detail),
            _ => None,
        }
    }

    /// The error itself, where it was shared.
    pub fn inner(&self) -> &Self {
        match self {
            Self::Shared(inner) => inner.inner(),
            other => other,
        }
    }

    /// Makes the mapping of an I/O error on a path.
    pub(crate) fn disk(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Disk { action, path, source }
    }
}

/// What to do about a connection that does not come about, by what the library says of it.
fn of_the_way(detail: &str) -> Option<String> {
    if detail.contains("certificate") {
        let hint = "name its authority's certificate under `[registry.ca_files]` in the hosts' `/etc/swarm/agent.toml`";
        return Some(hint.to_owned());
    }
    if detail.contains("it leads on to `http://") {
        let hint = "if that host may be trusted without TLS, name it under `insecure` of `[registry]` in the hosts' `/etc/swarm/agent.toml`";
        return Some(hint.to_owned());
    }
    // How a server without TLS shows itself to one who speaks it.
    detail.contains("InvalidContentType").then(|| {
        "it does not speak TLS: name it under `insecure` of `[registry]` in the hosts' `/etc/swarm/agent.toml`"
            .to_owned()
    })
}
