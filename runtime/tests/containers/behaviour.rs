//! What a program finds in its container, and what its caller learns.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;
use swarm_runtime::{Container, ContainerError, ContainerStatus};

use crate::support::{Fixture, eventually};

#[test]
fn hello() {
    let mut fixture = Fixture::new(&["echo", "hello"]);
    let container = fixture.create();
    let ContainerStatus::Created { pid } = container.status().unwrap() else {
        panic!("not created")
    };
    assert!(pid > 1);
    assert_eq!(fixture.said(), "");
    container.start().unwrap();
    let record = container.wait().unwrap();
    assert_eq!((record.code, record.signal, record.oom_killed), (0, None, false));
    assert!(record.started_at_ms.unwrap() <= record.finished_at_ms);
    assert_eq!(record.message, None);
    assert_eq!(container.status().unwrap(), ContainerStatus::Exited(record.clone()));
    assert_eq!(fixture.said(), "hello\n");
    container.start().unwrap();
    container.delete().unwrap();
    container.delete().unwrap();
    assert_eq!(container.status().unwrap(), ContainerStatus::Exited(record));
}

#[test]
fn exit_codes_and_signals_are_told() {
    let (record, _) = Fixture::script("exit 7").run();
    assert_eq!((record.code, record.signal), (7, None));
    let mut fixture = Fixture::new(&["sleep", "1000"]);
    let container = fixture.start();
    assert!(matches!(container.status().unwrap(), ContainerStatus::Running { .. }));
    // Process 1 of a namespace ignores what it does not handle, but for SIGKILL.
    container.kill(15, false).unwrap();
    container.kill(9, false).unwrap();
    let record = container.wait().unwrap();
    assert_eq!((record.code, record.signal), (137, Some(9)));
    container.kill(9, false).unwrap();
}

#[test]
fn a_small_init_passes_signals_on_and_buries_orphans() {
    let mut fixture = Fixture::script("(sleep 0.01 &) ; sleep 1000");
    fixture.options.init = true;
    let container = fixture.start();
    container.kill(15, false).unwrap();
    assert_eq!(container.wait().unwrap().code, 143);
    container.delete().unwrap();

    let mut fixture = Fixture::script("(true &) ; sleep 0.2 ; ps -o pid,stat,args; exit 5");
    fixture.options.init = true;
    let (record, said) = fixture.run();
    assert_eq!(record.code, 5, "{said}");
    assert!(!said.contains(" Z "), "{said}");
}

#[test]
fn a_program_that_cannot_be_run_is_a_clear_error() {
    let cases = [
        (
            "nothing-here",
            127,
            "exec `nothing-here`: no such file or directory in the container's PATH",
        ),
        ("/bin/nothing", 127, "exec `/bin/nothing`: no such file or directory"),
        ("/etc/passwd", 126, "exec `/etc/passwd`: permission denied"),
        ("/bin/text", 126, "exec `/bin/text`: exec format error"),
    ];
    for (program, code, wanted) in cases {
        for init in [false, true] {
            let mut fixture = Fixture::new(&[program]);
            fixture.options.init = init;
            let text = fixture.image().join("bin/text");
            fs::write(&text, "no program\n").unwrap();
            fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).unwrap();
            let container = fixture.create();
            let Err(error) = container.start() else { panic!("`{program}` runs, init {init}") };
            assert!(matches!(error, ContainerError::Start { .. }));
            assert!(error.to_string().ends_with(wanted), "{error}");
            let ContainerStatus::Exited(record) = container.status().unwrap() else {
                panic!("not exited")
            };
            assert_eq!((record.code, record.message.as_deref()), (code, Some(wanted)));
            assert!(container.start().unwrap_err().to_string().ends_with(wanted));
        }
    }
}

#[test]
fn environment_directory_and_name_are_as_asked() {
    let mut fixture =
        Fixture::script("pwd; echo $GREETING $HOME; hostname; umask; id; stat -c %a / /srv/made");
    fixture.config["process"]["env"] = json!(["PATH=/bin", "GREETING=hi there"]);
    fixture.config["process"]["cwd"] = json!("/srv/made/here");
    fixture.config["process"]["user"] = json!({"uid": 0, "gid": 0, "umask": 63});
    assert_eq!(
        fixture.output(),
        "/srv/made/here\nhi there /root\nweb\n0077\nuid=0(root) gid=0(root)\n755\n755\n"
    );
}

#[test]
fn users_are_those_of_the_image() {
    let mut fixture = Fixture::script("id; echo $HOME; echo again > /dev/stdout");
    fixture.options.user = Some("redis".into());
    assert_eq!(
        fixture.output(),
        "uid=999(redis) gid=1000(redis) groups=77(extra),1000(redis)\n/var\nagain\n"
    );
    let mut fixture = Fixture::script("id");
    fixture.options.user = Some("nobody-there".into());
    let error = fixture.try_create().unwrap_err().to_string();
    assert!(error.contains("user `nobody-there` is not in the image's /etc/passwd"), "{error}");
}

#[test]
fn both_streams_are_logged_apart_and_last_words_are_kept() {
    let mut fixture = Fixture::script("echo out; echo err >&2; printf 'no end'");
    let container = fixture.start();
    container.wait().unwrap();
    let log = fs::read_to_string(container.log_path()).unwrap();
    let lines: Vec<Vec<&str>> = log.lines().map(|line| line.splitn(4, ' ').collect()).collect();
    assert_eq!(lines.len(), 3, "{log}");
    for wanted in [["stdout", "F", "out"], ["stderr", "F", "err"], ["stdout", "F", "no end"]] {
        assert!(lines.iter().any(|line| line[1..] == wanted), "{wanted:?} in {log}");
    }
    let time = lines[0][0];
    assert!(time.len() == 30 && time.ends_with('Z') && time.as_bytes()[19] == b'.', "{time}");
}

#[test]
fn logs_are_bounded_and_long_lines_are_parts() {
    let mut fixture = Fixture::script("seq 1 60000; head -c 40000 /dev/zero; echo; echo end");
    fixture.options.log.limits.max_bytes = 200_000;
    let container = fixture.start();
    assert_eq!(container.wait().unwrap().code, 0);
    let size = |name: &str| fs::metadata(fixture.bundle().join(name)).unwrap().len();
    assert!(size("container.log") <= 200_000 && size("container.log.1") <= 200_000);
    assert!(!fixture.bundle().join("container.log.2").exists());
    let log = fs::read(container.log_path()).unwrap();
    let text = String::from_utf8_lossy(&log);
    assert!(text.ends_with("stdout F end\n"), "{}", &text[text.len() - 100..]);
    assert_eq!(text.lines().filter(|line| line.contains(" P \0")).count(), 2);
}

#[test]
fn mounts_are_made_as_asked() {
    let mut fixture = Fixture::script(
        "exec 2>&1; cat /etc/hosts; echo new > /data/file; cat /data/file; \
         echo no > /fixed/file || echo refused; stat -c %a /scratch; echo $(( $(stat -f -c %b*%s /scratch) ))",
    );
    let host = fixture.dir.path().join("host");
    fs::create_dir_all(host.join("data")).unwrap();
    fs::create_dir_all(host.join("fixed")).unwrap();
    fs::write(host.join("hosts"), "10.0.0.2 redis\n").unwrap();
    let mounts = fixture.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/etc/hosts", "type": "bind", "source": host.join("hosts"), "options": ["bind", "ro"]}));
    mounts.push(json!({"destination": "/data", "type": "bind", "source": host.join("data"), "options": ["rbind", "rprivate"]}));
    mounts.push(json!({"destination": "/fixed", "type": "bind", "source": host.join("fixed"), "options": ["rbind", "ro"]}));
    mounts.push(json!({"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "mode=1770"]}));
    let said = fixture.output();
    assert!(said.starts_with("10.0.0.2 redis\nnew\n"), "{said}");
    assert!(said.contains("Read-only file system\nrefused\n1770\n1048576\n"), "{said}");
    assert_eq!(fs::read_to_string(host.join("data/file")).unwrap(), "new\n");
}

#[test]
fn changes_go_to_the_upper_layer_and_upper_layers_win() {
    let mut fixture = Fixture::script("cat /etc/motd; echo changed > /etc/motd");
    let layer = fixture.dir.path().join("layer");
    fs::create_dir_all(layer.join("etc")).unwrap();
    fs::write(layer.join("etc/motd"), "above\n").unwrap();
    fs::write(fixture.image().join("etc/motd"), "below\n").unwrap();
    fixture.options.rootfs.lower_dirs.insert(0, layer.clone());
    assert_eq!(fixture.output(), "above\n");
    assert_eq!(fs::read_to_string(layer.join("etc/motd")).unwrap(), "above\n");
    let upper = fixture.dir.path().join("upper/etc/motd");
    assert_eq!(fs::read_to_string(upper).unwrap(), "changed\n");
}

#[test]
fn deep_images_mount() {
    let mut fixture = Fixture::script("cat /etc/motd; ls /layers | wc -l");
    for number in 0..100 {
        let layer = fixture.dir.path().join(format!("layer-{number}"));
        fs::create_dir_all(layer.join("layers")).unwrap();
        fs::create_dir_all(layer.join("etc")).unwrap();
        fs::write(layer.join(format!("layers/{number}")), "").unwrap();
        fs::write(layer.join("etc/motd"), format!("{number}\n")).unwrap();
        fixture.options.rootfs.lower_dirs.insert(0, layer);
    }
    assert_eq!(fixture.output(), "99\n100\n");
}

#[test]
fn a_terminal_is_a_terminal() {
    let mut fixture = Fixture::script("tty; test -t 1 && echo yes; ls -l /dev/console | head -c 1");
    fixture.config["process"]["terminal"] = json!(true);
    let said = fixture.output().replace('\r', "");
    assert_eq!(said, "/dev/pts/0\nyes\nc\n");
}

#[test]
fn sysctl_and_loopback_belong_to_the_container() {
    let mut fixture = Fixture::script(
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; cat /sys/class/net/lo/flags; ls /sys/class/net",
    );
    fixture.config["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "0"});
    assert_eq!(fixture.output(), "0\n0x9\nlo\n");
}

#[test]
fn a_failed_creation_leaves_nothing_and_names_the_reason() {
    let mut fixture = Fixture::new(&["true"]);
    fixture.config["mounts"].as_array_mut().unwrap().push(
        json!({"destination": "/data", "type": "bind", "source": "/no/such/place", "options": ["rbind"]}),
    );
    let error = fixture.try_create().unwrap_err().to_string();
    assert!(
        error.ends_with(
            "mount `/data`: could not open source `/no/such/place`: no such file or directory"
        ),
        "{error}"
    );
    let left: Vec<_> = fs::read_dir(fixture.bundle())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "config.json" && name != "container.log")
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(matches!(Container::open(&fixture.bundle()), Err(ContainerError::NotFound(_))));
}

#[test]
fn creating_twice_is_refused_and_waiting_works_from_several_places() {
    let mut fixture = Fixture::script("sleep 0.3; exit 3");
    let container = fixture.create();
    assert!(matches!(fixture.try_create(), Err(ContainerError::Exists(_))));
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            let container = container.clone();
            std::thread::spawn(move || container.wait().unwrap().code)
        })
        .collect();
    container.start().unwrap();
    for waiter in waiters {
        assert_eq!(waiter.join().unwrap(), 3);
    }
    eventually("the shim's end", || !crate::support::lives(container.shim_pid()));
}
