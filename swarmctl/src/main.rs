//! `swarmctl`: the command line of a swarm.

fn main() -> std::process::ExitCode {
    swarmctl::main()
}
