//! Values for tests.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use swarm_proto::assignment::{NetworkAssignment, TaskAssignment};
use swarm_proto::id::{NetworkId, Timestamp};
use swarm_proto::object::{TaskState, TaskStatus};
use swarm_proto::spec::{ContainerSpec, ImageSpec, RestartPolicy};

use crate::journal::Progress;

/// A container of an image, with nothing special.
pub(crate) fn container(reference: &str) -> ContainerSpec {
    ContainerSpec {
        stop_grace_period: Duration::from_secs(1),
        ..ContainerSpec::new(ImageSpec::new(reference))
    }
}

/// A task that shall run.
pub(crate) fn task(id: &str) -> TaskAssignment {
    TaskAssignment {
        id: id.parse().unwrap(),
        name: "web_front.1".into(),
        stack: "web".into(),
        service: "web_front".into(),
        desired: TaskState::Running,
        start_after: None,
        container: container("docker.io/library/busybox:1"),
        attachments: Vec::new(),
        volumes: BTreeMap::new(),
        host_ports: Vec::new(),
        restart: RestartPolicy::default(),
        withdrawal: None,
        lease: None,
        resources: BTreeMap::new(),
        measure: None,
    }
}

/// A network without members.
pub(crate) fn network(id: u64) -> NetworkAssignment {
    NetworkAssignment {
        id: NetworkId(id),
        name: "web_net".into(),
        version: 1,
        vni: 0x10_0000,
        vxlan_port: 4789,
        subnet: Ipv4Addr::new(10, 200, 0, 0),
        prefix_length: 24,
        internal: false,
        gateway: None,
        peers: Vec::new(),
        names: imbl::OrdMap::new(),
        vips: Vec::new(),
        ingress: Vec::new(),
    }
}

/// Progress at a state.
pub(crate) fn progress(state: TaskState) -> Progress {
    Progress {
        status: TaskStatus::new(state, Timestamp(1_700_000_000_000)),
        stopping: None,
        reported: false,
        restarts: Vec::new(),
        fenced: false,
    }
}
