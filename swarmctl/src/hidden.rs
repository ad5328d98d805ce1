//! A line that a person types and nobody shall see.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use swarm_proto::object::Secret;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::output;

/// The longest line, in bytes.
const LONGEST: usize = 8 << 10;

/// Reads a line from standard input, without its end; from a terminal after a prompt, and without showing it. The
/// terminal is as before on return, also when a signal ended the wait.
pub(crate) async fn read_line(prompt: &str) -> Result<Secret, Failure> {
    if !io::stdin().is_terminal() {
        return typed().await;
    }
    let listen =
        |kind| signal(kind).map_err(|error| Failure::because("cannot listen to signals", &error));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let _silent = Silent::enter()?;
    output::talk(prompt);
    let stopped = || Err(Failure::refused("stopped by a signal before anything was done"));
    tokio::select! {
        line = typed() => line,
        _ = interrupt.recv() => stopped(),
        _ = terminate.recv() => stopped(),
        _ = hangup.recv() => stopped(),
    }
}

/// Reads on a thread of its own, which may wait there until this program ends.
async fn typed() -> Result<Secret, Failure> {
    let (sender, line) = oneshot::channel();
    // An error of the channel means that nobody waits any more.
    std::thread::spawn(move || drop(sender.send(read())));
    let line =
        line.await.map_err(|error| Failure::because("cannot read standard input", &error))?;
    line.map_err(|error| Failure::because("cannot read standard input", &error))
}

/// Reads past the buffer of the standard library, which is not cleared.
fn read() -> io::Result<Secret> {
    let input = io::stdin();
    let mut bytes = Zeroizing::new([0; LONGEST]);
    let mut length = 0;
    while length < LONGEST && !bytes[..length].contains(&b'\n') {
        match rustix::io::read(input.as_fd(), &mut bytes[length..])? {
            0 => break,
            more => length += more,
        }
    }
    let line = bytes[..length].split(|byte| *byte == b'\n').next().unwrap_or_default();
    let text = std::str::from_utf8(line).map_err(io::Error::other)?;
    Ok(Secret::new(text.trim().to_owned()))
}

/// The standard input's terminal while it shows nothing of what is typed but the line's end; as it was when dropped.
struct Silent {
    before: Termios,
}

impl Silent {
    fn enter() -> Result<Self, Failure> {
        let failed = |error| Failure::because("cannot set the terminal", &error);
        let input = io::stdin();
        let before = tcgetattr(input.as_fd()).map_err(failed)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(input.as_fd(), OptionalActions::Flush, &silent).map_err(failed)?;
        Ok(Self { before })
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // When the terminal is gone there is nothing to put back.
        let _ = tcsetattr(io::stdin().as_fd(), OptionalActions::Now, &self.before);
    }
}
