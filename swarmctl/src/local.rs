//! `--local`: asks this host's own agent, with no controller at all.

use std::path::Path;

use swarm_proto::transport::{MAX_MESSAGE, connect_unix};
use swarm_proto::wire;
use swarm_proto::wire::agent_client::AgentClient;
use tonic::transport::Channel;

use crate::connect;
use crate::failure::Failure;
use crate::state::{State, unreadable};

/// Where an agent listens for root on its host.
pub(crate) const SOCKET: &str = "/run/swarm/agent.sock";

/// The agent of this host.
pub(crate) struct Local {
    /// Its API.
    pub(crate) client: AgentClient<Channel>,
}

impl Local {
    /// Connects to the agent's socket.
    pub(crate) async fn at(path: &Path) -> Result<Self, Failure> {
        let channel = connect_unix(path).await.map_err(|error| {
            let why = connect::explain(&error);
            Failure::refused(format!("no agent can be reached on this host: {why}"))
                .hint("run this as root on a host where swarm-agent runs")
        })?;
        Ok(Self { client: AgentClient::new(channel).max_decoding_message_size(MAX_MESSAGE) })
    }

    /// What the host knows of its own tasks.
    pub(crate) async fn state(&mut self) -> Result<State, Failure> {
        let request = wire::GetStateRequest { stale: true };
        let view = self.client.get_state(request).await;
        let view = view.map_err(|status| connect::refusal(&status))?.into_inner();
        State::from_view(view).map_err(|error| unreadable(&error))
    }
}
