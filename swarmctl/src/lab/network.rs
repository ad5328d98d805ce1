//! The hosts' network: a bridge in the switch's namespace, and a cable from it to each host.

use std::net::Ipv4Addr;
use std::path::Path;

use nix::unistd::Pid;
use swarm_runtime::kernel::Namespace;
use swarm_runtime::kernel::netlink::{Address, LinkKind, Mac, Neighbour, NewLink, Socket};

use super::error::Error;
use super::layout::{PREFIX, SWITCH, SWITCH_ADDRESS, host_address, host_number};
use super::record::Record;

const BRIDGE: &str = "br0";

/// The bridge's own link address. Without one it takes the lowest of its ports', and the hosts ask for registry and
/// relay at an address that went away with another host's cable until they forget it, half a minute later.
const SWITCH_MAC: Mac = [0x02, 0x4d, 0, 0, 0, 254];

/// Where frames for a host that must not be heard go: to nobody.
const NOBODY: Mac = [0x02, 0x4d, 0xff, 0xff, 0xff, 0xff];

/// The network namespace of a process.
pub(super) fn namespace(process: Pid) -> Result<Namespace, Error> {
    Namespace::open(Path::new(&format!("/proc/{process}/ns/net"))).map_err(Error::link(SWITCH))
}

/// Makes the switch: the bridge, with the address of registry and relay.
pub(super) fn make_switch(switch: &Namespace) -> Result<(), Error> {
    let mut socket = Socket::open_in(switch).map_err(Error::link(SWITCH))?;
    up(&mut socket, "lo", SWITCH)?;
    let bridge =
        NewLink { mac: Some(SWITCH_MAC), up: true, ..NewLink::new(BRIDGE, LinkKind::Bridge) };
    socket.add_link(&bridge).map_err(Error::link(SWITCH))?;
    give_address(&mut socket, BRIDGE, SWITCH_ADDRESS, SWITCH)
}

/// Lays the cable from the switch to a host. Its link address stays the same over the host's lives, as a card's does.
pub(super) fn lay_cable(
    switch: &Namespace,
    inside: &Namespace,
    host: &str,
    number: u8,
    record: &Record,
) -> Result<(), Error> {
    let mut socket = Socket::open_in(switch).map_err(Error::link(host))?;
    // The one of an earlier life may not be gone yet.
    socket.delete_link(host).map_err(Error::link(host))?;
    let bridge = socket.link(BRIDGE).map_err(Error::link(host))?.index;
    let card = NewLink {
        mac: Some([0x02, 0x4d, 0, 0, 0, number]),
        namespace: Some(inside),
        ..NewLink::peer("eth0")
    };
    let port = NewLink {
        master: (!record.is_off(host)).then_some(bridge),
        up: true,
        ..NewLink::new(host, LinkKind::Veth { peer: &card })
    };
    socket.add_link(&port).map_err(Error::link(host))?;
    let mut socket = Socket::open_in(inside).map_err(Error::link(host))?;
    up(&mut socket, "lo", host)?;
    up(&mut socket, "eth0", host)?;
    give_address(&mut socket, "eth0", host_address(number), host)?;
    deafen(&mut socket, host, record)
}

/// Takes a host's cable away at once, rather than when the kernel gets round to its namespace.
pub(super) fn take_cable(switch: &Namespace, host: &str) -> Result<(), Error> {
    let mut socket = Socket::open_in(switch).map_err(Error::link(host))?;
    socket.delete_link(host).map_err(Error::link(host))
}

/// Makes the cuts of the record true for a host that is on.
pub(super) fn apply_cuts(
    switch: &Namespace,
    inside: &Namespace,
    host: &str,
    record: &Record,
) -> Result<(), Error> {
    let mut socket = Socket::open_in(switch).map_err(Error::link(host))?;
    let bridge = socket.link(BRIDGE).map_err(Error::link(host))?.index;
    let port = socket.link(host).map_err(Error::link(host))?;
    let master = if record.is_off(host) { 0 } else { bridge };
    if port.master.unwrap_or(0) != master {
        socket.set_master(port.index, master).map_err(Error::link(host))?;
    }
    let mut socket = Socket::open_in(inside).map_err(Error::link(host))?;
    deafen(&mut socket, host, record)
}

/// Frames to those that a host must not reach get a link address that nobody has: they are lost without a word, as
/// on a broken line.
fn deafen(socket: &mut Socket, host: &str, record: &Record) -> Result<(), Error> {
    let card = socket.link("eth0").map_err(Error::link(host))?.index;
    let unheard = record.unheard(host).into_iter().filter_map(host_number);
    let wanted: Vec<Neighbour> =
        unheard.map(|number| Neighbour { address: host_address(number), mac: NOBODY }).collect();
    let mut present = socket.neighbours(card).map_err(Error::link(host))?;
    present.retain(|neighbour| neighbour.mac == NOBODY && !wanted.contains(neighbour));
    socket.delete_neighbours(card, &present).map_err(Error::link(host))?;
    socket.replace_neighbours(card, &wanted).map_err(Error::link(host))
}

fn up(socket: &mut Socket, link: &str, host: &str) -> Result<(), Error> {
    let index = socket.link(link).map_err(Error::link(host))?.index;
    socket.set_up(index, true).map_err(Error::link(host))
}

fn give_address(
    socket: &mut Socket,
    link: &str,
    address: Ipv4Addr,
    host: &str,
) -> Result<(), Error> {
    let link = socket.link(link).map_err(Error::link(host))?.index;
    socket.add_address(Address { link, address, prefix_length: PREFIX }).map_err(Error::link(host))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use swarm_runtime::kernel::namespace;

    use super::*;

    #[test]
    fn the_switch_keeps_its_link_address_whoever_comes_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["switch", "n1", "n2", "n3"].map(|name| folder.path().join(name));
        let [switch, hosts @ ..] = names.each_ref().map(|path| {
            namespace::create(path).unwrap();
            Namespace::open(path).unwrap()
        });
        make_switch(&switch).unwrap();
        let address = || Socket::open_in(&switch).unwrap().link(BRIDGE).unwrap().mac;
        let before = address();
        let record = Record {
            hosts: 3,
            controllers: 1,
            programs: folder.path().to_owned(),
            registry: None,
            relay: Vec::new(),
            cuts: BTreeSet::new(),
            simulated: Vec::new(),
        };
        for (host, number) in hosts.iter().zip(1..) {
            lay_cable(&switch, host, &format!("n{number}"), number, &record).unwrap();
            assert_eq!(address(), before, "n{number} came");
        }
        for number in 1..=3 {
            take_cable(&switch, &format!("n{number}")).unwrap();
            assert_eq!(address(), before, "n{number} went");
        }
        for path in &names {
            namespace::delete(path).unwrap();
        }
    }
}
