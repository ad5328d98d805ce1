//! New certificates for hosts that are members already: long before the old one expires, at a moment of its own for
//! each, and for a host that slept through the end of its certificate by proof of the old key.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::sleep;
use tonic::Status;

use super::authority::{AuthorityError, KeyAndRequest, certificate_digest, certificate_validity};
use super::join::certificate_peer;
use super::tls::fit;
use super::{CONTROLLER_NAME, ConnectError, Credentials, Identity, IdentityError, Tls, TlsError};
use crate::failure::sentence;
use crate::wire;
use crate::wire::join_client::JoinClient;

/// Of a certificate's life, in thousandths: when the earliest host renews it, and when the latest.
const EARLIEST: u32 = 500;
const LATEST: u32 = 800;
/// When the agent of a host renews that has a controller, which should have done it by then.
const INSTEAD_OF_CONTROLLER: u32 = 900;

/// The longest pause between two looks at the certificate on disk, which another program of the host may renew.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// The longest while the cluster trusts other roots than this host.
const ROOTS_RETRY: Duration = Duration::from_millis(500);
/// The shortest, for certificates that live minutes.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_millis(100);

/// Why a certificate was not renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// No controller is known that could be asked.
    #[error("no controller is known")]
    NoController,
    /// No connection to a controller.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The controller refused; the message is its own, with a hint.
    #[error("{}", .0.message())]
    Refused(Box<Status>),
    /// The present certificate cannot be used to ask.
    #[error("this host's certificate cannot be used")]
    Tls(#[from] TlsError),
    /// No key could be made, or a certificate not be read.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// What the controller sent is not what was asked for.
    #[error("`{address}` sent a certificate that cannot be used: {reason}")]
    Answer {
        /// Which controller.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The identity cannot be read or written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Whose certificate it is, as far as that decides when it is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// The program that sees to the host's certificate.
    First,
    /// Another program on the host, which renews only when the first one does not.
    Second,
}

/// When a certificate is due to be renewed: at a point between 50 and 80 % of its life that is the certificate's own, so
/// that hosts which joined together do not come together. The same at each call.
pub fn renewal_due(certificate_pem: &str, keeper: Keeper) -> Result<SystemTime, AuthorityError> {
    let (from, until) = certificate_validity(certificate_pem)?;
    let life = until.duration_since(from).unwrap_or_default();
    let thousandths = match keeper {
        Keeper::First => {
            let digest = certificate_digest(certificate_pem)?;
            let chance = u32::from_str_radix(&digest[..6], 16).unwrap_or_default();
            EARLIEST + chance % (LATEST - EARLIEST)
        }
        Keeper::Second => INSTEAD_OF_CONTROLLER,
    };
    Ok(from + life * thousandths / 1000)
}

/// Asks the known controllers, one after the other, for a certificate for a new key. The identity that comes back is
/// not saved yet.
pub async fn renew(identity: Identity) -> Result<Identity, RenewError> {
    let tls = Tls::new(&identity.credentials())?;
    let mut failure = RenewError::NoController;
    for address in &identity.controllers {
        match renew_at(&tls, address, &identity).await {
            Ok(renewed) => return Ok(renewed),
            // A refusal says more than that another controller is away.
            Err(_) if matches!(failure, RenewError::Refused(_)) => {}
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn renew_at(
    tls: &Arc<Tls>,
    address: &str,
    identity: &Identity,
) -> Result<Identity, RenewError> {
    let channel = tls.connect(address, CONTROLLER_NAME).await?;
    let key = KeyAndRequest::make()?;
    let request =
        wire::RenewCertificateRequest { certificate_signing_request: key.request_pem.clone() };
    let answer = JoinClient::new(channel).renew_certificate(request).await;
    let answer = answer.map_err(|status| RenewError::Refused(Box::new(status)))?.into_inner();
    let refuse = |reason| RenewError::Answer { address: address.to_owned(), reason };
    if !fit(&answer.certificate, key.key_pem.reveal())? {
        return Err(refuse("it is not for the key that was made here"));
    }
    let peer = certificate_peer(&answer.certificate);
    let peer = peer.ok_or_else(|| refuse("it names no cluster, role and node"))?;
    if peer.node_id != Some(identity.node_id) || peer.cluster_id != identity.cluster_id {
        return Err(refuse("it is for another node"));
    }
    let ca_pem = if answer.roots.is_empty() { identity.ca_pem.clone() } else { answer.roots };
    let (certificate_pem, key_pem) = (answer.certificate, key.key_pem);
    let renewed = identity.clone().renewed(Credentials { certificate_pem, key_pem, ca_pem });
    // What cannot be used must not take the place of what can.
    Tls::new(&renewed.credentials())?;
    Ok(renewed)
}

/// Keeps the certificate below `state_dir` valid, and `tls` up to date with it, without end. `renew` gets a new one.
/// `used` is the certificate that `tls` was made with. Connections that stand are not touched.
pub async fn keep_valid<Renew, Renewed>(
    state_dir: PathBuf,
    tls: Arc<Tls>,
    mut used: Credentials,
    keeper: Keeper,
    renew: Renew,
) where
    Renew: Fn(Identity) -> Renewed + Send + Sync,
    Renewed: Future<Output = Result<Identity, RenewError>> + Send,
{
    let mut wanted = tls.follow_wanted();
    loop {
        let looked = look(&state_dir, &tls, &mut used, keeper, &renew).await;
        let pause = looked.unwrap_or_else(|error| {
            tracing::warn!(error = sentence(&error), "could not renew this host's certificate");
            if tls.lacks_roots() { ROOTS_RETRY } else { LOOK_EVERY }
        });
        tokio::select! {
            () = sleep(pause.min(pause_of(&used.certificate_pem))) => {}
            _ = wanted.changed() => {}
        }
    }
}

/// Takes over a certificate that another program renewed, or renews it when that is due. Answers with the time until
/// the next look.
async fn look<Renew, Renewed>(
    state_dir: &std::path::Path,
    tls: &Tls,
    used: &mut Credentials,
    keeper: Keeper,
    renew: &Renew,
) -> Result<Duration, RenewError>
where
    Renew: Fn(Identity) -> Renewed,
    Renewed: Future<Output = Result<Identity, RenewError>>,
{
    let Some(identity) = Identity::load(state_dir)? else { return Ok(LOOK_EVERY) };
    let mut current = identity.credentials();
    let due = renewal_due(&current.certificate_pem, keeper)?;
    let mut left = due.duration_since(SystemTime::now()).unwrap_or_default();
    // The other program may have been quicker.
    let lacks_roots = tls.lacks_roots() && current == *used;
    if left.is_zero() || (lacks_roots && keeper == Keeper::First) {
        let renewed = renew(identity.clone()).await?.credentials();
        // What else stands in it may have changed meanwhile.
        let present = Identity::load(state_dir)?.unwrap_or(identity);
        let newer = present.renewed(renewed);
        newer.save(state_dir)?;
        current = newer.credentials();
        left = LOOK_EVERY;
    }
    if current != *used {
        tls.reload(&current)?;
        let (_, until) = certificate_validity(&current.certificate_pem)?;
        let days = until.duration_since(SystemTime::now()).unwrap_or_default().as_secs() / 86_400;
        tracing::info!(days, "this host has a new certificate");
        *used = current;
    }
    Ok(if tls.lacks_roots() { left.min(ROOTS_RETRY) } else { left })
}

/// A twentieth of the certificate's life, within bounds.
fn pause_of(certificate_pem: &str) -> Duration {
    let life = certificate_validity(certificate_pem)
        .ok()
        .and_then(|(from, until)| until.duration_since(from).ok());
    life.map_or(LOOK_EVERY, |life| (life / 20).clamp(LOOK_AT_MOST_EVERY, LOOK_EVERY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;
    use crate::object::Role;
    use crate::transport::Authority;

    fn certificate(life: Duration) -> String {
        let authority = Authority::create("c1", SystemTime::now()).unwrap().with_life(life);
        let key = KeyAndRequest::make().unwrap();
        let signed =
            authority.sign_node(&key.request_pem, NodeId(1), Role::Agent, SystemTime::now());
        signed.unwrap()
    }

    #[test]
    fn each_certificate_has_its_own_moment_between_half_and_four_fifths_of_its_life() {
        let day = Duration::from_hours(24);
        let mut moments = Vec::new();
        for _ in 0..20 {
            let pem = certificate(day * 90);
            let (from, until) = certificate_validity(&pem).unwrap();
            let life = until.duration_since(from).unwrap();
            let due = renewal_due(&pem, Keeper::First).unwrap();
            assert_eq!(due, renewal_due(&pem, Keeper::First).unwrap());
            assert!(due >= from + life / 2 && due < from + life * 4 / 5, "{due:?}");
            assert!(renewal_due(&pem, Keeper::Second).unwrap() > from + life * 4 / 5);
            moments.push(due.duration_since(from).unwrap().as_secs() / 3600);
        }
        moments.sort_unstable();
        moments.dedup();
        assert!(moments.len() > 10, "hosts would come together: {moments:?}");
    }

    #[test]
    fn a_short_life_is_not_over_at_its_beginning() {
        let pem = certificate(Duration::from_secs(20));
        assert!(renewal_due(&pem, Keeper::First).unwrap() > SystemTime::now());
        assert_eq!(pause_of(&pem), Duration::from_millis(1100));
    }
}
