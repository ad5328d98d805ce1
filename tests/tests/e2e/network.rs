//! Names, addresses and published ports across hosts.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};

use crate::lab::{Lab, address, eventually};

/// Asks what a container can ask, and prints one line of JSON for each round.
const ASK: &str = r#"
import json, socket, time, urllib.request

def fetch(host):
    try:
        return urllib.request.urlopen(f"http://{host}/", timeout=2).read().decode().strip()
    except OSError as error:
        return f"failed: {error}"

def addresses(name):
    try:
        return sorted({found[4][0] for found in socket.getaddrinfo(name, 80, socket.AF_INET)})
    except OSError:
        return None

while True:
    print(json.dumps({
        "who": sorted({fetch("who") for _ in range(12)}),
        "vip": addresses("who"),
        "tasks": addresses("tasks.who"),
        "each": addresses("each"),
        "alone": addresses("alone"),
        "nobody": addresses("nobody.invalid"),
    }), flush=True)
    time.sleep(0.3)
"#;

#[test]
fn names_and_addresses_reach_across_hosts() {
    let lab = Lab::up("names");
    let stack = format!(
        r#"
services:
  who:
    image: busybox
    command: sh -c 'hostname > /index.html; httpd -f -p 80 -h /'
    deploy: {{replicas: 3}}
    networks: [a]
  each:
    image: busybox
    command: httpd -f -p 80
    deploy: {{replicas: 3, endpoint_mode: dnsrr}}
    networks: [a]
  ask:
    image: python:alpine
    command: ["python", "-c", {}]
    networks: [a]
  alone:
    image: busybox
    command: httpd -f -p 80
    networks: [b]
networks:
  a:
  b:
"#,
        serde_json::to_string(ASK).unwrap()
    );
    lab.deploy("net", &stack);
    let answers = eventually(40, "each backend of a service has answered", || {
        let text = lab.run(&["logs", "net_ask", "--raw", "--tail", "1"]);
        let answers: serde_json::Value = serde_json::from_str(text.lines().last()?).ok()?;
        let who = answers["who"].as_array()?;
        let whole = who.len() == 3 && !text.contains("failed");
        whole.then_some(answers)
    });
    let count = |key: &str| answers[key].as_array().map_or(0, Vec::len);
    assert_eq!((count("vip"), count("tasks"), count("each")), (1, 3, 3), "{answers}");
    assert!(!answers["tasks"].as_array().unwrap().contains(&answers["vip"][0]), "{answers}");
    assert!(answers["alone"].is_null() && answers["nobody"].is_null(), "{answers}");
}

#[test]
fn a_published_port_answers_on_every_host_and_goes_with_its_stack() {
    let lab = Lab::up("ports");
    lab.deploy(
        "p",
        r#"
services:
  echo:
    image: busybox
    command: nc -ll -p 7000 -e cat
    ports: ["7001:7000"]
"#,
    );
    for from in ["n1", "n2", "n3"] {
        for to in ["n1", "n2", "n3"] {
            eventually(10, "an echo comes back", || {
                let mut stream = lab.connect(from, address(to), 7001).ok()?;
                stream.write_all(b"hello").ok()?;
                let mut answer = [0; 5];
                stream.read_exact(&mut answer).ok()?;
                (&answer == b"hello").then_some(())
            });
        }
        eventually(10, "the loopback answers as well", || {
            lab.connect(from, Ipv4Addr::LOCALHOST, 7001).ok()
        });
    }
    let said = lab.try_deploy(
        "q",
        "services:\n  other:\n    image: busybox\n    command: sleep 1\n    ports: [\"7001:80\"]\n",
    );
    assert_eq!(said.code, 1, "{said:#?}");
    assert!(said.stderr.contains("7001") && said.stderr.contains("p_echo"), "{said:#?}");
    lab.run(&["stack", "rm", "p"]);
    eventually(20, "the port is closed again", || {
        lab.connect("n1", address("n2"), 7001).is_err().then_some(())
    });
}

#[test]
fn rules_that_others_flush_come_back() {
    let lab = Lab::with("flush", &["--hosts", "1", "--controllers", "1"]);
    lab.deploy(
        "f",
        "services:\n  echo:\n    image: busybox\n    command: nc -ll -p 7000 -e cat\n    ports: [\"7001:7000\"]\n",
    );
    let answers = || lab.connect("n1", address("n1"), 7001).ok();
    eventually(10, "the port answers", answers);
    lab.exec("n1", &["nft", "flush", "ruleset"]);
    eventually(5, "the port answers again", answers);
}

#[test]
fn a_firewall_chain_that_would_drop_traffic_is_named() {
    let lab = Lab::with("firewall", &["--hosts", "1", "--controllers", "1"]);
    let warned = || lab.json(&["node", "ls"])[0]["warnings"].to_string();
    let named = || warned().contains("chain `FORWARD` of table `ip filter` (Docker) drops");
    assert!(!named(), "{}", warned());
    lab.exec(
        "n1",
        &[
            "nft",
            "add table ip filter; add chain ip filter DOCKER-USER; \
             add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }; \
             add rule ip filter FORWARD jump DOCKER-USER",
        ],
    );
    eventually(30, "the chain is named", || named().then_some(()));
    lab.exec("n1", &["nft", "delete table ip filter"]);
    eventually(30, "the warning goes with the chain", || (!named()).then_some(()));
}

#[test]
fn a_relay_dials_outside_only_what_it_was_told() {
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = outside.local_addr().unwrap().to_string();
    let lab = Lab::with("relay", &["--hosts", "1", "--controllers", "1", "--relay", &target]);
    let configuration = lab.exec("n1", &["cat", "/etc/swarm/agent.toml"]);
    assert!(configuration.contains("proxy = \"http://10.77.0.254:3128\""), "{configuration}");
    let ask = |target: &str| {
        let mut stream = lab.connect("n1", Ipv4Addr::new(10, 77, 0, 254), 3128).unwrap();
        write!(stream, "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").unwrap();
        stream
    };
    let mut inside = ask(&target);
    let (mut served, _) = outside.accept().unwrap();
    served.write_all(b"from outside").unwrap();
    drop(served);
    let mut text = String::new();
    inside.read_to_string(&mut text).unwrap();
    assert_eq!(text, "HTTP/1.1 200 Connection established\r\n\r\nfrom outside");

    text.clear();
    ask("127.0.0.1:22").read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 403 "), "{text}");
}

#[test]
fn hosts_that_are_cut_apart_do_not_hear_each_other_until_healed() {
    let lab = Lab::up("cut");
    let controller = |from: &str, to: &str| lab.connect(from, address(to), 2377).is_ok();
    let pairs = |wanted: &[(&str, &str, bool)]| {
        let found: BTreeSet<_> =
            wanted.iter().map(|(from, to, _)| (*from, *to, controller(from, to))).collect();
        assert_eq!(found, wanted.iter().copied().collect());
    };
    lab.lab("cut", &["n1", "n2"]);
    pairs(&[("n1", "n2", false), ("n2", "n1", false), ("n1", "n3", true), ("n3", "n2", true)]);
    lab.lab("cut", &["n3"]);
    pairs(&[("n1", "n3", false), ("n3", "n2", false)]);
    lab.lab("heal", &[]);
    pairs(&[("n1", "n2", true), ("n2", "n1", true), ("n3", "n2", true)]);
    lab.leader();
}
