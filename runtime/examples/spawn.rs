//! Measures what one container costs: time from creation to deletion, and the memory of its shim.
//!
//! `cargo run --release --example spawn -- [RUNS] [JSON-FILE]`, as root, with a static busybox
//! installed. Prints a table, and writes the figures to the file when one is named.

use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use swarm_runtime::{
    CgroupSpec, Container, CreateOptions, Limits, LogOptions, RootfsSpec, SeccompChoice,
    ShimProgram, cgroup,
};

/// How many containers stand at a time when memory is measured.
const STANDING: usize = 20;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let runs: usize = arguments.next().map_or(Ok(50), |runs| runs.parse())?;
    let file = arguments.next().map(PathBuf::from);
    let folder = std::env::temp_dir().join(format!("swarm-spawn-{}", std::process::id()));
    make_image(&folder.join("image"))?;
    let outcome = measure(&folder, runs);
    fs::remove_dir_all(&folder)?;
    cgroup::remove_parent(&parent())?;
    let rows = outcome?;
    for row in &rows {
        let (case, unit) = (row["case"].as_str(), row["unit"].as_str());
        let (case, unit) = (case.unwrap_or_default(), unit.unwrap_or_default());
        show(&format!("{case:<42} {:>9.2} {unit}", row["ours"].as_f64().unwrap_or_default()));
    }
    if let Some(file) = file {
        fs::write(file, serde_json::to_string_pretty(&rows)?)?;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a bench's figures go to standard output")]
fn show(line: &str) {
    println!("{line}");
}

fn measure(folder: &Path, runs: usize) -> Outcome<Vec<Value>> {
    let own = std::env::current_exe()?;
    let beside = own.parent().and_then(Path::parent).map(|dir| dir.join("swarm-runtime"));
    let program = ShimProgram::seal(&beside.ok_or("no folder for the runtime program")?)?;
    let mut phases: [Vec<Duration>; 4] = Default::default();
    for run in 0..runs + 3 {
        let times = one_life(folder, &program, run)?;
        // The first few warm caches up.
        if run >= 3 {
            for (phase, time) in phases.iter_mut().zip(times) {
                phase.push(time);
            }
        }
    }
    let mut rows = Vec::new();
    let cases =
        ["container: create", "container: start to exit", "container: delete", "container: all"];
    for (case, mut times) in cases.into_iter().zip(phases) {
        times.sort();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        rows.push(row(case, "ms", median.as_secs_f64() * 1000.0));
    }
    rows.extend(memory(folder, &program)?);
    Ok(rows)
}

fn row(case: &str, unit: &str, ours: f64) -> Value {
    json!({"case": case, "unit": unit, "better": "lower", "ours": ours, "peers": {}})
}

fn one_life(folder: &Path, program: &ShimProgram, run: usize) -> Outcome<[Duration; 4]> {
    let options = options(folder, &format!("t{run}"), &["true"])?;
    let begin = Instant::now();
    let container = Container::create(program, options)?;
    let created = Instant::now();
    container.start()?;
    let record = container.wait()?;
    let ended = Instant::now();
    container.delete()?;
    let deleted = Instant::now();
    if record.code != 0 {
        return Err(format!("the container ended with {record:?}").into());
    }
    Ok([created - begin, ended - created, deleted - ended, deleted - begin])
}

fn memory(folder: &Path, program: &ShimProgram) -> Outcome<Vec<Value>> {
    let containers: Vec<_> = (0..STANDING)
        .map(|number| {
            let options = options(folder, &format!("m{number}"), &["sleep", "1000"])?;
            let container = Container::create(program, options)?;
            container.start()?;
            Ok(container)
        })
        .collect::<Outcome<_>>()?;
    let (mut proportional, mut anonymous) = (0, 0);
    for container in &containers {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", container.shim_pid()))?;
        proportional += kibibytes(&rollup, "Pss:");
        anonymous += kibibytes(&rollup, "Pss_Anon:");
    }
    for container in containers {
        container.delete()?;
    }
    let average = |sum: u32| f64::from(sum) / f64::from(u32::try_from(STANDING).unwrap_or(1));
    Ok(vec![
        row("shim: proportional memory, 20 standing", "KiB", average(proportional)),
        row("shim: private memory, 20 standing", "KiB", average(anonymous)),
    ])
}

fn kibibytes(rollup: &str, name: &str) -> u32 {
    let line = rollup.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn parent() -> String {
    format!("swarm-spawn-{}", std::process::id())
}

fn options(folder: &Path, name: &str, command: &[&str]) -> Outcome<CreateOptions> {
    let dir = folder.join(name);
    fs::create_dir(&dir)?;
    fs::write(dir.join("config.json"), config(command).to_string())?;
    Ok(CreateOptions {
        id: name.into(),
        rootfs: RootfsSpec {
            lower_dirs: vec![folder.join("image")],
            upper_dir: Some(dir.join("upper")),
            work_dir: Some(dir.join("work")),
            read_only: false,
        },
        dir,
        user: None,
        init: false,
        seccomp: SeccompChoice::Default,
        groups: Vec::new(),
        stdin_open: false,
        log: LogOptions::default(),
        passed_fds: Vec::new(),
        cgroup: CgroupSpec { parent: parent(), name: name.into(), limits: Limits::default() },
        fence: None,
    })
}

fn make_image(image: &Path) -> Outcome<()> {
    for name in ["bin", "etc", "proc", "sys", "dev"] {
        fs::create_dir_all(image.join(name))?;
    }
    let places = ["/bin/busybox", "/usr/bin/busybox"];
    let busybox = places.into_iter().find(|path| Path::new(path).exists());
    fs::copy(busybox.ok_or("install busybox-static first")?, image.join("bin/busybox"))?;
    symlink("busybox", image.join("bin/true"))?;
    symlink("busybox", image.join("bin/sleep"))?;
    Ok(())
}

fn config(command: &[&str]) -> Value {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    let secure = ["nosuid", "noexec", "nodev"];
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "args": command, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0},
            "noNewPrivileges": true,
            "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
        },
        "hostname": "bench",
        "mounts": [
            mount("/proc", "proc", &secure),
            mount("/dev", "tmpfs", &["nosuid", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/dev/mqueue", "mqueue", &secure),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777"]),
        ],
        "linux": {
            "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "network"}, {"type": "cgroup"}],
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/scsi", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
