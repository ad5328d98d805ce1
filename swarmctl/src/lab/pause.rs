//! Freezing a host as a hypervisor does: no process of it runs, its network is there, nobody is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::error::Error;

/// Stops every process of a host, the first one first, so that nothing is restarted meanwhile.
pub(super) fn pause(first: Pid) -> Result<(), Error> {
    signal(first, Signal::SIGSTOP)?;
    // A process may have had time to start another one: until there is none that still runs.
    loop {
        let running: Vec<Pid> =
            family(first).into_iter().filter(|process| !is_paused(*process)).collect();
        if running.is_empty() {
            return Ok(());
        }
        for process in running {
            signal(process, Signal::SIGSTOP)?;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Lets every process of a host run on, the first one last.
pub(super) fn resume(first: Pid) -> Result<(), Error> {
    for process in family(first).into_iter().rev() {
        signal(process, Signal::SIGCONT)?;
    }
    Ok(())
}

/// Whether a process is stopped, or has nothing left to run.
pub(super) fn is_paused(process: Pid) -> bool {
    let Some((state, _)) = read_stat(process.as_raw()) else { return true };
    matches!(state, 'T' | 't' | 'Z' | 'X')
}

fn signal(process: Pid, signal: Signal) -> Result<(), Error> {
    match kill(process, signal) {
        Ok(()) | Err(nix::Error::ESRCH) => Ok(()),
        Err(error) => Err(Error::system(format!("signal process {process}"))(error)),
    }
}

/// A process and everything that descends from it. Orphans belong to a host's first process, so that is all of it.
fn family(first: Pid) -> Vec<Pid> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let process = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some((process, (_, parent))) =
            process.and_then(|process| Some((process, read_stat(process)?)))
        {
            children.entry(parent).or_default().push(process);
        }
    }
    let mut found = vec![first.as_raw()];
    let mut seen = BTreeSet::from([first.as_raw()]);
    let mut next = 0;
    while let Some(process) = found.get(next).copied() {
        next += 1;
        for child in children.get(&process).into_iter().flatten() {
            if seen.insert(*child) {
                found.push(*child);
            }
        }
    }
    found.into_iter().map(Pid::from_raw).collect()
}

/// State and parent of a process. Its name may hold anything, so what follows the last bracket is read.
fn read_stat(process: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = stat.rsplit(") ").next()?.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
