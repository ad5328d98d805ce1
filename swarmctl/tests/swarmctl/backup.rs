//! Backups, and reads while nobody leads.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::Ordering;

use expect_test::expect;
use swarm_proto::backup;
use swarm_proto::wire;

use crate::fake::Fake;
use crate::objects::{NOW, state};

fn backup_of_seven() -> wire::Backup {
    wire::Backup {
        cluster_id: "c".to_owned(),
        created_at: NOW.0,
        applied: 7,
        state: b"secret".to_vec(),
        ..wire::Backup::default()
    }
}

#[tokio::test]
async fn a_backup_is_whole_private_and_never_replaces_one() {
    let fake = Fake::start(state()).await;
    let backup = backup_of_seven();
    *fake.script.backup.lock().unwrap() = backup::encode(&backup);
    expect![[r#"
        ---
        backup of cluster c as of 2023-11-14T22:13:20.000Z in `made` (112 B, entry 7 of the log)
        only the new key in `made.key` opens it: keep both safe, and apart
        ---
        exit code 0
    "#]]
    .assert_eq(&fake.run(&["cluster", "backup", "made"]).await.transcript());
    let [made, key] = ["made", "made.key"].map(|name| fake.folder.path().join(name));
    assert_eq!(backup::read(&made, None).unwrap(), backup);
    let bytes = std::fs::read(&made).unwrap();
    assert!(!bytes.windows(6).any(|part| part == b"secret"), "it is sealed");
    for file in [&made, &key] {
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
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
    for name in ["half", "half.key"] {
        assert!(!fake.folder.path().join(name).exists(), "{name}");
    }
}

#[tokio::test]
async fn backups_may_share_a_key_or_have_none() {
    let fake = Fake::start(state()).await;
    let backup = backup_of_seven();
    *fake.script.backup.lock().unwrap() = backup::encode(&backup);
    let made = fake.run(&["cluster", "backup", "made"]).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let key = fake.folder.path().join("made.key");
    let again = ["cluster", "backup", "next", "--key-file", "made.key"];
    expect![[r#"
        ---
        backup of cluster c as of 2023-11-14T22:13:20.000Z in `next` (112 B, entry 7 of the log)
        only the key in `made.key` opens it: keep both safe, and apart
        ---
        exit code 0
    "#]]
    .assert_eq(&fake.run(&again).await.transcript());
    let next = fake.folder.path().join("next");
    assert_eq!(backup::read(&next, Some(&key)).unwrap(), backup);
    expect![[r#"
        ---
        backup of cluster c as of 2023-11-14T22:13:20.000Z in `open` (72 B, entry 7 of the log)
        warning: it holds the cluster's secrets and the key of its authority, open to whoever reads it: keep it safe
        ---
        exit code 0
    "#]]
    .assert_eq(&fake.run(&["cluster", "backup", "open", "--plain"]).await.transcript());
    let open = fake.folder.path().join("open");
    assert_eq!(std::fs::read(open).unwrap(), backup::encode(&backup));
    std::fs::write(&key, "hunter2").unwrap();
    expect![[r#"
        ---
        error: no backup was made: `made.key` holds no key of a backup: that begins with `SWBACKUP-1-`
        ---
        exit code 1
    "#]]
    .assert_eq(
        &fake.run(&["cluster", "backup", "third", "--key-file", "made.key"]).await.transcript(),
    );
    assert!(!fake.folder.path().join("third").exists());
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
