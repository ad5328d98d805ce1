//! The keys of a service that are about its containers.

use swarm_proto::spec::{ContainerSpec, ImageSpec, Mount, MountSource, PullPolicy, Ulimit};

use super::{Pairs, list, text};
use crate::value::Value;

/// The first keys of a service.
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
        // Below `deploy`.
        resources: _,
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
    pairs.put("labels", labels);
    pairs.put("init", init);
    pairs.put("tty", tty);
    pairs.put("read_only", read_only);
    pairs.put("privileged", privileged);
    pairs.put("cap_add", cap_add);
    pairs.put("cap_drop", cap_drop);
    pairs.put("sysctls", sysctls);
    pairs.put("ulimits", &self::ulimits(ulimits));
    pairs.put("stop_signal", stop_signal);
    pairs.put("stop_grace_period", &(grace != ContainerSpec::STOP_GRACE_PERIOD).then_some(grace));
    pairs.put("extra_hosts", extra_hosts);
    pairs.put("volumes", &self::mounts(mounts));
    pairs
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

fn ulimits(limits: &[Ulimit]) -> Option<Value> {
    // Without a limit is -1 in a file.
    let limit = |limit: u64| Value::Integer(if limit == u64::MAX { -1 } else { limit.into() });
    let pair = |Ulimit { name, soft, hard }: &Ulimit| {
        (name.clone(), Value::map([("soft", limit(*soft)), ("hard", limit(*hard))]))
    };
    (!limits.is_empty()).then(|| Value::map(limits.iter().map(pair)))
}

fn mounts(mounts: &[Mount]) -> Option<Value> {
    (!mounts.is_empty()).then(|| Value::List(mounts.iter().map(mount).collect()))
}

fn mount(mount: &Mount) -> Value {
    let Mount { target, source, read_only } = mount;
    let mut options = Pairs::default();
    let (kind, from) = match source {
        MountSource::Bind { path } => ("bind", Some(text(path))),
        MountSource::Volume { volume, no_copy } => {
            options.put("nocopy", no_copy);
            ("volume", Some(text(volume)))
        }
        MountSource::Anonymous => ("volume", None),
        MountSource::Tmpfs { size } => {
            options.put("size", size);
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
