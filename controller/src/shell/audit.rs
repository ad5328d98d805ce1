//! Who did what: one line in the log for each call that changes something or gives out a secret.

use tonic::{Request, Response, Status};

use swarm_proto::transport::{Peer, known_peer};

/// One call, noted once its outcome is known.
#[derive(Debug)]
pub struct Audit {
    who: String,
    role: &'static str,
    call: &'static str,
    object: String,
}

impl Audit {
    /// Begins the line of a call on an object (`stack web`), which holds no secret.
    pub fn of<T>(
        request: &Request<T>,
        call: &'static str,
        object: impl Into<String>,
    ) -> Result<Self, Status> {
        Ok(Self::by(known_peer(request)?, call, object))
    }

    /// Begins the line of a call by this peer.
    pub fn by(peer: &Peer, call: &'static str, object: impl Into<String>) -> Self {
        Self { who: peer.who(), role: peer.role.as_str(), call, object: object.into() }
    }

    /// Writes the line, and answers the call.
    pub fn answer<T>(self, result: Result<T, Status>) -> Result<Response<T>, Status> {
        let outcome = match &result {
            Ok(_) => "done",
            // The hint is for the caller.
            Err(status) => status.message().lines().next().unwrap_or_default(),
        };
        let Self { who, role, call, object } = self;
        tracing::info!(who, role, call, object, outcome, "audit");
        result.map(Response::new)
    }
}
