//! Three processes and their folders.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use swarm_tests::bench::{Outcome, folder};

/// Processes that end with it.
#[derive(Default)]
pub(crate) struct Members(Vec<Child>);

impl Members {
    /// Starts one; what it says goes to `log` in its folder.
    pub(crate) fn start(&mut self, command: &mut Command, folder: &Path) -> Outcome<()> {
        let log = File::create(folder.join("log"))?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        self.0.push(child);
        Ok(())
    }

    /// The largest one's resident memory, MiB.
    pub(crate) fn memory(&self) -> Outcome<f64> {
        let mut largest = 0.0_f64;
        for child in &self.0 {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id()))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
            largest = largest.max(kib.ok_or("no VmRSS")? / 1024.0);
        }
        Ok(largest)
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An empty folder for each of three members.
pub(crate) fn folders(name: &str) -> Outcome<Vec<PathBuf>> {
    let all = folder()?.join(name);
    if all.exists() {
        fs::remove_dir_all(&all)?;
    }
    let folders: Vec<PathBuf> = (1..=3).map(|number| all.join(number.to_string())).collect();
    for folder in &folders {
        fs::create_dir_all(folder)?;
    }
    Ok(folders)
}

/// Ports of the loopback that nobody listens on now.
pub(crate) fn free_ports<const N: usize>() -> Outcome<[u16; N]> {
    let listeners: Vec<TcpListener> =
        (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

/// Repeats an attempt until it succeeds, for half a minute.
pub(crate) async fn eventually<T>(attempt: impl AsyncFn() -> Outcome<T>) -> Outcome<T> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match attempt().await {
            Err(_) if Instant::now() < end => tokio::time::sleep(Duration::from_millis(50)).await,
            ended => return ended,
        }
    }
}
