//! Names and numbers of system calls; the only place that knows architectures apart.

/// An architecture that filters are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// `x86_64`
    X86_64,
    /// `aarch64`
    Aarch64,
}

impl Architecture {
    /// The architecture of this program; none when filters are not known for it.
    #[must_use]
    pub const fn native() -> Option<Self> {
        if cfg!(target_arch = "x86_64") {
            Some(Self::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::Aarch64)
        } else {
            None
        }
    }

    /// The kernel's number for it, `AUDIT_ARCH_…`.
    #[must_use]
    pub const fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    /// The first number of another calling convention under the same architecture (x32), if any.
    #[must_use]
    pub const fn foreign_from(self) -> Option<u32> {
        match self {
            Self::X86_64 => Some(0x4000_0000),
            Self::Aarch64 => None,
        }
    }
}

/// Lines of `name x86_64 aarch64`, sorted by name, `-` where an architecture has no such call.
const TABLE: &str = include_str!("syscalls.txt");

/// The system calls of one architecture.
#[derive(Debug)]
pub struct Table {
    calls: Vec<(&'static str, u32)>,
}

impl Table {
    /// Reads the calls of an architecture.
    #[must_use]
    pub fn of(architecture: Architecture) -> Self {
        let calls = TABLE.lines().filter_map(|line| {
            let mut fields = line.split(' ');
            let (name, x86_64, aarch64) = (fields.next()?, fields.next()?, fields.next()?);
            let number = match architecture {
                Architecture::X86_64 => x86_64,
                Architecture::Aarch64 => aarch64,
            };
            Some((name, number.parse().ok()?))
        });
        Self { calls: calls.collect() }
    }

    /// The number of a call.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u32> {
        let at = self.calls.binary_search_by_key(&name, |(known, _)| known).ok()?;
        Some(self.calls[at].1)
    }

    /// Every call with its number.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u32)> + '_ {
        self.calls.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_knows_both_architectures() {
        let x86_64 = Table::of(Architecture::X86_64);
        let aarch64 = Table::of(Architecture::Aarch64);
        assert!(x86_64.calls.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!((x86_64.number("read"), aarch64.number("read")), (Some(0), Some(63)));
        assert_eq!((x86_64.number("open"), aarch64.number("open")), (Some(2), None));
        assert_eq!((x86_64.number("clone3"), aarch64.number("clone3")), (Some(435), Some(435)));
        assert!(x86_64.calls.len() > 370 && aarch64.calls.len() > 310);
    }

    #[test]
    fn this_machine_agrees_with_the_table() {
        let Some(native) = Architecture::native() else { return };
        let table = Table::of(native);
        for (name, number) in [
            ("read", libc::SYS_read),
            ("execve", libc::SYS_execve),
            ("mount", libc::SYS_mount),
            ("ptrace", libc::SYS_ptrace),
            ("openat2", libc::SYS_openat2),
            ("close_range", libc::SYS_close_range),
            ("newfstatat", libc::SYS_newfstatat),
        ] {
            assert_eq!(table.number(name).map(i64::from), Some(number), "{name}");
        }
    }
}
