//! `cluster lock` and `cluster unlock`: what they ask and print.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::Stdio;

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use swarm_proto::transport::{accept_unix, server};
use swarm_proto::wire;
use swarm_proto::wire::local_server::{Local, LocalServer};
use swarmctl::view::ClusterView;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use crate::fake::Fake;
use crate::objects::{NOW, cluster_status, state};

#[tokio::test]
async fn locking_prints_the_key_alone_on_standard_output() {
    let fake = Fake::start(state()).await;
    let said = fake.run(&["cluster", "lock"]).await;
    assert_eq!((said.code, said.data.as_str()), (Some(0), "SWKEY-1-ab\n"));
    assert!(
        said.talk.starts_with("this is the unlock key; it is not shown again"),
        "{}",
        said.talk
    );
    let said = fake.run(&["cluster", "lock", "--rotate"]).await;
    assert_eq!((said.code, said.data.as_str()), (Some(0), "SWKEY-1-ab\n"));
    let said = fake.run(&["cluster", "lock", "--off"]).await;
    assert_eq!((said.code, said.data.as_str()), (Some(0), ""));
    let said = fake.run(&["cluster", "lock", "--off", "--rotate"]).await;
    assert_eq!(said.code, Some(2), "{}", said.talk);
    let said = fake.run(&["cluster", "unlock", "SWKEY-1-ab"]).await;
    assert_eq!(said.code, Some(2), "the key is no argument: {}", said.talk);
    let seen = fake.script.seen.lock().unwrap().clone();
    assert_eq!(
        seen,
        ["lock rotate false off false", "lock rotate true off false", "lock rotate false off true"]
    );
}

#[test]
fn the_status_says_whose_disk_is_not_locked_yet() {
    let mut status = cluster_status(false);
    status.locked = true;
    status.members[0].numbers.as_mut().unwrap().key_wrapped = true;
    let words = ClusterView::of(status.clone()).words(false, NOW);
    assert!(words.contains("lock      on, but not yet at n2\n"), "{words}");
    status.members[1].numbers.as_mut().unwrap().key_wrapped = true;
    let words = ClusterView::of(status).words(false, NOW);
    assert!(words.contains("lock      on\n"), "{words}");
}

/// Takes unlock keys on a socket, and passes on what came.
struct Socket(mpsc::UnboundedSender<String>);

#[tonic::async_trait]
impl Local for Socket {
    async fn get_join_tokens(
        &self,
        _: Request<wire::GetJoinTokensRequest>,
    ) -> Result<Response<wire::JoinTokens>, Status> {
        Err(Status::unimplemented("not asked"))
    }

    async fn create_client_bundle(
        &self,
        _: Request<wire::CreateClientBundleRequest>,
    ) -> Result<Response<wire::ClientBundle>, Status> {
        Err(Status::unimplemented("not asked"))
    }

    async fn unlock(
        &self,
        request: Request<wire::UnlockRequest>,
    ) -> Result<Response<wire::UnlockResponse>, Status> {
        self.0.send(request.get_ref().unlock_key.clone()).unwrap();
        Ok(Response::new(wire::UnlockResponse {}))
    }
}

/// A terminal, and what it shows until the command that runs in it has ended.
struct Typing {
    master: File,
    slave: OwnedFd,
    child: Child,
}

impl Typing {
    /// Begins `cluster unlock` and waits for its prompt.
    async fn begin(socket: &Path) -> Self {
        let terminal = openpty(None, None).unwrap();
        let slave = || terminal.slave.as_fd().try_clone_to_owned().unwrap();
        let host = format!("unix://{}", socket.display());
        let mut child = Command::new(env!("CARGO_BIN_EXE_swarmctl"))
            .args(["--host", &host, "cluster", "unlock"])
            .stdin(slave())
            .stdout(slave())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut prompt = [0; 12];
        child.stderr.as_mut().unwrap().read_exact(&mut prompt).await.unwrap();
        assert_eq!(&prompt, b"unlock key:\n");
        Self { master: File::from(terminal.master), slave: terminal.slave, child }
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.slave).unwrap().local_flags.contains(LocalFlags::ECHO)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_unlock_key_is_not_shown_where_it_is_typed() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("controller.sock");
    let (keys, mut given) = mpsc::unbounded_channel();
    let incoming = accept_unix(&socket).await.unwrap();
    let server = server().add_service(LocalServer::new(Socket(keys)));
    tokio::spawn(server.serve_with_incoming(incoming));

    let mut typing = Typing::begin(&socket).await;
    assert!(!typing.echoes());
    typing.master.write_all(b"SWKEY-1-ab\n").unwrap();
    assert_eq!(typing.child.wait().await.unwrap().code(), Some(0));
    assert_eq!(given.recv().await.unwrap(), "SWKEY-1-ab");
    assert!(typing.echoes(), "the terminal is as it was");
    let mut shown = [0; 64];
    let length = typing.master.read(&mut shown).unwrap();
    assert_eq!(&shown[..length], b"\r\n", "nothing but the line's end");

    let mut typing = Typing::begin(&socket).await;
    typing.master.write_all(b"SWKEY-1-").unwrap();
    let pid = i32::try_from(typing.child.id().unwrap()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGINT).unwrap();
    assert_eq!(typing.child.wait().await.unwrap().code(), Some(1));
    assert!(typing.echoes(), "the terminal is as it was");
    assert!(given.try_recv().is_err(), "nothing was sent");
}
