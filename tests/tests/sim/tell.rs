//! What a run tells of the state, to who wants to follow it.

use swarm_controller::core::Event;
use swarm_proto::object::{Node, Service, Task};

use crate::world::World;

impl World {
    /// Says what entries up to this one changed.
    pub(crate) fn tell_of_changes(&self, index: u64, events: &[Event]) {
        for event in events {
            let what = match event {
                Event::Task(one) => task(one),
                Event::Service(one) => service(one),
                Event::Node(one) => node(one),
                Event::Removed { object, .. } => format!("{object:?} is gone"),
                Event::Replaced => "the state was replaced by a snapshot".to_owned(),
                _ => continue,
            };
            self.tell(|| format!("{index}: {what}"));
        }
    }
}

fn task(task: &Task) -> String {
    let node = task.node.map_or("no node".to_owned(), |node| format!("node {node}"));
    let standby = if task.standby { ", stands by" } else { "" };
    let (version, state, desired) = (task.spec_version, task.status.state, task.desired);
    format!("task {} v{version} on {node}: {state}, shall be {desired}{standby}", task.id)
}

fn service(service: &Service) -> String {
    let (id, name, version) = (service.id, service.name(), service.spec_version);
    let update = service.update.as_ref();
    let update = update.map(|one| format!("{} {:?} {:?}", one.number, one.state, one.switch));
    let order = service.update_policy().order;
    format!("service {id} {name} v{version} {order}, update {update:?}")
}

fn node(node: &Node) -> String {
    format!("node {} {:?} {:?}", node.id, node.status, node.availability)
}
