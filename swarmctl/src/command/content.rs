//! `secret` and `config`: files of containers that belong to no stack, and those of stacks.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use swarm_proto::spec::{ContentBytes, ContentId, ContentKind};
use swarm_proto::wire;

use super::{Call, label, now, unknown};
use crate::connect::request_id;
use crate::contents;
use crate::failure::Failure;
use crate::output;
use crate::state::State;
use crate::view::{self, ContentView};

/// What to do with secrets, or with configs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ContentCommand {
    /// Keeps a file's content under a name, for stacks that call it `external`
    Create {
        /// Its name
        name: String,
        /// A file, `-` for standard input
        file: PathBuf,
        /// A label
        #[arg(short, long, value_name = "KEY=VALUE", value_parser = label)]
        label: Vec<(String, String)>,
    },
    /// Lists them, those of stacks too
    Ls,
    /// Shows everything about some; what is in a secret is never shown
    Inspect {
        /// Full names
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Removes some that nothing uses
    Rm {
        /// Names
        #[arg(required = true)]
        names: Vec<String>,
    },
}

pub(crate) async fn run(
    kind: ContentKind,
    command: ContentCommand,
    call: &Call,
) -> Result<(), Failure> {
    match command {
        ContentCommand::Create { name, file, label } => {
            create(kind, name, &file, label.into_iter().collect(), call).await
        }
        ContentCommand::Ls => {
            let state = State::get(&call.cluster, call.stale).await?;
            let views = ContentView::all(&state, kind);
            output::data(&view::list(&views, call.format, now(state.clock))?);
            Ok(())
        }
        ContentCommand::Inspect { names } => inspect(kind, &names, call).await,
        ContentCommand::Rm { names } => {
            for name in names {
                let request_id = request_id()?;
                let (number, shown) = (kind.into(), name.clone());
                let request = wire::RemoveNamedContentRequest { request_id, kind: number, name };
                call.cluster
                    .call(async |mut client| client.remove_named_content(request.clone()).await)
                    .await?;
                output::talk(&format!("{kind} `{shown}` is removed"));
            }
            Ok(())
        }
    }
}

async fn create(
    kind: ContentKind,
    name: String,
    file: &Path,
    labels: BTreeMap<String, String>,
    call: &Call,
) -> Result<(), Failure> {
    let bytes = read(kind, file)?;
    let id = ContentId::of(kind, bytes.reveal());
    let content = Some((&id).into());
    contents::send(&call.cluster, &[(id, bytes)].into()).await?;
    let request_id = request_id()?;
    let shown = name.clone();
    let request = wire::CreateNamedContentRequest { request_id, content, name, labels };
    call.cluster
        .call(async |mut client| client.create_named_content(request.clone()).await)
        .await?;
    output::talk(&format!("{kind} `{shown}` is created"));
    Ok(())
}

/// Reads a file, or standard input, into one buffer.
fn read(kind: ContentKind, file: &Path) -> Result<ContentBytes, Failure> {
    let shown = file.display();
    let failed = |error: std::io::Error| Failure::because(format!("cannot read `{shown}`"), &error);
    // One byte more shows that it is too much. The buffer never grows, for what that leaves behind is not overwritten.
    let most = kind.most_bytes() + 1;
    let mut bytes = Vec::with_capacity(usize::try_from(most + 1).unwrap_or(usize::MAX));
    let read = if file.as_os_str() == "-" {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        File::open(file).map_err(failed)?.take(most).read_to_end(&mut bytes)
    };
    let bytes = ContentBytes::new(bytes);
    read.map_err(failed)?;
    if bytes.size() > kind.most_bytes() {
        let message = format!("`{shown}` is too large for a {kind}");
        let hint = format!("a {kind} has at most {} bytes", kind.most_bytes());
        return Err(Failure::refused(message).hint(hint));
    }
    Ok(bytes)
}

async fn inspect(kind: ContentKind, names: &[String], call: &Call) -> Result<(), Failure> {
    let state = State::get(&call.cluster, call.stale).await?;
    let views = ContentView::all(&state, kind);
    for name in names {
        let known = views.iter().map(|view| view.name.as_str());
        let found = views.iter().find(|view| view.name == *name);
        let mut view = found.ok_or_else(|| unknown(kind.as_str(), name, known))?.clone();
        if kind == ContentKind::Config && view.stack.is_none() {
            let request = wire::GetConfigRequest { name: name.clone() };
            let answer =
                call.cluster.call(async |mut client| client.get_config(request.clone()).await);
            match answer.await {
                Ok(answer) => view.data = std::str::from_utf8(&answer.data).ok().map(str::to_owned),
                Err(failure) => output::warn(&format!("what is in it is not shown: {failure}")),
            }
        }
        output::data(&view::whole(&view, call.format)?);
    }
    Ok(())
}
