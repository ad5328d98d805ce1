//! Health, what waits for it, and stops that clients do not notice.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::{Lab, Task, eventually};

/// Each kind of check, and one that never succeeds.
const CHECKED: &str = r#"
services:
  command:
    image: busybox
    command: sh -c 'sleep 2; touch /tmp/up; sleep 100000'
    healthcheck:
      test: "test -e /tmp/up || { echo it is gone; exit 1; }"
      interval: 500ms
      retries: 2
      start_period: 30s
      start_interval: 300ms
    deploy: {restart_policy: {delay: 1s}}
  litter:
    image: busybox
    command: sleep 100000
    healthcheck: {test: "sleep 1000 & true", interval: 200ms}
  http:
    image: busybox
    command: sh -c 'sleep 2; mkdir /w; echo up > /w/up; exec httpd -f -p 8080 -h /w'
    healthcheck: {interval: 500ms, start_period: 30s, start_interval: 300ms, retries: 1}
    x-swarm: {health: {http: {port: 8080, path: /up, status: 200}}}
  tcp:
    image: busybox
    command: sh -c 'sleep 2; exec httpd -f -p 5432 -h /tmp'
    healthcheck: {interval: 500ms, start_period: 30s, start_interval: 300ms, retries: 1}
    x-swarm: {health: {tcp: {port: 5432}}}
"#;

const NEVER: &str = r#"
services:
  never:
    image: busybox
    command: sleep 100000
    healthcheck: {test: "echo not today; exit 3", interval: 300ms, retries: 2}
    deploy: {restart_policy: {condition: none}}
  slow:
    image: busybox
    command: sleep 100000
    healthcheck: {test: "sleep 1000 & sleep 1001", interval: 300ms, timeout: 1s, retries: 1}
    deploy: {restart_policy: {condition: none}}
"#;

fn health_of(lab: &Lab, name: &str) -> Value {
    let tasks = lab.json(&["ps", name]);
    tasks[0]["health"].clone()
}

fn newest(lab: &Lab, name: &str) -> Option<Task> {
    let mut tasks = lab.tasks();
    tasks.retain(|task| task.name == name);
    tasks
        .into_iter()
        .max_by_key(|task| task.id.rsplit('.').next().and_then(|number| number.parse::<u32>().ok()))
}

#[test]
fn checks_decide_whether_a_task_runs_and_when_it_is_replaced() {
    let lab = Lab::up("health");
    lab.deploy("h", CHECKED);
    for name in ["h_command.1", "h_http.1", "h_tcp.1"] {
        let task = newest(&lab, name).unwrap();
        assert_eq!(health_of(&lab, name)["state"], "healthy", "{task:?}");
        assert!(task.id.ends_with(".1"), "it started slowly, and was not replaced: {task:?}");
    }

    // The agent takes running checks over from the one before.
    let sick = newest(&lab, "h_command.1").unwrap();
    lab.kill_program(&sick.node, "agent");
    eventually(20, "the next agent runs programs", || {
        let said = lab.try_run(&["exec", "h_command.1", "rm", "-f", "/tmp/up"]);
        (said.code == 0).then_some(())
    });
    let ended = eventually(30, "the sick task is stopped", || {
        lab.tasks().into_iter().find(|task| task.id == sick.id && task.state == "failed")
    });
    assert_eq!(ended.message, "unhealthy: it is gone");
    eventually(30, "another one takes its place", || {
        newest(&lab, "h_command.1").filter(|task| task.id != sick.id && task.runs())
    });
    lab.run(&["exec", "h_http.1", "rm", "/w/up"]);
    eventually(30, "a page that is gone is noticed", || {
        lab.tasks()
            .into_iter()
            .find(|task| task.name == "h_http.1" && task.message == "unhealthy: /up: status 404")
    });

    lab.try_deploy("n", NEVER);
    let never = eventually(30, "what is never healthy fails", || {
        newest(&lab, "n_never.1").filter(|task| task.state == "failed")
    });
    assert_eq!(never.message, "never became healthy: not today");
    let slow = eventually(30, "so does what takes too long", || {
        newest(&lab, "n_slow.1").filter(|task| task.state == "failed")
    });
    assert!(slow.message.starts_with("never became healthy: took longer than 1s"), "{slow:?}");
    // One may be under way just now.
    let left =
        lab.run(&["exec", "h_litter.1", "sh", "-c", "ps -o args | grep -c 'sleep 1000$' || true"]);
    assert!(left.trim().parse::<u32>().unwrap() <= 3, "checks leave nothing behind: {left}");
}

const NEEDED: &str = r#"
services:
  db:
    image: busybox
    command: sh -c 'sleep 4; touch /tmp/up; sleep 100000'
    healthcheck: {test: [CMD, test, -e, /tmp/up], interval: 300ms, start_period: 30s, start_interval: 300ms}
    environment: {V: "1"}
    deploy: {placement: {constraints: [node.hostname == n1]}}
  setup:
    image: busybox
    command: sleep 2
    deploy: {placement: {constraints: [node.hostname == n2]}, restart_policy: {condition: none}}
  web:
    image: busybox
    command: sleep 100000
    depends_on:
      db: {condition: service_healthy, restart: true}
      setup: {condition: service_completed_successfully}
    deploy: {placement: {constraints: [node.hostname == n3]}}
"#;

fn started_at(task: &Task) -> &str {
    assert!(!task.started_at.is_empty(), "{task:?}");
    &task.started_at
}

#[test]
fn services_wait_for_the_health_of_others_on_other_hosts() {
    let lab = Lab::up("needed");
    lab.deploy("d", NEEDED);
    let tasks = lab.json(&["ps", "-a"]);
    let of = |name: &str| tasks.as_array().unwrap().iter().find(|task| task["name"] == name);
    let (db, setup) = (of("d_db.1").unwrap(), of("d_setup.1").unwrap());
    let web = newest(&lab, "d_web.1").unwrap();
    assert!(started_at(&web) >= db["since"].as_str().unwrap(), "{web:?} {db}");
    assert_eq!(setup["state"], "complete");
    assert!(started_at(&web) >= setup["since"].as_str().unwrap(), "{web:?} {setup}");

    lab.deploy("d", &NEEDED.replace("V: \"1\"", "V: \"2\""));
    let (newer, db) = (newest(&lab, "d_web.1").unwrap(), newest(&lab, "d_db.1").unwrap());
    assert!(newer.id != web.id && newer.runs() && db.runs(), "{newer:?} {db:?}");
    assert!(started_at(&newer) > started_at(&db), "the database first: {newer:?} {db:?}");
}

/// Ends what it has begun when it is told to stop.
const SERVER: &str = r#"
import http.server, os, signal, threading, time

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/health":
            time.sleep(0.02)
        body = os.environ["V"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *ignored):
        pass

class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 64

server = Server(("", 80), Page)
signal.signal(signal.SIGTERM, lambda *ignored: threading.Thread(target=server.shutdown).start())
server.serve_forever()
server.server_close()
"#;

/// Asks the service by its name, from several threads, and prints what came of it.
const CLIENT: &str = r#"
import json, threading, time, urllib.request

lock = threading.Lock()
told = {"asked": 0, "failed": []}

def ask():
    while True:
        try:
            urllib.request.urlopen("http://web/", timeout=5).read()
            failed = []
        except Exception as error:
            failed = [f"{time.time():.3f} {error!r}"]
        with lock:
            told["asked"] += 1
            told["failed"] += failed
        time.sleep(0.005)

for _ in range(3):
    threading.Thread(target=ask, daemon=True).start()
while True:
    time.sleep(0.3)
    with lock:
        print(json.dumps(told), flush=True)
"#;

fn page(version: u32, replicas: u32) -> String {
    format!(
        r#"
services:
  web:
    image: python:alpine
    command: ["python", "-c", {server}]
    environment: {{V: "{version}"}}
    ports: ["8080:80"]
    healthcheck: {{interval: 500ms, start_period: 30s, start_interval: 200ms}}
    x-swarm: {{health: {{http: {{port: 80, path: /health}}}}}}
    deploy: {{replicas: {replicas}}}
  client:
    image: python:alpine
    command: ["python", "-c", {client}]
    depends_on: {{web: {{condition: service_healthy}}}}
"#,
        server = serde_json::to_string(&SERVER.replace('$', "$$")).unwrap(),
        client = serde_json::to_string(&CLIENT.replace('$', "$$")).unwrap(),
    )
}

/// What the client in the container counted last.
fn counted(lab: &Lab) -> Option<(u64, Vec<Value>)> {
    let text = lab.run(&["logs", "u_client", "--raw", "--tail", "1"]);
    let told: Value = serde_json::from_str(text.lines().last()?).ok()?;
    Some((told["asked"].as_u64()?, told["failed"].as_array()?.clone()))
}

/// Requests through published ports after each deploy, before the next.
const AFTERWARDS: u64 = 12;

#[test]
fn a_rolling_update_under_load_loses_no_request() {
    let lab = Lab::up("rolling");
    lab.deploy("u", &page(1, 3));
    eventually(20, "the client asks", || counted(&lab).filter(|(asked, _)| *asked > 20));
    // Also when a deploy fails, the clients end.
    let latest = Instant::now() + Duration::from_mins(5);
    let (stop, asked, failed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for host in ["n1", "n2", "n3"] {
            let (lab, stop, asked, failed) = (&lab, &stop, &asked, &failed);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) && Instant::now() < latest {
                    asked.fetch_add(1, Ordering::Relaxed);
                    if let Err(error) = lab.get(host, 8080) {
                        eprintln!("published port of {host}: {error}");
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                    thread::sleep(Duration::from_millis(5));
                }
            });
        }
        for (version, replicas) in [(2, 3), (3, 3), (3, 2), (4, 2)] {
            lab.deploy("u", &page(version, replicas));
            let before = asked.load(Ordering::Relaxed);
            eventually(20, "the clients go on asking what is there now", || {
                (asked.load(Ordering::Relaxed) >= before + AFTERWARDS).then_some(())
            });
        }
        stop.store(true, Ordering::Relaxed);
    });
    let (through_vip, lost) = counted(&lab).unwrap();
    let (asked, failed) = (asked.into_inner(), failed.into_inner());
    eprintln!("{through_vip} requests through the virtual address, {asked} through ports");
    assert!(through_vip > 200 && asked > 30, "{through_vip} and {asked} requests are few");
    assert_eq!((lost.len(), failed), (0, 0), "{lost:#?}\n{}", lab.describe());
    assert!(lab.get("n1", 8080).unwrap().starts_with('4'));
}

#[test]
fn a_hook_runs_before_the_stop_signal() {
    let lab = Lab::up("hooks");
    let stack = r#"
services:
  web:
    image: busybox
    command: sh -c 'trap "cat /tmp/hook; exit 0" TERM; while true; do sleep 0.1; done'
    stop_grace_period: 10s
    pre_stop:
      - {command: "sh -c 'sleep 1; echo $$WHO was here > /tmp/hook'", environment: {WHO: hook}}
"#;
    lab.deploy("p", stack);
    lab.run(&["service", "scale", "p_web=0"]);
    let text = eventually(20, "it has stopped", || {
        let task = newest(&lab, "p_web.1").filter(|task| task.state == "shutdown")?;
        Some(lab.run(&["logs", &task.id, "--raw"]))
    });
    assert_eq!(text.trim(), "hook was here");
}
