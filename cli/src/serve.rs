//! `floss server run`: one node in the foreground.

use crate::exit::{Failure, OrFail};
use clap::{Args, Subcommand};
use floss_server::config::NodeConfig;
use floss_server::node::{self, Seams};
use std::path::PathBuf;
use std::sync::Arc;
use tracing_subscriber::EnvFilter;

#[derive(Subcommand)]
pub enum ServerVerb {
    /// Run a node until it is told to stop (SIGTERM, Ctrl-C: leadership is handed over first)
    #[command(after_help = "Examples:\n  floss server run --config node-1.toml\n  \
        floss server run --node-id 1 --data-dir /var/lib/floss --listen 0.0.0.0:9123 --peer-listen 0.0.0.0:9223 \\\n    \
        --initial-nodes 1=a:9223,2=b:9223,3=c:9223")]
    Run(Box<Run>),
}

/// Every key of the file is also a flag; a flag wins.
#[derive(Args)]
pub struct Run {
    /// TOML file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[arg(long)]
    node_id: Option<u64>,
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Client protocol
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// What clients are told
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Raft transport
    #[arg(long, value_name = "HOST:PORT")]
    peer_listen: Option<String>,
    #[arg(long, value_name = "HOST:PORT")]
    peer_advertise: Option<String>,
    /// HTTP: health and metrics
    #[arg(long, value_name = "HOST:PORT")]
    admin_listen: Option<String>,
    /// The same list on every first node
    #[arg(long, value_name = "ID=HOST:PEER_PORT", value_delimiter = ',')]
    initial_nodes: Vec<String>,
    /// Peers of a running cluster to join
    #[arg(long, value_name = "HOST:PEER_PORT", value_delimiter = ',')]
    join: Vec<String>,
    /// This node was wiped and its old directory is gone for good: let it in again
    #[arg(long)]
    rejoin: bool,
    /// Log lines as JSON
    #[arg(long)]
    log_json: bool,
}

pub fn run(verb: ServerVerb) -> Result<(), Failure> {
    let ServerVerb::Run(flags) = verb;
    start_logging(flags.log_json);
    let config = config(*flags)?;
    // One thread for network, Raft and reads; the journal writes and syncs elsewhere.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("start the runtime").why(error))?;
    runtime.block_on(serve(config))
}

async fn serve(config: NodeConfig) -> Result<(), Failure> {
    let root = PathBuf::from(&config.data_dir);
    std::fs::create_dir_all(&root).or_fail(format!("create data directory {}", root.display()))?;
    let node_id = config.node_id;
    let kv = floss_server::os::kv(&root).map_err(|error| Failure::failed("open the store of rows").why(error))?;
    let seams = Seams {
        disk: Arc::new(floss_server::os::disk(root)),
        kv,
        clock: Arc::new(floss_server::os::clock()),
        wrap_transport: Seams::plain_transport(),
    };
    let node = node::open(config, seams).await.map_err(|error| Failure::failed(format!("start node {node_id}")).why(error))?;
    tracing::info!(node = node_id, clients = node.client_address(), "node is up");
    tokio::select! {
        biased;
        stop = wait_for_stop() => stop?,
        reason = node.failed() => return Err(Failure::failed(format!("node {node_id} cannot take part")).why(reason)),
    }
    tracing::info!(node = node_id, "stopping: handing leadership over");
    node.stop().await;
    Ok(())
}

async fn wait_for_stop() -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).or_fail("listen for SIGTERM")?;
    tokio::select! {
        biased;
        _ = terminate.recv() => Ok(()),
        result = tokio::signal::ctrl_c() => result.or_fail("listen for Ctrl-C"),
    }
}

fn start_logging(json: bool) {
    let filter = EnvFilter::try_from_env("FLOSS_LOG").unwrap_or_else(|_| EnvFilter::new("info,openraft=error"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if json { builder.json().init() } else { builder.with_ansi(false).init() }
}

fn config(flags: Run) -> Result<NodeConfig, Failure> {
    let mut table = match &flags.config {
        Some(path) => {
            let text = std::fs::read_to_string(path).or_fail(format!("read {}", path.display()))?;
            text.parse::<toml::Table>().map_err(|error| Failure::usage(format!("parse {}", path.display())).why(error))?
        }
        None => toml::Table::new(),
    };
    let mut text = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            table.insert(key.to_string(), toml::Value::String(value));
        }
    };
    text("data_dir", flags.data_dir);
    text("listen", flags.listen);
    text("advertise", flags.advertise);
    text("peer_listen", flags.peer_listen);
    text("peer_advertise", flags.peer_advertise);
    text("admin_listen", flags.admin_listen);
    if let Some(id) = flags.node_id {
        table.insert("node_id".to_string(), toml::Value::Integer(id as i64));
    }
    if flags.rejoin {
        table.insert("rejoin".to_string(), toml::Value::Boolean(true));
    }
    for (key, list) in [("initial_nodes", flags.initial_nodes), ("join", flags.join)] {
        if !list.is_empty() {
            table.insert(key.to_string(), list.into());
        }
    }
    let config: NodeConfig = table
        .try_into()
        .map_err(|error| Failure::usage("configuration").why(error).next("floss server run --help lists the keys"))?;
    if config.data_dir.is_empty() {
        return Err(Failure::usage("configuration").why("data_dir is missing, expected a directory"));
    }
    Ok(config)
}
