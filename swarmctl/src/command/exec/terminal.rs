//! What the person does: types, resizes the terminal, sends signals.

use std::io::Read as _;
use std::os::fd::AsFd as _;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use swarm_proto::exec::CHUNK;
use swarm_proto::wire;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::failure::Failure;

/// What happened on this side.
pub(super) enum Event {
    Data(Vec<u8>),
    EndOfData,
    Resized(wire::TerminalSize),
    Signal(i32),
}

/// Everything that can happen on this side.
pub(super) struct Events {
    data: Option<mpsc::Receiver<Vec<u8>>>,
    resized: Option<Signal>,
    signals: mpsc::Receiver<i32>,
}

impl Events {
    /// Listens to the standard input, when that is wanted, to the terminal, and to signals.
    pub(super) fn listen(input: bool, terminal: bool) -> Result<Self, Failure> {
        let failed = |error| Failure::because("cannot listen to signals", &error);
        let resized = terminal.then(|| signal(SignalKind::window_change()));
        let resized = resized.transpose().map_err(failed)?;
        let (sender, signals) = mpsc::channel(1);
        for kind in [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
            SignalKind::quit(),
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
        ] {
            let mut stream = signal(kind).map_err(failed)?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while stream.recv().await.is_some() {
                    // Ends with this command.
                    if sender.send(kind.as_raw_value()).await.is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Self { data: input.then(read_input), resized, signals })
    }

    /// The next event. Data only when there is room for it. Safe to cancel.
    pub(super) async fn next(&mut self, has_room: bool) -> Event {
        loop {
            let data = async {
                match &mut self.data {
                    Some(data) if has_room => data.recv().await,
                    _ => std::future::pending().await,
                }
            };
            let resized = async {
                match &mut self.resized {
                    Some(resized) => resized.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(number) = self.signals.recv() => return Event::Signal(number),
                Some(()) = resized => {
                    if let Ok(size) = size() {
                        return Event::Resized(size);
                    }
                }
                bytes = data => {
                    return if let Some(bytes) = bytes {
                        Event::Data(bytes)
                    } else {
                        self.data = None;
                        Event::EndOfData
                    };
                }
            }
        }
    }
}

/// Reads the standard input on a thread of its own, which may wait there until this program ends.
fn read_input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, data) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut buffer = vec![0; CHUNK];
        while let Ok(got) = input.read(&mut buffer) {
            if got == 0 || sender.blocking_send(buffer[..got].to_vec()).is_err() {
                return;
            }
        }
    });
    data
}

/// The terminal's size: that of the standard input, else of the standard output.
pub(super) fn size() -> Result<wire::TerminalSize, Failure> {
    let (input, output) = (std::io::stdin(), std::io::stdout());
    let size = tcgetwinsize(input.as_fd()).or_else(|_| tcgetwinsize(output.as_fd()));
    let size = size.map_err(|_| {
        Failure::usage("neither standard input nor standard output is a terminal")
            .hint("leave out `--tty`")
    })?;
    Ok(wire::TerminalSize { rows: size.ws_row.into(), columns: size.ws_col.into() })
}

/// The terminal while it passes every key on; as it was when dropped.
pub(super) struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// Turns the standard input's terminal over to the program.
    pub(super) fn enter() -> Result<Self, Failure> {
        let input = std::io::stdin();
        let before = tcgetattr(input.as_fd()).map_err(|_| {
            Failure::usage("standard input is not a terminal")
                .hint("leave out `--tty` or `--interactive`")
        })?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(input.as_fd(), OptionalActions::Now, &raw)
            .map_err(|error| Failure::because("cannot set the terminal", &error))?;
        Ok(Self { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // When the terminal is gone there is nothing to put back.
        let _ = tcsetattr(std::io::stdin().as_fd(), OptionalActions::Drain, &self.before);
    }
}
