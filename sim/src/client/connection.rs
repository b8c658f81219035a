//! One TCP connection to a node, shared by the tasks of a client.

use bytes::{Bytes, BytesMut};
use floss_protocol::connection::{ClientConnection, Reply, ReplyError, SendError};
use floss_protocol::error_code::ErrorCode;
use floss_protocol::rpc::{ApiVersionsRequest, Rpc};
use floss_raft::env::runtime::io::{AsyncReadExt, AsyncWriteExt};
use floss_raft::env::runtime::net::TcpStream;
use floss_raft::env::runtime::sync::{mpsc, oneshot};
use floss_raft::env::runtime::{select, spawn, time};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const CONNECT_WAIT: Duration = Duration::from_secs(1);

/// Why there is no answer, and what that says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// It never left: provably absent.
    NotSent(String),
    /// It may have been done.
    NoAnswer(String),
    /// The whole request was refused.
    Refused { code: i32, message: String },
}

impl CallError {
    pub fn text(&self) -> String {
        match self {
            Self::NotSent(why) | Self::NoAnswer(why) => why.clone(),
            Self::Refused { code, message } => format!("code={code} {message}"),
        }
    }
}

type Encode = Box<dyn FnOnce(&mut ClientConnection) -> Result<(i32, Bytes), SendError> + Send>;

struct Command {
    encode: Encode,
    answer: oneshot::Sender<Result<Reply, CallError>>,
}

/// Handle; clones share the connection. It ends when all handles are gone, when it is closed, or when the peer goes.
#[derive(Clone)]
pub struct Connection {
    commands: mpsc::UnboundedSender<Command>,
    dead: Arc<AtomicBool>,
    close: Arc<floss_raft::env::runtime::sync::Notify>,
}

/// An answer that will come.
pub struct Waiting<R> {
    answer: oneshot::Receiver<Result<Reply, CallError>>,
    connection: Connection,
    request: PhantomData<fn() -> R>,
}

impl Connection {
    /// Dials and shakes hands.
    pub async fn open(address: &str) -> Result<Self, CallError> {
        let not_sent = |what: String| CallError::NotSent(format!("{address}: {what}"));
        let dialled = time::timeout(CONNECT_WAIT, TcpStream::connect(address)).await;
        let stream = dialled.map_err(|_| not_sent("connect timed out".into()))?.map_err(|error| not_sent(error.to_string()))?;
        let (commands, queue) = mpsc::unbounded_channel();
        let connection = Self { commands, dead: Arc::default(), close: Arc::default() };
        spawn(run(stream, queue, connection.dead.clone(), connection.close.clone()));
        let hello = ApiVersionsRequest { client_software_name: "floss-sim".into(), client_software_version: "1".into() };
        let shaken = connection.send(hello).answer(CONNECT_WAIT).await;
        shaken.map_err(|error| not_sent(format!("handshake: {}", error.text())))?;
        Ok(connection)
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Drops the socket, whatever is under way.
    pub fn close(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.close.notify_one();
    }

    /// Queues a request: they leave in call order.
    pub fn send<R: Rpc + 'static>(&self, request: R) -> Waiting<R> {
        let (answer, waiting) = oneshot::channel();
        let encode: Encode = Box::new(move |connection| connection.send(&request));
        // If it is gone, dropping the command drops `answer`, which the waiter notices.
        drop(self.commands.send(Command { encode, answer }));
        Waiting { answer: waiting, connection: self.clone(), request: PhantomData }
    }
}

impl<R: Rpc> Waiting<R> {
    /// A client that waited in vain gives the connection up, as official clients do.
    pub async fn answer(self, patience: Duration) -> Result<R::Response, CallError> {
        match time::timeout(patience, self.answer).await {
            Err(_) => {
                self.connection.close();
                Err(CallError::NoAnswer(format!("no answer within {} ms", patience.as_millis())))
            }
            Ok(Err(_)) => Err(CallError::NoAnswer("connection closed".into())),
            Ok(Ok(reply)) => reply?.decode::<R>().map_err(refused),
        }
    }
}

fn refused(error: ReplyError) -> CallError {
    match error {
        ReplyError::Refused { error, .. } => {
            CallError::Refused { code: error.error_code, message: error.error_message.unwrap_or_default() }
        }
        other => CallError::Refused { code: ErrorCode::UnknownServerError as i32, message: other.to_string() },
    }
}

async fn run(
    mut stream: TcpStream,
    mut queue: mpsc::UnboundedReceiver<Command>,
    dead: Arc<AtomicBool>,
    close: Arc<floss_raft::env::runtime::sync::Notify>,
) {
    let mut protocol = ClientConnection::new();
    let mut waiting: BTreeMap<i32, oneshot::Sender<Result<Reply, CallError>>> = BTreeMap::new();
    let mut input = BytesMut::new();
    let ended = loop {
        select! {
            biased;
            () = close.notified() => break "closed by the client".to_owned(),
            command = queue.recv() => {
                let Some(Command { encode, answer }) = command else { break "not used any more".to_owned() };
                match encode(&mut protocol) {
                    Err(error) => drop(answer.send(Err(CallError::NotSent(error.to_string())))),
                    Ok((id, bytes)) => {
                        waiting.insert(id, answer);
                        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
                            break "connection reset".to_owned();
                        }
                    }
                }
            }
            read = stream.read_buf(&mut input) => {
                match read {
                    Ok(0) | Err(_) => break "connection reset".to_owned(),
                    Ok(_) => {}
                }
                protocol.receive(&input.split());
                if let Err(error) = deliver(&mut protocol, &mut waiting) {
                    break error;
                }
            }
        }
    };
    dead.store(true, Ordering::SeqCst);
    for (_, answer) in waiting {
        drop(answer.send(Err(CallError::NoAnswer(ended.clone()))));
    }
}

fn deliver(
    protocol: &mut ClientConnection,
    waiting: &mut BTreeMap<i32, oneshot::Sender<Result<Reply, CallError>>>,
) -> Result<(), String> {
    while let Some(reply) = protocol.next_reply().map_err(|error| error.to_string())? {
        if let Some(answer) = waiting.remove(&reply.request_id) {
            // Whoever asked may have given up.
            drop(answer.send(Ok(reply)));
        }
    }
    Ok(())
}
