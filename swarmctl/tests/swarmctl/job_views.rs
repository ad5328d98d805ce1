//! What tables and JSON of jobs and their runs look like.
#![expect(clippy::too_many_lines, reason = "goldens are long")]

use expect_test::expect;
use swarm_proto::id::ServiceId;
use swarm_proto::object::{JobRun, RunState};
use swarm_proto::spec::{Concurrency, JobSchedule, MissedRuns, ServiceMode};
use swarmctl::output::Format;
use swarmctl::view::{JobView, RunView, ServiceView};

use crate::objects::{ago, state};
use crate::views::check;

#[test]
fn jobs() {
    let mut state = state();
    let run = |number: u64, run_state, one_off: bool| JobRun {
        number,
        scheduled_at: (!one_off).then(|| ago(120)),
        started_at: ago(119),
        ended_at: (run_state != RunState::Running).then(|| ago(60)),
        state: run_state,
        message: if one_off { "task counter_web.r2: exit code 3".into() } else { String::new() },
        spec_version: 1,
        total: Some(if one_off { 1 } else { 5 }),
        slots_after: 0,
        completed: u32::from(!one_off),
        failed: u32::from(one_off),
        one_off,
        command: one_off.then(|| vec!["sh".into(), "-c".into(), "exit 3".into()]),
    };
    let service = state.services.values_mut().next().unwrap();
    service.spec.mode = ServiceMode::ReplicatedJob { total: 5, max_concurrent: 2 };
    service.spec.schedule = Some(JobSchedule {
        expression: "0 3 * * *".into(),
        time_zone: "Europe/Berlin".into(),
        missed: MissedRuns::RunOnce,
        concurrency: Concurrency::Replace,
    });
    service.runs.started = 2;
    service.runs.skipped = 4;
    service.runs.list = vec![run(1, RunState::Running, false), run(2, RunState::Failed, true)];
    for task in state.tasks.values_mut().filter(|task| task.id.service == ServiceId(1)) {
        task.run = Some(1);
    }
    let service = state.services.values().next().unwrap();
    let job = JobView::of(&state, service);
    check(
        std::slice::from_ref(&job),
        Format::Wide,
        &expect![[r#"
        NAME          MODE             SCHEDULE                  NEXT    LAST RUN   STATE     COMPLETED   ID   RUNS   SKIPPED   MISSED     CONCURRENCY
        counter_web   replicated-job   0 3 * * * Europe/Berlin   in 3h   119s ago   running   0/5         1    2      4         run-once   replace
    "#]],
    );
    check(
        std::slice::from_ref(&job),
        Format::Json,
        &expect![[r#"
        [
          {
            "id": 1,
            "name": "counter_web",
            "stack": "counter",
            "mode": "replicated-job",
            "total": 5,
            "parallelism": 2,
            "schedule": {
              "expression": "0 3 * * *",
              "time_zone": "Europe/Berlin",
              "missed": "run-once",
              "concurrency": "replace"
            },
            "next_run_at": "2023-11-15T02:00:00.000Z",
            "runs": 2,
            "skipped": 4,
            "last": {
              "service": "counter_web",
              "number": 1,
              "state": "running",
              "completed": 0,
              "total": 5,
              "running": 2,
              "scheduled_at": "2023-11-14T22:11:20.000Z",
              "started_at": "2023-11-14T22:11:21.000Z",
              "ended_at": null,
              "message": "",
              "spec_version": 1,
              "one_off": false,
              "command": null
            }
          }
        ]
    "#]],
    );
    let runs: Vec<RunView> =
        service.runs.list.iter().map(|run| RunView::of(&state, service, run)).collect();
    check(
        &runs,
        Format::Wide,
        &expect![[r#"
        RUN           STATE     COMPLETED   SCHEDULED                  STARTED    TOOK   MESSAGE                            SPEC   COMMAND
        1             running   0/5         2023-11-14T22:11:20.000Z   119s ago   119s                                      1
        2 (one-off)   failed    0/1                                    119s ago   59s    task counter_web.r2: exit code 3   1      sh -c exit 3
    "#]],
    );
    let service = ServiceView::of(&state, service);
    check(
        std::slice::from_ref(&service),
        Format::Table,
        &expect![[r#"
        NAME          MODE             REPLICAS              IMAGE           PORTS
        counter_web   replicated-job   2/2 (0/5 completed)   counter-web:1   *:5001->5000/tcp
    "#]],
    );
}
