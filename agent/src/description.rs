//! Looks at the host: who it is, what it has, what is in the way.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;

use swarm_proto::object::{Cluster, GenericResources, NodeDescription};
use swarm_proto::spec::Protocol;
use swarm_proto::transport::Tls;
use swarm_runtime::kernel::Namespace;

use crate::image::architecture;
use crate::preflight::{Facts, Preflight};
use crate::resources::Reserve;

/// What does not change while the agent runs.
#[derive(Debug, Clone)]
pub struct Fixed {
    /// The address at which other hosts reach this one.
    pub address: Ipv4Addr,
    /// The agent's own port.
    pub port: u16,
    /// Labels of this engine.
    pub labels: BTreeMap<String, String>,
    /// What it has beside CPUs, memory and processes.
    pub resources: GenericResources,
    /// What is kept for the host itself.
    pub reserve: Reserve,
    /// The host's certificate.
    pub tls: Arc<Tls>,
}

/// Describes the host, and notices when the description changes.
#[derive(Debug)]
pub struct Describer {
    fixed: Fixed,
    /// What a simulated node says instead of what would be found.
    played: Option<NodeDescription>,
    /// Away only while it looks.
    preflight: Option<Preflight>,
    last: Option<NodeDescription>,
}

impl Describer {
    /// A describer of this host.
    pub fn new(fixed: Fixed) -> Self {
        let needed = needed(&fixed, Cluster::VXLAN_PORT);
        let host = Namespace::current().inspect_err(|error| {
            tracing::error!(%error, "cannot look at the host's network");
        });
        let preflight = host.ok().map(|host| Preflight::new(host, needed));
        Self { fixed, played: None, preflight, last: None }
    }

    /// One that says of a simulated node what its backup says, and never looks.
    pub fn simulated(fixed: Fixed, description: NodeDescription) -> Self {
        Self { fixed, played: Some(description), preflight: None, last: None }
    }

    /// Tunnels between hosts arrive on this port.
    pub fn expect_tunnels_on(&mut self, vxlan_port: u16) {
        if let Some(preflight) = &mut self.preflight {
            preflight.need(needed(&self.fixed, vxlan_port));
        }
    }

    /// The host now.
    pub async fn describe(&mut self) -> NodeDescription {
        if let Some(played) = &self.played {
            let description = play(&self.fixed, played);
            self.last = Some(description.clone());
            return description;
        }
        let fixed = self.fixed.clone();
        let mut preflight = self.preflight.take();
        let looked = tokio::task::spawn_blocking(move || {
            let facts = preflight.as_mut().map(Preflight::look).unwrap_or_default();
            (look(&fixed, facts), preflight)
        });
        let description = match looked.await {
            Ok((description, preflight)) => {
                self.preflight = preflight;
                description
            }
            Err(error) => {
                tracing::error!(%error, "cannot look at the host");
                self.last.clone().unwrap_or_default()
            }
        };
        self.last = Some(description.clone());
        description
    }

    /// The host now, when it is not as it was last time.
    pub async fn changed(&mut self) -> Option<NodeDescription> {
        let before = self.last.clone();
        let now = self.describe().await;
        (before.as_ref() != Some(&now)).then_some(now)
    }
}

fn needed(fixed: &Fixed, vxlan_port: u16) -> Vec<(Protocol, u16)> {
    vec![(Protocol::Udp, vxlan_port), (Protocol::Tcp, fixed.port)]
}

/// A simulated node is as its backup says, but reached where it is played, and by certificates of now.
fn play(fixed: &Fixed, played: &NodeDescription) -> NodeDescription {
    NodeDescription {
        address: Some(fixed.address),
        agent_port: fixed.port,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        roots: fixed.tls.roots(),
        ..played.clone()
    }
}

fn look(fixed: &Fixed, facts: Facts) -> NodeDescription {
    let uname = rustix::system::uname();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let description = NodeDescription {
        hostname: uname.nodename().to_string_lossy().into_owned(),
        address: Some(fixed.address),
        agent_port: fixed.port,
        os: "linux".to_owned(),
        arch: architecture().to_owned(),
        millicpus: u64::try_from(cpus).unwrap_or(1) * 1000,
        memory: memory().unwrap_or_default(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        engine_labels: fixed.labels.clone(),
        routed_prefixes: facts.routed_prefixes,
        listeners: facts.listeners,
        warnings: facts.warnings,
        roots: fixed.tls.roots(),
        pids: pids().unwrap_or_default(),
        generic_resources: fixed.resources.clone(),
        ..NodeDescription::default()
    };
    NodeDescription { reserve: fixed.reserve.of(description.capacity()), ..description }
}

/// Processes and threads that the kernel lets there be.
fn pids() -> Option<u64> {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let limits = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"];
    limits.into_iter().filter_map(number).min()
}

/// `MemTotal:  8123456 kB`
fn memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use swarm_proto::object::GenericResource;
    use swarm_proto::transport::{self, Authority};

    use super::*;

    #[tokio::test]
    async fn the_host_is_described() {
        let address = Ipv4Addr::new(10, 0, 0, 1);
        transport::install_crypto_provider();
        let authority = Authority::create("c1", SystemTime::now()).unwrap();
        let tls = Tls::without_certificate(authority.certificate_pem()).unwrap();
        let resources = [("slots".to_owned(), GenericResource::Count(4))].into();
        let (labels, reserve) = (BTreeMap::new(), Reserve::default());
        let fixed = Fixed { address, port: 1, labels, resources, reserve, tls };
        let mut describer = Describer::new(fixed);
        let description = describer.describe().await;
        assert_eq!(description.address, Some(address));
        assert!(!description.hostname.is_empty());
        assert!(description.millicpus >= 1000 && description.memory > 1 << 20);
        assert!(description.pids > 1_000 && description.generic_resources.len() == 1);
        let for_tasks = description.for_tasks();
        assert!(for_tasks.memory < description.memory && for_tasks.millicpus > 0);
    }
}
