//! `logs`: what containers wrote, gathered from their nodes.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;
use swarm_proto::id::Timestamp;
use swarm_proto::wire;
use tokio::time::sleep;
use tonic::Streaming;

use super::{Call, duration, now, ps};
use crate::failure::Failure;
use crate::local::Local;
use crate::output::{self, Format};
use crate::{connect, view};

const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Shows what the containers of a service or task wrote
#[derive(Debug, clap::Args)]
pub(crate) struct Logs {
    /// A service's full name, a task's name, or a task id
    target: String,
    /// Go on with what is written
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines of each task: a number, or `all`
    #[arg(short = 'n', long, default_value = "all", value_parser = tail, allow_hyphen_values = true)]
    tail: i64,
    /// Only lines since then: a duration before now (`10m`), or a time (`2026-01-31T12:00:00Z`)
    #[arg(long, value_parser = since)]
    since: Option<Since>,
    /// Put the time before each line
    #[arg(short, long)]
    timestamps: bool,
    /// Only the lines, without the task's name
    #[arg(long)]
    raw: bool,
}

/// A point in time, as the user gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    Before(Duration),
    At(Timestamp),
}

/// A line, as `logs -o json` prints it, one object a line.
#[derive(Debug, Serialize)]
struct LineView<'a> {
    task: &'a str,
    task_id: &'a str,
    node: &'a str,
    time: String,
    stream: &'a str,
    line: std::borrow::Cow<'a, str>,
}

pub(crate) async fn run(logs: &Logs, call: &Call) -> Result<(), Failure> {
    let mut request = wire::LogsRequest {
        target: logs.target.clone(),
        follow: logs.follow,
        tail: logs.tail,
        since: logs.since.map_or(0, |since| start(since, now(Timestamp::default())).0),
    };
    let mut reader = Reader { logs, format: call.format, latest: HashMap::new(), width: 0 };
    loop {
        let open = call.cluster.call(async |mut client| client.logs(request.clone()).await);
        let mut stream = tokio::select! {
            stream = open => stream?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let end = tokio::select! {
            end = reader.read(&mut stream) => end?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        match end {
            End::Complete => return Ok(()),
            End::Lost(status) if !logs.follow => return Err(connect::refusal(&status)),
            End::Lost(_) => {}
        }
        // The controller went away: go on at another one where this one stopped.
        let latest = reader.latest.values().max().copied().unwrap_or(0) / 1_000_000;
        if latest > 0 {
            request.tail = -1;
            request.since = request.since.max(latest.saturating_sub(1));
        }
        sleep(RETRY_PAUSE).await;
    }
}

/// Shows what one task writes until it is over, and gives back what that came to.
pub(super) async fn of_task<T>(
    call: &Call,
    task: &str,
    over: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let target = task.to_owned();
    let mut request =
        wire::LogsRequest { target: target.clone(), follow: true, tail: -1, since: 0 };
    let (tail, since, timestamps, raw) = (-1, None, false, true);
    let logs = Logs { target, follow: true, tail, since, timestamps, raw };
    let mut reader =
        Reader { logs: &logs, format: Format::Table, latest: HashMap::new(), width: 0 };
    tokio::pin!(over);
    let ended = loop {
        let read = async {
            let open = call.cluster.call(async |mut client| client.logs(request.clone()).await);
            reader.read(&mut open.await?).await
        };
        tokio::select! {
            ended = &mut over => break ended?,
            end = read => drop(end?),
        }
        // The controller went away, or has no more: the run says when it is over.
        tokio::select! {
            ended = &mut over => break ended?,
            () = sleep(RETRY_PAUSE) => {}
        }
    };
    request.follow = false;
    let rest = call.cluster.call(async |mut client| client.logs(request.clone()).await);
    match reader.read(&mut rest.await?).await? {
        End::Complete => Ok(ended),
        End::Lost(status) => Err(connect::refusal(&status)),
    }
}

/// Shows what tasks of this host wrote.
pub(super) async fn run_locally(
    logs: &Logs,
    agent: &mut Local,
    format: Format,
) -> Result<(), Failure> {
    let state = agent.state().await?;
    let tasks = ps::tasks(&state, Some(&logs.target), true)?;
    let request = wire::AgentLogsRequest {
        tasks: tasks.into_iter().map(|task| task.id).collect(),
        follow: logs.follow,
        tail: logs.tail,
        since: logs.since.map_or(0, |since| start(since, now(Timestamp::default())).0),
    };
    let opened = agent.client.logs(request).await;
    let mut stream = opened.map_err(|status| connect::refusal(&status))?.into_inner();
    let mut reader = Reader { logs, format, latest: HashMap::new(), width: 0 };
    let end = tokio::select! {
        end = reader.read(&mut stream) => end?,
        _ = tokio::signal::ctrl_c() => return Ok(()),
    };
    match end {
        End::Complete => Ok(()),
        End::Lost(status) => Err(connect::refusal(&status)),
    }
}

enum End {
    /// All was said, or nobody reads any more.
    Complete,
    /// The stream broke.
    Lost(tonic::Status),
}

struct Reader<'a> {
    logs: &'a Logs,
    format: Format,
    /// The time of each task's last line, so that none is shown twice.
    latest: HashMap<String, u64>,
    /// Of the longest prefix so far, so that lines stand below each other.
    width: usize,
}

impl Reader<'_> {
    async fn read(&mut self, stream: &mut Streaming<wire::LogLine>) -> Result<End, Failure> {
        let known = self.latest.clone();
        loop {
            let line = match stream.message().await {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(End::Complete),
                Err(status) if connect::is_passing(&status) => return Ok(End::Lost(status)),
                Err(status) => return Err(connect::refusal(&status)),
            };
            if line.stream == "notice" {
                output::talk(&format!("note: {}", String::from_utf8_lossy(&line.line)));
                continue;
            }
            if known.get(&line.task_id).is_some_and(|latest| line.time <= *latest) {
                continue;
            }
            let text = self.render(&line)?;
            if output::raw(&text).is_err() {
                return Ok(End::Complete);
            }
            let latest = self.latest.entry(line.task_id).or_default();
            *latest = line.time.max(*latest);
        }
    }

    fn render(&mut self, line: &wire::LogLine) -> Result<Vec<u8>, Failure> {
        let time = || nanoseconds(line.time);
        if matches!(self.format, Format::Json | Format::Yaml) {
            let view = LineView {
                task: &line.task_name,
                task_id: &line.task_id,
                node: &line.node,
                time: time(),
                stream: &line.stream,
                line: String::from_utf8_lossy(&line.line),
            };
            let text = match self.format {
                Format::Json => view::json_line(&view)?,
                _ => format!("---\n{}", view::yaml(&view)?),
            };
            return Ok(text.into_bytes());
        }
        let mut text = Vec::new();
        if self.logs.timestamps {
            text.extend(time().bytes());
            text.push(b' ');
        }
        if !self.logs.raw {
            let prefix = format!("{}@{}", line.task_name, line.node);
            self.width = self.width.max(prefix.len());
            text.extend(format!("{prefix:<width$} | ", width = self.width).bytes());
        }
        text.extend(&line.line);
        if !line.line.ends_with(b"\n") {
            text.push(b'\n');
        }
        Ok(text)
    }
}

fn nanoseconds(time: u64) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(time)) {
        Ok(time) => format!("{time:.9}"),
        Err(_) => String::new(),
    }
}

fn tail(text: &str) -> Result<i64, String> {
    match text {
        "all" => Ok(-1),
        text => text
            .parse::<u32>()
            .map(i64::from)
            .map_err(|_| "write a number of lines, or `all`".to_owned()),
    }
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(span) = duration(text) {
        return Ok(Since::Before(span));
    }
    let wrong = || "write a duration (`10m`) or a time (`2026-01-31T12:00:00Z`)".to_owned();
    let time: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
    let milliseconds = u64::try_from(time.as_millisecond()).map_err(|_| wrong())?;
    Ok(Since::At(Timestamp(milliseconds)))
}

fn start(since: Since, now: Timestamp) -> Timestamp {
    match since {
        Since::At(time) => time,
        Since::Before(span) => {
            let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            Timestamp(now.0.saturating_sub(span))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times_and_tails() {
        assert_eq!(since("10m"), Ok(Since::Before(Duration::from_mins(10))));
        assert_eq!(since("1970-01-01T00:00:01Z"), Ok(Since::At(Timestamp(1000))));
        assert!(since("yesterday").is_err());
        assert_eq!(start(Since::Before(Duration::from_secs(1)), Timestamp(5000)), Timestamp(4000));
        assert_eq!([tail("all"), tail("0"), tail("7")], [Ok(-1), Ok(0), Ok(7)]);
        assert!(tail("-1").is_err());
    }
}
