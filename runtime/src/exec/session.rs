//! Ending a program whose caller is gone, with everything in its session.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::cgroup::Cgroup;
use crate::sys;

/// How long a program may take to end by itself once it is hung up.
const GRACE: Duration = Duration::from_secs(2);
/// How often the rest of a session is looked for: each look finds what was born during the one before.
const LOOKS: u32 = 100;

/// The processes that a program started and that did not leave its session.
pub(super) struct Session<'a> {
    /// The program, not buried yet: its number names the session.
    pub(super) leader: i32,
    pub(super) pidfd: &'a OwnedFd,
    pub(super) cgroup: &'a Cgroup,
}

impl Session<'_> {
    /// Hangs up, waits a while, kills, and buries the program.
    pub(super) fn end(&self) {
        for pid in self.processes() {
            // A process that is gone is what we want; one that is stopped must run to hear it.
            let _ = sys::kill(pid, libc::SIGHUP);
            let _ = sys::kill(pid, libc::SIGCONT);
        }
        let deadline = sys::monotonic() + GRACE;
        while !self.leader_ended(deadline.saturating_sub(sys::monotonic()))
            && sys::monotonic() < deadline
        {}
        // How it ended is for nobody any more.
        let _ = self.kill();
    }

    /// Kills what is there, and buries the program: how it ended.
    pub(super) fn kill(&self) -> io::Result<sys::WaitStatus> {
        for _ in 0..LOOKS {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            for pid in left {
                let _ = sys::kill(pid, libc::SIGKILL);
            }
            // Killed processes take a moment to go.
            std::thread::sleep(Duration::from_millis(5));
        }
        sys::wait_child(self.leader)
    }

    /// Waits at most this long for the program's end.
    fn leader_ended(&self, limit: Duration) -> bool {
        let mut fds = [PollFd::new(self.pidfd, PollFlags::IN)];
        let limit = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        poll(&mut fds, Some(&limit)).is_ok_and(|ready| ready > 0)
    }

    /// The live processes of the session.
    fn processes(&self) -> Vec<i32> {
        let all = self.cgroup.processes().unwrap_or_default();
        all.into_iter().filter(|pid| *pid > 0 && session(*pid) == Some(self.leader)).collect()
    }
}

/// The session of a live process.
fn session(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything; what follows its bracket does not.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    let session = fields.nth(2)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(session)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_session() {
        let own = i32::try_from(std::process::id()).unwrap();
        let wanted = rustix::process::getsid(None).unwrap().as_raw_pid();
        assert_eq!(session(own), Some(wanted));
        assert_eq!(session(i32::MAX), None);
    }
}
