//! The readers of what strangers send to a registry, each on its own: for programs that try them on mutated input.

use std::collections::BTreeSet;

use hyper::Method;

use super::accounts::Accounts;
use super::gate;
use super::lists::paged;
use super::range::{self, Part, Wanted};
use super::refusal::Refusal;
use super::route::{Named, Resource, Route};

/// What a request means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// All of it, in words.
    pub words: String,
    /// Names, tags, digests and numbers that were taken: what becomes a part of files' names and of answers.
    pub names: Vec<String>,
    /// Where the list that was asked for would go on, if it held some names.
    pub next: Option<String>,
}

/// Reads what a request asks for.
pub fn read_request(method: &str, path: &str, query: &str) -> Result<Asked, String> {
    let method = Method::from_bytes(method.as_bytes()).map_err(|error| error.to_string())?;
    let route = Route::parse(&method, path, query).map_err(|refusal| said(&refusal))?;
    let words = format!("{:?} {:?} {:?}", route.verb, route.needs(), route.is_change());
    let (kind, names) = names(&route.resource);
    let is_list = matches!(route.resource, Resource::Tags(_) | Resource::Catalog);
    let some = ["a", "B", "b", "c"].map(str::to_owned).to_vec();
    let next = if is_list {
        let (_, next) = paged(path, some, &route.query).map_err(|refusal| said(&refusal))?;
        next
    } else {
        None
    };
    Ok(Asked { words: format!("{kind} {words}"), names, next })
}

fn names(resource: &Resource) -> (&'static str, Vec<String>) {
    let name = ToString::to_string;
    match resource {
        Resource::Base => ("base", Vec::new()),
        Resource::Catalog => ("catalog", Vec::new()),
        Resource::Tags(of) => ("tags", vec![name(of)]),
        Resource::Manifest(of, Named::Tag(tag)) => ("tag", vec![name(of), tag.to_string()]),
        Resource::Manifest(of, Named::Digest(digest)) => {
            ("manifest", vec![name(of), digest.to_string()])
        }
        Resource::Blob(of, digest) => ("blob", vec![name(of), digest.to_string()]),
        Resource::Uploads(of) => ("uploads", vec![name(of)]),
        Resource::Upload(of, id) => ("upload", vec![name(of), id.as_str().to_owned()]),
        Resource::Referrers(of, digest) => ("referrers", vec![name(of), digest.to_string()]),
    }
}

/// Reads which part of so many bytes a `Range` header asks for: from where on, and how many. `None`: none of it.
pub fn read_range(header: &str, size: u64) -> Option<(u64, u64)> {
    match range::wanted(Some(header), size) {
        Wanted::All => Some((0, size)),
        Wanted::Part(Part { from, length }) => Some((from, length)),
        Wanted::Nothing => None,
    }
}

/// Reads where a chunk belongs, as a `Content-Range` header says: from where on, and how many bytes.
pub fn read_chunk(header: &str) -> Option<(u64, u64)> {
    range::chunk(header).map(|Part { from, length }| (from, length))
}

/// Reads the name and password of an `Authorization` header; `None`: it has no name.
pub fn read_credentials(header: &str) -> Result<Option<(String, String)>, String> {
    gate::credentials(header).map_err(|refusal| said(&refusal))
}

/// Reads accounts; answers with their names.
pub fn read_accounts(text: &str) -> Result<BTreeSet<String>, String> {
    let accounts = Accounts::parse(text);
    accounts.map(|accounts| accounts.names()).map_err(|(line, why)| format!("line {line}: {why}"))
}

fn said(refusal: &Refusal) -> String {
    format!("{} {}", refusal.status().as_u16(), refusal.code())
}
