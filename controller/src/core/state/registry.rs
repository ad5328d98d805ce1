//! Writes of logins at registries: the newest for each registry counts.

use std::sync::Arc;

use swarm_proto::entry::Action;

use super::State;

impl State {
    pub(super) fn act_registry(&mut self, action: &Action) -> Option<()> {
        match action {
            Action::SetRegistryLogin(login) => {
                let kept = Arc::new(login.as_ref().clone());
                self.registry_logins.insert(login.registry.clone(), kept);
                self.mix(login.updated_at.0);
                Some(())
            }
            Action::RemoveRegistryLogin(registry) => {
                let removed = self.registry_logins.remove(registry)?;
                self.mix(removed.updated_at.0);
                Some(())
            }
            _ => None,
        }
    }
}
