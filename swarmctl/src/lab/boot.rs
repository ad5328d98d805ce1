//! A host's first process: it makes the mounts, then keeps the host's programs running as systemd would.
//!
//! It is process 1 of a PID namespace, so its end is the end of everything on the host.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::supervise;

/// What a first process is to do, written by `lab up`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Boot {
    /// The host's name.
    pub(super) host: String,
    /// Where it answers.
    pub(super) control: PathBuf,
    /// Folders that become the host's own: from, to.
    pub(super) folders: Vec<(PathBuf, PathBuf)>,
    /// Small files of its own in `/etc`: name, text.
    pub(super) files: Vec<(String, String)>,
    /// Where the programs' output goes, as the host sees it.
    pub(super) log: PathBuf,
    /// What may be run here.
    pub(super) programs: Vec<Program>,
}

/// A program to keep running.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Program {
    /// The name it is called by.
    pub(super) name: String,
    /// Its command line, the program's path first.
    pub(super) command: Vec<String>,
    /// Its environment: names and values.
    #[serde(default)]
    pub(super) environment: Vec<(String, String)>,
}

/// Runs a host until it is killed or told to end.
pub(super) fn run(path: &Path) -> Result<(), Error> {
    let bytes = std::fs::read(path).map_err(Error::file("read", path))?;
    let boot: Boot = serde_json::from_slice(&bytes)
        .map_err(|error| Error::refused(format!("`{}` is damaged: {error}", path.display()), ""))?;
    if std::process::id() != 1 {
        return Err(Error::refused(
            "`lab host` is the first process of a lab's host, not a command",
            "see `swarmctl lab --help`",
        ));
    }
    nix::unistd::setsid().map_err(Error::system("start a session"))?;
    nix::unistd::sethostname(&boot.host).map_err(Error::system("set the host's name"))?;
    // Bound before the mounts hide its folder; listening only when the host is ready.
    let control = supervise::Listener::bind(&boot.control)?;
    make_mounts(&boot)?;
    supervise::run(boot, &control)
}

/// Gives the host folders of its own. Mount points are made only in layers that end with the host, never on the
/// machine that the lab is on.
fn make_mounts(boot: &Boot) -> Result<(), Error> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(Error::system("make the host's mounts private"))?;
    // Opened now: the mounts below hide where they lie.
    let mut folders = Vec::new();
    for (from, to) in &boot.folders {
        folders.push((File::open(from).map_err(Error::file("open", from))?, to));
    }
    mount_tmpfs("/run")?;
    mount_layer("/etc")?;
    mount_layer("/var")?;
    // The second one hides what the layers are made of.
    mount_tmpfs("/run")?;
    mount_tmpfs("/var/lib/swarm-lab")?;
    for (from, to) in folders {
        std::fs::create_dir_all(to).map_err(Error::file("make", to))?;
        bind(&PathBuf::from(format!("/proc/self/fd/{}", from.as_raw_fd())), to, MsFlags::empty())?;
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, none)
        .map_err(Error::system("mount `/proc`"))?;
    renew_sys()?;
    for (name, text) in &boot.files {
        let path = Path::new("/etc").join(name);
        // It may be a link to somewhere else.
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, text).map_err(Error::file("write", &path))?;
    }
    Ok(())
}

fn mount_tmpfs(path: &str) -> Result<(), Error> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some("mode=755"))
        .map_err(Error::system(format!("mount `{path}`")))
}

/// Shows the machine's folder with changes that only this host sees, kept until it ends.
fn mount_layer(path: &str) -> Result<(), Error> {
    let changes = Path::new("/run/layers").join(path.trim_start_matches('/'));
    let (upper, work) = (changes.join("upper"), changes.join("work"));
    for folder in [&upper, &work] {
        std::fs::create_dir_all(folder).map_err(Error::file("make", folder))?;
    }
    let options =
        format!("lowerdir={path},upperdir={},workdir={}", upper.display(), work.display());
    mount(Some("overlay"), path, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .map_err(Error::system(format!("mount a layer on `{path}`")))
}

/// `/sys` shows the network devices of the namespace it was mounted in. The cgroups below it stay.
fn renew_sys() -> Result<(), Error> {
    let aside = Path::new("/run/cgroup");
    let cgroup = Path::new("/sys/fs/cgroup");
    std::fs::create_dir_all(aside).map_err(Error::file("make", aside))?;
    bind(cgroup, aside, MsFlags::MS_REC)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("sysfs"), "/sys", Some("sysfs"), flags, None::<&str>)
        .map_err(Error::system("mount `/sys`"))?;
    bind(aside, cgroup, MsFlags::MS_REC)?;
    umount2(aside, MntFlags::MNT_DETACH).map_err(Error::system("unmount `/run/cgroup`"))?;
    std::fs::remove_dir(aside).map_err(Error::file("remove", aside))
}

fn bind(from: &Path, to: &Path, more: MsFlags) -> Result<(), Error> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | more, None::<&str>)
        .map_err(Error::system(format!("bind `{}` on `{}`", from.display(), to.display())))
}
