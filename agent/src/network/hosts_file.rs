//! The names that a container's `/etc/hosts` tells it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use swarm_proto::assignment::TaskAssignment;
use swarm_proto::spec::NetworkMode;

/// The host's own names.
const HOSTS: &str = "/etc/hosts";

/// The lines of a container's `/etc/hosts`. One with the host's network knows what its host does.
pub(super) fn host_lines(task: &TaskAssignment) -> Vec<(IpAddr, String)> {
    let container = &task.container;
    let mut lines = vec![
        (IpAddr::V4(Ipv4Addr::LOCALHOST), "localhost".to_owned()),
        (IpAddr::V6(Ipv6Addr::LOCALHOST), "localhost ip6-localhost ip6-loopback".to_owned()),
    ];
    if container.sharing.network == NetworkMode::Host
        && let Ok(text) = fs::read_to_string(HOSTS)
    {
        lines = text.lines().filter_map(host_line).collect();
    }
    let v4 = container.extra_hosts.iter();
    lines.extend(v4.map(|(name, address)| (IpAddr::V4(*address), name.clone())));
    let v6 = container.extra_hosts_v6.iter();
    lines.extend(v6.map(|(name, address)| (IpAddr::V6(*address), name.clone())));
    lines
}

/// A line of the host's own file; `None` for what is none.
fn host_line(line: &str) -> Option<(IpAddr, String)> {
    let mut words = line.split('#').next()?.split_ascii_whitespace();
    let address = words.next()?.parse().ok()?;
    let names: Vec<&str> = words.collect();
    (!names.is_empty()).then(|| (address, names.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_container_knows_further_names() {
        let mut task = testing::task("1.1.1");
        task.container.extra_hosts = [("db".to_owned(), Ipv4Addr::new(10, 0, 0, 5))].into();
        task.container.extra_hosts_v6 = [("db".to_owned(), Ipv6Addr::LOCALHOST)].into();
        let lines = host_lines(&task);
        assert_eq!(lines[0], (IpAddr::V4(Ipv4Addr::LOCALHOST), "localhost".to_owned()));
        let own: Vec<_> =
            lines[2..].iter().map(|(address, name)| format!("{address} {name}")).collect();
        assert_eq!(own, ["10.0.0.5 db", "::1 db"]);
    }

    #[test]
    fn lines_of_a_host_are_read() {
        let read = |line| host_line(line).map(|(address, names)| format!("{address} {names}"));
        assert_eq!(
            read("127.0.1.1\tn1 n1.example # own").as_deref(),
            Some("127.0.1.1 n1 n1.example")
        );
        assert_eq!((read("# 10.0.0.1 a"), read("10.0.0.1"), read("a b")), (None, None, None));
    }
}
