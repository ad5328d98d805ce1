//! What is given out, and in what parts.

use super::*;

#[tokio::test]
async fn what_was_pushed_is_given_out_byte_for_byte() {
    let scene = Scene::new().await;
    let base = scene.get("/v2/").await;
    assert_eq!(
        (base.status, base.header("docker-distribution-api-version")),
        (200, "registry/2.0")
    );
    let manifest = scene.push("team/app", "1").await;
    let of = digest(&manifest);
    for reference in ["1", of.as_str()] {
        let path = format!("/v2/team/app/manifests/{reference}");
        let got = scene.get(&path).await;
        assert_eq!((got.status, &got.body), (200, &manifest));
        assert_eq!(got.header("content-type"), MANIFEST);
        assert_eq!(got.header("docker-content-digest"), of.as_str());
        let head = said(scene.ask("HEAD", &path)).await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), manifest.len().to_string());
        assert_eq!(head.header("docker-content-digest"), of.as_str());
    }
    let blob = layer("team/app:1");
    let path = format!("/v2/team/app/blobs/{}", digest(&blob));
    let got = scene.get(&path).await;
    assert_eq!((got.status, &got.body), (200, &blob));
    assert_eq!(got.header("docker-content-digest"), digest(&blob).as_str());
    let head = said(scene.ask("HEAD", &path)).await;
    assert_eq!((head.status, head.header("content-length")), (200, &*blob.len().to_string()));
    // A repository sees its own alone.
    assert_eq!(scene.get(&path.replace("team/app", "other")).await.code(), "BLOB_UNKNOWN");
}

#[tokio::test]
async fn parts_of_blobs_are_given_out() {
    let scene = Scene::new().await;
    scene.push("app", "1").await;
    let blob = layer("app:1");
    let path = format!("/v2/app/blobs/{}", digest(&blob));
    let size = blob.len();
    let part = async |range: &str| said(scene.ask("GET", &path).header("range", range)).await;
    let got = part("bytes=10-19").await;
    assert_eq!((got.status, got.body.as_slice()), (206, &blob[10..20]));
    assert_eq!(got.header("content-range"), format!("bytes 10-19/{size}"));
    assert_eq!(part(&format!("bytes={}-", size - 3)).await.body, blob[size - 3..]);
    assert_eq!(part("bytes=-5").await.body, blob[size - 5..]);
    assert_eq!(part("bytes=0-1,3-4").await.body, blob, "several parts are all of it");
    let outside = part(&format!("bytes={size}-")).await;
    assert_eq!(outside.status, 416);
    assert_eq!(outside.header("content-range"), format!("bytes */{size}"));
}

#[tokio::test]
async fn what_is_not_there_is_said_so() {
    let scene = Scene::new().await;
    let nothing = digest(b"nothing");
    let table = [
        (format!("/v2/app/manifests/{nothing}"), "MANIFEST_UNKNOWN"),
        ("/v2/app/manifests/.INVALID_MANIFEST_NAME".to_owned(), "MANIFEST_UNKNOWN"),
        ("/v2/app/manifests/1".to_owned(), "MANIFEST_UNKNOWN"),
        (format!("/v2/app/blobs/{nothing}"), "BLOB_UNKNOWN"),
        ("/v2/app/tags/list".to_owned(), "NAME_UNKNOWN"),
    ];
    for (path, code) in table {
        let got = scene.get(&path).await;
        assert_eq!((got.status, got.code().as_str()), (404, code), "{path}");
        assert_eq!(said(scene.ask("HEAD", &path)).await.status, 404);
    }
    for path in [format!("/v2/app/manifests/{nothing}"), format!("/v2/app/blobs/{nothing}")] {
        assert_eq!(scene.delete(&path).await, 404);
    }
}
