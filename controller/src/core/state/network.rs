//! Writes of networks and their addresses.

use std::sync::Arc;

use swarm_proto::entry::{Action, ObjectId};
use swarm_proto::id::NetworkId;
use swarm_proto::object::{Attachment, Network, NodeAttachment};

use super::index::Holder;
use super::{Event, State, Stored, Versions};

impl State {
    pub(super) fn act_network(&mut self, action: &Action, events: &mut Vec<Event>) -> Option<()> {
        match action {
            Action::SetNetwork(network) => self.set_network(network, events),
            Action::SetGateways { network, gateways } => {
                self.set_gateways(*network, gateways, events)
            }
            Action::SetNetworkRemoving(id) => {
                let mut new = self.networks.get(id)?.clone();
                if self.users_of_network(&new.name).next().is_some() {
                    return None;
                }
                Arc::make_mut(&mut new.object).removing = true;
                new.versions.spec += 1;
                self.put_network(new, events);
                Some(())
            }
            Action::RemoveNetwork(id) => self.remove_network(*id, events),
            Action::ReleaseAddresses { network, addresses } => {
                for address in addresses {
                    self.quarantine.remove(&(*network, u32::from(*address)));
                }
                self.mix(network.0);
                Some(())
            }
            _ => None,
        }
    }

    fn set_network(&mut self, network: &Network, events: &mut Vec<Event>) -> Option<()> {
        let mut new = network.clone();
        let versions = match self.networks.get(&network.id) {
            None => {
                if network.id.0 != self.next.network || network.vni < self.next.vni {
                    return None;
                }
                self.next.network += 1;
                self.next.vni = network.vni + 1;
                new.gateways.clear();
                Versions { spec: 1, desired: 1, status: 1 }
            }
            Some(old) => {
                new.gateways.clone_from(&old.gateways);
                Versions { spec: old.versions.spec + 1, ..old.versions }
            }
        };
        self.put_network(Stored { object: Arc::new(new), versions }, events);
        Some(())
    }

    fn set_gateways(
        &mut self,
        id: NetworkId,
        gateways: &[NodeAttachment],
        events: &mut Vec<Event>,
    ) -> Option<()> {
        let mut new = self.networks.get(&id)?.clone();
        let old = new.gateways.clone();
        let key = |gateway: &NodeAttachment| (id, u32::from(gateway.address));
        let added: Vec<_> = gateways.iter().filter(|gateway| !old.contains(gateway)).collect();
        if !added.iter().all(|gateway| self.is_free(&key(gateway))) {
            return None;
        }
        self.index.gateways.remove(&id);
        if old == gateways {
            return Some(());
        }
        for gateway in old.iter().filter(|gateway| !gateways.contains(gateway)) {
            self.give_up_address(key(gateway));
        }
        for gateway in added {
            let NodeAttachment { node, address, mac } = *gateway;
            self.took_address(&Attachment { network: id, address, mac });
            self.index.hold(key(gateway), Holder::Gateway(node), true);
            self.touch_node(node);
        }
        Arc::make_mut(&mut new.object).gateways = gateways.to_vec();
        new.versions.desired += 1;
        self.put_network(new, events);
        Some(())
    }

    fn remove_network(&mut self, id: NetworkId, events: &mut Vec<Event>) -> Option<()> {
        let network = self.networks.get(&id)?.clone();
        let held = self.index.addresses.range((id, 0)..=(id, u32::MAX)).next().is_some();
        if held {
            return None;
        }
        let addresses = self.quarantine.range((id, 0)..=(id, u32::MAX));
        let addresses: Vec<_> = addresses.map(|(key, _)| *key).collect();
        for key in addresses {
            self.quarantine.remove(&key);
        }
        self.networks.remove(&id);
        self.index.networks.remove(&(network.stack.clone(), network.key.clone()));
        self.index.network_names.remove(&network.name);
        self.index.gateways.remove(&id);
        self.cursors.remove(&id);
        self.network_versions.remove(&id);
        self.mix(id.0);
        let (name, stack) = (network.name.clone(), network.stack.clone());
        events.push(Event::Removed { object: ObjectId::Network(id), name, stack });
        Some(())
    }

    fn put_network(&mut self, new: Stored<Network>, events: &mut Vec<Event>) {
        let id = new.id;
        self.index.networks.insert((new.stack.clone(), new.key.clone()), id);
        self.index.network_names.insert(new.name.clone(), id);
        self.mix(id.0);
        self.mix(new.versions.spec);
        self.mix(new.versions.desired);
        events.push(Event::Network(new.object.clone()));
        if !self.networks.contains_key(&id) {
            self.index.gateways.insert(id);
        }
        self.networks.insert(id, new);
        self.touch_network(id);
    }

    /// Whether nobody has an address, and no node may still remember it.
    pub(crate) fn is_free(&self, key: &(NetworkId, u32)) -> bool {
        !self.index.addresses.contains_key(key) && !self.quarantine.contains_key(key)
    }

    /// An address and a link address were given out.
    pub(super) fn took_address(&mut self, attachment: &Attachment) {
        self.cursors.insert(attachment.network, attachment.address.into());
        let [_, _, counted @ ..] = attachment.mac;
        let number = u64::from(u32::from_be_bytes(counted));
        self.next.mac = self.next.mac.max(number + 1);
    }

    /// An address goes into quarantine until every node has forgotten it.
    pub(super) fn give_up_address(&mut self, key: (NetworkId, u32)) {
        self.index.addresses.remove(&key);
        if self.networks.contains_key(&key.0) {
            self.quarantine.insert(key, self.version);
            self.touch_network(key.0);
        }
    }

    /// A network by stack and key.
    pub(crate) fn find_network(&self, stack: &str, key: &str) -> Option<&Stored<Network>> {
        let id = self.index.networks.get(&(stack.to_owned(), key.to_owned()))?;
        self.networks.get(id)
    }
}
