//! The few kinds of rules that containers need, as data. [`std::fmt::Display`] writes them as `nft list` does.

use std::fmt;
use std::net::Ipv4Addr;

/// A table of the family `ip`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its chains, or those of them that shall be filled anew.
    pub chains: Vec<Chain>,
}

/// A list of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Where packets meet it; `None` for one that others jump to.
    pub hook: Option<Hook>,
    /// What it does, in order. A base chain accepts what no rule decides.
    pub rules: Vec<Rule>,
}

impl Chain {
    /// A chain that packets meet.
    pub fn base(name: &str, hook: Hook, rules: Vec<Rule>) -> Self {
        Self { name: name.to_owned(), hook: Some(hook), rules }
    }

    /// Whether the rules of the two differ at most in what is in maps with names.
    pub(super) fn looks_alike(&self, other: &Self) -> bool {
        let pairs = || self.rules.iter().zip(&other.rules);
        self.rules.len() == other.rules.len() && pairs().all(|(one, its)| one.looks_alike(its))
    }

    /// A chain that others jump to.
    pub fn plain(name: &str, rules: Vec<Rule>) -> Self {
        Self { name: name.to_owned(), hook: None, rules }
    }
}

/// Where packets meet a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    /// What its rules may do.
    pub kind: ChainKind,
    /// When they are met.
    pub point: HookPoint,
    /// The order among chains of the same point: lower is earlier.
    pub priority: i32,
}

/// What the rules of a base chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// Let pass or not.
    Filter,
    /// Translate addresses. Met only by the first packet of a connection.
    Nat,
}

/// A point on a packet's way through the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookPoint {
    /// Everything that comes in, before it is routed.
    Prerouting,
    /// What is for this host.
    Input,
    /// What passes through.
    Forward,
    /// What this host sends.
    Output,
    /// Everything that goes out, after it is routed.
    Postrouting,
}

impl HookPoint {
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Prerouting => 0,
            Self::Input => 1,
            Self::Forward => 2,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }

    pub(super) fn from_number(number: u32) -> Option<Self> {
        let all = [Self::Prerouting, Self::Input, Self::Forward, Self::Output, Self::Postrouting];
        all.into_iter().find(|point| point.number() == number)
    }
}

/// What happens to packets that all its conditions fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The conditions.
    pub matches: Vec<Match>,
    /// Who hears of such a packet before.
    pub log: Option<Log>,
    /// What happens.
    pub verdict: Verdict,
}

impl Rule {
    /// A rule with these conditions.
    pub fn new(matches: impl Into<Vec<Match>>, verdict: Verdict) -> Self {
        Self { matches: matches.into(), log: None, verdict }
    }

    /// Whether the two differ at most in what is in a map with a name.
    pub(super) fn looks_alike(&self, other: &Self) -> bool {
        self.matches == other.matches
            && self.log == other.log
            && self.verdict.looks_alike(&other.verdict)
    }

    /// The same rule, which tells of each packet.
    #[must_use]
    pub fn logged(self, log: Log) -> Self {
        Self { log: Some(log), ..self }
    }
}

/// That a packet is told of to whoever listens ([`crate::kernel::nflog`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The group in which one program listens.
    pub group: u16,
    /// Told with the packet: at most 127 bytes.
    pub prefix: String,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// Transmission Control Protocol.
    Tcp,
    /// User Datagram Protocol.
    Udp,
}

impl Transport {
    /// The number in the IP header.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// Came in by a link of this group.
    FromGroup(u32),
    /// Goes out by a link of this group.
    ToGroup(u32),
    /// Goes out by a link of another group.
    NotToGroup(u32),
    /// Came in by the link of this name.
    FromLink(String),
    /// Came in by another link than this one.
    NotFromLink(String),
    /// Its source lies in this subnet.
    Source(Ipv4Addr, u8),
    /// Its destination lies in this subnet.
    Destination(Ipv4Addr, u8),
    /// Its destination is an address of this host.
    LocalDestination,
    /// It has this transport protocol.
    Protocol(Transport),
    /// It is for this port.
    Port(Transport, u16),
    /// It belongs to a connection that is already known.
    Established,
    /// Its connection's destination was translated.
    Translated,
}

/// How connections are spread over several destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// By chance.
    Random,
    /// In turn, starting with the first.
    Turns,
}

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It passes this chain's point.
    Accept,
    /// It vanishes.
    Drop,
    /// It is counted, and the next rule looks at it.
    Count,
    /// This chain has no more to say.
    Return,
    /// Another chain decides first.
    Jump(String),
    /// Its sender is told that nobody listens.
    Reject,
    /// It leaves with the address of the link that it leaves through.
    Masquerade,
    /// Its connection is led elsewhere.
    Dnat {
        /// To one of these, at least one.
        to: Vec<Ipv4Addr>,
        /// At this port; `None` leaves the port alone. Only after a [`Match::Port`].
        port: Option<u16>,
        /// How to choose.
        spread: Spread,
        /// Where several of them are in a map with a name.
        map: Option<NamedMap>,
    },
}

/// A map with a name, by which single addresses are exchanged later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedMap {
    /// It begins with the chain's name, as in `chain.rest`: what is named so goes when the chain does not use it any more.
    pub name: String,
    /// Of how many places one is drawn. Where that is more than there are addresses, an empty place may be drawn: then the
    /// next rule decides. As long as this stays, addresses come and go without a look at all of them by the kernel.
    pub places: usize,
}

impl Verdict {
    /// The map with a name that it looks up, and what is in there.
    pub(super) fn named_map(&self) -> Option<(&NamedMap, &[Ipv4Addr])> {
        match self {
            Self::Dnat { to, map: Some(map), .. } if to.len() > 1 => Some((map, to)),
            _ => None,
        }
    }

    /// Whether the two differ at most in what is in a map with a name.
    fn looks_alike(&self, other: &Self) -> bool {
        let (
            Self::Dnat { port, spread, map, to },
            Self::Dnat { port: its_port, spread: its_spread, map: its_map, to: its },
        ) = (self, other)
        else {
            return self == other;
        };
        let both_look_up = self.named_map().is_some() && other.named_map().is_some();
        (to == its || both_look_up) && (port, spread, map) == (its_port, its_spread, its_map)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Random => "random",
            Self::Turns => "inc",
        })
    }
}

fn write_map(f: &mut fmt::Formatter<'_>, to: &[Ipv4Addr]) -> fmt::Result {
    f.write_str("{ ")?;
    for (index, address) in to.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        write!(f, "{comma}{index} : {address}")?;
    }
    f.write_str(" }")
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subnet = |f: &mut fmt::Formatter<'_>, side: &str, address: &Ipv4Addr, length: u8| {
            write!(f, "ip {side} {address}")?;
            if length < 32 { write!(f, "/{length}") } else { Ok(()) }
        };
        match self {
            Self::FromGroup(group) => write!(f, "iifgroup {group}"),
            Self::ToGroup(group) => write!(f, "oifgroup {group}"),
            Self::NotToGroup(group) => write!(f, "oifgroup != {group}"),
            Self::FromLink(name) => write!(f, "iifname \"{name}\""),
            Self::NotFromLink(name) => write!(f, "iifname != \"{name}\""),
            Self::Source(address, length) => subnet(f, "saddr", address, *length),
            Self::Destination(address, length) => subnet(f, "daddr", address, *length),
            Self::LocalDestination => f.write_str("fib daddr type local"),
            Self::Protocol(transport) => write!(f, "meta l4proto {transport}"),
            Self::Port(transport, port) => write!(f, "{transport} dport {port}"),
            Self::Established => f.write_str("ct state established,related"),
            Self::Translated => f.write_str("ct status dnat"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Count => f.write_str("counter"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Reject => f.write_str("reject"),
            Self::Masquerade => f.write_str("masquerade"),
            Self::Dnat { to, port, spread, .. } => {
                f.write_str("dnat to ")?;
                if let [only] = to.as_slice() {
                    write!(f, "{only}")?;
                } else if let Some((NamedMap { name, places }, _)) = self.named_map() {
                    write!(f, "numgen {spread} mod {places} map @{name}")?;
                } else {
                    write!(f, "numgen {spread} mod {} map ", to.len())?;
                    write_map(f, to)?;
                }
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for condition in &self.matches {
            write!(f, "{condition} ")?;
        }
        if let Some(Log { group, prefix }) = &self.log {
            write!(f, "log prefix \"{prefix}\" group {group} ")?;
        }
        self.verdict.fmt(f)
    }
}
