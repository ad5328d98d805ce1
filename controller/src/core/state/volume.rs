//! Writes of volumes.

use std::sync::Arc;

use swarm_proto::entry::{Action, ObjectId};
use swarm_proto::id::VolumeId;
use swarm_proto::object::Volume;

use super::{Event, State, Stored, Versions};

impl State {
    pub(super) fn act_volume(&mut self, action: &Action, events: &mut Vec<Event>) -> Option<()> {
        match action {
            Action::SetVolume(volume) => {
                let mut new = volume.as_ref().clone();
                let versions = match self.volumes.get(&volume.id) {
                    None => {
                        if volume.id.0 != self.next.volume {
                            return None;
                        }
                        self.next.volume += 1;
                        Versions { spec: 1, desired: 1, status: 1 }
                    }
                    Some(old) => {
                        new.holdings.clone_from(&old.holdings);
                        Versions { spec: old.versions.spec + 1, ..old.versions }
                    }
                };
                self.put_volume(Stored { object: Arc::new(new), versions }, events);
                Some(())
            }
            Action::SetHolding { volume, node, holding } => {
                let mut new = self.volumes.get(volume)?.clone();
                let holdings = &mut Arc::make_mut(&mut new.object).holdings;
                match holding {
                    Some(holding) => holdings.insert(*node, holding.clone()),
                    None => holdings.remove(node),
                };
                new.versions.status += 1;
                self.touch_node(*node);
                self.put_volume(new, events);
                Some(())
            }
            Action::SetVolumeRemoving(id) => {
                let mut new = self.volumes.get(id)?.clone();
                if self.users_of_volume(&new.name).next().is_some() {
                    return None;
                }
                let volume = Arc::make_mut(&mut new.object);
                volume.removing = true;
                for holding in volume.holdings.values_mut() {
                    holding.removing = true;
                }
                new.versions.spec += 1;
                for node in new.object.holdings.keys() {
                    self.touch_node(*node);
                }
                self.put_volume(new, events);
                Some(())
            }
            Action::RemoveVolume(id) => self.remove_volume(*id, events),
            _ => None,
        }
    }

    fn remove_volume(&mut self, id: VolumeId, events: &mut Vec<Event>) -> Option<()> {
        let volume = self.volumes.get(&id)?.clone();
        self.volumes.remove(&id);
        self.index.volumes.remove(&(volume.stack.clone(), volume.key.clone()));
        self.index.volume_names.remove(&volume.name);
        for node in volume.holdings.keys() {
            self.touch_node(*node);
        }
        self.mix(id.0);
        let (name, stack) = (volume.name.clone(), volume.stack.clone());
        events.push(Event::Removed { object: ObjectId::Volume(id), name, stack });
        Some(())
    }

    fn put_volume(&mut self, new: Stored<Volume>, events: &mut Vec<Event>) {
        self.index.volumes.insert((new.stack.clone(), new.key.clone()), new.id);
        self.index.volume_names.insert(new.name.clone(), new.id);
        self.mix(new.id.0);
        self.mix(new.versions.spec);
        self.mix(new.versions.status);
        events.push(Event::Volume(new.object.clone()));
        self.volumes.insert(new.id, new);
    }

    /// A volume by stack and key.
    pub(crate) fn find_volume(&self, stack: &str, key: &str) -> Option<&Stored<Volume>> {
        let id = self.index.volumes.get(&(stack.to_owned(), key.to_owned()))?;
        self.volumes.get(id)
    }
}
