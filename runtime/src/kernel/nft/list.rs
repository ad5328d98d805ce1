//! Reading what others have put in place: only as much as a pre-flight check must know.

use super::rule::HookPoint;
use super::write::IPV4;
use crate::kernel::transport::{attributes, text};

/// Both IPv4 and IPv6 (`NFPROTO_INET`).
const INET: u8 = 1;
const DROP: u32 = 0;

/// A base chain of any table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedChain {
    /// The family, `ip` or `inet`.
    pub family: &'static str,
    /// The table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Where packets meet it.
    pub point: HookPoint,
    /// Its order among chains of that point.
    pub priority: i32,
    /// Whether it drops what no rule decides.
    pub drops_by_default: bool,
    /// Whether its last rule drops or rejects everything.
    pub ends_in_drop: bool,
    /// The chains that its rules jump or go to.
    pub targets: Vec<String>,
}

impl ListedChain {
    /// Whether it leads to a chain whose name starts so.
    pub fn jumps_to(&self, prefix: &str) -> bool {
        self.targets.iter().any(|target| target.starts_with(prefix))
    }
}

/// `struct nfgenmsg` and what follows.
fn body(payload: &[u8]) -> Option<(u8, &[u8])> {
    Some((*payload.first()?, payload.get(4..)?))
}

fn family_name(family: u8) -> Option<&'static str> {
    match family {
        IPV4 => Some("ip"),
        INET => Some("inet"),
        _ => None,
    }
}

fn number(content: &[u8]) -> Option<u32> {
    content.get(..4)?.try_into().ok().map(u32::from_be_bytes)
}

fn attribute(body: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(body).find(|(kind, _)| *kind == wanted).map(|(_, content)| content)
}

/// The attributes of listed chains and maps that name them, and that of a listed rule that names its chain.
pub(super) const CHAIN_NAME: u16 = 3;
pub(super) const SET_NAME: u16 = 2;
pub(super) const RULE_CHAIN: u16 = 2;

/// A name that a listed object has, when it belongs to this `ip` table. `name` is the attribute to read.
pub(super) fn name_in(payload: &[u8], table: &str, name: u16) -> Option<String> {
    let (family, body) = body(payload)?;
    let ours = family == IPV4 && text(attribute(body, 1)?) == table;
    ours.then(|| attribute(body, name).map(text))?
}

pub(super) fn generation(payload: &[u8]) -> Option<u32> {
    attribute(body(payload)?.1, 1).and_then(number)
}

pub(super) fn base_chain(payload: &[u8]) -> Option<ListedChain> {
    let (family, body) = body(payload)?;
    let hook = attribute(body, 4)?;
    Some(ListedChain {
        family: family_name(family)?,
        table: text(attribute(body, 1)?),
        name: text(attribute(body, 3)?),
        point: HookPoint::from_number(attribute(hook, 1).and_then(number)?)?,
        priority: attribute(hook, 2).and_then(number)?.cast_signed(),
        drops_by_default: attribute(body, 5).and_then(number) == Some(DROP),
        ends_in_drop: false,
        targets: Vec::new(),
    })
}

/// Rules come in their order, so the last one noted decides.
pub(super) fn note_rule(payload: &[u8], chains: &mut [ListedChain]) {
    let note = || {
        let (family, body) = body(payload)?;
        let family = family_name(family)?;
        let (table, name) = (text(attribute(body, 1)?), text(attribute(body, 2)?));
        let expressions = attribute(body, 4).unwrap_or_default();
        Some((family, table, name, drops_everything(expressions), target(expressions)))
    };
    let Some((family, table, name, drops, target)) = note() else { return };
    let of_rule = |chain: &&mut ListedChain| {
        chain.family == family && chain.table == table && chain.name == name
    };
    if let Some(chain) = chains.iter_mut().find(of_rule) {
        chain.ends_in_drop = drops;
        chain.targets.extend(target);
    }
}

/// What a listed rule has counted, where it counts.
pub(super) fn packets(payload: &[u8]) -> Option<u64> {
    const PACKETS: u16 = 2;
    let expressions = attribute(body(payload)?.1, 4)?;
    attributes(expressions).find_map(|(_, expression)| {
        let is_counter = text(attribute(expression, 1)?) == "counter";
        let packets = attribute(attribute(expression, 2).filter(|_| is_counter)?, PACKETS)?;
        packets.get(..8)?.try_into().ok().map(u64::from_be_bytes)
    })
}

/// The chain that a rule jumps or goes to.
fn target(expressions: &[u8]) -> Option<String> {
    attributes(expressions).find_map(|(_, expression)| {
        let verdict = attribute(attribute(attribute(expression, 2)?, 2)?, 2)?;
        let is_immediate = text(attribute(expression, 1)?) == "immediate";
        is_immediate.then(|| attribute(verdict, 2).map(text))?
    })
}

/// Whether a rule has no condition and ends in a drop or a rejection. `target` is iptables' own, as iptables-nft writes it.
fn drops_everything(expressions: &[u8]) -> bool {
    let mut drops = false;
    for (_, expression) in attributes(expressions) {
        let name = attribute(expression, 1).map(text).unwrap_or_default();
        let data = attribute(expression, 2).unwrap_or_default();
        match name.as_str() {
            "counter" | "log" => {}
            "reject" => drops = true,
            "immediate" => {
                let verdict = attribute(data, 2).and_then(|value| attribute(value, 2));
                let code = verdict.and_then(|verdict| attribute(verdict, 1)).and_then(number);
                drops = code == Some(DROP);
            }
            "target" => {
                let target = attribute(data, 1).map(text).unwrap_or_default();
                drops = matches!(target.as_str(), "DROP" | "REJECT");
            }
            _ => return false,
        }
    }
    drops
}
