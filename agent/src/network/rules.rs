//! What networks and tasks mean for packets, as rules. Pure.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use swarm_proto::assignment::{NetworkAssignment, NetworkIngress};
use swarm_proto::id::{NetworkId, ServiceId};
use swarm_proto::object::AllocatedPort;
use swarm_proto::spec::Protocol;
use swarm_runtime::kernel::nft::{
    Chain, ChainKind, Change, Hook, HookPoint, Log, Match, NamedMap, Rule, Spread, Table,
    Transport, Verdict,
};

use super::hold;
use super::led::LedVip;

/// The one table that is ours, in every namespace.
pub(crate) const TABLE: &str = "swarm";

/// The group of the host's links into networks (the letters `SW`), by which rules know them.
pub(crate) const LINK_GROUP: u32 = 0x5357;

/// Where a container asks for names.
pub(crate) const DNS_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

const LOOPBACK: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 0, 0, 0), 8);

// The usual priorities: before connections are tracked, where destinations and where sources are translated.
const RAW: i32 = -300;
const FILTER: i32 = 0;
const DESTINATION: i32 = -100;
const SOURCE: i32 = 100;

/// The chain of published ports.
const PORTS: &str = "ports";

/// The chain that counts what comes to a task.
pub(super) const ARRIVALS: &str = "arrivals";

fn filter(point: HookPoint, priority: i32) -> Hook {
    Hook { kind: ChainKind::Filter, point, priority }
}

fn nat(point: HookPoint, priority: i32) -> Hook {
    Hook { kind: ChainKind::Nat, point, priority }
}

/// A port of this host that leads to one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HostPort {
    /// The port.
    pub(super) port: AllocatedPort,
    /// The task's address.
    pub(super) address: Ipv4Addr,
}

/// The host's table: published ports, the way out, and the walls between networks. Each of these comes with where its
/// ports lead.
pub(super) fn host<'a>(
    networks: impl Iterator<Item = (&'a NetworkAssignment, &'a [NetworkIngress])> + Clone,
    host_ports: &[HostPort],
) -> Table {
    let ingress = networks.clone().map(|(network, ingress)| (network.id, ingress));
    let networks = networks.map(|(network, _)| network);
    let loopback = |side: fn(Ipv4Addr, u8) -> Match| side(LOOPBACK.0, LOOPBACK.1);
    let ours = || Match::FromGroup(LINK_GROUP);
    let guard = vec![
        Rule::new([ours(), loopback(Match::Destination)], Verdict::Drop),
        Rule::new([ours(), loopback(Match::Source)], Verdict::Drop),
    ];
    let to_ports = Rule::new([Match::LocalDestination], Verdict::Jump(PORTS.to_owned()));
    // What comes from outside never reaches a port of the loopback, whatever its packets claim.
    let not_loopback = Rule::new([loopback(Match::Destination)], Verdict::Return);
    Table {
        name: TABLE.to_owned(),
        chains: vec![
            Chain::base("guard", filter(HookPoint::Prerouting, RAW), guard),
            Chain::base("forward", filter(HookPoint::Forward, FILTER), forward(networks.clone())),
            Chain::base(
                "prerouting",
                nat(HookPoint::Prerouting, DESTINATION),
                vec![not_loopback, to_ports.clone()],
            ),
            Chain::base("output", nat(HookPoint::Output, DESTINATION), vec![to_ports]),
            Chain::base("postrouting", nat(HookPoint::Postrouting, SOURCE), postrouting(networks)),
            Chain::plain(PORTS, ports(ingress, host_ports)),
        ],
    }
}

fn forward<'a>(networks: impl Iterator<Item = &'a NetworkAssignment>) -> Vec<Rule> {
    let mut rules = vec![
        Rule::new([Match::Established], Verdict::Accept),
        Rule::new([Match::Translated], Verdict::Accept),
        // Neither another network nor the outside reaches a container except through a published port.
        Rule::new([Match::ToGroup(LINK_GROUP)], Verdict::Drop),
    ];
    let internal = networks.filter(|network| network.internal && network.gateway.is_some());
    rules.extend(
        internal
            .map(|network| Rule::new([Match::FromLink(gateway_link(network.id))], Verdict::Drop)),
    );
    rules
}

fn postrouting<'a>(networks: impl Iterator<Item = &'a NetworkAssignment>) -> Vec<Rule> {
    // What was led into a network must come back through this host, so it goes in with this host's address there.
    let mut rules =
        vec![Rule::new([Match::ToGroup(LINK_GROUP), Match::Translated], Verdict::Masquerade)];
    let outward = networks.filter(|network| !network.internal && network.gateway.is_some());
    rules.extend(outward.map(|network| {
        let source = Match::Source(network.subnet, network.prefix_length);
        Rule::new([source, Match::NotToGroup(LINK_GROUP)], Verdict::Masquerade)
    }));
    rules
}

fn ports<'a>(
    networks: impl Iterator<Item = (NetworkId, &'a [NetworkIngress])>,
    host_ports: &[HostPort],
) -> Vec<Rule> {
    let own = |own: &HostPort| (own.port, port_rule(&own.port, vec![own.address], None));
    let mut all: Vec<_> = host_ports.iter().map(own).collect();
    for (network, ingress) in networks {
        for NetworkIngress { at: port, backends, wakes } in ingress {
            if backends.is_empty() {
                all.extend(wakes.map(|service| (*port, port_hold(port, service))));
                continue;
            }
            let map = NamedMap { name: port_map(network, port), places: backends.len() };
            all.push((*port, port_rule(port, backends.clone(), Some(map))));
        }
    }
    // One address is more exact than every address.
    all.sort_by_key(|(port, _)| (port.host_address.is_none(), *port));
    all.into_iter().map(|(_, rule)| rule).collect()
}

fn port_rule(port: &AllocatedPort, to: Vec<Ipv4Addr>, map: Option<NamedMap>) -> Rule {
    let spread = Spread::Turns;
    Rule::new(port_matches(port), Verdict::Dnat { to, port: Some(port.target), spread, map })
}

/// The map in which a port's tasks are exchanged.
fn port_map(network: NetworkId, port: &AllocatedPort) -> String {
    let at = port.host_address.map(|address| format!(".{address}")).unwrap_or_default();
    format!("{PORTS}.{network}.{}.{}{at}", port.protocol, port.published)
}

/// What comes to the port waits, and is told of.
fn port_hold(port: &AllocatedPort, service: ServiceId) -> Rule {
    Rule::new(port_matches(port), Verdict::Drop).logged(told(service))
}

fn told(service: ServiceId) -> Log {
    Log { group: hold::GROUP, prefix: hold::prefix(service) }
}

fn port_matches(port: &AllocatedPort) -> Vec<Match> {
    let address = port.host_address.filter(|address| !address.is_unspecified());
    let mut matches: Vec<_> =
        address.map(|address| Match::Destination(address, 32)).into_iter().collect();
    matches.push(Match::Port(transport(port.protocol), port.published));
    matches
}

fn transport(protocol: Protocol) -> Transport {
    match protocol {
        Protocol::Tcp => Transport::Tcp,
        Protocol::Udp => Transport::Udp,
    }
}

/// The table of a task's namespace: names, then the virtual addresses of each of its networks.
pub(super) fn task<'a>(
    dns: Option<(u16, u16)>,
    networks: impl Iterator<Item = (NetworkId, &'a [LedVip])>,
) -> Table {
    let mut output = Vec::new();
    if let Some((udp, tcp)) = dns {
        output.extend([(Transport::Udp, udp), (Transport::Tcp, tcp)].map(|(transport, port)| {
            let matches = [Match::Destination(DNS_ADDRESS, 32), Match::Port(transport, 53)];
            let (to, spread, map) = (vec![DNS_ADDRESS], Spread::Turns, None);
            Rule::new(matches, Verdict::Dnat { to, port: Some(port), spread, map })
        }));
    }
    let mut chains = Vec::new();
    for (network, vips) in networks {
        output.push(Rule::new([], Verdict::Jump(vip_chain(network))));
        chains.extend(vip_chains(network, vips));
    }
    chains.push(Chain::base("output", nat(HookPoint::Output, DESTINATION), output));
    // Only the first packet of a connection gets here.
    let count = Rule::new([Match::NotFromLink("lo".to_owned())], Verdict::Count);
    chains.push(Chain::base(ARRIVALS, nat(HookPoint::Input, SOURCE), vec![count]));
    Table { name: TABLE.to_owned(), chains }
}

/// Only the virtual addresses of one network, for a task that is already connected to it.
pub(super) fn vips(network: NetworkId, vips: &[LedVip]) -> Table {
    Table { name: TABLE.to_owned(), chains: vip_chains(network, vips) }
}

/// What makes the rules of one [`vips`] those of another; `None` where they are the same.
pub(super) fn vip_change(network: NetworkId, old: &[LedVip], new: &[LedVip]) -> Option<Change> {
    let shape = |vip: &LedVip| (vip.lead.at, vip.lead.wakes, vip.lead.backends.is_empty());
    if !old.iter().map(shape).eq(new.iter().map(shape)) {
        return Change::between(&vips(network, old), &vips(network, new));
    }
    let differ = || old.iter().zip(new).filter(|(old, new)| old.lead.backends != new.lead.backends);
    let table = |chains: Vec<Chain>| Table { name: TABLE.to_owned(), chains };
    let old = differ().filter_map(|(old, _)| leading_chain(network, old)).collect();
    let new = differ().filter_map(|(_, new)| leading_chain(network, new)).collect();
    Change::between(&table(old), &table(new))
}

/// The chain that leads the virtual addresses of a network.
fn vip_chain(network: NetworkId) -> String {
    format!("net{network}")
}

/// The chain that leads one of them.
fn own_chain(network: NetworkId, vip: &LedVip) -> String {
    format!("{}.{}", vip_chain(network), vip.lead.at)
}

/// That chain, where the address leads to tasks: when these come and go, no other one is touched.
fn leading_chain(network: NetworkId, vip: &LedVip) -> Option<Chain> {
    let name = own_chain(network, vip);
    let draw = |places| {
        let map = Some(NamedMap { name: name.clone(), places });
        let (to, spread) = (vip.lead.backends.clone(), Spread::Random);
        Rule::new([], Verdict::Dnat { to, port: None, spread, map })
    };
    let rules = || vip.draws().into_iter().map(draw).collect();
    (!vip.lead.backends.is_empty()).then(|| Chain::plain(&name, rules()))
}

fn vip_chains(network: NetworkId, vips: &[LedVip]) -> Vec<Chain> {
    let rules = vips.iter().flat_map(|vip| {
        let to = || Match::Destination(vip.lead.at, 32);
        match (vip.lead.backends.as_slice(), vip.lead.wakes) {
            ([], None) => vec![Rule::new([to()], Verdict::Reject)],
            ([], Some(service)) => vec![
                Rule::new([to(), Match::Protocol(Transport::Tcp)], Verdict::Drop)
                    .logged(told(service)),
                // Datagrams are told of as well, but only connections can wait.
                Rule::new([to(), Match::Protocol(Transport::Udp)], Verdict::Reject)
                    .logged(told(service)),
                Rule::new([to()], Verdict::Reject),
            ],
            _ => vec![Rule::new([to()], Verdict::Jump(own_chain(network, vip)))],
        }
    });
    let mut chains = vec![Chain::plain(&vip_chain(network), rules.collect())];
    chains.extend(vips.iter().filter_map(|vip| leading_chain(network, vip)));
    chains
}

/// The virtual addresses at which connections wait.
pub(super) fn held(vips: &[LedVip]) -> BTreeSet<Ipv4Addr> {
    let at_zero =
        vips.iter().filter(|vip| vip.lead.backends.is_empty() && vip.lead.wakes.is_some());
    at_zero.map(|vip| vip.lead.at).collect()
}

/// The services at whose published ports connections wait.
pub(super) fn held_ports<'a>(
    networks: impl Iterator<Item = &'a NetworkAssignment>,
) -> BTreeSet<ServiceId> {
    let ports = networks.flat_map(|network| &network.ingress);
    ports.filter(|port| port.backends.is_empty()).filter_map(|port| port.wakes).collect()
}

/// The name of the host's link into a network.
pub(super) fn gateway_link(network: NetworkId) -> String {
    format!("sw{network}")
}

#[cfg(test)]
pub(super) mod tests {
    use std::fmt::Write;

    use expect_test::expect;
    use swarm_proto::assignment::NetworkVip;
    use swarm_proto::spec::PortMode;

    use super::*;

    fn text(table: &Table) -> String {
        let mut text = String::new();
        for chain in &table.chains {
            writeln!(text, "{}", chain.name).unwrap();
            for rule in &chain.rules {
                writeln!(text, "  {rule}").unwrap();
            }
        }
        text
    }

    fn port(published: u16, protocol: Protocol, host_address: Option<Ipv4Addr>) -> AllocatedPort {
        AllocatedPort { published, target: 80, protocol, mode: PortMode::Ingress, host_address }
    }

    pub(in crate::network) fn network(
        id: u64,
        internal: bool,
        ingress: Vec<NetworkIngress>,
    ) -> NetworkAssignment {
        let last = u8::try_from(id).unwrap();
        NetworkAssignment {
            id: NetworkId(id),
            name: "n".to_owned(),
            version: 1,
            vni: 1,
            vxlan_port: 4789,
            subnet: Ipv4Addr::new(10, last, 0, 0),
            prefix_length: 24,
            internal,
            gateway: Some((Ipv4Addr::new(10, last, 0, 4), [2, 0, 0, 0, 0, last])),
            peers: Vec::new(),
            names: imbl::OrdMap::new(),
            vips: Vec::new(),
            ingress,
        }
    }

    #[test]
    fn a_host_with_two_networks() {
        let at = |last| Ipv4Addr::new(10, 1, 0, last);
        let lead = |port, backends: &[u8]| NetworkIngress {
            at: port,
            backends: backends.iter().map(|last| at(*last)).collect(),
            wakes: None,
        };
        let ingress = vec![
            lead(port(5001, Protocol::Tcp, None), &[11, 12, 13]),
            lead(port(5002, Protocol::Tcp, Some(Ipv4Addr::UNSPECIFIED)), &[11]),
            lead(port(5003, Protocol::Udp, None), &[]),
            NetworkIngress {
                wakes: Some(ServiceId(9)),
                ..lead(port(5004, Protocol::Tcp, None), &[])
            },
            lead(port(9000, Protocol::Tcp, Some(Ipv4Addr::LOCALHOST)), &[11]),
        ];
        let networks = [network(1, false, ingress), network(2, true, Vec::new())];
        let own = HostPort { port: port(53, Protocol::Udp, None), address: at(14) };
        expect![[r#"
            guard
              iifgroup 21335 ip daddr 127.0.0.0/8 drop
              iifgroup 21335 ip saddr 127.0.0.0/8 drop
            forward
              ct state established,related accept
              ct status dnat accept
              oifgroup 21335 drop
              iifname "sw2" drop
            prerouting
              ip daddr 127.0.0.0/8 return
              fib daddr type local jump ports
            output
              fib daddr type local jump ports
            postrouting
              oifgroup 21335 ct status dnat masquerade
              ip saddr 10.1.0.0/24 oifgroup != 21335 masquerade
            ports
              tcp dport 5002 dnat to 10.1.0.11:80
              ip daddr 127.0.0.1 tcp dport 9000 dnat to 10.1.0.11:80
              udp dport 53 dnat to 10.1.0.14:80
              tcp dport 5001 dnat to numgen inc mod 3 map @ports.1.tcp.5001:80
              tcp dport 5004 log prefix "swarm 9" group 21335 drop
        "#]]
        .assert_eq(&text(&host(networks.iter().map(|one| (one, one.ingress.as_slice())), &[own])));
    }

    #[test]
    fn a_task_on_two_networks() {
        let at = |last| Ipv4Addr::new(10, 1, 0, last);
        let vip = |last, backends: &[u8], wakes: Option<u64>| {
            let backends = backends.iter().map(|last| at(*last)).collect();
            LedVip::new(&NetworkVip { at: at(last), backends, wakes: wakes.map(ServiceId) })
        };
        let many: Vec<u8> = (1..=80).collect();
        let front = [
            vip(100, &[1, 2], None),
            vip(101, &[], None),
            vip(102, &[], Some(9)),
            vip(103, &[3], Some(8)),
            vip(104, &many, None),
        ];
        let networks = [(NetworkId(1), front.as_slice()), (NetworkId(2), &[])];
        assert_eq!(held(&front), [at(102)].into());
        expect![[r#"
            net1
              ip daddr 10.1.0.100 jump net1.10.1.0.100
              ip daddr 10.1.0.101 reject
              ip daddr 10.1.0.102 meta l4proto tcp log prefix "swarm 9" group 21335 drop
              ip daddr 10.1.0.102 meta l4proto udp log prefix "swarm 9" group 21335 reject
              ip daddr 10.1.0.102 reject
              ip daddr 10.1.0.103 jump net1.10.1.0.103
              ip daddr 10.1.0.104 jump net1.10.1.0.104
            net1.10.1.0.100
              dnat to numgen random mod 2 map @net1.10.1.0.100
            net1.10.1.0.103
              dnat to 10.1.0.3
            net1.10.1.0.104
              dnat to numgen random mod 84 map @net1.10.1.0.104
              dnat to numgen random mod 84 map @net1.10.1.0.104
              dnat to numgen random mod 84 map @net1.10.1.0.104
              dnat to numgen random mod 76 map @net1.10.1.0.104
            net2
            output
              ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:40000
              ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:40001
              jump net1
              jump net2
            arrivals
              iifname != "lo" counter
        "#]]
        .assert_eq(&text(&task(Some((40_000, 40_001)), networks.into_iter())));
    }
}
