//! Who listens on the host: the kernel's tables of sockets, and the processes that hold them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use swarm_proto::object::Listener;
use swarm_proto::spec::Protocol;
use swarm_runtime::kernel::Namespace;

/// Who owns a socket that no process holds: a tunnel, ours among them.
pub(super) const KERNEL: &str = "the kernel";

/// Programs by the number of a socket of theirs, kept between looks: finding them means to look at every process.
#[derive(Debug, Default)]
pub(super) struct Owners(BTreeMap<u64, String>);

/// A socket that waits for anybody.
#[derive(Debug, PartialEq, Eq)]
struct Waiting {
    protocol: Protocol,
    address: Ipv4Addr,
    port: u16,
    inode: u64,
}

const TABLES: [(&str, Protocol); 4] = [
    ("tcp", Protocol::Tcp),
    ("tcp6", Protocol::Tcp),
    ("udp", Protocol::Udp),
    ("udp6", Protocol::Udp),
];

/// Who listens in a namespace, sorted.
pub(super) fn read(host: &Namespace, owners: &mut Owners) -> io::Result<Vec<Listener>> {
    let read = || -> io::Result<Vec<Waiting>> {
        let ports = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
        let ports = port_range(&ports);
        let mut all = Vec::new();
        for (name, protocol) in TABLES {
            match fs::read_to_string(format!("/proc/thread-self/net/{name}")) {
                Ok(table) => all.extend(parse(&table, protocol, &ports)),
                // A kernel without IPv6.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    };
    let waiting = host.enter(read).map_err(io::Error::other)??;
    let inodes: BTreeSet<u64> = waiting.iter().map(|socket| socket.inode).collect();
    owners.learn(&inodes);
    let listener = |socket: Waiting| Listener {
        protocol: socket.protocol,
        address: socket.address,
        port: socket.port,
        owner: owners.name(socket.protocol, socket.inode),
    };
    let mut listeners: Vec<_> = waiting.into_iter().map(listener).collect();
    listeners.sort();
    listeners.dedup();
    Ok(listeners)
}

impl Owners {
    fn learn(&mut self, inodes: &BTreeSet<u64>) {
        self.0.retain(|inode, _| inodes.contains(inode));
        let mut unknown: BTreeSet<u64> =
            inodes.iter().copied().filter(|i| *i != 0 && !self.0.contains_key(i)).collect();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        for process in processes {
            if unknown.is_empty() {
                return;
            }
            // Processes end while we look, and some may not be looked at.
            let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
            for descriptor in descriptors.flatten() {
                let Ok(target) = fs::read_link(descriptor.path()) else { continue };
                let inode = target.to_str().and_then(socket_inode);
                if let Some(inode) = inode.filter(|inode| unknown.remove(inode)) {
                    let name = fs::read_to_string(process.path().join("comm"));
                    self.0.insert(inode, name.unwrap_or_default().trim_end().to_owned());
                }
            }
        }
        // Nobody's, or of another pid namespace: do not look for it again and again.
        self.0.extend(unknown.into_iter().map(|inode| (inode, String::new())));
    }

    fn name(&self, protocol: Protocol, inode: u64) -> String {
        match self.0.get(&inode) {
            Some(name) if !name.is_empty() => name.clone(),
            // The socket of a tunnel, which further tunnels share: ours, and those of a Docker Swarm beside us.
            _ if protocol == Protocol::Udp => KERNEL.to_owned(),
            _ => "an unknown program".to_owned(),
        }
    }
}

/// `socket:[12345]`
fn socket_inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn port_range(text: &str) -> RangeInclusive<u16> {
    let mut numbers = text.split_ascii_whitespace().filter_map(|word| word.parse().ok());
    numbers.next().unwrap_or(32_768)..=numbers.next().unwrap_or(60_999)
}

fn parse(table: &str, protocol: Protocol, ephemeral: &RangeInclusive<u16>) -> Vec<Waiting> {
    // `TCP_LISTEN` and `TCP_CLOSE`, which for UDP means that no peer is set.
    let state = match protocol {
        Protocol::Tcp => "0A",
        Protocol::Udp => "07",
    };
    let read = |line: &str| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let (address, port) = words.get(1)?.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        // A datagram socket with a port that the kernel chose is a client's.
        let is_client = protocol == Protocol::Udp && ephemeral.contains(&port);
        if *words.get(3)? != state || is_client {
            return None;
        }
        let inode = words.get(9)?.parse().ok()?;
        Some(Waiting { protocol, address: read_address(address)?, port, inode })
    };
    table.lines().skip(1).filter_map(read).collect()
}

/// Addresses are printed as words of the host's byte order. An IPv6 socket counts where it takes IPv4 as well.
fn read_address(text: &str) -> Option<Ipv4Addr> {
    let mut octets = Vec::new();
    for word in text.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        octets.extend(word.to_ne_bytes());
    }
    if let Ok(octets) = <[u8; 4]>::try_from(octets.as_slice()) {
        return Some(Ipv4Addr::from(octets));
    }
    let address = Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?);
    let any = address.is_unspecified().then_some(Ipv4Addr::UNSPECIFIED);
    any.or_else(|| address.to_ipv4_mapped())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        if cfg!(target_endian = "big") {
            return;
        }
        let header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let line = |local: &str, state: &str, inode: u32| {
            format!(
                "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1\n"
            )
        };
        let table = [
            header.to_owned(),
            line("0100007F:1538", "0A", 11),
            line("00000000:0016", "0A", 12),
            line("0100007F:0016", "01", 13),
            line("00000000000000000000000000000000:0050", "0A", 14),
            line("0000000000000000FFFF00000100007F:0051", "0A", 15),
            line("00000000000000000000000001000000:0052", "0A", 16),
        ]
        .concat();
        let range = port_range("32768\t60999\n");
        let found: Vec<_> = parse(&table, Protocol::Tcp, &range)
            .iter()
            .map(|socket| (format!("{}:{}", socket.address, socket.port), socket.inode))
            .collect();
        let expected =
            [("127.0.0.1:5432", 11), ("0.0.0.0:22", 12), ("0.0.0.0:80", 14), ("127.0.0.1:81", 15)];
        assert_eq!(found, expected.map(|(at, inode)| (at.to_owned(), inode)));

        let table =
            [header.to_owned(), line("00000000:0035", "07", 1), line("00000000:9C40", "07", 2)];
        let found = parse(&table.concat(), Protocol::Udp, &range);
        assert_eq!(found.iter().map(|socket| socket.port).collect::<Vec<_>>(), [53]);
    }
}
