//! What sets a container apart from its host, and where its output goes.

use super::fields::{ConvertError, Fields};
use crate::spec::{Device, DeviceAccess, DeviceRule, Logging, Seccomp, Security, Sharing, Syslog};
use crate::wire;

impl From<&Sharing> for wire::Sharing {
    fn from(sharing: &Sharing) -> Self {
        Self {
            network: sharing.network.into(),
            ipc: sharing.ipc.into(),
            pid: sharing.pid,
            uts: sharing.uts,
            cgroup: sharing.cgroup,
        }
    }
}

impl TryFrom<wire::Sharing> for Sharing {
    type Error = ConvertError;

    fn try_from(sharing: wire::Sharing) -> Result<Self, ConvertError> {
        let at = Fields("Sharing");
        Ok(Self {
            network: at.enumeration::<wire::NetworkMode, _>("network", sharing.network)?,
            ipc: at.enumeration::<wire::IpcMode, _>("ipc", sharing.ipc)?,
            pid: sharing.pid,
            uts: sharing.uts,
            cgroup: sharing.cgroup,
        })
    }
}

impl From<&Security> for wire::Security {
    fn from(security: &Security) -> Self {
        use wire::security::Seccomp as Choice;
        let seccomp = match &security.seccomp {
            Seccomp::Default => None,
            Seccomp::Unconfined => Some(Choice::Unconfined(wire::Nothing {})),
            Seccomp::Profile(text) => Some(Choice::Profile(text.clone())),
        };
        Self { no_new_privileges: security.no_new_privileges, unmasked: security.unmasked, seccomp }
    }
}

impl TryFrom<wire::Security> for Security {
    type Error = ConvertError;

    fn try_from(security: wire::Security) -> Result<Self, ConvertError> {
        use wire::security::Seccomp as Choice;
        Ok(Self {
            no_new_privileges: security.no_new_privileges,
            seccomp: match security.seccomp {
                None => Seccomp::Default,
                Some(Choice::Unconfined(_)) => Seccomp::Unconfined,
                Some(Choice::Profile(text)) => Seccomp::Profile(text),
            },
            unmasked: security.unmasked,
        })
    }
}

impl From<DeviceAccess> for wire::DeviceAccess {
    fn from(access: DeviceAccess) -> Self {
        Self { read: access.read, write: access.write, make: access.make }
    }
}

impl TryFrom<wire::DeviceAccess> for DeviceAccess {
    type Error = ConvertError;

    fn try_from(access: wire::DeviceAccess) -> Result<Self, ConvertError> {
        Ok(Self { read: access.read, write: access.write, make: access.make })
    }
}

impl From<&Device> for wire::Device {
    fn from(device: &Device) -> Self {
        Self {
            source: device.source.clone(),
            target: device.target.clone(),
            access: Some(device.access.into()),
        }
    }
}

impl TryFrom<wire::Device> for Device {
    type Error = ConvertError;

    fn try_from(device: wire::Device) -> Result<Self, ConvertError> {
        let access = Fields("Device").required("access", device.access)?;
        Ok(Self { source: device.source, target: device.target, access })
    }
}

impl From<&DeviceRule> for wire::DeviceRule {
    fn from(rule: &DeviceRule) -> Self {
        Self {
            kind: rule.kind.into(),
            major: rule.major,
            minor: rule.minor,
            access: Some(rule.access.into()),
        }
    }
}

impl TryFrom<wire::DeviceRule> for DeviceRule {
    type Error = ConvertError;

    fn try_from(rule: wire::DeviceRule) -> Result<Self, ConvertError> {
        let at = Fields("DeviceRule");
        Ok(Self {
            kind: at.enumeration::<wire::DeviceKind, _>("kind", rule.kind)?,
            major: rule.major,
            minor: rule.minor,
            access: at.required("access", rule.access)?,
        })
    }
}

impl From<&Syslog> for wire::Syslog {
    fn from(syslog: &Syslog) -> Self {
        Self {
            address: syslog.address.clone(),
            facility: syslog.facility.map(u32::from),
            format: syslog.format.into(),
        }
    }
}

impl TryFrom<wire::Syslog> for Syslog {
    type Error = ConvertError;

    fn try_from(syslog: wire::Syslog) -> Result<Self, ConvertError> {
        let at = Fields("Syslog");
        let facility = syslog.facility.map(|number| at.small("facility", number)).transpose()?;
        let format = at.enumeration::<wire::SyslogFormat, _>("format", syslog.format)?;
        Ok(Self { address: syslog.address, facility, format })
    }
}

impl From<&Logging> for wire::Logging {
    fn from(logging: &Logging) -> Self {
        Self {
            driver: logging.driver.into(),
            max_bytes: logging.max_bytes,
            max_files: logging.max_files,
            tag: logging.tag.clone(),
            labels: logging.labels.clone(),
            environment: logging.environment.clone(),
            syslog: Some((&logging.syslog).into()),
        }
    }
}

impl TryFrom<wire::Logging> for Logging {
    type Error = ConvertError;

    fn try_from(logging: wire::Logging) -> Result<Self, ConvertError> {
        let at = Fields("Logging");
        Ok(Self {
            driver: at.enumeration::<wire::LogDriver, _>("driver", logging.driver)?,
            max_bytes: logging.max_bytes,
            max_files: logging.max_files,
            tag: logging.tag,
            labels: logging.labels,
            environment: logging.environment,
            syslog: at.required("syslog", logging.syslog)?,
        })
    }
}
