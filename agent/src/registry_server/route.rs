//! Which resource of the distribution specification a request means. Pure.

use std::str::FromStr;

use hyper::Method;
use swarm_proto::id::Digest;

use super::refusal::{Code, Refusal};
use super::settings::Access;
use crate::image::{RepositoryName, Tag};

/// Bytes of path and query.
const LONGEST: usize = 4096;
/// Characters of an upload's number.
const UPLOAD_DIGITS: usize = 32;

/// A manifest by what it is called, or by what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    Tag(Tag),
    Digest(Digest),
}

/// The number of an upload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct UploadId(String);

impl UploadId {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UploadId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        let is_id = text.len() == UPLOAD_DIGITS && text.bytes().all(is_digit);
        if is_id { Ok(Self(text.to_owned())) } else { Err(()) }
    }
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resource {
    /// `/v2/`: whether there is a registry.
    Base,
    Catalog,
    Tags(RepositoryName),
    Manifest(RepositoryName, Named),
    Blob(RepositoryName, Digest),
    Uploads(RepositoryName),
    Upload(RepositoryName, UploadId),
    Referrers(RepositoryName, Digest),
}

/// What to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Head,
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

/// A request without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) resource: Resource,
    pub(super) verb: Verb,
    pub(super) query: Query,
}

impl Route {
    pub(super) fn parse(method: &Method, path: &str, query: &str) -> Result<Self, Refusal> {
        if path.len() + query.len() > LONGEST {
            return Err(Refusal::new(Code::Unsupported, "the path is too long"));
        }
        let verb = verb(method);
        let resource = Resource::parse(path, verb)?;
        let verb = verb.filter(|verb| resource.verbs().contains(verb));
        let verb = verb.ok_or_else(|| Refusal::method(resource.verbs()))?;
        Ok(Self { resource, verb, query: Query::parse(query)? })
    }

    /// What somebody must be allowed for it.
    pub(super) fn needs(&self) -> Access {
        let is_upload = matches!(self.resource, Resource::Uploads(_) | Resource::Upload(..));
        match self.verb {
            Verb::Head | Verb::Get if !is_upload => Access::Pull,
            _ => Access::Push,
        }
    }
}

impl Route {
    /// Whether it changes what a repository has, all but blobs that come.
    pub(super) fn is_change(&self) -> bool {
        match (&self.resource, self.verb) {
            (Resource::Manifest(..), Verb::Put | Verb::Delete) => true,
            (resource, verb) => matches!(resource, Resource::Blob(..)) && verb == Verb::Delete,
        }
    }
}

fn verb(method: &Method) -> Option<Verb> {
    match method.as_str() {
        "HEAD" => Some(Verb::Head),
        "GET" => Some(Verb::Get),
        "POST" => Some(Verb::Post),
        "PUT" => Some(Verb::Put),
        "PATCH" => Some(Verb::Patch),
        "DELETE" => Some(Verb::Delete),
        _ => None,
    }
}

impl Resource {
    /// Names hold slashes: what stands at the end says what it is. Nothing is decoded: no name, tag or digest has a
    /// character that would need it, but the colon of a digest.
    fn parse(path: &str, verb: Option<Verb>) -> Result<Self, Refusal> {
        let unknown =
            || Refusal::new(Code::NameInvalid, "there is nothing at this path").not_found();
        let rest = match path.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Self::Base),
            Some(rest) => rest.strip_prefix('/').ok_or_else(unknown)?,
            None => return Err(unknown()),
        };
        if rest == "_catalog" {
            return Ok(Self::Catalog);
        }
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Ok(Self::Tags(repository(name)?));
        }
        if let Some(name) =
            rest.strip_suffix("/blobs/uploads").or_else(|| rest.strip_suffix("/blobs/uploads/"))
        {
            return Ok(Self::Uploads(repository(name)?));
        }
        let (before, last) = rest.rsplit_once('/').ok_or_else(unknown)?;
        let last = &last.replace("%3A", ":").replace("%3a", ":");
        if let Some(name) = before.strip_suffix("/blobs/uploads") {
            let gone = || Refusal::new(Code::BlobUploadUnknown, "there is no such upload");
            return Ok(Self::Upload(repository(name)?, last.parse().map_err(|()| gone())?));
        }
        if let Some(name) = before.strip_suffix("/manifests") {
            return Ok(Self::Manifest(repository(name)?, named(last, verb)?));
        }
        if let Some(name) = before.strip_suffix("/blobs") {
            return Ok(Self::Blob(repository(name)?, digest(last)?));
        }
        if let Some(name) = before.strip_suffix("/referrers") {
            return Ok(Self::Referrers(repository(name)?, digest(last)?));
        }
        Err(unknown())
    }

    fn verbs(&self) -> &'static [Verb] {
        match self {
            Self::Base | Self::Catalog | Self::Tags(_) | Self::Referrers(..) => {
                &[Verb::Get, Verb::Head]
            }
            Self::Manifest(..) => &[Verb::Get, Verb::Head, Verb::Put, Verb::Delete],
            Self::Blob(..) => &[Verb::Get, Verb::Head, Verb::Delete],
            Self::Uploads(_) => &[Verb::Post],
            Self::Upload(..) => &[Verb::Get, Verb::Patch, Verb::Put, Verb::Delete],
        }
    }
}

impl Verb {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Head => "HEAD",
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

fn repository(name: &str) -> Result<RepositoryName, Refusal> {
    name.parse().map_err(|error| Refusal::new(Code::NameInvalid, error))
}

/// A digest of a kind that this registry keeps.
pub(super) fn digest(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|_| {
        Refusal::new(Code::DigestInvalid, "it is not `sha256:` and 64 lower-case hex digits")
    })
}

fn named(text: &str, verb: Option<Verb>) -> Result<Named, Refusal> {
    if text.contains(':') {
        return digest(text).map(Named::Digest);
    }
    // What can never be a tag is not there; it is wrong only where it shall be one.
    let code = if verb == Some(Verb::Put) { Code::ManifestInvalid } else { Code::ManifestUnknown };
    text.parse().map(Named::Tag).map_err(|error| Refusal::new(code, error))
}

/// What follows the question mark.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Result<Self, Refusal> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(key)?, decode(value)?))
        });
        let pairs: Option<Vec<_>> = pairs.collect();
        let wrong = || Refusal::new(Code::Unsupported, "the query is not well formed");
        pairs.map(Self).ok_or_else(wrong)
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }
}

/// A plus stays one: media types have them, and clients do not always write them as `%2B`.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let value = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "51d9b231d5129e3ffc267c9d455c49d789bf3167b611a07ab6e4b3304c96b0e7";

    fn shown(method: &str, path: &str) -> String {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        match Route::parse(&method, path, query) {
            Ok(route) => format!("{:?} {:?} {:?}", route.verb, route.needs(), route.resource),
            Err(refusal) => format!("{} {}", refusal.status().as_u16(), refusal.code()),
        }
    }

    #[test]
    fn paths_are_read() {
        let id = "0123456789abcdef0123456789abcdef";
        let blob = format!("/v2/team/app/blobs/sha256:{HEX}");
        let encoded = format!("/v2/a/manifests/sha256%3A{HEX}");
        let upload = format!("/v2/a/blobs/uploads/{id}?digest=x");
        let table = [
            ("GET", "/v2/", "Get Pull Base".to_owned()),
            ("GET", "/v2", "Get Pull Base".to_owned()),
            ("GET", "/v2/_catalog?n=1", "Get Pull Catalog".to_owned()),
            ("GET", "/v2/a/b/tags/list", "Get Pull Tags(RepositoryName(\"a/b\"))".to_owned()),
            (
                "PUT",
                "/v2/tags/list/manifests/1",
                "Put Push Manifest(RepositoryName(\"tags/list\"), Tag(Tag(\"1\")))".to_owned(),
            ),
            (
                "DELETE",
                &blob,
                format!("Delete Push Blob(RepositoryName(\"team/app\"), Digest(\"sha256:{HEX}\"))"),
            ),
            (
                "HEAD",
                &encoded,
                format!(
                    "Head Pull Manifest(RepositoryName(\"a\"), Digest(Digest(\"sha256:{HEX}\")))"
                ),
            ),
            ("POST", "/v2/a/blobs/uploads/", "Post Push Uploads(RepositoryName(\"a\"))".to_owned()),
            ("POST", "/v2/a/blobs/uploads", "Post Push Uploads(RepositoryName(\"a\"))".to_owned()),
            ("GET", &upload, format!("Get Push Upload(RepositoryName(\"a\"), UploadId(\"{id}\"))")),
        ];
        for (method, path, expected) in table {
            assert_eq!(shown(method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn tricks_lead_nowhere() {
        let long = format!("/v2/{}/tags/list", "a/".repeat(3000));
        let table = [
            ("GET", "/", "404 NAME_INVALID"),
            ("GET", "/v1/a", "404 NAME_INVALID"),
            ("GET", "/v2/a", "404 NAME_INVALID"),
            ("GET", "/v2x/_catalog", "404 NAME_INVALID"),
            ("GET", "/v2/../../etc/passwd/manifests/1", "400 NAME_INVALID"),
            ("GET", "/v2/%2e%2e/manifests/1", "400 NAME_INVALID"),
            ("GET", "/v2/A/manifests/1", "400 NAME_INVALID"),
            ("GET", "/v2//manifests/1", "400 NAME_INVALID"),
            ("GET", "/v2/a/manifests/..", "404 MANIFEST_UNKNOWN"),
            ("PUT", "/v2/a/manifests/..", "400 MANIFEST_INVALID"),
            ("GET", "/v2/a/manifests/%2e%2e%2fx", "404 MANIFEST_UNKNOWN"),
            ("GET", "/v2/a/manifests/sha256:12", "400 DIGEST_INVALID"),
            ("GET", "/v2/a/blobs/sha512:12", "400 DIGEST_INVALID"),
            ("GET", "/v2/a/blobs/x", "400 DIGEST_INVALID"),
            ("GET", "/v2/a/blobs/uploads/../../x", "404 NAME_INVALID"),
            ("GET", "/v2/a/blobs/uploads/..", "404 BLOB_UPLOAD_UNKNOWN"),
            ("PUT", "/v2/a/tags/list", "405 UNSUPPORTED"),
            ("TRACE", "/v2/", "405 UNSUPPORTED"),
            ("GET", "/v2/_catalog?n=%zz", "405 UNSUPPORTED"),
            ("GET", &long, "405 UNSUPPORTED"),
        ];
        for (method, path, expected) in table {
            assert_eq!(shown(method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn queries_are_read() {
        let query = Query::parse("n=2&last=a%2Fb&artifactType=x%2fy+z&empty=&bare").unwrap();
        assert_eq!(query.get("n"), Some("2"));
        assert_eq!(query.get("last"), Some("a/b"));
        assert_eq!(query.get("artifactType"), Some("x/y+z"));
        assert_eq!((query.get("empty"), query.get("bare"), query.get("no")), (None, None, None));
        for wrong in ["a=%", "a=%2", "a=%ff", "%g0=1"] {
            assert!(Query::parse(wrong).is_err(), "{wrong}");
        }
    }
}
