//! `floss dev up`.

use super::state::{ClusterState, NodeState, node_dir};
use super::{Dir, process};
use crate::connect::connect_with;
use crate::exit::{Failure, OrFail};
use crate::output::Output;
use clap::Args;
use fluss::ServerType;
use fluss::config::Config;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

/// Clients' default port, and the two listeners beside it.
const FIRST_PORT: u16 = 9123;
const PEER_PORT_STEP: u16 = 100;
const ADMIN_PORT_STEP: u16 = 200;
const READY_WAIT: Duration = Duration::from_secs(30);

#[derive(Args)]
pub struct Up {
    /// How many nodes, 1 to 9
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=9))]
    nodes: u64,
    #[command(flatten)]
    dir: Dir,
    /// Return when the cluster serves; without it, Ctrl-C stops the nodes
    #[arg(long)]
    detach: bool,
}

pub async fn run(up: Up, output: &Output) -> Result<(), Failure> {
    let began = Instant::now();
    let state = bring_up(&up.dir.dir, up.nodes, output).await?;
    output.note(format!(
        "{} nodes up after {:.1} s, data in {}\n  bootstrap  {}\n  next       floss table create NAME --like FILE, floss append NAME FILE, floss scan NAME",
        state.nodes.len(),
        began.elapsed().as_secs_f64(),
        up.dir.dir.display(),
        state.bootstrap_servers(),
    ));
    if up.detach {
        return Ok(());
    }
    let interrupted = tokio::signal::ctrl_c().await;
    process::stop_all(&state.nodes).await?;
    interrupted.or_fail("wait for Ctrl-C")
}

/// Starts what does not run in `dir` and waits until clients are served.
pub async fn bring_up(dir: &Path, nodes: u64, output: &Output) -> Result<ClusterState, Failure> {
    std::fs::create_dir_all(dir).or_fail(format!("create {}", dir.display()))?;
    let dir = &dir.canonicalize().or_fail(format!("resolve {}", dir.display()))?;
    let mut state = if ClusterState::exists(dir) { again(dir, nodes, output)? } else { fresh(dir, nodes)? };
    for node in &mut state.nodes {
        if process::status(node) == "down" {
            node.pid = process::spawn(dir, node)?;
        }
    }
    state.save(dir)?;
    for node in &state.nodes {
        process::wait_port(node).await?;
    }
    wait_formed(&state).await?;
    Ok(state)
}

/// The cluster that is there already, possibly stopped.
fn again(dir: &Path, nodes: u64, output: &Output) -> Result<ClusterState, Failure> {
    let state = ClusterState::load(dir)?;
    if state.nodes.len() as u64 != nodes {
        output.note(format!("{} holds a cluster of {} nodes, --nodes {nodes} is ignored", dir.display(), state.nodes.len()));
    }
    Ok(state)
}

fn fresh(dir: &Path, count: u64) -> Result<ClusterState, Failure> {
    let ports = ports(count as u16)?;
    let nodes: Vec<NodeState> = (1..=count)
        .zip(ports)
        .map(|(id, [client, peer, admin])| NodeState {
            id,
            pid: 0,
            address: format!("127.0.0.1:{client}"),
            peer_address: format!("127.0.0.1:{peer}"),
            admin_address: format!("127.0.0.1:{admin}"),
            data_dir: node_dir(dir, id).join("data"),
        })
        .collect();
    let initial: Vec<String> = nodes.iter().map(|node| format!("{}={}", node.id, node.peer_address)).collect();
    for node in &nodes {
        let mut table = toml::Table::new();
        table.insert("node_id".to_string(), toml::Value::Integer(node.id as i64));
        table.insert("data_dir".to_string(), node.data_dir.display().to_string().into());
        table.insert("listen".to_string(), node.address.clone().into());
        table.insert("peer_listen".to_string(), node.peer_address.clone().into());
        table.insert("admin_listen".to_string(), node.admin_address.clone().into());
        table.insert("initial_nodes".to_string(), initial.clone().into());
        let home = node_dir(dir, node.id);
        std::fs::create_dir_all(&home).or_fail(format!("create {}", home.display()))?;
        let file = home.join("floss.toml");
        std::fs::write(&file, table.to_string()).or_fail(format!("write {}", file.display()))?;
    }
    Ok(ClusterState { nodes })
}

/// Client, peer and admin port per node: the usual ones if all are free, else any free ones.
fn ports(count: u16) -> Result<Vec<[u16; 3]>, Failure> {
    let usual: Vec<[u16; 3]> = (0..count).map(|n| FIRST_PORT + n).map(|p| [p, p + PEER_PORT_STEP, p + ADMIN_PORT_STEP]).collect();
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    if usual.iter().flatten().all(free) {
        return Ok(usual);
    }
    // All held until all are chosen, so that none is given out twice.
    let mut held = Vec::new();
    for _ in 0..count * 3 {
        held.push(TcpListener::bind(("127.0.0.1", 0)).or_fail("find a free port")?);
    }
    let mut numbers = Vec::new();
    for listener in &held {
        numbers.push(listener.local_addr().or_fail("find a free port")?.port());
    }
    Ok(numbers.chunks(3).map(|chunk| [chunk[0], chunk[1], chunk[2]]).collect())
}

/// Waits until clients see a coordinator and every node.
async fn wait_formed(state: &ClusterState) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        match formed(state).await {
            Ok(true) => return Ok(()),
            Ok(false) if began.elapsed() < READY_WAIT => {}
            Err(_) if began.elapsed() < READY_WAIT => {}
            Ok(false) => return Err(Failure::timed_out("the cluster did not form within 30 s")),
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn formed(state: &ClusterState) -> Result<bool, Failure> {
    let config = Config { bootstrap_servers: state.bootstrap_servers(), ..Default::default() };
    let connection = connect_with(config).await?;
    let admin = connection.get_admin().or_fail("open the admin client")?;
    let nodes = admin.get_server_nodes().await.or_fail("list nodes")?;
    let tablets = nodes.iter().filter(|node| *node.server_type() == ServerType::TabletServer).count();
    let coordinator = nodes.iter().any(|node| *node.server_type() == ServerType::CoordinatorServer);
    // A round trip through the catalog: its leader answers.
    let databases = admin.list_databases().await.or_fail("list databases")?;
    Ok(coordinator && tablets >= state.nodes.len() && !databases.is_empty())
}
