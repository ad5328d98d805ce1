//! Placement.

use super::fields::{ConvertError, Fields, each};
use crate::spec::{Affinity, Comparison, Constraint, ConstraintKey, Domain, Placement};
use crate::wire;

impl From<&Constraint> for wire::Constraint {
    fn from(constraint: &Constraint) -> Self {
        use wire::constraint::Key;
        let key = match &constraint.key {
            ConstraintKey::NodeId => Key::NodeId(wire::Nothing {}),
            ConstraintKey::NodeHostname => Key::NodeHostname(wire::Nothing {}),
            ConstraintKey::NodeRole => Key::NodeRole(wire::Nothing {}),
            ConstraintKey::NodeAddress => Key::NodeAddress(wire::Nothing {}),
            ConstraintKey::PlatformOs => Key::PlatformOs(wire::Nothing {}),
            ConstraintKey::PlatformArch => Key::PlatformArch(wire::Nothing {}),
            ConstraintKey::NodeLabel(label) => Key::NodeLabel(label.clone()),
            ConstraintKey::EngineLabel(label) => Key::EngineLabel(label.clone()),
        };
        let (equal, value, other) = match &constraint.comparison {
            Comparison::Equal(value) => (true, value.clone(), None),
            Comparison::NotEqual(value) => (false, value.clone(), None),
            other => (false, String::new(), comparison(other)),
        };
        Self { key: Some(key), equal, value, comparison: other }
    }
}

impl TryFrom<wire::Constraint> for Constraint {
    type Error = ConvertError;

    fn try_from(constraint: wire::Constraint) -> Result<Self, ConvertError> {
        use wire::constraint::Key;
        let key = match constraint.key {
            Some(Key::NodeId(_)) => ConstraintKey::NodeId,
            Some(Key::NodeHostname(_)) => ConstraintKey::NodeHostname,
            Some(Key::NodeRole(_)) => ConstraintKey::NodeRole,
            Some(Key::NodeAddress(_)) => ConstraintKey::NodeAddress,
            Some(Key::PlatformOs(_)) => ConstraintKey::PlatformOs,
            Some(Key::PlatformArch(_)) => ConstraintKey::PlatformArch,
            Some(Key::NodeLabel(label)) => ConstraintKey::NodeLabel(label),
            Some(Key::EngineLabel(label)) => ConstraintKey::EngineLabel(label),
            None => return Err(Fields("Constraint").refuse("key", "is missing")),
        };
        let comparison = match (constraint.comparison, constraint.equal) {
            (Some(comparison), _) => comparison.try_into()?,
            (None, true) => Comparison::Equal(constraint.value),
            (None, false) => Comparison::NotEqual(constraint.value),
        };
        Ok(Self { key, comparison })
    }
}

/// What `equal` and `value` of a constraint do not say.
fn comparison(comparison: &Comparison) -> Option<wire::Comparison> {
    use wire::comparison::Comparison as Wire;
    let words = |values: &[String]| wire::Words { words: values.to_vec() };
    let comparison = match comparison {
        Comparison::Equal(_) | Comparison::NotEqual(_) => return None,
        Comparison::In(values) => Wire::In(words(values)),
        Comparison::NotIn(values) => Wire::NotIn(words(values)),
        Comparison::Exists => Wire::Exists(wire::Nothing {}),
        Comparison::NotExists => Wire::NotExists(wire::Nothing {}),
        Comparison::Less(number) => Wire::Less(*number),
        Comparison::AtMost(number) => Wire::AtMost(*number),
        Comparison::AtLeast(number) => Wire::AtLeast(*number),
        Comparison::More(number) => Wire::More(*number),
    };
    Some(wire::Comparison { comparison: Some(comparison) })
}

impl TryFrom<wire::Comparison> for Comparison {
    type Error = ConvertError;

    fn try_from(comparison: wire::Comparison) -> Result<Self, ConvertError> {
        use wire::comparison::Comparison as Wire;
        Ok(match comparison.comparison {
            Some(Wire::In(values)) => Self::In(values.words),
            Some(Wire::NotIn(values)) => Self::NotIn(values.words),
            Some(Wire::Exists(_)) => Self::Exists,
            Some(Wire::NotExists(_)) => Self::NotExists,
            Some(Wire::Less(number)) => Self::Less(number),
            Some(Wire::AtMost(number)) => Self::AtMost(number),
            Some(Wire::AtLeast(number)) => Self::AtLeast(number),
            Some(Wire::More(number)) => Self::More(number),
            None => return Err(Fields("Comparison").refuse("comparison", "is missing")),
        })
    }
}

impl From<&Domain> for wire::Domain {
    fn from(domain: &Domain) -> Self {
        use wire::domain::Domain as Wire;
        let domain = match domain {
            Domain::Node => Wire::Node(wire::Nothing {}),
            Domain::NodeLabel(label) => Wire::NodeLabel(label.clone()),
            Domain::EngineLabel(label) => Wire::EngineLabel(label.clone()),
        };
        Self { domain: Some(domain) }
    }
}

impl TryFrom<wire::Domain> for Domain {
    type Error = ConvertError;

    fn try_from(domain: wire::Domain) -> Result<Self, ConvertError> {
        use wire::domain::Domain as Wire;
        Ok(match domain.domain {
            Some(Wire::Node(_)) => Self::Node,
            Some(Wire::NodeLabel(label)) => Self::NodeLabel(label),
            Some(Wire::EngineLabel(label)) => Self::EngineLabel(label),
            None => return Err(Fields("Domain").refuse("domain", "is missing")),
        })
    }
}

impl From<&Affinity> for wire::Affinity {
    fn from(affinity: &Affinity) -> Self {
        Self { service: affinity.service.clone(), within: Some((&affinity.within).into()) }
    }
}

impl TryFrom<wire::Affinity> for Affinity {
    type Error = ConvertError;

    fn try_from(affinity: wire::Affinity) -> Result<Self, ConvertError> {
        let within = Fields("Affinity").required("within", affinity.within)?;
        Ok(Self { service: affinity.service, within })
    }
}

impl From<&Placement> for wire::Placement {
    fn from(placement: &Placement) -> Self {
        let labels = placement.spread.iter().map(|domain| match domain {
            Domain::NodeLabel(label) => Some(label.clone()),
            Domain::Node | Domain::EngineLabel(_) => None,
        });
        let (spread, spread_over) = match labels.collect() {
            Some(labels) => (labels, Vec::new()),
            None => (Vec::new(), each(&placement.spread)),
        };
        Self {
            constraints: each(&placement.constraints),
            spread,
            max_replicas_per_node: placement.max_replicas_per_node,
            spread_over,
            near: each(&placement.near),
            apart: each(&placement.apart),
        }
    }
}

impl TryFrom<wire::Placement> for Placement {
    type Error = ConvertError;

    fn try_from(placement: wire::Placement) -> Result<Self, ConvertError> {
        let at = Fields("Placement");
        let spread = if placement.spread_over.is_empty() {
            placement.spread.into_iter().map(Domain::NodeLabel).collect()
        } else {
            at.list("spread_over", placement.spread_over)?
        };
        Ok(Self {
            constraints: at.list("constraints", placement.constraints)?,
            spread,
            max_replicas_per_node: placement.max_replicas_per_node,
            near: at.list("near", placement.near)?,
            apart: at.list("apart", placement.apart)?,
        })
    }
}
