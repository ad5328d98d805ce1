//! The state as it changes, across controllers that come and go.

use std::time::Duration;

use swarm_proto::wire;
use swarm_proto::wire::watch_event::Event;
use tokio::time::{Instant, sleep};
use tonic::Streaming;

use crate::connect::{Client, Cluster};
use crate::failure::Failure;
use crate::state::{Change, State, unreadable, warn_stale};

const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How long no controller may be reached before watching gives up.
const GIVE_UP_AFTER: Duration = Duration::from_mins(1);

/// A state that follows the cluster's.
pub(crate) struct Watch<'a> {
    cluster: &'a Cluster,
    stack: String,
    stream: Option<Streaming<wire::WatchEvent>>,
    /// Whether a state that may be behind will do when nobody leads.
    may_be_stale: bool,
    /// What is known now.
    pub(crate) state: State,
}

impl<'a> Watch<'a> {
    /// Starts watching; with a name only that stack's objects.
    pub(crate) fn of(cluster: &'a Cluster, stack: &str) -> Self {
        let (stack, state) = (stack.to_owned(), State::default());
        Self { cluster, stack, stream: None, may_be_stale: false, state }
    }

    /// Starts watching everything, also while nobody leads.
    pub(crate) fn of_whatever_is_known(cluster: &'a Cluster) -> Self {
        Self { may_be_stale: true, ..Self::of(cluster, "") }
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
                    if let Some(Event::Snapshot(view)) = event.event.as_ref()
                        && view.stale
                    {
                        warn_stale(view, false);
                    }
                    return self.state.apply(event).map_err(|error| unreadable(&error));
                }
                Ok(None) | Err(_) => self.stream = None,
            }
        }
    }

    async fn open(&self) -> Result<Streaming<wire::WatchEvent>, Failure> {
        let ask = async |mut client: Client, stale| {
            let stack = self.stack.clone();
            client.watch(wire::WatchRequest { stale, stack, snapshot: true }).await
        };
        if self.may_be_stale {
            return self.cluster.read(false, ask).await;
        }
        self.cluster.call(async |client| ask(client, false).await).await
    }
}
