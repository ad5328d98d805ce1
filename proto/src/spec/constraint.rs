use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::object::{Node, Role};
use crate::version::ClusterVersion;

/// What a placement constraint looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConstraintKey {
    /// `node.id`
    NodeId,
    /// `node.hostname`
    NodeHostname,
    /// `node.role`: `manager` and `controller` mean the same, as do `worker` and `agent`.
    NodeRole,
    /// `node.ip`: the address that carries the node's networks; its values are addresses or prefixes (`10.1.0.0/16`).
    NodeAddress,
    /// `node.platform.os`
    PlatformOs,
    /// `node.platform.arch`
    PlatformArch,
    /// `node.labels.X`
    NodeLabel(String),
    /// `engine.labels.X`
    EngineLabel(String),
}

/// What a constraint asks of a value. Texts compare without case and whole; a label that is missing is an empty text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// `key == value`
    Equal(String),
    /// `key != value`
    NotEqual(String),
    /// `key in (a, b)`
    In(Vec<String>),
    /// `key not in (a, b)`
    NotIn(Vec<String>),
    /// `key exists`: the value is not empty.
    Exists,
    /// `key not exists`
    NotExists,
    /// `key < number`. What is no whole number is neither less nor more than one, nor equal to it.
    Less(i64),
    /// `key <= number`
    AtMost(i64),
    /// `key >= number`
    AtLeast(i64),
    /// `key > number`
    More(i64),
}

/// What a node must be to run a task, such as `node.labels.zone == a`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    /// What to look at.
    pub key: ConstraintKey,
    /// What it must be.
    pub comparison: Comparison,
}

/// Why a text is no constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// It has no operator, or several.
    #[error("constraint `{0}` is not valid")]
    Syntax(String),
    /// Nothing follows the operator.
    #[error("constraint `{0}` has no value")]
    NoValue(String),
    /// Nodes have nothing of this name.
    #[error("constraint key `{0}` is unknown")]
    Key(String),
    /// Nodes have no such role.
    #[error("no node has the role `{0}`")]
    Role(String),
    /// What should be compared as a number is none.
    #[error("`{0}` is not a whole number")]
    Number(String),
    /// A node's address compares with addresses and prefixes only.
    #[error("`{0}` is neither an IPv4 address nor a prefix")]
    Address(String),
}

impl ConstraintKey {
    /// All, as users write them.
    pub const NAMES: [&str; 8] = [
        "node.id",
        "node.hostname",
        "node.role",
        "node.ip",
        "node.platform.os",
        "node.platform.arch",
        "node.labels.NAME",
        "engine.labels.NAME",
    ];
}

impl Constraint {
    /// The words for roles.
    pub const ROLES: [&str; 4] = ["manager", "controller", "worker", "agent"];

    /// `key == value`
    pub fn equal(key: ConstraintKey, value: impl Into<String>) -> Self {
        Self { key, comparison: Comparison::Equal(value.into()) }
    }

    /// Whether a node is what is asked for.
    pub fn holds(&self, node: &Node) -> bool {
        let value = value(&self.key, node);
        let number = || value.trim().parse::<i64>().ok();
        match &self.comparison {
            Comparison::Equal(wanted) => self.is(node, value, wanted),
            Comparison::NotEqual(unwanted) => !self.is(node, value, unwanted),
            Comparison::In(wanted) => wanted.iter().any(|one| self.is(node, value, one)),
            Comparison::NotIn(unwanted) => !unwanted.iter().any(|one| self.is(node, value, one)),
            Comparison::Exists => self.is_there(node, value),
            Comparison::NotExists => !self.is_there(node, value),
            Comparison::Less(limit) => number().is_some_and(|number| number < *limit),
            Comparison::AtMost(limit) => number().is_some_and(|number| number <= *limit),
            Comparison::AtLeast(limit) => number().is_some_and(|number| number >= *limit),
            Comparison::More(limit) => number().is_some_and(|number| number > *limit),
        }
    }

    fn is(&self, node: &Node, value: &str, wanted: &str) -> bool {
        match &self.key {
            ConstraintKey::NodeId => node.id.to_string().eq_ignore_ascii_case(wanted),
            ConstraintKey::NodeRole => is_role(node.role, wanted),
            ConstraintKey::NodeAddress => node
                .description
                .address
                .zip(prefix(wanted))
                .is_some_and(|(address, prefix)| is_within(address, prefix)),
            ConstraintKey::PlatformArch => {
                architecture(value).eq_ignore_ascii_case(architecture(wanted))
            }
            _ => value.eq_ignore_ascii_case(wanted),
        }
    }

    fn is_there(&self, node: &Node, value: &str) -> bool {
        match self.key {
            ConstraintKey::NodeId | ConstraintKey::NodeRole => true,
            ConstraintKey::NodeAddress => node.description.address.is_some(),
            _ => !value.is_empty(),
        }
    }

    /// The cluster version that brought what it makes use of.
    pub fn needs(&self) -> ClusterVersion {
        let is_old = matches!(self.comparison, Comparison::Equal(_) | Comparison::NotEqual(_))
            && self.key != ConstraintKey::NodeAddress;
        if is_old { ClusterVersion::FIRST } else { ClusterVersion(4) }
    }

    /// Looks that values are such as the key can have.
    fn checked(self) -> Result<Self, ConstraintError> {
        let values = match &self.comparison {
            Comparison::Equal(value) | Comparison::NotEqual(value) => std::slice::from_ref(value),
            Comparison::In(values) | Comparison::NotIn(values) => values.as_slice(),
            _ => &[],
        };
        for value in values {
            let is_role = || Self::ROLES.iter().any(|role| role.eq_ignore_ascii_case(value));
            if self.key == ConstraintKey::NodeRole && !is_role() {
                return Err(ConstraintError::Role(value.clone()));
            }
            if self.key == ConstraintKey::NodeAddress && prefix(value).is_none() {
                return Err(ConstraintError::Address(value.clone()));
            }
        }
        Ok(self)
    }
}

/// What a node has of a key as a text of its own; empty for what is compared otherwise.
fn value<'a>(key: &ConstraintKey, node: &'a Node) -> &'a str {
    let description = &node.description;
    let label = |label: Option<&'a String>| label.map_or("", String::as_str);
    match key {
        ConstraintKey::NodeId | ConstraintKey::NodeRole | ConstraintKey::NodeAddress => "",
        ConstraintKey::NodeHostname => &description.hostname,
        ConstraintKey::PlatformOs => &description.os,
        ConstraintKey::PlatformArch => &description.arch,
        ConstraintKey::NodeLabel(name) => label(node.labels.get(name)),
        ConstraintKey::EngineLabel(name) => label(description.engine_labels.get(name)),
    }
}

/// The usual name of an architecture.
fn architecture(name: &str) -> &str {
    match name {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn is_role(role: Role, word: &str) -> bool {
    let names = match role {
        Role::Controller => ["controller", "manager"],
        Role::Agent => ["agent", "worker"],
    };
    names.iter().any(|name| name.eq_ignore_ascii_case(word))
}

/// Reads an address, or a prefix in the way of `10.1.0.0/16`.
fn prefix(text: &str) -> Option<(Ipv4Addr, u32)> {
    let (address, length) = text.split_once('/').unwrap_or((text, "32"));
    let length = length.parse().ok().filter(|length| *length <= 32)?;
    Some((address.parse().ok()?, length))
}

fn is_within(address: Ipv4Addr, (prefix, length): (Ipv4Addr, u32)) -> bool {
    let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
    u32::from(address) & mask == u32::from(prefix) & mask
}

impl FromStr for Constraint {
    type Err = ConstraintError;

    fn from_str(text: &str) -> Result<Self, ConstraintError> {
        let (key, comparison) = split(text)?;
        let key = key.trim();
        // Written again, it would be read as another one.
        if key.contains(|c: char| "!=<>".contains(c) || c.is_whitespace()) {
            return Err(ConstraintError::Syntax(text.to_owned()));
        }
        Self { key: key.parse()?, comparison }.checked()
    }
}

/// Finds the operator. Swarm's own come first: what stands behind them is taken as it is.
fn split(text: &str) -> Result<(&str, Comparison), ConstraintError> {
    let some = |value: &str| match value.trim() {
        "" => Err(ConstraintError::NoValue(text.to_owned())),
        value => Ok(value.to_owned()),
    };
    match (text.split_once("=="), text.split_once("!=")) {
        (Some((key, value)), None) => return Ok((key, Comparison::Equal(some(value)?))),
        (None, Some((key, value))) => return Ok((key, Comparison::NotEqual(some(value)?))),
        (Some(_), Some(_)) => return Err(ConstraintError::Syntax(text.to_owned())),
        (None, None) => {}
    }
    for operator in [">=", "<=", ">", "<"] {
        if let Some((key, value)) = text.split_once(operator) {
            let value = some(value)?;
            let number = value.parse().map_err(|_| ConstraintError::Number(value))?;
            let comparison = match operator {
                ">=" => Comparison::AtLeast(number),
                "<=" => Comparison::AtMost(number),
                ">" => Comparison::More(number),
                _ => Comparison::Less(number),
            };
            return Ok((key, comparison));
        }
    }
    words(text).ok_or_else(|| ConstraintError::Syntax(text.to_owned()))
}

/// Operators that are words.
fn words(text: &str) -> Option<(&str, Comparison)> {
    let (key, rest) = text.trim().split_once(char::is_whitespace)?;
    let (is_negated, rest) = match rest.trim().strip_prefix("not ") {
        Some(rest) => (true, rest.trim()),
        None => (false, rest.trim()),
    };
    if rest == "exists" {
        return Some((key, if is_negated { Comparison::NotExists } else { Comparison::Exists }));
    }
    let list = rest.strip_prefix("in")?.trim().strip_prefix('(')?.strip_suffix(')')?;
    let values: Vec<String> = list.split(',').map(|value| value.trim().to_owned()).collect();
    let is_plain = |value: &String| !value.is_empty() && !value.contains(['(', ')']);
    if !values.iter().all(is_plain) {
        return None;
    }
    Some((key, if is_negated { Comparison::NotIn(values) } else { Comparison::In(values) }))
}

impl FromStr for ConstraintKey {
    type Err = ConstraintError;

    /// All but a label's name compares without case.
    fn from_str(key: &str) -> Result<Self, ConstraintError> {
        match super::Domain::label(key) {
            Some(super::Domain::NodeLabel(label)) => return Ok(Self::NodeLabel(label)),
            Some(super::Domain::EngineLabel(label)) => return Ok(Self::EngineLabel(label)),
            _ => {}
        }
        match key.to_ascii_lowercase().as_str() {
            "node.id" => Ok(Self::NodeId),
            "node.hostname" => Ok(Self::NodeHostname),
            "node.role" => Ok(Self::NodeRole),
            "node.ip" => Ok(Self::NodeAddress),
            "node.platform.os" => Ok(Self::PlatformOs),
            "node.platform.arch" => Ok(Self::PlatformArch),
            _ => Err(ConstraintError::Key(key.to_owned())),
        }
    }
}

impl fmt::Display for ConstraintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeId => f.write_str("node.id"),
            Self::NodeHostname => f.write_str("node.hostname"),
            Self::NodeRole => f.write_str("node.role"),
            Self::NodeAddress => f.write_str("node.ip"),
            Self::PlatformOs => f.write_str("node.platform.os"),
            Self::PlatformArch => f.write_str("node.platform.arch"),
            Self::NodeLabel(label) => write!(f, "node.labels.{label}"),
            Self::EngineLabel(label) => write!(f, "engine.labels.{label}"),
        }
    }
}

impl fmt::Display for Constraint {
    /// As a user writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.comparison {
            Comparison::Equal(value) => write!(f, "{key}=={value}"),
            Comparison::NotEqual(value) => write!(f, "{key}!={value}"),
            Comparison::In(values) => write!(f, "{key} in ({})", values.join(", ")),
            Comparison::NotIn(values) => write!(f, "{key} not in ({})", values.join(", ")),
            Comparison::Exists => write!(f, "{key} exists"),
            Comparison::NotExists => write!(f, "{key} not exists"),
            Comparison::Less(number) => write!(f, "{key} < {number}"),
            Comparison::AtMost(number) => write!(f, "{key} <= {number}"),
            Comparison::AtLeast(number) => write!(f, "{key} >= {number}"),
            Comparison::More(number) => write!(f, "{key} > {number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{NodeId, Timestamp};
    use crate::object::{Availability, NodeDescription, NodeStatus};

    fn node() -> Node {
        let labels = [("zone", "Paris-1"), ("cores", "16"), ("tier", "gold")];
        let description = NodeDescription {
            hostname: "n1".to_owned(),
            address: Some([10, 1, 2, 3].into()),
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            engine_labels: [("disk".to_owned(), "ssd".to_owned())].into(),
            ..NodeDescription::default()
        };
        Node {
            id: NodeId(7),
            role: Role::Controller,
            availability: Availability::Active,
            labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            status: NodeStatus::Ready,
            status_since: Timestamp(1),
            description,
            raft_id: None,
            controller_address: None,
            joined_at: Timestamp(1),
            declared_lost: false,
            recent_downs: Vec::new(),
        }
    }

    #[test]
    fn what_holds_on_a_node() {
        let node = node();
        for (holds, text) in [
            (true, "node.id==7"),
            (true, "node.hostname == N1"),
            (true, "node.role==manager"),
            (false, "node.role!=Controller"),
            (true, "node.role in (worker, controller)"),
            (true, "node.ip==10.1.2.3"),
            (true, "node.ip == 10.1.0.0/16"),
            (true, "node.ip!=10.2.0.0/16"),
            (true, "node.ip in (10.2.0.0/16, 0.0.0.0/0)"),
            (true, "node.platform.arch==amd64"),
            (true, "NODE.PLATFORM.OS==Linux"),
            (true, "node.labels.zone==paris-1"),
            (false, "node.labels.Zone==paris-1"),
            (false, "node.labels.zone==paris"),
            (true, "node.labels.none!=a"),
            (true, "engine.labels.disk==ssd"),
            (true, "node.labels.zone in (berlin-1, PARIS-1)"),
            (false, "node.labels.zone not in (berlin-1,paris-1)"),
            (true, "node.labels.none not in (a)"),
            (true, "node.labels.zone exists"),
            (false, "node.labels.none exists"),
            (true, "node.labels.none not exists"),
            (true, "node.labels.cores >= 16"),
            (false, "node.labels.cores>16"),
            (true, "node.labels.cores < 17"),
            (true, "node.labels.cores<=16"),
            (false, "node.labels.tier > -5"),
            (false, "node.labels.none < 1"),
        ] {
            let constraint: Constraint = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(constraint.holds(&node), holds, "{text}");
            let again: Constraint = constraint.to_string().parse().unwrap();
            assert_eq!(again, constraint, "{text}");
        }
    }

    #[test]
    fn what_is_no_constraint() {
        for (text, error) in [
            ("node.hostname", "constraint `node.hostname` is not valid"),
            ("node.hostname==a!=b", "constraint `node.hostname==a!=b` is not valid"),
            ("node.hostname == ", "constraint `node.hostname == ` has no value"),
            ("node.name==a", "constraint key `node.name` is unknown"),
            ("node.labels.==a", "constraint key `node.labels.` is unknown"),
            ("node.labels.! == a", "constraint `node.labels.! == a` is not valid"),
            ("node.labels.a<!=b", "constraint `node.labels.a<!=b` is not valid"),
            ("node.labels.a b==c", "constraint `node.labels.a b==c` is not valid"),
            ("node.role==boss", "no node has the role `boss`"),
            ("node.labels.cores > many", "`many` is not a whole number"),
            ("node.labels.zone in a, b", "constraint `node.labels.zone in a, b` is not valid"),
            ("node.labels.zone in (a,)", "constraint `node.labels.zone in (a,)` is not valid"),
            ("node.ip==10.1", "`10.1` is neither an IPv4 address nor a prefix"),
            ("node.ip==10.1.0.0/33", "`10.1.0.0/33` is neither an IPv4 address nor a prefix"),
        ] {
            assert_eq!(text.parse::<Constraint>().unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn only_what_swarm_did_not_say_needs_a_later_version() {
        for (version, text) in [(1, "node.labels.a==b"), (1, "node.id!=1"), (4, "node.ip==1.2.3.4")]
        {
            let constraint: Constraint = text.parse().unwrap();
            assert_eq!(constraint.needs(), ClusterVersion(version), "{text}");
        }
        let constraint: Constraint = "node.labels.a exists".parse().unwrap();
        assert_eq!(constraint.needs(), ClusterVersion(4));
    }
}
