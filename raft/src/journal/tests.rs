//! The journal against a plain model, through crashes.

use super::*;
use crate::env::disk_mem::MemDisk;
use crate::env::runtime::block_on;
use proptest::prelude::*;

fn config(file_bytes: u64) -> JournalConfig {
    JournalConfig { dir: "journal".to_string(), file_bytes, cache_bytes_max: 1 << 10 }
}

async fn open(disk: &MemDisk) -> Journal {
    Journal::open(Arc::new(disk.clone()), config(8 << 10)).await.expect("the journal opens")
}

fn entry(term: u64, index: u64, bytes: usize) -> JournalEntry {
    let payload: Vec<u8> = (0..bytes).map(|n| (n as u64 ^ index ^ term << 4) as u8).collect();
    JournalEntry { id: LogId { term, index }, kind: 1, payload: payload.into() }
}

async fn append(journal: &Journal, group: u64, entries: Vec<JournalEntry>) -> io::Result<()> {
    let (told, durable) = oneshot::channel();
    journal.append(GroupId(group), entries, Box::new(move |result| _ = told.send(result)));
    durable.await.expect("the writer answers")
}

async fn read_all(journal: &Journal, group: u64) -> Vec<JournalEntry> {
    let log = journal.group(GroupId(group));
    let end = log.last.map_or(0, |last| last.index) + 1;
    journal.read(GroupId(group), log.retained_from.max(1)..end, usize::MAX).await.expect("what is retained can be read")
}

#[test]
fn entries_votes_and_marks_survive_a_restart() {
    block_on(async {
        let disk = MemDisk::new();
        let journal = open(&disk).await;
        let entries: Vec<_> = (1..=50).map(|index| entry(1, index, 300)).collect();
        append(&journal, 5, entries.clone()).await.expect("durable");
        journal.save_vote(GroupId(5), Bytes::from_static(b"vote")).await.expect("durable");
        journal.truncate_after(GroupId(5), Some(LogId { term: 1, index: 40 })).await.expect("durable");
        append(&journal, 5, vec![entry(2, 41, 10)]).await.expect("durable");
        journal.save_committed(GroupId(5), LogId { term: 2, index: 99 });
        journal.purge(GroupId(5), LogId { term: 1, index: 20 }).await.expect("durable");
        let before = journal.group(GroupId(5));
        assert_eq!(before.committed, Some(LogId { term: 2, index: 41 }), "never beyond the end");
        journal.close().await;
        let disk = disk.crash(|| false);
        let journal = open(&disk).await;
        assert_eq!(journal.group(GroupId(5)), before);
        let mut expected = entries[..40].to_vec();
        expected.push(entry(2, 41, 10));
        assert_eq!(read_all(&journal, 5).await, expected);
        let some = journal.read(GroupId(5), 3..6, usize::MAX).await.expect("read");
        assert_eq!(some, expected[2..5]);
        let one = journal.read(GroupId(5), 3..6, 1).await.expect("at least one entry, whatever the budget");
        assert_eq!(one.len(), 1);
    });
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
        let many = disk.list("journal").await.expect("list").len();
        journal.drop_group(GroupId(3)).await.expect("durable");
        journal.purge(GroupId(2), LogId { term: 1, index: 60 }).await.expect("durable");
        journal.release(GroupId(2), 61);
        append(&journal, 1, vec![entry(1, 2, 10)]).await.expect("durable");
        let few = disk.list("journal").await.expect("list").len();
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

#[test]
fn install_replaces_the_log() {
    block_on(async {
        let disk = MemDisk::new();
        let journal = open(&disk).await;
        append(&journal, 1, (1..=5).map(|index| entry(1, index, 100)).collect()).await.expect("durable");
        let snapshot = StoredSnapshot {
            last: LogId { term: 3, index: 20 },
            meta: Bytes::from_static(b"m"),
            state: Bytes::from_static(b"s"),
        };
        let retained: Vec<_> = (15..=20).map(|index| entry(3, index, 100)).collect();
        journal.install(GroupId(1), snapshot.clone(), retained.clone()).await.expect("durable");
        append(&journal, 1, vec![entry(3, 21, 10)]).await.expect("durable");
        journal.close().await;
        let disk = disk.crash(|| false);
        let journal = open(&disk).await;
        let log = journal.group(GroupId(1));
        assert_eq!((log.purged, log.retained_from, log.snapshot), (Some(snapshot.last), 15, Some(snapshot)));
        let mut expected = retained;
        expected.push(entry(3, 21, 10));
        assert_eq!(read_all(&journal, 1).await, expected);
    });
}

#[test]
fn a_failed_sync_poisons_for_good() {
    block_on(async {
        let disk = MemDisk::new();
        let journal = open(&disk).await;
        disk.break_syncs();
        append(&journal, 1, vec![entry(1, 1, 10)]).await.expect_err("the sync failed");
        let error = append(&journal, 1, vec![entry(1, 2, 10)]).await.expect_err("poisoned");
        assert!(error.to_string().contains("poisoned"), "{error}");
        journal.save_vote(GroupId(1), Bytes::new()).await.expect_err("poisoned");
    });
}

#[test]
fn damage_below_the_synced_end_is_refused() {
    block_on(async {
        let disk = MemDisk::new();
        let journal = open(&disk).await;
        append(&journal, 1, vec![entry(1, 1, 100)]).await.expect("durable");
        append(&journal, 1, vec![entry(1, 2, 100)]).await.expect("durable");
        journal.close().await;
        let name = disk.list("journal").await.expect("list").pop().expect("a file");
        disk.damage(&format!("journal/{name}"), |bytes| {
            let at = bytes.windows(100).position(|window| window == &entry(1, 1, 100).payload[..]).expect("the entry is there");
            bytes[at + 50] ^= 1;
        });
        let error = Journal::open(Arc::new(disk.clone()), config(8 << 10)).await.err().expect("refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains(&name), "{error}");
    });
}

#[derive(Clone, Debug)]
enum Step {
    Append { group: u64, count: u64, bytes: usize },
    Truncate { group: u64, back: u64 },
    Release { group: u64, back: u64 },
    Wait,
    Crash { keep: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..4_u64, 1..5_u64, 0..3000_usize).prop_map(|(group, count, bytes)| Step::Append { group, count, bytes }),
        1 => (1..4_u64, 0..4_u64).prop_map(|(group, back)| Step::Truncate { group, back }),
        1 => (1..4_u64, 0..6_u64).prop_map(|(group, back)| Step::Release { group, back }),
        3 => Just(Step::Wait),
        2 => any::<u64>().prop_map(|keep| Step::Crash { keep }),
    ]
}

/// What one group must hold: everything that was acknowledged, and nothing that was not handed in.
#[derive(Clone, Debug, Default)]
struct Model {
    entries: Vec<JournalEntry>,
    floor: u64,
}

async fn run_steps(steps: Vec<Step>) {
    let mut disk = MemDisk::new();
    let mut journal = open(&disk).await;
    let mut now: BTreeMap<u64, Model> = BTreeMap::new();
    // States since the last one that is known to be durable, in order; a crash lands on one of them.
    let mut history = vec![now.clone()];
    let mut term = 1;
    for step in steps {
        match step {
            Step::Append { group, count, bytes } => {
                let model = now.entry(group).or_default();
                let first = model.floor + model.entries.len() as u64;
                let first = first.max(1);
                model.floor = model.floor.max(1);
                let entries: Vec<_> = (first..first + count).map(|index| entry(term, index, bytes)).collect();
                model.entries.extend(entries.clone());
                journal.append(GroupId(group), entries, Box::new(|_| ()));
                history.push(now.clone());
            }
            Step::Truncate { group, back } => {
                let Some(model) = now.get_mut(&group).filter(|model| model.entries.len() as u64 > back) else { continue };
                term += 1;
                model.entries.truncate(model.entries.len() - back as usize);
                let last = model.entries.last().map(|entry| entry.id);
                drop(journal.truncate_after(GroupId(group), last));
                history.push(now.clone());
            }
            Step::Release { group, back } => {
                let Some(model) = now.get_mut(&group).filter(|model| model.entries.len() as u64 > back + 1) else { continue };
                let gone = model.entries.len() - back as usize - 1;
                let last = model.entries[gone - 1 + usize::from(gone == 0)].id;
                if gone == 0 {
                    continue;
                }
                drop(journal.purge(GroupId(group), last));
                history.push(now.clone());
                let model = now.get_mut(&group).expect("just there");
                model.entries.drain(..gone);
                model.floor = last.index + 1;
                journal.release(GroupId(group), last.index + 1);
                history.push(now.clone());
            }
            Step::Wait => {
                journal.save_vote(GroupId(9), Bytes::from_static(b"v")).await.expect("durable");
                history = vec![now.clone()];
            }
            Step::Crash { keep } => {
                // Let the writer get anywhere.
                for _ in 0..keep % 7 {
                    crate::env::runtime::yield_now().await;
                }
                let mut draw = keep | 1;
                disk = disk.crash(|| {
                    draw ^= draw << 13;
                    draw ^= draw >> 7;
                    draw ^= draw << 17;
                    draw % 3 == 0
                });
                journal = open(&disk).await;
                let mut held: BTreeMap<u64, Vec<JournalEntry>> = BTreeMap::new();
                for group in journal.groups() {
                    held.insert(group.0, read_all(&journal, group.0).await);
                }
                let fits = |state: &BTreeMap<u64, Model>| {
                    (1..4).all(|group| {
                        let wanted = state.get(&group).map(|model| &model.entries[..]).unwrap_or_default();
                        let found = held.get(&group).map(|entries| &entries[..]).unwrap_or_default();
                        wanted == found
                    })
                };
                let landed = history.iter().rev().find(|state| fits(state));
                now = landed
                    .unwrap_or_else(|| {
                        panic!(
                            "recovered\n{}\nwhich is none of\n{}",
                            shape(&held),
                            history
                                .iter()
                                .map(|state| shape(&state.iter().map(|(g, m)| (*g, m.entries.clone())).collect()))
                                .collect::<Vec<_>>()
                                .join("\n")
                        )
                    })
                    .clone();
                history = vec![now.clone()];
            }
        }
    }
    journal.close().await;
}

fn shape(state: &BTreeMap<u64, Vec<JournalEntry>>) -> String {
    let ids = |entries: &Vec<JournalEntry>| entries.iter().map(|entry| entry.id.to_string()).collect::<Vec<_>>().join(" ");
    state.iter().map(|(group, entries)| format!("  {group}: {}", ids(entries))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_crash_lands_on_a_state_that_was(steps in proptest::collection::vec(step(), 1..40)) {
        block_on(run_steps(steps));
    }
}
