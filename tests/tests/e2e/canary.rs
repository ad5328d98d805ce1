//! Canaries on real hosts, under requests.

use crate::lab::{Lab, Task};
use crate::update::{answers, state, under_requests};

/// Every version answers alike, so that whoever asks need not know which does.
fn web(version: u32) -> String {
    format!(
        r#"
services:
  web:
    image: busybox
    command: sh -c 'echo good > /index.html; exec httpd -f -p 80 -h /'
    environment: {{VERSION: "{version}"}}
    stop_grace_period: 1s
    ports: ['7001:80']
    healthcheck: {{test: "wget -q -O /dev/null http://127.0.0.1", interval: 1s, retries: 3}}
    deploy:
      replicas: 4
      update_config: {{order: start-first, monitor: 2s}}
    x-swarm: {{canary: 1}}
"#
    )
}

fn kept(before: &[Task], now: &[Task]) -> usize {
    now.iter().filter(|task| before.contains(task)).count()
}

#[test]
fn a_canary_holds_and_is_taken_back_or_promoted_and_loses_no_request() {
    let lab = Lab::up("canary");
    lab.deploy("shop", &web(1));
    answers(&lab, 8);
    let first = lab.running("shop_web");
    let ((), asked, failures) = under_requests(&lab, || {
        let said = lab.deploy("shop", &web(2));
        let holds = "holds at 1 of 4 until `swarmctl promote shop_web`";
        assert!(said.stderr.contains(holds), "{said:#?}");
        assert_eq!(state(&lab), "held");
        assert_eq!(kept(&first, &lab.running("shop_web")), 3);
        let ls = lab.run(&["service", "ls"]);
        assert!(ls.contains("4/4 (canary held)"), "{ls}");

        lab.run(&["service", "rollback", "shop_web", "--timeout", "60s"]);
        assert_eq!(state(&lab), "rollback_completed");
        assert_eq!(kept(&first, &lab.running("shop_web")), 3, "only the canary went");

        lab.deploy("shop", &web(3));
        let canary = lab.running("shop_web");
        lab.run(&["promote", "shop_web", "--timeout", "90s"]);
        assert_eq!(state(&lab), "completed");
        let last = lab.running("shop_web");
        assert_eq!((last.len(), kept(&canary, &last)), (4, 1), "the canary stayed");
        assert_eq!(kept(&first, &last), 0);
    });
    assert!(failures.is_empty(), "of {asked}: {failures:#?}\n{}", lab.describe());
    let again = lab.try_run(&["promote", "shop_web"]);
    assert_eq!(again.code, 1, "{again:#?}");
    assert!(again.stderr.contains("no update of service `shop_web` holds"), "{again:#?}");
}
