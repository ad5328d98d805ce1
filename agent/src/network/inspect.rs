//! What the kernel holds of networks and tasks beside what this host made. It changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;

use swarm_runtime::kernel::netlink::{Link, Socket};
use swarm_runtime::kernel::{Namespace, namespace, nft};

use super::host::{Host, NetworkRecord, TaskRecord};
use super::overlay::{BRIDGE, GATEWAY_PORT, TUNNEL, port_name};
use super::rules::{self, LINK_GROUP, gateway_link};
use super::{KernelError, task};
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
        let links = by_name(Socket::open_in(&Namespace::open(&path)?)?.links()?);
        let attachments = self.tasks.values().flat_map(|task| &task.attachments);
        let ours = attachments.filter(|place| place.network == record.assignment.id);
        let ports: BTreeSet<String> = ours.map(|place| port_name(place.address)).collect();
        let gateway = record.assignment.gateway.map(|_| GATEWAY_PORT);
        let wanted = [BRIDGE, TUNNEL].into_iter().chain(gateway);
        let wanted = wanted.chain(ports.iter().map(String::as_str));
        let of = format!("of {name}");
        let mut found: Vec<Difference> =
            wanted.filter_map(|link| link_difference(&links, link, &of)).collect();
        let strays = links.keys().filter(|link| is_port(link) && !ports.contains(*link));
        found.extend(strays.map(|link| {
            Difference::stray("link", link, format!("on {name} leads to no task of this host"))
        }));
        Ok(found)
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
        let networks = record.attachments.iter().filter_map(|place| {
            let network = self.networks.get(&place.network)?;
            Some((place.network, network.assignment.vips.as_slice()))
        });
        let ports = record.dns.ports().map_err(KernelError::Sockets)?;
        let table = rules::task(Some(ports), networks);
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
    fn chains_are_compared_by_their_rules() {
        let table = rules::task(Some((5, 6)), [].into_iter());
        let same = BTreeMap::from([(String::from("output"), 2)]);
        assert_eq!(rule_differences("t", &table, &same), []);
        let other = BTreeMap::from([(String::from("output"), 3), (String::from("mine"), 0)]);
        let problems: Vec<String> =
            rule_differences("t", &table, &other).into_iter().map(|d| d.problem).collect();
        assert_eq!(
            problems,
            ["chain `output` holds 3 rules instead of 2", "chain `mine` is not its own"]
        );
        let gone = rule_differences("t", &table, &BTreeMap::new());
        assert_eq!(gone[0].problem, "chain `output` is gone");
    }
}
