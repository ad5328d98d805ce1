//! The state as bytes and back. Indexes are not written; they follow from the objects.

use std::sync::Arc;

use prost::Message as _;
use swarm_proto::convert::{ConvertError, Fields};
use swarm_proto::id::{NetworkId, ServiceId, Timestamp};
use swarm_proto::spec::{ContentId, ServiceSpec};
use swarm_proto::version::ClusterVersion;
use swarm_proto::wire;
use swarm_proto::wire::stored_object::Object;

use super::index::Holder;
use super::{Content, NextIds, SlotHistory, State, Stored, Versions, lacks_endpoint};
use crate::core::version::newer;

/// Why bytes are no state.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// They are no message.
    #[error("the snapshot cannot be decoded")]
    Decode(#[from] prost::DecodeError),
    /// The message says something that no state can hold.
    #[error("the snapshot holds something that no state can hold")]
    Convert(#[from] ConvertError),
    /// A cluster wrote them whose version this program does not know.
    #[error("{}", newer(*.0, ClusterVersion::NEWEST))]
    Newer(ClusterVersion),
}

impl State {
    /// The whole state as bytes; takes time in proportion to its size.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.append_to(&mut bytes);
        bytes
    }

    /// Writes [`State::to_bytes`] behind others.
    pub(in crate::core) fn append_to(&self, bytes: &mut Vec<u8>) {
        let request = |id: &String| wire::Request {
            id: id.clone(),
            answer: self.requests.get(id).map(|answer| answer.to_vec()).unwrap_or_default(),
        };
        let mut append = |part: wire::StateSnapshot| {
            part.encode(bytes).expect("a vector grows as it is written");
        };
        append(wire::StateSnapshot {
            clock: self.clock.0,
            version: self.version,
            applied: self.applied,
            checksum: self.checksum,
            cluster: self.cluster.as_deref().map(Into::into),
            old_specs: self.specs_to_wire(),
            next: Some(next_to_wire(self.next)),
            quarantine: self.quarantine_to_wire(),
            cursors: self.cursors.iter().map(|(id, address)| (id.0, *address)).collect(),
            network_versions: self.network_versions.iter().map(|(id, v)| (id.0, *v)).collect(),
            requests: self.request_order.iter().map(request).collect(),
            cluster_version: self.cluster_version.to_wire(),
            contents: self.contents_to_wire(),
            registry_logins: self.registry_logins.values().map(|one| one.as_ref().into()).collect(),
            ..wire::StateSnapshot::default()
        });
        // Messages one behind the other are one message, in which lists are joined: what there are many of is never whole
        // in a second form.
        for object in self.objects_to_wire() {
            append(wire::StateSnapshot { objects: vec![object], ..Default::default() });
        }
        for slot in self.slots_to_wire() {
            append(wire::StateSnapshot { slots: vec![slot], ..Default::default() });
        }
    }

    fn objects_to_wire(&self) -> impl Iterator<Item = wire::StoredObject> {
        fn stored<'a, T, W: From<&'a T>>(
            one: &'a Stored<T>,
            object: fn(Box<W>) -> Object,
        ) -> wire::StoredObject {
            let Versions { spec, desired, status } = one.versions;
            wire::StoredObject {
                versions: Some(wire::Versions { spec, desired, status }),
                object: Some(object(Box::new(one.object.as_ref().into()))),
            }
        }
        let stacks = self.stacks.values().map(|one| stored(one, Object::Stack));
        let services = self.services.values().map(|one| stored(one, Object::Service));
        let tasks = self.tasks.values().map(|one| stored(one, Object::Task));
        let nodes = self.nodes.values().map(|one| stored(one, Object::Node));
        let networks = self.networks.values().map(|one| stored(one, Object::Network));
        let volumes = self.volumes.values().map(|one| stored(one, Object::Volume));
        let named = self.named_contents.values().map(|one| stored(one, Object::NamedContent));
        // Services go before tasks, which are indexed by their specs.
        let first = nodes.chain(networks).chain(volumes).chain(named);
        first.chain(stacks).chain(services).chain(tasks)
    }

    fn specs_to_wire(&self) -> Vec<wire::OldSpec> {
        let to_wire =
            |((service, version), spec): (&(ServiceId, u64), &Arc<ServiceSpec>)| wire::OldSpec {
                service: service.0,
                version: *version,
                spec: Some(spec.as_ref().into()),
            };
        self.specs.iter().map(to_wire).collect()
    }

    fn slots_to_wire(&self) -> impl Iterator<Item = wire::SlotHistory> {
        self.slots.iter().map(|((service, slot), history)| wire::SlotHistory {
            service: service.0,
            slot: slot.to_string(),
            generation: history.generation,
            spec_version: history.spec_version,
            failures: history.failures,
            ended: history.ended,
            recent: history.recent.iter().map(|time| time.0).collect(),
            run: history.run,
            is_complete: history.is_complete,
            failed_update: history.failed_update,
        })
    }

    fn quarantine_to_wire(&self) -> Vec<wire::Quarantined> {
        let addresses = self.quarantine.iter();
        let to_wire = addresses.map(|((network, address), version)| wire::Quarantined {
            network: network.0,
            address: *address,
            version: *version,
        });
        to_wire.collect()
    }

    fn contents_to_wire(&self) -> Vec<wire::StoredContent> {
        let to_wire = |(id, content): (&ContentId, &Content)| wire::StoredContent {
            content: Some(id.into()),
            size: content.size,
            parts: content.parts.iter().map(|part| part.reveal().to_vec()).collect(),
            needed_at: content.needed_at.0,
        };
        self.contents.iter().map(to_wire).collect()
    }

    /// Reads what [`State::to_bytes`] wrote, and builds the indexes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let snapshot = wire::StateSnapshot::decode(bytes)?;
        let cluster_version = ClusterVersion::from_wire(snapshot.cluster_version);
        if cluster_version > ClusterVersion::NEWEST {
            return Err(SnapshotError::Newer(cluster_version));
        }
        let at = Fields("StateSnapshot");
        let mut state = Self {
            clock: Timestamp(snapshot.clock),
            version: snapshot.version,
            applied: snapshot.applied,
            checksum: snapshot.checksum,
            cluster_version,
            cluster: at.optional("cluster", snapshot.cluster)?.map(Arc::new),
            next: next_from_wire(snapshot.next.unwrap_or_default()),
            cursors: snapshot.cursors.into_iter().map(|(id, at)| (NetworkId(id), at)).collect(),
            ..Self::default()
        };
        let versions = snapshot.network_versions.into_iter();
        state.network_versions = versions.map(|(id, version)| (NetworkId(id), version)).collect();
        for address in snapshot.quarantine {
            let key = (NetworkId(address.network), address.address);
            state.quarantine.insert(key, address.version);
        }
        for slot in snapshot.slots {
            let key = (ServiceId(slot.service), at.text("slots.slot", &slot.slot)?);
            state.slots.insert(key, slot_from_wire(slot));
        }
        for old in snapshot.old_specs {
            let spec = Arc::new(at.required("old_specs.spec", old.spec)?);
            state.specs.insert((ServiceId(old.service), old.version), spec);
        }
        for request in snapshot.requests {
            state.requests.insert(request.id.clone(), Arc::new(request.answer));
            state.request_order.push_back(request.id);
        }
        for mut stored in snapshot.contents {
            let id = at.required("contents.content", stored.content.take())?;
            let parts = std::mem::take(&mut stored.parts).into_iter();
            let content = Content {
                size: stored.size,
                parts: parts.map(|part| Arc::new(part.into())).collect(),
                needed_at: Timestamp(stored.needed_at),
            };
            state.contents.insert(id, content);
        }
        for login in snapshot.registry_logins {
            let login = swarm_proto::object::RegistryLogin::try_from(login)?;
            state.registry_logins.insert(login.registry.clone(), Arc::new(login));
        }
        for object in snapshot.objects {
            state.take_object(object)?;
        }
        state.build_index();
        Ok(state)
    }

    fn take_object(&mut self, stored: wire::StoredObject) -> Result<(), ConvertError> {
        let at = Fields("StoredObject");
        let versions = stored.versions.unwrap_or_default();
        let versions =
            Versions { spec: versions.spec, desired: versions.desired, status: versions.status };
        match stored.object.ok_or_else(|| at.refuse("object", "is not known"))? {
            Object::Stack(stack) => {
                let object = Arc::new(swarm_proto::object::Stack::try_from(*stack)?);
                self.stacks.insert(object.spec.name.clone(), Stored { object, versions });
            }
            Object::Service(service) => {
                let object = Arc::new(swarm_proto::object::Service::try_from(*service)?);
                self.services.insert(object.id, Stored { object, versions });
            }
            Object::Task(task) => {
                let object = Arc::new(swarm_proto::object::Task::try_from(*task)?);
                self.tasks.insert(object.id, Stored { object, versions });
            }
            Object::Node(node) => {
                let object = Arc::new(swarm_proto::object::Node::try_from(*node)?);
                self.nodes.insert(object.id, Stored { object, versions });
            }
            Object::Network(network) => {
                let object = Arc::new(swarm_proto::object::Network::try_from(*network)?);
                self.networks.insert(object.id, Stored { object, versions });
            }
            Object::Volume(volume) => {
                let object = Arc::new(swarm_proto::object::Volume::try_from(*volume)?);
                self.volumes.insert(object.id, Stored { object, versions });
            }
            Object::NamedContent(named) => {
                let object = Arc::new(swarm_proto::object::NamedContent::try_from(*named)?);
                let key = (object.kind, object.name.clone());
                self.named_contents.insert(key, Stored { object, versions });
            }
        }
        Ok(())
    }

    /// Builds the indexes from the objects.
    pub(super) fn build_index(&mut self) {
        self.index = super::Index::default();
        for network in self.networks.clone().values() {
            let key = (network.stack.clone(), network.key.clone());
            self.index.networks.insert(key, network.id);
            self.index.network_names.insert(network.name.clone(), network.id);
            for gateway in &network.gateways {
                let key = (network.id, u32::from(gateway.address));
                self.index.hold(key, Holder::Gateway(gateway.node), true);
            }
        }
        for volume in self.volumes.values() {
            let key = (volume.stack.clone(), volume.key.clone());
            self.index.volumes.insert(key, volume.id);
            self.index.volume_names.insert(volume.name.clone(), volume.id);
        }
        let leaving = self.stacks.iter().filter(|(_, stack)| !stack.leaving.is_empty());
        self.index.leaving = leaving.map(|(name, _)| name.clone()).collect();
        for service in self.services.clone().values() {
            self.index.service(service, true);
            if lacks_endpoint(self, service) {
                self.index.unallocated.insert(service.id);
            }
        }
        for task in self.tasks.clone().values() {
            self.add_contribution(task);
        }
        self.index_contents();
        for service in self.services.keys().copied().collect::<Vec<_>>() {
            self.judge(service);
        }
        self.index.gateways = self.networks.keys().copied().collect();
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.touch_node(node);
        }
    }
}

fn slot_from_wire(slot: wire::SlotHistory) -> SlotHistory {
    SlotHistory {
        generation: slot.generation,
        spec_version: slot.spec_version,
        failures: slot.failures,
        ended: slot.ended,
        recent: slot.recent.into_iter().map(Timestamp).collect(),
        run: slot.run,
        is_complete: slot.is_complete,
        failed_update: slot.failed_update,
    }
}

fn next_to_wire(next: NextIds) -> wire::NextIds {
    wire::NextIds {
        node: next.node,
        raft: next.raft,
        service: next.service,
        network: next.network,
        volume: next.volume,
        mac: next.mac,
        vni: next.vni,
        generation: next.generation,
    }
}

fn next_from_wire(next: wire::NextIds) -> NextIds {
    NextIds {
        node: next.node,
        raft: next.raft,
        service: next.service,
        network: next.network,
        volume: next.volume,
        mac: next.mac,
        vni: next.vni,
        generation: next.generation,
    }
}
