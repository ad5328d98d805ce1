//! Backups, and reads while nobody leads.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::Ordering;

use expect_test::expect;
use swarm_proto::backup;
use swarm_proto::wire;

use crate::fake::Fake;
use crate::objects::{NOW, state};

#[tokio::test]
async fn a_backup_is_whole_private_and_never_replaces_one() {
    let fake = Fake::start(state()).await;
    let bytes = backup::encode(&wire::Backup {
        cluster_id: "c".to_owned(),
        created_at: NOW.0,
        applied: 7,
        state: b"secret".to_vec(),
        ..wire::Backup::default()
    });
    *fake.script.backup.lock().unwrap() = bytes.clone();
    expect![[r#"
        ---
        backup of cluster c as of 2023-11-14T22:13:20.000Z in `made` (72 B, entry 7 of the log)
        warning: it holds the cluster's secrets and the key of its authority: keep it safe
        ---
        exit code 0
    "#]]
    .assert_eq(&fake.run(&["cluster", "backup", "made"]).await.transcript());
    let made = fake.folder.path().join("made");
    assert_eq!(std::fs::read(&made).unwrap(), bytes);
    assert_eq!(std::fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o600);
    expect![[r#"
        ---
        error: `made` exists already

        hint: name a new file: a backup never replaces one
        ---
        exit code 1
    "#]]
    .assert_eq(&fake.run(&["cluster", "backup", "made"]).await.transcript());
    assert_eq!(std::fs::read(&made).unwrap(), bytes);
    fake.script.backup.lock().unwrap().pop();
    expect![[r#"
        ---
        error: what the controller sent is no backup: it is cut off: 71 of 72 bytes are there

        hint: try again; the connection may have been lost
        ---
        exit code 1
    "#]]
    .assert_eq(&fake.run(&["cluster", "backup", "half"]).await.transcript());
    assert!(!fake.folder.path().join("half").exists());
}

#[tokio::test]
async fn reads_are_answered_without_a_leader() {
    let fake = Fake::start(state()).await;
    let led = fake.run(&["node", "ls", "-o", "name"]).await;
    fake.script.leaderless.store(true, Ordering::Relaxed);
    let without = fake.run(&["node", "ls", "-o", "name"]).await;
    assert_eq!((without.code, &without.data), (Some(0), &led.data), "{without:?}");
    let words = "no leader: shown as n1 knew it at 2023-11-14T22:13:20.000Z, and may be behind\n";
    assert_eq!(without.talk, words);
    for command in
        [&["ps"][..], &["stack", "ls"], &["service", "ls"], &["volume", "ls"], &["events"]]
    {
        let said = fake.run(command).await;
        assert_eq!((said.code, said.talk.as_str()), (Some(0), words), "{command:?}: {said:?}");
    }
    let stale = fake.run(&["--stale", "ps"]).await;
    assert_eq!(stale.talk, words.strip_prefix("no leader: ").unwrap());
}
