//! Joining by a token.

use super::*;

fn token(authority: &Authority, secret: &str) -> JoinToken {
    let digest = certificate_digest(authority.certificate_pem()).unwrap();
    JoinToken::new(&digest, &Secret::new(secret.to_owned())).unwrap()
}

#[tokio::test]
async fn joining_gives_an_identity() {
    let (authority, running) = cluster().await;
    let token = token(&authority, TOKEN_SECRET);
    let own = JoiningController {
        address: "10.0.0.2:2377",
        knows: crate::version::ClusterVersion::NEWEST,
    };
    let identity = join(&running.address, &token, "host", Some(own)).await.unwrap();
    assert_eq!(identity.cluster_id, "c1");
    assert_eq!((identity.node_id, identity.raft_id), (NodeId(7), Some(RaftId(9))));
    assert_eq!(identity.role, Role::Controller);
    assert_eq!(identity.controllers, ["10.0.0.1:2377", "10.0.0.2:2377"]);
    let channel = connect(&identity.credentials(), &running.address).await.unwrap();
    assert_eq!(ask(channel).await.unwrap(), "controller 7 of `c1`");
}

#[tokio::test]
async fn a_wrong_token_is_refused_before_anything_secret_is_sent() {
    let (ours, running) = cluster().await;
    let theirs = token(&authority("c2"), TOKEN_SECRET);
    let error = join(&running.address, &theirs, "host", None).await.expect_err("another root");
    let (expected, found) = (theirs.digest(), token(&ours, TOKEN_SECRET));
    assert_eq!(
        error.to_string(),
        format!(
            "the token is of another cluster: it names root certificate {expected}, `{}` has {}",
            running.address,
            found.digest()
        )
    );

    let wrong = token(&ours, "ffffffffffffffff");
    let error = join(&running.address, &wrong, "host", None).await.expect_err("another secret");
    assert_eq!(error.to_string(), "no such token\n\nhint: print a new one");
}

#[test]
fn tokens_have_one_form_and_hide_their_secret() {
    let token = token(&authority("c1"), TOKEN_SECRET);
    let text = token.to_string();
    assert!(text.starts_with("SWTKN-1-") && text.ends_with(TOKEN_SECRET));
    assert_eq!(format!(" {text}\n").parse(), Ok(token.clone()));
    assert!(!format!("{token:?}").contains(TOKEN_SECRET));

    let reason = |text: &str| text.parse::<JoinToken>().expect_err("no token").reason;
    assert_eq!(reason("token"), "it must start with `SWTKN-1-`");
    assert_eq!(reason("SWTKN-2-a-b"), "its version is not 1, the only one known here");
    assert_eq!(reason("SWTKN-1-ab"), "it must have four parts joined by `-`");
    assert_eq!(reason("SWTKN-1-ab-cd"), "its third part must be 64 hexadecimal digits");
    let short = &text[..text.len() - 20];
    assert_eq!(reason(short), "its last part must be 16 to 128 hexadecimal digits");
}

#[test]
fn a_request_that_does_not_hold_its_key_is_refused() {
    let authority = authority("c1");
    let made = KeyAndRequest::make().unwrap();
    // One digit of the public key.
    let at = made.request_pem.find('\n').unwrap() + 66 + 10;
    let digit = if made.request_pem.as_bytes()[at] == b'A' { "B" } else { "A" };
    let mut request = made.request_pem;
    request.replace_range(at..=at, digit);
    let now = SystemTime::now();
    for request in [request.as_str(), "", authority.certificate_pem()] {
        let signed = authority.sign_node(request, NodeId(1), Role::Agent, now);
        assert!(matches!(signed, Err(AuthorityError::Request(_))), "{signed:?}");
    }
}
