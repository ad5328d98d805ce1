//! Against the real kernel, each in a namespace of its own.

use std::net::{TcpListener, UdpSocket};
use std::process::Command;

use swarm_runtime::kernel::netlink::{Address, LinkKind, NewLink, Route};

use super::*;

fn host() -> Namespace {
    let host = Namespace::scratch().unwrap();
    let mut socket = Socket::open_in(&host).unwrap();
    let lo = socket.link("lo").unwrap().index;
    socket.set_up(lo, true).unwrap();
    socket.add_link(&NewLink { up: true, ..NewLink::new("eth0", LinkKind::Bridge) }).unwrap();
    let link = socket.link("eth0").unwrap().index;
    let address = Address { link, address: Ipv4Addr::new(192, 0, 2, 1), prefix_length: 24 };
    socket.add_address(address).unwrap();
    host.write_sysctl("net/ipv4/ip_forward", "1").unwrap();
    host
}

fn nft(host: &Namespace, script: &str) {
    let run = || Command::new("nft").arg(script).status().unwrap();
    assert!(host.enter(run).unwrap().success());
}

#[test]
fn a_plain_host_has_nothing_in_the_way() {
    let host = host();
    let needed = vec![(Protocol::Udp, 4789), (Protocol::Tcp, 2387)];
    let facts = Preflight::new(host, needed).look();
    let routed_prefixes = vec![(Ipv4Addr::new(192, 0, 2, 0), 24)];
    assert_eq!(facts, Facts { routed_prefixes, ..Facts::default() });
}

#[test]
fn routes_are_those_of_others() {
    let host = host();
    let mut socket = Socket::open_in(&host).unwrap();
    let at = |text: &str| text.parse::<Ipv4Addr>().unwrap();
    socket.replace_route(&Route::default_via(at("192.0.2.254"))).unwrap();
    let office = Route { gateway: Some(at("192.0.2.9")), ..Route::on_link(at("10.0.0.0"), 8, 0) };
    socket.replace_route(&Route { link: None, ..office }).unwrap();
    let group = Some(LINK_GROUP);
    socket.add_link(&NewLink { group, up: true, ..NewLink::new("sw1", LinkKind::Bridge) }).unwrap();
    let link = socket.link("sw1").unwrap().index;
    socket.add_address(Address { link, address: at("10.9.1.1"), prefix_length: 24 }).unwrap();
    let facts = Preflight::new(host, Vec::new()).look();
    assert_eq!(facts.routed_prefixes, [(at("10.0.0.0"), 8), (at("192.0.2.0"), 24)]);
}

#[test]
fn listeners_are_named_with_their_program() {
    let host = host();
    let mut preflight = Preflight::new(host.clone(), vec![(Protocol::Udp, 4789)]);
    assert!(preflight.look().listeners.is_empty());
    let open = || {
        (
            TcpListener::bind("127.0.0.1:5432").unwrap(),
            TcpListener::bind("[::]:80").unwrap(),
            UdpSocket::bind("0.0.0.0:4789").unwrap(),
            UdpSocket::bind("0.0.0.0:0").unwrap(),
        )
    };
    let sockets = host.enter(open).unwrap();
    let facts = preflight.look();
    let own = std::fs::read_to_string("/proc/self/comm").unwrap().trim_end().to_owned();
    let found: Vec<_> = facts
        .listeners
        .iter()
        .map(|found| format!("{}:{}/{} {}", found.address, found.port, found.protocol, found.owner))
        .collect();
    let expected = ["0.0.0.0:80/tcp", "127.0.0.1:5432/tcp", "0.0.0.0:4789/udp"];
    assert_eq!(found, expected.map(|at| format!("{at} {own}")));
    let warning = format!("`{own}` listens on port 4789/udp, which this cluster needs itself");
    assert_eq!(facts.warnings, [warning]);
    drop(sockets);
    assert!(preflight.look().listeners.is_empty());
}

#[test]
fn chains_that_drop_are_named() {
    let host = host();
    nft(
        &host,
        "add table ip filter; \
         add chain ip filter ufw-before-input; \
         add chain ip filter DOCKER-USER; \
         add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }; \
         add rule ip filter FORWARD jump DOCKER-USER; \
         add chain ip filter INPUT { type filter hook input priority 0; policy drop; }; \
         add rule ip filter INPUT jump ufw-before-input; \
         add table inet firewalld; \
         add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; policy accept; }; \
         add rule inet firewalld filter_FORWARD ct state established accept; \
         add rule inet firewalld filter_FORWARD reject with icmpx admin-prohibited; \
         add table ip swarm; \
         add chain ip swarm forward { type filter hook forward priority 0; policy drop; }; \
         add table ip fine; \
         add chain ip fine forward { type filter hook forward priority 5; policy accept; }",
    );
    let needed = vec![(Protocol::Udp, 4789), (Protocol::Tcp, 2387)];
    let warnings = Preflight::new(host, needed).look().warnings;
    expect_test::expect![[r"
        chain `FORWARD` of table `ip filter` (Docker) drops by default: it must let pass what links named `sw*` send and receive, or containers reach nothing outside of their networks and published ports do not answer
        chain `INPUT` of table `ip filter` (ufw) drops by default: it must let in ports 4789/udp, 2387/tcp from the other hosts
        chain `filter_FORWARD` of table `inet firewalld` (firewalld) ends with a drop: it must let pass what links named `sw*` send and receive, or containers reach nothing outside of their networks and published ports do not answer"]].assert_eq(&warnings.join("\n"));
}

#[test]
fn forwarding_that_was_off_is_told() {
    let host = host();
    host.write_sysctl("net/ipv4/ip_forward", "0").unwrap();
    let mut preflight = Preflight::new(host.clone(), Vec::new());
    assert!(preflight.look().warnings[0].starts_with("IPv4 forwarding was off"));
    host.write_sysctl("net/ipv4/ip_forward", "1").unwrap();
    assert_eq!(preflight.look().warnings.len(), 1, "what was turned on stays told");
}
