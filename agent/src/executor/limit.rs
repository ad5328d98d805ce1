//! Process limits, compared with the agent's own: without `CAP_SYS_RESOURCE` none can be raised above that.

use rustix::process::{Resource, getrlimit};
use swarm_proto::spec::Ulimit;

/// A limit that a service may set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// As in an OCI configuration.
    pub(super) name: &'static str,
    resource: Resource,
}

const KINDS: [(&str, &str, Resource); 16] = [
    ("as", "RLIMIT_AS", Resource::As),
    ("core", "RLIMIT_CORE", Resource::Core),
    ("cpu", "RLIMIT_CPU", Resource::Cpu),
    ("data", "RLIMIT_DATA", Resource::Data),
    ("fsize", "RLIMIT_FSIZE", Resource::Fsize),
    ("locks", "RLIMIT_LOCKS", Resource::Locks),
    ("memlock", "RLIMIT_MEMLOCK", Resource::Memlock),
    ("msgqueue", "RLIMIT_MSGQUEUE", Resource::Msgqueue),
    ("nice", "RLIMIT_NICE", Resource::Nice),
    ("nofile", "RLIMIT_NOFILE", Resource::Nofile),
    ("nproc", "RLIMIT_NPROC", Resource::Nproc),
    ("rss", "RLIMIT_RSS", Resource::Rss),
    ("rtprio", "RLIMIT_RTPRIO", Resource::Rtprio),
    ("rttime", "RLIMIT_RTTIME", Resource::Rttime),
    ("sigpending", "RLIMIT_SIGPENDING", Resource::Sigpending),
    ("stack", "RLIMIT_STACK", Resource::Stack),
];

/// The limit of a name (`nofile`).
pub(super) fn kind(name: &str) -> Option<Kind> {
    let found = KINDS.iter().find(|(short, _, _)| *short == name)?;
    Some(Kind { name: found.1, resource: found.2 })
}

/// Refuses what the kernel would refuse.
pub(super) fn check(limit: &Ulimit, kind: Kind) -> Result<(), String> {
    if limit.soft > limit.hard {
        return Err(format!(
            "ulimit `{}`: the soft limit {} is above the hard limit {}",
            limit.name, limit.soft, limit.hard
        ));
    }
    let own = getrlimit(kind.resource).maximum.unwrap_or(u64::MAX);
    // Without the limit's privilege the kernel refuses to go above our own.
    if limit.hard > own && super::capability::available() & super::capability::SYS_RESOURCE == 0 {
        return Err(format!(
            "ulimit `{}`: {} is above what this host's agent has itself ({own}) and may give",
            limit.name, limit.hard
        ));
    }
    Ok(())
}
