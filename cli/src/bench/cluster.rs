//! The cluster under measurement: real processes, and their CPU time.

use crate::connect::connect_with;
use crate::dev::state::{ClusterState, NodeState};
use crate::dev::{process, up};
use crate::exit::{Failure, OrFail};
use crate::output::Output;
use fluss::client::{FlussConnection, FlussTable};
use fluss::config::Config;
use fluss::metadata::{Schema, TableBucket, TableDescriptor, TablePath};
use std::path::PathBuf;

pub struct BenchCluster {
    pub dir: PathBuf,
    remove: bool,
    state: ClusterState,
}

impl BenchCluster {
    pub async fn up(dir: Option<PathBuf>, nodes: u64, output: &Output) -> Result<Self, Failure> {
        let remove = dir.is_none();
        let dir = dir.unwrap_or_else(|| std::env::temp_dir().join(format!("floss-bench-{}", std::process::id())));
        let state = up::bring_up(&dir, nodes, output).await?;
        Ok(Self { dir, remove, state })
    }

    pub async fn down(self) -> Result<(), Failure> {
        process::stop_all(&self.state.nodes).await?;
        if self.remove {
            std::fs::remove_dir_all(&self.dir).or_fail(format!("remove {}", self.dir.display()))?;
        }
        Ok(())
    }

    pub async fn connect(&self, change: impl FnOnce(&mut Config)) -> Result<FlussConnection, Failure> {
        let mut config = Config { bootstrap_servers: self.state.bootstrap_servers(), ..Default::default() };
        change(&mut config);
        connect_with(config).await
    }

    /// User plus system seconds of all nodes so far.
    pub fn cpu_seconds(&self) -> Result<f64, Failure> {
        self.state.nodes.iter().map(cpu_seconds).sum()
    }

    /// Of the node that clients reach at `address`.
    pub fn cpu_seconds_at(&self, address: &str) -> Result<f64, Failure> {
        let node = self.state.nodes.iter().find(|node| node.address == address);
        cpu_seconds(node.ok_or_else(|| Failure::failed("measure a node").why(format!("nobody listens at {address}")))?)
    }

    /// Resident bytes of all nodes.
    pub fn resident_mib(&self) -> f64 {
        let kib = |pid: u32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).map(str::trim).unwrap_or("0");
            line.split(' ').next().and_then(|number| number.parse::<f64>().ok()).unwrap_or(0.0)
        };
        self.state.nodes.iter().map(|node| kib(node.pid)).sum::<f64>() / 1024.0
    }
}

fn cpu_seconds(node: &NodeState) -> Result<f64, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", node.pid)).or_fail(format!("node {} is gone", node.id))?;
    // Fields 14 and 15, counted from behind the command's closing bracket (field 2).
    let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
    let ticks: u64 = [11, 12].iter().filter_map(|field| fields.get(*field)?.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The node that leads the only bucket of a table.
pub async fn leader(connection: &FlussConnection, table: &FlussTable<'_>, path: &TablePath) -> Result<String, Failure> {
    let bucket = TableBucket::new(table.get_table_info().get_table_id(), 0);
    connection.get_metadata().update_table_metadata(path).await.or_fail("find the leader")?;
    let leader = connection.get_metadata().get_cluster().leader_for(&bucket).cloned();
    let leader = leader.ok_or_else(|| Failure::failed("find the leader"))?;
    Ok(format!("{}:{}", leader.host(), leader.port()))
}

/// A fresh log table, uncompressed so that the client's codec is not what is measured.
pub async fn create(connection: &FlussConnection, name: &str, schema: Schema, buckets: i32) -> Result<TablePath, Failure> {
    let path = TablePath::new("fluss", name);
    let admin = connection.get_admin().or_fail("open the admin client")?;
    admin.drop_table(&path, true).await.or_fail(format!("drop {path}"))?;
    let descriptor = TableDescriptor::builder()
        .schema(schema)
        .distributed_by(Some(buckets), vec![])
        .property("table.log.arrow.compression.type", "NONE")
        .build()
        .or_fail("describe the bench table")?;
    admin.create_table(&path, &descriptor, false).await.or_fail(format!("create {path}"))?;
    Ok(path)
}

pub async fn open<'a>(connection: &'a FlussConnection, path: &TablePath) -> Result<FlussTable<'a>, Failure> {
    connection.get_table(path).await.or_fail(format!("open {path}"))
}
