//! Controllers of two releases in one cluster, in virtual time.

use std::collections::{BTreeMap, VecDeque};

use prost::Message as _;
use prost_for_raft::Message as _;
use swarm_controller::core::{
    Command, Core, CoreConfig, DiskBatch, Input, Output, Program, Recovered, StartError,
};
use swarm_proto::id::{NodeId, RaftId, Timestamp};
use swarm_proto::object::Role;
use swarm_proto::version::ClusterVersion;
use swarm_proto::wire;

use crate::SYNC;
use crate::contract::{START, first_disk};

const OLD: ClusterVersion = ClusterVersion::FIRST;
const NEW: ClusterVersion = ClusterVersion::NEWEST;

/// The disk of a cluster that release 0.1.0 made.
fn old_disk() -> Recovered {
    let mut disk = first_disk();
    let (_, _, bytes) = disk.snapshot.as_mut().unwrap();
    let mut snapshot = raft::eraftpb::Snapshot::decode(bytes.as_slice()).unwrap();
    let mut state = wire::StateSnapshot::decode(snapshot.data.as_slice()).unwrap();
    assert_eq!(state.cluster_version, NEW.0, "a new cluster begins with the newest");
    state.cluster_version = 0;
    snapshot.data = state.encode_to_vec();
    *bytes = snapshot.encode_to_vec();
    disk
}

/// Controllers whose messages arrive at once, and whose disks forget nothing.
#[derive(Default)]
struct Cluster {
    cores: BTreeMap<u64, Core>,
    disks: BTreeMap<u64, Recovered>,
    now: u64,
    token: u64,
    stopped: Vec<(u64, String)>,
}

impl Cluster {
    fn start(&mut self, id: u64, knows: ClusterVersion) -> Result<(), StartError> {
        let recovered = self.disks.entry(id).or_default().clone();
        let config = CoreConfig { seed: id, knows, ..CoreConfig::new(RaftId(id), recovered) };
        self.cores.insert(id, Core::new(config)?);
        Ok(())
    }

    /// A controller connects to the others, and says what it runs.
    fn say(&mut self, id: u64, knows: ClusterVersion, release: &str) {
        let others: Vec<u64> = self.cores.keys().copied().filter(|other| *other != id).collect();
        for other in others {
            let program = Program { knows, release: release.to_owned() };
            self.input(other, Input::PeerProgram { peer: RaftId(id), program });
        }
    }

    fn input(&mut self, to: u64, input: Input) {
        let mut queue = VecDeque::from([(to, input)]);
        while let Some((to, input)) = queue.pop_front() {
            let Some(core) = self.cores.get_mut(&to) else { continue };
            for output in core.handle(input, Timestamp(START + self.now)) {
                match output {
                    Output::Send { to, messages } => {
                        let arrive = messages.into_iter().map(|bytes| Input::PeerMessage { bytes });
                        queue.extend(arrive.map(|message| (to.0, message)));
                    }
                    Output::SendSnapshot { to: peer, snapshot } => {
                        let bytes = snapshot.encode();
                        queue.push_back((peer.0, Input::PeerMessage { bytes }));
                        queue.push_back((to, Input::SnapshotSent { to: peer, ok: true }));
                    }
                    Output::Persist(batch) => {
                        let number = batch.number;
                        write(self.disks.get_mut(&to).unwrap(), batch);
                        queue.push_back((to, Input::Persisted { batch: number, micros: SYNC }));
                    }
                    Output::Fatal(reason) => self.stopped.push((to, reason)),
                    _ => {}
                }
            }
        }
    }

    fn run(&mut self, milliseconds: u64) {
        let end = self.now + milliseconds;
        while self.now < end {
            self.now += 25;
            for id in self.cores.keys().copied().collect::<Vec<_>>() {
                self.input(id, Input::Tick);
            }
        }
    }

    fn leader(&self) -> u64 {
        let mut leaders = self.cores.iter().filter(|(_, core)| core.status().leading);
        *leaders.next().expect("one leads").0
    }

    /// A write at the leader, which all must have applied afterwards.
    fn write(&mut self) {
        self.token += 1;
        let address = format!("n1:{}", 3_000 + self.token);
        let command = Command::SetControllerAddress { node: NodeId(1), address: address.clone() };
        let request_id = format!("w{}", self.token);
        self.input(self.leader(), Input::Command { token: self.token, request_id, command });
        self.run(1_000);
        for (id, core) in &self.cores {
            let node = core.state().nodes.get(&NodeId(1)).unwrap();
            assert_eq!(node.controller_address.as_ref(), Some(&address), "on {id}");
        }
        let mut sums = self.cores.values().map(|core| core.state().checksum);
        let first = sums.next();
        assert!(sums.all(|sum| Some(sum) == first), "the states are the same");
    }

    fn versions(&self) -> Vec<ClusterVersion> {
        self.cores.values().map(|core| core.state().cluster_version).collect()
    }

    fn hand_over(&mut self) {
        let leader = self.leader();
        self.input(leader, Input::StepDown);
        self.run(2_000);
        assert_ne!(self.leader(), leader);
    }
}

fn write(disk: &mut Recovered, batch: DiskBatch) {
    if let Some(from) = batch.truncate_from {
        disk.entries.retain(|entry| entry.index < from);
    }
    if let Some(snapshot) = batch.snapshot {
        disk.snapshot = Some((snapshot.index, snapshot.term, snapshot.encode()));
    }
    if let Some(to) = batch.compact_to {
        disk.entries.retain(|entry| entry.index > to);
    }
    disk.entries.extend(batch.entries);
    disk.hard_state = batch.hard_state.or(disk.hard_state.take());
}

/// A cluster of release 0.1.0 with two controllers, of which the first runs the newer release.
fn mixed() -> Cluster {
    let mut cluster = Cluster::default();
    cluster.disks.insert(1, old_disk());
    cluster.start(1, OLD).unwrap();
    cluster.run(1_000);
    let command = Command::Join {
        hostname: String::from("n2"),
        role: Role::Controller,
        controller_address: Some(String::from("n2:2377")),
    };
    cluster.start(2, OLD).unwrap();
    cluster.input(1, Input::Command { token: 0, request_id: String::from("j"), command });
    cluster.run(1_000);
    assert_eq!(cluster.cores[&1].status().members.voters.len(), 2);
    cluster.start(1, NEW).unwrap();
    cluster.run(2_000);
    cluster.say(1, NEW, "0.2.0");
    cluster.say(2, OLD, "0.1.0");
    cluster
}

#[test]
fn two_releases_work_together_whichever_leads() {
    let mut cluster = mixed();
    for _ in 0..2 {
        cluster.write();
        assert_eq!(cluster.versions(), [OLD, OLD]);
        cluster.hand_over();
    }
    assert_eq!(cluster.stopped, []);
}

#[test]
fn the_version_rises_with_the_last_upgrade_and_there_is_no_way_back() {
    let mut cluster = mixed();
    cluster.start(2, NEW).unwrap();
    cluster.run(2_000);
    assert_eq!(cluster.versions(), [OLD, OLD], "nobody has said that n2 was upgraded");
    cluster.say(2, NEW, "0.2.0");
    cluster.say(1, NEW, "0.2.0");
    cluster.run(500);
    assert_eq!(cluster.versions(), [NEW, NEW]);
    cluster.write();
    // The old release does not take the log for its own, wherever it meets the new version first.
    cluster.start(2, OLD).unwrap();
    cluster.run(2_000);
    let [(2, reason)] = cluster.stopped.as_slice() else { panic!("{:?}", cluster.stopped) };
    assert!(
        reason.starts_with(
            "the cluster has version 4, and this program (release 0.1.0) knows versions up to 1"
        ),
        "{reason}"
    );
    let fresh = Recovered { entries: Vec::new(), ..first_disk() };
    cluster.disks.insert(3, fresh);
    let refused = cluster.start(3, OLD).unwrap_err();
    assert!(matches!(refused, StartError::Newer(_)), "{refused}");
}
