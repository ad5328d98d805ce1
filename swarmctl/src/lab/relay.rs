//! The relay: listens inside of the lab, dials outside. An HTTP proxy that knows only `CONNECT`, and lets through
//! only what the lab was told to.
//!
//! And `lab forward`, the other way round: listens outside, dials inside.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::control;
use super::error::Error;
use super::host;
use super::layout::{Layout, RELAY_PORT, SWITCH, SWITCH_ADDRESS, host_address, host_number};
use super::network;
use super::record::Record;
use super::supervise::Listener;
use crate::output;

const NAME: &str = "relay";

/// Starts the relay, when the lab has one and it is not running.
pub(super) fn start(layout: &Layout, record: &Record) -> Result<(), Error> {
    if record.relay.is_empty() {
        return stop(layout);
    }
    if control::first_process(&layout.control(NAME))?.is_some() {
        return Ok(());
    }
    let log = layout.host(SWITCH, "log").join("relay.log");
    let open = || OpenOptions::new().create(true).append(true).open(&log);
    let output = open().map_err(Error::file("open", &log))?;
    let errors = open().map_err(Error::file("open", &log))?;
    let program = std::env::current_exe().map_err(Error::system("find the running program"))?;
    Command::new(program)
        .args(["lab", "relay", "--name", &layout.lab])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(Error::system("start the relay"))?;
    let end = Instant::now() + Duration::from_secs(5);
    while control::first_process(&layout.control(NAME))?.is_none() {
        if Instant::now() > end {
            return Err(Error::Late {
                what: "the relay did not start".to_owned(),
                seconds: 5,
                detail: format!(": see {}", log.display()),
            });
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Ends the relay. None there is fine.
pub(super) fn stop(layout: &Layout) -> Result<(), Error> {
    match control::first_process(&layout.control(NAME))? {
        None => Ok(()),
        Some(process) => host::end_process(process, "the relay"),
    }
}

/// Relays until the switch is switched off.
pub(super) fn run(layout: &Layout) -> Result<(), Error> {
    nix::unistd::setsid().map_err(Error::system("start a session"))?;
    let record = Record::require(layout)?;
    let address = (SWITCH_ADDRESS, RELAY_PORT);
    let inside = host::switch_namespace(layout)?
        .enter(|| TcpListener::bind(address))
        .map_err(Error::link(SWITCH))?
        .map_err(Error::system("listen for the hosts' agents"))?;
    let switch = control::Presence::of(&layout.control(SWITCH))?;
    let _presence = Listener::bind(&layout.control(NAME))?;
    let allowed = Arc::new(record.relay);
    thread::spawn(move || {
        for stream in inside.incoming().flatten() {
            let allowed = Arc::clone(&allowed);
            // One that fails is that client's loss; it hears of it by the closed connection.
            thread::spawn(move || serve(stream, &allowed));
        }
    });
    switch.wait();
    Ok(())
}

/// Serves one `CONNECT`.
fn serve(mut client: TcpStream, allowed: &[String]) -> io::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut head = String::new();
    // The head is read byte by byte at its end: what follows belongs to the tunnel.
    let mut reader = BufReader::with_capacity(1, client.try_clone()?).take(8 << 10);
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    client.set_read_timeout(None)?;
    let mut words = head.split_ascii_whitespace();
    let (Some("CONNECT"), Some(target)) = (words.next(), words.next()) else {
        return client.write_all(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n");
    };
    if !allowed.iter().any(|pattern| allows(pattern, target)) {
        return client.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n");
    }
    match TcpStream::connect(target) {
        Err(error) => write!(client, "HTTP/1.1 502 Bad Gateway\r\n\r\n{error}\n"),
        Ok(server) => {
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
            join(&client, &server);
            Ok(())
        }
    }
}

/// Whether `HOST:PORT` is meant by a pattern: the same, or `*.DOMAIN:PORT`.
fn allows(pattern: &str, target: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(tail) if tail.starts_with('.') => {
            target.len() > tail.len() && target.to_ascii_lowercase().ends_with(tail)
        }
        _ => pattern.eq_ignore_ascii_case(target),
    }
}

/// Copies both ways until both ends are closed.
fn join(left: &TcpStream, right: &TcpStream) {
    let copy = |from: &TcpStream, to: &TcpStream| {
        let (mut source, mut sink) = (from, to);
        // A broken connection ends as a closed one.
        let _ = io::copy(&mut source, &mut sink);
        let _ = to.shutdown(Shutdown::Write);
    };
    thread::scope(|scope| {
        scope.spawn(|| copy(left, right));
        copy(right, left);
    });
}

/// `lab forward`: listens on the caller's loopback and dials a host's published port, until interrupted.
pub(super) fn forward(layout: &Layout, port: u16, listen: u16) -> Result<(), Error> {
    Record::require(layout)?;
    dial(layout, port)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, listen))
        .map_err(Error::system(format!("listen on 127.0.0.1:{listen}")))?;
    output::talk(&format!("http://127.0.0.1:{listen} is port {port} of the lab; Ctrl-C ends it"));
    for client in listener.incoming() {
        let client = client.map_err(Error::system("take a connection"))?;
        match dial(layout, port) {
            Ok(server) => {
                thread::spawn(move || join(&client, &server));
            }
            Err(error) => output::talk(&format!("warning: {error}")),
        }
    }
    Ok(())
}

/// Dials a port on the first host that answers, from inside of the lab.
fn dial(layout: &Layout, port: u16) -> Result<TcpStream, Error> {
    let record = Record::require(layout)?;
    let mut last = None;
    for host in record.host_names() {
        let (Some(number), Some(first)) =
            (host_number(&host), control::first_process(&layout.control(&host))?)
        else {
            continue;
        };
        let address = (host_address(number), port);
        let dialled = network::namespace(first)?
            .enter(|| TcpStream::connect_timeout(&address.into(), Duration::from_secs(3)));
        match dialled.map_err(Error::link(&host))? {
            Ok(stream) => return Ok(stream),
            Err(source) => {
                last = Some(Error::system(format!("reach port {port} of {host}"))(source));
            }
        }
    }
    Err(last.unwrap_or_else(|| {
        Error::refused(format!("no host of the lab `{}` is on", layout.lab), "swarmctl lab up")
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_allowed_is_dialled() {
        assert!(allows("registry.example:443", "Registry.example:443"));
        assert!(!allows("registry.example:443", "registry.example:80"));
        assert!(allows("*.example:443", "a.b.example:443"));
        assert!(!allows("*.example:443", ".example:443"));
        assert!(!allows("*.example:443", "badexample:443"));
        assert!(!allows("*", "anything:443"));
    }

    fn relay_to(allowed: &[String], target: &str, greeting: &str) -> String {
        let relay = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(relay.local_addr().unwrap()).unwrap();
        let (stream, _) = relay.accept().unwrap();
        // The tunnel's first bytes come with the head, as an eager client sends them.
        write!(client, "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n{greeting}").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| serve(stream, allowed).unwrap());
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            answer
        })
    }

    #[test]
    fn bytes_pass_through_a_tunnel_both_ways() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = server.local_addr().unwrap().to_string();
        let echo = thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            write!(stream, "you said {text}").unwrap();
        });
        let answer = relay_to(std::slice::from_ref(&target), &target, "hello");
        echo.join().unwrap();
        assert_eq!(answer, "HTTP/1.1 200 Connection established\r\n\r\nyou said hello");
    }

    #[test]
    fn a_closed_port_and_a_forbidden_one_are_told_apart() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        assert!(relay_to(std::slice::from_ref(&closed), &closed, "").starts_with("HTTP/1.1 502 "));
        assert!(relay_to(&[], &closed, "").starts_with("HTTP/1.1 403 "));
    }

    #[test]
    fn a_head_without_end_is_cut_off() {
        let relay = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(relay.local_addr().unwrap()).unwrap();
        let (stream, _) = relay.accept().unwrap();
        let served = thread::spawn(move || serve(stream, &[]));
        let _ = client.write_all(&vec![b'a'; 32 << 10]);
        served.join().unwrap().unwrap();
    }
}
