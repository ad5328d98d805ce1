//! The context on its way: an archive in parts, no more of it in memory than a few.

use std::io::{self, Write};

use swarm_proto::build::PART;
use swarm_proto::wire;
use swarm_proto::wire::build_input::Input;
use tokio::sync::mpsc;

use super::context::Found;
use crate::failure::Failure;

/// Sends a context and its end. When nobody takes it any more, that is no failure: the answers say why.
pub(super) async fn send(
    context: Found,
    sender: mpsc::Sender<wire::BuildInput>,
) -> Result<(), Failure> {
    let packing = tokio::task::spawn_blocking(move || {
        let mut parts = Parts { sender, part: Vec::with_capacity(PART), is_gone: false };
        let packed = context.write(&mut parts);
        if parts.is_gone {
            return Ok(());
        }
        packed?;
        // When it is refused, the answers say why.
        let _ = parts.pass(Input::EndOfContext(true));
        Ok(())
    });
    packing.await.map_err(|error| Failure::because("cannot pack the context", &error))?
}

/// Gathers bytes into parts of one length.
struct Parts {
    sender: mpsc::Sender<wire::BuildInput>,
    part: Vec<u8>,
    is_gone: bool,
}

impl Parts {
    fn pass(&mut self, input: Input) -> io::Result<()> {
        let message = wire::BuildInput { input: Some(input) };
        self.sender.blocking_send(message).map_err(|_| {
            self.is_gone = true;
            io::Error::from(io::ErrorKind::BrokenPipe)
        })
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(PART - self.part.len());
        self.part.extend_from_slice(&bytes[..length]);
        if self.part.len() == PART {
            self.flush()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.part.is_empty() {
            return Ok(());
        }
        let part = std::mem::replace(&mut self.part, Vec::with_capacity(PART));
        self.pass(Input::Context(part))
    }
}
