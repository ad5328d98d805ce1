//! Programs that people run in tasks' containers, each between the two streams of one call.
//!
//! Nothing is kept without bound: output waits in the program's own pipes while the network is slow, and input that
//! the program does not read is limited by [`swarm_proto::exec`]. When either stream ends early the program is dropped,
//! and with it goes everything in its session.

mod pump;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use swarm_proto::failure::sentence;
use swarm_proto::id::TaskId;
use swarm_proto::wire;
use swarm_proto::wire::exec_input::Input;
use swarm_proto::wire::exec_output::Output;
use swarm_runtime::{Exec, ExecError, ExecOptions, ExecStreams, TerminalSize};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::executor::{HostExecutor, TaskError};
use crate::sys;

/// Programs at a time on this host.
const PROGRAMS: usize = 64;
/// Messages that wait for the network.
const WAITING: usize = 8;
/// How long the first message may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What comes back from a program.
pub type Outputs = ReceiverStream<Result<wire::ExecOutput, Status>>;
type Sender = mpsc::Sender<Result<wire::ExecOutput, Status>>;

/// Runs programs in tasks' containers.
pub struct Programs {
    executor: Arc<HostExecutor>,
    places: Arc<Semaphore>,
}

/// A program that runs, with its streams.
struct Running {
    exec: AsyncFd<Exec>,
    input: Option<Arc<AsyncFd<OwnedFd>>>,
    output: Arc<AsyncFd<OwnedFd>>,
    errors: Option<Arc<AsyncFd<OwnedFd>>>,
    /// Whether `output` is a terminal, of which `input` is another name.
    terminal: bool,
}

impl Programs {
    /// On this host's containers.
    pub fn new(executor: Arc<HostExecutor>) -> Self {
        Self { executor, places: Arc::new(Semaphore::new(PROGRAMS)) }
    }

    /// Starts the program that the first message asks for; then carries its streams until it ends. `name` tells a
    /// task's name, `node` is this host's.
    pub async fn run(
        &self,
        mut input: Streaming<wire::ExecInput>,
        name: impl Fn(TaskId) -> Option<String>,
        node: &str,
    ) -> Result<Outputs, Status> {
        let start = first(&mut input).await?;
        let task: TaskId =
            start.target.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!(
                "{PROGRAMS} programs run in containers here already"
            ))
        })?;
        let name = name(task).unwrap_or_else(|| task.to_string());
        let (sender, outputs) = mpsc::channel(WAITING);
        let options = options(start)?;
        let program = options.arguments.first().cloned().unwrap_or_default();
        match self.executor.exec(task, options).await {
            Ok((exec, streams)) => {
                tracing::info!(task = %name, %program, "runs in its container");
                let running = Running::new(exec, streams)
                    .map_err(|error| Status::internal(format!("cannot watch it: {error}")))?;
                let started = wire::ExecStarted { task_name: name, node: node.to_owned() };
                // There is room: nothing was sent yet.
                let _ = sender.try_send(Ok(message(Output::Started(started))));
                tokio::spawn(async move {
                    pump::serve(running, input, sender).await;
                    drop(place);
                });
            }
            Err(ExecFailure::Exec(ExecError::Program { reason, code })) => {
                let end = wire::ExecEnd { code, message: reason };
                let _ = sender.try_send(Ok(message(Output::End(end))));
            }
            Err(ExecFailure::Absent | ExecFailure::Exec(ExecError::NotRunning(_))) => {
                return Err(Status::failed_precondition(format!(
                    "task `{name}` does not run here"
                )));
            }
            Err(ExecFailure::Exec(error)) => return Err(Status::internal(sentence(&error))),
            Err(ExecFailure::Task(error)) => return Err(Status::internal(error.sentence())),
        }
        Ok(ReceiverStream::new(outputs))
    }
}

/// Why a program does not run.
#[derive(Debug, thiserror::Error)]
pub enum ExecFailure {
    /// The task has no container here.
    #[error("it has no container on this host")]
    Absent,
    /// The runtime says why.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// Looking for the container failed.
    #[error(transparent)]
    Task(#[from] TaskError),
}

async fn first(input: &mut Streaming<wire::ExecInput>) -> Result<wire::ExecStart, Status> {
    let first = tokio::time::timeout(PATIENCE, input.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("nothing was asked for"))??;
    match first.and_then(|message| message.input) {
        Some(Input::Start(start)) => Ok(start),
        _ => Err(Status::invalid_argument("the first message must say what to run")),
    }
}

fn options(start: wire::ExecStart) -> Result<ExecOptions, Status> {
    if start.command.first().is_none_or(String::is_empty) {
        return Err(Status::invalid_argument("there is no program to run"));
    }
    let named =
        |variable: &String| variable.split_once('=').is_some_and(|(name, _)| !name.is_empty());
    if let Some(wrong) = start.environment.iter().find(|variable| !named(variable)) {
        return Err(Status::invalid_argument(format!("`{wrong}` is not `NAME=value`")));
    }
    Ok(ExecOptions {
        arguments: start.command,
        environment: start.environment,
        directory: start.directory.map(Into::into),
        user: start.user,
        terminal: start.terminal.map(size),
        input: start.input,
        whole_session: false,
    })
}

fn size(size: wire::TerminalSize) -> TerminalSize {
    let characters = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    TerminalSize { rows: characters(size.rows), columns: characters(size.columns) }
}

fn message(output: Output) -> wire::ExecOutput {
    wire::ExecOutput { output: Some(output) }
}

impl Running {
    fn new(exec: Exec, streams: ExecStreams) -> io::Result<Self> {
        exec.set_nonblocking()?;
        let exec = sys::watch(exec)?;
        let watch = |fd: OwnedFd| {
            rustix::io::ioctl_fionbio(&fd, true)?;
            sys::watch(fd).map(Arc::new)
        };
        Ok(match streams {
            ExecStreams::Terminal(master) => {
                let output = watch(master)?;
                let input = Some(Arc::clone(&output));
                Self { exec, input, output, errors: None, terminal: true }
            }
            ExecStreams::Pipes { input, output, errors } => Self {
                exec,
                input: input.map(watch).transpose()?,
                output: watch(output)?,
                errors: Some(watch(errors)?),
                terminal: false,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_run_is_refused_before_anything_is_done() {
        let asked = |command: &[&str], environment: &[&str]| {
            let own = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
            let (command, environment) = (own(command), own(environment));
            options(wire::ExecStart { command, environment, ..wire::ExecStart::default() })
        };
        for (command, environment, why) in [
            (&[][..], &[][..], "no program"),
            (&[""], &[], "no program"),
            (&["ls"], &["COLOUR"], "`COLOUR` is not"),
            (&["ls"], &["=x"], "`=x` is not"),
        ] {
            let refusal = asked(command, environment).unwrap_err();
            assert!(refusal.message().contains(why), "{refusal}");
        }
        assert_eq!(asked(&["ls"], &["A=", "B=c=d"]).unwrap().environment, ["A=", "B=c=d"]);
    }
}
