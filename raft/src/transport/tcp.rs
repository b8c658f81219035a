//! The transport over TCP: one connection per ordered pair of nodes carries all groups' messages.
//!
//! ```text
//! hello, once per connection: 4 "FLSP"  4 version = 1  8 node id  4 length  cluster name
//! frame, LE: 4 bytes after this  8 correlation id  1 type (0 request, 1 answer, 2 refusal)  ...
//!   request: 1 channel (0 raft, 1 node, 2 server)  8 group (0 unless raft)  1 method  body
//!   answer: body; refusal: text
//! ```

use super::{PeerChannel, PeerRequest, PeerService, Transport, TransportError};
use crate::env::BoxFuture;
use crate::env::runtime::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use crate::env::runtime::net::{TcpListener, TcpStream};
use crate::env::runtime::sync::{mpsc, oneshot};
use crate::env::runtime::{select, spawn, split_tcp, time};
use crate::types::{GroupId, NodeId};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

const MAGIC: &[u8; 4] = b"FLSP";
const VERSION: u32 = 1;
/// The largest frame a peer may send; a request of clients (100 MiB) fits with room for its envelope.
const FRAME_BYTES_MAX: usize = 256 << 20;
const QUEUE_FRAMES_MAX: usize = 4096;
/// Frames written with one call are at most about this large together.
const WRITE_BYTES: usize = 1 << 20;
/// Pieces up to this size are copied together; a larger one is cheaper as a part of its own in a vectored write.
const COPY_BYTES_MAX: usize = 4 << 10;
/// Small frames share one read.
const READ_BYTES: usize = 64 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A node that could not be reached is not dialled again for this long.
const REDIAL_PAUSE: Duration = Duration::from_millis(50);
const REQUEST: u8 = 0;
const ANSWER: u8 = 1;
const REFUSAL: u8 = 2;

/// Who this node is, told at the start of every connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub node_id: NodeId,
    /// Nodes of another cluster are refused; empty = not known yet, matches any.
    pub cluster: String,
}

/// Clones share the connections.
#[derive(Clone)]
pub struct TcpTransport {
    inner: Arc<Inner>,
}

struct Inner {
    hello: Hello,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    addresses: BTreeMap<NodeId, String>,
    links: BTreeMap<NodeId, Link>,
}

/// An open (or opening) connection to one node.
#[derive(Clone)]
struct Link {
    frames: mpsc::Sender<Outgoing>,
    waiting: Waiting,
}

struct Outgoing {
    pieces: Vec<Bytes>,
}

type Waiting = Arc<Mutex<WaitingCalls>>;

#[derive(Default)]
struct WaitingCalls {
    next: u64,
    /// Answers seen so far on this connection.
    answered: u64,
    calls: BTreeMap<u64, oneshot::Sender<Result<Bytes, TransportError>>>,
    closed: Option<Closed>,
}

struct Closed {
    reason: String,
    /// Not to be dialled again before.
    until: time::Instant,
}

impl Closed {
    fn new(reason: String, pause: Duration) -> Self {
        Self { reason, until: time::Instant::now() + pause }
    }
}

/// Forgets a call whose caller went away, or got its answer.
struct Waits {
    waiting: Waiting,
    id: u64,
}

impl Drop for Waits {
    fn drop(&mut self) {
        lock(&self.waiting).calls.remove(&self.id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic happens while the transport's state is held")
}

impl TcpTransport {
    pub fn new(hello: Hello) -> Self {
        Self { inner: Arc::new(Inner { hello, state: Mutex::default() }) }
    }

    /// Answers the requests of other nodes until the returned guard is dropped.
    pub fn serve(&self, listener: TcpListener, service: Arc<dyn PeerService>) -> ServeGuard {
        let (stop, mut stopped) = oneshot::channel::<()>();
        let inner = self.inner.clone();
        spawn(async move {
            let mut stops = Vec::new();
            loop {
                let accepted = select! {
                    biased;
                    _ = &mut stopped => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((stream, _)) = accepted else {
                    time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                let (stop, stopped) = oneshot::channel();
                stops.retain(|stop: &oneshot::Sender<()>| !stop.is_closed());
                stops.push(stop);
                spawn(serve_connection(stream, inner.hello.clone(), service.clone(), stopped));
            }
        });
        ServeGuard { _stop: stop }
    }

    /// The link to `to`, dialled if there is none.
    fn link(&self, to: NodeId) -> Result<Link, TransportError> {
        let mut state = lock(&self.inner.state);
        if let Some(link) = state.links.get(&to) {
            match &lock(&link.waiting).closed {
                None => return Ok(link.clone()),
                Some(closed) if time::Instant::now() < closed.until => {
                    return Err(TransportError::Unreachable { to, reason: closed.reason.clone() });
                }
                Some(_) => {}
            }
        }
        let address = state.addresses.get(&to).cloned().ok_or(TransportError::UnknownPeer { to })?;
        let (frames, outgoing) = mpsc::channel(QUEUE_FRAMES_MAX);
        let link = Link { frames, waiting: Arc::default() };
        state.links.insert(to, link.clone());
        spawn(run_link(to, address, self.inner.hello.clone(), outgoing, link.waiting.clone()));
        Ok(link)
    }
}

/// Ends serving when dropped.
pub struct ServeGuard {
    _stop: oneshot::Sender<()>,
}

impl Transport for TcpTransport {
    fn call(&self, to: NodeId, request: PeerRequest, timeout: Duration) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let unreachable = |reason: &str| TransportError::Unreachable { to, reason: reason.to_string() };
        let link = match self.link(to) {
            Ok(link) => link,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        let (told, answer) = oneshot::channel();
        let (id, answered) = {
            let mut waiting = lock(&link.waiting);
            if let Some(closed) = &waiting.closed {
                return Box::pin(std::future::ready(Err(unreachable(&closed.reason))));
            }
            waiting.next += 1;
            let id = waiting.next;
            waiting.calls.insert(id, told);
            (id, waiting.answered)
        };
        // Queued here, not in the future: call order is write order.
        let waits = Waits { waiting: link.waiting.clone(), id };
        if link.frames.try_send(Outgoing { pieces: request_frame(id, request) }).is_err() {
            return Box::pin(std::future::ready(Err(unreachable("its queue is full or its connection closed"))));
        }
        Box::pin(async move {
            let waits = waits;
            match time::timeout(timeout, answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err(TransportError::Unreachable { to, reason: "the connection closed".to_string() }),
                Err(_) => {
                    let mut waiting = lock(&waits.waiting);
                    if waiting.answered == answered {
                        // Nothing came back all the while: the next call dials anew.
                        waiting.closed.get_or_insert_with(|| Closed::new("it fell silent".to_string(), Duration::ZERO));
                    }
                    Err(TransportError::Timeout { to, waited_ms: timeout.as_millis() as u64 })
                }
            }
        })
    }

    fn set_peer(&self, node: NodeId, address: String) {
        let mut state = lock(&self.inner.state);
        if state.addresses.get(&node) != Some(&address) {
            state.addresses.insert(node, address);
            state.links.remove(&node);
        }
    }
}

fn request_frame(id: u64, request: PeerRequest) -> Vec<Bytes> {
    let (channel, group) = match request.channel {
        PeerChannel::Raft(group) => (0, group.0),
        PeerChannel::Node => (1, 0),
        PeerChannel::Server => (2, 0),
    };
    let body: usize = request.body.iter().map(Bytes::len).sum();
    let mut head = BytesMut::with_capacity(23);
    head.put_u32_le((8 + 1 + 1 + 8 + 1 + body) as u32);
    head.put_u64_le(id);
    head.put_u8(REQUEST);
    head.put_u8(channel);
    head.put_u64_le(group);
    head.put_u8(request.method);
    let mut pieces = vec![head.freeze()];
    pieces.extend(request.body);
    pieces
}

fn answer_frame(id: u64, answer: Result<Bytes, String>) -> Vec<Bytes> {
    let (kind, body) = match answer {
        Ok(body) => (ANSWER, body),
        Err(reason) => (REFUSAL, Bytes::from(reason)),
    };
    let mut head = BytesMut::with_capacity(13);
    head.put_u32_le((8 + 1 + body.len()) as u32);
    head.put_u64_le(id);
    head.put_u8(kind);
    vec![head.freeze(), body]
}

/// Dials, writes what is queued, hands answers to their calls; ends with the connection.
async fn run_link(to: NodeId, address: String, hello: Hello, outgoing: mpsc::Receiver<Outgoing>, waiting: Waiting) {
    let (ended, pause) = match time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&address)).await {
        Err(_) => ("connect timed out".to_string(), REDIAL_PAUSE),
        Ok(Err(error)) => (format!("connect to {address}: {error}"), REDIAL_PAUSE),
        Ok(Ok(stream)) => {
            _ = stream.set_nodelay(true);
            let (reader, writer) = split_tcp(stream);
            let ended = select! {
                biased;
                error = write_frames(writer, Some(hello_bytes(&hello)), outgoing) => error,
                error = read_answers(BufReader::with_capacity(READ_BYTES, reader), to, &waiting) => error,
            };
            // It was there a moment ago.
            (ended, Duration::ZERO)
        }
    };
    let calls = {
        let mut waiting = lock(&waiting);
        waiting.closed = Some(Closed::new(ended.clone(), pause));
        std::mem::take(&mut waiting.calls)
    };
    for told in calls.into_values() {
        _ = told.send(Err(TransportError::Unreachable { to, reason: ended.clone() }));
    }
}

fn hello_bytes(hello: &Hello) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(MAGIC);
    out.put_u32_le(VERSION);
    out.put_u64_le(hello.node_id);
    out.put_u32_le(hello.cluster.len() as u32);
    out.put_slice(hello.cluster.as_bytes());
    out.freeze()
}

/// All queued frames per write.
async fn write_frames(
    mut writer: impl AsyncWriteExt + Unpin,
    first: Option<Bytes>,
    mut outgoing: mpsc::Receiver<Outgoing>,
) -> String {
    let mut buffer = Pieces::default();
    if let Some(first) = first {
        buffer.push(first);
    }
    while let Some(frame) = outgoing.recv().await {
        let mut next = Some(frame);
        while let Some(frame) = next {
            frame.pieces.into_iter().for_each(|piece| buffer.push(piece));
            next = if buffer.bytes < WRITE_BYTES { outgoing.try_recv().ok() } else { None };
        }
        buffer.close();
        let written = async {
            writer.write_all_buf(&mut buffer).await?;
            writer.flush().await
        };
        if let Err(error) = written.await {
            return format!("write: {error}");
        }
    }
    "this end closed it".to_string()
}

/// What is to be written next. Small pieces lie together, large ones as they came.
#[derive(Default)]
struct Pieces {
    closed: VecDeque<Bytes>,
    open: BytesMut,
    bytes: usize,
}

impl Pieces {
    fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        if piece.len() <= COPY_BYTES_MAX {
            self.open.put_slice(&piece);
        } else {
            self.close();
            self.closed.push_back(piece);
        }
    }

    /// Needed once after the last push: only closed pieces are written.
    fn close(&mut self) {
        if !self.open.is_empty() {
            self.closed.push_back(self.open.split().freeze());
        }
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.closed.front().map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let used = slices.len().min(self.closed.len());
        for (slice, piece) in slices.iter_mut().zip(&self.closed) {
            *slice = IoSlice::new(piece);
        }
        used
    }

    fn advance(&mut self, mut count: usize) {
        self.bytes -= count;
        while count > 0 {
            let front = self.closed.front_mut().expect("no more is advanced over than remains");
            let step = count.min(front.len());
            front.advance(step);
            count -= step;
            if front.is_empty() {
                self.closed.pop_front();
            }
        }
    }
}

async fn read_answers(mut reader: impl AsyncReadExt + Unpin, to: NodeId, waiting: &Waiting) -> String {
    loop {
        let mut frame = match read_frame(&mut reader).await {
            Ok(frame) => frame,
            Err(error) => return format!("read: {error}"),
        };
        let (id, kind) = (frame.get_u64_le(), frame.get_u8());
        let told = {
            let mut waiting = lock(waiting);
            waiting.answered += 1;
            waiting.calls.remove(&id)
        };
        let Some(told) = told else { continue };
        _ = told.send(match kind {
            ANSWER => Ok(frame),
            _ => Err(TransportError::Refused { to, reason: String::from_utf8_lossy(&frame).into_owned() }),
        });
    }
}

/// A whole frame without its length: at least id and type.
async fn read_frame(reader: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Bytes> {
    let length = reader.read_u32_le().await? as usize;
    if !(9..=FRAME_BYTES_MAX).contains(&length) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("frame of {length} bytes, expected 9..={FRAME_BYTES_MAX}"),
        ));
    }
    // Grows with what arrives, not with what is announced.
    let mut frame = BytesMut::with_capacity(length.min(64 << 10));
    while frame.len() < length {
        frame.reserve((length - frame.len()).min(1 << 20));
        let mut rest = (&mut *reader).take((length - frame.len()) as u64);
        if rest.read_buf(&mut frame).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(frame.freeze())
}

async fn serve_connection(stream: TcpStream, own: Hello, service: Arc<dyn PeerService>, stopped: oneshot::Receiver<()>) {
    _ = stream.set_nodelay(true);
    let (reader, writer) = split_tcp(stream);
    let mut reader = BufReader::with_capacity(READ_BYTES, reader);
    let from = match read_hello(&mut reader, &own).await {
        Ok(from) => from,
        Err(error) => {
            tracing::warn!(%error, "peer refused");
            return;
        }
    };
    let (answers, outgoing) = mpsc::channel(QUEUE_FRAMES_MAX);
    let read = async {
        while let Ok(mut frame) = read_frame(&mut reader).await {
            let Some((id, request)) = parse_request(&mut frame) else { return };
            let answer = service.serve(from, request);
            let answers = answers.clone();
            spawn(async move { _ = answers.send(Outgoing { pieces: answer_frame(id, answer.await) }).await });
        }
    };
    select! {
        biased;
        _ = stopped => {}
        _ = write_frames(writer, None, outgoing) => {}
        _ = read => {}
    }
}

async fn read_hello(reader: &mut (impl AsyncReadExt + Unpin), own: &Hello) -> io::Result<NodeId> {
    let refuse = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut head = [0; 20];
    reader.read_exact(&mut head).await?;
    let mut bytes = &head[..];
    if bytes.copy_to_bytes(4) != MAGIC[..] {
        return Err(refuse("not a floss peer".to_string()));
    }
    let (version, from, length) = (bytes.get_u32_le(), bytes.get_u64_le(), bytes.get_u32_le());
    if version != VERSION || length > 256 {
        return Err(refuse(format!("peer protocol version={version}, expected {VERSION}")));
    }
    let mut cluster = vec![0; length as usize];
    reader.read_exact(&mut cluster).await?;
    if !cluster.is_empty() && !own.cluster.is_empty() && cluster != own.cluster.as_bytes() {
        return Err(refuse(format!("node {from} is of cluster {}, expected {}", String::from_utf8_lossy(&cluster), own.cluster)));
    }
    Ok(from)
}

fn parse_request(frame: &mut Bytes) -> Option<(u64, PeerRequest)> {
    let (id, kind) = (frame.get_u64_le(), frame.get_u8());
    if kind != REQUEST || frame.len() < 10 {
        return None;
    }
    let (channel, group, method) = (frame.get_u8(), frame.get_u64_le(), frame.get_u8());
    let channel = match channel {
        0 => PeerChannel::Raft(GroupId(group)),
        1 => PeerChannel::Node,
        2 => PeerChannel::Server,
        _ => return None,
    };
    Some((id, PeerRequest { channel, method, body: vec![std::mem::take(frame)] }))
}
