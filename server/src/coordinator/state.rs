//! The catalog as a deterministic machine: databases, tables, placement, nodes, writer ids.

use super::command::{CatalogCommand, CatalogDone, CatalogEntry, CatalogOutcome, InitialNode, NewTable, NodeRegistration};
use super::command::{decode, encode};
use super::placement::{Candidate, place_buckets};
use super::reject::CatalogReject;
use super::sessions::{Seen, Sessions};
use super::table::{BUCKETS_MAX, BucketPlacement, TableInfo, TablePath};
use bytes::Bytes;
use floss_protocol::ids::{BucketId, SchemaId, TableBucket, TableId};
use floss_raft::types::{GroupId, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Exists from the first entry on; cannot be dropped.
pub const DEFAULT_DATABASE: &str = "fluss";

/// The descriptor of a database that was made without one.
pub const EMPTY_DATABASE_JSON: &str = r#"{"version":1,"custom_properties":{}}"#;

/// First byte of a snapshot.
const SNAPSHOT_VERSION: u8 = 3;

/// Former directories remembered per node.
const RETIRED_MAX: usize = 8;
/// Replicas from which the others are a majority, so that they can remove one without it.
const REMOVABLE_REPLICAS_MIN: usize = 3;

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    pub id: NodeId,
    pub peer_address: String,
    /// None until the node has registered for the first time.
    pub registered: Option<Registered>,
    /// A directory with another incarnation asked to be this node: it was wiped.
    pub wiped: Option<Wiped>,
    /// Let in again after it was wiped, when group numbers had come to here: of groups up to this one it holds nothing that it
    /// was not sent since, so it must not write their first membership.
    pub rejoined_after: Option<GroupId>,
    /// Directories that were this node before; they must not come back. Newest last, [`RETIRED_MAX`] of them.
    pub retired: Vec<u64>,
}

/// A node whose directory is gone, with its votes and its entries. Nobody may count on it before each of its groups was rid of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wiped {
    /// The directory that waits to be let in.
    pub by: NodeRegistration,
    /// Groups that may still count on the old directory.
    pub waiting_for: BTreeSet<GroupId>,
}

impl NodeInfo {
    fn new(id: NodeId, peer_address: String, registered: Option<Registered>) -> Self {
        Self { id, peer_address, registered, wiped: None, rejoined_after: None, retired: Vec::new() }
    }

    /// This node may write the first membership of `group`: it was never let in anew since the group was made.
    pub fn may_found(&self, group: GroupId) -> bool {
        self.rejoined_after.is_none_or(|last| group > last)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    pub incarnation: u64,
    pub client_address: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseInfo {
    pub name: String,
    /// As the client sent it, or the empty descriptor.
    pub database_json: String,
    pub created_ms: i64,
    pub modified_ms: i64,
}

/// What a node was given so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    replicas: u64,
    preferred: u64,
}

/// Equal entries in equal order give equal state, byte for byte in [`CatalogState::snapshot`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogState {
    cluster_id: Option<String>,
    nodes: BTreeMap<NodeId, NodeInfo>,
    databases: BTreeMap<String, DatabaseInfo>,
    #[serde(with = "shared_tables")]
    tables: BTreeMap<TableId, Arc<TableInfo>>,
    /// Highest numbers handed out; never go back, so that no number is used twice.
    last_table_id: i64,
    last_partition_id: i64,
    last_group_id: u64,
    last_writer_id: i64,
    /// Highest id given to the auto-increment column of each table that has one.
    last_row_ids: BTreeMap<TableId, i64>,
    sessions: Sessions,
    // What follows is derived from `tables` and not part of a snapshot.
    // Names behind an `Arc`: the whole state is copied for each published view.
    #[serde(skip)]
    paths: BTreeMap<Arc<TablePath>, TableId>,
    #[serde(skip)]
    groups: BTreeMap<GroupId, TableBucket>,
    #[serde(skip)]
    loads: BTreeMap<NodeId, Load>,
}

/// Queries.
impl CatalogState {
    /// None until the cluster is formed.
    pub fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
    }

    /// All members, registered or not, by id.
    pub fn nodes(&self) -> &BTreeMap<NodeId, NodeInfo> {
        &self.nodes
    }

    pub fn databases(&self) -> &BTreeMap<String, DatabaseInfo> {
        &self.databases
    }

    /// Errors: DatabaseNotExist.
    pub fn database(&self, name: &str) -> Result<&DatabaseInfo, CatalogReject> {
        self.databases.get(name).ok_or_else(|| CatalogReject::DatabaseNotExist { database: name.to_owned() })
    }

    /// Tables of a database by name. Errors: DatabaseNotExist.
    pub fn tables_of(&self, database: &str) -> Result<Vec<&Arc<TableInfo>>, CatalogReject> {
        self.database(database)?;
        let from = TablePath::new(database, "");
        let of_database = self.paths.range::<TablePath, _>(from..).take_while(|(path, _)| path.database == database);
        Ok(of_database.filter_map(|(_, id)| self.tables.get(id)).collect())
    }

    /// Errors: TableNotExist.
    pub fn table(&self, path: &TablePath) -> Result<&Arc<TableInfo>, CatalogReject> {
        let found = self.paths.get(path).and_then(|id| self.tables.get(id));
        found.ok_or_else(|| CatalogReject::TableNotExist { path: path.clone() })
    }

    pub fn table_by_id(&self, id: TableId) -> Option<&Arc<TableInfo>> {
        self.tables.get(&id)
    }

    /// All tables by id.
    pub fn tables(&self) -> &BTreeMap<TableId, Arc<TableInfo>> {
        &self.tables
    }

    pub fn bucket(&self, bucket: TableBucket) -> Option<(&Arc<TableInfo>, &BucketPlacement)> {
        let table = self.tables.get(&bucket.table_id)?;
        Some((table, table.buckets.get(&bucket)?))
    }

    /// Which bucket a Raft group is; None for the catalog and for dropped tables.
    pub fn bucket_of_group(&self, group: GroupId) -> Option<TableBucket> {
        self.groups.get(&group).copied()
    }

    /// Highest group number handed out so far: a group up to here that is no bucket was dropped.
    pub fn last_group(&self) -> GroupId {
        GroupId(self.last_group_id)
    }
}

/// Changes.
impl CatalogState {
    /// Applies a committed entry. Never panics, whatever the entry says.
    pub fn apply(&mut self, entry: &CatalogEntry) -> CatalogOutcome {
        match self.sessions.look_up(&entry.request) {
            Seen::Before(outcome) => return outcome,
            Seen::Forgotten => return Err(CatalogReject::RequestForgotten),
            Seen::New => {}
        }
        let outcome = self.execute(&entry.command, entry.now_ms);
        self.sessions.remember(&entry.request, outcome.clone());
        outcome
    }

    fn execute(&mut self, command: &CatalogCommand, now_ms: i64) -> CatalogOutcome {
        if self.cluster_id.is_none() && !matches!(command, CatalogCommand::FormCluster { .. }) {
            return Err(CatalogReject::NotFormed);
        }
        match command {
            CatalogCommand::FormCluster { cluster_id, nodes } => self.form(cluster_id, nodes, now_ms),
            CatalogCommand::RegisterNode(node) => self.register(node),
            CatalogCommand::CreateDatabase { name, ignore_if_exists, database_json } => {
                self.create_database(name, *ignore_if_exists, database_json, now_ms)
            }
            CatalogCommand::DropDatabase { name, ignore_if_not_exists, cascade } => {
                self.drop_database(name, *ignore_if_not_exists, *cascade)
            }
            CatalogCommand::CreateTable { table, ignore_if_exists, suspected } => {
                self.create_table(table, *ignore_if_exists, suspected, now_ms)
            }
            CatalogCommand::DropTable { path, ignore_if_not_exists } => self.drop_table(path, *ignore_if_not_exists),
            CatalogCommand::AllocateWriterIds { count } => {
                let first = self.last_writer_id + 1;
                self.last_writer_id += i64::from(*count);
                Ok(CatalogDone::WriterIds { first, count: *count })
            }
            CatalogCommand::AllocateRowIds { table_id, count } => {
                let last = self.last_row_ids.entry(*table_id).or_insert(0);
                let first = last.saturating_add(1);
                *last = last.saturating_add((*count).max(1));
                Ok(CatalogDone::RowIds { first, end: last.saturating_add(1) })
            }
            CatalogCommand::ReplicasRemoved { node, incarnation, groups } => {
                Ok(self.replicas_removed(*node, *incarnation, groups))
            }
        }
    }

    fn form(&mut self, cluster_id: &str, nodes: &[InitialNode], now_ms: i64) -> CatalogOutcome {
        if let Some(known) = &self.cluster_id {
            return Err(CatalogReject::AlreadyFormed { cluster_id: known.clone() });
        }
        self.cluster_id = Some(cluster_id.to_owned());
        for InitialNode { node, peer_address } in nodes {
            let info = NodeInfo::new(*node, peer_address.clone(), None);
            self.nodes.insert(*node, info);
        }
        self.insert_database(DEFAULT_DATABASE, EMPTY_DATABASE_JSON, now_ms);
        Ok(CatalogDone::Formed { cluster_id: cluster_id.to_owned() })
    }

    /// A known node whose directory was wiped has lost votes and entries that others count on: it is noted and refused until
    /// all its groups are rid of it (see [`CatalogCommand::ReplicasRemoved`]). Until then the old directory may come back.
    fn register(&mut self, node: &NodeRegistration) -> CatalogOutcome {
        let known = self.nodes.get(&node.node).and_then(|info| info.registered.as_ref());
        if let Some(known) = known.map(|known| known.incarnation).filter(|known| *known != node.incarnation) {
            self.note_wiped(node);
            return Err(CatalogReject::WipedNode { node: node.node, known, found: node.incarnation });
        }
        let registered = Registered { incarnation: node.incarnation, client_address: node.client_address.clone() };
        let fresh = || NodeInfo::new(node.node, node.peer_address.clone(), None);
        let info = self.nodes.entry(node.node).or_insert_with(fresh);
        info.peer_address.clone_from(&node.peer_address);
        info.registered = Some(registered);
        info.wiped = None;
        Ok(CatalogDone::Registered)
    }

    fn note_wiped(&mut self, by: &NodeRegistration) {
        let holds = |placement: &BucketPlacement| placement.replicas.contains(&by.node);
        let removable = |placement: &BucketPlacement| placement.replicas.len() >= REMOVABLE_REPLICAS_MIN;
        let placements = self.tables.values().flat_map(|table| table.buckets.values());
        let groups = placements.filter(|placement| holds(placement) && removable(placement)).map(|placement| placement.group);
        let waiting_for = if floss_protocol::mutant!("M04") {
            BTreeSet::new()
        } else {
            std::iter::once(GroupId::CATALOG).chain(groups).collect()
        };
        let Some(info) = self.nodes.get_mut(&by.node) else { return };
        if info.retired.contains(&by.incarnation) {
            return;
        }
        match &mut info.wiped {
            // Wiped once more before it was let in: the groups that are rid of the node stay rid of it.
            Some(wiped) => wiped.by = by.clone(),
            None => info.wiped = Some(Wiped { by: by.clone(), waiting_for }),
        }
        self.let_in(by.node);
    }

    fn replicas_removed(&mut self, node: NodeId, incarnation: u64, groups: &[GroupId]) -> CatalogDone {
        let Some(wiped) = self.nodes.get_mut(&node).and_then(|info| info.wiped.as_mut()) else { return CatalogDone::Ignored };
        if wiped.by.incarnation != incarnation {
            return CatalogDone::Ignored;
        }
        groups.iter().for_each(|group| _ = wiped.waiting_for.remove(group));
        let waiting_for = wiped.waiting_for.len() as u64;
        self.let_in(node);
        CatalogDone::ReplicasRemoved { waiting_for }
    }

    /// If nobody counts on its old directory any more.
    fn let_in(&mut self, node: NodeId) {
        let last_group = self.last_group();
        let Some(info) = self.nodes.get_mut(&node) else { return };
        let Some(wiped) = info.wiped.take_if(|wiped| wiped.waiting_for.is_empty()) else { return };
        let registered = Registered { incarnation: wiped.by.incarnation, client_address: wiped.by.client_address };
        if let Some(old) = info.registered.replace(registered) {
            info.retired.push(old.incarnation);
            let forgotten = info.retired.len().saturating_sub(RETIRED_MAX);
            info.retired.drain(..forgotten);
        }
        info.peer_address = wiped.by.peer_address;
        info.rejoined_after = Some(last_group);
    }

    fn create_database(&mut self, name: &str, ignore_if_exists: bool, database_json: &str, now_ms: i64) -> CatalogOutcome {
        if self.databases.contains_key(name) {
            let exists = CatalogReject::DatabaseExists { database: name.to_owned() };
            return if ignore_if_exists { Ok(CatalogDone::Ignored) } else { Err(exists) };
        }
        self.insert_database(name, database_json, now_ms);
        Ok(CatalogDone::DatabaseCreated)
    }

    fn insert_database(&mut self, name: &str, database_json: &str, now_ms: i64) {
        let info = DatabaseInfo {
            name: name.to_owned(),
            database_json: database_json.to_owned(),
            created_ms: now_ms,
            modified_ms: now_ms,
        };
        self.databases.insert(name.to_owned(), info);
    }

    fn drop_database(&mut self, name: &str, ignore_if_not_exists: bool, cascade: bool) -> CatalogOutcome {
        let tables: Vec<TableId> = match self.tables_of(name) {
            Ok(tables) => tables.iter().map(|table| table.id).collect(),
            Err(_) if ignore_if_not_exists => return Ok(CatalogDone::Ignored),
            Err(missing) => return Err(missing),
        };
        if name == DEFAULT_DATABASE {
            return Err(CatalogReject::InvalidDatabase { reason: format!("the default database {name} cannot be dropped") });
        }
        if !tables.is_empty() && !cascade {
            return Err(CatalogReject::DatabaseNotEmpty { database: name.to_owned(), tables: tables.len() as u64 });
        }
        for table in tables {
            self.remove_table(table);
        }
        self.databases.remove(name);
        Ok(CatalogDone::DatabaseDropped)
    }

    fn create_table(&mut self, new: &NewTable, ignore_if_exists: bool, suspected: &[NodeId], now_ms: i64) -> CatalogOutcome {
        let (bucket_count, factor) = self.check_sizes(new, suspected)?;
        self.database(&new.path.database)?;
        if self.paths.contains_key(&new.path) {
            let exists = CatalogReject::TableExists { path: new.path.clone() };
            return if ignore_if_exists { Ok(CatalogDone::Ignored) } else { Err(exists) };
        }
        self.last_table_id += 1;
        let id = TableId(self.last_table_id);
        // A partitioned table has no buckets before it has partitions.
        let placed_count = if new.partition_keys.is_empty() { bucket_count } else { 0 };
        let places = place_buckets(self.candidates(suspected), placed_count, factor);
        let mut buckets = BTreeMap::new();
        for (number, place) in (0..).zip(places) {
            self.last_group_id += 1;
            let bucket = TableBucket { table_id: id, partition_id: None, bucket: BucketId(number) };
            let group = GroupId(self.last_group_id);
            buckets.insert(bucket, BucketPlacement { group, replicas: place.replicas, preferred: place.preferred });
        }
        let table = TableInfo {
            id,
            path: new.path.clone(),
            table_json: new.table_json.clone(),
            settings: new.settings.clone(),
            schemas: BTreeMap::from([(SchemaId(1), new.schema_json.clone())]),
            bucket_count: new.bucket_count,
            partition_keys: new.partition_keys.clone(),
            replication_factor: new.replication_factor,
            created_ms: now_ms,
            modified_ms: now_ms,
            buckets,
        };
        self.index_table(&table);
        self.tables.insert(id, Arc::new(table));
        Ok(CatalogDone::TableCreated { table_id: id })
    }

    /// Validated before it was proposed, but against an older view: checked again.
    fn check_sizes(&self, new: &NewTable, suspected: &[NodeId]) -> Result<(usize, usize), CatalogReject> {
        let nodes = self.candidates(suspected).len();
        let factor = usize::try_from(new.replication_factor).ok().filter(|factor| (1..=nodes).contains(factor));
        let invalid = CatalogReject::InvalidReplicationFactor { factor: new.replication_factor, nodes: nodes as u64 };
        let factor = factor.ok_or(invalid)?;
        if new.bucket_count > BUCKETS_MAX {
            return Err(CatalogReject::TooManyBuckets { count: new.bucket_count, limit: BUCKETS_MAX });
        }
        let bucket_count = usize::try_from(new.bucket_count).ok().filter(|count| *count >= 1);
        let bucket_count =
            bucket_count.ok_or_else(|| CatalogReject::InvalidTable { reason: format!("bucket count {}", new.bucket_count) })?;
        Ok((bucket_count, factor))
    }

    fn candidates(&self, suspected: &[NodeId]) -> Vec<Candidate> {
        let usable = self.nodes.values().filter(|info| info.wiped.is_none());
        usable
            .map(|info| {
                let load = self.loads.get(&info.id).copied().unwrap_or_default();
                let doubtful = info.registered.is_none() || suspected.contains(&info.id);
                Candidate { node: info.id, doubtful, replicas: load.replicas, preferred: load.preferred }
            })
            .collect()
    }

    fn drop_table(&mut self, path: &TablePath, ignore_if_not_exists: bool) -> CatalogOutcome {
        let table_id = match self.table(path) {
            Ok(table) => table.id,
            Err(_) if ignore_if_not_exists => return Ok(CatalogDone::Ignored),
            Err(missing) => return Err(missing),
        };
        self.remove_table(table_id);
        Ok(CatalogDone::TableDropped { table_id })
    }

    fn remove_table(&mut self, id: TableId) {
        let Some(table) = self.tables.remove(&id) else { return };
        self.last_row_ids.remove(&id);
        self.paths.remove(&table.path);
        for placement in table.buckets.values() {
            self.groups.remove(&placement.group);
            for wiped in self.nodes.values_mut().filter_map(|info| info.wiped.as_mut()) {
                wiped.waiting_for.remove(&placement.group);
            }
            for node in &placement.replicas {
                let load = self.loads.entry(*node).or_default();
                load.replicas -= 1;
                load.preferred -= u64::from(*node == placement.preferred);
                if *load == Load::default() {
                    self.loads.remove(node);
                }
            }
        }
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.let_in(node);
        }
    }

    fn index_table(&mut self, table: &TableInfo) {
        self.paths.insert(Arc::new(table.path.clone()), table.id);
        for (bucket, placement) in &table.buckets {
            self.groups.insert(placement.group, *bucket);
            for node in &placement.replicas {
                let load = self.loads.entry(*node).or_default();
                load.replicas += 1;
                load.preferred += u64::from(*node == placement.preferred);
            }
        }
    }
}

/// Snapshots: version byte, then postcard of everything that is not derived.
impl CatalogState {
    pub fn snapshot(&self) -> Bytes {
        Bytes::from(encode(SNAPSHOT_VERSION, self))
    }

    /// Errors: not a snapshot of this version.
    pub fn restore(bytes: &[u8]) -> Result<Self, String> {
        let mut state: Self = decode(SNAPSHOT_VERSION, bytes)?;
        if floss_protocol::mutant!("K24") {
            state.last_row_ids.clear();
        }
        let tables: Vec<Arc<TableInfo>> = state.tables.values().cloned().collect();
        for table in tables {
            state.index_table(&table);
        }
        Ok(state)
    }
}

/// Tables as a plain sequence: each carries its id, and serde does not see the `Arc`.
mod shared_tables {
    use super::{Arc, BTreeMap, TableId, TableInfo};
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(tables: &BTreeMap<TableId, Arc<TableInfo>>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(tables.values().map(|table| &**table))
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<BTreeMap<TableId, Arc<TableInfo>>, D::Error> {
        let tables = Vec::<TableInfo>::deserialize(from)?;
        Ok(tables.into_iter().map(|table| (table.id, Arc::new(table))).collect())
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
