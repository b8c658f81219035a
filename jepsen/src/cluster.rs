//! A cluster under test, operated through the `floss` binary only: the operator's tool is under test as well.

use anyhow::{Context, bail};
use serde::Deserialize;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

pub struct Cluster {
    floss: PathBuf,
    pub dir: PathBuf,
    pub bootstrap: String,
    pub nodes: Vec<u64>,
}

#[derive(Deserialize)]
struct ClusterJson {
    bootstrap_servers: String,
    nodes: Vec<NodeJson>,
}

#[derive(Deserialize)]
struct NodeJson {
    id: u64,
}

impl Cluster {
    pub fn up(floss: PathBuf, dir: PathBuf, nodes: usize) -> anyhow::Result<Self> {
        let mut cluster = Self { floss, dir, bootstrap: String::new(), nodes: Vec::new() };
        cluster.dev(&["up", "--nodes", &nodes.to_string(), "--detach"])?;
        let json = cluster.dev(&["print", "cluster-json"])?;
        let json: ClusterJson = serde_json::from_slice(&json.stdout).context("read cluster-json")?;
        cluster.bootstrap = json.bootstrap_servers;
        cluster.nodes = json.nodes.iter().map(|node| node.id).collect();
        Ok(cluster)
    }

    pub fn kill(&self, node: u64) -> anyhow::Result<()> {
        self.dev(&["kill", &node.to_string()]).map(drop)
    }

    pub fn restart(&self, node: u64) -> anyhow::Result<()> {
        self.dev(&["restart", &node.to_string()]).map(drop)
    }

    /// Waits until every replica is there again.
    pub fn wait_healthy(&self, time: Duration) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let seconds = time.as_secs().to_string();
        let health = ["--bootstrap", &self.bootstrap, "cluster", "health", "--exit-when-healthy", "--timeout", &seconds];
        self.floss(&health).map(|_| began.elapsed())
    }

    /// Deletes the rows of a node that is down; its log stays.
    pub fn lose_rows(&self, node: u64) -> anyhow::Result<()> {
        let rows = self.data_dir(node).join("kv");
        std::fs::remove_dir_all(&rows).with_context(|| format!("remove {}", rows.display()))
    }

    /// What a stopped node's store of rows holds, bucket by bucket.
    pub fn rows_of(&self, node: u64) -> anyhow::Result<String> {
        let output = self.floss(&["inspect", "kv", &self.data_dir(node).display().to_string(), "-o", "jsonl"])?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn data_dir(&self, node: u64) -> PathBuf {
        self.dir.join(format!("node-{node}")).join("data")
    }

    /// Gracefully; the data stays.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.dev(&["down"]).map(drop)
    }

    pub fn down(&self) -> anyhow::Result<()> {
        self.dev(&["down", "--wipe"]).map(drop)
    }

    fn dev(&self, words: &[&str]) -> anyhow::Result<Output> {
        let dir = self.dir.display().to_string();
        let mut all = vec!["dev"];
        all.extend(words);
        all.extend(["--dir", &dir]);
        self.floss(&all)
    }

    fn floss(&self, words: &[&str]) -> anyhow::Result<Output> {
        let output = Command::new(&self.floss).args(words).output().with_context(|| format!("run {}", self.floss.display()))?;
        if !output.status.success() {
            bail!("floss {} ended with {}: {}", words.join(" "), output.status, String::from_utf8_lossy(&output.stderr));
        }
        Ok(output)
    }
}
