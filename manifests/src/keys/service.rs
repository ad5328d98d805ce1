//! A service.

use super::attachment::{DEVICE, GRANT, LOGGING, MOUNT, NETWORK_ATTACHMENT, PORT, ULIMIT};
use super::autoscale;
use super::build;
use super::canary;
use super::deploy::{DEPLOY, DEVICE_REQUEST, GPUS, WATCH, X_SWARM_RESERVATIONS};
use super::health::{HEALTHCHECK, X_SWARM_HEALTH};
use super::job::X_SWARM_JOB;
use super::policy::{X_SWARM_POLICY, X_SWARM_UPDATE};
use super::{
    Level, ONE_OR_MORE, Shape, TEXT_MAP, TEXTS, adapted, hint, honoured, inner, later, never,
    node_loss,
};

const CPUS: &str = "use `deploy.resources.limits.cpus`";
const LIMIT: &str = "As the limit below `deploy.resources`, with which it must agree.";
/// A program and its arguments: one text, or a list.
const WORDS: Shape = ONE_OR_MORE;
const ENV_FILES: Shape = Shape::Either(&[
    Shape::Text,
    Shape::List(&Shape::Either(&[Shape::Text, Shape::Mapping(&ENV_FILE)])),
]);
/// Addresses of names.
pub(super) const ULIMITS: Shape =
    Shape::Named(&Shape::Either(&[Shape::Integer, Shape::Mapping(&ULIMIT)]));
pub(super) const HOSTS: Shape = Shape::Either(&[Shape::Pairs, Shape::Named(&TEXTS)]);
const GRANTS: Shape = Shape::List(&Shape::Either(&[Shape::Text, Shape::Mapping(&GRANT)]));

pub(crate) static SERVICE: Level = Level {
    keys: &[
        // What runs.
        honoured("image", "3.0", Shape::Text, &["nginx:1.27"]),
        build::KEY,
        honoured(
            "pull_policy",
            "spec",
            Shape::Words(&["missing", "if_not_present", "always", "never", "build"]),
            &["never", "always"],
        )
        .meaning("Each deploy asks the registry what a tag stands for, and every host runs that."),
        later("pull_refresh_after", "spec", Shape::Duration, &["24h"], ""),
        adapted(
            "platform",
            "spec",
            Shape::Text,
            &["linux/amd64"],
            "as constraints on `node.platform.os` and `node.platform.arch`",
        ),
        honoured("command", "3.0", WORDS, &["serve --port 80", "[serve, --port, \"80\"]"]).meaning(
            "Words are split as a shell does; Swarm drops every backslash in double quotes.",
        ),
        honoured("entrypoint", "3.0", WORDS, &["/entry -v", "[/entry, -v]"]).meaning(
            "The specification's, also for `command`: an empty list is empty, where Swarm runs the image's own.",
        ),
        honoured("environment", "3.0", Shape::Pairs, &["{A: \"1\"}", "[A=1]"]).meaning(
            "The specification's: a value that the file gives, also an empty one, is not replaced by the client's. Numbers without quotes are written as both do (`1.10` is `1.1`); a date stays as it stands.",
        ),
        honoured("env_file", "3.0", ENV_FILES, &["web.env", "[web.env]", "[{path: web.env}]"]).meaning(
            "The specification's: quotes around a value are not part of it, where Swarm keeps them.",
        ),
        honoured("user", "3.0", Shape::Text, &["1000:1000"]),
        honoured("working_dir", "3.0", Shape::Text, &["/srv"]),
        honoured("init", "3.7", Shape::Flag, &["true"]),
        honoured("tty", "3.0", Shape::Flag, &["true"]),
        honoured("stdin_open", "3.0", Shape::Flag, &["true"]),
        honoured("stop_signal", "3.0", Shape::Text, &["SIGINT"]),
        honoured("stop_grace_period", "3.0", Shape::Duration, &["1m30s"]),
        // Names.
        honoured("hostname", "3.0", Shape::Text, &["web", "\"web-{{.Task.Slot}}\""])
            .meaning("Swarm's templates, here as in `environment` and in paths of `volumes`."),
        honoured("domainname", "3.0", Shape::Text, &["example.org"])
            .meaning("The specification's: Swarm passes it over with a warning."),
        honoured("labels", "3.0", Shape::Pairs, &["{tier: front}", "[tier=front]"]),
        honoured("label_file", "spec", ONE_OR_MORE, &["web.labels", "[web.labels, more.labels]"]),
        honoured("annotations", "spec", Shape::Pairs, &["{a: b}", "[a=b]"]),
        adapted(
            "container_name",
            "3.0",
            Shape::Text,
            &["db.internal"],
            "as an alias on each network of the service: containers are named after their task",
        )
        .meaning("The specification's name on the networks; Swarm passes it over with a warning."),
        // How many, where, and when.
        honoured("deploy", "3.0", Shape::Mapping(&DEPLOY), &[]),
        adapted("scale", "spec", Shape::Integer, &["2"], "as `deploy.replicas`"),
        adapted(
            "restart",
            "3.0",
            Shape::Text,
            &["on-failure:3", "unless-stopped"],
            "as `deploy.restart_policy`, which goes first",
        )
        .meaning("Swarm's delay of five seconds; `no` is `condition: none`, where Swarm has `any`."),
        honoured(
            "depends_on",
            "3.0",
            Shape::Either(&[TEXTS, Shape::Named(&Shape::Mapping(&DEPENDENCY))]),
            &["[db]", "{db: {condition: service_healthy}}"],
        )
        .meaning(
            "The specification's, which Swarm passes over, on all hosts: a service's first tasks wait for the others; \
             updates of these go first, their removal goes last.",
        ),
        honoured("healthcheck", "3.0", Shape::Mapping(&HEALTHCHECK), &[]).meaning(
            "Docker's: a task runs once it is healthy. Checks that the agent makes are below `x-swarm`.",
        ),
        honoured("profiles", "spec", TEXTS, &["[debug]"]),
        honoured(
            "extends",
            "spec",
            Shape::Either(&[Shape::Text, Shape::Mapping(&EXTENDS)]),
            &["base", "{service: base}"],
        )
        .meaning("The specification's: Swarm refuses it."),
        later(
            "post_start",
            "spec",
            Shape::List(&Shape::Mapping(&LATER_HOOK)),
            &["[{command: go}]"],
            "",
        ),
        honoured("pre_stop", "spec", Shape::List(&Shape::Mapping(&HOOK)), &["[{command: go}]"])
            .meaning("The specification's, within `stop_grace_period`."),
        hint(
            "develop",
            "spec",
            Shape::Mapping(&DEVELOP),
            &["{watch: [{path: ., action: rebuild}]}"],
            "it is for `docker compose watch`",
        ),
        // The network.
        honoured(
            "ports",
            "3.0",
            Shape::List(&Shape::Either(&[Shape::Text, Shape::Mapping(&PORT)])),
            &["[\"8080:80\"]", "[\"53/udp\"]"],
        )
        .meaning("The specification's for the host's address, which Swarm drops; else Swarm's."),
        hint(
            "expose",
            "3.0",
            TEXTS,
            &["[\"80\"]"],
            "services of a network reach each other's every port",
        ),
        honoured(
            "networks",
            "3.0",
            Shape::Either(&[TEXTS, Shape::Named(&Shape::Mapping(&NETWORK_ATTACHMENT))]),
            &["[front]", "{front: null}"],
        ),
        honoured("network_mode", "3.0", Shape::Text, &["host", "none"])
            .meaning("The specification's: Swarm passes it over with a warning."),
        honoured(
            "extra_hosts",
            "3.0",
            HOSTS,
            &["{db: 10.0.0.5}", "[\"db:10.0.0.5\", \"db=fd00::5\"]", "{db: [10.0.0.5, \"fd00::5\"]}"],
        ),
        honoured("dns", "3.0", ONE_OR_MORE, &["10.0.0.53", "[10.0.0.53, \"fd00::53\"]"])
            .meaning("What is no address is an error, where Swarm passes it over."),
        honoured("dns_opt", "spec", TEXTS, &["[\"ndots:2\"]"]),
        honoured("dns_search", "3.0", ONE_OR_MORE, &["example.org", "[example.org]"]),
        never("links", "3.0", TEXTS, &["[db]"], [
            "services of a network find each other by name",
            "remove it, or give the other service an alias",
        ]),
        never("external_links", "3.0", TEXTS, &["[db]"], [
            "services of a network find each other by name",
            "join a network that both stacks use",
        ]),
        later("mac_address", "3.0", Shape::Text, &["\"02:42:ac:11:00:02\""], ""),
        // Files.
        honoured(
            "volumes",
            "3.0",
            Shape::List(&Shape::Either(&[Shape::Text, Shape::Mapping(&MOUNT)])),
            &["[\"data:/data:ro\"]", "[/cache]"],
        ),
        honoured(
            "tmpfs",
            "3.0",
            ONE_OR_MORE,
            &["/run", "[\"/run:size=64m\"]", "\"/run:noexec,mode=0750,uid=5,gid=6\""],
        )
        .meaning(
            "The specification's, which Swarm passes over without a word. Programs in it may be run unless `noexec` \
             is said.",
        ),
        honoured("configs", "3.3", GRANTS, &["[page]", "[{source: page}]"]),
        honoured("secrets", "3.1", GRANTS, &["[key]", "[{source: key}]"]),
        honoured("read_only", "3.0", Shape::Flag, &["true"]),
        honoured("shm_size", "3.0", Shape::Bytes, &["128m"])
            .meaning("The specification's: Swarm passes it over with a warning."),
        honoured(
            "devices",
            "3.0",
            Shape::List(&Shape::Either(&[Shape::Text, Shape::Mapping(&DEVICE)])),
            &["[/dev/fuse]", "[\"/dev/fuse:/dev/f:rw\"]", "[{source: /dev/fuse}]"],
        )
        .meaning("The specification's: Swarm passes it over with a warning."),
        later("storage_opt", "spec", TEXT_MAP, &["{size: 1G}"], ""),
        never("volumes_from", "spec", TEXTS, &["[db]"], [
            "the other container may be on another host",
            "name the volumes in both services",
        ]),
        never("volume_driver", "spec", Shape::Text, &["nfs"], [
            "a service has no driver of its own",
            "declare each volume with its driver under the top-level `volumes:`",
        ]),
        // What the kernel holds it to.
        honoured("cap_add", "3.0", TEXTS, &["[NET_ADMIN]"]),
        honoured("cap_drop", "3.0", TEXTS, &["[ALL]"]),
        honoured("privileged", "3.0", Shape::Flag, &["true"])
            .meaning("The specification's: Swarm passes it over with a warning."),
        honoured(
            "security_opt",
            "3.0",
            TEXTS,
            &["[\"no-new-privileges:false\"]", "[\"seccomp=unconfined\", systempaths=unconfined]"],
        )
        .meaning(
            "The specification's: Swarm passes it over with a warning. Set-user-id programs gain nothing here unless \
             `no-new-privileges:false` is said.",
        ),
        honoured(
            "sysctls",
            "3.0",
            Shape::Pairs,
            &["{net.core.somaxconn: 1024}", "[net.core.somaxconn=1024]"],
        ),
        honoured(
            "ulimits",
            "3.0",
            ULIMITS,
            &["{nproc: 1000}", "{nofile: {soft: 20000, hard: 40000}}"],
        ),
        honoured("group_add", "3.13", TEXTS, &["[audio, 1001]"]),
        honoured("pid", "3.0", Shape::Text, &["host"])
            .meaning("The specification's: Swarm passes it over with a warning."),
        honoured("ipc", "3.0", Shape::Text, &["host", "none"])
            .meaning("The specification's: Swarm passes it over with a warning."),
        honoured("uts", "spec", Shape::Text, &["host"]),
        adapted(
            "userns_mode",
            "3.0",
            Shape::Words(&["host"]),
            &["host"],
            "only `host`, which is so for every container",
        ),
        honoured("cgroup", "spec", Shape::Words(&["host", "private"]), &["host"]),
        honoured("cgroupns_mode", "3.9", Shape::Words(&["host", "private"]), &["host"]),
        later("cgroup_parent", "3.0", Shape::Text, &["m-executor"], ""),
        honoured("device_cgroup_rules", "spec", TEXTS, &["[\"c 1:3 mr\"]", "[\"a *:* rwm\"]"]),
        never("runtime", "spec", Shape::Text, &["runc"], [
            "containers run with this project's own runtime",
            "",
        ]),
        honoured("cpus", "spec", Shape::Number, &["0.5"]).meaning(LIMIT),
        never("cpu_count", "spec", Shape::Integer, &["2"], ["it is for Windows", CPUS]),
        never("cpu_percent", "spec", Shape::Integer, &["50"], ["it is for Windows", CPUS]),
        honoured("cpu_period", "spec", Shape::Integer, &["50000"]),
        honoured("cpu_quota", "spec", Shape::Integer, &["50000"]),
        never("cpu_rt_period", "spec", Shape::Duration, &["400ms"], [
            "control groups of version 2 have no real-time share",
            "",
        ]),
        never("cpu_rt_runtime", "spec", Shape::Duration, &["95ms"], [
            "control groups of version 2 have no real-time share",
            "",
        ]),
        honoured("cpu_shares", "spec", Shape::Integer, &["512"]),
        honoured("cpuset", "spec", Shape::Text, &["0-1"]),
        honoured("mem_limit", "spec", Shape::Bytes, &["64m"]).meaning(LIMIT),
        honoured("mem_reservation", "spec", Shape::Bytes, &["32m"]).meaning(
            "The specification's, and set aside by the scheduler as `deploy.resources.reservations.memory`.",
        ),
        adapted(
            "mem_swappiness",
            "spec",
            Shape::Integer,
            &["10"],
            "only where hosts have control groups of version 1",
        ),
        honoured("memswap_limit", "spec", Shape::Bytes, &["128m"])
            .meaning("The specification's; without it a container with a limit has no swap."),
        honoured("pids_limit", "spec", Shape::Integer, &["100"]).meaning(LIMIT),
        adapted(
            "oom_kill_disable",
            "spec",
            Shape::Flag,
            &["true"],
            "only where hosts have control groups of version 1",
        ),
        honoured("oom_score_adj", "3.13", Shape::Integer, &["500"]),
        later("blkio_config", "spec", Shape::Mapping(&BLKIO_CONFIG), &["{weight: 300}"], ""),
        adapted(
            "gpus",
            "spec",
            Shape::Either(&[Shape::Words(&["all"]), Shape::List(&Shape::Mapping(&DEVICE_REQUEST))]),
            &["all", "[{count: 1}]"],
            GPUS,
        ),
        // What it says.
        honoured("logging", "3.0", Shape::Mapping(&LOGGING), &[]),
        hint("attach", "spec", Shape::Flag, &["true"], "use `swarmctl logs -f`"),
        // What belongs to other systems.
        never("credential_spec", "3.3", Shape::Mapping(&CREDENTIAL_SPEC), &["{file: a.json}"], [
            "it is for Windows",
            "",
        ]),
        never("isolation", "3.5", Shape::Text, &["hyperv"], ["it is for Windows", ""]),
        never(
            "models",
            "spec",
            Shape::Either(&[TEXTS, Shape::Named(&Shape::Mapping(&MODEL_USE))]),
            &["[small]", "{small: {endpoint_var: URL}}"],
            ["there is no Docker Model Runner", "run the model's server as a service"],
        ),
        never("provider", "spec", Shape::Mapping(&PROVIDER), &["{type: awesomecloud}"], [
            "it runs a program beside Docker Compose on the workstation",
            "",
        ]),
        never("use_api_socket", "spec", Shape::Flag, &["true"], [
            "there is no Docker Engine on the hosts",
            "",
        ]),
        honoured("x-swarm", "swarm", Shape::Mapping(&X_SWARM_SERVICE), &[]),
    ],
};

pub(crate) static ENV_FILE: Level = Level {
    keys: &[
        honoured("path", "spec", Shape::Text, &["web.env"]),
        honoured("required", "spec", Shape::Flag, &["false"]),
        honoured("format", "spec", Shape::Words(&["raw"]), &["raw"]),
    ],
};

/// What compose cannot say of a service.
pub(crate) static X_SWARM_SERVICE: Level = Level {
    keys: &[
        honoured(
            "volume-node-lost",
            "swarm",
            Shape::Words(&["wait", "start-empty"]),
            &["start-empty"],
        ),
        node_loss::UNREACHABLE_AFTER,
        node_loss::ON_CUT_OFF,
        honoured("placement", "swarm", Shape::Mapping(&X_SWARM_PLACEMENT), &[]),
        honoured("priority", "swarm", Shape::Integer, &["10", "-1"]).meaning(
            "-1000 to 1000, 0 where nothing is said. A task that fits nowhere takes the place of the fewest tasks of any lower priority, as in Kubernetes (Nomad wants a difference of ten), whatever their services' updates promise; these end as any task that is stopped, and go elsewhere or wait.",
        ),
        honoured("preemption", "swarm", Shape::Words(&["allow", "never"]), &["never"])
            .meaning("`never`: the service's tasks are not stopped for others."),
        honoured("reservations", "swarm", Shape::Mapping(&X_SWARM_RESERVATIONS), &[]),
        honoured("update", "swarm", Shape::Mapping(&X_SWARM_UPDATE), &[]),
        honoured("rollback", "swarm", Shape::Mapping(&X_SWARM_POLICY), &[]),
        canary::CANARY,
        autoscale::AUTOSCALE,
        honoured("job", "swarm", Shape::Mapping(&X_SWARM_JOB), &[]),
        honoured("health", "swarm", Shape::Mapping(&X_SWARM_HEALTH), &[])
            .meaning("A check that the agent makes; its times stand in `healthcheck`."),
    ],
};

/// Where tasks go, as compose cannot say it.
pub(crate) static X_SWARM_PLACEMENT: Level = Level {
    keys: &[
        honoured("near", "swarm", AFFINITIES, &["[web]", "[{service: web}]"])
            .meaning("A task goes only where the other service has one. Looked at when a task is placed."),
        honoured(
            "apart",
            "swarm",
            AFFINITIES,
            &["[web]", "[{service: web, within: node.labels.zone}]"],
        )
        .meaning("A task goes only where the other service has none, nor the other's where this one has."),
    ],
};

const AFFINITIES: Shape = Shape::List(&Shape::Either(&[Shape::Text, Shape::Mapping(&AFFINITY)]));

pub(crate) static AFFINITY: Level = Level {
    keys: &[
        honoured("service", "swarm", Shape::Text, &["web"]),
        honoured("within", "swarm", Shape::Text, &["node.labels.zone"])
            .meaning("`node`, or a label: nodes with one value of it are one place."),
    ],
};

pub(crate) static DEPENDENCY: Level = Level {
    keys: &[
        honoured(
            "condition",
            "spec",
            Shape::Words(&["service_started", "service_healthy", "service_completed_successfully"]),
            &["service_started", "service_healthy"],
        )
        .meaning("One healthy task is enough: clients are led to it."),
        honoured("restart", "spec", Shape::Flag, &["true"])
            .meaning("The tasks are replaced whenever a deploy replaces the other's."),
        honoured("required", "spec", Shape::Flag, &["false"]),
    ],
};

static EXTENDS: Level = Level {
    keys: &[
        honoured("service", "spec", Shape::Text, &["base"]),
        honoured("file", "spec", Shape::Text, &["included.yml"]),
    ],
};

/// A command at a moment of a container's life.
pub(crate) static HOOK: Level = Level {
    keys: &[
        honoured("command", "spec", WORDS, &["drain --wait", "[drain, --wait]"]),
        honoured("user", "spec", Shape::Text, &["1000:1000"]),
        later("privileged", "spec", Shape::Flag, &["true"], "it runs as the container does"),
        honoured("working_dir", "spec", Shape::Text, &["/srv"]),
        honoured("environment", "spec", Shape::Pairs, &["{A: b}", "[A=b]"]),
    ],
};

/// The same where they are not run yet.
pub(super) static LATER_HOOK: Level = Level {
    keys: &[
        inner("command", "spec", WORDS),
        inner("user", "spec", Shape::Text),
        inner("privileged", "spec", Shape::Flag),
        inner("working_dir", "spec", Shape::Text),
        inner("environment", "spec", Shape::Pairs),
    ],
};

static DEVELOP: Level =
    Level { keys: &[inner("watch", "spec", Shape::List(&Shape::Mapping(&WATCH)))] };

static BLKIO_CONFIG: Level = Level {
    keys: &[
        inner("weight", "spec", Shape::Integer),
        inner("weight_device", "spec", Shape::List(&Shape::Mapping(&BLKIO_WEIGHT))),
        inner("device_read_bps", "spec", Shape::List(&Shape::Mapping(&BLKIO_RATE))),
        inner("device_read_iops", "spec", Shape::List(&Shape::Mapping(&BLKIO_RATE))),
        inner("device_write_bps", "spec", Shape::List(&Shape::Mapping(&BLKIO_RATE))),
        inner("device_write_iops", "spec", Shape::List(&Shape::Mapping(&BLKIO_RATE))),
    ],
};

static BLKIO_WEIGHT: Level =
    Level { keys: &[inner("path", "spec", Shape::Text), inner("weight", "spec", Shape::Integer)] };

static BLKIO_RATE: Level =
    Level { keys: &[inner("path", "spec", Shape::Text), inner("rate", "spec", Shape::Bytes)] };

static CREDENTIAL_SPEC: Level = Level {
    keys: &[
        inner("config", "3.8", Shape::Text),
        inner("file", "3.3", Shape::Text),
        inner("registry", "3.3", Shape::Text),
    ],
};

static MODEL_USE: Level = Level {
    keys: &[inner("endpoint_var", "spec", Shape::Text), inner("model_var", "spec", Shape::Text)],
};

static PROVIDER: Level =
    Level { keys: &[inner("type", "spec", Shape::Text), inner("options", "spec", Shape::Any)] };
