//! One client connection: frames in, answers out, in any order.

use super::answer::{Answer, Framed, frame};
use super::read::{BadFrame, FrameReader, RequestFrame};
use super::write::Outgoing;
use crate::limits::{
    CONNECTION_ANSWER_BYTES_MAX, CONNECTION_IDLE_MAX, CONNECTION_REQUEST_BYTES_MAX, CONNECTION_REQUESTS_MAX, WRITE_GATHER_BYTES,
};
use bytes::Buf;
use floss_raft::env::BoxFuture;
use floss_raft::env::runtime::io::{AsyncRead, AsyncWrite};
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
    BadFrame(#[from] BadFrame),
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
    let mut frames = FrameReader::default();
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
    frames: &mut FrameReader,
    source: &mut (impl AsyncRead + Unpin),
    count: &Semaphore,
) -> Result<RequestFrame, Closed> {
    loop {
        if let Some(request) = frames.next_buffered()? {
            return Ok(request);
        }
        match time::timeout(CONNECTION_IDLE_MAX, frames.fill(source)).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return Err(Closed::End),
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
