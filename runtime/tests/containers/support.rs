//! Makes containers for tests and makes sure that nothing of them is left.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use swarm_runtime::{
    CgroupSpec, Container, ContainerError, CreateOptions, ExitRecord, Limits, LogOptions,
    RootfsSpec, SeccompChoice, ShimProgram, cgroup,
};

/// Capabilities that Docker gives by default.
pub(crate) const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

pub(crate) fn program() -> &'static ShimProgram {
    static PROGRAM: OnceLock<ShimProgram> = OnceLock::new();
    PROGRAM
        .get_or_init(|| ShimProgram::seal(Path::new(env!("CARGO_BIN_EXE_swarm-runtime"))).unwrap())
}

/// The parent of all control groups of this test process.
pub(crate) fn parent() -> String {
    format!("swarm-test-{}", std::process::id())
}

/// One test's container and the files around it; removed when dropped.
pub(crate) struct Fixture {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) config: Value,
    pub(crate) options: CreateOptions,
}

impl Fixture {
    /// A container that would run this command.
    pub(crate) fn new(command: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("c{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::tempdir().unwrap();
        make_image(&dir.path().join("image"));
        let bundle = dir.path().join("bundle");
        fs::create_dir(&bundle).unwrap();
        let options = CreateOptions {
            id: id.clone(),
            dir: bundle,
            rootfs: RootfsSpec {
                lower_dirs: vec![dir.path().join("image")],
                upper_dir: Some(dir.path().join("upper")),
                work_dir: Some(dir.path().join("work")),
                read_only: false,
            },
            user: None,
            init: false,
            seccomp: SeccompChoice::Default,
            groups: Vec::new(),
            stdin_open: false,
            log: LogOptions::default(),
            passed_fds: Vec::new(),
            cgroup: CgroupSpec { parent: parent(), name: id, limits: Limits::default() },
            fence: None,
        };
        Self { dir, config: config(command), options }
    }

    /// A container that would run this script.
    pub(crate) fn script(script: &str) -> Self {
        Self::new(&["sh", "-c", script])
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.dir.path().join("bundle")
    }

    /// Creates the container; the options are used up.
    pub(crate) fn try_create(&mut self) -> Result<Container, ContainerError> {
        let text = serde_json::to_vec(&self.config).unwrap();
        fs::write(self.bundle().join("config.json"), text).unwrap();
        let passed_fds: Vec<(String, OwnedFd)> = std::mem::take(&mut self.options.passed_fds);
        let options = CreateOptions {
            id: self.options.id.clone(),
            dir: self.options.dir.clone(),
            rootfs: self.options.rootfs.clone(),
            user: self.options.user.clone(),
            groups: self.options.groups.clone(),
            log: self.options.log.clone(),
            cgroup: self.options.cgroup.clone(),
            fence: self.options.fence.clone(),
            passed_fds,
            ..self.options
        };
        Container::create(program(), options)
    }

    pub(crate) fn create(&mut self) -> Container {
        self.try_create().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Creates and starts.
    pub(crate) fn start(&mut self) -> Container {
        let container = self.create();
        container.start().unwrap_or_else(|error| panic!("{error}"));
        container
    }

    /// Runs to the end: how it ended and what it said.
    pub(crate) fn run(&mut self) -> (ExitRecord, String) {
        let container = self.start();
        let record = container.wait().unwrap();
        let said = self.said();
        container.delete().unwrap();
        (record, said)
    }

    /// Runs to the end, which must be good: what it said.
    pub(crate) fn output(&mut self) -> String {
        let (record, said) = self.run();
        assert_eq!(record.code, 0, "{record:?}\n{said}");
        said
    }

    /// What the container has said on both streams, without the log's own words.
    pub(crate) fn said(&self) -> String {
        let log = fs::read_to_string(self.bundle().join("container.log")).unwrap_or_default();
        log.lines().flat_map(|line| [line.splitn(4, ' ').nth(3).unwrap_or(""), "\n"]).collect()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Ok(container) = Container::open(&self.bundle()) {
            container.delete().unwrap();
        }
        let name = &self.options.cgroup.name;
        for root in cgroup::Layout::detect().unwrap().roots() {
            let left = root.path.join(parent()).join(name);
            assert!(!left.exists(), "{} is left", left.display());
        }
        // The last test to end takes the parent away; while others run it is not empty.
        cgroup::remove_parent(&parent()).unwrap();
    }
}

/// Waits for something that must come soon.
pub(crate) fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !check() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process still runs (a dead one that nobody has buried does not).
pub(crate) fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

fn make_image(image: &Path) {
    for folder in ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "var"] {
        fs::create_dir_all(image.join(folder)).unwrap();
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists());
    let busybox = busybox.expect("these tests need busybox: apt-get install busybox-static");
    fs::copy(busybox, image.join("bin/busybox")).unwrap();
    for name in [
        "sh", "cat", "echo", "id", "ls", "true", "false", "sleep", "mount", "mkdir", "touch",
        "hostname", "env", "pwd", "kill", "ps", "head", "yes", "dd", "wc", "stat", "mknod",
        "chroot", "readlink", "unshare", "grep", "test", "seq", "tail", "tty", "ip", "sysctl",
        "chmod", "ln",
    ] {
        symlink("busybox", image.join("bin").join(name)).unwrap();
    }
    fs::write(
        image.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nredis:x:999:1000::/var:/bin/sh\n",
    )
    .unwrap();
    fs::write(image.join("etc/group"), "root:x:0:\nredis:x:1000:\nextra:x:77:redis\n").unwrap();
}

/// A configuration as the agent writes it.
pub(crate) fn config(command: &[&str]) -> Value {
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "args": command,
            "cwd": "/",
            "env": ["PATH=/usr/bin:/bin"],
            "user": {"uid": 0, "gid": 0},
            "noNewPrivileges": true,
            "capabilities": {
                "bounding": DEFAULT_CAPABILITIES,
                "effective": DEFAULT_CAPABILITIES,
                "permitted": DEFAULT_CAPABILITIES,
            },
        },
        "hostname": "web",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]},
        ],
        "linux": {
            "namespaces": [
                {"type": "mount"}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "network"}, {"type": "cgroup"},
            ],
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
