//! Who asks, and what they may do: HTTP's `Basic` names and passwords, compared with hashes.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use swarm_proto::transport::random_hex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::accounts::Accounts;
use super::refusal::{Code, Refusal};
use super::settings::{Access, Settings};
use super::watched::Watched;

/// Passwords that are tried at the same time: each takes a processor for a while.
const TRIALS: usize = 2;
/// Who waits longer for their turn is sent away.
const TURN: Duration = Duration::from_secs(10);
/// A password that was right is not tried again for so long.
const KNOWN_FOR: Duration = Duration::from_mins(5);
/// So many of them.
const MOST_KNOWN: usize = 1024;
/// Bytes of a name with its password.
const LONGEST: usize = 1024;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// `None`: they did not say.
    pub(super) name: Option<String>,
}

/// See the module.
pub(super) struct Gate {
    accounts: Option<Watched<Accounts>>,
    pull_only: BTreeSet<String>,
    anonymous: Option<Access>,
    trials: Semaphore,
    /// What was right, hashed with a number that nobody knows.
    known: Mutex<HashMap<[u8; 32], Instant>>,
    salt: String,
}

impl Gate {
    pub(super) fn open(settings: &Settings) -> Result<Self, String> {
        let accounts = settings.accounts.clone().map(|path| {
            let (file, named) = (path.clone(), settings.pull_only.clone());
            Watched::open(vec![path], move || Accounts::read(&file, &named))
        });
        Ok(Self {
            accounts: accounts.transpose()?,
            pull_only: settings.pull_only.clone(),
            anonymous: settings.anonymous,
            trials: Semaphore::new(TRIALS),
            known: Mutex::default(),
            salt: random_hex::<32>().map_err(|error| error.to_string())?,
        })
    }

    /// Whether somebody may come to more with a name.
    pub(super) fn knows_names(&self) -> bool {
        self.accounts.is_some()
    }

    /// Lets somebody in who said this, for what needs such an access.
    pub(super) async fn admit(
        &self,
        authorization: Option<&str>,
        needs: Access,
    ) -> Result<Caller, Refusal> {
        let said = authorization.map(credentials).transpose()?.flatten();
        let (Some(accounts), Some((name, password))) = (&self.accounts, said) else {
            return match self.anonymous {
                Some(access) if access >= needs => Ok(Caller { name: None }),
                _ if self.accounts.is_some() => Err(Refusal::unauthorized("say who you are")),
                _ => Err(Refusal::new(Code::Denied, "this registry can only be read")),
            };
        };
        if !self.is_right(&accounts.current(), &name, password).await? {
            return Err(Refusal::unauthorized("the name or the password is wrong"));
        }
        if needs > self.access_of(&name) {
            let message = format!("`{name}` may only pull from this registry");
            return Err(Refusal::new(Code::Denied, message));
        }
        Ok(Caller { name: Some(name) })
    }

    fn access_of(&self, name: &str) -> Access {
        if self.pull_only.contains(name) && self.anonymous != Some(Access::Push) {
            Access::Pull
        } else {
            Access::Push
        }
    }

    async fn is_right(
        &self,
        accounts: &Accounts,
        name: &str,
        password: String,
    ) -> Result<bool, Refusal> {
        let (hash, is_there) = accounts.hash_of(name);
        let mark = self.mark(name, &password, hash);
        if is_there && self.is_known(&mark) {
            return Ok(true);
        }
        let busy = || Refusal::new(Code::TooManyRequests, "too many try to come in: ask again");
        let Ok(Ok(_turn)) = timeout(TURN, self.trials.acquire()).await else { return Err(busy()) };
        let hash = hash.to_owned();
        let tried = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash));
        let fits = matches!(tried.await, Ok(Ok(true))) && is_there;
        if fits {
            self.remember(mark);
        }
        Ok(fits)
    }

    /// The hash is a part of it: a password that was changed is not known any more.
    fn mark(&self, name: &str, password: &str, hash: &str) -> [u8; 32] {
        let mut mark = Sha256::new();
        for part in [&self.salt, name, password, hash] {
            mark.update((part.len() as u64).to_le_bytes());
            mark.update(part);
        }
        mark.finalize().into()
    }

    fn is_known(&self, mark: &[u8; 32]) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(mark).is_some_and(|until| *until > Instant::now())
    }

    fn remember(&self, mark: [u8; 32]) {
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, until| *until > now);
        if known.len() < MOST_KNOWN {
            known.insert(mark, now + KNOWN_FOR);
        }
    }
}

/// Name and password of an `Authorization` header; `None`: an empty name, as programs without one send it.
pub(super) fn credentials(header: &str) -> Result<Option<(String, String)>, Refusal> {
    let wrong = || Refusal::unauthorized("only `Basic` with a name and password is understood");
    let (scheme, coded) = header.split_once(' ').ok_or_else(wrong)?;
    if !scheme.eq_ignore_ascii_case("basic") || coded.len() > LONGEST {
        return Err(wrong());
    }
    let plain = STANDARD.decode(coded.trim()).map_err(|_| wrong())?;
    let plain = String::from_utf8(plain).map_err(|_| wrong())?;
    let (name, password) = plain.split_once(':').ok_or_else(wrong)?;
    Ok((!name.is_empty()).then(|| (name.to_owned(), password.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read() {
        let read = |header: &str| credentials(header).map_err(|refusal| refusal.status().as_u16());
        let ada = Some(("ada".to_owned(), "a:b".to_owned()));
        assert_eq!(read(&format!("Basic {}", STANDARD.encode("ada:a:b"))), Ok(ada.clone()));
        assert_eq!(read(&format!("basic  {} ", STANDARD.encode("ada:a:b"))), Ok(ada));
        assert_eq!(read("Basic Og=="), Ok(None));
        let long = format!("Basic {}", STANDARD.encode("x".repeat(2000)));
        for wrong in ["", "Basic", "Basic !", "Bearer x", "Basic YWRh", "Basic /w==", &long] {
            assert_eq!(read(wrong), Err(401), "{wrong}");
        }
    }

    #[tokio::test]
    async fn who_says_no_name_gets_what_all_get() {
        let settings = |anonymous| Settings {
            listen: "127.0.0.1:1".parse().unwrap(),
            tls: None,
            accounts: None,
            pull_only: BTreeSet::new(),
            anonymous: Some(anonymous),
        };
        let gate = Gate::open(&settings(Access::Pull)).unwrap();
        assert!(gate.admit(None, Access::Pull).await.is_ok());
        assert_eq!(gate.admit(None, Access::Push).await.unwrap_err().status().as_u16(), 403);
        let gate = Gate::open(&settings(Access::Push)).unwrap();
        assert!(gate.admit(Some("Basic eDp5"), Access::Push).await.is_ok());
    }
}
