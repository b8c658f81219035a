//! Batches are there, whole, once, where their ack said, and in the order of their writer.

use super::witness::{Log, Logs, Slot, Whole};
use crate::anomaly::Found;
use crate::facts::{Content, Facts, Sent, seconds};
use crate::history::{Bucket, Stamp, Value, Writer};
use std::collections::BTreeMap;

pub(super) fn check(facts: &Facts<'_>, logs: &Logs<'_>, found: &mut Found) {
    for (bucket, log) in &logs.of {
        check_writers(facts, *bucket, log, found);
        if let Some(whole) = log.whole {
            check_batches(facts, *bucket, log, whole, found);
        }
    }
    check_acks(facts, logs, found);
    check_overlaps(facts, found);
}

fn value_of(slot: &Slot<'_>) -> Option<Value> {
    match slot.stamp {
        Stamp::By(value) => Some(*value),
        Stamp::Garbage(_) | Stamp::Untold => None,
    }
}

/// Sequences grow with the offsets; in a whole log none is left out.
fn check_writers(facts: &Facts<'_>, bucket: Bucket, log: &Log<'_>, found: &mut Found) {
    let mut last: BTreeMap<Writer, i64> = BTreeMap::new();
    let is_whole = log.whole.is_some_and(|whole| whole.start == 0);
    for (offset, slot) in &log.slots {
        let Some(Value { writer, sequence, .. }) = value_of(slot) else { continue };
        let before = last.insert(writer, sequence).unwrap_or(i64::MIN);
        if before > sequence {
            found.add("nonmonotonic send", || format!("w{writer} #{sequence} is at {offset} of b{bucket}, after #{before}"));
        }
        if !is_whole || before.saturating_add(1) >= sequence {
            continue;
        }
        let between = facts.batches.range((writer, before.saturating_add(1))..(writer, sequence));
        let is_missing = |sent: &Sent<'_>| sent.bucket == Some(bucket) && !sent.is_aborted();
        for ((_, skipped), _) in between.filter(|(_, sent)| is_missing(sent)).take(1) {
            found.add("send skip", || format!("w{writer} #{sequence} is at {offset} of b{bucket}, #{skipped} is not before it"));
        }
    }
}

/// The rows of a batch stand side by side, all of them; and what is stored as a batch is one.
fn check_batches(facts: &Facts<'_>, bucket: Bucket, log: &Log<'_>, whole: Whole<'_>, found: &mut Found) {
    let rows_of = |value: Value| match facts.batches.get(&(value.writer, value.sequence))?.content {
        Content::Rows(rows) => Some(rows),
        Content::Put(_) => None,
    };
    let mut torn = |offset: i64, value: Value| {
        found.add("torn batch", || format!("the batch of {value} at offset={offset} of b{bucket} is not whole"));
    };
    let mut before: Option<(i64, Value)> = None;
    for (offset, slot) in log.slots.range(whole.start..) {
        let value = value_of(slot);
        let goes_on = |(at, last): (i64, Value)| value == Some(Value { index: last.index + 1, ..last }) && at + 1 == *offset;
        let is_whole = |(_, last): (i64, Value)| rows_of(last).is_none_or(|rows| last.index + 1 >= rows);
        match (before, value) {
            (Some(last), _) if goes_on(last) => {}
            (Some((at, last)), _) if !is_whole((at, last)) => torn(at, last),
            (_, Some(value)) if value.index > 0 && *offset > whole.start => torn(*offset, value),
            _ => {}
        }
        before = value.map(|value| (*offset, value));
    }
    if let Some((at, last)) = before
        && rows_of(last).is_some_and(|rows| last.index + 1 < rows)
    {
        torn(at, last);
    }
    for batch in whole.batches.iter().filter(|batch| batch.digest.is_some()) {
        let Some(Stamp::By(first)) = batch.stamps.first() else { continue };
        let values = (0..).map(|index| Stamp::By(Value { index, ..*first }));
        let is_one = batch.stamps.iter().zip(values).all(|(stamp, expected)| *stamp == expected);
        if !is_one || rows_of(*first).is_some_and(|rows| rows as usize != batch.stamps.len()) {
            torn(batch.base_offset, *first);
        }
    }
}

/// What was acknowledged is in every whole log, where the ack said.
fn check_acks(facts: &Facts<'_>, logs: &Logs<'_>, found: &mut Found) {
    for ((writer, sequence), sent) in &facts.batches {
        let Some(acked) = sent.acked else { continue };
        let name = || format!("w{writer} #{sequence}, acknowledged at {}", seconds(acked));
        let rows = match sent.content {
            Content::Rows(rows) => rows,
            // Who made a change is not known in all logs; `keyed` finds out.
            Content::Put(_) if sent.bucket.is_none() => continue,
            Content::Put(_) => 1,
        };
        let place = |index| logs.places.get(&Value { writer: *writer, sequence: *sequence, index }).copied();
        let first = place(0);
        let wholes = logs.of.iter().filter(|(bucket, _)| sent.bucket.is_none_or(|meant| meant == **bucket));
        let wholes: Vec<Whole<'_>> = wholes.filter_map(|(_, log)| log.whole).collect();
        let is_expired = |whole: &Whole<'_>| sent.place.is_some_and(|at| at < whole.start);
        if sent.bucket.is_some_and(|bucket| facts.expiring.contains(&bucket)) && wholes.iter().any(is_expired) {
            continue;
        }
        match (0..rows).find(|index| place(*index).is_none()) {
            Some(_) if wholes.is_empty() => {}
            Some(index) => {
                let unread = |whole: &Whole<'_>| whole.replica_end.is_none() && sent.place.is_some_and(|at| at >= whole.end);
                let name_of = if wholes.iter().all(unread) { "unseen tail" } else { "lost write" };
                found.add(name_of, || format!("{}: row {index} is nowhere", name()));
            }
            None => check_tail(&name, (0..rows).filter_map(place), logs, found),
        }
        let Some((bucket, base)) = first else { continue };
        let stands = match sent.content {
            Content::Rows(_) => Some(base),
            Content::Put(_) => logs.of.get(&bucket).and_then(|log| end_of(log, base)),
        };
        if let (Some(told), Some(stands)) = (sent.place, stands)
            && told != stands
        {
            found.add("inconsistent offset", || format!("{} as {told} of b{bucket}, is {stands}", name()));
        }
    }
}

/// Where the batch at this offset ends.
fn end_of(log: &Log<'_>, offset: i64) -> Option<i64> {
    let batches = log.whole?.batches;
    let after = batches.partition_point(|batch| batch.base_offset <= offset);
    Some(batches.get(after.checked_sub(1)?)?.end())
}

/// The shortest log has them, too.
fn check_tail(name: &dyn Fn() -> String, places: impl Iterator<Item = (Bucket, i64)>, logs: &Logs<'_>, found: &mut Found) {
    for (bucket, offset) in places {
        let Some(whole) = logs.of.get(&bucket).and_then(|log| log.whole) else { continue };
        if whole.replica_end.is_some_and(|end| offset >= end) || offset >= whole.end {
            return found.add("lost write", || format!("{}: a log of b{bucket} ends before its offset={offset}", name()));
        }
        if whole.reader_end.is_some_and(|end| offset >= end) {
            return found.add("unseen tail", || format!("{}: b{bucket} cannot be read up to its offset={offset}", name()));
        }
    }
}

/// No offset is acknowledged twice, whether somebody reads it or not.
fn check_overlaps(facts: &Facts<'_>, found: &mut Found) {
    let mut taken: Vec<(Bucket, i64, i64, &(Writer, i64))> = Vec::new();
    for (name, sent) in &facts.batches {
        let (Some(bucket), Some(place)) = (sent.bucket, sent.place) else { continue };
        taken.push(match sent.content {
            Content::Rows(rows) => (bucket, place, place + i64::from(rows), name),
            Content::Put(_) => (bucket, place - 1, place, name),
        });
    }
    taken.sort_unstable();
    for pair in taken.windows(2) {
        let ((bucket, _, end, one), (other_bucket, start, _, other)) = (pair[0], pair[1]);
        if bucket == other_bucket && start < end {
            let (one, other) = (format!("w{} #{}", one.0, one.1), format!("w{} #{}", other.0, other.1));
            let detail = || format!("offset={start} of b{bucket} was acknowledged to {one} and to {other}");
            found.add("inconsistent offset", detail);
        }
    }
}
