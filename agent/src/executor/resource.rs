//! What a container sees of the resources that its task was given.

use swarm_proto::assignment::TaskAssignment;
use swarm_proto::object::GenericResource;
use swarm_proto::spec::{Device, DeviceAccess};

use crate::resources::ResourceDevices;

/// What compose calls the devices' own abilities, which is no ability of the driver.
const DEVICE_WORDS: [&str; 2] = ["gpu", "nvidia"];

/// Variables as Swarm has them (`DOCKER_RESOURCE_GPU=uuid1`), and for devices as NVIDIA's runtime has them.
pub(super) fn variables(task: &TaskAssignment) -> Vec<(String, String)> {
    let swarm = task.resources.iter();
    let mut variables: Vec<(String, String)> = swarm
        .map(|(kind, given)| {
            (format!("DOCKER_RESOURCE_{}", kind.to_ascii_uppercase()), given.to_string())
        })
        .collect();
    let requests = task.container.resources.requests.iter();
    for request in requests.filter(|request| request.is_device()) {
        if let Some(given @ GenericResource::Named(_)) = task.resources.get(&request.kind) {
            variables.push(("NVIDIA_VISIBLE_DEVICES".to_owned(), given.to_string()));
        }
        let words = request.capabilities.iter().map(String::as_str);
        let abilities: Vec<&str> = words.filter(|word| !DEVICE_WORDS.contains(word)).collect();
        if !abilities.is_empty() {
            variables.push(("NVIDIA_DRIVER_CAPABILITIES".to_owned(), abilities.join(",")));
        }
    }
    variables
}

/// Puts variables in the place of those of the same names.
pub(super) fn put(environment: &mut Vec<String>, variables: Vec<(String, String)>) {
    for (key, value) in variables {
        let start = format!("{key}=");
        environment.retain(|variable| !variable.starts_with(&start));
        environment.push(format!("{start}{value}"));
    }
}

/// The device nodes of a task's resources: those of each name, and those of the kind.
pub(super) fn devices(task: &TaskAssignment, devices: &ResourceDevices) -> Vec<Device> {
    let mut paths: Vec<&String> = Vec::new();
    for (kind, given) in &task.resources {
        let names = match given {
            GenericResource::Named(names) => {
                names.iter().map(|name| format!("{kind}={name}")).collect()
            }
            GenericResource::Count(_) => Vec::new(),
        };
        let keys = names.iter().chain([kind]);
        paths.extend(keys.filter_map(|key| devices.get(key)).flatten());
    }
    paths.sort();
    paths.dedup();
    let device = |path: &String| Device {
        source: path.clone(),
        target: path.clone(),
        access: DeviceAccess { read: true, write: true, make: false },
    };
    paths.into_iter().map(device).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use swarm_proto::spec::{Amount, ResourceRequest};

    use super::*;
    use crate::testing;

    fn task(resources: &[(&str, GenericResource)]) -> TaskAssignment {
        let resources = resources.iter().map(|(kind, one)| ((*kind).to_owned(), one.clone()));
        TaskAssignment { resources: resources.collect(), ..testing::task("1.1.1") }
    }

    fn named(names: &[&str]) -> GenericResource {
        GenericResource::Named(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn a_container_sees_exactly_what_it_was_given() {
        let mut task = task(&[("gpu", named(&["b", "a"])), ("slots", GenericResource::Count(2))]);
        let mut environment = vec!["A=1".to_owned(), "DOCKER_RESOURCE_GPU=mine".to_owned()];
        put(&mut environment, variables(&task));
        assert_eq!(environment, ["A=1", "DOCKER_RESOURCE_GPU=a,b", "DOCKER_RESOURCE_SLOTS=2"]);
        task.container.resources.requests = vec![ResourceRequest {
            kind: ResourceRequest::GPU.to_owned(),
            amount: Amount::All,
            capabilities: ["gpu", "compute", "utility"].map(str::to_owned).to_vec(),
        }];
        let own: BTreeMap<String, String> = variables(&task).into_iter().collect();
        assert_eq!(own["NVIDIA_VISIBLE_DEVICES"], "a,b");
        assert_eq!(own["NVIDIA_DRIVER_CAPABILITIES"], "compute,utility");
    }

    #[test]
    fn device_nodes_come_with_a_resource() {
        let paths = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
        let known: ResourceDevices = [
            ("gpu=a".to_owned(), paths(&["/dev/nvidia0"])),
            ("gpu=b".to_owned(), paths(&["/dev/nvidia1"])),
            ("gpu".to_owned(), paths(&["/dev/nvidiactl"])),
            ("slots".to_owned(), paths(&["/dev/slot"])),
        ]
        .into();
        let has = |resources: &[(&str, GenericResource)]| {
            let found = devices(&task(resources), &known).into_iter();
            found.map(|device| device.source).collect::<Vec<_>>()
        };
        assert_eq!(has(&[("gpu", named(&["b"]))]), ["/dev/nvidia1", "/dev/nvidiactl"]);
        assert_eq!(has(&[("slots", GenericResource::Count(1))]), ["/dev/slot"]);
        assert!(has(&[]).is_empty());
    }
}
