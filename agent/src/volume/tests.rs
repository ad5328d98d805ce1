use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

fn image(layers: &[&Path]) -> Image {
    Image {
        digest: format!("sha256:{}", "a".repeat(64)).parse().unwrap(),
        config: crate::image::ImageConfig::default(),
        layers: layers.iter().map(|path| path.to_path_buf()).collect(),
    }
}

fn code_layer(root: &Path) -> PathBuf {
    let layer = root.join("base");
    let code = layer.join("code");
    fs::create_dir_all(code.join("deep")).unwrap();
    fs::write(code.join("app.py"), "one").unwrap();
    fs::write(code.join("deep/tool"), "x").unwrap();
    fs::hard_link(code.join("deep/tool"), code.join("same")).unwrap();
    symlink("/etc/passwd", code.join("link")).unwrap();
    std::os::unix::fs::chown(code.join("app.py"), Some(7), Some(8)).unwrap();
    fs::set_permissions(code.join("deep/tool"), PermissionsExt::from_mode(0o4750)).unwrap();
    fs::set_permissions(&code, PermissionsExt::from_mode(0o1777)).unwrap();
    layer
}

#[test]
fn a_new_volume_is_filled_once_with_all_that_files_are() {
    let folder = tempfile::tempdir().unwrap();
    let layer = code_layer(folder.path());
    let image = image(&[&layer]);
    let fill = Fill { image: &image, reference: "counter-web:1", path: "/code" };
    let volumes = Volumes::open(&folder.path().join("volumes")).unwrap();
    let (data, made) = volumes.ensure(VolumeId(1), "counter_vol", Some(fill)).unwrap();
    assert!(made);
    assert_eq!(fs::read_to_string(data.join("app.py")).unwrap(), "one");
    assert_eq!(fs::metadata(data.join("app.py")).unwrap().uid(), 7);
    assert_eq!(fs::read_link(data.join("link")).unwrap(), Path::new("/etc/passwd"));
    let tool = fs::metadata(data.join("deep/tool")).unwrap();
    assert_eq!((tool.mode() & 0o7777, tool.nlink()), (0o4750, 2));
    assert_eq!(tool.ino(), fs::metadata(data.join("same")).unwrap().ino());
    assert_eq!(fs::metadata(&data).unwrap().mode() & 0o7777, 0o1777);

    fs::write(data.join("app.py"), "mine").unwrap();
    fs::write(layer.join("code/app.py"), "two").unwrap();
    let (again, made) = volumes.ensure(VolumeId(1), "counter_vol", Some(fill)).unwrap();
    assert!(!made);
    assert_eq!(fs::read_to_string(again.join("app.py")).unwrap(), "mine");

    let reopened = Volumes::open(&folder.path().join("volumes")).unwrap();
    let reports = reopened.reports().unwrap();
    assert_eq!(reports.len(), 1);
    assert_eq!((reports[0].id, reports[0].name.as_str()), (VolumeId(1), "counter_vol"));
    let from = reports[0].filled_from.clone().unwrap();
    assert_eq!(from, ("counter-web:1".to_owned(), image.digest.clone()));
}

#[test]
fn the_merged_image_is_what_fills() {
    let folder = tempfile::tempdir().unwrap();
    let base = code_layer(folder.path());
    let top = folder.path().join("top");
    fs::create_dir_all(top.join("code")).unwrap();
    fs::write(top.join("code/new"), "n").unwrap();
    let opened = tree::open_root(&top.join("code")).unwrap();
    let whiteout = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(&opened, "app.py", whiteout, Mode::empty(), 0).unwrap();
    let image = image(&[&base, &top]);
    let fill = Fill { image: &image, reference: "x", path: "/code/" };
    let volumes = Volumes::open(&folder.path().join("volumes")).unwrap();
    let (data, _) = volumes.ensure(VolumeId(1), "v", Some(fill)).unwrap();
    assert!(!data.join("app.py").exists(), "a removed file came back");
    assert!(data.join("new").exists() && data.join("deep/tool").exists());
    assert_eq!(fs::metadata(data.join("deep/tool")).unwrap().nlink(), 2);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(base.to_str().unwrap()), "a mount was left");
}

#[test]
fn an_image_without_the_folder_leaves_it_empty() {
    let folder = tempfile::tempdir().unwrap();
    let layer = code_layer(folder.path());
    let image = image(&[&layer]);
    let volumes = Volumes::open(&folder.path().join("volumes")).unwrap();
    for (name, path) in [("a", "/none"), ("b", "/code/app.py"), ("c", "/code/link")] {
        let fill = Fill { image: &image, reference: "x", path };
        let (data, _) = volumes.ensure(VolumeId(1), name, Some(fill)).unwrap();
        assert_eq!(fs::read_dir(data).unwrap().count(), 0);
    }
    assert!(volumes.reports().unwrap().iter().all(|report| report.filled_from.is_none()));
}

#[test]
fn removal_is_of_this_volume_only() {
    let folder = tempfile::tempdir().unwrap();
    let volumes = Volumes::open(folder.path()).unwrap();
    let (data, _) = volumes.ensure(VolumeId(1), "v", None).unwrap();
    fs::write(data.join("kept"), "x").unwrap();
    volumes.remove(VolumeId(2), "v").unwrap();
    assert!(data.exists(), "another volume's removal took it");
    volumes.remove(VolumeId(1), "v").unwrap();
    volumes.remove(VolumeId(1), "v").unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_forgotten_volume_is_never_taken_for_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let volumes = Volumes::open(folder.path()).unwrap();
    let (data, _) = volumes.ensure(VolumeId(1), "v", None).unwrap();
    fs::write(data.join("old"), "x").unwrap();
    let (data, made) = volumes.ensure(VolumeId(2), "v", None).unwrap();
    assert!(made && !data.join("old").exists());
    assert!(folder.path().join("v.forgotten-1/_data/old").exists());
    assert_eq!(volumes.reports().unwrap().len(), 1);
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let volumes = Volumes::open(folder.path()).unwrap();
    for name in ["", "..", ".x", "a/b", "/etc", "a\0b"] {
        assert!(volumes.ensure(VolumeId(1), name, None).is_err(), "`{name}` was taken");
        assert!(volumes.remove(VolumeId(1), name).is_err(), "`{name}` was removed");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn what_a_crash_left_is_gone_after_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join(".tmp-1-1/_data/half")).unwrap();
    let volumes = Volumes::open(folder.path()).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    assert!(volumes.reports().unwrap().is_empty());
}

#[test]
fn anonymous_volumes_live_in_their_task() {
    let folder = tempfile::tempdir().unwrap();
    let layer = code_layer(folder.path());
    let image = image(&[&layer]);
    let fill = Fill { image: &image, reference: "x", path: "/code" };
    let task = folder.path().join("task/volumes");
    let data = Volumes::anonymous(&task, "0", Some(fill)).unwrap();
    fs::write(data.join("app.py"), "mine").unwrap();
    let again = Volumes::anonymous(&task, "0", Some(fill)).unwrap();
    assert_eq!(fs::read_to_string(again.join("app.py")).unwrap(), "mine");
}
