//! A folder for layers beside files that nothing may touch.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// What a layer's file may carry, by the beginning of the attribute's name.
const ALLOWED: [&str; 3] = ["user.", "security.capability", "trusted.overlay.opaque"];
/// What the kernel may set by itself.
const OF_THE_KERNEL: &str = "security.selinux";

/// See the module.
pub(crate) struct Place {
    base: PathBuf,
    /// What everything but the layer looked like before.
    before: Vec<String>,
}

impl Place {
    /// Made in memory where that is possible: nothing of it is to be kept.
    pub(crate) fn make() -> io::Result<Self> {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let base = parent.join(format!("fuzz-images-{}", std::process::id()));
        let outside = base.join("outside");
        fs::create_dir_all(outside.join("folder"))?;
        for (name, mode) in [("kept", 0o640), ("folder/inner", 0o4755), ("empty", 0)] {
            fs::write(outside.join(name), name)?;
            fs::set_permissions(outside.join(name), Permissions::from_mode(mode))?;
        }
        symlink("kept", outside.join("link"))?;
        Ok(Self { base, before: Vec::new() })
    }

    /// The folder that nothing may touch.
    pub(crate) fn outside(&self) -> PathBuf {
        self.base.join("outside")
    }

    /// An empty folder for a layer.
    pub(crate) fn begin(&mut self) -> io::Result<PathBuf> {
        let layer = self.base.join("layer");
        fs::create_dir(&layer)?;
        self.before = self.around()?;
        Ok(layer)
    }

    /// Compares everything with how it was, looks at the layer, and removes that.
    pub(crate) fn end(&mut self) -> Result<(), String> {
        let failed = |error: io::Error| format!("the files cannot be looked at: {error}");
        let after = self.around().map_err(failed)?;
        if after != self.before {
            return Err(format!("outside it was {:#?} and became {after:#?}", self.before));
        }
        let layer = self.base.join("layer");
        look(&layer)?;
        fs::remove_dir_all(&layer).map_err(failed)
    }

    /// One line for everything but the layer.
    fn around(&self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        let mut ahead = vec![self.base.clone()];
        while let Some(path) = ahead.pop() {
            let meta = fs::symlink_metadata(&path)?;
            let content = if meta.is_file() { fs::read(&path)? } else { Vec::new() };
            let time = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
            let (mode, links, owner) = (meta.mode(), meta.nlink(), (meta.uid(), meta.gid()));
            lines.push(format!(
                "{} {mode:o} {links} {owner:?} {time:?} {content:?}",
                path.display()
            ));
            if meta.is_dir() {
                let mut inner: Vec<PathBuf> = fs::read_dir(&path)?
                    .map(|entry| Ok(entry?.path()))
                    .collect::<io::Result<_>>()?;
                inner.retain(|path| *path != self.base.join("layer"));
                inner.sort();
                ahead.extend(inner);
            }
        }
        Ok(lines)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is left lies in memory, and its name says whose it is.
        let _ = fs::remove_dir_all(&self.base);
    }
}

/// Nothing in a layer may be a device, or carry what only the kernel may set.
fn look(layer: &Path) -> Result<(), String> {
    let mut ahead = vec![layer.to_owned()];
    while let Some(folder) = ahead.pop() {
        let failed =
            |error: io::Error| format!("{} cannot be looked at: {error}", folder.display());
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let meta = fs::symlink_metadata(&path).map_err(failed)?;
            let kind = meta.file_type();
            let is_whiteout = kind.is_char_device() && meta.rdev() == 0;
            if (kind.is_char_device() || kind.is_block_device()) && !is_whiteout {
                return Err(format!("{} is a device", path.display()));
            }
            if kind.is_socket() {
                return Err(format!("{} is a socket", path.display()));
            }
            if kind.is_dir() {
                ahead.push(path.clone());
            }
            attributes(&path)?;
        }
    }
    Ok(())
}

fn attributes(path: &Path) -> Result<(), String> {
    let mut names = vec![0_u8; 1 << 16];
    let length = match rustix::fs::llistxattr(path, names.as_mut_slice()) {
        Ok(length) => length,
        // Paths may be longer than the kernel takes in one go; what is there was looked at by its kind.
        Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::NAMETOOLONG) => return Ok(()),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = String::from_utf8_lossy(name);
        let allowed = ALLOWED.iter().any(|start| name.starts_with(start)) || name == OF_THE_KERNEL;
        if !allowed || name.starts_with("user.overlay.") {
            return Err(format!("{} has the attribute `{name}`", path.display()));
        }
    }
    Ok(())
}
