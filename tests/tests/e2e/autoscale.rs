//! A service whose number of tasks follows what they use.

use crate::lab::{Lab, eventually};

/// Burns what it may of a CPU while `/tmp/burn` is there; tells a number at `/numbers`.
const WEB: &str = r#"
services:
  web:
    image: busybox
    command:
      - sh
      - -c
      - |
        while true; do
          if [ -e /tmp/burn ]; then
            i=0
            while [ $$i -lt 20000 ]; do i=$$((i+1)); done
          else
            sleep 0.2
          fi
        done
    stop_grace_period: 1s
    deploy:
      resources:
        reservations: {cpus: "0.1"}
        limits: {cpus: "0.6"}
    x-swarm: {autoscale: {min: 1, max: 3, cpu: 60%, stabilisation: 10s, cool_down: 2s}}
  queue:
    image: busybox
    command: sh -c 'mkdir /w; echo waiting 25 > /w/numbers; exec httpd -f -p 9090 -h /w'
    stop_grace_period: 1s
    x-swarm:
      autoscale:
        max: 3
        scrape: {port: 9090, path: /numbers, metric: waiting, target: 10}
        stabilisation: 1h
"#;

fn scaled(lab: &Lab, service: &str) -> serde_json::Value {
    lab.json(&["autoscale", service])[0].clone()
}

fn count(lab: &Lab, service: &str) -> usize {
    lab.running(service).len()
}

#[test]
fn a_busy_task_gets_others_beside_it_and_rest_takes_them_away() {
    let lab = Lab::up("autoscale");
    lab.deploy("shop", WEB);
    assert_eq!(count(&lab, "shop_web"), 1);
    // A number that the task tells calls for one task for each ten.
    eventually(60, "the queue has three tasks", || (count(&lab, "shop_queue") == 3).then_some(()));
    let queue = scaled(&lab, "shop_queue");
    assert_eq!(queue["targets"][0]["target"], "10", "{queue}");

    eventually(40, "the use of CPUs is measured", || {
        scaled(&lab, "shop_web")["targets"][0]["measured"].is_string().then_some(())
    });
    assert_eq!(count(&lab, "shop_web"), 1, "it rests");
    lab.run(&["exec", "shop_web.1", "touch", "/tmp/burn"]);
    eventually(60, "three tasks share the work", || (count(&lab, "shop_web") == 3).then_some(()));
    let service = lab.run(&["service", "inspect", "shop_web"]);
    assert!(service.contains("reason: cpu "), "{service}");

    // A deploy that changes something else keeps the number.
    let changed = WEB.replace("stabilisation: 10s", "stabilisation: 11s");
    lab.deploy("shop", &changed);
    assert_eq!(count(&lab, "shop_web"), 3);
    let refused = lab.try_run(&["service", "scale", "shop_web=9"]);
    assert!(refused.stderr.contains("is scaled between 1 and 3 tasks"), "{refused:#?}");

    for task in lab.running("shop_web") {
        lab.run(&["exec", &task.name, "rm", "-f", "/tmp/burn"]);
    }
    eventually(90, "one task is left", || (count(&lab, "shop_web") == 1).then_some(()));
    let events = lab.run(&["events"]);
    assert!(events.contains("from 3 to 1: cpu "), "{events}");
}
