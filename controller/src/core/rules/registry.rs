//! The commands that keep and forget logins at registries.

use swarm_proto::entry::Action;
use swarm_proto::id::Timestamp;
use swarm_proto::object::{RegistryLogin, RegistryName};

use super::command::Decision;
use crate::core::command::Refusal;
use crate::core::state::State;

/// More registries than this nobody has.
const MOST: usize = 256;

pub(super) fn log_in(
    state: &State,
    login: &RegistryLogin,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let RegistryLogin { registry, user, password, .. } = login;
    let most = RegistryLogin::LONGEST;
    let fits = |text: &str| !text.is_empty() && text.len() <= most;
    // The way in which a name and password travel has no place for these.
    let plain = !user.contains(':') && !user.contains(char::is_control);
    if !plain || !fits(user) || !fits(password.reveal()) {
        return Err(Refusal::invalid(
            format!("this is no name and password for registry `{registry}`"),
            format!(
                "each has 1 to {most} bytes; a name has no `:` and is one line, a password is never shown"
            ),
        ));
    }
    let kept = &state.registry_logins;
    if kept.len() >= MOST && !kept.contains_key(registry) {
        return Err(Refusal::full(
            format!("the cluster has logins at {MOST} registries already"),
            "`swarmctl login --list` lists them; `swarmctl logout REGISTRY` forgets one",
        ));
    }
    let login = RegistryLogin { updated_at: now, ..login.clone() };
    Ok(Decision::new(vec![Action::SetRegistryLogin(Box::new(login))], Vec::new()))
}

pub(super) fn log_out(state: &State, registry: &RegistryName) -> Result<Decision, Refusal> {
    if !state.registry_logins.contains_key(registry) {
        return Err(Refusal::not_found(
            format!("the cluster has no login at registry `{registry}`"),
            "`swarmctl login --list` lists them",
        ));
    }
    Ok(Decision::new(vec![Action::RemoveRegistryLogin(registry.clone())], Vec::new()))
}
