//! The images that are measured: files of this machine's `/usr`, always the same ones while `/usr` stays as it is.

use std::fs::{self, DirEntry};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use swarm_tests::bench::{Outcome, output, text};

use crate::peers::Tools;

/// Bytes of files in one layer.
pub(crate) const LAYER: u64 = 50_000_000;
/// No file is larger: a layer has files of many sizes, not one.
const LARGEST: u64 = 16 << 20;
/// What tasks run; in the first layer of each image.
const BUSYBOX: &str = "/usr/bin/busybox";

/// An image as a folder in OCI's layout.
pub(crate) struct Made {
    /// `name:tag`, the same in the layout and in the registry.
    pub(crate) name: String,
    /// The layout.
    pub(crate) layout: PathBuf,
    /// The digest of its manifest, without `sha256:`.
    pub(crate) digest: String,
    /// Its layers' blobs, compressed, the lowest first.
    pub(crate) blobs: Vec<PathBuf>,
    /// Bytes of its files.
    pub(crate) bytes: u64,
    /// How many files it has.
    pub(crate) files: usize,
}

struct Found {
    order: u64,
    path: PathBuf,
    size: u64,
}

/// Files in an order that mixes folders and sizes.
pub(crate) struct Files(std::vec::IntoIter<Found>);

impl Files {
    /// All files of `/usr` of up to 16 MiB.
    pub(crate) fn of_usr() -> Outcome<Self> {
        let mut files = Vec::new();
        let mut folders = vec![PathBuf::from("/usr")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                look_at(&entry?, &mut folders, &mut files)?;
            }
        }
        files.sort_by(|a, b| (a.order, &a.path).cmp(&(b.order, &b.path)));
        Ok(Self(files.into_iter()))
    }

    /// The next layer's files, in the order of an archive.
    fn layer(&mut self) -> Outcome<Vec<Found>> {
        let mut files = Vec::new();
        let mut bytes = 0;
        while bytes < LAYER {
            let file = self.0.next().ok_or("/usr has too few files for the images")?;
            bytes += file.size;
            files.push(file);
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }
}

fn look_at(entry: &DirEntry, folders: &mut Vec<PathBuf>, files: &mut Vec<Found>) -> Outcome<()> {
    let (kind, path) = (entry.file_type()?, entry.path());
    if kind.is_dir() {
        folders.push(path);
    } else if kind.is_file() && path != Path::new(BUSYBOX) {
        let size = entry.metadata()?.len();
        if size <= LARGEST {
            files.push(Found { order: mixed(path.as_os_str().as_bytes()), path, size });
        }
    }
    Ok(())
}

/// FNV-1a, the same on every machine.
fn mixed(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Makes an image of so many layers below `folder`.
pub(crate) fn make(
    tools: &Tools,
    folder: &Path,
    name: &str,
    layers: usize,
    files: &mut Files,
) -> Outcome<Made> {
    let (layout, archive, list) =
        (folder.join(name), folder.join("layer.tar"), folder.join("layer.list"));
    fs::create_dir_all(folder)?;
    let image = format!("{}:1", text(&layout));
    output(tools.command("umoci").args(["init", "--layout", text(&layout)]))?;
    output(tools.command("umoci").args(["new", "--image", &image]))?;
    let (mut bytes, mut count) = (0, 0);
    for number in 0..layers {
        let mut layer = files.layer()?;
        if number == 0 {
            let (path, size) = (PathBuf::from(BUSYBOX), fs::metadata(BUSYBOX)?.len());
            layer.push(Found { order: 0, path, size });
        }
        bytes += layer.iter().map(|file| file.size).sum::<u64>();
        count += layer.len();
        fs::write(&list, names(&layer))?;
        output(
            Command::new("tar").args(["-C", "/", "--null", "--no-recursion", "--sort=none"]).args(
                [
                    "--owner=0",
                    "--group=0",
                    "--numeric-owner",
                    "-cf",
                    text(&archive),
                    "-T",
                    text(&list),
                ],
            ),
        )?;
        let add = ["raw", "add-layer", "--image", &image, text(&archive)];
        output(tools.command("umoci").args(add))?;
    }
    fs::remove_file(archive)?;
    fs::remove_file(list)?;
    let (digest, blobs) = described(&layout)?;
    Ok(Made { name: format!("{name}:1"), layout, digest, blobs, bytes, files: count })
}

/// What tar is to take, each file after the folders above it.
fn names(files: &[Found]) -> Vec<u8> {
    let mut names = Vec::new();
    let mut known = std::collections::BTreeSet::new();
    for file in files {
        let mut above: Vec<&Path> = file.path.ancestors().skip(1).collect();
        above.reverse();
        let folders = above.into_iter().skip(1).filter(|folder| known.insert(folder.to_path_buf()));
        for path in folders.chain([file.path.as_path()]) {
            names.extend(&path.as_os_str().as_bytes()[1..]);
            names.push(0);
        }
    }
    names
}

fn described(layout: &Path) -> Outcome<(String, Vec<PathBuf>)> {
    let blobs = layout.join("blobs/sha256");
    let hex = |value: &Value| -> Outcome<String> {
        let digest = value["digest"].as_str().ok_or("a descriptor without a digest")?;
        Ok(digest.trim_start_matches("sha256:").to_owned())
    };
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json"))?)?;
    let digest = hex(&index["manifests"][0])?;
    let manifest: Value = serde_json::from_slice(&fs::read(blobs.join(&digest))?)?;
    let layers = manifest["layers"].as_array().ok_or("a manifest without layers")?;
    let layers = layers.iter().map(|layer| Ok(blobs.join(hex(layer)?)));
    Ok((digest, layers.collect::<Outcome<_>>()?))
}
