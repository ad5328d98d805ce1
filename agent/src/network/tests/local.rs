//! One host: the way out, the walls between networks, host ports, names, restarts and leftovers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType, rdata::A};
use swarm_proto::id::NetworkId;
use swarm_proto::object::AllocatedPort;
use swarm_proto::spec::{PortMode, Protocol};
use swarm_runtime::kernel::netlink::Socket;
use swarm_runtime::kernel::{Namespace, namespace};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::lab::*;

#[tokio::test(flavor = "multi_thread")]
async fn containers_get_out_but_not_into_other_networks() {
    let mut lab = Lab::new(1).await;
    let (front, mut back) = (Plan::new(1, 1, &[(11, 1)]), Plan::new(2, 1, &[(11, 1)]));
    back.internal = true;
    let assigned = [front.for_host(1), back.for_host(1)];
    lab.hosts[0].apply(&assigned).await;
    let a = lab.hosts[0].attach(&front.task(11), &assigned).await;
    let b = lab.hosts[0].attach(&back.task(11), &assigned).await;
    let outside = lab.outside.clone();
    lab.echo(&outside, 80, "world");
    lab.echo(&a, 7000, "a");
    lab.echo(&b, 7000, "b");

    // Out, with the host's address.
    let world = (Ipv4Addr::new(192, 0, 2, 200), 80);
    assert_eq!(ask(&a, world).unwrap(), ("world".to_owned(), lab.hosts[0].address));
    assert_silent(&b, world);
    // Even where there is a route, neither network reaches the other, nor does the outside.
    let mut socket = Socket::open_in(&b).unwrap();
    socket
        .replace_route(&swarm_runtime::kernel::netlink::Route::default_via(back.address(1)))
        .unwrap();
    assert_silent(&b, world);
    assert_silent(&a, (back.address(11), 7000));
    assert_silent(&b, (front.address(11), 7000));
    let mut socket = Socket::open_in(&outside).unwrap();
    let way = swarm_runtime::kernel::netlink::Route::default_via(lab.hosts[0].address);
    socket.replace_route(&way).unwrap();
    assert_silent(&outside, (front.address(11), 7000));
    // The host itself does.
    let host = lab.hosts[0].namespace.clone();
    assert_eq!(ask(&host, (back.address(11), 7000)).unwrap().0, "b");
}

/// Sends a datagram for a loopback address to a neighbour, as only a hostile machine does.
fn send_to_loopback(from: &Namespace, source: Ipv4Addr, via: Ipv4Addr, to: (Ipv4Addr, u16)) {
    from.write_sysctl("net/ipv4/conf/all/route_localnet", "1").unwrap();
    let ip = |arguments: &[&str]| {
        let output = std::process::Command::new("ip").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let (route, via, from_there) = (format!("{}/32", to.0), via.to_string(), source.to_string());
    let send = || {
        ip(&["route", "del", "local", "127.0.0.0/8", "dev", "lo"]);
        ip(&["route", "del", "local", "127.0.0.1", "dev", "lo"]);
        ip(&["route", "add", &route, "via", &via, "src", &from_there]);
        UdpSocket::bind((source, 0)).unwrap().send_to(b"x", to).unwrap();
    };
    from.enter(send).unwrap();
}

fn assert_hears_nothing(socket: &UdpSocket) {
    socket.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
    assert!(socket.recv(&mut [0; 8]).is_err(), "the loopback was reached");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_loopback_is_not_reachable_from_elsewhere() {
    let lab = Lab::new(1).await;
    let mut plan = Plan::new(1, 1, &[(11, 1)]);
    let local = port(5005, 7000, Some(Ipv4Addr::LOCALHOST));
    plan.ports = vec![(AllocatedPort { protocol: Protocol::Udp, ..local }, vec![11])];
    lab.hosts[0].apply(&[plan.for_host(1)]).await;
    let a = lab.hosts[0].attach(&plan.task(11), &[plan.for_host(1)]).await;
    let host = lab.hosts[0].namespace.clone();
    let private = host.enter(|| UdpSocket::bind("127.0.0.5:999").unwrap()).unwrap();
    let published = a.enter(|| UdpSocket::bind("0.0.0.0:7000").unwrap()).unwrap();

    // A container, whose link is one that routes loopback addresses.
    let private_port = (Ipv4Addr::new(127, 0, 0, 5), 999);
    send_to_loopback(&a, plan.address(11), plan.address(1), private_port);
    assert_hears_nothing(&private);
    // The outside, to a port that is published on the loopback.
    let (outside, published_port) = (Ipv4Addr::new(192, 0, 2, 200), (Ipv4Addr::LOCALHOST, 5005));
    send_to_loopback(&lab.outside, outside, lab.hosts[0].address, published_port);
    assert_hears_nothing(&published);
    // The host itself may.
    host.enter(|| UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", published_port).unwrap())
        .unwrap();
    assert_eq!(published.recv(&mut [0; 8]).unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn host_ports_lead_to_their_task_only_while_it_is_there() {
    let mut lab = Lab::new(1).await;
    let plan = Plan::new(1, 1, &[(11, 1)]);
    let mut task = plan.task(11);
    let mut host_port = port(8080, 7000, None);
    host_port.mode = PortMode::Host;
    task.host_ports = vec![host_port];
    let a = lab.hosts[0].attach(&task, &[plan.for_host(1)]).await;
    lab.echo(&a, 7000, "a");
    let host = &lab.hosts[0];
    assert_eq!(ask(&lab.outside, (host.address, 8080)).unwrap().0, "a");
    assert_eq!(ask(&host.namespace, (Ipv4Addr::LOCALHOST, 8080)).unwrap().0, "a");
    host.networks().detach(task.id).await.unwrap();
    host.networks().detach(task.id).await.unwrap();
    assert_refused(&lab.outside, (host.address, 8080));

    let mut alone = task.clone();
    alone.attachments.clear();
    let error = host.networks().attach(&alone, &BTreeMap::new()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "task 111.1.1 publishes port 8080 of its host but is on no network"
    );
    let mut lost = task.clone();
    lost.attachments[0].network = NetworkId(77);
    let error = host.networks().attach(&lost, &BTreeMap::new()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "task 111.1.1 is on network 77, of which this host has not been told"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_the_outside_are_asked_from_the_host() {
    let mut lab = Lab::new(1).await;
    let plan = Plan::new(1, 1, &[(11, 1)]);
    let networks = [plan.for_host(1)].map(|n| (n.id, Arc::new(n))).into_iter().collect();
    let host = &lab.hosts[0];
    let attached = host.networks().attach(&plan.task(11), &networks).await.unwrap();
    assert_eq!(
        attached.resolv_conf,
        "nameserver 127.0.0.11\nsearch example.org\noptions ndots:0\n"
    );
    assert!(attached.hosts.contains(&("192.0.2.7".parse().unwrap(), "printer".to_owned())));
    assert_eq!(attached.addresses, [plan.address(11)]);
    let a = Namespace::open(&attached.namespace.unwrap()).unwrap();
    // Nobody to ask.
    let code = |reply: Message| reply.response_code();
    assert_eq!(code(query(&a, "example.org.", RecordType::A).await), ResponseCode::ServFail);
    assert_eq!(code(query(&a, "nothing.", RecordType::A).await), ResponseCode::NXDomain);
    // The first resolver refuses, the second answers.
    std::fs::write(
        &host.resolv_conf,
        "nameserver 127.0.0.9\nnameserver 192.0.2.200\nsearch example.org\n",
    )
    .unwrap();
    let outside = lab.outside.clone();
    serve_dns(&mut lab, &outside);
    assert_eq!(resolve(&a, "example.org.").await, ["198.51.100.7"]);
    // The same over TCP, two questions on one connection.
    let mut stream = connect(&a, (Ipv4Addr::new(127, 0, 0, 11), 53)).unwrap();
    for _ in 0..2 {
        use std::io::{Read, Write};
        let question = question("example.org.", RecordType::A);
        stream.write_all(&u16::try_from(question.len()).unwrap().to_be_bytes()).unwrap();
        stream.write_all(&question).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(Message::from_vec(&answer).unwrap().answers().len(), 1);
    }
}

/// A resolver that knows one address for everything, by UDP and TCP.
fn serve_dns(lab: &mut Lab, place: &Namespace) {
    let (udp, tcp) = place
        .enter(|| {
            let at = ("0.0.0.0", 53);
            (UdpSocket::bind(at).unwrap(), std::net::TcpListener::bind(at).unwrap())
        })
        .unwrap();
    udp.set_nonblocking(true).unwrap();
    tcp.set_nonblocking(true).unwrap();
    let udp = tokio::net::UdpSocket::from_std(udp).unwrap();
    let tcp = tokio::net::TcpListener::from_std(tcp).unwrap();
    let answer = |question: &[u8]| {
        let question = Message::from_vec(question).unwrap();
        let mut reply = Message::new();
        reply.set_id(question.id()).set_message_type(hickory_proto::op::MessageType::Response);
        let query = question.query().unwrap().clone();
        let address = A(Ipv4Addr::new(198, 51, 100, 7));
        reply.add_answer(Record::from_rdata(query.name().clone(), 60, RData::A(address)));
        reply.add_query(query);
        reply.to_vec().unwrap()
    };
    lab.programs.spawn(async move {
        let mut buffer = [0; 512];
        loop {
            let (length, peer) = udp.recv_from(&mut buffer).await.unwrap();
            udp.send_to(&answer(&buffer[..length]), peer).await.unwrap();
        }
    });
    lab.programs.spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut question = vec![0; usize::from(length)];
            stream.read_exact(&mut question).await.unwrap();
            let answer = answer(&question);
            stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn another_agent_takes_over_without_a_break() {
    let mut lab = Lab::new(2).await;
    let mut plan = Plan::new(1, 2, &[(11, 1), (12, 2)]);
    plan.names = vec![("b", vec![12])];
    plan.vips = vec![(100, vec![12])];
    let assigned = [plan.for_host(1)];
    let networks: BTreeMap<_, _> =
        assigned.clone().map(|n| (n.id, Arc::new(n))).into_iter().collect();
    let attached = lab.hosts[0].networks().attach(&plan.task(11), &networks).await.unwrap();
    let a = Namespace::open(&attached.namespace.unwrap()).unwrap();
    let b = lab.hosts[1].attach(&plan.task(12), &[plan.for_host(2)]).await;
    lab.echo(&b, 7000, "b");
    let stream = connect(&a, (plan.address(100), 7000)).unwrap();
    assert_eq!(say(&stream).unwrap().0, "b");

    lab.hosts[0].networks = None;
    assert_eq!(say(&stream).unwrap().0, "b", "containers need no agent");
    lab.hosts[0].start().await;
    lab.hosts[0].apply(&assigned).await;
    let kept = attached.dns_sockets;
    assert_eq!(kept.len(), 2);
    let ports = |sockets: &[std::os::fd::OwnedFd]| {
        UdpSocket::from(sockets[0].try_clone().unwrap()).local_addr().unwrap()
    };
    let before = ports(&kept);
    let adopted = lab.hosts[0].networks().adopt(&plan.task(11), &networks, kept).await.unwrap();
    assert_eq!(ports(&adopted.dns_sockets), before);
    assert_eq!(say(&stream).unwrap().0, "b");
    assert_eq!(resolve(&a, "b.").await, [plan.address(12).to_string()]);
    assert_eq!(ask(&a, (plan.address(100), 7000)).unwrap().0, "b");

    // An agent that finds no kept sockets opens new ones, and names are answered all the same.
    lab.hosts[0].networks = None;
    drop(adopted);
    lab.hosts[0].start().await;
    lab.hosts[0].apply(&assigned).await;
    lab.hosts[0].attach(&plan.task(11), &assigned).await;
    assert_eq!(resolve(&a, "b.").await, [plan.address(12).to_string()]);
    assert_eq!(say(&stream).unwrap().0, "b");
    lab.hosts[0].remove_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_is_removed_and_nothing_else() {
    let mut lab = Lab::new(1).await;
    let (kept, gone) = (Plan::new(1, 1, &[(11, 1), (12, 1)]), Plan::new(2, 1, &[(11, 1)]));
    let both = [kept.for_host(1), gone.for_host(1)];
    lab.hosts[0].apply(&both).await;
    let a = lab.hosts[0].attach(&kept.task(11), &both).await;
    lab.hosts[0].attach(&kept.task(12), &both).await;
    lab.hosts[0].attach(&gone.task(11), &both).await;
    lab.hosts[0].networks = None;
    // Half of a namespace, as a power cut leaves it.
    let folder = lab.hosts[0].run_dir.join("netns");
    std::fs::write(folder.join("task-9.1.1"), "").unwrap();
    std::fs::write(folder.join("net-9"), "").unwrap();

    lab.hosts[0].start().await;
    let host = &lab.hosts[0];
    host.apply(&both[..1]).await;
    host.attach(&kept.task(11), &both).await;
    let networks = BTreeSet::from([NetworkId(1)]);
    let tasks = BTreeSet::from([kept.task(11).id]);
    let failures = host.networks().retain(networks, tasks).await;
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(namespace::list(&folder).unwrap(), ["net-1", "task-111.1.1"]);
    let mut socket = Socket::open_in(&host.namespace).unwrap();
    assert!(socket.find_link("sw1").unwrap().is_some());
    assert!(socket.find_link("sw2").unwrap().is_none());
    let ports = host.run(
        "nsenter",
        &[
            &format!("--net={}", folder.join("net-1").display()),
            "ip",
            "-o",
            "link",
            "show",
            "master",
            "br0",
        ],
    );
    assert_eq!(ports.lines().count(), 3, "tunnel, gateway and one task:\n{ports}");
    lab.echo(&a, 7000, "a");
    let host = &lab.hosts[0];
    assert_eq!(ask(&host.namespace, (kept.address(11), 7000)).unwrap().0, "a");
    host.remove_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_goes_with_its_last_task_and_can_come_back() {
    let lab = Lab::new(1).await;
    let plan = Plan::new(1, 1, &[(11, 1)]);
    let host = &lab.hosts[0];
    for _ in 0..5 {
        host.apply(&[plan.for_host(1)]).await;
        host.attach(&plan.task(11), &[plan.for_host(1)]).await;
        // Not wanted any more, but still used.
        host.apply(&[]).await;
        assert_eq!(namespace::list(&host.run_dir.join("netns")).unwrap().len(), 2);
        host.networks().detach(plan.task(11).id).await.unwrap();
        host.assert_clean();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_the_configured_address_says_so() {
    let lab = Lab::new(1).await;
    let config = crate::network::NetworkConfig {
        run_dir: lab.hosts[0].run_dir.clone(),
        underlay: Ipv4Addr::new(203, 0, 113, 1),
        host: lab.hosts[0].namespace.clone(),
        resolv_conf: lab.hosts[0].resolv_conf.clone(),
    };
    let error = crate::network::Networks::new(config).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no link of this host has the address 203.0.113.1 (`advertise_address`)"
    );
}
