//! The way to a cluster: its controllers are tried in turn, and a request that meets a change of leader is sent again.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use swarm_proto::transport::{
    CONTROLLER_NAME, ConnectError, Credentials, Identity, MAX_MESSAGE, Tls, connect_unix,
};
use swarm_proto::wire;
use swarm_proto::wire::control_client::ControlClient;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Response, Status, Streaming};

use crate::context::{Context, Contexts};
use crate::failure::Failure;

/// The client of a controller's API.
pub(crate) type Client = ControlClient<Channel>;

const DEFAULT_PORT: u16 = 2377;
/// How long a request is sent again that met no leader, a broken connection, or anything else that passes. Controllers
/// wait for a leader themselves before they say that there is none.
const RETRY_FOR: Duration = Duration::from_secs(5);
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How long nobody may lead before a read is answered with what may be stale, and how often that is looked at.
const LEADER_PATIENCE: Duration = Duration::from_secs(2);
const LEADER_LOOK: Duration = Duration::from_millis(300);
/// How long one controller may take; a deploy asks a registry meanwhile.
const ANSWER_WITHIN: Duration = Duration::from_mins(2);
/// How long a controller is waited for before the next one is asked as well.
const NEXT_AFTER: Duration = Duration::from_millis(300);

/// How the user named the cluster.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Target {
    /// The context to use, from `~/.config/swarm/contexts.toml`
    #[arg(long, global = true, env = "SWARM_CONTEXT", value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// A controller: `unix:///PATH` or `ADDRESS[:PORT]`; may be given more than once
    #[arg(
        long,
        global = true,
        env = "SWARM_HOST",
        value_name = "ADDRESS",
        value_delimiter = ',',
        conflicts_with = "context"
    )]
    pub(crate) host: Vec<String>,
    /// The bundle of certificate, key and authority that `swarm-controller admin-bundle` made
    #[arg(long, global = true, env = "SWARM_IDENTITY", value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
}

/// Where one controller listens.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Socket(PathBuf),
    Network(String),
}

/// The controllers of one cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    addresses: Vec<Address>,
    tls: Option<Arc<Tls>>,
    /// What the user would call it: "context `lab`".
    name: Option<String>,
    /// The one that answered last.
    good: AtomicUsize,
}

impl Cluster {
    /// Finds out whom to ask. Nothing is sent yet.
    pub(crate) fn of(target: &Target, contexts: &Path) -> Result<Self, Failure> {
        let (context, name) = if target.host.is_empty() {
            let contexts = Contexts::load(contexts)?;
            let name = target.context.as_deref().or(contexts.current.as_deref());
            (
                contexts.resolve(target.context.as_deref())?,
                name.map(|name| format!("context `{name}`")),
            )
        } else {
            (Context { hosts: target.host.clone(), identity: None }, None)
        };
        let addresses: Vec<Address> =
            context.hosts.iter().map(|host| parse_address(host)).collect::<Result<_, _>>()?;
        if addresses.is_empty() {
            let name = name.unwrap_or_else(|| "`--host`".to_owned());
            return Err(Failure::usage(format!("{name} names no controller")));
        }
        let identity = target.identity.clone().or(context.identity);
        let remote = addresses.iter().find_map(|address| match address {
            Address::Network(address) => Some(address),
            Address::Socket(_) => None,
        });
        let tls = match (remote, identity) {
            (None, _) => None,
            (Some(_), Some(path)) => Some(load_identity(&path)?),
            (Some(address), None) => {
                let hint = "run `swarm-controller admin-bundle` on a controller's host, copy its output here, and give it with `--identity FILE`";
                return Err(Failure::refused(format!(
                    "controller `{address}` wants a client certificate, and there is none"
                ))
                .hint(hint));
            }
        };
        Ok(Self { addresses, tls, name, good: AtomicUsize::new(0) })
    }

    /// This host's own cluster, asked in the host's own name.
    pub(crate) fn of_host(identity: &Identity) -> Result<Self, Failure> {
        let addresses = identity.controllers.iter().map(|address| parse_address(address));
        let tls = Tls::new(&identity.credentials())
            .map_err(|error| Failure::because("this host's identity is not valid", &error))?;
        Ok(Self {
            addresses: addresses.collect::<Result<_, _>>()?,
            tls: Some(tls),
            name: Some(String::from("this host's cluster")),
            good: AtomicUsize::new(0),
        })
    }

    /// Asks the controllers until one answers: in turn, and not waiting long for one before asking the next as well.
    /// Requests carry an id where a repetition would matter.
    pub(crate) async fn call<T>(
        &self,
        ask: impl AsyncFn(Client) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        self.call_service(async |channel| ask(control(channel)).await).await
    }

    /// As [`Cluster::call`], for another service than that of people.
    pub(crate) async fn call_service<T>(
        &self,
        ask: impl AsyncFn(Channel) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        self.call_as(Haste::Ahead, ask).await
    }

    /// As [`Cluster::call_service`], for what takes its time and is not to be done twice: another controller is asked
    /// only once one cannot be reached or says that it cannot serve.
    pub(crate) async fn call_patiently<T>(
        &self,
        ask: impl AsyncFn(Channel) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        self.call_as(Haste::Patient, ask).await
    }

    async fn call_as<T>(
        &self,
        haste: Haste,
        ask: impl AsyncFn(Channel) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        let start = Instant::now();
        loop {
            match self.ask_all(haste, &ask).await {
                Ok(answer) => return Ok(answer),
                Err(Missed::Refused(status)) => return Err(refusal(&status)),
                Err(Missed::Unreachable(reasons)) => return Err(self.unreachable(&reasons)),
                Err(Missed::Busy(status)) if start.elapsed() >= RETRY_FOR => {
                    return Err(unserved(&status));
                }
                Err(Missed::Busy(_)) => {}
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Asks for what need not be current when nobody can tell what is: the second argument of `ask` says whether an
    /// answer that may be stale will do. It will when `stale`, and once no controller has known a leader for a while.
    pub(crate) async fn read<T>(
        &self,
        stale: bool,
        ask: impl AsyncFn(Client, bool) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        if !stale {
            tokio::select! {
                answer = self.call(async |client| ask(client, false).await) => return answer,
                () = self.leaderless() => {}
            }
        }
        self.call(async |client| ask(client, true).await).await
    }

    /// Returns once no controller has known a leader for a while, though some can be reached.
    async fn leaderless(&self) {
        let mut since = Instant::now();
        loop {
            sleep(LEADER_LOOK).await;
            match self.knows_leader().await {
                Some(false) if since.elapsed() >= LEADER_PATIENCE => return,
                Some(false) => {}
                Some(true) | None => since = Instant::now(),
            }
        }
    }

    /// Whether some controller knows a leader; `None` when none can be reached.
    async fn knows_leader(&self) -> Option<bool> {
        let mut known = None;
        for address in &self.addresses {
            let asked = async {
                let mut client = control(self.connect(address).await.ok()?);
                let version = client.get_version(wire::GetVersionRequest {}).await.ok()?;
                Some(version.into_inner().leader != 0)
            };
            match timeout(LEADER_LOOK, asked).await.ok().flatten() {
                Some(true) => return Some(true),
                Some(false) => known = Some(false),
                None => {}
            }
        }
        known
    }

    async fn ask_one<T>(
        &self,
        ask: &impl AsyncFn(Channel) -> Result<Response<T>, Status>,
        at: usize,
    ) -> Result<T, Attempt> {
        let address = &self.addresses[at];
        let channel = self.connect(address).await.map_err(Attempt::Connect)?;
        match timeout(ANSWER_WITHIN, ask(channel)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) if is_passing(&status) => Err(Attempt::Busy(status)),
            Ok(Err(status)) => Err(Attempt::Refused(status)),
            Err(_) => Err(Attempt::Refused(Status::deadline_exceeded(format!(
                "{address} did not answer within {} s",
                ANSWER_WITHIN.as_secs()
            )))),
        }
    }

    /// Asks each controller once, until one says yes or no.
    async fn ask_all<T>(
        &self,
        haste: Haste,
        ask: &impl AsyncFn(Channel) -> Result<Response<T>, Status>,
    ) -> Result<T, Missed> {
        let count = self.addresses.len();
        let first = self.good.load(Ordering::Relaxed);
        let mut waiting = (0..count).map(|next| (first + next) % count);
        let mut running = FuturesUnordered::new();
        let (mut refusals, mut busy) = (Vec::new(), None);
        loop {
            // One more at the beginning, after each failure, and when the others take long: they may be frozen, or cut
            // off from the rest.
            running
                .extend(waiting.next().map(|at| async move { (at, self.ask_one(ask, at).await) }));
            tokio::select! {
                answer = running.next() => match answer {
                    Some((at, Ok(answer))) => {
                        self.good.store(at, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    Some((_, Err(Attempt::Refused(status)))) => return Err(Missed::Refused(status)),
                    Some((_, Err(Attempt::Connect(why)))) => refusals.push(why),
                    Some((_, Err(Attempt::Busy(status)))) => busy = Some(status),
                    None => break,
                },
                () = sleep(NEXT_AFTER), if haste == Haste::Ahead && waiting.len() > 0 => {}
            }
        }
        Err(busy.map_or(Missed::Unreachable(refusals), Missed::Busy))
    }

    async fn connect(&self, address: &Address) -> Result<Channel, String> {
        let channel = match (address, &self.tls) {
            (Address::Socket(path), _) => connect_unix(path).await,
            (Address::Network(address), Some(tls)) => tls.connect(address, CONTROLLER_NAME).await,
            (Address::Network(address), None) => {
                return Err(format!("`{address}` wants a client certificate"));
            }
        };
        channel.map_err(|error| explain(&error))
    }

    /// A connection to the controller on this host, which root alone has.
    pub(crate) async fn local(&self) -> Result<Channel, Failure> {
        let socket = self.addresses.iter().find_map(|address| match address {
            Address::Socket(path) => Some(path),
            Address::Network(_) => None,
        });
        let path = socket.ok_or_else(|| {
            Failure::refused("this is asked of the controller on its own host")
                .hint("run it as root on that host, without `--host` and `--context`")
        })?;
        connect_unix(path).await.map_err(|error| {
            let why = explain(&error);
            Failure::refused(format!("no controller can be reached on this host: {why}"))
                .hint("run this as root on a host where swarm-controller runs")
        })
    }

    fn unreachable(&self, refusals: &[String]) -> Failure {
        let mut reasons: Vec<&str> = refusals.iter().map(String::as_str).collect();
        reasons.dedup();
        let of = self.name.as_ref().map_or(String::new(), |name| format!(" of {name}"));
        let message = match reasons.as_slice() {
            [one] => format!("no controller{of} can be reached: {one}"),
            many => format!("no controller{of} can be reached:\n  {}", many.join("\n  ")),
        };
        let hint = match (&self.name, self.tls.is_some()) {
            (Some(name), false) if name.contains("`lab`") => {
                "start the lab with `swarmctl lab up`, or look at it with `swarmctl lab ls`"
            }
            (_, true) => {
                "check the address, that swarm-controller runs there, and that the bundle given with `--identity` is this cluster's"
            }
            (_, false) => {
                "run swarmctl on a controller's host, name one with `--host ADDRESS --identity FILE`, or start a lab with `swarmctl lab up`"
            }
        };
        Failure::refused(message).hint(hint)
    }
}

fn control(channel: Channel) -> Client {
    ControlClient::new(channel).max_decoding_message_size(MAX_MESSAGE)
}

/// Why one controller gave no answer.
enum Attempt {
    /// There was no connection.
    Connect(String),
    /// Another controller, or the same one a little later, may answer.
    Busy(Status),
    /// The answer is no.
    Refused(Status),
}

/// Whether another controller is asked while one takes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Haste {
    /// It is: a request is done once, however often it comes.
    Ahead,
    /// It is not.
    Patient,
}

/// Why no controller gave an answer.
enum Missed {
    /// There was no connection to any, for these reasons.
    Unreachable(Vec<String>),
    /// A little later one may answer.
    Busy(Status),
    /// The answer is no.
    Refused(Status),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "`{}`", path.display()),
            Self::Network(address) => write!(f, "`{address}`"),
        }
    }
}

fn parse_address(text: &str) -> Result<Address, Failure> {
    if let Some(path) = text.strip_prefix("unix://").or(text.starts_with('/').then_some(text)) {
        return Ok(Address::Socket(PathBuf::from(path)));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse::<u16>().ok().filter(|port| *port > 0)),
        None => (text, Some(DEFAULT_PORT)),
    };
    match port {
        Some(port) if !host.is_empty() && !host.contains(['/', ' ', ':']) => {
            Ok(Address::Network(format!("{host}:{port}")))
        }
        _ => Err(Failure::usage(format!("`{text}` is not the address of a controller"))
            .hint("write `unix:///PATH`, `ADDRESS` or `ADDRESS:PORT`")),
    }
}

fn load_identity(path: &Path) -> Result<Arc<Tls>, Failure> {
    let hint = "make a new one with `swarm-controller admin-bundle` on a controller's host";
    let bundle = std::fs::read_to_string(path).map_err(|error| {
        Failure::refused(format!("cannot read the identity `{}`: {error}", path.display()))
            .hint(hint)
    })?;
    let what = format!("the identity `{}` is not valid", path.display());
    let credentials = Credentials::from_bundle(&bundle)
        .map_err(|error| Failure::because(&what, &error).hint(hint))?;
    Tls::new(&credentials).map_err(|error| Failure::because(&what, &error).hint(hint))
}

/// Whether a refusal is about the moment: no leader is known, or the connection broke.
pub(crate) fn is_passing(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::Aborted)
        || (status.source().is_some() && matches!(status.code(), Code::Unknown | Code::Internal))
}

/// What a stream says next. What ends it without a word of a controller is a loss, told by `lost`.
pub(crate) async fn next<M, O>(
    stream: &mut Streaming<M>,
    output: impl FnOnce(M) -> Option<O>,
    lost: impl Fn(&str) -> Failure,
) -> Result<O, Failure> {
    match stream.message().await {
        Ok(Some(message)) => output(message).ok_or_else(|| lost("it said nothing")),
        Ok(None) => Err(lost("the connection ended")),
        Err(status) if is_passing(&status) => Err(lost(status.message())),
        Err(status) => Err(refusal(&status)),
    }
}

/// The request was sent again and again, and nobody could serve it.
fn unserved(status: &Status) -> Failure {
    let failure = refusal(status);
    if failure.hint.is_some() {
        return failure;
    }
    let message = format!("no controller could serve the request: {}", failure.message);
    let hint =
        "a majority of the controllers must be up; see `swarmctl node ls --stale` and their logs";
    Failure { message, ..failure }.hint(hint)
}

/// A controller's refusal: what and why, then `hint: …` after an empty line.
pub(crate) fn refusal(status: &Status) -> Failure {
    let text = status.message().trim();
    let (message, hint) = match text.split_once("\n\nhint: ") {
        Some((message, hint)) => (message, Some(hint)),
        None => (text, None),
    };
    let message = match (message, status.code()) {
        ("", code) => format!("the controller refused: {code}"),
        (message, Code::Internal | Code::Unknown | Code::DataLoss) => {
            format!("the controller failed: {message}")
        }
        (message, _) => message.to_owned(),
    };
    let failure = Failure::refused(message);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// A connection's error with its cause, without what the cause's own words repeat.
pub(crate) fn explain(error: &ConnectError) -> String {
    let cause = match error {
        ConnectError::Socket { source, .. } | ConnectError::Unreachable { source, .. } => {
            match source.kind() {
                std::io::ErrorKind::NotFound => Some("it does not exist".to_owned()),
                std::io::ErrorKind::ConnectionRefused => Some("nobody listens there".to_owned()),
                std::io::ErrorKind::PermissionDenied => {
                    Some("permission denied; only root may".to_owned())
                }
                _ => Some(source.to_string()),
            }
        }
        _ => error.source().map(ToString::to_string),
    };
    match cause {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// A random id for one command's request.
pub(crate) fn request_id() -> Result<String, Failure> {
    swarm_proto::transport::random_hex::<16>()
        .map_err(|error| Failure::because("cannot draw a request id", &error))
}
