//! `floss node`.

use crate::Global;
use crate::connect::connect;
use crate::exit::{Failure, OrFail};
use crate::output::{Listing, Output};
use clap::Subcommand;
use fluss::ServerType;
use serde_json::json;
use std::time::Duration;

const PROBE_WAIT: Duration = Duration::from_secs(2);

#[derive(Subcommand)]
pub enum NodeVerb {
    /// The nodes of the cluster and whether they answer
    #[command(alias = "ls", after_help = "Examples:\n  floss node list\n  floss node list -o json")]
    List,
}

pub async fn run(verb: NodeVerb, global: &Global, output: &Output) -> Result<(), Failure> {
    let NodeVerb::List = verb;
    let connection = connect(global).await?;
    let admin = connection.get_admin().or_fail("open the admin client")?;
    let nodes = admin.get_server_nodes().await.or_fail("list nodes")?;
    let coordinator = nodes.iter().find(|node| *node.server_type() == ServerType::CoordinatorServer).map(|node| node.url());
    let mut tablets: Vec<_> = nodes.iter().filter(|node| *node.server_type() == ServerType::TabletServer).collect();
    tablets.sort_by_key(|node| node.id());
    let mut rows = Vec::new();
    for node in tablets {
        let answers = matches!(tokio::time::timeout(PROBE_WAIT, tokio::net::TcpStream::connect(node.url())).await, Ok(Ok(_)));
        rows.push(vec![
            json!(node.id()),
            json!(node.url()),
            json!(if answers { "up" } else { "down" }),
            json!(coordinator.as_deref() == Some(&node.url())),
        ]);
    }
    output.listing(&Listing { name: "node.list", columns: vec!["id", "address", "status", "coordinator"], rows })
}
