//! Full disks: writes go to a controller with room or are refused, reads and heartbeats go on, nothing acknowledged is
//! lost, and all of it ends by itself once there is room.

use std::time::{Duration, Instant};

use swarm_proto::wire;
use tonic::{Code, Status};

use crate::host::{Host, cluster_of, eventually, leader};

/// Room for a few segments of the log.
const DISK_MIB: u32 = 48;
/// Bytes of a written value: about 500 of them fill a segment.
const VALUE: usize = 16 << 10;

/// Writes that are numbered, each in place of the one before.
#[derive(Default)]
struct Writer {
    number: usize,
    /// The slowest one that was acknowledged.
    slowest: Duration,
}

impl Writer {
    async fn write(&mut self, host: &Host) -> Result<(), Status> {
        let request = wire::UpdateNodeRequest {
            request_id: format!("write-{}", self.number),
            node: String::from("1"),
            set_labels: [(String::from("number"), format!("{:0>VALUE$}", self.number))].into(),
            ..wire::UpdateNodeRequest::default()
        };
        let begun = Instant::now();
        host.control().await.update_node(request).await?;
        self.slowest = self.slowest.max(begun.elapsed());
        self.number += 1;
        Ok(())
    }

    /// Writes until one is refused, for at most so many segments.
    async fn write_until_refused(&mut self, host: &Host, segments: usize) -> Option<Status> {
        for _ in 0..segments * 512 {
            if let Err(refused) = self.write(host).await {
                return Some(refused);
            }
        }
        None
    }

    /// Checks that the last acknowledged write is what a host reads, once it has caught up.
    async fn check(&self, host: &Host) {
        let control = host.control().await;
        let read = eventually("the host reads", async || {
            let read = control.clone().get_state(wire::GetStateRequest { stale: false }).await;
            read.map_err(|status| status.to_string())
        });
        let nodes = read.await.into_inner().nodes;
        let number = nodes[0].labels["number"].parse::<usize>().unwrap();
        assert_eq!(number + 1, self.number);
    }
}

async fn full_disks(host: &Host) -> usize {
    let request = wire::GetClusterStatusRequest { stale: true, own: false };
    let status = host.control().await.get_cluster_status(request).await.unwrap().into_inner();
    let numbers = status.members.into_iter().filter_map(|member| member.numbers);
    numbers.filter(|numbers| numbers.full_disk.is_some()).count()
}

async fn shows_full_disks(host: &Host, count: usize) {
    eventually("the status tells of the full disks", async || {
        let found = full_disks(host).await;
        if found == count { Ok(()) } else { Err(format!("{found} are full")) }
    })
    .await;
}

async fn writes_again(writer: &mut Writer, host: &Host) {
    let end = Instant::now() + crate::host::PATIENCE;
    while let Err(refused) = writer.write(host).await {
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        assert!(Instant::now() < end, "no write is taken: {refused}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_only_controller_refuses_writes_until_its_disk_has_room() {
    let mut hosts = cluster_of(vec![Host::with_disk(DISK_MIB)]).await;
    let mut writer = Writer::default();
    writer.write(&hosts[0]).await.unwrap();
    hosts[0].fill_disk();
    let refused = writer.write_until_refused(&hosts[0], 3).await.expect("a refusal");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("/state/controller/log is full: "), "{refused}");
    assert!(refused.message().ends_with("\n\nhint: make room there; writing goes on by itself"));
    writer.check(&hosts[0]).await;
    assert_eq!(full_disks(&hosts[0]).await, 1);

    // Started anew it is as before.
    hosts[0].kill();
    hosts[0].start();
    shows_full_disks(&hosts[0], 1).await;
    leader(&hosts).await;
    writer.check(&hosts[0]).await;
    let refused = writer.write(&hosts[0]).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");

    hosts[0].empty_disk();
    writes_again(&mut writer, &hosts[0]).await;
    shows_full_disks(&hosts[0], 0).await;
    writer.check(&hosts[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_with_a_full_disk_hands_over_and_too_few_with_room_refuse() {
    let hosts = cluster_of((0..3).map(|_| Host::with_disk(DISK_MIB + 16)).collect()).await;
    let first = leader(&hosts).await;
    let mut writer = Writer::default();
    hosts[first].fill_disk();
    // Also more than the full one has kept room for: it stops taking part, and nobody waits for it.
    let refused = writer.write_until_refused(&hosts[first], 3).await;
    assert!(refused.is_none(), "{refused:?}");
    assert!(writer.slowest < Duration::from_secs(2), "{:?}", writer.slowest);
    let second = leader(&hosts).await;
    assert_ne!(first, second);
    shows_full_disks(&hosts[second], 1).await;

    hosts[second].fill_disk();
    let third = 3 - first - second;
    let refused = writer.write_until_refused(&hosts[third], 3).await.expect("a refusal");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("full"), "{refused}");
    writer.check(&hosts[third]).await;
    shows_full_disks(&hosts[third], 2).await;

    hosts[first].empty_disk();
    writes_again(&mut writer, &hosts[third]).await;
    hosts[second].empty_disk();
    shows_full_disks(&hosts[third], 0).await;
    for host in &hosts {
        writer.check(host).await;
    }
}
