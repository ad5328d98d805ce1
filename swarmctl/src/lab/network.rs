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
    let bridge = NewLink { up: true, ..NewLink::new(BRIDGE, LinkKind::Bridge) };
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
