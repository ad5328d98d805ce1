//! The end of the process when going on would be worse than stopping.

use std::thread::{Builder, JoinHandle};

/// Logs why, and stops the process at once. Nothing is flushed: a restart finds what was durable.
pub fn die(reason: &dyn std::fmt::Display) -> ! {
    tracing::error!("controller stops: {reason}");
    std::process::abort();
}

/// Makes a panic anywhere stop the process: half a controller must not go on.
pub fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed").to_owned();
        die(&format_args!("thread {name}: {panic}"));
    }));
}

/// Starts a thread without which the controller cannot go on: its panic stops the process.
pub fn vital_thread(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let guard = name.to_owned();
    Builder::new().name(name.to_owned()).spawn(move || {
        let guard = Guard(guard);
        body();
        std::mem::forget(guard);
    })
}

struct Guard(String);

impl Drop for Guard {
    fn drop(&mut self) {
        die(&format_args!("thread {} panicked", self.0));
    }
}
