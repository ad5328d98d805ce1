//! Carries one check out.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use swarm_proto::spec::HttpCheck;
use swarm_runtime::{Exec, ExecStreams};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::monitor::first_line;
use super::{OUTPUT, Outcome};
use crate::sys;

/// How long a killed program may take to be gone.
const BURIAL: Duration = Duration::from_secs(2);
/// Bytes of an answer's head that are read for its status.
const HEAD: usize = 8 << 10;
const SIGKILL: i32 = 9;

/// A program that was started in a container, with its streams.
pub(crate) type Started = (Exec, ExecStreams);

/// Waits for a program that was started in a container, as long as is left of its time; then kills its process group,
/// and by letting go of it everything else in its session.
pub(crate) async fn command(started: Started, left: Duration, limit: Duration) -> Outcome {
    let running = match Running::new(started) {
        Ok(running) => running,
        Err(error) => return Outcome::failed(format!("cannot watch the check: {error}")),
    };
    let end = tokio::select! {
        end = running.exec.async_io(Interest::READABLE, Exec::end) => Some(end),
        () = running.read() => None,
        () = tokio::time::sleep(left) => None,
    };
    match end {
        Some(Ok(end)) => {
            running.read_rest();
            let output = running.output();
            match end.code {
                0 => Outcome::passed(output),
                code if output.trim().is_empty() => Outcome::failed(format!("exit code {code}")),
                _ => Outcome::failed(output),
            }
        }
        Some(Err(error)) => Outcome::failed(format!("the check was lost: {error}")),
        None => {
            // One that ended in this moment is no loss.
            let _ = running.exec.get_ref().signal(SIGKILL);
            let gone = running.exec.async_io(Interest::READABLE, Exec::end);
            let _ = timeout(BURIAL, gone).await;
            running.read_rest();
            let said = running.output();
            let said = first_line(&said);
            let colon = if said.is_empty() { "" } else { ": " };
            Outcome::failed(format!("took longer than {limit:?}{colon}{said}"))
        }
    }
}

struct Running {
    exec: AsyncFd<Exec>,
    streams: Vec<AsyncFd<OwnedFd>>,
    tail: Mutex<Vec<u8>>,
}

impl Running {
    fn new((exec, streams): Started) -> io::Result<Self> {
        exec.set_nonblocking()?;
        let exec = sys::watch(exec)?;
        let watch = |fd: OwnedFd| {
            rustix::io::ioctl_fionbio(&fd, true)?;
            sys::watch(fd)
        };
        let streams = match streams {
            ExecStreams::Terminal(master) => vec![watch(master)?],
            ExecStreams::Pipes { input: _, output, errors } => vec![watch(output)?, watch(errors)?],
        };
        Ok(Self { exec, streams, tail: Mutex::default() })
    }

    fn keep(&self, bytes: &[u8]) {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(bytes);
        let surplus = tail.len().saturating_sub(OUTPUT);
        tail.drain(..surplus);
    }

    fn output(&self) -> String {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&tail).trim_end().to_owned()
    }

    /// Keeps the end of what it writes; never returns.
    async fn read(&self) {
        let readers = self.streams.iter().map(|stream| async move {
            let mut buffer = [0; OUTPUT];
            loop {
                let read = |fd: &OwnedFd| Ok(rustix::io::read(fd, &mut buffer)?);
                match stream.async_io(Interest::READABLE, read).await {
                    Ok(0) | Err(_) => break,
                    Ok(got) => self.keep(&buffer[..got]),
                }
            }
        });
        futures_util::future::join_all(readers).await;
        std::future::pending::<()>().await;
    }

    /// What is still in the pipes of a program that has ended; what it left running may go on to write.
    fn read_rest(&self) {
        let mut buffer = [0; OUTPUT];
        for stream in &self.streams {
            // A pipe holds 64 KiB.
            for _ in 0..16 {
                match rustix::io::read(stream.get_ref(), &mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(got) => self.keep(&buffer[..got]),
                }
            }
        }
    }
}

/// Where a task answers: at its address, or on the loopback of a network that it shares or has alone.
pub(crate) fn address(own: Option<Ipv4Addr>, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(own.unwrap_or(Ipv4Addr::LOCALHOST)), port)
}

/// Connects a socket of the task's network to the task, and closes the connection.
pub(crate) async fn tcp(socket: TcpSocket, to: SocketAddr, limit: Duration) -> Outcome {
    match timeout(limit, socket.connect(to)).await {
        Ok(Ok(_)) => Outcome::passed(String::new()),
        Ok(Err(error)) => Outcome::failed(format!("{to}: {error}")),
        Err(_) => Outcome::failed(format!("{to}: no connection within {limit:?}")),
    }
}

/// Asks the task for a page, and looks at the status of its answer.
pub(crate) async fn http(
    socket: TcpSocket,
    to: SocketAddr,
    http: &HttpCheck,
    limit: Duration,
) -> Outcome {
    let asked = async {
        let stream = socket.connect(to).await?;
        ask(stream, to, &http.path).await
    };
    let head = match timeout(limit, asked).await {
        Ok(Ok(head)) => head,
        Ok(Err(error)) => return Outcome::failed(format!("{to}: {error}")),
        Err(_) => return Outcome::failed(format!("{to}: no answer within {limit:?}")),
    };
    match status(&head) {
        Some(status) if (http.lowest_status..=http.highest_status).contains(&status) => {
            Outcome::passed(format!("status {status}"))
        }
        Some(status) => Outcome::failed(format!("{}: status {status}", http.path)),
        None => Outcome::failed(format!("{to}: the answer is not HTTP")),
    }
}

/// The beginning of the answer to a GET request: at least its first line, unless it ends before.
async fn ask(mut stream: TcpStream, to: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {to}\r\nUser-Agent: swarm-agent\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while head.len() < HEAD && !head.contains(&b'\n') {
        match stream.read(&mut buffer).await? {
            0 => break,
            got => head.extend_from_slice(&buffer[..got]),
        }
    }
    Ok(head)
}

/// The number in `HTTP/1.1 204 No Content`.
pub(crate) fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    words.next().filter(|version| version.starts_with("HTTP/"))?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(500);

    /// Answers one connection with these bytes after its request, then keeps it open.
    async fn server(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            let got = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..got]).into_owned();
            assert!(request.starts_with("GET /up?x=1 HTTP/1.1\r\n"), "{request}");
            stream.write_all(answer).await.unwrap();
            std::future::pending::<()>().await;
        });
        address
    }

    async fn asked(answer: &'static [u8]) -> Outcome {
        let check =
            HttpCheck { port: 0, path: "/up?x=1".into(), lowest_status: 200, highest_status: 299 };
        let to = server(answer).await;
        http(TcpSocket::new_v4().unwrap(), to, &check, LIMIT).await
    }

    #[tokio::test]
    async fn the_status_decides() {
        assert!(asked(b"HTTP/1.1 204 No Content\r\n").await.passed);
        let refused = asked(b"HTTP/1.0 503 Busy\r\n\r\nlater").await;
        assert_eq!(refused, Outcome::failed("/up?x=1: status 503"));
        assert!(asked(b"SSH-2.0-x\r\n").await.output.ends_with("the answer is not HTTP"));
        assert!(asked(b"HTTP/1.1 2").await.output.contains("no answer within 500ms"));
    }

    #[tokio::test]
    async fn a_connection_is_enough_for_tcp() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        assert!(tcp(TcpSocket::new_v4().unwrap(), to, LIMIT).await.passed);
        drop(listener);
        let refused = tcp(TcpSocket::new_v4().unwrap(), to, LIMIT).await;
        assert!(!refused.passed && refused.output.contains("refused"), "{refused:?}");
    }

    #[test]
    fn a_task_without_a_network_answers_on_its_loopback() {
        assert_eq!(address(None, 80).to_string(), "127.0.0.1:80");
        assert_eq!(address(Some([10, 0, 0, 9].into()), 1).to_string(), "10.0.0.9:1");
    }
}
