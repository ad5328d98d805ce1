//! A locked cluster: each controller keeps the key of its disk wrapped under the cluster's unlock key, and after a start
//! waits until a person gives it that.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use swarm_proto::failure::sentence;
use swarm_proto::object::Secret;
use swarm_proto::transport::{self, Peer, accept_unix};
use swarm_proto::wire;
use swarm_proto::wire::local_server::{Local, LocalServer};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tonic::{Request, Response, Status};

use super::audit::Audit;
use super::controller::Controller;
use super::disk::DiskError;
use super::hub::View;
use super::refusal::Refusal;
use super::seal::{DataKey, SealError, UnlockKey};
use super::server::RunError;
use crate::config::Config;

/// The only call that a locked controller answers.
const UNLOCK: &str = "Local/Unlock";
/// How long the answer to the right key may take on its way.
const FAREWELL: Duration = Duration::from_millis(300);
/// How long an answer waits until this controller has wrapped its own key.
const FOLLOW_WITHIN: Duration = Duration::from_secs(5);
/// After a key that could not be written.
const RETRY: Duration = Duration::from_secs(1);

/// The unlock key, once a person has given it; `None` at once where the disk's key is not wrapped.
pub async fn unlocked(config: &Config) -> Result<Option<UnlockKey>, RunError> {
    let folder = config.raft_dir();
    if !DataKey::is_wrapped(&folder).map_err(DiskError::from)? {
        return Ok(None);
    }
    tracing::warn!("this controller is locked: `swarmctl cluster unlock` on this host opens it");
    let run_dir = &config.run_dir;
    std::fs::create_dir_all(run_dir)
        .map_err(|source| RunError::Folder { path: run_dir.clone(), source })?;
    let socket = config.socket();
    let listen = |source| RunError::Listen { at: socket.display().to_string(), source };
    let incoming = accept_unix(&socket).await.map_err(listen)?;
    let (given, mut keys) = mpsc::channel(1);
    let only_unlock = |call: &str, _: &Peer| if call == UNLOCK { Ok(()) } else { Err(locked()) };
    let server = transport::guarded_server(Arc::new(only_unlock))
        .add_service(LocalServer::new(Locked { folder, given }))
        .serve_with_incoming(incoming);
    let serve = async {
        tokio::select! {
            key = keys.recv() => {
                sleep(FAREWELL).await;
                key
            }
            () = super::server::until_error("socket", server) => None,
        }
    };
    let key = serve.await;
    super::server::remove_socket(config);
    tracing::info!("this controller is unlocked");
    Ok(key)
}

fn locked() -> Status {
    Refusal::conflict("this controller is locked: the key of its disk is wrapped")
        .hint("give it the cluster's unlock key on its host: `swarmctl cluster unlock`")
        .into()
}

/// What a locked controller serves root on its host.
struct Locked {
    folder: PathBuf,
    given: mpsc::Sender<UnlockKey>,
}

impl Locked {
    async fn open(&self, key: &str) -> Result<wire::UnlockResponse, Status> {
        let key = UnlockKey::parse(key).ok_or_else(|| {
            Refusal::invalid("this is no unlock key")
                .hint("`swarmctl cluster lock` printed it; it begins with `SWKEY-1-`")
        })?;
        match DataKey::unwrap(&self.folder, &key) {
            Ok(_) => {
                // An error means that the key was given a moment ago.
                let _ = self.given.send(key).await;
                Ok(wire::UnlockResponse {})
            }
            Err(SealError::WrongKey { .. }) => Err(Refusal::denied(
                "this is not the unlock key of this controller",
            )
            .hint(
                "a controller that was away while the key was changed is opened by the key before",
            )
            .into()),
            Err(error) => Err(Status::internal(sentence(&error))),
        }
    }
}

#[tonic::async_trait]
impl Local for Locked {
    async fn get_join_tokens(
        &self,
        _: Request<wire::GetJoinTokensRequest>,
    ) -> Result<Response<wire::JoinTokens>, Status> {
        Err(locked())
    }

    async fn create_client_bundle(
        &self,
        _: Request<wire::CreateClientBundleRequest>,
    ) -> Result<Response<wire::ClientBundle>, Status> {
        Err(locked())
    }

    async fn unlock(
        &self,
        request: Request<wire::UnlockRequest>,
    ) -> Result<Response<wire::UnlockResponse>, Status> {
        let audit = Audit::of(&request, "Unlock", "this controller")?;
        audit.answer(self.open(&request.get_ref().unlock_key).await)
    }
}

impl Controller {
    /// Locks the cluster, changes its unlock key or takes the lock off. Answers with the key in force.
    pub async fn set_lock(
        &self,
        request: wire::SetLockRequest,
    ) -> Result<wire::SetLockResponse, Status> {
        if request.off && request.rotate {
            let why = "a lock is either taken off or given another key";
            return Err(Refusal::invalid(why).into());
        }
        let key = if request.off { String::new() } else { new_key()? };
        let (request_id, rotate) = (request.request_id, request.rotate);
        self.write(wire::LockWish { request_id, key, rotate }).await?;
        // This controller may not have applied yet what the leader has; and a request that came again made no other key.
        let view = self.read(false).await?;
        let key = key_of(&view);
        self.wrapped(key.as_ref()).await;
        let unlock_key = key.map(|key| key.reveal().to_owned()).unwrap_or_default();
        Ok(wire::SetLockResponse { unlock_key })
    }

    /// Waits until this controller keeps its own key as the cluster wishes.
    async fn wrapped(&self, key: Option<&Secret>) {
        let wait = async {
            while self.data_key.unlock_key().as_ref() != key {
                sleep(Duration::from_millis(10)).await;
            }
        };
        if timeout(FOLLOW_WITHIN, wait).await.is_err() {
            tracing::warn!("this controller does not keep its key as the cluster wishes yet");
        }
    }
}

fn new_key() -> Result<String, Status> {
    let key = UnlockKey::make().map_err(|error| Status::internal(sentence(&error)))?;
    Ok(key.secret().reveal().to_owned())
}

/// The cluster's unlock key; `None` when it is not locked.
fn key_of(view: &View) -> Option<Secret> {
    view.state.cluster.as_ref()?.unlock_key.clone()
}

/// Whether a controller's key is not kept as a view says. One that knows of no cluster says nothing.
fn differs(controller: &Controller, view: &View) -> bool {
    view.state.cluster.is_some() && key_of(view) != controller.data_key.unlock_key()
}

/// Keeps this controller's key as the cluster wishes until the process stops.
pub async fn follow(controller: Arc<Controller>) {
    let mut views = controller.hub.follow();
    loop {
        let known = differs(&controller, &views.borrow_and_update());
        if known {
            // What a controller knows that has just started may be older than its key.
            let Ok(view) = controller.read(false).await else { continue };
            if differs(&controller, &view)
                && let Err(error) = keep(&controller, key_of(&view)).await
            {
                tracing::error!(error, "could not keep the key of this disk as the cluster wishes");
                sleep(RETRY).await;
                continue;
            }
        }
        if views.changed().await.is_err() {
            return;
        }
    }
}

async fn keep(controller: &Arc<Controller>, key: Option<Secret>) -> Result<(), String> {
    let data_key = Arc::clone(&controller.data_key);
    let locked = key.is_some();
    let kept = tokio::task::spawn_blocking(move || {
        let key = key.as_ref().map(|key| UnlockKey::parse(key.reveal()).ok_or("it is no key"));
        let key = key.transpose().map_err(str::to_owned)?;
        data_key.keep(key.as_ref()).map_err(|error| sentence(&error))
    });
    kept.await.map_err(|error| error.to_string())??;
    tracing::info!(locked, "the key of this disk is kept as the cluster wishes");
    Ok(())
}
