//! What the kernel holds a container to: capabilities, process limits, signals, resources.

use swarm_proto::spec::{Resources, Ulimit};

use super::{Decoder, reservations, service};
use crate::keys::{LIMITS, RESERVATIONS, RESOURCES, ULIMIT};
use crate::tree::{At, Data, Node, shorten};
use crate::units::parse_millicpus;

/// Capabilities of Linux, without `CAP_`.
const CAPABILITIES: [&str; 42] = [
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "SYSLOG",
    "WAKE_ALARM",
];
const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// Less is too little for any process, as Docker has it.
const LEAST_MEMORY: u64 = 4 << 20;

/// Upper case, without `CAP_`, each once.
pub(super) fn capabilities(d: &Decoder<'_>, node: &Node, name: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for item in d.list(node, name).unwrap_or_default() {
        let Some(text) = d.scalar(item, name) else { continue };
        let upper = text.to_ascii_uppercase();
        let word = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if !CAPABILITIES.contains(&word) {
            let message = format!("`{}` is not a capability", shorten(text));
            service::unknown_word(d, item, message, CAPABILITIES);
        } else if !found.iter().any(|known| known == word) {
            found.push(word.to_owned());
        }
    }
    found
}

/// A number, or `{soft, hard}`; -1 is without a limit.
pub(super) fn ulimits(d: &Decoder<'_>, node: &Node) -> Vec<Ulimit> {
    let mut found = Vec::new();
    for (key, node) in d.pairs(node, "`ulimits`").unwrap_or_default() {
        let name = key.text.to_ascii_lowercase();
        if !ULIMITS.contains(&name.as_str()) {
            let message = format!("`{}` is not a process limit", shorten(&key.text));
            d.problems.error_hint(key.at, message, d.hint(&name, ULIMITS));
            continue;
        }
        if found.iter().any(|limit: &Ulimit| limit.name == name) {
            let message = format!("process limit `{name}` is given twice");
            d.problems.error_hint(key.at, message, "remove one of them");
            continue;
        }
        let limit = |node: &Node| {
            let number = d.integer(node, &name, -1..=i64::MAX)?;
            Some(u64::try_from(number).unwrap_or(u64::MAX))
        };
        let limits = match &node.data {
            Data::Mapping(_) => ["soft", "hard"].map(|which| {
                let fields = d.fields(node, "a process limit", &ULIMIT)?;
                let found = fields.get(which);
                if found.is_none() {
                    d.problems.error(key.at, format!("limit `{name}` needs `soft` and `hard`"));
                }
                limit(found?)
            }),
            _ => [limit(node); 2],
        };
        if let [Some(soft), Some(hard)] = limits {
            if soft > hard {
                let message = format!("the soft limit of `{name}` is above the hard one");
                d.problems.error_hint(node.at, message, "a soft limit is at most the hard one");
            }
            found.push(Ulimit { name, soft, hard });
        }
    }
    found
}

pub(super) fn signal(d: &Decoder<'_>, node: &Node) -> Option<String> {
    let text = d.scalar(node, "stop_signal")?;
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if SIGNALS.contains(&name) {
        return Some(format!("SIG{name}"));
    }
    let is_real_time = name.strip_prefix("RTMIN+").and_then(|n| n.parse::<u8>().ok());
    if is_real_time.is_some_and(|n| n <= 30) || name == "RTMIN" || name == "RTMAX" {
        return Some(format!("SIG{name}"));
    }
    if text.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number)) {
        return Some(text.to_owned());
    }
    let message = format!("`{}` is not a signal", shorten(text));
    match d.nearest(name, SIGNALS) {
        Some(near) => d.problems.error_hint(node.at, message, format!("did you mean `SIG{near}`?")),
        None => d.problems.error_hint(node.at, message, "write it as `SIGTERM`"),
    }
    None
}

/// `deploy.resources`
pub(super) fn resources(d: &Decoder<'_>, node: &Node) -> Resources {
    let Some(fields) = d.fields(node, "`resources`", &RESOURCES) else {
        return Resources::default();
    };
    let mut resources = Resources::default();
    if let Some(node) = fields.get("limits")
        && let Some(limits) = d.fields(node, "`limits`", &LIMITS)
    {
        resources.limit_millicpus = limits.get("cpus").and_then(|node| cpus(d, node));
        resources.limit_memory = limits.get("memory").and_then(|node| memory(d, node));
        // Compose has -1 for no limit.
        let pids =
            limits.get("pids").and_then(|node| d.integer(node, "pids", -1..=i64::from(u32::MAX)));
        resources.limit_pids =
            pids.and_then(|pids| u64::try_from(pids).ok()).filter(|pids| *pids > 0);
    }
    if let Some(node) = fields.get("reservations")
        && let Some(reserved) = d.fields(node, "`reservations`", &RESERVATIONS)
    {
        let reserve = reserved.get("cpus").and_then(|node| cpus(d, node));
        resources.reserve_millicpus = reserve.unwrap_or(0);
        let reserve = reserved.get("memory").and_then(|node| memory(d, node));
        resources.reserve_memory = reserve.unwrap_or(0);
        resources.requests = reservations::requests(d, &reserved);
    }
    check_order(d, node, &resources);
    resources
}

/// What is set aside of the processes is within their limit.
pub(super) fn check_pids(d: &Decoder<'_>, at: At, resources: &Resources) {
    if resources.limit_pids.is_some_and(|limit| resources.reserve_pids > limit) {
        let message = "the reservation of `pids` is above its limit";
        d.problems.error_hint(at, message, "reserve at most what the limit allows");
    }
}

fn check_order(d: &Decoder<'_>, node: &Node, resources: &Resources) {
    let above = |limit: Option<u64>, reserve: u64| limit.is_some_and(|limit| reserve > limit);
    for (name, is_above) in [
        ("cpus", above(resources.limit_millicpus, resources.reserve_millicpus)),
        ("memory", above(resources.limit_memory, resources.reserve_memory)),
    ] {
        if is_above {
            let message = format!("the reservation of `{name}` is above its limit");
            d.problems.error_hint(node.at, message, "reserve at most what the limit allows");
        }
    }
}

/// The size of `/dev/shm`; zero is as if it were not there.
pub(super) fn shm_size(d: &Decoder<'_>, node: &Node) -> Option<u64> {
    d.bytes(node, "shm_size").filter(|bytes| *bytes > 0)
}

/// How soon the kernel takes the container's processes when memory is short.
pub(super) fn oom_score_adj(d: &Decoder<'_>, node: &Node) -> Option<i32> {
    let number = d.integer(node, "oom_score_adj", -1000..=1000)?;
    i32::try_from(number).ok()
}

/// Thousandths of a CPU.
pub(super) fn cpus(d: &Decoder<'_>, node: &Node) -> Option<u64> {
    let found = match &node.data {
        Data::Scalar { text, .. } => parse_millicpus(text).filter(|cpus| *cpus > 0),
        _ => None,
    };
    if found.is_none() {
        d.expected(node, "cpus", "a number of CPUs such as `0.5`, in steps of 0.001", "");
    }
    found
}

pub(super) fn memory(d: &Decoder<'_>, node: &Node) -> Option<u64> {
    let bytes = d.bytes(node, "memory")?;
    if bytes < LEAST_MEMORY {
        let hint = "a number without a unit counts bytes; write `64m` for 64 MiB";
        d.expected(node, "memory", "at least 4 MiB", hint);
        return None;
    }
    Some(bytes)
}
