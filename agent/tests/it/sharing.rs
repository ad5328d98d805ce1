//! Hosts that copy images from each other over mutual TLS: one that breaks off, one that lies, one that is gone.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::json;
use swarm_agent::image::{Directory, Endpoint, Images, Known, Limits, Neighbours, Registries};
use swarm_agent::image_service::ImageStoreService;
use swarm_proto::id::{Digest, NodeId};
use swarm_proto::object::{ImageHolder, Role};
use swarm_proto::spec::{ImageSpec, PullPolicy};
use swarm_proto::transport::{
    self, Authority, Credentials, KeyAndRequest, Tls, accept_tls, install_crypto_provider,
};
use swarm_proto::wire::image_store_server::{ImageStore, ImageStoreServer};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::faulty::{Fault, Faulty};
use crate::image::{digest, image, tar};
use crate::registry::Registry;

/// Says what the test says.
#[derive(Default)]
pub(crate) struct Fixed {
    pub(crate) known: Mutex<Known>,
    strangers: Mutex<Vec<NodeId>>,
}

#[tonic::async_trait]
impl Directory for Fixed {
    async fn find(&self, _: &str, _: Option<&Digest>) -> Known {
        self.known.lock().unwrap().clone()
    }

    async fn is_member(&self, node: NodeId) -> bool {
        !self.strangers.lock().unwrap().contains(&node)
    }
}

pub(crate) struct Cluster {
    authority: Authority,
}

/// A host with its images, which it serves.
pub(crate) struct Host {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) images: Images,
    pub(crate) directory: Arc<Fixed>,
    address: SocketAddr,
    node: u64,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        install_crypto_provider();
        Self { authority: Authority::create(&"a".repeat(32), SystemTime::now()).unwrap() }
    }

    fn tls(&self, node: u64) -> Arc<Tls> {
        let key = KeyAndRequest::make().unwrap();
        let (request, now) = (&key.request_pem, SystemTime::now());
        let certificate = self.authority.sign_node(request, NodeId(node), Role::Agent, now);
        let credentials = Credentials {
            certificate_pem: certificate.unwrap(),
            key_pem: key.key_pem,
            ca_pem: self.authority.certificate_pem().to_owned(),
        };
        Tls::new(&credentials).unwrap()
    }

    pub(crate) async fn serve<S: ImageStore>(
        &self,
        node: u64,
        store: ImageStoreServer<S>,
    ) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = transport::server().add_service(store);
        tokio::spawn(server.serve_with_incoming(accept_tls(listener, self.tls(node))));
        address
    }

    /// A host that can ask no registry for anything.
    pub(crate) async fn host(&self, node: u64) -> Host {
        self.host_with(node, BTreeMap::new()).await
    }

    pub(crate) async fn host_with(
        &self,
        node: u64,
        mirrors: BTreeMap<String, Vec<Endpoint>>,
    ) -> Host {
        let folder = tempfile::tempdir().unwrap();
        self.host_in(node, folder, mirrors, Limits::default()).await
    }

    /// A host that goes on with what lies in a folder.
    pub(crate) async fn host_in(
        &self,
        node: u64,
        folder: tempfile::TempDir,
        mirrors: BTreeMap<String, Vec<Endpoint>>,
        limits: Limits,
    ) -> Host {
        let mirrors_only = ["docker.io".to_owned()].into();
        let registries = Registries { mirrors, mirrors_only, ..Registries::default() };
        let images = Images::open_with(folder.path(), registries, limits).unwrap();
        let directory = Arc::new(Fixed::default());
        let own = Arc::clone(&directory) as Arc<dyn Directory>;
        images.share_with(Neighbours { tls: self.tls(node), node: NodeId(node), directory: own });
        let store = ImageStoreService::server(images.clone(), format!("n{node}"));
        let address = self.serve(node, store).await;
        Host { folder, images, directory, address, node }
    }
}

impl Host {
    pub(crate) fn holder(&self) -> ImageHolder {
        holder(self.node, self.address)
    }

    pub(crate) fn knows(&self, digest: &Digest, holders: Vec<ImageHolder>) {
        *self.directory.known.lock().unwrap() =
            Known { digest: Some(digest.clone()), local: true, holders };
    }

    pub(crate) fn blobs(&self) -> BTreeMap<String, Vec<u8>> {
        let blobs = self.folder.path().join("blobs/sha256");
        let files = fs::read_dir(blobs).unwrap().map(|entry| entry.unwrap().path());
        files
            .filter(|path| path.is_file())
            .map(|path| {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, fs::read(path).unwrap())
            })
            .collect()
    }
}

pub(crate) fn holder(node: u64, address: SocketAddr) -> ImageHolder {
    let (hostname, address) = (format!("n{node}"), address.to_string());
    ImageHolder { node: NodeId(node), hostname, address }
}

/// So many bytes that repeat themselves nowhere.
pub(crate) fn noise(size: u32) -> Vec<u8> {
    (0..size / 4).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

/// What `docker save` once wrote: layers in folders, one of them a link to another image's.
fn archive(name: &str, size: u32) -> Vec<u8> {
    let base = tar(&[("big", 0o644, Some(&noise(size)))]);
    let top = tar(&[("a/", 0o755, None), ("a/new", 0o644, Some(b"new"))]);
    let config = json!({
        "architecture": swarm_agent::image::architecture(),
        "os": "linux",
        "config": { "Cmd": ["x"] },
        "rootfs": { "type": "layers", "diff_ids": [digest(&base), digest(&top)] },
    });
    let config = config.to_string().into_bytes();
    let manifest = json!([{
        "Config": "config.json",
        "RepoTags": [name],
        "Layers": ["one/layer.tar", "two/layer.tar"],
    }]);
    let mut archive = ::tar::Builder::new(Vec::new());
    let mut add = |name: &str, content: &[u8]| {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content).unwrap();
    };
    add("config.json", &config);
    add("other/layer.tar", &base);
    add("two/layer.tar", &top);
    add("manifest.json", manifest.to_string().as_bytes());
    let mut link = ::tar::Header::new_gnu();
    link.set_entry_type(::tar::EntryType::Symlink);
    link.set_size(0);
    archive.append_link(&mut link, "one/layer.tar", "../other/layer.tar").unwrap();
    archive.into_inner().unwrap()
}

pub(crate) async fn load(host: &Host) -> Digest {
    load_sized(host, 1_200_000).await
}

/// An image with a layer of about so many bytes, and a small one.
pub(crate) async fn load_sized(host: &Host, size: u32) -> Digest {
    let archive = std::io::Cursor::new(archive("web:1", size));
    let loaded = host.images.load(archive, None).await.unwrap();
    assert_eq!(loaded[0].names, ["docker.io/library/web:1"]);
    loaded[0].digest.clone()
}

pub(crate) fn spec(digest: &Digest) -> ImageSpec {
    ImageSpec {
        reference: "docker.io/library/web:1".to_owned(),
        digest: Some(digest.clone()),
        pull_policy: PullPolicy::Missing,
    }
}

fn read(layers: &[PathBuf], name: &str) -> Vec<u8> {
    let found = layers.iter().map(|layer| layer.join(name)).find(|path| Path::new(path).exists());
    fs::read(found.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_one_host_was_given_runs_on_another() {
    let cluster = Cluster::new();
    let (first, second) = (cluster.host(1).await, cluster.host(2).await);
    let loaded = load(&first).await;
    second.knows(&loaded, vec![first.holder()]);
    let image = second.images.ensure(&spec(&loaded)).await.unwrap();
    assert_eq!(image.layers.len(), 2);
    assert_eq!(read(&image.layers, "a/new"), b"new");
    assert_eq!(first.blobs(), second.blobs(), "manifest, configuration and two layers");
    assert_eq!(second.blobs().len(), 4);
    // The second host can give it on, and knows that no registry gave the name.
    let held = second.images.held().borrow().clone();
    assert_eq!(held[0].digest, loaded);
    assert!(held[0].names[0].local);
    assert_eq!(second.images.resolve("web:1").await.unwrap(), loaded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_goes_on_from_the_next_host_where_one_breaks_off() {
    let cluster = Cluster::new();
    let (first, second) = (cluster.host(1).await, cluster.host(2).await);
    let loaded = load(&first).await;
    // Whichever is asked first dies: which one that is the digest settles.
    let faulty = [0, 1].map(|_| Faulty::of(&first, Fault::BreaksOff(500_000)));
    let mut holders = Vec::new();
    for (node, store) in [3, 4].into_iter().zip(&faulty) {
        let address = cluster.serve(node, store.server()).await;
        holders.push(holder(node, address));
    }
    second.knows(&loaded, holders);
    second.images.ensure(&spec(&loaded)).await.unwrap();
    assert_eq!(first.blobs(), second.blobs());
    let offsets = |store: Faulty| store.asked_of_large().iter().map(|asked| asked.offset).collect();
    let mut asked: [Vec<u64>; 2] = faulty.map(offsets);
    asked.sort();
    let [died, went_on] = asked;
    assert_eq!(died, [0]);
    assert_eq!(went_on.len(), 1);
    assert!((500_000..700_000).contains(&went_on[0]), "{went_on:?}");
}

/// An image in a registry that has it, whose blobs break off so many times, and the way there.
async fn in_registry(breaks: u32) -> (Registry, Digest, BTreeMap<String, Vec<Endpoint>>) {
    let registry = Registry::start().await;
    let layers =
        [tar(&[("big", 0o644, Some(&noise(1_200_000)))]), tar(&[("new", 0o644, Some(b"new"))])];
    let pinned = registry.put("library/web", "1", &image(&layers, &json!({ "Cmd": ["x"] })));
    registry.shelf.lock().unwrap().break_after = Some((100_000, breaks));
    let mirror = Endpoint { host: registry.address.to_string(), plain: true };
    (registry, pinned.parse().unwrap(), [("docker.io".to_owned(), vec![mirror])].into())
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_begin_together_pull_an_image_once() {
    let cluster = Cluster::new();
    // Broken off and taken up again a few times, it takes the first host a second.
    let (registry, pinned, mirrors) = in_registry(4).await;
    let first = cluster.host_with(1, mirrors.clone()).await;
    let others = [cluster.host_with(2, mirrors.clone()).await, cluster.host_with(3, mirrors).await];
    let mut before = vec![first.holder()];
    for other in &others {
        *other.directory.known.lock().unwrap() =
            Known { holders: before.clone(), ..Known::default() };
        before.push(other.holder());
    }
    let wanted = spec(&pinned);
    let begun = first.images.ensure(&wanted);
    let later = async {
        // They ask once the first one has begun, as the leader sees to.
        let begins = async {
            while first.images.coming(&pinned).is_none()
                && first.images.open_blob(&pinned).is_none()
            {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(30), begins).await.unwrap();
        tokio::join!(others[0].images.ensure(&wanted), others[1].images.ensure(&wanted))
    };
    let (one, (two, three)) = tokio::join!(begun, later);
    for image in [one.unwrap(), two.unwrap(), three.unwrap()] {
        assert_eq!(read(&image.layers, "new"), b"new");
    }
    assert_eq!(first.blobs(), others[0].blobs());
    assert_eq!(first.blobs(), others[1].blobs());
    assert_eq!(registry.requests("/manifests/").len(), 1, "{:?}", registry.requests(""));
    let mut blobs = registry.requests("/blobs/");
    blobs.retain(|request| !request.contains("bytes="));
    assert_eq!(blobs.len(), 3, "the configuration and two layers: {blobs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_pull_failed_is_not_waited_for() {
    let cluster = Cluster::new();
    let (_registry, pinned, mirrors) = in_registry(0).await;
    let (first, second) = (cluster.host(1).await, cluster.host_with(2, mirrors).await);
    *second.directory.known.lock().unwrap() =
        Known { holders: vec![first.holder()], ..Known::default() };
    let wanted = spec(&pinned);
    let (failed, pulled) =
        tokio::join!(first.images.ensure(&wanted), second.images.ensure(&wanted));
    failed.unwrap_err();
    assert_eq!(read(&pulled.unwrap().layers, "new"), b"new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_gives_wrong_bytes_is_passed_over() {
    let cluster = Cluster::new();
    let (first, second) = (cluster.host(1).await, cluster.host(2).await);
    let loaded = load(&first).await;
    let lies = Faulty::of(&first, Fault::Lies);
    let mut holders = vec![holder(3, cluster.serve(3, lies.server()).await)];
    // Alone it gives nothing, and what it gave is not kept.
    second.knows(&loaded, holders.clone());
    let error = second.images.ensure(&spec(&loaded)).await.unwrap_err();
    assert!(!error.is_permanent(), "{error}");
    let expected = "host n3: what it gives is not what the digest says";
    assert!(error.to_string().contains(expected), "{error}");
    assert_eq!(lies.asked_of_large().len(), 1);
    assert!(second.images.list().is_empty());
    holders.push(first.holder());
    second.knows(&loaded, holders);
    second.images.ensure(&spec(&loaded)).await.unwrap();
    assert_eq!(first.blobs(), second.blobs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_removed_gets_nothing() {
    let cluster = Cluster::new();
    let (first, second) = (cluster.host(1).await, cluster.host(2).await);
    let loaded = load(&first).await;
    first.directory.strangers.lock().unwrap().push(NodeId(2));
    second.knows(&loaded, vec![first.holder()]);
    let error = second.images.ensure(&spec(&loaded)).await.unwrap_err();
    assert!(error.to_string().contains("node 2 is no member of the cluster"), "{error}");
    assert!(second.blobs().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_can_be_loaded_again() {
    let cluster = Cluster::new();
    let (first, second) = (cluster.host(1).await, cluster.host(2).await);
    let loaded = load(&first).await;
    let mut saved = Vec::new();
    first.images.export(&["web:1".to_owned()]).unwrap().write(&mut saved).unwrap();
    let mut again = Vec::new();
    first.images.export(&[loaded.to_string()]).unwrap().write(&mut again).unwrap();
    assert!(saved == again, "the same image is the same archive");
    let zipped = crate::image::gzip(&saved);
    let found = second.images.load(std::io::Cursor::new(zipped), None).await.unwrap();
    assert_eq!(
        (found[0].digest.clone(), found[0].names[0].as_str()),
        (loaded, "docker.io/library/web:1")
    );
    assert_eq!(first.blobs(), second.blobs());
}
