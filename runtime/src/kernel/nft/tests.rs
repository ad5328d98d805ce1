//! Against the real kernel, compared with what `nft list ruleset` reads back.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use expect_test::expect;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::kernel::{namespace, netlink};

struct Scratch {
    _folder: tempfile::TempDir,
    path: PathBuf,
    namespace: Namespace,
}

impl Scratch {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        namespace::create(&path).unwrap();
        let namespace = Namespace::open(&path).unwrap();
        Self { _folder: folder, path, namespace }
    }

    fn nft(&self, arguments: &[&str]) -> String {
        let output =
            self.namespace.enter(|| Command::new("nft").args(arguments).output()).unwrap().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        namespace::delete(&self.path).unwrap();
    }
}

fn hook(kind: ChainKind, point: HookPoint, priority: i32) -> Hook {
    Hook { kind, point, priority }
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 0, last)
}

/// Every condition and every verdict.
fn everything() -> Table {
    let subnet = Match::Source(Ipv4Addr::new(10, 1, 0, 0), 16);
    let lead = |to, port, spread| Verdict::Dnat { to, port, spread, map: None };
    let backends = |port, spread| lead(vec![address(2), address(3)], port, spread);
    let ports = vec![
        Rule::new([Match::Port(Transport::Tcp, 5001)], backends(Some(5000), Spread::Turns)),
        Rule::new(
            [Match::Destination(address(1), 32), Match::Port(Transport::Udp, 53)],
            lead(vec![address(2)], Some(5353), Spread::Random),
        ),
        Rule::new([Match::Destination(address(9), 32)], backends(None, Spread::Random)),
        Rule::new(
            [Match::Destination(address(7), 32), Match::Protocol(Transport::Tcp)],
            Verdict::Drop,
        )
        .logged(Log { group: 7, prefix: "service 1".to_owned() }),
        Rule::new([Match::Destination(address(8), 32)], Verdict::Reject),
    ];
    let forward = vec![
        Rule::new([Match::Established], Verdict::Accept),
        Rule::new([Match::Translated], Verdict::Accept),
        Rule::new([Match::FromGroup(7), Match::ToGroup(7)], Verdict::Drop),
        Rule::new([Match::FromLink("sw1".to_owned()), Match::NotToGroup(7)], Verdict::Drop),
        Rule::new([Match::NotFromLink("lo".to_owned())], Verdict::Accept),
    ];
    let prerouting = vec![
        Rule::new([Match::Destination(Ipv4Addr::new(127, 0, 0, 0), 8)], Verdict::Return),
        Rule::new([Match::LocalDestination], Verdict::Jump("ports".to_owned())),
    ];
    let postrouting = vec![Rule::new([subnet, Match::NotToGroup(7)], Verdict::Masquerade)];
    let (filter, nat) = (ChainKind::Filter, ChainKind::Nat);
    Table {
        name: "swarm".to_owned(),
        chains: vec![
            Chain::base("forward", hook(filter, HookPoint::Forward, 0), forward),
            Chain::base("prerouting", hook(nat, HookPoint::Prerouting, -100), prerouting),
            Chain::base("postrouting", hook(nat, HookPoint::Postrouting, 100), postrouting),
            Chain::plain("ports", ports),
        ],
    }
}

#[test]
fn the_kernel_holds_what_the_data_says() {
    let scratch = Scratch::new();
    let mut socket = Socket::open_in(&scratch.namespace).unwrap();
    socket.apply(&everything()).unwrap();
    let first = scratch.nft(&["list", "ruleset"]);
    expect![[r#"
        table ip swarm {
        	chain forward {
        		type filter hook forward priority filter; policy accept;
        		ct state established,related accept
        		ct status dnat accept
        		iifgroup 7 oifgroup 7 drop
        		iifname "sw1" oifgroup != 7 drop
        		iifname != "lo" accept
        	}

        	chain prerouting {
        		type nat hook prerouting priority dstnat; policy accept;
        		ip daddr 127.0.0.0/8 return
        		fib daddr type local jump ports
        	}

        	chain postrouting {
        		type nat hook postrouting priority srcnat; policy accept;
        		ip saddr 10.1.0.0/16 oifgroup != 7 masquerade
        	}

        	chain ports {
        		tcp dport 5001 dnat to numgen inc mod 2 map { 0 : 10.1.0.2, 1 : 10.1.0.3 }:5000
        		ip daddr 10.1.0.1 udp dport 53 dnat to 10.1.0.2:5353
        		ip daddr 10.1.0.9 dnat to numgen random mod 2 map { 0 : 10.1.0.2, 1 : 10.1.0.3 }
        		ip daddr 10.1.0.7 meta l4proto tcp log prefix "service 1" group 7 drop
        		ip daddr 10.1.0.8 reject
        	}
        }
    "#]]
    .assert_eq(&first);
    let counts = socket.rule_counts("swarm").unwrap();
    let written = everything().chains.into_iter().map(|chain| (chain.name, chain.rules.len()));
    assert_eq!(counts, written.collect());
    assert!(socket.rule_counts("other").unwrap().is_empty());
    // Twice is the same as once, and the text form agrees with nft's.
    socket.apply(&everything()).unwrap();
    assert_eq!(scratch.nft(&["list", "ruleset"]), first);
    for rule in everything().chains.iter().flat_map(|chain| &chain.rules) {
        assert!(first.contains(&rule.to_string()), "`{rule}` is not in\n{first}");
    }
}

#[test]
fn only_the_named_chains_of_our_table_change() {
    let scratch = Scratch::new();
    let mut socket = Socket::open_in(&scratch.namespace).unwrap();
    scratch.nft(&["add table ip other; add chain ip other mine; add rule ip other mine accept"]);
    socket.apply(&everything()).unwrap();
    let rules = vec![Rule::new([Match::Port(Transport::Tcp, 80)], Verdict::Drop)];
    let part = Table { name: "swarm".to_owned(), chains: vec![Chain::plain("ports", rules)] };
    socket.apply(&part).unwrap();
    assert_eq!(
        scratch.nft(&["list", "chain", "ip", "swarm", "ports"]),
        "table ip swarm {\n\tchain ports {\n\t\ttcp dport 80 drop\n\t}\n}\n"
    );
    let all = scratch.nft(&["list", "ruleset"]);
    assert!(all.contains("jump ports") && all.contains("chain mine"), "{all}");
    assert!(!all.contains("map"), "the old rules' maps went with them:\n{all}");

    socket.delete_table("swarm").unwrap();
    socket.delete_table("swarm").unwrap();
    let all = scratch.nft(&["list", "ruleset"]);
    assert!(!all.contains("swarm") && all.contains("chain mine"), "{all}");
}

#[test]
fn a_refused_rule_is_named_and_nothing_changes() {
    let scratch = Scratch::new();
    let mut socket = Socket::open_in(&scratch.namespace).unwrap();
    let mut table = everything();
    table.chains[1].rules.push(Rule::new([], Verdict::Jump("nowhere".to_owned())));
    let error = socket.apply(&table).unwrap_err();
    assert_eq!(
        error.to_string(),
        "could not add the rule `jump nowhere` to chain `prerouting` of table `swarm`"
    );
    assert_eq!(scratch.nft(&["list", "ruleset"]), "");
    socket.apply(&everything()).unwrap();
    assert_ne!(scratch.nft(&["list", "ruleset"]), "");
}

#[test]
fn many_rules_with_many_backends_go_in_at_once() {
    let scratch = Scratch::new();
    let mut socket = Socket::open_in(&scratch.namespace).unwrap();
    let backends: Vec<_> = (0..2500_u32).map(|n| Ipv4Addr::from_bits(0x0a02_0000 + n)).collect();
    let rule = |n: u16| {
        let to = if n == 0 { backends.clone() } else { backends[..20].to_vec() };
        let target = Verdict::Dnat { to, port: None, spread: Spread::Random, map: None };
        Rule::new([Match::Destination(Ipv4Addr::from_bits(0x0a01_0000 + u32::from(n)), 32)], target)
    };
    let chain = Chain::base(
        "output",
        hook(ChainKind::Nat, HookPoint::Output, -100),
        (0..500).map(rule).collect(),
    );
    socket.apply(&Table { name: "swarm".to_owned(), chains: vec![chain] }).unwrap();
    let all = scratch.nft(&["list", "ruleset"]);
    assert_eq!(all.matches("dnat").count(), 500);
    assert!(all.contains("2499 : 10.2.9.195"));
}

/// A chain that leads addresses, each by a chain of its own with a map: the first one to the first so many, and so on.
fn leading(counts: &[&[u8]]) -> Table {
    let own = |last: usize| format!("net3.{last}");
    let jump = |(last, to): (usize, &&[u8])| {
        let matches = [Match::Destination(address(u8::try_from(100 + last).unwrap()), 32)];
        let jump = Verdict::Jump(own(last));
        Rule::new(matches, if to.is_empty() { Verdict::Reject } else { jump })
    };
    let rules = counts.iter().enumerate().map(jump).collect();
    let chain = |(last, to): (usize, &&[u8])| {
        let to: Vec<_> = to.iter().map(|last| address(*last)).collect();
        let map = Some(NamedMap { name: own(last), places: to.len() });
        let port = (last == 1).then_some(80);
        let rule = Rule::new(
            [Match::Protocol(Transport::Tcp)],
            Verdict::Dnat { to, port, spread: Spread::Random, map },
        );
        Chain::plain(&own(last), vec![rule])
    };
    let own = counts.iter().enumerate().filter(|(_, to)| !to.is_empty()).map(chain);
    let chains: Vec<Chain> = [Chain::plain("net3", rules)].into_iter().chain(own).collect();
    let output = hook(ChainKind::Nat, HookPoint::Output, -100);
    let jump = vec![Rule::new([], Verdict::Jump("net3".to_owned()))];
    let chains = [Chain::base("output", output, jump)].into_iter().chain(chains);
    Table { name: "swarm".to_owned(), chains: chains.collect() }
}

#[test]
fn single_addresses_are_exchanged() {
    let scratch = Scratch::new();
    let mut socket = Socket::open_in(&scratch.namespace).unwrap();
    let before = leading(&[&[1, 2, 3], &[7]]);
    socket.apply(&before).unwrap();
    let after = leading(&[&[3, 2, 4], &[7]]);
    let change = Change::between(&before, &after).unwrap();
    // The map is exchanged in place, and no rule is touched.
    assert_eq!(format!("{change:?}").matches("Rule(").count(), 2, "{change:?}");
    socket.change(&change).unwrap();
    expect![[r"
        table ip swarm {
        	map net3.0 {
        		type mark : ipv4_addr
        		elements = { 0x00000000 : 10.1.0.3, 0x00000001 : 10.1.0.2, 0x00000002 : 10.1.0.4 }
        	}

        	chain output {
        		type nat hook output priority -100; policy accept;
        		jump net3
        	}

        	chain net3 {
        		ip daddr 10.1.0.100 jump net3.0
        		ip daddr 10.1.0.101 jump net3.1
        	}

        	chain net3.0 {
        		meta l4proto tcp dnat to numgen random mod 3 map @net3.0
        	}

        	chain net3.1 {
        		meta l4proto tcp dnat to 10.1.0.7:80
        	}
        }
    "]]
    .assert_eq(&scratch.nft(&["list", "ruleset"]));
    assert!(Change::between(&after, &after).is_none());
}

/// What `nft list ruleset` says, in an order of its own: chains and elements stand there as they came.
fn listed(scratch: &Scratch) -> Vec<String> {
    let text = scratch.nft(&["list", "ruleset"]);
    let mut blocks: Vec<String> = text.split("\n\t}").map(str::trim).map(str::to_owned).collect();
    for block in &mut blocks {
        *block = block.trim_start_matches("table ip swarm {").trim().to_owned();
        if block.starts_with("map") {
            let mut elements: Vec<_> = block.split([',', '{', '}']).map(str::trim).collect();
            elements.sort_unstable();
            *block = elements.join(" ");
        }
    }
    blocks.sort();
    blocks
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// However a table became what it is, the kernel holds the same.
    #[test]
    fn a_way_of_changes_leads_where_filling_anew_does(
        way in vec(vec(vec(1..9_u8, 0..5), 1..4), 2..6),
    ) {
        let (changed, filled) = (Scratch::new(), Scratch::new());
        let mut socket = Socket::open_in(&changed.namespace).unwrap();
        let table = |of: &Vec<Vec<u8>>| leading(&of.iter().map(Vec::as_slice).collect::<Vec<_>>());
        socket.apply(&table(&way[0])).unwrap();
        for (before, after) in way.iter().zip(&way[1..]) {
            if let Some(change) = Change::between(&table(before), &table(after)) {
                socket.change(&change).unwrap();
            }
            let mut other = Socket::open_in(&filled.namespace).unwrap();
            other.apply(&table(after)).unwrap();
            prop_assert_eq!(listed(&changed), listed(&filled));
        }
    }
}

/// Most of the places are empty, and whoever draws one draws again.
#[test]
fn an_empty_place_leads_to_the_next_rule() {
    let scratch = Scratch::new();
    let mut links = netlink::Socket::open_in(&scratch.namespace).unwrap();
    let link = links.link("lo").unwrap().index;
    links.set_up(link, true).unwrap();
    let listeners = [1, 2].map(|last| {
        let address = netlink::Address { link, address: address(last), prefix_length: 24 };
        links.add_address(address).unwrap();
        scratch.namespace.enter(|| TcpListener::bind((self::address(last), 80)).unwrap()).unwrap()
    });
    let draw = |places: usize| {
        let (to, map) = (vec![address(1), address(2)], NamedMap { name: "out.1".into(), places });
        let matches = [Match::Destination(address(100), 32)];
        Rule::new(matches, Verdict::Dnat { to, port: None, spread: Spread::Random, map: Some(map) })
    };
    let output = hook(ChainKind::Nat, HookPoint::Output, -100);
    let chain = Chain::base("out", output, vec![draw(1_000), draw(40), draw(2)]);
    let mut socket = Socket::open_in(&scratch.namespace).unwrap();
    socket.apply(&Table { name: "swarm".to_owned(), chains: vec![chain] }).unwrap();
    let connect = || TcpStream::connect((address(100), 80)).unwrap().peer_addr().unwrap();
    for _ in 0..40 {
        assert_eq!(scratch.namespace.enter(connect).unwrap().ip(), address(100));
    }
    let came = listeners.map(|listener| {
        listener.set_nonblocking(true).unwrap();
        std::iter::from_fn(|| listener.accept().ok()).count()
    });
    assert!(came[0] + came[1] == 40 && came[0] > 0 && came[1] > 0, "{came:?}");
}

#[test]
fn changes_of_others_are_heard_and_counted() {
    let scratch = Scratch::new();
    let mut changes = Changes::listen_in(&scratch.namespace).unwrap();
    let mut socket = Socket::open_in(&scratch.namespace).unwrap();
    assert!(!changes.take().unwrap());
    let before = socket.generation().unwrap();
    socket.apply(&everything()).unwrap();
    assert_eq!(socket.generation().unwrap(), before + 1);
    assert!(changes.take().unwrap());
    assert!(!changes.take().unwrap());
    scratch.nft(&["flush", "ruleset"]);
    assert!(changes.take().unwrap());
    assert_eq!(socket.generation().unwrap(), before + 2);
}

#[test]
fn chains_that_drop_are_found() {
    let scratch = Scratch::new();
    let mut socket = Socket::open_in(&scratch.namespace).unwrap();
    scratch.nft(&["add table ip filter; \
        add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }; \
        add chain ip filter INPUT { type filter hook input priority 0; policy accept; }; \
        add rule ip filter INPUT tcp dport 22 accept; \
        add rule ip filter INPUT counter reject; \
        add table inet fine; \
        add chain inet fine input { type filter hook input priority 10; policy accept; }; \
        add rule inet fine input counter drop; \
        add rule inet fine input tcp dport 22 drop; \
        add table ip6 other; \
        add chain ip6 other forward { type filter hook forward priority 0; policy drop; };"]);
    let mut found: Vec<_> = socket
        .base_chains()
        .unwrap()
        .into_iter()
        .map(|chain| (chain.table, chain.name, chain.drops_by_default, chain.ends_in_drop))
        .collect();
    found.sort();
    let chain =
        |table: &str, name: &str, default, last| (table.to_owned(), name.to_owned(), default, last);
    assert_eq!(
        found,
        [
            chain("filter", "FORWARD", true, false),
            chain("filter", "INPUT", false, true),
            chain("fine", "input", false, false),
        ]
    );
}
