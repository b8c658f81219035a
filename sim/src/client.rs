//! A client of the simulated cluster: the shipped protocol over the simulator's TCP.

use floss_protocol::connection::ClientConnection;
use floss_protocol::rpc::{ApiVersionsRequest, MetadataRequest, MetadataResponse, PbTablePath, Rpc};
use floss_raft::env::runtime::io::{AsyncReadExt, AsyncWriteExt};
use floss_raft::env::runtime::net::TcpStream;
use floss_raft::env::runtime::time;
use std::time::Duration;

/// No answer within this time is no answer.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// One connection to one node.
pub struct Client {
    stream: TcpStream,
    connection: ClientConnection,
}

impl Client {
    pub async fn connect(address: &str) -> Result<Self, String> {
        let connected = time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
        let stream =
            connected.map_err(|_| "connect timed out".to_owned())?.map_err(|error| format!("connect: {}", error.kind()))?;
        let mut client = Self { stream, connection: ClientConnection::new() };
        let hello = ApiVersionsRequest { client_software_name: "floss-sim".to_owned(), client_software_version: "1".to_owned() };
        client.call(&hello).await?;
        Ok(client)
    }

    /// Sends and waits. After an error the connection is not to be used again.
    pub async fn call<R: Rpc>(&mut self, request: &R) -> Result<R::Response, String> {
        let id = self.send(request).await?;
        self.answer::<R>(id).await
    }

    /// Sends one of several requests in flight.
    pub async fn send<R: Rpc>(&mut self, request: &R) -> Result<i32, String> {
        let (id, bytes) = self.connection.send(request).map_err(|error| error.to_string())?;
        // The simulator's stream keeps what is written until it is flushed.
        let write = async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await
        };
        let written = time::timeout(CALL_TIMEOUT, write).await;
        written.map_err(|_| "write timed out".to_owned())?.map_err(|error| format!("write: {}", error.kind()))?;
        Ok(id)
    }

    /// Waits for the answer to `id`, which is the oldest one in flight (answers of one bucket come in order).
    pub async fn answer<R: Rpc>(&mut self, id: i32) -> Result<R::Response, String> {
        let answered = async {
            loop {
                while let Some(reply) = self.connection.next_reply().map_err(|error| error.to_string())? {
                    if reply.request_id == id {
                        return reply.decode::<R>().map_err(|error| error.to_string());
                    }
                }
                let read = self.stream.read_buf(self.connection.read_buffer()).await;
                if read.map_err(|error| format!("read: {}", error.kind()))? == 0 {
                    return Err("closed".to_owned());
                }
            }
        };
        time::timeout(CALL_TIMEOUT, answered).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }
}

/// Where a table is, asked of any node that answers.
pub async fn metadata(addresses: &[String], first: usize, table: &str) -> Result<MetadataResponse, String> {
    let path = PbTablePath { database_name: "fluss".to_owned(), table_name: table.to_owned() };
    let request = MetadataRequest { table_path: vec![path], ..Default::default() };
    let mut last = "no address".to_owned();
    for turn in 0..addresses.len() {
        let address = &addresses[(first + turn) % addresses.len()];
        match async { Client::connect(address).await?.call(&request).await }.await {
            Ok(answer) => return Ok(answer),
            Err(error) => last = error,
        }
    }
    Err(last)
}
