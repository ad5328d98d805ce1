//! One container's spec.

use std::time::Duration;

use super::fields::{ConvertError, Fields, each, milliseconds};
use crate::spec::{ContainerSpec, Dns, ImageSpec, Mount, MountSource, Resources, Tmpfs, Ulimit};
use crate::wire;

impl From<&ImageSpec> for wire::ImageSpec {
    fn from(image: &ImageSpec) -> Self {
        Self {
            reference: image.reference.clone(),
            digest: image.digest.as_ref().map(ToString::to_string),
            pull_policy: image.pull_policy.into(),
        }
    }
}

impl TryFrom<wire::ImageSpec> for ImageSpec {
    type Error = ConvertError;

    fn try_from(image: wire::ImageSpec) -> Result<Self, ConvertError> {
        let at = Fields("ImageSpec");
        let digest = image.digest.map(|digest| at.text("digest", &digest)).transpose()?;
        let pull_policy =
            at.enumeration::<wire::PullPolicy, _>("pull_policy", image.pull_policy)?;
        Ok(Self { reference: image.reference, digest, pull_policy })
    }
}

impl From<&Tmpfs> for wire::TmpfsSource {
    fn from(tmpfs: &Tmpfs) -> Self {
        Self {
            size: tmpfs.size,
            mode: tmpfs.mode,
            uid: tmpfs.uid,
            gid: tmpfs.gid,
            executable: tmpfs.executable,
            set_user_id: tmpfs.set_user_id,
            devices: tmpfs.devices,
        }
    }
}

impl TryFrom<wire::TmpfsSource> for Tmpfs {
    type Error = ConvertError;

    fn try_from(tmpfs: wire::TmpfsSource) -> Result<Self, ConvertError> {
        Ok(Self {
            size: tmpfs.size,
            mode: tmpfs.mode,
            uid: tmpfs.uid,
            gid: tmpfs.gid,
            executable: tmpfs.executable,
            set_user_id: tmpfs.set_user_id,
            devices: tmpfs.devices,
        })
    }
}

impl From<&Mount> for wire::Mount {
    fn from(mount: &Mount) -> Self {
        use wire::mount::Source;
        let source = match mount.source.clone() {
            MountSource::Bind { path } => Source::Bind(wire::BindSource { path }),
            MountSource::Volume { volume, no_copy, external } => {
                Source::Volume(wire::VolumeSource { volume, no_copy, external })
            }
            MountSource::Anonymous => Source::Anonymous(wire::Nothing {}),
            MountSource::Tmpfs(tmpfs) => Source::Tmpfs((&tmpfs).into()),
        };
        Self { target: mount.target.clone(), read_only: mount.read_only, source: Some(source) }
    }
}

impl TryFrom<wire::Mount> for Mount {
    type Error = ConvertError;

    fn try_from(mount: wire::Mount) -> Result<Self, ConvertError> {
        use wire::mount::Source;
        let source = match mount.source {
            Some(Source::Bind(bind)) => MountSource::Bind { path: bind.path },
            Some(Source::Volume(wire::VolumeSource { volume, no_copy, external })) => {
                MountSource::Volume { volume, no_copy, external }
            }
            Some(Source::Anonymous(_)) => MountSource::Anonymous,
            Some(Source::Tmpfs(tmpfs)) => MountSource::Tmpfs(tmpfs.try_into()?),
            None => return Err(Fields("Mount").refuse("source", "is missing")),
        };
        Ok(Self { target: mount.target, source, read_only: mount.read_only })
    }
}

impl From<&Ulimit> for wire::Ulimit {
    fn from(ulimit: &Ulimit) -> Self {
        Self { name: ulimit.name.clone(), soft: ulimit.soft, hard: ulimit.hard }
    }
}

impl TryFrom<wire::Ulimit> for Ulimit {
    type Error = ConvertError;

    fn try_from(ulimit: wire::Ulimit) -> Result<Self, ConvertError> {
        Ok(Self { name: ulimit.name, soft: ulimit.soft, hard: ulimit.hard })
    }
}

impl From<&Resources> for wire::Resources {
    fn from(resources: &Resources) -> Self {
        Self {
            limit_millicpus: resources.limit_millicpus,
            limit_memory: resources.limit_memory,
            limit_pids: resources.limit_pids,
            reserve_millicpus: resources.reserve_millicpus,
            reserve_memory: resources.reserve_memory,
            limit_swap: resources.limit_swap,
            soft_memory: resources.soft_memory,
            cpu_shares: resources.cpu_shares,
            cpu_quota: resources.cpu_quota,
            cpu_period: resources.cpu_period,
            cpuset: resources.cpuset.clone(),
            swappiness: resources.swappiness.map(u32::from),
            oom_kill_disable: resources.oom_kill_disable,
            reserve_pids: resources.reserve_pids,
            requests: each(&resources.requests),
        }
    }
}

impl TryFrom<wire::Resources> for Resources {
    type Error = ConvertError;

    fn try_from(resources: wire::Resources) -> Result<Self, ConvertError> {
        let at = Fields("Resources");
        Ok(Self {
            limit_millicpus: resources.limit_millicpus,
            limit_memory: resources.limit_memory,
            limit_pids: resources.limit_pids,
            reserve_millicpus: resources.reserve_millicpus,
            reserve_memory: resources.reserve_memory,
            limit_swap: resources.limit_swap,
            soft_memory: resources.soft_memory,
            cpu_shares: resources.cpu_shares,
            cpu_quota: resources.cpu_quota,
            cpu_period: resources.cpu_period,
            cpuset: resources.cpuset,
            swappiness: resources
                .swappiness
                .map(|number| at.small("swappiness", number))
                .transpose()?,
            oom_kill_disable: resources.oom_kill_disable,
            reserve_pids: resources.reserve_pids,
            requests: at.list("requests", resources.requests)?,
        })
    }
}

impl From<&Dns> for wire::Dns {
    fn from(dns: &Dns) -> Self {
        Self {
            servers: dns.servers.iter().map(ToString::to_string).collect(),
            search: dns.search.clone(),
            options: dns.options.clone(),
        }
    }
}

impl TryFrom<wire::Dns> for Dns {
    type Error = ConvertError;

    fn try_from(dns: wire::Dns) -> Result<Self, ConvertError> {
        let servers = Fields("Dns").texts("servers", &dns.servers)?;
        Ok(Self { servers, search: dns.search, options: dns.options })
    }
}

/// A message for what differs from its default; what says nothing is not written.
fn some<'a, D: Default + PartialEq, W: From<&'a D>>(value: &'a D) -> Option<W> {
    (*value != D::default()).then(|| value.into())
}

fn words(words: Option<&Vec<String>>) -> Option<wire::Words> {
    words.map(|words| wire::Words { words: words.clone() })
}

impl From<&ContainerSpec> for wire::ContainerSpec {
    fn from(container: &ContainerSpec) -> Self {
        let environment = container
            .environment
            .iter()
            .map(|(name, value)| (name.clone(), wire::EnvironmentValue { value: value.clone() }));
        let extra_hosts = container.extra_hosts.iter();
        Self {
            image: Some((&container.image).into()),
            entrypoint: words(container.entrypoint.as_ref()),
            command: words(container.command.as_ref()),
            environment: environment.collect(),
            user: container.user.clone(),
            working_dir: container.working_dir.clone(),
            hostname: container.hostname.clone(),
            labels: container.labels.clone(),
            mounts: each(&container.mounts),
            extra_hosts: extra_hosts.map(|(name, at)| (name.clone(), (*at).into())).collect(),
            cap_add: container.cap_add.clone(),
            cap_drop: container.cap_drop.clone(),
            privileged: container.privileged,
            read_only: container.read_only,
            init: container.init,
            tty: container.tty,
            sysctls: container.sysctls.clone(),
            ulimits: each(&container.ulimits),
            stop_signal: container.stop_signal.clone(),
            stop_grace_period: milliseconds(container.stop_grace_period),
            resources: Some((&container.resources).into()),
            domainname: container.domainname.clone(),
            stdin_open: container.stdin_open,
            shm_size: container.shm_size,
            groups: container.groups.clone(),
            oom_score_adj: container.oom_score_adj,
            dns: some(&container.dns),
            extra_hosts_v6: container
                .extra_hosts_v6
                .iter()
                .map(|(name, at)| (name.clone(), at.to_string()))
                .collect(),
            sharing: some(&container.sharing),
            security: some(&container.security),
            devices: each(&container.devices),
            device_rules: each(&container.device_rules),
            annotations: container.annotations.clone(),
            logging: some(&container.logging),
            files: each(&container.files),
            health: container.health.as_ref().map(Into::into),
            pre_stop: each(&container.pre_stop),
        }
    }
}

impl TryFrom<wire::ContainerSpec> for ContainerSpec {
    type Error = ConvertError;

    fn try_from(container: wire::ContainerSpec) -> Result<Self, ConvertError> {
        let at = Fields("ContainerSpec");
        let environment = container.environment.into_iter();
        let extra_hosts = container.extra_hosts.into_iter();
        let address =
            |(name, address): (String, String)| Ok((name, at.text("extra_hosts_v6", &address)?));
        let extra_hosts_v6 = container.extra_hosts_v6.into_iter().map(address);
        Ok(Self {
            image: at.required("image", container.image)?,
            entrypoint: container.entrypoint.map(|words| words.words),
            command: container.command.map(|words| words.words),
            environment: environment.map(|(name, value)| (name, value.value)).collect(),
            user: container.user,
            working_dir: container.working_dir,
            hostname: container.hostname,
            labels: container.labels,
            mounts: at.list("mounts", container.mounts)?,
            extra_hosts: extra_hosts.map(|(name, address)| (name, address.into())).collect(),
            cap_add: container.cap_add,
            cap_drop: container.cap_drop,
            privileged: container.privileged,
            read_only: container.read_only,
            init: container.init,
            tty: container.tty,
            sysctls: container.sysctls,
            ulimits: at.list("ulimits", container.ulimits)?,
            stop_signal: container.stop_signal,
            stop_grace_period: Duration::from_millis(container.stop_grace_period),
            resources: at.required("resources", container.resources)?,
            domainname: container.domainname,
            stdin_open: container.stdin_open,
            shm_size: container.shm_size,
            groups: container.groups,
            oom_score_adj: container.oom_score_adj,
            dns: at.optional("dns", container.dns)?.unwrap_or_default(),
            extra_hosts_v6: extra_hosts_v6.collect::<Result<_, _>>()?,
            sharing: at.optional("sharing", container.sharing)?.unwrap_or_default(),
            security: at.optional("security", container.security)?.unwrap_or_default(),
            devices: at.list("devices", container.devices)?,
            device_rules: at.list("device_rules", container.device_rules)?,
            annotations: container.annotations,
            logging: at.optional("logging", container.logging)?.unwrap_or_default(),
            files: at.list("files", container.files)?,
            health: at.optional("health", container.health)?,
            pre_stop: at.list("pre_stop", container.pre_stop)?,
        })
    }
}
