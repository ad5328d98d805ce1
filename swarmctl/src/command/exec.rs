//! `exec`: runs a program in the container of a running task.

mod terminal;

use std::process::ExitCode;

use swarm_proto::exec::{CHUNK, WINDOW, cost};
use swarm_proto::object::TaskState;
use swarm_proto::wire;
use swarm_proto::wire::exec_input::Input;
use swarm_proto::wire::exec_output::Output;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Streaming};

use super::{Call, ps};
use crate::connect;
use crate::failure::Failure;
use crate::local::Local;
use crate::output;
use terminal::{Event, Events, RawTerminal};

/// Messages that wait for the connection.
const WAITING: usize = 4;

/// Runs a program in the container of a running task
///
/// It runs as the container's own program does: same user, capabilities, limits and environment. Exits as the program
/// does; 127 when there is no such program, 126 when it cannot be run. Signals go to the program, and with `-t` so do
/// Ctrl-C and its like. When swarmctl is killed, the program is hung up, and killed if that does not end it.
#[derive(Debug, clap::Args)]
pub(crate) struct Exec {
    /// Give it this command's standard input
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Whom to run as: `name`, `uid`, `name:group` or `uid:gid`
    #[arg(short, long)]
    user: Option<String>,
    /// The working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// An environment variable, `NAME=value`, or `NAME` to pass this command's own
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// A task's name or id, or a service's full name: then one of its running tasks
    target: String,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// The two directions of a call.
type Streams = (mpsc::Sender<wire::ExecInput>, Streaming<wire::ExecOutput>);

pub(crate) async fn run(exec: &Exec, call: &Call) -> Result<ExitCode, Failure> {
    let start = start(exec)?;
    let streams = call.cluster.call(async |mut client| {
        let (sender, inputs) = mpsc::channel(WAITING);
        let outputs = client.exec(ReceiverStream::new(inputs)).await?.into_inner();
        Ok(Response::new((sender, outputs)))
    });
    let (sender, outputs) = streams.await?;
    // Only now is anything done: a request is never sent twice. There is room: nothing was sent yet.
    let _ = sender.try_send(wire::ExecInput { input: Some(Input::Start(start)) });
    carry(exec, (sender, outputs)).await
}

/// Runs a program in a container of this host.
pub(super) async fn run_locally(exec: &Exec, agent: &mut Local) -> Result<ExitCode, Failure> {
    let mut start = start(exec)?;
    let tasks = ps::tasks(&agent.state().await?, Some(&exec.target), false)?;
    let running = tasks.into_iter().find(|task| task.state == TaskState::Running.to_string());
    let running = running.ok_or_else(|| {
        Failure::refused(format!("no task of `{}` runs on this host", exec.target))
            .hint("see `swarmctl --local ps --all`")
    })?;
    start.target = running.id;
    let (sender, inputs) = mpsc::channel(WAITING);
    // The agent answers once it has heard what to run. There is room: nothing was sent yet.
    let _ = sender.try_send(wire::ExecInput { input: Some(Input::Start(start)) });
    let opened = agent.client.exec(ReceiverStream::new(inputs)).await;
    let opened = opened.map_err(|status| connect::refusal(&status))?;
    carry(exec, (sender, opened.into_inner())).await
}

/// Carries the streams of a program. Only now is anything done: a request is never sent twice.
async fn carry(exec: &Exec, (sender, mut outputs): Streams) -> Result<ExitCode, Failure> {
    let running = match connect::next(&mut outputs, |message| message.output, lost).await? {
        Output::Started(started) => started,
        Output::End(end) => return Ok(ended(&end)),
        _ => return Err(lost("it said something before it began")),
    };
    if running.task_name != exec.target && !exec.tty {
        output::talk(&format!("note: in {} on {}", running.task_name, running.node));
    }
    let is_raw = exec.tty && exec.interactive;
    let _raw = is_raw.then(RawTerminal::enter).transpose()?;
    let mut session = Session { sender, outstanding: 0 };
    let mut events = Events::listen(exec.interactive, exec.tty)?;
    loop {
        let has_room = session.outstanding + cost(CHUNK) <= WINDOW;
        tokio::select! {
            said = connect::next(&mut outputs, |message| message.output, lost) => match said? {
                Output::Stdout(bytes) => output::raw(&bytes).map_err(|_| reader_gone())?,
                Output::Stderr(bytes) => output::raw_error(&bytes),
                Output::Taken(taken) => {
                    session.outstanding = session.outstanding.saturating_sub(taken);
                }
                Output::End(end) => return Ok(ended(&end)),
                Output::Started(_) => {}
            },
            event = events.next(has_room) => session.tell(event).await,
        }
    }
}

struct Session {
    sender: mpsc::Sender<wire::ExecInput>,
    /// What the program has not taken yet.
    outstanding: u64,
}

impl Session {
    async fn tell(&mut self, event: Event) {
        let input = match event {
            Event::Data(bytes) => {
                self.outstanding += cost(bytes.len());
                Input::Data(bytes)
            }
            Event::EndOfData => Input::EndOfData(true),
            Event::Resized(size) => Input::Resize(size),
            Event::Signal(number) => Input::Signal(number),
        };
        // When the connection is broken, its other direction says so.
        let _ = self.sender.send(wire::ExecInput { input: Some(input) }).await;
    }
}

fn start(exec: &Exec) -> Result<wire::ExecStart, Failure> {
    let terminal = exec.tty.then(terminal::size).transpose()?;
    let mut environment = Vec::new();
    if exec.tty
        && let Ok(kind) = std::env::var("TERM")
    {
        environment.push(format!("TERM={kind}"));
    }
    for variable in &exec.env {
        if variable.contains('=') {
            environment.push(variable.clone());
            continue;
        }
        let value = std::env::var(variable).map_err(|_| {
            Failure::usage(format!("`{variable}` is not set here"))
                .hint(format!("give it a value: `--env {variable}=VALUE`"))
        })?;
        environment.push(format!("{variable}={value}"));
    }
    Ok(wire::ExecStart {
        target: exec.target.clone(),
        command: exec.command.clone(),
        input: exec.interactive,
        terminal,
        user: exec.user.clone(),
        directory: exec.workdir.clone(),
        environment,
    })
}

fn lost(why: &str) -> Failure {
    Failure::refused(format!("the program was lost: {why}"))
        .hint("its node ends it; a controller or the way to it may be gone: see `swarmctl node ls`")
}

/// As a program that writes to a pipe which nobody reads.
fn reader_gone() -> Failure {
    Failure::refused("nobody reads the program's output any more")
}

/// What to exit with.
fn ended(end: &wire::ExecEnd) -> ExitCode {
    if !end.message.is_empty() {
        output::error(&end.message);
    }
    ExitCode::from(u8::try_from(end.code).unwrap_or(255))
}
