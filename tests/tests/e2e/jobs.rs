//! Jobs: to their end, at their times over a change of leaders, and one-off tasks beside a service.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::lab::{Lab, eventually};

/// The runs of a job by their numbers.
fn runs(lab: &Lab, service: &str) -> BTreeMap<u64, Value> {
    let said = lab.try_run(&["job", "runs", service, "-o", "json"]);
    let runs: Vec<Value> = serde_json::from_str(&said.stdout).unwrap_or_default();
    runs.into_iter().map(|run| (run["number"].as_u64().unwrap(), run)).collect()
}

#[test]
fn a_job_runs_to_its_end_some_at_a_time() {
    let lab = Lab::up("job");
    let job = |command: &str, rest: &str| {
        format!(
            "services:\n  many:\n    image: busybox\n    command: sh -c '{command}'\n    deploy:\n      \
             mode: replicated-job\n      restart_policy: {{condition: none}}\n    x-swarm:\n      \
             job: {{total: 5, parallelism: 2{rest}}}\n"
        )
    };
    let said = lab.deploy("j", &job("sleep 1; echo done", ""));
    assert!(said.stderr.contains("many: 5 of 5 completed"), "{said:#?}");
    let tasks = lab.tasks();
    let complete = tasks.iter().filter(|task| task.state == "complete").count();
    assert_eq!((tasks.len(), complete), (5, 5), "{tasks:#?}");
    let listed = lab.run(&["service", "ls"]);
    assert!(listed.contains("0/2 (5/5 completed)"), "{listed}");
    let logs = lab.run(&["logs", "j_many", "--raw"]);
    assert_eq!(logs.lines().filter(|line| *line == "done").count(), 5, "{logs}");
    // A run by hand, of which never more than two go on at a time.
    let child = lab.command(&["job", "run", "j_many"]).spawn();
    let mut child = child.unwrap();
    let mut most = 0;
    let code = loop {
        most = most.max(lab.running("j_many").len());
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
    };
    assert!(code == Some(0) && (1..=2).contains(&most), "exit {code:?}, {most} at a time");
    // A changed job is run anew, and a failure ends the deploy.
    let said = lab.try_deploy("j", &job("exit 3", ", history: 1"));
    assert!(said.code == 1 && said.stderr.contains("exit code 3"), "{said:#?}");
    eventually(20, "the run failed", || {
        let last = runs(&lab, "j_many").into_values().next_back()?;
        (last["state"] == "failed" && last["completed"] == 0).then_some(())
    });
    let stuck = lab
        .try_deploy("u", &job("true", "").replace("restart", "update_config: {}\n      restart"));
    assert!(stuck.code != 0 && stuck.stderr.contains("a job has no `update_config`"), "{stuck:#?}");
    lab.run(&["stack", "rm", "j"]);
    eventually(20, "nothing is left", || lab.tasks().is_empty().then_some(()));
}

#[test]
fn each_time_of_a_schedule_is_run_once_over_a_change_of_leaders() {
    let lab = Lab::up("cron");
    let text = r#"
services:
  tick:
    image: busybox
    command: "true"
    deploy: {mode: replicated-job}
    x-swarm:
      job: {schedule: "@every 2s", missed: run-all, concurrency: allow, history: 100}
"#;
    lab.deploy("c", text);
    let complete = |count: usize| {
        let runs = runs(&lab, "c_tick");
        let done = runs.values().filter(|run| run["state"] == "complete").count();
        (done >= count).then_some(())
    };
    eventually(30, "it runs at its times", || complete(3));
    let leader = lab.leader();
    lab.lab("kill", &[&leader]);
    eventually(60, "it goes on running", || complete(12));
    lab.lab("start", &[&leader]);
    let all = runs(&lab, "c_tick");
    let time = |run: &Value| {
        let time: jiff::Timestamp = run["scheduled_at"].as_str().unwrap().parse().unwrap();
        time.as_second()
    };
    let times: Vec<i64> = all.values().map(time).collect();
    for pair in times.windows(2) {
        assert_eq!(pair[1] - pair[0], 2, "one run for each time: {times:?}");
    }
    lab.run(&["job", "ls"]);
    lab.run(&["stack", "rm", "c"]);
    eventually(30, "nothing is left", || lab.tasks().is_empty().then_some(()));
}

#[test]
fn a_one_off_task_runs_beside_a_service() {
    let lab = Lab::with("oneoff", &["--hosts", "1", "--controllers", "1"]);
    let text = r"
services:
  web:
    image: busybox
    command: sleep 100000
    environment: {COLOUR: green}
";
    lab.deploy("o", text);
    let said = lab.try_run(&["run", "o_web", "sh", "-c", "echo $COLOUR; exit 7"]);
    assert_eq!((said.code, said.stdout.as_str()), (7, "green\n"), "{said:#?}");
    let said = lab.try_run(&["run", "o_web", "true"]);
    assert_eq!((said.code, said.stdout.as_str()), (0, ""), "{said:#?}");
    let said = lab.try_run(&["run", "o_web", "/no/such/program"]);
    assert!(said.code != 0, "{said:#?}");
    lab.run(&["run", "--detach", "o_web", "sleep", "1000"]);
    eventually(20, "it runs beside the service", || {
        let names: Vec<String> = lab.running("o_web").into_iter().map(|task| task.name).collect();
        (names == ["o_web.1", "o_web.r4"]).then_some(())
    });
    // The service is as it was: one task, and it is not the one-off one.
    let service = &lab.json(&["service", "ls"])[0];
    assert_eq!(service["replicas"], serde_json::json!({"wanted": 1, "running": 1}));
    lab.run(&["job", "stop", "o_web", "--run", "4"]);
    eventually(20, "it is stopped", || (lab.running("o_web").len() == 1).then_some(()));
    let states: Vec<Value> =
        runs(&lab, "o_web").into_values().map(|run| run["state"].clone()).collect();
    assert_eq!(states, ["failed", "complete", "failed", "stopped"]);
    // The one-off task's `sleep` is deaf to the stop signal: it is killed after the grace period.
    eventually(20, "only the service's own process is left", || {
        (lab.sleepers("n1").len() == 1).then_some(())
    });
}
