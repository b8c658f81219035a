//! The TCP transport alone: order, timeouts, silence, strangers, return.
#![allow(clippy::unwrap_used)] // a test: any failure is the end of it

use bytes::Bytes;
use floss_raft::env::BoxFuture;
use floss_raft::env::runtime::net::TcpListener;
use floss_raft::env::runtime::{block_on, spawn, time};
use floss_raft::transport::tcp::{Hello, ServeGuard, TcpTransport};
use floss_raft::transport::{PeerChannel, PeerRequest, PeerService, Transport, TransportError};
use floss_raft::types::{GroupId, NodeId};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(10);
const SLOW: u8 = 1;
const QUICK: u8 = 2;
const REFUSE: u8 = 3;

/// Echoes sizes, and remembers what came.
#[derive(Default)]
struct Echo {
    seen: Mutex<Vec<(NodeId, PeerChannel, usize)>>,
}

impl PeerService for Echo {
    fn serve(&self, from: NodeId, request: PeerRequest) -> BoxFuture<'static, Result<Bytes, String>> {
        let bytes: usize = request.body.iter().map(Bytes::len).sum();
        self.seen.lock().unwrap().push((from, request.channel, bytes));
        Box::pin(async move {
            match request.method {
                SLOW => time::sleep(Duration::from_millis(600)).await,
                REFUSE => return Err(format!("{bytes} bytes are not welcome")),
                _ => {}
            }
            Ok(Bytes::from(bytes.to_string()))
        })
    }
}

fn hello(node_id: NodeId, cluster: &str) -> Hello {
    Hello { node_id, cluster: cluster.to_string() }
}

async fn listen(address: &str) -> (TcpListener, String) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

async fn pair(port: u16) -> (TcpTransport, Arc<Echo>, ServeGuard) {
    let (listener, address) = listen(&format!("127.0.0.1:{port}")).await;
    let echo = Arc::new(Echo::default());
    let guard = TcpTransport::new(hello(2, "c")).serve(listener, echo.clone());
    let transport = TcpTransport::new(hello(1, "c"));
    transport.set_peer(2, address);
    (transport, echo, guard)
}

fn request(method: u8, sizes: &[usize]) -> PeerRequest {
    let body = sizes.iter().map(|size| Bytes::from(vec![7; *size])).collect();
    PeerRequest { channel: PeerChannel::Raft(GroupId(5)), method, body }
}

#[test]
fn requests_arrive_whole_and_in_call_order() {
    block_on(async {
        let (transport, echo, _guard) = pair(7101).await;
        let sizes: Vec<Vec<usize>> =
            (0..300).map(|n| vec![n, (n * 977) % 9000, 0, if n % 50 == 0 { 3 << 20 } else { 1 }]).collect();
        let mut calls: Vec<_> = sizes.iter().map(|sizes| transport.call(2, request(QUICK, sizes), LONG)).collect();
        // Polled in the other direction: the order is that of the calls.
        calls.reverse();
        for (call, sizes) in calls.into_iter().zip(sizes.iter().rev()) {
            let total: usize = sizes.iter().sum();
            assert_eq!(call.await.unwrap(), Bytes::from(total.to_string()));
        }
        let seen: Vec<usize> = echo.seen.lock().unwrap().iter().map(|(_, _, bytes)| *bytes).collect();
        let sent: Vec<usize> = sizes.iter().map(|sizes| sizes.iter().sum()).collect();
        assert_eq!(seen, sent);
        assert_eq!(echo.seen.lock().unwrap()[0], (1, PeerChannel::Raft(GroupId(5)), sent[0]));
    });
}

#[test]
fn a_timeout_is_of_one_call_only() {
    block_on(async {
        let (transport, _echo, _guard) = pair(7102).await;
        let patient = spawn(transport.call(2, request(SLOW, &[10]), LONG));
        let hasty = spawn(transport.call(2, request(SLOW, &[11]), Duration::from_millis(100)));
        let quick = transport.call(2, request(QUICK, &[12]), LONG).await;
        assert_eq!(quick.unwrap(), Bytes::from("12"), "a slow call holds up nobody");
        assert_eq!(hasty.await.unwrap(), Err(TransportError::Timeout { to: 2, waited_ms: 100 }));
        assert_eq!(patient.await.unwrap().unwrap(), Bytes::from("10"), "nor does a timed out one");
        let refused = transport.call(2, request(REFUSE, &[13]), LONG).await;
        assert_eq!(refused, Err(TransportError::Refused { to: 2, reason: "13 bytes are not welcome".to_string() }));
    });
}

#[test]
fn strangers_and_the_absent_are_unreachable() {
    block_on(async {
        let (listener, address) = listen("127.0.0.1:7103").await;
        let _guard = TcpTransport::new(hello(2, "one")).serve(listener, Arc::new(Echo::default()));
        let stranger = TcpTransport::new(hello(1, "other"));
        assert_eq!(stranger.call(2, request(QUICK, &[1]), LONG).await, Err(TransportError::UnknownPeer { to: 2 }));
        stranger.set_peer(2, address);
        let error = stranger.call(2, request(QUICK, &[1]), LONG).await.unwrap_err();
        assert!(matches!(error, TransportError::Unreachable { .. }), "{error}");
        stranger.set_peer(3, "127.0.0.1:7199".to_string());
        for _ in 0..100 {
            let error = stranger.call(3, request(QUICK, &[1]), LONG).await.unwrap_err();
            assert!(matches!(error, TransportError::Unreachable { .. }), "{error}");
        }
    });
}

#[test]
fn a_node_that_returns_is_found_again() {
    block_on(async {
        let (transport, _echo, guard) = pair(7104).await;
        transport.call(2, request(QUICK, &[1]), LONG).await.unwrap();
        drop(guard);
        let lost = async {
            while transport.call(2, request(QUICK, &[1]), Duration::from_millis(200)).await.is_ok() {
                time::sleep(Duration::from_millis(10)).await;
            }
        };
        time::timeout(LONG, lost).await.unwrap();
        let (listener, _) = listen("127.0.0.1:7104").await;
        let _guard = TcpTransport::new(hello(2, "c")).serve(listener, Arc::new(Echo::default()));
        let found = async {
            while transport.call(2, request(QUICK, &[1]), Duration::from_millis(200)).await.is_err() {
                time::sleep(Duration::from_millis(10)).await;
            }
        };
        time::timeout(LONG, found).await.unwrap();
    });
}

#[test]
fn a_silent_connection_is_dialled_anew() {
    block_on(async {
        let (listener, address) = listen("127.0.0.1:7105").await;
        let accepted = Arc::new(AtomicUsize::new(0));
        let counted = accepted.clone();
        spawn(async move {
            let mut held = Vec::new();
            loop {
                held.push(listener.accept().await.unwrap());
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        let transport = TcpTransport::new(hello(1, "c"));
        transport.set_peer(2, address);
        for round in 1..=3 {
            let error = transport.call(2, request(QUICK, &[1]), Duration::from_millis(100)).await.unwrap_err();
            assert_eq!(error, TransportError::Timeout { to: 2, waited_ms: 100 });
            assert_eq!(accepted.load(Ordering::SeqCst), round);
        }
    });
}
