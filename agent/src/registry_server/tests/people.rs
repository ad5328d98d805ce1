//! Who may do what, and what strangers try.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::Access;
use super::*;

const PASSWORD: &str = "purple-otter-4417-lamp";
const HASH: &str = "$2b$05$wnubAZIo7FjDx.1ROQWgOOvuTUaWgo9IvqXYdXZn32oOcayx7n3G6";

fn accounts(folder: &Path, text: &str, anonymous: Option<Access>) -> RegistryServerConfig {
    let file = folder.join("htpasswd");
    std::fs::write(&file, text).unwrap();
    RegistryServerConfig {
        accounts: Some(file),
        pull_only: ["bob".to_owned()].into(),
        anonymous,
        ..RegistryServerConfig::default()
    }
}

#[tokio::test]
async fn people_are_known_by_name_and_password() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("ada:{HASH}\nbob:{HASH}\n");
    let scene = Scene::with(accounts(folder.path(), &text, None)).await;
    let ask = async |method: &str, path: &str, name: &str, password: &str| {
        said(scene.ask(method, path).basic_auth(name, Some(password))).await
    };
    let upload = "/v2/app/blobs/uploads/";
    for path in ["/v2/", "/v2/app/manifests/1", "/v2/_catalog", "/elsewhere"] {
        let refused = scene.get(path).await;
        assert_eq!((refused.status, refused.code().as_str()), (401, "UNAUTHORIZED"), "{path}");
        assert!(refused.header("www-authenticate").starts_with("Basic realm="));
    }
    for (name, password) in [("ada", "wrong"), ("eve", PASSWORD), ("", ""), ("ada", "")] {
        assert_eq!(ask("POST", upload, name, password).await.status, 401, "{name}");
    }
    let said_otherwise = scene.ask("GET", "/v2/").header("authorization", "Bearer x");
    assert_eq!(said(said_otherwise).await.status, 401);
    assert_eq!(ask("GET", "/v2/", "ada", PASSWORD).await.status, 200);
    assert_eq!(ask("POST", upload, "ada", PASSWORD).await.status, 202);
    assert_eq!(ask("GET", "/v2/_catalog", "bob", PASSWORD).await.status, 200);
    let refused = ask("POST", upload, "bob", PASSWORD).await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "DENIED"));
    // A file that was changed counts at once; one that is wrong does not.
    std::fs::write(folder.path().join("htpasswd"), "nonsense").unwrap();
    assert_eq!(ask("GET", "/v2/", "ada", PASSWORD).await.status, 200);
    let other = bcrypt::hash("other", 4).unwrap();
    std::fs::write(folder.path().join("htpasswd"), format!("ada:{other}\nbob:{HASH}")).unwrap();
    assert_eq!(ask("GET", "/v2/", "ada", PASSWORD).await.status, 401);
    assert_eq!(ask("GET", "/v2/", "ada", "other").await.status, 200);
}

#[tokio::test]
async fn all_may_read_where_it_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("ada:{HASH}\nbob:{HASH}\n");
    let scene = Scene::with(accounts(folder.path(), &text, Some(Access::Pull))).await;
    let base = scene.get("/v2/").await;
    assert_eq!(base.status, 200);
    assert!(base.header("www-authenticate").starts_with("Basic"), "a name may come to more");
    assert_eq!(scene.get("/v2/_catalog").await.status, 200);
    let upload = "/v2/app/blobs/uploads/";
    assert_eq!(said(scene.ask("POST", upload)).await.status, 401);
    let named = scene.ask("POST", upload).basic_auth("ada", Some(PASSWORD));
    assert_eq!(said(named).await.status, 202);
}

#[tokio::test]
async fn files_that_cannot_be_used_are_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let open = async |config: RegistryServerConfig| {
        let config = RegistryServerConfig { listen: Some("127.0.0.1:0".into()), ..config };
        let opened = Ready::open(&config.settings().unwrap().unwrap()).await;
        opened.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let error = open(accounts(folder.path(), "ada:x", None)).await;
    assert!(error.contains("htpasswd` line 1: the password of `ada` is not hashed"), "{error}");
    let error = open(accounts(folder.path(), &format!("ada:{HASH}"), None)).await;
    assert!(error.contains("`registry_server.pull_only` names `bob`"), "{error}");
    let absent = folder.path().join("absent");
    let error = open(RegistryServerConfig { accounts: Some(absent), ..Default::default() }).await;
    assert!(error.contains("cannot read the registry's accounts"), "{error}");
    let pem = folder.path().join("pem");
    std::fs::write(&pem, "nothing").unwrap();
    let tls = super::super::TlsFiles { certificate: pem.clone(), key: pem };
    let error = open(RegistryServerConfig { tls: Some(tls), ..Default::default() }).await;
    assert!(error.contains("there is no certificate in it"), "{error}");
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = Some(taken.local_addr().unwrap().to_string());
    let config = RegistryServerConfig { listen, ..Default::default() };
    let refused = Ready::open(&config.settings().unwrap().unwrap()).await.err().unwrap();
    assert!(refused.to_string().contains("cannot listen on 127.0.0.1:"), "{refused}");
}

/// Sends bytes as they are; answers with what comes back until the other side is done.
async fn raw(scene: &Scene, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(scene.address).await.unwrap();
    // The other side may have had enough before the end.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn strangers_get_nowhere() {
    let scene = Scene::new().await;
    scene.push("app", "1").await;
    let blob = digest(&layer("app:1"));
    let table = [
        (format!("GET /v2/../blobs/{blob} HTTP/1.1"), "400"),
        (format!("GET /v2/app/../other/blobs/{blob} HTTP/1.1"), "400"),
        ("GET /v2/app/manifests/../../../../../etc/passwd HTTP/1.1".to_owned(), "404"),
        ("GET /v2/app/manifests/%00 HTTP/1.1".to_owned(), "404"),
        ("PUT /v2/app/tags/list HTTP/1.1".to_owned(), "405"),
        ("DELETE /v2/_catalog HTTP/1.1".to_owned(), "405"),
        ("CONNECT app:1 HTTP/1.1".to_owned(), "404"),
        ("nonsense".to_owned(), "400"),
        (format!("GET /v2/{} HTTP/1.1", "a".repeat(20_000)), "4"),
        (format!("GET /v2/ HTTP/1.1\r\nX: {}", "a".repeat(100_000)), "431"),
        (format!("GET /v2/ HTTP/1.1{}", "\r\nX: y".repeat(5_000)), "431"),
        ("POST /v2/app/blobs/uploads/ HTTP/1.1\r\nContent-Length: -1".to_owned(), "400"),
        (
            format!(
                "POST /v2/app/blobs/uploads/?digest={blob} HTTP/1.1\r\nContent-Length: {}",
                1u64 << 60
            ),
            "507",
        ),
    ];
    for (head, status) in table {
        let answer = raw(&scene, format!("{head}\r\nHost: x\r\n\r\n").as_bytes()).await;
        let line = answer.lines().next().unwrap_or_default();
        let shown: String = head.chars().take(80).collect();
        assert!(line.starts_with(&format!("HTTP/1.1 {status}")), "{shown}: {line}");
    }
    // All of it left nothing, and the registry still answers.
    let until = Instant::now() + Duration::from_secs(20);
    while !entries(&scene.place("registry/uploads")).is_empty() {
        assert!(Instant::now() < until, "an upload stays");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(scene.get("/v2/").await.status, 200);
}

#[tokio::test]
async fn uploads_are_bounded() {
    let scene = Scene::new().await;
    let mut places = Vec::new();
    for _ in 0..256 {
        places.push(scene.begin("app").await);
    }
    let refused = said(scene.ask("POST", "/v2/app/blobs/uploads/")).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "TOOMANYREQUESTS"));
    assert_eq!(scene.delete(&places[0]).await, 204);
    scene.begin("app").await;
}
