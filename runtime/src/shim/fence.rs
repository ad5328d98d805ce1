//! The end of a container whose host has lost touch: the agent stops it in time, and where there is no agent to do so,
//! this process kills it. The clock runs also while the host is suspended.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::message::Fence;
use crate::sys;

/// Between two kills, if one is not enough.
const AGAIN: Duration = Duration::from_secs(1);

/// Watches until when a container may run.
pub(super) struct FenceTimer {
    fence: Fence,
    timer: OwnedFd,
    /// The last word that could be read, in time since the boot.
    renewed: Duration,
}

impl FenceTimer {
    /// Begins to watch. The caller's later children would inherit it: there must be none.
    pub(super) fn begin(fence: Fence) -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        // Without a word the time counts from now.
        let renewed = last_word(&fence).unwrap_or_else(sys::since_boot);
        let this = Self { fence, timer, renewed };
        this.wind(this.end())?;
        Ok(this)
    }

    /// Whether the container's time is over. If not, the timer goes on.
    pub(super) fn is_over(&mut self) -> bool {
        let mut expirations = [0; 8];
        // How often it went off does not matter.
        let _ = rustix::io::read(&self.timer, &mut expirations);
        self.renewed = last_word(&self.fence).unwrap_or(self.renewed);
        let now = sys::since_boot();
        let is_over = self.end() <= now;
        let next = if is_over { now + AGAIN } else { self.end() };
        // A timer that stands is set again with the same call as a new one: what worked once works.
        let _ = self.wind(next);
        is_over
    }

    fn end(&self) -> Duration {
        self.renewed.saturating_add(self.fence.after)
    }

    fn wind(&self, at: Duration) -> io::Result<()> {
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: i64::try_from(at.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: at.subsec_nanos().into(),
            },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once)?;
        Ok(())
    }
}

impl AsFd for FenceTimer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

/// The last number of the file: milliseconds since the boot.
fn last_word(fence: &Fence) -> Option<Duration> {
    let text = fs::read_to_string(&fence.file).ok()?;
    text.split_whitespace().last()?.parse().ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_only_once_the_word_is_too_old() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lease");
        let write = |at: Duration| fs::write(&file, format!("boot {}\n", at.as_millis())).unwrap();
        write(sys::since_boot());
        let fence = Fence { file: file.clone(), after: Duration::from_mins(1) };
        let mut timer = FenceTimer::begin(fence).unwrap();
        assert!(!timer.is_over());
        write(sys::since_boot().saturating_sub(Duration::from_secs(61)));
        assert!(timer.is_over());
        fs::remove_file(&file).unwrap();
        assert!(timer.is_over(), "the last word counts");
        write(sys::since_boot());
        assert!(!timer.is_over());
    }
}
