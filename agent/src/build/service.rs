//! Builds for controllers: the client's files come in parts, what happens goes back as it happens.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use swarm_proto::build::{PART, SECRET, SECRETS};
use swarm_proto::failure::sentence;
use swarm_proto::object::RegistryLogin;
use swarm_proto::spec::{ContentBytes, NetworkMode, Ulimit};
use swarm_proto::wire;
use swarm_proto::wire::build_input::Input;
use swarm_proto::wire::build_output::Output;
use swarm_proto::wire::builds_server::{Builds, BuildsServer};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status, Streaming};

use super::{BuildError, BuildRequest, Builder, Context, Progress, StepOptions};
use crate::image::{ImageError, Logins};

/// Messages that wait for the network, and parts that wait for the disk.
const WAITING: usize = 16;
/// The largest first message: all secrets, and the Dockerfile.
const LARGEST_START: usize = SECRETS * SECRET + (4 << 20);
/// The longest text of a failure: it travels in a header.
const LONGEST_FAILURE: usize = 4 << 10;

/// See the module.
pub struct BuildService {
    builder: Arc<Builder>,
}

impl BuildService {
    /// The service of this host.
    pub fn server(builder: Arc<Builder>) -> BuildsServer<Self> {
        BuildsServer::new(Self { builder }).max_decoding_message_size(LARGEST_START)
    }
}

/// What a build tells. When nobody listens any more, it is cancelled.
pub struct Outputs {
    messages: mpsc::Receiver<Result<wire::BuildOutput, Status>>,
    _listening: DropGuard,
}

impl Stream for Outputs {
    type Item = Result<wire::BuildOutput, Status>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.messages.poll_recv(context)
    }
}

#[tonic::async_trait]
impl Builds for BuildService {
    type BuildStream = Outputs;

    async fn build(
        &self,
        request: Request<Streaming<wire::BuildInput>>,
    ) -> Result<Response<Outputs>, Status> {
        let mut inputs = request.into_inner();
        let first = inputs.message().await?.and_then(|first| first.input);
        let Some(Input::Start(start)) = first else {
            return Err(Status::invalid_argument("a build begins with what is to be built"));
        };
        let request = wish(start)?;
        let (sender, messages) = mpsc::channel(WAITING);
        let cancelled = CancellationToken::new();
        let listening = cancelled.clone().drop_guard();
        let builder = Arc::clone(&self.builder);
        tokio::spawn(async move {
            let ended = run(builder, request, inputs, sender.clone(), cancelled).await;
            let _ = sender.send(ended.map(message)).await;
        });
        Ok(Response::new(Outputs { messages, _listening: listening }))
    }
}

/// Receives the context, builds, and gives the last message.
async fn run(
    builder: Arc<Builder>,
    request: BuildRequest,
    mut inputs: Streaming<wire::BuildInput>,
    sender: mpsc::Sender<Result<wire::BuildOutput, Status>>,
    cancelled: CancellationToken,
) -> Result<Output, Status> {
    let context = builder.context().map_err(|error| refusal(&error))?;
    let context = tokio::select! {
        context = receive(context, &mut inputs) => context?,
        () = cancelled.cancelled() => return Err(refusal(&BuildError::Cancelled)),
    };
    let (progress, mut told) = mpsc::channel(WAITING);
    let telling = tokio::spawn(async move {
        while let Some(progress) = told.recv().await {
            let _ = sender.send(Ok(message(output(progress)))).await;
        }
    });
    // The client says no more, but a stream that breaks means that it is gone.
    let gone = cancelled.clone();
    let watching = tokio::spawn(async move {
        loop {
            match inputs.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(_) => return gone.cancel(),
            }
        }
    });
    let built = builder.build(request, context, progress, cancelled).await;
    watching.abort();
    // All that was told comes before the end.
    let _ = telling.await;
    let built = built.map_err(|error| refusal(&error))?;
    Ok(Output::Done(wire::BuildDone { digest: built.digest.to_string(), size: built.size }))
}

fn message(output: Output) -> wire::BuildOutput {
    wire::BuildOutput { output: Some(output) }
}

fn output(progress: Progress) -> Output {
    match progress {
        Progress::Warning(text) => Output::Warning(text),
        Progress::Begun { step, stage, text } => {
            Output::Begun(wire::BuildStepBegun { step, stage, text })
        }
        Progress::Output { step, stream, line } => {
            Output::Line(wire::BuildStepOutput { step, is_error: stream == "stderr", line })
        }
        Progress::Ended { step, cached } => Output::Ended(wire::BuildStepEnded { step, cached }),
    }
}

/// What the client wants, checked as far as it can be without its files.
fn wish(mut start: wire::BuildStart) -> Result<BuildRequest, Status> {
    let wrong = |text: String| Status::invalid_argument(text);
    if start.secrets.len() > SECRETS {
        return Err(wrong(format!("a build has at most {SECRETS} secrets")));
    }
    let names = start.names.iter().map(|name| name.parse());
    let names = names.collect::<Result<_, _>>();
    let names =
        names.map_err(|error: crate::image::ParseReferenceError| wrong(error.to_string()))?;
    let mut secrets = std::collections::BTreeMap::new();
    for secret in &mut start.secrets {
        if secret.data.len() > SECRET {
            return Err(wrong(format!("secret `{}` is larger than 1 MiB", secret.id)));
        }
        let bytes = ContentBytes::new(std::mem::take(&mut secret.data));
        secrets.insert(secret.id.clone(), Arc::new(bytes));
    }
    let logins: Result<Vec<RegistryLogin>, _> =
        start.logins.into_iter().map(TryInto::try_into).collect();
    let logins = logins.map_err(|error| wrong(error.to_string()))?;
    Ok(BuildRequest {
        dockerfile: start.dockerfile,
        file: start.file,
        names,
        target: (!start.target.is_empty()).then_some(start.target),
        build_args: start.build_args.into_iter().collect(),
        secrets,
        no_cache: start.no_cache,
        pull: start.pull,
        source_date_epoch: None,
        memory: None,
        logins: Logins::of_cluster(logins),
        labels: start.labels.into_iter().collect(),
        steps: step_options(start.steps.unwrap_or_default()).map_err(wrong)?,
    })
}

fn step_options(steps: wire::BuildSteps) -> Result<StepOptions, String> {
    let network = match steps.network() {
        wire::BuildNetwork::Unspecified => NetworkMode::Own,
        wire::BuildNetwork::Host => NetworkMode::Host,
        wire::BuildNetwork::None => NetworkMode::None,
    };
    let host = |host: wire::BuildHost| match host.address.parse() {
        Ok(address) => Ok((host.name, address)),
        Err(_) => Err(format!("`{}` of host `{}` is no address", host.address, host.name)),
    };
    let ulimit = |ulimit: wire::Ulimit| Ulimit::try_from(ulimit).map_err(|error| error.to_string());
    Ok(StepOptions {
        extra_hosts: steps.extra_hosts.into_iter().map(host).collect::<Result<_, _>>()?,
        shm_size: steps.shm_size,
        ulimits: steps.ulimits.into_iter().map(ulimit).collect::<Result<_, _>>()?,
        network,
    })
}

/// Unpacks the context while it comes.
async fn receive(
    context: Context,
    inputs: &mut Streaming<wire::BuildInput>,
) -> Result<Context, Status> {
    let (sender, parts) = mpsc::channel(WAITING);
    let unpacking = tokio::task::spawn_blocking(move || {
        let parts = Parts { incoming: parts, current: Vec::new(), at: 0 };
        context.unpack(parts).map(|()| context)
    });
    let received = send_parts(inputs, sender).await;
    let unpacked = unpacking.await.map_err(|error| Status::internal(error.to_string()))?;
    received?;
    unpacked.map_err(|error| refusal(&error))
}

/// Until the end of the context; the archive may end, or be given up, before.
async fn send_parts(
    inputs: &mut Streaming<wire::BuildInput>,
    sender: mpsc::Sender<io::Result<Vec<u8>>>,
) -> Result<(), Status> {
    loop {
        let part = match inputs.message().await {
            Ok(Some(wire::BuildInput { input: Some(Input::Context(part)) })) => part,
            Ok(Some(wire::BuildInput { input: Some(Input::EndOfContext(_)) })) => return Ok(()),
            other => {
                let reason = "the build's files ended early";
                let _ =
                    sender.send(Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason))).await;
                return Err(match other {
                    Err(status) => status,
                    Ok(Some(_)) => Status::invalid_argument("a part of a context was expected"),
                    Ok(None) => Status::aborted(reason),
                });
            }
        };
        if part.len() > PART {
            return Err(Status::invalid_argument("a part of a context is too large"));
        }
        // Nobody there: the archive was given up, and says why; what still comes is passed over.
        let _ = sender.send(Ok(part)).await;
    }
}

/// The parts of a context, as they come, to be read on a thread for blocking work.
struct Parts {
    incoming: mpsc::Receiver<io::Result<Vec<u8>>>,
    current: Vec<u8>,
    at: usize,
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.current.len() {
            match self.incoming.blocking_recv() {
                Some(part) => (self.current, self.at) = (part?, 0),
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len() - self.at);
        buffer[..length].copy_from_slice(&self.current[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

/// What is the client's to change, what may be tried again, and what went wrong here are different answers.
fn refusal(error: &BuildError) -> Status {
    let mut text = sentence(error);
    if text.len() > LONGEST_FAILURE {
        let end = (0..=LONGEST_FAILURE).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    match error {
        BuildError::Cancelled => Status::cancelled(text),
        BuildError::Dockerfile(_) | BuildError::Name(_) | BuildError::Context(_) => {
            Status::invalid_argument(text)
        }
        BuildError::Image(error) if matches!(error.inner(), ImageError::Unavailable { .. }) => {
            Status::unavailable(text)
        }
        BuildError::Disk { .. } | BuildError::Stopped(_) => Status::internal(text),
        _ => Status::failed_precondition(text),
    }
}
