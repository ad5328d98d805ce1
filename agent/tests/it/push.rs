//! Images to registries, and logins: what is sent and what is not, broken streams, refusals, wrong answers.

use std::path::Path;

use serde_json::json;
use swarm_agent::image::{
    BlobStep, Endpoint, ImageError, Images, LoginCheck, Logins, PushStep, Pushed, Registries,
};
use swarm_proto::object::{RegistryLogin, Secret};
use swarm_proto::spec::ImageSpec;
use swarm_proto::transport::install_crypto_provider;
use tokio::sync::mpsc;

use crate::image::{TestImage, digest, image, indexed, tar};
use crate::registry::Registry;

/// `ada:swordfish`
const ADA: &str = "YWRhOnN3b3JkZmlzaA==";

fn noise(seed: u32) -> Vec<u8> {
    (seed..seed + 100_000).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

fn two_layers() -> TestImage {
    let base = tar(&[("a/", 0o755, None), ("big", 0o644, Some(&noise(1)))]);
    let top = tar(&[("b", 0o644, Some(&noise(7)))]);
    image(&[base, top], &json!({ "Cmd": ["x"] }))
}

/// Two registries: one that images come from, as Docker Hub, and one that they go to.
struct Scene {
    folder: tempfile::TempDir,
    from: Registry,
    to: Registry,
    images: Images,
}

impl Scene {
    async fn new() -> Self {
        install_crypto_provider();
        let (from, to) = (Registry::start().await, Registry::start().await);
        let folder = tempfile::tempdir().unwrap();
        let images = Images::open(folder.path(), registries(&from, None)).unwrap();
        Self { folder, from, to, images }
    }

    /// Has an image come under a name, and tells the digest that it is called by.
    async fn hold(&self, name: &str, image: &TestImage) -> String {
        let pinned = self.from.put(&format!("library/{name}"), "1", image);
        let digest = Some(pinned.parse().unwrap());
        let spec = ImageSpec { digest, ..ImageSpec::new(format!("docker.io/library/{name}:1")) };
        self.images.ensure(&spec).await.unwrap();
        pinned
    }

    fn target(&self, name: &str) -> String {
        format!("{}/{name}", self.to.address)
    }

    async fn push(&self, image: &str, name: &str) -> (Result<Pushed, ImageError>, Vec<PushStep>) {
        self.push_with(Logins::default(), image, name).await
    }

    async fn push_with(
        &self,
        logins: Logins,
        image: &str,
        name: &str,
    ) -> (Result<Pushed, ImageError>, Vec<PushStep>) {
        let (steps, mut told) = mpsc::channel(64);
        let (images, target) = (self.images.with_logins(logins), self.target(name));
        let gathering = async {
            let mut all = Vec::new();
            while let Some(step) = told.recv().await {
                all.push(step);
            }
            all
        };
        tokio::join!(images.push(image, &target, steps), gathering)
    }

    fn login(&self, password: &str) -> RegistryLogin {
        let registry = self.to.address.to_string().parse().unwrap();
        RegistryLogin::new(registry, "ada".to_owned(), Secret::new(password.to_owned()))
    }
}

fn registries(mirror: &Registry, logins: Option<&Path>) -> Registries {
    let mirror = Endpoint { host: mirror.address.to_string(), plain: true };
    Registries {
        mirrors: [("docker.io".to_owned(), vec![mirror])].into(),
        mirrors_only: ["docker.io".to_owned()].into(),
        logins: logins.map(Path::to_owned),
        ..Registries::default()
    }
}

fn count(steps: &[PushStep], wanted: impl Fn(&BlobStep) -> bool) -> usize {
    steps.iter().filter(|step| wanted(&step.step)).count()
}

#[tokio::test]
async fn an_image_goes_as_it_is_held_and_only_once() {
    let scene = Scene::new().await;
    let made = two_layers();
    let pinned = scene.hold("app", &made).await;
    let (pushed, steps) = scene.push("app:1", "team/app:2").await;
    let pushed = pushed.unwrap();
    assert_eq!((pushed.digest.as_str(), pushed.index), (pinned.as_str(), None));
    assert_eq!(pushed.target, scene.target("team/app:2"));
    assert_eq!(count(&steps, |step| *step == BlobStep::Waiting), 3, "{steps:#?}");
    assert_eq!(count(&steps, |step| *step == BlobStep::Sent), 3, "{steps:#?}");
    {
        let shelf = scene.to.shelf.lock().unwrap();
        let (kind, manifest) = &shelf.manifests["team/app@2"];
        assert_eq!((kind, manifest), (&made.manifests[0].0, &made.manifests[0].1));
        assert!(made.blobs.iter().all(|blob| shelf.blobs.contains_key(&digest(blob))));
        let puts: Vec<_> = shelf.requests.iter().filter(|one| one.starts_with("PUT")).collect();
        assert_eq!(puts.len(), 4);
        assert!(puts[3].ends_with("/manifests/2"), "the name comes last: {puts:#?}");
    }
    // By its digest, and nothing is sent again.
    let before = scene.to.requests("PUT").len();
    let (pushed, steps) = scene.push(&pinned, "team/app:3").await;
    assert_eq!(pushed.unwrap().digest.as_str(), pinned);
    assert_eq!(count(&steps, |step| *step == BlobStep::There), 3, "{steps:#?}");
    assert_eq!(scene.to.requests("PUT").len(), before + 1, "the manifest alone");
    // What was pushed is what another host pulls.
    let other = tempfile::tempdir().unwrap();
    let images = Images::open(other.path(), registries(&scene.from, None)).unwrap();
    let image = images.ensure(&ImageSpec::new(scene.target("team/app:3"))).await.unwrap();
    assert_eq!((image.digest.as_str(), image.layers.len()), (pinned.as_str(), 2));
}

#[tokio::test]
async fn an_upload_that_breaks_off_begins_anew() {
    let scene = Scene::new().await;
    let pinned = scene.hold("app", &two_layers()).await;
    scene.to.shelf.lock().unwrap().break_upload = Some((20_000, 3));
    let (pushed, steps) = scene.push("app:1", "app:1").await;
    assert_eq!(pushed.unwrap().digest.as_str(), pinned);
    assert_eq!(count(&steps, |step| matches!(step, BlobStep::Again(_))), 3, "{steps:#?}");
    assert_eq!(count(&steps, |step| *step == BlobStep::Sent), 3);
    // One that never arrives is given up, and nothing gets the name.
    let other = image(&[tar(&[("c", 0o644, Some(&noise(99)))])], &json!({}));
    scene.hold("other", &other).await;
    scene.to.shelf.lock().unwrap().break_upload = Some((20_000, 100));
    let (pushed, _) = scene.push("other:1", "other:1").await;
    let error = pushed.unwrap_err();
    assert!(matches!(error, ImageError::NotPushed { .. }) && !error.is_permanent(), "{error}");
    assert!(error.to_string().contains("cannot be reached"), "{error}");
    assert!(!scene.to.shelf.lock().unwrap().manifests.contains_key("other@1"));
    scene.to.shelf.lock().unwrap().break_upload = None;
    assert_eq!(count(&scene.push("other:1", "other:1").await.1, |s| *s == BlobStep::Sent), 1);
}

#[tokio::test]
async fn blobs_come_from_another_repository_of_the_registry() {
    let scene = Scene::new().await;
    scene.hold("app", &two_layers()).await;
    scene.images.tag("app:1", &scene.target("first/app:1")).await.unwrap();
    scene.to.shelf.lock().unwrap().mounts = true;
    let (pushed, steps) = scene.push("app:1", "second/app:1").await;
    pushed.unwrap();
    assert_eq!(count(&steps, |step| *step == BlobStep::Mounted), 3, "{steps:#?}");
    let mounts = scene.to.requests("mount=");
    assert!(mounts.iter().all(|one| one.contains("from=first%2Fapp")), "{mounts:#?}");
    assert_eq!(scene.to.requests("PUT").len(), 1);
}

#[tokio::test]
async fn who_may_not_push_is_told_what_to_do() {
    let scene = Scene::new().await;
    scene.hold("app", &two_layers()).await;
    {
        let mut shelf = scene.to.shelf.lock().unwrap();
        (shelf.guarded, shelf.member) = (true, Some(ADA));
    }
    for logins in [Logins::default(), Logins::of_cluster([scene.login("wrong")])] {
        let (pushed, steps) = scene.push_with(logins, "app:1", "app:1").await;
        let error = pushed.unwrap_err();
        assert!(matches!(error, ImageError::PushDenied { .. }), "{error}");
        assert!(error.hint().unwrap().contains("swarmctl login 127.0.0.1:"), "{error}");
        assert!(steps.is_empty(), "nothing is begun: {steps:#?}");
    }
    let brought = Logins::of_cluster([]).or_brought([scene.login("swordfish")]);
    scene.push_with(brought, "app:1", "app:1").await.0.unwrap();
    let scopes = scene.to.requests("/token");
    assert!(scopes.iter().any(|one| one.contains("pull%2Cpush")), "{scopes:#?}");
    // A registry without tokens.
    {
        let mut shelf = scene.to.shelf.lock().unwrap();
        (shelf.guarded, shelf.basic) = (false, Some(ADA));
    }
    let (pushed, _) = scene.push("app:1", "app:2").await;
    assert!(matches!(pushed, Err(ImageError::PushDenied { .. })), "{pushed:?}");
    let cluster = Logins::of_cluster([scene.login("swordfish")]);
    scene.push_with(cluster, "app:1", "app:2").await.0.unwrap();
}

#[tokio::test]
async fn what_goes_wrong_with_a_push_is_said() {
    let scene = Scene::new().await;
    scene.hold("app", &two_layers()).await;
    let (pushed, _) = scene.push("app", "app:1").await;
    assert!(matches!(pushed, Err(ImageError::NotHere { .. })), "{pushed:?}");
    let claimed = digest(b"something else");
    scene.to.shelf.lock().unwrap().claims = Some(claimed.clone());
    let error = scene.push("app:1", "app:1").await.0.unwrap_err().to_string();
    assert!(error.contains(&format!("it has `{claimed}` under that name")), "{error}");
    let (steps, _told) = mpsc::channel(64);
    let error = scene.images.push("app:1", "docker.io/me/app:1", steps).await.unwrap_err();
    assert!(error.to_string().contains("`mirrors_only`"), "{error}");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (steps, _told) = mpsc::channel(64);
    let error = scene.images.push("app:1", &format!("{nobody}/app:1"), steps).await.unwrap_err();
    assert!(error.to_string().contains("cannot be reached: "), "{error}");
    // A blob that is not whole is never sent.
    let blobs = scene.folder.path().join("blobs/sha256");
    let layer = digest(&two_layers().blobs[0]);
    std::fs::write(blobs.join(layer.trim_start_matches("sha256:")), "short").unwrap();
    let error = scene.push("app:1", "app:1").await.0.unwrap_err().to_string();
    assert!(error.contains("missing, or not whole"), "{error}");
}

#[tokio::test]
async fn of_an_image_for_several_platforms_goes_what_is_here() {
    let scene = Scene::new().await;
    let made = indexed(two_layers(), swarm_agent::image::architecture());
    let pinned = scene.hold("app", &made).await;
    let pushed = scene.push("app:1", "app:1").await.0.unwrap();
    assert_eq!(pushed.digest.as_str(), digest(&made.manifests[0].1));
    assert_eq!(pushed.index.unwrap().as_str(), pinned);
}

#[tokio::test]
async fn a_pull_uses_the_login_of_the_cluster_or_of_this_host() {
    let scene = Scene::new().await;
    scene.to.put("team/app", "1", &two_layers());
    scene.to.shelf.lock().unwrap().basic = Some(ADA);
    let name = scene.target("team/app:1");
    let error = scene.images.resolve(&name).await.unwrap_err();
    assert!(error.hint().unwrap().contains("swarmctl login 127.0.0.1:"), "{error}");
    let given = scene.images.with_logins(Logins::of_cluster([scene.login("swordfish")]));
    let digest = given.resolve(&name).await.unwrap();
    let wrong = scene.images.with_logins(Logins::of_cluster([scene.login("wrong")]));
    assert!(wrong.resolve(&name).await.is_err());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let text = format!(r#"{{"auths":{{"{}":{{"auth":"{ADA}"}}}}}}"#, scene.to.address);
    std::fs::write(&file, text).unwrap();
    let images = Images::open(folder.path(), registries(&scene.from, Some(&file))).unwrap();
    let spec = ImageSpec { digest: Some(digest), ..ImageSpec::new(name) };
    assert_eq!(images.ensure(&spec).await.unwrap().layers.len(), 2);
}

#[tokio::test]
async fn an_identity_token_gets_a_token_for_each_request() {
    let scene = Scene::new().await;
    scene.to.put("team/app", "1", &two_layers());
    scene.to.shelf.lock().unwrap().guarded = true;
    scene.to.shelf.lock().unwrap().member = Some(ADA);
    let name = scene.target("team/app:1");
    assert!(scene.images.resolve(&name).await.is_err());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    for (token, is_right) in [("identity&", true), ("other", false)] {
        let text = format!(
            r#"{{"auths":{{"{}":{{"auth":"{ADA}","identitytoken":"{token}"}}}}}}"#,
            scene.to.address
        );
        std::fs::write(&file, text).unwrap();
        let images = Images::open(folder.path(), registries(&scene.from, Some(&file))).unwrap();
        assert_eq!(images.resolve(&name).await.is_ok(), is_right, "{token}");
    }
    // A registry that wants a password gets none.
    {
        let mut shelf = scene.to.shelf.lock().unwrap();
        (shelf.guarded, shelf.basic) = (false, Some(ADA));
    }
    let images = Images::open(folder.path(), registries(&scene.from, Some(&file))).unwrap();
    assert!(matches!(images.resolve(&name).await, Err(ImageError::Denied { .. })));
}

#[tokio::test]
async fn a_login_is_tried_where_it_counts() {
    let scene = Scene::new().await;
    let check = async |password: &str| scene.images.check_login(&scene.login(password)).await;
    assert_eq!(check("swordfish").await.unwrap(), LoginCheck::Open);
    scene.to.shelf.lock().unwrap().basic = Some(ADA);
    assert_eq!(check("swordfish").await.unwrap(), LoginCheck::Taken);
    let error = check("wrong").await.unwrap_err();
    assert!(matches!(error, ImageError::LoginRefused { .. }), "{error}");
    assert!(!error.to_string().contains("wrong"), "{error}");
    {
        let mut shelf = scene.to.shelf.lock().unwrap();
        (shelf.basic, shelf.guarded, shelf.member) = (None, true, Some(ADA));
    }
    assert_eq!(check("swordfish").await.unwrap(), LoginCheck::Taken);
    assert!(matches!(check("wrong").await, Err(ImageError::LoginRefused { .. })));
    let asked = scene.to.requests("/token");
    assert!(asked.iter().all(|one| one.contains("account=ada")), "{asked:#?}");
    scene.to.shelf.lock().unwrap().busy = 1;
    let error = check("swordfish").await.unwrap_err();
    assert!(matches!(error, ImageError::LoginUntried { .. }), "{error}");
}
