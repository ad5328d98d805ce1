//! Links the `swarm-runtime` program at a fixed address. One shim runs beside each container; at a
//! chosen address every one of them would have its own copy of all pages with pointers in them, which
//! is more memory than all the rest of a shim.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bin=swarm-runtime=-no-pie");
}
