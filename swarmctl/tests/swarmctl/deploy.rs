//! Deploying to a controller that says what the test tells it.

use std::time::Duration;

use expect_test::expect;
use swarm_proto::object::{NodeStatus, TaskState};
use swarmctl::state::State;
use tokio::time::sleep;
use tonic::Status;

use crate::fake::Fake;
use crate::objects::{state, task};
use crate::program::Said;

const DEPLOY: [&str; 3] = ["deploy", "-f", "stack.yml"];

fn empty() -> State {
    let mut state = state();
    state.tasks.clear();
    for node in state.nodes.values_mut() {
        node.status = NodeStatus::Ready;
    }
    state
}

fn run_all(state: &mut State) {
    let tasks = [(1, 1), (1, 2), (1, 3), (2, 1)];
    state.tasks.extend(tasks.map(|(service, slot)| {
        let task = task(service, slot, 1, TaskState::Running);
        (task.id, task)
    }));
}

/// Without the time that it took, which differs.
fn steady(said: &Said) -> String {
    let text = said.transcript();
    match text.find(" tasks, ") {
        Some(start) => {
            let end = text[start..].find(')').unwrap() + start;
            format!("{} tasks, 0.0 s{}", &text[..start], &text[end..])
        }
        None => text,
    }
}

#[tokio::test]
async fn waits_until_all_runs() {
    let fake = Fake::start(empty()).await;
    let child = fake.command(&DEPLOY).spawn().unwrap();
    let tell = async {
        sleep(Duration::from_millis(300)).await;
        fake.script.change(|state| {
            let task = task(2, 1, 1, TaskState::Running);
            state.tasks.insert(task.id, task);
        });
        sleep(Duration::from_millis(300)).await;
        fake.script.change(run_all);
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), tell);
    let said = Said::of(output.unwrap(), fake.folder.path());
    expect![[r#"
        ---
        service web created
        redis: 0 of 1 running
        web: 0 of 3 running
        redis: 1 of 1 running
        web: 3 of 3 running
        stack `counter` runs (4 tasks, 0.0 s)
        ---
        exit code 0
    "#]]
    .assert_eq(&steady(&said));
}

#[tokio::test]
async fn what_falls_over_at_once_does_not_count() {
    let fake = Fake::start(empty()).await;
    let child = fake.command(&DEPLOY).args(["--settle", "2s", "--timeout", "3s"]).spawn().unwrap();
    let tell = async {
        sleep(Duration::from_millis(300)).await;
        fake.script.change(run_all);
        sleep(Duration::from_millis(500)).await;
        fake.script.change(|state| {
            for task in state.tasks.values_mut() {
                task.status.state = TaskState::Failed;
                task.status.message = "exited with code 1".to_owned();
            }
        });
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), tell);
    let said = Said::of(output.unwrap(), fake.folder.path());
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.talk.contains("counter_web.1: failed: exited with code 1"), "{said:?}");
}

#[tokio::test]
async fn an_unchanged_stack_is_said_to_be_so() {
    let fake = Fake::start(empty()).await;
    fake.script.change(run_all);
    let unchanged = swarm_proto::wire::DeployResponse { revision: 2, ..Default::default() };
    *fake.script.deploy.lock().unwrap() = unchanged;
    expect![[r#"
        ---
        stack `counter` is unchanged at revision 2
        redis: 1 of 1 running
        web: 3 of 3 running
        stack `counter` runs (4 tasks, 0.0 s)
        ---
        exit code 0
    "#]]
    .assert_eq(&steady(&fake.run(&DEPLOY).await));
    let said = fake.run(&["deploy", "-f", "stack.yml", "-o", "json"]).await;
    expect![[r#"
        {
          "stack": "counter",
          "revision": 2,
          "changed": false,
          "changes": [],
          "warnings": [],
          "kept": [],
          "leaving": [],
          "converged": true
        }
    "#]]
    .assert_eq(&said.data);
    let said = fake.run(&["deploy", "-f", "stack.yml", "-o", "name"]).await;
    assert_eq!(said.data, "counter\n");
}

#[tokio::test]
async fn the_time_can_be_over() {
    let fake = Fake::start(state()).await;
    let said = fake.run(&["deploy", "-f", "stack.yml", "--timeout", "1s"]).await;
    expect![[r#"
        ---
        service web created
        redis: 1 of 1 running
        web: 2 of 3 running
        error: stack `counter` has not converged after 1s
          web: 2 of 3 running
            counter_web.3: pending: no suitable node: constraint `node.labels.zone!=c` on 1 node

        hint: the deploy goes on; see `swarmctl stack ps counter`
        ---
        exit code 3
    "#]]
    .assert_eq(&said.transcript());
}

#[tokio::test]
async fn control_c_detaches() {
    let fake = Fake::start(empty()).await;
    let child = fake.command(&DEPLOY).spawn().unwrap();
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    let tell = async {
        while fake.script.seen.lock().unwrap().is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
        sleep(Duration::from_millis(300)).await;
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).unwrap();
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), tell);
    let said = Said::of(output.unwrap(), fake.folder.path());
    expect![[r#"
        ---
        service web created
        redis: 0 of 1 running
        web: 0 of 3 running
        detached: the deploy goes on; see `swarmctl stack ps counter`
        ---
        exit code 0
    "#]]
    .assert_eq(&said.transcript());
}

#[tokio::test]
async fn detached_it_returns_at_once() {
    let fake = Fake::start(empty()).await;
    fake.script.deploy.lock().unwrap().warnings.push("`/code` is hidden".to_owned());
    let said = fake.run(&["deploy", "-f", "stack.yml", "--detach", "-o", "json"]).await;
    expect![[r#"
        {
          "stack": "counter",
          "revision": 2,
          "changed": true,
          "changes": [
            "service web created"
          ],
          "warnings": [
            "`/code` is hidden"
          ],
          "kept": [],
          "leaving": [],
          "converged": false
        }
        ---
        service web created
        warning: `/code` is hidden
        ---
        exit code 0
    "#]]
    .assert_eq(&said.transcript());
}

#[tokio::test]
async fn a_refusal_is_told_as_it_is() {
    let fake = Fake::start(empty()).await;
    let refusal = "port 5001/tcp of service `web` is taken by `sshd` on node `n2`\n\nhint: publish another port";
    fake.script.refusals.lock().unwrap().push(Status::failed_precondition(refusal));
    expect![[r#"
        ---
        error: port 5001/tcp of service `web` is taken by `sshd` on node `n2`

        hint: publish another port
        ---
        exit code 1
    "#]]
    .assert_eq(&fake.run(&DEPLOY).await.transcript());
}

#[tokio::test]
async fn a_change_of_leader_is_sat_out_with_the_same_request() {
    let fake = Fake::start(empty()).await;
    let lost = || Status::unavailable("no leader is known");
    fake.script.refusals.lock().unwrap().extend([lost(), lost(), lost()]);
    let said = fake.run(&["deploy", "-f", "stack.yml", "--detach"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let seen = fake.script.seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().all(|request| *request == seen[0]), "{seen:?}");
    assert_eq!(seen[0].split(' ').nth(2).unwrap().len(), 32);
}

#[tokio::test]
async fn without_a_leader_it_gives_up() {
    let fake = Fake::start(empty()).await;
    let lost = || Status::unavailable("the controllers are choosing a new leader: try again");
    fake.script.refusals.lock().unwrap().extend((0..1000).map(|_| lost()));
    let said = fake.run(&["service", "scale", "counter_web=2"]).await;
    expect![[r#"
        ---
        error: no controller could serve the request: the controllers are choosing a new leader: try again

        hint: a majority of the controllers must be up; see `swarmctl node ls --stale` and their logs
        ---
        exit code 1
    "#]].assert_eq(&said.transcript());
}

#[tokio::test]
async fn a_bad_file_sends_nothing() {
    let fake = Fake::start(empty()).await;
    std::fs::write(fake.folder.path().join("bad.yml"), "services:\n  web:\n    imag: a\n").unwrap();
    expect![[r#"
        ---
        error: bad.yml:2:3: service `web` has no `image`
          |
        2 |   web:
          |   ^^^

        hint: add `image: NAME:TAG`, or `build: .`

        error: bad.yml:3:5: unknown key `imag` in service `web`
          |
        3 |     imag: a
          |     ^^^^

        hint: did you mean `image`?
        ---
        exit code 1
    "#]]
    .assert_eq(&fake.run(&["deploy", "-f", "bad.yml"]).await.transcript());
    assert!(fake.script.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn removal_waits_until_all_is_gone() {
    let fake = Fake::start(empty()).await;
    fake.script.change(run_all);
    let child = fake.command(&["stack", "rm", "counter"]).spawn().unwrap();
    let tell = async {
        sleep(Duration::from_millis(300)).await;
        fake.script.change(|state| {
            state.stacks.values_mut().for_each(|stack| stack.removing = true);
            state.services.values_mut().for_each(|service| service.removing = true);
        });
        sleep(Duration::from_millis(300)).await;
        fake.script.change(|state| {
            state.tasks.clear();
            state.services.clear();
            state.networks.clear();
            state.stacks.clear();
        });
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), tell);
    let said = Said::of(output.unwrap(), fake.folder.path());
    expect![[r#"
        ---
        redis: 1 of 1 running
        web: 3 of 3 running
        redis: being removed, 1 stopping
        web: being removed, 3 stopping
        stack `counter` is removed; its volumes stay
        ---
        exit code 0
    "#]]
    .assert_eq(&said.transcript());
}

#[tokio::test]
async fn waiting_goes_on_at_another_controller() {
    let first = Fake::start(empty()).await;
    let second = Fake::start(empty()).await;
    let hosts = format!(
        "unix://{},unix:///nowhere,unix://{}",
        first.socket().display(),
        second.socket().display()
    );
    let child = first.command(&DEPLOY).env("SWARM_HOST", hosts).spawn().unwrap();
    sleep(Duration::from_millis(500)).await;
    // The first one goes away, and its socket with it.
    std::fs::remove_file(first.socket()).unwrap();
    first.script.end_streams();
    second.script.change(run_all);
    let output = child.wait_with_output().await.unwrap();
    let said = Said::of(output, first.folder.path());
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.talk.contains("stack `counter` runs"), "{said:?}");
}
