//! The controller's program.

use std::process::ExitCode;

fn main() -> ExitCode {
    swarm_controller::shell::cli::main()
}
