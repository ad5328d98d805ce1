//! Entries of the log.

use super::fields::{ConvertError, Fields, addresses, each};
use crate::entry::{Action, Counter, Entry, Expect, Group, ObjectId, Request};
use crate::id::{NetworkId, NodeId, RaftId, ServiceId, Timestamp, VolumeId};
use crate::version::ClusterVersion;
use crate::wire;
use crate::wire::action::Action as WireAction;
use crate::wire::object_id::Object as WireObject;

impl From<&Entry> for wire::Entry {
    fn from(entry: &Entry) -> Self {
        Self {
            time: entry.time.0,
            checksum: entry.checksum,
            groups: each(&entry.groups),
            needs: entry.needs().to_wire(),
        }
    }
}

impl TryFrom<wire::Entry> for Entry {
    type Error = ConvertError;

    fn try_from(entry: wire::Entry) -> Result<Self, ConvertError> {
        let groups = Fields("Entry").list("groups", entry.groups)?;
        Ok(Self { time: Timestamp(entry.time), checksum: entry.checksum, groups })
    }
}

impl From<&Group> for wire::Group {
    fn from(group: &Group) -> Self {
        let request = group.request.as_ref().map(wire::Request::from);
        Self { expect: each(&group.expect), actions: each(&group.actions), request }
    }
}

impl TryFrom<wire::Group> for Group {
    type Error = ConvertError;

    fn try_from(group: wire::Group) -> Result<Self, ConvertError> {
        let at = Fields("Group");
        Ok(Self {
            expect: at.list("expect", group.expect)?,
            actions: at.list("actions", group.actions)?,
            request: group.request.map(Request::from),
        })
    }
}

impl From<&Request> for wire::Request {
    fn from(request: &Request) -> Self {
        Self { id: request.id.clone(), answer: request.answer.clone() }
    }
}

impl From<wire::Request> for Request {
    fn from(request: wire::Request) -> Self {
        Self { id: request.id, answer: request.answer }
    }
}

impl From<&ObjectId> for wire::ObjectId {
    fn from(object: &ObjectId) -> Self {
        let object = match object {
            ObjectId::Stack(name) => WireObject::Stack(name.clone()),
            ObjectId::Service(id) => WireObject::Service(id.0),
            ObjectId::Task(id) => WireObject::Task(id.to_string()),
            ObjectId::Node(id) => WireObject::Node(id.0),
            ObjectId::Network(id) => WireObject::Network(id.0),
            ObjectId::Volume(id) => WireObject::Volume(id.0),
            ObjectId::Secret(name) => WireObject::Secret(name.clone()),
            ObjectId::Config(name) => WireObject::Config(name.clone()),
        };
        Self { object: Some(object) }
    }
}

impl TryFrom<wire::ObjectId> for ObjectId {
    type Error = ConvertError;

    fn try_from(object: wire::ObjectId) -> Result<Self, ConvertError> {
        let at = Fields("ObjectId");
        Ok(match object.object.ok_or_else(|| at.refuse("object", "is missing"))? {
            WireObject::Stack(name) => Self::Stack(name),
            WireObject::Service(id) => Self::Service(ServiceId(id)),
            WireObject::Task(id) => Self::Task(at.text("task", &id)?),
            WireObject::Node(id) => Self::Node(NodeId(id)),
            WireObject::Network(id) => Self::Network(NetworkId(id)),
            WireObject::Volume(id) => Self::Volume(VolumeId(id)),
            WireObject::Secret(name) => Self::Secret(name),
            WireObject::Config(name) => Self::Config(name),
        })
    }
}

impl From<&Expect> for wire::Expect {
    fn from(expect: &Expect) -> Self {
        let counter = match expect.counter {
            Counter::Spec => wire::Counter::Spec,
            Counter::Desired => wire::Counter::Desired,
            Counter::Status => wire::Counter::Status,
        };
        let object = Some((&expect.object).into());
        Self { object, counter: counter.into(), version: expect.version }
    }
}

impl TryFrom<wire::Expect> for Expect {
    type Error = ConvertError;

    fn try_from(expect: wire::Expect) -> Result<Self, ConvertError> {
        let at = Fields("Expect");
        let counter = match wire::Counter::try_from(expect.counter) {
            Ok(wire::Counter::Spec) => Counter::Spec,
            Ok(wire::Counter::Desired) => Counter::Desired,
            Ok(wire::Counter::Status) => Counter::Status,
            _ => return Err(at.refuse("counter", "is not known")),
        };
        let object = at.required("object", expect.object)?;
        Ok(Self { object, counter, version: expect.version })
    }
}

impl From<&Action> for wire::Action {
    #[expect(clippy::too_many_lines, reason = "one arm for each action")]
    fn from(action: &Action) -> Self {
        let action = match action {
            Action::SetCluster(object) => WireAction::SetCluster(Box::new(object.as_ref().into())),
            Action::AddNode(object) => WireAction::AddNode(Box::new(object.as_ref().into())),
            Action::SetNodeStatus { node, status } => {
                WireAction::SetNodeStatus(wire::SetNodeStatus {
                    node: node.0,
                    status: (*status).into(),
                })
            }
            Action::SetNodeDescription { node, description } => {
                WireAction::SetNodeDescription(Box::new(wire::SetNodeDescription {
                    node: node.0,
                    description: Some(description.as_ref().into()),
                }))
            }
            Action::SetNodeWish { node, availability, labels } => {
                WireAction::SetNodeWish(wire::SetNodeWish {
                    node: node.0,
                    availability: (*availability).into(),
                    labels: labels.iter().cloned().collect(),
                })
            }
            Action::SetNodeAddress { node, address } => {
                WireAction::SetNodeAddress(wire::SetNodeAddress {
                    node: node.0,
                    address: address.clone(),
                })
            }
            Action::SetNodeController { node, controller } => {
                let (raft_id, address) = controller.clone().unzip();
                WireAction::SetNodeController(wire::SetNodeController {
                    node: node.0,
                    raft_id: raft_id.map(|id| id.0),
                    address: address.unwrap_or_default(),
                })
            }
            Action::RemoveNode(id) => WireAction::RemoveNode(id.0),
            Action::SetStack(object) => WireAction::SetStack(Box::new(object.as_ref().into())),
            Action::RemoveStack(name) => WireAction::RemoveStack(name.clone()),
            Action::SetService(object) => WireAction::SetService(Box::new(object.as_ref().into())),
            Action::SetServiceEndpoint { service, vips, ports } => {
                WireAction::SetServiceEndpoint(wire::SetServiceEndpoint {
                    service: service.0,
                    vips: each(vips),
                    ports: each(ports),
                })
            }
            Action::SetServiceRemoving(id) => WireAction::SetServiceRemoving(id.0),
            Action::RemoveService(id) => WireAction::RemoveService(id.0),
            Action::SetNetwork(object) => WireAction::SetNetwork(Box::new(object.as_ref().into())),
            Action::SetGateways { network, gateways } => {
                WireAction::SetGateways(wire::SetGateways {
                    network: network.0,
                    gateways: each(gateways),
                })
            }
            Action::SetNetworkRemoving(id) => WireAction::SetNetworkRemoving(id.0),
            Action::RemoveNetwork(id) => WireAction::RemoveNetwork(id.0),
            Action::ReleaseAddresses { network, addresses: released } => {
                WireAction::ReleaseAddresses(wire::ReleaseAddresses {
                    network: network.0,
                    addresses: addresses(released),
                })
            }
            Action::SetVolume(object) => WireAction::SetVolume(Box::new(object.as_ref().into())),
            Action::SetHolding { volume, node, holding } => {
                WireAction::SetHolding(wire::SetHolding {
                    volume: volume.0,
                    node: node.0,
                    holding: holding.as_ref().map(Into::into),
                })
            }
            Action::SetVolumeRemoving(id) => WireAction::SetVolumeRemoving(id.0),
            Action::RemoveVolume(id) => WireAction::RemoveVolume(id.0),
            Action::AddTask(object) => WireAction::AddTask(Box::new(object.as_ref().into())),
            Action::SetTaskAddresses { task, attachments } => {
                WireAction::SetTaskAddresses(wire::SetTaskAddresses {
                    task: task.to_string(),
                    attachments: each(attachments),
                })
            }
            Action::PreemptTasks { task, node, victims } => {
                WireAction::PreemptTasks(wire::PreemptTasks {
                    task: task.to_string(),
                    node: node.0,
                    victims: victims.iter().map(ToString::to_string).collect(),
                })
            }
            Action::AssignTask { task, node, resources } => {
                WireAction::AssignTask(wire::AssignTask {
                    task: task.to_string(),
                    node: node.0,
                    resources: super::resource::resources(resources),
                })
            }
            Action::SetTaskDesired { task, desired } => {
                WireAction::SetTaskDesired(wire::SetTaskDesired {
                    task: task.to_string(),
                    desired: (*desired).into(),
                })
            }
            Action::SetTaskStatus { task, status } => {
                WireAction::SetTaskStatus(Box::new(wire::SetTaskStatus {
                    task: task.to_string(),
                    status: Some(status.as_ref().into()),
                }))
            }
            Action::SetTaskMessage { task, message } => {
                WireAction::SetTaskMessage(wire::SetTaskMessage {
                    task: task.to_string(),
                    message: message.clone(),
                })
            }
            Action::RemoveTask(id) => WireAction::RemoveTask(id.to_string()),
            Action::AddContentPart { content, size, part, data } => {
                WireAction::AddContentPart(wire::AddContentPart {
                    content: Some(content.into()),
                    size: *size,
                    part: *part,
                    data: data.reveal().to_vec(),
                })
            }
            Action::KeepContents(contents) => {
                WireAction::KeepContents(wire::KeepContents { contents: each(contents) })
            }
            Action::RemoveContent(content) => WireAction::RemoveContent(content.into()),
            Action::AddNamedContent(object) => {
                WireAction::AddNamedContent(Box::new(object.as_ref().into()))
            }
            Action::RemoveNamedContent { kind, name } => {
                WireAction::RemoveNamedContent(wire::RemoveNamedContent {
                    kind: (*kind).into(),
                    name: name.clone(),
                })
            }
            Action::SetStackLeaving { stack, leaving } => {
                WireAction::SetStackLeaving(wire::SetStackLeaving {
                    stack: stack.clone(),
                    leaving: Some(leaving.into()),
                })
            }
            Action::SetClusterVersion(version) => WireAction::SetClusterVersion(version.0),
            Action::StartRun(start) => WireAction::StartRun(Box::new(start.as_ref().into())),
            Action::SetRun(progress) => WireAction::SetRun(Box::new(progress.as_ref().into())),
            Action::SkipRuns { service, until } => {
                WireAction::SkipRuns(wire::SkipRuns { service: service.0, until: until.0 })
            }
            Action::SetUpdate { service, update } => {
                WireAction::SetUpdate(Box::new(wire::SetUpdate {
                    service: service.0,
                    update: Some(update.as_ref().into()),
                }))
            }
            Action::SetNodeLost(node) => WireAction::SetNodeLost(node.0),
            Action::CountUpdateFailure(task) => WireAction::CountUpdateFailure(task.to_string()),
            Action::CountMove(task) => WireAction::CountMove(task.to_string()),
            Action::SetRegistryLogin(login) => {
                WireAction::SetRegistryLogin(Box::new(login.as_ref().into()))
            }
            Action::RemoveRegistryLogin(registry) => {
                WireAction::RemoveRegistryLogin(registry.to_string())
            }
        };
        Self { action: Some(action) }
    }
}

impl TryFrom<wire::Action> for Action {
    type Error = ConvertError;

    #[expect(clippy::too_many_lines, reason = "one arm for each action")]
    fn try_from(action: wire::Action) -> Result<Self, ConvertError> {
        let at = Fields("Action");
        Ok(match action.action.ok_or_else(|| at.refuse("action", "is not known"))? {
            WireAction::SetCluster(object) => Self::SetCluster(Box::new((*object).try_into()?)),
            WireAction::AddNode(object) => Self::AddNode(Box::new((*object).try_into()?)),
            WireAction::SetNodeStatus(set) => Self::SetNodeStatus {
                node: NodeId(set.node),
                status: at.enumeration::<wire::NodeStatus, _>("status", set.status)?,
            },
            WireAction::SetNodeDescription(set) => Self::SetNodeDescription {
                node: NodeId(set.node),
                description: Box::new(at.required("description", set.description)?),
            },
            WireAction::SetNodeWish(set) => Self::SetNodeWish {
                node: NodeId(set.node),
                availability: at
                    .enumeration::<wire::Availability, _>("availability", set.availability)?,
                labels: set.labels.into_iter().collect(),
            },
            WireAction::SetNodeAddress(set) => {
                Self::SetNodeAddress { node: NodeId(set.node), address: set.address }
            }
            WireAction::SetNodeController(set) => Self::SetNodeController {
                node: NodeId(set.node),
                controller: set.raft_id.map(|id| (RaftId(id), set.address)),
            },
            WireAction::RemoveNode(id) => Self::RemoveNode(NodeId(id)),
            WireAction::SetStack(object) => Self::SetStack(Box::new((*object).try_into()?)),
            WireAction::RemoveStack(name) => Self::RemoveStack(name),
            WireAction::SetService(object) => Self::SetService(Box::new((*object).try_into()?)),
            WireAction::SetServiceEndpoint(set) => Self::SetServiceEndpoint {
                service: ServiceId(set.service),
                vips: at.list("vips", set.vips)?,
                ports: at.list("ports", set.ports)?,
            },
            WireAction::SetServiceRemoving(id) => Self::SetServiceRemoving(ServiceId(id)),
            WireAction::RemoveService(id) => Self::RemoveService(ServiceId(id)),
            WireAction::SetNetwork(object) => Self::SetNetwork(Box::new((*object).try_into()?)),
            WireAction::SetGateways(set) => Self::SetGateways {
                network: NetworkId(set.network),
                gateways: at.list("gateways", set.gateways)?,
            },
            WireAction::SetNetworkRemoving(id) => Self::SetNetworkRemoving(NetworkId(id)),
            WireAction::RemoveNetwork(id) => Self::RemoveNetwork(NetworkId(id)),
            WireAction::ReleaseAddresses(set) => Self::ReleaseAddresses {
                network: NetworkId(set.network),
                addresses: set.addresses.into_iter().map(Into::into).collect(),
            },
            WireAction::SetVolume(object) => Self::SetVolume(Box::new((*object).try_into()?)),
            WireAction::SetHolding(set) => Self::SetHolding {
                volume: VolumeId(set.volume),
                node: NodeId(set.node),
                holding: at.optional("holding", set.holding)?,
            },
            WireAction::SetVolumeRemoving(id) => Self::SetVolumeRemoving(VolumeId(id)),
            WireAction::RemoveVolume(id) => Self::RemoveVolume(VolumeId(id)),
            WireAction::AddTask(object) => Self::AddTask(Box::new((*object).try_into()?)),
            WireAction::SetTaskAddresses(set) => Self::SetTaskAddresses {
                task: at.text("task", &set.task)?,
                attachments: at.list("attachments", set.attachments)?,
            },
            WireAction::PreemptTasks(set) => Self::PreemptTasks {
                task: at.text("task", &set.task)?,
                node: NodeId(set.node),
                victims: at.texts("victims", &set.victims)?,
            },
            WireAction::AssignTask(set) => Self::AssignTask {
                task: at.text("task", &set.task)?,
                node: NodeId(set.node),
                resources: at.resources("resources", set.resources)?,
            },
            WireAction::SetTaskDesired(set) => Self::SetTaskDesired {
                task: at.text("task", &set.task)?,
                desired: at.enumeration::<wire::TaskState, _>("desired", set.desired)?,
            },
            WireAction::SetTaskStatus(set) => Self::SetTaskStatus {
                task: at.text("task", &set.task)?,
                status: Box::new(at.required("status", set.status)?),
            },
            WireAction::SetTaskMessage(set) => {
                Self::SetTaskMessage { task: at.text("task", &set.task)?, message: set.message }
            }
            WireAction::RemoveTask(id) => Self::RemoveTask(at.text("task", &id)?),
            WireAction::AddContentPart(mut add) => Self::AddContentPart {
                content: at.required("content", add.content.take())?,
                size: add.size,
                part: add.part,
                data: std::mem::take(&mut add.data).into(),
            },
            WireAction::KeepContents(keep) => {
                Self::KeepContents(at.list("contents", keep.contents)?)
            }
            WireAction::RemoveContent(content) => Self::RemoveContent(content.try_into()?),
            WireAction::AddNamedContent(object) => {
                Self::AddNamedContent(Box::new((*object).try_into()?))
            }
            WireAction::RemoveNamedContent(remove) => Self::RemoveNamedContent {
                kind: at.enumeration::<wire::ContentKind, _>("kind", remove.kind)?,
                name: remove.name,
            },
            WireAction::SetStackLeaving(wire::SetStackLeaving { stack, leaving }) => {
                let leaving = leaving.map(Into::into).unwrap_or_default();
                Self::SetStackLeaving { stack, leaving }
            }
            WireAction::SetClusterVersion(version) => {
                Self::SetClusterVersion(ClusterVersion(version))
            }
            WireAction::StartRun(start) => Self::StartRun(Box::new((*start).into())),
            WireAction::SetRun(progress) => Self::SetRun(Box::new((*progress).try_into()?)),
            WireAction::SkipRuns(skip) => {
                Self::SkipRuns { service: ServiceId(skip.service), until: Timestamp(skip.until) }
            }
            WireAction::SetUpdate(set) => Self::SetUpdate {
                service: ServiceId(set.service),
                update: Box::new(at.required("update", set.update)?),
            },
            WireAction::SetNodeLost(node) => Self::SetNodeLost(NodeId(node)),
            WireAction::CountMove(task) => Self::CountMove(at.text("count_move", &task)?),
            WireAction::SetRegistryLogin(login) => {
                Self::SetRegistryLogin(Box::new((*login).try_into()?))
            }
            WireAction::RemoveRegistryLogin(registry) => {
                Self::RemoveRegistryLogin(at.text("remove_registry_login", &registry)?)
            }
            WireAction::CountUpdateFailure(task) => {
                Self::CountUpdateFailure(at.text("count_update_failure", &task)?)
            }
        })
    }
}
