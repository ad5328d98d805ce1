//! Networks, volumes, secrets and configs of the top level.

use super::{
    EXTERNAL, EXTERNAL_CONTENT, Level, Shape, TEXT_MAP, TEXTS, adapted, hint, honoured, inner,
    later, never,
};

pub(crate) static NETWORK: Level = Level {
    keys: &[
        honoured("name", "3.5", Shape::Text, &["public"]),
        adapted(
            "driver",
            "3.0",
            Shape::Words(&["overlay"]),
            &["overlay"],
            "only `overlay`: a network reaches over all hosts",
        )
        .meaning("Swarm's: `overlay` where nothing is said, not `bridge`."),
        later("driver_opts", "3.0", TEXT_MAP, &["{encrypted: \"true\"}"], ""),
        honoured("ipam", "3.0", Shape::Mapping(&IPAM), &[]),
        honoured("internal", "3.0", Shape::Flag, &["true"]),
        hint("attachable", "3.2", Shape::Flag, &["true"], "only services join networks"),
        honoured("external", "3.0", EXTERNAL, &["true", "{name: other}"]).meaning(
            "Swarm's: one made by `network create` or by another stack. `host` and `none` are as `network_mode`.",
        ),
        later("enable_ipv4", "spec", Shape::Flag, &["true"], ""),
        later("enable_ipv6", "spec", Shape::Flag, &["true"], ""),
        honoured("labels", "3.0", Shape::Pairs, &["{a: b}", "[a=b]"]),
        honoured("x-swarm", "swarm", Shape::Mapping(&X_SWARM_NETWORK), &["{}"]),
    ],
};

/// What compose cannot say of a network.
pub(crate) static X_SWARM_NETWORK: Level = Level { keys: &[] };

pub(crate) static IPAM: Level = Level {
    keys: &[
        adapted(
            "driver",
            "3.0",
            Shape::Words(&["default"]),
            &["default"],
            "only `default`: the controllers hand out addresses",
        ),
        honoured(
            "config",
            "3.0",
            Shape::List(&Shape::Mapping(&IPAM_CONFIG)),
            &["[{subnet: 10.5.0.0/24}]"],
        ),
        later("options", "spec", TEXT_MAP, &["{a: b}"], ""),
    ],
};

pub(crate) static IPAM_CONFIG: Level = Level {
    keys: &[
        honoured("subnet", "3.0", Shape::Text, &["10.5.0.0/24"]),
        later(
            "gateway",
            "spec",
            Shape::Text,
            &["10.5.0.254"],
            "the first address is the gateway's",
        ),
        later("ip_range", "spec", Shape::Text, &["10.5.0.128/25"], ""),
        later("aux_addresses", "spec", TEXT_MAP, &["{printer: 10.5.0.7}"], ""),
    ],
};

pub(crate) static VOLUME: Level = Level {
    keys: &[
        honoured("name", "3.4", Shape::Text, &["kept"]),
        adapted(
            "driver",
            "3.0",
            Shape::Words(&["local"]),
            &["local"],
            "only `local`: a volume lies on the host that first used it",
        ),
        later("driver_opts", "3.0", TEXT_MAP, &["{type: nfs}"], ""),
        honoured("external", "3.0", EXTERNAL, &["true", "{name: other}"]).meaning(
            "One made by `volume create` or by another stack; Swarm makes one that is missing.",
        ),
        honoured("labels", "3.1", Shape::Pairs, &["{a: b}", "[a=b]"]),
        later("x-cluster-spec", "3.10", Shape::Mapping(&CLUSTER_SPEC), &["{group: fast}"], ""),
        honoured("x-swarm", "swarm", Shape::Mapping(&X_SWARM_VOLUME), &["{}"]),
    ],
};

/// What compose cannot say of a volume.
pub(crate) static X_SWARM_VOLUME: Level = Level { keys: &[] };

static CLUSTER_SPEC: Level = Level {
    keys: &[
        inner("group", "3.10", Shape::Text),
        inner("access_mode", "3.10", Shape::Mapping(&ACCESS_MODE)),
        inner("accessibility_requirements", "3.10", Shape::Mapping(&ACCESSIBILITY)),
        inner("capacity_range", "3.10", Shape::Mapping(&CAPACITY)),
        inner("secrets", "3.10", Shape::Any),
        inner("availability", "3.10", Shape::Words(&["active", "pause", "drain"])),
    ],
};

static ACCESS_MODE: Level = Level {
    keys: &[
        inner("scope", "3.10", Shape::Words(&["single", "multi"])),
        inner("sharing", "3.10", Shape::Words(&["none", "readonly", "onewriter", "all"])),
        inner("mount_volume", "3.10", Shape::Mapping(&MOUNTED)),
        inner("block_volume", "3.10", Shape::Any),
    ],
};

static MOUNTED: Level =
    Level { keys: &[inner("fs_type", "3.10", Shape::Text), inner("mount_flags", "3.10", TEXTS)] };

static ACCESSIBILITY: Level = Level {
    keys: &[
        inner("requisite", "3.10", Shape::List(&Shape::Mapping(&SEGMENTS))),
        inner("preferred", "3.10", Shape::List(&Shape::Mapping(&SEGMENTS))),
    ],
};

static SEGMENTS: Level = Level { keys: &[inner("segments", "3.10", Shape::Pairs)] };

static CAPACITY: Level = Level {
    keys: &[
        inner("required_bytes", "3.10", Shape::Bytes),
        inner("limit_bytes", "3.10", Shape::Bytes),
    ],
};

/// Whose bytes no other program keeps.
const NO_DRIVER: [&str; 2] =
    ["secrets are kept by the cluster itself", "give it with `file` or `environment`"];
const TEMPLATE: &str = "values of variables are filled in where a config has `content`";
const VERSIONED: &str = "Swarm refuses a changed one: here tasks get it when they are replaced, and old ones keep theirs.";

pub(crate) static SECRET: Level = Level {
    keys: &[
        honoured("name", "3.5", Shape::Text, &["kept"]),
        honoured("file", "3.1", Shape::Text, &["base.yml"]).meaning(VERSIONED),
        honoured("environment", "spec", Shape::Text, &["TOKEN"]),
        honoured("external", "3.1", EXTERNAL_CONTENT, &["true", "{name: other}"]),
        honoured("labels", "3.1", Shape::Pairs, &["{a: b}", "[a=b]"]),
        never("driver", "3.8", Shape::Text, &["vault"], NO_DRIVER),
        never("driver_opts", "3.8", TEXT_MAP, &["{a: b}"], NO_DRIVER),
        later("template_driver", "3.8", Shape::Text, &["golang"], TEMPLATE),
    ],
};

pub(crate) static CONFIG: Level = Level {
    keys: &[
        honoured("name", "3.5", Shape::Text, &["kept"]),
        honoured("file", "3.3", Shape::Text, &["base.yml"]).meaning(VERSIONED),
        honoured("content", "spec", Shape::Text, &["hello"]),
        honoured("environment", "spec", Shape::Text, &["TOKEN"]),
        honoured("external", "3.3", EXTERNAL_CONTENT, &["true", "{name: other}"]),
        honoured("labels", "3.3", Shape::Pairs, &["{a: b}", "[a=b]"]),
        later("template_driver", "3.8", Shape::Text, &["golang"], TEMPLATE),
    ],
};

/// The name of an external object in the old form.
pub(crate) static EXTERNAL_NAME: Level =
    Level { keys: &[honoured("name", "3.0", Shape::Text, &["other"])] };

/// The same of a secret or config.
pub(crate) static EXTERNAL_CONTENT_NAME: Level =
    Level { keys: &[honoured("name", "3.1", Shape::Text, &["other"])] };
