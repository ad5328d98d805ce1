//! `deploy` of a service.

use super::{Level, ONE_OR_MORE, Shape, TEXTS, adapted, honoured, inner, never};

pub(crate) static DEPLOY: Level = Level {
    keys: &[
        honoured(
            "mode",
            "3.0",
            Shape::Words(&["replicated", "global", "replicated-job", "global-job"]),
            &["replicated", "global", "replicated-job", "global-job"],
        )
        .meaning("Swarm's: `replicas` of a job says how often, and how many at a time; `x-swarm` can tell them apart."),
        honoured("replicas", "3.0", Shape::Integer, &["3"]),
        honoured("endpoint_mode", "3.2", Shape::Words(&["vip", "dnsrr"]), &["dnsrr"]),
        honoured("labels", "3.0", Shape::Pairs, &["{public: \"yes\"}", "[public=yes]"]),
        honoured("placement", "3.0", Shape::Mapping(&PLACEMENT), &[]),
        honoured("resources", "3.0", Shape::Mapping(&RESOURCES), &[]),
        honoured("restart_policy", "3.0", Shape::Mapping(&RESTART_POLICY), &[]),
        honoured("update_config", "3.0", Shape::Mapping(&UPDATE_CONFIG), &[]),
        honoured("rollback_config", "3.7", Shape::Mapping(&ROLLBACK_CONFIG), &[]),
    ],
};

pub(crate) static PLACEMENT: Level = Level {
    keys: &[
        honoured("constraints", "3.0", TEXTS, &["[node.labels.zone==a]"]).meaning(
            "Swarm's: values compare without case, and a label that is missing is an empty text. Beside `==` and `!=`: `in (a, b)`, `not in (a, b)`, `exists`, `not exists`, and `<`, `<=`, `>=`, `>` with whole numbers.",
        ),
        honoured(
            "preferences",
            "3.3",
            Shape::List(&Shape::Mapping(&PREFERENCE)),
            &["[{spread: node.labels.zone}]"],
        ),
        honoured("max_replicas_per_node", "3.8", Shape::Integer, &["2"]),
    ],
};

pub(crate) static PREFERENCE: Level =
    Level { keys: &[honoured("spread", "3.3", Shape::Text, &["node.labels.zone"])] };

pub(crate) static RESOURCES: Level = Level {
    keys: &[
        honoured("limits", "3.0", Shape::Mapping(&LIMITS), &[]),
        honoured("reservations", "3.0", Shape::Mapping(&RESERVATIONS), &[])
            .meaning("Swarm's: the scheduler sets them aside; the kernel knows nothing of them."),
    ],
};

pub(crate) static LIMITS: Level = Level {
    keys: &[
        honoured("cpus", "3.0", Shape::Number, &["\"0.5\"", "0.5"]),
        honoured("memory", "3.0", Shape::Bytes, &["64m"]),
        honoured("pids", "3.9", Shape::Integer, &["100"]),
    ],
};

pub(crate) static RESERVATIONS: Level = Level {
    keys: &[
        honoured("cpus", "3.0", Shape::Number, &["\"0.25\"", "0.25"]),
        honoured("memory", "3.0", Shape::Bytes, &["32m"]),
        honoured(
            "generic_resources",
            "3.5",
            Shape::List(&Shape::Mapping(&GENERIC_RESOURCE)),
            &["[{discrete_resource_spec: {kind: gpu, value: 2}}]"],
        )
        .meaning("Swarm's: agents' `generic_resources` say what a node has, kinds compare without case. A task has its own alone until it has ended."),
        adapted(
            "devices",
            "spec",
            Shape::List(&Shape::Mapping(&DEVICE_REQUEST)),
            &["[{capabilities: [gpu]}]"],
            GPUS,
        ),
    ],
};

/// What becomes of requests for devices.
pub(super) const GPUS: &str = "as generic resources of the kind `gpu`, one task's alone; the container gets the device nodes that `resource_devices` of the agent gives them, and `NVIDIA_VISIBLE_DEVICES`";

pub(crate) static GENERIC_RESOURCE: Level = Level {
    keys: &[honoured("discrete_resource_spec", "3.5", Shape::Mapping(&DISCRETE_RESOURCE), &[])],
};

pub(crate) static DISCRETE_RESOURCE: Level = Level {
    keys: &[
        honoured("kind", "3.5", Shape::Text, &["gpu"]),
        honoured("value", "3.5", Shape::Integer, &["2"]),
    ],
};

/// A device by what it can do, as graphics cards are asked for.
pub(crate) static DEVICE_REQUEST: Level = Level {
    keys: &[
        honoured("capabilities", "spec", TEXTS, &["[gpu]", "[gpu, compute, utility]"]),
        honoured(
            "count",
            "spec",
            Shape::Either(&[Shape::Integer, Shape::Words(&["all"])]),
            &["2", "all"],
        ),
        honoured("device_ids", "spec", TEXTS, &["[GPU-6f3b4c]"]),
        honoured("driver", "spec", Shape::Words(&["nvidia"]), &["nvidia"]),
        never(
            "options",
            "spec",
            Shape::Pairs,
            &["{mode: shared}"],
            ["no program of the driver's is run that would read them", "remove it"],
        ),
    ],
};

/// What compose cannot reserve.
pub(crate) static X_SWARM_RESERVATIONS: Level = Level {
    keys: &[honoured("pids", "swarm", Shape::Integer, &["100"])
        .meaning("Processes and threads that the scheduler sets aside.")],
};

pub(crate) static RESTART_POLICY: Level = Level {
    keys: &[
        honoured("condition", "3.0", Shape::Words(&["none", "on-failure", "any"]), &["none"]),
        honoured("delay", "3.0", Shape::Duration, &["2s"])
            .meaning("Swarm's: five seconds where nothing is said, not zero."),
        honoured("max_attempts", "3.0", Shape::Integer, &["3"])
            .meaning("Swarm's: zero is without end."),
        honoured("window", "3.0", Shape::Duration, &["2m"]),
    ],
};

const MONITOR: &str = "Swarm's: five seconds where nothing is said, or zero.";

pub(crate) static UPDATE_CONFIG: Level = Level {
    keys: &[
        honoured("parallelism", "3.0", Shape::Integer, &["2"]),
        honoured("delay", "3.0", Shape::Duration, &["10s"]),
        honoured(
            "failure_action",
            "3.0",
            Shape::Words(&["pause", "continue", "rollback"]),
            &["rollback"],
        ),
        honoured("monitor", "3.0", Shape::Duration, &["10s"]).meaning(MONITOR),
        honoured("max_failure_ratio", "3.0", Shape::Number, &["0.1", "\"0.25\""])
            .meaning("At most six digits after the point, so that it is exact."),
        honoured("order", "3.4", Shape::Words(&["stop-first", "start-first"]), &["start-first"]),
    ],
};

pub(crate) static ROLLBACK_CONFIG: Level = Level {
    keys: &[
        honoured("parallelism", "3.7", Shape::Integer, &["2"]),
        honoured("delay", "3.7", Shape::Duration, &["10s"]),
        honoured("failure_action", "3.7", Shape::Words(&["pause", "continue"]), &["continue"]),
        honoured("monitor", "3.7", Shape::Duration, &["10s"]).meaning(MONITOR),
        honoured("max_failure_ratio", "3.7", Shape::Number, &["0.1"]),
        honoured("order", "3.7", Shape::Words(&["stop-first", "start-first"]), &["start-first"]),
    ],
};

/// Groups of [`ONE_OR_MORE`] patterns and actions that `docker compose watch` looks at.
pub(super) static WATCH: Level = Level {
    keys: &[
        inner("action", "spec", Shape::Text),
        inner("path", "spec", Shape::Text),
        inner("target", "spec", Shape::Text),
        inner("ignore", "spec", ONE_OR_MORE),
        inner("include", "spec", ONE_OR_MORE),
        inner("initial_sync", "spec", Shape::Flag),
        inner("exec", "spec", Shape::Mapping(&super::service::LATER_HOOK)),
    ],
};
