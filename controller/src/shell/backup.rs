//! Backups: the state at one index, framed as a file and sent in pieces.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use swarm_proto::backup;
use swarm_proto::wire;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::controller::Controller;
use super::refusal::Refusal;

/// The most bytes in one message.
const PIECE: usize = 256 << 10;
/// Messages that wait for the network.
const WAITING: usize = 4;

/// A backup on its way.
pub type Pieces = ReceiverStream<Result<wire::BackupPiece, Status>>;

impl Controller {
    /// A backup of everything acknowledged before now, or of what this controller has.
    pub async fn backup(self: Arc<Self>, stale: bool) -> Result<Pieces, Status> {
        let view = self.read(stale).await?;
        let status = self.core.status().await;
        let status = status.ok_or_else(|| Refusal::unavailable("this controller is stopping"))?;
        if view.state.cluster.is_none() {
            let why = "this controller has not been let into the cluster yet";
            return Err(Refusal::unavailable(why).into());
        }
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let node = view.state.nodes.get(&self.node);
        let head = wire::Backup {
            cluster_id: self.cluster_id.clone(),
            created_at: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
            applied: view.state.applied,
            term: status.term,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: node.map(|node| node.description.hostname.clone()).unwrap_or_default(),
            stale,
            state: Vec::new(),
        };
        // The state is a copy at no cost; turning it into bytes takes time and must hold up nobody.
        let state = Arc::clone(&view.state);
        let bytes = tokio::task::spawn_blocking(move || {
            backup::encode(&wire::Backup { state: state.to_bytes(), ..head })
        });
        let bytes = bytes.await.map_err(|error| Status::internal(error.to_string()))?;
        let (sender, pieces) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            for data in bytes.chunks(PIECE) {
                let piece = wire::BackupPiece { data: data.to_vec() };
                if sender.send(Ok(piece)).await.is_err() {
                    return;
                }
            }
        });
        Ok(ReceiverStream::new(pieces))
    }
}
