//! Connections to a service at zero: they wait, somebody is told, and they are answered once a task serves.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use swarm_proto::id::{ServiceId, TaskId};
use swarm_runtime::kernel::nft::Socket;
use swarm_runtime::kernel::{Namespace, namespace};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::lab::*;
use crate::network::TABLE;
use crate::network::hold::listens;

const WEB: ServiceId = ServiceId(7);
const VIP: u8 = 100;

type Answer = io::Result<(String, Ipv4Addr)>;

/// A network with the service 7 at zero, which publishes 5001, and a container 12 on the first host.
fn at_zero(hosts: u8) -> Plan {
    let mut plan = Plan::new(1, hosts, &[(12, 1)]);
    plan.vips = vec![(VIP, Vec::new())];
    plan.ports = vec![(port(5001, 7000, None), Vec::new())];
    plan.wakes = Some(WEB);
    plan
}

/// The same once its task 11 serves on this host.
fn served(plan: &Plan, host: u8) -> Plan {
    let mut served = plan.clone();
    served.version += 1;
    served.tasks.insert(11, host);
    served.vips = vec![(VIP, vec![11])];
    served.ports = vec![(port(5001, 7000, None), vec![11])];
    served
}

fn ask_later(from: &Namespace, to: (Ipv4Addr, u16)) -> JoinHandle<Answer> {
    let from = from.clone();
    spawn_blocking(move || ask(&from, to))
}

/// Waits until so many connections wait on a host, and returns for whom it said so.
async fn waiting(host: &Host, count: usize) {
    let told = timeout(PATIENCE, host.networks().demand()).await.expect("to be told in time");
    assert_eq!(told, [WEB].into());
    let hold = &host.networks().hold;
    eventually("that all wait", || hold.count() >= count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_answered_once_a_task_serves() {
    let mut lab = Lab::new(2).await;
    let plan = at_zero(2);
    let now = [plan.for_host(1), plan.for_host(2)];
    lab.hosts[0].apply(&now[..1]).await;
    lab.hosts[1].apply(&now[1..]).await;
    let client = lab.hosts[0].attach(&plan.task(12), &now[..1]).await;
    let (outside, host) = (lab.outside.clone(), lab.hosts[0].namespace.clone());
    let addresses = [lab.hosts[0].address, lab.hosts[1].address];
    let inside = ask_later(&client, (plan.address(VIP), 7000));
    let published = ask_later(&outside, (addresses[0], 5001));
    let own = ask_later(&host, (addresses[0], 5001));
    let loopback = ask_later(&host, (Ipv4Addr::LOCALHOST, 5001));
    let of_container = ask_later(&client, (addresses[0], 5001));
    let elsewhere = ask_later(&outside, (addresses[1], 5001));
    waiting(&lab.hosts[0], 5).await;
    waiting(&lab.hosts[1], 1).await;

    let served = served(&plan, 2);
    let next = [served.for_host(1), served.for_host(2)];
    let web = lab.hosts[1].attach(&served.task(11), &next[1..]).await;
    lab.echo(&web, 7000, "web");
    lab.hosts[0].apply(&next[..1]).await;
    lab.hosts[1].apply(&next[1..]).await;
    for host in &lab.hosts {
        assert_eq!(host.networks().hold.count(), 0);
    }
    let gateway = |host: u8| plan.address(host);
    let expected = [
        (inside, plan.address(12)),
        (published, gateway(1)),
        (own, gateway(1)),
        (loopback, gateway(1)),
        (of_container, gateway(1)),
        (elsewhere, gateway(2)),
    ];
    for (number, (answer, seen)) in expected.into_iter().enumerate() {
        let answer = timeout(PATIENCE, answer).await.expect("an answer in time").unwrap();
        assert_eq!(answer.unwrap(), ("web".to_owned(), seen), "connection {number}");
    }
    // The next ones do not wait, and nobody is told any more.
    assert_eq!(ask(&client, (plan.address(VIP), 7000)).unwrap().0, "web");
    assert_eq!(ask(&outside, (addresses[0], 5001)).unwrap().0, "web");
    for host in &lab.hosts {
        let told = timeout(Duration::from_millis(1_500), host.networks().demand()).await;
        assert!(told.is_err(), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_is_asked_until_it_listens() {
    let mut lab = Lab::new(1).await;
    let (host, port) =
        (lab.hosts[0].namespace.clone(), SocketAddrV4::new(lab.hosts[0].address, 7000));
    let asked = tokio::spawn({
        let host = host.clone();
        async move { listens(&host, port).await }
    });
    assert_refused(&host, (*port.ip(), port.port()));
    assert!(!asked.is_finished());
    lab.echo(&host, 7000, "web");
    timeout(PATIENCE, asked).await.expect("to see it listen").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_listens_once_others_reach_a_socket_of_it() {
    let mut lab = Lab::new(1).await;
    let plan = served(&at_zero(1), 1);
    lab.hosts[0].apply(&[plan.for_host(1)]).await;
    let web = lab.hosts[0].attach(&plan.task(11), &[plan.for_host(1)]).await;
    let task = plan.task(11).id;
    // Its names are answered within it, by the agent.
    assert!(!lab.hosts[0].networks().listens(task).await.unwrap());
    let own = web.enter(|| std::net::TcpListener::bind("127.0.0.1:7000").unwrap()).unwrap();
    assert!(!lab.hosts[0].networks().listens(task).await.unwrap());
    drop(own);
    lab.echo(&web, 7000, "web");
    assert!(lab.hosts[0].networks().listens(task).await.unwrap());
    let gone = lab.hosts[0].networks().listens(plan.task(99).id).await;
    assert!(gone.is_err(), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_service_that_goes_is_refused() {
    let lab = Lab::new(1).await;
    let mut plan = at_zero(1);
    lab.hosts[0].apply(&[plan.for_host(1)]).await;
    let client = lab.hosts[0].attach(&plan.task(12), &[plan.for_host(1)]).await;
    let inside = ask_later(&client, (plan.address(VIP), 7000));
    let published = ask_later(&lab.outside, (lab.hosts[0].address, 5001));
    waiting(&lab.hosts[0], 2).await;
    (plan.version, plan.wakes) = (2, None);
    lab.hosts[0].apply(&[plan.for_host(1)]).await;
    for answer in [inside, published] {
        let error = timeout(PATIENCE, answer).await.unwrap().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
    assert_refused(&client, (plan.address(VIP), 7000));
    assert_eq!(lab.hosts[0].networks().hold.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datagram_is_told_of_and_refused() {
    let lab = Lab::new(1).await;
    let plan = at_zero(1);
    lab.hosts[0].apply(&[plan.for_host(1)]).await;
    let client = lab.hosts[0].attach(&plan.task(12), &[plan.for_host(1)]).await;
    let to = (plan.address(VIP), 53);
    let socket = client.enter(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(to).unwrap();
        socket
    });
    let refused = ask_udp(&socket.unwrap()).unwrap_err();
    // The kernel's word to the sender of a packet that a rule stops.
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    waiting(&lab.hosts[0], 0).await;
}

/// What came to a task, and what is open.
async fn seen(host: &Host, task: TaskId) -> (Option<u64>, Option<u64>) {
    let networks = host.networks();
    (networks.arrivals(task).await.unwrap(), networks.open_connections(task).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_to_a_task_is_counted_once_and_seen_while_it_is_open() {
    let mut lab = Lab::new(2).await;
    let plan = served(&at_zero(2), 2);
    let all = [plan.for_host(1), plan.for_host(2)];
    lab.hosts[0].apply(&all[..1]).await;
    lab.hosts[1].apply(&all[1..]).await;
    let client = lab.hosts[0].attach(&plan.task(12), &all[..1]).await;
    let web = lab.hosts[1].attach(&plan.task(11), &all[1..]).await;
    lab.echo(&web, 7000, "web");
    let (task, outside) = (plan.task(11).id, lab.outside.clone());
    assert_eq!(seen(&lab.hosts[1], task).await, (Some(0), Some(0)));
    // What the task says to itself does not count.
    ask(&web, (plan.address(11), 7000)).unwrap();
    ask(&web, (Ipv4Addr::LOCALHOST, 7000)).unwrap();
    assert_eq!(seen(&lab.hosts[1], task).await, (Some(0), Some(0)));
    let inside = connect(&client, (plan.address(VIP), 7000)).unwrap();
    let published = connect(&outside, (lab.hosts[0].address, 5001)).unwrap();
    let direct = connect(&client, (plan.address(11), 7000)).unwrap();
    for _ in 0..3 {
        say(&inside).unwrap();
        say(&published).unwrap();
    }
    assert_eq!(seen(&lab.hosts[1], task).await, (Some(3), Some(3)));
    drop((inside, direct));
    // New addresses elsewhere change nothing of what was counted.
    let mut other = plan.clone();
    other.version += 1;
    other.vips.push((101, Vec::new()));
    lab.hosts[1].apply(&[other.for_host(2)]).await;
    let end = Instant::now() + PATIENCE;
    while seen(&lab.hosts[1], task).await != (Some(3), Some(1)) {
        assert!(
            Instant::now() < end,
            "closed connections are not open: {:?}",
            seen(&lab.hosts[1], task).await
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    say(&published).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_what_waited() {
    let lab = Lab::new(1).await;
    let plan = at_zero(1);
    lab.hosts[0].apply(&[plan.for_host(1)]).await;
    let client = lab.hosts[0].attach(&plan.task(12), &[plan.for_host(1)]).await;
    let inside = ask_later(&client, (plan.address(VIP), 7000));
    let published = ask_later(&lab.outside, (lab.hosts[0].address, 5001));
    waiting(&lab.hosts[0], 2).await;
    let networks = lab.hosts[0].networks();
    networks.detach(plan.task(12).id).await.unwrap();
    assert!(networks.apply([].into()).await.failures.is_empty());
    assert!(networks.retain([].into(), [].into()).await.is_empty());
    let mut rules = Socket::open_in(&lab.hosts[0].namespace).unwrap();
    assert!(rules.rule_counts(TABLE).unwrap().is_empty());
    assert!(namespace::list(&lab.hosts[0].run_dir.join("netns")).unwrap().is_empty());
    assert_eq!(networks.hold.count(), 0);
    assert!(timeout(PATIENCE, published).await.unwrap().unwrap().is_err());
    assert!(timeout(2 * PATIENCE, inside).await.unwrap().unwrap().is_err());
}
