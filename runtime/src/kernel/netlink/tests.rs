//! Against the real kernel, each in a namespace of its own.

use std::net::Ipv4Addr;

use super::*;
use crate::kernel::namespace;

struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn namespace(&self, name: &str) -> Namespace {
        let path = self.folder.path().join(name);
        namespace::create(&path).unwrap();
        Namespace::open(&path).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for name in namespace::list(self.folder.path()).unwrap() {
            namespace::delete(&self.folder.path().join(name)).unwrap();
        }
    }
}

#[test]
fn a_pair_between_two_namespaces_and_its_removal() {
    let scratch = Scratch::new();
    let (left, right) = (scratch.namespace("left"), scratch.namespace("right"));
    let (mut socket, mut far) = (Socket::open_in(&left).unwrap(), Socket::open_in(&right).unwrap());
    socket.add_link(&NewLink { up: true, ..NewLink::new("br0", LinkKind::Bridge) }).unwrap();
    let bridge = socket.link("br0").unwrap();
    let mac = [0x02, 1, 2, 3, 4, 5];
    let peer = NewLink {
        mac: Some(mac),
        mtu: Some(1400),
        group: Some(77),
        namespace: Some(&right),
        ..NewLink::peer("eth0")
    };
    let pair = NewLink {
        master: Some(bridge.index),
        up: true,
        ..NewLink::new("p1", LinkKind::Veth { peer: &peer })
    };
    socket.add_link(&pair).unwrap();
    assert!(socket.add_link(&pair).unwrap_err().is_exists());

    let port = socket.link("p1").unwrap();
    assert_eq!(
        (port.master, port.up, port.kind.as_deref()),
        (Some(bridge.index), true, Some("veth"))
    );
    let end = far.link("eth0").unwrap();
    assert_eq!((end.mac, end.mtu, end.group, end.up), (Some(mac), 1400, 77, false));

    far.set_up(end.index, true).unwrap();
    far.set_mtu(end.index, 1300).unwrap();
    far.set_mac(end.index, [0x02, 9, 9, 9, 9, 9]).unwrap();
    let end = far.link("eth0").unwrap();
    assert_eq!((end.mtu, end.up, end.mac), (1300, true, Some([0x02, 9, 9, 9, 9, 9])));
    socket.set_master(port.index, 0).unwrap();
    assert_eq!(socket.link("p1").unwrap().master, None);
    far.move_link(end.index, &left, "back").unwrap();
    assert!(socket.find_link("back").unwrap().is_some());

    socket.delete_link("p1").unwrap();
    socket.delete_link("p1").unwrap();
    assert!(socket.find_link("back").unwrap().is_none());
}

#[test]
fn addresses_routes_and_rules_are_made_and_removed() {
    let scratch = Scratch::new();
    let mut socket = Socket::open_in(&scratch.namespace("one")).unwrap();
    socket.add_link(&NewLink { up: true, ..NewLink::new("br0", LinkKind::Bridge) }).unwrap();
    let link = socket.link("br0").unwrap().index;
    let address = Address { link, address: "10.9.1.1".parse().unwrap(), prefix_length: 24 };
    socket.add_address(address).unwrap();
    socket.add_address(address).unwrap();
    assert_eq!(socket.addresses().unwrap(), [address]);

    let way = Route::default_via("10.9.1.254".parse().unwrap());
    socket.replace_route(&way).unwrap();
    socket.replace_route(&way).unwrap();
    let table = Route { table: 1000, ..Route::on_link("10.20.0.0".parse().unwrap(), 16, link) };
    socket.replace_route(&table).unwrap();
    let routes = socket.routes().unwrap();
    assert!(routes.contains(&Route { link: Some(link), ..way }), "{routes:?}");
    assert!(routes.contains(&table), "{routes:?}");
    assert!(routes.contains(&Route::on_link("10.9.1.0".parse().unwrap(), 24, link)));
    socket.delete_route(&way).unwrap();
    socket.delete_route(&way).unwrap();
    socket.delete_route(&table).unwrap();
    assert_eq!(socket.routes().unwrap().len(), 1);

    let rule = Rule { priority: 90, mark: Some(3), source: None, table: 1000 };
    socket.add_rule(&rule).unwrap();
    socket.add_rule(&rule).unwrap();
    assert!(socket.rules().unwrap().contains(&rule));
    socket.delete_rule(&rule).unwrap();
    socket.delete_rule(&rule).unwrap();
    assert!(!socket.rules().unwrap().contains(&rule));
    socket.delete_address(address).unwrap();
    socket.delete_address(address).unwrap();
    assert!(socket.addresses().unwrap().is_empty());
}

#[test]
fn a_tunnel_is_made_in_another_namespace_with_its_entries() {
    let scratch = Scratch::new();
    let (host, inner) = (scratch.namespace("host"), scratch.namespace("inner"));
    let mut socket = Socket::open_in(&host).unwrap();
    let kind = LinkKind::Vxlan { id: 0x0010_0001, local: "10.0.0.1".parse().unwrap(), port: 4789 };
    let link = NewLink { namespace: Some(&inner), up: true, ..NewLink::new("vx0", kind) };
    socket.add_link(&link).unwrap();
    let mut socket = Socket::open_in(&inner).unwrap();
    let link = socket.link("vx0").unwrap();
    assert_eq!((link.kind.as_deref(), link.up), (Some("vxlan"), true));

    let entry = |last: u16| {
        let [high, low] = last.to_be_bytes();
        let mac = [0x02, 0, 0, 0, high, low];
        let neighbour = Neighbour { address: Ipv4Addr::from([10, 1, high, low]), mac };
        (neighbour, Forwarding { mac, host: Ipv4Addr::new(10, 0, 0, 2) })
    };
    let (neighbours, mut forwardings): (Vec<_>, Vec<_>) = (1..=5000).map(entry).unzip();
    socket.replace_neighbours(link.index, &neighbours).unwrap();
    socket.replace_forwardings(link.index, &forwardings).unwrap();
    // Moved to another host: replaced, not added.
    for forwarding in &mut forwardings[..10] {
        forwarding.host = Ipv4Addr::new(10, 0, 0, 3);
    }
    socket.replace_forwardings(link.index, &forwardings[..10]).unwrap();
    let sorted = |mut found: Vec<Forwarding>| {
        found.sort();
        found
    };
    assert_eq!(sorted(socket.forwardings(link.index).unwrap()), forwardings);
    let mut found = socket.neighbours(link.index).unwrap();
    found.sort();
    assert_eq!(found, neighbours);

    socket.delete_neighbours(link.index, &neighbours[1..]).unwrap();
    socket.delete_neighbours(link.index, &neighbours[1..3]).unwrap();
    assert_eq!(socket.neighbours(link.index).unwrap(), neighbours[..1]);
    socket.delete_forwardings(link.index, &forwardings[1..]).unwrap();
    assert_eq!(socket.forwardings(link.index).unwrap(), forwardings[..1]);
}

#[test]
fn a_refusal_says_what_was_attempted_and_why() {
    let scratch = Scratch::new();
    let mut socket = Socket::open_in(&scratch.namespace("one")).unwrap();
    let error =
        socket.add_link(&NewLink::new("a-name-that-is-too-long", LinkKind::Bridge)).unwrap_err();
    assert_eq!(error.to_string(), "could not make link `a-name-that-is-too-long`");
    let NetlinkError::Refused { source, code, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*code, libc::ERANGE);
    assert!(source.to_string().contains("range"), "{source}");

    let neighbour = Neighbour { address: Ipv4Addr::new(10, 0, 0, 1), mac: [2, 0, 0, 0, 0, 1] };
    let error = socket.replace_neighbours(999, &[neighbour]).unwrap_err();
    assert_eq!(error.to_string(), "could not set the neighbour 10.0.0.1 of link 999");
    assert_eq!(error.code(), Some(libc::ENODEV));
    assert_eq!(socket.link("none").unwrap_err().to_string(), "there is no link `none`");
}
