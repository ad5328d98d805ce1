//! The command that makes a stack be as a spec says: checks it whole against the cluster, then writes what differs.

mod autoscale;
mod blue_green;
mod check;
mod container;
mod external;
mod hidden;
mod job;
mod node_loss;
mod priority;
mod prune;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use swarm_proto::entry::{Action, Counter, ObjectId};
use swarm_proto::id::{ServiceId, Timestamp};
use swarm_proto::object::{Leaving, Scaling, Service, Stack};
use swarm_proto::spec::{
    ContentKind, Dependency, NetworkSpec, ServiceMode, ServiceSpec, StackSpec, VolumeSpec,
};

use super::command::Decision;
use super::network::{self, Wanted};
use super::{content, update, volume};
use crate::core::command::{CommandDone, Refusal};
use crate::core::state::State;
pub(super) use autoscale::within;
pub(super) use check::{check_replicas, check_subnet};
use prune::Left;

/// What a deploy writes, while it is put together.
struct Draft<'a> {
    state: &'a State,
    spec: &'a StackSpec,
    now: Timestamp,
    actions: Vec<Action>,
    read: Vec<(ObjectId, Counter)>,
    changes: Vec<String>,
    /// Subnets given to new networks of this deploy.
    subnets: Vec<(Ipv4Addr, u8)>,
    volumes: u64,
    services: u64,
    /// Services whose tasks are replaced.
    renewed: BTreeSet<String>,
}

pub(super) fn decide(
    state: &State,
    spec: &StackSpec,
    prune: bool,
    warnings: &[String],
    now: Timestamp,
) -> Result<Decision, Refusal> {
    check::stack(state, spec, prune)?;
    let resolved = external::resolved(state, content::resolved(state, spec)?)?;
    let spec = resolved.as_ref();
    let mut draft = Draft {
        state,
        spec,
        now,
        actions: Vec::new(),
        read: vec![(ObjectId::Stack(spec.name.clone()), Counter::Spec)],
        changes: Vec::new(),
        subnets: Vec::new(),
        volumes: 0,
        services: 0,
        renewed: renewed(state, spec),
    };
    for (key, network) in &spec.networks {
        draft.network(key, network)?;
    }
    for (key, volume) in &spec.volumes {
        draft.volume(key, volume)?;
    }
    for kind in [ContentKind::Secret, ContentKind::Config] {
        draft.contents(kind);
    }
    for (key, service) in &spec.services {
        draft.service(key, service);
    }
    let mut left = draft.leave(prune);
    let mut all_warnings = warnings.to_vec();
    all_warnings.append(&mut left.warnings);
    all_warnings.extend(hidden::warnings(state, spec));
    all_warnings.extend(blue_green::warnings(state, spec));
    Ok(draft.finish(left, all_warnings))
}

impl Draft<'_> {
    fn network(&mut self, key: &str, spec: &NetworkSpec) -> Result<(), Refusal> {
        let stack = &self.spec.name;
        if spec.external {
            let network = external::find_network(self.state, stack, &spec.full_name(stack, key))?;
            self.read.push((ObjectId::Network(network.id), Counter::Spec));
            return Ok(());
        }
        if let Some(old) = self.state.find_network(stack, key) {
            self.read.push((ObjectId::Network(old.id), Counter::Spec));
            if old.spec != *spec {
                let mut network = old.object.as_ref().clone();
                network.spec = spec.clone();
                self.changes.push(format!("network {key} updated"));
                self.actions.push(Action::SetNetwork(Box::new(network)));
            }
            return Ok(());
        }
        let name = spec.full_name(stack, key);
        let wanted = Wanted { stack, key, name, spec };
        let network = network::made(self.state, wanted, &self.subnets)?;
        self.subnets.push((network.subnet, network.prefix_length));
        self.changes.push(format!("network {key} created"));
        self.actions.push(Action::SetNetwork(Box::new(network)));
        Ok(())
    }

    fn volume(&mut self, key: &str, spec: &VolumeSpec) -> Result<(), Refusal> {
        let stack = &self.spec.name;
        if spec.external {
            let volume = external::find_volume(self.state, &spec.full_name(stack, key))?;
            self.read.push((ObjectId::Volume(volume.id), Counter::Spec));
            return Ok(());
        }
        if let Some(old) = self.state.find_volume(stack, key) {
            self.read.push((ObjectId::Volume(old.id), Counter::Spec));
            if old.spec != *spec {
                let mut volume = old.object.as_ref().clone();
                volume.spec = spec.clone();
                self.changes.push(format!("volume {key} updated"));
                self.actions.push(Action::SetVolume(Box::new(volume)));
            }
            return Ok(());
        }
        let name = spec.full_name(stack, key);
        let volume = volume::made(self.state, stack, key, name, spec, self.volumes);
        self.volumes += 1;
        self.changes.push(format!("volume {key} created"));
        self.actions.push(Action::SetVolume(Box::new(volume)));
        Ok(())
    }

    /// Contents are part of the stack's spec; only what changed in them is told.
    fn contents(&mut self, kind: ContentKind) {
        let old = self.state.stacks.get(&self.spec.name).map(|stack| stack.spec.contents(kind));
        for (key, spec) in self.spec.contents(kind) {
            match old.and_then(|old| old.get(key)) {
                None => self.changes.push(format!("{kind} {key} created")),
                Some(old) if old != spec => self.changes.push(format!("{kind} {key} updated")),
                Some(_) => {}
            }
        }
    }

    fn service(&mut self, key: &str, spec: &ServiceSpec) {
        let old = self.state.find_service(&self.spec.name, key);
        if let Some(old) = old {
            self.read.push((ObjectId::Service(old.id), Counter::Spec));
        }
        let Some(old) = old else {
            let id = ServiceId(self.state.next.service + self.services);
            let stack = self.spec.name.clone();
            let service = Service::new(id, stack, key.to_owned(), spec.clone(), self.now);
            self.services += 1;
            self.changes.push(format!("service {key} created"));
            self.actions.push(Action::SetService(Box::new(service)));
            return;
        };
        let (mut spec, wished) = (spec.clone(), spec.mode);
        spec.dependency_restarts = old.spec.dependency_restarts;
        if self.restarts(&spec) {
            spec.dependency_restarts += 1;
        }
        let said = self.state.stacks.get(&self.spec.name);
        let said = said.and_then(|stack| stack.spec.services.get(key));
        spec.mode = autoscale::number(said, &old.spec, &spec);
        if old.spec == spec {
            // What it says now is what the next deploy is compared with.
            if spec.autoscale.is_some() && said.is_some_and(|said| said.mode != wished) {
                self.changes.push(format!("service {key} keeps its number of tasks"));
            }
            return;
        }
        let mut service = old.object.as_ref().clone();
        self.note_scaling(&mut service, &spec);
        service.spec = spec.clone();
        service.updated_at = self.now;
        service.spec_version = update::version_of(self.state, old, &spec);
        let rescaled = ServiceSpec { mode: spec.mode, ..old.spec.clone() };
        if rescaled == spec && is_replicated(&spec) {
            keep_scale(&mut service);
        } else if !spec.mode.is_job() {
            update::supersede(self.state, old, &mut service, self.now);
        }
        self.changes.push(difference(key, &old.spec, &spec));
        self.actions.push(Action::SetService(Box::new(service)));
    }

    /// A deploy that changes the number of tasks of a service that is scaled by itself counts as a scaling.
    fn note_scaling(&self, service: &mut Service, new: &ServiceSpec) {
        if new.autoscale.is_none() {
            service.scaling = None;
        } else if let (Some(from), Some(to)) = (service.spec.replicas(), new.replicas())
            && from != to
        {
            let reason = "by a deploy".to_owned();
            service.scaling = Some(Scaling { at: self.now, from, to, reason });
        }
    }

    /// Whether a service shall restart with one that is updated.
    fn restarts(&self, spec: &ServiceSpec) -> bool {
        spec.depends_on.iter().any(|one| one.restart && self.renewed.contains(&one.service))
    }

    fn finish(self, left: Left, warnings: Vec<String>) -> Decision {
        let Left { leaving, kept, .. } = left;
        let goes: Vec<String> = leaving.services.iter().cloned().collect();
        let old = self.state.stacks.get(&self.spec.name);
        let changed = !self.changes.is_empty() || old.is_none();
        let before = old.map_or(0, |stack| stack.revision);
        let revision = if changed { before + 1 } else { before };
        let mut actions = Vec::new();
        if changed {
            actions.push(next_revision(self.state, self.spec, leaving, self.now));
            actions.extend(self.actions);
        }
        let changes = self.changes;
        let done =
            CommandDone::Deployed { revision, changed, warnings, changes, kept, leaving: goes };
        Decision { actions, read: self.read, done }
    }
}

/// The services whose tasks a deploy replaces: those that changed, and those that restart with one of these.
fn renewed(state: &State, spec: &StackSpec) -> BTreeSet<String> {
    let old = |key: &String| state.find_service(&spec.name, key);
    let is_changed = |(key, service): &(&String, &ServiceSpec)| {
        let counted = old(key).map_or(0, |old| old.spec.dependency_restarts);
        let service = ServiceSpec { dependency_restarts: counted, ..(*service).clone() };
        old(key).is_some_and(|old| update::needs_new_tasks(&old.spec, &service))
    };
    let changed = spec.services.iter().filter(is_changed);
    let mut renewed: BTreeSet<String> = changed.map(|(key, _)| key.clone()).collect();
    loop {
        let follows = |(key, service): &(&String, &ServiceSpec)| {
            let with = |one: &Dependency| one.restart && renewed.contains(&one.service);
            !renewed.contains(*key) && old(key).is_some() && service.depends_on.iter().any(with)
        };
        let more: Vec<String> =
            spec.services.iter().filter(follows).map(|(key, _)| key.clone()).collect();
        if more.is_empty() {
            return renewed;
        }
        renewed.extend(more);
    }
}

/// A stack as a file says it, which knows nothing of new tasks that were asked for beside it.
pub(super) fn with_force(state: &State, spec: &StackSpec) -> StackSpec {
    let mut spec = spec.clone();
    for (key, service) in spec.services.iter_mut().filter(|(_, service)| service.force == 0) {
        let old = state.find_service(&spec.name, key);
        service.force = old.map_or(0, |old| old.spec.force);
    }
    spec
}

/// The next revision of a stack.
pub(super) fn next_revision(
    state: &State,
    spec: &StackSpec,
    leaving: Leaving,
    now: Timestamp,
) -> Action {
    let before = state.stacks.get(&spec.name).map_or(0, |stack| stack.revision);
    let (spec, revision) = (spec.clone(), before + 1);
    Action::SetStack(Box::new(Stack { spec, revision, deployed_at: now, removing: false, leaving }))
}

/// What a scaled service goes back to has its number of tasks, too.
pub(super) fn keep_scale(service: &mut Service) {
    let mode = service.spec.mode;
    if let Some(previous) = service.previous.as_mut().filter(|previous| is_replicated(previous)) {
        previous.mode = mode;
    }
}

fn is_replicated(spec: &ServiceSpec) -> bool {
    matches!(spec.mode, ServiceMode::Replicated { .. })
}

fn difference(key: &str, old: &ServiceSpec, new: &ServiceSpec) -> String {
    let same_but_number = ServiceSpec { mode: new.mode, ..old.clone() } == *new;
    let restarts = new.dependency_restarts;
    if (ServiceSpec { dependency_restarts: restarts, ..old.clone() }) == *new {
        return format!("service {key} restarted with one that it depends on");
    }
    match (old.mode, new.mode) {
        (ServiceMode::Replicated { replicas: from }, ServiceMode::Replicated { replicas: to })
            if same_but_number =>
        {
            format!("service {key} scaled from {from} to {to}")
        }
        _ if old.container.image != new.container.image => {
            format!(
                "service {key} updated to image {}",
                hidden::familiar(&new.container.image.reference)
            )
        }
        _ => format!("service {key} updated"),
    }
}
