//! Two hosts and their containers: the overlay, virtual addresses, names, published ports.

use std::net::Ipv4Addr;
use std::time::Duration;

use swarm_proto::object::AllocatedPort;
use swarm_proto::spec::Protocol;
use swarm_runtime::kernel::Namespace;
use swarm_runtime::kernel::netlink::Socket;

use super::lab::*;

fn both(names: &[&str]) -> std::collections::BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_reach_each_other_across_hosts() {
    let mut lab = Lab::new(2).await;
    let mut plan = Plan::new(1, 2, &[(11, 1), (12, 2), (13, 2)]);
    plan.vips = vec![(100, vec![12, 13]), (101, vec![])];
    plan.names = vec![("svc", vec![100]), ("tasks.svc", vec![12, 13]), ("one.1", vec![12])];
    let (first, second) = ([plan.for_host(1)], [plan.for_host(2)]);
    // In any order: a task before its network, and everything twice.
    let a = lab.hosts[0].attach(&plan.task(11), &first).await;
    lab.hosts[0].apply(&first).await;
    lab.hosts[1].apply(&second).await;
    let b = lab.hosts[1].attach(&plan.task(12), &second).await;
    let c = lab.hosts[1].attach(&plan.task(13), &second).await;
    lab.hosts[1].attach(&plan.task(13), &second).await;
    lab.hosts[1].apply(&second).await;
    for (place, name) in [(&a, "a"), (&b, "b"), (&c, "c")] {
        lab.echo(place, 7000, name);
    }

    // By address, both ways, with the sender's own address; and on the same host.
    assert_eq!(ask(&a, (plan.address(12), 7000)).unwrap(), ("b".to_owned(), plan.address(11)));
    assert_eq!(ask(&b, (plan.address(11), 7000)).unwrap(), ("a".to_owned(), plan.address(12)));
    assert_eq!(ask(&b, (plan.address(13), 7000)).unwrap(), ("c".to_owned(), plan.address(12)));
    // By name.
    assert_eq!(resolve(&a, "one.1.").await, [plan.address(12).to_string()]);
    let mut tasks = resolve(&a, "TASKS.svc.").await;
    tasks.sort();
    assert_eq!(tasks, [plan.address(12).to_string(), plan.address(13).to_string()]);
    let vip: Ipv4Addr = resolve(&a, "svc.").await[0].parse().unwrap();
    // By virtual address, spread over both, from another host and from a backend itself.
    assert_eq!(ask_often(&a, (vip, 7000), 40), both(&["b", "c"]));
    assert_eq!(ask_often(&b, (vip, 7000), 40), both(&["b", "c"]));
    // A service without a running task refuses.
    assert_refused(&a, (plan.address(101), 7000));
    for host in &lab.hosts {
        host.remove_all().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_message_crosses_the_tunnel() {
    let mut lab = Lab::new(2).await;
    let plan = Plan::new(1, 2, &[(11, 1), (12, 2)]);
    let a = lab.hosts[0].attach(&plan.task(11), &[plan.for_host(1)]).await;
    let b = lab.hosts[1].attach(&plan.task(12), &[plan.for_host(2)]).await;
    lab.echo(&b, 7000, &"x".repeat(200_000));
    let (name, _) = ask(&a, (plan.address(12), 7000)).unwrap();
    assert_eq!(name.len(), 200_000);
    let mut socket = swarm_runtime::kernel::netlink::Socket::open_in(&a).unwrap();
    assert_eq!(socket.link("eth0").unwrap().mtu, 1450);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_task_is_found_at_its_new_host() {
    let mut lab = Lab::new(2).await;
    let mut plan = Plan::new(1, 2, &[(11, 1), (12, 2)]);
    let a = lab.hosts[0].attach(&plan.task(11), &[plan.for_host(1)]).await;
    let b = lab.hosts[1].attach(&plan.task(12), &[plan.for_host(2)]).await;
    lab.echo(&b, 7000, "there");
    assert_eq!(ask(&a, (plan.address(12), 7000)).unwrap().0, "there");
    // The same address is given to a task on the first host: no stale entry may lead to the second.
    lab.programs.abort_all();
    lab.hosts[1].networks().detach(plan.task(12).id).await.unwrap();
    plan.tasks.insert(12, 1);
    plan.version = 2;
    lab.hosts[1].apply(&[plan.for_host(2)]).await;
    lab.hosts[0].apply(&[plan.for_host(1)]).await;
    let b = lab.hosts[0].attach(&plan.task(12), &[plan.for_host(1)]).await;
    lab.echo(&b, 7000, "here");
    assert_eq!(ask(&a, (plan.address(12), 7000)).unwrap().0, "here");
}

#[tokio::test(flavor = "multi_thread")]
async fn published_ports_answer_on_every_host() {
    let mut lab = Lab::new(2).await;
    let mut plan = Plan::new(1, 2, &[(11, 1), (12, 2)]);
    plan.ports = vec![
        (port(5001, 7000, None), vec![11, 12]),
        (port(5002, 7000, Some(Ipv4Addr::LOCALHOST)), vec![12]),
        (port(5003, 7000, Some(Ipv4Addr::new(192, 0, 2, 1))), vec![12]),
        (port(5004, 7000, None), vec![]),
    ];
    let a = lab.hosts[0].attach(&plan.task(11), &[plan.for_host(1)]).await;
    let b = lab.hosts[1].attach(&plan.task(12), &[plan.for_host(2)]).await;
    lab.echo(&a, 7000, "a");
    lab.echo(&b, 7000, "b");
    let (one, two) = (lab.hosts[0].address, lab.hosts[1].address);
    let (host1, host2) = (lab.hosts[0].namespace.clone(), lab.hosts[1].namespace.clone());
    let outside = lab.outside.clone();

    let everybody = both(&["a", "b"]);
    for place in [&outside, &host1, &host2, &a, &b] {
        assert_eq!(ask_often(place, (one, 5001), 10), everybody, "{:?}", place.path());
        assert_eq!(ask_often(place, (two, 5001), 10), everybody, "{:?}", place.path());
    }
    for place in [&host1, &host2] {
        assert_eq!(ask_often(place, (Ipv4Addr::LOCALHOST, 5001), 10), everybody);
    }
    // Exactly the named address, nothing wider.
    assert_eq!(ask(&host1, (Ipv4Addr::LOCALHOST, 5002)).unwrap().0, "b");
    assert_eq!(ask(&outside, (one, 5003)).unwrap().0, "b");
    for (place, address, port) in [
        (&outside, one, 5002),
        (&host1, one, 5002),
        (&a, one, 5002),
        (&outside, two, 5003),
        (&host1, Ipv4Addr::LOCALHOST, 5003),
        (&outside, one, 5004),
    ] {
        assert_refused(place, (address, port));
    }
    for host in &lab.hosts {
        host.remove_all().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn established_connections_outlive_a_change_of_backends() {
    let mut lab = Lab::new(2).await;
    let mut plan = Plan::new(1, 2, &[(11, 1), (12, 2), (13, 2)]);
    plan.vips = vec![(100, vec![12])];
    plan.ports = vec![(port(5001, 7000, None), vec![12])];
    let a = lab.hosts[0].attach(&plan.task(11), &[plan.for_host(1)]).await;
    let b = lab.hosts[1].attach(&plan.task(12), &[plan.for_host(2)]).await;
    let c = lab.hosts[1].attach(&plan.task(13), &[plan.for_host(2)]).await;
    lab.echo(&b, 7000, "b");
    lab.echo(&c, 7000, "c");
    let inside = connect(&a, (plan.address(100), 7000)).unwrap();
    let outside = connect(&lab.outside, (lab.hosts[0].address, 5001)).unwrap();
    for version in 2..12 {
        plan.version = version;
        let backend = if version % 2 == 0 { 13 } else { 12 };
        plan.vips = vec![(100, vec![backend])];
        plan.ports = vec![(port(5001, 7000, None), vec![backend])];
        lab.hosts[0].apply(&[plan.for_host(1)]).await;
        let now = if version % 2 == 0 { "c" } else { "b" };
        assert_eq!(ask(&a, (plan.address(100), 7000)).unwrap().0, now);
        assert_eq!(ask(&lab.outside, (lab.hosts[0].address, 5001)).unwrap().0, now);
        assert_eq!(say(&inside).unwrap().0, "b");
        assert_eq!(say(&outside).unwrap().0, "b");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flushed_rules_come_back_at_once() {
    let mut lab = Lab::new(1).await;
    let mut plan = Plan::new(1, 1, &[(11, 1)]);
    plan.ports = vec![(port(5001, 7000, None), vec![11])];
    lab.hosts[0].apply(&[plan.for_host(1)]).await;
    let a = lab.hosts[0].attach(&plan.task(11), &[plan.for_host(1)]).await;
    lab.echo(&a, 7000, "a");
    let host = &lab.hosts[0];
    let before = host.run("nft", &["list", "ruleset"]);
    for disturbance in [
        vec!["flush", "ruleset"],
        vec!["flush", "chain", "ip", "swarm", "ports"],
        vec!["delete", "table", "ip", "swarm"],
        vec!["add rule ip swarm ports drop"],
    ] {
        host.run("nft", &disturbance);
        let healed =
            eventually("our rules", || host.run("nft", &["list", "ruleset"]) == before).await;
        // Milliseconds, when the machine is not busy with other tests.
        assert!(healed < Duration::from_secs(2), "{healed:?} after {disturbance:?}");
        assert_eq!(ask(&lab.outside, (host.address, 5001)).unwrap().0, "a");
    }
    // What others have stays theirs.
    host.run("nft", &["add table ip other"]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(host.run("nft", &["list", "tables"]).lines().count(), 2);
    host.run("nft", &["delete table ip other"]);
    host.remove_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_kernel_forgot_of_other_hosts_is_named() {
    let lab = Lab::new(2).await;
    let plan = Plan::new(1, 2, &[(11, 1), (12, 2)]);
    let host = &lab.hosts[0];
    host.apply(&[plan.for_host(1)]).await;
    let a = host.attach(&plan.task(11), &[plan.for_host(1)]).await;
    assert_eq!(host.networks().differences().await, []);

    let inside = Namespace::open(&host.run_dir.join("netns/net-1")).unwrap();
    let mut socket = Socket::open_in(&inside).unwrap();
    let tunnel = socket.link("vx0").unwrap().index;
    let neighbours = socket.neighbours(tunnel).unwrap();
    let forwardings = socket.forwardings(tunnel).unwrap();
    assert!(neighbours.iter().any(|entry| entry.address == plan.address(12)), "{neighbours:?}");
    socket.delete_neighbours(tunnel, &neighbours).unwrap();
    socket.delete_forwardings(tunnel, &forwardings).unwrap();
    let mut of_task = Socket::open_in(&a).unwrap();
    let mut routes = of_task.routes().unwrap().into_iter();
    let default = routes.find(|route| route.prefix_length == 0).unwrap();
    of_task.delete_route(&default).unwrap();

    let found = host.networks().differences().await;
    let named = |kind: &str, problem: String| {
        assert!(found.iter().any(|d| d.kind == kind && d.problem == problem), "{found:#?}");
    };
    let address = plan.address(12);
    named("neighbour", format!("does not know the link address of {address}"));
    named(
        "forwarding",
        format!("does not know that {address} is on host {}", lab.hosts[1].address),
    );
    named("route", format!("has no default route by {}", default.gateway.unwrap()));

    // As the hint says: an agent that starts puts all in its place again.
    let mut lab = lab;
    lab.hosts[0].start().await;
    let host = &lab.hosts[0];
    host.apply(&[plan.for_host(1)]).await;
    host.attach(&plan.task(11), &[plan.for_host(1)]).await;
    assert_eq!(host.networks().differences().await, []);
    host.remove_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_leave_a_backend_that_is_gone() {
    let mut lab = Lab::new(2).await;
    let mut plan = Plan::new(1, 2, &[(11, 1), (12, 2), (13, 2)]);
    let udp = AllocatedPort { protocol: Protocol::Udp, ..port(5001, 7000, None) };
    plan.vips = vec![(100, vec![12])];
    plan.ports = vec![(udp, vec![12])];
    let a = lab.hosts[0].attach(&plan.task(11), &[plan.for_host(1)]).await;
    let b = lab.hosts[1].attach(&plan.task(12), &[plan.for_host(2)]).await;
    let c = lab.hosts[1].attach(&plan.task(13), &[plan.for_host(2)]).await;
    lab.echo_udp(&b, 7000, "b");
    lab.echo_udp(&c, 7000, "c");
    let open = |place: &swarm_runtime::kernel::Namespace, to: (Ipv4Addr, u16)| {
        let socket = place.enter(|| std::net::UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        socket.connect(to).unwrap();
        socket
    };
    let inside = open(&a, (plan.address(100), 7000));
    let outside = open(&lab.outside, (lab.hosts[0].address, 5001));
    assert_eq!(ask_udp(&inside).unwrap(), "b");
    assert_eq!(ask_udp(&outside).unwrap(), "b");
    plan.version = 2;
    plan.vips = vec![(100, vec![13])];
    plan.ports = vec![(udp, vec![13])];
    lab.hosts[0].apply(&[plan.for_host(1)]).await;
    // The same sockets, whose flows the kernel still remembers.
    assert_eq!(ask_udp(&inside).unwrap(), "c");
    assert_eq!(ask_udp(&outside).unwrap(), "c");
}
