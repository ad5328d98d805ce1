//! One container's spec.

use std::time::Duration;

use super::fields::{ConvertError, Fields, each, milliseconds};
use crate::spec::{ContainerSpec, ImageSpec, Mount, MountSource, Resources, Ulimit};
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

impl From<&Mount> for wire::Mount {
    fn from(mount: &Mount) -> Self {
        use wire::mount::Source;
        let source = match mount.source.clone() {
            MountSource::Bind { path } => Source::Bind(wire::BindSource { path }),
            MountSource::Volume { volume, no_copy } => {
                Source::Volume(wire::VolumeSource { volume, no_copy })
            }
            MountSource::Anonymous => Source::Anonymous(wire::Nothing {}),
            MountSource::Tmpfs { size } => Source::Tmpfs(wire::TmpfsSource { size }),
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
            Some(Source::Volume(volume)) => {
                MountSource::Volume { volume: volume.volume, no_copy: volume.no_copy }
            }
            Some(Source::Anonymous(_)) => MountSource::Anonymous,
            Some(Source::Tmpfs(tmpfs)) => MountSource::Tmpfs { size: tmpfs.size },
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
        }
    }
}

impl TryFrom<wire::Resources> for Resources {
    type Error = ConvertError;

    fn try_from(resources: wire::Resources) -> Result<Self, ConvertError> {
        Ok(Self {
            limit_millicpus: resources.limit_millicpus,
            limit_memory: resources.limit_memory,
            limit_pids: resources.limit_pids,
            reserve_millicpus: resources.reserve_millicpus,
            reserve_memory: resources.reserve_memory,
        })
    }
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
        }
    }
}

impl TryFrom<wire::ContainerSpec> for ContainerSpec {
    type Error = ConvertError;

    fn try_from(container: wire::ContainerSpec) -> Result<Self, ConvertError> {
        let at = Fields("ContainerSpec");
        let environment = container.environment.into_iter();
        let extra_hosts = container.extra_hosts.into_iter();
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
        })
    }
}
