//! Blue-green updates on real hosts, under requests.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::Lab;
use crate::update::{answers, ids, state};

const HOSTS: [&str; 3] = ["n1", "n2", "n3"];

fn web(version: u32) -> String {
    format!(
        r#"
services:
  web:
    image: busybox
    command: sh -c 'echo {version} > /index.html; exec httpd -f -p 80 -h /'
    stop_grace_period: 1s
    ports: ['7001:80']
    healthcheck: {{test: "wget -q -O /dev/null http://127.0.0.1", interval: 1s, retries: 3}}
    deploy:
      replicas: 3
      update_config: {{monitor: 2s}}
    x-swarm: {{update: {{order: blue-green, hold: 10m}}}}
"#
    )
}

/// What each host's published port answered while something was done, without repetitions, and what failed.
fn met_during<T>(lab: &Lab, work: impl FnOnce() -> T) -> (T, Vec<Vec<String>>, Vec<String>) {
    let over = AtomicBool::new(false);
    // Also when a deploy fails, the clients end.
    let latest = Instant::now() + Duration::from_mins(4);
    let ask = |host: &'static str| {
        let (mut met, mut failures) = (Vec::<String>::new(), Vec::new());
        let mut left = 20;
        while left > 0 && Instant::now() < latest {
            left -= u32::from(over.load(Ordering::Relaxed));
            match lab.get(host, 7001) {
                Ok(page) if met.last().is_none_or(|last| last != page.trim()) => {
                    met.push(page.trim().to_owned());
                }
                Ok(_) => {}
                Err(error) => failures.push(format!("{host}: {error}")),
            }
            thread::sleep(Duration::from_millis(10));
        }
        (met, failures)
    };
    let ask = &ask;
    thread::scope(|scope| {
        let clients: Vec<_> = HOSTS.map(|host| scope.spawn(move || ask(host))).into();
        let done = work();
        over.store(true, Ordering::Relaxed);
        let (mut met, mut failures) = (Vec::new(), Vec::new());
        for client in clients {
            let (of_host, failed) = client.join().unwrap();
            met.push(of_host);
            failures.extend(failed);
        }
        (done, met, failures)
    })
}

#[test]
fn a_blue_green_update_switches_at_once_and_back_and_loses_no_request() {
    let lab = Lab::up("blue-green");
    lab.deploy("shop", &web(1));
    answers(&lab, 6);
    let first = lab.running("shop_web");
    assert_eq!(first.len(), 3);

    let (said, met, failures) = met_during(&lab, || lab.deploy("shop", &web(2)));
    assert!(failures.is_empty(), "{failures:#?}\n{}", lab.describe());
    assert_eq!(met, [["1", "2"], ["1", "2"], ["1", "2"]], "one switch at each host");
    assert!(said.stderr.contains("stand by until `swarmctl promote shop_web`"), "{said:#?}");
    assert_eq!(state(&lab), "held");
    assert_eq!(lab.running("shop_web").len(), 6, "the old ones stand by");

    let back = ["service", "rollback", "shop_web", "--timeout", "60s"];
    let (_, met, failures) = met_during(&lab, || lab.run(&back));
    assert!(failures.is_empty(), "{failures:#?}\n{}", lab.describe());
    assert_eq!(met, [["2", "1"], ["2", "1"], ["2", "1"]], "one switch back at each host");
    assert_eq!(ids(&lab.running("shop_web")), ids(&first), "the old ones went on");

    let ((), met, failures) = met_during(&lab, || {
        lab.deploy("shop", &web(3));
        lab.run(&["promote", "shop_web", "--timeout", "60s"]);
    });
    assert!(failures.is_empty(), "{failures:#?}\n{}", lab.describe());
    assert_eq!(met, [["1", "3"], ["1", "3"], ["1", "3"]]);
    assert_eq!(state(&lab), "completed");
    assert_eq!(lab.running("shop_web").len(), 3);
}
