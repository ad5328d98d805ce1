//! What a core is started with.

use swarm_proto::id::RaftId;
use swarm_proto::version::ClusterVersion;

use super::output::Recovered;
use super::planted::Planted;

/// What a core is started with.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// This controller's identity in the Raft group.
    pub raft_id: RaftId,
    /// Mixed into the election time-outs; the same for all controllers of a simulation, or a fixed number.
    pub seed: u64,
    /// Milliseconds of one tick.
    pub tick_ms: u64,
    /// Ticks without a leader until an election, at least; at most twice as many. Slow disks and networks make it more.
    pub election_ticks: usize,
    /// Ticks between a leader's heartbeats.
    pub heartbeat_ticks: usize,
    /// Entries applied between two snapshots.
    pub snapshot_every: u64,
    /// Entries kept behind a snapshot for slow followers.
    pub snapshot_trailing: u64,
    /// Bytes of entries in memory from which a snapshot is made, however few they are. A quarter of it may be kept behind the
    /// snapshot.
    pub snapshot_bytes: u64,
    /// The highest cluster version that this controller knows.
    pub knows: ClusterVersion,
    /// What the disk held.
    pub recovered: Recovered,
    /// A fault for the simulation to find; there is none in programs.
    pub planted: Planted,
}

impl CoreConfig {
    /// The usual settings for this member and disk.
    pub fn new(raft_id: RaftId, recovered: Recovered) -> Self {
        Self {
            raft_id,
            seed: 0,
            tick_ms: 25,
            election_ticks: 10,
            heartbeat_ticks: 2,
            snapshot_every: 10_000,
            snapshot_trailing: 500,
            snapshot_bytes: 128 << 20,
            knows: ClusterVersion::NEWEST,
            recovered,
            planted: Planted::default(),
        }
    }
}
