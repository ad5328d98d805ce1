//! What the disk itself takes for a sync.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::time::Instant;

use swarm_tests::bench::{Outcome, folder};

const SYNCS: usize = 500;
const RECORD: usize = 512;

/// Prints the time of appending 512 bytes with a sync, to a file that grows and to one whose space is taken.
pub(crate) fn probe() -> Outcome<()> {
    let path = folder()?.join("raft-disk");
    for (what, taken) in [("a growing file", 0), ("space taken before", SYNCS * RECORD)] {
        let file = File::create(&path)?;
        file.write_all_at(&vec![0; taken], 0)?;
        file.sync_all()?;
        let mut micros = Vec::with_capacity(SYNCS);
        for at in 0..SYNCS {
            let begun = Instant::now();
            file.write_all_at(&[7; RECORD], (at * RECORD) as u64)?;
            file.sync_data()?;
            micros.push(begun.elapsed().as_micros());
        }
        micros.sort_unstable();
        let (p50, p99) = (micros[SYNCS / 2], micros[SYNCS * 99 / 100]);
        println!("  disk: write and sync of {RECORD} bytes, {what}: p50 {p50} µs, p99 {p99} µs");
    }
    fs::remove_file(path)?;
    Ok(())
}
