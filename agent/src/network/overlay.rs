//! One network on this host: its namespace with bridge, tunnel and gateway, and what its tunnel knows of other hosts.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use swarm_proto::assignment::{ListChange, NetworkAssignment, NetworkPeer};
use swarm_proto::id::NetworkId;
use swarm_runtime::kernel::namespace::NamespaceError;
use swarm_runtime::kernel::netlink::{
    Address, Forwarding, Link, LinkKind, Mac, Neighbour, NetlinkError, NewLink, Socket,
};
use swarm_runtime::kernel::{Namespace, namespace};

use super::KernelError;
use super::rules::{LINK_GROUP, gateway_link};

pub(super) const BRIDGE: &str = "br0";
pub(super) const TUNNEL: &str = "vx0";
/// The network's end of the host's link into it.
pub(super) const GATEWAY_PORT: &str = "gw0";
/// Outer Ethernet, IPv4, UDP and VXLAN headers.
const TUNNEL_OVERHEAD: u32 = 50;

/// Where networks are made.
#[derive(Debug)]
pub(super) struct Ground {
    /// The host's namespace.
    pub(super) host: Namespace,
    /// A socket there.
    pub(super) socket: Socket,
    /// This host's end of all tunnels.
    pub(super) underlay: Ipv4Addr,
    /// The largest packet of the link with that address.
    pub(super) underlay_mtu: u32,
    /// Where namespaces are kept.
    pub(super) folder: PathBuf,
}

impl Ground {
    /// The largest packet inside a tunnel.
    pub(super) fn mtu(&self) -> u32 {
        self.underlay_mtu.saturating_sub(TUNNEL_OVERHEAD)
    }

    pub(super) fn network_path(&self, network: NetworkId) -> PathBuf {
        self.folder.join(format!("net-{network}"))
    }
}

/// A network's namespace and what was put into it.
#[derive(Debug)]
pub(super) struct Overlay {
    socket: Socket,
    bridge: u32,
    /// None on a network of this host alone.
    tunnel: Option<u32>,
    namespace: Namespace,
    /// What the host's link into the network was last made to be; nothing at first.
    gateway: Option<Gateway>,
    neighbours: BTreeMap<Ipv4Addr, Mac>,
    forwardings: BTreeMap<Mac, Ipv4Addr>,
}

/// The host's own place on a network: address, link address and the subnet's prefix length, if it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gateway(Option<(Ipv4Addr, Mac)>, u8);

impl Overlay {
    /// Makes the namespace, bridge and, unless it has no number for one, tunnel, or takes those that an earlier agent made
    /// with all that they know.
    pub(super) fn open(
        ground: &mut Ground,
        assignment: &NetworkAssignment,
    ) -> Result<Self, KernelError> {
        let path = ground.network_path(assignment.id);
        namespace::create(&path)?;
        let namespace = Namespace::open(&path)?;
        write_sysctls(&namespace, QUIET)?;
        let mut socket = Socket::open_in(&namespace)?;
        let mtu = Some(ground.mtu());
        if socket.find_link(BRIDGE)?.is_none() {
            socket.add_link(&NewLink {
                mtu,
                up: true,
                ..NewLink::new(BRIDGE, LinkKind::Bridge)
            })?;
        }
        let bridge = socket.link(BRIDGE)?.index;
        let (neighbours, forwardings) = (BTreeMap::new(), BTreeMap::new());
        let mut this = Self {
            socket,
            bridge,
            tunnel: None,
            namespace,
            gateway: None,
            neighbours,
            forwardings,
        };
        if has_tunnel(assignment) {
            this.open_tunnel(ground, assignment)?;
        }
        Ok(this)
    }

    fn open_tunnel(
        &mut self,
        ground: &mut Ground,
        assignment: &NetworkAssignment,
    ) -> Result<(), KernelError> {
        let socket = &mut self.socket;
        if socket.find_link(TUNNEL)?.is_none() {
            let kind = LinkKind::Vxlan {
                id: assignment.vni,
                local: ground.underlay,
                port: assignment.vxlan_port,
            };
            let (mtu, namespace) = (Some(ground.mtu()), Some(&self.namespace));
            ground.socket.add_link(&NewLink { mtu, namespace, ..NewLink::new(TUNNEL, kind) })?;
        }
        let tunnel = socket.link(TUNNEL)?;
        join(socket, &tunnel, self.bridge)?;
        let tunnel = tunnel.index;
        let known = socket.neighbours(tunnel)?;
        self.neighbours = known.into_iter().map(|entry| (entry.address, entry.mac)).collect();
        let known = socket.forwardings(tunnel)?;
        self.forwardings = known.into_iter().map(|entry| (entry.mac, entry.host)).collect();
        self.tunnel = Some(tunnel);
        Ok(())
    }

    /// Makes the host's link into the network and the tunnel's entries what the assignment says, given that they stand as
    /// the one before said, if there is one.
    pub(super) fn program(
        &mut self,
        ground: &mut Ground,
        before: Option<&NetworkAssignment>,
        assignment: &NetworkAssignment,
    ) -> Result<(), KernelError> {
        let gateway = Gateway(assignment.gateway, assignment.prefix_length);
        if self.gateway != Some(gateway) {
            self.gateway = None;
            self.set_gateway(ground, assignment)?;
            self.gateway = Some(gateway);
        }
        if let Some(tunnel) = self.tunnel {
            let own = ground.underlay;
            match before {
                Some(before) => {
                    let change = ListChange::between(&before.peers, &assignment.peers);
                    self.change_peers(tunnel, &change, own)?;
                }
                None => self.set_peers(tunnel, &assignment.peers, own)?,
            }
        }
        Ok(())
    }

    /// Adds a port for a task: a pair whose other end lies in the task's namespace under `name`, still down.
    pub(super) fn add_port(
        &mut self,
        task: &Namespace,
        name: &str,
        address: Ipv4Addr,
        mac: Mac,
        mtu: u32,
    ) -> Result<(), NetlinkError> {
        let port = port_name(address);
        // What a task that went away in the middle of its set-up may have left under this address.
        self.socket.delete_link(&port)?;
        let peer = NewLink {
            mac: Some(mac),
            mtu: Some(mtu),
            namespace: Some(task),
            ..NewLink::peer(name)
        };
        self.socket.add_link(&NewLink {
            mtu: Some(mtu),
            master: Some(self.bridge),
            up: true,
            ..NewLink::new(&port, LinkKind::Veth { peer: &peer })
        })
    }

    fn set_gateway(
        &mut self,
        ground: &mut Ground,
        assignment: &NetworkAssignment,
    ) -> Result<(), KernelError> {
        let name = gateway_link(assignment.id);
        let Some((address, mac)) = assignment.gateway else {
            return Ok(ground.socket.delete_link(&name)?);
        };
        let link = match ground.socket.find_link(&name)? {
            Some(link) => link,
            None => self.add_gateway(ground, &name, mac)?,
        };
        if link.mac != Some(mac) {
            ground.socket.set_mac(link.index, mac)?;
        }
        let port = self.socket.link(GATEWAY_PORT)?;
        join(&mut self.socket, &port, self.bridge)?;
        let wanted = Address { link: link.index, address, prefix_length: assignment.prefix_length };
        let mut present = false;
        for found in ground.socket.addresses()?.into_iter().filter(|a| a.link == link.index) {
            present |= found == wanted;
            if found != wanted {
                ground.socket.delete_address(found)?;
            }
        }
        if !present {
            ground.socket.add_address(wanted)?;
        }
        if !link.up {
            ground.socket.set_up(link.index, true)?;
        }
        Ok(())
    }

    fn add_gateway(
        &mut self,
        ground: &mut Ground,
        name: &str,
        mac: Mac,
    ) -> Result<Link, KernelError> {
        let mtu = Some(ground.mtu());
        let namespace = Some(&self.namespace);
        let peer = NewLink { mtu, namespace, ..NewLink::peer(GATEWAY_PORT) };
        ground.socket.add_link(&NewLink {
            mac: Some(mac),
            mtu,
            group: Some(LINK_GROUP),
            ..NewLink::new(name, LinkKind::Veth { peer: &peer })
        })?;
        // See the page on loopback addresses at the top of `network`.
        let localnet = format!("net/ipv4/conf/{name}/route_localnet");
        let ipv6 = format!("net/ipv6/conf/{name}/disable_ipv6");
        write_sysctls(&ground.host, &[(&localnet, "1"), (&ipv6, "1")])?;
        Ok(ground.socket.link(name)?)
    }

    /// Makes the tunnel know exactly these, whatever it knows.
    fn set_peers(
        &mut self,
        tunnel: u32,
        peers: &[NetworkPeer],
        own: Ipv4Addr,
    ) -> Result<(), NetlinkError> {
        let (neighbours, forwardings) = entries(peers, own);
        let neighbours = difference(&self.neighbours, &neighbours);
        let forwardings = difference(&self.forwardings, &forwardings);
        self.exchange(tunnel, neighbours, forwardings)
    }

    fn change_peers(
        &mut self,
        tunnel: u32,
        change: &ListChange<NetworkPeer>,
        own: Ipv4Addr,
    ) -> Result<(), NetlinkError> {
        let (mut old, new) = (entries(&change.removed, own), entries(&change.added, own));
        // What is not known need not go.
        old.0.retain(|address, _| self.neighbours.contains_key(address));
        old.1.retain(|mac, _| self.forwardings.contains_key(mac));
        self.exchange(tunnel, difference(&old.0, &new.0), difference(&old.1, &new.1))
    }

    /// Takes entries out and puts others in.
    fn exchange(
        &mut self,
        tunnel: u32,
        (old, new): (Pairs<Ipv4Addr, Mac>, Pairs<Ipv4Addr, Mac>),
        (old_hosts, new_hosts): (Pairs<Mac, Ipv4Addr>, Pairs<Mac, Ipv4Addr>),
    ) -> Result<(), NetlinkError> {
        let entries = |pairs: &[(Ipv4Addr, Mac)]| -> Vec<Neighbour> {
            pairs.iter().map(|(address, mac)| Neighbour { address: *address, mac: *mac }).collect()
        };
        self.socket.delete_neighbours(tunnel, &entries(&old))?;
        self.socket.replace_neighbours(tunnel, &entries(&new))?;
        for (address, _) in &old {
            self.neighbours.remove(address);
        }
        self.neighbours.extend(new);

        let entries = |pairs: &[(Mac, Ipv4Addr)]| -> Vec<Forwarding> {
            pairs.iter().map(|(mac, host)| Forwarding { mac: *mac, host: *host }).collect()
        };
        self.socket.delete_forwardings(tunnel, &entries(&old_hosts))?;
        self.socket.replace_forwardings(tunnel, &entries(&new_hosts))?;
        for (mac, _) in &old_hosts {
            self.forwardings.remove(mac);
        }
        self.forwardings.extend(new_hosts);
        Ok(())
    }
}

/// What a tunnel must know of those on other hosts.
fn entries(
    peers: &[NetworkPeer],
    own: Ipv4Addr,
) -> (BTreeMap<Ipv4Addr, Mac>, BTreeMap<Mac, Ipv4Addr>) {
    let remote = || peers.iter().filter(|peer| peer.host != own);
    let neighbours = remote().map(|peer| (peer.address, peer.mac)).collect();
    (neighbours, remote().map(|peer| (peer.mac, peer.host)).collect())
}

/// Whether a network reaches other hosts.
pub(super) fn has_tunnel(network: &NetworkAssignment) -> bool {
    network.vni != 0
}

/// Removes a network or whatever is left of one. Links go first and by name: a namespace's own end comes later, and
/// until then the kernel would refuse the same tunnel again.
pub(super) fn remove(ground: &mut Ground, network: NetworkId) -> Result<(), KernelError> {
    ground.socket.delete_link(&gateway_link(network))?;
    let path = ground.network_path(network);
    if namespace::is_namespace(&path)? {
        clear(&path)?;
    }
    Ok(namespace::delete(&path)?)
}

/// Removes all links of a namespace but its loopback.
pub(super) fn clear(path: &Path) -> Result<(), KernelError> {
    let mut socket = Socket::open_in(&Namespace::open(path)?)?;
    for link in socket.links()?.iter().filter(|link| link.kind.is_some()) {
        socket.delete_link(&link.name)?;
    }
    Ok(())
}

/// The network's end of a task's link. Addresses are unique within the network.
pub(super) fn port_name(address: Ipv4Addr) -> String {
    format!("p{:08x}", address.to_bits())
}

fn join(socket: &mut Socket, link: &Link, bridge: u32) -> Result<(), NetlinkError> {
    if link.master != Some(bridge) {
        socket.set_master(link.index, bridge)?;
    }
    if !link.up {
        socket.set_up(link.index, true)?;
    }
    Ok(())
}

type Pairs<K, V> = Vec<(K, V)>;

/// What is in `old` but not at all in `new`, and what `new` adds or says otherwise.
fn difference<K: Ord + Copy, V: PartialEq + Copy>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
) -> (Pairs<K, V>, Pairs<K, V>) {
    let gone = old.iter().filter(|(key, _)| !new.contains_key(key));
    let changed = new.iter().filter(|(key, value)| old.get(key) != Some(value));
    let copied = |(key, value): (&K, &V)| (*key, *value);
    (gone.map(copied).collect(), changed.map(copied).collect())
}

/// A bridge must not pass its frames to packet rules (the kernel's default), nor speak IPv6 by itself.
const QUIET: &[(&str, &str)] = &[
    ("net/bridge/bridge-nf-call-iptables", "0"),
    ("net/bridge/bridge-nf-call-ip6tables", "0"),
    ("net/bridge/bridge-nf-call-arptables", "0"),
    ("net/ipv6/conf/all/disable_ipv6", "1"),
    ("net/ipv6/conf/default/disable_ipv6", "1"),
];

/// Writes kernel parameters of a namespace. A kernel that does not have one does not do what it would turn off.
pub(super) fn write_sysctls(
    namespace: &Namespace,
    values: &[(&str, &str)],
) -> Result<(), NamespaceError> {
    namespace.enter(|| {
        for (name, value) in values {
            let path = Path::new("/proc/sys").join(name);
            match fs::write(&path, value) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(NamespaceError::Path { action: "write", path, source });
                }
                _ => {}
            }
        }
        Ok(())
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_what_goes_and_what_comes() {
        let old = BTreeMap::from([(1, 'a'), (2, 'b'), (3, 'c')]);
        let new = BTreeMap::from([(2, 'b'), (3, 'x'), (4, 'd')]);
        assert_eq!(difference(&old, &new), (vec![(1, 'a')], vec![(3, 'x'), (4, 'd')]));
        assert_eq!(difference(&new, &new), (vec![], vec![]));
    }
}
