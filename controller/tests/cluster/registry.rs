//! Logins at registries: an agent tries them, and only a node that needs one is given it.

use std::fs;
use std::sync::{Arc, Mutex};

use swarm_proto::object::TaskState;
use swarm_proto::transport::{self, Identity, Tls};
use swarm_proto::wire;
use swarm_proto::wire::image_index_client::ImageIndexClient;
use swarm_proto::wire::image_store_server::ImageStore;
use swarm_proto::wire::images_client::ImagesClient;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::agent::agent_identity;
use crate::asking::serving_images;
use crate::host::{Host, cluster, deploy, eventually, stack};
use crate::secrets::shown;

const PASSWORD: &str = "purple-otter-4417";

/// A node's images, of which only two calls are of interest here.
#[derive(Clone)]
pub(crate) struct FakeStore {
    /// What the registry says of a name and password.
    taken: Arc<Mutex<Result<bool, Status>>>,
    pushed: Arc<Mutex<Vec<wire::PushImageRequest>>>,
}

type Parts<T> = ReceiverStream<Result<T, Status>>;

fn not_here<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not here"))
}

#[tonic::async_trait]
impl ImageStore for FakeStore {
    type ReadBlobStream = Parts<wire::BlobPart>;

    async fn read_blob(
        &self,
        _: Request<wire::ReadBlobRequest>,
    ) -> Result<Response<Self::ReadBlobStream>, Status> {
        not_here()
    }

    async fn load(
        &self,
        _: Request<Streaming<wire::LoadImageRequest>>,
    ) -> Result<Response<wire::LoadImageResponse>, Status> {
        not_here()
    }

    type SaveStream = Parts<wire::ArchivePart>;

    async fn save(
        &self,
        _: Request<wire::SaveImageRequest>,
    ) -> Result<Response<Self::SaveStream>, Status> {
        not_here()
    }

    async fn inspect(
        &self,
        _: Request<wire::InspectImageRequest>,
    ) -> Result<Response<wire::ImageDetails>, Status> {
        not_here()
    }

    async fn tag(
        &self,
        _: Request<wire::TagImageRequest>,
    ) -> Result<Response<wire::TagImageResponse>, Status> {
        not_here()
    }

    async fn remove(
        &self,
        _: Request<wire::RemoveImageRequest>,
    ) -> Result<Response<wire::RemovedImages>, Status> {
        not_here()
    }

    async fn prune(
        &self,
        _: Request<wire::PruneImagesRequest>,
    ) -> Result<Response<wire::RemovedImages>, Status> {
        not_here()
    }

    async fn prune_builds(
        &self,
        _: Request<wire::PruneBuildsRequest>,
    ) -> Result<Response<wire::RemovedImages>, Status> {
        not_here()
    }

    type PushStream = Parts<wire::PushProgress>;

    async fn push(
        &self,
        request: Request<wire::PushImageRequest>,
    ) -> Result<Response<Self::PushStream>, Status> {
        self.pushed.lock().unwrap().push(request.into_inner());
        let (sender, parts) = tokio::sync::mpsc::channel(1);
        let done = wire::PushDone { digest: "sha256:x".to_owned(), ..wire::PushDone::default() };
        let said = Some(wire::push_progress::Said::Done(done));
        sender.try_send(Ok(wire::PushProgress { said })).unwrap();
        Ok(Response::new(ReceiverStream::new(parts)))
    }

    type PullStream = Parts<wire::PullProgress>;

    async fn pull(
        &self,
        _: Request<wire::PullImageRequest>,
    ) -> Result<Response<Self::PullStream>, Status> {
        not_here()
    }

    async fn check_login(
        &self,
        _: Request<wire::RegistryLogin>,
    ) -> Result<Response<wire::CheckLoginResponse>, Status> {
        let open = self.taken.lock().unwrap().clone()?;
        Ok(Response::new(wire::CheckLoginResponse { open }))
    }
}

async fn people(host: &Host) -> ImagesClient<Channel> {
    ImagesClient::new(transport::connect_unix(&host.socket()).await.unwrap())
}

fn login(id: &str, registry: &str) -> wire::LogInRequest {
    let (user, password) = ("ada".to_owned(), PASSWORD.to_owned());
    let login =
        wire::RegistryLogin { registry: registry.to_owned(), user, password, updated_at: 0 };
    wire::LogInRequest { request_id: id.to_owned(), login: Some(login) }
}

/// What a node is given.
async fn given(host: &Host, identity: &Identity, registry: &str) -> Option<String> {
    let tls = Tls::new(&identity.credentials()).unwrap();
    let channel = tls.connect(&host.address, transport::CONTROLLER_NAME).await.unwrap();
    let request = wire::GetLoginRequest { registry: registry.to_owned() };
    let answer = ImageIndexClient::new(channel).get_login(request).await.unwrap().into_inner();
    answer.login.map(|login| login.password.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_tried_kept_and_given_to_who_needs_it() {
    let hosts = cluster(1).await;
    let host = &hosts[0];
    let (identity, other) = (agent_identity(host).await, agent_identity(host).await);
    let store = FakeStore {
        taken: Arc::new(Mutex::new(Err(Status::failed_precondition("it refuses this name")))),
        pushed: Arc::default(),
    };
    let mut agent = serving_images(host, &identity, store.clone()).await;
    let mut images = people(host).await;

    let refused = images.log_in(login("l1", "docker.io")).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(refused.message(), "it refuses this name");
    let list = wire::ListLoginsRequest { stale: false };
    assert_eq!(images.list_logins(list).await.unwrap().into_inner().logins, []);
    *store.taken.lock().unwrap() = Ok(false);
    images.log_in(login("l2", "https://index.docker.io/v1/")).await.unwrap();
    let logins = images.list_logins(list).await.unwrap().into_inner().logins;
    assert_eq!((logins[0].registry.as_str(), logins[0].user.as_str()), ("docker.io", "ada"));

    // Nobody needs it yet; then one of two nodes does, and it is only this registry's.
    assert_eq!(given(host, &identity, "docker.io").await, None);
    host.control().await.deploy(deploy("r1", stack("web", 1))).await.unwrap();
    let task = loop {
        let tasks = agent.assigned().await.diff.unwrap_or_default().tasks;
        if let Some(task) = tasks.into_iter().next() {
            break task;
        }
    };
    assert_eq!(given(host, &identity, "docker.io").await.as_deref(), Some(PASSWORD));
    assert_eq!(given(host, &identity, "a.example").await, None);
    assert_eq!(given(host, &other, "docker.io").await, None);
    agent.report(&task.id, TaskState::Running).await;

    // A push carries it to the node that pushes.
    agent.holds(&format!("sha256:{}", "cd".repeat(32)), "docker.io/library/web:1", true).await;
    let request = wire::PushImageRequest {
        image: "docker.io/library/web:1".to_owned(),
        target: "docker.io/me/web:1".to_owned(),
        ..wire::PushImageRequest::default()
    };
    eventually("the leader hears of the image", async || {
        let told = people(host).await.push(request.clone()).await.unwrap();
        told.into_inner().message().await.map(drop).map_err(|status| status.to_string())
    })
    .await;
    let pushed = store.pushed.lock().unwrap().pop().unwrap();
    assert_eq!(pushed.login.as_ref().unwrap().password, PASSWORD);

    let log_out =
        wire::LogOutRequest { request_id: "o1".to_owned(), registry: "docker.io".to_owned() };
    images.log_out(log_out).await.unwrap();
    assert_eq!(given(host, &identity, "docker.io").await, None);
    let log = fs::read_to_string(host.dir.path().join("log")).unwrap();
    // As it was asked for.
    let audited =
        "call=\"LogIn\" object=\"registry https://index.docker.io/v1/ as ada\" outcome=\"done\"";
    assert!(log.contains(audited), "{log}");
    assert!(!log.contains(PASSWORD));
    assert_eq!(shown(host, PASSWORD), Vec::<std::path::PathBuf>::new());
}
