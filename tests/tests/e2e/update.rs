//! Updates and rollbacks on real hosts, under requests.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::lab::{Lab, Task, eventually, throughout};

fn web(command: &str, more: &str) -> String {
    format!(
        r"
services:
  web:
    image: busybox
    command: {command}
    stop_grace_period: 1s
    ports: ['7001:80']
    deploy:
      replicas: 3
      update_config: {{order: start-first, failure_action: rollback, monitor: 2s{more}}}
"
    )
}

/// So many requests are made at least, some of them after what is done was done.
const ENOUGH: u32 = 60;

const GOOD: &str = "sh -c 'echo good > /index.html; exec httpd -f -p 80 -h /'";

fn inspect(lab: &Lab) -> Value {
    lab.json(&["service", "inspect", "shop_web"])
}

pub(crate) fn state(lab: &Lab) -> String {
    let view = inspect(lab);
    let view = view.get(0).unwrap_or(&view);
    view["update"]["state"].as_str().unwrap_or_default().to_owned()
}

/// Asks every host's published port, and so the virtual address behind it, while something is done.
pub(crate) fn under_requests<T>(lab: &Lab, work: impl FnOnce() -> T) -> (T, u32, Vec<String>) {
    let (over, asked) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut failures = Vec::new();
            while !over.load(Ordering::Relaxed) || asked.load(Ordering::Relaxed) < ENOUGH {
                let number = asked.fetch_add(1, Ordering::Relaxed);
                let host = ["n1", "n2", "n3"][number as usize % 3];
                match lab.get(host, 7001) {
                    Ok(page) if page == "good\n" => {}
                    other => failures.push(format!("{host}: {other:?}")),
                }
                thread::sleep(Duration::from_millis(20));
            }
            failures
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        let failures = client.join().unwrap();
        (done, asked.load(Ordering::Relaxed), failures)
    })
}

/// Waits until so many requests in turn are answered by each host's published port.
pub(crate) fn answers(lab: &Lab, requests: u32) {
    for host in ["n1", "n2", "n3"] {
        eventually(20, "each replica answers", || {
            (0..requests).all(|_| lab.get(host, 7001).is_ok()).then_some(())
        });
    }
}

pub(crate) fn ids(tasks: &[Task]) -> Vec<&str> {
    tasks.iter().map(|task| task.id.as_str()).collect()
}

#[test]
fn a_bad_update_rolls_back_by_itself_and_loses_no_request() {
    let lab = Lab::up("rollback");
    lab.deploy("shop", &web(GOOD, ""));
    answers(&lab, 6);
    let before = lab.running("shop_web");
    assert_eq!(before.len(), 3);

    let bad = web("/no/such/program", "");
    let (said, asked, failures) = under_requests(&lab, || lab.try_deploy("shop", &bad));
    assert_eq!(said.code, 1, "{said:#?}\n{}", lab.describe());
    assert!(
        said.stderr.contains("service `shop_web`: update rolled back: task shop_web."),
        "{said:#?}"
    );
    assert!(failures.is_empty(), "of {asked}: {failures:#?}");
    assert_eq!(state(&lab), "rollback_completed");
    assert_eq!(ids(&lab.running("shop_web")), ids(&before), "what ran goes on");
    let ls = lab.run(&["service", "ls"]);
    assert!(ls.contains("3/3"), "{ls}");
}

#[test]
fn an_update_is_paused_resumed_and_rolled_back_by_hand() {
    let lab = Lab::up("pause");
    lab.deploy("shop", &web(GOOD, ""));
    let first = lab.running("shop_web");
    let update = ["service", "update", "shop_web", "--env-add", "A=1", "--update-delay", "4s"];
    lab.run(&[&update[..], &["--detach"]].concat());
    eventually(20, "the first slot is exchanged", || {
        let running = lab.running("shop_web");
        (ids(&running) != ids(&first)).then_some(())
    });
    lab.run(&["service", "pause", "shop_web"]);
    assert_eq!(state(&lab), "paused");
    throughout(Duration::from_secs(6), || {
        let kept = lab.running("shop_web").iter().filter(|task| first.contains(task)).count();
        assert!(kept >= 1, "nothing goes on while it is paused");
    });
    let ls = lab.run(&["service", "ls"]);
    assert!(ls.contains("(update paused)"), "{ls}");

    lab.run(&["service", "resume", "shop_web", "--timeout", "90s"]);
    assert_eq!(state(&lab), "completed");
    let second = lab.running("shop_web");
    assert_eq!(second.iter().filter(|task| first.contains(task)).count(), 0);

    lab.run(&["service", "rollback", "shop_web", "--timeout", "90s"]);
    assert_eq!(state(&lab), "rollback_completed");
    let third = lab.running("shop_web");
    assert_eq!(third.len(), 3);
    assert_eq!(third.iter().filter(|task| second.contains(task)).count(), 0);

    lab.run(&["service", "update", "shop_web", "--force", "--update-delay", "0s"]);
    let fourth = lab.running("shop_web");
    assert_eq!(fourth.iter().filter(|task| third.contains(task)).count(), 0);
    lab.run(&["service", "rm", "shop_web"]);
    eventually(30, "the stack went with its only service", || {
        lab.run(&["stack", "ls", "-o", "name"]).trim().is_empty().then_some(())
    });
}
