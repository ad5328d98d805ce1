//! Docker's own file of names and passwords for registries (`~/.docker/config.json`), and the programs that it names for
//! them. It is read anew each time and never written.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;
use zeroize::{Zeroize as _, Zeroizing};

use crate::object::{RegistryLogin, RegistryName, Secret};

/// How long a program for credentials may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The file's name in a home folder.
const FILE: &str = ".docker/config.json";
/// What such programs are called, before their own name.
const PROGRAM: &str = "docker-credential-";
/// Files and answers beyond this are no such files and answers.
const MOST_BYTES: u64 = 1 << 20;

/// Why credentials are not known.
#[derive(Debug, thiserror::Error)]
pub enum DockerConfigError {
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what Docker writes.
    #[error("`{}` cannot be understood: {reason}", path.display())]
    Wrong {
        /// Which.
        path: PathBuf,
        /// Why; it tells nothing of what is in it.
        reason: String,
    },
    /// The program that the file names does not answer as it should.
    #[error("`{program}`, which `{}` names for `{registry}`, {reason}", path.display())]
    Program {
        /// The file.
        path: PathBuf,
        /// Its name.
        program: String,
        /// For which registry.
        registry: RegistryName,
        /// What it does.
        reason: String,
    },
}

/// Where the file of who runs this lies: `$DOCKER_CONFIG/config.json`, else in the home folder.
pub fn own_path() -> Option<PathBuf> {
    let folder = std::env::var_os("DOCKER_CONFIG").filter(|folder| !folder.is_empty());
    let named = folder.map(|folder| Path::new(&folder).join("config.json"));
    named.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(FILE)))
}

/// Looks up a registry in the file. `None`: there is no file, or nothing in it for the registry.
pub async fn look_up(
    path: &Path,
    registry: &RegistryName,
) -> Result<Option<RegistryLogin>, DockerConfigError> {
    let read = tokio::fs::metadata(path).await;
    let text = match read {
        Ok(file) if file.len() > MOST_BYTES => {
            let reason = format!("it has more than {MOST_BYTES} bytes");
            return Err(DockerConfigError::Wrong { path: path.to_owned(), reason });
        }
        Ok(_) => tokio::fs::read(path).await,
        Err(error) => Err(error),
    };
    let text = match text {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(DockerConfigError::Read { path: path.to_owned(), source }),
    };
    let file = File::parse(&text)
        .map_err(|reason| DockerConfigError::Wrong { path: path.to_owned(), reason })?;
    match file.find(registry) {
        Found::Nothing => Ok(None),
        Found::Password(user, password) => {
            Ok(Some(RegistryLogin::new(registry.clone(), user, password)))
        }
        Found::Token(token) => Ok(Some(RegistryLogin::with_token(registry.clone(), token))),
        Found::Program(name) => {
            let program = format!("{PROGRAM}{name}");
            let wrong = |reason| DockerConfigError::Program {
                path: path.to_owned(),
                program: program.clone(),
                registry: registry.clone(),
                reason,
            };
            match ask(&program, registry).await.map_err(wrong)? {
                Some((user, password)) => {
                    Ok(Some(RegistryLogin::new(registry.clone(), user, password)))
                }
                None => Ok(None),
            }
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct File {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

/// Its texts are overwritten in memory when they go.
#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
}

impl Drop for Entry {
    fn drop(&mut self) {
        for text in [&mut self.auth, &mut self.password, &mut self.identitytoken] {
            text.zeroize();
        }
    }
}

/// What the file says of one registry.
enum Found {
    Nothing,
    Password(String, Secret),
    /// An identity token, for which a token for each request is got.
    Token(Secret),
    /// The rest of the name of a program that knows.
    Program(String),
}

impl File {
    fn parse(text: &[u8]) -> Result<Self, String> {
        // An error's text could show a part of what is in the file.
        let file: Self = serde_json::from_slice(text).map_err(|error| {
            format!("it is no JSON as Docker writes it, line {} is wrong", error.line())
        })?;
        for (name, entry) in &file.auths {
            if !entry.auth.is_empty() && entry.decoded().is_none() {
                return Err(format!("`auth` of `{name}` is not `name:password` in base64"));
            }
        }
        Ok(file)
    }

    fn find(&self, registry: &RegistryName) -> Found {
        let is_meant = |name: &str| name.parse().is_ok_and(|name: RegistryName| name == *registry);
        if let Some((_, name)) = self.cred_helpers.iter().find(|(name, _)| is_meant(name)) {
            return Found::Program(name.clone());
        }
        let entry = self.auths.iter().find(|(name, _)| is_meant(name)).map(|(_, entry)| entry);
        match entry {
            Some(entry) if !entry.identitytoken.is_empty() => {
                return Found::Token(Secret::new(entry.identitytoken.clone()));
            }
            Some(entry) if !entry.auth.is_empty() => {
                if let Some((user, password)) = entry.decoded() {
                    return Found::Password(user, password);
                }
            }
            Some(entry) if !entry.username.is_empty() => {
                let password = Secret::new(entry.password.clone());
                return Found::Password(entry.username.clone(), password);
            }
            // Docker leaves an empty entry where a program keeps the rest.
            _ => {}
        }
        let store = self.creds_store.as_ref().filter(|name| !name.is_empty());
        store.map_or(Found::Nothing, |name| Found::Program(name.clone()))
    }
}

impl Entry {
    fn decoded(&self) -> Option<(String, Secret)> {
        let bytes = Zeroizing::new(STANDARD.decode(self.auth.trim()).ok()?);
        let text = std::str::from_utf8(&bytes).ok()?;
        // Docker once ended passwords with a zero.
        let (user, password) = text.trim_end_matches('\0').split_once(':')?;
        Some((user.to_owned(), Secret::new(password.to_owned())))
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    user: String,
    #[serde(rename = "Secret")]
    password: String,
}

/// Asks a program; `None` where it has nothing. The reason of a failure tells nothing of what it wrote.
async fn ask(program: &str, registry: &RegistryName) -> Result<Option<(String, Secret)>, String> {
    if program.contains('/') {
        return Err("is not just a name".to_owned());
    }
    run(Path::new(program), registry).await
}

async fn run(program: &Path, registry: &RegistryName) -> Result<Option<(String, Secret)>, String> {
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut running =
        command.kill_on_drop(true).spawn().map_err(|error| format!("cannot be run: {error}"))?;
    let answered = async {
        if let Some(mut input) = running.stdin.take() {
            // One that reads nothing says so by its answer.
            let _ = input.write_all(registry.docker_address().as_bytes()).await;
        }
        running.wait_with_output().await
    };
    let output = timeout(PATIENCE, answered).await;
    let output = output
        .map_err(|_| format!("does not answer within {} s", PATIENCE.as_secs()))?
        .map_err(|error| format!("cannot be read: {error}"))?;
    let written = Zeroizing::new(output.stdout);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&written);
        if said.contains("credentials not found") {
            return Ok(None);
        }
        return Err(format!("fails ({})", output.status));
    }
    let answer: Answer = serde_json::from_slice(&written)
        .map_err(|_| "does not answer with `Username` and `Secret`".to_owned())?;
    Ok(Some((answer.user, Secret::new(answer.password))))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn found(text: &str, registry: &str) -> String {
        let file = match File::parse(text.as_bytes()) {
            Ok(file) => file,
            Err(reason) => return format!("wrong: {reason}"),
        };
        match file.find(&registry.parse().unwrap()) {
            Found::Nothing => "nothing".to_owned(),
            Found::Password(user, password) => format!("{user} {}", password.reveal()),
            Found::Token(token) => format!("token {}", token.reveal()),
            Found::Program(name) => format!("program {name}"),
        }
    }

    #[test]
    fn the_file_is_read_as_docker_writes_it() {
        let text = r#"{
            "auths": {
                "https://index.docker.io/v1/": { "auth": "YWRhOnA6cQ==" },
                "r.example:5000": { "username": "bob", "password": "x" },
                "t.example": { "auth": "YWRhOg==", "identitytoken": "t" },
                "kept.example": {}
            },
            "credHelpers": { "gcr.example": "gcloud" },
            "credsStore": "desktop",
            "HttpHeaders": { "User-Agent": "x" }
        }"#;
        let table = [
            ("docker.io", "ada p:q"),
            ("r.example:5000", "bob x"),
            ("r.example", "program desktop"),
            ("t.example", "token t"),
            ("kept.example", "program desktop"),
            ("gcr.example", "program gcloud"),
        ];
        for (registry, expected) in table {
            assert_eq!(found(text, registry), expected, "{registry}");
        }
        assert_eq!(found("{}", "a.example"), "nothing");
        let wrong = found(r#"{"auths":{"a.example":{"auth":"swordfish"}}}"#, "a.example");
        assert_eq!(wrong, "wrong: `auth` of `a.example` is not `name:password` in base64");
        let wrong = found(r#"{"auths":"swordfish"}"#, "a.example");
        assert_eq!(wrong, "wrong: it is no JSON as Docker writes it, line 1 is wrong");
    }

    #[tokio::test]
    async fn a_program_is_asked_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        let hub = RegistryName::hub();
        assert!(look_up(&file, &hub).await.unwrap().is_none(), "there is no file");
        fs::write(&file, r#"{"credsStore":"no-such-program-here"}"#).unwrap();
        let error = look_up(&file, &hub).await.unwrap_err().to_string();
        assert!(error.starts_with("`docker-credential-no-such-program-here`"), "{error}");
        // No other name leads to this program, so the search path stays as it is.
        let script = folder.path().join("docker-credential-test");
        let lines = "#!/bin/sh\nread -r server\ncase $server in\n\
                     https://index.docker.io/v1/*) echo '{\"Username\":\"ada\",\"Secret\":\"p\"}' ;;\n\
                     *) echo 'credentials not found in native keychain'; exit 1 ;;\nesac\n";
        fs::write(&script, lines).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let answer = run(&script, &hub).await.unwrap().unwrap();
        assert_eq!((answer.0.as_str(), answer.1.reveal()), ("ada", "p"));
        assert!(run(&script, &"a.example".parse().unwrap()).await.unwrap().is_none());
    }
}
