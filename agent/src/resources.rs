//! What a host has beside CPUs, memory and processes, as its configuration says, and what is kept for the host itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use swarm_proto::object::{GenericResource, GenericResources, HostShare};

/// A host names at most so many resources: each session tells them.
const MOST_NAMES: usize = 1_000;
/// What is kept of the CPUs where nothing is said, in thousandths of one.
const RESERVED_MILLICPUS: u64 = 100;
/// What is kept of the memory where nothing is said: this part of it, and at most so much.
const RESERVED_PART: u64 = 20;
const MOST_RESERVED_MEMORY: u64 = 1 << 30;
/// The same of processes and threads.
const RESERVED_PART_OF_PIDS: u64 = 10;
const MOST_RESERVED_PIDS: u64 = 1_000;

/// `[reserve]`: what is kept for the host itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Reserve {
    /// CPUs in thousandths; by default a tenth of one.
    #[serde(deserialize_with = "cpus", rename = "cpus")]
    pub millicpus: Option<u64>,
    /// Bytes of memory; by default a twentieth of it, at most 1 GiB.
    #[serde(deserialize_with = "bytes")]
    pub memory: Option<u64>,
    /// Processes and threads; by default a tenth of them, at most 1000.
    pub pids: Option<u64>,
}

impl Reserve {
    /// What is kept of a host that has this.
    pub fn of(&self, capacity: HostShare) -> HostShare {
        let memory = || (capacity.memory / RESERVED_PART).min(MOST_RESERVED_MEMORY);
        let pids = || (capacity.pids / RESERVED_PART_OF_PIDS).min(MOST_RESERVED_PIDS);
        HostShare {
            millicpus: self.millicpus.unwrap_or(RESERVED_MILLICPUS),
            memory: self.memory.unwrap_or_else(memory),
            pids: self.pids.unwrap_or_else(pids),
        }
    }
}

/// A value as people write it: `2`, `0.5`, `"512m"`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Integer(u64),
    Number(f64),
    Text(String),
}

impl Written {
    fn into_text(self) -> String {
        match self {
            Self::Integer(number) => number.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

fn cpus<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = Written::deserialize(deserializer)?.into_text();
    let wrong = || de::Error::custom(format!("`{text}` is no number of CPUs such as 0.5"));
    millicpus(&text).map(Some).ok_or_else(wrong)
}

/// A size such as `512m`.
pub(crate) fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = Written::deserialize(deserializer)?.into_text();
    let wrong = || de::Error::custom(format!("`{text}` is no size such as `512m`"));
    size(&text).map(Some).ok_or_else(wrong)
}

/// A duration such as `14d`: a number of seconds, minutes, hours or days.
pub(crate) fn age<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = Written::deserialize(deserializer)?.into_text();
    let wrong = || de::Error::custom(format!("`{text}` is no duration such as `14d`"));
    duration(&text).ok_or_else(wrong)
}

fn duration(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    number.checked_mul(seconds).map(Duration::from_secs)
}

/// `0.5` is 500: at most three digits after the point.
fn millicpus(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 3 || !part.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let part: u64 = format!("{part:0<3}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(part)
}

/// `512m` is that many times 1024 times 1024 bytes.
fn size(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let power = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" => 1,
        "m" | "mb" => 2,
        "g" | "gb" => 3,
        "t" | "tb" => 4,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1_u64 << (10 * power))
}

/// Reads `generic_resources` as Swarm does: `gpu=uuid1`, `NAMED=gpu=uuid1,uuid2`, `slots=4`. Kinds count without case.
pub(crate) fn generic(entries: &[String]) -> Result<GenericResources, String> {
    let mut found = GenericResources::new();
    for entry in entries {
        let (kind, resource) = one(entry)?;
        match (found.get_mut(&kind), resource) {
            (None, resource) => drop(found.insert(kind, resource)),
            (Some(GenericResource::Named(known)), GenericResource::Named(more)) => {
                if let Some(twice) = more.iter().find(|name| known.contains(*name)) {
                    return Err(format!("`{entry}` names `{twice}` a second time"));
                }
                known.extend(more);
            }
            _ => return Err(format!("`{entry}` does not go with what is said of `{kind}` before")),
        }
    }
    let names: u64 = found.values().filter(|one| is_named(one)).map(GenericResource::len).sum();
    if names > MOST_NAMES as u64 {
        return Err(format!("{names} resources are named: at most {MOST_NAMES} are possible"));
    }
    Ok(found)
}

fn is_named(resource: &GenericResource) -> bool {
    matches!(resource, GenericResource::Named(_))
}

fn one(entry: &str) -> Result<(String, GenericResource), String> {
    let wrong = |why: &str| Err(format!("`{entry}` is no generic resource: {why}"));
    let prefix = "named=";
    let names_only =
        entry.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    let rest = if names_only { &entry[prefix.len()..] } else { entry };
    let Some((kind, values)) = rest.split_once('=') else {
        return wrong("write `KIND=NAME`, or `KIND=NUMBER`");
    };
    let is_plain = |c: char| c.is_ascii_graphic() && !",=`\"".contains(c);
    if kind.is_empty() || !kind.chars().all(is_plain) {
        return wrong("its kind is no word");
    }
    let kind = kind.to_ascii_lowercase();
    if let Ok(count) = values.parse::<u64>()
        && !names_only
    {
        return if count == 0 {
            wrong("there are none")
        } else {
            Ok((kind, GenericResource::Count(count)))
        };
    }
    let mut names = BTreeSet::new();
    for name in values.split(',') {
        if name.is_empty() || !name.chars().all(is_plain) {
            return wrong("a name is no word");
        }
        if !names.insert(name.to_owned()) {
            return wrong("a name stands twice");
        }
    }
    Ok((kind, GenericResource::Named(names)))
}

/// Device nodes that containers get with a resource: by `gpu=uuid1`, or by `gpu` with any of the kind.
pub type ResourceDevices = BTreeMap<String, Vec<String>>;

/// Whether the resources that the device nodes are for are there, and the nodes have whole paths.
pub(crate) fn check_devices(
    devices: &ResourceDevices,
    resources: &GenericResources,
) -> Result<ResourceDevices, String> {
    let mut checked = ResourceDevices::new();
    for (resource, paths) in devices {
        let (kind, name) = resource.split_once('=').unwrap_or((resource, ""));
        let kind = kind.to_ascii_lowercase();
        let is_there = match resources.get(&kind) {
            Some(GenericResource::Named(names)) => name.is_empty() || names.contains(name),
            Some(GenericResource::Count(_)) => name.is_empty(),
            None => false,
        };
        if !is_there {
            return Err(format!(
                "`resource_devices` speaks of `{resource}`, which is not in `generic_resources`"
            ));
        }
        if let Some(path) = paths.iter().find(|path| !path.starts_with("/dev/")) {
            return Err(format!("`{path}` of `{resource}` is no path below `/dev/`"));
        }
        let key = if name.is_empty() { kind } else { format!("{kind}={name}") };
        checked.insert(key, paths.clone());
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entries: &[&str]) -> Result<String, String> {
        let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        let found = generic(&entries)?;
        let shown = found.iter().map(|(kind, resource)| format!("{kind}={resource}"));
        Ok(shown.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn resources_are_read_as_swarm_writes_them() {
        assert_eq!(read(&["GPU=b", "gpu=a", "slots=4"]), Ok("gpu=a,b slots=4".to_owned()));
        assert_eq!(read(&["NAMED=gpu=0,1"]), Ok("gpu=0,1".to_owned()));
        for (entries, expected) in [
            (&["gpu"][..], "write `KIND=NAME`"),
            (&["=a"], "its kind is no word"),
            (&["gpu=a,,b"], "a name is no word"),
            (&["gpu=a,a"], "a name stands twice"),
            (&["gpu=a", "gpu=a"], "a second time"),
            (&["gpu=a", "gpu=4"], "does not go with"),
            (&["slots=4", "slots=4"], "does not go with"),
            (&["slots=0"], "there are none"),
        ] {
            let error = read(entries).unwrap_err();
            assert!(error.contains(expected), "{entries:?}: {error}");
        }
        let many: Vec<String> = (0..=MOST_NAMES).map(|number| format!("gpu=n{number}")).collect();
        assert!(generic(&many).unwrap_err().contains("at most 1000"));
    }

    #[test]
    fn device_nodes_belong_to_resources_that_are_there() {
        let resources = generic(&["gpu=a".to_owned(), "slots=2".to_owned()]).unwrap();
        let devices = |key: &str, path: &str| {
            let devices = [(key.to_owned(), vec![path.to_owned()])].into();
            check_devices(&devices, &resources).map(|found| found.into_keys().collect::<Vec<_>>())
        };
        assert_eq!(devices("GPU=a", "/dev/nvidia0"), Ok(vec!["gpu=a".to_owned()]));
        assert_eq!(devices("gpu", "/dev/nvidiactl"), Ok(vec!["gpu".to_owned()]));
        assert_eq!(devices("slots", "/dev/null"), Ok(vec!["slots".to_owned()]));
        for (key, path) in
            [("gpu=b", "/dev/x"), ("fpga", "/dev/x"), ("slots=1", "/dev/x"), ("gpu", "x")]
        {
            assert!(devices(key, path).is_err(), "{key} {path}");
        }
    }

    #[test]
    fn the_reserve_has_defaults_in_proportion() {
        let small = HostShare { millicpus: 2_000, memory: 2 << 30, pids: 4_000 };
        let kept = Reserve::default().of(small);
        assert_eq!(kept, HostShare { millicpus: 100, memory: (2 << 30) / 20, pids: 400 });
        let large = HostShare { millicpus: 64_000, memory: 256 << 30, pids: 4 << 20 };
        let kept = Reserve::default().of(large);
        assert_eq!(kept, HostShare { millicpus: 100, memory: 1 << 30, pids: 1_000 });
        let own: Reserve = toml::from_str("cpus = 0.25\nmemory = '64m'\npids = 0").unwrap();
        let kept = HostShare { millicpus: 250, memory: 64 << 20, pids: 0 };
        assert_eq!(own.of(large), kept);
        let own: Reserve = toml::from_str("cpus = 2\nmemory = 1000").unwrap();
        assert_eq!((own.millicpus, own.memory), (Some(2_000), Some(1_000)));
        for wrong in ["cpus = 0.0001", "cpus = 'x'", "memory = '5x'", "memory = -1", "pids = -1"] {
            assert!(toml::from_str::<Reserve>(wrong).is_err(), "{wrong}");
        }
    }
}
