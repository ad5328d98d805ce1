//! A host for one agent: namespaces of its own, folders of its own, and nothing left of it afterwards.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;
use swarm_proto::assignment::TaskAssignment;
use swarm_proto::object::TaskState;
use swarm_proto::spec::{ContainerSpec, ImageSpec, RestartCondition, RestartPolicy};
use swarm_proto::transport::install_crypto_provider;
use swarm_runtime::Container;
use swarm_runtime::kernel::Namespace;
use swarm_runtime::kernel::netlink::{Address, LinkKind, NewLink, Socket};

use crate::controller::Controller;
use crate::image::{busybox, image};
use crate::registry::Registry;

pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const PORT: u16 = 2387;

pub(crate) struct Host {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) controller: Controller,
    pub(crate) registry: Registry,
    /// The digest of `busybox:1`.
    pub(crate) busybox: String,
    pub(crate) cgroup_parent: String,
    agent: Option<Child>,
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut look: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !look() {
        assert!(Instant::now() < end, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Runs a test on a thread with a network and mounts of its own: nothing of the machine's is touched.
pub(crate) fn on_a_host(test: impl AsyncFnOnce(Host) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let mut socket = Socket::open_in(&Namespace::current().unwrap()).unwrap();
        let loopback = socket.link("lo").unwrap().index;
        socket.set_up(loopback, true).unwrap();
        let link = NewLink { up: true, ..NewLink::new("up0", LinkKind::Bridge) };
        socket.add_link(&link).unwrap();
        let index = socket.link("up0").unwrap().index;
        socket.add_address(Address { link: index, address: ADDRESS, prefix_length: 24 }).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let host = Host::new().await;
            test(host).await;
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

pub(crate) fn runtime_program() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_BIN_EXE_swarm-agent"));
    let program = own.with_file_name("swarm-runtime");
    assert!(program.exists(), "build the whole workspace first: {} is missing", program.display());
    program
}

impl Host {
    async fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        install_crypto_provider();
        let folder = tempfile::tempdir().unwrap();
        let controller = Controller::start(ADDRESS).await;
        controller.agent.save(&folder.path().join("state")).unwrap();
        let registry = Registry::start().await;
        let system = image(&[busybox()], &json!({ "Env": ["PATH=/bin"], "Cmd": ["sh"] }));
        let busybox = registry.put("library/busybox", "1", &system);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let cgroup_parent = format!("swarm-agent-test-{}-{number}", std::process::id());
        let mut host = Self { folder, controller, registry, busybox, cgroup_parent, agent: None };
        host.write_config();
        host.start_agent();
        host
    }

    fn write_config(&self) {
        let text = format!(
            "state_dir = \"{0}/state\"\nrun_dir = \"{0}/run\"\nadvertise_address = \"{ADDRESS}\"\n\
             port = {PORT}\ncgroup_parent = \"{1}\"\nruntime = \"{2}\"\n\
             [registry]\nmirrors_only = [\"docker.io\"]\n\
             [registry.mirrors]\n\"docker.io\" = [\"{3}\"]\n",
            self.folder.path().display(),
            self.cgroup_parent,
            runtime_program().display(),
            self.registry.url(),
        );
        fs::write(self.folder.path().join("agent.toml"), text).unwrap();
    }

    pub(crate) fn start_agent(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("agent.log"))
            .unwrap();
        let agent = Command::new(env!("CARGO_BIN_EXE_swarm-agent"))
            .args(["--log", "info,swarm_agent=debug", "--config"])
            .arg(self.folder.path().join("agent.toml"))
            .arg("run")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.agent = Some(agent);
    }

    /// As `kill -9`.
    pub(crate) fn kill_agent(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    pub(crate) fn agent_pid(&self) -> u32 {
        self.agent.as_ref().unwrap().id()
    }

    pub(crate) fn containers(&self) -> PathBuf {
        self.folder.path().join("state/agent/containers")
    }

    /// A task that runs a shell script.
    pub(crate) fn task(&self, id: &str, script: &str) -> TaskAssignment {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        TaskAssignment {
            id: id.parse().unwrap(),
            name: format!("test_it.{id}"),
            stack: "test".into(),
            service: "test_it".into(),
            desired: TaskState::Running,
            start_after: None,
            container: ContainerSpec {
                image: ImageSpec {
                    digest: Some(self.busybox.parse().unwrap()),
                    ..ImageSpec::new("docker.io/library/busybox:1")
                },
                command: Some(command),
                ..container()
            },
            attachments: Vec::new(),
            volumes: std::collections::BTreeMap::new(),
            host_ports: Vec::new(),
            restart: RestartPolicy {
                condition: RestartCondition::Any,
                delay: std::time::Duration::from_millis(100),
                max_attempts: None,
                window: std::time::Duration::ZERO,
            },
            withdrawal: None,
            lease: None,
            measure: None,
            resources: std::collections::BTreeMap::new(),
        }
    }

    /// Says what is left on the host of any container.
    pub(crate) fn rests(&self) -> Vec<String> {
        let mut rests = list(&self.containers());
        rests.extend(
            list(&self.folder.path().join("run/netns"))
                .into_iter()
                .filter(|n| n.starts_with("task")),
        );
        for controller in list(Path::new("/sys/fs/cgroup")) {
            let parent = Path::new("/sys/fs/cgroup").join(&controller).join(&self.cgroup_parent);
            rests.extend(
                list(&parent)
                    .into_iter()
                    .filter(|name| parent.join(name).is_dir())
                    .map(|name| format!("cgroup {controller}/{name}")),
            );
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ours = self.folder.path().to_str().unwrap();
        let ours = mounts.lines().filter(|l| l.contains(ours) && l.contains("overlay"));
        rests.extend(ours.map(str::to_owned));
        rests
    }
}

fn list(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// A container with nothing special.
pub(crate) fn container() -> ContainerSpec {
    ContainerSpec {
        stop_grace_period: std::time::Duration::from_secs(1),
        ..ContainerSpec::new(ImageSpec::new(""))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.agent.is_some() {
            self.kill_agent();
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("agent.log"));
            println!("{}", log.unwrap_or_default());
        }
        for task in list(&self.containers()) {
            for attempt in list(&self.containers().join(&task)) {
                if let Ok(container) = Container::open(&self.containers().join(&task).join(attempt))
                {
                    let _ = container.delete();
                }
            }
        }
        let _ = swarm_runtime::cgroup::remove_parent(&self.cgroup_parent);
    }
}
