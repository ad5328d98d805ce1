//! The connections to other controllers: one long-lived stream of messages each, and a stream for each snapshot.
//! Messages are dropped rather than kept when a peer cannot take them; Raft sends again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use sha2::Digest as _;
use swarm_proto::id::RaftId;
use swarm_proto::transport::{CONTROLLER_NAME, Departure, Tls, node_name};
use swarm_proto::wire;
use swarm_proto::wire::control_client::ControlClient;
use swarm_proto::wire::raft_client::RaftClient;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::metadata::MetadataValue;

use super::hub::{Hub, View};
use super::incarnation;
use super::raft_service::{KNOWS, RAFT_ID, RELEASE};
use super::raft_thread::{CoreHandle, Transmit};
use crate::core::SnapshotMessage;
use crate::core::state::Controller;

/// Messages that wait for a peer's connection.
const QUEUE: usize = 512;
/// Messages in one piece of the stream.
const PIECE: usize = 64;
/// The sum of messages' bytes in one piece after which no more are added.
const PIECE_BYTES: usize = 1 << 20;
/// One part of a snapshot.
const CHUNK: usize = 256 * 1024;
/// How long a snapshot may take.
const SNAPSHOT_PATIENCE: Duration = Duration::from_mins(2);
/// How long a peer's new connection is waited for.
const CONNECT_PATIENCE: Duration = Duration::from_millis(1500);
const FIRST_PAUSE: Duration = Duration::from_millis(30);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Between two tries at a peer: when the leader is lost, one that has just come back is needed at once.
const LONGEST_REST: Duration = Duration::from_millis(120);

type Slot = Arc<Mutex<Option<mpsc::Sender<Vec<u8>>>>>;

/// Where a peer is: its address, and the name that its certificate must bear.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    address: String,
    name: String,
}

struct Peer {
    place: Place,
    slot: Slot,
    task: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// All connections to other controllers, kept as the state says.
#[derive(Clone)]
pub struct Peers {
    known: Arc<Mutex<HashMap<RaftId, Peer>>>,
    runtime: tokio::runtime::Handle,
    core: CoreHandle,
    tls: Arc<Tls>,
    own: RaftId,
    hub: Arc<Hub>,
}

impl Peers {
    /// Connects to every controller that `hub` shows, now and later. A controller that has just joined knows only
    /// addresses, `seeds`, and asks there. Call it within the runtime.
    pub fn start(
        own: RaftId,
        hub: &Arc<Hub>,
        core: CoreHandle,
        tls: Arc<Tls>,
        seeds: Vec<String>,
    ) -> Self {
        let runtime = tokio::runtime::Handle::current();
        let hub = Arc::clone(hub);
        let mut views = hub.follow();
        let peers = Self { known: Arc::default(), runtime, core, tls, own, hub };
        let following = peers.clone();
        tokio::spawn(async move {
            while views.borrow_and_update().state.nodes.is_empty() {
                following.connect(following.ask(&seeds).await);
                // An error means that the process is stopping.
                let _ = timeout(LONGEST_PAUSE, views.changed()).await;
            }
            loop {
                let view = Arc::clone(&views.borrow_and_update());
                let places = following.places(&view);
                following.connect(places);
                if views.changed().await.is_err() {
                    return;
                }
            }
        });
        peers
    }

    /// Where the other controllers are. One that the state knows no longer is kept until the Raft group has let it go: it
    /// may have to confirm that.
    fn places(&self, view: &View) -> BTreeMap<RaftId, Place> {
        let mut places = places(&self.hub.controllers(), self.own);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for member in view.members.voters.iter().chain(&view.members.learners) {
            if let (false, Some(peer)) = (places.contains_key(member), known.get(member)) {
                places.insert(*member, peer.place.clone());
            }
        }
        places
    }

    fn connect(&self, places: BTreeMap<RaftId, Place>) {
        let mut peers = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|raft_id, peer| {
            let stays = places.get(raft_id) == Some(&peer.place);
            if !stays {
                self.hub.no_contact(*raft_id);
            }
            stays
        });
        for (raft_id, place) in places {
            peers.entry(raft_id).or_insert_with(|| {
                tracing::debug!(peer = raft_id.0, address = place.address, "connecting to a peer");
                let slot = Slot::default();
                let dialer = self.clone();
                let task = dialer.keep_connected(raft_id, place.clone(), Arc::clone(&slot));
                Peer { place, slot, task: self.runtime.spawn(task) }
            });
        }
    }

    /// Asks controllers which members of the Raft group they are.
    async fn ask(&self, seeds: &[String]) -> BTreeMap<RaftId, Place> {
        let ask_one = async |address: &String| {
            let channel = self.tls.connect(address, CONTROLLER_NAME).await.ok()?;
            let mut ask = ControlClient::new(channel);
            let version = ask.get_version(wire::GetVersionRequest {}).await.ok()?.into_inner();
            let place = Place { address: address.clone(), name: CONTROLLER_NAME.to_owned() };
            Some((RaftId(version.raft_id), place))
        };
        let answers = futures_util::future::join_all(seeds.iter().map(ask_one)).await;
        answers.into_iter().flatten().filter(|(raft_id, _)| *raft_id != self.own).collect()
    }

    async fn keep_connected(self, raft_id: RaftId, place: Place, slot: Slot) {
        let mut pause = FIRST_PAUSE;
        loop {
            let connect = self.tls.connect(&place.address, &place.name);
            match timeout(CONNECT_PATIENCE, connect).await {
                Ok(Ok(channel)) => {
                    pause = FIRST_PAUSE;
                    let (sender, messages) = mpsc::channel(QUEUE);
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
                    self.hub.contact(raft_id, true);
                    let ended = RaftClient::new(channel).messages(self.speech(messages)).await;
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    if let Err(status) = ended {
                        tracing::debug!(peer = raft_id.0, %status, "connection to a peer ended");
                        if let Some(departure) = Departure::told(&status) {
                            self.hub.dismissed(departure);
                        }
                    }
                }
                Ok(Err(error)) => tracing::debug!(peer = raft_id.0, %error, "cannot reach a peer"),
                Err(_) => tracing::debug!(peer = raft_id.0, "a peer does not answer"),
            }
            self.hub.contact(raft_id, false);
            self.core.unreachable(raft_id).await;
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_REST);
        }
    }

    /// The stream of messages, with who speaks.
    fn speech(
        &self,
        messages: mpsc::Receiver<Vec<u8>>,
    ) -> Request<impl Stream<Item = wire::RaftMessages> + use<>> {
        let mut request = incarnation::stamp(&self.hub, pieces(messages));
        let headers = request.metadata_mut();
        headers.insert(RAFT_ID, self.own.0.into());
        headers.insert(KNOWS, self.hub.knows.0.into());
        headers.insert(RELEASE, MetadataValue::from_static(env!("CARGO_PKG_VERSION")));
        request
    }

    async fn deliver_snapshot(
        &self,
        place: Place,
        snapshot: SnapshotMessage,
    ) -> Result<(), String> {
        // Encoding a large state takes long.
        let made = move || {
            let data = snapshot.data();
            (opening(snapshot.message, &data), data)
        };
        let made = tokio::task::spawn_blocking(made).await;
        let (first, data) = made.map_err(|error| error.to_string())?;
        // A connection of its own: the messages on the other one do not wait for it.
        let connect = self.tls.connect(&place.address, &place.name);
        let channel = connect.await.map_err(|error| error.to_string())?;
        let (sender, stream) = mpsc::channel(2);
        let feed = async move {
            let parts = data.chunks(CHUNK).map(part);
            for chunk in std::iter::once(first).chain(parts) {
                if sender.send(chunk).await.is_err() {
                    return;
                }
            }
        };
        let mut client = RaftClient::new(channel);
        let send = client.snapshot(incarnation::stamp(&self.hub, ReceiverStream::new(stream)));
        let (answer, ()) = tokio::join!(timeout(SNAPSHOT_PATIENCE, send), feed);
        match answer {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(status.to_string()),
            Err(_) => Err(String::from("it took too long")),
        }
    }
}

fn places(controllers: &[Controller], own: RaftId) -> BTreeMap<RaftId, Place> {
    let others = controllers.iter().filter(|(raft_id, ..)| *raft_id != own);
    let place = |(raft_id, node, address): &Controller| {
        (*raft_id, Place { address: address.clone(), name: node_name(*node) })
    };
    others.map(place).collect()
}

fn pieces(messages: mpsc::Receiver<Vec<u8>>) -> impl Stream<Item = wire::RaftMessages> {
    futures_util::stream::unfold(messages, |mut messages| async move {
        let first = messages.recv().await?;
        let mut bytes = first.len();
        let mut piece = vec![first];
        while piece.len() < PIECE && bytes < PIECE_BYTES {
            let Ok(message) = messages.try_recv() else { break };
            bytes += message.len();
            piece.push(message);
        }
        Some((wire::RaftMessages { messages: piece }, messages))
    })
}

/// The first part of a snapshot: its message, and what the data in the others must come to.
fn opening(message: Vec<u8>, data: &[u8]) -> wire::SnapshotChunk {
    let size = data.len() as u64;
    wire::SnapshotChunk { message, size, digest: digest(data), data: Vec::new() }
}

/// Each further part.
fn part(data: &[u8]) -> wire::SnapshotChunk {
    wire::SnapshotChunk { data: data.to_vec(), ..wire::SnapshotChunk::default() }
}

fn digest(data: &[u8]) -> String {
    format!("sha256:{:x}", sha2::Sha256::digest(data))
}

/// The largest snapshot that is taken in.
const LARGEST_SNAPSHOT: u64 = 1 << 30;

/// Puts a snapshot together again from its parts: its message, and its data. The error says what does not fit.
pub async fn receive_snapshot<E: std::fmt::Display>(
    chunks: impl Stream<Item = Result<wire::SnapshotChunk, E>>,
) -> Result<(Vec<u8>, Vec<u8>), String> {
    let mut chunks = std::pin::pin!(chunks);
    let first = match chunks.next().await {
        Some(chunk) => chunk.map_err(|error| error.to_string())?,
        None => return Err(String::from("a snapshot without parts")),
    };
    if first.size > LARGEST_SNAPSHOT {
        return Err(format!("a snapshot of {} bytes is too large", first.size));
    }
    let mut data: Vec<u8> = first.data;
    while let Some(chunk) = chunks.next().await {
        data.extend_from_slice(&chunk.map_err(|error| error.to_string())?.data);
        if data.len() as u64 > first.size {
            return Err(String::from("a snapshot that is longer than announced"));
        }
    }
    if data.len() as u64 != first.size || digest(&data) != first.digest {
        return Err(String::from("a damaged snapshot (wrong size or digest)"));
    }
    Ok((first.message, data))
}

impl Transmit for Peers {
    fn send(&mut self, to: RaftId, messages: Vec<Vec<u8>>) -> bool {
        let peers = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(peer) = peers.get(&to) else { return false };
        let slot = peer.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = slot.as_ref() else { return false };
        messages.into_iter().all(|message| sender.try_send(message).is_ok())
    }

    fn send_snapshot(&mut self, to: RaftId, snapshot: SnapshotMessage) {
        let place = {
            let peers = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            peers.get(&to).map(|peer| peer.place.clone())
        };
        let sender = self.clone();
        self.runtime.spawn(async move {
            let sent = match place {
                Some(place) => sender.deliver_snapshot(place, snapshot).await,
                None => Err(String::from("its address is not known")),
            };
            match &sent {
                Ok(()) => tracing::info!(peer = to.0, "sent a snapshot"),
                Err(error) => tracing::warn!(peer = to.0, error, "could not send a snapshot"),
            }
            sender.core.snapshot_sent(to, sent.is_ok()).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(data: &[u8]) -> Vec<wire::SnapshotChunk> {
        let first = opening(b"message".to_vec(), data);
        std::iter::once(first).chain(data.chunks(CHUNK).map(part)).collect()
    }

    async fn received(chunks: Vec<wire::SnapshotChunk>) -> Result<(Vec<u8>, Vec<u8>), String> {
        let chunks = chunks.into_iter().map(Ok::<_, String>);
        receive_snapshot(futures_util::stream::iter(chunks)).await
    }

    #[tokio::test]
    async fn a_snapshot_arrives_whole_or_not_at_all() {
        for size in [0, 1, CHUNK, CHUNK * 3 + 5] {
            let data = vec![3; size];
            let whole = (b"message".to_vec(), data.clone());
            assert_eq!(received(chunks(&data)).await, Ok(whole));
        }
        let mut short = chunks(&vec![3; CHUNK * 2]);
        short.pop();
        assert!(received(short).await.unwrap_err().contains("damaged"));
        let mut damaged = chunks(&[3; 100]);
        damaged[1].data[5] ^= 1;
        assert!(received(damaged).await.unwrap_err().contains("damaged"));
        let mut long = chunks(&[3; 100]);
        long[0].size = 99;
        assert!(received(long).await.unwrap_err().contains("longer"));
        assert!(received(Vec::new()).await.is_err());
    }

    #[tokio::test]
    async fn waiting_messages_travel_together() {
        let (sender, messages) = mpsc::channel(QUEUE);
        for number in 0..100_u8 {
            sender.try_send(vec![number]).unwrap();
        }
        drop(sender);
        let sizes: Vec<usize> = pieces(messages).map(|piece| piece.messages.len()).collect().await;
        assert_eq!(sizes, [PIECE, 100 - PIECE]);
    }
}
