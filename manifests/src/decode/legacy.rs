//! Limits that stand on the service itself, as they did before `deploy.resources`. What stands at both places must agree.

use swarm_proto::spec::{Constraint, ConstraintKey, Resources};

use super::{Decoder, Fields, limits};
use crate::tree::{Data, Node, shorten};

/// The kernel's shares, periods and quotas.
const SHARES: (i64, i64) = (2, 262_144);
const PERIOD: (i64, i64) = (1_000, 1_000_000);
const LEAST_QUOTA: i64 = 1_000;

/// Adds to what `deploy.resources` says.
pub(super) fn limits(d: &Decoder<'_>, fields: &Fields<'_>, resources: &mut Resources) {
    let at_both = |key: &str, place: &str| {
        let message = format!("`{key}` and `{place}` say different things");
        d.problems.error_hint(fields.key_at(key), message, "remove one of them");
    };
    let agree =
        |key: &str, place: &str, slot: &mut Option<u64>, value: Option<u64>| match (*slot, value) {
            (Some(there), Some(value)) if there != value => at_both(key, place),
            (None, Some(_)) => *slot = value,
            _ => {}
        };
    let above_zero =
        |value: Option<i64>| value.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
    let cpus = fields.get("cpus").and_then(|node| limits::cpus(d, node));
    agree("cpus", "deploy.resources.limits.cpus", &mut resources.limit_millicpus, cpus);
    let memory = fields.get("mem_limit").and_then(|node| limits::memory(d, node));
    agree("mem_limit", "deploy.resources.limits.memory", &mut resources.limit_memory, memory);
    let pids = fields.get("pids_limit");
    let pids = pids.and_then(|n| d.integer(n, "pids_limit", -1..=i64::from(u32::MAX)));
    agree(
        "pids_limit",
        "deploy.resources.limits.pids",
        &mut resources.limit_pids,
        above_zero(pids),
    );
    if let Some(bytes) = fields.get("mem_reservation").and_then(|node| limits::memory(d, node)) {
        if resources.reserve_memory != 0 && resources.reserve_memory != bytes {
            at_both("mem_reservation", "deploy.resources.reservations.memory");
        }
        resources.soft_memory = Some(bytes);
        resources.reserve_memory = bytes;
    }
    cpu(d, fields, resources);
    swap(d, fields, resources);
}

fn cpu(d: &Decoder<'_>, fields: &Fields<'_>, resources: &mut Resources) {
    let number = |key: &str, range: (i64, i64)| {
        let node = fields.get(key)?;
        // Docker has 0 for "as if it were not there".
        let is_zero = matches!(&node.data, Data::Scalar { text, .. } if text == "0");
        if is_zero {
            return None;
        }
        d.integer(node, key, range.0..=range.1).and_then(|number| u64::try_from(number).ok())
    };
    resources.cpu_shares = number("cpu_shares", SHARES);
    resources.cpu_period = number("cpu_period", PERIOD);
    resources.cpu_quota = match fields.get("cpu_quota") {
        Some(Node { data: Data::Scalar { text, .. }, .. }) if text == "-1" => None,
        _ => number("cpu_quota", (LEAST_QUOTA, i64::from(u32::MAX))),
    };
    let clash = ["cpu_quota", "cpu_period"].into_iter().find(|key| fields.get(key).is_some());
    if let (Some(key), Some(_)) = (clash, resources.limit_millicpus) {
        let message = format!("`{key}` does not go with a limit of `cpus`");
        d.problems.error_hint(fields.key_at(key), message, "remove one of them");
    }
    resources.cpuset = fields.get("cpuset").and_then(|node| {
        let text = d.scalar(node, "cpuset")?;
        if is_cpu_list(text) {
            return Some(text.to_owned());
        }
        d.expected(node, "cpuset", "numbers of CPUs such as `0-2,4`", "");
        None
    });
}

/// `0-2,4`
fn is_cpu_list(text: &str) -> bool {
    let number = |text: &str| text.parse::<u16>().ok();
    text.split(',').all(|part| match part.split_once('-') {
        Some((first, last)) => number(first).zip(number(last)).is_some_and(|(a, b)| a <= b),
        None => number(part).is_some(),
    })
}

fn swap(d: &Decoder<'_>, fields: &Fields<'_>, resources: &mut Resources) {
    if let Some(node) = fields.get("memswap_limit") {
        let unlimited = matches!(&node.data, Data::Scalar { text, .. } if text == "-1");
        let both = if unlimited { Some(u64::MAX) } else { d.bytes(node, "memswap_limit") };
        match (both, resources.limit_memory) {
            (None | Some(0), _) => {}
            (Some(_), None) => {
                let hint = "it counts memory and swap together: set `mem_limit` as well";
                let message = "`memswap_limit` needs a limit of the memory";
                d.problems.error_hint(fields.key_at("memswap_limit"), message, hint);
            }
            (Some(both), Some(memory)) if both < memory => {
                let message = "`memswap_limit` is below the limit of the memory";
                let hint = "it counts memory and swap together";
                d.problems.error_hint(node.at, message, hint);
            }
            (Some(u64::MAX), _) => resources.limit_swap = Some(u64::MAX),
            (Some(both), Some(memory)) => resources.limit_swap = Some(both - memory),
        }
    }
    let only_v1 = |key: &str| {
        let message = format!("`{key}` counts only on hosts with control groups of version 1");
        d.problems.warn(fields.key_at(key), message);
    };
    if let Some(node) = fields.get("mem_swappiness")
        && let Some(number) = d.integer(node, "mem_swappiness", -1..=100)
    {
        resources.swappiness = u8::try_from(number).ok();
        only_v1("mem_swappiness");
    }
    if let Some(node) = fields.get("oom_kill_disable")
        && d.boolean(node, "oom_kill_disable") == Some(true)
    {
        resources.oom_kill_disable = true;
        only_v1("oom_kill_disable");
    }
}

/// `os[/architecture[/variant]]`, as constraints on the nodes; an image of several platforms is pulled for its node's.
pub(super) fn platform(d: &Decoder<'_>, node: &Node) -> Vec<Constraint> {
    const ARCHITECTURES: [(&str, &str); 8] = [
        ("amd64", "amd64"),
        ("x86_64", "amd64"),
        ("arm64", "arm64"),
        ("aarch64", "arm64"),
        ("arm", "arm"),
        ("riscv64", "riscv64"),
        ("ppc64le", "ppc64le"),
        ("s390x", "s390x"),
    ];
    let Some(text) = d.scalar(node, "platform") else { return Vec::new() };
    let (os, rest) = text.split_once('/').unwrap_or((text, ""));
    let (architecture, variant) = rest.split_once('/').unwrap_or((rest, ""));
    let known = ARCHITECTURES.iter().find(|(name, _)| *name == architecture);
    if os != "linux" || (known.is_none() && !rest.is_empty()) {
        let wanted = "`linux`, or `linux/` with an architecture such as `amd64` or `arm64`";
        d.expected(node, "platform", wanted, "");
        return Vec::new();
    }
    if !variant.is_empty() {
        let message = format!("the variant `{}` has no effect", shorten(variant));
        d.problems.warn(node.at, format!("{message}: each node takes the image's best one"));
    }
    let architecture = known.map(|(_, name)| Constraint::equal(ConstraintKey::PlatformArch, *name));
    let os = Constraint::equal(ConstraintKey::PlatformOs, "linux");
    [os].into_iter().chain(architecture).collect()
}

/// Groups by name or number, each once.
pub(super) fn groups(d: &Decoder<'_>, node: &Node) -> Vec<String> {
    let mut groups: Vec<String> = Vec::new();
    for item in d.list(node, "group_add").unwrap_or_default() {
        let Some(text) = d.scalar(item, "group_add") else { continue };
        let fits = |c: u8| c.is_ascii_graphic() && c != b':' && c != b'/';
        if text.is_empty() || !text.bytes().all(fits) {
            d.problems.error(item.at, format!("`{}` cannot be a group", shorten(text)));
        } else if !groups.iter().any(|known| known == text) {
            groups.push(text.to_owned());
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        let good = ["0", "0-2,4", "1,3,5-5"].map(is_cpu_list);
        let bad = ["", "a", "2-1", "0,", "-1", "0-1-2"].map(is_cpu_list);
        assert_eq!((good, bad), ([true; 3], [false; 6]));
    }
}
