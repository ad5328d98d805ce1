//! Compiles every `.proto` file of `proto/` without protoc.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use protox::prost_reflect::prost_types::{DescriptorProto, FileDescriptorSet, MessageOptions};

/// Messages whose fields no Debug output may show; `wire` writes theirs by hand.
const SECRET: [&str; 19] = [
    ".swarm.v1.AddContentPart",
    ".swarm.v1.AddContentRequest",
    ".swarm.v1.AuthorityWish",
    ".swarm.v1.Backup",
    ".swarm.v1.BackupPiece",
    ".swarm.v1.BuildSecret",
    ".swarm.v1.ClientBundle",
    ".swarm.v1.Cluster",
    ".swarm.v1.Content",
    ".swarm.v1.ForwardRequest",
    ".swarm.v1.GetConfigResponse",
    ".swarm.v1.JoinClusterRequest",
    ".swarm.v1.JoinTokens",
    ".swarm.v1.LockWish",
    ".swarm.v1.RegistryLogin",
    ".swarm.v1.SetLockResponse",
    ".swarm.v1.StoredContent",
    ".swarm.v1.TokensWish",
    ".swarm.v1.UnlockRequest",
];

/// Where what is replicated begins: entries of the log, and the state that they lead to.
const REPLICATED: [&str; 2] = [".swarm.v1.Entry", ".swarm.v1.StateSnapshot"];

/// What is one of many and large is put aside: else the smallest of them, of which an entry of the log has thousands, takes
/// as much room as the largest.
const BOXED: [&str; 21] = [
    ".swarm.v1.Action.action.add_named_content",
    ".swarm.v1.Action.action.add_node",
    ".swarm.v1.Action.action.add_task",
    ".swarm.v1.Action.action.set_cluster",
    ".swarm.v1.Action.action.set_network",
    ".swarm.v1.Action.action.set_node_description",
    ".swarm.v1.Action.action.set_registry_login",
    ".swarm.v1.Action.action.set_run",
    ".swarm.v1.Action.action.set_service",
    ".swarm.v1.Action.action.set_stack",
    ".swarm.v1.Action.action.set_task_status",
    ".swarm.v1.Action.action.set_update",
    ".swarm.v1.Action.action.set_volume",
    ".swarm.v1.Action.action.start_run",
    ".swarm.v1.StoredObject.object.named_content",
    ".swarm.v1.StoredObject.object.network",
    ".swarm.v1.StoredObject.object.node",
    ".swarm.v1.StoredObject.object.service",
    ".swarm.v1.StoredObject.object.stack",
    ".swarm.v1.StoredObject.object.task",
    ".swarm.v1.StoredObject.object.volume",
];

/// Puts a message and those declared in it under their full names.
fn declare<'a>(
    messages: &mut BTreeMap<String, &'a DescriptorProto>,
    scope: &str,
    message: &'a DescriptorProto,
) {
    let name = format!("{scope}.{}", message.name());
    for inner in &message.nested_type {
        declare(messages, &name, inner);
    }
    messages.insert(name, message);
}

/// The names of all fields that are replicated as source: `["Cluster.id", …]`.
fn replicated_fields(descriptors: &FileDescriptorSet) -> String {
    let mut messages = BTreeMap::new();
    for file in &descriptors.file {
        for message in &file.message_type {
            declare(&mut messages, ".swarm.v1", message);
        }
    }
    let mut waiting: Vec<String> = REPLICATED.map(str::to_owned).into();
    let (mut seen, mut fields) = (BTreeSet::new(), BTreeSet::new());
    while let Some(name) = waiting.pop() {
        // What is no message is an enumeration.
        let Some(message) = messages.get(&name).filter(|_| seen.insert(name.clone())) else {
            continue;
        };
        let is_entry_of_map = message.options.as_ref().is_some_and(MessageOptions::map_entry);
        for field in &message.field {
            waiting.extend(field.type_name.clone());
            if !is_entry_of_map {
                fields.insert(format!("{}.{}", message.name(), field.name()));
            }
        }
    }
    format!("&{:?}", fields.into_iter().collect::<Vec<String>>())
}

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
    fs::write(out.join("replicated_fields.rs"), replicated_fields(&descriptors))?;
    let mut config = tonic_prost_build::configure().btree_map(".").skip_debug(SECRET).out_dir(out);
    for path in BOXED {
        config = config.boxed(path);
    }
    config.compile_fds(descriptors)?;
    Ok(())
}
