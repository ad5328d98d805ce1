//! Removal: what is needed stays, what is shared stays, and a crash between two steps leaves nothing half there.

use std::io::Cursor;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::removal::Content;
use super::store::{sha256, synced_mark};
use super::*;
use crate::tree;

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

/// An archive of an image whose first layer is the same in all.
fn archive(name: &str) -> Cursor<Vec<u8>> {
    let (base, top) = (tar(&[("base", b"base")]), tar(&[("name", name.as_bytes())]));
    let config = json!({
        "config": { "Cmd": ["x"] },
        "rootfs": { "type": "layers", "diff_ids": [sha256(&base).as_str(), sha256(&top).as_str()] },
    });
    let manifest = json!([
        { "Config": "config.json", "RepoTags": [name], "Layers": ["base.tar", "top.tar"] },
    ]);
    Cursor::new(tar(&[
        ("manifest.json", manifest.to_string().as_bytes()),
        ("config.json", config.to_string().as_bytes()),
        ("base.tar", &base),
        ("top.tar", &top),
    ]))
}

fn open(folder: &Path) -> Images {
    Images::open(folder, Registries::default()).unwrap()
}

/// Loads an image, and waits until its layers are synced: nothing is written beside the test after that.
async fn load(images: &Images, name: &str) -> Digest {
    let digest = images.load(archive(name), None).await.unwrap()[0].digest.clone();
    let end = Instant::now() + Duration::from_secs(20);
    let layers = images.inner.look_up(name).unwrap().layers;
    let is_synced = |id: &Digest| synced_mark(&images.inner.store.layer(id)).exists();
    while !layers.iter().all(is_synced) {
        assert!(Instant::now() < end, "the layers of {name} are never synced");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    digest
}

/// Blobs, layers and files of records.
fn counts(folder: &Path) -> (usize, usize, usize) {
    let count = |folder: &str, wanted: fn(&str) -> bool| {
        let entries = std::fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| wanted(name)).count()
    };
    let within = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let all = |_: &str| true;
    // Beside layers lie marks, and a note of the boot.
    let plain = |name: &str| name != "boot" && !name.ends_with(".synced");
    (
        count(&within("blobs/sha256"), all),
        count(&within("layers"), plain),
        count(&within("images"), all),
    )
}

#[tokio::test]
async fn what_two_images_share_goes_with_the_second() {
    let folder = tempfile::tempdir().unwrap();
    let images = open(folder.path());
    let (one, two) = (load(&images, "one:1").await, load(&images, "two:1").await);
    assert_eq!(counts(folder.path()), (7, 3, 2), "one layer is shared");
    let gone = images.remove("one:1", &Needed::new()).await.unwrap();
    assert_eq!(gone.removed, [one]);
    assert!(gone.freed > 0);
    assert_eq!(counts(folder.path()), (4, 2, 1));
    images.ensure(&ImageSpec::new("two:1")).await.unwrap();
    assert_eq!(images.remove(two.as_str(), &Needed::new()).await.unwrap().removed, [two]);
    assert_eq!(counts(folder.path()), (0, 0, 0));
    let error = images.remove("two:1", &Needed::new()).await.unwrap_err().to_string();
    assert_eq!(error, "there is no image `two:1` on this host");
}

#[tokio::test]
async fn what_tasks_and_stacks_need_stays() {
    let folder = tempfile::tempdir().unwrap();
    let images = open(folder.path());
    let (one, two) = (load(&images, "one:1").await, load(&images, "two:1").await);
    let image = ImageSpec { digest: Some(one.clone()), ..ImageSpec::new("other:1") };
    let user = ImageUser { task: "web_front.1".to_owned(), image };
    images.used_by(Box::new(move || vec![user.clone()]));
    let error = images.remove("one:1", &Needed::new()).await.unwrap_err().to_string();
    assert_eq!(error, "image `docker.io/library/one:1` is in use: task web_front.1 runs it");
    let needed = Needed::from([(two.clone(), "service web_back runs it".to_owned())]);
    let error = images.remove("two", &needed).await.unwrap_err().to_string();
    assert!(error.starts_with("there is no image `two`"), "another tag: {error}");
    let error = images.remove("two:1", &needed).await.unwrap_err().to_string();
    assert!(error.ends_with("is in use: service web_back runs it"), "{error}");
    // One name of several may go.
    images.tag("one:1", "three:1").await.unwrap();
    let untagged = images.remove("one:1", &Needed::new()).await.unwrap();
    assert_eq!(untagged.untagged, ["docker.io/library/one:1"]);
    assert!(untagged.removed.is_empty());
    // Nothing is pruned of what was given here, unless it is wished.
    let age = std::time::Duration::ZERO;
    assert_eq!(images.prune(age, false, &Needed::new()).await.unwrap(), Removed::default());
    let pruned = images.prune(std::time::Duration::from_hours(1), true, &Needed::new()).await;
    assert_eq!(pruned.unwrap(), Removed::default(), "all are too young");
    let pruned = images.prune(age, true, &needed).await.unwrap();
    assert!(pruned.removed.is_empty(), "both are needed");
    let pruned = images.prune(age, true, &Needed::new()).await.unwrap();
    assert_eq!(pruned.removed, [two]);
    assert_eq!(images.list().len(), 1);
}

#[tokio::test]
async fn a_removal_that_was_broken_off_is_finished_at_the_next_start() {
    // After how many steps the host dies.
    for steps in 0..=4 {
        let folder = tempfile::tempdir().unwrap();
        let images = open(folder.path());
        let (one, _) = (load(&images, "one:1").await, load(&images, "two:1").await);
        let (record, kept) = {
            let records = images.inner.records();
            let others = records.values().filter(|record| record.digest != one);
            let mut kept = Content::default();
            others.for_each(|record| kept.add(Content::of(record)));
            (records.get(&one).unwrap().clone(), kept)
        };
        let store = &images.inner.store;
        let going = Content::of(&record).without(&kept);
        let mut aside = Vec::new();
        if steps >= 1 {
            store.retire(&one).unwrap();
        }
        if steps >= 2 {
            aside = store.set_aside(&going).unwrap();
        }
        if steps >= 3 {
            Store::delete(&aside).unwrap();
        }
        if steps >= 4 {
            store.forget(&one).unwrap();
        }
        drop(images);
        let images = open(folder.path());
        let left = images.list().len();
        assert_eq!(left, if steps == 0 { 2 } else { 1 }, "after {steps} steps");
        let expected = if steps == 0 { (7, 3, 2) } else { (4, 2, 1) };
        assert_eq!(counts(folder.path()), expected, "after {steps} steps");
        images.ensure(&ImageSpec::new("two:1")).await.unwrap();
    }
}

#[tokio::test]
async fn content_that_work_under_way_counts_on_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let images = open(folder.path());
    let one = load(&images, "one:1").await;
    let claim = images.inner.claims.begin();
    let layers = images.inner.look_up("one:1").unwrap().layers;
    claim.add(&layers[0]);
    images.remove("one:1", &Needed::new()).await.unwrap();
    assert_eq!(counts(folder.path()), (1, 1, 0), "the layer, and its blob of the same digest");
    drop(claim);
    assert_eq!(load(&images, "one:1").await, one, "the same archive is the same image");
    images.remove("one:1", &Needed::new()).await.unwrap();
    assert_eq!(counts(folder.path()), (0, 0, 0));
}

#[tokio::test]
async fn what_nobody_keeps_goes_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let images = open(folder.path());
    let one = load(&images, "one:1").await;
    // What a crash between a blob and its record leaves: of a layer, of a blob, of half of one, and a mark.
    let of = |letter: char| -> Digest {
        format!("sha256:{}", letter.to_string().repeat(64)).parse().unwrap()
    };
    let store = &images.inner.store;
    let plant = |letter: char| {
        std::fs::write(store.blob(&of(letter)), "x").unwrap();
        std::fs::create_dir(store.layer(&of(letter))).unwrap();
    };
    "abc".chars().for_each(plant);
    std::fs::write(store.partial_blob(&of('d')), "half").unwrap();
    std::fs::write(synced_mark(&store.layer(&of('e'))), "").unwrap();
    std::fs::write(store.blobs.join("a file of somebody else"), "").unwrap();
    assert_eq!(images.sweep(Duration::from_hours(1)).await.unwrap(), 0, "all is young");
    assert_eq!(counts(folder.path()), (9, 5, 1));
    // One is of work under way, one of a tenant.
    let claim = images.inner.claims.begin();
    claim.add(&of('a'));
    images.let_in(Arc::new(One(of('b'))));
    assert!(images.sweep(Duration::ZERO).await.unwrap() >= 5);
    assert_eq!(counts(folder.path()), (7, 4, 1));
    assert!(store.blob(&of('a')).exists() && store.layer(&of('b')).exists());
    assert!(!store.blob(&of('c')).exists() && !store.partial_blob(&of('d')).exists());
    drop(claim);
    images.sweep(Duration::ZERO).await.unwrap();
    assert_eq!(counts(folder.path()), (6, 3, 1));
    // An image that lacks a layer is made whole of its blobs.
    let layers = images.inner.look_up("one:1").unwrap().layers;
    tree::remove_path(&store.layer(&layers[0])).unwrap();
    drop(images);
    let images = open(folder.path());
    assert!(images.list().is_empty());
    images.sweep(Duration::ZERO).await.unwrap();
    assert_eq!(counts(folder.path()), (5, 1, 1), "all but the layer, and that file");
    assert_eq!(load(&images, "one:1").await, one);
    // Where a record cannot be read it is not known what it keeps.
    std::fs::write(images.inner.store.record(&of('f')), "{").unwrap();
    std::fs::write(images.inner.store.blob(&of('c')), "x").unwrap();
    let error = images.sweep(Duration::ZERO).await.unwrap_err();
    let error = swarm_proto::failure::sentence(&error);
    assert!(error.contains("the record `") && error.contains("cannot be read"), "{error}");
    assert!(images.inner.store.blob(&of('c')).exists());
}

/// Keeps one digest.
struct One(Digest);

impl Tenant for One {
    fn content(&self) -> std::io::Result<Content> {
        Ok(Content { layers: [self.0.clone()].into(), blobs: [self.0.clone()].into() })
    }
}

#[tokio::test]
async fn archives_that_make_no_sense_are_refused_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let images = open(folder.path());
    let base = tar(&[("base", b"base")]);
    let table: [(Vec<u8>, &str); 6] = [
        (Vec::new(), "it holds no image"),
        (b"no archive at all".repeat(100), "it cannot be read"),
        (tar(&[("x", b"y")]), "it holds no image"),
        (tar(&[("manifest.json", b"{}")]), "its manifest.json is not Docker's"),
        (
            tar(&[("manifest.json", br#"[{"Config":"c","RepoTags":null,"Layers":[]}]"#)]),
            "it lacks the file `c`",
        ),
        (
            tar(&[
                ("manifest.json", br#"[{"Config":"c","RepoTags":["x"],"Layers":["l"]}]"#),
                ("c", br#"{"rootfs":{"diff_ids":[]}}"#),
                ("l", &base),
            ]),
            "it names 0 layers, the manifest 1",
        ),
    ];
    for (bytes, expected) in table {
        let error = images.load(Cursor::new(bytes), None).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(images.list().is_empty());
    let error = images.load(archive("one:1"), Some("two:1".into())).await.unwrap_err();
    assert!(error.to_string().contains("it names its images itself"), "{error}");
    let left = std::fs::read_dir(folder.path().join("blobs/sha256")).unwrap();
    let spooled = left.filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(spooled.count(), 0, "what was put aside is gone");
}

#[tokio::test]
async fn a_file_system_becomes_an_image() {
    let folder = tempfile::tempdir().unwrap();
    let images = open(folder.path());
    let files = tar(&[("bin/sh", b"shell"), ("etc/words", b"so")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &files).unwrap();
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    let forms = [
        files.clone(),
        gzip.finish().unwrap(),
        ruzstd::encoding::compress_to_vec(files.as_slice(), level),
    ];
    let wish = |name: &str, changes: &[&str]| Import {
        name: Some(name.to_owned()),
        changes: changes.iter().map(|text| (*text).to_owned()).collect(),
        message: Some("from a disk".to_owned()),
        platform: Some(format!("linux/{}", architecture())),
    };
    for (number, form) in forms.into_iter().enumerate() {
        let name = format!("fs:{number}");
        let made = images.import(Cursor::new(form), wish(&name, &["CMD /bin/sh", "USER 5"])).await;
        let made = made.unwrap();
        assert_eq!(made.names, [format!("docker.io/library/{name}")]);
        let image = images.ensure(&ImageSpec::new(&name)).await.unwrap();
        assert_eq!(image.layers.len(), 1, "the same for each form");
        assert_eq!(std::fs::read(image.layers[0].join("etc/words")).unwrap(), b"so");
        assert_eq!((&*image.config.cmd[2], &*image.config.user), ("/bin/sh", "5"));
        let details = images.details(&name).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&details.config).unwrap();
        assert_eq!(config["history"].as_array().unwrap().len(), 1);
        assert_eq!(config["history"][0]["comment"], "from a disk");
        assert!(config["created"].is_string());
    }
    let nameless = images.import(Cursor::new(files.clone()), Import::default()).await.unwrap();
    assert!(nameless.names.is_empty() && images.details(nameless.digest.as_str()).is_ok());
    let count = counts(folder.path());
    let foreign = Import { platform: Some("linux/s390x".to_owned()), ..Import::default() };
    let table = [
        (Vec::new(), Import::default(), "it is empty"),
        (b"no archive at all".repeat(100), Import::default(), "cannot be loaded"),
        (b"BZh91AY&SY".to_vec(), Import::default(), "it is compressed with bzip2"),
        (files.clone(), foreign, "it is to be for linux/s390x, and this node is linux/"),
        (files.clone(), wish("x:1", &["RUN make"]), "`RUN` cannot be given so"),
        (files.clone(), wish("x y", &[]), "is not an image name"),
        (files[..700].to_vec(), Import::default(), "cannot be loaded"),
    ];
    for (bytes, wish, expected) in table {
        let error = images.import(Cursor::new(bytes), wish).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(counts(folder.path()), count, "{error}: something is left");
    }
}

#[tokio::test]
async fn a_full_disk_is_named_before_it_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { reserve: Some(u64::MAX / 2), ..Limits::default() };
    let images = Images::open_with(folder.path(), Registries::default(), limits).unwrap();
    let error = images.load(archive("one:1"), None).await.unwrap_err();
    assert!(error.to_string().contains("(`image_reserve`)"), "{error}");
    assert!(!error.is_permanent());
    assert_eq!(counts(folder.path()), (0, 0, 0));
}
