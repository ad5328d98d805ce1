//! `cluster lock` and `cluster unlock`: what they ask and print.

use swarmctl::view::ClusterView;

use crate::fake::Fake;
use crate::objects::{NOW, cluster_status, state};

#[tokio::test]
async fn locking_prints_the_key_alone_on_standard_output() {
    let fake = Fake::start(state()).await;
    let said = fake.run(&["cluster", "lock"]).await;
    assert_eq!((said.code, said.data.as_str()), (Some(0), "SWKEY-1-ab\n"));
    assert!(
        said.talk.starts_with("this is the unlock key; it is not shown again"),
        "{}",
        said.talk
    );
    let said = fake.run(&["cluster", "lock", "--rotate"]).await;
    assert_eq!((said.code, said.data.as_str()), (Some(0), "SWKEY-1-ab\n"));
    let said = fake.run(&["cluster", "lock", "--off"]).await;
    assert_eq!((said.code, said.data.as_str()), (Some(0), ""));
    let said = fake.run(&["cluster", "lock", "--off", "--rotate"]).await;
    assert_eq!(said.code, Some(2), "{}", said.talk);
    let said = fake.run(&["cluster", "unlock", "SWKEY-1-ab"]).await;
    assert_eq!(said.code, Some(2), "the key is no argument: {}", said.talk);
    let seen = fake.script.seen.lock().unwrap().clone();
    assert_eq!(
        seen,
        ["lock rotate false off false", "lock rotate true off false", "lock rotate false off true"]
    );
}

#[test]
fn the_status_says_whose_disk_is_not_locked_yet() {
    let mut status = cluster_status(false);
    status.locked = true;
    status.members[0].numbers.as_mut().unwrap().key_wrapped = true;
    let words = ClusterView::of(status.clone()).words(false, NOW);
    assert!(words.contains("lock      on, but not yet at n2\n"), "{words}");
    status.members[1].numbers.as_mut().unwrap().key_wrapped = true;
    let words = ClusterView::of(status).words(false, NOW);
    assert!(words.contains("lock      on\n"), "{words}");
}
