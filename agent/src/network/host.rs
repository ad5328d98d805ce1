//! All networks and tasks of one host, and the order in which they are changed. Every call here blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use swarm_proto::assignment::{NetworkAssignment, TaskAssignment};
use swarm_proto::id::{NetworkId, TaskId};
use swarm_proto::object::Attachment;
use swarm_proto::spec::NetworkMode;
use swarm_runtime::kernel::netlink::Socket;
use swarm_runtime::kernel::{Namespace, conntrack, namespace, nft};

use super::hold::{Gate, Held, Hold, Place};
use super::hosts_file::host_lines;
use super::led::{Gone, Led, LedVip};
use super::overlay::{self, Ground, Overlay};
use super::rules::{self, HostPort, LINK_GROUP};
use super::task::{self, DnsSockets, Step, TaskRules, TaskSpace};
use super::{Applied, AssignedNetworks, KernelError, NetworkConfig, NetworkError, TaskNetwork};
use crate::names::Names;

/// The folder of all namespaces, in the agent's own.
pub(super) const NAMESPACES: &str = "netns";

/// A network that this host knows.
#[derive(Debug)]
pub(super) struct NetworkRecord {
    overlay: Overlay,
    pub(super) assignment: Arc<NetworkAssignment>,
    /// Where its addresses and ports lead, in the order of the rules of this host and its tasks.
    pub(super) led: Led,
    /// Whether all of `assignment` is in place; else the next pass repeats it.
    pub(super) standing: bool,
}

/// A task that is connected.
#[derive(Debug)]
pub(super) struct TaskRecord {
    /// For people.
    pub(super) name: String,
    rules: TaskRules,
    pub(super) attachments: Vec<Attachment>,
    host_ports: Vec<HostPort>,
    /// `None` where nobody answers: the task is on no network.
    pub(super) dns: Option<DnsSockets>,
    /// The virtual addresses of each of its networks at which connections wait, and who hears of these.
    held: BTreeMap<NetworkId, BTreeSet<Ipv4Addr>>,
    gate: Option<Gate>,
}

/// The gateway by which a task on these networks reaches everything else.
pub(super) fn way_out<'a>(
    networks: impl Iterator<Item = &'a NetworkAssignment>,
) -> Option<Ipv4Addr> {
    let mut outward = networks.filter(|network| !network.internal);
    outward.find_map(|network| network.gateway).map(|(gateway, _)| gateway)
}

/// The networks and tasks of one host.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) ground: Ground,
    pub(super) rules: nft::Socket,
    /// What the host's table holds, and the generation right after it was put there.
    pub(super) table: Option<nft::Table>,
    generation: Option<u32>,
    pub(super) networks: BTreeMap<NetworkId, NetworkRecord>,
    /// Those that the controller wants here, and those of which something may be here.
    wanted: BTreeSet<NetworkId>,
    pub(super) begun: BTreeSet<NetworkId>,
    pub(super) tasks: BTreeMap<TaskId, TaskRecord>,
    names: Names,
    forwards: bool,
    /// Published UDP ports and the backends that they led to until now.
    stale_ports: BTreeSet<(u16, Ipv4Addr)>,
    /// Connections that wait, and who hears of those to published ports.
    hold: Arc<Hold>,
    gate: Option<Gate>,
}

impl TaskRecord {
    fn is_on(&self, network: NetworkId) -> bool {
        self.attachments.iter().any(|attachment| attachment.network == network)
    }

    /// Before rules hold connections somebody must hear of them.
    fn open_gate(&mut self, task: TaskId, hold: &Arc<Hold>) -> Result<(), KernelError> {
        if self.gate.is_none() && self.held.values().any(|held| !held.is_empty()) {
            self.gate = Some(Gate::open(hold, Place::Task(task), &self.rules.namespace)?);
        }
        Ok(())
    }

    /// After rules hold others, the rest goes on. Who hears of them stays: some may be on their way.
    fn let_go(&mut self, task: TaskId, hold: &Hold) {
        if self.gate.is_some() {
            let held = self.held.values().flatten().copied().collect();
            hold.set(Place::Task(task), &self.rules.namespace, Held::Addresses(held));
        }
    }

    /// Leads the virtual addresses of a network anew, of which these hold connections now.
    fn lead(
        &mut self,
        task: TaskId,
        network: NetworkId,
        (step, held): (&Step, &BTreeSet<Ipv4Addr>),
        hold: &Arc<Hold>,
    ) -> Result<(), KernelError> {
        let before = self.held.insert(network, held.clone());
        self.open_gate(task, hold)?;
        if let Err(error) = self.rules.change(step) {
            self.held.insert(network, before.unwrap_or_default());
            return Err(error);
        }
        self.let_go(task, hold);
        Ok(())
    }
}

impl Host {
    pub(super) fn open(
        config: NetworkConfig,
        names: Names,
        hold: Arc<Hold>,
    ) -> Result<Self, NetworkError> {
        let host = |error: KernelError| NetworkError::Host(error);
        let mut socket = Socket::open_in(&config.host).map_err(|e| host(e.into()))?;
        let underlay_mtu = underlay_mtu(&mut socket, config.underlay)?;
        let rules = nft::Socket::open_in(&config.host).map_err(|e| host(e.into()))?;
        let ground = Ground {
            host: config.host,
            socket,
            underlay: config.underlay,
            underlay_mtu,
            folder: config.run_dir.join(NAMESPACES),
        };
        let (networks, tasks) = (BTreeMap::new(), BTreeMap::new());
        let (table, generation, forwards) = (None, None, false);
        let (wanted, begun, stale_ports) = Default::default();
        Ok(Self {
            ground,
            rules,
            table,
            generation,
            networks,
            wanted,
            begun,
            tasks,
            names,
            forwards,
            stale_ports,
            hold,
            gate: None,
        })
    }

    pub(super) fn apply(&mut self, desired: AssignedNetworks) -> Applied {
        let mut failures = Vec::new();
        self.wanted = desired.keys().copied().collect();
        let mut changed = Vec::new();
        for (id, assignment) in desired {
            let stands = self.networks.get(&id).is_some_and(|record| {
                record.standing && record.assignment.version == assignment.version
            });
            if stands {
                continue;
            }
            match self.set_network(assignment) {
                Ok(()) => changed.push(id),
                Err(error) => failures.push(error),
            }
        }
        failures.extend(self.remove_unwanted());
        match self.set_host_rules() {
            Ok(()) => self.mark_standing(&changed),
            Err(error) => failures.push(error),
        }
        let standing =
            self.networks.iter().filter(|(id, record)| record.standing && self.wanted.contains(id));
        let standing = standing.map(|(id, record)| (*id, record.assignment.version)).collect();
        Applied { standing, failures }
    }

    fn mark_standing(&mut self, networks: &[NetworkId]) {
        for id in networks {
            if let Some(record) = self.networks.get_mut(id) {
                record.standing = true;
            }
        }
    }

    /// Everything of one network except the host's rules. Where the version before stands, only what is different is
    /// touched: of a network with thousands of tasks few come and go at a time.
    fn set_network(&mut self, assignment: Arc<NetworkAssignment>) -> Result<(), NetworkError> {
        let id = assignment.id;
        let failed = |source: KernelError| NetworkError::Network {
            network: assignment.name.clone(),
            source,
        };
        let ground = &mut self.ground;
        let (overlay, old) = match self.networks.remove(&id) {
            Some(record) => {
                (Ok(record.overlay), Some((record.standing, record.assignment, record.led)))
            }
            None => (Overlay::open(ground, &assignment), None),
        };
        self.begun.insert(id);
        let mut overlay = overlay.map_err(failed)?;
        let standing = old.as_ref().filter(|(standing, ..)| *standing);
        let before = standing.map(|(_, assignment, _)| assignment.as_ref());
        let programmed = overlay.program(ground, before, &assignment);
        self.names.set_names(id, &assignment.names, !assignment.internal);
        let (led, gone) = match &old {
            Some((_, old, led)) => led.follow(old, &assignment),
            None => (Led::new(&assignment), Gone::default()),
        };
        let before = standing.map(|(.., led)| led);
        let step = match before {
            Some(before) => rules::vip_change(id, &before.vips, &led.vips).map(Step::Change),
            None => Some(Step::Fill(rules::vips(id, &led.vips))),
        };
        let followed = step.map_or(Ok(()), |step| self.lead_vips(id, &step, &led.vips));
        let forgotten = self.forget_flows(id, gone);
        let result = programmed.and(followed).and(forgotten).map_err(failed);
        let record = NetworkRecord { overlay, assignment, led, standing: false };
        self.networks.insert(id, record);
        result
    }

    /// Tells every local task of a network where its virtual addresses lead now.
    fn lead_vips(
        &mut self,
        network: NetworkId,
        step: &Step,
        vips: &[LedVip],
    ) -> Result<(), KernelError> {
        let held = rules::held(vips);
        let on_network = self.tasks.iter_mut().filter(|(_, task)| task.is_on(network));
        let changed =
            on_network.map(|(id, task)| task.lead(*id, network, (step, &held), &self.hold));
        // All are told; the first failure is returned.
        changed.fold(Ok(()), Result::and)
    }

    /// Datagrams to virtual addresses leave the backends that are gone; those to published ports do so once the host's
    /// rules are set.
    fn forget_flows(&mut self, network: NetworkId, gone: Gone) -> Result<(), KernelError> {
        self.stale_ports.extend(gone.ports);
        if gone.vips.is_empty() {
            return Ok(());
        }
        let mut on_network = self.tasks.values_mut().filter(|task| task.is_on(network));
        on_network.try_for_each(|task| task.rules.forget(&gone.vips))
    }

    /// Networks that nobody wants and no task is on.
    fn remove_unwanted(&mut self) -> Vec<NetworkError> {
        let mut unwanted = self.begun.clone();
        unwanted.retain(|id| !self.wanted.contains(id));
        unwanted = &unwanted - &self.networks_in_use();
        unwanted.into_iter().filter_map(|id| self.remove_network(id).err()).collect()
    }

    fn networks_in_use(&self) -> BTreeSet<NetworkId> {
        let attachments = self.tasks.values().flat_map(|task| &task.attachments);
        attachments.map(|attachment| attachment.network).collect()
    }

    fn remove_network(&mut self, network: NetworkId) -> Result<(), NetworkError> {
        let removed = overlay::remove(&mut self.ground, network);
        removed.map_err(|source| NetworkError::Removal { network, source })?;
        self.begun.remove(&network);
        self.networks.remove(&network);
        self.names.remove_zone(network);
        Ok(())
    }

    pub(super) fn attach(
        &mut self,
        task: &TaskAssignment,
        networks: &AssignedNetworks,
        kept: Vec<OwnedFd>,
    ) -> Result<TaskNetwork, NetworkError> {
        let container = &task.container;
        let mode = container.sharing.network;
        let resolv_conf = self.names.container_resolv_conf(mode, &container.dns);
        if mode == NetworkMode::Host {
            let (hosts, addresses) = (host_lines(task), Vec::new());
            return Ok(TaskNetwork {
                namespace: None,
                dns_sockets: Vec::new(),
                resolv_conf,
                hosts,
                addresses,
            });
        }
        let host_ports = host_ports(task)?;
        for attachment in &task.attachments {
            self.need_network(task.id, attachment.network, networks)?;
        }
        let failed = |source| NetworkError::Task { task: task.id, source };
        if !self.tasks.contains_key(&task.id) {
            let mut record = self.connect(task, host_ports, kept).map_err(failed)?;
            record.open_gate(task.id, &self.hold).map_err(failed)?;
            record.let_go(task.id, &self.hold);
            self.tasks.insert(task.id, record);
        }
        self.set_host_rules()?;
        let record = &self.tasks[&task.id];
        let mut dns_sockets = Vec::new();
        if let Some(dns) = &record.dns {
            let own = || dns.try_clone().map_err(|e| failed(KernelError::Sockets(e)));
            let attached = record.attachments.iter().map(|attachment| attachment.network);
            let servers = &container.dns.servers;
            let outside =
                (!servers.is_empty()).then(|| (record.rules.namespace.clone(), servers.clone()));
            let DnsSockets { udp, tcp } = own()?;
            self.names
                .serve(task.id, attached.collect(), outside, udp, tcp)
                .map_err(|e| failed(KernelError::Sockets(e)))?;
            dns_sockets = own()?.into_descriptors();
        }
        Ok(TaskNetwork {
            namespace: Some(task::path(&self.ground, task.id)),
            dns_sockets,
            resolv_conf,
            hosts: host_lines(task),
            addresses: task.attachments.iter().map(|attachment| attachment.address).collect(),
        })
    }

    fn need_network(
        &mut self,
        task: TaskId,
        network: NetworkId,
        networks: &AssignedNetworks,
    ) -> Result<(), NetworkError> {
        if self.networks.contains_key(&network) {
            return Ok(());
        }
        let assignment =
            networks.get(&network).ok_or(NetworkError::UnknownNetwork { task, network })?;
        // One of this host alone goes with the last task that is on it.
        if overlay::has_tunnel(assignment) {
            self.wanted.insert(network);
        }
        self.set_network(Arc::clone(assignment))?;
        self.set_host_rules()?;
        self.mark_standing(&[network]);
        Ok(())
    }

    fn connect(
        &mut self,
        task: &TaskAssignment,
        host_ports: Vec<HostPort>,
        kept: Vec<OwnedFd>,
    ) -> Result<TaskRecord, KernelError> {
        let mut space = TaskSpace::open(&self.ground, task.id)?;
        let mtu = self.ground.mtu();
        for (index, attachment) in task.attachments.iter().enumerate() {
            // The caller has made sure that they are there.
            let Some(network) = self.networks.get_mut(&attachment.network) else { continue };
            if !space.has_link(index)? {
                let (name, mac) = (task::link_name(index), attachment.mac);
                let namespace = &space.namespace;
                network.overlay.add_port(namespace, &name, attachment.address, mac, mtu)?;
            }
            space.set_address(index, attachment, network.assignment.prefix_length)?;
        }
        let networks = &self.networks;
        let attached =
            task.attachments.iter().filter_map(|attachment| networks.get(&attachment.network));
        if let Some(gateway) = way_out(attached.clone().map(|record| record.assignment.as_ref())) {
            space.set_default_route(gateway)?;
        }
        let dns = match (task.container.sharing.network, DnsSockets::from_kept(kept)) {
            (NetworkMode::None, _) => None,
            (_, Some(dns)) => Some(dns),
            (_, None) => Some(space.bind_dns()?),
        };
        let vips = attached.map(|record| (record.assignment.id, record.led.vips.as_slice()));
        let held = vips.clone().map(|(network, vips)| (network, rules::held(vips))).collect();
        let rules = space.set_rules(dns.as_ref(), vips)?;
        let (name, attachments) = (task.name.clone(), task.attachments.clone());
        Ok(TaskRecord { name, rules, attachments, host_ports, dns, held, gate: None })
    }

    /// The first half of a removal: nothing leads to the task any more. Its namespace is returned, to be removed
    /// while others go on; the kernel takes its time for that.
    pub(super) fn release(&mut self, task: TaskId) -> Result<PathBuf, NetworkError> {
        self.names.stop(task);
        let record = self.tasks.remove(&task);
        self.hold.forget(Place::Task(task));
        if record.is_some_and(|record| !record.host_ports.is_empty()) {
            self.set_host_rules()?;
        }
        Ok(task::path(&self.ground, task))
    }

    /// The second half: networks that only this task was on go as well.
    pub(super) fn tidy(&mut self) -> Result<(), NetworkError> {
        match self.remove_unwanted().into_iter().next() {
            Some(error) => Err(error),
            None => self.set_host_rules(),
        }
    }

    fn detach(&mut self, task: TaskId) -> Result<(), NetworkError> {
        let path = self.release(task)?;
        task::remove(&path).map_err(|source| NetworkError::Task { task, source })?;
        self.tidy()
    }

    pub(super) fn retain(
        &mut self,
        networks: &BTreeSet<NetworkId>,
        tasks: &BTreeSet<TaskId>,
    ) -> Vec<NetworkError> {
        let found = match namespace::list(&self.ground.folder) {
            Ok(found) => found,
            Err(error) => return vec![NetworkError::Host(error.into())],
        };
        let mut failures = Vec::new();
        for task in found.iter().filter_map(|name| name.strip_prefix("task-")?.parse().ok()) {
            if !tasks.contains(&task) {
                failures.extend(self.detach(task).err());
            }
        }
        let in_use = self.networks_in_use();
        let kept = found.iter().filter_map(|name| name.strip_prefix("net-")?.parse().ok());
        let mut left: BTreeSet<NetworkId> = kept.collect();
        match self.ground.socket.links() {
            Ok(links) => left.extend(links.iter().filter_map(|link| {
                let number = link.name.strip_prefix("sw").filter(|_| link.group == LINK_GROUP);
                number?.parse::<NetworkId>().ok()
            })),
            Err(error) => failures.push(NetworkError::Host(error.into())),
        }
        for network in left.difference(networks).filter(|id| !in_use.contains(id)) {
            failures.extend(self.remove_network(*network).err());
        }
        failures.extend(self.set_host_rules().err());
        failures
    }

    /// Brings the host's table to what networks and tasks mean, when that differs from what it holds.
    fn set_host_rules(&mut self) -> Result<(), NetworkError> {
        let ports: Vec<_> =
            self.tasks.values().flat_map(|task| task.host_ports.iter().copied()).collect();
        let networks = self.networks.values();
        let led = networks.clone().map(|one| (one.assignment.as_ref(), one.led.ingress.as_slice()));
        let table = rules::host(led, &ports);
        if self.table.as_ref() == Some(&table) {
            return Ok(());
        }
        let held = rules::held_ports(networks.map(|record| record.assignment.as_ref()));
        let held = Held::Services(held);
        self.open_gate(&held).map_err(NetworkError::HostRules)?;
        // Without networks there is nothing to translate, so the table may go, and with it the last trace of us.
        let empty = self.networks.is_empty();
        self.put_table(&table, empty).map_err(NetworkError::HostRules)?;
        self.table = Some(table);
        if self.gate.is_some() {
            self.hold.set(Place::Host, &self.ground.host, held);
        }
        self.forget_port_flows().map_err(NetworkError::HostRules)
    }

    /// Before rules hold connections to published ports somebody must hear of them.
    fn open_gate(&mut self, held: &Held) -> Result<(), KernelError> {
        if self.gate.is_none() && !held.is_empty() {
            self.gate = Some(Gate::open(&self.hold, Place::Host, &self.ground.host)?);
        }
        Ok(())
    }

    /// How many connections came to a task.
    pub(super) fn arrivals(&mut self, task: TaskId) -> Result<Option<u64>, NetworkError> {
        let Some(record) = self.tasks.get_mut(&task) else { return Ok(None) };
        record.rules.arrivals().map_err(|source| NetworkError::Task { task, source })
    }

    /// A task's namespace, and its addresses there.
    pub(super) fn addresses(&mut self, task: TaskId) -> Option<(Namespace, Vec<Ipv4Addr>)> {
        let record = self.tasks.get(&task)?;
        let own = record.attachments.iter().map(|attachment| attachment.address).collect();
        Some((record.rules.namespace.clone(), own))
    }

    /// Datagrams to published ports leave the backends that are gone.
    fn forget_port_flows(&mut self) -> Result<(), KernelError> {
        if self.stale_ports.is_empty() {
            return Ok(());
        }
        let gone = &self.stale_ports;
        let mut flows = conntrack::Socket::open_in(&self.ground.host)?;
        flows.forget_udp(|flow| gone.contains(&(flow.port, flow.backend)))?;
        self.stale_ports.clear();
        Ok(())
    }

    fn put_table(&mut self, table: &nft::Table, remove: bool) -> Result<(), KernelError> {
        if remove {
            self.rules.delete_table(rules::TABLE)?;
            self.generation = None;
            return Ok(());
        }
        if !self.forwards {
            self.ground.host.write_sysctl("net/ipv4/ip_forward", "1")?;
            self.forwards = true;
        }
        let before = self.rules.generation()?;
        let known = self.table.as_ref().filter(|_| self.generation == Some(before));
        let change = known.map(|known| nft::Change::between(known, table));
        if let Some(None) = change {
            return Ok(());
        }
        // Where the kernel refuses, the next look puts back what is known.
        self.generation = None;
        match change.flatten() {
            Some(change) => self.rules.change(&change)?,
            None => self.rules.apply(table)?,
        }
        let after = self.rules.generation()?;
        // Somebody else's change in between may have been made to our table: let the next look repeat ours.
        self.generation = (after == before.wrapping_add(1)).then_some(after);
        Ok(())
    }

    /// Puts the host's table back when somebody changed rules since we did. Returns whether that was needed.
    pub(super) fn heal(&mut self) -> Result<bool, NetworkError> {
        if self.networks.is_empty() {
            return Ok(false);
        }
        let Some(table) = self.table.take() else { return Ok(false) };
        let healed = self.rules.generation().map_err(KernelError::from).and_then(|generation| {
            let stale = self.generation != Some(generation);
            if stale {
                self.put_table(&table, false)?;
            }
            Ok(stale)
        });
        self.table = Some(table);
        healed.map_err(NetworkError::HostRules)
    }
}

fn underlay_mtu(socket: &mut Socket, address: Ipv4Addr) -> Result<u32, NetworkError> {
    let host = |error| NetworkError::Host(KernelError::Netlink(error));
    let addresses = socket.addresses().map_err(host)?;
    let own = addresses.iter().find(|found| found.address == address);
    let link = own.ok_or(NetworkError::NoUnderlay { address })?.link;
    let links = socket.links().map_err(host)?;
    let found = links.iter().find(|found| found.index == link);
    // Loopback has a larger one than any tunnel needs.
    Ok(found.ok_or(NetworkError::NoUnderlay { address })?.mtu.min(65_535))
}

fn host_ports(task: &TaskAssignment) -> Result<Vec<HostPort>, NetworkError> {
    let address = task.attachments.first().map(|attachment| attachment.address);
    let lead = |port: &swarm_proto::object::AllocatedPort| match address {
        Some(address) => Ok(HostPort { port: *port, address }),
        None => Err(NetworkError::NoAddress { task: task.id, port: port.published }),
    };
    task.host_ports.iter().map(lead).collect()
}
