//! What the Raft thread publishes: the state as of now for whoever reads, each change for whoever watches.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use swarm_proto::id::{NodeId, RaftId, Timestamp};
use swarm_proto::transport::Departure;
use swarm_proto::version::ClusterVersion;
use tokio::sync::{mpsc, watch};

use super::setup;
use crate::core::state::{Controller, Roster};
use crate::core::{Event, Members, State};

/// Changes that a watcher may lag behind before it is cut off.
const WATCHER_QUEUE: usize = 1024;

/// What this controller knows now.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The applied state.
    pub state: Arc<State>,
    /// Who leads.
    pub leader: Option<RaftId>,
    /// Since when nobody does, once somebody did.
    pub leaderless_since: Option<Timestamp>,
    /// The members of the Raft group.
    pub members: Members,
    /// Whether the group goes on without this controller.
    pub spared: bool,
    /// The connections to other controllers.
    pub contacts: BTreeMap<RaftId, Contact>,
    /// How another controller said that this one is none any more.
    pub dismissed: Option<Departure>,
}

/// How the connection to another controller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// Whether it stands.
    pub connected: bool,
    /// Since when it stands, or does not.
    pub since: SystemTime,
}

impl View {
    /// `host:port` of the leader's controller.
    pub fn leader_address(&self) -> Option<String> {
        self.controller(self.leader?).map(|(_, address)| address)
    }

    /// A controller's node and address.
    pub fn controller(&self, raft_id: RaftId) -> Option<(NodeId, String)> {
        let mut controllers = self.state.controllers().into_iter();
        let found = controllers.find(|(member, ..)| *member == raft_id)?;
        Some((found.1, found.2))
    }

    /// `host:port` of every controller.
    pub fn controller_addresses(&self) -> Vec<String> {
        self.state.controllers().into_iter().map(|(.., address)| address).collect()
    }
}

/// What changed from one applied state to the next.
#[derive(Debug)]
pub struct Change {
    /// The changes in order.
    pub events: Vec<Event>,
    /// The log's index now.
    pub applied: u64,
    /// The cluster's time now.
    pub clock: Timestamp,
}

/// What a watcher is told.
#[derive(Debug, Clone)]
pub enum News {
    /// The state moved on.
    Change(Arc<Change>),
    /// Somebody else leads, or nobody.
    Leader(Option<RaftId>),
}

/// Writes to the disk since the start, each with one sync.
#[derive(Debug, Default)]
pub struct DiskWrites {
    /// How many.
    pub count: AtomicU64,
    /// The microseconds that they took in all.
    pub micros: AtomicU64,
}

impl DiskWrites {
    /// Counts one that took so long; answers with its microseconds.
    pub fn note(&self, took: Duration) -> u64 {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        micros
    }
}

/// Publishes to readers and watchers.
pub struct Hub {
    view: watch::Sender<Arc<View>>,
    watchers: Mutex<Vec<mpsc::Sender<News>>>,
    roster: Mutex<Roster>,
    /// What the disk did.
    pub writes: DiskWrites,
    /// The highest cluster version that this controller goes along with.
    pub knows: ClusterVersion,
}

impl Default for Hub {
    fn default() -> Self {
        Self::new(ClusterVersion::NEWEST)
    }
}

impl Hub {
    /// One that nothing was published to yet, of a controller that goes along with cluster versions up to this.
    pub fn new(knows: ClusterVersion) -> Self {
        Self {
            view: watch::Sender::new(Arc::default()),
            watchers: Mutex::default(),
            roster: Mutex::default(),
            writes: DiskWrites::default(),
            knows,
        }
    }

    /// The view now.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// Every controller.
    pub fn controllers(&self) -> Arc<Vec<Controller>> {
        let mut roster = self.roster.lock().unwrap_or_else(PoisonError::into_inner);
        roster.of(&self.view.borrow().state)
    }

    /// Follows the view; intermediate ones may be skipped.
    pub fn follow(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    /// The view now and all news from exactly then on. The channel closes when the watcher lags too far behind.
    pub fn watch(&self) -> (Arc<View>, mpsc::Receiver<News>) {
        let (sender, news) = mpsc::channel(WATCHER_QUEUE);
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.push(sender);
        (self.view(), news)
    }

    /// Publishes an applied state.
    pub fn applied(&self, state: Arc<State>, events: Vec<Event>) {
        let replaced = events.contains(&Event::Replaced);
        let change = Change { events, applied: state.applied, clock: state.clock };
        let mut old = None;
        let exchange = |view: &mut View| old = Some(std::mem::replace(&mut view.state, state));
        self.publish(exchange, || News::Change(Arc::new(change)));
        if replaced {
            // Nothing of a large state is shared with the one that replaced it: freeing it takes long.
            let free = std::thread::Builder::new().name(String::from("free"));
            let _ = free.spawn(move || drop(old));
        }
    }

    /// Publishes who leads.
    pub fn leader(&self, leader: Option<RaftId>) {
        let change = |view: &mut View| {
            view.leaderless_since = match (view.leader, leader) {
                (_, Some(_)) => None,
                (Some(_), None) => Some(setup::now()),
                (None, None) => view.leaderless_since,
            };
            view.leader = leader;
        };
        self.publish(change, || News::Leader(leader));
    }

    /// Publishes the members of the Raft group.
    pub fn members(&self, members: Members) {
        self.change(|view| view.members = members);
    }

    /// Publishes whether the group goes on without this controller.
    pub fn spared(&self, spared: bool) {
        self.change(|view| view.spared = spared);
    }

    /// Notes whether the connection to a controller stands.
    pub fn contact(&self, peer: RaftId, connected: bool) {
        self.view.send_if_modified(|view| {
            let known = view.contacts.get(&peer);
            let changed = known.is_none_or(|known| known.connected != connected);
            if changed {
                let contact = Contact { connected, since: SystemTime::now() };
                Arc::make_mut(view).contacts.insert(peer, contact);
            }
            changed
        });
    }

    /// Forgets a controller that is none any more.
    pub fn no_contact(&self, peer: RaftId) {
        self.view.send_if_modified(|view| {
            let known = view.contacts.contains_key(&peer);
            if known {
                Arc::make_mut(view).contacts.remove(&peer);
            }
            known
        });
    }

    /// Notes that another controller said that this one is none any more.
    pub fn dismissed(&self, departure: Departure) {
        self.change(|view| view.dismissed = Some(departure));
    }

    fn change(&self, change: impl FnOnce(&mut View)) {
        self.view.send_modify(|view| change(Arc::make_mut(view)));
    }

    fn publish(&self, change: impl FnOnce(&mut View), news: impl FnOnce() -> News) {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        self.change(change);
        if !watchers.is_empty() {
            let news = news();
            watchers.retain(|watcher| watcher.try_send(news.clone()).is_ok());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(applied: u64) -> Arc<State> {
        Arc::new(State { applied, ..State::default() })
    }

    #[test]
    fn a_watcher_sees_every_change_after_its_view() {
        let hub = Hub::default();
        hub.applied(at(1), Vec::new());
        let (view, mut news) = hub.watch();
        assert_eq!(view.state.applied, 1);
        hub.applied(at(2), Vec::new());
        hub.leader(Some(RaftId(3)));
        let Ok(News::Change(change)) = news.try_recv() else { panic!("no change") };
        assert_eq!(change.applied, 2);
        assert!(matches!(news.try_recv(), Ok(News::Leader(Some(RaftId(3))))));
        assert_eq!(hub.view().leader, Some(RaftId(3)));
    }

    #[test]
    fn a_slow_watcher_is_cut_off() {
        let hub = Hub::default();
        let (_, mut news) = hub.watch();
        for index in 0..=WATCHER_QUEUE as u64 {
            hub.applied(at(index), Vec::new());
        }
        let mut count = 0;
        while news.blocking_recv().is_some() {
            count += 1;
        }
        assert_eq!(count, WATCHER_QUEUE);
        assert!(hub.watchers.lock().unwrap().is_empty());
    }
}
