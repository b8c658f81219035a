//! Recovery of the journal from damaged files.

use crate::script::Script;
use bytes::Bytes;
use floss_raft::env::disk::Disk;
use floss_raft::env::disk_mem::MemDisk;
use floss_raft::env::runtime::block_on;
use floss_raft::env::runtime::sync::oneshot;
use floss_raft::journal::frame::{FileHeader, Head};
use floss_raft::journal::{Journal, JournalConfig, JournalEntry, file_name};
use floss_raft::types::{GroupId, LogId};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;

const DIR: &str = "journal";
const FILE_BYTES: u64 = 4 << 10;
/// A disk's sector: what is written as a whole.
const SECTOR: usize = 512;

/// Retained entries by group; `None` is one that recovery kept and reading refuses, because its bytes rotted after they were synced.
type Logs = BTreeMap<u64, Vec<Option<JournalEntry>>>;

async fn open(disk: &MemDisk) -> std::io::Result<Journal> {
    let config =
        JournalConfig { dir: DIR.to_string(), file_bytes: FILE_BYTES, cache_bytes_max: 1 << 10, read_bytes_max: 1 << 12 };
    Journal::open(Arc::new(disk.clone()), config).await
}

async fn read_all(journal: &Journal) -> Logs {
    let mut logs = Logs::new();
    for group in journal.groups() {
        let log = journal.group(group);
        let end = log.last.map_or(0, |last| last.index) + 1;
        let mut entries = Vec::new();
        for index in log.retained_from.max(1)..end {
            entries.push(match journal.read(group, index..index + 1, usize::MAX).await {
                Ok(mut found) => found.pop(),
                Err(error) if error.kind() == ErrorKind::InvalidData => None,
                Err(error) => panic!("{group} index={index}: {error}"),
            });
        }
        logs.insert(group.0, entries);
    }
    logs
}

/// Appends what the script says, each append durable before the next one.
async fn write(script: &mut Script<'_>, disk: &MemDisk) -> Logs {
    let journal = open(disk).await.expect("an empty disk");
    let mut written = Logs::new();
    for _ in 0..1 + script.byte() % 12 {
        let group = 1 + u64::from(script.byte() % 3);
        let log = written.entry(group).or_default();
        let entries: Vec<JournalEntry> = (0..1 + script.byte() % 3)
            .map(|number| {
                let index = log.len() as u64 + u64::from(number) + 1;
                let bytes = usize::from(script.byte()) * 5;
                JournalEntry { id: LogId { term: 1, index }, kind: 1, payload: vec![index as u8 ^ group as u8; bytes].into() }
            })
            .collect();
        log.extend(entries.iter().cloned().map(Some));
        let (told, durable) = oneshot::channel();
        journal.append(GroupId(group), entries, Box::new(move |result| _ = told.send(result)));
        durable.await.expect("the writer answers").expect("this disk does not fail");
    }
    journal.close().await;
    written
}

/// Damages files as the script says; true if a byte changed.
async fn damage(script: &mut Script<'_>, disk: &MemDisk) -> bool {
    let names = disk.list(DIR).await.expect("the directory is there");
    let mut has_changed = false;
    while !script.is_empty() {
        let name = format!("{DIR}/{}", names[script.below(names.len())]);
        let (kind, at, other) = (script.byte() % 5, usize::from(script.short()), usize::from(script.short()));
        disk.damage(&name, |bytes| {
            let before = bytes.clone();
            damage_bytes(bytes, kind, at, other);
            has_changed |= before != *bytes;
        });
    }
    has_changed
}

fn damage_bytes(bytes: &mut Vec<u8>, kind: u8, at: usize, other: usize) {
    if bytes.is_empty() {
        return;
    }
    let (at, other) = (at % bytes.len(), other % bytes.len());
    let (sector, other_sector) = (at / SECTOR * SECTOR, other / SECTOR * SECTOR);
    match kind {
        0 => bytes.truncate(at),
        1 => bytes[at] ^= 1 << (other % 8),
        2 => bytes[at.min(other)..at.max(other)].fill(0),
        // A write that went to the wrong place, and two that changed places.
        3 => copy_sector(bytes, sector, other_sector),
        _ => {
            let kept = bytes.clone();
            copy_sector(bytes, sector, other_sector);
            let end = (sector + SECTOR).min(bytes.len());
            bytes[sector..end].copy_from_slice(&kept[sector..end]);
            let length = SECTOR.min(bytes.len() - sector).min(kept.len() - other_sector);
            bytes[sector..sector + length].copy_from_slice(&kept[other_sector..other_sector + length]);
        }
    }
}

fn copy_sector(bytes: &mut [u8], from: usize, to: usize) {
    let length = SECTOR.min(bytes.len() - from).min(bytes.len() - to);
    bytes.copy_within(from..from + length, to);
}

/// Input: what to append, then how to damage the files.
///
/// Recovery refuses, or gives of each group a prefix of what was written; an entry of it is as it was written, or reading it is an
/// error. All of it comes back if nothing was damaged. What it gave once it gives again.
pub fn check_journal_recovery(input: &[u8]) {
    block_on(async {
        let mut script = Script::new(input);
        let disk = MemDisk::new();
        let written = write(&mut script, &disk).await;
        let disk = disk.crash(|| false);
        let is_damaged = damage(&mut script, &disk).await;
        let journal = match open(&disk).await {
            Ok(journal) => journal,
            Err(error) => {
                assert!(is_damaged, "refused what it wrote: {error}");
                return;
            }
        };
        let recovered = read_all(&journal).await;
        if !is_damaged {
            assert_eq!(recovered, written);
        }
        for (group, entries) in &recovered {
            let original = written.get(group).map(Vec::as_slice).unwrap_or_default();
            assert!(entries.len() <= original.len(), "group {group}: {} entries, {} were written", entries.len(), original.len());
            for (entry, original) in entries.iter().zip(original) {
                assert!(entry.is_none() || entry == original, "group {group}: {entry:?} was written as {original:?}");
            }
        }
        journal.close().await;
        let disk = disk.crash(|| false);
        let again = open(&disk).await.expect("what was recovered once can be recovered again");
        assert_eq!(read_all(&again).await, recovered);
        again.close().await;
    });
}

/// Input: the bytes of a journal file. Refused or taken, without a panic; what was taken can be read and taken again.
pub fn check_journal_file(input: &[u8]) {
    block_on(async {
        let disk = MemDisk::new();
        let sequence = match FileHeader::decode(input) {
            Head::Ours(header) => header.sequence,
            Head::OtherVersion(_) | Head::Unreadable => 1,
        };
        let path = format!("{DIR}/{}", file_name(sequence));
        let file = disk.create(&path, input.len() as u64).await.expect("an empty disk");
        file.write_at(0, vec![Bytes::copy_from_slice(input)]).await.expect("this disk does not fail");
        file.sync().await.expect("this disk does not fail");
        disk.sync_dir(DIR).await.expect("this disk does not fail");
        let Ok(journal) = open(&disk).await else { return };
        let first = read_all(&journal).await;
        journal.close().await;
        let disk = disk.crash(|| false);
        let again = open(&disk).await.expect("what was recovered once can be recovered again");
        assert_eq!(read_all(&again).await, first);
        again.close().await;
    });
}

/// The first file of the journal that the script writes, for the corpus of [`check_journal_file`].
pub fn sample_file(script: &[u8]) -> Bytes {
    block_on(async {
        let disk = MemDisk::new();
        write(&mut Script::new(script), &disk).await;
        let disk = disk.crash(|| false);
        let names = disk.list(DIR).await.expect("the directory is there");
        let first = names.iter().filter(|name| name.ends_with(".journal")).min().expect("something was written");
        let file = disk.open(&format!("{DIR}/{first}")).await.expect("listed a moment ago");
        let bytes = file.len().await.expect("this disk does not fail") as usize;
        file.read_at(0, bytes).await.expect("this disk does not fail")
    })
}
