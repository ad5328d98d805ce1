//! Sockets that wait for anybody, from the kernel's tables of a network namespace.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use swarm_proto::spec::Protocol;

/// A socket that waits for anybody.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) protocol: Protocol,
    pub(crate) address: Ipv4Addr,
    pub(crate) port: u16,
    pub(crate) inode: u64,
}

const TABLES: [(&str, Protocol); 4] = [
    ("tcp", Protocol::Tcp),
    ("tcp6", Protocol::Tcp),
    ("udp", Protocol::Udp),
    ("udp6", Protocol::Udp),
];

/// Those of the network namespace that this thread is in.
pub(crate) fn read() -> io::Result<Vec<Waiting>> {
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
