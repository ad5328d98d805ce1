//! What programs that try mutated inputs have in common: for how long and with which seed they run, and the input that is
//! tried now. One that breaks a rule is kept in a file, and one that hangs ends the program.

use std::error::Error;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// An input that takes longer hangs.
const HANGS: Duration = Duration::from_mins(1);

/// `SECONDS [SEED]`; the seed is of the clock where none is given.
pub(crate) fn arguments(seconds: f64) -> Result<(Duration, u64), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(seconds), |text| text.parse())?;
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    let of_clock = u64::from(since.subsec_nanos()) ^ since.as_secs();
    let seed = arguments.next().map_or(Ok(of_clock), |text| text.parse())?;
    Ok((Duration::from_secs_f64(seconds), seed))
}

/// The input that is tried now, and where one is kept.
pub(crate) struct Watched {
    folder: PathBuf,
    seed: u64,
    /// Since when, what, and as what it is read.
    current: Arc<Mutex<(Instant, Vec<u8>, String)>>,
}

impl Watched {
    /// Ends the process from now on when an input hangs: no thread can be stopped from outside.
    pub(crate) fn begin(folder: &Path, seed: u64) -> Self {
        let current = Arc::new(Mutex::new((Instant::now(), Vec::new(), String::new())));
        let this = Self { folder: folder.to_owned(), seed, current: Arc::clone(&current) };
        let other = Self { folder: folder.to_owned(), seed, current };
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                let Ok(current) = other.current.lock() else { return };
                if current.0.elapsed() > HANGS {
                    let path = other.keep(&current.1);
                    eprintln!("error: an input hangs as {}; it is in {path}", current.2);
                    std::process::abort();
                }
            }
        });
        this
    }

    /// This is tried now.
    pub(crate) fn set(&self, input: &[u8], usage: &impl Debug) {
        if let Ok(mut current) = self.current.lock() {
            *current = (Instant::now(), input.to_vec(), format!("{usage:?}"));
        }
    }

    /// Keeps an input. Gives the file's name, or why there is none.
    pub(crate) fn keep(&self, input: &[u8]) -> String {
        let path = self.folder.join(format!("broken-{}", self.seed));
        match std::fs::create_dir_all(&self.folder).and_then(|()| std::fs::write(&path, input)) {
            Ok(()) => path.display().to_string(),
            Err(error) => format!("no file: {error}"),
        }
    }
}
