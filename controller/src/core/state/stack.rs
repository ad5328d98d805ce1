//! Writes of stacks and services.

use std::sync::Arc;

use swarm_proto::entry::{Action, ObjectId};
use swarm_proto::id::{ServiceId, Slot};
use swarm_proto::object::{AllocatedPort, Service, Stack, Vip};
use swarm_proto::version::ClusterVersion;

use super::index::member;
use super::task::is_previous;
use super::{Event, State, Stored, Versions, slots_of, tasks_of};

impl State {
    pub(super) fn act_stack(&mut self, action: &Action, events: &mut Vec<Event>) -> Option<()> {
        match action {
            Action::SetStack(stack) => {
                self.set_stack(stack, events);
                Some(())
            }
            Action::RemoveStack(name) => self.remove_stack(name, events),
            Action::SetStackLeaving { stack, leaving } => {
                let mut new = self.stacks.get(stack)?.object.as_ref().clone();
                new.leaving = leaving.clone();
                self.set_stack(&new, events);
                Some(())
            }
            Action::SetService(service) => self.set_service(service, events),
            Action::SetServiceEndpoint { service, vips, ports } => {
                self.set_endpoint(*service, vips, ports, events)
            }
            Action::SetServiceRemoving(id) => {
                let mut new = self.services.get(id)?.clone();
                Arc::make_mut(&mut new.object).removing = true;
                new.versions.spec += 1;
                self.put_service(new, events);
                Some(())
            }
            Action::RemoveService(id) => self.remove_service(*id, events),
            _ => None,
        }
    }

    fn set_stack(&mut self, stack: &Stack, events: &mut Vec<Event>) {
        let name = stack.spec.name.clone();
        let mut versions = self.stacks.get(&name).map(|old| old.versions).unwrap_or_default();
        versions.spec += 1;
        self.mix(stack.revision);
        self.mix(versions.spec);
        member(&mut self.index.leaving, name.clone(), !stack.leaving.is_empty());
        let object = Arc::new(stack.clone());
        events.push(Event::Stack(object.clone()));
        self.stacks.insert(name, Stored { object, versions });
    }

    fn remove_stack(&mut self, name: &str, events: &mut Vec<Event>) -> Option<()> {
        let has = |key: Option<&(String, String)>| key.is_some_and(|(stack, _)| stack == name);
        let first = (name.to_owned(), String::new());
        let service = self.index.services.range(first.clone()..).next().map(|(key, _)| key);
        let network = self.index.networks.range(first..).next().map(|(key, _)| key);
        if has(service) || has(network) {
            return None;
        }
        self.stacks.remove(name)?;
        self.index.leaving.remove(name);
        self.mix(self.version);
        let object = ObjectId::Stack(name.to_owned());
        events.push(Event::Removed { object, name: name.to_owned(), stack: name.to_owned() });
        Some(())
    }

    fn set_service(&mut self, service: &Service, events: &mut Vec<Event>) -> Option<()> {
        if !self.has_contents_of(&service.spec.container) || !self.has_externals_of(&service.spec) {
            return None;
        }
        let mut new = service.clone();
        let versions = match self.services.get(&service.id) {
            None => {
                if service.id.0 != self.next.service || service.spec_version != 1 {
                    return None;
                }
                self.next.service += 1;
                new.vips.clear();
                new.ports.clear();
                new.runs = self.runs_after(None, service);
                new.latest_version = 1;
                Versions { spec: 1, desired: 1, status: 1 }
            }
            Some(old) => {
                if !self.is_next_version(old, service.spec_version) {
                    return None;
                }
                new.latest_version = old.latest_version.max(service.spec_version);
                new.vips.clone_from(&old.vips);
                new.ports.clone_from(&old.ports);
                new.runs = self.runs_after(Some(&old.object), service);
                Versions { spec: old.versions.spec + 1, ..old.versions }
            }
        };
        self.put_service(Stored { object: Arc::new(new), versions }, events);
        Some(())
    }

    /// Whether a service may have this spec version now: the same, the next of all, or one that it had before.
    fn is_next_version(&self, old: &Service, version: u64) -> bool {
        let goes_back = version < old.spec_version;
        let may_go_back = self.cluster_version >= ClusterVersion(4) && version > 0;
        version.checked_sub(old.latest_version).is_none_or(|raised| raised <= 1)
            && (!goes_back || may_go_back)
    }

    fn set_endpoint(
        &mut self,
        id: ServiceId,
        vips: &[Vip],
        ports: &[AllocatedPort],
        events: &mut Vec<Event>,
    ) -> Option<()> {
        let old = self.services.get(&id)?.clone();
        let key = |vip: &Vip| (vip.network, u32::from(vip.address));
        let free = |vip: &Vip| {
            old.vips.contains(vip)
                || (self.is_free(&key(vip)) && self.networks.contains_key(&vip.network))
        };
        if !vips.iter().all(free) {
            return None;
        }
        let mut new = old.clone();
        let service = Arc::make_mut(&mut new.object);
        service.vips = vips.to_vec();
        service.ports = ports.to_vec();
        new.versions.desired += 1;
        self.put_service(new, events);
        for vip in old.vips.iter().filter(|vip| !vips.contains(vip)) {
            self.give_up_address(key(vip));
        }
        for vip in vips.iter().filter(|vip| !old.vips.contains(vip)) {
            self.cursors.insert(vip.network, u32::from(vip.address));
        }
        Some(())
    }

    fn remove_service(&mut self, id: ServiceId, events: &mut Vec<Event>) -> Option<()> {
        let old = self.services.get(&id)?.clone();
        if tasks_of(self, id).next().is_some() {
            return None;
        }
        self.index.service(&old, false);
        self.services.remove(&id);
        for vip in &old.vips {
            self.give_up_address((vip.network, vip.address.into()));
        }
        let slots: Vec<(ServiceId, Slot)> =
            self.slots.range(slots_of(id)).map(|(key, _)| *key).collect();
        for slot in slots {
            self.slots.remove(&slot);
        }
        self.specs.remove(&(id, old.spec_version));
        self.specs.remove(&(id, old.previous_version));
        self.index.counts.remove(&id);
        self.judge(id);
        self.touch_service_networks(&old);
        self.judge_service_contents(&old);
        self.mix(id.0);
        let (name, stack) = (old.name(), old.stack.clone());
        events.push(Event::Removed { object: ObjectId::Service(id), name, stack });
        Some(())
    }

    /// Puts a service in place of the one before, with all that follows.
    fn put_service(&mut self, new: Stored<Service>, events: &mut Vec<Event>) {
        let id = new.id;
        let old = self.services.get(&id).cloned();
        let spec_changed = old.as_ref().is_some_and(|old| old.spec != new.spec);
        let recount = old.as_ref().is_some_and(|old| old.spec_version != new.spec_version);
        let tasks: Vec<_> = if spec_changed || recount {
            tasks_of(self, id).cloned().collect()
        } else {
            Vec::new()
        };
        for task in &tasks {
            self.forget_contribution(task);
        }
        if let Some(old) = &old {
            self.index.service(old, false);
            for version in [old.spec_version, old.previous_version] {
                let in_use = self.index.spec_uses.contains_key(&(id, version))
                    || tasks.iter().any(|task| task.spec_version == version);
                if !in_use && version != new.spec_version && !is_previous(&new, version) {
                    self.specs.remove(&(id, version));
                }
            }
        }
        if spec_changed || old.is_none() {
            self.specs.insert((id, new.spec_version), Arc::new(new.spec.clone()));
        }
        self.services.insert(id, new.clone());
        self.index.service(&new, true);
        for task in &tasks {
            self.add_contribution(task);
            if let Some(node) = task.node {
                self.touch_node(node);
            }
        }
        self.touch_service_networks(&new);
        self.judge_service_contents(&new);
        if let Some(old) = &old {
            self.judge_service_contents(old);
        }
        self.judge(id);
        self.mix(id.0);
        self.mix(new.versions.spec);
        self.mix(new.versions.desired);
        events.push(Event::Service(new.object));
    }

    fn judge_service_contents(&mut self, service: &Service) {
        self.judge_contents_of(&service.spec.container);
        if let Some(previous) = &service.previous {
            self.judge_contents_of(&previous.container);
        }
    }

    fn touch_service_networks(&mut self, service: &Service) {
        let networks = service.spec.networks.iter();
        let ids = networks.filter_map(|one| self.index.network_of(&service.stack, one));
        let ids: Vec<_> = ids.collect();
        for network in ids.into_iter().chain(service.vips.iter().map(|vip| vip.network)) {
            self.touch_network(network);
        }
    }

    /// Whether services of a stack are left.
    pub(crate) fn services_of(&self, stack: &str) -> Vec<&Stored<Service>> {
        let first = (stack.to_owned(), String::new());
        let of_stack =
            self.index.services.range(first..).take_while(|((name, _), _)| name == stack);
        of_stack.filter_map(|(_, id)| self.services.get(id)).collect()
    }

    /// A service by stack and key.
    pub(crate) fn find_service(&self, stack: &str, key: &str) -> Option<&Stored<Service>> {
        let id = self.index.services.get(&(stack.to_owned(), key.to_owned()))?;
        self.services.get(id)
    }
}
