//! Clients that write or read, each its next one when the last is answered, or at a fixed pace for all together.

use std::fmt;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use swarm_proto::wire;
use swarm_proto::wire::control_client::ControlClient;
use swarm_tests::bench::Outcome;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::controllers::write;
use crate::etcd::Client;

/// Connections to the leader.
pub(crate) const CONNECTIONS: usize = 8;
/// Bytes of a written value.
pub(crate) const VALUE: usize = 256;

/// Connections to a system's leader.
#[derive(Clone)]
pub(crate) enum Target {
    Controller(Vec<ControlClient<Channel>>),
    Etcd(Vec<Client>),
}

/// One client's connection.
enum Connection {
    Controller(ControlClient<Channel>),
    Etcd(Client),
}

impl Target {
    fn connection(&self, client: usize) -> Connection {
        match self {
            Self::Controller(all) => Connection::Controller(all[client % all.len()].clone()),
            Self::Etcd(all) => Connection::Etcd(all[client % all.len()].clone()),
        }
    }
}

impl Connection {
    async fn write(&mut self, id: String) -> Outcome<()> {
        match self {
            Self::Controller(client) => {
                client.update_node(write(id)).await?;
                Ok(())
            }
            Self::Etcd(client) => client.put(id).await,
        }
    }

    async fn read(&mut self) -> Outcome<()> {
        match self {
            Self::Controller(client) => {
                client.get_state(wire::GetStateRequest { stale: false }).await?;
                Ok(())
            }
            Self::Etcd(client) => client.get().await,
        }
    }
}

/// A load.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// How many clients.
    pub(crate) clients: usize,
    /// For how long.
    pub(crate) lasting: Duration,
    /// Requests that begin in a second, all clients together; `None`: as many as are answered.
    pub(crate) pace: Option<u32>,
    /// Whether it reads.
    pub(crate) reads: bool,
}

/// Makes requests' identities differ between loads.
static RUN: AtomicU64 = AtomicU64::new(0);

impl Load {
    /// Loads a system.
    pub(crate) async fn run(self, target: &Target) -> Outcome<Measured> {
        let run = RUN.fetch_add(1, Ordering::Relaxed);
        let (begun, cpu) = (Instant::now(), cpu_time()?);
        let mut clients = JoinSet::new();
        for client in 0..self.clients {
            let connection = target.connection(client);
            clients.spawn(self.client(run, client, connection, begun));
        }
        let mut micros = Vec::new();
        while let Some(done) = clients.join_next().await {
            micros.extend(done?.map_err(|error| format!("a request failed: {error}"))?);
        }
        let took = begun.elapsed();
        micros.sort_unstable();
        Ok(Measured { micros, took, cpu: cpu_time()?.saturating_sub(cpu) })
    }

    /// One client; answers with how long each request took.
    async fn client(
        self,
        run: u64,
        client: usize,
        mut connection: Connection,
        begun: Instant,
    ) -> Result<Vec<u64>, String> {
        let mut micros = Vec::new();
        for number in 0.. {
            let mut asked = Instant::now();
            if let Some(pace) = self.pace {
                // The clients take turns. One that is late counts from when it should have begun.
                let turn = u32::try_from(number * self.clients + client).unwrap_or(u32::MAX);
                asked = begun + Duration::from_secs(1) * turn / pace;
                tokio::time::sleep_until(asked.into()).await;
            }
            if asked.duration_since(begun) >= self.lasting {
                break;
            }
            let id = format!("{run}-{client}-{number}");
            let answer =
                if self.reads { connection.read().await } else { connection.write(id).await };
            answer.map_err(|error| error.to_string())?;
            micros.push(u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
        Ok(micros)
    }
}

/// What a load came to.
pub(crate) struct Measured {
    /// Ascending.
    micros: Vec<u64>,
    took: Duration,
    /// What the clients themselves used.
    cpu: Duration,
}

impl Measured {
    /// Answers in a second.
    pub(crate) fn rate(&self) -> f64 {
        let count = u32::try_from(self.micros.len()).unwrap_or(u32::MAX);
        f64::from(count) / self.took.as_secs_f64()
    }

    /// A percentile of the times, milliseconds.
    pub(crate) fn millis(&self, percent: usize) -> f64 {
        let at = (self.micros.len() * percent / 100).min(self.micros.len().saturating_sub(1));
        let micros = self.micros.get(at).copied().unwrap_or_default();
        Duration::from_micros(micros).as_secs_f64() * 1_000.0
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99, worst) = (self.millis(50), self.millis(99), self.millis(100));
        let cpu = self.cpu.as_secs_f64() / self.took.as_secs_f64();
        write!(
            f,
            "{:.0}/s, p50 {p50:.2} ms, p99 {p99:.2} ms, slowest {worst:.2} ms; the clients used {cpu:.2} CPUs",
            self.rate()
        )
    }
}

/// The processor time of this process so far.
fn cpu_time() -> Outcome<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, rest) = stat.rsplit_once(')').ok_or("no such form")?;
    let ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks = ticks.sum::<Result<u64, _>>()?;
    // A tick is 10 ms on every Linux that this runs on.
    Ok(Duration::from_millis(ticks * 10))
}
