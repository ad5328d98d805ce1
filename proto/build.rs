//! Compiles every `.proto` file of `proto/` without protoc.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use protox::prost_reflect::prost_types::FileDescriptorSet;

/// Messages whose fields no Debug output may show; `wire` writes theirs by hand.
const SECRET: [&str; 11] = [
    ".swarm.v1.AuthorityWish",
    ".swarm.v1.Backup",
    ".swarm.v1.BackupPiece",
    ".swarm.v1.ClientBundle",
    ".swarm.v1.Cluster",
    ".swarm.v1.JoinClusterRequest",
    ".swarm.v1.JoinTokens",
    ".swarm.v1.LockWish",
    ".swarm.v1.SetLockResponse",
    ".swarm.v1.TokensWish",
    ".swarm.v1.UnlockRequest",
];

/// The names of all calls as source: `&["Agent/Logs", …]`.
fn calls(descriptors: &FileDescriptorSet) -> String {
    let services = descriptors.file.iter().flat_map(|file| &file.service);
    let names: Vec<String> = services
        .flat_map(|service| {
            service.method.iter().map(|method| format!("{}/{}", service.name(), method.name()))
        })
        .collect();
    format!("&{names:?}")
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new("proto");
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            println!("cargo:rerun-if-changed={}", path.display());
            files.push(path);
        }
    }
    files.sort();
    let descriptors = protox::compile(&files, [folder])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("calls.rs"), calls(&descriptors))?;
    tonic_prost_build::configure()
        .btree_map(".")
        .skip_debug(SECRET)
        .out_dir(out)
        .compile_fds(descriptors)?;
    Ok(())
}
