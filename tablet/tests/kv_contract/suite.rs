//! The contract suite of KV stores, and a model to run histories against.
#![allow(dead_code)] // each test binary uses its own part

use bytes::Bytes;
use floss_tablet::kv::store::{KvBucketId, KvPosition, KvRange, KvRow, KvStore};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

const A: KvBucketId = KvBucketId(1);
/// The next number: its keys follow those of `A` in any store that prefixes.
const B: KvBucketId = KvBucketId(2);

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> KvRow {
    (bytes(key), Some(bytes(value)))
}

fn at(raft_index: u64) -> KvPosition {
    KvPosition { raft_index, log_end: raft_index as i64 * 10, row_count: Some(raft_index) }
}

/// Everything but crashes. `make` gives an empty store.
pub fn all(make: &mut dyn FnMut() -> Arc<dyn KvStore>) {
    starts_empty(&*make());
    reads_what_was_written(&*make());
    scans_in_key_order(&*make());
    scans_stop_at_their_limits(&*make());
    views_do_not_change(&*make());
    wipes_one_bucket(&*make());
}

fn starts_empty(store: &dyn KvStore) {
    assert_eq!(store.position(A), Ok(KvPosition::START));
    assert_eq!(store.get(A, b"k"), Ok(None));
    assert_eq!(store.multi_get(A, &[bytes("k"), bytes("l")]), Ok(vec![None, None]));
    assert_eq!(store.scan(A, &KvRange::all()), Ok(vec![]));
    assert_eq!(store.buckets(), Ok(vec![]));
    store.flush().unwrap();
    store.wipe(A).unwrap();
}

fn reads_what_was_written(store: &dyn KvStore) {
    store.write(A, &[put("k", "1"), put("l", ""), put("k", "2")], at(1)).unwrap();
    store.write(B, &[put("k", "b")], KvPosition { row_count: None, ..at(7) }).unwrap();
    assert_eq!(store.get(A, b"k"), Ok(Some(bytes("2"))), "the last one of a key counts");
    assert_eq!(store.get(A, b"l"), Ok(Some(Bytes::new())), "an empty value is a value");
    assert_eq!(store.get(A, b""), Ok(None));
    assert_eq!(store.position(A), Ok(at(1)));
    assert_eq!(store.position(B), Ok(KvPosition { row_count: None, ..at(7) }));
    store.write(A, &[(bytes("k"), None), (bytes("none"), None)], at(2)).unwrap();
    assert_eq!(store.multi_get(A, &[bytes("k"), bytes("l"), bytes("none")]), Ok(vec![None, Some(Bytes::new()), None]));
    assert_eq!(store.get(B, b"k"), Ok(Some(bytes("b"))), "buckets do not share keys");
    assert_eq!((store.position(A), store.buckets()), (Ok(at(2)), Ok(vec![A, B])));
    store.write(A, &[], at(3)).unwrap();
    assert_eq!(store.position(A), Ok(at(3)), "a position without rows");
}

fn scans_in_key_order(store: &dyn KvStore) {
    let keys: [&[u8]; 7] = [b"", b"\0", b"a", b"a\xff", b"a\xff\xff", b"b", b"\xff\xff"];
    let rows: Vec<KvRow> = keys.iter().rev().map(|key| (Bytes::copy_from_slice(key), Some(bytes("v")))).collect();
    store.write(A, &rows, at(1)).unwrap();
    store.write(B, &[put("", "other"), put("a", "other")], at(1)).unwrap();
    let scan = |prefix: &[u8], after: Option<&[u8]>| {
        let range = KvRange { after: after.map(Bytes::copy_from_slice), ..KvRange::prefix(Bytes::copy_from_slice(prefix)) };
        store.scan(A, &range).unwrap().into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(scan(b"", None), keys);
    assert_eq!(scan(b"a", None), keys[2..5]);
    assert_eq!(scan(b"a\xff", None), keys[3..5]);
    assert_eq!(scan(b"\xff", None), keys[6..]);
    assert_eq!(scan(b"c", None), Vec::<Bytes>::new());
    assert_eq!(scan(b"", Some(b"a")), keys[3..]);
    assert_eq!(scan(b"", Some(b"")), keys[1..]);
    assert_eq!(scan(b"a", Some(b"a\xff")), keys[4..5]);
    assert_eq!(scan(b"b", Some(b"a")), keys[5..6], "the prefix starts later");
    assert_eq!(scan(b"a", Some(b"b")), Vec::<Bytes>::new());
}

fn scans_stop_at_their_limits(store: &dyn KvStore) {
    let rows: Vec<KvRow> = (0..9).map(|key| put(&key.to_string(), "0123456789")).collect();
    store.write(A, &rows, at(1)).unwrap();
    let count = |rows_max, bytes_max| store.scan(A, &KvRange { rows_max, bytes_max, ..KvRange::all() }).unwrap().len();
    assert_eq!(count(4, usize::MAX), 4);
    assert_eq!(count(0, usize::MAX), 0);
    assert_eq!(count(99, 1), 1, "one row at least");
    assert_eq!(count(99, 22), 2);
    assert_eq!(count(99, 23), 3);
}

fn views_do_not_change(store: &dyn KvStore) {
    store.write(A, &[put("k", "1"), put("l", "1")], at(1)).unwrap();
    let mut seen = Vec::new();
    store
        .with_view(A, &mut |view| {
            store.write(A, &[put("k", "2"), put("m", "2"), (bytes("l"), None)], at(2)).unwrap();
            seen = view.scan(&KvRange::all()).unwrap();
            assert_eq!(view.position(), Ok(at(1)), "the position is of the same moment (K17)");
        })
        .unwrap();
    assert_eq!(seen, [(bytes("k"), bytes("1")), (bytes("l"), bytes("1"))]);
    assert_eq!(store.position(A), Ok(at(2)));
    store.with_view(B, &mut |view| assert_eq!(view.scan(&KvRange::all()), Ok(vec![]))).unwrap();
}

fn wipes_one_bucket(store: &dyn KvStore) {
    for bucket in [A, B, KvBucketId(u64::MAX)] {
        store.write(bucket, &[put("k", "1"), put("", "1")], at(1)).unwrap();
    }
    store.wipe(A).unwrap();
    assert_eq!((store.position(A), store.scan(A, &KvRange::all())), (Ok(KvPosition::START), Ok(vec![])));
    assert_eq!(store.buckets(), Ok(vec![B, KvBucketId(u64::MAX)]));
    assert_eq!(store.get(B, b"k"), Ok(Some(bytes("1"))));
    store.wipe(KvBucketId(u64::MAX)).unwrap();
    assert_eq!(store.buckets(), Ok(vec![B]));
    assert_eq!(store.scan(B, &KvRange::all()).unwrap().len(), 2);
}

/// One step of a history.
#[derive(Clone, Debug)]
pub enum Op {
    Write { bucket: u64, rows: Vec<(u8, Option<u8>)> },
    Wipe { bucket: u64 },
    Flush,
    Crash,
}

pub fn op() -> impl Strategy<Value = Op> {
    let row = (0..20_u8, prop::option::weighted(0.7, any::<u8>()));
    prop_oneof![
        12 => (1..4_u64, prop::collection::vec(row, 0..6)).prop_map(|(bucket, rows)| Op::Write { bucket, rows }),
        1 => (1..4_u64).prop_map(|bucket| Op::Wipe { bucket }),
        2 => Just(Op::Flush),
        2 => Just(Op::Crash),
    ]
}

type State = BTreeMap<u64, (BTreeMap<Bytes, Bytes>, KvPosition)>;

/// The state after every write since the last flush; the first one is what the flush made safe.
pub struct Model {
    states: Vec<State>,
    writes: u64,
}

impl Default for Model {
    fn default() -> Self {
        Self { states: vec![State::new()], writes: 0 }
    }
}

fn key(number: u8) -> Bytes {
    // Short and long ones, some with 0xff at the end.
    Bytes::from(vec![number | if number.is_multiple_of(3) { 0xf0 } else { 0 }; 1 + usize::from(number % 3)])
}

impl Model {
    fn now(&self) -> &State {
        self.states.last().expect("there is always one")
    }

    pub fn run(&mut self, op: &Op, store: &dyn KvStore) {
        let mut next = self.now().clone();
        match op {
            Op::Write { bucket, rows } => {
                self.writes += 1;
                let position = at(self.writes);
                let rows: Vec<KvRow> =
                    rows.iter().map(|(number, value)| (key(*number), value.map(|value| Bytes::from(vec![value; 3])))).collect();
                store.write(KvBucketId(*bucket), &rows, position).unwrap();
                let bucket = next.entry(*bucket).or_insert((BTreeMap::new(), position));
                bucket.1 = position;
                for (key, value) in rows {
                    match value {
                        Some(value) => drop(bucket.0.insert(key, value)),
                        None => drop(bucket.0.remove(&key)),
                    }
                }
            }
            Op::Wipe { bucket } => {
                store.wipe(KvBucketId(*bucket)).unwrap();
                next.remove(bucket);
            }
            Op::Flush => {
                store.flush().unwrap();
                self.states = vec![next];
                return;
            }
            Op::Crash => panic!("crashes are the caller's"),
        }
        self.states.push(next);
    }

    /// Everything after the first `kept` writes since the last flush is gone.
    pub fn crashed_to(&mut self, kept: usize) {
        self.states = vec![self.states[kept].clone()];
    }

    /// The store as a state; then one of those that a crash may leave. Returns which.
    pub fn find(&self, store: &dyn KvStore) -> Option<usize> {
        let found = read(store);
        self.states.iter().rposition(|state| *state == found)
    }

    pub fn check(&self, store: &dyn KvStore) {
        assert_eq!(&read(store), self.now());
    }
}

fn read(store: &dyn KvStore) -> State {
    let read = |bucket: KvBucketId| {
        let rows: BTreeMap<_, _> = store.scan(bucket, &KvRange::all()).unwrap().into_iter().collect();
        (bucket.0, (rows, store.position(bucket).unwrap()))
    };
    store.buckets().unwrap().into_iter().map(read).collect()
}
