//! `config`: what stack files say, with no cluster.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Serialize;
use swarm_manifests::{Report, Stack, keys};
use swarm_proto::id::Timestamp;
use swarm_proto::spec::{ImageSpec, StackSpec};

use super::content::ContentCommand;
use super::files::{self, Files, StackFiles};
use super::unknown;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::view::{self, KeyView};

/// Prints the resolved stack file: one form, one order, nothing left to look up.
///
/// Reading the output again gives the same stack. No cluster is asked.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Config {
    /// What to do with configs in the cluster
    #[command(subcommand)]
    pub(crate) objects: Option<ContentCommand>,
    #[command(flatten)]
    pub(crate) resolve: Resolve,
}

/// Prints the resolved stack file: one form, one order, nothing left to look up.
///
/// Reading the output again gives the same stack. No cluster is asked.
#[derive(Debug, clap::Args)]
pub(crate) struct Resolve {
    #[command(flatten)]
    files: StackFiles,
    /// The stack's name; by default the file's `name`, else its folder's
    #[arg(long)]
    name: Option<String>,
    /// The form of the file
    #[arg(long, value_enum, value_name = "FORM")]
    format: Option<Form>,
    /// Write to a file instead of standard output
    #[arg(long, value_name = "FILE", visible_alias = "out")]
    output_file: Option<PathBuf>,
    #[command(flatten)]
    what: What,
}

/// What to print in place of the resolved file.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct What {
    /// Only check the files
    #[arg(short, long)]
    quiet: bool,
    /// The names of the services
    #[arg(long)]
    services: bool,
    /// The images, each once
    #[arg(long)]
    images: bool,
    /// The names of the volumes
    #[arg(long)]
    volumes: bool,
    /// The names of the networks
    #[arg(long)]
    networks: bool,
    /// A hash of a service, or of each: it changes when a deploy would change the service
    #[arg(long, value_name = "SERVICE", num_args = 0..=1, default_missing_value = "*")]
    hash: Option<String>,
    /// The files on top of each other, with their `${…}` as they are
    #[arg(long, visible_alias = "skip-interpolation")]
    no_interpolate: bool,
    /// What becomes of each key that the files use; exit code 1 if one is refused
    #[arg(long)]
    report: bool,
    /// The JSON Schema of stack files, for editors
    #[arg(long)]
    schema: bool,
}

/// The form of a resolved file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    Yaml,
    Json,
}

pub(crate) fn run(config: &Resolve, format: Format) -> Result<(), Failure> {
    let form = match (config.format, format) {
        (Some(form), _) => form,
        (None, Format::Json) => Form::Json,
        _ => Form::Yaml,
    };
    if config.what.schema {
        return print(config, &view::json(&keys::schema())?);
    }
    let files = config.files.open(config.name.as_deref())?;
    if config.what.report {
        return report(config, &files, format);
    }
    if config.what.no_interpolate {
        let merged = swarm_manifests::merged(&files.sources, &files.environment)
            .map_err(|errors| files::refused(&errors))?;
        return print(config, &text(&merged, form)?);
    }
    let stack = files.read()?;
    print(config, &said(&config.what, &stack, form)?)
}

fn said(what: &What, stack: &Stack, form: Form) -> Result<String, Failure> {
    let spec = &stack.spec;
    let lines =
        |names: Vec<&String>| names.iter().fold(String::new(), |text, name| text + name + "\n");
    Ok(match what {
        What { quiet: true, .. } => String::new(),
        What { services: true, .. } => lines(spec.services.keys().collect()),
        What { volumes: true, .. } => lines(spec.volumes.keys().collect()),
        What { networks: true, .. } => lines(spec.networks.keys().collect()),
        What { images: true, .. } => {
            let images: BTreeSet<String> =
                spec.services.values().map(|service| image(&service.container.image)).collect();
            lines(images.iter().collect())
        }
        What { hash: Some(name), .. } => hashes(spec, name)?,
        _ => text(&swarm_manifests::resolved(stack), form)?,
    })
}

fn image(image: &ImageSpec) -> String {
    match &image.digest {
        Some(digest) => format!("{}@{digest}", image.reference),
        None => image.reference.clone(),
    }
}

/// One line for a service, or for each.
fn hashes(stack: &StackSpec, name: &str) -> Result<String, Failure> {
    let mut text = String::new();
    for (key, service) in stack.services.iter().filter(|(key, _)| name == "*" || *key == name) {
        let hash = swarm_manifests::hash(service)
            .map_err(|error| Failure::refused(format!("cannot write service `{key}`: {error}")))?;
        text.extend([key, " ", &hash, "\n"]);
    }
    if text.is_empty() {
        let names: Vec<&str> = stack.services.keys().map(String::as_str).collect();
        return Err(unknown("service", name, names.iter().copied())
            .hint(format!("the services are `{}`", names.join("`, `"))));
    }
    Ok(text)
}

fn report(config: &Resolve, files: &Files, format: Format) -> Result<(), Failure> {
    let report = swarm_manifests::report(&files.sources, &files.environment);
    let (report, _) = report.map_err(|errors| files::refused(&errors))?;
    let views: Vec<KeyView> = report.keys.iter().map(KeyView::of).collect();
    let format = match config.format {
        Some(Form::Json) => Format::Json,
        Some(Form::Yaml) => Format::Yaml,
        None => format,
    };
    print(config, &view::list(&views, format, Timestamp::default())?)?;
    verdict(&report, &views)
}

fn verdict(report: &Report, views: &[KeyView]) -> Result<(), Failure> {
    if !report.is_refused() {
        return Ok(());
    }
    let refused = views.iter().filter(|view| view.is_refused()).count();
    let keys = if refused == 1 { "key is" } else { "keys are" };
    let mut message = format!("{refused} {keys} refused");
    for error in &report.errors {
        message.extend(["\n\nerror: ", &error.to_string()]);
    }
    Err(Failure::refused(message))
}

fn text<T: Serialize>(value: &T, form: Form) -> Result<String, Failure> {
    match form {
        Form::Yaml => view::yaml(value),
        Form::Json => view::json(value),
    }
}

fn print(config: &Resolve, text: &str) -> Result<(), Failure> {
    match &config.output_file {
        None if text.is_empty() => {}
        None => output::data(text),
        Some(file) => std::fs::write(file, text).map_err(|error| {
            Failure::refused(format!("cannot write `{}`: {error}", file.display()))
        })?,
    }
    Ok(())
}
