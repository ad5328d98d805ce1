//! One run of a program. This program runs itself in between: the kernel tells a process the peak memory of its
//! children together, and here each has one child.
#![expect(clippy::print_stdout, reason = "tells its parent what it measured")]

use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use swarm_tests::bench::{Outcome, output};

/// What a run took.
pub(crate) struct Run {
    /// From start to exit.
    pub(crate) milliseconds: f64,
    /// The most resident memory at a time. What starts it has about 2 MiB, and less than that cannot be seen.
    pub(crate) mebibytes: f64,
}

impl Run {
    /// Runs a command line to its good end.
    pub(crate) fn of(words: Vec<String>) -> Outcome<Self> {
        let told = output(Command::new(std::env::current_exe()?).args(words))?;
        let numbers = told.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>()?;
        match numbers.as_slice() {
            [milliseconds, mebibytes] => {
                Ok(Self { milliseconds: *milliseconds, mebibytes: *mebibytes })
            }
            _ => Err(format!("unexpected: {told}").into()),
        }
    }
}

/// Runs a program and tells its parent what it took.
pub(crate) fn tell(program: &str, arguments: &[String]) -> Outcome<()> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    let begun = Instant::now();
    let status = command.status()?;
    let elapsed = begun.elapsed();
    if !status.success() {
        return Err(format!("{command:?} failed: {status}").into());
    }
    let kibibytes = u32::try_from(getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss())?;
    println!("{} {}", elapsed.as_secs_f64() * 1000.0, f64::from(kibibytes) / 1024.0);
    Ok(())
}
