//! What a replica does with a snapshot that its log has passed.
#![allow(clippy::unwrap_used)] // a test: any failure is the end of it

use super::super::codec::{encode_append, entry_from_journal, to_theirs};
use super::*;
use crate::env::clock::SystemClock;
use crate::env::disk_mem::MemDisk;
use crate::env::runtime::block_on;
use crate::group::Group;
use crate::host::{GroupSpec, Host, HostConfig, HostObserver};
use crate::machine::Machine;
use crate::types::Leadership;
use openraft::vote::{RaftLeaderId, RaftVote as _};

/// Forgets everything.
struct Sink;

impl Machine for Sink {
    fn apply(&mut self, _id: LogId, _payload: Option<Bytes>) -> Bytes {
        Bytes::new()
    }
    fn snapshot(&self) -> Bytes {
        Bytes::new()
    }
    fn restore(&mut self, _at: LogId, _state: &Bytes) -> Result<(), String> {
        Ok(())
    }
    fn retained_from(&self) -> u64 {
        1
    }
}

/// No other node answers.
struct Alone;

impl Transport for Alone {
    fn call(&self, to: NodeId, _request: PeerRequest, _timeout: Duration) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        Box::pin(std::future::ready(Err(TransportError::UnknownPeer { to })))
    }
    fn set_peer(&self, _node: NodeId, _address: String) {}
}

struct Deaf;

impl HostObserver for Deaf {
    fn on_leadership(&self, _group: GroupId, _leadership: Leadership) {}
    fn on_node(&self, _node: NodeId, _alive: bool) {}
    fn on_group_failed(&self, _group: GroupId, _reason: &str) {}
    fn ping_payload(&self, _to: NodeId) -> Bytes {
        Bytes::new()
    }
    fn on_ping(&self, _from: NodeId, _payload: Bytes) {}
    fn on_request(&self, _from: NodeId, _method: u8, body: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        Box::pin(std::future::ready(Ok(body)))
    }
}

/// It has nothing yet.
async fn follower() -> (Host, Group) {
    let config = HostConfig {
        node_id: 2,
        election_timeout_ms_min: 300,
        election_timeout_ms_max: 600,
        heartbeat_ms: 100,
        sleep_after_ms: 60_000,
        ping_ms: 50,
        suspect_after_ms: 300,
        journal_file_bytes: 64 << 10,
        journal_cache_bytes: 16 << 10,
        journal_read_bytes: 1 << 20,
        tail_entries: 64,
    };
    let host =
        Host::open(config, Arc::new(MemDisk::new()), Arc::new(SystemClock), Arc::new(Alone), Arc::new(Deaf)).await.unwrap();
    let spec = GroupSpec { id: GroupId(7), voters: vec![1, 2, 3], learners: vec![], initialize: false, elect: false };
    let group = host.open_group(spec, Box::new(Sink)).await.unwrap();
    (host, group)
}

fn vote_of_leader() -> RaftVote {
    RaftVote::from_leader_id(RaftLeaderId::new(1, 1), true)
}

/// Entries `from..to` of term 1, none of them known to be committed.
fn append(from: u64, to: u64) -> Bytes {
    let previous = (from > 1).then(|| to_theirs(LogId { term: 1, index: from - 1 }));
    let entry = |index| JournalEntry { id: LogId { term: 1, index }, kind: 1, payload: Bytes::from_static(b"x") };
    let entries = (from..to).map(|index| entry_from_journal(entry(index)).unwrap()).collect();
    let request = AppendEntriesRequest { vote: vote_of_leader(), prev_log_id: previous, entries, leader_commit: None };
    encode_append(request).concat().into()
}

/// Without a state; entries from `first` on should have come before it.
fn snapshot(group: &Group, last: LogId, first: u64) -> Bytes {
    let membership = encode(group.inner.metrics().membership_config.as_ref()).to_vec();
    encode(&SnapshotMessage { vote: vote_of_leader(), last: Some(last), first, membership, state: Vec::new() })
}

/// A piece of what comes ahead of a snapshot.
fn piece(from: u64, to: u64) -> Bytes {
    let entry = |index| JournalEntry { id: LogId { term: 1, index }, kind: 1, payload: Bytes::from_static(b"x") };
    encode_entries((from..to).map(entry).collect()).concat().into()
}

#[test]
fn a_snapshot_is_not_taken_without_the_entries_that_readers_need() {
    block_on(async {
        let (host, group) = follower().await;
        let last = LogId { term: 1, index: 6 };
        // The second piece comes again before the first, which pushes it out, comes again.
        for (from, to) in [(1, 4), (4, 7), (1, 2), (4, 7)] {
            group.serve(1, false, SNAPSHOT_ENTRIES, piece(from, to)).await.unwrap();
        }
        let refused = group.serve(1, false, SNAPSHOT, snapshot(&group, last, 1)).await.unwrap_err();
        assert!(refused.contains("retained entries begin at 4, the snapshot's at 1"), "{refused}");
        // A message that comes again finds nothing held.
        let refused = group.serve(1, false, SNAPSHOT, snapshot(&group, last, 1)).await.unwrap_err();
        assert!(refused.contains("retained entries begin at 7"), "{refused}");
        for (from, to) in [(1, 4), (4, 7)] {
            group.serve(1, false, SNAPSHOT_ENTRIES, piece(from, to)).await.unwrap();
        }
        group.serve(1, false, SNAPSHOT, snapshot(&group, last, 1)).await.unwrap();
        assert_eq!(group.inner.journal.group(GroupId(7)).retained_from, 1);
        host.shutdown(false).await;
    });
}

#[test]
fn a_snapshot_that_the_log_has_passed_takes_nothing_back() {
    block_on(async {
        let (host, group) = follower().await;
        let answer = group.serve(1, false, APPEND, append(1, 7)).await.unwrap();
        assert_eq!(decode::<AppendEntriesResponse<Types>>(&answer).unwrap(), AppendEntriesResponse::Success);
        let last = LogId { term: 1, index: 4 };
        let answer = group.serve(1, false, SNAPSHOT, snapshot(&group, last, 5)).await.unwrap();
        assert_eq!(decode::<SnapshotResponse<Types>>(&answer).unwrap().vote, vote_of_leader());
        let pointers = group.pointers();
        assert_eq!((pointers.snapshot, pointers.committed, pointers.last), (0, 4, 6), "nothing is installed, it is committed");
        let answer = group.serve(1, false, APPEND, append(7, 9)).await.unwrap();
        assert_eq!(decode::<AppendEntriesResponse<Types>>(&answer).unwrap(), AppendEntriesResponse::Success);
        assert_eq!(group.inner.journal.group(GroupId(7)).last, Some(LogId { term: 1, index: 8 }));
        host.shutdown(false).await;
    });
}
