//! The files of an image, put together from its layers without touching a disk.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;

use sha2::{Digest as _, Sha256};
use tar::{Archive, Entry, EntryType};

const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";
const ATTRIBUTE: &str = "SCHILY.xattr.";

/// A file, folder or link; times are not looked at.
#[derive(Debug, Clone)]
struct Node {
    kind: EntryType,
    mode: u32,
    owner: (u64, u64),
    /// A file's digest, or where a link leads.
    content: String,
    attributes: BTreeMap<String, String>,
    /// The same for all names of one file.
    identity: usize,
}

/// See the module. Paths are without a slash at either end; the root is empty.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: BTreeMap<String, Node>,
    seen: usize,
}

impl Tree {
    /// Puts a layer on top.
    pub(super) fn apply(&mut self, layer: impl Read) {
        let mut archive = Archive::new(layer);
        let mut entries = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = plain(&entry.path_bytes());
            let link = entry.link_name_bytes().map(|link| plain(&link)).unwrap_or_default();
            entries.push((path, link, self.read(&mut entry)));
        }
        // What is hidden lies in the layers below, wherever the mark stands.
        for (path, ..) in &entries {
            self.hide(path);
        }
        for (path, link, node) in entries {
            if !name(&path).starts_with(WHITEOUT) {
                self.put(path, &link, node);
            }
        }
    }

    fn read(&mut self, entry: &mut Entry<'_, impl Read>) -> Node {
        self.seen += 1;
        let mut attributes = BTreeMap::new();
        if let Some(records) = entry.pax_extensions().unwrap() {
            for record in records.map(Result::unwrap) {
                if let Some(name) = record.key().unwrap().strip_prefix(ATTRIBUTE) {
                    let value = record.value_bytes().escape_ascii().to_string();
                    attributes.insert(name.to_owned(), value);
                }
            }
        }
        let (header, kind) = (entry.header(), entry.header().entry_type());
        let mode = header.mode().unwrap() & 0o7777;
        let owner = (header.uid().unwrap(), header.gid().unwrap());
        let content = match kind {
            EntryType::Symlink => {
                String::from_utf8_lossy(&entry.link_name_bytes().unwrap()).into_owned()
            }
            EntryType::Regular => {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                digest(&bytes)
            }
            _ => String::new(),
        };
        Node { kind, mode, owner, content, attributes, identity: self.seen }
    }

    fn hide(&mut self, path: &str) {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        if name(path) == OPAQUE {
            self.empty(folder);
        } else if let Some(hidden) = name(path).strip_prefix(WHITEOUT) {
            let path =
                if folder.is_empty() { hidden.to_owned() } else { format!("{folder}/{hidden}") };
            self.empty(&path);
            self.nodes.remove(&path);
        }
    }

    /// Takes away what lies in a folder.
    fn empty(&mut self, folder: &str) {
        let start = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        self.nodes.retain(|path, _| path.is_empty() || !path.starts_with(&start));
    }

    fn put(&mut self, path: String, link: &str, node: Node) {
        let node = if node.kind == EntryType::Link { self.nodes[link].clone() } else { node };
        if node.kind != EntryType::Directory {
            self.empty_if_folder(&path);
        }
        for (at, _) in path.match_indices('/') {
            self.implied(&path[..at]);
        }
        self.nodes.insert(path, node);
    }

    fn empty_if_folder(&mut self, path: &str) {
        if self.nodes.get(path).is_some_and(|node| node.kind == EntryType::Directory) {
            self.empty(path);
        }
    }

    /// A folder that no layer describes.
    fn implied(&mut self, path: &str) {
        self.seen += 1;
        let node = Node {
            kind: EntryType::Directory,
            mode: 0o755,
            owner: (0, 0),
            content: String::new(),
            attributes: BTreeMap::new(),
            identity: self.seen,
        };
        self.nodes.entry(path.to_owned()).or_insert(node);
    }

    /// One line for each path.
    pub(super) fn described(&self) -> BTreeMap<String, String> {
        let mut first: BTreeMap<usize, &str> = BTreeMap::new();
        let mut described = BTreeMap::new();
        for (path, node) in &self.nodes {
            let first = *first.entry(node.identity).or_insert(path);
            let mut line = node.described();
            if first != path {
                let _ = write!(line, " = /{first}");
            }
            described.insert(format!("/{path}"), line);
        }
        described
    }
}

impl Node {
    fn described(&self) -> String {
        let Self { kind, mode, owner: (uid, gid), content, .. } = self;
        let mut line = match kind {
            EntryType::Directory => format!("folder {mode:04o} {uid}:{gid}"),
            EntryType::Regular => format!("file {mode:04o} {uid}:{gid} {content}"),
            EntryType::Symlink => format!("link {uid}:{gid} -> {content}"),
            other => format!("{other:?} {mode:04o} {uid}:{gid}"),
        };
        for (name, value) in &self.attributes {
            let _ = write!(line, " {name}={value}");
        }
        line
    }
}

fn digest(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in &Sha256::digest(bytes)[..8] {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn plain(path: &[u8]) -> String {
    let path = String::from_utf8_lossy(path);
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    parts.join("/")
}
