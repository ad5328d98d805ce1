//! Crashes, damage and logs of an older version.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::shell::disk::index::Index;

const SEGMENT: &str = "log/0000000000000001";

/// The segment's bytes that were written, from the front.
fn written(path: &Path) -> usize {
    fs::read(path).unwrap().iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

fn history(dir: &Path, steps: &[Step]) -> Model {
    let (mut store, _) = open(dir);
    let mut model = Model::default();
    for (number, step) in (1..).zip(steps) {
        let batch = batch_for(step, number, &model);
        store.write(std::slice::from_ref(&batch)).unwrap();
        model.write(&batch);
    }
    model
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut content = fs::read(path).unwrap();
    change(&mut content);
    fs::write(path, content).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for found in fs::read_dir(from).unwrap() {
        let found = found.unwrap();
        let to = to.join(found.file_name());
        if found.path().is_dir() {
            copy(&found.path(), &to);
        } else {
            fs::copy(found.path(), to).unwrap();
        }
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(dir.join("log")).unwrap();
    let mut paths: Vec<PathBuf> = found.map(|found| found.unwrap().path()).collect();
    paths.sort();
    paths
}

fn small_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_u64..6, 0_usize..2_000).prop_map(|(count, size)| Step::Append { count, size }),
        2 => (1_u64..10, 1_u64..5).prop_map(|(back, count)| Step::Overwrite { back, count }),
        1 => any::<u8>().prop_map(Step::HardState),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn a_crash_at_any_byte_of_a_write_leaves_what_was_acknowledged(
        steps in prop::collection::vec(small_step(), 0..8),
        last in small_step(),
        at in any::<prop::sample::Index>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let before = history(dir.path(), &steps);
        let segment = dir.path().join(SEGMENT);
        let begin = if segment.exists() { written(&segment) } else { 0 };
        let (mut store, _) = open(dir.path());
        store.write(&[batch_for(&last, 100, &before)]).unwrap();
        drop(store);
        let end = written(&segment);
        let cut = begin + at.index(end - begin);
        change(&segment, |content| content[cut..].fill(0));
        let (mut store, recovered) = open(dir.path());
        prop_assert_eq!(&as_model(recovered), &before);

        // The log goes on from there.
        let batch = batch_for(&last, 101, &before);
        store.write(std::slice::from_ref(&batch)).unwrap();
        drop(store);
        let mut after = before;
        after.write(&batch);
        prop_assert_eq!(as_model(open(dir.path()).1), after);
    }

    #[test]
    fn a_flipped_bit_is_refused(
        steps in prop::collection::vec(small_step(), 1..8),
        at in any::<prop::sample::Index>(),
        bit in 0_u32..8,
    ) {
        let dir = tempfile::tempdir().unwrap();
        history(dir.path(), &steps);
        let segment = dir.path().join(SEGMENT);
        let at = at.index(written(&segment));
        change(&segment, |content| content[at] ^= 1 << bit);
        let refused = DiskStore::open(dir.path()).err().map(|error| error.to_string());
        let refused = refused.unwrap_or_default();
        prop_assert!(refused.contains("is damaged: "), "{}", refused);
        prop_assert!(refused.contains("hint: remove this controller"), "{}", refused);
    }
}

#[test]
fn the_log_stays_small_and_its_old_segments_may_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let mut model = Model::default();
    let saved = tempfile::tempdir().unwrap();
    for number in 1..=60 {
        let step = match number % 6 {
            0 => Step::Snapshot { trailing: 3 },
            _ => Step::Append { count: 20, size: 40_000 },
        };
        let batch = batch_for(&step, number, &model);
        store.write(std::slice::from_ref(&batch)).unwrap();
        model.write(&batch);
        // What is kept, the segment that is written, and the one made ahead.
        assert!(segments(dir.path()).len() <= 4, "{:?}", segments(dir.path()));
        if number == 13 {
            // The next one is just being made, beside this, under a name that it loses again.
            let whole = |path: &PathBuf| path.file_name() != Some("new".as_ref());
            for path in segments(dir.path()).into_iter().filter(whole) {
                fs::copy(&path, saved.path().join(path.file_name().unwrap())).unwrap();
            }
        }
    }
    drop(store);
    let first = segments(dir.path())[0].file_name().unwrap().to_owned();
    assert!(first.to_str().unwrap().parse::<u64>().unwrap() > 3, "{first:?}");
    for old in fs::read_dir(saved.path()).unwrap() {
        let old = old.unwrap();
        if old.file_name() < first {
            fs::copy(old.path(), dir.path().join("log").join(old.file_name())).unwrap();
        }
    }
    assert_eq!(as_model(open(dir.path()).1), model);
    assert_eq!(segments(dir.path())[0].file_name().unwrap(), first);
}

#[test]
fn a_missing_segment_is_refused() {
    for gone in 0..2 {
        let dir = tempfile::tempdir().unwrap();
        history(dir.path(), &vec![Step::Append { count: 20, size: 40_000 }; 25]);
        let paths = segments(dir.path());
        assert!(paths.len() > 3, "{paths:?}");
        fs::remove_file(&paths[gone]).unwrap();
        let refused = DiskStore::open(dir.path()).err().unwrap().to_string();
        assert!(refused.contains("damaged: entry 1 is missing"), "{refused}");
    }
}

#[test]
fn a_damaged_end_before_another_segment_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    history(dir.path(), &vec![Step::Append { count: 20, size: 40_000 }; 15]);
    let first = dir.path().join(SEGMENT);
    let end = written(&first);
    change(&first, |content| content[end - 5..].fill(0));
    let refused = DiskStore::open(dir.path()).err().unwrap().to_string();
    assert!(refused.contains("records before it are missing"), "{refused}");
}

#[test]
fn a_snapshot_that_the_log_does_not_know_yet_replaces_it() {
    let dir = tempfile::tempdir().unwrap();
    let steps = [Step::Append { count: 9, size: 10 }, Step::HardState(3)];
    let before = history(dir.path(), &steps);
    let saved = tempfile::tempdir().unwrap();
    copy(&dir.path().join("log"), saved.path());
    let (mut store, _) = open(dir.path());
    store.write(&[batch_for(&Step::Install { ahead: 4 }, 9, &before)]).unwrap();
    drop(store);
    fs::remove_dir_all(dir.path().join("log")).unwrap();
    copy(saved.path(), &dir.path().join("log"));

    for _ in 0..2 {
        let (_store, recovered) = open(dir.path());
        assert_eq!(recovered.snapshot.map(|(index, term, _)| (index, term)), Some((13, 9)));
        assert_eq!((recovered.entries, recovered.hard_state), (vec![], before.hard_state.clone()));
    }
}

#[test]
fn a_snapshot_of_its_own_that_the_log_does_not_know_yet_leaves_the_entries() {
    let dir = tempfile::tempdir().unwrap();
    let before = history(dir.path(), &[Step::Append { count: 9, size: 10 }]);
    let saved = tempfile::tempdir().unwrap();
    copy(&dir.path().join("log"), saved.path());
    let (mut store, _) = open(dir.path());
    let mut own = batch(2);
    own.snapshot = Some(snapshot(7, 1));
    own.compact_to = Some(5);
    store.write(&[own]).unwrap();
    drop(store);
    fs::remove_dir_all(dir.path().join("log")).unwrap();
    copy(saved.path(), &dir.path().join("log"));

    let model = as_model(open(dir.path()).1);
    assert_eq!(model.snapshot.map(|(index, ..)| index), Some(7));
    assert_eq!(model.entries, before.entries);
}

#[test]
fn a_log_that_lost_its_snapshot_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    history(dir.path(), &[Step::Install { ahead: 4 }, Step::Append { count: 2, size: 10 }]);
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let refused = DiskStore::open(dir.path()).err().unwrap().to_string();
    assert!(refused.contains("the snapshot at entry 4 is missing"), "{refused}");
}

#[test]
fn the_log_of_version_0_1_0_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let entries: Vec<DiskEntry> = (3..30).map(|index| entry(index, 2, 20_000)).collect();
    let name = crate::shell::disk::snapshot::SnapshotDir::open(
        dir.path().join("snapshots"),
        std::sync::Arc::new(seal::Unsealed),
    )
    .unwrap()
    .write(8, 2, b"state".to_vec())
    .unwrap();
    let released = Index::open(&dir.path().join("log"), LOCK_PATIENCE).unwrap();
    released.write_released(b"hard state", 5, &entries);
    released.set_snapshot(&name).unwrap();
    drop(released);

    let kept: Vec<DiskEntry> = entries.into_iter().filter(|entry| entry.index > 5).collect();
    for round in 0..3 {
        let (mut store, recovered) = DiskStore::open_existing(dir.path(), LOCK_PATIENCE).unwrap();
        assert_eq!(recovered.hard_state.as_deref(), Some(b"hard state".as_slice()));
        assert_eq!(recovered.snapshot, Some((8, 2, b"state".to_vec())));
        assert_eq!(recovered.entries[..kept.len()], kept);
        assert_eq!(recovered.entries.len(), kept.len() + round);
        let mut next = batch(1);
        next.entries = vec![entry(30 + round as u64, 3, 10)];
        store.write(&[next]).unwrap();
    }
}
