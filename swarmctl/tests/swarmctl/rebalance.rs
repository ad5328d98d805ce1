//! `rebalance` and `cluster update`: what they ask and print.

use expect_test::expect;
use swarm_proto::wire;

use crate::fake::Fake;
use crate::objects::{NOW, state};

fn moved(slot: u32, from: u64, why: &str) -> wire::PlannedMove {
    wire::PlannedMove {
        service: "counter_web".to_owned(),
        task: format!("1.{slot}.1"),
        from,
        to: 3,
        why: why.to_owned(),
    }
}

fn plan() -> wire::PlanRebalanceResponse {
    wire::PlanRebalanceResponse {
        moves: vec![
            moved(3, 1, "of its tasks, n1 has 2, n3 has 0"),
            moved(2, 2, "of all tasks, n2 has 5, n3 has 1"),
        ],
        mode: wire::RebalanceMode::Off.into(),
        moves_per_minute: 6,
        clock: NOW.0,
        ..wire::PlanRebalanceResponse::default()
    }
}

async fn fake(plan: wire::PlanRebalanceResponse) -> Fake {
    let fake = Fake::start(state()).await;
    *fake.script.plan.lock().unwrap() = plan;
    fake
}

#[tokio::test]
async fn the_plan_shows_moves_and_makes_none() {
    let fake = fake(plan()).await;
    let said = fake.run(&["rebalance", "--plan"]).await;
    assert_eq!(said.code, Some(0), "{}", said.talk);
    expect![[r"
        SERVICE       SLOT   FROM   TO   WHY
        counter_web   3      n1     n3   of its tasks, n1 has 2, n3 has 0
        counter_web   2      n2     n3   of all tasks, n2 has 5, n3 has 1
    "]]
    .assert_eq(&said.data);
    assert_eq!(said.talk, "`swarmctl rebalance` begins them\n");
    let said = fake.run(&["rebalance", "--plan", "-o", "name"]).await;
    assert_eq!(said.data, "counter_web.3\ncounter_web.2\n");
    assert_eq!(*fake.script.seen.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn the_plan_for_scripts() {
    let mut plan = plan();
    plan.moves.truncate(1);
    plan.under_way = vec!["counter_redis".to_owned()];
    plan.hindrance = "node n2 went down less than a minute ago".to_owned();
    plan.room_at = NOW.0 + 20_000;
    plan.mode = wire::RebalanceMode::Auto.into();
    let fake = fake(plan).await;
    let said = fake.run(&["rebalance", "--plan", "-o", "json"]).await;
    expect![[r#"
        {
          "moves": [
            {
              "service": "counter_web",
              "slot": "3",
              "task": "1.3.1",
              "from": "n1",
              "to": "n3",
              "why": "of its tasks, n1 has 2, n3 has 0"
            }
          ],
          "more": false,
          "under_way": [
            "counter_redis"
          ],
          "hindrance": "node n2 went down less than a minute ago",
          "room_at": "2023-11-14T22:13:40.000Z",
          "mode": "auto",
          "moves_per_minute": 6
        }
    "#]]
    .assert_eq(&said.data);
    assert!(
        said.talk.starts_with(
            "note: 1 service is not settled and not moved meanwhile: counter_redis\n\
             note: nothing is moved now: node n2 went down less than a minute ago\n"
        ),
        "{}",
        said.talk
    );
    assert!(said.talk.ends_with("the cluster makes them by itself\n"), "{}", said.talk);
}

#[tokio::test]
async fn moves_are_begun_for_the_services_of_the_plan() {
    let fake = fake(plan()).await;
    let said = fake.run(&["rebalance"]).await;
    assert_eq!(said.code, Some(0), "{}", said.talk);
    expect![[r"
        SERVICE       SLOT   FROM   TO   WHY
        counter_web   3      n1     n3   of its tasks, n1 has 2, n3 has 0
    "]]
    .assert_eq(&said.data);
    assert_eq!(
        said.talk,
        "1 move begun, 1 more would follow: run it again once these are over; at most 6 are made within a minute\n"
    );
    assert_eq!(*fake.script.seen.lock().unwrap(), ["rebalance counter_web"]);
}

#[tokio::test]
async fn where_nothing_would_be_moved_nothing_is_asked_for() {
    let fake = fake(wire::PlanRebalanceResponse { moves: Vec::new(), ..plan() }).await;
    for arguments in [["rebalance"].as_slice(), &["rebalance", "--plan"]] {
        let said = fake.run(arguments).await;
        assert_eq!((said.code, said.data.as_str()), (Some(0), ""));
        assert_eq!(
            said.talk,
            "nothing would be moved: what may move is where it would be placed now\n"
        );
    }
    assert_eq!(*fake.script.seen.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn the_cluster_is_told_to_move_tasks_by_itself() {
    let fake = Fake::start(state()).await;
    let said = fake.run(&["cluster", "update", "--rebalance", "auto"]).await;
    assert_eq!(said.code, Some(0), "{}", said.talk);
    let said = fake.run(&["cluster", "update", "--moves-per-minute", "20"]).await;
    assert_eq!(said.talk, "tasks moved within any minute: 20 at most\n");
    for wrong in [["--moves-per-minute", "0"], ["--rebalance", "on"]] {
        let said = fake.run(&["cluster", "update", wrong[0], wrong[1]]).await;
        assert_eq!(said.code, Some(2), "{}", said.talk);
    }
    let said = fake.run(&["cluster", "update"]).await;
    assert_eq!(said.code, Some(2), "{}", said.talk);
    assert_eq!(
        *fake.script.seen.lock().unwrap(),
        [
            "update cluster REBALANCE_MODE_AUTO None",
            "update cluster REBALANCE_MODE_UNSPECIFIED Some(20)"
        ]
    );
}
