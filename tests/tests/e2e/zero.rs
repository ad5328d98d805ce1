//! A service that goes to zero, and that the first connection brings back.

use std::thread;
use std::time::Duration;

use crate::lab::{Lab, address, eventually, throughout};

/// `web` starts in a second and is healthy one later; `bare` listens in the same time, and nobody looks at its health;
/// `client` asks both by their names.
const SHOP: &str = r"
services:
  web:
    image: busybox
    command: sh -c 'mkdir /w; echo hello > /w/index.html; sleep 1; exec httpd -f -p 80 -h /w'
    stop_grace_period: 1s
    ports: ['8090:80']
    healthcheck: {test: ['CMD', 'wget', '-q', '-O', '-', 'http://127.0.0.1/'], interval: 1s}
    x-swarm: {autoscale: {min: 0, max: 2, requests: 1000, stabilisation: 5s, cool_down: 1s}}
  bare:
    image: busybox
    command: sh -c 'mkdir /w; echo bare > /w/index.html; sleep 2; exec httpd -f -p 81 -h /w'
    stop_grace_period: 1s
    ports: ['8091:81']
    x-swarm: {autoscale: {min: 0, max: 2, requests: 1000, stabilisation: 5s, cool_down: 1s}}
  client:
    image: busybox
    command: sleep 100000
    stop_grace_period: 1s
";

fn sleeps(lab: &Lab, service: &str) {
    let what = format!("{service} is at zero");
    eventually(90, &what, || {
        let held = &lab.json(&["autoscale", service])[0]["held"];
        let says = held.as_str().is_some_and(|held| held == "at zero, wakes on connection");
        (says && lab.running(service).is_empty()).then_some(())
    });
}

#[test]
fn the_first_connection_to_a_service_at_zero_waits_and_is_answered() {
    let lab = Lab::up("zero");
    lab.deploy("shop", SHOP);
    sleeps(&lab, "shop_web");
    let listed = lab.run(&["service", "ls"]);
    assert!(listed.contains("0/0 (wakes on connection)"), "{listed}");
    // The same file again is no wish for tasks.
    lab.deploy("shop", SHOP);
    assert!(lab.running("shop_web").is_empty());

    // From a container.
    assert_eq!(lab.inside("shop_client.1", "wget -q -O - http://web/").trim(), "hello");
    assert_eq!(lab.running("shop_web").len(), 1);
    let events = lab.run(&["events"]);
    assert!(events.contains("from 0 to 1: a connection waits"), "{events}");

    // Once nobody asks any more, none is left; then through the port of whichever host, all at once.
    sleeps(&lab, "shop_web");
    let hosts = ["n1", "n2", "n3"];
    let answers = thread::scope(|scope| {
        let asked = hosts.map(|host| {
            let lab = &lab;
            scope.spawn(move || lab.get_patiently(host, 8090))
        });
        asked.map(|one| one.join().expect("no panic"))
    });
    for (answer, host) in answers.into_iter().zip(hosts) {
        let text = answer.unwrap_or_else(|error| panic!("through {host}: {error}"));
        assert_eq!(text.trim(), "hello", "through {host}");
    }

    // A connection that is open keeps its task.
    let open = lab.connect("n1", address("n1"), 8090).unwrap();
    throughout(Duration::from_secs(20), || assert_eq!(lab.running("shop_web").len(), 1));
    drop(open);
    sleeps(&lab, "shop_web");

    // A changed file changes what a service at zero is, without a task; a connection begins it.
    lab.deploy("shop", &SHOP.replace("echo hello", "echo changed"));
    assert_eq!(lab.inside("shop_client.1", "wget -q -O - http://web/").trim(), "changed");
    sleeps(&lab, "shop_web");
}

#[test]
fn a_connection_waits_until_a_task_listens_whose_health_nobody_looks_at() {
    let lab = Lab::up("listens");
    lab.deploy("shop", SHOP);
    // Its client tries again each second, and so twice while the task does not listen yet.
    for _ in 0..2 {
        sleeps(&lab, "shop_bare");
        assert_eq!(lab.inside("shop_client.1", "wget -q -O - http://bare:81/").trim(), "bare");
    }
    sleeps(&lab, "shop_bare");
    assert_eq!(lab.get_patiently("n2", 8091).unwrap().trim(), "bare");
}
