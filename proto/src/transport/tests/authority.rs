//! Certificate authorities: theirs from disk, and the replacement of one.

use super::*;

/// The cluster object of an authority.
fn stored(id: &str, authority: &Authority) -> Cluster {
    let certificate = authority.certificate_pem().to_owned();
    Cluster::new(id.to_owned(), certificate, authority.key_pem())
}

#[tokio::test]
async fn while_an_authority_is_replaced_old_and_new_certificates_take_each_other() {
    let former = authority("c1");
    let Successor { authority: new, vouched_pem } = former.succeed(SystemTime::now()).unwrap();
    let mut cluster = stored("c1", &new);
    cluster.former_authority = Some(FormerAuthority {
        certificate: former.certificate_pem().to_owned(),
        vouched: vouched_pem,
        roots: String::new(),
        controllers: Vec::new(),
        since: Timestamp(1),
    });
    let during = Arc::new(Authority::of(&cluster).unwrap());
    assert_eq!(roots_digest(&cluster.roots()).unwrap(), roots_digest(new.roots_pem()).unwrap());
    let make = |authority: &Authority, id, role| {
        authority.make_node(NodeId(id), role, SystemTime::now()).unwrap()
    };
    // One that has heard nothing, and one that has followed, on either side.
    let (late, moved) = (controller(&former, 1), make(&during, 2, Role::Controller));
    for server in [&late, &moved] {
        let running = serve(&during, Tls::new(server).unwrap()).await;
        for client in [&late, &moved] {
            let channel = connect(client, &running.address).await.unwrap();
            assert!(ask(channel).await.unwrap().starts_with("controller "));
        }
    }
    let person = during.make_client("ada", ClientRole::Admin, SystemTime::now()).unwrap();
    let read = Credentials::from_bundle(person.to_bundle().reveal()).unwrap();
    assert_eq!(read.ca_pem.matches("BEGIN CERTIFICATE").count(), 2);

    cluster.former_authority = None;
    let after = Arc::new(Authority::of(&cluster).unwrap());
    let done = make(&after, 3, Role::Controller);
    let running = serve(&after, Tls::new(&done).unwrap()).await;
    assert!(connect(&late, &running.address).await.is_err(), "the former root is worth nothing");
    let trusting = Credentials { ca_pem: done.ca_pem.clone(), ..late };
    assert!(refused(&trusting, &running.address).await);
    assert!(ask(connect(&moved, &running.address).await.unwrap()).await.is_ok());
}

#[tokio::test]
async fn connections_that_stand_end_with_the_root_of_their_certificates() {
    let former = authority("c1");
    let Successor { authority: new, .. } = former.succeed(SystemTime::now()).unwrap();
    let new = Arc::new(new);
    let make = |id| new.make_node(NodeId(id), Role::Controller, SystemTime::now()).unwrap();
    let during = make(1);
    let tls = Tls::new(&during).unwrap();
    let running = serve(&new, Arc::clone(&tls)).await;
    let late = connect(&controller(&former, 2), &running.address).await.unwrap();
    let moved = connect(&make(3), &running.address).await.unwrap();
    for channel in [&late, &moved] {
        assert!(ask(channel.clone()).await.is_ok());
    }
    let former_root = former.certificate_pem().trim_end();
    let ca_pem = during.ca_pem.replace(former_root, "");
    assert_ne!(ca_pem, during.ca_pem);
    tls.reload(&Credentials { ca_pem, ..during }).unwrap();
    let cut = async {
        while ask(late.clone()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), cut).await.expect("it is cut");
    assert!(ask(moved).await.is_ok());
}

#[tokio::test]
async fn a_host_that_hears_of_other_roots_gets_a_new_certificate_at_once() {
    let former = authority("c1");
    let state = tempfile::tempdir().unwrap();
    let Successor { authority: new, .. } = former.succeed(SystemTime::now()).unwrap();
    let new = Arc::new(new);
    let server = new.make_node(NodeId(1), Role::Controller, SystemTime::now()).unwrap();
    let running = serve(&new, Tls::new(&server).unwrap()).await;
    let mut host = identity(&former, 3);
    host.controllers = vec![running.address.clone()];
    host.save(state.path()).unwrap();
    let tls = Tls::new(&host.credentials()).unwrap();
    let (folder, used) = (state.path().to_owned(), host.credentials());
    let keeping = keep_valid(folder, Arc::clone(&tls), used, Keeper::First, renew);
    let keeping = tokio::spawn(keeping);
    let before = tls.roots();
    tls.want_roots(&before);
    tls.want_roots("");
    tls.want_roots(&roots_digest(new.roots_pem()).unwrap());
    tls.roots_changed(&before).await;
    assert_eq!(tls.roots(), roots_digest(new.roots_pem()).unwrap());
    let saved = Identity::load(state.path()).unwrap().unwrap();
    assert_eq!(saved.ca_pem, new.roots_pem());
    assert_ne!(saved.certificate_pem, host.certificate_pem);
    keeping.abort();
}

#[test]
fn an_authority_is_the_same_after_a_restart() {
    let made = authority("c1");
    let loaded = Authority::of(&stored("c1", &made)).unwrap();
    assert_eq!(loaded.certificate_pem(), made.certificate_pem());
    assert!(Tls::new(&controller(&loaded, 1)).is_ok());
    let (from, until) = certificate_validity(made.certificate_pem()).unwrap();
    assert!(from < SystemTime::now());
    assert!(until > SystemTime::now() + Duration::from_hours(24 * 365 * 19));
    assert!(!format!("{made:?}").contains("PRIVATE"));
}

#[test]
fn a_bundle_lacking_a_part_is_refused_by_name() {
    let client = authority("c1").make_client("ada", ClientRole::Admin, SystemTime::now()).unwrap();
    let without_key = format!("{}{}", client.certificate_pem, client.ca_pem);
    for (bundle, part) in [
        ("", "certificate"),
        (client.certificate_pem.as_str(), "root certificate"),
        (without_key.as_str(), "private key"),
    ] {
        let error = Credentials::from_bundle(bundle).expect_err("a part is missing");
        assert_eq!(error.to_string(), format!("the bundle holds no {part}"));
    }
}
