//! The keys of a service that set its containers apart from their hosts, and those that say where output goes.

use swarm_proto::spec::{
    Device, DeviceAccess, DeviceKind, DeviceRule, Dns, IpcMode, LogDriver, Logging, NetworkMode,
    Seccomp, Security, Sharing, Syslog, SyslogFormat,
};

use super::{Pairs, text};
use crate::value::Value;

pub(super) fn put_sharing(pairs: &mut Pairs, sharing: Sharing) {
    let Sharing { network, ipc, pid, uts, cgroup } = sharing;
    let network = match network {
        NetworkMode::Own => None,
        NetworkMode::Host => Some("host"),
        NetworkMode::None => Some("none"),
    };
    let ipc = match ipc {
        IpcMode::Own => None,
        IpcMode::Host => Some("host"),
        IpcMode::None => Some("none"),
    };
    let host = |shared: bool| shared.then_some("host");
    let words = [
        ("network_mode", network),
        ("ipc", ipc),
        ("pid", host(pid)),
        ("uts", host(uts)),
        ("cgroup", host(cgroup)),
    ];
    for (key, word) in words {
        pairs.put(key, &word.map(Value::text));
    }
}

pub(super) fn put_dns(pairs: &mut Pairs, dns: &Dns) {
    let Dns { servers, search, options } = dns;
    let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
    pairs.put("dns", &servers);
    pairs.put("dns_search", search);
    pairs.put("dns_opt", options);
}

pub(super) fn security(security: &Security) -> Vec<String> {
    let Security { no_new_privileges, seccomp, unmasked } = security;
    let mut options = Vec::new();
    options.extend(no_new_privileges.map(|set| format!("no-new-privileges={set}")));
    match seccomp {
        Seccomp::Default => {}
        Seccomp::Unconfined => options.push("seccomp=unconfined".to_owned()),
        Seccomp::Profile(text) => options.push(format!("seccomp={text}")),
    }
    options.extend(unmasked.then(|| "systempaths=unconfined".to_owned()));
    options
}

pub(super) fn devices(devices: &[Device]) -> Option<Value> {
    let device = |Device { source, target, access }: &Device| {
        Value::map([
            ("source", text(source)),
            ("target", text(target)),
            ("permissions", Value::text(letters(*access))),
        ])
    };
    (!devices.is_empty()).then(|| Value::List(devices.iter().map(device).collect()))
}

fn letters(access: DeviceAccess) -> String {
    let DeviceAccess { read, write, make } = access;
    let letters = [(read, 'r'), (write, 'w'), (make, 'm')];
    letters.into_iter().filter(|(allowed, _)| *allowed).map(|(_, letter)| letter).collect()
}

pub(super) fn device_rules(rules: &[DeviceRule]) -> Vec<String> {
    let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |n| n.to_string());
    let rule = |DeviceRule { kind, major, minor, access }: &DeviceRule| {
        let kind = match kind {
            DeviceKind::Any => 'a',
            DeviceKind::Block => 'b',
            DeviceKind::Character => 'c',
        };
        format!("{kind} {}:{} {}", number(*major), number(*minor), letters(*access))
    };
    rules.iter().map(rule).collect()
}

pub(super) fn logging(logging: &Logging) -> Option<Value> {
    let Logging { driver, max_bytes, max_files, tag, labels, environment, syslog } = logging;
    let Syslog { address, facility, format } = syslog;
    let driver = match driver {
        LogDriver::Local => "local",
        LogDriver::None => "none",
        LogDriver::Journald => "journald",
        LogDriver::Syslog => "syslog",
    };
    let format = match format {
        SyslogFormat::Rfc3164 => None,
        SyslogFormat::Rfc5424 => Some("rfc5424"),
        SyslogFormat::Rfc5424Micro => Some("rfc5424micro"),
    };
    let some_list = |names: &[String]| (!names.is_empty()).then(|| names.join(","));
    let mut options = Pairs::default();
    options.put("max-size", &max_bytes.map(|bytes| bytes.to_string()));
    options.put("max-file", &max_files.map(|files| files.to_string()));
    options.put("tag", tag);
    options.put("labels", &some_list(labels));
    options.put("env", &some_list(environment));
    options.put("syslog-address", address);
    options.put("syslog-facility", &facility.map(|number| number.to_string()));
    options.put("syslog-format", &format.map(Value::text));
    let mut pairs = Pairs::default();
    pairs.put("driver", &Value::text(driver));
    pairs.put("options", &options.into_some());
    if *logging == Logging::default() { None } else { pairs.into_some() }
}
