//! What nobody needs any more: caches of builds, and what a kill in the middle of a pull leaves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use swarm_agent::build::BuildRequest;
use swarm_agent::image::{Endpoint, Images, Needed, Registries, Trimmed};
use swarm_proto::spec::ImageSpec;
use swarm_proto::transport::install_crypto_provider;
use tokio_util::sync::CancellationToken;

use crate::builder::{Lab, archive, in_a_lab, request};
use crate::host::eventually;
use crate::image::{digest, image, tar};
use crate::registry::Registry;

const HOUR: Duration = Duration::from_hours(1);

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Digests of layers that lie unpacked, or of blobs.
fn whole(folder: &Path) -> Vec<String> {
    names(folder).into_iter().filter(|name| name.len() == 64).collect()
}

fn layers(lab: &Lab) -> usize {
    whole(&lab.folder.path().join("layers")).len()
}

#[test]
fn caches_that_no_build_uses_go() {
    in_a_lab(async |lab| {
        let text = "FROM busybox:1\nRUN --mount=type=cache,target=/c echo x > /c/x && echo made > /made\nRUN echo more > /more\n";
        let told = lab.build(request(text), &[]).await;
        let built = told.image();
        assert_eq!(layers(lab), 3);
        let other = BuildRequest {
            names: vec!["other:1".parse().unwrap()],
            ..request("FROM busybox:1\nRUN echo other > /other\n")
        };
        let again = || BuildRequest {
            dockerfile: other.dockerfile.clone(),
            names: other.names.clone(),
            ..request("")
        };
        // What a step made stays when its image goes.
        for worked in [&["RUN"] as &[&str], &[]] {
            assert_eq!(lab.build(again(), &[]).await.worked(), worked);
            lab.images.remove("other:1", &Needed::new()).await.unwrap();
            assert_eq!(layers(lab), 4);
        }
        // So it does while it is young.
        assert_eq!(lab.images.trim(HOUR).await.unwrap(), Trimmed::default());
        assert_eq!(lab.images.sweep(Duration::ZERO).await.unwrap(), 0, "all is somebody's");
        assert_eq!(lab.build(request(text), &[]).await.worked(), [""; 0]);
        let trimmed = lab.images.trim(Duration::ZERO).await.unwrap();
        assert_eq!(trimmed.things, 4, "three steps and a folder");
        assert!(trimmed.freed > 0);
        assert_eq!(layers(lab), 3, "those of the image");
        for folder in ["build/cache", "build/mounts"] {
            assert_eq!(names(&lab.folder.path().join(folder)), [""; 0], "{folder}");
        }
        assert_eq!(lab.image("made:1", built).await.layers.len(), 3);
        assert_eq!(lab.build(request(text), &[]).await.worked(), ["RUN", "RUN"]);
    });
}

#[test]
fn what_a_build_uses_is_never_taken() {
    in_a_lab(async |lab| {
        let text = "FROM busybox:1\nRUN echo first > /first\nRUN --mount=type=cache,target=/c \
                    echo > /c/begun; n=0; until [ -e /c/go ] || [ $n -gt 400 ]; do sleep 0.05; \
                    n=$((n+1)); done; [ -e /c/go ] && cat /first\n";
        let building = lab.build_until(request(text), archive(&[]), CancellationToken::new());
        let taking = async {
            let mounts = lab.folder.path().join("build/mounts");
            let begun = || -> Option<PathBuf> {
                let paths = names(&mounts).into_iter().map(|name| mounts.join(name));
                paths.into_iter().find(|path| path.join("begun").exists())
            };
            eventually("the build begins", || begun().is_some()).await;
            let trimmed = lab.images.trim(Duration::ZERO).await.unwrap();
            assert_eq!(trimmed, Trimmed::default());
            lab.images.sweep(Duration::ZERO).await.unwrap();
            fs::write(begun().unwrap().join("go"), "").unwrap();
        };
        let (told, ()) = tokio::join!(building, taking);
        let built = told.image();
        assert_eq!(told.output, ["first"]);
        assert_eq!(lab.image("made:1", built).await.layers.len(), 3);
        assert_eq!(lab.images.trim(Duration::ZERO).await.unwrap().things, 3);
    });
}

/// Where it is set, this process is one that shall be killed: the agent's folder, the registry, and the image's digest.
const VICTIM: &str = "SWARM_TEST_VICTIM";

fn open(folder: &Path, registry: &str) -> Images {
    install_crypto_provider();
    let mirror = Endpoint { host: registry.to_owned(), plain: true };
    let registries = Registries {
        mirrors: [("docker.io".to_owned(), vec![mirror])].into(),
        mirrors_only: ["docker.io".to_owned()].into(),
        ..Registries::default()
    };
    Images::open(folder, registries).unwrap()
}

fn spec(pinned: &str) -> ImageSpec {
    ImageSpec { digest: Some(pinned.parse().unwrap()), ..ImageSpec::new("docker.io/library/app:1") }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_kill_left_of_a_pull_goes() {
    if let Ok(victim) = std::env::var(VICTIM) {
        let mut words = victim.split(' ');
        let mut word = || words.next().unwrap();
        let images = open(Path::new(word()), word());
        images.ensure(&spec(word())).await.unwrap();
        return;
    }
    let (folder, registry) = (tempfile::tempdir().unwrap(), Registry::start().await);
    let first = tar(&[("first", 0o644, Some(b"1"))]);
    let second = tar(&[("second", 0o644, Some(b"2"))]);
    let made = image(&[first, second], &json!({}));
    let pinned = registry.put("library/app", "1", &made);
    registry.shelf.lock().unwrap().stall = Some(digest(&made.blobs[1]));
    let victim = format!("{} {} {pinned}", folder.path().display(), registry.address);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sweep::what_a_kill_left_of_a_pull_goes", "--nocapture"])
        .env(VICTIM, victim)
        .spawn()
        .unwrap();
    let (blobs, layers) = (folder.path().join("blobs/sha256"), folder.path().join("layers"));
    // Manifest, configuration, and a layer whole and unpacked: all but the record.
    let is_there = |folder: &Path, count| folder.is_dir() && whole(folder).len() == count;
    eventually("most of it has come", || is_there(&blobs, 3) && is_there(&layers, 1)).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let images = open(folder.path(), &registry.address.to_string());
    assert!(images.list().is_empty());
    // A pull that comes soon goes on with what there is.
    assert_eq!(images.sweep(HOUR).await.unwrap(), 0);
    assert!(is_there(&blobs, 3) && is_there(&layers, 1));
    assert!(images.sweep(Duration::ZERO).await.unwrap() > 0);
    assert_eq!(names(&blobs), [""; 0]);
    assert_eq!(names(&layers), ["boot"]);
    registry.shelf.lock().unwrap().stall = None;
    assert_eq!(images.ensure(&spec(&pinned)).await.unwrap().layers.len(), 2);
    images.sweep(Duration::ZERO).await.unwrap();
    assert!(is_there(&blobs, 4) && is_there(&layers, 2));
}
