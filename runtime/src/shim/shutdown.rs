//! The host's shutdown: whoever carries it out asks every process to end, and waits for each, this one too, before what
//! is left is killed. systemd waits for 90 seconds, so that one program that ignores SIGTERM, as a first process does
//! unless it says otherwise, would hold up each reboot for so long.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use rustix::time::Timespec;

use crate::sys;

/// How long a container's processes have to end after the host has asked them, and this one.
const GRACE: Duration = Duration::from_secs(10);

/// Sees the shutdown come.
pub(super) struct Shutdown {
    asked: SignalFd,
    /// When the container is killed, by the clock that only goes forward.
    kill_at: Option<Duration>,
}

impl Shutdown {
    /// Begins to watch. The caller's later children would inherit it: there must be none.
    pub(super) fn watch() -> io::Result<Self> {
        Ok(Self { asked: sys::signal_source(Signal::SIGTERM)?, kill_at: None })
    }

    /// Whether the host has asked for the end, now or before.
    pub(super) fn has_begun(&mut self) -> bool {
        while let Ok(Some(_)) = self.asked.read_signal() {
            self.kill_at.get_or_insert_with(|| sys::monotonic() + GRACE);
        }
        self.kill_at.is_some()
    }

    /// Whether the container has had its time; then it gets as much again.
    pub(super) fn is_over(&mut self) -> bool {
        let now = sys::monotonic();
        let over = self.kill_at.is_some_and(|at| at <= now);
        if over {
            self.kill_at = Some(now + GRACE);
        }
        over
    }

    /// How long until [`Self::is_over`]; `None` is without end.
    pub(super) fn left(&self) -> Option<Timespec> {
        let left = self.kill_at?.saturating_sub(sys::monotonic());
        Some(Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() })
    }
}

impl AsFd for Shutdown {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.asked.as_fd()
    }
}
