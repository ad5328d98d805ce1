//! What there is, what refers to what, and what goes.

use super::*;

#[tokio::test]
async fn tags_and_repositories_are_listed_in_pages() {
    let scene = Scene::new().await;
    for tag in ["b", "A", "c"] {
        scene.push("app", tag).await;
    }
    scene.push("team/other", "1").await;
    let all = scene.get("/v2/app/tags/list").await;
    assert_eq!(all.json(), json!({ "name": "app", "tags": ["A", "b", "c"] }));
    assert_eq!(all.header("link"), "");
    let first = scene.get("/v2/app/tags/list?n=2").await;
    assert_eq!(first.json()["tags"], json!(["A", "b"]));
    assert_eq!(first.header("link"), "</v2/app/tags/list?n=2&last=b>; rel=\"next\"");
    let next = scene.get("/v2/app/tags/list?n=2&last=b").await;
    assert_eq!((next.json()["tags"].clone(), next.header("link")), (json!(["c"]), ""));
    let none = scene.get("/v2/app/tags/list?n=0").await;
    assert_eq!(
        (none.status, none.json()["tags"].clone(), none.header("link")),
        (200, json!([]), "")
    );
    assert_eq!(scene.get("/v2/app/tags/list?n=x").await.status, 400);
    let all = scene.get("/v2/_catalog").await;
    assert_eq!(all.json(), json!({ "repositories": ["app", "team/other"] }));
    let first = scene.get("/v2/_catalog?n=1").await;
    assert_eq!(first.header("link"), "</v2/_catalog?n=1&last=app>; rel=\"next\"");
    let next = scene.get("/v2/_catalog?n=1&last=app").await;
    assert_eq!(next.json()["repositories"], json!(["team/other"]));
}

#[tokio::test]
async fn referrers_are_listed_by_what_they_are() {
    let scene = Scene::new().await;
    // What says something about a manifest may come before it.
    let early = scene.push_referrer("app", b"later", "x/sbom+json").await;
    assert_eq!((early.status, early.header("oci-subject")), (201, digest(b"later").as_str()));
    let manifest = scene.push("app", "1").await;
    let subject = digest(&manifest);
    let path = format!("/v2/app/referrers/{subject}");
    let empty = scene.get(&path).await;
    assert_eq!((empty.status, empty.header("content-type")), (200, INDEX));
    assert_eq!(empty.json()["manifests"], json!([]));
    for kind in ["x/sbom+json", "x/signature"] {
        let pushed = scene.push_referrer("app", &manifest, kind).await;
        assert_eq!((pushed.status, pushed.header("oci-subject")), (201, subject.as_str()));
    }
    let all = scene.get(&path).await.json();
    assert_eq!((all["schemaVersion"].clone(), all["mediaType"].clone()), (json!(2), json!(INDEX)));
    assert_eq!(all["manifests"].as_array().unwrap().len(), 2);
    let some = scene.get(&format!("{path}?artifactType=x%2Fsbom%2Bjson")).await;
    assert_eq!(some.header("oci-filters-applied"), "artifactType");
    let some = some.json();
    let entry = &some["manifests"][0];
    assert_eq!(some["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(entry["artifactType"], "x/sbom+json");
    assert_eq!(entry["annotations"], json!({ "of": "x/sbom+json" }));
    let size = scene.get(&format!("/v2/app/manifests/{}", entry["digest"].as_str().unwrap())).await;
    assert_eq!(entry["size"], size.body.len());
    // An image's own kind is that of its configuration.
    let none = scene.get(&format!("{path}?artifactType=x/none")).await;
    assert_eq!((none.status, none.json()["manifests"].clone()), (200, json!([])));
    assert_eq!(
        scene.get(&format!("/v2/no/referrers/{subject}")).await.json()["manifests"],
        json!([])
    );
    assert_eq!(scene.get("/v2/app/referrers/x").await.code(), "DIGEST_INVALID");
    // Artifacts are nothing that runs.
    assert_eq!(scene.names(), ["docker.io/library/app:1"]);
}

#[tokio::test]
async fn what_is_deleted_goes_and_what_is_used_stays() {
    let scene = Scene::new().await;
    let manifest = scene.push("app", "1").await;
    let pushed = scene.put_manifest("/v2/app/manifests/2", MANIFEST, &manifest).await;
    assert_eq!(pushed.status, 201);
    assert_eq!(scene.delete("/v2/app/manifests/1").await, 202);
    assert_eq!(scene.delete("/v2/app/manifests/1").await, 404);
    assert_eq!(scene.get("/v2/app/manifests/1").await.status, 404);
    assert_eq!(scene.get("/v2/app/manifests/2").await.body, manifest);
    assert_eq!(scene.names(), ["docker.io/library/app:2"]);
    let of = format!("/v2/app/manifests/{}", digest(&manifest));
    assert_eq!(scene.delete(&of).await, 202);
    assert_eq!(scene.get(&of).await.status, 404);
    assert_eq!(scene.get("/v2/app/manifests/2").await.status, 404, "with its tags");
    assert!(scene.names().is_empty());
    let layer = layer("app:1");
    for blob in [digest(&layer), digest(&config(&layer, architecture()))] {
        assert_eq!(scene.delete(&format!("/v2/app/blobs/{blob}")).await, 202);
        assert_eq!(scene.delete(&format!("/v2/app/blobs/{blob}")).await, 404);
    }
    assert!(scene.blobs().is_empty(), "{:?}", scene.blobs());
    assert!(entries(&scene.place("registry/repositories")).is_empty());
    assert!(entries(&scene.place("registry/freed")).is_empty());
    assert!(entries(&scene.place("images")).is_empty());
    let layers = entries(&scene.place("layers"));
    assert!(layers.iter().all(|name| name == "boot" || name.ends_with(".synced")), "{layers:?}");
}

#[tokio::test]
async fn old_blobs_without_a_manifest_go() {
    let scene = Scene::new().await;
    let manifest = scene.push("app", "1").await;
    scene.push_blob("app", b"unnamed").await;
    let age = std::time::Duration::from_hours(1);
    scene.images.trim_hosted(age).await.unwrap();
    assert_eq!(scene.blobs().len(), 4, "they are too young");
    scene.images.trim_hosted(std::time::Duration::ZERO).await.unwrap();
    assert_eq!(scene.blobs().len(), 3);
    assert_eq!(scene.delete(&format!("/v2/app/manifests/{}", digest(&manifest))).await, 202);
    assert_eq!(scene.blobs().len(), 2, "for a push that is under way");
    scene.images.trim_hosted(std::time::Duration::ZERO).await.unwrap();
    assert!(scene.blobs().is_empty());
}
