//! The small init: passes signals on to the program and buries orphans.

use std::io;

use crate::sys;

/// Runs until the program ends, and ends as it did. All signals are blocked already, so that none was lost.
pub(super) fn run(program: i32) -> ! {
    // Nothing of this process is needed any more; the streams are the program's.
    let _ = sys::close_range(0, u32::MAX);
    loop {
        // First: it may have ended before its signal was waited for.
        if let Some(code) = bury(program) {
            sys::exit_now(code);
        }
        match sys::next_signal() {
            Ok(libc::SIGCHLD) => {}
            // When it has just ended there is nobody to tell.
            Ok(signal) => drop(sys::kill(program, signal)),
            Err(_) => sys::exit_now(super::NOT_RUNNABLE),
        }
    }
}

/// Buries every process that has ended; the exit code of the program when it was among them.
fn bury(program: i32) -> Option<i32> {
    let mut code = None;
    loop {
        match sys::wait_any() {
            Ok(Some((pid, status))) if pid == program => code = Some(status.code()),
            Ok(Some(_)) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(None) | Err(_) => return code,
        }
    }
}
