//! What `floss dev` remembers about a cluster: `DIR/cluster.json`.

use crate::exit::{Failure, OrFail};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterState {
    pub nodes: Vec<NodeState>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeState {
    pub id: u64,
    pub pid: u32,
    pub address: String,
    pub peer_address: String,
    pub admin_address: String,
    pub data_dir: PathBuf,
}

impl ClusterState {
    pub fn exists(dir: &Path) -> bool {
        file(dir).exists()
    }

    pub fn load(dir: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(file(dir)).map_err(|error| {
            Failure::not_found(format!("no dev cluster in {}", dir.display())).why(error).next("floss dev up")
        })?;
        serde_json::from_str(&text).map_err(|error| Failure::failed(format!("read {}", file(dir).display())).why(error))
    }

    /// Appears whole or not at all: other verbs read it while this one writes.
    pub fn save(&self, dir: &Path) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Failure::failed("encode state").why(error))?;
        let draft = file(dir).with_extension("json.draft");
        std::fs::write(&draft, text).or_fail(format!("write {}", draft.display()))?;
        std::fs::rename(&draft, file(dir)).or_fail(format!("write {}", file(dir).display()))
    }

    pub fn bootstrap_servers(&self) -> String {
        self.nodes.iter().map(|node| node.address.as_str()).collect::<Vec<_>>().join(",")
    }

    /// Indexes of the nodes that `name` (an id or `all`) means.
    pub fn select(&self, name: &str) -> Result<Vec<usize>, Failure> {
        if name == "all" {
            return Ok((0..self.nodes.len()).collect());
        }
        let found = self.nodes.iter().position(|node| node.id.to_string() == name);
        found.map(|index| vec![index]).ok_or_else(|| {
            let ids: Vec<String> = self.nodes.iter().map(|node| node.id.to_string()).collect();
            Failure::not_found(format!("no node {name}")).why(format!("expected one of {} or all", ids.join(", ")))
        })
    }

    /// Removes what `up` made in `dir`, and nothing else.
    pub fn wipe(&self, dir: &Path) -> Result<(), Failure> {
        for node in &self.nodes {
            let home = node_dir(dir, node.id);
            if home.exists() {
                std::fs::remove_dir_all(&home).or_fail(format!("remove {}", home.display()))?;
            }
        }
        std::fs::remove_file(file(dir)).or_fail(format!("remove {}", file(dir).display()))
    }
}

pub fn node_dir(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("node-{id}"))
}

fn file(dir: &Path) -> PathBuf {
    dir.join("cluster.json")
}
