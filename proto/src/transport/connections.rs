//! The connections that peers hold open to a server, so that those can be cut of a removed node, and of whoever shows a
//! certificate of an authority that counts no more.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

use super::incoming::{PeerStream, accept_into};
use super::{Peer, Tls};
use crate::id::NodeId;

/// Standing connections by node; those of people under `None`.
#[derive(Debug, Default)]
pub struct Connections {
    standing: Mutex<BTreeMap<Option<NodeId>, Vec<Standing>>>,
}

/// A connection that stands.
#[derive(Debug)]
struct Standing {
    /// The peer's certificate and what came with it.
    chain: Vec<CertificateDer<'static>>,
    /// Dropping it cuts the connection.
    alive: oneshot::Sender<()>,
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
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.keys().copied().flatten().collect()
    }

    /// Cuts every connection of a node.
    pub fn cut(&self, node: NodeId) {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).remove(&Some(node));
    }

    /// Cuts every connection whose certificate `tls` does not trust any more.
    pub(super) fn cut_untrusted(&self, tls: &Tls) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = 0;
        for connections in standing.values_mut() {
            connections.retain(|connection| {
                let stays = tls.trusts(&connection.chain);
                count += usize::from(!stays && !connection.alive.is_closed());
                stays
            });
        }
        if count > 0 {
            tracing::info!(count, "cut connections whose certificates count no more");
        }
    }

    /// Remembers the connection of a peer with its certificate and what came with it.
    pub(super) fn remember(&self, peer: &Peer, chain: &[CertificateDer<'_>]) -> Cut {
        let (alive, receiver) = oneshot::channel();
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = standing.entry(peer.node_id).or_default();
        // Those that have ended by themselves.
        of_peer.retain(|connection| !connection.alive.is_closed());
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        of_peer.push(Standing { chain, alive });
        Cut(Some(receiver))
    }
}
