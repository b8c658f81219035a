//! The journal from outside. `model`: against a plain model, through crashes; `damage`: on disks that lie.

mod damage;
mod model;

use super::*;
use crate::env::disk_mem::{Failing, MemDisk};
use crate::env::runtime::{block_on, time, yield_now};
use std::sync::atomic::{AtomicUsize, Ordering};

const FILE_BYTES: u64 = 8 << 10;

fn config() -> JournalConfig {
    JournalConfig { dir: "journal".to_string(), file_bytes: FILE_BYTES, cache_bytes_max: 1 << 10, read_bytes_max: 1 << 12 }
}

async fn open(disk: &MemDisk) -> Journal {
    try_open(disk).await.expect("the journal opens")
}

async fn try_open(disk: &MemDisk) -> io::Result<Journal> {
    Journal::open(Arc::new(disk.clone()), config()).await
}

fn id(term: u64, index: u64) -> LogId {
    LogId { term, index }
}

fn entry(term: u64, index: u64, bytes: usize) -> JournalEntry {
    let payload: Vec<u8> = (0..bytes).map(|n| (n as u64 ^ index ^ term << 4) as u8).collect();
    JournalEntry { id: id(term, index), kind: 1, payload: payload.into() }
}

async fn append(journal: &Journal, group: u64, entries: Vec<JournalEntry>) -> io::Result<()> {
    let (told, durable) = oneshot::channel();
    journal.append(GroupId(group), entries, Box::new(move |result| _ = told.send(result)));
    durable.await.expect("the writer answers")
}

async fn try_read_all(journal: &Journal, group: u64) -> io::Result<Vec<JournalEntry>> {
    let log = journal.group(GroupId(group));
    let end = log.last.map_or(0, |last| last.index) + 1;
    journal.read(GroupId(group), log.retained_from.max(1)..end, usize::MAX).await
}

async fn read_all(journal: &Journal, group: u64) -> Vec<JournalEntry> {
    try_read_all(journal, group).await.expect("what is held can be read")
}

async fn names(disk: &MemDisk) -> Vec<String> {
    disk.list("journal").await.expect("list")
}

#[test]
fn entries_votes_and_marks_survive_a_restart() {
    block_on(async {
        let disk = MemDisk::new();
        let journal = open(&disk).await;
        survive(&journal).await;
        let before = journal.group(GroupId(5));
        journal.close().await;
        let disk = disk.crash(|| false);
        let journal = open(&disk).await;
        assert_eq!(journal.group(GroupId(5)), before);
        check_survivors(&journal).await;
    });
}

#[cfg(not(madsim))]
#[test]
fn the_same_on_real_files() {
    use crate::env::disk_os::OsDisk;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let disk = || Arc::new(OsDisk::new(dir.path().to_path_buf()));
    block_on(async {
        let journal = Journal::open(disk(), config()).await.expect("the journal opens");
        survive(&journal).await;
        let before = journal.group(GroupId(5));
        journal.close().await;
        let journal = Journal::open(disk(), config()).await.expect("the journal opens");
        assert_eq!(journal.group(GroupId(5)), before);
        check_survivors(&journal).await;
        journal.close().await;
    });
}

async fn survive(journal: &Journal) {
    append(journal, 5, (1..=50).map(|index| entry(1, index, 300)).collect()).await.expect("durable");
    journal.save_vote(GroupId(5), Bytes::from_static(b"vote")).await.expect("durable");
    journal.truncate_after(GroupId(5), Some(id(1, 40))).await.expect("durable");
    append(journal, 5, vec![entry(2, 41, 10)]).await.expect("durable");
    journal.save_committed(GroupId(5), id(2, 99));
    journal.purge(GroupId(5), id(1, 20)).await.expect("durable");
    assert_eq!(journal.group(GroupId(5)).committed, Some(id(2, 41)), "never beyond the end");
}

async fn check_survivors(journal: &Journal) {
    let mut expected: Vec<_> = (1..=40).map(|index| entry(1, index, 300)).collect();
    expected.push(entry(2, 41, 10));
    assert_eq!(read_all(journal, 5).await, expected);
    let some = journal.read(GroupId(5), 3..6, usize::MAX).await.expect("read");
    assert_eq!(some, expected[2..5]);
    let one = journal.read(GroupId(5), 3..6, 1).await.expect("at least one entry, whatever the budget");
    assert_eq!(one.len(), 1);
    let beyond = journal.read(GroupId(5), 40..43, usize::MAX).await.expect_err("42 is not there");
    assert_eq!(beyond.kind(), io::ErrorKind::NotFound);
}

#[test]
fn files_are_recycled_when_released_and_groups_stay_dropped() {
    block_on(async {
        let disk = MemDisk::new();
        let journal = open(&disk).await;
        append(&journal, 1, vec![entry(1, 1, 3000)]).await.expect("durable");
        for index in 1..=60 {
            append(&journal, 2, vec![entry(1, index, 1000)]).await.expect("durable");
        }
        append(&journal, 3, vec![entry(1, 1, 10)]).await.expect("durable");
        let many = names(&disk).await.len();
        journal.drop_group(GroupId(3)).await.expect("durable");
        journal.purge(GroupId(2), id(1, 60)).await.expect("durable");
        journal.release(GroupId(2), u64::MAX);
        append(&journal, 1, vec![entry(1, 2, 10)]).await.expect("durable");
        for _ in 0..100 {
            yield_now().await;
        }
        let few = names(&disk).await.len();
        assert!(few <= 2 + 2, "{few} files left of {many}, two of them spares");
        for index in 61..=90 {
            append(&journal, 2, vec![entry(1, index, 1000)]).await.expect("durable");
        }
        journal.close().await;
        let disk = disk.crash(|| false);
        let journal = open(&disk).await;
        assert_eq!(journal.groups(), [GroupId(1), GroupId(2)]);
        assert_eq!(read_all(&journal, 1).await, [entry(1, 1, 3000), entry(1, 2, 10)]);
        assert_eq!(read_all(&journal, 2).await.first(), Some(&entry(1, 61, 1000)));
    });
}

#[test]
fn a_reader_whose_file_is_recycled_is_told_that_the_entry_is_gone() {
    block_on(async {
        let disk = MemDisk::new();
        let journal = open(&disk).await;
        for index in 1..=20 {
            append(&journal, 1, vec![entry(1, index, 1000)]).await.expect("durable");
        }
        let late = journal.read(GroupId(1), 1..3, usize::MAX);
        journal.purge(GroupId(1), id(1, 20)).await.expect("durable");
        journal.release(GroupId(1), 21);
        for index in 21..=80 {
            append(&journal, 1, vec![entry(1, index, 1000)]).await.expect("durable");
        }
        assert_eq!(late.await.expect_err("its bytes were overwritten").kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn an_entry_larger_than_a_file_gets_a_file_of_its_own() {
    block_on(async {
        let disk = MemDisk::new();
        let journal = open(&disk).await;
        append(&journal, 1, vec![entry(1, 1, 100_000)]).await.expect("durable");
        append(&journal, 1, vec![entry(1, 2, 10)]).await.expect("durable");
        journal.close().await;
        let disk = disk.crash(|| false);
        assert_eq!(read_all(&open(&disk).await, 1).await, [entry(1, 1, 100_000), entry(1, 2, 10)]);
    });
}

fn snapshot(last: LogId) -> StoredSnapshot {
    StoredSnapshot { last, meta: Bytes::from_static(b"m"), state: format!("state at {last}").into() }
}

#[test]
fn large_snapshots_do_not_begin_a_file_with_every_batch() {
    block_on(async {
        let disk = MemDisk::new();
        let journal = open(&disk).await;
        append(&journal, 1, vec![entry(1, 1, 10)]).await.expect("durable");
        let state = Bytes::from(vec![7; 3 * FILE_BYTES as usize]);
        let large = StoredSnapshot { last: id(1, 1), meta: Bytes::new(), state };
        journal.save_snapshot(GroupId(1), large.clone()).await.expect("durable");
        for index in 2..=21 {
            append(&journal, 1, vec![entry(1, index, 100)]).await.expect("durable");
        }
        let files = names(&disk).await.iter().filter(|name| name.ends_with(".journal")).count();
        assert!(files <= 4, "{files} files for 21 small batches");
        let journal = open(&disk.crash(|| false)).await;
        assert_eq!(journal.group(GroupId(1)).snapshot, Some(large));
    });
}

#[test]
fn install_replaces_the_log_up_to_the_snapshot() {
    block_on(async {
        let disk = MemDisk::new();
        let journal = open(&disk).await;
        append(&journal, 1, (1..=5).map(|index| entry(1, index, 100)).collect()).await.expect("durable");
        let retained: Vec<_> = (15..=20).map(|index| entry(3, index, 100)).collect();
        journal.install(GroupId(1), snapshot(id(3, 20)), retained.clone()).await.expect("durable");
        append(&journal, 1, vec![entry(3, 21, 10)]).await.expect("durable");
        journal.install(GroupId(1), snapshot(id(3, 18)), Vec::new()).await.expect_err("older than what is here");
        journal.install(GroupId(1), snapshot(id(3, 30)), vec![entry(3, 29, 1)]).await.expect_err("entry 30 is missing");
        journal.close().await;
        let disk = disk.crash(|| false);
        let journal = open(&disk).await;
        let log = journal.group(GroupId(1));
        assert_eq!((log.purged, log.retained_from, log.snapshot), (Some(id(3, 20)), 15, Some(snapshot(id(3, 20)))));
        let mut expected = retained;
        expected.push(entry(3, 21, 10));
        assert_eq!(read_all(&journal, 1).await, expected);
    });
}

#[test]
fn calls_that_contradict_the_log_change_nothing() {
    block_on(async {
        let disk = MemDisk::new();
        let journal = open(&disk).await;
        append(&journal, 1, vec![entry(1, 1, 10), entry(1, 2, 10)]).await.expect("durable");
        let gap = append(&journal, 1, vec![entry(1, 4, 10)]).await.expect_err("3 is missing");
        assert_eq!((gap.kind(), gap.to_string()), (io::ErrorKind::InvalidInput, "g1: append at index=4, expected 3".to_string()));
        append(&journal, 1, vec![entry(1, 3, 10), entry(1, 5, 10)]).await.expect_err("4 is missing");
        append(&journal, 1, vec![entry(2, 2, 10)]).await.expect_err("2 is there");
        journal.purge(GroupId(1), id(1, 2)).await.expect("durable");
        journal.truncate_after(GroupId(1), Some(id(1, 1))).await.expect_err("2 was purged");
        append(&journal, 1, vec![entry(1, 3, 10)]).await.expect("durable");
        assert_eq!(read_all(&journal, 1).await, [entry(1, 1, 10), entry(1, 2, 10), entry(1, 3, 10)]);
    });
}

#[test]
fn a_failed_write_or_sync_poisons_for_good() {
    block_on(async {
        for failing in [Failing::Writes, Failing::Syncs] {
            let disk = MemDisk::new();
            let journal = open(&disk).await;
            disk.fail(Some(failing));
            append(&journal, 1, vec![entry(1, 1, 10)]).await.expect_err("the disk failed");
            disk.fail(None);
            let error = append(&journal, 1, vec![entry(1, 2, 10)]).await.expect_err("poisoned");
            assert!(error.to_string().contains("poisoned") && error.to_string().contains("the disk fails"), "{error}");
            journal.save_vote(GroupId(1), Bytes::new()).await.expect_err("poisoned");
            journal.read(GroupId(1), 1..2, 10).await.expect_err("poisoned");
            journal.close().await;
        }
    });
}

#[test]
fn answers_come_in_order_and_after_the_disk() {
    block_on(async {
        let disk = MemDisk::new();
        let journal = open(&disk).await;
        let answered = Arc::new(AtomicUsize::new(0));
        for n in 0..50 {
            let answered = answered.clone();
            let in_order = move |result: io::Result<()>| {
                result.expect("durable");
                assert_eq!(answered.fetch_add(1, Ordering::SeqCst), n);
            };
            journal.append(GroupId(n as u64 % 3), vec![entry(1, n as u64 / 3 + 1, 700)], Box::new(in_order));
        }
        assert_eq!(answered.load(Ordering::SeqCst), 0);
        assert_eq!(read_all(&journal, 0).await.len(), 17, "readable before it is durable");
        append(&journal, 9, Vec::new()).await.expect("durable");
        assert_eq!(answered.load(Ordering::SeqCst), 50);
    });
}

#[test]
fn a_committed_position_is_written_even_if_nothing_follows() {
    block_on(async {
        let disk = MemDisk::new();
        let journal = open(&disk).await;
        append(&journal, 1, vec![entry(1, 1, 10), entry(1, 2, 10)]).await.expect("durable");
        journal.save_committed(GroupId(1), id(1, 2));
        time::sleep(time::Duration::from_millis(100)).await;
        let journal = open(&disk.crash(|| false)).await;
        assert_eq!(journal.group(GroupId(1)).committed, Some(id(1, 2)));
    });
}

#[test]
fn spares_are_made_ahead_kept_by_a_restart_and_other_files_left_alone() {
    block_on(async {
        let disk = MemDisk::new();
        disk.create("journal/notes.txt", 10).await.expect("create");
        disk.create("journal/fresh-00000000000000ff", 10).await.expect("create");
        let journal = open(&disk).await;
        append(&journal, 1, vec![entry(1, 1, 5000)]).await.expect("durable");
        for _ in 0..10 {
            yield_now().await;
        }
        let spares = |names: Vec<String>| names.into_iter().filter(|name| name.starts_with("spare-")).collect::<Vec<_>>();
        let made = spares(names(&disk).await);
        assert_eq!(made.len(), 1);
        journal.close().await;
        let journal = open(&disk).await;
        let kept = spares(names(&disk).await);
        assert_eq!(kept.len(), 1);
        append(&journal, 1, vec![entry(1, 2, 5000)]).await.expect("durable");
        let left = names(&disk).await;
        assert!(!left.contains(&kept[0]), "it became a journal file: {left:?}");
        assert!(left.contains(&"notes.txt".to_string()) && !left.iter().any(|name| name.starts_with("fresh-")), "{left:?}");
    });
}
