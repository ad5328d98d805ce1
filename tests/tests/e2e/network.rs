//! Names, addresses and published ports across hosts.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::Ipv4Addr;

use crate::lab::{Lab, address, eventually};

#[test]
fn names_and_addresses_reach_across_hosts() {
    let lab = Lab::up("names");
    lab.deploy(
        "net",
        r#"
services:
  who:
    image: busybox
    command: sh -c 'hostname > /index.html; httpd -f -p 80 -h /'
    deploy: {replicas: 3}
    networks: [a]
  each:
    image: busybox
    command: httpd -f -p 80
    deploy: {replicas: 3, endpoint_mode: dnsrr}
    networks: [a]
  ask:
    image: busybox
    command: |
      sh -c 'while true; do
        { for i in 1 2 3 4 5 6 7 8 9 10 11 12; do wget -T 2 -q -O - http://who/ || echo failed; done | sort -u | tr "\n" " "
          echo; nslookup tasks.who 2>&1 | grep -c "^Address.*10\."
          nslookup each 2>&1 | grep -c "^Address.*10\."
          nslookup nobody.invalid >/dev/null 2>&1 || echo unknown
          wget -T 2 -q -O /dev/null http://alone/ || echo apart; } > /r.new 2>&1
        mv /r.new /result; cat /result | tr "\n" "|"; echo; sleep 0.5; done'
    networks: [a]
  alone:
    image: busybox
    command: httpd -f -p 80
    networks: [b]
networks:
  a:
  b:
"#,
    );
    let lines = eventually(40, "one service sees the others", || {
        let text = lab.run(&["logs", "net_ask", "--raw", "--tail", "1"]);
        let line = text.lines().last()?.to_owned();
        let fields: Vec<String> = line.split('|').map(str::to_owned).collect();
        let hosts = fields.first()?.split_whitespace().filter(|word| word.len() > 5).count();
        (fields.len() > 4 && hosts >= 3 && !fields[0].contains("failed")).then_some(fields)
    });
    assert_eq!(&lines[1..5], ["3", "3", "unknown", "apart"], "{lines:?}");
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
