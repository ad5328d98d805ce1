//! The session with the leader: says what is on this host, takes assignments, notices when nobody is in reach.
//!
//! Any controller will do, for followers relay. A session that falls silent, loses a message or is told goodbye is
//! ended, and the next begins with a complete picture of both sides.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use swarm_proto::assignment::AssignmentDiff;
use swarm_proto::convert::{ConvertError, Fields, each};
use swarm_proto::failure::sentence;
use swarm_proto::id::ServiceId;
use swarm_proto::object::{HeldImage, Incarnation};
use swarm_proto::transport::{
    self, CONTROLLER_NAME, ConnectError, Identity, MAX_MESSAGE, Tls, tell_incarnation,
};
use swarm_proto::wire;
use swarm_proto::wire::agent_message::Message as Say;
use swarm_proto::wire::controller_message::Message as Heard;
use swarm_proto::wire::dispatcher_client::DispatcherClient;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Streaming};

use crate::board::Board;
use crate::content::DamagedContent;
use crate::controllers::Controllers;
use crate::description::Describer;
use crate::executor::Executor;
use crate::incarnation::{IncarnationError, Latest};
use crate::lease::{self, Lease};
use crate::sys;
use crate::usage::Usages;
use crate::worker::{AssignError, Worker};

/// A controller that does not answer so long is passed over.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// The next controller is tried so much later, while the one before may still answer.
const STAGGER: Duration = Duration::from_millis(250);
/// A welcome takes a leader, and electing one takes a moment.
const WELCOME_LIMIT: Duration = Duration::from_secs(3);
/// The longest pause between two rounds over all controllers.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Without a word for so long, no controller counts as in reach.
const CUT_OFF_AFTER: Duration = Duration::from_secs(4);
/// After a session that was shorter, the pauses go on growing.
const SHORT_SESSION: Duration = Duration::from_secs(5);
/// Heartbeats without an answer that end a session.
const SILENT_HEARTBEATS: u32 = 4;
/// Reports that follow each other faster are sent as one.
const REPORT_PAUSE: Duration = Duration::from_millis(40);
/// How often the host is looked at again.
const DESCRIBE_EVERY: Duration = Duration::from_secs(15);
/// Messages that wait for the network.
const OUTGOING: usize = 16;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("no controller is known")]
    NoController,
    #[error("`{0}` did not answer in time")]
    Slow(String),
    #[error("{}", .0.message())]
    Status(Box<tonic::Status>),
    #[error("the controller ended the stream")]
    Ended,
    #[error("the controller said goodbye: {0}")]
    Goodbye(String),
    #[error("the controller fell silent")]
    Silent,
    #[error("message {found} came, {expected} was next")]
    Gap { expected: u64, found: u64 },
    #[error("the controller sent something that cannot be understood")]
    Convert(#[from] ConvertError),
    #[error("the controller sent {0} where it may not")]
    Unexpected(&'static str),
    #[error(transparent)]
    Assign(#[from] AssignError),
    #[error(transparent)]
    Content(#[from] DamagedContent),
    #[error(transparent)]
    Incarnation(#[from] IncarnationError),
    #[error("the stream to the controller is stuck")]
    Stuck,
}

impl From<tonic::Status> for SessionError {
    fn from(status: tonic::Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// All that sessions need.
pub struct Sessions {
    /// Who this host is; its list of controllers is kept up to date.
    pub identity: Identity,
    /// Where the identity lies.
    pub state_dir: PathBuf,
    /// The host's certificate.
    pub tls: Arc<Tls>,
    /// Told which nodes run controllers.
    pub controllers: Arc<Controllers>,
    /// Makes assignments true.
    pub worker: Arc<Worker>,
    /// What to report.
    pub board: Arc<Board>,
    /// Knows the volumes.
    pub executor: Arc<dyn Executor>,
    /// Looks at the host.
    pub describer: Describer,
    /// Which controllers are to be believed.
    pub latest: Latest,
    /// Told whether a controller is in reach.
    pub cut_off: watch::Sender<bool>,
    /// Told when a leader has spoken.
    pub lease: Arc<Lease>,
    /// What tasks use that are measured.
    pub usages: watch::Receiver<Usages>,
    /// Images of this host, for others to copy.
    pub images: watch::Receiver<Vec<HeldImage>>,
}

/// Which controllers are tried first, as `host:port`.
#[derive(Default)]
struct Choice {
    /// The first.
    preferred: Option<String>,
    /// The last: those that gave no session since there was one.
    turned_away: BTreeSet<String>,
}

impl Sessions {
    /// One session after the other, without end.
    pub async fn run(mut self) {
        let mut heard = Instant::now();
        let mut choice = Choice::default();
        let mut failures: u32 = 0;
        loop {
            let mut welcomed = None;
            if failures > 0 {
                self.look_up_controllers();
            }
            let error = match self.session(&mut choice, &mut heard, &mut welcomed).await {
                Err(error) => error,
                Ok(never) => match never {},
            };
            if let SessionError::Goodbye(_) | SessionError::Ended = error {
                tracing::info!(reason = %sentence(&error), "the session ended");
            } else {
                tracing::warn!(error = %sentence(&error), "no session");
            }
            // A session that ends at once is no better than none.
            let good = welcomed.is_some_and(|since: Instant| since.elapsed() > SHORT_SESSION);
            failures = if good { 0 } else { failures.saturating_add(1) };
            self.pause(failures, heard).await;
        }
    }

    /// Pauses before the next session, and notices meanwhile that nobody is in reach.
    async fn pause(&self, failures: u32, heard: Instant) {
        let longest = (Duration::from_millis(50) * 2_u32.pow(failures.min(5))).min(LONGEST_PAUSE);
        let end = Instant::now() + longest.mul_f64(0.5 + 0.5 * fraction());
        let cut_off = heard + CUT_OFF_AFTER;
        if cut_off <= end {
            sleep_until(cut_off).await;
            if self.cut_off.send_if_modified(|now| !std::mem::replace(now, true)) {
                tracing::warn!("no controller is in reach; tasks go on by themselves");
            }
        }
        sleep_until(end).await;
    }

    async fn session(
        &mut self,
        choice: &mut Choice,
        heard: &mut Instant,
        welcomed: &mut Option<Instant>,
    ) -> Result<std::convert::Infallible, SessionError> {
        let (address, channel) = self.connect(choice).await?;
        let (sender, receiver) = mpsc::channel(OUTGOING);
        let hello = self.hello().await;
        // Nothing waits in a new channel.
        sender.try_send(message(Say::Hello(hello))).map_err(|_| SessionError::Stuck)?;
        let opened = self.open(&address, channel, receiver, choice).await;
        let (stream, welcome) = opened.inspect_err(|_| {
            choice.turned_away.insert(address.clone());
        })?;
        choice.turned_away.clear();
        tracing::info!(controller = %address, "in session");
        *heard = Instant::now();
        *welcomed = Some(*heard);
        self.cut_off.send_if_modified(|now| std::mem::replace(now, false));
        self.remember(&welcome.controllers);
        self.controllers.set_in_session(&address);
        self.controllers.set(&welcome.controller_nodes);
        if let Some(port) = u16::try_from(welcome.vxlan_port).ok().filter(|port| *port != 0) {
            self.describer.expect_tunnels_on(port);
        }
        self.tls.want_roots(&welcome.roots);
        // The session that was good is the first to try again.
        choice.preferred = Some(address);
        let heartbeat = Duration::from_millis(u64::from(welcome.heartbeat_milliseconds.max(50)));
        let unanswered = VecDeque::new();
        let mut open =
            Open { sessions: self, sender, heartbeats: 0, unanswered, answers: 0, sequence: 0 };
        open.answered();
        open.talk(stream, heartbeat, choice, heard).await
    }

    /// Asks for a session, of a controller that is to be believed.
    async fn open(
        &mut self,
        address: &str,
        channel: Channel,
        outgoing: mpsc::Receiver<wire::AgentMessage>,
        choice: &mut Choice,
    ) -> Result<(Streaming<wire::ControllerMessage>, wire::Welcome), SessionError> {
        let mut client = DispatcherClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let mut request = Request::new(ReceiverStream::new(outgoing));
        tell_incarnation(request.metadata_mut(), self.latest.incarnation());
        let slow = |_| SessionError::Slow(address.to_owned());
        let open = timeout(WELCOME_LIMIT, client.session(request));
        let mut stream = open.await.map_err(slow)??.into_inner();
        match timeout(WELCOME_LIMIT, next(&mut stream)).await.map_err(slow)?? {
            Heard::Welcome(welcome) => {
                self.latest.hear(Incarnation::from_wire(welcome.incarnation))?;
                Ok((stream, welcome))
            }
            Heard::Goodbye(goodbye) => Err(said_goodbye(goodbye, choice)),
            _ => Err(SessionError::Unexpected("something else than a welcome")),
        }
    }

    /// Connects to whichever controller answers first, in the order of preference.
    async fn connect(&self, choice: &mut Choice) -> Result<(String, Channel), SessionError> {
        let mut addresses: Vec<String> = choice.preferred.take().into_iter().collect();
        for address in &self.identity.controllers {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        if addresses.is_empty() {
            return Err(SessionError::NoController);
        }
        // One of an earlier incarnation may be the quickest to answer, each time.
        addresses.sort_by_key(|address| choice.turned_away.contains(address));
        let mut waiting = addresses.into_iter();
        let mut running = FuturesUnordered::new();
        let mut last = SessionError::NoController;
        loop {
            // One more at the beginning, after each failure, and when the others take long.
            running.extend(waiting.next().map(|address| self.try_connect(address)));
            tokio::select! {
                tried = running.next() => match tried {
                    Some(Ok(connected)) => return Ok(connected),
                    Some(Err(error)) => last = error,
                    None => return Err(last),
                },
                () = sleep(STAGGER), if waiting.len() > 0 => {}
            }
        }
    }

    async fn try_connect(&self, address: String) -> Result<(String, Channel), SessionError> {
        match timeout(CONNECT_LIMIT, self.tls.connect(&address, CONTROLLER_NAME)).await {
            Ok(Ok(channel)) => Ok((address, channel)),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(SessionError::Slow(address)),
        }
    }

    async fn hello(&mut self) -> wire::Hello {
        let description = self.describer.describe().await;
        let statuses = self.board.begin();
        wire::Hello {
            session: transport::random_hex::<16>().unwrap_or_default(),
            description: Some((&description).into()),
            statuses: statuses.iter().map(|(id, status)| (id, status).into()).collect(),
            volumes: self.volumes().await,
            takes_network_changes: true,
        }
    }

    async fn volumes(&self) -> Vec<wire::VolumeReport> {
        match self.executor.volume_reports().await {
            Ok(reports) => reports.iter().map(Into::into).collect(),
            Err(error) => {
                tracing::error!(error = %error.sentence(), "cannot list volumes");
                Vec::new()
            }
        }
    }

    /// The controller of this host writes down other addresses, its own among them, that no session has told of: on a
    /// cluster's only host, whose address changed, none could.
    fn look_up_controllers(&mut self) {
        if let Err(error) = self.identity.look_up_controllers(&self.state_dir) {
            tracing::warn!(error = %sentence(&error), "cannot look up the controllers");
        }
    }

    fn remember(&mut self, controllers: &[String]) {
        if controllers.is_empty() {
            return;
        }
        if let Err(error) = self.identity.update_controllers(&self.state_dir, controllers) {
            tracing::warn!(error = %sentence(&error), "cannot remember the controllers");
        }
    }
}

/// A session after its welcome.
struct Open<'a> {
    sessions: &'a mut Sessions,
    sender: mpsc::Sender<wire::AgentMessage>,
    /// Heartbeats sent.
    heartbeats: u64,
    /// When each was sent that is not answered yet, after the complete set had come.
    unanswered: VecDeque<Option<Duration>>,
    /// Heartbeats answered.
    answers: u64,
    /// The last message of assignments.
    sequence: u64,
}

impl Open<'_> {
    async fn talk(
        &mut self,
        mut stream: Streaming<wire::ControllerMessage>,
        interval: Duration,
        choice: &mut Choice,
        heard: &mut Instant,
    ) -> Result<std::convert::Infallible, SessionError> {
        let mut heartbeat = tokio::time::interval_at(Instant::now() + interval, interval);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut describe =
            tokio::time::interval_at(Instant::now() + DESCRIBE_EVERY, DESCRIBE_EVERY);
        let (board, tls) = (Arc::clone(&self.sessions.board), Arc::clone(&self.sessions.tls));
        let mut usages = self.sessions.usages.clone();
        let executor = Arc::clone(&self.sessions.executor);
        let mut images = self.sessions.images.clone();
        // Each session is told all of them once.
        images.mark_changed();
        let mut roots = tls.roots();
        let mut report_at: Option<Instant> = None;
        let mut may_report = Instant::now();
        loop {
            tokio::select! {
                message = next(&mut stream) => {
                    *heard = Instant::now();
                    let is_first = self.sequence == 0;
                    self.take(message?, choice).await?;
                    // The leader's word on what runs here is wanted soon.
                    if is_first && self.sequence > 0 {
                        heartbeat.reset_immediately();
                    }
                }
                () = board.news(), if report_at.is_none() => {
                    report_at = Some(may_report.max(Instant::now()));
                }
                () = at(report_at) => {
                    (report_at, may_report) = (None, Instant::now() + REPORT_PAUSE);
                    self.report().await?;
                }
                _ = heartbeat.tick() => {
                    if heard.elapsed() > interval * SILENT_HEARTBEATS {
                        return Err(SessionError::Silent);
                    }
                    self.heartbeats += 1;
                    // Before it, this host may run what it should not.
                    let sent = (self.sequence > 0).then(lease::now);
                    self.unanswered.push_back(sent);
                    self.say(Say::Heartbeat(wire::Heartbeat {})).await?;
                }
                measured = next_usages(&mut usages) => self.say(usage_report(&measured)).await?,
                services = executor.demand() => self.say(demand(services)).await?,
                held = next_images(&mut images) => {
                    self.say(Say::Images(wire::ImagesReport { images: each(&held) })).await?;
                }
                () = tls.roots_changed(&roots) => {
                    roots = tls.roots();
                    describe.reset_immediately();
                }
                _ = describe.tick() => {
                    sys::release_memory();
                    if let Some(changed) = self.sessions.describer.changed().await {
                        self.say(Say::Description((&changed).into())).await?;
                    }
                }
            }
        }
    }

    async fn take(&mut self, message: Heard, choice: &mut Choice) -> Result<(), SessionError> {
        match message {
            Heard::Welcome(_) => Err(SessionError::Unexpected("a second welcome")),
            Heard::Goodbye(goodbye) => Err(said_goodbye(goodbye, choice)),
            Heard::Alive(alive) => {
                self.answers += 1;
                if let Some(sent) = self.unanswered.pop_front().flatten() {
                    self.sessions.lease.renew(sent);
                }
                self.answered();
                self.sessions.remember(&alive.controllers);
                self.sessions.controllers.set(&alive.controller_nodes);
                self.sessions.tls.want_roots(&alive.roots);
                Ok(())
            }
            Heard::Content(mut content) => {
                let id = Fields("Content").required("content", content.content.take())?;
                let bytes = std::mem::take(&mut content.data).into();
                Ok(self.sessions.executor.assigned().contents().put(id, bytes)?)
            }
            Heard::Assignments(assignments) => {
                let expected = self.sequence + 1;
                if assignments.sequence != expected {
                    return Err(SessionError::Gap { expected, found: assignments.sequence });
                }
                if expected == 1 && !assignments.complete {
                    return Err(SessionError::Unexpected("a change before the complete set"));
                }
                self.sequence = expected;
                let diff: AssignmentDiff = assignments.diff.unwrap_or_default().try_into()?;
                Ok(self.sessions.worker.assign(assignments.complete, diff).await?)
            }
        }
    }

    /// What was sent before the answered heartbeat is known to the leader.
    fn answered(&self) {
        let ended = self.sessions.board.answered(self.answers);
        if !ended.is_empty() {
            self.sessions.worker.note_heard(&ended);
        }
    }

    async fn report(&mut self) -> Result<(), SessionError> {
        let report = self.sessions.board.take(self.heartbeats + 1);
        // Volumes first: a running task's volume is known before the task runs.
        if report.volumes {
            let volumes = self.sessions.volumes().await;
            self.say(Say::Volumes(wire::VolumesReport { volumes })).await?;
        }
        if !report.statuses.is_empty() {
            let statuses = report.statuses.iter().map(|(id, status)| (id, status).into()).collect();
            self.say(Say::Statuses(wire::StatusReport { statuses })).await?;
        }
        let gone = !report.removed_networks.is_empty() || !report.removed_tasks.is_empty();
        if gone || report.networks.is_some() {
            let networks = report.networks.unwrap_or_default();
            self.say(Say::Confirmation(wire::Confirmation {
                networks: networks.into_iter().map(|(id, version)| (id.0, version)).collect(),
                removed_networks: report.removed_networks.iter().map(|id| id.0).collect(),
                removed_tasks: report.removed_tasks.iter().map(ToString::to_string).collect(),
            }))
            .await?;
        }
        Ok(())
    }

    async fn say(&self, what: Say) -> Result<(), SessionError> {
        match timeout(CUT_OFF_AFTER, self.sender.send(message(what))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(SessionError::Ended),
            Err(_) => Err(SessionError::Stuck),
        }
    }
}

fn said_goodbye(goodbye: wire::Goodbye, choice: &mut Choice) -> SessionError {
    choice.preferred = Some(goodbye.leader).filter(|leader| !leader.is_empty());
    SessionError::Goodbye(goodbye.reason)
}

fn message(what: Say) -> wire::AgentMessage {
    wire::AgentMessage { message: Some(what), relayed_node: 0 }
}

/// The next message; ones without content are passed over.
async fn next(stream: &mut Streaming<wire::ControllerMessage>) -> Result<Heard, SessionError> {
    loop {
        let message = stream.message().await?.ok_or(SessionError::Ended)?;
        if let Some(content) = message.message {
            return Ok(content);
        }
    }
}

/// What tasks use, once it was measured anew.
async fn next_usages(usages: &mut watch::Receiver<Usages>) -> Usages {
    if usages.changed().await.is_err() {
        // Nothing is measured any more: the program ends.
        std::future::pending::<()>().await;
    }
    usages.borrow_and_update().clone()
}

fn usage_report(measured: &Usages) -> Say {
    let tasks = measured.iter().map(|(id, usage)| (id, usage).into()).collect();
    Say::Usage(wire::UsageReport { tasks })
}

fn demand(services: BTreeSet<ServiceId>) -> Say {
    let services = services.into_iter().map(|service| service.0).collect();
    Say::Demand(wire::Demand { services })
}

/// What images there are, once they changed.
async fn next_images(images: &mut watch::Receiver<Vec<HeldImage>>) -> Vec<HeldImage> {
    if images.changed().await.is_err() {
        // None come any more: the program ends, or has none.
        std::future::pending::<()>().await;
    }
    images.borrow_and_update().clone()
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Something between 0 and 1, so that the agents of a cluster do not come all at once.
fn fraction() -> f64 {
    let random = transport::random_hex::<2>().unwrap_or_default();
    u16::from_str_radix(&random, 16).map_or(0.5, |value| f64::from(value) / f64::from(u16::MAX))
}
