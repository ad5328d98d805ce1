//! What tables and JSON look like.
#![expect(clippy::too_many_lines, reason = "goldens are long")]

use expect_test::{Expect, expect};
use swarm_proto::object::{HealthState, TaskHealth};
use swarm_proto::wire;
use swarmctl::output::Format;
use swarmctl::view::{
    self, EventView, ImageView, NetworkView, NodeView, ServiceView, StackView, TaskView, View,
    VolumeView,
};

use crate::objects::{NOW, ago, state};

pub(crate) fn check<V: View>(views: &[V], format: Format, expected: &Expect) {
    expected.assert_eq(&view::list(views, format, NOW).unwrap());
}

#[test]
fn tasks() {
    let state = state();
    let live = TaskView::of_all(&state, false, |_| true);
    check(
        &live,
        Format::Table,
        &expect![[r#"
        NAME              IMAGE           NODE   DESIRED   STATE         ERROR
        counter_redis.1   redis:alpine    n1     running   running 60s
        counter_web.1     counter-web:1   n1     running   running 60s
        counter_web.2     counter-web:1   n2     running   running 60s
        counter_web.3     counter-web:1          running   pending 60s   no suitable node: constraint `node.labels.zone!=c` on 1 node
    "#]],
    );
    check(
        &live,
        Format::Name,
        &expect![[r#"
        counter_redis.1
        counter_web.1
        counter_web.2
        counter_web.3
    "#]],
    );
    let all = TaskView::of_all(&state, true, |_| true);
    check(
        &all,
        Format::Wide,
        &expect![[r#"
        NAME              IMAGE           NODE   DESIRED    STATE          ERROR                                                          ID      ADDRESSES   PID    DIGEST
        counter_redis.1   redis:alpine    n1     running    running 60s                                                                   2.1.1   10.0.1.21   4021
        counter_web.1     counter-web:1   n1     running    running 60s                                                                   1.1.1   10.0.1.11   4011
        counter_web.2     counter-web:1   n2     running    running 60s                                                                   1.2.2   10.0.1.12   4012
        counter_web.2     counter-web:1   n2     shutdown   failed 60s     killed by signal 9                                             1.2.1   10.0.1.12
        counter_web.3     counter-web:1          running    pending 60s    no suitable node: constraint `node.labels.zone!=c` on 1 node   1.3.1   10.0.1.13
        counter_web.4     counter-web:1   n1     shutdown   shutdown 60s                                                                  1.4.1   10.0.1.14
    "#]],
    );
    check(
        &live[1..2],
        Format::Json,
        &expect![[r#"
            [
              {
                "id": "1.1.1",
                "name": "counter_web.1",
                "stack": "counter",
                "service": "counter_web",
                "slot": "1",
                "generation": 1,
                "image": "docker.io/library/counter-web:1",
                "digest": null,
                "node": "n1",
                "node_id": 1,
                "desired": "running",
                "state": "running",
                "since": "2023-11-14T22:12:20.000Z",
                "message": "",
                "exit_code": null,
                "pid": 4011,
                "started_at": "2023-11-14T22:12:20.000Z",
                "health": null,
                "attempt": 1,
                "spec_version": 1,
                "current": true,
                "standby": false,
                "addresses": [
                  {
                    "network": "counter_default",
                    "address": "10.0.1.11"
                  }
                ],
                "resources": {},
                "preempted_by": null,
                "created_at": "2023-11-14T22:12:10.000Z"
              }
            ]
        "#]],
    );
    check(
        &live[1..2],
        Format::Yaml,
        &expect![[r#"
            - id: 1.1.1
              name: counter_web.1
              stack: counter
              service: counter_web
              slot: '1'
              generation: 1
              image: docker.io/library/counter-web:1
              digest: null
              node: n1
              node_id: 1
              desired: running
              state: running
              since: 2023-11-14T22:12:20.000Z
              message: ''
              exit_code: null
              pid: 4011
              started_at: 2023-11-14T22:12:20.000Z
              health: null
              attempt: 1
              spec_version: 1
              current: true
              standby: false
              addresses:
              - network: counter_default
                address: 10.0.1.11
              resources: {}
              preempted_by: null
              created_at: 2023-11-14T22:12:10.000Z
        "#]],
    );
}

#[test]
fn a_task_shows_its_health() {
    let mut state = state();
    let task = state.tasks.values_mut().next().unwrap();
    task.status.health = Some(TaskHealth {
        state: HealthState::Unhealthy,
        failures: 3,
        output: "connection refused".to_owned(),
        ..TaskHealth::starting(ago(5))
    });
    let view = TaskView::of(&state, state.tasks.values().next().unwrap());
    assert_eq!(view.cells(NOW)[4], "running 60s (unhealthy)");
    let health = view.health.unwrap();
    let shown = (health.state.as_str(), health.failures, health.output.as_str());
    assert_eq!(shown, ("unhealthy", 3, "connection refused"));
}

#[test]
fn services() {
    let state = state();
    let views: Vec<ServiceView> =
        state.services.values().map(|service| ServiceView::of(&state, service)).collect();
    check(
        &views,
        Format::Table,
        &expect![[r#"
        NAME            MODE         REPLICAS   IMAGE           PORTS
        counter_web     replicated   2/3        counter-web:1   *:5001->5000/tcp
        counter_redis   replicated   1/1        redis:alpine
    "#]],
    );
    check(
        &views,
        Format::Wide,
        &expect![[r#"
        NAME            MODE         REPLICAS   IMAGE           PORTS              ID   NETWORKS          VIPS       SPEC   DIGEST
        counter_web     replicated   2/3        counter-web:1   *:5001->5000/tcp   1    counter_default   10.0.1.2   1
        counter_redis   replicated   1/1        redis:alpine                       2    counter_default   10.0.1.2   1
    "#]],
    );
    expect![[r#"
        {
          "id": 1,
          "name": "counter_web",
          "stack": "counter",
          "key": "web",
          "mode": "replicated",
          "replicas": {
            "wanted": 3,
            "running": 2
          },
          "image": "docker.io/library/counter-web:1",
          "digest": null,
          "ports": [
            {
              "published": 5001,
              "target": 5000,
              "protocol": "tcp",
              "mode": "ingress",
              "host_address": null
            }
          ],
          "endpoint_mode": "vip",
          "networks": [
            "counter_default"
          ],
          "vips": [
            {
              "network": "counter_default",
              "address": "10.0.1.2"
            }
          ],
          "entrypoint": null,
          "command": null,
          "environment": {
            "MODE": "test"
          },
          "mounts": [
            "data:/code",
            "/stack/conf:/conf:ro"
          ],
          "constraints": [
            "node.labels.zone!=c"
          ],
          "restart": "any",
          "labels": {},
          "spec_version": 1,
          "created_at": "2023-11-14T21:13:20.000Z",
          "updated_at": "2023-11-14T21:13:20.000Z",
          "removing": false,
          "completions": null,
          "update": null,
          "has_previous": false,
          "autoscale": null
        }
    "#]]
    .assert_eq(&view::whole(&views[0], Format::Json).unwrap());
}

#[test]
fn stacks() {
    let state = state();
    let views: Vec<StackView> =
        state.stacks.values().map(|stack| StackView::of(&state, stack)).collect();
    check(
        &views,
        Format::Wide,
        &expect![[r#"
        NAME      SERVICES   TASKS   REVISION   DEPLOYED   NETWORKS          VOLUMES
        counter   2          3/4     2          60m ago    counter_default   counter_data
    "#]],
    );
    check(
        &views,
        Format::Json,
        &expect![[r#"
            [
              {
                "name": "counter",
                "revision": 2,
                "deployed_at": "2023-11-14T21:13:20.000Z",
                "services": [
                  "counter_redis",
                  "counter_web"
                ],
                "networks": [
                  "counter_default"
                ],
                "volumes": [
                  "counter_data"
                ],
                "leaving": [],
                "tasks": {
                  "wanted": 4,
                  "running": 3
                },
                "removing": false
              }
            ]
        "#]],
    );
}

#[test]
fn nodes() {
    let state = state();
    let views: Vec<NodeView> =
        state.nodes.values().map(|node| NodeView::of(&state, node)).collect();
    check(
        &views,
        Format::Table,
        &expect![[r#"
        ID   HOSTNAME   STATUS     AVAILABILITY   CONTROLLER   ADDRESS    TASKS
        1    n1         ready 2h   active         voter        10.9.0.1   2
        2    n2         ready 2h   active         leader       10.9.0.2   1
        3    n3         down 2h    drain          learner      10.9.0.3   0
    "#]],
    );
    check(
        &views,
        Format::Wide,
        &expect![[r#"
            ID   HOSTNAME   STATUS     AVAILABILITY   CONTROLLER   ADDRESS    TASKS   CPUS   MEMORY    FREE                                   PLATFORM      LABELS   VERSION   WARNINGS
            1    n1         ready 2h   active         voter        10.9.0.1   2       2.5    8.0 GiB   1.9 CPUs, 6.5 GiB, 28900 pids, 1 gpu   linux/amd64   zone=a   0.1.0
            2    n2         ready 2h   active         leader       10.9.0.2   1       2.5    8.0 GiB   2.4 CPUs, 7.5 GiB, 29000 pids, 2 gpu   linux/amd64   zone=a   0.1.0
            3    n3         down 2h    drain          learner      10.9.0.3   0       2.5    8.0 GiB   2.4 CPUs, 7.5 GiB, 29000 pids, 2 gpu   linux/amd64   zone=a   0.1.0     chain `FORWARD` of `filter` drops forwarded packets
        "#]],
    );
    check(
        &views[2..],
        Format::Json,
        &expect![[r#"
            [
              {
                "id": 3,
                "hostname": "n3",
                "role": "controller",
                "status": "down",
                "status_since": "2023-11-14T20:13:20.000Z",
                "lost": false,
                "recent_downs": 0,
                "steady_at": null,
                "availability": "drain",
                "controller": {
                  "raft_id": 3,
                  "address": "10.9.0.3:2377",
                  "member": "learner",
                  "reachable": true
                },
                "address": "10.9.0.3",
                "tasks": 0,
                "labels": {
                  "zone": "a"
                },
                "engine_labels": {},
                "millicpus": 2500,
                "memory": 8589934592,
                "pids": 30000,
                "reserve": {
                  "millicpus": 100,
                  "memory": 536870912,
                  "pids": 1000
                },
                "reserved": {
                  "millicpus": 0,
                  "memory": 0,
                  "pids": 0
                },
                "free": {
                  "millicpus": 2400,
                  "memory": 8053063680,
                  "pids": 29000
                },
                "generic_resources": {
                  "gpu": {
                    "total": 2,
                    "reserved": 0,
                    "free": 2,
                    "names": [
                      "GPU-1",
                      "GPU-2"
                    ],
                    "reserved_names": []
                  }
                },
                "os": "linux",
                "arch": "amd64",
                "agent_version": "0.1.0",
                "warnings": [
                  "chain `FORWARD` of `filter` drops forwarded packets"
                ],
                "joined_at": "2023-11-14T20:11:40.000Z"
              }
            ]
        "#]],
    );
}

#[test]
fn volumes_and_networks() {
    let state = state();
    let volumes: Vec<VolumeView> =
        state.volumes.values().map(|volume| VolumeView::of(&state, volume)).collect();
    check(
        &volumes,
        Format::Wide,
        &expect![[r#"
        NAME           STACK     NODES   USED BY       ID   FILLED FROM     LABELS
        counter_data   counter   n1      counter_web   1    counter-web:1
    "#]],
    );
    check(
        &volumes,
        Format::Json,
        &expect![[r#"
        [
          {
            "id": 1,
            "name": "counter_data",
            "stack": "counter",
            "key": "data",
            "labels": {},
            "nodes": [
              {
                "node": "n1",
                "created_at": "2023-11-14T21:23:20.000Z",
                "filled_from": {
                  "image": "docker.io/library/counter-web:1",
                  "digest": "sha256:abababababababababababababababababababababababababababababababab"
                },
                "removing": false
              }
            ],
            "used_by": [
              "counter_web"
            ],
            "removing": false
          }
        ]
    "#]],
    );
    let networks: Vec<NetworkView> =
        state.networks.values().map(|network| NetworkView::of(&state, network)).collect();
    check(
        &networks,
        Format::Wide,
        &expect![[r#"
        NAME              STACK     SUBNET        SERVICES                    ID   VNI        INTERNAL   GATEWAYS
        counter_default   counter   10.0.1.0/24   counter_redis,counter_web   1    0x100001   false      n1=10.0.1.1
    "#]],
    );
    check(
        &networks,
        Format::Json,
        &expect![[r#"
        [
          {
            "id": 1,
            "name": "counter_default",
            "stack": "counter",
            "key": "default",
            "vni": 1048577,
            "subnet": "10.0.1.0/24",
            "internal": false,
            "labels": {},
            "services": [
              "counter_redis",
              "counter_web"
            ],
            "gateways": {
              "n1": "10.0.1.1"
            },
            "removing": false
          }
        ]
    "#]],
    );
}

#[test]
fn images_without_a_tag() {
    let image = |name: &str, digits: &str| wire::Image {
        reference: name.to_owned(),
        digest: format!("sha256:{}", digits.repeat(32)),
        size: 1 << 20,
        created_at: ago(60).0,
    };
    let pinned = format!("docker.io/library/redis@sha256:{}", "ab".repeat(32));
    let nameless = format!("sha256:{}", "ef".repeat(32));
    let images = vec![image(&pinned, "ab"), image("", "cd"), image(&nameless, "ef")];
    let node = wire::NodeImages { node: "n1".to_owned(), error: String::new(), images };
    check(
        &ImageView::of_nodes(vec![node]),
        Format::Table,
        &expect![[r#"
        IMAGE                       DIGEST         SIZE      CREATED   NODES
        <none>                      cdcdcdcdcdcd   1.0 MiB   60s ago   n1
        redis@sha256:abababababab   abababababab   1.0 MiB   60s ago   n1
        <none>                      efefefefefef   1.0 MiB   60s ago   n1
    "#]],
    );
}

#[test]
fn images_once_for_all_nodes() {
    let image = |size| wire::Image {
        reference: "docker.io/library/redis:alpine".to_owned(),
        digest: format!("sha256:{}", "cd".repeat(32)),
        size,
        created_at: ago(172_800 * 3).0,
    };
    let node = |name: &str| wire::NodeImages {
        node: name.to_owned(),
        error: String::new(),
        images: vec![image(12_345_678)],
    };
    let views = ImageView::of_nodes(vec![node("n1"), node("n2")]);
    check(
        &views,
        Format::Table,
        &expect![[r#"
        IMAGE          DIGEST         SIZE     CREATED   NODES
        redis:alpine   cdcdcdcdcdcd   11 MiB   6d ago    n1,n2
    "#]],
    );
    check(
        &views,
        Format::Json,
        &expect![[r#"
        [
          {
            "reference": "docker.io/library/redis:alpine",
            "digest": "sha256:cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
            "size": 12345678,
            "created_at": "2023-11-08T22:13:20.000Z",
            "nodes": [
              "n1",
              "n2"
            ]
          }
        ]
    "#]],
    );
}

#[test]
fn events_of_the_past() {
    check(
        &EventView::of_past(&state()),
        Format::Table,
        &expect![[r#"
        TIME                       KIND      NAME                      ACTION     MESSAGE
        2023-11-14T20:13:20.000Z   node      n1                        ready      active
        2023-11-14T20:13:20.000Z   node      n2                        ready      active
        2023-11-14T20:13:20.000Z   node      n3                        down       drain
        2023-11-14T21:13:20.000Z   service   counter_redis             created    spec 1
        2023-11-14T21:13:20.000Z   service   counter_web               created    spec 1
        2023-11-14T21:13:20.000Z   stack     counter                   deployed   revision 2
        2023-11-14T22:12:20.000Z   task      counter_redis.1 (2.1.1)   running    on n1
        2023-11-14T22:12:20.000Z   task      counter_web.1 (1.1.1)     running    on n1
        2023-11-14T22:12:20.000Z   task      counter_web.2 (1.2.1)     failed     on n2, exit code 137, killed by signal 9
        2023-11-14T22:12:20.000Z   task      counter_web.2 (1.2.2)     running    on n2
        2023-11-14T22:12:20.000Z   task      counter_web.3 (1.3.1)     pending    no suitable node: constraint `node.labels.zone!=c` on 1 node
        2023-11-14T22:12:20.000Z   task      counter_web.4 (1.4.1)     shutdown   on n1
    "#]],
    );
}

#[test]
fn nothing_has_only_a_header() {
    check::<TaskView>(
        &[],
        Format::Table,
        &expect![[r#"
        NAME   IMAGE   NODE   DESIRED   STATE   ERROR
    "#]],
    );
    check::<TaskView>(
        &[],
        Format::Json,
        &expect![[r#"
        []
    "#]],
    );
    check::<TaskView>(&[], Format::Name, &expect![[""]]);
}
