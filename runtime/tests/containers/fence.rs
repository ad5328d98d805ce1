//! Containers that may run only as long as somebody says so.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use swarm_runtime::{ContainerStatus, Fence};

use crate::support::Fixture;

const AFTER: Duration = Duration::from_millis(1_500);

/// Somebody says now that it may run.
fn renew(file: &Path) {
    let now = clock_gettime(ClockId::Boottime);
    fs::write(file, format!("boot {}\n", now.tv_sec * 1_000 + now.tv_nsec / 1_000_000)).unwrap();
}

#[test]
fn a_container_is_killed_once_nobody_says_that_it_may_run() {
    let mut fixture = Fixture::script("trap '' TERM; while true; do sleep 1; done");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lease");
    renew(&file);
    fixture.options.fence = Some(Fence { file: file.clone(), after: AFTER });
    let container = fixture.start();
    for _ in 0..6 {
        sleep(Duration::from_millis(500));
        assert!(matches!(container.status().unwrap(), ContainerStatus::Running { .. }));
        renew(&file);
    }
    let silent = Instant::now();
    let record = container.wait().unwrap();
    let lasted = silent.elapsed();
    assert!(lasted + Duration::from_millis(50) >= AFTER && lasted < AFTER * 3, "{lasted:?}");
    assert_eq!((record.code, record.signal), (137, Some(9)), "{record:?}");
    let why = "killed: no controller was in reach for too long";
    assert_eq!(record.message.as_deref(), Some(why));
    container.delete().unwrap();
}
