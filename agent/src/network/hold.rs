//! Connections to services that have no task that serves, while they may have one soon.
//!
//! The rule of such an address tells us of each first packet and drops it (see [`super::rules`]). It waits here, the
//! leader is told, and once the address leads somewhere the packet is sent again from where it was, so that its sender
//! does not wait for its own next attempt. What waits too long is refused, and so is what is too much.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use swarm_proto::id::{ServiceId, TaskId};
use swarm_runtime::kernel::Namespace;
use swarm_runtime::kernel::nflog::{Listener, Logged, NflogError};
use swarm_runtime::kernel::nft::Transport;
use swarm_runtime::kernel::packet::{Flow, Sender};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpSocket;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::KernelError;

/// The group in which rules tell of packets that wait.
pub(super) const GROUP: u16 = 0x5357;
/// Before the number of the service that is meant.
const PREFIX: &str = "swarm ";
/// A connection waits no longer than this.
const LONGEST: Duration = Duration::from_mins(1);
/// So many wait in one namespace.
const MOST: usize = 256;
/// The leader is told again after so long, as long as something waits.
const AGAIN: Duration = Duration::from_secs(1);
/// A container that has started may not listen yet: its port is asked so long, and so often.
const LISTENS_WITHIN: Duration = Duration::from_secs(10);
const ASK_AFTER: Duration = Duration::from_millis(20);
const ASK_LIMIT: Duration = Duration::from_secs(1);

/// What a rule says of the service that a packet is for.
pub(super) fn prefix(service: ServiceId) -> String {
    format!("{PREFIX}{}", service.0)
}

/// The namespace in which a connection waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// The host's own: it came to a published port.
    Host,
    /// A task's: it went to a virtual address.
    Task(TaskId),
}

/// What has to wait at a place by the rules that stand there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    /// What is for one of these services.
    Services(BTreeSet<ServiceId>),
    /// What is for one of these addresses.
    Addresses(BTreeSet<Ipv4Addr>),
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Services(services) => services.is_empty(),
            Self::Addresses(addresses) => addresses.is_empty(),
        }
    }

    fn holds(&self, service: ServiceId, flow: &Flow) -> bool {
        match self {
            Self::Services(services) => services.contains(&service),
            Self::Addresses(addresses) => addresses.contains(flow.destination.ip()),
        }
    }
}

#[derive(Debug)]
struct Waiting {
    service: ServiceId,
    packet: Vec<u8>,
    since: Instant,
}

/// All connections that wait on this host.
#[derive(Debug, Default)]
pub(super) struct Hold {
    inner: Mutex<Inner>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    held: BTreeMap<Place, Held>,
    waiting: BTreeMap<(Place, Flow), Waiting>,
    /// Services of which the leader was told, and when.
    told: BTreeMap<ServiceId, Instant>,
    /// Services that datagrams were for, which do not wait.
    wanted: BTreeSet<ServiceId>,
}

impl Hold {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The services for which something waits: at once when it comes, and each second after. May be given up at any time.
    pub(super) async fn demand(&self) -> BTreeSet<ServiceId> {
        loop {
            let (due, next) = self.inner().due(Instant::now());
            if !due.is_empty() {
                return due;
            }
            match next {
                Some(at) => drop(timeout_at(at, self.news.notified()).await),
                None => self.news.notified().await,
            }
        }
    }

    /// Takes a packet in, unless that cannot be or need not.
    fn take(&self, place: Place, logged: Logged) -> Taken {
        let number = logged.prefix.strip_prefix(PREFIX).and_then(|text| text.parse().ok());
        let Some((service, flow)) = number.map(ServiceId).zip(Flow::of(&logged.packet)) else {
            return Taken::In;
        };
        let mut inner = self.inner();
        if flow.transport == Transport::Udp {
            inner.wanted.insert(service);
        } else if !inner.held.get(&place).is_some_and(|held| held.holds(service, &flow)) {
            // It was told of while the rules changed.
            return Taken::Free(flow.destination, logged.packet);
        } else if let Some(known) = inner.waiting.get_mut(&(place, flow)) {
            // It was sent again: it waits since the first time.
            known.packet = logged.packet;
        } else if inner.waiting.keys().filter(|(of, _)| *of == place).count() >= MOST {
            return Taken::TooMuch(logged.packet);
        } else {
            let waiting = Waiting { service, packet: logged.packet, since: Instant::now() };
            inner.waiting.insert((place, flow), waiting);
        }
        drop(inner);
        self.news.notify_one();
        Taken::In
    }

    /// The packets of a place that have waited too long, and when the next one will have.
    fn expired(&self, place: Place, now: Instant) -> (Vec<Vec<u8>>, Option<Instant>) {
        let mut inner = self.inner();
        let is_old =
            |(of, _): &(Place, Flow), one: &Waiting| *of == place && one.since + LONGEST <= now;
        let old: Vec<_> = inner
            .waiting
            .iter()
            .filter(|(key, one)| is_old(key, one))
            .map(|(key, _)| *key)
            .collect();
        let taken = old.iter().filter_map(|key| inner.waiting.remove(key));
        let packets = taken.map(|one| one.packet).collect();
        let others = inner.waiting.iter().filter(|((of, _), _)| *of == place);
        (packets, others.map(|(_, one)| one.since + LONGEST).min())
    }

    /// The rules of a place hold this from now on. What waits and need not any more goes on, as they lead it somewhere or
    /// refuse it now.
    pub(super) fn set(&self, place: Place, namespace: &Namespace, held: Held) {
        let mut inner = self.inner();
        let free = |(of, flow): &(Place, Flow), one: &Waiting| {
            *of == place && !held.holds(one.service, flow)
        };
        let keys: Vec<_> =
            inner.waiting.iter().filter(|(key, one)| free(key, one)).map(|(key, _)| *key).collect();
        let mut by_port: BTreeMap<SocketAddrV4, Vec<Vec<u8>>> = BTreeMap::new();
        for (key, one) in
            keys.into_iter().filter_map(|key| Some((key, inner.waiting.remove(&key)?)))
        {
            by_port.entry(key.1.destination).or_default().push(one.packet);
        }
        inner.held.insert(place, held);
        inner.tidy(Instant::now());
        drop(inner);
        for (port, packets) in by_port {
            tokio::spawn(send_again(namespace.clone(), port, packets));
        }
    }

    /// A place is gone, and with it whoever waited there.
    pub(super) fn forget(&self, place: Place) {
        let mut inner = self.inner();
        inner.held.remove(&place);
        inner.waiting.retain(|(of, _), _| *of != place);
        inner.tidy(Instant::now());
    }

    /// How many connections wait.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.inner().waiting.len()
    }
}

/// What became of a packet.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    /// It waits, or is told of.
    In,
    /// It need not wait.
    Free(SocketAddrV4, Vec<u8>),
    /// Nothing more may wait.
    TooMuch(Vec<u8>),
}

impl Inner {
    /// The services that the leader is to be told of now, and when there are some next.
    fn due(&mut self, now: Instant) -> (BTreeSet<ServiceId>, Option<Instant>) {
        self.tidy(now);
        let waiting: BTreeSet<ServiceId> = self.waiting.values().map(|one| one.service).collect();
        let all: Vec<ServiceId> = waiting.union(&self.wanted).copied().collect();
        let due: BTreeSet<ServiceId> =
            all.into_iter().filter(|service| self.again(*service, now).is_none()).collect();
        self.told.extend(due.iter().map(|service| (*service, now)));
        self.wanted.clear();
        let next = waiting.into_iter().filter_map(|service| self.again(service, now)).min();
        (due, next)
    }

    /// When the leader is told of a service again; `None` where that is not later than now.
    fn again(&self, service: ServiceId, now: Instant) -> Option<Instant> {
        self.told.get(&service).map(|at| *at + AGAIN).filter(|at| *at > now)
    }

    /// Forgets of whom nothing waits any more: the next one is news again.
    fn tidy(&mut self, now: Instant) {
        let waiting: BTreeSet<ServiceId> = self.waiting.values().map(|one| one.service).collect();
        self.told.retain(|service, at| waiting.contains(service) || *at + AGAIN > now);
    }
}

/// Sends first packets again from where they were, once the port that they are for listens.
async fn send_again(namespace: Namespace, port: SocketAddrV4, packets: Vec<Vec<u8>>) {
    let sender = match Sender::open_in(&namespace) {
        Ok(sender) => sender,
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            return tracing::warn!(error, "connections that waited begin again by themselves");
        }
    };
    listens(&namespace, port).await;
    for packet in packets {
        // Where it does not arrive it is as any packet that is lost: its sender tries again.
        if let Err(error) = sender.repeat(&packet) {
            tracing::debug!(%error, %port, "a connection that waited begins again by itself");
        }
    }
}

/// Returns once something listens at a port, or nobody can tell, or it takes too long.
pub(super) async fn listens(namespace: &Namespace, port: SocketAddrV4) {
    let end = Instant::now() + LISTENS_WITHIN;
    while Instant::now() < end {
        let namespace = namespace.clone();
        let made = tokio::task::spawn_blocking(move || namespace.enter(TcpSocket::new_v4));
        let Ok(Ok(Ok(socket))) = made.await else { return };
        match timeout(ASK_LIMIT, socket.connect(port.into())).await {
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                sleep(ASK_AFTER).await;
            }
            _ => return,
        }
    }
}

/// Listens in one namespace for as long as it is kept.
#[derive(Debug)]
pub(super) struct Gate(AbortHandle);

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Gate {
    /// Starts to listen now.
    pub(super) fn open(
        hold: &Arc<Hold>,
        place: Place,
        namespace: &Namespace,
    ) -> Result<Self, KernelError> {
        let listener = Listener::listen_in(namespace, GROUP)?;
        #[expect(
            deprecated,
            reason = "this descriptor stays open while registered; the constructor for those that may not is not safe"
        )]
        let listener = AsyncFd::try_with_interest(listener, Interest::READABLE)
            .map_err(|error| NflogError::Open(error.into()))?;
        let sender = Sender::open_in(namespace)?;
        let here = (place, namespace.clone());
        let task = tokio::spawn(watch(Arc::downgrade(hold), here, listener, sender));
        Ok(Self(task.abort_handle()))
    }
}

async fn watch(
    hold: Weak<Hold>,
    (place, namespace): (Place, Namespace),
    mut listener: AsyncFd<Listener>,
    sender: Sender,
) {
    loop {
        let Some(next) = hold.upgrade().map(|hold| refuse_expired(&hold, place, &sender)) else {
            return;
        };
        // Nothing of what comes now can be too old before this.
        let at = next.unwrap_or_else(|| Instant::now() + LONGEST);
        let logged = tokio::select! {
            logged = heard(&mut listener) => logged,
            () = sleep_until(at) => continue,
        };
        match logged {
            Ok(logged) => {
                let Some(hold) = hold.upgrade() else { return };
                for one in logged {
                    match hold.take(place, one) {
                        Taken::In => {}
                        Taken::TooMuch(packet) => refuse(&sender, &packet),
                        Taken::Free(port, packet) => {
                            tokio::spawn(send_again(namespace.clone(), port, vec![packet]));
                        }
                    }
                }
            }
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                return tracing::warn!(error, "connections wake no service any more");
            }
        }
    }
}

fn refuse_expired(hold: &Hold, place: Place, sender: &Sender) -> Option<Instant> {
    let (old, next) = hold.expired(place, Instant::now());
    for packet in &old {
        refuse(sender, packet);
    }
    next
}

fn refuse(sender: &Sender, packet: &[u8]) {
    if let Err(error) = sender.refuse(packet) {
        tracing::debug!(%error, "a connection that waited in vain is not told so");
    }
}

async fn heard(listener: &mut AsyncFd<Listener>) -> Result<Vec<Logged>, NflogError> {
    let mut ready = listener.readable_mut().await.map_err(NflogError::Take)?;
    let logged = ready.get_inner_mut().take()?;
    ready.clear_ready();
    Ok(logged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(service: u64, source: u8, protocol: u8) -> Logged {
        let mut packet = vec![0x45, 0, 0, 40, 0, 1, 0, 0, 64, protocol, 0, 0];
        packet.extend([10, 0, 0, source, 10, 0, 0, 200, 3, 0xe8, 0, 80]);
        packet.extend([0; 16]);
        Logged { prefix: prefix(ServiceId(service)), packet }
    }

    fn hold() -> Hold {
        let hold = Hold::default();
        let held = Held::Services([ServiceId(1), ServiceId(2)].into());
        hold.inner().held.insert(Place::Host, held);
        hold
    }

    #[test]
    fn the_leader_is_told_at_once_and_each_second_as_long_as_something_waits() {
        let hold = hold();
        let (web, api, now) = (ServiceId(1), ServiceId(2), Instant::now());
        assert_eq!(hold.inner().due(now), ([].into(), None));
        assert_eq!(hold.take(Place::Host, logged(1, 1, 6)), Taken::In);
        assert_eq!(hold.inner().due(now), ([web].into(), Some(now + AGAIN)));
        hold.take(Place::Host, logged(1, 1, 6));
        assert_eq!(hold.count(), 1, "the same packet");
        assert_eq!(hold.inner().due(now), ([].into(), Some(now + AGAIN)));
        let later = now + AGAIN;
        hold.take(Place::Host, logged(2, 2, 17));
        let told = hold.inner().due(later);
        assert_eq!(told, ([web, api].into(), Some(later + AGAIN)), "a datagram is told of once");
        hold.forget(Place::Host);
        assert_eq!(hold.inner().due(later + AGAIN), ([].into(), None));
    }

    #[test]
    fn what_is_too_much_or_too_long_does_not_wait() {
        let hold = hold();
        let mut packet = logged(1, 1, 6);
        for port in 0..300_u16 {
            packet.packet[20..22].copy_from_slice(&port.to_be_bytes());
            let refused = hold.take(Place::Host, packet.clone());
            assert_eq!(refused != Taken::In, usize::from(port) >= MOST, "{port}");
        }
        let now = Instant::now();
        let (expired, next) = hold.expired(Place::Host, now);
        assert!(expired.is_empty() && next.is_some_and(|at| at > now && at <= now + LONGEST));
        assert_eq!(hold.expired(Place::Host, now + LONGEST).0.len(), MOST);
        assert_eq!(hold.count(), 0);
        let other = Logged { prefix: "another's".to_owned(), ..logged(1, 1, 6) };
        assert_eq!((hold.take(Place::Host, other), hold.count()), (Taken::In, 0));
        let late = hold.take(Place::Host, logged(3, 1, 6));
        assert!(matches!(late, Taken::Free(..)), "its rule holds nothing any more");
    }
}
