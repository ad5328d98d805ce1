//! What is taken in: blobs in every way, manifests that hold, and what goes on after a restart.

use super::*;

#[tokio::test]
async fn a_blob_comes_in_one_piece() {
    let scene = Scene::new().await;
    let path = format!("/v2/app/blobs/uploads/?digest={}", digest(b"one"));
    let pushed = said(scene.ask("POST", &path).body("one")).await;
    assert_eq!(
        (pushed.status, pushed.header("docker-content-digest")),
        (201, digest(b"one").as_str())
    );
    let place = pushed.header("location").to_owned();
    assert_eq!(scene.get(&place).await.body, b"one");
    scene.push_blob("app", b"").await;
    assert_eq!(scene.get(&format!("/v2/app/blobs/{}", digest(b""))).await.body, b"");
    // What is not what it should be leaves nothing.
    let wrong = said(scene.ask("POST", &path).body("two")).await;
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "DIGEST_INVALID"));
    let place = scene.begin("app").await;
    let wrong = said(scene.ask("PUT", &format!("{place}?digest={}", digest(b"x"))).body("y")).await;
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "DIGEST_INVALID"));
    assert_eq!(scene.get(&place).await.code(), "BLOB_UPLOAD_UNKNOWN");
    let place = scene.begin("app").await;
    for query in ["", "?digest=", "?digest=sha512:00"] {
        let wrong = said(scene.ask("PUT", &format!("{place}{query}"))).await;
        assert_eq!((wrong.status, wrong.code().as_str()), (400, "DIGEST_INVALID"), "{query}");
    }
    assert_eq!(scene.delete(&place).await, 204);
    assert_eq!(scene.delete(&place).await, 404);
    assert!(entries(&scene.place("registry/uploads")).is_empty());
    assert!(entries(&scene.place("registry/freed")).is_empty());
    assert_eq!(scene.blobs().len(), 2);
}

#[tokio::test]
async fn a_blob_comes_in_chunks_and_in_order() {
    let scene = Scene::new().await;
    let place = scene.begin("app").await;
    let chunk = async |range: &str, bytes: &'static str| {
        said(scene.ask("PATCH", &place).header("content-range", range).body(bytes)).await
    };
    let taken = chunk("0-4", "first").await;
    assert_eq!(
        (taken.status, taken.header("range"), taken.header("location")),
        (202, "0-4", &*place)
    );
    for (range, bytes) in [("0-4", "first"), ("6-10", "wrong"), ("5-9", "toolong"), ("x", "wrong")]
    {
        let refused = chunk(range, bytes).await;
        assert_eq!((refused.status, refused.header("range")), (416, "0-4"), "{range}");
    }
    let status = scene.get(&place).await;
    assert_eq!((status.status, status.header("range")), (204, "0-4"));
    assert_eq!(chunk("5-10", "second").await.header("range"), "0-10");
    // Without a range, as Docker does.
    assert_eq!(said(scene.ask("PATCH", &place).body("third")).await.header("range"), "0-15");
    let whole = b"firstsecondthirdlast";
    let end = format!("{place}?digest={}", digest(whole));
    let end = scene.ask("PUT", &end).header("content-range", "16-19").body("last");
    assert_eq!(said(end).await.status, 201);
    assert_eq!(scene.get(&format!("/v2/app/blobs/{}", digest(whole))).await.body, whole);
    // Nobody else's upload, and none of another repository.
    let place = scene.begin("app").await;
    assert_eq!(scene.get(&place.replace("/app/", "/other/")).await.code(), "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn an_upload_goes_on_after_the_agent_was_killed() {
    let scene = Scene::new().await;
    let manifest = scene.push("app", "1").await;
    let place = scene.begin("app").await;
    said(scene.ask("PATCH", &place).body("before ")).await;
    // What a crash at the wrong moment leaves: files that were not finished, a blob that was not linked yet.
    std::fs::write(scene.place("blobs/sha256").join(digest(b"lost").hex()), "lost").unwrap();
    std::fs::write(scene.place("registry/freed").join(digest(b"lost").hex()), "").unwrap();
    std::fs::write(scene.place("registry/freed").join(digest(&manifest).hex()), "").unwrap();
    let repository = scene.place("registry/repositories");
    let of = entries(&repository).remove(0);
    std::fs::create_dir(repository.join(".tmp-1-1")).unwrap();
    std::fs::write(repository.join(&of).join("tags/.tmp-1-2"), "{").unwrap();
    std::fs::write(repository.join(&of).join("tags/bad.json"), "{").unwrap();
    let scene = scene.again().await;
    let status = scene.get(&place).await;
    assert_eq!((status.status, status.header("range")), (204, "0-6"));
    said(scene.ask("PATCH", &place).body("after")).await;
    let end = format!("{place}?digest={}", digest(b"before after"));
    assert_eq!(said(scene.ask("PUT", &end)).await.status, 201);
    assert_eq!(scene.get("/v2/app/manifests/1").await.body, manifest);
    assert_eq!(scene.get("/v2/app/tags/list").await.json()["tags"], json!(["1"]));
    assert_eq!(entries(&repository), std::slice::from_ref(&of));
    assert!(entries(&scene.place("registry/freed")).is_empty());
    assert!(!scene.blobs().contains(&digest(b"lost").hex().to_owned()));
    assert!(entries(&scene.place("registry/uploads")).is_empty());
}

#[tokio::test]
async fn a_connection_that_breaks_keeps_what_came() {
    use tokio::io::AsyncWriteExt;
    let scene = Scene::new().await;
    let place = scene.begin("app").await;
    let mut stream = tokio::net::TcpStream::connect(scene.address).await.unwrap();
    let head = format!("PATCH {place} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf");
    stream.write_all(head.as_bytes()).await.unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while scene.get(&place).await.header("range") != "0-3" {
        assert!(std::time::Instant::now() < until, "what came is never there");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    drop(stream);
    let end = format!("{place}?digest={}", digest(b"half and half"));
    let end = scene.ask("PUT", &end).header("content-range", "4-12").body(" and half");
    let ended = said(end).await;
    assert_eq!(ended.status, 201, "{ended:?}");
}

#[tokio::test]
async fn a_blob_comes_from_another_repository() {
    let scene = Scene::new().await;
    scene.push_blob("one", b"shared").await;
    let of = digest(b"shared");
    for (name, from) in [("two", "&from=one"), ("three", "")] {
        let path = format!("/v2/{name}/blobs/uploads/?mount={of}{from}");
        let mounted = said(scene.ask("POST", &path)).await;
        assert_eq!((mounted.status, mounted.header("docker-content-digest")), (201, of.as_str()));
        assert_eq!(scene.get(&format!("/v2/{name}/blobs/{of}")).await.body, b"shared");
    }
    for from in ["&from=no", "&from=..%2F.."] {
        let path = format!("/v2/four/blobs/uploads/?mount={of}{from}");
        let begun = said(scene.ask("POST", &path)).await;
        assert_eq!(begun.status, 202, "an upload instead: {begun:?}");
        assert_eq!(scene.delete(begun.header("location")).await, 204);
    }
    // It stays as long as one of them has it.
    for (name, left) in [("one", 1), ("two", 1), ("three", 0)] {
        assert_eq!(scene.delete(&format!("/v2/{name}/blobs/{of}")).await, 202);
        assert_eq!(scene.blobs().len(), left, "without {name}");
    }
    assert!(entries(&scene.place("registry/repositories")).is_empty());
}

#[tokio::test]
async fn manifests_must_hold() {
    let scene = Scene::new().await;
    let (layer, of) = (layer("x"), "/v2/app/manifests/1");
    let config = config(&layer, architecture());
    let whole = manifest(&config, &layer);
    let lacking = scene.put_manifest(of, MANIFEST, &whole).await;
    assert_eq!((lacking.status, lacking.code().as_str()), (400, "MANIFEST_BLOB_UNKNOWN"));
    scene.push_blob("app", &layer).await;
    scene.push_blob("other", &config).await;
    assert_eq!(scene.put_manifest(of, MANIFEST, &whole).await.status, 400, "it is another's");
    let table: [(&str, &str, &[u8], u16, &str); 5] = [
        (of, MANIFEST, b"", 400, "MANIFEST_INVALID"),
        (of, MANIFEST, b"[1]", 400, "MANIFEST_INVALID"),
        (of, INDEX, &whole, 400, "MANIFEST_INVALID"),
        ("/v2/app/manifests/..", MANIFEST, &whole, 400, "MANIFEST_INVALID"),
        ("/v2/App/manifests/1", MANIFEST, &whole, 400, "NAME_INVALID"),
    ];
    for (path, media_type, bytes, status, code) in table {
        // A client would take the dots out of the path.
        let path = path.replace("..", "%2e%2e%2f");
        let refused = scene.put_manifest(&path, media_type, bytes).await;
        assert_eq!((refused.status, refused.code().as_str()), (status, code), "{path}");
    }
    scene.push_blob("app", &config).await;
    let other = format!("/v2/app/manifests/{}", digest(b"other"));
    assert_eq!(scene.put_manifest(&other, MANIFEST, &whole).await.code(), "DIGEST_INVALID");
    let large = vec![b' '; (4 << 20) + 1];
    let refused = scene.put_manifest(of, MANIFEST, &large).await;
    assert_eq!((refused.status, refused.code().as_str()), (413, "SIZE_INVALID"));
    assert!(scene.names().is_empty());
    assert_eq!(scene.put_manifest(of, MANIFEST, &whole).await.status, 201);
    // An index needs the manifests that it names.
    let index = |of: &[u8]| {
        let entries = [descriptor(MANIFEST, of)];
        json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries }).to_string()
    };
    let lacking = scene.put_manifest(of, INDEX, index(b"no").as_bytes()).await;
    assert_eq!(lacking.code(), "MANIFEST_BLOB_UNKNOWN");
    let taken = scene.put_manifest("/v2/app/manifests/many", INDEX, index(&whole).as_bytes()).await;
    assert_eq!(taken.status, 201);
    assert_eq!(scene.get("/v2/app/manifests/many").await.header("content-type"), INDEX);
}
