//! On a terminal: bars and colour, unless the user wants none.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use swarm_proto::object::{NodeStatus, TaskState};
use tokio::time::sleep;

use crate::fake::Fake;
use crate::objects::{state, task};

/// What a deploy writes to a terminal as its standard error, with its exit code.
async fn deploy(variables: &[(&str, &str)]) -> (String, Option<i32>) {
    let mut start = state();
    start.tasks.clear();
    start.nodes.values_mut().for_each(|node| node.status = NodeStatus::Ready);
    let fake = Fake::start(start).await;
    let size = Winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(Some(&size), None).unwrap();
    let slave: OwnedFd = terminal.slave.as_fd().try_clone_to_owned().unwrap();
    let mut command = fake.command(&["deploy", "-f", "stack.yml"]);
    command.env("TERM", "xterm").envs(variables.iter().copied()).stderr(slave);
    let mut child = command.spawn().unwrap();
    drop((command, terminal.slave));
    let mut master = std::fs::File::from(terminal.master);
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        // The end of a terminal is an error.
        while let Ok(length @ 1..) = master.read(&mut buffer) {
            text.extend(&buffer[..length]);
        }
        String::from_utf8_lossy(&text).into_owned()
    });
    sleep(Duration::from_millis(400)).await;
    fake.script.change(|state| {
        let tasks = [(1, 1), (1, 2), (1, 3), (2, 1)];
        state.tasks.extend(tasks.map(|(service, slot)| {
            let task = task(service, slot, 1, TaskState::Running);
            (task.id, task)
        }));
    });
    let status = child.wait().await.unwrap();
    (reader.join().unwrap(), status.code())
}

#[tokio::test]
async fn a_terminal_gets_a_bar_for_each_service() {
    let (text, code) = deploy(&[]).await;
    assert_eq!(code, Some(0), "{text}");
    for piece in
        ["redis [", "web   [", "====", "3 of 3 running", "stack `counter` runs (4 tasks", "\u{1b}["]
    {
        assert!(text.contains(piece), "no `{piece}` in {text:?}");
    }
}

#[tokio::test]
async fn colour_can_be_refused() {
    let (coloured, _) = deploy(&[]).await;
    assert!(coloured.contains("\u{1b}[32m"), "{coloured:?}");
    let (plain, code) = deploy(&[("NO_COLOR", "1")]).await;
    assert_eq!(code, Some(0), "{plain}");
    assert!(plain.contains("redis ["), "{plain:?}");
    assert!(!plain.contains("\u{1b}[32m"), "{plain:?}");
}

#[tokio::test]
async fn a_terminal_that_cannot_draw_gets_lines() {
    let (text, code) = deploy(&[("TERM", "dumb")]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
    assert!(text.contains("web: 0 of 3 running"), "{text:?}");
}
