//! `floss bucket`.

use crate::Global;
use crate::connect::{bootstrap, table_path};
use crate::exit::{Failure, OrFail};
use crate::output::{Listing, Output};
use clap::Subcommand;
use floss_protocol::connection::ClientConnection;
use floss_protocol::rpc::{ApiVersionsRequest, MetadataRequest, PbTablePath, Rpc};
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CALL_WAIT: Duration = Duration::from_secs(10);

#[derive(Subcommand)]
pub enum BucketVerb {
    /// Leader and replicas of every bucket of a table
    #[command(alias = "ls", after_help = "Examples:\n  floss bucket list shop.orders\n  floss bucket list shop.orders -o json")]
    List { table: String },
}

pub async fn run(verb: BucketVerb, global: &Global, output: &Output) -> Result<(), Failure> {
    let BucketVerb::List { table } = verb;
    let path = table_path(&table)?;
    let mut server = Server::connect(&bootstrap(global)?).await?;
    let table_path = PbTablePath { database_name: path.database().to_string(), table_name: path.table().to_string() };
    let answer = server.call(&MetadataRequest { table_path: vec![table_path], ..Default::default() }).await?;
    let buckets = answer.table_metadata.iter().flat_map(|table| &table.bucket_metadata);
    let rows = buckets.map(|bucket| {
        vec![json!(bucket.bucket_id), json!(bucket.leader_id), json!(bucket.leader_epoch), json!(bucket.replica_id)]
    });
    output.listing(&Listing { name: "bucket.list", columns: vec!["bucket", "leader", "term", "replicas"], rows: rows.collect() })
}

/// One connection that speaks the protocol itself: the official client does not hand out replica lists.
struct Server {
    stream: TcpStream,
    connection: ClientConnection,
}

impl Server {
    async fn connect(servers: &str) -> Result<Self, Failure> {
        let mut last = None;
        for address in servers.split(',') {
            match TcpStream::connect(address.trim()).await {
                Ok(stream) => {
                    let mut server = Self { stream, connection: ClientConnection::new() };
                    let who = ApiVersionsRequest {
                        client_software_name: "floss-cli".to_string(),
                        client_software_version: env!("CARGO_PKG_VERSION").to_string(),
                    };
                    server.call(&who).await?;
                    return Ok(server);
                }
                Err(error) => last = Some(error),
            }
        }
        let why = last.map_or("the list is empty".to_string(), |error| error.to_string());
        Err(Failure::unreachable(format!("connect to {servers}")).why(why).next("check --bootstrap"))
    }

    async fn call<R: Rpc>(&mut self, request: &R) -> Result<R::Response, Failure> {
        let failed = |why: String| Failure::failed("ask the cluster").why(why);
        let (id, bytes) = self.connection.send(request).map_err(|error| failed(error.to_string()))?;
        self.stream.write_all(&bytes).await.or_fail("send a request")?;
        let answered = async {
            loop {
                while let Some(reply) = self.connection.next_reply().map_err(|error| failed(error.to_string()))? {
                    if reply.request_id == id {
                        return reply.decode::<R>().map_err(|error| failed(error.to_string()));
                    }
                }
                let read = self.stream.read_buf(self.connection.read_buffer()).await.or_fail("read an answer")?;
                if read == 0 {
                    return Err(failed("the connection closed".to_string()));
                }
            }
        };
        tokio::time::timeout(CALL_WAIT, answered).await.unwrap_or_else(|_| Err(Failure::timed_out("no answer within 10 s")))
    }
}
