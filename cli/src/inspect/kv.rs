//! `floss inspect kv`: the store of rows, as its last flush left it. Every row is read, so damage anywhere shows.

use crate::exit::{Failure, OrFail};
use crate::output::{Listing, Output};
use clap::Args;
use floss_protocol::kv_batch::split_value;
use floss_server::os::rows::{KvBucketId, KvRange, KvStore, KvStoreError, RocksKvStore, RocksLimits};
use rustix::fs::{FlockOperation, fcntl_lock};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Read at a time.
const CHUNK_BYTES: usize = 4 << 20;

#[derive(Args)]
pub struct Kv {
    /// A node's data directory, or the directory `kv` in it
    dir: PathBuf,
    /// Print the rows of this bucket instead, keys and values in hex
    #[arg(long, value_name = "BUCKET")]
    rows: Option<u64>,
    /// Of `--rows`: at most so many
    #[arg(long, requires = "rows")]
    limit: Option<usize>,
    /// Of `--rows`: only keys that start so
    #[arg(long, requires = "rows", value_name = "HEX")]
    prefix: Option<String>,
}

pub fn run(kv: &Kv, output: &Output) -> Result<(), Failure> {
    let inner = kv.dir.join("kv");
    let dir = if inner.is_dir() { inner } else { kv.dir.clone() };
    let doing = format!("inspect {}", dir.display());
    check(&dir, &doing)?;
    let store = RocksKvStore::open_read_only(&dir, &RocksLimits::default()).map_err(|error| broken(&doing, &error))?;
    match kv.rows {
        Some(bucket) => rows(&store, KvBucketId(bucket), kv, &doing, output),
        None => buckets(&store, &doing, output),
    }
}

/// A store, and nobody's at the moment: read beside its owner it would look damaged as soon as the owner removes a file.
fn check(dir: &Path, doing: &str) -> Result<(), Failure> {
    if !dir.join("CURRENT").is_file() {
        let next = "name a node's data directory, such as DIR/node-1/data of a dev cluster";
        return Err(Failure::not_found(doing).why("there are no rows: it has no file CURRENT").next(next));
    }
    let lock = match std::fs::File::open(dir.join("LOCK")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        file => file.or_fail(doing)?,
    };
    match fcntl_lock(&lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
            Err(Failure::failed(doing).why("a running node has it open").next("stop the node, or look at a copy"))
        }
        Err(error) => Err(Failure::failed(doing).why(error)),
    }
}

fn broken(doing: &str, error: &KvStoreError) -> Failure {
    let next = "rows are rebuilt from the log: with the node stopped, delete this directory and start the node";
    Failure::failed(doing).why(format!("damaged: {error}")).next(next)
}

/// Calls `see` with each row, in key order, until it says stop.
fn each_row(
    store: &RocksKvStore,
    bucket: KvBucketId,
    mut range: KvRange,
    mut see: impl FnMut(&[u8], &[u8]) -> bool,
) -> Result<(), KvStoreError> {
    range.bytes_max = CHUNK_BYTES;
    loop {
        let chunk = store.scan(bucket, &range)?;
        let Some((last, _)) = chunk.last() else { return Ok(()) };
        range.after = Some(last.clone());
        if !chunk.iter().all(|(key, value)| see(key, value)) {
            return Ok(());
        }
    }
}

fn buckets(store: &RocksKvStore, doing: &str, output: &Output) -> Result<(), Failure> {
    let broken = |error: KvStoreError| broken(doing, &error);
    let mut lines = Vec::new();
    let mut wrong = Vec::new();
    for bucket in store.buckets().map_err(broken)? {
        let position = store.position(bucket).map_err(broken)?;
        let (mut rows, mut key_bytes, mut value_bytes) = (0_u64, 0, 0);
        let count = |key: &[u8], value: &[u8]| {
            rows += 1;
            key_bytes += key.len();
            value_bytes += value.len();
            true
        };
        each_row(store, bucket, KvRange::all(), count).map_err(broken)?;
        if let Some(expected) = position.row_count.filter(|expected| *expected != rows) {
            wrong.push(format!("bucket {} has {rows} rows, its position says {expected}", bucket.0));
        }
        lines.push(vec![
            json!(bucket.0),
            json!(rows),
            json!(position.row_count),
            json!(position.raft_index),
            json!(position.log_end),
            json!(key_bytes),
            json!(value_bytes),
        ]);
    }
    let columns = vec!["bucket", "rows", "row_count", "raft_index", "log_end", "key_bytes", "value_bytes"];
    output.listing(&Listing { name: "inspect.kv", columns, rows: lines })?;
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Failure::unhealthy(doing).why(wrong.join("; "))),
    }
}

fn rows(store: &RocksKvStore, bucket: KvBucketId, kv: &Kv, doing: &str, output: &Output) -> Result<(), Failure> {
    let broken = |error: KvStoreError| broken(doing, &error);
    let known = store.buckets().map_err(broken)?;
    if !known.contains(&bucket) {
        let known: Vec<String> = known.iter().map(|bucket| bucket.0.to_string()).collect();
        return Err(Failure::not_found(format!("bucket {}", bucket.0)).why(format!("there are {}", known.join(", "))));
    }
    let prefix = kv.prefix.as_deref().map_or(Ok(Vec::new()), from_hex)?;
    let limit = kv.limit.unwrap_or(usize::MAX);
    let mut lines: Vec<Vec<Value>> = Vec::new();
    let see = |key: &[u8], value: &[u8]| {
        if lines.len() < limit {
            let (schema, row) = match split_value(&value.to_vec().into()) {
                Ok((schema, row)) => (json!(schema.0), row.to_vec()),
                Err(_) => (Value::Null, value.to_vec()),
            };
            lines.push(vec![json!(hex(key)), schema, json!(hex(&row))]);
        }
        lines.len() < limit
    };
    each_row(store, bucket, KvRange::prefix(prefix.into()), see).map_err(broken)?;
    output.listing(&Listing { name: "inspect.kv.rows", columns: vec!["key", "schema", "row"], rows: lines })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Result<Vec<u8>, Failure> {
    let digit = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(digit).collect();
    bytes.ok_or_else(|| Failure::usage(format!("prefix {text}")).why("expected pairs of hex digits"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use floss_server::os::rows::KvPosition;

    fn filled(dir: &Path) -> RocksKvStore {
        let store = RocksKvStore::open(dir, &RocksLimits::default()).unwrap();
        let rows: Vec<_> = (0..100_u8).map(|key| (vec![key].into(), Some(vec![1, 0, key].into()))).collect();
        let position = KvPosition { raft_index: 9, log_end: 100, row_count: Some(100) };
        store.write(KvBucketId(4), &rows, position).unwrap();
        store.flush().unwrap();
        store
    }

    fn inspect(dir: &Path) -> Result<(), Failure> {
        let kv = Kv { dir: dir.to_owned(), rows: None, limit: None, prefix: None };
        run(&kv, &Output::new(crate::output::Format::Json))
    }

    #[test]
    fn closed_stores_are_read_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(inspect(dir.path()).unwrap_err().code, crate::exit::NOT_FOUND);
        drop(filled(&dir.path().join("kv")));
        inspect(dir.path()).unwrap();
        inspect(&dir.path().join("kv")).unwrap();
    }

    #[test]
    fn damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        drop(filled(dir.path()));
        let table = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let table = table.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "sst")).unwrap();
        let mut bytes = std::fs::read(&table).unwrap();
        bytes[20] ^= 0xff;
        std::fs::write(&table, bytes).unwrap();
        let failure = inspect(dir.path()).unwrap_err();
        assert!(failure.why.unwrap().starts_with("damaged"));
    }
}
