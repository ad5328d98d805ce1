//! Waits until a cluster is whole.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use swarm_proto::wire::control_client::ControlClient;
use swarm_proto::wire::{GetStateRequest, NodeStatus, StateView};
use tonic::transport::Endpoint;

use super::error::Error;

/// How long between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until a controller behind one of the sockets says that all these hosts are ready, and that all controllers
/// vote.
pub(super) fn wait(sockets: &[PathBuf], hosts: &[String], within: Duration) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::system("start a runtime"))?;
    let end = Instant::now() + within;
    runtime.block_on(async {
        let mut missing = "no controller answers".to_owned();
        while Instant::now() < end {
            for socket in sockets {
                match look(socket).await {
                    Ok(view) => match lack(&view, hosts, sockets.len()) {
                        None => return Ok(()),
                        Some(lack) => missing = lack,
                    },
                    Err(error) => missing = error,
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(Error::Late {
            what: "the cluster was not ready".to_owned(),
            seconds: within.as_secs(),
            detail: format!(": {missing}"),
        })
    })
}

async fn look(socket: &Path) -> Result<StateView, String> {
    let failed = |error: &dyn std::error::Error| format!("`{}`: {error}", socket.display());
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))
        .map_err(|error| failed(&error))?
        .connect_timeout(Duration::from_secs(1))
        .timeout(Duration::from_secs(2));
    let channel = endpoint.connect().await.map_err(|error| failed(&error))?;
    let answer = ControlClient::new(channel)
        .max_decoding_message_size(64 << 20)
        .get_state(GetStateRequest { stale: false })
        .await;
    answer.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
}

/// What a cluster still lacks.
fn lack(view: &StateView, hosts: &[String], controllers: usize) -> Option<String> {
    if view.voters.len() < controllers {
        return Some(format!("{} of {controllers} controllers vote", view.voters.len()));
    }
    let is_ready = |host: &&String| {
        view.nodes.iter().any(|node| {
            node.status() == NodeStatus::Ready
                && node.description.as_ref().is_some_and(|found| found.hostname == **host)
        })
    };
    let waiting: Vec<&str> =
        hosts.iter().filter(|host| !is_ready(host)).map(String::as_str).collect();
    (!waiting.is_empty()).then(|| format!("not ready: {}", waiting.join(", ")))
}
