//! What a container must not reach, however hostile its image.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;
use swarm_runtime::SeccompChoice;

use crate::support::{DEFAULT_CAPABILITIES, Fixture};

#[test]
fn capabilities_are_dropped() {
    let said = Fixture::script("grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status").output();
    let value = |name: &str| {
        let line =
            said.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{said}"));
        line.split('\t').nth(1).unwrap().to_owned()
    };
    assert_eq!(DEFAULT_CAPABILITIES.len(), 14);
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(value(set), "00000000a80425fb", "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(value(set), "0000000000000000", "{set}");
    }
    assert_eq!((value("NoNewPrivs").as_str(), value("Seccomp:").as_str()), ("1", "2"));
}

#[test]
fn a_user_has_no_capabilities_unless_ambient() {
    let mut fixture = Fixture::script("grep CapEff /proc/self/status");
    fixture.options.user = Some("999:999".into());
    assert_eq!(fixture.output(), "CapEff:\t0000000000000000\n");
    let mut fixture = Fixture::script("grep CapEff /proc/self/status");
    fixture.options.user = Some("999:999".into());
    let capabilities = &mut fixture.config["process"]["capabilities"];
    for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
        capabilities[set] = json!(["CAP_NET_BIND_SERVICE"]);
    }
    assert_eq!(fixture.output(), "CapEff:\t0000000000000400\n");
}

#[test]
fn system_calls_are_filtered() {
    let script = "unshare -U true && echo made; mount -t tmpfs x /tmp && echo mounted; echo end";
    // Even with the capability in hand a custom profile decides.
    let mut fixture = Fixture::script("mkdir /tmp/x && echo made; echo end");
    fixture.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}],
    });
    assert_eq!(
        fixture.output(),
        "mkdir: can't create directory '/tmp/x': Permission denied\nend\n"
    );
    let said = Fixture::script(script).output();
    assert!(
        said.contains("unshare") && !said.contains("made") && !said.contains("mounted"),
        "{said}"
    );
    let mut fixture =
        Fixture::script("grep Seccomp: /proc/self/status; unshare -U true && echo made");
    fixture.options.seccomp = SeccompChoice::Unconfined;
    assert_eq!(fixture.output(), "Seccomp:\t0\nmade\n");
}

#[test]
fn the_filter_also_holds_without_no_new_privileges() {
    let mut fixture = Fixture::script(
        "grep -E 'Seccomp:|NoNew' /proc/self/status; unshare -U true && echo made; true",
    );
    fixture.config["process"]["noNewPrivileges"] = json!(false);
    let said = fixture.output();
    assert!(said.contains("NoNewPrivs:\t0") && said.contains("Seccomp:\t2"), "{said}");
    assert!(!said.contains("made"), "{said}");
}

#[test]
fn parts_of_the_kernel_are_hidden_or_read_only() {
    let said = Fixture::script(
        "exec 2>&1; for f in /proc/kcore /proc/keys /proc/timer_list; do \
           test ! -e $f || head -c 4 $f | wc -c; done; \
         ls /sys/firmware | wc -l; echo 1 > /proc/sys/kernel/panic; grep -E ' /proc/(irq|bus|fs|sys) ' /proc/self/mountinfo; \
         echo x > /sys/kernel/notes; mkdir /sys/fs/cgroup/pids/x /sys/fs/cgroup/x; echo end",
    )
    .output();
    let numbers: Vec<_> = said.lines().take_while(|line| line.parse::<u32>().is_ok()).collect();
    assert!(numbers.len() >= 3 && numbers.iter().all(|number| *number == "0"), "{said}");
    for file in ["/proc/sys/kernel/panic", "/sys/kernel/notes"] {
        let wanted = format!("{file}: Read-only file system");
        assert!(said.contains(&wanted), "{wanted} in {said}");
    }
    let read_only = said.lines().filter(|line| line.contains(" /proc/") && line.contains(" ro,"));
    assert_eq!(read_only.count(), 4, "{said}");
    assert!(said.contains("'/sys/fs/cgroup/x': Read-only file system"), "{said}");
}

#[test]
fn a_container_sees_its_own_processes_and_groups_only() {
    let said =
        Fixture::script("ps -o pid | wc -l; cat /proc/self/cgroup; cat /proc/1/cgroup").output();
    let processes: u32 = said.lines().next().unwrap().trim().parse().unwrap();
    assert!(processes <= 4, "{said}");
    for line in said.lines().skip(1).filter(|line| line.contains("pids") || line.starts_with("0::"))
    {
        assert!(line.ends_with(":/"), "{line}");
    }
    assert!(!said.contains("swarm-test"), "{said}");
}

#[test]
fn a_read_only_root_cannot_be_written() {
    for by_config in [false, true] {
        let mut fixture = Fixture::script("touch /etc/x; touch /dev/shm/ok && echo ok");
        fixture.options.rootfs.read_only = !by_config;
        fixture.config["root"] = json!({"path": "rootfs", "readonly": by_config});
        assert_eq!(fixture.output(), "touch: /etc/x: Read-only file system\nok\n");
    }
    let mut fixture = Fixture::script("touch /etc/x; echo end");
    fixture.options.rootfs.upper_dir = None;
    fixture.options.rootfs.work_dir = None;
    fixture.options.rootfs.read_only = true;
    assert_eq!(fixture.output(), "touch: /etc/x: Read-only file system\nend\n");
}

#[test]
fn an_image_cannot_lead_mounts_or_devices_outside() {
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir(outside.path().join("dev")).unwrap();
    for (name, wanted) in [("dev", "`/dev`"), ("proc", "`/proc`"), ("sys", "`/sys`")] {
        let mut fixture = Fixture::new(&["true"]);
        fs::remove_dir(fixture.image().join(name)).unwrap();
        symlink(outside.path().join("dev"), fixture.image().join(name)).unwrap();
        let error = fixture.try_create().unwrap_err().to_string();
        assert!(error.contains(wanted) && error.contains("plain directory"), "{error}");
    }
    // Without a file system on /dev the devices themselves would go through the link.
    let mut fixture = Fixture::new(&["true"]);
    fs::remove_dir(fixture.image().join("dev")).unwrap();
    symlink(outside.path().join("dev"), fixture.image().join("dev")).unwrap();
    let mounts = fixture.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    assert!(fixture.try_create().is_err());
    assert_eq!(fs::read_dir(outside.path().join("dev")).unwrap().count(), 0);
}

#[test]
fn links_in_an_image_are_followed_inside_it() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("resolv.conf");
    fs::write(&victim, "host\n").unwrap();
    let mut fixture = Fixture::script("cat /etc/resolv.conf /data/file");
    symlink(&victim, fixture.image().join("etc/resolv.conf")).unwrap();
    symlink(
        "/../../../../..".to_owned() + outside.path().to_str().unwrap(),
        fixture.image().join("data"),
    )
    .unwrap();
    let host = fixture.dir.path().join("host");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("resolv.conf"), "ours\n").unwrap();
    fs::write(host.join("file"), "bound\n").unwrap();
    let mounts = fixture.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/etc/resolv.conf", "type": "bind", "source": host.join("resolv.conf"), "options": ["bind"]}));
    mounts.push(
        json!({"destination": "/data", "type": "bind", "source": host, "options": ["rbind"]}),
    );
    assert_eq!(fixture.output(), "ours\nbound\n");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "host\n");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn a_mount_may_not_cover_procfs_through_a_link() {
    let mut fixture = Fixture::new(&["true"]);
    symlink("/proc/self", fixture.image().join("data")).unwrap();
    fixture.config["mounts"].as_array_mut().unwrap().push(
        json!({"destination": "/data/attr", "type": "tmpfs", "source": "tmpfs", "options": []}),
    );
    let error = fixture.try_create().unwrap_err().to_string();
    assert!(error.contains("it leads into a proc file system"), "{error}");
}

#[test]
fn a_false_null_device_is_found() {
    let mut fixture = Fixture::new(&["true"]);
    let mounts = fixture.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    fs::write(fixture.image().join("dev/null"), "not null").unwrap();
    let error = fixture.try_create().unwrap_err().to_string();
    assert!(error.contains("device `/dev/null`: there is something else of that name"), "{error}");
}

#[test]
fn no_descriptor_of_the_host_leaks_in() {
    let said =
        Fixture::script("ls /proc/self/fd | wc -l; ls -l /proc/self/fd 2>/dev/null; echo").output();
    // 0, 1, 2 and the one that ls reads with.
    assert_eq!(said.lines().next(), Some("4"), "{said}");
    for number in 3..12 {
        let mut fixture = Fixture::new(&["true"]);
        fixture.config["process"]["cwd"] = json!(format!("/proc/self/fd/{number}"));
        if let Ok(container) = fixture.try_create() {
            let error = container.start().unwrap_err().to_string();
            assert!(error.contains("working directory"), "{number}: {error}");
        }
    }
}

#[test]
fn the_host_sees_no_mount_of_a_container() {
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut fixture = Fixture::new(&["sleep", "1000"]);
    let container = fixture.start();
    let during = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let marker = fixture.bundle();
    assert!(!during.contains(marker.to_str().unwrap()), "{during}");
    assert_eq!(before.lines().count(), during.lines().count());
    let inside = fs::read_to_string(format!("/proc/{}/mountinfo", pid(&container))).unwrap();
    assert!(!inside.contains("/work/") && !inside.contains(marker.to_str().unwrap()), "{inside}");
}

fn pid(container: &swarm_runtime::Container) -> i32 {
    match container.status().unwrap() {
        swarm_runtime::ContainerStatus::Running { pid, .. } => pid,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_programs_file_is_the_sealed_copy() {
    let mut fixture = Fixture::new(&["sleep", "1000"]);
    fixture.options.init = true;
    let container = fixture.start();
    let exe = fs::read_link(format!("/proc/{}/exe", pid(&container))).unwrap();
    assert!(exe.to_str().unwrap().starts_with("/memfd:swarm-runtime"), "{exe:?}");
    assert!(Path::new("/proc/self/exe").exists());
}

#[test]
fn a_pipe_as_user_file_does_not_hold_up_the_start() {
    let mut fixture = Fixture::new(&["true"]);
    let passwd = fixture.image().join("etc/passwd");
    fs::remove_file(&passwd).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&passwd).status().unwrap();
    assert!(made.success());
    let error = fixture.try_create().unwrap_err().to_string();
    assert!(error.contains("`/etc/passwd`: not a regular file"), "{error}");
}

/// Tells a thread to stop, also when a test fails.
struct StopAtEnd<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// CVE-2021-30465: another container that shares a volume exchanges a folder for a link while the
/// runtime mounts onto it.
#[test]
fn a_volume_that_changes_under_a_mount_leads_nowhere() {
    let volume = tempfile::tempdir().unwrap();
    let sentinel = tempfile::tempdir().unwrap();
    fs::write(sentinel.path().join("here"), "host\n").unwrap();
    let (place, aside) = (volume.path().join("place"), volume.path().join("aside"));
    fs::create_dir(&place).unwrap();
    symlink(sentinel.path(), &aside).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let both = rustix::fs::RenameFlags::EXCHANGE;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let cwd = rustix::fs::CWD;
                rustix::fs::renameat_with(cwd, &place, cwd, &aside, both).unwrap();
            }
        });
        let _stop = StopAtEnd(&stop);
        for _ in 0..15 {
            let mut fixture = Fixture::new(&["sleep", "1000"]);
            let mounts = fixture.config["mounts"].as_array_mut().unwrap();
            mounts.push(json!({"destination": "/vol", "type": "bind", "source": volume.path(), "options": ["rbind"]}));
            mounts.push(json!({"destination": "/vol/place", "type": "tmpfs", "source": "tmpfs", "options": []}));
            // It may fail when the folder is a link at that moment; it may not mount elsewhere.
            if let Ok(container) = fixture.try_create() {
                container.start().unwrap();
                let inside =
                    fs::read_to_string(format!("/proc/{}/mountinfo", pid(&container))).unwrap();
                let points: Vec<_> =
                    inside.lines().filter_map(|line| line.split(' ').nth(4)).collect();
                let strange =
                    points.iter().filter(|point| point.contains("here") || **point == "/..");
                assert_eq!(strange.count(), 0, "{inside}");
            }
            assert_eq!(fs::read_to_string(sentinel.path().join("here")).unwrap(), "host\n");
            assert_eq!(fs::read_dir(sentinel.path()).unwrap().count(), 1);
        }
    });
}
