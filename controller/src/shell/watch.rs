//! The state, then each change as it is committed. A watcher that lags too far behind is cut off and starts afresh.

use std::sync::Arc;

use swarm_proto::entry::ObjectId;
use swarm_proto::wire;
use swarm_proto::wire::watch_event::Event as Seen;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::controller::Controller;
use super::hub::{Change, News};
use super::read::{content_view, service_view, stack_of_task, stack_view, state_view};
use crate::core::{Event, State};

/// Events between the watcher's own queue and the connection.
const QUEUE: usize = 64;

/// The stream of one watcher.
pub type Events = ReceiverStream<Result<wire::WatchEvent, Status>>;

/// Starts a watcher's stream.
pub async fn watch(
    controller: Arc<Controller>,
    request: wire::WatchRequest,
) -> Result<Events, Status> {
    controller.read(request.stale).await?;
    let (view, news) = controller.hub.watch();
    let (sender, events) = mpsc::channel(QUEUE);
    if request.snapshot {
        let mut shown = state_view(&view, request.stale, &request.stack);
        controller.sign(&view, &mut shown);
        let first = at(Seen::Snapshot(shown), view.state.applied, view.state.clock.0);
        // There is room: nothing was sent yet.
        let _ = sender.try_send(Ok(first));
    }
    tokio::spawn(tell(controller, request, news, sender));
    Ok(ReceiverStream::new(events))
}

async fn tell(
    controller: Arc<Controller>,
    request: wire::WatchRequest,
    mut news: mpsc::Receiver<News>,
    sender: mpsc::Sender<Result<wire::WatchEvent, Status>>,
) {
    loop {
        let next = tokio::select! {
            next = news.recv() => next,
            () = sender.closed() => return,
        };
        let events = match next {
            Some(News::Change(change)) => seen(&controller, &request, &change),
            Some(News::Leader(leader)) => {
                let state = Arc::clone(&controller.hub.view().state);
                let leader = Seen::Leader(leader.map_or(0, |leader| leader.0));
                vec![at(leader, state.applied, state.clock.0)]
            }
            None => {
                let why = "this watch lagged too far behind\n\nhint: watch again: resync";
                let _ = sender.send(Err(Status::data_loss(why))).await;
                return;
            }
        };
        for event in events {
            if sender.send(Ok(event)).await.is_err() {
                return;
            }
        }
    }
}

fn at(event: Seen, applied: u64, clock: u64) -> wire::WatchEvent {
    wire::WatchEvent { event: Some(event), applied, clock }
}

fn seen(
    controller: &Controller,
    request: &wire::WatchRequest,
    change: &Change,
) -> Vec<wire::WatchEvent> {
    let view = controller.hub.view();
    let events = change.events.iter().filter(|event| wanted(&view.state, event, &request.stack));
    let to_seen = |event: &Event| match event {
        Event::Stack(stack) => Seen::Stack(stack_view(stack)),
        Event::Service(service) => Seen::Service(service_view(service)),
        Event::Task(task) => Seen::Task(wire::Task::from(&**task)),
        Event::Node(node) => Seen::Node(wire::Node::from(&**node)),
        Event::Network(network) => Seen::Network(wire::Network::from(&**network)),
        Event::Volume(volume) => Seen::Volume(wire::Volume::from(&**volume)),
        Event::NamedContent(named) => Seen::NamedContent(content_view(named)),
        Event::Removed { object, name, .. } => Seen::Removed(removed(object, name)),
        Event::Replaced => Seen::Snapshot(state_view(&view, request.stale, &request.stack)),
    };
    events.map(|event| at(to_seen(event), change.applied, change.clock.0)).collect()
}

/// Whether a watcher of this stack, or of everything, is told.
fn wanted(state: &State, event: &Event, stack: &str) -> bool {
    if stack.is_empty() {
        return true;
    }
    match event {
        Event::Stack(found) => found.spec.name == stack,
        Event::Service(service) => service.stack == stack,
        Event::Task(task) => stack_of_task(state, task.id) == stack,
        Event::Network(network) => network.stack == stack,
        Event::Volume(volume) => volume.stack == stack,
        Event::Removed { stack: of, .. } => of.is_empty() || of == stack,
        Event::Node(_) | Event::NamedContent(_) | Event::Replaced => true,
    }
}

fn removed(object: &ObjectId, name: &str) -> wire::Removed {
    let (kind, id) = match object {
        ObjectId::Stack(name) => ("stack", name.clone()),
        ObjectId::Service(id) => ("service", id.to_string()),
        ObjectId::Task(id) => ("task", id.to_string()),
        ObjectId::Node(id) => ("node", id.to_string()),
        ObjectId::Network(id) => ("network", id.to_string()),
        ObjectId::Volume(id) => ("volume", id.to_string()),
        ObjectId::Secret(name) => ("secret", name.clone()),
        ObjectId::Config(name) => ("config", name.clone()),
    };
    wire::Removed { kind: kind.to_owned(), id, name: name.to_owned() }
}
