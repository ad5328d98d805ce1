//! The five capability sets.

use oci_spec::runtime::{Capabilities as Names, LinuxCapabilities};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
};

use super::InitError;

/// The kernel's capabilities, each at its number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Capability sets, one bit for each number.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capabilities {
    pub(crate) bounding: u64,
    pub(crate) effective: u64,
    pub(crate) inheritable: u64,
    pub(crate) permitted: u64,
    pub(crate) ambient: u64,
}

impl From<&LinuxCapabilities> for Capabilities {
    fn from(sets: &LinuxCapabilities) -> Self {
        Self {
            bounding: bits(sets.bounding().as_ref()),
            effective: bits(sets.effective().as_ref()),
            inheritable: bits(sets.inheritable().as_ref()),
            permitted: bits(sets.permitted().as_ref()),
            ambient: bits(sets.ambient().as_ref()),
        }
    }
}

fn bits(names: Option<&Names>) -> u64 {
    names.into_iter().flatten().filter_map(|name| number(&name.to_string())).map(|n| 1 << n).sum()
}

/// The number of a capability, by its name without `CAP_`.
pub(crate) fn number(name: &str) -> Option<usize> {
    NAMES.iter().position(|known| *known == name)
}

/// Takes everything out of the bounding set but what is listed. Needs `SETPCAP`, so it comes first.
pub(super) fn limit_bounding(sets: &Capabilities) -> Result<(), InitError> {
    for number in 0..64 {
        let one = 1 << number;
        if sets.bounding & one == 0 {
            match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(one)) {
                // Past the last one that this kernel has.
                Err(Errno::INVAL) => break,
                other => other.map_err(InitError::call("limit capabilities"))?,
            }
        }
    }
    Ok(())
}

/// Sets the other four sets.
pub(super) fn apply(sets: &Capabilities) -> Result<(), InitError> {
    let set = CapabilitySet::from_bits_retain;
    let wanted = CapabilitySets {
        effective: set(sets.effective),
        permitted: set(sets.permitted),
        inheritable: set(sets.inheritable),
    };
    set_capabilities(None, wanted).map_err(InitError::call("set capabilities"))?;
    clear_ambient_capability_set().map_err(InitError::call("clear ambient capabilities"))?;
    for (number, name) in NAMES.iter().enumerate() {
        if sets.ambient & 1 << number != 0 {
            configure_capability_in_ambient_set(set(1 << number), true)
                .map_err(InitError::call(format!("set ambient capability `CAP_{name}`")))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::{Capability, LinuxCapabilitiesBuilder};

    #[test]
    fn names_have_the_kernels_numbers() {
        for (name, wanted) in [
            ("CHOWN", 0),
            ("NET_RAW", 13),
            ("SYS_ADMIN", 21),
            ("BPF", 39),
            ("CHECKPOINT_RESTORE", 40),
        ] {
            assert_eq!(number(name), Some(wanted));
        }
        let last: u64 = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        assert!(last >= 40, "this kernel ends at {last}");
    }

    #[test]
    fn sets_become_bits() {
        let names: Names = [Capability::Chown, Capability::SysChroot].into();
        let sets = LinuxCapabilitiesBuilder::default()
            .bounding(names)
            .effective(Names::new())
            .inheritable(Names::new())
            .permitted(Names::new())
            .ambient(Names::new())
            .build()
            .unwrap();
        let sets = Capabilities::from(&sets);
        assert_eq!((sets.bounding, sets.effective), (1 | 1 << 18, 0));
    }
}
