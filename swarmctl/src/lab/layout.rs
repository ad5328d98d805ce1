//! Where a lab keeps its things.
//!
//! ```text
//! /var/lib/swarm-lab/<lab>/lab.json        what the lab is
//! /var/lib/swarm-lab/<lab>/<host>/lib      the host's /var/lib/swarm: its disk
//! /var/lib/swarm-lab/<lab>/<host>/etc      the host's /etc/swarm
//! /var/lib/swarm-lab/<lab>/<host>/run      the host's /run/swarm, emptied at each boot
//! /var/lib/swarm-lab/<lab>/<host>/log      what its programs said
//! /run/swarm-lab/<lab>/<host>.sock         asks the host's first process
//! ```

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::error::Error;

/// The name under which the switch is booted, beside the hosts.
pub(super) const SWITCH: &str = "switch";

/// The switch's own address: registry and relay listen here.
pub(super) const SWITCH_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);

/// Where the registry listens on the switch.
pub(super) const REGISTRY_PORT: u16 = 5000;

/// Where the relay to the outside listens on the switch.
pub(super) const RELAY_PORT: u16 = 3128;

/// The prefix length of the hosts' network.
pub(super) const PREFIX: u8 = 24;

/// The most hosts that one lab can have.
pub(super) const MOST_HOSTS: u8 = 200;

/// The paths of one lab.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// The lab's name.
    pub(super) lab: String,
}

impl Layout {
    /// The layout of the lab of this name, which must be a plain word.
    pub(super) fn new(lab: &str) -> Result<Self, Error> {
        let plain = !lab.is_empty()
            && lab.len() <= 32
            && lab.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !lab.starts_with('-');
        if plain {
            Ok(Self { lab: lab.to_owned() })
        } else {
            Err(Error::refused(
                format!("`{lab}` cannot name a lab"),
                "use up to 32 small letters, digits and dashes",
            ))
        }
    }

    /// The folder with every lab's state.
    pub(super) fn labs() -> &'static Path {
        Path::new("/var/lib/swarm-lab")
    }

    /// The folder with every lab's sockets.
    pub(super) fn runs() -> &'static Path {
        Path::new("/run/swarm-lab")
    }

    /// The lab's state.
    pub(super) fn state(&self) -> PathBuf {
        Self::labs().join(&self.lab)
    }

    /// The lab's sockets.
    pub(super) fn run(&self) -> PathBuf {
        Self::runs().join(&self.lab)
    }

    /// What the lab is.
    pub(super) fn record(&self) -> PathBuf {
        self.state().join("lab.json")
    }

    /// One folder of one host: `lib`, `run`, `etc`, `log`.
    pub(super) fn host(&self, host: &str, part: &str) -> PathBuf {
        self.state().join(host).join(part)
    }

    /// The socket of a host's first process.
    pub(super) fn control(&self, host: &str) -> PathBuf {
        self.run().join(format!("{host}.sock"))
    }

    /// What a host's first process is to do.
    pub(super) fn boot(&self, host: &str) -> PathBuf {
        self.state().join(host).join("boot.json")
    }

    /// The host's cgroup below each controller's root, without a leading slash.
    pub(super) fn cgroup(&self, host: &str) -> String {
        format!("swarm-lab/{}/{host}", self.lab)
    }

    /// The controller's socket as seen from outside of the host.
    pub(super) fn controller_socket(&self, host: &str) -> PathBuf {
        self.host(host, "run").join("controller.sock")
    }
}

/// The name of the `number`th host, counted from one.
pub(super) fn host_name(number: u8) -> String {
    format!("n{number}")
}

/// The address of the `number`th host.
pub(super) fn host_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, number)
}

/// The number in a host's name.
pub(super) fn host_number(host: &str) -> Option<u8> {
    let number = host.strip_prefix('n')?.parse().ok()?;
    (host_name(number) == host).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_and_numbers_are_each_others_inverse() {
        for number in 1..=MOST_HOSTS {
            assert_eq!(host_number(&host_name(number)), Some(number));
        }
        for wrong in ["", "n", "n01", "n+1", "m1", "n999", "n1 "] {
            assert_eq!(host_number(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn lab_names_cannot_leave_their_folder() {
        for wrong in ["", "..", "a/b", "-x", "A", "a b", &"x".repeat(33)] {
            assert!(Layout::new(wrong).is_err(), "{wrong}");
        }
        assert!(Layout::new("lab-2").is_ok());
    }
}
