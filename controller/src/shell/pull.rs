//! `image pull`: nodes that fetch an image, all the same content, and what they say meanwhile.

use std::sync::Arc;

use futures_util::StreamExt as _;
use swarm_proto::object::Node;
use swarm_proto::wire;
use swarm_proto::wire::pull_progress::Said;
use tonic::{Code, Status};

use super::controller::Controller;
use super::image_service::{named, some_node};
use super::images::ready_nodes;
use super::refusal::Refusal;
use super::registry;
use super::relay;

/// Nodes that fetch at the same time; they copy from each other.
const AT_ONCE: usize = 64;

impl Controller {
    /// Has nodes fetch an image. What goes wrong on one is said of it, and the others go on.
    pub async fn pull_image(
        &self,
        request: wire::PullImageRequest,
        sender: &relay::Sender<wire::PullProgress>,
    ) -> Result<(), Status> {
        let state = Arc::clone(&self.read_soon().await.0.state);
        let nodes = match (request.node.as_str(), request.all) {
            ("", true) => ready_nodes(&state),
            ("", false) => vec![some_node(self, &state)?],
            (name, _) => vec![named(&state, name)?],
        };
        if nodes.is_empty() {
            let refusal = Refusal::unavailable("no node is ready");
            return Err(refusal.hint("see the nodes with `swarmctl node ls`").into());
        }
        let digest = match request.image.split_once('@') {
            Some((_, digest)) => digest.to_owned(),
            // A warning says that the registry was not asked: so will each node that has to.
            None => self.resolve("", &request.image).await?.0,
        };
        let login = registry::login_of(&state, &request.image);
        let request = wire::PullImageRequest { digest, login, ..request };
        let pulls = nodes.iter().map(|node| self.pull_on(node, request.clone(), sender));
        let pulls: Vec<_> = pulls.collect();
        futures_util::stream::iter(pulls).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
        Ok(())
    }

    async fn pull_on(
        &self,
        node: &Node,
        request: wire::PullImageRequest,
        sender: &relay::Sender<wire::PullProgress>,
    ) {
        let Err(status) = self.carry_pull(node, request, sender).await else { return };
        let failed = match status.code() {
            Code::Unimplemented => "its agent is too old to be told to fetch images".to_owned(),
            _ => status.message().to_owned(),
        };
        let node = node.description.hostname.clone();
        // An error means that nobody listens any more.
        let _ =
            sender.send(Ok(wire::PullProgress { node, said: Some(Said::Failed(failed)) })).await;
    }

    async fn carry_pull(
        &self,
        node: &Node,
        request: wire::PullImageRequest,
        sender: &relay::Sender<wire::PullProgress>,
    ) -> Result<(), Status> {
        let mut store = self.store(node).await?;
        let mut told = store.pull(request).await?.into_inner();
        let mut done = false;
        while let Some(said) = told.message().await? {
            done |= matches!(said.said, Some(Said::Done(_)));
            if sender.send(Ok(said)).await.is_err() {
                return Ok(());
            }
        }
        if done { Ok(()) } else { Err(Status::unavailable("its agent ended before it was done")) }
    }
}
