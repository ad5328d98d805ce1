//! What the agent measures of tasks, on real containers.

use swarm_proto::assignment::{AssignmentDiff, Measure};
use swarm_proto::object::TaskState;
use swarm_proto::spec::Scrape;

use crate::host::on_a_host;

#[test]
fn a_task_is_measured_where_that_is_asked_for() {
    on_a_host(async |host| {
        let script = "mkdir /w; echo waiting 2.5 > /w/numbers; httpd -p 9090 -h /w; \
                      while :; do :; done";
        let mut task = host.task("1.1.1", script);
        let (path, metric) = ("/numbers".to_owned(), "waiting".to_owned());
        task.measure = Some(Measure {
            scrape: Some(Scrape { port: 9090, path, metric }),
            ..Measure::default()
        });
        let other = host.task("1.2.1", "sleep 1000");
        let tasks = vec![task.clone(), other.clone()];
        host.controller.assign(AssignmentDiff { tasks, ..AssignmentDiff::default() }).await;
        host.controller.comes_to(task.id, TaskState::Running).await;
        let measured = host
            .controller
            .until("a whole measurement", |seen| {
                let whole = seen.usages.iter().rfind(|usage| {
                    usage.millicpus.is_some_and(|used| used > 0) && usage.scraped.is_some()
                });
                whole.cloned()
            })
            .await;
        assert_eq!((measured.task, measured.scraped), (task.id.to_string(), Some(2_500)));
        let memory = measured.memory.unwrap();
        assert!((4_096..64 << 20).contains(&memory), "{memory}");
        let seen = host.controller.seen.lock().unwrap();
        assert!(seen.usages.iter().all(|usage| usage.task != other.id.to_string()));
    });
}
