//! The flags of `service create` and `service update`, as the piece of a stack file that they stand for: they are read
//! and checked as that is.

use std::path::PathBuf;

use serde_json::{Map, Value, json};
use swarm_manifests::{Environment, ManifestErrors, Source};
use swarm_proto::spec::{AutoscaleField, ChangedField, ServiceSpec, StackSpec, UpdateOrder};

use super::extensions::{Extensions, NONE};
use super::piece::{generic_resource, long_port, mount, put, scalar, text};
use crate::failure::Failure;

/// The key of the service while it is read.
const KEY: &str = "service";

/// What a service is made of, by flags. `create` knows the lists by their plain names: `--env`.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "The service")]
pub(crate) struct Flags {
    /// How many tasks
    #[arg(long, value_name = "N")]
    pub(crate) replicas: Option<String>,
    /// A variable of the containers: `KEY=value`, or `KEY` with the value it has here
    #[arg(short, long = "env-add", visible_alias = "env", value_name = "KEY=VALUE")]
    pub(crate) env: Vec<String>,
    /// A label of the service
    #[arg(short, long = "label-add", visible_alias = "label", value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// A label of the containers
    #[arg(long = "container-label-add", visible_alias = "container-label")]
    #[arg(value_name = "KEY=VALUE")]
    container_label: Vec<String>,
    /// Where tasks may run: `node.labels.zone==a`
    #[arg(long = "constraint-add", visible_alias = "constraint", value_name = "CONSTRAINT")]
    constraint: Vec<String>,
    /// A published port: `8080:80`, or `published=8080,target=80,protocol=tcp,mode=host`
    #[arg(short, long = "publish-add", visible_alias = "publish", value_name = "PORT")]
    publish: Vec<String>,
    /// A mount: `type=volume,source=data,target=/data`
    #[arg(long = "mount-add", visible_alias = "mount", value_name = "MOUNT")]
    mount: Vec<String>,
    /// At most so many CPUs
    #[arg(long, value_name = "CPUS")]
    limit_cpu: Option<String>,
    /// At most so much memory
    #[arg(long, value_name = "BYTES")]
    limit_memory: Option<String>,
    /// At most so many processes
    #[arg(long, value_name = "N")]
    limit_pids: Option<String>,
    /// CPUs set aside
    #[arg(long, value_name = "CPUS")]
    reserve_cpu: Option<String>,
    /// Memory set aside
    #[arg(long, value_name = "BYTES")]
    reserve_memory: Option<String>,
    /// Processes set aside
    #[arg(long, value_name = "N")]
    reserve_pids: Option<String>,
    /// Resources that nodes count or name: `gpu=2`
    #[arg(long = "generic-resource-add", visible_alias = "generic-resource")]
    #[arg(value_name = "KIND=N")]
    generic_resource: Vec<String>,
    /// When an ended task is replaced: `none`, `on-failure` or `any`
    #[arg(long, value_name = "WHEN")]
    restart_condition: Option<String>,
    /// How long to wait before that
    #[arg(long, value_name = "DURATION")]
    restart_delay: Option<String>,
    /// How many times; 0 is without end
    #[arg(long, value_name = "N")]
    restart_max_attempts: Option<String>,
    /// The time in which they count
    #[arg(long, value_name = "DURATION")]
    restart_window: Option<String>,
    /// How long a container may take to stop
    #[arg(long, value_name = "DURATION")]
    stop_grace_period: Option<String>,
    #[command(flatten)]
    policies: Policies,
    #[command(flatten)]
    extensions: Extensions,
    #[command(flatten)]
    refused: Refused,
}

/// How updates and rollbacks go.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Its updates and rollbacks")]
struct Policies {
    /// Slots at a time; 0 is all
    #[arg(long, value_name = "N")]
    update_parallelism: Option<String>,
    /// Time between batches
    #[arg(long, value_name = "DURATION")]
    update_delay: Option<String>,
    /// `stop-first`, `start-first` or `blue-green`
    #[arg(long, value_name = "ORDER")]
    update_order: Option<String>,
    /// What becomes of one that fails: `pause`, `continue` or `rollback`
    #[arg(long, value_name = "ACTION")]
    update_failure_action: Option<String>,
    /// How long each new task is watched
    #[arg(long, value_name = "DURATION")]
    update_monitor: Option<String>,
    /// How many of the slots may fail: 0 to 1
    #[arg(long, value_name = "RATIO")]
    update_max_failure_ratio: Option<String>,
    /// How long a new task may take to run
    #[arg(long, value_name = "DURATION")]
    update_progress_deadline: Option<String>,
    /// As `--update-parallelism`
    #[arg(long, value_name = "N")]
    rollback_parallelism: Option<String>,
    /// As `--update-delay`
    #[arg(long, value_name = "DURATION")]
    rollback_delay: Option<String>,
    /// As `--update-order`
    #[arg(long, value_name = "ORDER")]
    rollback_order: Option<String>,
    /// What becomes of a rollback that fails: `pause` or `continue`
    #[arg(long, value_name = "ACTION")]
    rollback_failure_action: Option<String>,
    /// As `--update-monitor`
    #[arg(long, value_name = "DURATION")]
    rollback_monitor: Option<String>,
    /// As `--update-max-failure-ratio`
    #[arg(long, value_name = "RATIO")]
    rollback_max_failure_ratio: Option<String>,
    /// As `--update-progress-deadline`
    #[arg(long, value_name = "DURATION")]
    rollback_progress_deadline: Option<String>,
}

/// Flags of Docker's that have no meaning here, or only in stack files.
#[derive(Debug, Default, clap::Args)]
struct Refused {
    #[arg(long, hide = true)]
    isolation: Option<String>,
    #[arg(long, hide = true)]
    credential_spec: Option<String>,
    #[arg(long, hide = true)]
    no_resolve_image: bool,
    #[arg(long, hide = true)]
    with_registry_auth: bool,
    #[arg(long, alias = "network-rm", alias = "network", hide = true)]
    network_add: Vec<String>,
    #[arg(long, alias = "secret-rm", alias = "secret", hide = true)]
    secret_add: Vec<String>,
    #[arg(long, alias = "config-rm", alias = "config", hide = true)]
    config_add: Vec<String>,
    #[arg(long, hide = true)]
    endpoint_mode: Option<String>,
}

impl Refused {
    fn check(&self) -> Result<(), Failure> {
        let file = "say it in the stack's file, and deploy that";
        let refused = [
            (
                self.isolation.is_some(),
                "isolation",
                "it is of Windows, and hosts here are Linux",
                "",
            ),
            (
                self.credential_spec.is_some(),
                "credential-spec",
                "it is of Windows, and hosts here are Linux",
                "",
            ),
            (
                self.no_resolve_image,
                "no-resolve-image",
                "each task runs exactly the content that its image's name stood for",
                "name the image with its digest",
            ),
            (
                self.with_registry_auth,
                "with-registry-auth",
                "hosts ask registries without credentials",
                "",
            ),
            (
                !self.network_add.is_empty(),
                "network-add",
                "a stack's networks are made with it",
                file,
            ),
            (
                !self.secret_add.is_empty(),
                "secret-add",
                "a service's files are part of its stack",
                file,
            ),
            (
                !self.config_add.is_empty(),
                "config-add",
                "a service's files are part of its stack",
                file,
            ),
            (
                self.endpoint_mode.is_some(),
                "endpoint-mode",
                "clients would lose the address that they know",
                file,
            ),
        ];
        let Some((_, flag, why, hint)) = refused.into_iter().find(|(given, ..)| *given) else {
            return Ok(());
        };
        let failure = Failure::usage(format!("`--{flag}` is not possible here: {why}"));
        Err(if hint.is_empty() { failure } else { failure.hint(hint) })
    }
}

/// A flag with one value: its name, its place in a stack file, and what was given.
pub(super) type Scalar<'a> = (&'static str, &'static str, &'a Option<String>);

impl Policies {
    /// Where a stack file says the order of updates: compose has no word for blue-green ones.
    fn place_of_order(&self) -> &'static str {
        let is_blue_green = self.update_order.as_deref() == Some(UpdateOrder::BlueGreen.as_str());
        if is_blue_green { "/x-swarm/update/order" } else { "/deploy/update_config/order" }
    }

    /// As [`Flags::scalars`].
    fn scalars(&self) -> Vec<Scalar<'_>> {
        vec![
            ("update-parallelism", "/deploy/update_config/parallelism", &self.update_parallelism),
            ("update-delay", "/deploy/update_config/delay", &self.update_delay),
            ("update-order", self.place_of_order(), &self.update_order),
            (
                "update-failure-action",
                "/deploy/update_config/failure_action",
                &self.update_failure_action,
            ),
            ("update-monitor", "/deploy/update_config/monitor", &self.update_monitor),
            (
                "update-max-failure-ratio",
                "/deploy/update_config/max_failure_ratio",
                &self.update_max_failure_ratio,
            ),
            (
                "update-progress-deadline",
                "/x-swarm/update/progress_deadline",
                &self.update_progress_deadline,
            ),
            (
                "rollback-parallelism",
                "/deploy/rollback_config/parallelism",
                &self.rollback_parallelism,
            ),
            ("rollback-delay", "/deploy/rollback_config/delay", &self.rollback_delay),
            ("rollback-order", "/deploy/rollback_config/order", &self.rollback_order),
            (
                "rollback-failure-action",
                "/deploy/rollback_config/failure_action",
                &self.rollback_failure_action,
            ),
            ("rollback-monitor", "/deploy/rollback_config/monitor", &self.rollback_monitor),
            (
                "rollback-max-failure-ratio",
                "/deploy/rollback_config/max_failure_ratio",
                &self.rollback_max_failure_ratio,
            ),
            (
                "rollback-progress-deadline",
                "/x-swarm/rollback/progress_deadline",
                &self.rollback_progress_deadline,
            ),
        ]
    }
}

impl Flags {
    /// Only constraints.
    pub(crate) fn of_constraints(constraints: &[String]) -> Self {
        Self { constraint: constraints.to_vec(), ..Self::default() }
    }

    /// Flags with one value: their names, their places in a stack file, and what was given.
    fn scalars(&self) -> Vec<Scalar<'_>> {
        vec![
            ("replicas", "/deploy/replicas", &self.replicas),
            ("limit-cpu", "/deploy/resources/limits/cpus", &self.limit_cpu),
            ("limit-memory", "/deploy/resources/limits/memory", &self.limit_memory),
            ("limit-pids", "/deploy/resources/limits/pids", &self.limit_pids),
            ("reserve-cpu", "/deploy/resources/reservations/cpus", &self.reserve_cpu),
            ("reserve-memory", "/deploy/resources/reservations/memory", &self.reserve_memory),
            ("reserve-pids", "/x-swarm/reservations/pids", &self.reserve_pids),
            ("restart-condition", "/deploy/restart_policy/condition", &self.restart_condition),
            ("restart-delay", "/deploy/restart_policy/delay", &self.restart_delay),
            (
                "restart-max-attempts",
                "/deploy/restart_policy/max_attempts",
                &self.restart_max_attempts,
            ),
            ("restart-window", "/deploy/restart_policy/window", &self.restart_window),
            ("stop-grace-period", "/stop_grace_period", &self.stop_grace_period),
        ]
    }

    /// The stack file's piece that they stand for, and the fields that they name.
    fn piece(&self) -> Result<(Map<String, Value>, Vec<ChangedField>), Failure> {
        self.refused.check()?;
        self.extensions.check()?;
        let (mut service, mut fields) = (Map::new(), Vec::new());
        let scalars = self.scalars().into_iter().chain(self.policies.scalars());
        for (name, place, value) in scalars.chain(self.extensions.scalars()) {
            let Some(value) = value else { continue };
            let is_taken_away = matches!(name, "canary" | "autoscale") && value == NONE;
            if !is_taken_away {
                put(&mut service, place, scalar(value));
            }
            fields.push(name.parse().map_err(|error| Failure::usage(format!("{error}")))?);
        }
        if let Some(scrape) = self.extensions.scrape() {
            put(&mut service, "/x-swarm/autoscale/scrape", scrape.into());
            fields.push(ChangedField::Autoscaling(AutoscaleField::Scrape));
        }
        let lists = [
            ("/environment", &self.env),
            ("/deploy/labels", &self.label),
            ("/labels", &self.container_label),
            ("/deploy/placement/constraints", &self.constraint),
        ];
        for (place, values) in lists.iter().filter(|(_, values)| !values.is_empty()) {
            put(&mut service, place, values.iter().map(|value| text(value)).collect());
        }
        let resources: Vec<Value> = self
            .generic_resource
            .iter()
            .map(|one| generic_resource(one))
            .collect::<Result<_, _>>()?;
        if !resources.is_empty() {
            let place = "/deploy/resources/reservations/generic_resources";
            put(&mut service, place, resources.into());
        }
        let ports: Vec<Value> = self.publish.iter().map(|port| long_port(port)).collect();
        if !ports.is_empty() {
            put(&mut service, "/ports", ports.into());
        }
        let mounts: Result<Vec<Value>, Failure> = self.mount.iter().map(|one| mount(one)).collect();
        let mounts = mounts?;
        if !mounts.is_empty() {
            put(&mut service, "/volumes", mounts.into());
        }
        Ok((service, fields))
    }

    /// The one-service stack that they describe, and which of its fields they name.
    pub(crate) fn read(
        &self,
        stack: &str,
        image: &str,
        command: Option<Value>,
    ) -> Result<(StackSpec, Vec<ChangedField>), Failure> {
        let (service, fields) = self.piece()?;
        Ok((stack_of(service, stack, image, command)?, fields))
    }

    /// What they change of a service that is there, and which of its fields they name.
    pub(crate) fn read_change(
        &self,
        image: &str,
        command: Option<Value>,
    ) -> Result<(ServiceSpec, Vec<ChangedField>), Failure> {
        let (mut service, fields) = self.piece()?;
        Extensions::complete(&mut service);
        Ok((only_service(stack_of(service, "unchanged", image, command)?)?, fields))
    }
}

/// A stack of one such service.
fn stack_of(
    mut service: Map<String, Value>,
    stack: &str,
    image: &str,
    command: Option<Value>,
) -> Result<StackSpec, Failure> {
    service.insert("image".to_owned(), text(image));
    if let Some(command) = command {
        service.insert("command".to_owned(), command);
    }
    let volumes = service.get("volumes").and_then(Value::as_array).into_iter().flatten();
    let named = volumes.filter(|mount| mount["type"] == "volume");
    let named = named.filter_map(|mount| mount["source"].as_str());
    let volumes: Map<String, Value> = named.map(|name| (name.to_owned(), json!({}))).collect();
    let file = json!({ "services": { KEY: service }, "volumes": volumes });
    let source = Source {
        name: "the flags".to_owned(),
        folder: PathBuf::from("/"),
        content: file.to_string().into_bytes(),
    };
    let environment = Environment::of_process()
        .map_err(|error| Failure::refused(format!("the working directory is gone: {error}")))?;
    let environment = Environment { stack_name: Some(stack.to_owned()), ..environment };
    let (stack, _) = swarm_manifests::read_sources(&[source], &environment)
        .map_err(|errors| refused(&errors))?;
    Ok(stack.spec)
}

/// The only service of such a stack.
pub(crate) fn only_service(stack: StackSpec) -> Result<ServiceSpec, Failure> {
    let service = stack.services.into_values().next();
    service.ok_or_else(|| Failure::usage("the flags describe no service"))
}

/// What is wrong with the flags: their places in a file mean nothing to anybody.
fn refused(errors: &ManifestErrors) -> Failure {
    let messages: Vec<&str> = errors.0.iter().map(|error| error.message.as_str()).collect();
    let failure = Failure::usage(messages.join("\n"));
    match errors.0.iter().find_map(|error| error.hint.clone()) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use swarm_proto::spec::{Amount, Canary, CanarySize, CutOffAction, Ratio, UpdateFailureAction};

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    fn read(line: &str) -> Result<(ServiceSpec, Vec<String>), Failure> {
        let words = std::iter::once("test").chain(line.split_whitespace());
        let flags = Line::try_parse_from(words).unwrap().flags;
        let (stack, fields) = flags.read("shop", "app", None)?;
        let fields = fields.iter().map(ToString::to_string).collect();
        Ok((only_service(stack)?, fields))
    }

    #[test]
    fn each_flag_lands_where_a_stack_file_says_it() {
        let (spec, fields) = read(
            "--replicas 3 --env A=$x --label-add b=c --limit-cpu 0.5 --limit-memory 64m \
             --restart-delay 2s --update-failure-action rollback --update-max-failure-ratio 0.25 \
             --reserve-pids 9 --generic-resource-add GPU=2 --update-progress-deadline 1m \
             --update-order blue-green --rollback-order start-first --stop-grace-period 3s \
             --priority -5 --preemption never --unreachable-after 20s --canary 20% --canary-hold 5m",
        )
        .unwrap();
        assert_eq!(spec.container.environment["A"].as_deref(), Some("$x"));
        assert_eq!(spec.labels["b"], "c");
        assert_eq!(spec.container.resources.limit_millicpus, Some(500));
        assert_eq!(spec.container.resources.limit_memory, Some(64 << 20));
        let request = &spec.container.resources.requests[0];
        assert_eq!((request.kind.as_str(), &request.amount), ("gpu", &Amount::Count(2)));
        assert_eq!(spec.container.resources.reserve_pids, 9);
        assert_eq!(spec.update.failure_action, UpdateFailureAction::Rollback);
        assert_eq!(spec.update.max_failure_ratio, Ratio::from_millionths(250_000).unwrap());
        assert_eq!(spec.update.progress_deadline.as_secs(), 60);
        assert_eq!(spec.update.order, UpdateOrder::BlueGreen);
        assert_eq!(spec.rollback.order, UpdateOrder::StartFirst);
        assert_eq!(spec.restart.delay.as_secs(), 2);
        assert_eq!((spec.priority, spec.never_preempted), (-5, true));
        assert_eq!(spec.node_loss.unreachable_after.as_secs(), 20);
        let hold = Some(std::time::Duration::from_mins(5));
        assert_eq!(spec.canary, Some(Canary { size: CanarySize::Percent(20), hold }));
        let named = [
            "replicas",
            "limit-cpu",
            "limit-memory",
            "reserve-pids",
            "restart-delay",
            "stop-grace-period",
            "update-order",
            "update-failure-action",
            "update-max-failure-ratio",
            "update-progress-deadline",
            "rollback-order",
            "priority",
            "preemption",
            "unreachable-after",
            "canary",
            "canary-hold",
        ];
        assert_eq!(fields, named);
    }

    #[test]
    fn ports_and_mounts_have_their_own_words() {
        let (spec, fields) = read(
            "--publish-add 8080:80 --publish-add published=53,target=5353,protocol=udp,mode=host \
             --mount-add type=volume,source=data,target=/data,readonly \
             --mount-add type=tmpfs,target=/run,tmpfs-size=1000000 --mount-add type=bind,src=/etc,dst=/e",
        )
        .unwrap();
        assert!(fields.is_empty(), "they are added");
        let ports: Vec<_> = spec.ports.iter().map(|port| (port.target, port.published)).collect();
        assert_eq!(ports, [(80, Some(8080)), (5353, Some(53))]);
        let mounts: Vec<_> = spec.container.mounts.iter().map(|m| m.target.as_str()).collect();
        assert_eq!(mounts, ["/data", "/run", "/e"]);
        assert!(spec.container.mounts[0].read_only);
    }

    #[test]
    fn a_canary_can_be_taken_away_and_a_cut_off_task_stopped() {
        let (spec, fields) = read("--canary none --on-cut-off stop").unwrap();
        assert_eq!((spec.canary, spec.node_loss.on_cut_off), (None, CutOffAction::Stop));
        // Their order is that of the parts, not that of the words.
        assert_eq!(fields, ["on-cut-off", "canary"]);
    }

    #[test]
    fn scaling_is_said_whole_for_a_new_service_and_in_parts_for_a_change() {
        let (spec, fields) = read(
            "--autoscale-max 9 --autoscale-cpu 70% --reserve-cpu 0.5 --autoscale-cool-down 5s \
             --autoscale-scrape port=9090,metric=queue,target=100",
        )
        .unwrap();
        let autoscale = spec.autoscale.unwrap();
        assert_eq!((autoscale.min, autoscale.max, autoscale.cpu), (1, 9, Some(70)));
        assert_eq!((autoscale.requests, autoscale.cool_down.as_secs()), (None, 5));
        assert_eq!(autoscale.scrape.unwrap().scrape.metric, "queue");
        let named = [
            "reserve-cpu",
            "autoscale-max",
            "autoscale-cpu",
            "autoscale-cool-down",
            "autoscale-scrape",
        ];
        assert_eq!(fields, named);

        let change = |line: &str| {
            let words = std::iter::once("test").chain(line.split_whitespace());
            let flags = Line::try_parse_from(words).unwrap().flags;
            flags.read_change("unchanged", None).unwrap()
        };
        let (values, fields) = change("--autoscale-cpu 50% --autoscale-min 0");
        let autoscale = values.autoscale.unwrap();
        assert_eq!((autoscale.min, autoscale.cpu), (0, Some(50)));
        assert_eq!(fields.len(), 2, "what it is completed with is not taken: {fields:?}");
        let (values, fields) = change("--autoscale none");
        assert_eq!((values.autoscale, fields), (None, vec![ChangedField::Autoscale]));
    }

    #[test]
    fn what_is_wrong_is_said_without_a_place_in_a_file() {
        let text = |line: &str| read(line).unwrap_err().to_string();
        assert!(
            text("--replicas many").contains("`replicas` must be a whole number"),
            "{}",
            text("--replicas many")
        );
        assert!(text("--mount-add type=bind,source=x,target=/x").contains("no absolute path"));
        assert!(text("--mount-add what=x").contains("`what` is not known"));
        assert!(text("--generic-resource-add gpu").contains("has no number"));
        assert!(text("--generic-resource-add gpu=a").contains("`value` must be"));
        assert!(text("--isolation hyperv").contains("Windows"));
        assert!(text("--secret-add key").contains("part of its stack"));
        assert!(text("--priority high").contains("`priority` must be"));
        assert!(text("--priority 1001").contains("1000"), "{}", text("--priority 1001"));
        assert!(text("--canary 100%").contains("a number of tasks or a percentage"));
        assert!(text("--canary none --canary-hold 3s").contains("`--canary none`"));
        assert!(text("--autoscale none --autoscale-max 3").contains("`--autoscale none`"));
        assert!(text("--autoscale-cpu 70%").contains("needs `max`"));
        assert!(text("--autoscale-max 3").contains("no target"));
        let scraped = text("--autoscale-max 3 --autoscale-scrape port=9090,what=x");
        assert!(scraped.contains("what"), "{scraped}");
        let twice = text("--on-cut-off stop --update-order start-first");
        assert!(twice.contains("lets no task run twice"), "{twice}");
    }
}
