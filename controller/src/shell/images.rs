//! What agents know of images: what a name stands for now, and which images are on which node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use swarm_proto::failure::sentence;
use swarm_proto::id::Digest;
use swarm_proto::object::{Node, NodeStatus};
use swarm_proto::transport::{AGENT_NAME, MAX_MESSAGE, random_hex};
use swarm_proto::wire;
use swarm_proto::wire::agent_client::AgentClient;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::controller::Controller;
use super::refusal::Refusal;
use super::registry;
use crate::core::State;

/// Agents that are asked for one image at most.
const ASKED: usize = 3;
/// How long one agent may take to ask a registry.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(20);
const LIST_PATIENCE: Duration = Duration::from_secs(5);

/// `host:port` of a node's agent; `None` until the agent said so.
fn agent_address(node: &Node) -> Option<String> {
    let description = &node.description;
    Some(format!("{}:{}", description.address?, description.agent_port))
}

impl Controller {
    /// A client of a node's agent.
    pub async fn agent(&self, node: &Node) -> Result<AgentClient<Channel>, Status> {
        let channel = self.agent_channel(node).await?;
        Ok(AgentClient::new(channel).max_decoding_message_size(MAX_MESSAGE))
    }

    /// A connection to a node's agent.
    pub async fn agent_channel(&self, node: &Node) -> Result<Channel, Status> {
        let name = &node.description.hostname;
        let address = agent_address(node)
            .ok_or_else(|| Refusal::unavailable(format!("node {name} has not reported yet")))?;
        self.tls.connect(&address, AGENT_NAME).await.map_err(|error| {
            let error = sentence(&error);
            Refusal::unavailable(format!("agent of node {name}: {error}")).into()
        })
    }

    /// Where an image is that nodes hold: by its digest, or what its whole name stands for there. `None` when no node
    /// holds it, or no leader can tell.
    pub async fn find_image(&self, name: &str, digest: &str) -> Option<wire::FindImageResponse> {
        let request = wire::FindImageRequest {
            request_id: random_hex::<16>().ok()?,
            reference: name.to_owned(),
            digest: digest.to_owned(),
            asker: 0,
        };
        match self.write(request).await {
            Ok(found) => Some(found).filter(|found| !found.digest.is_empty()),
            Err(status) => {
                tracing::info!(name, why = status.message(), "cannot tell where an image is");
                None
            }
        }
    }

    /// Gives every image of a stack a digest. Answers with sentences for the user.
    pub async fn resolve_images(&self, stack: &mut wire::StackSpec) -> Result<Vec<String>, Status> {
        // A login that somebody was told is kept counts here too.
        self.read_soon().await;
        let open = |image: &wire::ImageSpec| image.digest.as_deref().unwrap_or("").is_empty();
        let references: BTreeSet<String> = images(stack)
            .filter(|image| open(image))
            .map(|image| image.reference.clone())
            .collect();
        let name = stack.name.clone();
        let asked = references.iter().map(|reference| self.resolve(&name, reference));
        let mut answers = BTreeMap::new();
        let mut warnings = Vec::new();
        for (reference, answer) in
            references.iter().zip(futures_util::future::join_all(asked).await)
        {
            let (digest, warning) = answer?;
            answers.insert(reference.clone(), digest);
            warnings.extend(warning);
        }
        for image in images(stack).filter(|image| open(image)) {
            image.digest = answers.get(&image.reference).cloned();
        }
        Ok(warnings)
    }

    /// What a name stands for, with a word where that is not what its registry says. `stack` may run it already.
    pub(super) async fn resolve(
        &self,
        stack: &str,
        reference: &str,
    ) -> Result<(String, Option<String>), Status> {
        let held = self.find_image(reference, "").await;
        let given = held.as_ref().filter(|held| held.local && is_without_registry(reference));
        if let Some(given) = given {
            return Ok((given.digest.clone(), None));
        }
        let state = Arc::clone(&self.hub.view().state);
        let ready = ready_nodes(&state);
        let mut last = Refusal::unavailable(format!(
            "image {reference}: no node is ready to ask its registry"
        ))
        .hint("see the nodes with `swarmctl node ls`; an agent must run on at least one host")
        .into();
        for node in ready.iter().take(ASKED) {
            match self.ask(node, reference).await {
                Ok(digest) => return Ok((digest, None)),
                Err(status) if status.code() == Code::NotFound && held.is_some() => {
                    last = status;
                    break;
                }
                Err(status) if is_final(&status) => {
                    return Err(with_hint(
                        status.code(),
                        &status,
                        "check the image's name and tag",
                    ));
                }
                Err(status) => last = status,
            }
        }
        let known = running_digest(&state, stack, reference);
        let unknown = last.code() == Code::NotFound;
        if let Some(held) = held.filter(|_| unknown || known.is_none()) {
            let warning = held_warning(reference, &held, &last);
            return Ok((held.digest, Some(warning)));
        }
        let Some(known) = known else {
            if ready.is_empty() {
                return Err(last);
            }
            // Every other controller would ask the same registry.
            let hint = "see whether the registry runs, and whether the hosts reach it";
            return Err(with_hint(Code::FailedPrecondition, &last, hint));
        };
        let why = last.message().lines().next().unwrap_or_default();
        let warning = format!(
            "the registry could not be asked for {reference}, so the content that is deployed already stays: {why}"
        );
        Ok((known.as_str().to_owned(), Some(warning)))
    }

    async fn ask(&self, node: &Node, reference: &str) -> Result<String, Status> {
        let mut agent = self.agent(node).await?;
        let login = registry::login_of(&self.hub.view().state, reference);
        let request = wire::ResolveImageRequest { reference: reference.to_owned(), login };
        let Ok(answer) = timeout(RESOLVE_PATIENCE, agent.resolve_image(request)).await else {
            let seconds = RESOLVE_PATIENCE.as_secs();
            let why = format!("image {reference}: its registry did not answer in {seconds} s");
            let hint = "try again, or see whether the registry runs";
            return Err(Refusal::unavailable(why).hint(hint).into());
        };
        let digest: Digest = answer?.into_inner().digest.parse().map_err(|error| {
            Status::internal(format!("node {}: {error}", node.description.hostname))
        })?;
        Ok(digest.as_str().to_owned())
    }

    /// Each node's images, asked at the same time.
    pub async fn list_images(&self) -> wire::ListImagesResponse {
        let state = Arc::clone(&self.hub.view().state);
        let asked = state.nodes.values().map(|node| async {
            let list = async {
                let mut agent = self.agent(node).await?;
                Ok::<_, Status>(agent.list_images(wire::ListImagesRequest {}).await?.into_inner())
            };
            let answer = match timeout(LIST_PATIENCE, list).await {
                Ok(Ok(images)) => images,
                Ok(Err(status)) => unknown(status.message()),
                Err(_) => unknown("the agent did not answer in time"),
            };
            wire::NodeImages { node: node.description.hostname.clone(), ..answer }
        });
        wire::ListImagesResponse { nodes: futures_util::future::join_all(asked).await }
    }
}

/// The nodes whose agents can be asked.
pub fn ready_nodes(state: &State) -> Vec<Node> {
    let ready = state.nodes.values().filter(|node| node.status == NodeStatus::Ready);
    ready.map(|node| Node::clone(node)).collect()
}

/// Whether a whole name is one that people write without a registry's host.
fn is_without_registry(reference: &str) -> bool {
    reference.starts_with("docker.io/")
}

fn held_warning(reference: &str, held: &wire::FindImageResponse, why: &Status) -> String {
    let why = why.message().lines().next().unwrap_or_default();
    let holder = held.holders.first().map_or("a node", |holder| holder.hostname.as_str());
    format!(
        "no registry gives {reference}, so the image is taken that {holder} has under this name: {why}"
    )
}

fn unknown(why: &str) -> wire::NodeImages {
    let error = why.lines().next().unwrap_or_default().to_owned();
    wire::NodeImages { error, ..wire::NodeImages::default() }
}

fn images(stack: &mut wire::StackSpec) -> impl Iterator<Item = &mut wire::ImageSpec> {
    let containers = stack.services.values_mut().filter_map(|service| service.container.as_mut());
    containers.filter_map(|container| container.image.as_mut())
}

/// The refusal that another one becomes, with a hint where it has none.
fn with_hint(code: Code, status: &Status, hint: &str) -> Status {
    let message = status.message();
    if message.contains("\n\nhint: ") {
        Status::new(code, message)
    } else {
        Status::new(code, format!("{message}\n\nhint: {hint}"))
    }
}

/// Whether another node's answer could not differ. One that has not heard of this controller yet refuses the call, which
/// says nothing of the image.
fn is_final(status: &Status) -> bool {
    let codes = [Code::NotFound, Code::InvalidArgument, Code::FailedPrecondition];
    codes.contains(&status.code())
}

/// The digest that the stack's services run already for this name.
fn running_digest(state: &State, stack: &str, reference: &str) -> Option<Digest> {
    let services = state.services.values().filter(|service| service.stack == stack);
    let images = services.map(|service| service.spec.container.image.clone());
    images.filter(|image| image.reference == reference).find_map(|image| image.digest)
}
