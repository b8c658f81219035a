//! A bare connection to a node: what the wire and the server can do, without what a client library adds.

use crate::exit::{Failure, OrFail};
use bytes::Bytes;
use floss_protocol::connection::ClientConnection;
use floss_protocol::rpc::{ApiVersionsRequest, LookupRequest, PbLookupReqForBucket, Rpc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub struct Wire {
    stream: TcpStream,
    state: ClientConnection,
}

impl Wire {
    pub async fn connect(address: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await.or_fail(format!("connect to {address}"))?;
        stream.set_nodelay(true).or_fail("set up the connection")?;
        let mut wire = Self { stream, state: ClientConnection::new() };
        let hello = ApiVersionsRequest { client_software_name: "floss-bench".into(), client_software_version: "1".into() };
        wire.send(&hello).await?;
        wire.answer::<ApiVersionsRequest>().await?;
        Ok(wire)
    }

    async fn send<R: Rpc>(&mut self, request: &R) -> Result<(), Failure> {
        let (_, bytes) = self.state.send(request).map_err(|error| Failure::failed("send").why(error))?;
        self.stream.write_all(&bytes).await.or_fail("send")
    }

    /// Whichever answer comes next.
    async fn answer<R: Rpc>(&mut self) -> Result<R::Response, Failure> {
        loop {
            let reply = self.state.next_reply().map_err(|error| Failure::failed("receive").why(error))?;
            if let Some(reply) = reply {
                return reply.decode::<R>().map_err(|error| Failure::failed("receive").why(error));
            }
            if self.stream.read_buf(self.state.read_buffer()).await.or_fail("receive")? == 0 {
                return Err(Failure::unreachable("receive").why("the server closed the connection"));
            }
        }
    }

    pub async fn send_lookup(&mut self, table_id: i64, keys: Vec<Bytes>) -> Result<(), Failure> {
        let bucket = PbLookupReqForBucket { bucket_id: 0, keys, ..Default::default() };
        self.send(&LookupRequest { table_id, buckets_req: vec![bucket], ..Default::default() }).await
    }

    /// How many rows the next answer holds.
    pub async fn lookup_answer(&mut self) -> Result<usize, Failure> {
        let answer = self.answer::<LookupRequest>().await?;
        let bucket = answer.buckets_resp.into_iter().next().unwrap_or_default();
        if let Some(message) = bucket.error_message {
            return Err(Failure::failed("look up").why(message));
        }
        Ok(bucket.values.iter().filter(|value| value.values.is_some()).count())
    }
}
