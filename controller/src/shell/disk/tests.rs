mod damage;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;
use crate::core::{DiskEntry, DiskSnapshot, Recovered, SnapshotBody, State};

fn batch(number: u64) -> DiskBatch {
    DiskBatch {
        number,
        truncate_from: None,
        snapshot: None,
        compact_to: None,
        entries: Vec::new(),
        hard_state: None,
    }
}

fn entry(index: u64, term: u64, size: usize) -> DiskEntry {
    let byte = u8::try_from((index + term) % 251).unwrap();
    DiskEntry { index, term, data: vec![byte; size] }
}

fn open(path: &Path) -> (DiskStore, Recovered) {
    DiskStore::open(path).unwrap()
}

/// What the disk should hold.
#[derive(Debug, Default, PartialEq)]
struct Model {
    entries: BTreeMap<u64, DiskEntry>,
    hard_state: Option<Vec<u8>>,
    snapshot: Option<(u64, u64, Vec<u8>)>,
}

impl Model {
    fn write(&mut self, batch: &DiskBatch) {
        if let Some(from) = batch.truncate_from {
            self.entries.split_off(&from);
        }
        if let Some(snapshot) = &batch.snapshot {
            self.snapshot = Some((snapshot.index, snapshot.term, snapshot.encode()));
        }
        if let Some(index) = batch.compact_to {
            self.entries = self.entries.split_off(&(index + 1));
        }
        self.entries.extend(batch.entries.iter().map(|entry| (entry.index, entry.clone())));
        self.hard_state = batch.hard_state.clone().or(self.hard_state.take());
    }

    fn last(&self) -> u64 {
        let start = self.snapshot.as_ref().map_or(0, |(index, ..)| *index);
        self.entries.keys().next_back().copied().unwrap_or(start)
    }
}

fn as_model(recovered: Recovered) -> Model {
    Model {
        entries: recovered.entries.into_iter().map(|entry| (entry.index, entry)).collect(),
        hard_state: recovered.hard_state,
        snapshot: recovered.snapshot,
    }
}

#[derive(Debug, Clone)]
enum Step {
    Append { count: u64, size: usize },
    Overwrite { back: u64, count: u64 },
    Snapshot { trailing: u64 },
    Install { ahead: u64 },
    HardState(u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_u64..20, 0_usize..6_000).prop_map(|(count, size)| Step::Append { count, size }),
        2 => (1_u64..10, 1_u64..5).prop_map(|(back, count)| Step::Overwrite { back, count }),
        2 => (0_u64..8).prop_map(|trailing| Step::Snapshot { trailing }),
        1 => (1_u64..50).prop_map(|ahead| Step::Install { ahead }),
        2 => any::<u8>().prop_map(Step::HardState),
        1 => Just(Step::Reopen),
    ]
}

fn snapshot(index: u64, term: u64) -> DiskSnapshot {
    let body = SnapshotBody::Encoded(vec![u8::try_from(index % 251).unwrap(); 3_000]);
    DiskSnapshot { index, term, body }
}

fn batch_for(step: &Step, number: u64, model: &Model) -> DiskBatch {
    let last = model.last();
    let mut batch = batch(number);
    match step {
        Step::Append { count, size } => {
            batch.entries = (1..=*count).map(|n| entry(last + n, number, *size)).collect();
        }
        Step::Overwrite { back, count } => {
            let kept = model.snapshot.as_ref().map_or(0, |(index, ..)| *index);
            let from = last.saturating_sub(*back).max(kept) + 1;
            batch.truncate_from = Some(from);
            batch.entries = (0..*count).map(|n| entry(from + n, number, 700)).collect();
        }
        Step::Snapshot { trailing } => {
            batch.snapshot = Some(snapshot(last, number));
            batch.compact_to = Some(last.saturating_sub(*trailing));
        }
        Step::Install { ahead } => {
            batch.truncate_from = Some(0);
            batch.snapshot = Some(snapshot(last + ahead, number));
        }
        Step::HardState(byte) => batch.hard_state = Some(vec![*byte; 20]),
        Step::Reopen => {}
    }
    batch
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn any_history_is_read_back(steps in prop::collection::vec(step(), 1..25)) {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(dir.path());
        let mut model = Model::default();
        for (number, step) in (1..).zip(&steps) {
            if matches!(step, Step::Reopen) {
                drop(store);
                let (again, recovered) = open(dir.path());
                store = again;
                prop_assert_eq!(&as_model(recovered), &model);
            }
            let batch = batch_for(step, number, &model);
            store.write(std::slice::from_ref(&batch)).unwrap();
            model.write(&batch);
        }
        drop(store);
        prop_assert_eq!(as_model(open(dir.path()).1), model);
    }
}

#[test]
fn many_batches_share_a_sync_and_the_last_write_wins() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let mut model = Model::default();
    let steps = [
        Step::Append { count: 5, size: 20_000 },
        Step::Overwrite { back: 3, count: 1 },
        Step::Append { count: 2, size: 10 },
        Step::HardState(1),
        Step::HardState(2),
    ];
    let mut batches = Vec::new();
    for (number, step) in (1..).zip(&steps) {
        let batch = batch_for(step, number, &model);
        model.write(&batch);
        batches.push(batch);
    }
    store.write(&batches).unwrap();
    drop(store);
    assert_eq!(as_model(open(dir.path()).1), model);
}

#[test]
fn a_gap_is_refused_when_written_and_when_read() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let mut gap = batch(1);
    gap.entries = vec![entry(1, 1, 1), entry(3, 1, 1)];
    let error = store.write(&[gap]).unwrap_err();
    assert_eq!(error.to_string(), "entry 3 was written where entry 2 should follow");

    let mut start = batch(1);
    start.entries = vec![entry(5, 1, 1)];
    drop(store);
    let (mut store, _) = open(dir.path());
    store.write(&[start]).unwrap();
    drop(store);
    let refused = DiskStore::open(dir.path()).err().unwrap().to_string();
    assert!(refused.contains("damaged: entry 1 is missing\n\nhint: remove this"), "{refused}");
}

#[test]
fn a_snapshot_of_its_own_is_made_beside_the_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let mut first = batch(1);
    first.entries = (1..=9).map(|index| entry(index, 1, 100)).collect();
    store.write(&[first]).unwrap();
    for index in [5, 7] {
        let mut own = batch(index);
        let state = Box::new(State { applied: index, ..State::default() });
        let body = SnapshotBody::State { state, conf_state: Vec::new() };
        own.snapshot = Some(DiskSnapshot { index, term: 1, body });
        own.compact_to = Some(index - 2);
        own.hard_state = Some(vec![7]);
        store.write(&[own]).unwrap();
    }
    let mut last = batch(9);
    last.entries = vec![entry(10, 1, 100)];
    last.hard_state = Some(vec![8]);
    store.write(&[last]).unwrap();
    while store.rest().unwrap() {
        std::thread::yield_now();
    }
    drop(store);
    let model = as_model(open(dir.path()).1);
    assert_eq!(model.snapshot.map(|(index, term, _)| (index, term)), Some((7, 1)));
    assert_eq!(model.entries.keys().copied().collect::<Vec<_>>(), [6, 7, 8, 9, 10]);
    assert_eq!(model.hard_state, Some(vec![8]));
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let mut install = batch(1);
    install.snapshot = Some(snapshot(9, 1));
    store.write(&[install]).unwrap();
    drop(store);
    std::fs::write(dir.path().join("snapshots/snapshot-9-1"), "short").unwrap();
    let refused = DiskStore::open(dir.path()).err().unwrap();
    assert!(matches!(refused, DiskError::File { action: "read", .. }), "{refused}");
}

#[test]
fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(dir.path());
    let refused = DiskStore::open(dir.path()).err().unwrap().to_string();
    assert!(refused.ends_with("is in use by another controller"), "{refused}");
}

/// Not a test of its own: the process that `an_acknowledged_write_outlives_the_process` kills.
#[test]
fn writer_process() {
    let Ok(path) = std::env::var("SWARM_TEST_WRITER") else { return };
    let (mut store, recovered) = open(Path::new(&path));
    let mut model = as_model(recovered);
    for number in 1.. {
        let step = match number % 16 {
            0 => Step::Snapshot { trailing: 5 },
            7 => Step::Overwrite { back: 2, count: 4 },
            _ => Step::Append { count: 8, size: 3_000 },
        };
        let batch = batch_for(&step, number, &model);
        store.write(std::slice::from_ref(&batch)).unwrap();
        model.write(&batch);
        let digest = SnapshotDigest::of(&model);
        let mut out = std::io::stderr().lock();
        writeln!(out, "acknowledged {} {}", digest.last, digest.term).unwrap();
    }
}

/// The end of a log: a later write may have followed, but nothing may be missing before it.
struct SnapshotDigest {
    last: u64,
    term: u64,
}

impl SnapshotDigest {
    fn of(model: &Model) -> Self {
        let term = model.entries.values().next_back().map_or(0, |entry| entry.term);
        Self { last: model.last(), term }
    }
}

#[test]
fn an_acknowledged_write_outlives_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    for round in 0..8 {
        let mut child = Command::new(&program)
            .args(["--exact", "shell::disk::tests::writer_process", "--nocapture"])
            .env("SWARM_TEST_WRITER", dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut acknowledged = lines.map_while(Result::ok).filter_map(|line| {
            let (last, term) = line.strip_prefix("acknowledged ")?.split_once(' ')?;
            Some((last.parse::<u64>().ok()?, term.parse::<u64>().ok()?))
        });
        let some = acknowledged.by_ref().take(3 + 4 * round).last();
        child.kill().unwrap();
        child.wait().unwrap();
        let (last, term) = acknowledged.last().or(some).expect("the writer wrote something");
        let (_store, recovered) = open(dir.path());
        let model = as_model(recovered);
        // One unacknowledged step may have replaced the last two entries.
        assert!(model.last() + 2 >= last, "{} is missing, the log ends at {}", last, model.last());
        if let Some(found) = model.entries.get(&last) {
            assert!(found.term >= term);
        }
        for found in model.entries.values() {
            let byte = u8::try_from((found.index + found.term) % 251).unwrap();
            assert!(found.data.iter().all(|found| *found == byte));
        }
    }
}
