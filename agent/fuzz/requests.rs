//! What strangers send to a host's registry, with bytes changed: paths with names and references, queries, ranges, names with
//! passwords; and files of accounts. An input is lines: method, path with query, `Range`, `Content-Range`, `Authorization`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use swarm_agent::registry_server::readers;

use crate::documents::repeated;

const DIGEST: &str = "sha256:51d9b231d5129e3ffc267c9d455c49d789bf3167b611a07ab6e4b3304c96b0e7";
const UPLOAD: &str = "0123456789abcdef0123456789abcdef";
/// Of the password `purple-otter-4417-lamp`.
const HASH: &str = "$2b$05$wnubAZIo7FjDx.1ROQWgOOvuTUaWgo9IvqXYdXZn32oOcayx7n3G6";
/// Bytes of the blob of which parts are asked for.
const SIZES: [u64; 4] = [0, 1, 100, u64::MAX];
/// No name, tag, digest or number that is taken is longer.
const LONGEST_NAME: usize = 255;

/// What means something in a request, or among accounts.
pub(crate) const PIECES: [&str; 52] = [
    "\n",
    "/",
    "//",
    "/v2",
    "/v2/",
    "_catalog",
    "/tags/list",
    "/manifests/",
    "/blobs/",
    "/blobs/uploads",
    "/blobs/uploads/",
    "/referrers/",
    "..",
    ".",
    "-",
    "__",
    "%2e%2e",
    "%2F",
    "%3A",
    "%",
    "%00",
    "%zz",
    "?",
    "&",
    "=",
    "n=",
    "last=",
    "mount=",
    "from=",
    "digest=",
    "artifactType=",
    "18446744073709551615",
    "99999999999999999999",
    "bytes=",
    "bytes 0-9/*",
    "0-9",
    "-",
    ",",
    "Basic ",
    "Bearer ",
    "Og==",
    "YWRhOmE6Yg==",
    "GET",
    "PUT",
    "PATCH",
    "DELETE",
    DIGEST,
    "sha512:",
    UPLOAD,
    HASH,
    "ada:",
    "\u{e9}",
];

/// Requests as clients send them.
pub(crate) fn requests() -> Vec<Vec<u8>> {
    let credentials = format!("Basic {}", STANDARD.encode("ada:purple-otter-4417-lamp"));
    let texts = [
        "GET\n/v2/\n\n\n".to_owned(),
        format!("GET\n/v2/_catalog?n=2&last=a%2Fb\n\n\n{credentials}"),
        "GET\n/v2/team/app/tags/list?n=1&last=B\n\n\n".to_owned(),
        "PUT\n/v2/team/app/manifests/v1.2-rc\n\n\n".to_owned(),
        format!("HEAD\n/v2/a/manifests/{}\n\n\n", DIGEST.replace(':', "%3A")),
        format!("GET\n/v2/a/blobs/{DIGEST}\nbytes=10-19\n\n{credentials}"),
        format!("DELETE\n/v2/a/blobs/{DIGEST}\nbytes=-5\n\n"),
        format!("POST\n/v2/a/blobs/uploads/?mount={DIGEST}&from=team%2Fapp\n\n\n"),
        format!("PATCH\n/v2/a/blobs/uploads/{UPLOAD}\n\n0-99\n"),
        format!("PUT\n/v2/a/blobs/uploads/{UPLOAD}?digest={DIGEST}\n\nbytes 5-9/*\nBasic Og=="),
        format!("GET\n/v2/a/referrers/{DIGEST}?artifactType=x/y+z\nbytes=5-\n\nBearer x"),
    ];
    texts.map(String::into_bytes).into()
}

/// Files of accounts.
pub(crate) fn accounts() -> Vec<Vec<u8>> {
    let texts = [
        format!("# people\n\nada:{HASH}\n  bob:{}  \n", HASH.replace("2b", "2y")),
        format!("ada:{HASH}\nada:{HASH}\n"),
        "ada:$apr1$x$y".to_owned(),
    ];
    texts.map(String::into_bytes).into()
}

/// What is only slow when it is long is seldom met by luck.
pub(crate) fn long() -> Vec<Vec<u8>> {
    let mut inputs = repeated(&PIECES);
    let after = |before: &str, piece: &[u8]| [before.as_bytes(), piece].concat();
    for before in ["GET\n/v2/", "GET\n/v2/a/tags/list?", "GET\n/v2/\n", "GET\n/v2/\n\n\nBasic "] {
        inputs.extend(
            repeated(&["a", "a/", "a=&", "%61", "1", "QUFB"]).iter().map(|it| after(before, it)),
        );
    }
    inputs
}

/// A request is read, or refused; what is taken of it leads nowhere else.
pub(crate) fn read(bytes: &[u8]) -> Result<String, String> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (method, target, range, chunk, credentials) = (line(), line(), line(), line(), line());
    Ok([read_target(method, target)?, read_ranges(range, chunk)?, read_credentials(credentials)?]
        .join("; "))
}

fn read_target(method: &str, target: &str) -> Result<String, String> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let asked = match readers::read_request(method, path, query) {
        Ok(asked) => asked,
        Err(refused) => return Ok(format!("refused: {refused}")),
    };
    if let Some(name) = asked.names.iter().find(|name| !leads_nowhere(name)) {
        return Err(format!("it takes `{name:?}` for a name"));
    }
    if let Some(next) = &asked.next {
        let (path, query) = next.split_once('?').unwrap_or((next, ""));
        match readers::read_request("GET", path, query) {
            Ok(again) if again.names == asked.names && next.is_ascii() => {}
            other => return Err(format!("its next page `{next:?}` is read as {other:?}")),
        }
    }
    Ok(format!("{} {}", asked.words, asked.next.is_some()))
}

/// Whether a name that was taken can be a part of a file's name, and of a header.
fn leads_nowhere(name: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || "._-/:".contains(c);
    let parts = name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
    name.len() <= LONGEST_NAME && name.chars().all(known) && parts
}

fn read_ranges(range: &str, chunk: &str) -> Result<String, String> {
    let mut words = Vec::new();
    for size in SIZES {
        let part = readers::read_range(range, size);
        let outside = |(from, length): (u64, u64)| {
            from.checked_add(length).is_none_or(|end| end > size) || (length == 0 && size > 0)
        };
        if let Some(part) = part.filter(|part| outside(*part)) {
            return Err(format!("of {size} bytes it takes {part:?}"));
        }
        words.push(part.map_or("none", |part| if part == (0, size) { "all" } else { "part" }));
    }
    let chunk = readers::read_chunk(chunk);
    if let Some((from, length)) = chunk
        && (length == 0 || from.checked_add(length - 1).is_none())
    {
        return Err(format!("a chunk is {length} bytes from {from} on"));
    }
    Ok(format!("{} {}", words.join(" "), chunk.is_some()))
}

/// What is read is written so that it is read as the same.
fn read_credentials(header: &str) -> Result<String, String> {
    let read = readers::read_credentials(header);
    if let Ok(Some((name, password))) = &read {
        let written = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
        let again = readers::read_credentials(&written);
        if name.contains(':') || again != read {
            return Err(format!("it is written as `{written}`, which is read as {again:?}"));
        }
    }
    Ok(match read {
        Ok(found) => format!("named {}", found.is_some()),
        Err(refused) => refused,
    })
}

/// Accounts are read, or refused; the names are such as can be said.
pub(crate) fn read_accounts(bytes: &[u8]) -> Result<String, String> {
    let text = String::from_utf8_lossy(bytes);
    match readers::read_accounts(&text) {
        Ok(names) => {
            let wrong = |name: &&String| name.is_empty() || name.contains([':', '\n']);
            match names.iter().find(wrong) {
                Some(name) => Err(format!("it takes `{name:?}` for a name")),
                None => Ok(format!("{} accounts", names.len())),
            }
        }
        Err(refused) => Ok(refused),
    }
}
