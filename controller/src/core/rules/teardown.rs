//! Takes apart what was asked to be removed: tasks first, then services, those that depend on others before these, then
//! networks and the stack; and volumes.

use swarm_proto::entry::{Action, Counter, ObjectId};
use swarm_proto::id::Timestamp;
use swarm_proto::object::{Service, TaskState};

use super::dependency::is_removed_later;
use super::{Observed, Plan};
use crate::core::state::{State, tasks_of};

/// See the module.
pub fn plan(state: &State, _observed: &Observed, _now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    for id in &state.index.unsettled {
        if let Some(service) = state.services.get(id).filter(|service| service.removing)
            && !is_removed_later(state, service)
        {
            remove_service(state, service, &mut plan);
        }
    }
    for network in state.networks.values().filter(|network| network.removing) {
        let held = state.index.addresses.range((network.id, 0)..=(network.id, u32::MAX));
        if held.take(1).count() == 0 {
            let read = [(ObjectId::Network(network.id), Counter::Desired)];
            plan.add(state, &read, vec![Action::RemoveNetwork(network.id)]);
        }
    }
    for (name, stack) in state.stacks.iter().filter(|(_, stack)| stack.removing) {
        let mut networks = state.networks.values().filter(|network| &network.stack == name);
        if state.services_of(name).is_empty() {
            let read = [(ObjectId::Stack(name.clone()), Counter::Spec)];
            let mut left = false;
            for network in networks.by_ref() {
                left = true;
                if !network.removing {
                    plan.add(state, &read, vec![Action::SetNetworkRemoving(network.id)]);
                }
            }
            if !left {
                plan.add(state, &read, vec![Action::RemoveStack(stack.spec.name.clone())]);
            }
        }
    }
    for volume in state.volumes.values().filter(|volume| volume.removing) {
        if volume.holdings.is_empty() {
            let read = [(ObjectId::Volume(volume.id), Counter::Status)];
            plan.add(state, &read, vec![Action::RemoveVolume(volume.id)]);
        }
    }
    plan
}

fn remove_service(state: &State, service: &Service, plan: &mut Plan) {
    let mut left = false;
    for task in tasks_of(state, service.id) {
        left = true;
        if task.desired < TaskState::Remove {
            let read = [(ObjectId::Task(task.id), Counter::Desired)];
            let desired = TaskState::Remove;
            plan.add(state, &read, vec![Action::SetTaskDesired { task: task.id, desired }]);
        }
    }
    if !left {
        let read = [(ObjectId::Service(service.id), Counter::Spec)];
        plan.add(state, &read, vec![Action::RemoveService(service.id)]);
    }
}
