use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::{Autoscale, Constraint, Mount, PortSpec, ServiceMode, ServiceSpec, UpdatePolicy};

/// A part of a service's spec that a change takes over as a whole. Its name is the flag's of `service update`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangedField {
    /// `--image`
    Image,
    /// `--args`
    Args,
    /// `--replicas`
    Replicas,
    /// `--limit-cpu`
    LimitCpu,
    /// `--limit-memory`
    LimitMemory,
    /// `--limit-pids`
    LimitPids,
    /// `--reserve-cpu`
    ReserveCpu,
    /// `--reserve-memory`
    ReserveMemory,
    /// `--reserve-pids`
    ReservePids,
    /// `--restart-condition`
    RestartCondition,
    /// `--restart-delay`
    RestartDelay,
    /// `--restart-max-attempts`
    RestartMaxAttempts,
    /// `--restart-window`
    RestartWindow,
    /// `--stop-grace-period`
    StopGracePeriod,
    /// `--priority`
    Priority,
    /// `--preemption`
    Preemption,
    /// `--unreachable-after`
    UnreachableAfter,
    /// `--on-cut-off`
    OnCutOff,
    /// `--canary`: how many, and for how long
    Canary,
    /// `--canary-hold`: only for how long, where there is a canary already
    CanaryHold,
    /// `--autoscale`: all of it, which is to take it away
    Autoscale,
    /// `--autoscale-…`
    Autoscaling(AutoscaleField),
    /// `--update-…`
    Update(PolicyField),
    /// `--rollback-…`
    Rollback(PolicyField),
}

/// A part of how a service is scaled by what is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AutoscaleField {
    /// `min`
    Min,
    /// `max`
    Max,
    /// `cpu`
    Cpu,
    /// `memory`
    Memory,
    /// `requests`
    Requests,
    /// `scrape`
    Scrape,
    /// `stabilisation`
    Stabilisation,
    /// `cool-down`
    CoolDown,
}

impl AutoscaleField {
    /// All of them, with their names.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Min, "min"),
        (Self::Max, "max"),
        (Self::Cpu, "cpu"),
        (Self::Memory, "memory"),
        (Self::Requests, "requests"),
        (Self::Scrape, "scrape"),
        (Self::Stabilisation, "stabilisation"),
        (Self::CoolDown, "cool-down"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(field, _)| *field == self).map_or("", |(_, name)| name)
    }

    fn is_target(self) -> bool {
        matches!(self, Self::Cpu | Self::Memory | Self::Requests | Self::Scrape)
    }

    fn take(self, into: &mut Autoscale, from: &Autoscale) {
        match self {
            Self::Min => into.min = from.min,
            Self::Max => into.max = from.max,
            Self::Cpu => into.cpu = from.cpu,
            Self::Memory => into.memory = from.memory,
            Self::Requests => into.requests = from.requests,
            Self::Scrape => into.scrape.clone_from(&from.scrape),
            Self::Stabilisation => into.stabilisation = from.stabilisation,
            Self::CoolDown => into.cool_down = from.cool_down,
        }
    }
}

/// A part of the policy of updates or of rollbacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyField {
    /// `parallelism`
    Parallelism,
    /// `delay`
    Delay,
    /// `order`
    Order,
    /// `failure-action`
    FailureAction,
    /// `monitor`
    Monitor,
    /// `max-failure-ratio`
    MaxFailureRatio,
    /// `progress-deadline`
    ProgressDeadline,
}

impl PolicyField {
    /// All of them, with their names.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Parallelism, "parallelism"),
        (Self::Delay, "delay"),
        (Self::Order, "order"),
        (Self::FailureAction, "failure-action"),
        (Self::Monitor, "monitor"),
        (Self::MaxFailureRatio, "max-failure-ratio"),
        (Self::ProgressDeadline, "progress-deadline"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(field, _)| *field == self).map_or("", |(_, name)| name)
    }

    fn take(self, into: &mut UpdatePolicy, from: &UpdatePolicy) {
        match self {
            Self::Parallelism => into.parallelism = from.parallelism,
            Self::Delay => into.delay = from.delay,
            Self::Order => into.order = from.order,
            Self::FailureAction => into.failure_action = from.failure_action,
            Self::Monitor => into.monitor = from.monitor,
            Self::MaxFailureRatio => into.max_failure_ratio = from.max_failure_ratio,
            Self::ProgressDeadline => into.progress_deadline = from.progress_deadline,
        }
    }
}

impl ChangedField {
    const PLAIN: [(Self, &'static str); 21] = [
        (Self::Image, "image"),
        (Self::Args, "args"),
        (Self::Replicas, "replicas"),
        (Self::LimitCpu, "limit-cpu"),
        (Self::LimitMemory, "limit-memory"),
        (Self::LimitPids, "limit-pids"),
        (Self::ReserveCpu, "reserve-cpu"),
        (Self::ReserveMemory, "reserve-memory"),
        (Self::ReservePids, "reserve-pids"),
        (Self::RestartCondition, "restart-condition"),
        (Self::RestartDelay, "restart-delay"),
        (Self::RestartMaxAttempts, "restart-max-attempts"),
        (Self::RestartWindow, "restart-window"),
        (Self::StopGracePeriod, "stop-grace-period"),
        (Self::Priority, "priority"),
        (Self::Preemption, "preemption"),
        (Self::UnreachableAfter, "unreachable-after"),
        (Self::OnCutOff, "on-cut-off"),
        (Self::Canary, "canary"),
        (Self::CanaryHold, "canary-hold"),
        (Self::Autoscale, "autoscale"),
    ];
}

impl fmt::Display for ChangedField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Autoscaling(field) => write!(f, "autoscale-{}", field.name()),
            Self::Update(field) => write!(f, "update-{}", field.name()),
            Self::Rollback(field) => write!(f, "rollback-{}", field.name()),
            plain => {
                let found = Self::PLAIN.iter().find(|(field, _)| field == plain);
                f.write_str(found.map_or("", |(_, name)| name))
            }
        }
    }
}

/// Why a text is no [`ChangedField`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no part of a service that can be changed")]
pub struct ParseFieldError(String);

impl FromStr for ChangedField {
    type Err = ParseFieldError;

    fn from_str(text: &str) -> Result<Self, ParseFieldError> {
        let policy = |name: &str| {
            let found = PolicyField::ALL.into_iter().find(|(_, known)| *known == name);
            found.map(|(field, _)| field)
        };
        let plain = Self::PLAIN.into_iter().find(|(_, name)| *name == text);
        let update = || text.strip_prefix("update-").and_then(policy).map(Self::Update);
        let rollback = || text.strip_prefix("rollback-").and_then(policy).map(Self::Rollback);
        let autoscaling = || {
            let name = text.strip_prefix("autoscale-")?;
            let found = AutoscaleField::ALL.into_iter().find(|(_, known)| *known == name);
            found.map(|(field, _)| Self::Autoscaling(field))
        };
        let plain = plain.map(|(field, _)| field);
        let found = plain.or_else(autoscaling).or_else(update).or_else(rollback);
        found.ok_or_else(|| ParseFieldError(text.to_owned()))
    }
}

/// A change of a service's spec, as `service update` asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceChange {
    /// Where `fields` are taken from; its environment, labels, constraints, ports, mounts and generic resources are added.
    pub values: ServiceSpec,
    /// What is taken over as a whole.
    pub fields: BTreeSet<ChangedField>,
    /// Variables of the environment to take away.
    pub remove_environment: Vec<String>,
    /// The service's labels to take away.
    pub remove_labels: Vec<String>,
    /// The containers' labels to take away.
    pub remove_container_labels: Vec<String>,
    /// Constraints to take away.
    pub remove_constraints: Vec<Constraint>,
    /// Ports in the container no longer to publish.
    pub remove_ports: Vec<u16>,
    /// Places in the container at which nothing is mounted any more.
    pub remove_mounts: Vec<String>,
    /// Kinds of generic resources no longer to ask for.
    pub remove_resources: Vec<String>,
    /// New tasks even if nothing else changes.
    pub force: bool,
}

/// Why a change does not fit a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Replicas for a service that has one task on each node.
    #[error("it is global: it has one task on each node, not a number of replicas")]
    IsGlobal,
    /// Replicas for a job.
    #[error("it is a job: it has completions, not a number of replicas")]
    IsJob,
    /// A time to hold for where nothing holds.
    #[error("it has no canary that could hold: say also with `--canary` how many tasks that is")]
    NoCanary,
    /// A part of how it is scaled where nothing scales it.
    #[error(
        "nothing scales it yet: say with `--autoscale-max` how far, and by what with another `--autoscale-…`"
    )]
    NoAutoscale,
    /// What is to be taken away is not there.
    #[error("it has no {0} `{1}`")]
    Absent(&'static str, String),
}

impl ServiceChange {
    /// A change of nothing yet.
    pub fn new(values: ServiceSpec) -> Self {
        Self {
            values,
            fields: BTreeSet::new(),
            remove_environment: Vec::new(),
            remove_labels: Vec::new(),
            remove_container_labels: Vec::new(),
            remove_constraints: Vec::new(),
            remove_ports: Vec::new(),
            remove_mounts: Vec::new(),
            remove_resources: Vec::new(),
            force: false,
        }
    }

    /// Changes a spec: first takes away, then adds, as Swarm does.
    pub fn apply(&self, spec: &mut ServiceSpec) -> Result<(), ChangeError> {
        self.remove(spec)?;
        for field in &self.fields {
            self.take(*field, spec)?;
        }
        let (into, from) = (&mut spec.container, &self.values.container);
        into.environment.extend(from.environment.clone());
        into.labels.extend(from.labels.clone());
        for mount in &from.mounts {
            into.mounts.retain(|old: &Mount| old.target != mount.target);
            into.mounts.push(mount.clone());
        }
        for request in &from.resources.requests {
            into.resources.requests.retain(|old| old.kind != request.kind);
            into.resources.requests.push(request.clone());
        }
        spec.labels.extend(self.values.labels.clone());
        for constraint in &self.values.placement.constraints {
            if !spec.placement.constraints.contains(constraint) {
                spec.placement.constraints.push(constraint.clone());
            }
        }
        let key = |port: &PortSpec| (port.target, port.protocol, port.published);
        for port in &self.values.ports {
            spec.ports.retain(|old| key(old) != key(port));
            spec.ports.push(port.clone());
        }
        spec.ports.sort();
        if self.force {
            spec.force += 1;
        }
        Ok(())
    }

    fn remove(&self, spec: &mut ServiceSpec) -> Result<(), ChangeError> {
        remove_keys("variable", &mut spec.container.environment, &self.remove_environment)?;
        remove_keys("label", &mut spec.labels, &self.remove_labels)?;
        let labels = &mut spec.container.labels;
        remove_keys("container label", labels, &self.remove_container_labels)?;
        for constraint in &self.remove_constraints {
            let all = &mut spec.placement.constraints;
            remove_where("constraint", all, constraint, |old| old == constraint)?;
        }
        for target in &self.remove_ports {
            remove_where("published port", &mut spec.ports, target, |old| old.target == *target)?;
        }
        for kind in &self.remove_resources {
            let all = &mut spec.container.resources.requests;
            remove_where("generic resource", all, kind, |old| old.kind == *kind)?;
        }
        for target in &self.remove_mounts {
            let all = &mut spec.container.mounts;
            remove_where("mount at", all, target, |old| old.target == *target)?;
        }
        Ok(())
    }

    fn take(&self, field: ChangedField, spec: &mut ServiceSpec) -> Result<(), ChangeError> {
        let from = &self.values;
        let (into, resources) = (&mut spec.container, &from.container.resources);
        match field {
            ChangedField::Image => into.image = from.container.image.clone(),
            ChangedField::Args => into.command.clone_from(&from.container.command),
            ChangedField::Replicas if spec.mode == ServiceMode::Global => {
                return Err(ChangeError::IsGlobal);
            }
            ChangedField::Replicas if spec.mode.is_job() => return Err(ChangeError::IsJob),
            ChangedField::Replicas => spec.mode = from.mode,
            ChangedField::LimitCpu => into.resources.limit_millicpus = resources.limit_millicpus,
            ChangedField::LimitMemory => into.resources.limit_memory = resources.limit_memory,
            ChangedField::LimitPids => into.resources.limit_pids = resources.limit_pids,
            ChangedField::ReserveCpu => {
                into.resources.reserve_millicpus = resources.reserve_millicpus;
            }
            ChangedField::ReserveMemory => into.resources.reserve_memory = resources.reserve_memory,
            ChangedField::ReservePids => into.resources.reserve_pids = resources.reserve_pids,
            ChangedField::RestartCondition => spec.restart.condition = from.restart.condition,
            ChangedField::RestartDelay => spec.restart.delay = from.restart.delay,
            ChangedField::RestartMaxAttempts => {
                spec.restart.max_attempts = from.restart.max_attempts;
            }
            ChangedField::RestartWindow => spec.restart.window = from.restart.window,
            ChangedField::StopGracePeriod => {
                into.stop_grace_period = from.container.stop_grace_period;
            }
            ChangedField::Priority => spec.priority = from.priority,
            ChangedField::Preemption => spec.never_preempted = from.never_preempted,
            ChangedField::UnreachableAfter => {
                spec.node_loss.unreachable_after = from.node_loss.unreachable_after;
            }
            ChangedField::OnCutOff => spec.node_loss.on_cut_off = from.node_loss.on_cut_off,
            ChangedField::Canary => spec.canary = from.canary,
            ChangedField::CanaryHold => {
                let hold = from.canary.and_then(|canary| canary.hold);
                let canary = spec.canary.as_mut().ok_or(ChangeError::NoCanary)?;
                canary.hold = hold;
            }
            ChangedField::Autoscale => spec.autoscale.clone_from(&from.autoscale),
            ChangedField::Autoscaling(field) => self.take_scaling(field, spec)?,
            ChangedField::Update(field) => field.take(&mut spec.update, &from.update),
            ChangedField::Rollback(field) => field.take(&mut spec.rollback, &from.rollback),
        }
        Ok(())
    }
}

impl ServiceChange {
    /// One that is not scaled yet needs to be told what a stack file would be.
    fn take_scaling(
        &self,
        field: AutoscaleField,
        spec: &mut ServiceSpec,
    ) -> Result<(), ChangeError> {
        let from = self.values.autoscale.as_ref().ok_or(ChangeError::NoAutoscale)?;
        let is_whole = self.fields.contains(&ChangedField::Autoscaling(AutoscaleField::Max))
            && self.fields.iter().any(
                |field| matches!(field, ChangedField::Autoscaling(field) if field.is_target()),
            );
        let first = || Autoscale {
            min: 1,
            cpu: None,
            memory: None,
            requests: None,
            scrape: None,
            stabilisation: Autoscale::STABILISATION,
            cool_down: Autoscale::COOL_DOWN,
            ..from.clone()
        };
        if spec.autoscale.is_none() && !is_whole {
            return Err(ChangeError::NoAutoscale);
        }
        field.take(spec.autoscale.get_or_insert_with(first), from);
        Ok(())
    }
}

fn remove_keys<V>(
    kind: &'static str,
    map: &mut BTreeMap<String, V>,
    keys: &[String],
) -> Result<(), ChangeError> {
    for key in keys {
        map.remove(key).ok_or_else(|| ChangeError::Absent(kind, key.clone()))?;
    }
    Ok(())
}

fn remove_where<T>(
    kind: &'static str,
    all: &mut Vec<T>,
    shown: &impl fmt::Display,
    is_meant: impl Fn(&T) -> bool,
) -> Result<(), ChangeError> {
    let before = all.len();
    all.retain(|old| !is_meant(old));
    if all.len() < before { Ok(()) } else { Err(ChangeError::Absent(kind, shown.to_string())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Amount, Canary, CanarySize, ContainerSpec, ImageSpec, ResourceRequest};

    fn spec(image: &str) -> ServiceSpec {
        ServiceSpec::new(ContainerSpec::new(ImageSpec::new(image)))
    }

    #[test]
    fn each_field_has_a_name_that_reads_back() {
        let policy = PolicyField::ALL.iter().map(|(field, _)| *field);
        let policy =
            policy.flat_map(|one| [ChangedField::Update(one), ChangedField::Rollback(one)]);
        let scaling =
            AutoscaleField::ALL.iter().map(|(field, _)| ChangedField::Autoscaling(*field));
        let plain = ChangedField::PLAIN.iter().map(|(field, _)| *field);
        for field in plain.chain(policy).chain(scaling) {
            assert_eq!(field.to_string().parse(), Ok(field));
        }
        assert!("update-".parse::<ChangedField>().is_err());
        assert!("name".parse::<ChangedField>().is_err());
    }

    #[test]
    fn a_change_takes_away_then_adds_and_leaves_the_rest() {
        let mut old = spec("a");
        old.container.environment =
            [("A".into(), Some("1".into())), ("B".into(), Some("1".into()))].into();
        old.update.parallelism = 3;
        let mut change = ServiceChange::new(spec("b"));
        change.values.container.environment = [("A".into(), Some("2".into()))].into();
        change.values.update.delay = std::time::Duration::from_secs(1);
        change.remove_environment = vec!["A".into(), "B".into()];
        change.fields.insert(ChangedField::Update(PolicyField::Delay));
        change.force = true;
        let mut new = old.clone();
        change.apply(&mut new).unwrap();
        let mut expected = old.clone();
        expected.container.environment = [("A".into(), Some("2".into()))].into();
        expected.update.delay = std::time::Duration::from_secs(1);
        expected.force = 1;
        assert_eq!(new, expected, "the image was not asked for");
    }

    #[test]
    fn a_kind_of_resource_is_asked_for_once() {
        let request = |kind: &str, count| ResourceRequest {
            kind: kind.into(),
            amount: Amount::Count(count),
            capabilities: Vec::new(),
        };
        let mut new = spec("a");
        new.container.resources.requests = vec![request("gpu", 1), request("slots", 1)];
        let mut change = ServiceChange::new(spec("a"));
        change.values.container.resources.requests = vec![request("gpu", 2)];
        change.values.container.resources.reserve_pids = 7;
        change.remove_resources = vec!["slots".into()];
        change.fields.insert(ChangedField::ReservePids);
        change.apply(&mut new).unwrap();
        assert_eq!(new.container.resources.requests, [request("gpu", 2)]);
        assert_eq!(new.container.resources.reserve_pids, 7);
        let absent = change.apply(&mut new).unwrap_err();
        assert_eq!(absent.to_string(), "it has no generic resource `slots`");
    }

    #[test]
    fn a_canary_is_taken_over_whole_or_only_how_long_it_holds() {
        let (one, two) = (CanarySize::Replicas(1), CanarySize::Percent(20));
        let canary = |size, seconds: Option<u64>| Canary {
            size,
            hold: seconds.map(std::time::Duration::from_secs),
        };
        let mut change = ServiceChange::new(spec("a"));
        change.fields.insert(ChangedField::CanaryHold);
        change.values.canary = Some(canary(two, Some(5)));
        let mut new = spec("a");
        assert_eq!(change.apply(&mut new), Err(ChangeError::NoCanary));
        new.canary = Some(canary(one, None));
        change.apply(&mut new).unwrap();
        assert_eq!(new.canary, Some(canary(one, Some(5))));
        change.fields.insert(ChangedField::Canary);
        change.apply(&mut new).unwrap();
        assert_eq!(new.canary, Some(canary(two, Some(5))));
        change.fields.remove(&ChangedField::CanaryHold);
        change.values.canary = None;
        change.apply(&mut new).unwrap();
        assert_eq!(new.canary, None);
    }

    #[test]
    fn scaling_is_changed_by_its_parts_and_begun_as_a_whole() {
        use AutoscaleField as Part;
        let scaled = |max, cpu, memory| Autoscale {
            min: 2,
            max,
            cpu,
            memory,
            requests: None,
            scrape: None,
            stabilisation: Autoscale::STABILISATION,
            cool_down: Autoscale::COOL_DOWN,
        };
        let mut change = ServiceChange::new(spec("a"));
        change.values.autoscale = Some(scaled(9, Some(70), Some(80)));
        change.fields = [Part::Max, Part::Memory].map(ChangedField::Autoscaling).into();
        let mut old = spec("a");
        old.autoscale = Some(scaled(4, Some(50), None));
        change.apply(&mut old).unwrap();
        assert_eq!(old.autoscale, Some(scaled(9, Some(50), Some(80))));
        let mut new = spec("a");
        change.apply(&mut new).unwrap();
        assert_eq!(new.autoscale, Some(Autoscale { min: 1, ..scaled(9, None, Some(80)) }));
        change.fields.remove(&ChangedField::Autoscaling(Part::Memory));
        assert_eq!(change.apply(&mut spec("a")), Err(ChangeError::NoAutoscale));
        change.fields = [ChangedField::Autoscale].into();
        change.values.autoscale = None;
        change.apply(&mut new).unwrap();
        assert_eq!(new.autoscale, None);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut change = ServiceChange::new(spec("a"));
        change.remove_mounts = vec!["/data".into()];
        let absent = change.apply(&mut spec("a")).unwrap_err();
        assert_eq!(absent.to_string(), "it has no mount at `/data`");
        let mut change = ServiceChange::new(spec("a"));
        change.fields.insert(ChangedField::Replicas);
        let mut global = ServiceSpec { mode: ServiceMode::Global, ..spec("a") };
        assert_eq!(change.apply(&mut global), Err(ChangeError::IsGlobal));
        for mode in
            [ServiceMode::GlobalJob, ServiceMode::ReplicatedJob { total: 2, max_concurrent: 1 }]
        {
            let job = ServiceSpec { mode, ..spec("a") };
            let mut changed = job.clone();
            assert_eq!(change.apply(&mut changed), Err(ChangeError::IsJob));
            assert_eq!(changed, job, "it stays a job");
        }
    }
}
