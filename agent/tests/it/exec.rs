//! Programs that people run in tasks' containers.

use std::fs;

use swarm_proto::assignment::{AssignmentDiff, TaskAssignment};
use swarm_proto::exec::{WINDOW, cost};
use swarm_proto::object::TaskState;
use swarm_proto::transport::{AGENT_NAME, connect_unix};
use swarm_proto::wire;
use swarm_proto::wire::agent_client::AgentClient;
use swarm_proto::wire::exec_input::Input;
use swarm_proto::wire::exec_output::Output;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::host::{ADDRESS, Host, PORT, eventually, on_a_host};

/// One call: what goes in, and what came out so far.
struct Call {
    input: mpsc::Sender<wire::ExecInput>,
    outputs: Streaming<wire::ExecOutput>,
    said: String,
    taken: u64,
}

impl Call {
    async fn open(host: &Host, start: wire::ExecStart) -> Result<Self, Status> {
        let address = format!("{ADDRESS}:{PORT}");
        let channel = host.controller.tls.connect(&address, AGENT_NAME).await.unwrap();
        Self::over(channel, start).await
    }

    async fn over(channel: Channel, start: wire::ExecStart) -> Result<Self, Status> {
        let (input, inputs) = mpsc::channel(4);
        let first = wire::ExecInput { input: Some(Input::Start(start)) };
        input.send(first).await.unwrap();
        let opened = AgentClient::new(channel).exec(ReceiverStream::new(inputs)).await?;
        let outputs = opened.into_inner();
        Ok(Self { input, outputs, said: String::new(), taken: 0 })
    }

    async fn send(&self, input: Input) {
        self.input.send(wire::ExecInput { input: Some(input) }).await.unwrap();
    }

    /// Reads on; the end when that is it.
    async fn next(&mut self) -> Option<wire::ExecEnd> {
        match self.outputs.message().await.unwrap().unwrap().output.unwrap() {
            Output::Started(started) => assert_eq!(started.task_name, "test_it.1.1.1"),
            Output::Stdout(bytes) | Output::Stderr(bytes) => {
                self.said.push_str(std::str::from_utf8(&bytes).unwrap());
            }
            Output::Taken(taken) => self.taken += taken,
            Output::End(end) => return Some(end),
        }
        None
    }

    async fn until(&mut self, wanted: &str) {
        while !self.said.contains(wanted) {
            let end = self.next().await;
            assert!(end.is_none(), "{end:?} after {:?}", self.said);
        }
    }

    async fn end(&mut self) -> wire::ExecEnd {
        loop {
            if let Some(end) = self.next().await {
                return end;
            }
        }
    }
}

fn start(command: &[&str]) -> wire::ExecStart {
    let command = command.iter().map(|&each| each.to_owned()).collect();
    wire::ExecStart { target: "1.1.1".into(), command, ..wire::ExecStart::default() }
}

async fn one_task(host: &Host) -> TaskAssignment {
    let task = host.task("1.1.1", "sleep 1000");
    let tasks = vec![task.clone()];
    host.controller.assign(AssignmentDiff { tasks, ..AssignmentDiff::default() }).await;
    host.controller.comes_to(task.id, TaskState::Running).await;
    task
}

/// The processes on this machine with this in their command line.
fn processes(text: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).replace('\0', " ").contains(text)).count()
}

#[test]
fn a_program_says_everything_before_its_end() {
    on_a_host(async |host| {
        one_task(&host).await;
        let script = "seq 20000; echo last >&2; exit 7";
        let mut call = Call::open(&host, start(&["sh", "-c", script])).await.unwrap();
        assert_eq!(call.end().await, wire::ExecEnd { code: 7, message: String::new() });
        assert!(call.said.contains("\n20000\n") && call.said.contains("last\n"));
        assert_eq!(call.said.lines().count(), 20001);
        // What it leaves running does not hold up its end.
        let script = "sleep 7771 & echo done";
        let mut call = Call::open(&host, start(&["sh", "-c", script])).await.unwrap();
        assert_eq!(call.end().await.code, 0);
        assert_eq!(call.said, "done\n");
        let terminal = Some(wire::TerminalSize { rows: 24, columns: 80 });
        let asked = wire::ExecStart { terminal, ..start(&["seq", "20000"]) };
        let mut call = Call::open(&host, asked).await.unwrap();
        assert_eq!(call.end().await.code, 0);
        assert_eq!(call.said.lines().count(), 20000);
    });
}

#[test]
fn input_resize_and_signals_reach_it() {
    on_a_host(async |host| {
        one_task(&host).await;
        let asked = wire::ExecStart { input: true, ..start(&["wc", "-c"]) };
        let mut call = Call::open(&host, asked).await.unwrap();
        for _ in 0..100 {
            call.send(Input::Data(vec![b'x'; 1000])).await;
        }
        call.send(Input::EndOfData(true)).await;
        assert_eq!(call.end().await.code, 0);
        assert_eq!(call.said, "100000\n");
        assert_eq!(call.taken, 100 * cost(1000));
        let size = |rows, columns| wire::TerminalSize { rows, columns };
        let script = "stty size; read line; stty size; sleep 1000";
        let terminal = Some(size(31, 77));
        let asked = wire::ExecStart { terminal, input: true, ..start(&["sh", "-c", script]) };
        let mut call = Call::open(&host, asked).await.unwrap();
        call.until("31 77").await;
        call.send(Input::Resize(size(40, 100))).await;
        call.send(Input::Data(b"go\r".to_vec())).await;
        call.until("40 100").await;
        call.send(Input::Data(b"\x03".to_vec())).await;
        assert_eq!(call.end().await.code, 130);
        // A signal does not wait behind data that nobody takes.
        let asked = wire::ExecStart { input: true, ..start(&["sleep", "7772"]) };
        let mut call = Call::open(&host, asked).await.unwrap();
        let mut sent = 0;
        while sent + cost(16 << 10) <= WINDOW {
            call.send(Input::Data(vec![b'x'; 16 << 10])).await;
            sent += cost(16 << 10);
        }
        call.send(Input::Signal(15)).await;
        assert_eq!(call.end().await.code, 143);
    });
}

#[test]
fn what_cannot_run_is_told_and_leaves_nothing() {
    on_a_host(async |host| {
        let task = one_task(&host).await;
        let other = wire::ExecStart { target: "1.2.1".into(), ..start(&["true"]) };
        let refused = Call::open(&host, other).await.err().unwrap();
        assert_eq!(refused.message(), "task `1.2.1` does not run here");
        let mut call = Call::open(&host, start(&["nothing"])).await.unwrap();
        let end = call.end().await;
        let why = "exec `nothing`: no such file or directory in the container's PATH";
        assert_eq!((end.code, end.message.as_str()), (127, why));
        let refused = Call::open(&host, start(&[])).await.err().unwrap();
        assert_eq!(refused.message(), "there is no program to run");
        let desired = TaskState::Remove;
        let tasks = vec![TaskAssignment { desired, ..task.clone() }];
        host.controller.assign(AssignmentDiff { tasks, ..AssignmentDiff::default() }).await;
        host.controller.is_gone(task.id).await;
        assert_eq!(host.rests(), [""; 0]);
    });
}

#[test]
fn a_lost_caller_or_agent_leaves_no_program() {
    on_a_host(async |mut host| {
        one_task(&host).await;
        let mut call =
            Call::open(&host, start(&["sh", "-c", "echo up; sleep 7773; :"])).await.unwrap();
        call.until("up").await;
        assert!(processes("sleep 7773") > 0);
        drop(call);
        eventually("the program's end", || processes("sleep 7773") == 0).await;
        let script = "trap '' HUP; echo up; sleep 7774; :";
        let mut call = Call::open(&host, start(&["sh", "-c", script])).await.unwrap();
        call.until("up").await;
        host.kill_agent();
        eventually("the program's end", || processes("sleep 7774") == 0).await;
        host.start_agent();
    });
}

#[test]
fn root_on_the_host_asks_the_agent_without_a_controller() {
    on_a_host(async |mut host| {
        let mut task = host.task("1.1.1", "echo $COLOUR; sleep 1000");
        task.container.environment = [("COLOUR".to_owned(), Some("blue".to_owned()))].into();
        let tasks = vec![task.clone()];
        host.controller.assign(AssignmentDiff { tasks, ..AssignmentDiff::default() }).await;
        let status = host.controller.comes_to(task.id, TaskState::Running).await;
        host.controller.vanish().await;
        let socket = host.folder.path().join("run/agent.sock");
        let channel = connect_unix(&socket).await.unwrap();
        let mut agent = AgentClient::new(channel.clone());
        let request = wire::GetStateRequest { stale: true };
        let view = agent.get_state(request).await.unwrap().into_inner();
        assert_eq!((view.stale, view.tasks.len(), view.services.len()), (true, 1, 1));
        assert_eq!(view.tasks[0].status.as_ref().unwrap().pid, status.pid);
        assert!(!format!("{view:?}").contains("blue"), "values of variables stay out");
        let mut call = Call::over(channel, start(&["echo", "here"])).await.unwrap();
        assert_eq!(call.end().await.code, 0);
        assert_eq!(call.said, "here\n");
        let mode = fs::metadata(&socket).unwrap().permissions();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    });
}
