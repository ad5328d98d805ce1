//! Keeps programs running: restarts one that ends after a second, unless it was stopped on purpose.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::boot::{Boot, Program};
use super::control::{Answer, Request, State};
use super::error::Error;

/// How long after its end a program is started again.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// The exit code of a program that would end in the same way if it were started again; as in its unit.
const FINAL: i32 = 78;

/// A log file larger than this is put aside when its program starts.
const LOG_BOUND: u64 = 16 << 20;

/// The socket on which a first process answers.
pub(super) struct Listener(UnixListener);

impl Listener {
    /// Binds the socket, in place of one that a killed host left.
    pub(super) fn bind(path: &Path) -> Result<Self, Error> {
        if let Err(error) = std::fs::remove_file(path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(Error::file("remove", path)(error));
        }
        UnixListener::bind(path).map(Self).map_err(Error::file("listen on", path))
    }
}

struct Kept {
    program: Program,
    wanted: bool,
    pid: Option<Pid>,
    due: Option<Instant>,
    restarts: u32,
}

struct Supervisor {
    kept: BTreeMap<String, Kept>,
    log: PathBuf,
}

/// Runs until SIGTERM.
pub(super) fn run(boot: Boot, listener: &Listener) -> Result<(), Error> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.add(Signal::SIGTERM);
    signals.thread_block().map_err(Error::system("block signals"))?;
    let signal = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(Error::system("wait for signals"))?;
    let kept = boot.programs.into_iter().map(|program| {
        let name = program.name.clone();
        (name, Kept { program, wanted: false, pid: None, due: None, restarts: 0 })
    });
    let mut supervisor = Supervisor { kept: kept.collect(), log: boot.log };
    loop {
        wait(&signal, listener, supervisor.next_due())?;
        while let Ok(Some(info)) = signal.read_signal() {
            if info.ssi_signo == Signal::SIGTERM as u32 {
                return Ok(());
            }
        }
        supervisor.reap();
        supervisor.start_due();
        if is_readable(listener.0.as_fd())?
            && let Ok((stream, _)) = listener.0.accept()
        {
            // A client that went away is its own loss.
            let _ = supervisor.answer(&stream);
        }
    }
}

/// Waits for a signal, a client, or the time when something is due.
fn wait(signal: &SignalFd, listener: &Listener, due: Option<Instant>) -> Result<(), Error> {
    let timeout = match due {
        None => PollTimeout::NONE,
        Some(due) => {
            let left = due.saturating_duration_since(Instant::now()).as_millis() + 1;
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        }
    };
    let mut sources = [
        PollFd::new(signal.as_fd(), PollFlags::POLLIN),
        PollFd::new(listener.0.as_fd(), PollFlags::POLLIN),
    ];
    match poll(&mut sources, timeout) {
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(error) => Err(Error::system("wait for events")(error)),
    }
}

fn is_readable(fd: std::os::fd::BorrowedFd<'_>) -> Result<bool, Error> {
    let mut sources = [PollFd::new(fd, PollFlags::POLLIN)];
    poll(&mut sources, PollTimeout::ZERO).map(|n| n > 0).map_err(Error::system("wait for events"))
}

impl Supervisor {
    fn next_due(&self) -> Option<Instant> {
        self.kept.values().filter_map(|kept| kept.due).min()
    }

    /// Takes notice of every child that ended, orphans of the host's containers among them.
    fn reap(&mut self) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let pid = match status {
                WaitStatus::StillAlive => break,
                other => other.pid(),
            };
            let ended = self.kept.values_mut().find(|kept| kept.pid.is_some() && kept.pid == pid);
            if let Some(kept) = ended {
                kept.pid = None;
                note(&self.log, &kept.program.name, &format!("ended: {status:?}"));
                if matches!(status, WaitStatus::Exited(_, FINAL)) {
                    kept.wanted = false;
                }
                if kept.wanted {
                    kept.due = Some(Instant::now() + RESTART_DELAY);
                    kept.restarts += 1;
                }
            }
        }
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        for kept in self.kept.values_mut() {
            if kept.due.is_some_and(|due| due <= now) {
                start(kept, &self.log);
            }
        }
    }

    fn answer(&mut self, stream: &UnixStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.set_write_timeout(Some(Duration::from_secs(2)))?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        let answer = match serde_json::from_str::<Request>(&line) {
            Ok(request) => self.obey(&request),
            Err(error) => Answer { error: Some(error.to_string()), programs: Vec::new() },
        };
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        (&*stream).write_all(&text)
    }

    fn obey(&mut self, request: &Request) -> Answer {
        let mut error = None;
        match request {
            Request::List => {}
            Request::Start { program } => match self.kept.get_mut(program) {
                Some(kept) if kept.pid.is_none() => start(kept, &self.log),
                Some(_) => {}
                None => error = Some(format!("no program `{program}`")),
            },
            Request::Kill { program } => match self.kept.get_mut(program) {
                Some(kept) => {
                    kept.wanted = false;
                    kept.due = None;
                    if let Some(pid) = kept.pid {
                        // It may just have ended, which is what was asked for.
                        let _ = kill(pid, Signal::SIGKILL);
                        let _ = waitpid(pid, None);
                        kept.pid = None;
                    }
                }
                None => error = Some(format!("no program `{program}`")),
            },
        }
        let programs = self.kept.values().map(|kept| State {
            name: kept.program.name.clone(),
            pid: kept.pid.map(Pid::as_raw),
            wanted: kept.wanted,
            restarts: kept.restarts,
        });
        Answer { error, programs: programs.collect() }
    }
}

fn start(kept: &mut Kept, log: &Path) {
    kept.wanted = true;
    kept.due = None;
    match spawn(&kept.program, log) {
        Ok(pid) => kept.pid = Some(pid),
        Err(error) => {
            note(log, &kept.program.name, &format!("cannot be started: {error}"));
            kept.due = Some(Instant::now() + RESTART_DELAY);
        }
    }
}

fn spawn(program: &Program, log: &Path) -> std::io::Result<Pid> {
    let output = open_log(log, &program.name)?;
    let (name, arguments) = program
        .command
        .split_first()
        .ok_or_else(|| std::io::Error::other("the command line is empty"))?;
    let child = Command::new(name)
        .args(arguments)
        .envs(program.environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()?;
    i32::try_from(child.id()).map(Pid::from_raw).map_err(std::io::Error::other)
}

fn open_log(log: &Path, name: &str) -> std::io::Result<File> {
    let path = log.join(format!("{name}.log"));
    if path.metadata().is_ok_and(|facts| facts.len() > LOG_BOUND) {
        std::fs::rename(&path, path.with_extension("log.1"))?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

/// Writes a line of our own into a program's log.
fn note(log: &Path, name: &str, text: &str) {
    if let Ok(mut file) = open_log(log, name) {
        // A full disk must not end the host.
        let _ = writeln!(file, "lab: {name} {text}");
    }
}
