//! Hosts become controllers and cease to be, and leave.

use expect_test::{Expect, expect};
use tonic::Status;

use crate::fake::Fake;
use crate::objects::state;

async fn said(fake: &Fake, arguments: &[&str], expected: &Expect) {
    expected.assert_eq(&fake.run(arguments).await.transcript());
}

#[tokio::test]
async fn hosts_become_controllers() {
    let fake = Fake::start(state()).await;
    said(
        &fake,
        &["node", "promote", "n2", "n3"],
        &expect![[r#"
        ---
        n2: this host is node 3 of cluster c
        n3: this host is node 3 of cluster c
        ---
        exit code 0
    "#]],
    )
    .await;
    let seen = fake.script.seen.lock().unwrap().clone();
    assert_eq!(seen, ["promote node n2", "promote node n3"]);
    // It takes long, and is asked of one controller alone.
    let socket = format!("unix://{}", fake.socket().display());
    let twice = ["--host", &socket, "--host", &socket, "node", "promote", "n2"];
    assert_eq!(fake.run(&twice).await.code, Some(0));
    let seen = fake.script.seen.lock().unwrap().clone();
    assert_eq!(seen, ["promote node n2", "promote node n3", "promote node n2"]);
}

#[tokio::test]
async fn a_demotion_is_sent_or_refused() {
    let fake = Fake::start(state()).await;
    said(
        &fake,
        &["node", "demote", "n2"],
        &expect![[r#"
        ---
        the controller of node `n2` is taken out
        ---
        exit code 0
    "#]],
    )
    .await;
    let refusal =
        "without `n1` 1 of 2 controllers with a vote can be reached\n\nhint: start `n2` again";
    fake.script.refusals.lock().unwrap().push(Status::failed_precondition(refusal));
    said(
        &fake,
        &["node", "demote", "n1"],
        &expect![[r#"
        ---
        error: without `n1` 1 of 2 controllers with a vote can be reached

        hint: start `n2` again
        ---
        exit code 1
    "#]],
    )
    .await;
    assert_eq!(*fake.script.seen.lock().unwrap(), ["demote node n2", "demote node n1"]);
}

#[tokio::test]
async fn a_host_of_no_cluster_cannot_leave_one() {
    let fake = Fake::start(state()).await;
    let folder = fake.folder.path().join("state");
    said(
        &fake,
        &["host", "leave", "--state-dir", folder.to_str().unwrap()],
        &expect![[r#"
        ---
        error: this host belongs to no cluster
        ---
        exit code 1
    "#]],
    )
    .await;
}

#[tokio::test]
async fn only_controllers_advertise() {
    let fake = Fake::start(state()).await;
    let join = ["host", "join", "--token", "t", "--ignore-checks", "--advertise", "1.2.3.4", "a"];
    let refused = fake.run(&join).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.talk.contains("`--advertise` is for controllers"), "{refused:?}");
}
