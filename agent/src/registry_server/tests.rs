//! A real registry on the loopback, asked over HTTP: what the distribution specification's conformance tests ask, what goes
//! wrong, and what strangers try.

mod conformance;
mod content;
mod hosts;
mod people;
mod pull;
mod push;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use swarm_proto::id::Digest;
use swarm_proto::transport::install_crypto_provider;

use super::{Ready, RegistryServerConfig};
use crate::image::{Images, Registries, architecture};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A registry with the folder that it has its images in.
struct Scene {
    folder: tempfile::TempDir,
    images: Images,
    address: SocketAddr,
    client: reqwest::Client,
}

/// An answer, with the body.
#[derive(Debug)]
struct Said {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: Vec<u8>,
}

impl Said {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The code of a refusal.
    fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}

/// A blob's descriptor.
fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() })
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::of([bytes])
}

/// A layer with one file.
fn layer(content: &str) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "words", content.as_bytes()).unwrap();
    archive.into_inner().unwrap()
}

/// The configuration of an image of one layer, for such a machine.
fn config(layer: &[u8], architecture: &str) -> Vec<u8> {
    let config = json!({
        "os": "linux",
        "architecture": architecture,
        "config": { "Cmd": ["words"] },
        "rootfs": { "type": "layers", "diff_ids": [digest(layer)] },
    });
    config.to_string().into_bytes()
}

fn manifest(config: &[u8], layer: &[u8]) -> Vec<u8> {
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, config),
        "layers": [descriptor(LAYER, layer)],
    });
    manifest.to_string().into_bytes()
}

impl Scene {
    async fn new() -> Self {
        Self::with(RegistryServerConfig::default()).await
    }

    async fn with(config: RegistryServerConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (images, address) = serve(folder.path(), config).await;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { folder, images, address, client }
    }

    /// As after the agent was killed: all that is known is what lies on the disk.
    async fn again(self) -> Self {
        let Self { folder, client, .. } = self;
        let (images, address) = serve(folder.path(), RegistryServerConfig::default()).await;
        Self { folder, images, address, client }
    }

    fn ask(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let url = if path.starts_with("http") {
            path.to_owned()
        } else {
            format!("http://{}{path}", self.address)
        };
        self.client.request(method, url)
    }

    async fn get(&self, path: &str) -> Said {
        said(self.ask("GET", path)).await
    }

    async fn delete(&self, path: &str) -> u16 {
        said(self.ask("DELETE", path)).await.status
    }

    async fn put_manifest(&self, path: &str, media_type: &str, bytes: &[u8]) -> Said {
        let request = self.ask("PUT", path).header("content-type", media_type);
        said(request.body(bytes.to_vec())).await
    }

    /// Begins an upload; answers with its place.
    async fn begin(&self, repository: &str) -> String {
        let begun = said(self.ask("POST", &format!("/v2/{repository}/blobs/uploads/"))).await;
        assert_eq!(begun.status, 202, "{begun:?}");
        begun.header("location").to_owned()
    }

    async fn push_blob(&self, repository: &str, bytes: &[u8]) {
        let path = format!("{}?digest={}", self.begin(repository).await, digest(bytes));
        let pushed = said(self.ask("PUT", &path).body(bytes.to_vec())).await;
        assert_eq!(pushed.status, 201, "{pushed:?}");
        assert_eq!(pushed.header("docker-content-digest"), digest(bytes).as_str());
    }

    /// Pushes an image for such a machine; answers with its manifest.
    async fn push_for(&self, repository: &str, tag: &str, architecture: &str) -> Vec<u8> {
        let layer = layer(&format!("{repository}:{tag}"));
        let config = config(&layer, architecture);
        self.push_blob(repository, &layer).await;
        self.push_blob(repository, &config).await;
        let manifest = manifest(&config, &layer);
        let path = format!("/v2/{repository}/manifests/{tag}");
        let pushed = self.put_manifest(&path, MANIFEST, &manifest).await;
        assert_eq!(pushed.status, 201, "{pushed:?}");
        manifest
    }

    async fn push(&self, repository: &str, tag: &str) -> Vec<u8> {
        self.push_for(repository, tag, architecture()).await
    }

    /// Pushes an artifact that says something about another manifest.
    async fn push_referrer(&self, repository: &str, subject: &[u8], kind: &str) -> Said {
        self.push_blob(repository, b"{}").await;
        let artifact = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": kind,
            "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
            "layers": [descriptor("application/vnd.oci.empty.v1+json", b"{}")],
            "subject": descriptor(MANIFEST, subject),
            "annotations": { "of": kind },
        })
        .to_string();
        let path = format!("/v2/{repository}/manifests/{}", digest(artifact.as_bytes()));
        self.put_manifest(&path, MANIFEST, artifact.as_bytes()).await
    }

    fn place(&self, part: &str) -> PathBuf {
        self.folder.path().join(part)
    }

    /// Names of the files of all blobs.
    fn blobs(&self) -> Vec<String> {
        entries(&self.place("blobs/sha256"))
    }

    /// Names of this host's images.
    fn names(&self) -> Vec<String> {
        self.images.list().into_iter().map(|image| image.reference).collect()
    }
}

fn entries(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

async fn serve(folder: &Path, config: RegistryServerConfig) -> (Images, SocketAddr) {
    install_crypto_provider();
    let config = RegistryServerConfig { listen: Some("127.0.0.1:0".to_owned()), ..config };
    let ready = Ready::open(&config.settings().unwrap().unwrap()).await.unwrap();
    let address = ready.address().unwrap();
    let images = Images::open(folder, Registries::default()).unwrap();
    ready.start(images.clone(), folder).unwrap();
    (images, address)
}

async fn said(request: RequestBuilder) -> Said {
    let response: Response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Said { status, headers, body: response.bytes().await.unwrap().to_vec() }
}
