//! What the kernel holds of networks and tasks beside what this host made. It changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;

use swarm_proto::assignment::NetworkPeer;
use swarm_proto::object::Attachment;
use swarm_runtime::kernel::netlink::{Link, Mac, Socket};
use swarm_runtime::kernel::{Namespace, namespace, nft};

use super::KernelError;
use super::host::{Host, NetworkRecord, TaskRecord, way_out};
use super::overlay::{self, BRIDGE, GATEWAY_PORT, TUNNEL, port_name};
use super::rules::{self, LINK_GROUP, gateway_link};
use super::task::{self, DnsSockets};
use crate::inspection::Difference;

impl Host {
    /// Everything that is not as this host made it.
    pub(super) fn differences(&mut self) -> Vec<Difference> {
        let mut found = Vec::new();
        let mut add = |what: &str, looked: Result<Vec<Difference>, KernelError>| match looked {
            Ok(differences) => found.extend(differences),
            Err(error) => found.push(Difference::unseen(what, &error)),
        };
        add("the namespaces", self.strays());
        add("the links of the host", self.host_links());
        add("the packet rules of the host", self.host_rules());
        for record in self.networks.values().filter(|record| record.standing) {
            let name = format!("network {}", record.assignment.name);
            add(&name, self.network_links(&name, record));
        }
        for (id, record) in &self.tasks {
            let name = format!("task {}", record.name);
            let path = task::path(&self.ground, *id);
            add(&name, self.task_space(&name, &path, record));
        }
        found
    }

    /// Namespaces of networks and tasks that are not here.
    fn strays(&self) -> Result<Vec<Difference>, KernelError> {
        let networks = self.networks.keys().chain(&self.begun).map(|id| format!("net-{id}"));
        let known: BTreeSet<String> =
            networks.chain(self.tasks.keys().map(|id| format!("task-{id}"))).collect();
        let found = namespace::list(&self.ground.folder)?.into_iter();
        let strays = found.filter(|name| !known.contains(name));
        Ok(strays
            .map(|name| {
                Difference::stray("namespace", name, "belongs to no network or task of this host")
            })
            .collect())
    }

    fn host_links(&mut self) -> Result<Vec<Difference>, KernelError> {
        let links = by_name(self.ground.socket.links()?);
        let addresses = self.ground.socket.addresses()?;
        let mut found = Vec::new();
        let mut known = BTreeSet::new();
        for (id, record) in &self.networks {
            let name = gateway_link(*id);
            known.insert(name.clone());
            let Some((address, _)) = record.assignment.gateway.filter(|_| record.standing) else {
                continue;
            };
            let network = &record.assignment.name;
            found.extend(link_difference(&links, &name, &format!("of network {network}")));
            if let Some(link) = links.get(&name)
                && !addresses.iter().any(|own| own.link == link.index && own.address == address)
            {
                let problem = format!("lacks its address {address} on network {network}");
                found.push(Difference::lacking("address", name, problem));
            }
        }
        let ours = links.values().filter(|link| link.group == LINK_GROUP);
        let strays = ours.filter(|link| !known.contains(&link.name));
        found.extend(strays.map(|link| {
            Difference::stray("link", &link.name, "leads into a network that is not on this host")
        }));
        Ok(found)
    }

    fn host_rules(&mut self) -> Result<Vec<Difference>, KernelError> {
        let Some(table) = self.table.as_ref().filter(|_| !self.networks.is_empty()) else {
            return Ok(Vec::new());
        };
        let held = self.rules.rule_counts(rules::TABLE)?;
        Ok(rule_differences("the host's table `swarm`", table, &held))
    }

    fn network_links(
        &self,
        name: &str,
        record: &NetworkRecord,
    ) -> Result<Vec<Difference>, KernelError> {
        let path = self.ground.network_path(record.assignment.id);
        if !namespace::is_namespace(&path)? {
            return Ok(vec![Difference::lacking("namespace", name, "its namespace is gone")]);
        }
        let mut socket = Socket::open_in(&Namespace::open(&path)?)?;
        let links = by_name(socket.links()?);
        let attachments = self.tasks.values().flat_map(|task| &task.attachments);
        let ours = attachments.filter(|place| place.network == record.assignment.id);
        let ports: BTreeSet<String> = ours.map(|place| port_name(place.address)).collect();
        let gateway = record.assignment.gateway.map(|_| GATEWAY_PORT);
        let tunnel = overlay::has_tunnel(&record.assignment).then_some(TUNNEL);
        let wanted = [BRIDGE].into_iter().chain(tunnel).chain(gateway);
        let wanted = wanted.chain(ports.iter().map(String::as_str));
        let of = format!("of {name}");
        let mut found: Vec<Difference> =
            wanted.filter_map(|link| link_difference(&links, link, &of)).collect();
        let strays = links.keys().filter(|link| is_port(link) && !ports.contains(*link));
        found.extend(strays.map(|link| {
            Difference::stray("link", link, format!("on {name} leads to no task of this host"))
        }));
        if let Some(tunnel) = links.get(TUNNEL) {
            found.extend(self.tunnel_entries(&mut socket, tunnel.index, name, record)?);
        }
        Ok(found)
    }

    /// What a network's tunnel knows of its members on other hosts.
    fn tunnel_entries(
        &self,
        socket: &mut Socket,
        tunnel: u32,
        name: &str,
        record: &NetworkRecord,
    ) -> Result<Vec<Difference>, KernelError> {
        let peers = record.assignment.peers.iter();
        let remote: Vec<&NetworkPeer> =
            peers.filter(|peer| peer.host != self.ground.underlay).collect();
        let neighbours = socket.neighbours(tunnel)?.into_iter();
        let forwardings = socket.forwardings(tunnel)?.into_iter();
        let found = peer_differences(
            name,
            &remote,
            &neighbours.map(|entry| (entry.address, entry.mac)).collect(),
            &forwardings.map(|entry| (entry.mac, entry.host)).collect(),
        );
        Ok(found)
    }

    /// Whether a task's default route leads where it should.
    fn task_route(
        &self,
        name: &str,
        socket: &mut Socket,
        attachments: &[Attachment],
    ) -> Result<Option<Difference>, KernelError> {
        let networks = attachments
            .iter()
            .filter_map(|place| self.networks.get(&place.network))
            .map(|record| record.assignment.as_ref());
        let Some(gateway) = way_out(networks) else { return Ok(None) };
        let mut defaults = socket.routes()?.into_iter().filter(|route| route.prefix_length == 0);
        let is_there = defaults.any(|route| route.gateway == Some(gateway));
        let problem = || format!("has no default route by {gateway}");
        Ok((!is_there).then(|| Difference::lacking("route", name, problem())))
    }

    fn task_space(
        &self,
        name: &str,
        path: &Path,
        record: &TaskRecord,
    ) -> Result<Vec<Difference>, KernelError> {
        if !namespace::is_namespace(path)? {
            return Ok(vec![Difference::lacking(
                "namespace",
                name,
                "its network namespace is gone",
            )]);
        }
        let namespace = Namespace::open(path)?;
        let mut socket = Socket::open_in(&namespace)?;
        let (links, addresses) = (by_name(socket.links()?), socket.addresses()?);
        let mut found = Vec::new();
        for (index, place) in record.attachments.iter().enumerate() {
            let link = task::link_name(index);
            found.extend(link_difference(&links, &link, &format!("of {name}")));
            let Some(index) = links.get(&link).map(|link| link.index) else { continue };
            let held: Vec<Ipv4Addr> = addresses
                .iter()
                .filter(|address| address.link == index)
                .map(|address| address.address)
                .collect();
            if !held.contains(&place.address) {
                let problem = format!("lacks its address {} on {link}", place.address);
                found.push(Difference::lacking("address", name, problem));
            }
            let strays = held.iter().filter(|address| **address != place.address);
            found.extend(strays.map(|address| {
                Difference::stray(
                    "address",
                    name,
                    format!("has the address {address} on {link}, which is not its own"),
                )
            }));
        }
        found.extend(self.task_route(name, &mut socket, &record.attachments)?);
        let networks = record.attachments.iter().filter_map(|place| {
            let network = self.networks.get(&place.network)?;
            Some((place.network, network.led.vips.as_slice()))
        });
        let ports = record.dns.as_ref().map(DnsSockets::ports).transpose();
        let table = rules::task(ports.map_err(KernelError::Sockets)?, networks);
        let held = nft::Socket::open_in(&namespace)?.rule_counts(rules::TABLE)?;
        found.extend(rule_differences(&format!("table `swarm` of {name}"), &table, &held));
        Ok(found)
    }
}

fn by_name(links: Vec<Link>) -> BTreeMap<String, Link> {
    links.into_iter().map(|link| (link.name.clone(), link)).collect()
}

/// A network's end of a task's link: `p` and eight hexadecimal digits.
fn is_port(name: &str) -> bool {
    let digits = name.strip_prefix('p').unwrap_or_default();
    digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn link_difference(links: &BTreeMap<String, Link>, name: &str, of: &str) -> Option<Difference> {
    match links.get(name) {
        None => Some(Difference::lacking("link", name, format!("{of} is gone"))),
        Some(link) if !link.up => Some(Difference::lacking("link", name, format!("{of} is down"))),
        Some(_) => None,
    }
}

/// What a tunnel knows wrongly, or not, of a network's members on other hosts: their link addresses, and where these are.
fn peer_differences(
    name: &str,
    peers: &[&NetworkPeer],
    neighbours: &BTreeMap<Ipv4Addr, Mac>,
    forwardings: &BTreeMap<Mac, Ipv4Addr>,
) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut lacks = |kind, problem: String| found.push(Difference::lacking(kind, name, problem));
    for NetworkPeer { address, mac, host } in peers {
        match neighbours.get(address) {
            Some(held) if held == mac => {}
            Some(_) => lacks("neighbour", format!("has a wrong link address for {address}")),
            None => lacks("neighbour", format!("does not know the link address of {address}")),
        }
        match forwardings.get(mac) {
            Some(held) if held == host => {}
            Some(held) => {
                lacks(
                    "forwarding",
                    format!("sends what is for {address} to {held}, not to {host}"),
                );
            }
            None => lacks("forwarding", format!("does not know that {address} is on host {host}")),
        }
    }
    let mut strays = |kind, problem: String| found.push(Difference::stray(kind, name, problem));
    for address in neighbours.keys().filter(|held| peers.iter().all(|peer| peer.address != **held))
    {
        strays("neighbour", format!("knows {address}, which nobody on another host has"));
    }
    for (_, host) in forwardings.iter().filter(|(held, _)| peers.iter().all(|p| p.mac != **held)) {
        strays("forwarding", format!("sends frames to {host} for a link address that nobody has"));
    }
    found
}

/// Chains that are gone, are nobody's, or hold another number of rules.
fn rule_differences(
    object: &str,
    table: &nft::Table,
    held: &BTreeMap<String, usize>,
) -> Vec<Difference> {
    let wanted: BTreeMap<&str, usize> =
        table.chains.iter().map(|chain| (chain.name.as_str(), chain.rules.len())).collect();
    let mut found = Vec::new();
    for (chain, count) in &wanted {
        match held.get(*chain) {
            None => {
                found.push(Difference::lacking(
                    "rules",
                    object,
                    format!("chain `{chain}` is gone"),
                ));
            }
            Some(other) if other != count => {
                let problem = format!("chain `{chain}` holds {other} rules instead of {count}");
                found.push(Difference::lacking("rules", object, problem));
            }
            Some(_) => {}
        }
    }
    let strays = held.keys().filter(|chain| !wanted.contains_key(chain.as_str()));
    found.extend(strays.map(|chain| {
        Difference::stray("rules", object, format!("chain `{chain}` is not its own"))
    }));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, up: bool) -> (String, Link) {
        let link = Link {
            index: 1,
            name: name.to_owned(),
            mac: None,
            mtu: 1500,
            up,
            master: None,
            group: 0,
            kind: None,
        };
        (name.to_owned(), link)
    }

    #[test]
    fn links_that_are_gone_or_down_are_named() {
        let links = BTreeMap::from([link("br0", true), link("vx0", false)]);
        let problem = |name| link_difference(&links, name, "of network a").map(|d| d.problem);
        assert_eq!(problem("br0"), None);
        assert_eq!(problem("vx0").as_deref(), Some("of network a is down"));
        assert_eq!(problem("gw0").as_deref(), Some("of network a is gone"));
        assert!(is_port("p0a000002") && !is_port("peer0") && !is_port("p0a00000g"));
    }

    #[test]
    fn what_a_tunnel_knows_is_compared_with_the_members_elsewhere() {
        let host = Ipv4Addr::new(192, 0, 2, 2);
        let peer = |last: u8| NetworkPeer {
            address: Ipv4Addr::new(10, 0, 1, last),
            mac: [2, 0, 0, 0, 0, last],
            host,
        };
        let all = [peer(1), peer(2), peer(3)];
        let peers: Vec<&NetworkPeer> = all.iter().collect();
        let mut neighbours = all.iter().map(|one| (one.address, one.mac)).collect();
        let mut forwardings = all.iter().map(|one| (one.mac, one.host)).collect();
        assert_eq!(peer_differences("n", &peers, &neighbours, &forwardings), []);
        let elsewhere = Ipv4Addr::new(192, 0, 2, 9);
        neighbours.remove(&all[0].address);
        neighbours.insert(all[1].address, all[0].mac);
        neighbours.insert(peer(9).address, peer(9).mac);
        forwardings.remove(&all[2].mac);
        forwardings.insert(all[1].mac, elsewhere);
        forwardings.insert(peer(9).mac, elsewhere);
        let found = peer_differences("n", &peers, &neighbours, &forwardings);
        let problems: Vec<&str> = found.iter().map(|one| one.problem.as_str()).collect();
        assert_eq!(
            problems,
            [
                "does not know the link address of 10.0.1.1",
                "has a wrong link address for 10.0.1.2",
                "sends what is for 10.0.1.2 to 192.0.2.9, not to 192.0.2.2",
                "does not know that 10.0.1.3 is on host 192.0.2.2",
                "knows 10.0.1.9, which nobody on another host has",
                "sends frames to 192.0.2.9 for a link address that nobody has",
            ]
        );
    }

    #[test]
    fn chains_are_compared_by_their_rules() {
        let table = rules::task(Some((5, 6)), [].into_iter());
        let of = |chain: &str, rules| (chain.to_owned(), rules);
        let same = BTreeMap::from([of("output", 2), of("arrivals", 1)]);
        assert_eq!(rule_differences("t", &table, &same), []);
        let other = BTreeMap::from([of("output", 3), of("arrivals", 1), of("mine", 0)]);
        let problems: Vec<String> =
            rule_differences("t", &table, &other).into_iter().map(|d| d.problem).collect();
        assert_eq!(
            problems,
            ["chain `output` holds 3 rules instead of 2", "chain `mine` is not its own"]
        );
        let gone = rule_differences("t", &table, &BTreeMap::new());
        let gone: Vec<String> = gone.into_iter().map(|one| one.problem).collect();
        assert_eq!(gone, ["chain `arrivals` is gone", "chain `output` is gone"]);
    }
}
