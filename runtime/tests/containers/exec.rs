//! Further programs in a running container.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use swarm_runtime::exec::resize;
use swarm_runtime::{Container, Exec, ExecError, ExecOptions, ExecStreams, TerminalSize};

use crate::support::{Fixture, eventually, lives, program};

fn command(arguments: &[&str]) -> ExecOptions {
    let arguments = arguments.iter().map(|&each| each.to_owned()).collect();
    ExecOptions { arguments, ..ExecOptions::default() }
}

fn script(text: &str) -> ExecOptions {
    command(&["sh", "-c", text])
}

fn start(container: &Container, options: ExecOptions) -> (Exec, ExecStreams) {
    container.exec(program(), options).unwrap_or_else(|error| panic!("{error}"))
}

fn all_of(stream: OwnedFd) -> String {
    let mut text = String::new();
    File::from(stream).read_to_string(&mut text).unwrap();
    text
}

/// Runs to the end: exit code, output, errors.
fn run(container: &Container, options: ExecOptions) -> (i32, String, String) {
    let (exec, streams) = start(container, options);
    let ExecStreams::Pipes { output, errors, .. } = streams else { panic!("{streams:?}") };
    let said = (all_of(output), all_of(errors));
    (exec.end().unwrap().code, said.0, said.1)
}

/// Reads a terminal until it has shown this.
fn shows(terminal: &mut File, wanted: &str) -> String {
    let mut shown = String::new();
    while !shown.contains(wanted) {
        let mut buffer = [0; 256];
        let got = terminal.read(&mut buffer).unwrap_or(0);
        assert!(got > 0, "the terminal ended after {shown:?}");
        shown.push_str(std::str::from_utf8(&buffer[..got]).unwrap());
    }
    shown
}

#[test]
fn it_is_as_the_containers_own_program() {
    let look = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:)' /proc/self/status; pwd; hostname; \
                for n in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$n; done; \
                cat /proc/self/cgroup /proc/self/oom_score_adj; env; ls /";
    let mut fixture = Fixture::script(&format!("{{ {look}; }} >/tmp/own 2>&1; sleep 1000"));
    fixture.options.user = Some("redis".into());
    fixture.config["process"]["env"] = serde_json::json!(["PATH=/bin", "COLOUR=blue"]);
    fixture.config["process"]["cwd"] = "/var".into();
    fixture.config["process"]["oomScoreAdj"] = 321.into();
    std::fs::set_permissions(
        fixture.image().join("tmp"),
        std::os::unix::fs::PermissionsExt::from_mode(0o1777),
    )
    .unwrap();
    let container = fixture.start();
    let own = || run(&container, command(&["cat", "/tmp/own"])).1;
    eventually("the program's own look", || own().contains("bin\n"));
    let (code, seen, errors) = run(&container, script(look));
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(seen.contains("NoNewPrivs:\t1") && seen.contains("COLOUR=blue"), "{seen}");
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&seen), sorted(&own()));
}

#[test]
fn it_may_differ_where_that_is_asked() {
    let mut fixture = Fixture::new(&["sleep", "1000"]);
    let container = fixture.start();
    let options = ExecOptions {
        user: Some("redis".into()),
        directory: Some("/tmp".into()),
        environment: vec!["COLOUR=red".into(), "PATH=/bin".into()],
        ..script("id; pwd; echo $COLOUR $HOME $PATH")
    };
    let (code, said, _) = run(&container, options);
    assert_eq!(code, 0);
    assert_eq!(
        said,
        "uid=999(redis) gid=1000(redis) groups=77(extra),1000(redis)\n/tmp\nred /var /bin\n"
    );
    for (options, wanted) in [
        (ExecOptions { user: Some("nobody".into()), ..script("id") }, "user `nobody` is not in"),
        (ExecOptions { directory: Some("/none".into()), ..script("id") }, "directory `/none`"),
        (ExecOptions { directory: Some("/proc/1/fd/3".into()), ..script("id") }, "directory"),
    ] {
        let Err(ExecError::Program { reason, code }) = container.exec(program(), options) else {
            panic!("{wanted}")
        };
        assert!(reason.contains(wanted), "{reason}");
        assert_eq!(code, 126);
    }
}

#[test]
fn exit_codes_are_as_a_shells() {
    let mut fixture = Fixture::new(&["sleep", "1000"]);
    let container = fixture.start();
    assert_eq!(
        run(&container, script("echo out; echo err >&2; exit 7")),
        (7, "out\n".into(), "err\n".into())
    );
    assert_eq!(run(&container, script("kill -9 $$")).0, 137);
    for (name, wanted, reason) in [
        ("nothing", 127, "exec `nothing`: no such file or directory in the container's PATH"),
        ("/nothing", 127, "exec `/nothing`: no such file or directory"),
        ("/etc/passwd", 126, "exec `/etc/passwd`: permission denied"),
    ] {
        match container.exec(program(), command(&[name])) {
            Err(error @ ExecError::Program { .. }) => {
                assert_eq!(error.to_string(), reason);
                assert!(matches!(error, ExecError::Program { code, .. } if code == wanted));
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn input_goes_through_and_ends() {
    let mut fixture = Fixture::new(&["sleep", "1000"]);
    let container = fixture.start();
    let options = ExecOptions { input: true, ..command(&["wc", "-c"]) };
    let (exec, streams) = start(&container, options);
    let ExecStreams::Pipes { input: Some(input), output, .. } = streams else {
        panic!("{streams:?}")
    };
    let mut input = File::from(input);
    input.write_all(&vec![b'x'; 1_000_000]).unwrap();
    drop(input);
    assert_eq!(all_of(output), "1000000\n");
    assert_eq!(exec.end().unwrap().code, 0);
    assert_eq!(run(&container, command(&["cat"])), (0, String::new(), String::new()));
}

#[test]
fn a_terminal_has_a_size_and_passes_the_interrupt() {
    let mut fixture = Fixture::new(&["sleep", "1000"]);
    let container = fixture.start();
    let size = TerminalSize { rows: 31, columns: 77 };
    let text = "trap 'echo interrupted; exit 5' INT; \
                tty; stty size; read line; stty size; echo got $line; while :; do sleep 0.05; done";
    std::os::unix::fs::symlink("busybox", fixture.image().join("bin/stty")).unwrap();
    let (exec, streams) = start(&container, ExecOptions { terminal: Some(size), ..script(text) });
    let ExecStreams::Terminal(master) = streams else { panic!("{streams:?}") };
    let mut terminal = File::from(master);
    assert!(shows(&mut terminal, "31 77").contains("/dev/pts/"));
    resize(terminal.as_fd(), TerminalSize { rows: 40, columns: 100 }).unwrap();
    terminal.write_all(b"hello\r").unwrap();
    shows(&mut terminal, "got hello");
    terminal.write_all(b"\x03").unwrap();
    shows(&mut terminal, "interrupted");
    assert_eq!(exec.end().unwrap().code, 5);
}

#[test]
fn signals_reach_the_group() {
    let mut fixture = Fixture::new(&["sleep", "1000"]);
    let container = fixture.start();
    let text = "trap 'echo told; exit 4' TERM; echo ready; while :; do sleep 0.05; done";
    let (exec, streams) = start(&container, script(text));
    let ExecStreams::Pipes { output, .. } = streams else { panic!("{streams:?}") };
    let mut output = File::from(output);
    shows(&mut output, "ready");
    exec.signal(15).unwrap();
    shows(&mut output, "told");
    assert_eq!(exec.end().unwrap().code, 4);
}

#[test]
fn nothing_is_left_when_the_caller_goes() {
    let mut fixture = Fixture::new(&["sleep", "1000"]);
    let container = fixture.start();
    let before = container.cgroup().processes().unwrap();
    for terminal in [None, Some(TerminalSize { rows: 24, columns: 80 })] {
        // Neither the program nor what it started listens to a hang-up.
        let text = "trap '' HUP TERM; sleep 1000 & echo ready; while :; do sleep 1000; done";
        let (exec, streams) = start(&container, ExecOptions { terminal, ..script(text) });
        let (ExecStreams::Pipes { output, .. } | ExecStreams::Terminal(output)) = streams;
        let mut output = File::from(output);
        shows(&mut output, "ready");
        let with = container.cgroup().processes().unwrap();
        let new: Vec<_> = with.into_iter().filter(|pid| !before.contains(pid)).collect();
        assert!(new.len() >= 2, "{new:?}");
        drop((exec, output));
        eventually("the end of the program", || !new.iter().any(|pid| lives(*pid)));
        eventually("an empty place", || container.cgroup().processes().unwrap() == before);
    }
}

#[test]
fn a_whole_session_ends_with_its_program() {
    let mut fixture = Fixture::new(&["sleep", "1000"]);
    let container = fixture.start();
    let before = container.cgroup().processes().unwrap();
    // It closes the streams, or reading them to their end would wait for it.
    let text = "trap '' HUP TERM; sleep 1000 >/dev/null 2>&1 & exit 3";
    let (code, ..) = run(&container, script(text));
    assert_eq!(code, 3);
    let left = container.cgroup().processes().unwrap();
    assert!(left.len() > before.len(), "without a word it stays: {left:?}");
    let (code, ..) = run(&container, ExecOptions { whole_session: true, ..script(text) });
    assert_eq!(code, 3);
    assert_eq!(container.cgroup().processes().unwrap().len(), left.len());
}

#[test]
fn no_descriptor_of_the_host_leaks_in() {
    let mut fixture = Fixture::new(&["sleep", "1000"]);
    let container = fixture.start();
    let options = ExecOptions { input: true, ..script("ls -l /proc/self/fd; ls -l /proc/$$/fd") };
    let (_, said, _) = run(&container, options);
    let descriptors = said.lines().filter(|line| line.contains(" -> ")).count();
    // The three streams twice, and the folder that the first `ls` lists.
    assert!(descriptors <= 8, "{said}");
    for line in said.lines().filter(|line| line.contains(" -> ")) {
        assert!(line.contains("pipe:") || line.contains("/proc/"), "{said}");
    }
}

#[test]
fn it_ends_with_its_container() {
    let mut fixture = Fixture::new(&["sleep", "1000"]);
    let container = fixture.start();
    let (exec, _streams) = start(&container, command(&["sleep", "1000"]));
    container.kill(9, true).unwrap();
    assert_eq!(exec.end().unwrap().code, 137);
    container.wait().unwrap();
    let error = container.exec(program(), command(&["true"])).unwrap_err();
    assert!(matches!(error, ExecError::NotRunning(_)), "{error}");
}
