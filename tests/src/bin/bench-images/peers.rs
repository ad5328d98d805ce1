//! Others' programs, on the network of a lab's host and beside its disk.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use swarm_tests::bench::{Outcome, output, root, text};

use crate::lab::REGISTRY;
use crate::made::Made;

/// No program takes longer.
const PATIENCE: Duration = Duration::from_mins(5);

/// What something took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// From start to end.
    pub(crate) seconds: f64,
    /// The largest resident memory of one of its programs, MiB.
    pub(crate) memory: f64,
}

/// The programs, unpacked aside.
pub(crate) struct Tools {
    folder: PathBuf,
    /// The network namespace in which they run.
    network: Option<PathBuf>,
}

impl Tools {
    /// Unpacks them where that was not done.
    pub(crate) fn unpacked() -> Outcome<Self> {
        output(&mut Command::new(root().join("tests/benches/image-tools")))?;
        Ok(Self { folder: root().join("target/tools/images/usr"), network: None })
    }

    /// The same, on a network.
    pub(crate) fn on(&self, network: PathBuf) -> Self {
        Self { folder: self.folder.clone(), network: Some(network) }
    }

    /// One of them. Its process is the program itself: what enters the namespaces goes over into it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = match &self.network {
            Some(network) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", text(network))).args(["unshare", "--mount"]);
                command.arg(program);
                command
            }
            None => Command::new(program),
        };
        let path = std::env::var("PATH").unwrap_or_default();
        let own = text(&self.folder);
        command.env("PATH", format!("{own}/bin:{own}/sbin:{path}"));
        command.env("LD_LIBRARY_PATH", format!("{own}/lib/x86_64-linux-gnu"));
        command.env("OTEL_TRACES_EXPORTER", "none");
        command
    }

    /// Puts an image into the lab's registry.
    pub(crate) fn push(&self, image: &Made) -> Outcome<()> {
        let from = format!("oci:{}:1", text(&image.layout));
        let to = format!("docker://{REGISTRY}/library/{}", image.name);
        let copy = ["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", &from, &to];
        output(self.command("skopeo").args(copy)).map(drop)
    }

    /// `skopeo copy`, then `umoci raw unpack`: no mtree for a later repack, as no runtime needs it.
    pub(crate) fn skopeo_and_umoci(&self, image: &str, folder: &Path) -> Outcome<Cost> {
        fs::create_dir_all(folder)?;
        let layout = folder.join("layout");
        let from = format!("docker://{REGISTRY}/library/{image}");
        let to = format!("oci:{}:1", text(&layout));
        let copy = ["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", &from, &to];
        let copied = run(self.command("skopeo").args(copy))?;
        let from = format!("{}:1", text(&layout));
        let rootfs = folder.join("rootfs");
        let unpack = ["raw", "unpack", "--image", &from, text(&rootfs)];
        let unpacked = run(self.command("umoci").args(unpack))?;
        let memory = copied.memory.max(unpacked.memory);
        Ok(Cost { seconds: copied.seconds + unpacked.seconds, memory })
    }

    /// `ctr image pull` with a containerd of its own; only the pull is timed.
    pub(crate) fn containerd(&self, image: &str, folder: &Path) -> Outcome<Cost> {
        fs::create_dir_all(folder)?;
        let socket = folder.join("sock");
        let config = folder.join("config.toml");
        let own = |name: &str| folder.join(name).display().to_string();
        let settings = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{}\"\n[ttrpc]\naddress = \"{}.ttrpc\"\n",
            own("root"),
            own("state"),
            text(&socket),
            text(&socket),
        );
        fs::write(&config, settings)?;
        let mut daemon = self.command("containerd");
        daemon.args(["--config", text(&config), "--log-level", "error"]);
        let daemon = Daemon::start(&mut daemon, &folder.join("log"))?;
        wait_for("containerd answers", || {
            let asked = self.command("ctr").args(["--address", text(&socket), "version"]).output();
            Ok(asked?.status.success())
        })?;
        forget_peak(&daemon.proc())?;
        let name = format!("{REGISTRY}/library/{image}");
        let pull = ["image", "pull", "--plain-http", "--snapshotter", "overlayfs", &name];
        let mut client = self.command("ctr");
        let pulled = run(client.args(["--address", text(&socket)]).args(pull))?;
        let memory = peak(&daemon.proc())?.max(pulled.memory);
        drop(daemon);
        Ok(Cost { memory, ..pulled })
    }

    /// Buildah with a storage of its own below `folder`.
    pub(crate) fn buildah(&self, folder: &Path) -> Command {
        let mut command = self.command("buildah");
        let own = |name: &str| folder.join(name).display().to_string();
        command.args(["--root", &own("root"), "--runroot", &own("run")]);
        command.args(["--storage-driver", "overlay", "--log-level", "error"]);
        // Nothing of this machine's own settings, and nothing beside its storage.
        command.env("TMPDIR", folder).env("XDG_RUNTIME_DIR", folder).env("HOME", folder);
        command
    }
}

/// A process that ends with it.
struct Daemon(Child);

impl Daemon {
    fn start(command: &mut Command, log: &Path) -> Outcome<Self> {
        let log = File::create(log)?;
        Ok(Self(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?))
    }

    fn proc(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.0.id()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program to its good end, and looks at its memory meanwhile.
pub(crate) fn run(command: &mut Command) -> Outcome<Cost> {
    let begun = Instant::now();
    let said = Stdio::piped();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).spawn()?;
    let proc = PathBuf::from(format!("/proc/{}", child.id()));
    let mut memory: f64 = 0.0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        // One that just ended has no memory any more.
        memory = memory.max(peak(&proc).unwrap_or_default());
        if begun.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Err(format!("{command:?} takes too long").into());
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let seconds = begun.elapsed().as_secs_f64();
    if status.success() {
        return Ok(Cost { seconds, memory });
    }
    let said = child.wait_with_output()?.stderr;
    Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&said)).into())
}

/// The most memory that a process ever had resident, MiB.
pub(crate) fn peak(proc: &Path) -> Outcome<f64> {
    let status = fs::read_to_string(proc.join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes / 1024.0)
}

/// Lets the kernel begin anew with the most memory of a process.
pub(crate) fn forget_peak(proc: &Path) -> Outcome<()> {
    Ok(fs::write(proc.join("clear_refs"), "5")?)
}

/// Waits until something holds, for five minutes at most.
pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> Outcome<bool>) -> Outcome<()> {
    let end = Instant::now() + PATIENCE;
    while !holds()? {
        if Instant::now() > end {
            return Err(format!("not so after {} s: {what}", PATIENCE.as_secs()).into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
