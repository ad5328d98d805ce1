//! Images on nodes: for people, archives in and out, names and removal, each carried to the agents that it concerns; for
//! agents, where an image lies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use swarm_proto::object::Node;
use swarm_proto::transport::known_peer;
use swarm_proto::wire;
use swarm_proto::wire::image_index_server::ImageIndex;
use swarm_proto::wire::image_store_client::ImageStoreClient;
use swarm_proto::wire::images_server::Images;
use swarm_proto::wire::load_image_request::Part;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};

use super::audit::Audit;
use super::controller::Controller;
use super::images::ready_nodes;
use super::membership::was_removed;
use super::refusal::Refusal;
use super::registry;
use super::relay::{self, Answers, QUEUE};
use super::write::Write as _;
use crate::core::State;

/// How long one agent may take to remove images: many files may go.
const REMOVAL: Duration = Duration::from_mins(1);
/// Agents that are asked at the same time.
const AT_ONCE: usize = 32;

/// Serves agents.
pub struct ImageIndexService(pub Arc<Controller>);

#[tonic::async_trait]
impl ImageIndex for ImageIndexService {
    async fn find_image(
        &self,
        request: Request<wire::FindImageRequest>,
    ) -> Result<Response<wire::FindImageResponse>, Status> {
        let asker = known_peer(&request)?.node_id.map_or(0, |node| node.0);
        let request = wire::FindImageRequest { asker, ..request.into_inner() };
        self.0.write(request).await.map(Response::new)
    }

    async fn check_member(
        &self,
        request: Request<wire::CheckMemberRequest>,
    ) -> Result<Response<wire::CheckMemberResponse>, Status> {
        let node = swarm_proto::id::NodeId(request.into_inner().node);
        // One that this controller has not heard of yet joined just now.
        let member = !was_removed(&self.0.hub.view().state, node);
        Ok(Response::new(wire::CheckMemberResponse { member }))
    }

    async fn get_login(
        &self,
        request: Request<wire::GetLoginRequest>,
    ) -> Result<Response<wire::GetLoginResponse>, Status> {
        let node = known_peer(&request)?.node_id;
        let node = node.ok_or_else(|| Refusal::denied("only a node is given a login"))?;
        self.0.login_for(node, &request.into_inner().registry).await.map(Response::new)
    }
}

/// Serves people.
pub struct ImageService(pub Arc<Controller>);

#[tonic::async_trait]
impl Images for ImageService {
    type LoadStream = Answers<wire::LoadImageResponse>;

    async fn load(
        &self,
        request: Request<Streaming<wire::LoadImageRequest>>,
    ) -> Result<Response<Self::LoadStream>, Status> {
        let who = known_peer(&request)?.clone();
        let controller = Arc::clone(&self.0);
        let parts = request.into_inner();
        let answers = relay::answer(|sender| async move {
            let (node, start, parts) = begun(&controller, parts).await?;
            let audit =
                Audit::by(&who, "LoadImage", format!("on node {}", node.description.hostname));
            let loaded = carry(&controller, &node, start, parts).await;
            let loaded = audit.answer(loaded)?.into_inner();
            // An error means that nobody listens any more.
            let _ = sender.send(Ok(loaded)).await;
            Ok(())
        });
        Ok(Response::new(answers))
    }

    type SaveStream = Answers<wire::ArchivePart>;

    async fn save(
        &self,
        request: Request<wire::SaveImageRequest>,
    ) -> Result<Response<Self::SaveStream>, Status> {
        let names = request.get_ref().images.join(" ");
        let audit = Audit::of(&request, "SaveImage", format!("image {names}"))?;
        audit.answer(self.0.save_images(request.into_inner()).await)
    }

    async fn inspect(
        &self,
        request: Request<wire::InspectImageRequest>,
    ) -> Result<Response<wire::ImageDetails>, Status> {
        let wire::InspectImageRequest { node, image } = request.into_inner();
        let holders = self.0.holders(&node, &image).await?;
        let first = holders.first().ok_or_else(|| absent(&image))?;
        let mut client = self.0.store(first).await?;
        let details = client.inspect(wire::InspectImageRequest { node, image }).await?;
        let nodes = holders.iter().map(|node| node.description.hostname.clone());
        Ok(Response::new(wire::ImageDetails { nodes: nodes.collect(), ..details.into_inner() }))
    }

    async fn tag(
        &self,
        request: Request<wire::TagImageRequest>,
    ) -> Result<Response<wire::TagImageResponse>, Status> {
        let wire::TagImageRequest { image, name, .. } = request.get_ref();
        let audit = Audit::of(&request, "TagImage", format!("image {image} as {name}"))?;
        audit.answer(self.0.tag_image(request.into_inner()).await)
    }

    async fn remove(
        &self,
        request: Request<wire::RemoveImageRequest>,
    ) -> Result<Response<wire::RemoveImageResponse>, Status> {
        let audit =
            Audit::of(&request, "RemoveImage", format!("image {}", request.get_ref().image))?;
        audit.answer(self.0.remove_image(request.into_inner()).await)
    }

    async fn prune(
        &self,
        request: Request<wire::PruneImagesRequest>,
    ) -> Result<Response<wire::RemoveImageResponse>, Status> {
        let audit = Audit::of(&request, "PruneImages", "unused images")?;
        audit.answer(self.0.prune_images(request.into_inner()).await)
    }

    async fn prune_builds(
        &self,
        request: Request<wire::PruneBuildsRequest>,
    ) -> Result<Response<wire::RemoveImageResponse>, Status> {
        let audit = Audit::of(&request, "PruneBuilds", "caches of builds")?;
        audit.answer(self.0.prune_builds(request.into_inner()).await)
    }

    type PushStream = Answers<wire::PushProgress>;

    async fn push(
        &self,
        request: Request<wire::PushImageRequest>,
    ) -> Result<Response<Self::PushStream>, Status> {
        let who = known_peer(&request)?.clone();
        let (controller, request) = (Arc::clone(&self.0), request.into_inner());
        let object = format!("image {} as {}", request.image, request.target);
        let audit = Audit::by(&who, "PushImage", object);
        let answers = relay::answer(|sender| async move {
            let pushed = controller.push_image(request, &sender).await;
            audit.answer(pushed).map(drop)
        });
        Ok(Response::new(answers))
    }

    type PullStream = Answers<wire::PullProgress>;

    async fn pull(
        &self,
        request: Request<wire::PullImageRequest>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let who = known_peer(&request)?.clone();
        let (controller, request) = (Arc::clone(&self.0), request.into_inner());
        let audit = Audit::by(&who, "PullImage", format!("image {}", request.image));
        let answers = relay::answer(|sender| async move {
            let pulled = controller.pull_image(request, &sender).await;
            audit.answer(pulled).map(drop)
        });
        Ok(Response::new(answers))
    }

    async fn log_in(
        &self,
        request: Request<wire::LogInRequest>,
    ) -> Result<Response<wire::LogInResponse>, Status> {
        let audit = Audit::of(&request, "LogIn", request.get_ref().object())?;
        audit.answer(self.0.log_in(request.into_inner()).await)
    }

    async fn log_out(
        &self,
        request: Request<wire::LogOutRequest>,
    ) -> Result<Response<wire::LogOutResponse>, Status> {
        let audit = Audit::of(&request, "LogOut", request.get_ref().object())?;
        audit.answer(self.0.write(request.into_inner()).await)
    }

    async fn list_logins(
        &self,
        request: Request<wire::ListLoginsRequest>,
    ) -> Result<Response<wire::ListLoginsResponse>, Status> {
        self.0.list_logins(request.into_inner()).await.map(Response::new)
    }
}

type Archive = Streaming<wire::LoadImageRequest>;

/// Hears to which node an archive goes.
async fn begun(
    controller: &Controller,
    mut parts: Archive,
) -> Result<(Node, wire::LoadImageStart, Archive), Status> {
    let first = relay::first(&mut parts).await?;
    let Some(Part::Start(start)) = first.and_then(|message| message.part) else {
        return Err(Refusal::invalid("the first message must say what is loaded").into());
    };
    let state = Arc::clone(&controller.read_soon().await.0.state);
    let node = match start.node.as_str() {
        "" => some_node(controller, &state)?,
        name => named(&state, name)?,
    };
    Ok((node, start, parts))
}

/// Carries an archive to a node.
async fn carry(
    controller: &Controller,
    node: &Node,
    start: wire::LoadImageStart,
    mut parts: Archive,
) -> Result<wire::LoadImageResponse, Status> {
    let mut store = controller.store(node).await?;
    let (forward, forwarded) = mpsc::channel(QUEUE);
    let start = wire::LoadImageRequest { part: Some(Part::Start(start)) };
    // There is room: nothing was sent yet.
    let _ = forward.try_send(start);
    let up = async {
        // Ends early only where the agent does, which then says why.
        while let Ok(Some(part)) = parts.message().await {
            let is_last = matches!(&part.part, Some(Part::Data(data)) if data.is_empty());
            if forward.send(part).await.is_err() || is_last {
                break;
            }
        }
        drop(forward);
    };
    let (loaded, ()) = tokio::join!(store.load(ReceiverStream::new(forwarded)), up);
    Ok(loaded?.into_inner())
}

pub(super) fn named(state: &State, name: &str) -> Result<Node, Status> {
    let node = state.find_node(name).ok_or_else(|| {
        Refusal::not_found(format!("there is no node `{name}`"))
            .hint("`swarmctl node ls` lists the nodes")
    })?;
    Ok(Node::clone(node))
}

/// This controller's own node, or else the first that is ready.
pub(super) fn some_node(controller: &Controller, state: &State) -> Result<Node, Status> {
    let mut ready = ready_nodes(state);
    ready.sort_by_key(|node| (node.id != controller.node, node.id));
    ready.into_iter().next().ok_or_else(|| {
        Refusal::unavailable("no node is ready")
            .hint("see the nodes with `swarmctl node ls`; an agent must run on at least one host")
            .into()
    })
}

fn cannot_push(node: &Node, status: Status) -> Status {
    if status.code() != Code::Unimplemented {
        return status;
    }
    let host = &node.description.hostname;
    Refusal::conflict(format!("the agent of node {host} is too old to push images"))
        .hint("upgrade that host, or name another one with `--node`")
        .into()
}

fn absent(image: &str) -> Status {
    Refusal::not_found(format!("no node holds image `{image}`"))
        .hint("`swarmctl image ls` lists the images of all nodes")
        .into()
}

impl Controller {
    /// The images of a node.
    pub async fn store(&self, node: &Node) -> Result<ImageStoreClient<Channel>, Status> {
        Ok(ImageStoreClient::new(self.agent_channel(node).await?))
    }

    /// The node that is named, or all that hold the image: by a whole name, a digest, or a digest's first digits.
    async fn holders(&self, node: &str, image: &str) -> Result<Vec<Node>, Status> {
        let state = Arc::clone(&self.read_soon().await.0.state);
        if !node.is_empty() {
            return Ok(vec![named(&state, node)?]);
        }
        let digest = if image.starts_with("sha256:") { image } else { "" };
        let of = |names: BTreeSet<String>| {
            let nodes = state.nodes.values();
            let held = nodes.filter(|node| names.contains(&node.description.hostname));
            held.map(|node| Node::clone(node)).collect::<Vec<_>>()
        };
        if let Some(found) = self.find_image(image, digest).await {
            let nodes = found.holders.iter().filter_map(|holder| {
                state.nodes.get(&swarm_proto::id::NodeId(holder.node)).map(|node| Node::clone(node))
            });
            return Ok(nodes.collect());
        }
        let digits = image.strip_prefix("sha256:").unwrap_or(image);
        let all = self.list_images().await;
        let holds = |images: &wire::NodeImages| {
            let digest =
                |found: &wire::Image| found.digest.starts_with(&format!("sha256:{digits}"));
            images.images.iter().any(|found| digest(found) || found.reference == image)
        };
        let names = all.nodes.into_iter().filter(holds).map(|images| images.node).collect();
        Ok(of(names))
    }

    async fn save_images(
        &self,
        request: wire::SaveImageRequest,
    ) -> Result<Answers<wire::ArchivePart>, Status> {
        let first = request.images.first();
        let first = first.ok_or_else(|| Refusal::invalid("no image is named"))?;
        let mut candidates = self.holders(&request.node, first).await?;
        for image in request.images.iter().skip(1) {
            let holders = self.holders(&request.node, image).await?;
            let ids: BTreeSet<_> = holders.iter().map(|node| node.id).collect();
            candidates.retain(|node| ids.contains(&node.id));
            if candidates.is_empty() {
                let why = format!("no node holds both `{first}` and `{image}`");
                return Err(Refusal::conflict(why).hint("save them one by one").into());
            }
        }
        let node = candidates.first().ok_or_else(|| absent(first))?;
        let mut store = self.store(node).await?;
        let mut parts = store.save(request).await?.into_inner();
        let (sender, carried) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            while let Some(part) = parts.next().await {
                let broken = part.is_err();
                if sender.send(part).await.is_err() || broken {
                    return;
                }
            }
        });
        Ok(ReceiverStream::new(carried))
    }

    /// Has a node that holds an image send it, and carries what it tells.
    async fn push_image(
        &self,
        request: wire::PushImageRequest,
        sender: &relay::Sender<wire::PushProgress>,
    ) -> Result<(), Status> {
        let holders = self.holders(&request.node, &request.image).await?;
        let node = holders.first().ok_or_else(|| absent(&request.image))?;
        let login = registry::login_of(&self.hub.view().state, &request.target);
        let mut store = self.store(node).await?;
        let answer = store.push(wire::PushImageRequest { login, ..request }).await;
        let mut told = answer.map_err(|status| cannot_push(node, status))?.into_inner();
        while let Some(said) = told.message().await? {
            if sender.send(Ok(said)).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// On all nodes that hold the image: the name outlives each of them.
    async fn tag_image(
        &self,
        request: wire::TagImageRequest,
    ) -> Result<wire::TagImageResponse, Status> {
        let holders = self.holders(&request.node, &request.image).await?;
        let mut answer = Err(absent(&request.image));
        for node in &holders {
            let mut store = self.store(node).await?;
            answer = Ok(store.tag(request.clone()).await?.into_inner());
        }
        answer
    }

    async fn remove_image(
        &self,
        request: wire::RemoveImageRequest,
    ) -> Result<wire::RemoveImageResponse, Status> {
        let state = Arc::clone(&self.read(false).await?.state);
        let needed = needed(&state);
        let nodes = nodes(&state, &request.node)?;
        let image = request.image.clone();
        let request = wire::RemoveImageRequest { needed, ..request };
        let (gone, missing) = self.on_each(&nodes, &Wish::Remove(request)).await;
        // Where nothing but refusals came, they are the answer.
        if gone.iter().all(|node| !node.error.is_empty()) {
            return Err(match gone.first() {
                Some(refused) => {
                    let why = format!("node {}: {}", refused.node, refused.error);
                    Refusal::conflict(why).into()
                }
                None if missing => absent(&image),
                None => Refusal::unavailable("no node is ready").into(),
            });
        }
        Ok(wire::RemoveImageResponse { nodes: gone })
    }

    async fn prune_images(
        &self,
        request: wire::PruneImagesRequest,
    ) -> Result<wire::RemoveImageResponse, Status> {
        let state = Arc::clone(&self.read(false).await?.state);
        let needed = needed(&state);
        let nodes = nodes(&state, &request.node)?;
        let request = wire::PruneImagesRequest { needed, ..request };
        let (nodes, _) = self.on_each(&nodes, &Wish::Prune(request)).await;
        Ok(wire::RemoveImageResponse { nodes })
    }

    async fn prune_builds(
        &self,
        request: wire::PruneBuildsRequest,
    ) -> Result<wire::RemoveImageResponse, Status> {
        let state = Arc::clone(&self.read(false).await?.state);
        let nodes = nodes(&state, &request.node)?;
        let (nodes, _) = self.on_each(&nodes, &Wish::PruneBuilds(request)).await;
        Ok(wire::RemoveImageResponse { nodes })
    }

    /// Asks nodes, many at a time; answers in the order of the nodes, with whether some do not hold it.
    async fn on_each(&self, nodes: &[Node], wish: &Wish) -> (Vec<wire::RemovedImages>, bool) {
        let asked: Vec<_> = nodes.iter().map(|node| self.ask_store(node, wish.clone())).collect();
        let answers: Vec<_> = futures_util::stream::iter(asked).buffered(AT_ONCE).collect().await;
        let mut missing = false;
        let mut told = Vec::new();
        for (node, answer) in nodes.iter().zip(answers) {
            match answer {
                Ok(removed) => told.push(removed),
                Err(status) if status.code() == Code::NotFound => missing = true,
                Err(status) => told.push(wire::RemovedImages {
                    node: node.description.hostname.clone(),
                    error: status.message().lines().next().unwrap_or_default().to_owned(),
                    ..wire::RemovedImages::default()
                }),
            }
        }
        (told, missing)
    }

    async fn ask_store(&self, node: &Node, wish: Wish) -> Result<wire::RemovedImages, Status> {
        let asked = async {
            let mut store = self.store(node).await?;
            let answer = match wish {
                Wish::Remove(request) => store.remove(request).await?,
                Wish::Prune(request) => store.prune(request).await?,
                Wish::PruneBuilds(request) => store.prune_builds(request).await?,
            };
            Ok(answer.into_inner())
        };
        let late = |_| Err(Status::deadline_exceeded("the agent did not answer in time"));
        timeout(REMOVAL, asked).await.unwrap_or_else(late)
    }
}

/// What is asked of many nodes.
#[derive(Clone)]
enum Wish {
    Remove(wire::RemoveImageRequest),
    Prune(wire::PruneImagesRequest),
    PruneBuilds(wire::PruneBuildsRequest),
}

fn nodes(state: &State, name: &str) -> Result<Vec<Node>, Status> {
    if name.is_empty() { Ok(ready_nodes(state)) } else { Ok(vec![named(state, name)?]) }
}

/// What stacks' current revisions need, each with by whom.
fn needed(state: &State) -> BTreeMap<String, String> {
    let services = state.services.values().filter(|service| !service.removing);
    let needed = services.filter_map(|service| {
        let digest = service.spec.container.image.digest.as_ref()?;
        Some((digest.to_string(), format!("service {} runs it", service.name())))
    });
    needed.collect()
}
