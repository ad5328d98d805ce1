//! What is pushed and what hosts hold are the same images.

use std::io::Cursor;

use swarm_proto::spec::ImageSpec;

use super::*;
use crate::image::Needed;

#[tokio::test]
async fn an_image_that_is_pushed_is_one_of_the_hosts() {
    let scene = Scene::new().await;
    let manifest = scene.push("team/app", "1").await;
    assert_eq!(scene.names(), ["docker.io/team/app:1"]);
    let image = scene.images.ensure(&ImageSpec::new("team/app:1")).await.unwrap();
    assert_eq!((&image.digest, image.layers.len()), (&digest(&manifest), 1));
    assert_eq!(std::fs::read(image.layers[0].join("words")).unwrap(), b"team/app:1");
    let held = scene.images.held().borrow().clone();
    assert!(held[0].names[0].local && held[0].names[0].name == "docker.io/team/app:1");
    // Taken off the host, it is still in the registry.
    scene.images.remove("team/app:1", &Needed::new()).await.unwrap();
    assert!(scene.names().is_empty());
    assert_eq!(scene.blobs().len(), 3);
    assert_eq!(scene.get("/v2/team/app/manifests/1").await.body, manifest);
    let blob = layer("team/app:1");
    assert_eq!(scene.get(&format!("/v2/team/app/blobs/{}", digest(&blob))).await.body, blob);
    // Another content takes the name.
    let second = self::config(&blob, architecture());
    let second = String::from_utf8(second).unwrap().replace("words", "other").into_bytes();
    scene.push_blob("team/app", &second).await;
    let second = self::manifest(&second, &blob);
    scene.push("team/app", "1").await;
    let pushed = scene.put_manifest("/v2/team/app/manifests/1", MANIFEST, &second).await;
    assert_eq!(pushed.status, 201);
    let image = scene.images.ensure(&ImageSpec::new("team/app:1")).await.unwrap();
    assert_eq!(image.digest, digest(&second));
}

#[tokio::test]
async fn what_cannot_run_here_is_only_kept() {
    let scene = Scene::new().await;
    let other = if architecture() == "arm64" { "amd64" } else { "arm64" };
    let foreign = scene.push_for("app", "foreign", other).await;
    assert!(scene.names().is_empty());
    // An index with both is one that runs.
    let own = scene.push("app", "own").await;
    let entry = |of: &[u8], architecture: &str| {
        let mut entry = descriptor(MANIFEST, of);
        entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        entry
    };
    let entries = [entry(&foreign, other), entry(&own, architecture())];
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries }).to_string();
    let pushed = scene.put_manifest("/v2/app/manifests/many", INDEX, index.as_bytes()).await;
    assert_eq!((pushed.status, pushed.header("warning")), (201, ""));
    let image = scene.images.ensure(&ImageSpec::new("app:many")).await.unwrap();
    assert_eq!(image.digest, digest(index.as_bytes()));
    // One that is broken is kept, with a warning.
    let (whole, broken) = (b"no archive", config(b"no archive", architecture()));
    scene.push_blob("app", whole).await;
    scene.push_blob("app", &broken).await;
    let path = "/v2/app/manifests/broken";
    let pushed = scene.put_manifest(path, MANIFEST, &manifest(&broken, whole)).await;
    assert_eq!(pushed.status, 201);
    assert!(
        pushed.header("warning").starts_with("299 - \"no image of the cluster: "),
        "{pushed:?}"
    );
    assert_eq!(scene.get(path).await.status, 200);
}

#[tokio::test]
async fn what_a_host_holds_is_given_out() {
    let scene = Scene::new().await;
    let layer = layer("loaded");
    let config = config(&layer, architecture());
    let archive = json!([
        { "Config": "config", "RepoTags": ["team/loaded:1"], "Layers": ["layer"] },
    ]);
    let mut packed = tar::Builder::new(Vec::new());
    let archive = archive.to_string().into_bytes();
    for (name, bytes) in [("manifest.json", &archive), ("config", &config), ("layer", &layer)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        packed.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    let packed = Cursor::new(packed.into_inner().unwrap());
    let of = scene.images.load(packed, None).await.unwrap()[0].digest.clone();
    let got = scene.get("/v2/team/loaded/manifests/1").await;
    assert_eq!((got.status, got.header("docker-content-digest")), (200, of.as_str()));
    assert_eq!(got.header("content-type"), MANIFEST);
    assert_eq!(digest(&got.body), of);
    assert_eq!(scene.get(&format!("/v2/team/loaded/manifests/{of}")).await.body, got.body);
    for blob in [&layer, &config] {
        let path = format!("/v2/team/loaded/blobs/{}", digest(blob));
        assert_eq!(scene.get(&path).await.body, *blob);
        assert_eq!(scene.get(&path.replace("team/loaded", "team/other")).await.status, 404);
    }
    assert_eq!(scene.get("/v2/team/loaded/manifests/2").await.status, 404);
    assert_eq!(scene.get("/v2/team/loaded/tags/list").await.json()["tags"], json!(["1"]));
    assert_eq!(scene.delete("/v2/team/loaded/manifests/1").await, 404, "it is not the registry's");
    // What has the same content as one of the host's goes without it.
    scene.push_blob("team/loaded", &layer).await;
    assert_eq!(scene.delete(&format!("/v2/team/loaded/blobs/{}", digest(&layer))).await, 202);
    assert_eq!(scene.names(), ["docker.io/team/loaded:1"]);
    assert_eq!(scene.blobs().len(), 3);
}
