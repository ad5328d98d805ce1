//! Tasks from assignment to removal, on real containers.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use swarm_proto::assignment::{AssignmentDiff, TaskAssignment, VolumeAssignment};
use swarm_proto::id::{TaskId, VolumeId};
use swarm_proto::object::TaskState;
use swarm_proto::spec::{Mount, MountSource, Ulimit};
use swarm_proto::transport::AGENT_NAME;
use swarm_proto::wire;
use swarm_proto::wire::agent_client::AgentClient;

use crate::host::{ADDRESS, Host, PORT, eventually, on_a_host};

fn tasks(tasks: Vec<TaskAssignment>) -> AssignmentDiff {
    AssignmentDiff { tasks, ..AssignmentDiff::default() }
}

fn wanted(task: &TaskAssignment, desired: TaskState) -> AssignmentDiff {
    tasks(vec![TaskAssignment { desired, ..task.clone() }])
}

async fn logs(host: &Host, task: TaskId) -> Vec<String> {
    let address = format!("{ADDRESS}:{PORT}");
    let channel = host.controller.tls.connect(&address, AGENT_NAME).await.unwrap();
    let request =
        wire::AgentLogsRequest { tasks: vec![task.to_string()], follow: false, tail: -1, since: 0 };
    let mut lines = AgentClient::new(channel).logs(request).await.unwrap().into_inner();
    let mut texts = Vec::new();
    while let Some(line) = lines.next().await {
        texts.push(String::from_utf8(line.unwrap().line).unwrap());
    }
    texts
}

fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

/// When a process began, in ticks since boot.
fn began(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap().to_owned()
}

#[test]
fn a_task_runs_is_stopped_and_leaves_nothing() {
    on_a_host(async |host| {
        let script = "trap 'echo bye; exit 3' TERM; echo hello from $(hostname); id -u >&2; \
                      while :; do sleep 0.05; done";
        let mut task = host.task("1.1.1", script);
        task.container.user = Some("web".into());
        host.controller.assign(tasks(vec![task.clone()])).await;
        let status = host.controller.comes_to(task.id, TaskState::Running).await;
        assert!(runs(status.pid.unwrap()));
        assert!(status.started_at.is_some());
        eventually("its output", || {
            let log = host.containers().join("1.1.1/1/container.log");
            fs::read_to_string(log).is_ok_and(|log| log.lines().count() == 2)
        })
        .await;
        host.controller.assign(wanted(&task, TaskState::Shutdown)).await;
        let ended = host.controller.comes_to(task.id, TaskState::Shutdown).await;
        assert_eq!((ended.exit_code, ended.pid), (Some(3), None));
        assert!(!runs(status.pid.unwrap()));
        let mut lines = logs(&host, task.id).await;
        lines.sort();
        assert_eq!(lines, ["1000", "bye", "hello from 1-1-1"]);
        host.controller.assign(wanted(&task, TaskState::Remove)).await;
        host.controller.is_gone(task.id).await;
        assert_eq!(host.rests(), [""; 0]);
    });
}

#[test]
fn many_tasks_start_quickly_and_a_stubborn_one_is_killed() {
    on_a_host(async |host| {
        let all: Vec<_> = (1..=20)
            .map(|slot| host.task(&format!("1.{slot}.1"), "trap '' TERM; sleep 1000"))
            .collect();
        let begin = Instant::now();
        host.controller.assign(tasks(all.clone())).await;
        for task in &all {
            host.controller.comes_to(task.id, TaskState::Running).await;
        }
        println!("20 tasks ran after {:?}", begin.elapsed());
        let pid = host.agent_pid();
        let memory = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        println!("{memory}");
        let doomed = TaskAssignment { desired: TaskState::Remove, ..all[0].clone() };
        let stopped = Instant::now();
        host.controller.assign(tasks(vec![doomed])).await;
        host.controller.is_gone(all[0].id).await;
        assert!(stopped.elapsed() >= Duration::from_secs(1), "it had its time to stop");
        let seen = host.controller.seen.lock().unwrap().statuses[&all[0].id].clone();
        assert_eq!(seen.last().unwrap().exit_code, Some(137));
        let ids = all.iter().map(|task| task.id).collect();
        let mut gone = AssignmentDiff { removed_tasks: ids, ..AssignmentDiff::default() };
        gone.removed_tasks.push("9.9.9".parse().unwrap());
        host.controller.assign(gone).await;
        for task in &all {
            host.controller.is_gone(task.id).await;
        }
        host.controller.is_gone("9.9.9".parse().unwrap()).await;
        assert_eq!(host.rests(), [""; 0]);
    });
}

#[test]
fn containers_outlive_the_agent() {
    on_a_host(async |mut host| {
        let stays = host.task("1.1.1", "sleep 1000");
        let mut ends = host.task("1.2.1", "while [ ! -e /sign/go ]; do sleep 0.05; done; exit 7");
        let sign = host.folder.path().join("sign");
        fs::create_dir(&sign).unwrap();
        let source = MountSource::Bind { path: sign.to_str().unwrap().into() };
        ends.container.mounts = vec![Mount { target: "/sign".into(), source, read_only: true }];
        let all = vec![stays.clone(), ends.clone()];
        host.controller.assign(tasks(all)).await;
        let before = host.controller.comes_to(stays.id, TaskState::Running).await;
        let other = host.controller.comes_to(ends.id, TaskState::Running).await;
        let start = began(before.pid.unwrap());
        host.kill_agent();
        fs::write(sign.join("go"), "").unwrap();
        eventually("the container's end", || !runs(other.pid.unwrap())).await;
        host.start_agent();
        let ended = host.controller.comes_to(ends.id, TaskState::Failed).await;
        assert_eq!((ended.exit_code, ended.attempt), (Some(7), 1));
        host.controller
            .until("a second hello", |seen| (seen.hellos.len() == 2).then_some(()))
            .await;
        let after = host.controller.comes_to(stays.id, TaskState::Running).await;
        assert_eq!(after, before, "the same pid and time");
        assert_eq!(began(before.pid.unwrap()), start);
        // The agent's grip on it is as good as before.
        host.controller.assign(wanted(&stays, TaskState::Remove)).await;
        host.controller.assign(wanted(&ends, TaskState::Remove)).await;
        host.controller.is_gone(stays.id).await;
        host.controller.is_gone(ends.id).await;
        assert_eq!(host.rests(), [""; 0]);
    });
}

#[test]
fn an_agent_killed_at_any_moment_loses_nothing() {
    on_a_host(async |mut host| {
        for round in 0..6_u32 {
            let id = format!("1.1.{}", round + 1);
            let task = host.task(&id, "sleep 1000");
            host.controller.assign(tasks(vec![task.clone()])).await;
            tokio::time::sleep(Duration::from_millis(u64::from(round) * 15)).await;
            host.kill_agent();
            host.start_agent();
            let status = host.controller.comes_to(task.id, TaskState::Running).await;
            assert!(runs(status.pid.unwrap()));
            let removed = AssignmentDiff { removed_tasks: vec![task.id], ..Default::default() };
            host.controller.assign(removed).await;
            tokio::time::sleep(Duration::from_millis(u64::from(round) * 15)).await;
            host.kill_agent();
            host.start_agent();
            eventually("everything to be gone", || host.rests().is_empty()).await;
            assert!(!runs(status.pid.unwrap()));
        }
    });
}

#[test]
fn what_no_journal_knows_is_removed() {
    on_a_host(async |mut host| {
        let task = host.task("1.1.1", "sleep 1000");
        host.controller.assign(tasks(vec![task.clone()])).await;
        let status = host.controller.comes_to(task.id, TaskState::Running).await;
        host.kill_agent();
        fs::remove_file(host.folder.path().join("state/agent/journal")).unwrap();
        host.controller.vanish().await;
        host.start_agent();
        eventually("the end of a container that nobody knows", || !runs(status.pid.unwrap())).await;
        eventually("its rests to go", || host.rests().is_empty()).await;
    });
}

#[test]
fn each_failure_has_a_reason() {
    on_a_host(async |host| {
        let mut no_command = host.task("1.1.1", "");
        no_command.container.command = Some(vec!["no-such-program".into()]);
        let mut no_image = host.task("2.1.1", "");
        no_image.container.image.reference = "docker.io/library/nothing:1".into();
        no_image.container.image.digest =
            Some(format!("sha256:{}", "0".repeat(64)).parse().unwrap());
        let mut no_source = host.task("3.1.1", "");
        let source = MountSource::Bind { path: "/no/such/folder".into() };
        no_source.container.mounts = vec![Mount { target: "/x".into(), source, read_only: false }];
        let mut too_much = host.task("4.1.1", "");
        too_much.container.ulimits =
            vec![Ulimit { name: "nofile".into(), soft: u64::MAX, hard: u64::MAX }];
        let fails = host.task("5.1.1", "exit 9");
        let completes = host.task("6.1.1", "exit 0");
        let mut no_user = host.task("7.1.1", "true");
        no_user.container.user = Some("nobody-of-this-name".into());
        let table = [
            (no_command, TaskState::Failed, "no-such-program", Some(127)),
            (no_image, TaskState::Rejected, "nothing:1` was not found", None),
            (no_source, TaskState::Rejected, "`/no/such/folder` does not exist on this host", None),
            (too_much, TaskState::Rejected, "ulimit `nofile`", None),
            (fails, TaskState::Failed, "exit code 9", Some(9)),
            (completes, TaskState::Complete, "", Some(0)),
            (no_user, TaskState::Failed, "nobody-of-this-name", None),
        ];
        host.controller.assign(tasks(table.iter().map(|(task, ..)| task.clone()).collect())).await;
        for (task, state, reason, code) in &table {
            let status = host.controller.comes_to(task.id, *state).await;
            assert!(status.message.contains(reason), "{}: {}", task.id, status.message);
            assert_eq!(status.exit_code, *code, "{}: {}", task.id, status.message);
        }
        let ids = table.iter().map(|(task, ..)| task.id).collect();
        host.controller.assign(AssignmentDiff { removed_tasks: ids, ..Default::default() }).await;
        for (task, ..) in &table {
            host.controller.is_gone(task.id).await;
        }
        assert_eq!(host.rests(), [""; 0]);
    });
}

#[test]
fn cut_off_the_agent_goes_on_and_restarts_by_itself() {
    on_a_host(async |mut host| {
        let stays = host.task("1.1.1", "sleep 1000");
        let dies = host.task("1.2.1", "sleep 1000");
        host.controller.assign(tasks(vec![stays.clone(), dies.clone()])).await;
        let kept = host.controller.comes_to(stays.id, TaskState::Running).await;
        let first = host.controller.comes_to(dies.id, TaskState::Running).await;
        host.controller.vanish().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        kill(first.pid.unwrap());
        let log = host.folder.path().join("agent.log");
        eventually("a restart", || {
            fs::read_to_string(&log).unwrap().contains("restarted without a controller")
        })
        .await;
        host.controller.come_back().await;
        let second = host
            .controller
            .until("the second attempt", |seen| {
                let status = seen.statuses[&dies.id].last()?.clone();
                (status.attempt == 2 && status.state == TaskState::Running).then_some(status)
            })
            .await;
        assert!(runs(second.pid.unwrap()) && second.pid != first.pid);
        let after = host.controller.comes_to(stays.id, TaskState::Running).await;
        assert_eq!(after, kept);
        // In reach, a dead task is the controller's to replace.
        kill(second.pid.unwrap());
        let ended = host.controller.comes_to(dies.id, TaskState::Failed).await;
        assert_eq!((ended.exit_code, ended.attempt), (Some(137), 2));
        tokio::time::sleep(Duration::from_millis(500)).await;
        host.controller.comes_to(dies.id, TaskState::Failed).await;
    });
}

#[test]
fn cut_off_the_agent_stops_what_runs_by_lease() {
    on_a_host(async |mut host| {
        let stays = host.task("1.1.1", "sleep 1000");
        let leased = TaskAssignment {
            lease: Some(Duration::from_secs(3)),
            ..host.task("1.2.1", "trap 'exit 0' TERM; sleep 1000 & wait")
        };
        host.controller.assign(tasks(vec![stays.clone(), leased.clone()])).await;
        let kept = host.controller.comes_to(stays.id, TaskState::Running).await;
        let first = host.controller.comes_to(leased.id, TaskState::Running).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(runs(first.pid.unwrap()), "answers to heartbeats let it go on");
        host.controller.vanish().await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert!(runs(first.pid.unwrap()), "its lease lasts");
        eventually("its end", || !runs(first.pid.unwrap())).await;
        // The policy would start it again by now.
        tokio::time::sleep(Duration::from_secs(2)).await;
        host.controller.come_back().await;
        let ended = host.controller.comes_to(leased.id, TaskState::Failed).await;
        assert!(ended.message.contains("no controller was in reach"), "{}", ended.message);
        assert_eq!(ended.attempt, 1);
        assert_eq!(host.controller.comes_to(stays.id, TaskState::Running).await, kept);
    });
}

#[test]
fn a_lost_message_begins_a_new_session() {
    on_a_host(async |host| {
        host.controller.until("a hello", |seen| seen.hellos.first().cloned()).await;
        host.controller.lose_a_message().await;
        let second =
            host.controller.until("another hello", |seen| seen.hellos.get(1).cloned()).await;
        let first = host.controller.seen.lock().unwrap().hellos[0].clone();
        assert_ne!(first.session, second.session);
        assert_eq!(first.description.unwrap().agent_port, u32::from(PORT));
        let task = host.task("1.1.1", "sleep 1000");
        host.controller.assign(tasks(vec![task.clone()])).await;
        host.controller.comes_to(task.id, TaskState::Running).await;
    });
}

#[test]
fn volumes_are_filled_reported_kept_and_removed() {
    on_a_host(async |host| {
        let mount =
            |target: &str, source| Mount { target: target.into(), source, read_only: false };
        let named = || MountSource::Volume { volume: "vol".into(), no_copy: false, external: None };
        let mut writer =
            host.task("1.1.1", "cat /code/app; echo two > /code/app; ls /anon; sleep 1000");
        writer.container.mounts =
            vec![mount("/code", named()), mount("/anon", MountSource::Anonymous)];
        writer.volumes = [("vol".to_owned(), VolumeId(5))].into();
        let volume = |remove| VolumeAssignment { id: VolumeId(5), name: "test_vol".into(), remove };
        let diff = AssignmentDiff {
            tasks: vec![writer.clone()],
            volumes: vec![volume(false)],
            ..Default::default()
        };
        host.controller.assign(diff).await;
        host.controller.comes_to(writer.id, TaskState::Running).await;
        let report = host.controller.until("a volume", |seen| seen.volumes.first().cloned()).await;
        assert_eq!((report.id, report.name.as_str()), (5, "test_vol"));
        let data = host.folder.path().join("state/agent/volumes/test_vol/_data/app");
        eventually("the write", || fs::read_to_string(&data).is_ok_and(|s| s == "two\n")).await;
        assert_eq!(logs(&host, writer.id).await, ["version one"]);
        let mut reader = host.task("1.1.2", "cat /code/app; exit 0");
        reader.container.mounts = vec![mount("/code", named())];
        reader.volumes = writer.volumes.clone();
        let diff = AssignmentDiff {
            tasks: vec![reader.clone()],
            removed_tasks: vec![writer.id],
            ..Default::default()
        };
        host.controller.assign(diff).await;
        host.controller.comes_to(reader.id, TaskState::Complete).await;
        assert_eq!(logs(&host, reader.id).await, ["two"]);
        host.controller.is_gone(writer.id).await;
        let diff = AssignmentDiff {
            removed_tasks: vec![reader.id],
            volumes: vec![volume(true)],
            ..Default::default()
        };
        host.controller.assign(diff).await;
        host.controller.until("no volume", |seen| seen.volumes.is_empty().then_some(())).await;
        assert!(!Path::new(&data).exists());
    });
}

#[test]
fn only_controllers_may_ask() {
    on_a_host(async |host| {
        host.controller.until("a hello", |seen| seen.hellos.first().cloned()).await;
        let agent = host.controller.agent.credentials();
        let address = format!("{ADDRESS}:{PORT}");
        let tls = swarm_proto::transport::Tls::new(&agent).unwrap();
        let channel = tls.connect(&address, AGENT_NAME).await.unwrap();
        let refused = AgentClient::new(channel).list_images(wire::ListImagesRequest {}).await;
        assert_eq!(refused.unwrap_err().code(), tonic::Code::PermissionDenied);
        let channel = host.controller.tls.connect(&address, AGENT_NAME).await.unwrap();
        let mut client = AgentClient::new(channel);
        let request = wire::ResolveImageRequest { reference: "busybox:1".into(), login: None };
        let digest = client.resolve_image(request).await.unwrap().into_inner().digest;
        assert_eq!(digest, host.busybox);
        let request = wire::ResolveImageRequest { reference: "nothing:1".into(), login: None };
        let refused = client.resolve_image(request).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::NotFound, "{refused:?}");
        let pid = host.agent_pid();
        assert!(runs(pid));
    });
}

fn kill(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}
