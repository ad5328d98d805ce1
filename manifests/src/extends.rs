//! `extends`: a service that begins as a copy of another one, of the same file or another, and lies on it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::keys::SERVICE;
use crate::load::{self, LONGEST_CHAIN, Loader, Variables, absolute};
use crate::merge::Merge;
use crate::tree::{At, Data, Node, shorten};
use crate::{nearest, paths};

/// Keys that name other services.
const DEPENDENCIES: [&str; 6] =
    ["depends_on", "links", "volumes_from", "network_mode", "ipc", "pid"];

/// Replaces each service of a file that extends another one by the result. `below` are the files that it lies on.
pub(crate) fn extend(
    loader: &Loader<'_>,
    tree: &mut Node,
    path: &Path,
    folder: &Path,
    variables: &Variables,
    below: Option<&Node>,
) {
    let Data::Mapping(pairs) = &mut tree.data else { return };
    let Some((_, services)) = pairs.iter_mut().find(|(key, _)| key.text == "services") else {
        return;
    };
    if services.pairs().iter().all(|(_, service)| service.get("extends").is_none()) {
        return;
    }
    let own = File::new(folder.to_owned(), services.clone());
    let below = below.and_then(|below| below.get("services"));
    let known = HashMap::from([(path.to_owned(), 0)]);
    let (files, done, chain) = (vec![own], HashMap::new(), Vec::new());
    let mut extender = Extender { loader, variables, below, files, known, done, chain };
    let Data::Mapping(pairs) = &mut services.data else { return };
    for (key, service) in pairs {
        let Some(pair) = service.take("extends") else { continue };
        loader.keep_taken(format!("services.{}.", key.text), &SERVICE, pair);
        match extender.service(0, &key.text) {
            Some(extended) => *service = extended,
            // The errors say why; that it has no image is a consequence.
            None => loader.problems.settle(key.at),
        }
    }
}

struct File {
    folder: PathBuf,
    services: Node,
    places: HashMap<String, usize>,
}

impl File {
    fn new(folder: PathBuf, services: Node) -> Self {
        let pairs = services.pairs().iter().enumerate();
        let places = pairs.map(|(place, (key, _))| (key.text.clone(), place)).collect();
        Self { folder, services, places }
    }

    fn get(&self, name: &str) -> Option<&Node> {
        self.services.pairs().get(*self.places.get(name)?).map(|(_, service)| service)
    }
}

struct Extender<'l, 'a> {
    loader: &'l Loader<'a>,
    variables: &'l Variables,
    below: Option<&'l Node>,
    files: Vec<File>,
    known: HashMap<PathBuf, usize>,
    done: HashMap<(usize, String), Option<Node>>,
    chain: Vec<(usize, String)>,
}

impl Extender<'_, '_> {
    /// A service with all that it extends.
    fn service(&mut self, file: usize, name: &str) -> Option<Node> {
        let id = (file, name.to_owned());
        if let Some(done) = self.done.get(&id) {
            return done.clone();
        }
        let service = self.files[file].get(name)?;
        let extended = match service.get("extends") {
            None => Some(service.clone()),
            Some(extends) if extends.is_null() => {
                let mut service = service.clone();
                service.take("extends");
                Some(service)
            }
            Some(extends) => {
                let (service, mut extends) = (service.clone(), extends.clone());
                self.loader.replace_names(&mut extends, self.variables);
                self.extended(file, name, service, &extends)
            }
        };
        self.done.insert(id, extended.clone());
        extended
    }

    fn extended(
        &mut self,
        file: usize,
        name: &str,
        mut service: Node,
        extends: &Node,
    ) -> Option<Node> {
        let (base_at, base_name, base_file) = self.target(file, extends)?;
        self.chain.push((file, name.to_owned()));
        let base = self.base(base_at, &base_name, base_file, file);
        self.chain.pop();
        let mut base = base?;
        if !self.loader.may_copy(&base, base_at) {
            return None;
        }
        base.take("extends");
        service.take("extends");
        let mut merge = Merge::of_service(&self.loader.tags, self.loader.problems, name);
        let merged = merge.lay(base, service);
        if base_file != 0 && file == 0 {
            self.check_dependencies(name, &merged, base_at);
        }
        Some(merged)
    }

    /// The service that `extends` names, and the file in which it is.
    fn target(&mut self, file: usize, extends: &Node) -> Option<(At, String, usize)> {
        let problems = self.loader.problems;
        let refuse = |node: &Node, what: &str| {
            let message = format!("{what}, found {}", node.found());
            problems.error_hint(node.at, message, "write `extends: {service: NAME, file: FILE}`");
        };
        if let Some(name) = extends.text() {
            return Some((extends.at, name.to_owned(), file));
        }
        if !matches!(extends.data, Data::Mapping(_)) {
            refuse(extends, "`extends` must be a service's name or a mapping");
            return None;
        }
        load::refuse_unknown(extends, "`extends`", &["service", "file"], problems);
        let Some((at, name)) =
            extends.get("service").and_then(|node| Some((node.at, node.text()?.to_owned())))
        else {
            refuse(extends.get("service").unwrap_or(extends), "`extends` needs `service`, a name");
            return None;
        };
        match extends.get("file").filter(|node| !node.is_null()) {
            None => Some((at, name, file)),
            Some(node) => {
                let Some(path) = node.text() else {
                    refuse(node, "`file` must be a path");
                    return None;
                };
                if !load::is_local(path, node.at, problems) {
                    return None;
                }
                Some((at, name, self.open(file, node.at, path)?))
            }
        }
    }

    fn base(&mut self, at: At, name: &str, file: usize, from: usize) -> Option<Node> {
        let problems = self.loader.problems;
        let id = (file, name.to_owned());
        if self.chain.contains(&id) || self.chain.len() >= LONGEST_CHAIN {
            let start = self.chain.iter().position(|known| *known == id).unwrap_or(0);
            let steps = self.chain[start..].iter().chain([&id]);
            let steps: Vec<String> = steps.map(|(_, name)| format!("`{name}`")).collect();
            let (message, hint) = if self.chain.contains(&id) {
                ("services extend each other", "take one `extends` out")
            } else {
                ("services extend each other over more than 32 steps", "use fewer steps")
            };
            problems.error_hint(at, format!("{message}: {}", steps.join(" → ")), hint);
            return None;
        }
        if self.files[file].get(name).is_some() {
            return self.service(file, name);
        }
        // A file that lies on others may extend what they have.
        if file == 0
            && from == 0
            && let Some(base) = self.below.and_then(|below| below.get(name))
        {
            return Some(base.clone());
        }
        let message = format!("the extended service `{}` is not there", shorten(name));
        let pairs = self.files[file].services.pairs();
        let hint = nearest::hint(name, pairs.iter().map(|(key, _)| key.text.as_str()).take(20));
        problems.error_hint(at, message, hint);
        None
    }

    /// The file at a path, read once.
    fn open(&mut self, from: usize, at: At, path: &str) -> Option<usize> {
        let path = absolute(&self.files[from].folder, path);
        if let Some(file) = self.known.get(&path) {
            return Some(*file);
        }
        let loader = self.loader;
        let mut tree = loader.parse(loader.open(&path, at, "extended file")?)?;
        loader.replace(&mut tree, self.variables);
        let folder = path.parent().unwrap_or(Path::new("/")).to_path_buf();
        paths::make_absolute(&mut tree, &folder);
        let Some((_, services)) = tree.take("services") else {
            let message = format!("the extended file `{}` has no services", path.display());
            loader.problems.error(at, message);
            return None;
        };
        self.files.push(File::new(folder, services));
        self.known.insert(path, self.files.len() - 1);
        Some(self.files.len() - 1)
    }

    /// A service of another file may need services that this stack does not have.
    fn check_dependencies(&self, name: &str, service: &Node, at: At) {
        let is_here = |name: &str| {
            self.files[0].get(name).is_some()
                || self.below.is_some_and(|below| below.get(name).is_some())
        };
        for key in DEPENDENCIES {
            let Some(node) = service.get(key) else { continue };
            for needed in needed(key, node) {
                if !is_here(&needed) {
                    let message = format!(
                        "service `{}` gets `{key}` from {}, and `{}` is not in this stack",
                        shorten(name),
                        self.loader.problems.place(node.at),
                        shorten(&needed)
                    );
                    let hint = format!("define that service too, or write `{key}: !reset null`");
                    self.loader.problems.error_hint(at, message, hint);
                }
            }
        }
    }
}

/// The services that a key names.
fn needed(key: &str, node: &Node) -> Vec<String> {
    let texts: Vec<&str> = match &node.data {
        Data::Mapping(pairs) => pairs.iter().map(|(key, _)| key.text.as_str()).collect(),
        Data::Sequence(items) => items.iter().filter_map(Node::text).collect(),
        Data::Scalar { text, .. } => vec![text],
        Data::Null => Vec::new(),
    };
    let name = |text: &&str| match key {
        "depends_on" => Some((*text).to_owned()),
        "volumes_from" if text.starts_with("container:") => None,
        "links" | "volumes_from" => text.split(':').next().map(str::to_owned),
        _ => text.strip_prefix("service:").map(str::to_owned),
    };
    texts.iter().filter_map(name).collect()
}
