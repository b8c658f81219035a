//! What the log does while its replica changes under it.
#![allow(clippy::unwrap_used)] // a test: any failure is the end of it

use super::*;
use crate::env::disk_mem::MemDisk;
use crate::env::runtime::block_on;
use crate::env::runtime::time::{self, Duration};
use crate::journal::{JournalConfig, StoredSnapshot};
use bytes::Bytes;
use futures_util::pin_mut;

const GROUP: GroupId = GroupId(3);
const SHORT: Duration = Duration::from_millis(50);

async fn log() -> (Journal, Arc<Shared>, LogStore) {
    let config =
        JournalConfig { dir: "journal".to_string(), file_bytes: 64 << 10, cache_bytes_max: 1 << 10, read_bytes_max: 1 << 12 };
    let journal = Journal::open(Arc::new(MemDisk::new()), config).await.unwrap();
    let shared = Arc::new(Shared::default());
    (journal.clone(), shared.clone(), LogStore::new(journal, GROUP, shared))
}

fn entry(index: u64) -> Entry {
    let payload = Bytes::from_static(b"x");
    entry_from_journal(JournalEntry { id: LogId { term: 1, index }, kind: 1, payload }).unwrap()
}

#[test]
fn an_append_behind_a_snapshot_waits_until_it_is_there() {
    block_on(async {
        let (journal, shared, mut store) = log().await;
        shared.installing.store(true, Ordering::SeqCst);
        let mut appender = store.clone();
        let append = appender.append([entry(10)], IOFlushed::noop());
        pin_mut!(append);
        assert!(time::timeout(SHORT, &mut append).await.is_err(), "there is a hole before it");
        let snapshot = StoredSnapshot { last: LogId { term: 1, index: 9 }, meta: Bytes::new(), state: Bytes::new() };
        journal.install(GROUP, snapshot, Vec::new()).await.unwrap();
        shared.installing.store(false, Ordering::SeqCst);
        shared.installed.notify_waiters();
        append.await.unwrap();
        assert_eq!(store.try_get_log_entries(9..10).await.unwrap(), [entry(10)]);
    });
}

#[test]
fn of_a_replica_that_was_stopped_nothing_is_read() {
    block_on(async {
        let (journal, shared, mut store) = log().await;
        store.append([entry(1), entry(2)], IOFlushed::noop()).await.unwrap();
        assert_eq!(store.try_get_log_entries(0..2).await.unwrap().len(), 2);
        shared.end();
        journal.drop_group(GROUP).await.unwrap();
        let error = store.try_get_log_entries(0..2).await.expect_err("nothing would be taken for applied");
        assert!(error.to_string().contains("g3"), "{error}");
        let read: Vec<_> = store.entries_stream(0..2).await.collect().await;
        assert!(matches!(&read[..], [Err(_)]), "{read:?}");
    });
}
