//! What each offset holds, as everybody saw it: whole logs first, then readers in the order of their answers.

use crate::anomaly::Found;
use crate::facts::{Content, Dump, Facts, Fetch, seconds};
use crate::history::{Bucket, Logged, Source, Stamp, Value};
use crate::table::Change;
use std::collections::BTreeMap;
use std::fmt;

#[derive(Default)]
pub(crate) struct Logs<'a> {
    pub of: BTreeMap<Bucket, Log<'a>>,
    /// Where a value was seen first.
    pub places: BTreeMap<Value, (Bucket, i64)>,
}

#[derive(Default)]
pub(crate) struct Log<'a> {
    pub slots: BTreeMap<i64, Slot<'a>>,
    /// If it was shown whole.
    pub whole: Option<Whole<'a>>,
}

/// What the whole logs of a bucket have in common.
#[derive(Clone, Copy)]
pub(crate) struct Whole<'a> {
    /// Of the longest.
    pub start: i64,
    pub end: i64,
    pub batches: &'a [Logged],
    /// Where the shortest of a replica ends.
    pub replica_end: Option<i64>,
    /// Where the last reader came to.
    pub reader_end: Option<i64>,
}

#[derive(Clone, Copy)]
pub(crate) struct Slot<'a> {
    pub stamp: &'a Stamp,
    pub change: Option<&'a Change>,
    by: Witness,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Witness {
    Dump(Source),
    Process(u64),
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dump(source) => source.fmt(f),
            Self::Process(process) => write!(f, "p{process}"),
        }
    }
}

impl fmt::Display for Slot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stamp.fmt(f)?;
        self.change.map_or(Ok(()), |change| write!(f, " {change}"))?;
        write!(f, " for {}", self.by)
    }
}

impl<'a> Logs<'a> {
    pub fn fill(facts: &Facts<'a>, found: &mut Found) -> Self {
        let mut logs = Self::default();
        for (bucket, dumps) in &facts.dumps {
            check_bytes(*bucket, dumps, found);
            for dump in dumps {
                logs.take_dump(facts, *bucket, dump, found);
            }
            logs.of.entry(*bucket).or_default().whole = whole(dumps);
        }
        for fetch in &facts.fetches {
            logs.take_fetch(facts, fetch, found);
        }
        logs
    }

    fn take_dump(&mut self, facts: &Facts<'a>, bucket: Bucket, dump: &Dump<'a>, found: &mut Found) {
        let (by, mut expected) = (dump.by, dump.start);
        for batch in dump.batches {
            let base = batch.base_offset;
            if base != expected {
                found.add("gap", || format!("b{bucket} of {by}: a batch at offset={base}, expected {expected}"));
            }
            expected = batch.end();
            for (at, stamp) in batch.stamps.iter().enumerate() {
                let slot = Slot { stamp, change: batch.changes.get(at), by: Witness::Dump(by) };
                if self.see(bucket, base + at as i64, slot, found) {
                    check_stamp(facts, bucket, base + at as i64, slot, u64::MAX, found);
                }
            }
        }
        if expected != dump.end {
            let end = dump.end;
            found.add("gap", || format!("b{bucket} of {by} ends at offset={end}, its batches at {expected}"));
        }
    }

    fn take_fetch(&mut self, facts: &Facts<'a>, fetch: &Fetch<'a>, found: &mut Found) {
        let (bucket, process) = (fetch.bucket, fetch.process);
        let whole = self.of.get(&bucket).and_then(|log| log.whole);
        for row in fetch.rows {
            let (offset, by) = (row.offset, Witness::Process(process));
            let slot = Slot { stamp: &row.stamp, change: row.change.as_ref(), by };
            let is_new = self.see(bucket, offset, slot, found);
            check_stamp(facts, bucket, offset, slot, fetch.at, found);
            if let Some(whole) = whole.filter(|whole| is_new && offset >= whole.start) {
                let (at, end) = (seconds(fetch.at), whole.end);
                let detail = || format!("{slot} was at offset={offset} of b{bucket} at {at}, the log ends at {end} without it");
                found.add("unstable read", detail);
            }
        }
    }

    /// False if it was known.
    fn see(&mut self, bucket: Bucket, offset: i64, slot: Slot<'a>, found: &mut Found) -> bool {
        let known = *self.of.entry(bucket).or_default().slots.entry(offset).or_insert(slot);
        let untold = *known.stamp == Stamp::Untold || *slot.stamp == Stamp::Untold;
        let is_same = (untold || known.stamp == slot.stamp) && known.change == slot.change;
        if !is_same && !matches!(slot.stamp, Stamp::Garbage(_)) {
            let replicas = matches!((known.by, slot.by), (Witness::Dump(a), Witness::Dump(b)) if is_replica(a) && is_replica(b));
            let name = if replicas { "replica divergence" } else { "inconsistent offset" };
            found.add(name, || format!("offset={offset} of b{bucket} is {slot}, {known}"));
        }
        if let Stamp::By(value) = slot.stamp {
            let (other, at) = *self.places.entry(*value).or_insert((bucket, offset));
            if (other, at) != (bucket, offset) && is_same {
                found.add("duplicate", || format!("{value} is at {at} of b{other} and at {offset} of b{bucket}"));
            }
        }
        std::ptr::eq(known.stamp, slot.stamp)
    }
}

fn is_replica(source: Source) -> bool {
    source != Source::Reader
}

/// Replicas hold the same bytes in the same batches, and all of it.
fn check_bytes(bucket: Bucket, dumps: &[Dump<'_>], found: &mut Found) {
    let mut replicas = dumps.iter().filter(|dump| is_replica(dump.by));
    let Some(first) = replicas.next() else { return };
    for other in replicas {
        let (one, two, base) = (first.by, other.by, first.start.max(other.start));
        let from = |dump: &Dump<'_>| dump.batches.partition_point(|batch| batch.base_offset < base);
        let (left, right) = (&first.batches[from(first)..], &other.batches[from(other)..]);
        let pairs = left.iter().zip(right);
        let differs = |(one, other): &(&Logged, &Logged)| one.base_offset != other.base_offset || one.digest != other.digest;
        for (batch, _) in pairs.filter(differs).take(1) {
            let at = batch.base_offset;
            found.add("replica divergence", || format!("b{bucket}: the batch at offset={at} of {one} is another on {two}"));
        }
        let (end, other_end) = (first.end, other.end);
        if end != other_end {
            found.add("replica divergence", || format!("b{bucket} ends at {end} on {one}, at {other_end} on {two}"));
        }
    }
}

fn whole<'a>(dumps: &[Dump<'a>]) -> Option<Whole<'a>> {
    let longest = dumps.iter().max_by_key(|dump| (dump.end - dump.start, is_replica(dump.by)))?;
    let end = |of_replicas: bool| dumps.iter().filter(|dump| is_replica(dump.by) == of_replicas).map(|dump| dump.end).min();
    Some(Whole {
        start: longest.start,
        end: longest.end,
        batches: longest.batches,
        replica_end: end(true),
        reader_end: end(false),
    })
}

/// Somebody wrote it, before it was seen, and not in vain.
fn check_stamp(facts: &Facts<'_>, bucket: Bucket, offset: i64, slot: Slot<'_>, at: u64, found: &mut Found) {
    let value = match slot.stamp {
        Stamp::By(value) => value,
        Stamp::Garbage(_) => return found.add("garbage", || format!("offset={offset} of b{bucket}: {slot}")),
        Stamp::Untold => return,
    };
    let why = match facts.batches.get(&(value.writer, value.sequence)) {
        None => "nobody wrote that",
        Some(sent) if sent.bucket.is_some_and(|meant| meant != bucket) => "it was sent to another bucket",
        Some(sent) if matches!(sent.content, Content::Rows(rows) if value.index >= rows) => "its batch is shorter",
        Some(sent) if sent.invoked > at => "it was not sent yet",
        Some(sent) if sent.is_aborted() => {
            return found.add("aborted read", || format!("offset={offset} of b{bucket}: {slot}, its write has failed"));
        }
        Some(_) => return,
    };
    found.add("phantom", || format!("offset={offset} of b{bucket}: {slot}, {why}"));
}
