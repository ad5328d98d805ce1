//! What `cluster status` looks like, and what it says of losses.
#![expect(clippy::too_many_lines, reason = "goldens are long")]

use expect_test::expect;
use swarm_proto::wire;
use swarmctl::view::{self, ClusterView};

use crate::objects::{NOW, cluster_status};

#[test]
fn a_cluster() {
    let view = ClusterView::of(cluster_status(false));
    expect![[r#"
        cluster   0123456789abcdef
        leader    n2
        term      4
        commit    92
        version   2
        quorum    2 of 3 reachable, 2 needed: none may be lost
        networks  /24 out of 10.0.0.0/8, 172.16.0.0/12, VXLAN on UDP port 4789, VNIs from 1048576
        rebalance auto, 6 moves per minute at most

        ID   HOSTNAME   MEMBER   CONTACT           LAG   SYNC P50/P99   ELECTION   CERTIFICATE
        1    n1         voter    reachable         1     1.2/8.0 ms     250 ms     89d left
        2    n2         leader   reachable 90s     0     1.2/8.0 ms     250 ms     89d left
        3    n3         voter    unreachable 90s

        losing n1 stops the cluster: 1 of 3 would be left
        losing n2 stops the cluster: 1 of 3 would be left
        n3 is lost: 2 of 3 are a quorum
    "#]]
    .assert_eq(&view.words(false, NOW));
    expect![[r#"
        cluster   0123456789abcdef
        leader    n2
        term      4
        commit    92
        version   2
        quorum    2 of 3 reachable, 2 needed: none may be lost
        networks  /24 out of 10.0.0.0/8, 172.16.0.0/12, VXLAN on UDP port 4789, VNIs from 1048576
        rebalance auto, 6 moves per minute at most

        ID   HOSTNAME   MEMBER   CONTACT           LAG   SYNC P50/P99   ELECTION   CERTIFICATE   NODE   ADDRESS         VERSION   ERROR
        1    n1         voter    reachable         1     1.2/8.0 ms     250 ms     89d left      1      10.9.0.1:2377   0.1.0
        2    n2         leader   reachable 90s     0     1.2/8.0 ms     250 ms     89d left      2      10.9.0.2:2377   0.1.0
        3    n3         voter    unreachable 90s                                                 3      10.9.0.3:2377             nobody listens there

        losing n1 stops the cluster: 1 of 3 would be left
        losing n2 stops the cluster: 1 of 3 would be left
        n3 is lost: 2 of 3 are a quorum
    "#]].assert_eq(&view.words(true, NOW));
    expect![[r#"
        {
          "id": "0123456789abcdef",
          "stale": false,
          "answered_by": 1,
          "leader": 2,
          "term": 4,
          "commit": 92,
          "cluster_version": 2,
          "quorum": {
            "voters": 3,
            "reachable": 2,
            "needed": 2,
            "margin": 0
          },
          "root": "5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e",
          "rotation": null,
          "locked": false,
          "networking": {
            "address_pools": [
              "10.0.0.0/8",
              "172.16.0.0/12"
            ],
            "subnet_prefix_length": 24,
            "vxlan_port": 4789,
            "vni_base": 1048576
          },
          "rebalance": {
            "mode": "auto",
            "moves_per_minute": 6
          },
          "members": [
            {
              "raft_id": 1,
              "node": 1,
              "hostname": "n1",
              "address": "10.9.0.1:2377",
              "member": "voter",
              "reachable": true,
              "since": null,
              "error": null,
              "version": "0.1.0",
              "knows": 2,
              "applied": 91,
              "lag": 1,
              "sync_p50_us": 1250,
              "sync_p99_us": 8040,
              "election_timeout_ms": 250,
              "certificate_from": "2023-11-13T22:13:20.000Z",
              "certificate_until": "2024-02-11T22:13:20.000Z",
              "full_disk": null,
              "full_disk_free": null,
              "key_wrapped": false,
              "loss": "losing n1 stops the cluster: 1 of 3 would be left"
            },
            {
              "raft_id": 2,
              "node": 2,
              "hostname": "n2",
              "address": "10.9.0.2:2377",
              "member": "leader",
              "reachable": true,
              "since": "2023-11-14T22:11:50.000Z",
              "error": null,
              "version": "0.1.0",
              "knows": 2,
              "applied": 92,
              "lag": 0,
              "sync_p50_us": 1250,
              "sync_p99_us": 8040,
              "election_timeout_ms": 250,
              "certificate_from": "2023-11-13T22:13:20.000Z",
              "certificate_until": "2024-02-11T22:13:20.000Z",
              "full_disk": null,
              "full_disk_free": null,
              "key_wrapped": false,
              "loss": "losing n2 stops the cluster: 1 of 3 would be left"
            },
            {
              "raft_id": 3,
              "node": 3,
              "hostname": "n3",
              "address": "10.9.0.3:2377",
              "member": "voter",
              "reachable": false,
              "since": "2023-11-14T22:11:50.000Z",
              "error": "nobody listens there",
              "version": null,
              "knows": null,
              "applied": null,
              "lag": null,
              "sync_p50_us": null,
              "sync_p99_us": null,
              "election_timeout_ms": null,
              "certificate_from": null,
              "certificate_until": null,
              "full_disk": null,
              "full_disk_free": null,
              "key_wrapped": null,
              "loss": "n3 is lost: 2 of 3 are a quorum"
            }
          ]
        }
    "#]]
    .assert_eq(&view::json(&view).unwrap());
}

#[test]
fn what_the_loss_of_a_controller_means() {
    let losses = |reachable: &[bool]| {
        let mut status = cluster_status(true);
        let one = status.members.remove(0);
        status.members = (1..)
            .zip(reachable)
            .map(|(raft_id, reachable)| {
                let hostname = format!("n{raft_id}");
                wire::MemberStatus { raft_id, hostname, reachable: *reachable, ..one.clone() }
            })
            .collect();
        let view = ClusterView::of(status);
        let losses: Vec<String> = view.members.into_iter().filter_map(|m| m.loss).collect();
        format!("margin {:?}\n{}\n", view.quorum.margin, losses.join("\n"))
    };
    let all = [
        losses(&[true]),
        losses(&[true, true]),
        losses(&[true, true, true]),
        losses(&[true, true, false]),
        losses(&[true, false, false]),
    ];
    expect![[r#"
        margin Some(0)
        losing n1 stops the cluster: 0 of 1 would be left
        margin Some(0)
        losing n1 stops the cluster: 1 of 2 would be left
        losing n2 stops the cluster: 1 of 2 would be left
        margin Some(1)
        losing n1 leaves 2 of 3: still a quorum
        losing n2 leaves 2 of 3: still a quorum
        losing n3 leaves 2 of 3: still a quorum
        margin Some(0)
        losing n1 stops the cluster: 1 of 3 would be left
        losing n2 stops the cluster: 1 of 3 would be left
        n3 is lost: 2 of 3 are a quorum
        margin None
        losing n1 too leaves 0 of 3
        n2 is lost: 1 of the lost must come back
        n3 is lost: 1 of the lost must come back
    "#]]
    .assert_eq(&all.concat());
}

#[test]
fn who_keeps_the_cluster_version_from_rising_is_named() {
    let line = |status: wire::ClusterStatus| {
        let words = ClusterView::of(status).words(false, NOW);
        words.lines().find(|line| line.starts_with("version")).unwrap().to_owned()
    };
    let mut status = cluster_status(false);
    assert_eq!(line(status.clone()), "version   2");
    // What controllers of release 0.1.0 say.
    status.cluster_version = 0;
    status.members[1].numbers.as_mut().unwrap().knows = 0;
    assert_eq!(
        line(status),
        "version   1, and 2 once every controller knows it: n2 runs 0.1.0, n3 cannot be asked"
    );
}
