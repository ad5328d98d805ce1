//! Identities on disk, and their renewal.

use super::*;

#[tokio::test]
async fn a_renewed_certificate_needs_no_restart() {
    let authority = Arc::new(authority("c1"));
    let serving = Tls::new(&agent(&authority, 1)).unwrap();
    let running = serve(&authority, Arc::clone(&serving)).await;
    let asking = Tls::new(&controller(&authority, 2)).unwrap();
    let standing = asking.connect(&running.address, &node_name(NodeId(1))).await.unwrap();

    serving.reload(&agent(&authority, 11)).unwrap();
    asking.reload(&controller(&authority, 12)).unwrap();
    let renewed = asking.connect(&running.address, &node_name(NodeId(11))).await.unwrap();
    assert_eq!(ask(renewed).await.unwrap(), "controller 12 of `c1`");
    assert_eq!(ask(standing).await.unwrap(), "controller 2 of `c1`");

    let mixed = Credentials { key_pem: authority.key_pem(), ..agent(&authority, 1) };
    assert!(matches!(serving.reload(&mixed), Err(TlsError::Unusable(_))));
}

#[tokio::test]
async fn an_expired_certificate_is_renewed_by_proof_of_its_key() {
    let (authority, running) = cluster().await;
    let past = SystemTime::now() - LONG_AGO;
    let expired = node(&authority, 3, Role::Controller, past);
    let nowhere = String::from("127.0.0.1:1");
    let old = Identity {
        certificate_pem: expired.certificate_pem,
        key_pem: expired.key_pem,
        controllers: vec![nowhere.clone(), running.address.clone()],
        ..identity(&authority, 3)
    };
    let new = renew(old.clone()).await.unwrap();
    assert_ne!(new.key_pem, old.key_pem);
    assert_eq!((new.node_id, &new.controllers), (old.node_id, &old.controllers));
    let channel = connect(&new.credentials(), &running.address).await.unwrap();
    assert_eq!(ask(channel).await.unwrap(), "controller 3 of `c1`");

    let away = Identity { controllers: vec![nowhere], ..old.clone() };
    let error = renew(away).await.expect_err("nobody is there");
    assert!(matches!(error, RenewError::Connect(ConnectError::Unreachable { .. })), "{error}");
    let lost = Identity { controllers: Vec::new(), ..old };
    assert!(matches!(renew(lost).await, Err(RenewError::NoController)));
}

#[tokio::test]
async fn a_program_takes_over_what_another_one_of_its_host_renewed() {
    let state = tempfile::tempdir().unwrap();
    let authority = Arc::new(authority("c1").with_life(Duration::from_mins(1)));
    let (old, new) = (identity(&authority, 3), identity(&authority, 3));
    old.save(state.path()).unwrap();
    let tls = Tls::new(&old.credentials()).unwrap();
    let running = serve(&authority, Arc::clone(&tls)).await;
    let never = |_| async { panic!("it is not due yet") };
    let (folder, used) = (state.path().to_owned(), old.credentials());
    let keeping = tokio::spawn(keep_valid(folder, tls, used, Keeper::Second, never));
    new.save(state.path()).unwrap();
    let shown = async || {
        let stream = TcpStream::connect(&running.address).await.unwrap();
        let tls = Tls::without_certificate(authority.certificate_pem()).unwrap();
        let name = CONTROLLER_NAME.try_into().unwrap();
        let stream = tls.connector().connect(name, stream).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let wanted = CertificateDer::from_pem_slice(new.certificate_pem.as_bytes()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while shown().await != *wanted {
        assert!(Instant::now() < deadline, "the old certificate is still shown");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    keeping.abort();
}

#[test]
fn an_identity_comes_back_from_disk() {
    let state = tempfile::tempdir().unwrap();
    assert_eq!(Identity::load(state.path()).unwrap(), None);
    let mut saved = identity(&authority("c1"), 3);
    saved.save(state.path()).unwrap();
    assert_eq!(Identity::load(state.path()).unwrap().as_ref(), Some(&saved));
    assert!(!format!("{saved:?}").contains("PRIVATE"));

    let same = saved.controllers.clone();
    assert!(!saved.update_controllers(state.path(), &same).unwrap());
    let more = ["10.0.0.1:2377".to_owned(), "10.0.0.2:2377".to_owned()];
    assert!(saved.update_controllers(state.path(), &more).unwrap());
    assert_eq!(Identity::load(state.path()).unwrap(), Some(saved.clone()));

    // What another program has made of it meanwhile is not taken back.
    let restored = Identity { raft_id: Some(RaftId(1004)), ..saved.clone() };
    restored.save(state.path()).unwrap();
    let one = ["10.0.0.1:2377".to_owned()];
    assert!(saved.update_controllers(state.path(), &one).unwrap());
    let expected = Identity { controllers: one.to_vec(), ..restored };
    assert_eq!(Identity::load(state.path()).unwrap(), Some(expected));

    let folder = Identity::folder(state.path());
    let mode = folder.join("node.key").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["ca.crt", "identity.json", "node.crt", "node.key"]);
}

#[test]
fn controllers_that_another_program_wrote_down_are_found() {
    let state = tempfile::tempdir().unwrap();
    let mut agents = identity(&authority("c1"), 3);
    let before = agents.clone();
    agents.look_up_controllers(state.path()).unwrap();
    assert_eq!(agents, before, "nothing is on disk");

    agents.save(state.path()).unwrap();
    let moved = ["10.0.0.9:2377".to_owned()];
    before.clone().update_controllers(state.path(), &moved).unwrap();
    agents.look_up_controllers(state.path()).unwrap();
    assert_eq!(agents, Identity { controllers: moved.to_vec(), ..before.clone() });

    let elsewhere = ["10.0.0.7:2377".to_owned()];
    Identity { cluster_id: "c2".to_owned(), controllers: elsewhere.to_vec(), ..before }
        .save(state.path())
        .unwrap();
    agents.look_up_controllers(state.path()).unwrap();
    assert_eq!(agents.controllers, moved, "the controllers of another cluster");
}

#[test]
fn a_renewal_that_was_cut_off_leaves_a_whole_identity() {
    let state = tempfile::tempdir().unwrap();
    let authority = authority("c1");
    let (old, new) = (identity(&authority, 3), identity(&authority, 3));
    old.save(state.path()).unwrap();
    let folder = Identity::folder(state.path());
    std::fs::write(folder.join("node.key.next"), new.key_pem.reveal()).unwrap();
    assert_eq!(Identity::load(state.path()).unwrap(), Some(old));
    std::fs::write(folder.join("node.crt"), &new.certificate_pem).unwrap();
    assert_eq!(Identity::load(state.path()).unwrap(), Some(new));

    std::fs::remove_file(folder.join("node.key.next")).unwrap();
    let error = Identity::load(state.path()).expect_err("the key is another one's");
    assert!(matches!(error, IdentityError::Mismatch { .. }), "{error}");
}
