use serde::Serialize;

/// Who speaks with whom, as `version` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VersionView {
    /// This swarmctl.
    pub client: String,
    /// The controller that answered.
    pub server: Option<ServerView>,
}

/// A controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerView {
    /// Its version.
    pub version: String,
    /// Its host.
    pub node: String,
    /// Its Raft id.
    pub raft_id: u64,
    /// The leader's Raft id; null when none is known.
    pub leader: Option<u64>,
    /// Where the leader listens.
    pub leader_address: Option<String>,
}
