//! How long tasks may run without the word of a leader. The word is the answer to a heartbeat; what counts is when that
//! heartbeat was sent, by the clock that runs from the boot on, also while the host is suspended. It stands in a file
//! that goes with the host's power, for an agent that is restarted, and for the shims, which keep to it where no agent
//! is left.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use swarm_proto::assignment::TaskAssignment;
use tokio::sync::watch;

/// The file's name, in the folder of sockets.
pub(crate) const FILE: &str = "lease";
/// Tells one boot from another.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// At least so often the clock is looked at: timers stand still while the host is suspended.
const LOOK: Duration = Duration::from_millis(250);

/// Whether a task may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Standing {
    /// It may.
    #[default]
    Valid,
    /// It must stop.
    Expired,
    /// It has had its time to stop.
    Overdue,
}

/// Since the boot.
pub(crate) fn now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The word of a leader, as it was given last.
#[derive(Debug)]
pub struct Lease {
    file: PathBuf,
    boot: String,
    /// When the heartbeat was sent that a leader answered last.
    renewed: watch::Sender<Option<Duration>>,
}

impl Lease {
    /// Goes on with what an earlier agent of the same boot was told.
    pub fn open(run_dir: &Path) -> io::Result<Self> {
        let boot = fs::read_to_string(BOOT_ID)?.trim().to_owned();
        let file = run_dir.join(FILE);
        let text = fs::read_to_string(&file).unwrap_or_default();
        let renewed = read(&text, &boot).filter(|renewed| *renewed <= now());
        Ok(Self { file, boot, renewed: watch::channel(renewed).0 })
    }

    /// Where the word stands.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// A leader answered the heartbeat that was sent then.
    pub fn renew(&self, sent: Duration) {
        let is_newer = |renewed: &mut Option<Duration>| {
            let newer = renewed.is_none_or(|known| known < sent);
            *renewed = (*renewed).max(Some(sent));
            newer
        };
        if !self.renewed.send_if_modified(is_newer) {
            return;
        }
        // Whoever reads it sees the old word or the new one.
        let text = format!("{} {}\n", self.boot, sent.as_millis());
        let new = self.file.with_extension("new");
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &self.file));
        if let Err(error) = written {
            tracing::error!(path = %self.file.display(), %error, "cannot note the word of a leader");
        }
    }

    /// Whether a task may run now.
    pub fn standing(&self, task: &TaskAssignment) -> Standing {
        match task.lease {
            Some(lease) => {
                let grace = task.container.stop_grace_period;
                standing(*self.renewed.borrow(), now(), lease, grace)
            }
            None => Standing::Valid,
        }
    }

    /// Waits until it is not as it was.
    pub async fn changed(&self, task: &TaskAssignment, before: Standing) {
        if task.lease.is_none() {
            return std::future::pending().await;
        }
        while self.standing(task) == before {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The time in a file of this boot.
fn read(text: &str, boot: &str) -> Option<Duration> {
    let (written_in, time) = text.trim().split_once(' ')?;
    let time = time.parse().ok().map(Duration::from_millis)?;
    (written_in == boot).then_some(time)
}

fn standing(
    renewed: Option<Duration>,
    now: Duration,
    lease: Duration,
    grace: Duration,
) -> Standing {
    let Some(renewed) = renewed else { return Standing::Overdue };
    let end = renewed.saturating_add(lease);
    if now < end {
        Standing::Valid
    } else if now < end.saturating_add(grace) {
        Standing::Expired
    } else {
        Standing::Overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_lease_runs_out_and_then_its_grace() {
        let seconds = Duration::from_secs;
        let at = |now| standing(Some(seconds(100)), seconds(now), seconds(4), seconds(10));
        assert_eq!(at(103), Standing::Valid);
        assert_eq!(at(104), Standing::Expired);
        assert_eq!(at(113), Standing::Expired);
        assert_eq!(at(114), Standing::Overdue);
        assert_eq!(standing(None, seconds(1), seconds(4), seconds(10)), Standing::Overdue);
    }

    #[test]
    fn the_word_outlives_the_agent_and_not_the_boot() {
        let folder = tempfile::tempdir().unwrap();
        let mut task = testing::task("1.1.1");
        task.lease = Some(Duration::from_mins(1));
        let lease = Lease::open(folder.path()).unwrap();
        assert_eq!(lease.standing(&task), Standing::Overdue, "nobody gave any");
        lease.renew(now());
        lease.renew(Duration::ZERO);
        assert_eq!(lease.standing(&task), Standing::Valid, "an older word takes nothing away");
        let again = Lease::open(folder.path()).unwrap();
        assert_eq!(again.standing(&task), Standing::Valid);
        let text = fs::read_to_string(lease.file()).unwrap();
        let (_, time) = text.split_once(' ').unwrap();
        for other in [format!("another-boot {time}"), String::new(), "x".to_owned()] {
            fs::write(lease.file(), other).unwrap();
            let other = Lease::open(folder.path()).unwrap();
            assert_eq!(other.standing(&task), Standing::Overdue);
        }
        task.lease = None;
        assert_eq!(Lease::open(folder.path()).unwrap().standing(&task), Standing::Valid);
    }
}
