//! Disks that lie: recovery refuses, or gives a state that was, and never an entry that was not written.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[test]
fn death_of_a_process_and_then_of_the_machine_loses_nothing_recovered() {
    block_on(async {
        let disk = MemDisk::new();
        let journal = open(&disk).await;
        append(&journal, 1, vec![entry(1, 1, 100)]).await.expect("durable");
        disk.fail(Some(Failing::Syncs));
        append(&journal, 1, vec![entry(1, 2, 100)]).await.expect_err("written, not synced");
        disk.fail(None);
        let disk = disk.kill();
        assert_eq!(read_all(&open(&disk).await, 1).await.len(), 2, "the page cache still had it");
        let disk = disk.crash(|| false);
        assert_eq!(read_all(&open(&disk).await, 1).await, [entry(1, 1, 100), entry(1, 2, 100)], "it was promised by then");
    });
}

/// Two groups in one file: entries of 100 bytes of group 1, a vote of group 2.
async fn small(disk: &MemDisk) -> String {
    let journal = open(disk).await;
    for index in 1..=3 {
        append(&journal, 1, vec![entry(1, index, 100)]).await.expect("durable");
    }
    journal.save_vote(GroupId(2), Bytes::from_static(b"the vote")).await.expect("durable");
    append(&journal, 2, vec![entry(1, 1, 40)]).await.expect("durable");
    journal.close().await;
    names(disk).await.into_iter().find(|name| name.ends_with(".journal")).expect("a file")
}

fn flip(bytes: &mut [u8], what: &[u8], back: usize) {
    let at = bytes.windows(what.len()).position(|window| window == what).expect("it was written");
    bytes[at - back] ^= 1;
}

#[test]
fn a_rotten_entry_stops_its_group_and_no_other() {
    block_on(async {
        let disk = MemDisk::new();
        let name = small(&disk).await;
        disk.damage(&format!("journal/{name}"), |bytes| flip(bytes, &entry(1, 2, 100).payload, 0));
        let journal = open(&disk).await;
        let error = try_read_all(&journal, 1).await.expect_err("entry 2 is damaged");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("entry 1.2 of g1") && error.to_string().contains(&name), "{error}");
        assert_eq!(journal.read(GroupId(1), 3..4, 1).await.expect("its neighbour is whole"), [entry(1, 3, 100)]);
        assert_eq!(read_all(&journal, 2).await, [entry(1, 1, 40)]);
    });
}

#[test]
fn damage_that_cannot_be_laid_to_one_entry_is_refused_by_name_and_position() {
    block_on(async {
        for (what, back) in [(entry(1, 2, 100).payload, 1), (Bytes::from_static(b"the vote"), 0)] {
            let disk = MemDisk::new();
            let name = small(&disk).await;
            disk.damage(&format!("journal/{name}"), |bytes| flip(bytes, &what, back));
            let error = try_open(&disk).await.err().expect("refused");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().contains(&format!("{name} at position=")), "{error}");
        }
    });
}

#[test]
fn a_missing_file_is_noticed() {
    block_on(async {
        let disk = MemDisk::new();
        let journal = open(&disk).await;
        for index in 1..=40 {
            append(&journal, 1, vec![entry(1, index, 1000)]).await.expect("durable");
        }
        journal.close().await;
        let files: Vec<_> = names(&disk).await.into_iter().filter(|name| name.ends_with(".journal")).collect();
        disk.remove(&format!("journal/{}", files[1])).await.expect("remove");
        let error = try_open(&disk).await.err().expect("refused");
        assert!(error.to_string().contains("a file is missing"), "{error}");
    });
}

#[test]
fn files_of_another_version_are_refused_and_stay() {
    block_on(async {
        let disk = MemDisk::new();
        let name = small(&disk).await;
        disk.damage(&format!("journal/{name}"), |bytes| {
            bytes[8] = 2;
            let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..64]);
            bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        });
        let error = try_open(&disk).await.err().expect("refused");
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(error.to_string().contains("version=2"), "{error}");
        assert!(names(&disk).await.contains(&name));
    });
}

/// A change of a file's bytes; positions and lengths are taken modulo the file.
#[derive(Clone, Debug)]
enum Mutation {
    Flip { at: usize, bit: u8 },
    Cut { at: usize },
    Zero { at: usize, bytes: usize },
    Swap { one: usize, other: usize },
    Duplicate { from: usize, to: usize },
}

const SECTOR: usize = 512;

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        let sector = |n: usize| n % (length / SECTOR) * SECTOR;
        match *self {
            Mutation::Flip { at, bit } => bytes[at % length] ^= 1 << (bit % 8),
            Mutation::Cut { at } => bytes.truncate(at % length),
            Mutation::Zero { at, bytes: count } => {
                let at = at % length;
                bytes[at..(at + count).min(length)].fill(0);
            }
            Mutation::Swap { one, other } => {
                let (one, other) = (sector(one), sector(other));
                for n in 0..SECTOR {
                    bytes.swap(one + n, other + n);
                }
            }
            Mutation::Duplicate { from, to } => {
                let (from, to) = (sector(from), sector(to));
                bytes.copy_within(from..from + SECTOR, to);
            }
        }
    }
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        4 => (any::<usize>(), any::<u8>()).prop_map(|(at, bit)| Mutation::Flip { at, bit }),
        1 => any::<usize>().prop_map(|at| Mutation::Cut { at }),
        2 => (any::<usize>(), 1..2000_usize).prop_map(|(at, bytes)| Mutation::Zero { at, bytes }),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(one, other)| Mutation::Swap { one, other }),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(from, to)| Mutation::Duplicate { from, to }),
    ]
}

/// What groups 1 and 2 stand at after each batch of `written`.
type History = Vec<BTreeMap<u64, GroupLog>>;

fn stands(journal: &Journal) -> BTreeMap<u64, GroupLog> {
    (1..3).map(|group| (group, journal.group(GroupId(group)))).collect()
}

/// Several files, recycled ones among them; every batch acknowledged.
async fn written(disk: &MemDisk) -> History {
    let journal = open(disk).await;
    let mut history = vec![stands(&journal)];
    for index in 1..=30 {
        append(&journal, 1, vec![entry(1, index, 700)]).await.expect("durable");
        history.push(stands(&journal));
        append(&journal, 2, vec![entry(2, index, 90)]).await.expect("durable");
        history.push(stands(&journal));
        if index % 7 == 0 {
            journal.save_vote(GroupId(2), Bytes::copy_from_slice(&[index as u8; 9])).await.expect("durable");
            history.push(stands(&journal));
        }
        if index == 20 {
            for (group, upto) in [(1, id(1, 15)), (2, id(2, 19))] {
                journal.purge(GroupId(group), upto).await.expect("durable");
                history.push(stands(&journal));
                journal.release(GroupId(group), upto.index);
                append(&journal, 9, Vec::new()).await.expect("durable");
                history.push(stands(&journal));
            }
        }
    }
    journal.close().await;
    history
}

async fn check_damaged(place: usize, mutations: &[Mutation]) {
    let disk = MemDisk::new();
    let history = written(&disk).await;
    let files: Vec<_> = names(&disk).await.into_iter().filter(|name| name.ends_with(".journal")).collect();
    let place = place % files.len();
    disk.damage(&format!("journal/{}", files[place]), |bytes| {
        for mutation in mutations {
            if bytes.len() >= SECTOR {
                mutation.apply(bytes);
            }
        }
    });
    let Ok(journal) = try_open(&disk).await else { return };
    let found = stands(&journal);
    let landed = history.iter().rposition(|state| *state == found);
    let landed = landed.unwrap_or_else(|| panic!("{mutations:?} on file {place} gave {found:?}, which never was"));
    if place + 1 < files.len() {
        assert_eq!(landed, history.len() - 1, "{mutations:?} on file {place} lost acknowledged batches without a word");
    }
    for (group, log) in found {
        let end = log.last.map_or(0, |last| last.index) + 1;
        for index in log.retained_from.max(1)..end {
            match journal.read(GroupId(group), index..index + 1, 1).await {
                Ok(entries) => {
                    let expected = if group == 1 { entry(1, index, 700) } else { entry(2, index, 90) };
                    assert_eq!(entries, [expected], "{mutations:?} on file {place} altered an entry");
                }
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}"),
            }
        }
    }
    let before = stands(&journal);
    journal.close().await;
    let again = open(&disk.crash(|| false)).await;
    assert_eq!(stands(&again), before, "{mutations:?} on file {place}: the second recovery differs");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_file_is_refused_or_gives_a_state_that_was(
        place in any::<usize>(),
        mutations in proptest::collection::vec(mutation(), 1..3),
    ) {
        block_on(check_damaged(place, &mutations));
    }

    #[test]
    fn arbitrary_bytes_are_no_journal(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
        block_on(async {
            let disk = MemDisk::new();
            disk.create("journal/0000000000000003.journal", 0).await.expect("create");
            disk.damage("journal/0000000000000003.journal", |file| *file = bytes);
            let journal = open(&disk).await;
            assert_eq!(journal.groups(), []);
            append(&journal, 1, vec![entry(1, 1, 10)]).await.expect("durable");
        });
    }
}
