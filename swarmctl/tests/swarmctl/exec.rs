//! `swarmctl exec` against a program that echoes what it is told.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Stdio;
use std::sync::Arc;

use expect_test::expect;
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use swarm_proto::exec::cost;
use swarm_proto::wire;
use swarm_proto::wire::exec_input::Input;
use swarm_proto::wire::exec_output::Output;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::fake::{Fake, Lines, Script};
use crate::objects::state;

/// Plays a program: `echo` gives data back and ends with 7, `missing` does not exist, `lost` breaks off.
pub(crate) fn echo(
    script: Arc<Script>,
    mut inputs: Streaming<wire::ExecInput>,
) -> Lines<wire::ExecOutput> {
    let (sender, outputs) = mpsc::channel(64);
    tokio::spawn(async move {
        let say = async |output| {
            let _ = sender.send(Ok(wire::ExecOutput { output: Some(output) })).await;
        };
        while let Ok(Some(message)) = inputs.message().await {
            match message.input.unwrap() {
                Input::Start(start) => {
                    script.seen.lock().unwrap().push(format!("{start:?}"));
                    if start.command[0] == "missing" {
                        let message = "exec `missing`: no such file".to_owned();
                        say(Output::End(wire::ExecEnd { code: 127, message })).await;
                        return;
                    }
                    let task_name = "counter_web.2".to_owned();
                    let node = "n1".to_owned();
                    say(Output::Started(wire::ExecStarted { task_name, node })).await;
                    say(Output::Stderr(b"ready\n".to_vec())).await;
                    if start.command[0] == "lost" {
                        let _ = sender.send(Err(Status::unavailable("the agent stopped"))).await;
                        return;
                    }
                }
                Input::Data(bytes) => {
                    say(Output::Taken(cost(bytes.len()))).await;
                    say(Output::Stdout(bytes)).await;
                }
                Input::Resize(size) => {
                    let text = format!("{} lines\n", size.rows);
                    say(Output::Stdout(text.into_bytes())).await;
                }
                Input::EndOfData(_) => {
                    say(Output::End(wire::ExecEnd { code: 7, message: String::new() })).await;
                }
                Input::Signal(number) => {
                    let end = wire::ExecEnd { code: 128 + number, message: String::new() };
                    say(Output::End(end)).await;
                }
            }
        }
        script.seen.lock().unwrap().push("hung up".to_owned());
    });
    Box::pin(ReceiverStream::new(outputs))
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()), signal).unwrap();
}

#[tokio::test]
async fn input_goes_through_and_the_exit_code_comes_back() {
    let fake = Fake::start(state()).await;
    let mut child = fake
        .command(&[
            "exec",
            "-i",
            "-u",
            "web",
            "-w",
            "/code",
            "-e",
            "A=1",
            "counter_web",
            "echo",
            "-n",
            "x",
        ])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = child.stdout.take().unwrap();
    let given: Vec<u8> = (0..1_000_000u32).map(|number| number.to_le_bytes()[0]).collect();
    let sent = given.clone();
    let writing = tokio::spawn(async move { input.write_all(&sent).await.unwrap() });
    let mut got = Vec::new();
    output.read_to_end(&mut got).await.unwrap();
    writing.await.unwrap();
    let ended = child.wait_with_output().await.unwrap();
    assert!(got == given, "{} of {} bytes came back", got.len(), given.len());
    assert_eq!(ended.status.code(), Some(7));
    let talk = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(talk, "note: in counter_web.2 on n1\nready\n");
    expect![[r#"ExecStart { target: "counter_web", command: ["echo", "-n", "x"], input: true, terminal: None, user: Some("web"), directory: Some("/code"), environment: ["A=1"] }"#]]
    .assert_eq(&fake.script.seen.lock().unwrap()[0]);
}

#[tokio::test]
async fn what_does_not_run_says_why() {
    let fake = Fake::start(state()).await;
    expect![[r#"
        ---
        error: exec `missing`: no such file
        ---
        exit code 127
    "#]]
    .assert_eq(&fake.run(&["exec", "counter_web.2", "missing"]).await.transcript());
    expect![[r#"
        ---
        ready
        error: the program was lost: the agent stopped

        hint: its node ends it; a controller or the way to it may be gone: see `swarmctl node ls`
        ---
        exit code 1
    "#]]
    .assert_eq(&fake.run(&["exec", "counter_web.2", "lost"]).await.transcript());
    expect![[r#"
        ---
        error: neither standard input nor standard output is a terminal

        hint: leave out `--tty`
        ---
        exit code 2
    "#]]
    .assert_eq(&fake.run(&["exec", "-t", "counter_web.2", "echo"]).await.transcript());
    let unset = fake.run(&["exec", "-e", "NONE", "counter_web.2", "echo"]).await;
    assert_eq!(unset.code, Some(2));
    assert!(unset.talk.contains("`--env NONE=VALUE`"), "{unset:?}");
    assert_eq!(fake.run(&["exec", "counter_web.2"]).await.code, Some(2));
}

#[tokio::test]
async fn signals_are_passed_on() {
    let fake = Fake::start(state()).await;
    for (number, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let mut child = fake.command(&["exec", "counter_web.2", "echo"]).spawn().unwrap();
        let mut ready = [0; 6];
        child.stderr.as_mut().unwrap().read_exact(&mut ready).await.unwrap();
        signal(&child, number);
        assert_eq!(child.wait().await.unwrap().code(), Some(code));
    }
    let mut child = fake.command(&["exec", "counter_web.2", "echo"]).spawn().unwrap();
    let mut ready = [0; 6];
    child.stderr.as_mut().unwrap().read_exact(&mut ready).await.unwrap();
    child.kill().await.unwrap();
    while !fake.script.seen.lock().unwrap().contains(&"hung up".to_owned()) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_raw_while_the_program_runs_and_tells_its_size() {
    let fake = Fake::start(state()).await;
    let size = Winsize { ws_row: 31, ws_col: 77, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(Some(&size), None).unwrap();
    let slave = || terminal.slave.as_fd().try_clone_to_owned().unwrap();
    let lines =
        |slave: &OwnedFd| tcgetattr(slave).unwrap().local_flags.contains(LocalFlags::ICANON);
    assert!(lines(&terminal.slave));
    let mut child = fake
        .command(&["exec", "-it", "counter_web.2", "echo"])
        .env("TERM", "vt100")
        .stdin(slave())
        .stdout(slave())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    child.stderr.as_mut().unwrap().read_exact(&mut ready).await.unwrap();
    let mut master = std::fs::File::from(terminal.master);
    // Raw, what is typed is not echoed here but comes back from the program.
    let mut shown = String::new();
    let mut until = |wanted: &str, master: &mut std::fs::File| {
        let mut buffer = [0; 256];
        while !shown.contains(wanted) {
            let got = master.read(&mut buffer).unwrap();
            shown.push_str(std::str::from_utf8(&buffer[..got]).unwrap());
        }
    };
    master.write_all(b"\x03typed").unwrap();
    until("\x03typed", &mut master);
    assert!(!lines(&terminal.slave));
    let larger = rustix::termios::Winsize { ws_row: 50, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&terminal.slave, larger).unwrap();
    signal(&child, Signal::SIGWINCH);
    until("50 lines", &mut master);
    signal(&child, Signal::SIGTERM);
    assert_eq!(child.wait().await.unwrap().code(), Some(143));
    assert!(lines(&terminal.slave), "the terminal is as it was");
    let start = fake.script.seen.lock().unwrap()[0].clone();
    assert!(start.contains("TerminalSize { rows: 31, columns: 77 }"), "{start}");
    assert!(start.contains("TERM=vt100"), "{start}");
}
