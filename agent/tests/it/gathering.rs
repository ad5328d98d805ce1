//! Large blobs in pieces from several hosts: one that dies, one that lies, one that is slow, and what is left of a try.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use swarm_agent::image::{Endpoint, Limits};
use swarm_proto::id::Digest;
use swarm_proto::object::ImageHolder;
use tokio::time::timeout;

use crate::faulty::{Asked, Fault, Faulty};
use crate::image::{image, tar};
use crate::registry::Registry;
use crate::sharing::{Cluster, Host, holder, load_sized, noise, spec};

const MIB: u64 = 1 << 20;
/// A layer of this size comes in thirteen pieces.
const SIZE: u32 = 12 << 20;
const PIECES: u64 = 13;
/// Longer than any of these takes, and shorter than a host that says nothing is waited for.
const SOON: Duration = Duration::from_secs(25);

/// A host that has an image with a large layer, and others that give it on, each with a fault.
struct Scene {
    cluster: Cluster,
    first: Host,
    digest: Digest,
    others: Vec<Faulty>,
    holders: Vec<ImageHolder>,
}

impl Scene {
    async fn new(faults: &[Fault]) -> Self {
        let cluster = Cluster::new();
        let first = cluster.host(1).await;
        let digest = load_sized(&first, SIZE).await;
        let mut scene = Self { cluster, first, digest, others: Vec::new(), holders: Vec::new() };
        scene.replace(faults).await;
        scene
    }

    /// Other hosts from now on.
    async fn replace(&mut self, faults: &[Fault]) {
        self.others = faults.iter().map(|fault| Faulty::of(&self.first, *fault)).collect();
        self.holders.clear();
        for (node, store) in (10..).zip(&self.others) {
            let address = self.cluster.serve(node, store.server()).await;
            self.holders.push(holder(node, address));
        }
    }

    /// A host that knows of them.
    async fn host(&self) -> Host {
        let host = self.cluster.host(2).await;
        host.knows(&self.digest, self.holders.clone());
        host
    }

    async fn pull(&self, host: &Host) -> Result<(), String> {
        let wanted = spec(&self.digest);
        let pulled = timeout(SOON, host.images.ensure(&wanted)).await.expect("it comes soon");
        pulled.map(drop).map_err(|error| error.to_string())
    }

    fn assert_same(&self, host: &Host) {
        assert!(self.first.blobs() == host.blobs(), "all is as it was, and nothing else is there");
    }

    fn asked(&self) -> Vec<Vec<Asked>> {
        self.others.iter().map(Faulty::asked_of_large).collect()
    }
}

/// Begins of pieces, each once.
fn begins<'a>(asked: impl IntoIterator<Item = &'a Vec<Asked>>) -> Vec<u64> {
    let mut begins: Vec<u64> =
        asked.into_iter().flatten().map(|asked| asked.offset / MIB).collect();
    begins.sort_unstable();
    begins.dedup();
    begins
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_layer_comes_in_pieces_from_all_that_have_it() {
    for fault in [Fault::None, Fault::KnowsNoLength] {
        let scene = Scene::new(&[fault; 3]).await;
        let host = scene.host().await;
        scene.pull(&host).await.unwrap();
        scene.assert_same(&host);
        let asked = scene.asked();
        assert!(asked.iter().all(|asked| !asked.is_empty()), "{asked:?}");
        assert_eq!(begins(&asked), (0..PIECES).collect::<Vec<_>>());
        for Asked { offset, length, .. } in asked.iter().flatten() {
            let is_last = *offset == (PIECES - 1) * MIB;
            assert!(offset % MIB == 0 && (*length == MIB || is_last && *length < MIB), "{asked:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_dies_is_left_out() {
    for fault in [Fault::Dies(1_500_000), Fault::Dies(0), Fault::EndsEarly] {
        let scene = Scene::new(&[fault, Fault::None, Fault::None]).await;
        let host = scene.host().await;
        scene.pull(&host).await.unwrap();
        scene.assert_same(&host);
        let asked = scene.asked();
        assert!(!asked[0].is_empty() && asked[0].len() <= 4, "{asked:?}");
        assert!(begins(&asked[1..]).contains(&(asked[0].last().unwrap().offset / MIB)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_slow_or_silent_is_not_waited_for() {
    let slow = Fault::IsSlow(Duration::from_secs(2));
    for fault in [slow, Fault::FallsSilent(0), Fault::FallsSilent(1_100_000)] {
        let scene = Scene::new(&[fault, Fault::None]).await;
        let host = scene.host().await;
        scene.pull(&host).await.unwrap();
        scene.assert_same(&host);
        assert!(!scene.asked()[0].is_empty());
        assert!(scene.others[0].sent() < 5_000_000, "{}", scene.others[0].sent());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_lies_keeps_nobody_from_an_image() {
    for faults in [[Fault::Lies, Fault::None], [Fault::None, Fault::Lies]] {
        let scene = Scene::new(&faults).await;
        let host = scene.host().await;
        scene.pull(&host).await.unwrap();
        scene.assert_same(&host);
        // It was copied anew, and whole.
        let asked = scene.asked().concat();
        assert!(asked.iter().any(|asked| (asked.offset, asked.length) == (0, 0)), "{asked:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_lie_it_is_said_and_the_registry_is_asked() {
    let scene = Scene::new(&[Fault::Lies, Fault::Lies]).await;
    let host = scene.host().await;
    let error = scene.pull(&host).await.unwrap_err();
    for expected in [
        "pieces do not make what their digest says: n1",
        "host n10: what it gives is not what the digest says",
        "host n11: what it gives is not what the digest says",
    ] {
        assert!(error.contains(expected), "{error}");
    }
    let registry = Registry::start().await;
    let layers = [tar(&[("big", 0o644, Some(&noise(SIZE)))])];
    let pinned = registry.put("library/web", "1", &image(&layers, &json!({ "Cmd": ["x"] })));
    let pinned: Digest = pinned.parse().unwrap();
    let mirror = Endpoint { host: registry.address.to_string(), plain: true };
    let mirrors: BTreeMap<_, _> = [("docker.io".to_owned(), vec![mirror])].into();
    // A host that has it, and two that give it on wrongly.
    let source = scene.cluster.host_with(3, mirrors.clone()).await;
    source.images.ensure(&spec(&pinned)).await.unwrap();
    let liars = [Faulty::of(&source, Fault::Lies), Faulty::of(&source, Fault::Lies)];
    let mut holders = Vec::new();
    for (node, liar) in (20..).zip(&liars) {
        holders.push(holder(node, scene.cluster.serve(node, liar.server()).await));
    }
    let host = scene.cluster.host_with(4, mirrors).await;
    host.knows(&pinned, holders);
    timeout(SOON, host.images.ensure(&spec(&pinned))).await.unwrap().unwrap();
    assert!(source.blobs() == host.blobs());
    assert!(liars.iter().all(|liar| !liar.asked_of_large().is_empty()));
}

/// Which pieces of the large layer are there, as the map beside it says.
fn marks(folder: &Path) -> Vec<bool> {
    let files = fs::read_dir(folder.join("blobs/sha256")).unwrap();
    let mut files = files.map(|entry| entry.unwrap().path());
    let map = files.find(|path| path.extension().is_some_and(|ending| ending == "pieces"));
    let map = map.map(|path| fs::read(path).unwrap()).unwrap_or_default();
    map.get(16..).unwrap_or_default().iter().map(|mark| *mark != 0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_that_came_are_not_fetched_again_after_a_restart() {
    let silent = [Fault::FallsSilent(3_500_000), Fault::FallsSilent(4_500_000)];
    let mut scene = Scene::new(&silent).await;
    let host = scene.host().await;
    // What is killed with it is all that the agent does.
    let agent = tokio::runtime::Runtime::new().unwrap();
    let (images, wanted) = (host.images.clone(), spec(&scene.digest));
    agent.spawn(async move { images.ensure(&wanted).await });
    let folder = host.folder.path().to_owned();
    let some = async {
        while marks(&folder).iter().filter(|is_here| **is_here).count() < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, some).await.unwrap();
    tokio::task::spawn_blocking(move || agent.shutdown_timeout(SOON)).await.unwrap();
    let here = marks(&folder);
    let Host { folder, images, .. } = host;
    assert!(images.list().is_empty() && here.contains(&false), "{here:?}");
    drop(images);
    scene.replace(&[Fault::None, Fault::None]).await;
    let host = scene.cluster.host_in(2, folder, BTreeMap::new(), Limits::default()).await;
    host.knows(&scene.digest, scene.holders.clone());
    scene.pull(&host).await.unwrap();
    scene.assert_same(&host);
    let missing: Vec<u64> =
        (0..PIECES).zip(&here).filter(|(_, here)| !**here).map(|(piece, _)| piece).collect();
    assert_eq!(begins(&scene.asked()), missing);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_host_alone_goes_on_where_the_first_gap_is() {
    let mut scene = Scene::new(&[Fault::Dies(3_500_000), Fault::Dies(4_500_000)]).await;
    let host = scene.host().await;
    scene.pull(&host).await.unwrap_err();
    scene.replace(&[Fault::None]).await;
    host.knows(&scene.digest, scene.holders.clone());
    scene.pull(&host).await.unwrap();
    scene.assert_same(&host);
    let asked = scene.asked().concat();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].offset >= MIB && asked[0].length == 0, "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_rate_holds_for_all_pieces_together() {
    let cluster = Cluster::new();
    let first = cluster.host(1).await;
    let digest = load_sized(&first, SIZE).await;
    let limits = Limits { share_rate: Some(4 << 20), ..Limits::default() };
    let mut givers = Vec::new();
    for node in [5, 6] {
        let folder = tempfile::tempdir().unwrap();
        let giver = cluster.host_in(node, folder, BTreeMap::new(), limits).await;
        giver.knows(&digest, vec![first.holder()]);
        giver.images.ensure(&spec(&digest)).await.unwrap();
        givers.push(giver);
    }
    let host = cluster.host(2).await;
    host.knows(&digest, givers.iter().map(Host::holder).collect());
    let begun = Instant::now();
    timeout(SOON, host.images.ensure(&spec(&digest))).await.unwrap().unwrap();
    // 12 MiB at 8 MiB/s, but for a quarter of a second's that may be made up for.
    assert!(begun.elapsed() >= Duration::from_millis(1200), "{:?}", begun.elapsed());
    assert!(first.blobs() == host.blobs());
}
