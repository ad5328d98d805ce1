//! Reads a number that a task tells, in Prometheus's text format.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use swarm_proto::spec::{Decimal, Scrape};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use crate::health::probe;

/// How long a task may take to tell its numbers.
const LIMIT: Duration = Duration::from_secs(2);
/// Bytes of an answer.
const MOST: u64 = 4 << 20;

/// Asks a task for its numbers from a socket of its own network, and picks one.
pub(crate) async fn read(
    socket: TcpSocket,
    to: SocketAddr,
    scrape: &Scrape,
) -> Result<Decimal, String> {
    let answer = match timeout(LIMIT, ask(socket, to, &scrape.path)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(format!("{to}: {error}")),
        Err(_) => return Err(format!("{to}: no answer within {LIMIT:?}")),
    };
    match probe::status(&answer) {
        Some(200) => {}
        Some(status) => return Err(format!("{}: status {status}", scrape.path)),
        None => return Err(format!("{to}: the answer is not HTTP")),
    }
    let text = String::from_utf8_lossy(&answer);
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    sum(body, &scrape.metric)
        .ok_or_else(|| format!("{} has no number `{}`", scrape.path, scrape.metric))
}

/// The whole answer. HTTP/1.0 knows no parts of a body: it ends with the connection.
async fn ask(socket: TcpSocket, to: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = socket.connect(to).await?;
    let request = format!(
        "GET {path} HTTP/1.0\r\nHost: {to}\r\nUser-Agent: swarm-agent\r\nAccept: text/plain\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// The sum of all series of a metric; `None` where there is none, or it is no number that can be aimed at.
fn sum(text: &str, metric: &str) -> Option<Decimal> {
    let mut sum = None;
    for line in text.lines() {
        let Some(rest) = line.strip_prefix(metric) else { continue };
        let value = match rest.as_bytes().first() {
            Some(b' ' | b'\t') => rest,
            // A brace in the value of a label stands in quotes, and no number follows it.
            Some(b'{') => rest.rsplit_once('}')?.1,
            _ => continue,
        };
        let value: f64 = value.split_ascii_whitespace().next()?.parse().ok()?;
        *sum.get_or_insert(0.0) += value;
    }
    let thousandths: f64 = sum? * 1_000.0;
    // A float becomes the nearest number of the type; what is none becomes 0.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
    (thousandths >= 0.0).then(|| Decimal(thousandths.round() as u64))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn all_series_of_a_metric_are_summed() {
        let text = "# HELP queue_length jobs\n# TYPE queue_length gauge\nqueue_length 3\n\
                    queue_length_total 99\nqueue_length{of=\"a } 7\"} 1.5 1395066363000\n";
        assert_eq!(sum(text, "queue_length"), Some(Decimal(4_500)));
        assert_eq!(sum(text, "queue_length_total"), Some(Decimal(99_000)));
        assert_eq!(sum(text, "queue"), None);
        assert_eq!(sum("up 0\n", "up"), Some(Decimal(0)));
        for wrong in ["up NaN\n", "up -1\n", "up x\n", "up\n", ""] {
            assert_eq!(sum(wrong, "up"), None, "{wrong}");
        }
        assert_eq!(sum("up 1e300\n", "up"), Some(Decimal(u64::MAX)));
    }

    async fn answered(answer: &'static [u8]) -> Result<Decimal, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            let got = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..got]).into_owned();
            assert!(request.starts_with("GET /numbers HTTP/1.0\r\n"), "{request}");
            stream.write_all(answer).await.unwrap();
        });
        let scrape = Scrape { port: to.port(), path: "/numbers".into(), metric: "up".into() };
        read(TcpSocket::new_v4().unwrap(), to, &scrape).await
    }

    #[tokio::test]
    async fn a_number_is_read_from_a_page() {
        assert_eq!(answered(b"HTTP/1.0 200 OK\r\n\r\nup 7\n").await, Ok(Decimal(7_000)));
        let refused = answered(b"HTTP/1.1 404 Not Found\r\n\r\nup 7\n").await;
        assert_eq!(refused, Err("/numbers: status 404".to_owned()));
        let without = answered(b"HTTP/1.0 200 OK\r\n\r\ndown 7\n").await;
        assert_eq!(without, Err("/numbers has no number `up`".to_owned()));
        assert!(answered(b"SSH-2.0-x\r\n").await.unwrap_err().contains("is not HTTP"));
    }
}
