//! Archives made to do harm: each is refused with its reason, and leaves nothing.

use std::io::Cursor;
use std::path::Path;

use serde_json::{Value, json};

use super::store::sha256;
use super::*;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

/// An OCI layout in the making.
struct Layout {
    files: Vec<(String, Vec<u8>)>,
}

impl Layout {
    fn new() -> Self {
        Self { files: Vec::new() }
    }

    /// Keeps a blob and describes it.
    fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = sha256(bytes);
        self.files.push((format!("blobs/sha256/{}", digest.hex()), bytes.to_vec()));
        json!({ "mediaType": media_type, "digest": digest.as_str(), "size": bytes.len() })
    }

    fn json(&mut self, media_type: &str, document: &Value) -> Value {
        self.blob(media_type, document.to_string().as_bytes())
    }

    /// An image of one layer, of which its configuration says this digest. `change` may lie.
    fn image(&mut self, layer: &[u8], diff_id: &str, change: impl Fn(&mut Value)) -> Value {
        let layer = self.blob(LAYER, layer);
        let config = json!({ "config": {}, "rootfs": { "type": "layers", "diff_ids": [diff_id] } });
        let config = self.json("application/vnd.oci.image.config.v1+json", &config);
        let mut manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
        change(&mut manifest);
        self.json(MANIFEST, &manifest)
    }

    fn index(&mut self, mut entries: Vec<Value>) -> Value {
        for entry in &mut entries {
            entry["platform"] = json!({ "os": "linux", "architecture": architecture() });
        }
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
        self.json(INDEX, &index)
    }

    fn archive(mut self, entries: &[Value]) -> Vec<u8> {
        let index = json!({ "schemaVersion": 2, "manifests": entries });
        self.files.push(("index.json".to_owned(), index.to_string().into_bytes()));
        tar(&self.files)
    }
}

fn layer() -> Vec<u8> {
    tar(&[("file".to_owned(), b"content".to_vec())])
}

/// Loads an archive, which must be refused; whatever it brought is gone once the next image is removed.
async fn refused(archive: Vec<u8>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let images = Images::open(folder.path(), Registries::default()).unwrap();
    let error = images.load(Cursor::new(archive), Some("x:1".into())).await.unwrap_err();
    assert!(images.list().is_empty());
    assert!(entries(&folder.path().join("images")).is_empty(), "a record");
    assert_eq!(entries(&folder.path().join("layers")), ["boot"], "a layer");
    let aside = entries(&folder.path().join("blobs/sha256"));
    assert!(aside.iter().all(|name| name.len() == 64), "put aside: {aside:?}");
    error.to_string()
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn the_honest_image_is_taken() {
    let (folder, mut layout) = (tempfile::tempdir().unwrap(), Layout::new());
    let image = layout.image(&layer(), sha256(&layer()).as_str(), |_| {});
    let image = layout.index(vec![image]);
    let images = Images::open(folder.path(), Registries::default()).unwrap();
    let archive = Cursor::new(layout.archive(&[image]));
    images.load(archive, Some("x:1".into())).await.unwrap();
    assert_eq!(images.list().len(), 1);
}

#[tokio::test]
async fn sizes_that_are_not_true_are_refused() {
    for (what, part) in [("layer", "/layers/0/size"), ("configuration", "/config/size")] {
        for size in [0, 1, 1 << 40] {
            let mut layout = Layout::new();
            let image = layout.image(&layer(), sha256(&layer()).as_str(), |manifest| {
                *manifest.pointer_mut(part).unwrap() = size.into();
            });
            let error = refused(layout.archive(&[image])).await;
            let told =
                error.contains(&format!("says {size}")) || error.contains("larger than 8 MiB");
            assert!(error.contains(what) && told, "{error}");
        }
    }
    let mut layout = Layout::new();
    let mut image = layout.image(&layer(), sha256(&layer()).as_str(), |_| {});
    image["size"] = 7.into();
    let index = layout.index(vec![image]);
    let error = refused(layout.archive(&[index])).await;
    assert!(error.contains("what names it says 7"), "{error}");
}

#[tokio::test]
async fn digests_that_are_not_true_are_refused() {
    // A layer other than the configuration says.
    let mut layout = Layout::new();
    let image = layout.image(&layer(), sha256(b"other").as_str(), |_| {});
    let error = refused(layout.archive(&[image])).await;
    assert!(error.contains("arrived damaged"), "{error}");
    // Blobs other than their names say: manifest, configuration and layer.
    for changed in 0..3 {
        let mut layout = Layout::new();
        let image = layout.image(&layer(), sha256(&layer()).as_str(), |_| {});
        layout.files[changed].1.push(b' ');
        let error = refused(layout.archive(&[image])).await;
        assert!(error.contains("arrived damaged"), "{changed}: {error}");
    }
}

#[tokio::test]
async fn indexes_that_lead_in_circles_are_refused() {
    // An index in an index, however deep.
    let mut layout = Layout::new();
    let image = layout.image(&layer(), sha256(&layer()).as_str(), |_| {});
    let inner = layout.index(vec![image]);
    let outer = layout.index(vec![inner]);
    let error = refused(layout.archive(&[outer])).await;
    assert!(error.contains("an index inside of an index"), "{error}");
    // No index can have its own digest in it; one that says so is not what its name says.
    let mut layout = Layout::new();
    let own = sha256(b"itself");
    let entry = json!({ "mediaType": INDEX, "digest": own.as_str(), "size": 6 });
    layout.index(vec![entry.clone()]);
    layout.files[0].0 = format!("blobs/sha256/{}", own.hex());
    let error = refused(layout.archive(&[entry])).await;
    assert!(error.contains("arrived damaged"), "{error}");
    // Links of the archive that lead to each other are nowhere.
    let mut links = tar::Builder::new(Vec::new());
    for (name, target) in [("index.json", "other"), ("other", "index.json")] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        links.append_link(&mut header, name, target).unwrap();
    }
    let error = refused(links.into_inner().unwrap()).await;
    assert!(error.contains("it holds no image"), "{error}");
}

#[tokio::test]
async fn more_layers_than_the_kernel_stacks_are_refused() {
    let mut layout = Layout::new();
    let layer = layout.blob(LAYER, &layer());
    let diff_ids = vec![layer["digest"].clone(); 501];
    let config = json!({ "config": {}, "rootfs": { "type": "layers", "diff_ids": diff_ids } });
    let config = layout.json("application/vnd.oci.image.config.v1+json", &config);
    let layers = vec![layer; 501];
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
    let image = layout.json(MANIFEST, &manifest);
    let error = refused(layout.archive(&[image])).await;
    assert!(error.contains("it has 501 layers, more than 500"), "{error}");
}

#[test]
fn a_layer_that_would_fill_the_disk_is_broken_off() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let (bytes, id) = (layer(), sha256(&layer()));
    store.write_blob(&id, &bytes).unwrap();
    let error = store.unpack(&id, LAYER, &id, Some(u64::MAX / 2)).unwrap_err();
    assert!(matches!(error, ImageError::NoRoom { .. }), "{error:?}");
    assert_eq!(entries(&folder.path().join("layers")), ["boot"]);
    store.unpack(&id, LAYER, &id, Some(0)).unwrap();
}

#[test]
fn what_an_image_holds_is_nobodys_but_roots() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    // A program in it may be set-user-id root.
    let mode = std::fs::metadata(&store.layers).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}
