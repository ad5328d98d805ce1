//! Tasks that end, fail, or can never start; logs.

use crate::lab::{Lab, eventually};

const ONE: &[&str] = &["--hosts", "1", "--controllers", "1"];

#[test]
fn what_ends_is_replaced_under_its_policy() {
    let lab = Lab::with("restart", ONE);
    lab.deploy(
        "r",
        r"
services:
  forever:
    image: busybox
    command: sleep 1000
",
    );
    let before = lab.running("r_forever");
    assert_eq!(before.len(), 1);
    let sleep = lab.contained("n1").into_iter().find(|process| process.name == "sleep").unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(sleep.pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    let after = eventually(30, "the killed container is replaced", || {
        let now = lab.running("r_forever");
        (now.len() == 1 && now[0].id != before[0].id).then_some(now)
    });
    assert_eq!(after[0].name, before[0].name);
    let dead = lab.tasks().into_iter().find(|task| task.id == before[0].id).unwrap();
    assert_eq!(dead.state, "failed");
    assert_eq!(dead.exit_code, Some(137), "{dead:?}");
}

#[test]
fn what_can_never_start_says_why_and_backs_off() {
    let lab = Lab::with("nosuch", ONE);
    let said = lab.try_run(&["version"]);
    assert_eq!(said.code, 0, "{said:#?}");
    let text = r"
services:
  wrong:
    image: busybox
    command: /no/such/command
";
    let file = std::env::temp_dir().join(format!("{}.yml", lab.name()));
    std::fs::write(&file, text).unwrap();
    let said =
        lab.try_run(&["deploy", "-f", file.to_str().unwrap(), "--name", "w", "--timeout", "8s"]);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(said.code, 3, "{said:#?}");
    let dead: Vec<_> = lab
        .tasks()
        .into_iter()
        .filter(|task| matches!(task.state.as_str(), "failed" | "rejected"))
        .collect();
    assert!(!dead.is_empty());
    for task in &dead {
        assert!(task.message.contains("/no/such/command"), "{task:?}");
    }
    // Eight seconds with a delay that starts at five and grows: a handful, not hundreds.
    assert!(dead.len() <= 6, "{}", dead.len());
    assert!(said.stderr.contains("/no/such/command"), "{said:#?}");
}

#[test]
fn logs_are_gathered_and_followed() {
    let lab = Lab::with("logs", ONE);
    lab.deploy(
        "l",
        r"
services:
  talk:
    image: busybox
    command: sh -c 'i=0; while true; do i=$$((i+1)); echo line $$i; echo oops >&2; sleep 0.2; done'
",
    );
    eventually(10, "ten lines are there", || {
        lab.run(&["logs", "l_talk"]).contains("line 10\n").then_some(())
    });
    let text = lab.run(&["logs", "l_talk"]);
    assert!(text.contains("line 1\n"), "{text}");
    let mut follow = lab
        .command(&["logs", "-f", "l_talk"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = std::io::BufReader::new(follow.stdout.take().unwrap());
    let mut line = String::new();
    eventually(20, "a later line is followed", || {
        line.clear();
        std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
        line.contains("line 20").then_some(())
    });
    follow.kill().unwrap();
    follow.wait().unwrap();
}
