//! What a controller keeps on its disk.

use std::fs;
use std::path::Path;

use swarm_tests::bench::Outcome;
use swarm_tests::bench::host::Host;

/// The last entry in a host's snapshot file, and the size of that file in bytes.
pub(crate) fn snapshot(host: &Host) -> Outcome<(u64, u64)> {
    let folder = host.folder.join("state/controller/snapshots");
    let found = fs::read_dir(folder)?.filter_map(|found| {
        let path = found.ok()?.path();
        Some((index_of(&path)?, fs::metadata(&path).ok()?.len()))
    });
    found.max().ok_or_else(|| "it has no snapshot".into())
}

/// `None` for a file that is being made.
fn index_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_prefix("snapshot-")?;
    name.split_once('-')?.0.parse().ok()
}
