//! The keys of a service that are about its containers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use swarm_proto::spec::{
    ContainerSpec, ContentKind, ImageSpec, Mount, MountSource, PullPolicy, Resources, Tmpfs, Ulimit,
};

use super::{Pairs, contents, isolation, list, text};
use crate::value::Value;

/// The first keys of a service.
#[expect(clippy::too_many_lines, reason = "a line for each field, and one for each key")]
pub(super) fn container(spec: &ContainerSpec) -> Pairs {
    let ContainerSpec {
        image,
        entrypoint,
        command,
        environment,
        user,
        working_dir,
        hostname,
        labels,
        mounts,
        extra_hosts,
        cap_add,
        cap_drop,
        privileged,
        read_only,
        init,
        tty,
        sysctls,
        ulimits,
        stop_signal,
        stop_grace_period,
        resources,
        domainname,
        stdin_open,
        shm_size,
        groups,
        oom_score_adj,
        dns,
        extra_hosts_v6,
        sharing,
        security,
        devices,
        device_rules,
        annotations,
        logging,
        files,
        health,
        pre_stop,
    } = spec;
    let grace = *stop_grace_period;
    let mut pairs = Pairs::default();
    put_image(&mut pairs, image);
    // An empty command is not the image's own.
    pairs.put("entrypoint", &entrypoint.as_deref().map(list));
    pairs.put("command", &command.as_deref().map(list));
    pairs.put("environment", environment);
    pairs.put("user", user);
    pairs.put("working_dir", working_dir);
    pairs.put("hostname", hostname);
    pairs.put("domainname", domainname);
    pairs.put("labels", labels);
    pairs.put("annotations", annotations);
    pairs.put("init", init);
    pairs.put("tty", tty);
    pairs.put("stdin_open", stdin_open);
    pairs.put("read_only", read_only);
    pairs.put("privileged", privileged);
    pairs.put("cap_add", cap_add);
    pairs.put("cap_drop", cap_drop);
    pairs.put("security_opt", &isolation::security(security));
    pairs.put("group_add", groups);
    isolation::put_sharing(&mut pairs, *sharing);
    pairs.put("devices", &isolation::devices(devices));
    pairs.put("device_cgroup_rules", &isolation::device_rules(device_rules));
    pairs.put("sysctls", sysctls);
    pairs.put("ulimits", &self::ulimits(ulimits));
    pairs.put("stop_signal", stop_signal);
    pairs.put("stop_grace_period", &(grace != ContainerSpec::STOP_GRACE_PERIOD).then_some(grace));
    pairs.put("healthcheck", &super::health::healthcheck(health.as_ref()));
    pairs.put("pre_stop", &super::health::hooks(pre_stop));
    put_resources(&mut pairs, resources);
    pairs.put("oom_score_adj", oom_score_adj);
    pairs.put("extra_hosts", &hosts(extra_hosts, extra_hosts_v6));
    isolation::put_dns(&mut pairs, dns);
    pairs.put("shm_size", shm_size);
    put_mounts(&mut pairs, mounts);
    pairs.put("logging", &isolation::logging(logging));
    pairs.put("configs", &contents::files(files, ContentKind::Config));
    pairs.put("secrets", &contents::files(files, ContentKind::Secret));
    pairs
}

/// What `deploy.resources` cannot say.
fn put_resources(pairs: &mut Pairs, resources: &Resources) {
    let Resources {
        limit_memory,
        limit_swap,
        soft_memory,
        cpu_shares,
        cpu_quota,
        cpu_period,
        cpuset,
        swappiness,
        oom_kill_disable,
        // Below `deploy`.
        limit_millicpus: _,
        limit_pids: _,
        reserve_millicpus: _,
        reserve_memory: _,
        requests: _,
        // Below `x-swarm`.
        reserve_pids: _,
    } = resources;
    let memory = limit_memory.unwrap_or(0);
    // Both together; without a limit is -1 in a file.
    let both = limit_swap.map(|swap| if swap == u64::MAX { -1 } else { i128::from(memory + swap) });
    pairs.put("memswap_limit", &both.map(Value::Integer));
    pairs.put("mem_reservation", soft_memory);
    pairs.put("mem_swappiness", swappiness);
    pairs.put("oom_kill_disable", oom_kill_disable);
    pairs.put("cpu_shares", cpu_shares);
    pairs.put("cpu_quota", cpu_quota);
    pairs.put("cpu_period", cpu_period);
    pairs.put("cpuset", cpuset);
}

/// Addresses by name; a name with both kinds has a list.
pub(super) fn hosts(
    v4: &BTreeMap<String, Ipv4Addr>,
    v6: &BTreeMap<String, Ipv6Addr>,
) -> Option<Value> {
    let names: BTreeSet<&String> = v4.keys().chain(v6.keys()).collect();
    let addresses = |name: &String| {
        let v4 = v4.get(name).map(ToString::to_string);
        match (v4, v6.get(name).map(ToString::to_string)) {
            (Some(v4), Some(v6)) => Value::texts([v4, v6]),
            (one, other) => Value::texts(one.or(other)),
        }
    };
    let address = |name: &String| match addresses(name) {
        Value::List(mut one) if one.len() == 1 => one.remove(0),
        list => list,
    };
    (!names.is_empty()).then(|| Value::map(names.into_iter().map(|name| (name, address(name)))))
}

fn put_image(pairs: &mut Pairs, image: &ImageSpec) {
    let ImageSpec { reference, digest, pull_policy } = image;
    let name = match digest {
        Some(digest) => format!("{reference}@{digest}"),
        None => reference.clone(),
    };
    pairs.put("image", &name);
    pairs.put(
        "pull_policy",
        &match pull_policy {
            PullPolicy::Missing => None,
            PullPolicy::Never => Some(Value::text("never")),
        },
    );
}

pub(super) fn ulimits(limits: &[Ulimit]) -> Option<Value> {
    // Without a limit is -1 in a file.
    let limit = |limit: u64| Value::Integer(if limit == u64::MAX { -1 } else { limit.into() });
    let pair = |Ulimit { name, soft, hard }: &Ulimit| {
        (name.clone(), Value::map([("soft", limit(*soft)), ("hard", limit(*hard))]))
    };
    (!limits.is_empty()).then(|| Value::map(limits.iter().map(pair)))
}

/// Under `volumes`, but for file systems in memory of which that cannot say everything. They and those after them come
/// last, as they did in the file.
fn put_mounts(pairs: &mut Pairs, mounts: &[Mount]) {
    let is_short =
        |mount: &Mount| matches!(&mount.source, MountSource::Tmpfs(one) if is_more(*one));
    let first = mounts.iter().position(is_short).unwrap_or(mounts.len());
    let (volumes, rest) = mounts.split_at(first);
    let (short, after): (Vec<&Mount>, Vec<&Mount>) =
        rest.iter().partition(|mount| matches!(mount.source, MountSource::Tmpfs(_)));
    let volumes: Vec<Value> = volumes.iter().chain(after).map(mount).collect();
    let tmpfs = short.into_iter().filter_map(short_tmpfs).map(|line| text(&line));
    let tmpfs: Vec<Value> = tmpfs.collect();
    pairs.put("volumes", &(!volumes.is_empty()).then_some(Value::List(volumes)));
    pairs.put("tmpfs", &(!tmpfs.is_empty()).then_some(Value::List(tmpfs)));
}

/// Whether it says more than size and mode.
fn is_more(tmpfs: Tmpfs) -> bool {
    tmpfs != Tmpfs { size: tmpfs.size, mode: tmpfs.mode, ..Tmpfs::default() }
}

/// `/run:size=64,uid=5`
fn short_tmpfs(mount: &Mount) -> Option<String> {
    let Mount { target, source: MountSource::Tmpfs(tmpfs), read_only } = mount else { return None };
    let Tmpfs { size, mode, uid, gid, executable, set_user_id, devices } = *tmpfs;
    let numbers = [
        size.map(|size| format!("size={size}")),
        mode.map(|mode| format!("mode={mode:04o}")),
        uid.map(|uid| format!("uid={uid}")),
        gid.map(|gid| format!("gid={gid}")),
    ];
    let flags = [
        ("noexec", executable == Some(false)),
        ("suid", set_user_id),
        ("dev", devices),
        ("ro", *read_only),
    ];
    let flags = flags.into_iter().filter(|(_, set)| *set).map(|(name, _)| name.to_owned());
    let options: Vec<String> = numbers.into_iter().flatten().chain(flags).collect();
    Some(if options.is_empty() {
        target.clone()
    } else {
        format!("{target}:{}", options.join(","))
    })
}

fn mount(mount: &Mount) -> Value {
    let Mount { target, source, read_only } = mount;
    let mut options = Pairs::default();
    let (kind, from) = match source {
        MountSource::Bind { path } => ("bind", Some(text(path))),
        // Where it is external, the volume itself says so.
        MountSource::Volume { volume, no_copy, external: _ } => {
            options.put("nocopy", no_copy);
            ("volume", Some(text(volume)))
        }
        MountSource::Anonymous => ("volume", None),
        MountSource::Tmpfs(tmpfs) => {
            options.put("size", &tmpfs.size);
            options.put("mode", &tmpfs.mode);
            ("tmpfs", None)
        }
    };
    let mut pairs = Pairs::default();
    pairs.put("type", &Value::text(kind));
    pairs.put("source", &from);
    pairs.put("target", target);
    pairs.put("read_only", read_only);
    pairs.put(kind, &options.into_some());
    pairs.into_value()
}
