//! The main job: the counter app on three hosts.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::lab::{Lab, eventually};

/// The number and the container in a page of the counter app.
fn read_page(page: &str) -> (u32, String) {
    let number = page.strip_prefix("Visit number ").and_then(|rest| rest.split_once(','));
    let container = page.trim_end().trim_end_matches('.').rsplit(' ').next().unwrap();
    (number.unwrap_or_else(|| panic!("{page}")).0.parse().unwrap(), container.to_owned())
}

#[test]
fn the_counter_counts_on_every_host_and_a_second_deploy_changes_nothing() {
    let lab = Lab::up("counter");
    lab.deploy_counter();

    // Running is not listening yet, and nobody told the cluster how to look.
    eventually(20, "each replica listens", || {
        let text = lab.run(&["logs", "counter_web-fe"]);
        (text.matches("Running on all addresses").count() == 3).then_some(())
    });
    let mut numbers = Vec::new();
    let mut containers = BTreeSet::new();
    for request in 0..30 {
        let host = ["n1", "n2", "n3"][request % 3];
        let (number, container) = read_page(&lab.get(host, 5001).unwrap());
        numbers.push(number);
        containers.insert(container);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=30).collect::<Vec<u32>>());
    assert_eq!(containers.len(), 3, "{containers:?}");

    let nodes: BTreeSet<String> =
        lab.running("counter_web-fe").into_iter().map(|task| task.node).collect();
    assert_eq!(nodes.len(), 3, "replicas are spread");

    let before = lab.tasks();
    let said = lab.deploy_counter();
    assert!(
        said.stderr.contains("nothing changed") || said.stderr.contains("unchanged"),
        "{said:#?}"
    );
    assert_eq!(lab.tasks(), before);

    assert_forwards(&lab);
}

/// The page can be had on the machine's own loopback through `lab forward`.
fn assert_forwards(lab: &Lab) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = port.to_string();
    let mut forward = lab
        .command(&["lab", "forward", "--name", lab.name(), "5001", "--listen", &listen])
        .spawn()
        .unwrap();
    let page = eventually(10, "the forwarded port answers", || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).ok()?;
        Some(page)
    });
    forward.kill().unwrap();
    forward.wait().unwrap();
    assert!(page.contains("Visit number 31"), "{page}");
}

#[test]
fn a_stack_scales_up_and_down_and_is_removed() {
    let lab = Lab::up("scale");
    lab.deploy_counter();
    lab.run(&["service", "scale", "counter_web-fe=5"]);
    eventually(30, "five replicas run", || {
        (lab.running("counter_web-fe").len() == 5).then_some(())
    });
    lab.run(&["service", "scale", "counter_web-fe=1"]);
    eventually(30, "one replica runs", || (lab.running("counter_web-fe").len() == 1).then_some(()));
    for host in ["n1", "n2", "n3"] {
        eventually(10, "the one replica answers on each host", || lab.get(host, 5001).ok());
    }
    lab.run(&["stack", "rm", "counter"]);
    eventually(30, "no container is left", || {
        ["n1", "n2", "n3"].iter().all(|host| lab.contained(host).is_empty()).then_some(())
    });
    assert!(lab.get("n1", 5001).is_err());
}
