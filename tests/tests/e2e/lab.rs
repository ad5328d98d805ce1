//! A lab for one test, taken down at its end and checked to have left nothing.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use swarm_runtime::kernel::Namespace;

use crate::snapshot::{self, Machine, Process};

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    /// Its exit code.
    pub(crate) code: i32,
    /// Its data.
    pub(crate) stdout: String,
    /// Its talk.
    pub(crate) stderr: String,
}

/// A stack with one task on every host.
pub(crate) const SLEEPER: &str = r"
services:
  sleeper:
    image: busybox
    command: sleep 100000
    deploy: {mode: global}
";

/// A task as `swarmctl ps -o json` shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Task {
    /// Its identity.
    pub(crate) id: String,
    /// `<stack>_<service>.<slot>`
    pub(crate) name: String,
    /// The host's name.
    pub(crate) node: String,
    /// `running`, `failed`, …
    pub(crate) state: String,
    /// `running`, `shutdown`, …
    pub(crate) desired: String,
    /// Why it is in that state, or how it ended.
    pub(crate) message: String,
    /// Once it ended.
    pub(crate) exit_code: Option<i64>,
    /// Its first process, as the host counts.
    pub(crate) pid: Option<i64>,
    /// When that started.
    pub(crate) started_at: String,
}

impl Task {
    /// Whether it runs and shall.
    pub(crate) fn runs(&self) -> bool {
        self.state == "running" && self.desired == "running"
    }
}

/// A running lab.
pub(crate) struct Lab {
    name: String,
    settings: tempfile::TempDir,
    before: Machine,
    // Dropped last: the next test may begin.
    _turn: File,
}

/// The folder of the release programs.
pub(crate) fn programs() -> PathBuf {
    // This test lies in target/release/deps.
    let own = std::env::current_exe().unwrap();
    own.parent().and_then(Path::parent).unwrap().to_owned()
}

/// The project's root folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Labs take turns, over all test processes.
fn take_turn() -> File {
    let file = File::create(std::env::temp_dir().join("swarm-e2e.lock")).unwrap();
    file.lock().unwrap();
    file
}

impl Lab {
    /// A lab of three hosts, each with a controller.
    pub(crate) fn up(name: &str) -> Self {
        Self::with(name, &[])
    }

    /// A lab made with these options.
    pub(crate) fn with(name: &str, options: &[&str]) -> Self {
        let turn = take_turn();
        let settings = tempfile::tempdir().unwrap();
        let lab =
            Self { name: format!("t-{name}"), settings, before: Machine::look(), _turn: turn };
        lab.up_again(&[&["--fresh"], options].concat());
        lab
    }

    /// `lab up` once more.
    pub(crate) fn up_again(&self, options: &[&str]) {
        self.lab("up", options);
    }

    /// The lab's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The folder with `swarmctl`'s contexts.
    pub(crate) fn settings(&self) -> &Path {
        self.settings.path()
    }

    /// A command with this lab as its context, not run yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(programs().join("swarmctl"));
        command
            .args(arguments)
            .env("XDG_CONFIG_HOME", self.settings.path())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .current_dir(root());
        command
    }

    /// Runs `swarmctl` to its end.
    pub(crate) fn try_run(&self, arguments: &[&str]) -> Said {
        let output = self.command(arguments).output().unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs `swarmctl`, which must succeed; returns its data.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let said = self.try_run(arguments);
        assert!(said.code == 0, "swarmctl {}: {said:#?}", arguments.join(" "));
        said.stdout
    }

    /// Runs `swarmctl lab VERB` on this lab, which must succeed.
    #[track_caller]
    pub(crate) fn lab(&self, verb: &str, arguments: &[&str]) -> String {
        self.run(&[&["lab", verb, "--name", &self.name], arguments].concat())
    }

    /// Runs a command on a host.
    pub(crate) fn try_exec(&self, host: &str, command: &[&str]) -> Said {
        self.try_run(&[&["lab", "exec", "--name", &self.name, host, "--"], command].concat())
    }

    /// Runs a command on a host, which must succeed.
    #[track_caller]
    pub(crate) fn exec(&self, host: &str, command: &[&str]) -> String {
        let said = self.try_exec(host, command);
        assert!(said.code == 0, "{} on {host}: {said:#?}", command.join(" "));
        said.stdout
    }

    /// What a script says in a task's container, which must succeed.
    #[track_caller]
    pub(crate) fn inside(&self, task: &str, script: &str) -> String {
        self.run(&["exec", task, "sh", "-c", script]).trim().to_owned()
    }

    /// Runs `swarmctl … -o json`.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let text = self.run(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    fn write(&self, stack: &str, text: &str) -> String {
        let file = self.settings.path().join(format!("{stack}.yml"));
        fs::write(&file, text).unwrap();
        file.into_os_string().into_string().unwrap()
    }

    /// What a deploy of a stack file given as text would bring about.
    #[track_caller]
    pub(crate) fn plan(&self, stack: &str, text: &str) -> Value {
        self.json(&["plan", "-f", &self.write(stack, text), "--name", stack])
    }

    /// Deploys a stack file given as text.
    pub(crate) fn try_deploy(&self, stack: &str, text: &str) -> Said {
        let file = self.write(stack, text);
        self.try_run(&["deploy", "-f", &file, "--name", stack, "--timeout", "90s"])
    }

    /// Deploys a stack file given as text, which must converge.
    #[track_caller]
    pub(crate) fn deploy(&self, stack: &str, text: &str) -> Said {
        let said = self.try_deploy(stack, text);
        assert!(said.code == 0, "deploy {stack}: {said:#?}\n{}", self.describe());
        said
    }

    /// Deploys the counter app.
    #[track_caller]
    pub(crate) fn deploy_counter(&self) -> Said {
        let said =
            self.try_run(&["deploy", "-f", "manifests/counter/stack.yml", "--timeout", "90s"]);
        assert!(said.code == 0, "deploy counter: {said:#?}\n{}", self.describe());
        said
    }

    /// All tasks, the dead ones included.
    #[track_caller]
    pub(crate) fn tasks(&self) -> Vec<Task> {
        let said = self.try_run(&["ps", "-a", "-o", "json"]);
        assert!(said.code == 0, "ps: {said:#?}");
        read_tasks(&said.stdout)
    }

    /// The running tasks whose names begin so.
    #[track_caller]
    pub(crate) fn running(&self, prefix: &str) -> Vec<Task> {
        let mut tasks = self.tasks();
        tasks.retain(|task| task.runs() && task.name.starts_with(prefix));
        tasks.sort();
        tasks
    }

    /// The host whose controller leads.
    #[track_caller]
    pub(crate) fn leader(&self) -> String {
        eventually(20, "a controller leads", || {
            let nodes = self.try_run(&["node", "ls", "-o", "json"]);
            let nodes: Value = serde_json::from_str(&nodes.stdout).ok()?;
            let leads = |node: &&Value| node["controller"]["member"] == "leader";
            let leader = nodes.as_array()?.iter().find(leads)?;
            leader["hostname"].as_str().map(str::to_owned)
        })
    }

    /// The hosts in session with the controller that leads; `None` while nobody does.
    pub(crate) fn ready_hosts(&self) -> Option<BTreeSet<String>> {
        let said = self.try_run(&["node", "ls", "-o", "json"]);
        if said.stderr.contains("no leader") {
            return None;
        }
        let nodes: Value = serde_json::from_str(&said.stdout).ok()?;
        let ready = nodes.as_array()?.iter().filter(|node| node["status"] == "ready");
        Some(ready.filter_map(|node| node["hostname"].as_str().map(str::to_owned)).collect())
    }

    /// A host's first process, as the machine counts; `None` when the host is off.
    pub(crate) fn first_process(&self, host: &str) -> Option<i32> {
        let labs = self.json(&["lab", "ls"]);
        let lab = labs.as_array().unwrap().iter().find(|lab| lab["name"] == self.name.as_str())?;
        let host = lab["hosts"].as_array().unwrap().iter().find(|entry| entry["name"] == host)?;
        host["pid"].as_i64().map(|pid| i32::try_from(pid).unwrap())
    }

    /// A host's program, as the host counts.
    pub(crate) fn program(&self, host: &str, program: &str) -> Option<i64> {
        let labs = self.json(&["lab", "ls"]);
        let lab = labs.as_array().unwrap().iter().find(|lab| lab["name"] == self.name.as_str())?;
        let host = lab["hosts"].as_array().unwrap().iter().find(|entry| entry["name"] == host)?;
        let mut programs = host["programs"].as_array().unwrap().iter();
        programs.find(|entry| entry["name"] == program)?["pid"].as_i64()
    }

    /// `kill -9` of a host's program, which the host starts again.
    pub(crate) fn kill_program(&self, host: &str, program: &str) {
        let pid = self.program(host, program).unwrap();
        self.exec(host, &["sh", "-c", &format!("kill -9 {pid}")]);
    }

    /// The processes in a host's containers.
    pub(crate) fn contained(&self, host: &str) -> BTreeSet<Process> {
        snapshot::contained(&format!("swarm-lab/{}/{host}", self.name))
    }

    /// What [`SLEEPER`] runs in a host's containers.
    pub(crate) fn sleepers(&self, host: &str) -> BTreeSet<Process> {
        self.contained(host).into_iter().filter(|process| process.name == "sleep").collect()
    }

    /// Connects from inside of a host to one of its own or another's address.
    pub(crate) fn connect(
        &self,
        host: &str,
        address: Ipv4Addr,
        port: u16,
    ) -> std::io::Result<TcpStream> {
        self.connect_within(Duration::from_secs(3), host, address, port)
    }

    fn connect_within(
        &self,
        limit: Duration,
        host: &str,
        address: Ipv4Addr,
        port: u16,
    ) -> std::io::Result<TcpStream> {
        let pid = self.first_process(host).ok_or(std::io::ErrorKind::HostUnreachable)?;
        let namespace = Namespace::open(Path::new(&format!("/proc/{pid}/ns/net")))
            .map_err(std::io::Error::other)?;
        let target = SocketAddr::from((address, port));
        let stream = namespace
            .enter(|| TcpStream::connect_timeout(&target, limit))
            .map_err(std::io::Error::other)??;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(stream)
    }

    /// Gets a page from a host's published port, asked from that host.
    pub(crate) fn get(&self, host: &str, port: u16) -> std::io::Result<String> {
        page(self.connect(host, address(host), port)?)
    }

    /// The same of a service that has to wake first.
    pub(crate) fn get_patiently(&self, host: &str, port: u16) -> std::io::Result<String> {
        page(self.connect_within(Duration::from_secs(30), host, address(host), port)?)
    }

    /// What would help to understand a failure.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        for arguments in [&["ps", "-a", "-o", "wide"][..], &["node", "ls"], &["lab", "ls"]] {
            let said = self.try_run(arguments);
            let _ = writeln!(
                text,
                "$ swarmctl {}\n{}{}",
                arguments.join(" "),
                said.stdout,
                said.stderr
            );
        }
        for host in ["n1", "n2", "n3"] {
            for program in ["controller", "agent"] {
                let path = format!("/var/lib/swarm-lab/{}/{host}/log/{program}.log", self.name);
                let log = fs::read_to_string(&path).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let last = &lines[lines.len().saturating_sub(25)..];
                let _ = writeln!(text, "--- {path}\n{}\n", last.join("\n"));
            }
        }
        text
    }

    /// Takes the lab down and checks that it left nothing.
    fn down(&self) -> Result<(), String> {
        let hosts: Vec<i32> = ["n1", "n2", "n3", "switch"]
            .iter()
            .filter_map(|host| self.first_process(host))
            .collect();
        let processes: Vec<Process> =
            hosts.iter().flat_map(|first| snapshot::processes_of(*first)).collect();
        let said = self.try_run(&["lab", "down", "--name", &self.name]);
        if said.code != 0 {
            return Err(format!("lab down: {said:#?}"));
        }
        let left: Vec<&Process> = processes.iter().filter(|process| process.runs()).collect();
        let paths =
            [format!("/var/lib/swarm-lab/{}", self.name), format!("/run/swarm-lab/{}", self.name)];
        let files: Vec<&String> = paths.iter().filter(|path| Path::new(path).exists()).collect();
        let mounts = snapshot::mounts_naming(&format!("swarm-lab/{}/", self.name));
        let cgroups = snapshot::cgroups(&format!("swarm-lab/{}", self.name));
        if !(left.is_empty() && files.is_empty() && mounts.is_empty() && cgroups.is_empty()) {
            return Err(format!("left behind: {left:?} {files:?} {mounts:?} {cgroups:?}"));
        }
        let after = Machine::look();
        if after != self.before {
            return Err(format!("the machine changed: {:#?} became {after:#?}", self.before));
        }
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.describe());
        }
        if let Err(left) = self.down() {
            if std::thread::panicking() {
                eprintln!("{left}");
            } else {
                panic!("{left}");
            }
        }
    }
}

/// What a server answers.
fn page(mut stream: TcpStream) -> std::io::Result<String> {
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    match text.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
        _ => Err(std::io::Error::other(text)),
    }
}

/// The address of a host.
pub(crate) fn address(host: &str) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, host[1..].parse().unwrap())
}

/// Waits until something is there, for at most so many seconds.
#[track_caller]
pub(crate) fn eventually<T>(seconds: u64, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Looks for so long, again and again, at what must hold all the time.
#[track_caller]
pub(crate) fn throughout(time: Duration, mut look: impl FnMut()) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        look();
    }
}

/// Does something, and looks all the while at what must hold.
pub(crate) fn meanwhile<T: Send>(work: impl FnOnce() -> T + Send, mut look: impl FnMut()) -> T {
    std::thread::scope(|scope| {
        let work = scope.spawn(work);
        while !work.is_finished() {
            look();
            std::thread::sleep(Duration::from_millis(50));
        }
        work.join().unwrap()
    })
}

fn read_tasks(text: &str) -> Vec<Task> {
    let tasks: Value =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"));
    let word = |task: &Value, key: &str| task[key].as_str().unwrap_or_default().to_owned();
    let read = |task: &Value| Task {
        id: word(task, "id"),
        name: word(task, "name"),
        node: word(task, "node"),
        state: word(task, "state"),
        desired: word(task, "desired"),
        message: word(task, "message"),
        exit_code: task["exit_code"].as_i64(),
        pid: task["pid"].as_i64(),
        started_at: word(task, "started_at"),
    };
    tasks.as_array().unwrap().iter().map(read).collect()
}
