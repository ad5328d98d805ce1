//! Three members of Debian's etcd, unpacked aside and never installed.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use swarm_proto::id::NodeId;
use swarm_proto::object::Role;
use swarm_proto::transport::{Authority, Credentials, KeyAndRequest, Tls};
use swarm_tests::bench::members::{Members, eventually, folders, free_ports};
use swarm_tests::bench::{Outcome, output, root};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

use crate::load::{CONNECTIONS, Target, VALUE};
use crate::{Syncs, System};

/// The name in the members' certificates, beside their address.
const NAME: &str = "localhost";

/// Three members that run.
pub(crate) struct Etcd {
    members: Members,
    /// Ports for clients, and for metrics.
    ports: Vec<(u16, u16)>,
    tls: Arc<Tls>,
}

/// Debian's program, unpacked where it is missing.
pub(crate) fn program() -> Outcome<PathBuf> {
    let tools = root().join("target/tools");
    let program = tools.join("etcd/usr/bin/etcd");
    if !program.exists() {
        fs::create_dir_all(&tools)?;
        let mut download = Command::new("apt-get");
        download.args(["download", "-qq", "etcd-server"]).current_dir(&tools);
        output(&mut download)?;
        let found = fs::read_dir(&tools)?.filter_map(|found| Some(found.ok()?.path()));
        let is_package = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with("etcd-server_") && path.extension().is_some_and(|end| end == "deb")
        };
        let package = found.filter(is_package).max().ok_or("apt-get downloaded nothing")?;
        output(Command::new("dpkg").arg("-x").arg(package).arg(tools.join("etcd")))?;
    }
    Ok(program)
}

/// Makes a cluster and waits for its leader.
pub(crate) async fn start(program: &Path) -> Outcome<Etcd> {
    let folders = folders("raft-etcd")?;
    let authority = Authority::create("bench", SystemTime::now())?;
    let key = KeyAndRequest::make()?;
    let now = SystemTime::now();
    let client = Credentials {
        certificate_pem: authority.sign_node(&key.request_pem, NodeId(1), Role::Agent, now)?,
        key_pem: key.key_pem,
        ca_pem: authority.certificate_pem().to_owned(),
    };
    let (peers, clients) = (free_ports::<3>()?, free_ports::<6>()?);
    let url = |port: u16| format!("https://127.0.0.1:{port}");
    let all: Vec<String> =
        (1..).zip(peers).map(|(number, port)| format!("m{number}={}", url(port))).collect();
    let mut etcd = Etcd { members: Members::default(), ports: Vec::new(), tls: Tls::new(&client)? };
    for (at, folder) in folders.iter().enumerate() {
        let (port, metrics) = (clients[at], clients[at + 3]);
        write_certificates(&authority, folder)?;
        let mut command = Command::new(program);
        command.current_dir(folder).args(["--name", &format!("m{}", at + 1)]);
        command.args(["--data-dir", "data", "--initial-cluster", &all.join(",")]);
        for option in ["--listen-client-urls", "--advertise-client-urls"] {
            command.args([option, &url(port)]);
        }
        for option in ["--listen-peer-urls", "--initial-advertise-peer-urls"] {
            command.args([option, &url(peers[at])]);
        }
        command.args(["--listen-metrics-urls", &format!("http://127.0.0.1:{metrics}")]);
        command.args(["--client-cert-auth", "--trusted-ca-file", "ca.pem"]);
        command.args(["--cert-file", "cert.pem", "--key-file", "key.pem"]);
        command.args(["--peer-client-cert-auth", "--peer-trusted-ca-file", "ca.pem"]);
        command.args(["--peer-cert-file", "cert.pem", "--peer-key-file", "key.pem"]);
        command.args(["--logger", "zap", "--log-level", "error"]);
        etcd.members.start(&mut command, folder)?;
        etcd.ports.push((port, metrics));
    }
    eventually(async || etcd.leader().await).await?;
    Ok(etcd)
}

fn write_certificates(authority: &Authority, folder: &Path) -> Outcome<()> {
    let root_key = KeyPair::from_pem(authority.key_pem().reveal())?;
    let issuer = Issuer::from_ca_cert_pem(authority.certificate_pem(), root_key)?;
    let mut params = CertificateParams::new(vec![NAME.to_owned(), "127.0.0.1".to_owned()])?;
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    fs::write(folder.join("cert.pem"), params.signed_by(&key, &issuer)?.pem())?;
    fs::write(folder.join("key.pem"), key.serialize_pem())?;
    fs::write(folder.join("ca.pem"), authority.certificate_pem())?;
    Ok(())
}

impl Etcd {
    async fn client(&self, member: usize) -> Outcome<Client> {
        let address = format!("127.0.0.1:{}", self.ports[member].0);
        Ok(Client(Grpc::new(self.tls.connect(&address, NAME).await?)))
    }

    async fn leader(&self) -> Outcome<usize> {
        for member in 0..3 {
            let status = self.client(member).await?.status().await?;
            if status.leader != 0 && status.header.unwrap_or_default().member_id == status.leader {
                return Ok(member);
            }
        }
        Err("no leader".into())
    }
}

impl System for Etcd {
    fn name(&self) -> &'static str {
        "etcd"
    }

    async fn target(&self) -> Outcome<Target> {
        let leader = self.leader().await?;
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(self.client(leader).await?);
        }
        Ok(Target::Etcd(connections))
    }

    fn memory(&self) -> Outcome<f64> {
        self.members.memory()
    }

    async fn syncs(&self) -> Outcome<Syncs> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.ports[self.leader().await?].1))?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        let value = |name: &str| {
            let line = page.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim().parse::<f64>().ok()).ok_or("no such metric")
        };
        Ok(Syncs {
            count: value("etcd_disk_wal_fsync_duration_seconds_count")?,
            millis: value("etcd_disk_wal_fsync_duration_seconds_sum")? * 1_000.0,
        })
    }
}

/// A connection to a member.
#[derive(Clone)]
pub(crate) struct Client(Grpc<Channel>);

impl Client {
    /// Writes a value of 256 bytes.
    pub(crate) async fn put(&mut self, id: String) -> Outcome<()> {
        let value = format!("{id:0>VALUE$}").into_bytes();
        let request = PutRequest { key: b"bench".to_vec(), value };
        self.call::<_, PutResponse>("/etcdserverpb.KV/Put", request).await.map(|_| ())
    }

    /// A linearizable read of that value.
    pub(crate) async fn get(&mut self) -> Outcome<()> {
        let request = RangeRequest { key: b"bench".to_vec() };
        self.call::<_, RangeResponse>("/etcdserverpb.KV/Range", request).await.map(|_| ())
    }

    async fn status(&mut self) -> Outcome<StatusResponse> {
        self.call("/etcdserverpb.Maintenance/Status", StatusRequest {}).await
    }

    async fn call<Q, A>(&mut self, path: &'static str, request: Q) -> Outcome<A>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.0.ready().await?;
        let (path, codec) = (PathAndQuery::from_static(path), ProstCodec::<Q, A>::default());
        Ok(self.0.unary(tonic::Request::new(request), path, codec).await?.into_inner())
    }
}

#[derive(Clone, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, prost::Message)]
struct PutResponse {}

#[derive(Clone, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, prost::Message)]
struct RangeResponse {
    #[prost(int64, tag = "4")]
    count: i64,
}

#[derive(Clone, prost::Message)]
struct StatusRequest {}

#[derive(Clone, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

#[derive(Clone, prost::Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}
