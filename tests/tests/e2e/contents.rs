//! Secrets and configs: from the workstation into containers' memory, and nowhere else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::lab::{Lab, eventually};

/// Easy to find, wherever it is not to be.
const FIRST: &str = "correct-horse-7194-battery";
const SECOND: &str = "wrong-donkey-2216-lantern";
const OUTSIDE: &str = "purple-otter-5583-candle";

const STACK: &str = r#"
services:
  app:
    image: busybox
    command: sleep 100000
    stop_grace_period: 1s
    secrets:
      - token
      - {source: token, target: /etc/app/token, uid: "1000", gid: "1001", mode: 0400}
      - outside
    configs:
      - {source: page, target: /srv/page}
    volumes: ["./say.sh:/bin/say:ro"]
secrets:
  token: {file: ./token}
  outside: {external: true}
configs:
  page: {content: "hello, hosts"}
"#;

/// What the container shows of a command of its shell.
fn shown(lab: &Lab, script: &str) -> String {
    lab.run(&["exec", "c_app.1", "sh", "-c", script])
}

/// The only task of the service, once it runs.
fn task(lab: &Lab) -> String {
    eventually(30, "the service runs", || {
        let running = lab.running("c_app");
        (running.len() == 1).then(|| running[0].id.clone())
    })
}

/// Places on the host, other than the files themselves, that hold one of the secrets.
fn leaks(lab: &Lab) -> String {
    let words = [FIRST, SECOND, OUTSIDE].map(|word| format!("-e {word}")).join(" ");
    let places = "/var/lib/swarm /run/swarm /etc/swarm /var/log";
    let script =
        format!("grep -rlaF -D skip {words} --exclude-dir=files {places} 2>/dev/null; true");
    let on_host = lab.exec("n1", &["sh", "-c", &script]);
    let logs = lab.lab("logs", &["n1"]);
    let told = [
        lab.run(&["secret", "ls", "-o", "json"]),
        lab.run(&["secret", "inspect", "outside", "c_token"]),
        lab.run(&["service", "inspect", "c_app"]),
        lab.run(&["stack", "ls", "-o", "json"]),
    ];
    let said = told
        .iter()
        .chain([&logs])
        .filter(|text| [FIRST, SECOND, OUTSIDE].iter().any(|word| text.contains(word)));
    said.fold(on_host, |all, text| all + text)
}

/// What the stack says of its files is so in the container, and nowhere else.
fn show_as_asked(lab: &Lab) {
    assert_eq!(
        shown(lab, "cat /run/secrets/token /run/secrets/outside"),
        FIRST.to_owned() + OUTSIDE
    );
    assert_eq!(shown(lab, "cat /srv/page; say"), "hello, hostsfrom a file\n");
    let modes = "stat -c '%a %u %g' /run/secrets/token /etc/app/token /bin/say";
    assert_eq!(shown(lab, modes), "444 0 0\n400 1000 1001\n555 0 0\n");
    let mounts = shown(lab, "grep -E ' (/run/secrets/|/etc/app/|/srv/page|/bin/say)' /proc/mounts");
    assert_eq!(mounts.lines().count(), 5, "{mounts}");
    assert!(mounts.lines().all(|line| line.contains(" tmpfs ro,nosuid,nodev")), "{mounts}");
    assert_eq!(shown(lab, "echo x 2>/dev/null >/srv/page || echo refused"), "refused\n");
    assert_eq!(leaks(lab), "");
}

#[test]
fn files_of_the_workstation_reach_containers_in_memory() {
    let lab = Lab::with("contents", &["--hosts", "1", "--controllers", "1"]);
    let beside = |name: &str, text: &str| {
        let path = lab.settings().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let script = beside("say.sh", "#!/bin/sh\necho from a file\n");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    beside("token", FIRST);
    let said = lab.try_deploy("c", STACK);
    assert_eq!(said.code, 1, "{said:#?}");
    assert!(said.stderr.contains("there is no secret `outside`"), "{said:#?}");
    let outside = beside("outside", OUTSIDE);
    lab.run(&["secret", "create", "outside", outside.to_str().unwrap(), "--label", "a=b"]);
    lab.deploy("c", STACK);
    let first = task(&lab);

    show_as_asked(&lab);
    lab.run(&["doctor"]);
    let said = lab.try_run(&["secret", "rm", "outside"]);
    assert_eq!(said.code, 1, "{said:#?}");
    assert!(said.stderr.contains("secret `outside` is in use by service `c_app`"), "{said:#?}");

    // Another content is another spec: the task is replaced. The same again changes nothing.
    beside("token", SECOND);
    lab.deploy("c", STACK);
    let second = task(&lab);
    assert_ne!(first, second);
    assert_eq!(shown(&lab, "cat /run/secrets/token"), SECOND);
    let said = lab.deploy("c", STACK);
    assert!(said.stderr.contains("is unchanged"), "{said:#?}");

    // The agent forgets them with its process; what runs keeps them, and what follows gets them again.
    let killed = lab.program("n1", "agent").unwrap();
    lab.kill_program("n1", "agent");
    eventually(30, "another agent runs", || {
        lab.program("n1", "agent").filter(|pid| *pid != killed).map(drop)
    });
    eventually(30, "the agent is back", || {
        let read = lab.try_run(&["exec", "c_app.1", "cat", "/run/secrets/token"]);
        (read.code == 0 && read.stdout == SECOND).then_some(())
    });
    assert_eq!(task(&lab), second);
    let sleep = lab.contained("n1").into_iter().find(|process| process.name == "sleep").unwrap();
    let pid = nix::unistd::Pid::from_raw(sleep.pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually(30, "the killed task is replaced", || (task(&lab) != second).then_some(()));
    assert_eq!(shown(&lab, "cat /run/secrets/token"), SECOND);
    assert_eq!(leaks(&lab), "");

    lab.run(&["stack", "rm", "c"]);
    eventually(30, "the secret can be removed", || {
        (lab.try_run(&["secret", "rm", "outside"]).code == 0).then_some(())
    });
    eventually(30, "nothing is mounted any more", || {
        let mounts = lab.exec("n1", &["cat", "/proc/self/mountinfo"]);
        (!mounts.contains("/files ")).then_some(())
    });
    assert_eq!(lab.run(&["secret", "ls", "-o", "name"]), "");
}
