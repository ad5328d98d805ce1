//! What a service is given: ports, networks, mounts, secrets and configs, in their long forms, devices and a log.

use super::{Level, Shape, TEXT_MAP, TEXTS, adapted, hint, honoured, inner, later};

pub(crate) static PORT: Level = Level {
    keys: &[
        honoured("target", "3.2", Shape::Integer, &["80"]),
        honoured("published", "3.2", Shape::Integer, &["8080", "\"8080\""]),
        honoured("protocol", "3.2", Shape::Words(&["tcp", "udp"]), &["udp"]),
        honoured("mode", "3.2", Shape::Words(&["ingress", "host"]), &["host"])
            .meaning("Swarm's: a port is published on every host, also one of the short form."),
        honoured("host_ip", "spec", Shape::Text, &["10.0.0.1"])
            .meaning("The specification's: Swarm drops the address and publishes on all of them."),
        hint("name", "spec", Shape::Text, &["web"], "it tells readers what the port is for"),
        hint("app_protocol", "spec", Shape::Text, &["http"], "connections are carried as they are"),
    ],
};

pub(crate) static NETWORK_ATTACHMENT: Level = Level {
    keys: &[
        honoured("aliases", "3.0", TEXTS, &["[www, site]"]),
        later(
            "ipv4_address",
            "3.0",
            Shape::Text,
            &["10.5.0.9"],
            "use the service's name instead of an address",
        )
        .meaning("Swarm accepts an address and drops it without a word."),
        later(
            "ipv6_address",
            "3.0",
            Shape::Text,
            &["\"fd00::9\""],
            "use the service's name instead of an address",
        ),
        later("link_local_ips", "spec", TEXTS, &["[169.254.8.8]"], ""),
        later("mac_address", "spec", Shape::Text, &["\"02:42:ac:11:00:02\""], ""),
        later("interface_name", "spec", Shape::Text, &["front0"], ""),
        later("driver_opts", "3.13", TEXT_MAP, &["{a: b}"], ""),
        later("priority", "spec", Shape::Number, &["100"], ""),
        later("gw_priority", "spec", Shape::Number, &["100"], ""),
    ],
};

pub(crate) static MOUNT: Level = Level {
    keys: &[
        honoured("type", "3.2", Shape::Words(&["volume", "bind", "tmpfs"]), &["volume"])
            .meaning("Types `image`, `cluster` and `npipe` are refused."),
        honoured("source", "3.2", Shape::Text, &["data"]),
        honoured("target", "3.2", Shape::Text, &["/data"]),
        honoured("read_only", "3.2", Shape::Flag, &["true"]),
        hint("consistency", "3.2", Shape::Text, &["cached"], "containers see the host's files"),
        honoured("volume", "3.2", Shape::Mapping(&MOUNT_VOLUME), &[]),
        honoured("bind", "3.2", Shape::Mapping(&BIND), &[]),
        honoured("tmpfs", "3.6", Shape::Mapping(&MOUNT_TMPFS), &[]),
        later("image", "spec", Shape::Mapping(&MOUNT_IMAGE), &["{subpath: etc}"], ""),
        later("cluster", "3.8", Shape::Any, &["{a: b}"], ""),
    ],
};

pub(crate) static MOUNT_VOLUME: Level = Level {
    keys: &[
        honoured("nocopy", "3.2", Shape::Flag, &["true"]),
        later("subpath", "spec", Shape::Text, &["etc"], ""),
        later("labels", "spec", Shape::Pairs, &["{a: b}"], "set them on the volume itself"),
    ],
};

pub(crate) static BIND: Level = Level {
    keys: &[
        later("propagation", "3.2", Shape::Text, &["rshared"], ""),
        adapted(
            "create_host_path",
            "spec",
            Shape::Flag,
            &["false"],
            "only `false`: a host's folder must be there, as Swarm has it",
        )
        .meaning("Swarm's: a missing folder is an error of the task, and never made."),
        later("recursive", "spec", Shape::Text, &["disabled"], ""),
        hint("selinux", "spec", Shape::Words(&["z", "Z"]), &["z"], "SELinux labels are not set"),
    ],
};

pub(crate) static MOUNT_TMPFS: Level = Level {
    keys: &[
        honoured("size", "3.6", Shape::Bytes, &["64m", "67108864"]),
        honoured("mode", "spec", Shape::Integer, &["0o700", "448"]),
    ],
};

static MOUNT_IMAGE: Level = Level { keys: &[inner("subpath", "spec", Shape::Text)] };

/// The long form of a secret or config of a service.
pub(crate) static GRANT: Level = Level {
    keys: &[
        honoured("source", "3.1", Shape::Text, &["key"]),
        honoured("target", "3.1", Shape::Text, &["other", "/etc/other"]),
        honoured("uid", "3.1", Shape::Text, &["\"103\"", "103"]),
        honoured("gid", "3.1", Shape::Text, &["\"103\"", "103"]),
        honoured("mode", "3.1", Shape::Integer, &["0440", "\"0440\"", "0o440"]),
    ],
};

pub(crate) static ULIMIT: Level = Level {
    keys: &[
        honoured("soft", "3.0", Shape::Integer, &["20000"]),
        honoured("hard", "3.0", Shape::Integer, &["40000"]),
    ],
};

pub(crate) static DEVICE: Level = Level {
    keys: &[
        honoured("source", "spec", Shape::Text, &["/dev/fuse"]),
        honoured("target", "spec", Shape::Text, &["/dev/f"]),
        honoured("permissions", "spec", Shape::Text, &["rw"]),
    ],
};

pub(crate) static LOGGING: Level = Level {
    keys: &[
        honoured(
            "driver",
            "3.0",
            Shape::Words(&["local", "json-file", "none", "journald", "syslog"]),
            &["none", "journald", "syslog"],
        )
        .meaning(
            "`json-file` is as `local`; what goes elsewhere is also kept for `swarmctl logs`.",
        ),
        honoured("options", "3.0", TEXT_MAP, &["{max-size: 1m, max-file: \"3\"}"]),
    ],
};
