//! Resource limits of the program.

use oci_spec::runtime::{PosixRlimit, PosixRlimitType};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::InitError;

/// One limit; `u64::MAX` is none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    resource: Resource,
    name: &'static str,
    soft: u64,
    hard: u64,
}

impl From<&PosixRlimit> for Limit {
    fn from(limit: &PosixRlimit) -> Self {
        let (resource, name) = match limit.typ() {
            PosixRlimitType::RlimitCpu => (Resource::Cpu, "cpu"),
            PosixRlimitType::RlimitFsize => (Resource::Fsize, "fsize"),
            PosixRlimitType::RlimitData => (Resource::Data, "data"),
            PosixRlimitType::RlimitStack => (Resource::Stack, "stack"),
            PosixRlimitType::RlimitCore => (Resource::Core, "core"),
            PosixRlimitType::RlimitRss => (Resource::Rss, "rss"),
            PosixRlimitType::RlimitNproc => (Resource::Nproc, "nproc"),
            PosixRlimitType::RlimitNofile => (Resource::Nofile, "nofile"),
            PosixRlimitType::RlimitMemlock => (Resource::Memlock, "memlock"),
            PosixRlimitType::RlimitAs => (Resource::As, "as"),
            PosixRlimitType::RlimitLocks => (Resource::Locks, "locks"),
            PosixRlimitType::RlimitSigpending => (Resource::Sigpending, "sigpending"),
            PosixRlimitType::RlimitMsgqueue => (Resource::Msgqueue, "msgqueue"),
            PosixRlimitType::RlimitNice => (Resource::Nice, "nice"),
            PosixRlimitType::RlimitRtprio => (Resource::Rtprio, "rtprio"),
            PosixRlimitType::RlimitRttime => (Resource::Rttime, "rttime"),
        };
        Self { resource, name, soft: limit.soft(), hard: limit.hard() }
    }
}

/// Sets all limits.
pub(super) fn apply(limits: &[Limit]) -> Result<(), InitError> {
    for limit in limits {
        let finite = |value: u64| (value != u64::MAX).then_some(value);
        let wanted = Rlimit { current: finite(limit.soft), maximum: finite(limit.hard) };
        match setrlimit(limit.resource, wanted) {
            Ok(()) => {}
            Err(Errno::PERM) => {
                let own = getrlimit(limit.resource).maximum.unwrap_or(u64::MAX);
                return Err(InitError::Limit { name: limit.name, value: limit.hard, own });
            }
            Err(error) => {
                let (name, soft, hard) = (limit.name, limit.soft, limit.hard);
                return Err(InitError::call(format!("set rlimit `{name}` to {soft}:{hard}"))(
                    error,
                ));
            }
        }
    }
    Ok(())
}
