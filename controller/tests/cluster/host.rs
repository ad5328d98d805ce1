//! A controller process with folders of its own, and clusters of them.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use swarm_proto::transport::connect_unix;
use swarm_proto::wire;
use swarm_proto::wire::control_client::ControlClient;
use tempfile::TempDir;
use tonic::transport::Channel;

/// The built program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_swarm-controller");

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One controller.
pub(crate) struct Host {
    /// Its folders, gone with it.
    pub(crate) dir: TempDir,
    /// Where it is reached.
    pub(crate) address: String,
    child: Option<Child>,
    /// The process that holds its mount namespace, when its disk is one of its own.
    disk: Option<Child>,
}

impl Host {
    /// Makes its folders and configuration.
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// One with further lines of configuration.
    pub(crate) fn with(settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let host = Self { dir, address, child: None, disk: None };
        host.configure(settings);
        host
    }

    /// Writes its configuration anew, with these further lines.
    pub(crate) fn configure(&self, settings: &str) {
        let (folder, address) = (self.dir.path(), &self.address);
        let text = format!(
            "state_dir = \"{0}/state\"\nrun_dir = \"{0}/run\"\nlisten = \"{address}\"\nadvertise = \"{address}\"\n{settings}",
            folder.display()
        );
        fs::write(folder.join("controller.toml"), text).unwrap();
    }

    /// One whose state lies on a disk of its own with so many MiB, in a mount namespace of its own.
    pub(crate) fn with_disk(mebibytes: u32) -> Self {
        let mut host = Self::new();
        let state = host.dir.path().join("state");
        fs::create_dir(&state).unwrap();
        let script = "mount -t tmpfs -o \"size=$1m,mode=700\" none \"$2\" && echo mounted && exec sleep 1000";
        let mut holder = Command::new("unshare");
        holder.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
        holder.arg(mebibytes.to_string()).arg(state);
        let mut holder = holder.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = [0; 8];
        io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut said).unwrap();
        assert_eq!(&said, b"mounted\n");
        host.disk = Some(holder);
        host
    }

    /// Takes all room on its own disk.
    pub(crate) fn fill_disk(&self) {
        let mut file = File::create(self.filler()).unwrap();
        let zeros = vec![0; 64 << 10];
        while io::Write::write_all(&mut file, &zeros).is_ok() {}
    }

    /// Gives it back.
    pub(crate) fn empty_disk(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        let holder = self.disk.as_ref().unwrap().id();
        let state = self.dir.path().join("state/filler");
        PathBuf::from(format!("/proc/{holder}/root{}", state.display()))
    }

    /// The command line with this host's configuration.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match &self.disk {
            Some(holder) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--mount=/proc/{}/ns/mnt", holder.id())).arg(PROGRAM);
                command
            }
            None => Command::new(PROGRAM),
        };
        command.arg("--config").arg(self.dir.path().join("controller.toml")).args(arguments);
        command.env("RUST_LOG", "swarm_controller=debug");
        command
    }

    /// Runs a command to its end.
    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed; answers with what it printed.
    pub(crate) fn expect(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?} failed: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must be refused; answers with its message.
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?} did not fail");
        let stderr = String::from_utf8(output.stderr).unwrap();
        let (_, message) = stderr.split_once("error: ").unwrap();
        message.trim_end().to_owned()
    }

    /// Starts the controller.
    pub(crate) fn start(&mut self) {
        let log =
            File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let child = self.command(&["run"]).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.child = Some(child);
    }

    /// `kill -9`
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for the process to end; answers with its exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.child = Some(child);
        panic!("the controller does not end");
    }

    /// The unix socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("run/controller.sock")
    }

    /// A client on the unix socket, as soon as it answers.
    pub(crate) async fn control(&self) -> ControlClient<Channel> {
        let channel = eventually("the socket answers", async || {
            connect_unix(&self.socket()).await.map_err(|error| error.to_string())
        });
        ControlClient::new(channel.await).max_decoding_message_size(64 << 20)
    }

    /// What this controller knows now.
    pub(crate) async fn state(&self) -> wire::StateView {
        let mut control = self.control().await;
        control.get_state(wire::GetStateRequest { stale: true }).await.unwrap().into_inner()
    }

    /// The log's end, for messages.
    pub(crate) fn log(&self) -> String {
        let text = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut out = io::stderr().lock();
            let _ = io::Write::write_all(&mut out, self.log().as_bytes());
        }
        self.kill();
        if let Some(mut holder) = self.disk.take() {
            // It may have ended by itself.
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Repeats an attempt until it succeeds; its last error is the message when it never does.
pub(crate) async fn eventually<T>(what: &str, attempt: impl AsyncFn() -> Result<T, String>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) if Instant::now() > end => panic!("never happened: {what}: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// A started cluster of so many controllers, all of them voters.
pub(crate) async fn cluster(size: usize) -> Vec<Host> {
    cluster_with("", size).await
}

/// One with further lines of configuration.
pub(crate) async fn cluster_with(settings: &str, size: usize) -> Vec<Host> {
    cluster_of((0..size).map(|_| Host::with(settings)).collect()).await
}

/// A started cluster of these hosts, all of them voters.
pub(crate) async fn cluster_of(unused: Vec<Host>) -> Vec<Host> {
    let size = unused.len();
    let mut hosts: Vec<Host> = Vec::new();
    for mut host in unused {
        let Some(first) = hosts.first() else {
            host.expect(&["init"]);
            host.start();
            hosts.push(host);
            continue;
        };
        let token = first.expect(&["token", "controller"]);
        host.expect(&["join", "--token", token.trim(), &first.address]);
        host.start();
        hosts.push(host);
    }
    for host in &hosts {
        eventually("all controllers vote", async || {
            let state = host.state().await;
            let complete = state.voters.len() == size && state.leader != 0;
            if complete { Ok(()) } else { Err(format!("{:?}", state.voters)) }
        })
        .await;
    }
    hosts
}

/// The position of the leader among the hosts.
pub(crate) async fn leader(hosts: &[Host]) -> usize {
    let running: Vec<usize> = (0..hosts.len()).filter(|at| hosts[*at].child.is_some()).collect();
    eventually("somebody leads", async || {
        for at in &running {
            let mut control = hosts[*at].control().await;
            let version = control.get_version(wire::GetVersionRequest {}).await;
            let version = version.map_err(|status| status.to_string())?.into_inner();
            if version.leader == version.raft_id && version.leader != 0 {
                return Ok(*at);
            }
        }
        Err(String::from("nobody"))
    })
    .await
}

/// A stack of one service that needs no registry.
pub(crate) fn stack(name: &str, replicas: u32) -> wire::StackSpec {
    use swarm_proto::spec::{ContainerSpec, ImageSpec, ServiceMode, ServiceSpec, StackSpec};
    let digest = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
    let image = ImageSpec { digest: Some(digest), ..ImageSpec::new("docker.io/library/sleep:1") };
    let container = ContainerSpec {
        environment: [(String::from("PASSWORD"), Some(String::from("hunter2")))].into(),
        ..ContainerSpec::new(image)
    };
    let mode = ServiceMode::Replicated { replicas };
    let service = ServiceSpec { mode, ..ServiceSpec::new(container) };
    let spec = StackSpec {
        name: name.to_owned(),
        services: [(String::from("sleep"), service)].into(),
        ..StackSpec::default()
    };
    wire::StackSpec::from(&spec)
}

/// A request to deploy it.
pub(crate) fn deploy(id: &str, stack: wire::StackSpec) -> wire::DeployRequest {
    wire::DeployRequest { request_id: id.to_owned(), stack: Some(stack), prune: false }
}

/// A request to scale its service.
pub(crate) fn scale(id: &str, stack: &str, replicas: u32) -> wire::ScaleServiceRequest {
    let service = format!("{stack}_sleep");
    wire::ScaleServiceRequest { request_id: id.to_owned(), service, replicas }
}
