//! One client connection: frames in, answers out, in any order.

use super::answer::{Answer, Framed, frame};
use super::write::Outgoing;
use crate::limits::{
    CONNECTION_ANSWER_BYTES_MAX, CONNECTION_IDLE_MAX, CONNECTION_REQUEST_BYTES_MAX, CONNECTION_REQUESTS_MAX, WRITE_GATHER_BYTES,
};
use bytes::Buf;
use floss_protocol::frame::{FrameDecoder, FrameError, RequestFrame};
use floss_raft::env::BoxFuture;
use floss_raft::env::runtime::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use floss_raft::env::runtime::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use floss_raft::env::runtime::{io, net, select, time};
use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::sync::Arc;

/// Turns a request into an answer. The call itself runs before the next frame is read, so what it hands over (an append to
/// a mailbox) keeps the order of arrival; the future runs beside all others of the connection.
pub(crate) trait Service: Send + Sync + 'static {
    fn start(&self, connection: &Connection, request: RequestFrame) -> BoxFuture<'static, Answer>;
}

/// What handlers may use of the connection they answer.
pub(crate) struct Connection {
    /// In KiB. A fetch takes what its answer may hold before it reads, and gives it back once that is written.
    pub answer_room: Arc<Semaphore>,
}

/// A permit counts KiB, so that 128 MiB fit in a semaphore's u32.
pub(crate) const PERMIT_BYTES: usize = 1024;

/// Permits that stand for `bytes`.
pub(crate) fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(PERMIT_BYTES)).expect("bounded by FRAME_BYTES_MAX and FETCH_BYTES_MAX")
}

/// A request that is being answered.
struct Started {
    request_id: i32,
    answer: BoxFuture<'static, Answer>,
    /// Given back when the answer is in the write queue.
    room: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error("end of stream")]
    End,
    #[error("idle")]
    Idle,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    BadFrame(#[from] FrameError),
}

/// Serves one connection until either side closes it. Dropping the future drops every request it still works on.
pub(crate) async fn serve(stream: net::TcpStream, service: Arc<dyn Service>) {
    // Answers are written whole: waiting for more bytes only adds delay.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "set_nodelay");
    }
    let (mut source, mut sink) = io::split(stream);
    let (started, work) = mpsc::channel(CONNECTION_REQUESTS_MAX);
    let closed = select! {
        biased;
        closed = run_answers(work, &mut sink) => closed,
        closed = run_requests(&mut source, service.as_ref(), started) => closed,
    };
    match closed {
        Closed::End | Closed::Idle => {}
        Closed::Io(_) => tracing::debug!(reason = %closed, "connection closed"),
        Closed::BadFrame(_) => tracing::info!(reason = %closed, "connection refused"),
    }
}

async fn run_requests(source: &mut (impl AsyncRead + Unpin), service: &dyn Service, started: mpsc::Sender<Started>) -> Closed {
    let count = Arc::new(Semaphore::new(CONNECTION_REQUESTS_MAX));
    let bytes = Arc::new(Semaphore::new(CONNECTION_REQUEST_BYTES_MAX / PERMIT_BYTES));
    let connection = Connection { answer_room: Arc::new(Semaphore::new(CONNECTION_ANSWER_BYTES_MAX / PERMIT_BYTES)) };
    let mut frames = FrameDecoder::new();
    loop {
        let request = match next_frame(&mut frames, source, &count).await {
            Ok(request) => request,
            Err(closed) => return closed,
        };
        let one = count.clone().acquire_owned().await.expect("never closed");
        let room = bytes.clone().acquire_many_owned(permits(request.body.len().max(1))).await.expect("never closed");
        let request_id = request.request_id;
        let answer = service.start(&connection, request);
        if started.send(Started { request_id, answer, room: (one, room) }).await.is_err() {
            return Closed::End;
        }
    }
}

async fn next_frame(
    frames: &mut FrameDecoder<RequestFrame>,
    source: &mut (impl AsyncRead + Unpin),
    count: &Semaphore,
) -> Result<RequestFrame, Closed> {
    loop {
        if let Some(request) = frames.next_frame()? {
            return Ok(request);
        }
        match time::timeout(CONNECTION_IDLE_MAX, source.read_buf(frames.read_buffer())).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0)) => return Err(Closed::End),
            Ok(Err(error)) => return Err(error.into()),
            // Silent but waiting for an answer is not idle.
            Err(_) if count.available_permits() < CONNECTION_REQUESTS_MAX => {}
            Err(_) => return Err(Closed::Idle),
        }
    }
}

async fn run_answers(mut work: mpsc::Receiver<Started>, sink: &mut (impl AsyncWrite + Unpin)) -> Closed {
    let mut running = FuturesUnordered::new();
    let mut outgoing = Outgoing::default();
    loop {
        select! {
            biased;
            Some(frame) = running.next(), if !running.is_empty() => outgoing.push(frame),
            next = work.recv() => match next {
                Some(started) => running.push(run_one(started)),
                None => return Closed::End,
            },
        }
        // Whatever else is finished goes out with the same write.
        while outgoing.has_remaining() && outgoing.remaining() < WRITE_GATHER_BYTES {
            match running.next().now_or_never() {
                Some(Some(frame)) => outgoing.push(frame),
                Some(None) | None => break,
            }
        }
        if outgoing.has_remaining()
            && let Err(error) = outgoing.write_to(sink).await
        {
            return error.into();
        }
    }
}

async fn run_one(started: Started) -> Framed {
    let answer = started.answer.await;
    drop(started.room);
    frame(started.request_id, answer)
}

#[cfg(test)]
mod tests {
    use super::super::answer::{Body, Refusal};
    use super::*;
    use bytes::Bytes;
    use floss_protocol::error_code::ErrorCode;
    use floss_raft::env::runtime::io::{AsyncReadExt, AsyncWriteExt};
    use floss_raft::env::runtime::sync::Notify;
    use floss_raft::env::runtime::{block_on, spawn};
    use std::sync::Mutex;

    /// Key 1 waits until key 2 was started; every other is refused.
    #[derive(Default)]
    struct Slow {
        started: Mutex<Vec<i32>>,
        second: Arc<Notify>,
    }

    impl Service for Slow {
        fn start(&self, _: &Connection, request: RequestFrame) -> BoxFuture<'static, Answer> {
            self.started.lock().unwrap().push(request.request_id);
            let second = self.second.clone();
            Box::pin(async move {
                match request.key {
                    1 => second.notified().await,
                    2 => second.notify_one(),
                    _ => return Err(Refusal::new(ErrorCode::UnsupportedVersion, "no")),
                }
                Ok(Body { pieces: vec![request.body], room: None })
            })
        }
    }

    fn request(key: i16, id: i32, body: &[u8]) -> Vec<u8> {
        let mut out = (8 + body.len() as i32).to_be_bytes().to_vec();
        out.extend(key.to_be_bytes());
        out.extend([0, 0]);
        out.extend(id.to_be_bytes());
        out.extend(body);
        out
    }

    async fn connected(service: Arc<Slow>) -> net::TcpStream {
        let listener = net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            serve(stream, service).await;
        }));
        net::TcpStream::connect(address).await.unwrap()
    }

    async fn answer(stream: &mut net::TcpStream) -> (u8, i32, Bytes) {
        let bytes = stream.read_i32().await.unwrap() as usize;
        let (kind, id) = (stream.read_u8().await.unwrap(), stream.read_i32().await.unwrap());
        let mut body = vec![0; bytes - 5];
        stream.read_exact(&mut body).await.unwrap();
        (kind, id, body.into())
    }

    #[test]
    fn a_slow_request_holds_up_nobody_and_order_of_start_is_order_of_arrival() {
        block_on(async {
            let service = Arc::new(Slow::default());
            let stream = connected(service.clone()).await;
            let large = vec![7; 3 << 20];
            let bytes = [request(1, 10, b"slow"), request(9, 11, b""), request(2, 12, &large)].concat();
            let (mut source, mut sink) = io::split(stream);
            drop(spawn(async move {
                sink.write_all(&bytes).await.unwrap();
                sink.flush().await.unwrap();
                std::future::pending::<()>().await;
            }));
            let mut seen = Vec::new();
            for _ in 0..3 {
                let length = source.read_i32().await.unwrap() as usize;
                let (kind, id) = (source.read_u8().await.unwrap(), source.read_i32().await.unwrap());
                let mut body = vec![0; length - 5];
                source.read_exact(&mut body).await.unwrap();
                seen.push((kind, id, body.len()));
            }
            assert_eq!((seen[0].0, seen[0].1), (1, 11));
            seen[1..].sort();
            assert_eq!(seen[1..], [(0, 10, 4), (0, 12, large.len())]);
            assert_eq!(*service.started.lock().unwrap(), [10, 11, 12]);
        });
    }

    #[test]
    fn a_bad_length_closes_the_connection_after_what_was_answered() {
        block_on(async {
            let mut stream = connected(Arc::default()).await;
            stream.write_all(&request(2, 1, b"fine")).await.unwrap();
            stream.flush().await.unwrap();
            assert_eq!(answer(&mut stream).await, (0, 1, Bytes::from_static(b"fine")));
            stream.write_all(&(-1i32).to_be_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
        });
    }
}
