//! Any placement.

use proptest::collection::vec;
use proptest::prelude::*;

use super::text;
use crate::spec::{Affinity, Comparison, Constraint, ConstraintKey, Domain, Placement};

fn constraint_key() -> BoxedStrategy<ConstraintKey> {
    prop_oneof![
        Just(ConstraintKey::NodeId),
        Just(ConstraintKey::NodeHostname),
        Just(ConstraintKey::NodeRole),
        Just(ConstraintKey::NodeAddress),
        Just(ConstraintKey::PlatformOs),
        Just(ConstraintKey::PlatformArch),
        text().prop_map(ConstraintKey::NodeLabel),
        text().prop_map(ConstraintKey::EngineLabel),
    ]
    .boxed()
}

fn comparison() -> BoxedStrategy<Comparison> {
    prop_oneof![
        text().prop_map(Comparison::Equal),
        text().prop_map(Comparison::NotEqual),
        vec(text(), 1..3).prop_map(Comparison::In),
        vec(text(), 1..3).prop_map(Comparison::NotIn),
        Just(Comparison::Exists),
        Just(Comparison::NotExists),
        any::<i64>().prop_map(Comparison::Less),
        any::<i64>().prop_map(Comparison::AtMost),
        any::<i64>().prop_map(Comparison::AtLeast),
        any::<i64>().prop_map(Comparison::More),
    ]
    .boxed()
}

fn domain() -> BoxedStrategy<Domain> {
    prop_oneof![
        Just(Domain::Node),
        text().prop_map(Domain::NodeLabel),
        text().prop_map(Domain::EngineLabel),
    ]
    .boxed()
}

strategy! {
    fn constraint -> Constraint {
        key: constraint_key(),
        comparison: comparison(),
    }
    fn affinity -> Affinity {
        service: text(),
        within: domain(),
    }
    fn placement -> Placement {
        constraints: vec(constraint(), 0..3),
        spread: vec(domain(), 0..3),
        max_replicas_per_node: any::<Option<u32>>(),
        near: vec(affinity(), 0..2),
        apart: vec(affinity(), 0..2),
    }
}
