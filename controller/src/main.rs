//! The controller's program.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Requests are read by one thread and dropped by another, which the C library's allocator is slow at; and it keeps more.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    swarm_controller::shell::cli::main()
}
