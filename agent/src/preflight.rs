//! Looks at the host before it is used: what is routed, who listens, and what would get in our way, as sentences for a
//! person. These are fields of a [`NodeDescription`](swarm_proto::object::NodeDescription).

mod features;
mod firewall;
mod listeners;

use std::error::Error;
use std::net::Ipv4Addr;

use swarm_proto::object::Listener;
use swarm_proto::spec::Protocol;
use swarm_runtime::kernel::netlink::{NetlinkError, Socket};
use swarm_runtime::kernel::{Namespace, nft};

use crate::network::LINK_GROUP;
use listeners::Owners;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// IPv4 prefixes that the host routes by itself; our own networks are not among them.
    pub routed_prefixes: Vec<(Ipv4Addr, u8)>,
    /// Who listens on the host, outside of containers.
    pub listeners: Vec<Listener>,
    /// What would get in our way.
    pub warnings: Vec<String>,
}

/// Looks at one host, as often as asked. The costly parts are looked at once.
#[derive(Debug)]
pub struct Preflight {
    host: Namespace,
    needed: Vec<(Protocol, u16)>,
    owners: Owners,
    lasting: Option<Vec<String>>,
}

impl Preflight {
    /// For the host with this namespace, on which other hosts must be able to reach the `needed` ports.
    pub fn new(host: Namespace, needed: Vec<(Protocol, u16)>) -> Self {
        Self { host, needed, owners: Owners::default(), lasting: None }
    }

    /// From now on these ports must be within reach of other hosts.
    pub fn need(&mut self, needed: Vec<(Protocol, u16)>) {
        self.needed = needed;
    }

    /// Looks now. Takes milliseconds, and the first time some tens of them.
    pub fn look(&mut self) -> Facts {
        let mut facts = Facts::default();
        let lasting = match self.lasting.take() {
            Some(lasting) => lasting,
            None => lasting(&self.host),
        };
        facts.warnings.clone_from(&lasting);
        self.lasting = Some(lasting);

        match routed_prefixes(&self.host) {
            Ok(prefixes) => facts.routed_prefixes = prefixes,
            Err(error) => facts.warnings.push(unseen("what this host routes", &error)),
        }
        match listeners::read(&self.host, &mut self.owners) {
            Ok(found) => facts.listeners = found,
            Err(error) => facts.warnings.push(unseen("who listens on this host", &error)),
        }
        let taken = facts.listeners.iter().filter(|listener| {
            self.needed.contains(&(listener.protocol, listener.port)) && !is_ours(&listener.owner)
        });
        facts.warnings.extend(taken.map(|listener| {
            let Listener { protocol, port, owner, .. } = listener;
            format!("`{owner}` listens on port {port}/{protocol}, which this cluster needs itself")
        }));
        match nft::Socket::open_in(&self.host).and_then(|mut socket| socket.base_chains()) {
            Ok(chains) => facts.warnings.extend(firewall::obstacles(&chains, &self.needed)),
            Err(error) => facts.warnings.push(unseen("the packet rules of this host", &error)),
        }
        facts.warnings.extend(firewall::legacy(&self.host));
        facts
    }
}

fn is_ours(owner: &str) -> bool {
    owner == listeners::KERNEL || owner.starts_with("swarm-")
}

/// What does not change while the agent runs.
fn lasting(host: &Namespace) -> Vec<String> {
    let mut warnings = features::missing();
    if host.read_sysctl("net/ipv4/ip_forward").is_ok_and(|value| value == "0") {
        warnings.push(
            "IPv4 forwarding was off on this host (`net.ipv4.ip_forward`); the agent turns it on for its networks, \
             so the host also forwards between its other links unless its firewall forbids it"
                .to_owned(),
        );
    }
    warnings
}

/// Something that could not be looked at is itself worth a warning.
fn unseen(what: &str, error: &dyn Error) -> String {
    let mut words = vec![format!("could not see {what}"), error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push(error.to_string());
        cause = error.source();
    }
    words.join(": ")
}

fn routed_prefixes(host: &Namespace) -> Result<Vec<(Ipv4Addr, u8)>, NetlinkError> {
    let mut socket = Socket::open_in(host)?;
    let links = socket.links()?;
    let ours =
        |index: u32| links.iter().any(|link| link.index == index && link.group == LINK_GROUP);
    let mut prefixes: Vec<_> = socket
        .routes()?
        .into_iter()
        // The way for everything else says nothing about any prefix.
        .filter(|route| route.prefix_length > 0 && !route.link.is_some_and(ours))
        .map(|route| (route.destination, route.prefix_length))
        .collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    Ok(prefixes)
}

#[cfg(test)]
mod tests;
