//! Connections that are cut, hang or break.

use super::*;

#[tokio::test]
async fn the_connections_of_a_removed_node_are_cut_and_only_those() {
    let authority = Arc::new(authority("c1"));
    let connections = Arc::new(Connections::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let tls = Tls::new(&controller(&authority, 1)).unwrap();
    let incoming = connections.accept(listener, tls);
    let secret = Secret::new(TOKEN_SECRET.to_owned());
    let front = Front { authority: Arc::clone(&authority), secret };
    let router = server().add_service(AgentServer::new(front));
    let serving = tokio::spawn(router.serve_with_incoming(incoming));

    let mut streams = Vec::new();
    for id in [2, 3] {
        let channel = connect(&controller(&authority, id), &address).await.unwrap();
        let request = wire::AgentLogsRequest::default();
        streams.push(AgentClient::new(channel).logs(request).await.unwrap().into_inner());
    }
    assert_eq!(connections.nodes(), [NodeId(2), NodeId(3)]);
    connections.cut(NodeId(2));
    let ended = tokio::time::timeout(Duration::from_secs(2), streams[0].message()).await;
    assert!(!matches!(ended.expect("it ends at once"), Ok(Some(_))));
    let other = tokio::time::timeout(Duration::from_millis(200), streams[1].message()).await;
    assert!(other.is_err(), "the other node's stream ended as well");
    assert_eq!(connections.nodes(), [NodeId(3)]);
    serving.abort();
}

#[tokio::test]
async fn silent_connections_hold_up_nobody() {
    let (authority, running) = cluster().await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(&running.address).await.unwrap());
    }
    let channel = connect(&controller(&authority, 2), &running.address).await.unwrap();
    assert_eq!(ask(channel).await.unwrap(), "controller 2 of `c1`");
}

/// Passes bytes both ways until it is cut, then keeps both connections open and silent.
async fn cuttable(to: String) -> (SocketAddr, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cut = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&cut);
    tokio::spawn(async move {
        let (near, _) = listener.accept().await.unwrap();
        let far = TcpStream::connect(to).await.unwrap();
        let (near, far) = (near.into_split(), far.into_split());
        let pass = |mut from: tokio::net::tcp::OwnedReadHalf,
                    mut to: tokio::net::tcp::OwnedWriteHalf,
                    seen: Arc<AtomicBool>| async move {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut buffer).await {
                if !seen.load(Ordering::SeqCst) {
                    to.write_all(&buffer[..count]).await.unwrap();
                }
            }
        };
        tokio::join!(pass(near.0, far.1, Arc::clone(&seen)), pass(far.0, near.1, seen));
    });
    (address, cut)
}

#[tokio::test]
async fn a_cut_network_is_noticed_in_four_seconds() {
    let (authority, running) = cluster().await;
    let (address, cut) = cuttable(running.address.clone()).await;
    let channel = connect(&controller(&authority, 2), &address.to_string()).await.unwrap();
    let request = wire::AgentLogsRequest::default();
    let mut lines = AgentClient::new(channel).logs(request).await.unwrap().into_inner();

    let quiet = tokio::time::timeout(Duration::from_secs(5), lines.message()).await;
    assert!(quiet.is_err(), "a quiet stream stays open");
    cut.store(true, Ordering::SeqCst);
    let since = Instant::now();
    lines.message().await.expect_err("the network is cut");
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_channel_dials_again() {
    let (authority, running) = cluster().await;
    let address = running.address.clone();
    let tls = Tls::new(&controller(&authority, 2)).unwrap();
    let eager = tls.connect(&address, CONTROLLER_NAME).await.unwrap();
    let lazy = tls.channel(&address, CONTROLLER_NAME);
    for channel in [&eager, &lazy] {
        assert_eq!(ask(channel.clone()).await.unwrap(), "controller 2 of `c1`");
    }

    drop(running);
    let restarted = Tls::new(&controller(&authority, 1)).unwrap();
    let listener = rebind(&address).await;
    let _running = serve_on(listener, &authority, restarted);
    for channel in [eager, lazy] {
        let deadline = Instant::now() + Duration::from_secs(5);
        // The call that meets the closing connection may fail; one soon after it must not.
        while ask(channel.clone()).await.is_err() {
            assert!(Instant::now() < deadline, "the channel stays broken");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn rebind(address: &str) -> TcpListener {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
