//! Hosts become controllers and cease to be, and leave.

use expect_test::{Expect, expect};
use tonic::Status;

use crate::fake::Fake;
use crate::objects::state;

async fn said(fake: &Fake, arguments: &[&str], expected: &Expect) {
    expected.assert_eq(&fake.run(arguments).await.transcript());
}

#[tokio::test]
async fn a_host_asks_itself_to_become_a_controller() {
    let mut known = state();
    for node in known.nodes.values_mut().filter(|node| node.id.0 == 3) {
        node.role = swarm_proto::object::Role::Agent;
        node.controller_address = None;
    }
    let fake = Fake::start(known).await;
    said(&fake, &["node", "promote", "n1", "n3"], &expect![[r#"
        ---
        node `n1` runs a controller
        error: node `n3` must ask itself to become a controller

        hint: run `swarm-controller join --token TOKEN --advertise 10.9.0.3 10.9.0.1:2377` on it, then start swarm-controller there; `swarmctl cluster token controller` on a controller's host prints the token
        ---
        exit code 1
    "#]]).await;
    said(
        &fake,
        &["node", "promote", "n9"],
        &expect![[r#"
        ---
        error: node `n9` does not exist

        hint: did you mean `n1`?
        ---
        exit code 1
    "#]],
    )
    .await;
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
