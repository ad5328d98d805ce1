//! A registry in this process, with faults to order.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::image::{Blob, digest};

pub(crate) const TOKEN: &str = "a-token-for-this-test";

/// Bytes that stand for a stream without end.
pub(crate) const ENDLESS: usize = 1 << 30;

/// What the registry has and how it misbehaves.
#[derive(Default)]
pub(crate) struct Shelf {
    pub(crate) manifests: BTreeMap<String, (String, Blob)>,
    pub(crate) blobs: BTreeMap<String, Blob>,
    /// Wants a bearer token, fetched from `/token`.
    pub(crate) guarded: bool,
    /// Who may have a token, as `name:password` in base64; everybody where there is none.
    pub(crate) member: Option<&'static str>,
    /// Wants a name and password with each request: the same, for a registry without tokens.
    pub(crate) basic: Option<&'static str>,
    /// Breaks off what is uploaded after so many bytes, so many times.
    pub(crate) break_upload: Option<(usize, u32)>,
    /// Says that it has this under each name.
    pub(crate) claims: Option<String>,
    /// Repositories have nothing in common, but may take blobs over from each other.
    pub(crate) mounts: bool,
    /// Breaks off a blob's stream after so many bytes, so many times.
    pub(crate) break_after: Option<(usize, u32)>,
    /// Serves every blob whole, also when a part is asked for.
    pub(crate) no_ranges: bool,
    /// Answers so many requests with 503.
    pub(crate) busy: u32,
    /// Answers what has this in its path with this status, and bytes without end.
    pub(crate) flood: Option<(&'static str, &'static str)>,
    /// Never answers what has this in its path.
    pub(crate) stall: Option<String>,
    /// Bytes that were sent so, until nobody took any more.
    pub(crate) flooded: usize,
    /// Method and path of all requests, and the range that was asked for.
    pub(crate) requests: Vec<String>,
}

#[derive(Clone)]
pub(crate) struct Registry {
    pub(crate) address: SocketAddr,
    pub(crate) shelf: Arc<Mutex<Shelf>>,
}

impl Registry {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registry = Self { address: listener.local_addr().unwrap(), shelf: Arc::default() };
        let serving = registry.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let registry = serving.clone();
                tokio::spawn(async move {
                    // A client that went away is none of our business.
                    let _ = registry.serve(stream).await;
                });
            }
        });
        registry
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Puts an image under a name (`library/x`) and tag, and tells its digest.
    pub(crate) fn put(&self, name: &str, tag: &str, image: &crate::image::TestImage) -> String {
        let mut shelf = self.shelf.lock().unwrap();
        for blob in &image.blobs {
            shelf.blobs.insert(digest(blob), blob.clone());
        }
        for (kind, manifest) in &image.manifests {
            let entry = (kind.clone(), manifest.clone());
            shelf.manifests.insert(format!("{name}@{}", digest(manifest)), entry);
        }
        let (kind, top) = image.manifests.last().unwrap();
        shelf.manifests.insert(format!("{name}@{tag}"), (kind.clone(), top.clone()));
        digest(top)
    }

    pub(crate) fn requests(&self, part: &str) -> Vec<String> {
        let shelf = self.shelf.lock().unwrap();
        shelf.requests.iter().filter(|request| request.contains(part)).cloned().collect()
    }

    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8(head).unwrap();
        let Some(body) = self.body(&mut stream, &head).await? else { return Ok(()) };
        let (flood, stall) = {
            let shelf = self.shelf.lock().unwrap();
            (shelf.flood, shelf.stall.clone())
        };
        if stall.is_some_and(|path| head.contains(&path)) {
            std::future::pending::<()>().await;
        }
        if let Some((_, status)) =
            flood.filter(|(path, _)| head.starts_with("GET") && head.contains(path))
        {
            return self.flood(stream, status).await;
        }
        let answer = self.answer(&head, &body);
        stream.write_all(format!("{}\r\n", answer.head).as_bytes()).await?;
        // Cut short, the connection ends before the promised length.
        let length = answer.cut.unwrap_or(answer.body.len());
        stream.write_all(&answer.body[..length]).await?;
        stream.shutdown().await
    }

    async fn flood(&self, mut stream: TcpStream, status: &str) -> std::io::Result<()> {
        stream
            .write_all(format!("HTTP/1.1 {status}\r\nconnection: close\r\n\r\n").as_bytes())
            .await?;
        let bytes = vec![b' '; 64 << 10];
        for _ in 0..ENDLESS / bytes.len() {
            stream.write_all(&bytes).await?;
            self.shelf.lock().unwrap().flooded += bytes.len();
        }
        Ok(())
    }

    /// What is uploaded; `None` where it breaks off.
    async fn body(&self, stream: &mut TcpStream, head: &str) -> std::io::Result<Option<Vec<u8>>> {
        let length = header(head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let broken = {
            let mut shelf = self.shelf.lock().unwrap();
            let large = |after: usize| head.starts_with("PUT") && length > after;
            match &mut shelf.break_upload {
                Some((after, times)) if *times > 0 && large(*after) => {
                    *times -= 1;
                    Some(*after)
                }
                _ => None,
            }
        };
        let mut body = vec![0; broken.unwrap_or(length)];
        stream.read_exact(&mut body).await?;
        Ok(broken.is_none().then_some(body))
    }

    fn answer(&self, head: &str, body: &[u8]) -> Answer {
        let mut words = head.split_whitespace();
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let range = header(head, "range").unwrap_or_default();
        let mut shelf = self.shelf.lock().unwrap();
        shelf.requests.push(format!("{method} {path} {range}").trim_end().to_owned());
        if shelf.busy > 0 {
            shelf.busy -= 1;
            return Answer::new("503 Service Unavailable", "", b"later");
        }
        if method == "POST" && path.starts_with("/token") {
            return refreshed(&String::from_utf8_lossy(body));
        }
        if let Some(answer) = guarded(&shelf, head, path, self.address) {
            return answer;
        }
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let path = path.trim_start_matches("/v2/");
        if path.is_empty() {
            return Answer::new("200 OK", "application/json", b"{}");
        }
        if let Some((name, reference)) = path.split_once("/manifests/") {
            let key = format!("{name}@{reference}");
            if method == "PUT" {
                let kind = header(head, "content-type").unwrap_or_default();
                let by_digest = format!("{name}@{}", digest(body));
                shelf.manifests.insert(by_digest, (kind.clone(), body.to_vec()));
                shelf.manifests.insert(key, (kind, body.to_vec()));
                return Answer::new("201 Created", "text/plain", b"")
                    .with("location", &format!("/v2/{name}/manifests/{}", digest(body)));
            }
            let claimed = shelf.claims.clone();
            return match shelf.manifests.get(&key) {
                Some((kind, manifest)) => {
                    let body = if method == "HEAD" { &[] } else { manifest.as_slice() };
                    Answer::new("200 OK", kind, body)
                        .with("docker-content-digest", &claimed.unwrap_or_else(|| digest(manifest)))
                }
                None => Answer::unknown("MANIFEST_UNKNOWN"),
            };
        }
        match path.split_once("/blobs/") {
            Some((name, upload)) if upload.starts_with("uploads/") => {
                uploaded(&mut shelf, name, method, query, body)
            }
            Some((_, wanted)) if method == "HEAD" => {
                if shelf.mounts {
                    return Answer::unknown("BLOB_UNKNOWN");
                }
                let mut answer = blob(&mut shelf, wanted, "");
                answer.body.clear();
                answer
            }
            Some((_, wanted)) => blob(&mut shelf, wanted, &range),
            None => Answer::unknown("UNSUPPORTED"),
        }
    }
}

/// A token for an identity token, as OAuth 2 has it.
fn refreshed(form: &str) -> Answer {
    let wanted = [
        "grant_type=refresh_token",
        "refresh_token=identity%26",
        "service=test-registry",
        "client_id=",
        "scope=repository%3A",
    ];
    if wanted.iter().any(|pair| !form.contains(pair)) {
        return Answer::new("401 Unauthorized", "text/plain", b"who are you");
    }
    let body = format!(r#"{{"access_token":"{TOKEN}","expires_in":300}}"#);
    Answer::new("200 OK", "application/json", body.as_bytes())
}

/// What somebody is told who has not shown who they are; also of the service that gives tokens.
fn guarded(shelf: &Shelf, head: &str, path: &str, address: SocketAddr) -> Option<Answer> {
    let shown = header(head, "authorization").unwrap_or_default();
    if path.starts_with("/token") {
        if shelf.member.is_some_and(|member| shown != format!("Basic {member}")) {
            return Some(Answer::new("401 Unauthorized", "text/plain", b"who are you"));
        }
        if !path.contains("scope=") {
            return Some(Answer::new("200 OK", "application/json", br#"{"token":"x"}"#));
        }
        let right = path.contains("scope=repository") && path.contains("service=test-registry");
        let token = if right { TOKEN } else { "wrong" };
        let body = format!(r#"{{"token":"{token}","expires_in":300}}"#);
        return Some(Answer::new("200 OK", "application/json", body.as_bytes()));
    }
    if shelf.basic.is_some_and(|member| shown != format!("Basic {member}")) {
        let answer = Answer::new("401 Unauthorized", "text/plain", b"no");
        return Some(answer.with("www-authenticate", "Basic realm=\"test\""));
    }
    if shelf.guarded && shown != format!("Bearer {TOKEN}") {
        let challenge = format!(r#"Bearer realm="http://{address}/token",service="test-registry""#);
        let body = br#"{"errors":[{"code":"UNAUTHORIZED","message":"no token"}]}"#;
        let answer = Answer::new("401 Unauthorized", "application/json", body);
        return Some(answer.with("www-authenticate", &challenge));
    }
    None
}

fn header(head: &str, name: &str) -> Option<String> {
    let begin = format!("{name}:");
    let line = head.lines().find(|line| line.to_lowercase().starts_with(&begin))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// One step of an upload: a `POST` begins it or mounts a blob, a `PUT` brings all of it.
fn uploaded(shelf: &mut Shelf, name: &str, method: &str, query: &str, body: &[u8]) -> Answer {
    let value = |key: &str| {
        let pair = query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))?;
        Some(pair.replace("%3A", ":"))
    };
    let created = |digest: &str| {
        let place = format!("/v2/{name}/blobs/{digest}");
        Answer::new("201 Created", "text/plain", b"").with("location", &place)
    };
    if method == "PUT" {
        let wanted = value("digest").unwrap_or_default();
        if digest(body) != wanted {
            let error = br#"{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}"#;
            return Answer::new("400 Bad Request", "application/json", error);
        }
        shelf.blobs.insert(wanted.clone(), body.to_vec());
        return created(&wanted);
    }
    match value("mount") {
        Some(digest) if shelf.mounts => created(&digest),
        _ => Answer::new("202 Accepted", "text/plain", b"")
            .with("location", &format!("/v2/{name}/blobs/uploads/1")),
    }
}

fn blob(shelf: &mut Shelf, wanted: &str, range: &str) -> Answer {
    let Some(blob) = shelf.blobs.get(wanted) else { return Answer::unknown("BLOB_UNKNOWN") };
    let start = range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
    let start = start.and_then(|start| start.parse::<usize>().ok()).filter(|_| !shelf.no_ranges);
    let mut answer = match start {
        Some(start) => Answer::new("206 Partial Content", "x", &blob[start..]),
        None => Answer::new("200 OK", "application/octet-stream", blob),
    };
    if let Some((after, times)) = &mut shelf.break_after
        && *times > 0
        && answer.body.len() > *after
    {
        *times -= 1;
        answer.cut = Some(*after);
    }
    answer
}

struct Answer {
    head: String,
    body: Vec<u8>,
    cut: Option<usize>,
}

impl Answer {
    fn new(status: &str, kind: &str, body: &[u8]) -> Self {
        let head = format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n",
            body.len()
        );
        Self { head, body: body.to_vec(), cut: None }
    }

    fn unknown(code: &str) -> Self {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"unknown"}}]}}"#);
        Self::new("404 Not Found", "application/json", body.as_bytes())
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        write!(self.head, "{name}: {value}\r\n").unwrap();
        self
    }
}
