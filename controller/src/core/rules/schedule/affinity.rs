//! Services whose tasks go together, or stay apart. Looked at when a task is placed, not afterwards.

use swarm_proto::id::ServiceId;
use swarm_proto::object::Node;
use swarm_proto::spec::{Affinity, Domain};

use super::filter::{Question, Reason};

pub(super) fn refusal(question: &Question<'_, '_>, node: &Node) -> Option<Reason> {
    near(question, node).or_else(|| apart(question, node)).or_else(|| kept_off(question, node))
}

fn near(question: &Question<'_, '_>, node: &Node) -> Option<Reason> {
    let Question { state, service, spec, placed, .. } = question;
    let lacks = |affinity: &&Affinity| {
        let Some(other) = find(question, affinity) else { return true };
        // The first of a service that goes together with itself may choose the place.
        let is_first = other == service.id && placed.nodes_of(state, other).next().is_none();
        !is_first && placed.near(state, other, node, &affinity.within) == 0
    };
    let lacking = spec.placement.near.iter().find(lacks)?;
    Some(format!("not near a task of `{}`{}", lacking.service, within(&lacking.within)))
}

fn apart(question: &Question<'_, '_>, node: &Node) -> Option<Reason> {
    let Question { state, spec, placed, .. } = question;
    let has = |affinity: &&Affinity| {
        let other = find(question, affinity);
        other.is_some_and(|other| placed.near(state, other, node, &affinity.within) > 0)
    };
    let there = spec.placement.apart.iter().find(has)?;
    Some(format!("near a task of `{}`{}", there.service, within(&there.within)))
}

/// Other services that want to be apart from this one.
fn kept_off(question: &Question<'_, '_>, node: &Node) -> Option<Reason> {
    let Question { state, service, placed, .. } = question;
    let key = (service.stack.clone(), service.key.clone());
    let first = (key.clone(), ServiceId(0));
    let last = (key, ServiceId(u64::MAX));
    for (_, id) in state.index.apart.range(first..=last) {
        let Some(other) = state.services.get(id).filter(|other| other.id != service.id) else {
            continue;
        };
        let all = other.spec.placement.apart.iter();
        let mut meant = all.filter(|affinity| affinity.service == service.key);
        if let Some(there) =
            meant.find(|affinity| placed.near(state, other.id, node, &affinity.within) > 0)
        {
            let near = within(&there.within);
            return Some(format!("near a task of `{}`{near}, which stays apart", other.key));
        }
    }
    None
}

fn find(question: &Question<'_, '_>, affinity: &Affinity) -> Option<ServiceId> {
    let found = question.state.find_service(&question.service.stack, &affinity.service);
    found.map(|service| service.id)
}

fn within(domain: &Domain) -> String {
    match domain {
        Domain::Node => String::new(),
        label => format!(" by {label}"),
    }
}
