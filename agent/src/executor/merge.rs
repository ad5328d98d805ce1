//! What an image wants and what a service wants, merged by Docker's rules.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use nix::sys::signal::Signal;
use swarm_proto::spec::ContainerSpec;

use crate::image::ImageConfig;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The first real-time signal that programs may use, as glibc counts.
const FIRST_REAL_TIME: i32 = 34;
const LAST_SIGNAL: i32 = 64;

/// Docker's default set.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Every capability, at its number in the kernel.
const ALL_CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The command line: an entry point of the service's own takes the image's command away.
pub(super) fn command_line(spec: &ContainerSpec, image: &ImageConfig) -> Vec<String> {
    let own = spec.command.clone().filter(|command| !command.is_empty());
    let entrypoint = match &spec.entrypoint {
        // `entrypoint: [""]` is Docker's way to say "none".
        Some(own) if own.len() == 1 && own[0].is_empty() => Vec::new(),
        Some(own) => own.clone(),
        None => image.entrypoint.clone(),
    };
    let keeps_command = spec.entrypoint.as_ref().is_none_or(Vec::is_empty);
    let command = match own {
        Some(own) => own,
        None if keeps_command => image.cmd.clone(),
        None => Vec::new(),
    };
    [entrypoint, command].concat()
}

/// The environment, in a steady order: Docker's own variables, the image's, the service's.
pub(super) fn environment(
    spec: &ContainerSpec,
    image: &ImageConfig,
    hostname: &str,
) -> Vec<String> {
    let mut order = vec!["PATH".to_owned(), "HOSTNAME".to_owned()];
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    values.insert("PATH".into(), DEFAULT_PATH.into());
    values.insert("HOSTNAME".into(), hostname.into());
    let terminal = spec.tty.then(|| ("TERM".to_owned(), "xterm".to_owned()));
    let of_image = image.env.iter().filter_map(|pair| pair.split_once('='));
    let of_image = of_image.map(|(key, value)| (key.to_owned(), value.to_owned()));
    for (key, value) in terminal.into_iter().chain(of_image) {
        if values.insert(key.clone(), value).is_none() {
            order.push(key);
        }
    }
    for (key, value) in &spec.environment {
        match value {
            None => drop(values.remove(key)),
            Some(value) => {
                if values.insert(key.clone(), value.clone()).is_none() && !order.contains(key) {
                    order.push(key.clone());
                }
            }
        }
    }
    order.iter().filter_map(|key| Some(format!("{key}={}", values.get(key)?))).collect()
}

/// `SIGTERM`, `term`, `15` or `RTMIN+3` as a number.
pub(super) fn signal(text: &str) -> Result<i32, String> {
    let wrong = || format!("`{text}` is not a signal");
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=LAST_SIGNAL).contains(&number) { Ok(number) } else { Err(wrong()) };
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |base: i32, offset: &str, sign: i32| {
        let offset: i32 = if offset.is_empty() { 0 } else { offset[1..].parse().ok()? };
        let number = base + sign * offset;
        (FIRST_REAL_TIME..=LAST_SIGNAL).contains(&number).then_some(number)
    };
    if let Some(offset) = name.strip_prefix("RTMIN")
        && (offset.is_empty() || offset.starts_with('+'))
    {
        return real_time(FIRST_REAL_TIME, offset, 1).ok_or_else(wrong);
    }
    if let Some(offset) = name.strip_prefix("RTMAX")
        && (offset.is_empty() || offset.starts_with('-'))
    {
        return real_time(LAST_SIGNAL, offset, -1).ok_or_else(wrong);
    }
    let signal = Signal::from_str(&format!("SIG{name}")).map_err(|_| wrong())?;
    Ok(signal as i32)
}

/// The signal that asks a container to stop.
pub(super) fn stop_signal(spec: &ContainerSpec, image: &ImageConfig) -> Result<i32, String> {
    match (spec.stop_signal.as_deref(), image.stop_signal.as_str()) {
        (Some(own), _) => signal(own),
        (None, "") => Ok(Signal::SIGTERM as i32),
        (None, of_image) => signal(of_image),
    }
}

/// The capabilities of a container, as `CAP_…`. `available` has a bit for each that the host can give: what is
/// asked for by name must be there, `ALL` is as much as there is.
pub(super) fn capabilities(spec: &ContainerSpec, available: u64) -> Result<Vec<String>, String> {
    let can_give = |name: &str| {
        let number = ALL_CAPABILITIES.iter().position(|known| *known == name);
        number.is_some_and(|number| available & (1 << number) != 0)
    };
    let everything = || ALL_CAPABILITIES.iter().copied().filter(|name| can_give(name));
    let mut set: BTreeSet<&str> =
        DEFAULT_CAPABILITIES.into_iter().filter(|n| can_give(n)).collect();
    if spec.privileged {
        set = everything().collect();
    }
    // Docker's order: `ALL` first, whichever list it is in, then names.
    let has_all = |list: &[String]| list.iter().any(|name| plain(name) == "ALL");
    if has_all(&spec.cap_drop) {
        set.clear();
    }
    if has_all(&spec.cap_add) {
        set.extend(everything());
    }
    for name in spec.cap_add.iter().map(|name| plain(name)).filter(|name| *name != "ALL") {
        let known = known(name)?;
        if !can_give(known) {
            return Err(format!("this host cannot give the capability `{known}`"));
        }
        set.insert(known);
    }
    for name in spec.cap_drop.iter().map(|name| plain(name)).filter(|name| *name != "ALL") {
        set.remove(known(name)?);
    }
    Ok(set.into_iter().map(|name| format!("CAP_{name}")).collect())
}

fn plain(name: &str) -> &str {
    name.strip_prefix("CAP_").unwrap_or(name)
}

fn known(name: &str) -> Result<&'static str, String> {
    let found = ALL_CAPABILITIES.iter().find(|known| **known == name);
    found.copied().ok_or_else(|| format!("`{name}` is not a capability"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn command_lines_follow_docker() {
        let image =
            ImageConfig { entrypoint: words("e"), cmd: words("c d"), ..ImageConfig::default() };
        let table = [
            (None, None, "e c d"),
            (None, Some("x"), "e x"),
            (None, Some(""), "e c d"),
            (Some("y z"), None, "y z"),
            (Some("y"), Some("x"), "y x"),
            (Some(""), None, "c d"),
            (Some(""), Some("x"), "x"),
        ];
        for (entrypoint, command, expected) in table {
            let mut spec = testing::container("x");
            spec.entrypoint = entrypoint.map(words);
            spec.command = command.map(words);
            assert_eq!(command_line(&spec, &image), words(expected), "{entrypoint:?} {command:?}");
        }
        let mut spec = testing::container("x");
        spec.entrypoint = Some(vec![String::new()]);
        spec.command = Some(words("x"));
        assert_eq!(command_line(&spec, &image), words("x"));
    }

    #[test]
    fn environments_are_laid_over_each_other() {
        let image = ImageConfig {
            env: vec!["PATH=/img".into(), "A=1".into(), "B=2=3".into(), "odd".into()],
            ..ImageConfig::default()
        };
        let mut spec = testing::container("x");
        spec.environment = [
            ("A".to_owned(), Some("9".to_owned())),
            ("B".to_owned(), None),
            ("C".to_owned(), Some(String::new())),
        ]
        .into();
        let merged = environment(&spec, &image, "h");
        assert_eq!(merged, ["PATH=/img", "HOSTNAME=h", "A=9", "C="]);
        spec.tty = true;
        let merged = environment(&spec, &ImageConfig::default(), "h");
        let path = format!("PATH={DEFAULT_PATH}");
        assert_eq!(merged, [path.as_str(), "HOSTNAME=h", "TERM=xterm", "A=9", "C="]);
    }

    #[test]
    fn signals_have_many_names() {
        let table = [
            ("SIGTERM", 15),
            ("term", 15),
            ("9", 9),
            ("SIGUSR1", 10),
            ("SIGRTMIN+3", 37),
            ("RTMIN", 34),
            ("RTMAX-1", 63),
            ("64", 64),
        ];
        for (text, expected) in table {
            assert_eq!(signal(text), Ok(expected), "{text}");
        }
        for text in ["", "0", "65", "-1", "SIGNOPE", "RTMIN+99", "RTMIN3", "RTMIN+x", "RTMAX-40"] {
            assert!(signal(text).is_err(), "`{text}` was taken");
        }
        let mut spec = testing::container("x");
        let image = ImageConfig { stop_signal: "SIGQUIT".into(), ..ImageConfig::default() };
        assert_eq!(stop_signal(&spec, &ImageConfig::default()), Ok(15));
        assert_eq!(stop_signal(&spec, &image), Ok(3));
        spec.stop_signal = Some("INT".into());
        assert_eq!(stop_signal(&spec, &image), Ok(2));
    }

    #[test]
    fn capability_sets_follow_docker() {
        let all = u64::MAX;
        let without_resource = all & !(1 << 24);
        let set = |add: &str, drop: &str, available: u64, privileged: bool| {
            let mut spec = testing::container("x");
            (spec.cap_add, spec.cap_drop, spec.privileged) = (words(add), words(drop), privileged);
            capabilities(&spec, available)
        };
        assert_eq!(set("", "", all, false).unwrap().len(), 14);
        assert_eq!(set("", "ALL", all, false).unwrap(), [""; 0]);
        assert_eq!(set("CHOWN", "ALL", all, false).unwrap(), ["CAP_CHOWN"]);
        assert_eq!(set("ALL", "", all, false).unwrap().len(), 41);
        assert_eq!(set("ALL", "CAP_SYS_ADMIN", all, false).unwrap().len(), 40);
        assert_eq!(set("", "", without_resource, true).unwrap().len(), 40);
        assert!(set("NET_ADMIN", "", all, false).unwrap().contains(&"CAP_NET_ADMIN".to_owned()));
        assert!(set("SYS_RESOURCE", "", without_resource, false).is_err());
        assert!(set("FLY", "", all, false).is_err());
        assert!(set("", "FLY", all, false).is_err());
    }
}
