//! Controllers, agents and hosts that die.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::lab::{Lab, SLEEPER, address, eventually};
use crate::snapshot::Process;

const ECHO: &str = r#"
services:
  echo:
    image: busybox
    command: nc -ll -p 7000 -e cat
    ports: ["7001:7000"]
  work:
    image: busybox
    command: sleep 100000
    deploy: {replicas: 3}
"#;

fn all_contained(lab: &Lab) -> BTreeSet<Process> {
    ["n1", "n2", "n3"].iter().flat_map(|host| lab.contained(host)).collect()
}

#[test]
fn a_killed_leader_is_not_missed() {
    let lab = Lab::up("leader");
    lab.deploy("f", ECHO);
    let tasks = lab.running("f_");
    let processes = all_contained(&lab);
    let mut stream = lab.connect("n1", address("n2"), 7001).unwrap();
    let mut accepted = Vec::new();
    for round in 0..10 {
        let leader = lab.leader();
        lab.kill_program(&leader, "controller");
        let killed = Instant::now();
        let said = lab.try_run(&["service", "scale", "f_work=3"]);
        assert_eq!(said.code, 0, "round {round}: {said:#?}");
        accepted.push(killed.elapsed());
        let text = format!("round {round}");
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, text.as_bytes(), "the stream is unbroken");
        // The killed one comes back before the next is killed: a majority is there.
        eventually(20, "the killed controller is back", || {
            lab.program(&leader, "controller")?;
            lab.connect("n1", address(&leader), 2377).ok()
        });
    }
    accepted.sort();
    assert!(accepted[5] < Duration::from_secs(2), "{accepted:?}");
    assert!(tasks.iter().all(|task| task.pid.is_some()), "{tasks:?}");
    assert_eq!(lab.running("f_"), tasks, "every task keeps its id, pid and start time");
    let mut now = all_contained(&lab);
    // The stream's own end, made when it was opened.
    now.retain(|process| process.name != "cat");
    assert_eq!(now, processes, "containers were not touched");
}

#[test]
fn a_lost_hosts_work_moves_and_is_not_doubled_when_it_returns() {
    let lab = Lab::up("host");
    lab.deploy_counter();
    // Redis has its data where it is; the lost host must be another one for the page to go on.
    let redis = lab.running("counter_redis")[0].node.clone();
    let victim = ["n2", "n3"].into_iter().find(|host| *host != redis).unwrap();
    lab.lab("kill", &[victim]);
    eventually(30, "three replicas run on the two other hosts", || {
        let tasks = lab.running("counter_web-fe");
        (tasks.len() == 3 && tasks.iter().all(|task| task.node != victim)).then_some(())
    });
    eventually(20, "the page is there", || lab.get("n1", 5001).ok());

    lab.lab("start", &[victim]);
    eventually(30, "the host is ready again", || {
        let nodes = lab.json(&["node", "ls"]);
        let ready =
            |node: &serde_json::Value| node["hostname"] == victim && node["status"] == "ready";
        nodes.as_array().unwrap().iter().any(ready).then_some(())
    });
    // Its old containers died with it; its agent must not start them again.
    let running = |host: &str| lab.contained(host).iter().filter(|p| p.name == "python").count();
    eventually(10, "no slot runs twice", || {
        let all: usize = ["n1", "n2", "n3"].iter().map(|host| running(host)).sum();
        (all == 3).then_some(())
    });
    let slots: BTreeSet<String> =
        lab.running("counter_web-fe").into_iter().map(|task| task.name).collect();
    assert_eq!(slots.len(), 3);
}

#[test]
fn containers_outlive_their_agent_and_nothing_is_forgotten() {
    let lab = Lab::up("agent");
    lab.deploy(
        "a",
        r#"
services:
  stay:
    image: busybox
    command: sh -c 'while true; do date +%s.%N; sleep 0.1; done'
    deploy: {mode: global}
  end:
    image: busybox
    command: sh -c 'while ! test -e /tmp/go; do sleep 0.1; done; echo goodbye; exit 42'
    volumes: ["flag:/tmp"]
    deploy:
      restart_policy: {condition: none}
volumes:
  flag:
"#,
    );
    let ending = lab.running("a_end")[0].clone();
    let host = ending.node.clone();
    // The loops' own children come and go, and are called `sh` before they are `sleep` or `date`.
    let shell = |all: &BTreeSet<Process>| -> BTreeSet<Process> {
        all.iter().filter(|process| process.name == "sh").cloned().collect()
    };
    let before = eventually(10, "only the two loops are shells", || {
        let shells = shell(&lab.contained(&host));
        (shells.len() == 2).then_some(shells)
    });
    lab.lab("kill", &[&host, "--only", "agent"]);
    let after = lab.contained(&host);
    assert!(before.is_subset(&after), "something happened to the containers: {after:?}");
    lab.exec(
        &host,
        &["sh", "-c", "for data in /var/lib/swarm/agent/volumes/*/_data; do touch $data/go; done"],
    );
    eventually(10, "one container ends while nobody watches", || {
        (shell(&lab.contained(&host)).len() == 1).then_some(())
    });
    lab.lab("start", &[&host]);
    let ended = eventually(30, "its end is known", || {
        let task = lab.tasks().into_iter().find(|task| task.id == ending.id)?;
        matches!(task.state.as_str(), "failed" | "complete").then_some(task)
    });
    assert_eq!(ended.state, "failed");
    assert_eq!(ended.exit_code, Some(42), "{ended:?}");
    assert!(lab.run(&["logs", "a_end"]).contains("goodbye"));
    let stayed = shell(&lab.contained(&host));
    assert!(stayed.is_subset(&shell(&before)), "{stayed:?} of {before:?}");
    let last = || {
        let text = lab.run(&["logs", "a_stay", "--tail", "1"]);
        text.lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let then = last();
    eventually(10, "the log goes on on every host", || {
        let now = last();
        (now.len() == 3 && now.is_disjoint(&then)).then_some(())
    });
}

#[test]
fn a_power_cut_of_everything_loses_nothing() {
    let lab = Lab::up("power");
    lab.deploy(
        "p",
        r#"
services:
  keep:
    image: busybox
    command: sh -c 'echo started >> /data/lines; sync; sleep 100000'
    volumes: ["data:/data"]
volumes:
  data:
"#,
    );
    let lines = |lab: &Lab, host: &str| {
        let said =
            lab.try_exec(host, &["sh", "-c", "cat /var/lib/swarm/agent/volumes/*/_data/lines"]);
        said.stdout.lines().count()
    };
    let host = lab.running("p_keep")[0].node.clone();
    eventually(10, "the first start is written", || (lines(&lab, &host) == 1).then_some(()));
    let firsts = ["n1", "n2", "n3", "switch"];
    let pids: Vec<i32> = firsts.iter().filter_map(|host| lab.first_process(host)).collect();
    for pid in pids {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
            .unwrap();
    }
    lab.up_again(&[]);
    eventually(40, "the stack is back with its volume", || {
        let tasks = lab.running("p_keep");
        (tasks.len() == 1 && tasks[0].node == host && lines(&lab, &host) == 2).then_some(())
    });
}

#[test]
fn a_frozen_host_is_replaced_and_gives_way_when_it_thaws() {
    let lab = Lab::up("frozen");
    lab.deploy("f", ECHO);
    let leader = lab.leader();
    let victim = ["n1", "n2", "n3"].into_iter().find(|host| *host != leader).unwrap();
    lab.lab("pause", &[victim]);
    eventually(40, "its work runs elsewhere", || {
        let tasks = lab.running("f_");
        (tasks.len() == 4 && tasks.iter().all(|task| task.node != victim)).then_some(())
    });
    lab.lab("resume", &[victim]);
    eventually(40, "its old containers are stopped", || {
        let expected = lab.running("f_").iter().filter(|task| task.node == victim).count();
        (lab.contained(victim).iter().filter(|p| p.name != "swarm-runtime").count() == expected)
            .then_some(())
    });
}

#[test]
fn one_of_two_controllers_leaves_and_is_switched_off_at_once() {
    let lab = Lab::with("leave", &["--hosts", "2", "--controllers", "2"]);
    eventually(20, "both have a vote", || {
        let status = lab.json(&["cluster", "status"]);
        let members = status["members"].as_array()?;
        let words: BTreeSet<_> = members.iter().filter_map(|it| it["member"].as_str()).collect();
        (words == ["leader", "voter"].into()).then_some(())
    });
    lab.deploy("s", SLEEPER);
    assert_eq!(lab.sleepers("n2").len(), 1);
    // Without the lab's context: as on any host, it is asked of the controller there.
    let leave = ["env", "XDG_CONFIG_HOME=/nowhere", "swarmctl", "host", "leave", "--force"];
    let said = lab.try_exec("n2", &leave);
    assert_eq!(said.code, 0, "{said:#?}");
    assert!(said.stderr.contains("belongs to no cluster any more"), "{said:#?}");
    assert!(lab.contained("n2").is_empty(), "nothing that it ran goes on");
    lab.lab("kill", &["n2"]);
    // One that forgot the change would wait for the vote of the one that is gone.
    lab.kill_program("n1", "controller");
    eventually(20, "the one that stays goes on alone", || {
        (lab.try_run(&["node", "label", "n1", "alone=yes"]).code == 0).then_some(())
    });
}
