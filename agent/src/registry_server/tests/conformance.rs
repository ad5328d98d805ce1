//! What the distribution specification's own conformance program asks of a registry, in our words: each way to push a blob,
//! each kind of manifest through its life, and lists.

use super::*;

const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const KIND: &str = "application/vnd.example.sbom.v1+json";
const OTHER_KIND: &str = "application/vnd.example.signature";

/// So many bytes, others for each seed.
fn blob(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at * 31 + seed * 7 + at / 251) % 256).unwrap()).collect()
}

impl Scene {
    /// A request with a body, as the program sends blobs.
    async fn send(&self, method: &str, path: &str, body: &[u8]) -> Said {
        let request = self.ask(method, path).header("content-type", "application/octet-stream");
        said(request.body(body.to_vec())).await
    }

    async fn send_chunk(&self, method: &str, path: &str, chunk: (usize, &[u8])) -> Said {
        let (from, bytes) = chunk;
        let range = format!("{from}-{}", from + bytes.len() - 1);
        let request = self.ask(method, path).header("content-range", range);
        said(request.body(bytes.to_vec())).await
    }

    /// Pushes a blob in chunks, the last with the end where `put_last`; answers with what was said last. Before each chunk,
    /// with `disorder`, one that does not belong there.
    async fn push_chunks(&self, bytes: &[u8], of: &Digest, put_last: bool, disorder: bool) -> Said {
        let mut place = self.begin("app").await;
        let size = bytes.len() / 3 + 1;
        for (number, chunk) in bytes.chunks(size).enumerate() {
            let (from, is_last) = (number * size, (number + 1) * size >= bytes.len());
            let (method, query) = if is_last && put_last {
                ("PUT", format!("?digest={of}"))
            } else {
                ("PATCH", String::new())
            };
            if disorder {
                let wrong = if is_last { 0 } else { from + size };
                let refused = self
                    .send_chunk(method, &format!("{place}{query}"), (wrong, &bytes[wrong..][..5]))
                    .await;
                assert_eq!(refused.status, 416, "{refused:?}");
                let status = self.get(&format!("{place}{query}")).await;
                assert_eq!(status.status, 204);
                assert_eq!(status.header("range"), format!("0-{}", from.saturating_sub(1)));
                place = status.header("location").to_owned();
            }
            let taken = self.send_chunk(method, &format!("{place}{query}"), (from, chunk)).await;
            if is_last && put_last {
                return taken;
            }
            assert_eq!(taken.status, 202, "{taken:?}");
            assert_eq!(taken.header("range"), format!("0-{}", from + chunk.len() - 1));
            place = taken.header("location").to_owned();
        }
        self.send("PUT", &format!("{place}?digest={of}"), b"").await
    }

    /// Pushes bytes that shall have a digest in one of the ways that there are.
    async fn push_by(&self, way: usize, bytes: &[u8], of: &Digest) -> Said {
        match way {
            0 => self.send("POST", &format!("/v2/app/blobs/uploads/?digest={of}"), bytes).await,
            1 => {
                let place = self.begin("app").await;
                self.send("PUT", &format!("{place}?digest={of}"), bytes).await
            }
            2 => {
                let place = self.begin("app").await;
                let streamed = self.send("PATCH", &place, bytes).await;
                assert_eq!(streamed.status, 202, "{streamed:?}");
                let place = streamed.header("location");
                self.send("PUT", &format!("{place}?digest={of}"), b"").await
            }
            3 => self.push_chunks(bytes, of, false, false).await,
            4 => self.push_chunks(bytes, of, true, false).await,
            5 => self.push_chunks(bytes, of, false, true).await,
            _ => self.push_chunks(bytes, of, true, true).await,
        }
    }
}

/// Ways to push a blob.
const WAYS: usize = 7;

#[tokio::test]
async fn each_way_to_push_a_blob_leads_to_it() {
    let scene = Scene::new().await;
    for way in 0..WAYS {
        for bytes in [blob(way, 512), blob(way, 3067), b"{}".repeat(way + 10)] {
            let of = digest(&bytes);
            let path = format!("/v2/app/blobs/{of}");
            assert_eq!(scene.get(&path).await.status, 404, "way {way}");
            let pushed = scene.push_by(way, &bytes, &of).await;
            assert_eq!((pushed.status, pushed.header("docker-content-digest")), (201, of.as_str()));
            assert!(scene.get(pushed.header("location")).await.body == bytes, "way {way}");
            let head = said(scene.ask("HEAD", &path)).await;
            assert_eq!((head.status, head.body.len()), (200, 0));
            assert_eq!(head.header("content-length"), bytes.len().to_string());
            assert_eq!(head.header("docker-content-digest"), of.as_str());
            assert_eq!(scene.delete(&path).await, 202);
            assert_eq!(said(scene.ask("HEAD", &path)).await.status, 404);
            assert_eq!(scene.delete(&path).await, 404);
        }
    }
    assert!(scene.blobs().is_empty() && entries(&scene.place("registry/uploads")).is_empty());
}

#[tokio::test]
async fn no_way_to_push_a_blob_takes_what_is_something_else() {
    let scene = Scene::new().await;
    for way in 0..WAYS {
        let bytes = blob(way, 3067);
        let of = digest(&bytes);
        let refused = scene.push_by(way, &[bytes.as_slice(), b"oh no"].concat(), &of).await;
        assert_eq!((refused.status, refused.code().as_str()), (400, "DIGEST_INVALID"), "way {way}");
        assert_eq!(scene.get(&format!("/v2/app/blobs/{of}")).await.status, 404);
    }
    assert!(scene.blobs().is_empty() && entries(&scene.place("registry/uploads")).is_empty());
}

#[tokio::test]
async fn a_mount_gives_the_blob_or_an_upload() {
    let scene = Scene::new().await;
    let bytes = blob(1, 512);
    let of = digest(&bytes);
    scene.push_blob("team/one", &bytes).await;
    for from in ["&from=team/one", "&from=team%2Fone", ""] {
        let path = format!("/v2/app/blobs/uploads/?mount={of}{from}");
        let mounted = said(scene.ask("POST", &path)).await;
        assert_eq!(mounted.status, 201);
        assert_eq!(mounted.header("location"), format!("/v2/app/blobs/{of}"));
        assert!(scene.get(mounted.header("location")).await.body == bytes);
        assert_eq!(scene.delete(&format!("/v2/app/blobs/{of}")).await, 202);
    }
    for from in ["&from=team/one", ""] {
        let missing = blob(2, 512);
        let path = format!("/v2/app/blobs/uploads/?mount={}{from}", digest(&missing));
        let begun = said(scene.ask("POST", &path)).await;
        assert_eq!(begun.status, 202);
        let place = begun.header("location");
        assert!(place.starts_with("/v2/app/blobs/uploads/"), "{place}");
        assert_eq!(scene.delete(place).await, 204, "it is given up");
    }
    assert_eq!(scene.get(&format!("/v2/team/one/blobs/{of}")).await.status, 200);
}

#[tokio::test]
async fn parts_of_a_blob_are_what_was_asked_for() {
    let scene = Scene::new().await;
    let bytes = blob(1, 2048);
    scene.push_blob("app", &bytes).await;
    let path = format!("/v2/app/blobs/{}", digest(&bytes));
    let table = [
        ("bytes=500-1499", 500..1500),
        ("bytes=500-", 500..2048),
        ("bytes=-500", 1548..2048),
        ("bytes=2000-5000", 2000..2048),
    ];
    for (range, part) in table {
        let got = said(scene.ask("GET", &path).header("range", range)).await;
        assert_eq!((got.status, got.body.as_slice()), (206, &bytes[part.clone()]), "{range}");
        assert_eq!(got.header("content-length"), part.len().to_string());
        let told = format!("bytes {}-{}/2048", part.start, part.end - 1);
        assert_eq!(got.header("content-range"), told);
    }
    for range in ["bytes=500-0", "bytes=5000-10000"] {
        let got = said(scene.ask("GET", &path).header("range", range)).await;
        assert_eq!((got.status, got.header("content-range")), (416, "bytes */2048"), "{range}");
    }
}

/// A document of a repository with the blobs that it needs.
struct Kind {
    name: &'static str,
    blobs: Vec<Vec<u8>>,
    media_type: &'static str,
    document: Value,
}

impl Kind {
    fn bytes(&self) -> Vec<u8> {
        self.document.to_string().into_bytes()
    }
}

/// An image of one layer with some of its fields replaced.
fn image_with(name: &'static str, fields: &Value) -> Kind {
    let layer = layer(name);
    let config = config(&layer, architecture());
    let mut document: Value = serde_json::from_slice(&manifest(&config, &layer)).unwrap();
    for (key, value) in fields.as_object().unwrap() {
        document[key] = value.clone();
    }
    Kind { name, blobs: vec![layer, config], media_type: MANIFEST, document }
}

fn artifact(name: &'static str, layer: &[u8], layer_type: &str) -> Kind {
    let document = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": KIND,
        "config": descriptor(EMPTY, b"{}"),
        "layers": [descriptor(layer_type, layer)],
    });
    Kind { name, blobs: vec![b"{}".to_vec(), layer.to_vec()], media_type: MANIFEST, document }
}

fn index(name: &'static str, entries: &[&Kind], kind: Option<&str>) -> Kind {
    let entries: Vec<Value> =
        entries.iter().map(|entry| descriptor(entry.media_type, &entry.bytes())).collect();
    let mut document = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
    if let Some(kind) = kind {
        document["artifactType"] = kind.into();
    }
    Kind { name, blobs: Vec::new(), media_type: INDEX, document }
}

/// Each kind of document that the program tries, those before the ones that name them.
fn kinds() -> Vec<Kind> {
    let long: serde_json::Map<String, Value> =
        (0..390).map(|n| (format!("large-{n}"), "A".repeat(10_000).into())).collect();
    let with_data = |layer: &[u8]| {
        let mut descriptor = descriptor(LAYER, layer);
        descriptor["data"] = "aGVsbG8=".into();
        descriptor
    };
    let elsewhere = json!({
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "digest": digest(b"not here"),
        "size": 123_456,
        "urls": ["https://store.example.com/x"],
    });
    let mut kinds = vec![
        image_with("image", &json!({})),
        image_with("large", &json!({ "annotations": long })),
        image_with("data", &json!({ "layers": [with_data(&layer("data"))] })),
        image_with("none", &json!({ "layers": [] })),
        image_with("custom", &json!({ "org.example.field": { "a": [1, null] } })),
        image_with(
            "foreign",
            &json!({ "layers": [elsewhere, descriptor(LAYER, &layer("foreign"))] }),
        ),
        artifact("artifact", b"some bill", KIND),
        artifact("bare", b"{}", EMPTY),
    ];
    let (one, two) = (index("index", &[&kinds[0], &kinds[2]], None), index("empty", &[], None));
    let nested = index("nested", &[&one, &two], None);
    let artifacts = index("artifacts", &[&kinds[6], &kinds[7]], Some(KIND));
    kinds.extend([one, two, nested, artifacts]);
    kinds
}

#[tokio::test]
async fn each_kind_of_manifest_lives_and_goes() {
    let scene = Scene::new().await;
    let kinds = kinds();
    for kind in &kinds {
        for blob in &kind.blobs {
            scene.push_blob("app", blob).await;
        }
        let (bytes, of) = (kind.bytes(), digest(&kind.bytes()));
        for named in [of.as_str(), kind.name] {
            let path = format!("/v2/app/manifests/{named}");
            let pushed = scene.put_manifest(&path, kind.media_type, &bytes).await;
            assert_eq!(pushed.status, 201, "{}: {pushed:?}", kind.name);
            assert_eq!(pushed.header("docker-content-digest"), of.as_str());
            for path in [&path, pushed.header("location")] {
                let got = scene.get(path).await;
                assert!((got.status, &got.body) == (200, &bytes), "{}", kind.name);
                assert_eq!(got.header("content-type"), kind.media_type);
                let head = said(scene.ask("HEAD", path)).await;
                assert_eq!((head.status, head.body.len()), (200, 0));
                assert_eq!(head.header("content-length"), bytes.len().to_string());
                assert_eq!(head.header("content-type"), kind.media_type);
                assert_eq!(head.header("docker-content-digest"), of.as_str());
            }
        }
    }
    let mut tags: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
    tags.sort_unstable();
    assert_eq!(scene.get("/v2/app/tags/list").await.json()["tags"], json!(tags));
    for kind in kinds.iter().rev() {
        let of = digest(&kind.bytes());
        for named in [kind.name, of.as_str()] {
            let path = format!("/v2/app/manifests/{named}");
            assert_eq!(scene.delete(&path).await, 202, "{}", kind.name);
            assert_eq!(said(scene.ask("HEAD", &path)).await.status, 404, "{}", kind.name);
        }
    }
    assert_eq!(scene.get("/v2/app/tags/list").await.json()["tags"], json!([]), "blobs are left");
    let blobs: std::collections::BTreeSet<Digest> =
        kinds.iter().flat_map(|kind| &kind.blobs).map(|blob| digest(blob)).collect();
    for blob in blobs {
        let path = format!("/v2/app/blobs/{blob}");
        assert_eq!(scene.delete(&path).await, 202);
        assert_eq!(said(scene.ask("HEAD", &path)).await.status, 404);
    }
    assert!(scene.blobs().is_empty() && scene.names().is_empty());
}

#[tokio::test]
async fn manifests_that_are_not_what_they_are_called_are_refused() {
    let scene = Scene::new().await;
    let bytes = scene.push("app", "1").await;
    let table = [
        (format!("/v2/app/manifests/{}", digest(&bytes)), [bytes.as_slice(), b"  "].concat()),
        ("/v2/app/manifests/sha256:baddigeststring".to_owned(), bytes.clone()),
        ("/v2/app/manifests/sha256:totallywrong".to_owned(), b"blablabla".to_vec()),
    ];
    for (path, bytes) in table {
        let refused = scene.put_manifest(&path, MANIFEST, &bytes).await;
        assert_eq!((refused.status, refused.code().as_str()), (400, "DIGEST_INVALID"), "{path}");
    }
    assert_eq!(scene.get("/v2/app/manifests/sha256:baddigeststring").await.status, 400);
    assert_eq!(scene.get("/v2/app/manifests/missing-x").await.status, 404);
    // A kind of digest that is not kept here is said to be wrong, not missing.
    let longer = format!("sha512:{}", "a".repeat(128));
    for path in [format!("/v2/app/manifests/{longer}"), format!("/v2/app/blobs/{longer}")] {
        assert_eq!(scene.get(&path).await.code(), "DIGEST_INVALID");
    }
}

#[tokio::test]
async fn lists_of_tags_go_on_where_they_are_told() {
    let scene = Scene::new().await;
    assert_eq!(scene.get("/v2/app/tags/list").await.status, 404);
    let bytes = scene.push("app", "test0").await;
    for tag in ["test1", "test2", "test3"] {
        scene.put_manifest(&format!("/v2/app/manifests/{tag}"), MANIFEST, &bytes).await;
    }
    let tags = async |query: &str| {
        let answer = scene.get(&format!("/v2/app/tags/list{query}")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
        let link = answer.header("link").to_owned();
        (answer.json()["tags"].clone(), link)
    };
    assert_eq!(tags("?last=test1").await, (json!(["test2", "test3"]), String::new()));
    assert_eq!(tags("?last=test10").await.0, json!(["test2", "test3"]), "it need not be there");
    assert_eq!(tags("?last=test3").await.0, json!([]));
    // Page after page by what is linked, each tag once.
    let (mut seen, mut query) = (Vec::new(), "?n=1".to_owned());
    loop {
        let (page, link) = tags(&query).await;
        seen.extend(page.as_array().unwrap().clone());
        let Some((next, _)) = link.split_once('>') else { break };
        query = next.trim_start_matches("</v2/app/tags/list").to_owned();
        assert!(link.ends_with("; rel=\"next\"") && query.contains("n=1"), "{link}");
    }
    assert_eq!(Value::from(seen), json!(["test0", "test1", "test2", "test3"]));
}

/// Something that is said about a manifest.
fn about(mut kind: Kind, of: &Digest) -> Kind {
    kind.document["subject"] = json!({ "mediaType": MANIFEST, "digest": of, "size": 123 });
    kind.document["annotations"] = json!({ "org.example.name": kind.name });
    kind
}

/// Its kind is what its configuration is, where nothing else says it.
fn by_config(name: &'static str, layer: &[u8], kind: &str) -> Kind {
    let mut artifact = artifact(name, layer, LAYER);
    artifact.document["config"]["mediaType"] = kind.into();
    artifact.document.as_object_mut().unwrap().remove("artifactType");
    artifact
}

impl Scene {
    async fn push_kind(&self, kind: &Kind) {
        for blob in &kind.blobs {
            self.push_blob("app", blob).await;
        }
        let path = format!("/v2/app/manifests/{}", digest(&kind.bytes()));
        let pushed = self.put_manifest(&path, kind.media_type, &kind.bytes()).await;
        let told = kind.document["subject"]["digest"].as_str().unwrap_or_default();
        assert_eq!((pushed.status, pushed.header("oci-subject")), (201, told), "{}", kind.name);
    }

    /// What is said about a manifest, in order, by name.
    async fn said_about(&self, of: &Digest, kind: Option<&str>) -> String {
        let query = kind.map(|kind| kind.replace('+', "%2B").replace('/', "%2F"));
        let query = query.map_or_else(String::new, |kind| format!("?artifactType={kind}"));
        let answer = self.get(&format!("/v2/app/referrers/{of}{query}")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, INDEX));
        let applied = kind.map_or("", |_| "artifactType");
        assert_eq!(answer.header("oci-filters-applied"), applied);
        let index = answer.json();
        assert_eq!((&index["schemaVersion"], &index["mediaType"]), (&json!(2), &json!(INDEX)));
        let mut names: Vec<String> = Vec::new();
        for entry in index["manifests"].as_array().unwrap() {
            let path = format!("/v2/app/manifests/{}", entry["digest"].as_str().unwrap());
            let document = self.get(&path).await;
            assert_eq!(entry["size"], document.body.len());
            assert_eq!(entry["mediaType"], document.header("content-type"));
            names.push(entry["annotations"]["org.example.name"].as_str().unwrap().to_owned());
        }
        names.sort();
        names.join(" ")
    }
}

#[tokio::test]
async fn what_says_something_about_a_manifest_is_found_by_it() {
    let scene = Scene::new().await;
    let image = image_with("image", &json!({}));
    let (subject, missing) = (digest(&image.bytes()), digest(b"missing content"));
    let (sbom, signature) = (blob(1, 100), blob(2, 100));
    let first = about(by_config("first", &sbom, KIND), &subject);
    let second = about(artifact("second", &sbom, LAYER), &subject);
    let listed = about(index("third", &[&first, &second], Some(OTHER_KIND)), &subject);
    let fourth = about(by_config("fourth", &signature, OTHER_KIND), &subject);
    let lonely = about(artifact("fifth", &sbom, KIND), &missing);
    // Some come before the image, some after.
    for kind in [&first, &second, &listed, &image, &fourth, &lonely] {
        scene.push_kind(kind).await;
    }
    assert_eq!(scene.said_about(&subject, None).await, "first fourth second third");
    assert_eq!(scene.said_about(&subject, Some(KIND)).await, "first second");
    assert_eq!(scene.said_about(&subject, Some(OTHER_KIND)).await, "fourth third");
    assert_eq!(scene.said_about(&subject, Some("x/none")).await, "");
    assert_eq!(scene.said_about(&missing, None).await, "fifth");
    assert_eq!(scene.said_about(&digest(b"nobody speaks of it"), None).await, "");
    let gone = format!("/v2/app/manifests/{}", digest(&fourth.bytes()));
    assert_eq!(scene.delete(&gone).await, 202);
    assert_eq!(scene.said_about(&subject, None).await, "first second third");
}
