//! A container's environment, `env_file` below, `environment` on top; and its labels, which may come from files as well.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use super::{Decoder, Fields, container, mounts};
use crate::Source;
use crate::dotenv::{self, Form};
use crate::interpolate::{Budget, Scope};
use crate::keys::ENV_FILE;
use crate::load::Variables;
use crate::tree::{At, Data, Node, shorten};

/// What all services together may get from files.
const MOST_BYTES: usize = 16 << 20;

/// Variables by name; `None` takes one of the image's away.
pub(super) fn environment(
    d: &Decoder<'_>,
    fields: &Fields<'_>,
) -> BTreeMap<String, Option<String>> {
    let mut of_files = Variables::new();
    if let Some(node) = fields.get("env_file") {
        let files = match &node.data {
            Data::Sequence(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        for file in files.iter().take_while(|_| !d.env_files.is_full()) {
            read_file(d, file, &mut of_files);
        }
    }
    let mut found: BTreeMap<String, Option<String>> =
        of_files.into_iter().map(|(key, value)| (key, Some(value))).collect();
    let Some(node) = fields.get("environment") else { return found };
    for (key, value) in d.assignments(node, "environment").unwrap_or_default() {
        if key.text.is_empty() || key.text.contains(['=', '\0']) {
            let message = format!("`{}` cannot be a variable's name", shorten(&key.text));
            d.problems.error_hint(key.at, message, "a name holds no `=`");
            continue;
        }
        if let Some(value) = &value {
            container::check_template(d, key.at, value);
        }
        let value = value.or_else(|| d.vars.get(&key.text).cloned());
        found.insert(key.text, value);
    }
    found
}

/// A file by its path, or by `{path, required, format}`. A variable without a value there and in the environment is none.
fn read_file(d: &Decoder<'_>, node: &Node, found: &mut Variables) {
    let (path_node, required, form) = match &node.data {
        Data::Mapping(_) => {
            let Some(fields) = d.fields(node, "`env_file`", &ENV_FILE) else { return };
            let Some(path) = fields.get("path") else {
                d.problems.error_hint(node.at, "`env_file` needs `path`", "name the file");
                return;
            };
            let required = fields.get("required").and_then(|node| d.boolean(node, "required"));
            let format = fields.get("format");
            let form = format.and_then(|node| d.word(node, "format", &[("raw", Form::Raw)]));
            (path, required.unwrap_or(true), form.unwrap_or(Form::Compose))
        }
        _ => (node, true, Form::Compose),
    };
    let Some(name) = d.text(path_node, "env_file") else { return };
    let path = PathBuf::from(mounts::host_path(d, name));
    if !required && !path.exists() {
        return;
    }
    let at = path_node.at;
    for (key, value) in pairs(d, "env_file", at, name, form, found) {
        container::check_template(d, at, &value);
        found.insert(key, value);
    }
}

/// The lines of a file that have values; in them, what earlier files said counts as set.
fn pairs(
    d: &Decoder<'_>,
    key: &str,
    at: At,
    name: &str,
    form: Form,
    before: &Variables,
) -> Vec<(String, String)> {
    let path = PathBuf::from(mounts::host_path(d, name));
    let Some(source) = d.env_files.open(d, key, at, name, path) else { return Vec::new() };
    let outer = Scope::of_two(d.vars, before);
    let pairs = dotenv::read(source, form, outer, &Budget::default(), d.problems);
    let pairs = pairs.into_iter().filter_map(|(key, value)| Some((key, value?)));
    let count = |(key, value): &(String, String)| {
        d.env_files.count(d, at, key.len() + value.len());
    };
    pairs.inspect(count).collect()
}

/// A container's labels: `label_file` below, `labels` on top.
pub(super) fn labels(d: &Decoder<'_>, fields: &Fields<'_>) -> BTreeMap<String, String> {
    let mut labels = Variables::new();
    let files = fields.get("label_file").and_then(|node| d.one_or_more(node, "label_file"));
    let files = files.unwrap_or_default();
    for (at, name) in files.iter().take_while(|_| !d.env_files.is_full()) {
        let read = pairs(d, "label_file", *at, name, Form::Compose, &labels);
        labels.extend(read);
    }
    labels.extend(fields.get("labels").map(|node| d.labels(node)).unwrap_or_default());
    labels
}

/// The files of variables that services name.
#[derive(Debug, Default)]
pub(super) struct EnvFiles {
    /// The numbers of the sources by path: many services may name one file.
    opened: RefCell<HashMap<PathBuf, usize>>,
    bytes: Cell<usize>,
}

impl EnvFiles {
    /// The source of a file, which is read once.
    fn open(&self, d: &Decoder<'_>, key: &str, at: At, name: &str, path: PathBuf) -> Option<usize> {
        if let Some(source) = self.opened.borrow().get(&path) {
            return Some(*source);
        }
        let content = crate::read_named_file(&path).map_err(|why| {
            let message = format!("{key} `{}` {why}", shorten(name));
            let hint = format!("it is looked for from `{}`", d.folder.display());
            d.problems.error_hint(at, message, hint);
        });
        let folder = d.folder.to_path_buf();
        let source = Source { name: name.to_owned(), folder, content: content.ok()? };
        let Some(source) = d.problems.add_source(source) else {
            let hint = "at most 4096 files, 16 MiB together";
            d.problems.error_hint(at, "the files are too many or too large", hint);
            return None;
        };
        self.opened.borrow_mut().insert(path, source);
        Some(source)
    }

    /// Counts what services get; says so once when it becomes too much.
    fn count(&self, d: &Decoder<'_>, at: At, bytes: usize) {
        let before = self.bytes.replace(self.bytes.get() + bytes);
        if before <= MOST_BYTES && before + bytes > MOST_BYTES {
            let message = "the services get more than 16 MiB of variables from files";
            d.problems.error_hint(at, message, "shorten the files, or name them less often");
        }
    }

    /// Whether nothing more is read: the file is refused.
    fn is_full(&self) -> bool {
        self.bytes.get() > MOST_BYTES
    }
}
