//! Logins at registries: tried before they are kept, and given to a node only with what needs them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use swarm_proto::id::{NodeId, ServiceId, Slot, TaskId};
use swarm_proto::object::{Node, RegistryLogin, RegistryName};
use swarm_proto::wire;
use tokio::time::timeout;
use tonic::{Code, Status};

use super::controller::Controller;
use super::images::ready_nodes;
use super::refusal::Refusal;
use crate::core::State;

/// Agents that are asked to try a login, at most.
const ASKED: usize = 3;
/// How long one of them may take.
const PATIENCE: Duration = Duration::from_secs(25);

impl Controller {
    /// Keeps a login once an agent has tried it.
    pub async fn log_in(&self, request: wire::LogInRequest) -> Result<wire::LogInResponse, Status> {
        let login = request.login.clone().map(RegistryLogin::try_from);
        let login = login
            .ok_or_else(|| Refusal::invalid("the request holds no login"))?
            .map_err(|error| Refusal::invalid(error.to_string()))?;
        let open = self.try_login(&login).await?;
        self.write(request).await?;
        Ok(wire::LogInResponse { open })
    }

    /// Asks agents, this host's first, until one has asked the registry. True: it lets everybody in.
    async fn try_login(&self, login: &RegistryLogin) -> Result<bool, Status> {
        let mut ready = ready_nodes(&self.hub.view().state);
        ready.sort_by_key(|node| (node.id != self.node, node.id));
        let none = "no node is ready to try the name and password";
        let mut last = Status::from(Refusal::conflict(none).hint("see `swarmctl node ls`"));
        for node in ready.iter().take(ASKED) {
            match self.try_login_on(node, login).await {
                Ok(open) => return Ok(open),
                Err(status) if status.code() == Code::FailedPrecondition => return Err(status),
                Err(status) => last = status,
            }
        }
        // Every other controller would ask the same agents.
        Err(Status::new(Code::FailedPrecondition, last.message()))
    }

    async fn try_login_on(&self, node: &Node, login: &RegistryLogin) -> Result<bool, Status> {
        let host = &node.description.hostname;
        let asked = async {
            let mut store = self.store(node).await?;
            let answer = store.check_login(wire::RegistryLogin::from(login)).await?;
            Ok::<bool, Status>(answer.into_inner().open)
        };
        match timeout(PATIENCE, asked).await {
            Ok(Err(status)) if status.code() == Code::Unimplemented => {
                let why = format!("the agent of node {host} is too old to try a login");
                Err(Refusal::unavailable(why).hint("upgrade that host").into())
            }
            Ok(answer) => answer,
            Err(_) => {
                Err(Refusal::unavailable(format!("node {host} did not answer in time")).into())
            }
        }
    }

    /// What people may know of the logins.
    pub async fn list_logins(
        &self,
        request: wire::ListLoginsRequest,
    ) -> Result<wire::ListLoginsResponse, Status> {
        let view = self.read(request.stale).await?;
        let shown = |login: &Arc<RegistryLogin>| wire::ShownLogin {
            registry: login.registry.to_string(),
            user: login.user.clone(),
            updated_at: login.updated_at.0,
        };
        let logins = view.state.registry_logins.values().map(shown).collect();
        Ok(wire::ListLoginsResponse { logins })
    }

    /// A login for an agent that asks: only where its node has a task that is not over with an image of the registry.
    pub async fn login_for(
        &self,
        node: NodeId,
        registry: &str,
    ) -> Result<wire::GetLoginResponse, Status> {
        let registry: RegistryName =
            registry.parse().map_err(|error| Status::from(Refusal::invalid(format!("{error}"))))?;
        let state = Arc::clone(&self.read(false).await?.state);
        let login = state.registry_logins.get(&registry);
        let login = login.filter(|_| needs(&state, node, &registry));
        if login.is_some() {
            tracing::info!(%node, %registry, "a login is given to a node");
        }
        Ok(wire::GetLoginResponse { login: login.map(|login| login.as_ref().into()) })
    }
}

/// The cluster's login at the registry of an image's whole name.
pub fn login_of(state: &State, image: &str) -> Option<wire::RegistryLogin> {
    let login = state.registry_logins.get(&registry_of(image)?)?;
    Some(login.as_ref().into())
}

/// The cluster's logins at some registries.
pub fn logins_at(state: &State, registries: &[String]) -> Vec<wire::RegistryLogin> {
    let names: BTreeSet<RegistryName> =
        registries.iter().filter_map(|name| name.parse().ok()).collect();
    let logins = names.iter().filter_map(|name| state.registry_logins.get(name));
    logins.map(|login| login.as_ref().into()).collect()
}

/// The registry of an image's whole name.
fn registry_of(image: &str) -> Option<RegistryName> {
    image.split_once('/')?.0.parse().ok()
}

/// Whether a node has a task that is not over, with an image of the registry.
fn needs(state: &State, node: NodeId, registry: &RegistryName) -> bool {
    let first = TaskId { service: ServiceId(0), slot: Slot::Replica(0), generation: 0 };
    let tasks = state.index.node_tasks.range((node, first)..);
    let tasks = tasks.take_while(|(on, _)| *on == node).filter_map(|(_, id)| state.tasks.get(id));
    let mut unfinished = tasks.filter(|task| !task.status.state.is_terminal());
    unfinished.any(|task| {
        let image = state.task_spec(task).map(|spec| spec.container.image.reference.as_str());
        image.and_then(registry_of).as_ref() == Some(registry)
    })
}
