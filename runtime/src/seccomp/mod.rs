//! System call filters: compiles a profile as `config.json` has it into the kernel's filter programs.
//!
//! The filter finds a call's number by binary search over ranges with the same outcome, so that any
//! call costs a handful of instructions.
//!
//! Rules for one call: one without conditions wins over those with; of those with conditions the
//! first that holds. A rule that does what the default does says nothing. Conditions on the same
//! argument within one rule are alternatives. Calls newer than every call in the profile do not exist
//! (`ENOSYS`), so that programs fall back to older ones; names the architecture lacks are skipped.

mod default;
mod program;
mod table;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;

/// One instruction of a filter.
pub use libc::sock_filter as Filter;
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSyscall,
};

pub use default::default_profile;
use program::{Chain, Range};
pub use table::{Architecture, Table};

use crate::sys;

/// A profile cannot be compiled.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SeccompError {
    /// No table of system calls for this machine.
    #[error("system call filters are not available on this architecture")]
    Architecture,
    /// The profile leaves this machine out.
    #[error("linux.seccomp: the profile is for other architectures than this host's")]
    OtherArchitectures,
    /// A condition names an argument that no call has.
    #[error("linux.seccomp: `{call}` has no argument {index}")]
    Argument {
        /// The call.
        call: String,
        /// The argument's index.
        index: usize,
    },
    /// An errno is out of the kernel's range.
    #[error("linux.seccomp: {0} is not an error number")]
    Errno(u32),
    /// The filter would be longer than the kernel takes.
    #[error("linux.seccomp: the profile needs {0} instructions, the kernel takes 4096")]
    TooLong(usize),
    /// Notifications need a listener, which nobody serves.
    #[error("linux.seccomp: SCMP_ACT_NOTIFY needs a listener, which is not supported")]
    Notify,
}

/// A compiled filter; empty means no filter.
#[derive(Debug, Default, Clone)]
pub struct Program {
    filter: Vec<Filter>,
    flags: u32,
    notifies: bool,
}

impl Program {
    /// The instructions.
    #[must_use]
    pub fn filter(&self) -> &[Filter] {
        &self.filter
    }

    /// Whether some call is handed to a listener.
    #[must_use]
    pub fn notifies(&self) -> bool {
        self.notifies
    }

    /// Installs the filter for this thread for good; returns the listener's descriptor if there is to
    /// be one.
    pub fn load(&self) -> io::Result<Option<OwnedFd>> {
        if self.filter.is_empty() {
            return Ok(None);
        }
        sys::load_seccomp(&self.filter, self.flags, self.notifies)
    }
}

/// Compiles a profile for this machine.
pub fn compile(profile: &LinuxSeccomp) -> Result<Program, SeccompError> {
    compile_for(Architecture::native().ok_or(SeccompError::Architecture)?, profile)
}

/// Compiles the default profile for a program with these capabilities in its bounding set.
pub fn compile_default(bounding: u64) -> Result<Program, SeccompError> {
    compile(&default_profile(bounding))
}

/// Compiles a profile for a given architecture.
pub fn compile_for(
    architecture: Architecture,
    profile: &LinuxSeccomp,
) -> Result<Program, SeccompError> {
    check_architectures(architecture, profile)?;
    let table = Table::of(architecture);
    let default = value(profile.default_action(), profile.default_errno_ret())?;
    let calls = profile.syscalls().as_deref().unwrap_or_default();
    let mut chains: Vec<(u32, Chain)> = Vec::new();
    let mut newest = 0;
    let mut notifies = profile.default_action() == LinuxSeccompAction::ScmpActNotify;
    for call in calls {
        let action = value(call.action(), call.errno_ret())?;
        notifies |= call.action() == LinuxSeccompAction::ScmpActNotify;
        let alternatives = alternatives(call)?;
        for number in call.names().iter().filter_map(|name| table.number(name)) {
            newest = newest.max(number);
            if action == default {
                continue;
            }
            let at = match chains.binary_search_by_key(&number, |(known, _)| *known) {
                Ok(at) => at,
                Err(at) => {
                    chains.insert(at, (number, Chain::new(default)));
                    at
                }
            };
            for conditions in &alternatives {
                chains[at].1.add(conditions, action);
            }
        }
    }
    let ranges = ranges(architecture, profile, default, newest, chains);
    let filter = program::assemble(architecture.audit(), &ranges);
    if filter.len() > 4096 {
        return Err(SeccompError::TooLong(filter.len()));
    }
    Ok(Program { filter, flags: flags(profile), notifies })
}

fn check_architectures(
    architecture: Architecture,
    profile: &LinuxSeccomp,
) -> Result<(), SeccompError> {
    use oci_spec::runtime::Arch;
    let own = match architecture {
        Architecture::X86_64 => Arch::ScmpArchX86_64,
        Architecture::Aarch64 => Arch::ScmpArchAarch64,
    };
    let listed = profile.architectures().as_deref().unwrap_or_default();
    let fits = listed.is_empty() || listed.iter().any(|a| *a == own || *a == Arch::ScmpArchNative);
    if fits { Ok(()) } else { Err(SeccompError::OtherArchitectures) }
}

/// What the kernel is to return for an action.
fn value(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32, SeccompError> {
    match errno {
        Some(errno) if errno > 4095 && action == LinuxSeccompAction::ScmpActErrno => {
            Err(SeccompError::Errno(errno))
        }
        Some(errno) if errno > 0xffff => Err(SeccompError::Errno(errno)),
        _ => Ok(action.as_u32(errno)),
    }
}

/// The conditions of a rule; several lists when conditions on one argument are alternatives.
fn alternatives(call: &LinuxSyscall) -> Result<Vec<Vec<LinuxSeccompArg>>, SeccompError> {
    let conditions = call.args().as_deref().unwrap_or_default();
    let mut seen = [false; 6];
    let mut repeated = false;
    for condition in conditions {
        let Some(seen) = seen.get_mut(condition.index()) else {
            let name = call.names().first().cloned().unwrap_or_default();
            return Err(SeccompError::Argument { call: name, index: condition.index() });
        };
        repeated |= std::mem::replace(seen, true);
    }
    if repeated {
        return Ok(conditions.iter().map(|condition| vec![*condition]).collect());
    }
    Ok(vec![conditions.to_vec()])
}

/// Outcomes for all numbers there are, in order and without gaps.
fn ranges(
    architecture: Architecture,
    profile: &LinuxSeccomp,
    default: u32,
    newest: u32,
    chains: Vec<(u32, Chain)>,
) -> Vec<Range> {
    use LinuxSeccompAction::{
        ScmpActErrno, ScmpActKill, ScmpActKillProcess, ScmpActKillThread, ScmpActTrap,
    };
    let missing = LinuxSeccompAction::ScmpActErrno.as_u32(Some(libc::ENOSYS.cast_unsigned()));
    let plain = |from, action| Range { from, outcome: Chain::new(action) };
    let mut ranges = vec![plain(0, default)];
    for (number, chain) in chains {
        if ranges.last().is_some_and(|last| last.from == number) {
            ranges.pop();
        }
        ranges.push(Range { from: number, outcome: chain });
        ranges.push(plain(number + 1, default));
    }
    if profile.default_action() == ScmpActErrno && newest > 0 {
        ranges.retain(|range| range.from <= newest);
        ranges.push(plain(newest + 1, missing));
    }
    if let Some(from) = architecture.foreign_from() {
        // The same calls under other numbers would be a way around a profile that allows by default.
        let harsh = matches!(
            profile.default_action(),
            ScmpActKill | ScmpActKillProcess | ScmpActKillThread | ScmpActTrap
        );
        ranges.push(plain(from, if harsh { default } else { missing }));
    }
    ranges.dedup_by(|next, before| next.outcome == before.outcome);
    ranges
}

fn flags(profile: &LinuxSeccomp) -> u32 {
    let flags = profile.flags().as_deref().unwrap_or_default();
    flags.iter().fold(0, |flags, flag| {
        flags
            | match flag {
                // One thread: there is nothing to synchronise, and it conflicts with listeners.
                LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
                LinuxSeccompFilterFlag::SeccompFilterFlagLog => 1 << 1,
                LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => 1 << 2,
                LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 1 << 5,
            }
    })
}
