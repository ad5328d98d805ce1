//! A host's registry gives out what other hosts hold, over mutual TLS from agent to agent, and keeps nothing of it.

use std::net::SocketAddr;

use serde_json::Value;
use swarm_agent::image::Known;
use swarm_agent::registry_server::{Ready, RegistryServerConfig};
use swarm_proto::id::Digest;

use crate::sharing::{Cluster, Host, holder, load};

/// Answers with the status, the content's digest as it is told, and the content.
async fn get(address: SocketAddr, path: &str, range: Option<&str>) -> (u16, String, Vec<u8>) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.get(format!("http://{address}{path}"));
    if let Some(range) = range {
        request = request.header("range", range);
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let told = answer.headers().get("docker-content-digest");
    let told = told.map_or("", |told| told.to_str().unwrap()).to_owned();
    (status, told, answer.bytes().await.unwrap().to_vec())
}

async fn serve(host: &Host) -> SocketAddr {
    let config = RegistryServerConfig {
        listen: Some("127.0.0.1:0".to_owned()),
        ..RegistryServerConfig::default()
    };
    let ready = Ready::open(&config.settings().unwrap().unwrap()).await.unwrap();
    let address = ready.address().unwrap();
    ready.start(host.images.clone(), host.folder.path()).unwrap();
    address
}

#[tokio::test]
async fn what_another_host_holds_is_passed_on() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.host(1).await, cluster.host(2).await);
    let digest = load(&one).await;
    let address = serve(&two).await;
    assert_eq!(get(address, "/v2/web/manifests/1", None).await.0, 404, "nobody is known");
    // One that is gone comes before the one that has it.
    let gone = "127.0.0.1:1".parse().unwrap();
    two.knows(&digest, vec![holder(7, gone), one.holder()]);
    let (status, told, manifest) = get(address, "/v2/web/manifests/1", None).await;
    assert_eq!((status, told.as_str()), (200, digest.as_str()));
    assert_eq!(Digest::of([manifest.as_slice()]), digest);
    let again = get(address, &format!("/v2/web/manifests/{digest}"), None).await;
    assert_eq!(again.2, manifest);

    let (_, _, tags) = get(address, "/v2/web/tags/list", None).await;
    assert_eq!(String::from_utf8(tags).unwrap(), r#"{"name":"web","tags":["1"]}"#);
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    for part in layers.iter().chain([&manifest["config"]]) {
        let blob = part["digest"].as_str().unwrap();
        let path = format!("/v2/web/blobs/{blob}");
        let (status, _, whole) = get(address, &path, None).await;
        assert_eq!((status, whole.len() as u64), (200, part["size"].as_u64().unwrap()));
        assert_eq!(Digest::of([whole.as_slice()]).as_str(), blob);
        let (status, _, some) = get(address, &path, Some("bytes=10-99")).await;
        assert_eq!((status, some.as_slice()), (206, &whole[10..100]));
        let other = path.replace("/web/", "/other/");
        assert_eq!(get(address, &other, None).await.0, 404, "it is of another image");
    }
    assert!(two.blobs().is_empty() && two.images.list().is_empty(), "nothing is kept");

    // What a registry gave to a host may have come with a login.
    let known = Known { digest: Some(digest), local: false, holders: vec![one.holder()] };
    *two.directory.known.lock().unwrap() = known;
    assert_eq!(get(address, "/v2/private/manifests/1", None).await.0, 404);
}
