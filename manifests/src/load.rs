//! From sources to one tree: variables filled in, included files and extended services brought in, files laid on each
//! other, services of profiles that are off taken out.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use crate::stack::Stack;

use crate::interpolate::Budget;
use crate::keys::Level;
use crate::merge::Merge;
use crate::problem::Problems;
use crate::tree::{At, Data, Key, Node, Tags, shorten};
use crate::{
    Environment, Source, decode, extends, find, include, interpolate, nearest, parse, profiles,
    read_named_file,
};

/// Deeper chains of included files or extended services are refused.
pub(crate) const LONGEST_CHAIN: usize = 32;
/// Files that may include and extend each other: each brings its own variables.
const MOST_FILES: usize = 256;
/// Values that included files and extended services may bring in, aliases and texts counted as in one file.
const MOST_COPIED: usize = 200_000;

pub(crate) type Variables = BTreeMap<String, String>;

/// A key that was read and taken out before the decode.
#[derive(Debug)]
pub(crate) struct Taken {
    /// Where it stood: names from the top, with a dot at the end.
    pub(crate) above: String,
    /// The keys that may stand there.
    pub(crate) level: &'static Level,
    /// The key and its value.
    pub(crate) pair: (Key, Node),
}

/// A tree that is ready for the decode.
pub(crate) struct Loaded {
    pub(crate) tree: Node,
    /// What no longer stands in the tree.
    pub(crate) taken: Vec<Taken>,
    environment: Environment,
    folder: PathBuf,
}

impl Loaded {
    /// The stack that the tree is. What is wrong is told to the problems.
    pub(crate) fn decode(&self, problems: &Problems) -> Option<Stack> {
        decode::stack(&self.tree, &self.environment, &self.folder, problems)
    }
}

/// Makes one tree of sources, its variables filled in or left as they are. Nothing where the tree would have holes.
pub(crate) fn load(
    sources: &[Source],
    environment: &Environment,
    interpolates: bool,
    problems: &Problems,
) -> Option<Loaded> {
    let folder = match (&environment.project_directory, sources.first()) {
        (Some(folder), _) => absolute(&environment.working_dir, &folder.display().to_string()),
        (None, first) => first.map_or(PathBuf::from("/"), |source| source.folder.clone()),
    };
    let loader = Loader::new(problems, &environment.working_dir, interpolates);
    let mut files = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let name = Path::new(&source.name).file_name().unwrap_or_default();
        files.extend(loader.parse(index).map(|tree| (source.folder.join(name), tree)));
    }
    let mut environment = environment.clone();
    environment.vars = find::variables(&folder, &environment, problems)?;
    settle(&mut environment, &files, &folder, problems);
    let project = Project { files, folder: &folder, variables: &environment.vars };
    let mut tree = loader.project(project, &mut Vec::new())?;
    profiles::keep(&loader, &mut tree, &environment.profiles);
    let whole = !loader.has_holes.get();
    whole.then(|| Loaded { tree, taken: loader.taken.into_inner(), environment, folder })
}

/// Name and profiles, where only variables or files say them; the name is a variable, too.
fn settle(
    environment: &mut Environment,
    files: &[(PathBuf, Node)],
    folder: &Path,
    problems: &Problems,
) {
    const NAME: &str = "COMPOSE_PROJECT_NAME";
    let vars = &environment.vars;
    if environment.stack_name.is_none() {
        environment.stack_name = vars.get(NAME).filter(|name| !name.is_empty()).cloned();
    }
    if environment.profiles.is_empty() {
        let list = vars.get("COMPOSE_PROFILES").map_or("", String::as_str);
        let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        environment.profiles = names.map(str::to_owned).collect();
    }
    let of_file = || {
        let mut name = files.iter().rev().find_map(|(_, tree)| tree.get("name"))?.clone();
        // An error is said where the whole file is filled in.
        interpolate::replace(&mut name, vars, &Budget::default(), &problems.unheard());
        name.text().map(str::to_owned)
    };
    let name = environment.stack_name.clone().or_else(of_file);
    let name = name.unwrap_or_else(|| decode::name_of_folder(folder));
    environment.vars.insert(NAME.to_owned(), name);
}

/// What loading needs everywhere.
pub(crate) struct Loader<'a> {
    pub(crate) problems: &'a Problems,
    pub(crate) tags: Tags,
    /// Names of files in messages are relative to this.
    pub(crate) working_dir: &'a Path,
    /// Whether variables are filled in.
    interpolates: bool,
    /// Whether something that another file was to bring in is missing.
    has_holes: Cell<bool>,
    taken: RefCell<Vec<Taken>>,
    opened: Cell<usize>,
    copied: Cell<usize>,
    /// What variables add to all files together.
    pub(crate) budget: Budget,
}

/// Files that make one tree.
pub(crate) struct Project<'p> {
    /// Their paths, first the one that later ones lie on; and what they hold.
    pub(crate) files: Vec<(PathBuf, Node)>,
    /// Relative paths start here.
    pub(crate) folder: &'p Path,
    pub(crate) variables: &'p Variables,
}

impl<'a> Loader<'a> {
    fn new(problems: &'a Problems, working_dir: &'a Path, interpolates: bool) -> Self {
        Self {
            problems,
            tags: Tags::default(),
            working_dir,
            interpolates,
            has_holes: Cell::new(false),
            taken: RefCell::default(),
            opened: Cell::new(0),
            copied: Cell::new(0),
            budget: Budget::default(),
        }
    }

    /// Fills variables in, unless they are to stay.
    pub(crate) fn replace(&self, node: &mut Node, variables: &Variables) {
        if self.interpolates {
            interpolate::replace(node, variables, &self.budget, self.problems);
        }
    }

    /// Fills variables in that name a file, which is needed also where they are to stay.
    pub(crate) fn replace_names(&self, node: &mut Node, variables: &Variables) {
        if !self.interpolates {
            interpolate::replace(node, variables, &self.budget, self.problems);
        }
    }

    /// Keeps a pair that was taken out of the tree, for the report.
    pub(crate) fn keep_taken(&self, above: String, level: &'static Level, pair: (Key, Node)) {
        self.taken.borrow_mut().push(Taken { above, level, pair });
    }

    /// Notes that something is missing, so that the tree cannot be decoded.
    pub(crate) fn note_hole(&self) {
        self.has_holes.set(true);
    }

    /// The tree of a source, as it is written.
    pub(crate) fn parse(&self, source: usize) -> Option<Node> {
        let content = self.problems.source(source)?;
        let tree = parse::parse(source, &content.content, &self.tags, self.problems);
        if tree.is_none() {
            self.note_hole();
        }
        tree
    }

    /// All files of a project as one tree. `chain` are the files that include each other down to this.
    pub(crate) fn project(&self, project: Project<'_>, chain: &mut Vec<PathBuf>) -> Option<Node> {
        let Project { files, folder, variables } = project;
        let mut below: Option<Node> = None;
        for (path, mut node) in files {
            self.replace(&mut node, variables);
            chain.push(path.clone());
            include::include(self, &mut node, folder, variables, chain);
            chain.pop();
            extends::extend(self, &mut node, &path, folder, variables, below.as_ref());
            below = Some(match below {
                None => {
                    self.tags.settle(&mut node);
                    node
                }
                Some(below) => Merge::new(&self.tags, self.problems).lay(below, node),
            });
        }
        let mut tree = below?;
        self.tags.settle(&mut tree);
        Some(tree)
    }

    /// Reads a file that another one names at a place; a missing one is an error there.
    pub(crate) fn open(&self, path: &Path, at: At, what: &str) -> Option<usize> {
        if self.opened.get() >= MOST_FILES {
            let message = "more than 256 files include and extend each other";
            self.problems.error_hint(at, message, "merge some of them");
            self.note_hole();
            return None;
        }
        self.opened.set(self.opened.get() + 1);
        let shown = path.strip_prefix(self.working_dir).unwrap_or(path).display().to_string();
        let content = match read_named_file(path) {
            Ok(content) => content,
            Err(why) => {
                let message = format!("{what} `{}` {why}", shorten(&shown));
                let folder = path.parent().unwrap_or(Path::new("/"));
                let hint = format!("it is looked for in `{}`", folder.display());
                self.problems.error_hint(at, message, hint);
                self.note_hole();
                return None;
            }
        };
        let folder = path.parent().unwrap_or(Path::new("/")).to_path_buf();
        let source = self.problems.add_source(Source { name: shown, folder, content });
        if source.is_none() {
            let message = "the files that name each other are larger than 16 MiB together";
            self.problems.error_hint(at, message, "include and extend less");
            self.note_hole();
        }
        source
    }

    /// Counts values that are brought in from elsewhere; false once they are too many.
    pub(crate) fn may_copy(&self, node: &Node, at: At) -> bool {
        self.copied.set(self.copied.get().saturating_add(node.weight()));
        let may = self.copied.get() <= MOST_COPIED;
        if !may {
            let message = "`extends` and `include` bring in more than 200,000 values";
            self.problems.error_hint(at, message, "extend and include less");
            self.note_hole();
        }
        may
    }
}

/// Refuses what is no path on this machine: compose fetches such files.
pub(crate) fn is_local(text: &str, at: At, problems: &Problems) -> bool {
    let remote = text.contains("://") || text.starts_with("git@") || text.starts_with("oci:");
    if remote {
        let message = format!("`{}` is not on this machine", shorten(text));
        problems.error_hint(at, message, "fetch it before, and name the file here");
    }
    !remote
}

/// A path without `.` and `..`, from a folder where it is relative.
pub(crate) fn absolute(folder: &Path, path: &str) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in folder.join(path).components() {
        match component {
            Component::ParentDir => {
                clean.pop();
            }
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// Says which key of a small mapping is not known.
pub(crate) fn refuse_unknown(node: &Node, place: &str, known: &[&str], problems: &Problems) {
    for (key, _) in node.pairs() {
        let name = key.text.as_str();
        if !known.contains(&name) && !name.starts_with("x-") {
            let message = format!("unknown key `{}` in {place}", shorten(name));
            problems.error_hint(key.at, message, nearest::hint(name, known.iter().copied()));
        }
    }
}

/// The texts of a value that is one or a list of them.
pub(crate) fn texts(node: &Node, name: &str, problems: &Problems) -> Vec<(At, String)> {
    let items = match &node.data {
        Data::Sequence(items) => items.as_slice(),
        Data::Null => &[],
        _ => std::slice::from_ref(node),
    };
    let mut found = Vec::new();
    for item in items {
        if let Some(text) = item.text() {
            found.push((item.at, text.to_owned()));
        } else {
            problems.error(item.at, format!("{name} must be a text, found {}", item.found()));
        }
    }
    found
}
