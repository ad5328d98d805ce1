//! Addresses as people write them.

use std::net::Ipv4Addr;

use crate::config::DEFAULT_PORT;

/// Splits `host:port`; `None` when it is something else.
pub fn parse(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    is_host(host).then_some((host, port))
}

/// `host[:port]` with the default port added.
pub fn with_port(text: &str) -> Option<String> {
    let whole = if text.contains(':') { text.to_owned() } else { format!("{text}:{DEFAULT_PORT}") };
    parse(&whole).map(|_| whole.clone())
}

/// Whether other hosts could reach it there.
pub fn is_reachable(text: &str) -> bool {
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    host.parse::<Ipv4Addr>().map_or(true, |address| !address.is_unspecified())
}

fn is_host(host: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    !host.is_empty() && host.len() <= 253 && host.chars().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_added_where_it_is_missing() {
        assert_eq!(with_port("10.0.0.1"), Some(String::from("10.0.0.1:2377")));
        assert_eq!(with_port("n1.lab:99"), Some(String::from("n1.lab:99")));
        for wrong in ["", ":1", "a:b", "a:0", "a:70000", "a b", "http://a:1"] {
            assert_eq!(with_port(wrong), None, "{wrong}");
        }
        assert!(is_reachable("10.0.0.1:1"));
        assert!(!is_reachable("0.0.0.0:1"));
    }
}
