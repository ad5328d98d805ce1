//! What released programs wrote is read as it was meant: logs, snapshots and backups kept as fixtures.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use expect_test::{ExpectFile, expect_file};
use flate2::read::GzDecoder;
use swarm_controller::core::{Core, CoreConfig, Input, Output, State};
use swarm_controller::shell::disk::DiskStore;
use swarm_proto::id::{RaftId, Timestamp};
use swarm_proto::version::ClusterVersion;

use crate::SYNC;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// What a state holds, but for what no two clusters share: keys and certificates.
fn describe(state: &State) -> String {
    let mut text = format!(
        "clock {} version {} applied {} checksum {:016x} cluster version {}\n{:?}\n",
        state.clock.0,
        state.version,
        state.applied,
        state.checksum,
        state.cluster_version,
        state.next
    );
    if let Some(cluster) = &state.cluster {
        let _ = writeln!(
            text,
            "cluster heartbeat {:?} down after {:?} history {} pools {:?} /{} port {} vni {:#x}",
            cluster.heartbeat,
            cluster.node_down_after,
            cluster.task_history,
            cluster.address_pools,
            cluster.subnet_prefix_length,
            cluster.vxlan_port,
            cluster.vni_base
        );
    }
    let mut list = |what: &str, lines: Vec<String>| {
        for line in lines {
            let _ = writeln!(text, "{what} {line}");
        }
    };
    let line = |object: String, versions: String| format!("{versions} {object}");
    macro_rules! objects {
        ($($map:ident),*) => {$(
            let found = state.$map.values();
            let lines = found.map(|o| line(format!("{:?}", o.object), format!("{:?}", o.versions)));
            list(stringify!($map), lines.collect());
        )*};
    }
    objects!(stacks, services, tasks, nodes, networks, volumes);
    list("slot", state.slots.iter().map(|slot| format!("{slot:?}")).collect());
    list("cursor", state.cursors.iter().map(|cursor| format!("{cursor:?}")).collect());
    list("quarantine", state.quarantine.iter().map(|held| format!("{held:?}")).collect());
    list("spec", state.specs.keys().map(|key| format!("{key:?}")).collect());
    list("requests", vec![state.requests.len().to_string()]);
    text
}

/// Lets a controller go on from a disk until it has applied all of it.
fn catch_up(core: &mut Core, end: u64) {
    let mut inputs = Vec::new();
    for _ in 0..80 {
        inputs.push(Input::Tick);
        while let Some(input) = inputs.pop() {
            // A clock that stands still: nothing becomes due.
            for output in core.handle(input, Timestamp(0)) {
                match output {
                    Output::Persist(batch) => {
                        inputs.push(Input::Persisted { batch: batch.number, micros: SYNC });
                    }
                    Output::Fatal(reason) => panic!("{reason}"),
                    _ => {}
                }
            }
        }
        if core.state().applied >= end {
            return;
        }
    }
    panic!("entry {} of {end} was applied last", core.state().applied);
}

/// Opens a controller's folder with this program, twice: the first time may take it over.
fn check_disk(archive: &str, golden: &ExpectFile) {
    let folder = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(fixture(archive)).unwrap();
    tar::Archive::new(GzDecoder::new(bytes.as_slice())).unpack(folder.path()).unwrap();
    for _ in 0..2 {
        let (store, recovered) = DiskStore::open(folder.path()).unwrap();
        drop(store);
        let end = recovered.entries.last().unwrap().index;
        // As release 0.1.0 read it, then as this one goes on with it.
        let config = CoreConfig::new(RaftId(1), recovered.clone());
        let mut old = Core::new(CoreConfig { knows: ClusterVersion::FIRST, ..config }).unwrap();
        assert!(old.state().tasks.len() >= 4, "the snapshot holds tasks");
        catch_up(&mut old, end);
        golden.assert_eq(&describe(old.state()));
        let mut new = Core::new(CoreConfig::new(RaftId(1), recovered)).unwrap();
        catch_up(&mut new, end + 2);
        assert_eq!(new.state().cluster_version, ClusterVersion::NEWEST, "its only controller");
    }
}

#[test]
fn a_log_in_sled_is_taken_over() {
    check_disk("0.1.0/sled.tar.gz", &expect_file!["../fixtures/0.1.0/sled.txt"]);
}

#[test]
fn a_log_in_segments_is_read() {
    check_disk("0.1.0/segments.tar.gz", &expect_file!["../fixtures/0.1.0/segments.txt"]);
}

#[test]
fn a_backup_is_read_and_written_back_as_it_was() {
    let bytes = std::fs::read(fixture("0.1.0/backup")).unwrap();
    let backup = swarm_proto::backup::decode(&bytes, None).unwrap();
    let state = State::from_bytes(&backup.state).unwrap();
    expect_file!["../fixtures/0.1.0/backup.txt"].assert_eq(&describe(&state));
    assert_eq!(describe(&State::from_bytes(&state.to_bytes()).unwrap()), describe(&state));
}
