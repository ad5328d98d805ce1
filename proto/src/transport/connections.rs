//! The connections that nodes hold open to a server, so that those of a removed node can be cut.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

use super::incoming::{PeerStream, accept_into};
use super::{Peer, Tls};
use crate::id::NodeId;

/// Standing connections by node.
#[derive(Debug, Default)]
pub struct Connections {
    /// Dropping a sender cuts its connection.
    standing: Mutex<BTreeMap<NodeId, Vec<oneshot::Sender<()>>>>,
}

/// Tells one connection that it is cut.
#[derive(Debug)]
pub(super) struct Cut(Option<oneshot::Receiver<()>>);

impl Cut {
    /// A connection that nobody cuts.
    pub(super) fn never() -> Self {
        Self(None)
    }

    /// Whether the connection is cut now; else `context` is woken when it is.
    pub(super) fn is_cut(&mut self, context: &mut Context<'_>) -> bool {
        let Some(cut) = &mut self.0 else { return false };
        matches!(Pin::new(cut).poll(context), Poll::Ready(_))
    }
}

impl Connections {
    /// Accepts TLS connections until the returned stream is dropped. A client certificate is optional; one that is
    /// shown must be of this cluster, and may have expired: its peer is marked so. Slow handshakes hold up nobody else.
    pub fn accept(
        self: &Arc<Self>,
        listener: TcpListener,
        tls: Arc<Tls>,
    ) -> ReceiverStream<std::io::Result<PeerStream<TlsStream<TcpStream>>>> {
        accept_into(listener, tls, Arc::clone(self))
    }

    /// The nodes that hold connections, or did until a moment ago.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// Cuts every connection of a node.
    pub fn cut(&self, node: NodeId) {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).remove(&node);
    }

    /// Remembers a connection of a peer; a person's is not.
    pub(super) fn remember(&self, peer: Option<&Peer>) -> Cut {
        let Some(node) = peer.and_then(|peer| peer.node_id) else { return Cut::never() };
        let (sender, receiver) = oneshot::channel();
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let of_node = standing.entry(node).or_default();
        // Those that have ended by themselves.
        of_node.retain(|sender| !sender.is_closed());
        of_node.push(sender);
        Cut(Some(receiver))
    }
}
