//! Carries the streams of one program, both ways, until it ends or the other side is gone.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use swarm_proto::exec::{CHUNK, WINDOW, cost};
use swarm_proto::wire;
use swarm_proto::wire::exec_input::Input;
use swarm_proto::wire::exec_output::Output;
use swarm_runtime::exec::resize;
use swarm_runtime::{Exec, ExecEnd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{Running, Sender, message, size};

/// How long a terminal may take to hand out the last of what was written to it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Serves a program. Returning early drops it, which ends it.
pub(super) async fn serve(
    mut running: Running,
    mut input: Streaming<wire::ExecInput>,
    sender: Sender,
) {
    let ended = CancellationToken::new();
    let mut readers = JoinSet::new();
    let outputs = [(Some(&running.output), Output::Stdout as fn(Vec<u8>) -> Output)];
    let errors = [(running.errors.as_ref(), Output::Stderr as fn(Vec<u8>) -> Output)];
    for (stream, wrap) in outputs.into_iter().chain(errors) {
        let Some(stream) = stream.map(Arc::clone) else { continue };
        let reader = Reader { stream, terminal: running.terminal, ended: ended.clone() };
        readers.spawn(reader.run(wrap, sender.clone()));
    }
    // One message counts at least so much that this many are the whole window.
    let (data, written) = mpsc::channel(usize::try_from(WINDOW / cost(0)).unwrap_or(1));
    // Its only owner, for the program sees the end of its input when this is dropped.
    let writing = tokio::spawn(write(running.input.take(), written, sender.clone()));
    let end = tokio::select! {
        end = wait(&running) => end,
        () = hear(&running, &mut input, data) => None,
        () = sender.closed() => None,
    };
    writing.abort();
    if let Some(end) = end {
        ended.cancel();
        while readers.join_next().await.is_some() {}
        let last = end.map_or_else(
            |error| {
                Err(Status::internal(format!("the program was lost with its companion: {error}")))
            },
            |end| {
                let end = wire::ExecEnd { code: end.code, message: String::new() };
                Ok(message(Output::End(end)))
            },
        );
        // An error means that nobody listens any more.
        let _ = sender.send(last).await;
    }
}

/// How the program ended, or that its companion was killed.
async fn wait(running: &Running) -> Option<io::Result<ExecEnd>> {
    Some(running.exec.async_io(Interest::READABLE, Exec::end).await)
}

/// Takes in what the other side says; returns when it is gone or breaks the rules.
async fn hear(
    running: &Running,
    input: &mut Streaming<wire::ExecInput>,
    data: mpsc::Sender<Vec<u8>>,
) {
    let mut data = Some(data);
    while let Ok(Some(said)) = input.message().await {
        let done = match said.input {
            Some(Input::Data(bytes)) => match &data {
                // More than the window allows.
                Some(queue) if queue.try_send(bytes).is_err() => return,
                _ => Ok(()),
            },
            Some(Input::EndOfData(_)) => {
                data = None;
                Ok(())
            }
            Some(Input::Resize(to)) if running.terminal => {
                resize(running.output.get_ref().as_fd(), size(to))
            }
            Some(Input::Signal(number)) => running.exec.get_ref().signal(number),
            _ => Ok(()),
        };
        if let Err(error) = done {
            tracing::debug!(%error, "cannot pass on what was said to a program");
        }
    }
}

/// Hands data to the program, and tells how much it took. Closes its input at the end of the data, unless that is a
/// terminal.
async fn write(
    input: Option<Arc<AsyncFd<OwnedFd>>>,
    mut data: mpsc::Receiver<Vec<u8>>,
    sender: Sender,
) {
    while let Some(bytes) = data.recv().await {
        let mut rest = &bytes[..];
        while let Some(stream) = input.as_ref().filter(|_| !rest.is_empty()) {
            let write = |fd: &OwnedFd| Ok(rustix::io::write(fd, rest)?);
            match stream.async_io(Interest::WRITABLE, write).await {
                Ok(taken) => rest = &rest[taken..],
                // The program has closed its input: what still comes is for nobody.
                Err(_) => break,
            }
        }
        if sender.send(Ok(message(Output::Taken(cost(bytes.len()))))).await.is_err() {
            return;
        }
    }
}

/// Reads one stream of the program.
struct Reader {
    stream: Arc<AsyncFd<OwnedFd>>,
    terminal: bool,
    ended: CancellationToken,
}

impl Reader {
    async fn run(self, wrap: fn(Vec<u8>) -> Output, sender: Sender) {
        let mut buffer = vec![0; CHUNK];
        loop {
            let Some(got) = self.read(&mut buffer).await else { return };
            if sender.send(Ok(message(wrap(buffer[..got].to_vec())))).await.is_err() {
                return;
            }
        }
    }

    /// The next bytes. Once the program has ended, only what is still there: something that it left running may hold
    /// the stream open for ever.
    async fn read(&self, buffer: &mut [u8]) -> Option<usize> {
        let mut read = |fd: &OwnedFd| Ok(rustix::io::read(fd, &mut *buffer)?);
        let got = tokio::select! {
            biased;
            got = self.stream.async_io(Interest::READABLE, &mut read) => got,
            () = self.ended.cancelled() => self.read_rest(read).await,
        };
        // A terminal whose other end is closed says EIO.
        got.ok().filter(|got| *got > 0)
    }

    async fn read_rest(
        &self,
        mut read: impl FnMut(&OwnedFd) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if !self.terminal {
            // What a process wrote is in the pipe before it ends.
            return read(self.stream.get_ref());
        }
        // A terminal hands it out a moment later, and then says that it is hung up.
        let got = self.stream.async_io(Interest::READABLE, read);
        match tokio::time::timeout(LAST_WORDS, got).await {
            Ok(got) => got,
            Err(_) => Ok(0),
        }
    }
}
