//! Processes that run together, and their folders.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Outcome, folder};

/// Processes that end with it.
#[derive(Default)]
pub struct Members(Vec<Child>);

impl Members {
    /// Starts one; what it says goes to `log` in its folder.
    pub fn start(&mut self, command: &mut Command, folder: &Path) -> Outcome<()> {
        let log = File::create(folder.join("log"))?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        self.0.push(child);
        Ok(())
    }

    /// Kills the one that was started as this, from 0.
    pub fn stop(&mut self, at: usize) -> Outcome<()> {
        let child = self.0.get_mut(at).ok_or("no such member")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// The largest one's resident memory, MiB.
    pub fn memory(&self) -> Outcome<f64> {
        let all = (0..self.0.len()).map(|at| self.memory_of(at, "VmRSS"));
        Ok(all.collect::<Outcome<Vec<_>>>()?.into_iter().fold(0.0, f64::max))
    }

    /// What the kernel says of one's memory under this name (`VmRSS`, `VmHWM`), MiB.
    pub fn memory_of(&self, at: usize, name: &str) -> Outcome<f64> {
        let status = fs::read_to_string(self.proc(at)?.join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        Ok(kib.ok_or_else(|| format!("no {name}"))? / 1024.0)
    }

    /// Whether one has a thread of this name now.
    pub fn has_thread(&self, at: usize, name: &str) -> Outcome<bool> {
        let threads = fs::read_dir(self.proc(at)?.join("task"))?;
        // One that ends meanwhile has no name any more.
        let names =
            threads.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
        Ok(names.into_iter().any(|found| found.trim_end() == name))
    }

    fn proc(&self, at: usize) -> Outcome<PathBuf> {
        let child = self.0.get(at).ok_or("no such member")?;
        Ok(Path::new("/proc").join(child.id().to_string()))
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
pub fn folders(name: &str) -> Outcome<Vec<PathBuf>> {
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
pub fn free_ports<const N: usize>() -> Outcome<[u16; N]> {
    let listeners: Vec<TcpListener> =
        (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

/// Repeats an attempt until it succeeds, for half a minute.
pub async fn eventually<T>(attempt: impl AsyncFn() -> Outcome<T>) -> Outcome<T> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match attempt().await {
            Err(_) if Instant::now() < end => tokio::time::sleep(Duration::from_millis(50)).await,
            ended => return ended,
        }
    }
}
