//! Whom a deploy takes places from, before and after.

use expect_test::expect;
use swarm_proto::id::{ServiceId, TaskId};
use swarm_proto::object::TaskState;

use crate::fake::Fake;
use crate::objects::{state, task};

#[tokio::test]
async fn a_plan_says_who_would_make_place() {
    let fake = Fake::start(state()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.yml");
    std::fs::write(&file, "services: {web: {image: web}}").unwrap();
    let file = file.to_str().unwrap();
    let plan = fake.run(&["plan", "-f", file, "--name", "shop"]).await;
    assert_eq!(plan.code, Some(0), "{plan:?}");
    assert!(plan.talk.contains("the plan is cut"), "{plan:?}");
    expect![[r#"
        service shop_web created

        TASK           NODE   REASON
        shop_web.1     n1
        shop_web.2            waits until `batch_work.3` made place on n2
        batch_work.3   n2     would be stopped to make place for `shop_web.2`, of priority 10; its own is -1
    "#]]
    .assert_eq(&plan.data);
    let plan = fake.run(&["plan", "-f", file, "--name", "shop", "-o", "json"]).await;
    assert!(plan.data.contains("\"for_priority\": 10"), "{plan:?}");
    let seen = fake.script.seen.lock().unwrap();
    assert!(!seen.iter().any(|line| line.starts_with("deploy")), "nothing is changed: {seen:?}");
}

#[tokio::test]
async fn why_tells_for_whom_a_task_made_place() {
    let mut state = state();
    let by: TaskId = "2.1.1".parse().unwrap();
    state.services.get_mut(&ServiceId(2)).unwrap().spec.priority = 10;
    let mut victim = task(1, 3, 7, TaskState::Shutdown);
    victim.preempted_by = Some(by);
    state.tasks.insert(victim.id, victim);
    let fake = Fake::start(state).await;
    let why = fake.run(&["why", "counter_web.3"]).await;
    assert_eq!(why.code, Some(0), "{why:?}");
    expect![[r#"
        TASK            STATE      NODE   REASON
        counter_web.3   shutdown   n3     made place on n3 for `counter_redis.1`, whose service has priority 10; its own has 0
        counter_web.3   pending           no suitable node: constraint `node.labels.zone!=c` on 1 node
    "#]]
    .assert_eq(&why.data);
    let why = fake.run(&["why", "counter_redis.1"]).await;
    expect![[r#"
        TASK              STATE     NODE   REASON
        counter_redis.1   running   n1     n1 met its service's constraints and had room
    "#]]
    .assert_eq(&why.data);
    let unknown = fake.run(&["why", "counter_wep.3"]).await;
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    assert!(unknown.talk.contains("hint: see `swarmctl ps --all`"), "{unknown:?}");
}
