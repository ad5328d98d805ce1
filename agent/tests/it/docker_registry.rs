//! Against Debian's own registry program (package docker-registry), unpacked aside where it can be fetched.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use swarm_agent::image::{Endpoint, Images, Registries};
use swarm_proto::spec::{ImageSpec, PullPolicy};
use swarm_proto::transport::install_crypto_provider;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::image::{TestImage, busybox, digest, image, indexed};

/// The program of the host, or that of the package, unpacked where builds keep things.
///
/// Tests are processes beside each other: each unpacks into a folder of its own, and one of them gives it the name.
fn program() -> PathBuf {
    let installed = PathBuf::from("/usr/bin/docker-registry");
    if installed.exists() {
        return installed;
    }
    let builds = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let kept = builds.join("docker-registry-unpacked");
    if !kept.exists() {
        let fresh = tempfile::tempdir_in(builds).unwrap();
        run(Command::new("apt-get").args(["download", "docker-registry"]).current_dir(&fresh));
        let mut files = fs::read_dir(&fresh).unwrap().flatten().map(|entry| entry.path());
        let package = files.find(|path| path.extension().is_some_and(|end| end == "deb"));
        run(Command::new("dpkg").arg("-x").arg(package.unwrap()).arg(fresh.path().join("root")));
        // Refused where another test was quicker: a folder that is not empty is never replaced.
        let _ = fs::rename(fresh.path().join("root"), &kept);
    }
    kept.join("usr/bin/docker-registry")
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

struct Running {
    process: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn start() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = folder.path().join("config.yml");
    let text = format!(
        "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}/store\n\
         http:\n  addr: {free}\n",
        folder.path().display()
    );
    fs::write(&config, text).unwrap();
    let process = Command::new(program())
        .arg("serve")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let running = Running { process, address: free.to_string(), _folder: folder };
    let end = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(&running.address).await.is_err() {
        assert!(Instant::now() < end, "the registry does not listen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running
}

/// One request of HTTP/1.1; gives the head of the answer.
async fn http(address: &str, method: &str, path: &str, kind: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: {kind}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn push(registry: &Running, name: &str, tag: &str, image: &TestImage) -> String {
    for blob in &image.blobs {
        let path = format!("/v2/{name}/blobs/uploads/");
        let answer = http(&registry.address, "POST", &path, "x/y", b"").await;
        let place = answer.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap();
        let place = place.trim().trim_start_matches(&format!("http://{}", registry.address));
        let path = format!("{place}&digest={}", digest(blob));
        let kind = "application/octet-stream";
        let answer = http(&registry.address, "PUT", &path, kind, blob).await;
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }
    for (kind, manifest) in &image.manifests {
        for reference in [digest(manifest), tag.to_owned()] {
            let path = format!("/v2/{name}/manifests/{reference}");
            let answer = http(&registry.address, "PUT", &path, kind, manifest).await;
            assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
        }
    }
    digest(&image.manifests.last().unwrap().1)
}

#[tokio::test]
async fn images_come_from_debians_registry() {
    install_crypto_provider();
    let registry = start().await;
    let system = image(&[busybox()], &json!({ "Cmd": ["sh"] }));
    let pinned = push(&registry, "library/busybox", "1", &system).await;
    let folder = tempfile::tempdir().unwrap();
    let mirror = Endpoint { host: registry.address.clone(), plain: true };
    let registries = Registries {
        mirrors: [("docker.io".to_owned(), vec![mirror])].into(),
        mirrors_only: ["docker.io".to_owned()].into(),
        ..Registries::default()
    };
    let images = Images::open(folder.path(), registries).unwrap();
    assert_eq!(images.resolve("busybox:1").await.unwrap().as_str(), pinned);
    let spec = ImageSpec {
        reference: "busybox:1".into(),
        digest: Some(pinned.parse().unwrap()),
        pull_policy: PullPolicy::Missing,
    };
    let image = images.ensure(&spec).await.unwrap();
    assert!(image.layers[0].join("bin/busybox").exists());
    let error = images.resolve("busybox:2").await.unwrap_err().to_string();
    assert!(error.contains("does not have it"), "{error}");
    // The registry itself by its own name, without TLS for it is on this machine.
    let own = format!("{}/library/busybox:1", registry.address);
    assert_eq!(images.resolve(&own).await.unwrap().as_str(), pinned);
    drop(registry);
    assert_eq!(images.resolve("busybox:1").await.unwrap().as_str(), pinned, "it is on this host");
}

#[tokio::test]
async fn an_index_comes_from_debians_registry() {
    install_crypto_provider();
    let registry = start().await;
    let mut system =
        indexed(image(&[busybox()], &json!({ "Cmd": ["sh"] })), swarm_agent::image::architecture());
    // A registry takes an index only with all that it names.
    let text = String::from_utf8(system.manifests[1].1.clone()).unwrap();
    let foreign = digest(b"another platform's");
    let own = digest(&system.manifests[0].1);
    let size = system.manifests[0].1.len();
    let mut index: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(index["manifests"][0]["digest"], json!(foreign));
    (index["manifests"][0]["digest"], index["manifests"][0]["size"]) = (json!(own), json!(size));
    system.manifests[1].1 = index.to_string().into_bytes();
    let pinned = push(&registry, "team/system", "v1", &system).await;
    let folder = tempfile::tempdir().unwrap();
    let images = Images::open(folder.path(), Registries::default()).unwrap();
    let reference = format!("{}/team/system:v1", registry.address);
    assert_eq!(images.resolve(&reference).await.unwrap().as_str(), pinned);
    let digest = Some(pinned.parse().unwrap());
    let spec = ImageSpec { reference, digest, pull_policy: PullPolicy::Missing };
    assert_eq!(images.ensure(&spec).await.unwrap().layers.len(), 1);
}
