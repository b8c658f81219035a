//! The buckets that this node has a replica of.

use super::error::ReplicaError;
use super::replica::Replica;
use floss_protocol::ids::TableBucket;
use floss_raft::types::GroupId;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

#[derive(Default)]
pub(crate) struct Replicas {
    maps: RwLock<Maps>,
}

#[derive(Default)]
struct Maps {
    by_bucket: BTreeMap<TableBucket, Arc<Replica>>,
    by_group: BTreeMap<GroupId, Arc<Replica>>,
}

impl Replicas {
    pub fn insert(&self, replica: Arc<Replica>) {
        let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
        maps.by_group.insert(replica.group_id, replica.clone());
        maps.by_bucket.insert(replica.bucket, replica);
    }

    pub fn remove(&self, group: GroupId) -> Option<Arc<Replica>> {
        let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
        let replica = maps.by_group.remove(&group)?;
        maps.by_bucket.remove(&replica.bucket);
        Some(replica)
    }

    pub fn get(&self, bucket: TableBucket) -> Result<Arc<Replica>, ReplicaError> {
        let maps = self.maps.read().unwrap_or_else(PoisonError::into_inner);
        maps.by_bucket.get(&bucket).cloned().ok_or(ReplicaError::Unknown { bucket })
    }

    pub fn by_group(&self, group: GroupId) -> Option<Arc<Replica>> {
        self.maps.read().unwrap_or_else(PoisonError::into_inner).by_group.get(&group).cloned()
    }

    /// In order of their groups.
    pub fn all(&self) -> Vec<Arc<Replica>> {
        self.maps.read().unwrap_or_else(PoisonError::into_inner).by_group.values().cloned().collect()
    }
}
