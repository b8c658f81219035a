//! The rows that `bench lookup` and `bench upsert` share: in a table of the cluster, and in a store of our own beside it.

use super::cluster::BenchCluster;
use crate::exit::{Failure, OrFail};
use bytes::Bytes;
use floss_protocol::ids::SchemaId;
use floss_protocol::kv_batch::join_value;
use floss_protocol::row::{Value, encode_compacted_row, encode_key};
use floss_protocol::schema::{DataType, TypeKind};
use floss_server::os::rows::{KvBucketId, KvPosition, KvRow, KvStore, KvStoreError, RocksKvStore, RocksLimits};
use fluss::client::{FlussConnection, UpsertWriter};
use fluss::metadata::{DataTypes, Schema, TableDescriptor, TablePath};
use fluss::row::GenericRow;
use std::path::PathBuf;

/// In the store beside the cluster.
pub const BUCKET: KvBucketId = KvBucketId(1);
/// Rows per write of the store beside the cluster, and keys per read before it.
pub const RAW_BATCH: usize = 500;

/// The text of a row; another `version`, another text.
pub fn text(id: i64, version: i64) -> String {
    format!("{:020}{:060}", id.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64) as u64, version)
}

/// Visits 0..rows, each once, far from in order. `rows` has no factor in common with the step, which is a large prime.
pub fn shuffled(index: u64, rows: u64) -> i64 {
    (u128::from(index) * 2_654_435_761 % u128::from(rows)) as i64
}

/// A fresh primary-key table of one bucket, uncompressed so that the codec is not what is measured.
pub async fn create(connection: &FlussConnection, name: &str) -> Result<TablePath, Failure> {
    let path = TablePath::new("fluss", name);
    let admin = connection.get_admin().or_fail("open the admin client")?;
    admin.drop_table(&path, true).await.or_fail(format!("drop {path}"))?;
    let schema = Schema::builder()
        .column("id", DataTypes::bigint())
        .column("n", DataTypes::bigint())
        .column("s", DataTypes::string())
        .primary_key(["id"])
        .and_then(|schema| schema.build())
        .or_fail("build the bench schema")?;
    let descriptor = TableDescriptor::builder()
        .schema(schema)
        .distributed_by(Some(1), vec![])
        .property("table.log.arrow.compression.type", "NONE")
        .build()
        .or_fail("describe the bench table")?;
    admin.create_table(&path, &descriptor, false).await.or_fail(format!("create {path}"))?;
    Ok(path)
}

/// Writes rows 0..rows and waits until all are acknowledged.
pub async fn upsert_all(writer: &UpsertWriter, rows: u64, version: i64) -> Result<(), Failure> {
    let mut last = None;
    for index in 0..rows {
        let id = shuffled(index, rows);
        let text = text(id, version);
        let mut row = GenericRow::new(3);
        row.set_field(0, id);
        row.set_field(1, version);
        row.set_field(2, text.as_str());
        last = Some(writer.upsert(&row).or_fail("upsert")?);
        if index % 1024 == 0 {
            tokio::task::yield_now().await;
        }
    }
    writer.flush().await.or_fail("upsert")?;
    match last {
        Some(ack) => ack.await.or_fail("upsert"),
        None => Ok(()),
    }
}

fn types() -> [DataType; 3] {
    let of = |kind, nullable| DataType { kind, nullable };
    [of(TypeKind::BigInt, false), of(TypeKind::BigInt, true), of(TypeKind::String, true)]
}

/// As the table keeps it.
pub fn key(id: i64) -> Bytes {
    encode_key(&[Value::BigInt(id)], &[&types()[0]], None).expect("a number is a key").into()
}

fn stored(id: i64, version: i64) -> Bytes {
    let row = [Value::BigInt(id), Value::BigInt(version), Value::Text(text(id, version))];
    let row = encode_compacted_row(&row, types().iter()).expect("values of the types above");
    join_value(SchemaId(1), &row)
}

/// The same rows in this process, without log, replication and wire: the yardstick.
pub struct RawStore {
    store: RocksKvStore,
    dir: PathBuf,
}

impl RawStore {
    pub fn new(cluster: &BenchCluster) -> Result<Self, Failure> {
        let dir = cluster.dir.join("raw-rows");
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).or_fail("make a directory for raw rows")?;
        let store = RocksKvStore::open(&dir, &RocksLimits::default()).map_err(failed)?;
        Ok(Self { store, dir })
    }

    /// Encoded outside of what is measured.
    pub fn batches(rows: u64, version: i64) -> Vec<Vec<KvRow>> {
        let row = |index| {
            let id = shuffled(index, rows);
            (key(id), Some(stored(id, version)))
        };
        let all: Vec<KvRow> = (0..rows).map(row).collect();
        all.chunks(RAW_BATCH).map(<[KvRow]>::to_vec).collect()
    }

    /// Reads the old rows of each batch, then writes it.
    pub fn upsert(&self, batches: &[Vec<KvRow>]) -> Result<(), Failure> {
        for batch in batches {
            let keys: Vec<Bytes> = batch.iter().map(|(key, _)| key.clone()).collect();
            let old = self.store.multi_get(BUCKET, &keys).map_err(failed)?;
            std::hint::black_box(old);
            self.store.write(BUCKET, batch, KvPosition::START).map_err(failed)?;
        }
        Ok(())
    }

    pub fn multi_get(&self, keys: &[Bytes]) -> Result<usize, Failure> {
        let found = self.store.multi_get(BUCKET, keys).map_err(failed)?;
        Ok(found.iter().filter(|value| value.is_some()).count())
    }

    pub fn flush(&self) -> Result<(), Failure> {
        self.store.flush().map_err(failed)
    }
}

impl Drop for RawStore {
    fn drop(&mut self) {
        // Its parent is removed anyway, unless somebody named it.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn failed(error: KvStoreError) -> Failure {
    Failure::failed("raw rows").why(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_row_once() {
        for rows in [1_000, 300_000] {
            let ids: BTreeSet<i64> = (0..rows).map(|index| shuffled(index, rows)).collect();
            assert_eq!((ids.len() as u64, ids.last().copied()), (rows, Some(rows as i64 - 1)));
        }
        assert_eq!(text(7, 1).len(), 80);
    }
}
