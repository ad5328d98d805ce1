//! The state as it changes, across controllers that come and go.

use std::time::Duration;

use swarm_proto::wire;
use tokio::time::{Instant, sleep};
use tonic::Streaming;

use crate::connect::Cluster;
use crate::failure::Failure;
use crate::state::{Change, State, unreadable};

const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How long no controller may be reached before watching gives up.
const GIVE_UP_AFTER: Duration = Duration::from_mins(1);

/// A state that follows the cluster's.
pub(crate) struct Watch<'a> {
    cluster: &'a Cluster,
    stack: String,
    stream: Option<Streaming<wire::WatchEvent>>,
    /// What is known now.
    pub(crate) state: State,
}

impl<'a> Watch<'a> {
    /// Starts watching; with a name only that stack's objects.
    pub(crate) fn of(cluster: &'a Cluster, stack: &str) -> Self {
        Self { cluster, stack: stack.to_owned(), stream: None, state: State::default() }
    }

    /// Waits for the next change. After a lost connection the whole state comes anew, as a snapshot. Safe to cancel.
    pub(crate) async fn next(&mut self) -> Result<Change, Failure> {
        let give_up = Instant::now() + GIVE_UP_AFTER;
        loop {
            let Some(stream) = &mut self.stream else {
                match self.open().await {
                    Ok(stream) => self.stream = Some(stream),
                    Err(failure) if Instant::now() >= give_up => return Err(failure),
                    Err(_) => sleep(RETRY_PAUSE).await,
                }
                continue;
            };
            match stream.message().await {
                Ok(Some(event)) => {
                    return self.state.apply(event).map_err(|error| unreadable(&error));
                }
                Ok(None) | Err(_) => self.stream = None,
            }
        }
    }

    async fn open(&self) -> Result<Streaming<wire::WatchEvent>, Failure> {
        let request =
            wire::WatchRequest { stale: false, stack: self.stack.clone(), snapshot: true };
        self.cluster.call(async |mut client| client.watch(request.clone()).await).await
    }
}
