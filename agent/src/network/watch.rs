//! Puts the host's rules back when somebody flushed them. The kernel tells of every change, so nothing is polled.

use std::sync::Arc;
use std::time::Duration;

use swarm_runtime::kernel::Namespace;
use swarm_runtime::kernel::nft::{Changes, NftError};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Mutex;
use tokio::task::{AbortHandle, spawn_blocking};

use super::KernelError;
use super::host::Host;

/// Changes come in bursts; and should somebody else put theirs back as eagerly as we do, neither must spin.
const PAUSE: Duration = Duration::from_millis(50);

/// Starts to listen now, and heals until the handle is aborted or the host is dropped.
pub(super) fn heal(
    namespace: &Namespace,
    host: &Arc<Mutex<Host>>,
) -> Result<AbortHandle, KernelError> {
    let changes = Changes::listen_in(namespace)?;
    #[expect(
        deprecated,
        reason = "this descriptor stays open while registered; the constructor for those that may not is not safe"
    )]
    let mut changes = AsyncFd::try_with_interest(changes, Interest::READABLE)
        .map_err(|error| NftError::Open(error.into()))?;
    let host = Arc::downgrade(host);
    let task = tokio::spawn(async move {
        loop {
            match next(&mut changes).await {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "rules flushed by others are no longer put back");
                    return;
                }
            }
            let Some(host) = host.upgrade() else { return };
            let mut host = host.lock_owned().await;
            match spawn_blocking(move || host.heal()).await {
                Ok(Ok(true)) => {
                    tracing::info!(
                        "packet rules were changed by another program; ours are in place again"
                    );
                }
                Ok(Ok(false)) => {}
                Ok(Err(error)) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "rules flushed by others are not put back yet");
                }
                // The runtime is going down.
                Err(_) => return,
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    Ok(task.abort_handle())
}

async fn next(changes: &mut AsyncFd<Changes>) -> Result<bool, NftError> {
    let attempted = || "hear of changes of packet rules".to_owned();
    let mut ready = changes
        .readable_mut()
        .await
        .map_err(|source| NftError::Socket { attempted: attempted(), source })?;
    let any = ready.get_inner_mut().take()?;
    ready.clear_ready();
    Ok(any)
}
