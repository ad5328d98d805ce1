//! Published ports, short (`"127.0.0.1:8080:80/tcp"`) and long (`{target, published, protocol, mode}`).

use std::net::Ipv4Addr;

use swarm_proto::spec::{PortMode, PortSpec, Protocol};

use super::{Decoder, stack};
use crate::keys::PORT;
use crate::tree::{Data, Node, shorten};

/// More would slow down every host: each port is a rule there.
const MOST_PORTS: usize = 1024;
const PROTOCOLS: [(&str, Protocol); 2] = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
const MODES: [(&str, PortMode); 2] = [("ingress", PortMode::Ingress), ("host", PortMode::Host)];

/// All published ports of a service, sorted.
pub(super) fn ports(d: &Decoder<'_>, node: &Node) -> Vec<PortSpec> {
    let mut ports: Vec<PortSpec> = Vec::new();
    for item in d.list(node, "ports").unwrap_or_default() {
        let found = match &item.data {
            Data::Mapping(_) => long(d, item).into_iter().collect(),
            Data::Scalar { text, .. } => short(text).unwrap_or_else(|(message, hint)| {
                d.problems.error_hint(item.at, message, hint);
                Vec::new()
            }),
            _ => {
                d.expected(item, "a port", "`published:target` or a mapping with `target`", "");
                Vec::new()
            }
        };
        if ports.len() + found.len() > MOST_PORTS {
            let message = format!("a service publishes at most {MOST_PORTS} ports");
            d.problems.error_hint(item.at, message, "publish fewer ports");
            break;
        }
        for port in found {
            if ports.iter().any(|known| *known == port || stack::clashes(known, &port)) {
                let message =
                    format!("port {} is published twice", port.published.unwrap_or(port.target));
                d.problems.error_hint(item.at, message, "remove one of them");
            } else {
                ports.push(port);
            }
        }
    }
    ports.sort();
    ports
}

fn long(d: &Decoder<'_>, node: &Node) -> Option<PortSpec> {
    let fields = d.fields(node, "a port", &PORT)?;
    let number = |key: &str| {
        let node = fields.get(key)?;
        let number = d.integer(node, key, 1..=65535)?;
        u16::try_from(number).ok()
    };
    if fields.get("target").is_none() {
        d.problems.error_hint(
            node.at,
            "a port needs `target`",
            "it is the port inside the container",
        );
    }
    let address = fields.get("host_ip").and_then(|node| Some((node, d.scalar(node, "host_ip")?)));
    let host_address = match address.map(|(node, text)| (node, host_address(text))) {
        Some((node, Err((message, hint)))) => {
            d.problems.error_hint(node.at, message, hint);
            None
        }
        Some((_, Ok(address))) => address,
        None => None,
    };
    let published = number("published");
    let protocol = fields.get("protocol").and_then(|node| d.word(node, "protocol", &PROTOCOLS));
    let mode = fields.get("mode").and_then(|node| d.word(node, "mode", &MODES));
    Some(PortSpec {
        target: number("target")?,
        published,
        protocol: protocol.unwrap_or(Protocol::Tcp),
        mode: mode.unwrap_or(PortMode::Ingress),
        host_address,
    })
}

type Refusal = (String, String);

/// `[address:][published[-last]:]target[-last][/protocol]`
fn short(text: &str) -> Result<Vec<PortSpec>, Refusal> {
    let (rest, protocol) = match text.split_once('/') {
        Some((rest, protocol)) => (rest, parse_protocol(text, protocol)?),
        None => (text, Protocol::Tcp),
    };
    let (host, target) =
        rest.rsplit_once(':').map_or((None, rest), |(host, target)| (Some(host), target));
    let (address, published) = match host {
        Some(host) => host
            .rsplit_once(':')
            .map_or((None, Some(host)), |(address, published)| (Some(address), Some(published))),
        None => (None, None),
    };
    let host_address = address.map_or(Ok(None), host_address)?;
    let targets = range(text, target)?;
    let published = match published.filter(|published| !published.is_empty()) {
        Some(published) => Some(range(text, published)?),
        None => None,
    };
    if let Some((first, last)) = published
        && last - first != targets.1 - targets.0
    {
        let message = format!("the ranges of port `{}` differ in size", shorten(text));
        return Err((message, "give as many published ports as target ports".to_owned()));
    }
    let port = |offset: u16| PortSpec {
        target: targets.0 + offset,
        published: published.map(|(first, _)| first + offset),
        protocol,
        mode: PortMode::Ingress,
        host_address,
    };
    Ok((0..=targets.1 - targets.0).map(port).collect())
}

fn parse_protocol(text: &str, protocol: &str) -> Result<Protocol, Refusal> {
    let known = PROTOCOLS.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(protocol));
    known.map(|(_, protocol)| protocol).ok_or_else(|| {
        let message =
            format!("port `{}` has an unknown protocol `{}`", shorten(text), shorten(protocol));
        let hint =
            if protocol == "sctp" { "`sctp` is not supported yet" } else { "it is `tcp` or `udp`" };
        (message, hint.to_owned())
    })
}

fn range(text: &str, part: &str) -> Result<(u16, u16), Refusal> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let number = |number: &str| -> Result<u16, Refusal> {
        let is_number = !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit());
        match number.parse::<u16>() {
            Ok(number) if number > 0 && is_number => Ok(number),
            _ if is_number => {
                let message = format!("port {} is out of range", shorten(number));
                Err((message, "ports are 1 to 65535".to_owned()))
            }
            _ => {
                let message = format!("`{}` is not a port", shorten(text));
                let hint = "write `published:target`, such as `8080:80` or `127.0.0.1:8080:80/udp`";
                Err((message, hint.to_owned()))
            }
        }
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        let message = format!("the range `{}` ends before it starts", shorten(part));
        return Err((message, format!("write `{last}-{first}`")));
    }
    Ok((first, last))
}

fn host_address(text: &str) -> Result<Option<Ipv4Addr>, Refusal> {
    match text.parse::<Ipv4Addr>() {
        Ok(address) if address.is_unspecified() => Ok(None),
        Ok(address) => Ok(Some(address)),
        Err(_) if text.contains(':') || text.starts_with('[') => {
            let message = format!("port address `{}` is not IPv4", shorten(text));
            Err((message, "IPv6 is not supported yet; leave the address out".to_owned()))
        }
        Err(_) => {
            let message = format!("`{}` is not an address of a host", shorten(text));
            Err((message, "write an IPv4 address, such as `127.0.0.1`".to_owned()))
        }
    }
}
