//! Images over the wire: tokens, indexes, broken streams, wrong content.

use std::fs;
use std::path::Path;

use serde_json::json;
use swarm_agent::image::{Endpoint, ImageError, Images, Registries};
use swarm_proto::spec::{ImageSpec, PullPolicy};
use swarm_proto::transport::install_crypto_provider;

use crate::image::{TestImage, compose, digest, gzip, image, indexed, tar};
use crate::registry::{ENDLESS, Registry};

fn spec(reference: &str, digest: Option<&str>) -> ImageSpec {
    ImageSpec {
        reference: reference.to_owned(),
        digest: digest.map(|digest| digest.parse().unwrap()),
        pull_policy: PullPolicy::Missing,
    }
}

/// Docker Hub's images come from this registry alone.
fn mirrored(registry: &Registry) -> Registries {
    install_crypto_provider();
    let mirror = Endpoint { host: registry.address.to_string(), plain: true };
    Registries {
        mirrors: [("docker.io".to_owned(), vec![mirror])].into(),
        mirrors_only: ["docker.io".to_owned()].into(),
        ..Registries::default()
    }
}

fn two_layers() -> TestImage {
    let noise: Vec<u8> =
        (0..300_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    let base =
        tar(&[("a/", 0o755, None), ("a/old", 0o644, Some(b"old")), ("big", 0o644, Some(&noise))]);
    let top = tar(&[("a/.wh.old", 0o644, Some(b"")), ("a/new", 0o644, Some(b"new"))]);
    image(&[base, top], &json!({ "Cmd": ["x"], "Volumes": { "/data": {} } }))
}

fn open(folder: &Path, registry: &Registry) -> Images {
    Images::open(folder, mirrored(registry)).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_guarded_registry_gives_a_token_first() {
    let (folder, registry) = (tempfile::tempdir().unwrap(), Registry::start().await);
    registry.shelf.lock().unwrap().guarded = true;
    let pinned = registry.put("library/app", "1", &two_layers());
    let images = open(folder.path(), &registry);
    let resolved = images.resolve("app:1").await.unwrap();
    assert_eq!(resolved.as_str(), pinned);
    let image = images.ensure(&spec("docker.io/library/app:1", Some(&pinned))).await.unwrap();
    assert_eq!(image.layers.len(), 2);
    assert_eq!(fs::read(image.layers[1].join("a/new")).unwrap(), b"new");
    assert_eq!(image.config.cmd, ["x"]);
    let asked = registry.requests("/token");
    assert!(asked[0].contains("scope=repository%3Alibrary%2Fapp%3Apull"), "{asked:?}");
}

#[tokio::test]
async fn an_index_leads_to_this_machine() {
    let (folder, registry) = (tempfile::tempdir().unwrap(), Registry::start().await);
    let image = indexed(two_layers(), swarm_agent::image::architecture());
    let pinned = registry.put("library/app", "1", &image);
    let foreign = registry.put("library/odd", "1", &indexed(two_layers(), "s390x"));
    let images = open(folder.path(), &registry);
    let image = images.ensure(&spec("app:1", Some(&pinned))).await.unwrap();
    assert_eq!(image.digest.as_str(), pinned);
    let error = images.ensure(&spec("odd:1", Some(&foreign))).await.unwrap_err();
    assert!(error.is_permanent(), "{error}");
    assert!(error.to_string().contains("only for linux/mips, linux/s390x"), "{error}");
}

#[tokio::test]
async fn many_tasks_pull_once() {
    let (folder, registry) = (tempfile::tempdir().unwrap(), Registry::start().await);
    let pinned = registry.put("library/app", "1", &two_layers());
    let images = open(folder.path(), &registry);
    let wanted = spec("app:1", Some(&pinned));
    let all = (0..20).map(|_| images.ensure(&wanted));
    for image in futures_util::future::join_all(all).await {
        assert_eq!(image.unwrap().layers.len(), 2);
    }
    assert_eq!(registry.requests("/blobs/").len(), 3, "two layers and a configuration");
    let before = registry.requests("").len();
    let reopened = open(folder.path(), &registry);
    reopened.ensure(&wanted).await.unwrap();
    assert_eq!(registry.requests("").len(), before, "everything was here");
    let listed = reopened.list();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].reference, "docker.io/library/app:1");
    assert_eq!(names(&folder.path().join("layers")).iter().filter(|n| n.len() == 64).count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_images_share_is_fetched_once_and_each_gets_its_name() {
    let (folder, registry) = (tempfile::tempdir().unwrap(), Registry::start().await);
    let plain = registry.put("library/plain", "1", &two_layers());
    let indexed = indexed(two_layers(), swarm_agent::image::architecture());
    let many = registry.put("library/many", "1", &indexed);
    let images = open(folder.path(), &registry);
    let wanted = [("plain:1", &plain), ("plain:2", &plain), ("many:1", &many), ("many:2", &many)];
    let wanted = wanted.map(|(name, digest)| (format!("docker.io/library/{name}"), digest));
    let pulls = wanted.iter().map(|(name, digest)| {
        let (images, spec) = (images.clone(), spec(name, Some(digest)));
        tokio::spawn(async move { images.ensure(&spec).await.map(drop) })
    });
    for pull in pulls.collect::<Vec<_>>() {
        pull.await.unwrap().unwrap();
    }
    let mut blobs: Vec<String> = registry
        .requests("/blobs/")
        .iter()
        .map(|request| request.split_once("/blobs/").unwrap().1.to_owned())
        .collect();
    blobs.sort();
    assert_eq!(blobs.len(), 3, "two layers and a configuration: {blobs:?}");
    blobs.dedup();
    assert_eq!(blobs.len(), 3);
    let listed = images.list();
    let known: Vec<_> = listed.iter().map(|image| image.reference.as_str()).collect();
    for (name, _) in &wanted {
        assert!(known.contains(&name.as_str()), "{name}: {known:?}");
    }
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_broke() {
    let (folder, registry) = (tempfile::tempdir().unwrap(), Registry::start().await);
    let pinned = registry.put("library/app", "1", &two_layers());
    registry.shelf.lock().unwrap().break_after = Some((50_000, 3));
    let images = open(folder.path(), &registry);
    images.ensure(&spec("app:1", Some(&pinned))).await.unwrap();
    let ranges = registry.requests("bytes=");
    assert_eq!(ranges.len(), 3, "{ranges:?}");
    assert!(ranges[0].ends_with("bytes=50000-"), "{ranges:?}");
}

#[tokio::test]
async fn a_registry_without_ranges_begins_anew() {
    let (folder, registry) = (tempfile::tempdir().unwrap(), Registry::start().await);
    let pinned = registry.put("library/app", "1", &two_layers());
    {
        let mut shelf = registry.shelf.lock().unwrap();
        (shelf.break_after, shelf.no_ranges) = (Some((50_000, 2)), true);
    }
    let images = open(folder.path(), &registry);
    images.ensure(&spec("app:1", Some(&pinned))).await.unwrap();
}

#[tokio::test]
async fn a_stream_that_always_breaks_is_given_up() {
    let (folder, registry) = (tempfile::tempdir().unwrap(), Registry::start().await);
    let pinned = registry.put("library/app", "1", &two_layers());
    registry.shelf.lock().unwrap().break_after = Some((0, 1000));
    let images = open(folder.path(), &registry);
    let error = images.ensure(&spec("app:1", Some(&pinned))).await.unwrap_err();
    assert!(!error.is_permanent(), "{error}");
    assert!(error.to_string().contains("breaks off"), "{error}");
}

#[tokio::test]
async fn damaged_content_is_refused_and_not_kept() {
    let (folder, registry) = (tempfile::tempdir().unwrap(), Registry::start().await);
    let good = two_layers();
    let pinned = registry.put("library/app", "1", &good);
    let layer = digest(&good.blobs[0]);
    {
        let mut shelf = registry.shelf.lock().unwrap();
        let blob = shelf.blobs.get_mut(&layer).unwrap();
        let middle = blob.len() / 2;
        blob[middle] ^= 1;
    }
    let images = open(folder.path(), &registry);
    let error = images.ensure(&spec("app:1", Some(&pinned))).await.unwrap_err();
    assert!(matches!(error.inner(), ImageError::Corrupt { .. }), "{error:?}");
    let hex = layer.strip_prefix("sha256:").unwrap();
    let kept = names(&folder.path().join("blobs/sha256"));
    assert!(!kept.iter().any(|name| name.starts_with(hex)), "{kept:?}");
    // Once the registry is well again, so is the image.
    registry.put("library/app", "1", &good);
    images.ensure(&spec("app:1", Some(&pinned))).await.unwrap();
}

#[tokio::test]
async fn a_manifest_other_than_asked_for_is_refused() {
    let (folder, registry) = (tempfile::tempdir().unwrap(), Registry::start().await);
    let pinned = registry.put("library/app", "1", &two_layers());
    {
        let mut shelf = registry.shelf.lock().unwrap();
        let (_, manifest) = shelf.manifests.get_mut(&format!("library/app@{pinned}")).unwrap();
        manifest.push(b'\n');
    }
    let images = open(folder.path(), &registry);
    let error = images.ensure(&spec("app:1", Some(&pinned))).await.unwrap_err();
    assert!(!images.list().iter().any(|image| image.digest.as_str() == pinned), "{error}");
}

#[tokio::test]
async fn a_layer_other_than_its_configuration_says_is_refused() {
    let (folder, registry) = (tempfile::tempdir().unwrap(), Registry::start().await);
    let said = tar(&[("said", 0o644, Some(b"x"))]);
    let sent = gzip(&tar(&[("sent", 0o644, Some(b"x"))]));
    let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
    let odd = compose(&[said], vec![sent], kind, &json!({ "Cmd": ["x"] }));
    let pinned = registry.put("library/app", "1", &odd);
    let images = open(folder.path(), &registry);
    let error = images.ensure(&spec("app:1", Some(&pinned))).await.unwrap_err();
    assert!(matches!(error.inner(), ImageError::Corrupt { .. }), "{error:?}");
    let layers = names(&folder.path().join("layers"));
    assert!(layers.iter().all(|name| name == "boot"), "{layers:?}");
}

#[tokio::test]
async fn plain_and_zstd_layers_are_taken() {
    let (folder, registry) = (tempfile::tempdir().unwrap(), Registry::start().await);
    let plain = tar(&[("file", 0o644, Some(b"plain"))]);
    let kind = "application/vnd.oci.image.layer.v1.tar";
    let image = compose(std::slice::from_ref(&plain), vec![plain.clone()], kind, &json!({}));
    let pinned = registry.put("library/plain", "1", &image);
    let images = open(folder.path(), &registry);
    let image = images.ensure(&spec("plain:1", Some(&pinned))).await.unwrap();
    assert_eq!(fs::read(image.layers[0].join("file")).unwrap(), b"plain");

    let layer = tar(&[("file", 0o644, Some(b"zstd"))]);
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    // Two frames with a note between them, as some builders write.
    let (half, rest) = layer.split_at(700);
    let mut packed = ruzstd::encoding::compress_to_vec(half, level);
    packed.extend([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
    packed.extend(ruzstd::encoding::compress_to_vec(rest, level));
    let kind = "application/vnd.oci.image.layer.v1.tar+zstd";
    let image = compose(&[layer], vec![packed], kind, &json!({}));
    let pinned = registry.put("library/zstd", "1", &image);
    let image = images.ensure(&spec("zstd:1", Some(&pinned))).await.unwrap();
    assert_eq!(fs::read(image.layers[0].join("file")).unwrap(), b"zstd");
}

#[tokio::test]
async fn not_there_and_cannot_say_are_different() {
    let (folder, registry) = (tempfile::tempdir().unwrap(), Registry::start().await);
    let pinned = registry.put("library/app", "1", &two_layers());
    let images = open(folder.path(), &registry);
    let error = images.resolve("app:2").await.unwrap_err();
    assert!(matches!(error, ImageError::NotFound { .. }), "{error:?}");
    let said = error.to_string();
    let expected = format!(
        "image `docker.io/library/app:2` was not found: {} does not have it",
        registry.url()
    );
    assert_eq!(said, expected);
    assert!(matches!(images.resolve("App:2").await.unwrap_err(), ImageError::Name(_)));

    let mut registries = mirrored(&registry);
    let dead = Endpoint { host: "127.0.0.1:1".into(), plain: true };
    registries.mirrors.insert("docker.io".into(), vec![dead.clone()]);
    let other = tempfile::tempdir().unwrap();
    let images = Images::open(other.path(), registries.clone()).unwrap();
    let error = images.resolve("app:1").await.unwrap_err();
    assert!(matches!(error, ImageError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("cannot be reached: Connection refused"), "{error}");

    // A dead mirror before a live one costs nothing but a moment.
    let live = Endpoint { host: registry.address.to_string(), plain: true };
    registries.mirrors.insert("docker.io".into(), vec![dead, live]);
    let images = Images::open(other.path(), registries).unwrap();
    assert_eq!(images.resolve("app:1").await.unwrap().as_str(), pinned);
    images.ensure(&spec("app:1", Some(&pinned))).await.unwrap();
}

#[tokio::test]
async fn without_a_registry_the_stored_image_stands_for_its_name() {
    let (folder, registry) = (tempfile::tempdir().unwrap(), Registry::start().await);
    let pinned = registry.put("library/app", "1", &two_layers());
    let images = open(folder.path(), &registry);
    images.ensure(&spec("app:1", Some(&pinned))).await.unwrap();
    registry.shelf.lock().unwrap().busy = u32::MAX;
    assert_eq!(images.resolve("app:1").await.unwrap().as_str(), pinned);
    assert!(images.resolve("app:2").await.is_err());
    let absent = ImageSpec { pull_policy: PullPolicy::Never, ..spec("x:1", Some(&digest(b"x"))) };
    let error = images.ensure(&absent).await.unwrap_err();
    assert!(matches!(error, ImageError::Absent { .. }), "{error:?}");
}

#[tokio::test]
async fn a_busy_registry_is_asked_again() {
    let (folder, registry) = (tempfile::tempdir().unwrap(), Registry::start().await);
    let pinned = registry.put("library/app", "1", &two_layers());
    let images = open(folder.path(), &registry);
    registry.shelf.lock().unwrap().busy = 2;
    images.ensure(&spec("app:1", Some(&pinned))).await.unwrap();
}

#[tokio::test]
async fn a_moved_tag_names_the_new_image_only() {
    let (folder, registry) = (tempfile::tempdir().unwrap(), Registry::start().await);
    let first = registry.put("library/app", "1", &two_layers());
    let images = open(folder.path(), &registry);
    images.ensure(&spec("app:1", Some(&first))).await.unwrap();
    let layer = tar(&[("second", 0o644, Some(b"2"))]);
    let second = registry.put("library/app", "1", &image(&[layer], &json!({})));
    assert_ne!(first, second);
    assert_eq!(images.resolve("app:1").await.unwrap().as_str(), second);
    images.ensure(&spec("app:1", Some(&second))).await.unwrap();
    let reopened = open(folder.path(), &registry);
    let named: Vec<_> =
        reopened.list().into_iter().filter(|image| !image.reference.is_empty()).collect();
    assert_eq!(named.len(), 1);
    assert_eq!(named[0].digest.as_str(), second);
}

#[tokio::test]
async fn an_image_by_its_digest_alone_has_no_tag() {
    let (folder, registry) = (tempfile::tempdir().unwrap(), Registry::start().await);
    let pinned = registry.put("library/app", "1", &two_layers());
    let images = open(folder.path(), &registry);
    let name = format!("docker.io/library/app@{pinned}");
    // As a stack file says it, and as a person does.
    for reference in ["docker.io/library/app", name.as_str()] {
        images.ensure(&spec(reference, Some(&pinned))).await.unwrap();
        let listed = images.list();
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!(listed[0].reference, name);
    }
    images.ensure(&spec("app:1", Some(&pinned))).await.unwrap();
    let listed: Vec<_> = images.list().into_iter().map(|image| image.reference).collect();
    assert_eq!(listed, ["docker.io/library/app:1", name.as_str()]);
}

#[tokio::test]
async fn answers_without_end_are_given_up_early() {
    // What a connection holds on its way, on both sides.
    const ON_ITS_WAY: usize = 32 << 20;
    let cases = [
        ("/manifests/", "200 OK", "answers wrongly: its manifest is larger than 4 MiB"),
        ("/manifests/", "404 Not Found", "does not have it"),
        ("/manifests/", "500 Oh", "cannot be reached: status 500"),
        ("/token", "200 OK", "answers wrongly: its token is larger than 256 KiB"),
        ("/blobs/", "200 OK", "more comes than there is to be"),
        ("/blobs/", "404 Not Found", "does not have it"),
    ];
    for (path, status, expected) in cases {
        let (folder, registry) = (tempfile::tempdir().unwrap(), Registry::start().await);
        let pinned = registry.put("library/app", "1", &two_layers());
        {
            let mut shelf = registry.shelf.lock().unwrap();
            (shelf.flood, shelf.guarded) = (Some((path, status)), path == "/token");
        }
        let images = open(folder.path(), &registry);
        let error = images.ensure(&spec("app:1", Some(&pinned))).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{path} {status}: {error}");
        let tries = registry.requests("").len() + 8;
        let flooded = registry.shelf.lock().unwrap().flooded;
        assert!(flooded < ENDLESS && flooded < tries * ON_ITS_WAY, "{path}: {flooded} bytes");
        let kept = names(&folder.path().join("blobs/sha256"));
        let sizes =
            kept.iter().map(|name| fs::metadata(folder.path().join("blobs/sha256").join(name)));
        assert!(sizes.map(|file| file.unwrap().len()).sum::<u64>() < 4 << 20, "{kept:?}");
    }
}
