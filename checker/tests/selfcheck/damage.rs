//! Ways to damage a good history, and the name that each must be reported under.
#![allow(clippy::ptr_arg)] // all kinds of damage have one signature

use crate::damage_keyed::*;
use crate::generate::{Draws, is_after};
use floss_checker::history::*;
use floss_checker::{Cell, Change, Kind, Row, Table};
use std::collections::BTreeMap;

/// `false`: this history has nothing that could be damaged so; it is as it was.
pub type Damage = fn(&mut Vec<Event>, &mut Draws) -> bool;

pub const DAMAGES: &[(&str, &str, Damage)] = &[
    ("drop an acked batch at the end of all logs", "lost write", lose_tail),
    ("drop an acked batch at the end of one replica", "lost write", lose_tail_of_one),
    ("the last reader stops before an acked batch", "unseen tail", lose_tail_of_reader),
    ("drop a batch in the middle", "gap", drop_middle),
    ("drop a batch in the middle and close up", "send skip", skip_send),
    ("duplicate a batch", "duplicate", duplicate),
    ("swap two offsets in an answer", "inconsistent offset", swap_rows),
    ("an ack says another offset", "inconsistent offset", move_ack),
    ("a retry is acked elsewhere", "moved ack", forget_dedupe),
    ("two batches of a writer change places", "nonmonotonic send", swap_batches),
    ("a batch is sent after a later one was acked", "append order", send_late),
    ("a put is sent after a later one was acked", "reordered write", put_late),
    ("two batches mix", "torn batch", mix),
    ("replicas differ in bytes", "replica divergence", other_bytes),
    ("a replica cannot be read", "unreadable log", unreadable),
    ("a row that nobody wrote", "phantom", phantom),
    ("a row that does not match its checksum", "garbage", garbage),
    ("a failed batch is there", "aborted read", resurrect_failed),
    ("a row is read behind the end", "unstable read", read_behind_end),
    ("a row at the watermark", "uncommitted read", read_above),
    ("a fresh answer knows too little", "stale watermark", stale_watermark),
    ("a watermark over free offsets", "broken watermark", early_watermark),
    ("an answer leaves out its first row", "poll skip", skip_poll),
    ("an answer starts too early", "nonmonotonic poll", early_poll),
    ("an answer leaves out a row", "internal skip", skip_inside),
    ("an answer goes back", "internal nonmonotonic", back_inside),
    ("a stale lookup", "stale read", stale_lookup),
    ("a deleted row comes back", "stale read", resurrect_row),
    ("a lookup finds what never was", "phantom read", phantom_lookup),
    ("a lookup finds what never was, without any log", "no order", phantom_lookup_alone),
    ("a wrong before-image", "wrong before-image", wrong_before),
    ("-U is dropped", "cut pair", drop_before),
    ("a pair is cut", "cut pair", cut_pair),
    ("+I of a live row", "insert of a live row", insert_live),
    ("-D twice", "delete of nothing", delete_twice),
    ("an update after its -D", "update of nothing", update_nothing),
    ("+A in a changelog", "wrong change type", append_kind),
    ("a merge of another value", "wrong merge", wrong_merge),
    ("a row differs from the fold", "wrong rows", wrong_rows),
    ("rows are counted wrong", "wrong row count", wrong_count),
    ("a scan leaves out a row", "torn read", torn_scan),
    ("more rows are counted than ever were", "phantom read", wrong_number_of_rows),
    ("a new row has no number", "no number", no_number),
    ("two new rows have one number", "number given twice", number_twice),
    ("two leaders of a term", "two leaders", two_leaders),
    ("a writer is stuck", "no progress", stuck),
];

/// The place of a log in the events, and its batches.
pub fn logs(events: &mut [Event]) -> impl Iterator<Item = (Bucket, Source, &mut i64, &mut Vec<Logged>)> {
    events.iter_mut().filter_map(|event| match event {
        Event::Log { by, bucket, end, batches: Ok(batches), .. } => Some((*bucket, *by, end, batches)),
        _ => None,
    })
}

pub fn tables(events: &[Event]) -> BTreeMap<Bucket, Table> {
    match &events[0] {
        Event::Start { tables, .. } => tables.clone(),
        _ => BTreeMap::new(),
    }
}

/// A bucket whose batches are told, by chance, with its log.
fn stamped_log(events: &mut [Event], draws: &mut Draws, is_it: impl Fn(bool) -> bool) -> Option<(Bucket, Vec<Logged>)> {
    let tables = tables(events);
    let of = |(bucket, _, _, batches): (Bucket, Source, &mut i64, &mut Vec<Logged>)| {
        let told = batches.iter().all(|batch| batch.stamps.iter().all(|stamp| *stamp != Stamp::Untold));
        (told && is_it(tables.contains_key(&bucket))).then(|| (bucket, batches.clone()))
    };
    let found: Vec<_> = logs(events).filter_map(of).collect();
    draws.pick(&found).cloned()
}

/// The same to all logs of a bucket.
pub fn edit(events: &mut [Event], bucket: Bucket, mut change: impl FnMut(&mut Vec<Logged>, &mut i64)) -> bool {
    logs(events).filter(|(of, ..)| *of == bucket).for_each(|(.., end, batches)| change(batches, end));
    true
}

pub fn value(batch: &Logged) -> Option<Value> {
    match batch.stamps.first() {
        Some(Stamp::By(value)) => Some(*value),
        _ => None,
    }
}

fn rebase(batches: &mut [Logged], end: &mut i64) {
    let mut next = 0;
    for batch in batches {
        batch.base_offset = next;
        next = batch.end();
    }
    *end = next;
}

/// What is known of a batch.
#[derive(Default, Clone)]
pub struct Known {
    pub invokes: Vec<(usize, u64)>,
    /// Event and time; of acks, also the place.
    pub acks: Vec<(usize, u64, Option<i64>)>,
    failed: usize,
    bucket: Option<Bucket>,
    rows: u32,
}

pub fn batches(events: &[Event]) -> BTreeMap<(Writer, i64), Known> {
    let mut of = BTreeMap::new();
    let mut known: BTreeMap<(Writer, i64), Known> = BTreeMap::new();
    for (index, event) in events.iter().enumerate() {
        match event {
            Event::Invoke { at, op, bucket, request, .. } => {
                let (name, count) = match request {
                    Request::Append { writer, sequence, rows } => ((*writer, *sequence), *rows),
                    Request::Put { writer, sequence, .. } => ((*writer, *sequence), 1),
                    _ => continue,
                };
                of.insert(*op, name);
                let one = known.entry(name).or_default();
                one.invokes.push((index, *at));
                (one.bucket, one.rows) = (*bucket, count);
            }
            Event::Return { at, op, outcome } => {
                let Some(one) = of.get(op).and_then(|name| known.get_mut(name)) else { continue };
                match outcome {
                    Outcome::Ok(Answer::Appended { base_offset: place } | Answer::Put { end_offset: place }) => {
                        one.acks.push((index, *at, *place));
                    }
                    Outcome::Fail(_) => one.failed += 1,
                    _ => {}
                }
            }
            _ => {}
        }
    }
    known
}

fn is_acked(known: &BTreeMap<(Writer, i64), Known>, batch: &Logged) -> bool {
    value(batch).is_some_and(|value| known.get(&(value.writer, value.sequence)).is_some_and(|one| !one.acks.is_empty()))
}

fn lose_tail(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let known = batches(events);
    let Some((bucket, log)) = stamped_log(events, draws, |_| true) else { return false };
    let Some(last) = log.last().filter(|batch| is_acked(&known, batch)) else { return false };
    edit(events, bucket, |batches, end| {
        batches.pop();
        *end = last.base_offset;
    })
}

fn lose_tail_where(events: &mut [Event], draws: &mut Draws, is_it: impl Fn(Source) -> bool) -> bool {
    let known = batches(events);
    let Some((bucket, log)) = stamped_log(events, draws, |_| true) else { return false };
    let last = log.last().filter(|batch| is_acked(&known, batch));
    let others = logs(events).filter(|(of, by, ..)| *of == bucket && !is_it(*by)).count();
    let one = logs(events).find(|(of, by, ..)| *of == bucket && is_it(*by));
    let (Some(last), Some((.., end, batches)), 1..) = (last, one, others) else { return false };
    batches.pop();
    *end = last.base_offset;
    true
}

fn lose_tail_of_one(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    lose_tail_where(events, draws, |by| by == Source::Replica(2))
}

fn lose_tail_of_reader(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    lose_tail_where(events, draws, |by| by == Source::Reader)
}

fn drop_middle(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let Some((bucket, log)) = stamped_log(events, draws, |_| true) else { return false };
    if log.len() < 3 {
        return false;
    }
    let at = 1 + draws.below(log.len() as u64 - 2) as usize;
    edit(events, bucket, |batches, _| drop(batches.remove(at)))
}

/// Batches of a log that the same writer goes on after, with buckets told.
fn with_successor(events: &mut [Event], draws: &mut Draws) -> Option<(Bucket, usize, usize)> {
    let known = batches(events);
    let (bucket, log) = stamped_log(events, draws, |_| true)?;
    let writer = |at: usize| value(&log[at]).map(|value| value.writer);
    let next = |at: usize| ((at + 1)..log.len()).find(|later| writer(*later) == writer(at));
    let told = |at: &usize| value(&log[*at]).is_some_and(|value| known[&(value.writer, value.sequence)].bucket.is_some());
    let fitting: Vec<_> = (0..log.len()).filter(told).filter_map(|at| Some((bucket, at, next(at)?))).collect();
    draws.pick(&fitting).copied()
}

fn skip_send(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let Some((bucket, at, _)) = with_successor(events, draws) else { return false };
    edit(events, bucket, |batches, end| {
        batches.remove(at);
        rebase(batches, end);
    })
}

fn swap_batches(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let Some((bucket, at, later)) = with_successor(events, draws) else { return false };
    edit(events, bucket, |batches, end| {
        batches.swap(at, later);
        rebase(batches, end);
    })
}

fn duplicate(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let Some((bucket, log)) = stamped_log(events, draws, |_| true) else { return false };
    let Some(batch) = draws.pick(&log).cloned() else { return false };
    edit(events, bucket, |batches, end| {
        batches.push(Logged { base_offset: *end, ..batch.clone() });
        *end += batch.stamps.len() as i64;
    })
}

/// A fetch that was answered: events of its question and its answer.
fn fetch(events: &[Event], draws: &mut Draws, is_it: impl Fn(&Request, Option<i64>, &[Seen]) -> bool) -> Option<(usize, usize)> {
    let mut asked = BTreeMap::new();
    let mut found = Vec::new();
    for (index, event) in events.iter().enumerate() {
        match event {
            Event::Invoke { op, request, .. } => _ = asked.insert(*op, (index, request)),
            Event::Return { op, outcome: Outcome::Ok(Answer::Fetched { high_watermark, rows }), .. } => {
                let (question, request) = asked[op];
                if is_it(request, *high_watermark, rows) {
                    found.push((question, index));
                }
            }
            _ => {}
        }
    }
    draws.pick(&found).copied()
}

fn answer_of(event: &mut Event) -> (&mut Option<i64>, &mut Vec<Seen>) {
    match event {
        Event::Return { outcome: Outcome::Ok(Answer::Fetched { high_watermark, rows }), .. } => (high_watermark, rows),
        other => panic!("{other:?} is no answer to a fetch"),
    }
}

fn times_of(events: &[Event], question: usize, answer: usize) -> (u64, u64, Bucket) {
    match (&events[question], &events[answer]) {
        (Event::Invoke { at: asked, bucket: Some(bucket), .. }, Event::Return { at, .. }) => (*asked, *at, *bucket),
        other => panic!("{other:?} is no fetch"),
    }
}

fn swap_rows(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let differ = |rows: &[Seen]| rows.len() > 1 && (&rows[0].stamp, &rows[0].change) != (&rows[1].stamp, &rows[1].change);
    let Some((_, at)) = fetch(events, draws, |_, _, rows| differ(rows)) else { return false };
    let (_, rows) = answer_of(&mut events[at]);
    rows.swap(0, 1);
    (rows[0].offset, rows[1].offset) = (rows[1].offset, rows[0].offset);
    true
}

fn edit_ack(event: &mut Event, by: i64) {
    if let Event::Return {
        outcome: Outcome::Ok(Answer::Appended { base_offset: place } | Answer::Put { end_offset: place }),
        ..
    } = event
    {
        *place = place.map(|place| place + by);
    }
}

fn move_ack(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let told = |one: &Known| one.acks.first().is_some_and(|ack| ack.2.is_some());
    let acked: Vec<Known> = batches(events).into_values().filter(told).collect();
    let Some(one) = draws.pick(&acked) else { return false };
    let by = if draws.percent(50) { 1 } else { -1 };
    one.acks.iter().for_each(|(index, ..)| edit_ack(&mut events[*index], by));
    true
}

/// A batch that has two acks; most have one, so an attempt more is made up.
fn forget_dedupe(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let told = |one: &Known| one.acks.first().is_some_and(|ack| ack.2.is_some());
    let acked: Vec<Known> = batches(events).into_values().filter(told).collect();
    let Some(one) = draws.pick(&acked) else { return false };
    let (Event::Invoke { at: _, process, bucket, request, .. }, Event::Return { at, outcome, .. }) =
        (events[one.invokes[0].0].clone(), events[one.acks[0].0].clone())
    else {
        return false;
    };
    events.push(Event::Invoke { at: at + 1, op: u64::MAX, process, bucket, request });
    events.push(Event::Return { at: at + 2, op: u64::MAX, outcome });
    edit_ack(events.last_mut().expect("just pushed"), 3);
    true
}

/// Two batches, the later one acked: the earlier one is sent only after that.
fn late(events: &mut [Event], draws: &mut Draws, keyed: bool) -> bool {
    let known = batches(events);
    let Some((_, log)) = stamped_log(events, draws, |is_keyed| is_keyed == keyed) else { return false };
    let of = |batch: &Logged| value(batch).map(|value| known[&(value.writer, value.sequence)].clone());
    let pairs = log.windows(2).filter(|pair| is_acked(&known, &pair[1]));
    let pairs: Vec<_> = pairs.filter_map(|pair| Some((of(&pair[0])?, of(&pair[1])?))).collect();
    let Some((early, late)) = draws.pick(&pairs) else { return false };
    let after = late.acks.iter().map(|(_, at, _)| *at).min().expect("it is acked") + 1;
    let ops: Vec<u64> = early.invokes.iter().map(|(index, _)| op_of(&events[*index])).collect();
    for event in events.iter_mut() {
        match event {
            Event::Invoke { at, op, .. } if ops.contains(op) => *at = after,
            Event::Return { at, op, .. } if ops.contains(op) => *at = (*at).max(after + 1),
            _ => {}
        }
    }
    true
}

fn op_of(event: &Event) -> u64 {
    match event {
        Event::Invoke { op, .. } | Event::Return { op, .. } => *op,
        _ => 0,
    }
}

fn send_late(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    late(events, draws, false)
}

fn put_late(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    late(events, draws, true)
}

fn mix(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let Some((bucket, log)) = stamped_log(events, draws, |keyed| !keyed) else { return false };
    let pairs: Vec<usize> = (1..log.len()).filter(|at| log[at - 1].stamps.len() > 1).collect();
    let Some(second) = draws.pick(&pairs).copied() else { return false };
    edit(events, bucket, |batches, _| {
        let (one, other) = batches.split_at_mut(second);
        let last = one[second - 1].stamps.last_mut().expect("it has two");
        std::mem::swap(last, &mut other[0].stamps[0]);
    })
}

fn one_replica<'a>(events: &'a mut [Event], draws: &mut Draws) -> Option<&'a mut Event> {
    let is_it =
        |event: &Event| matches!(event, Event::Log { by: Source::Replica(_), batches: Ok(batches), .. } if !batches.is_empty());
    let found: Vec<usize> = (0..events.len()).filter(|at| is_it(&events[*at])).collect();
    draws.pick(&found).map(|at| &mut events[*at])
}

fn other_bytes(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let Some(Event::Log { batches: Ok(batches), .. }) = one_replica(events, draws) else { return false };
    let at = draws.below(batches.len() as u64) as usize;
    batches[at].digest = batches[at].digest.map(|digest| digest ^ 1);
    true
}

fn unreadable(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let Some(Event::Log { batches, .. }) = one_replica(events, draws) else { return false };
    *batches = Err("checksum".into());
    true
}

fn phantom(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let Some((bucket, log)) = stamped_log(events, draws, |_| true).filter(|(_, log)| !log.is_empty()) else { return false };
    let at = draws.below(log.len() as u64) as usize;
    edit(events, bucket, |batches, _| {
        for stamp in &mut batches[at].stamps {
            if let Stamp::By(value) = stamp {
                value.sequence += 5_000;
            }
        }
    })
}

fn garbage(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let Some((bucket, log)) = stamped_log(events, draws, |_| true).filter(|(_, log)| !log.is_empty()) else { return false };
    let at = draws.below(log.len() as u64) as usize;
    edit(events, bucket, |batches, _| batches[at].stamps[0] = Stamp::Garbage("checksum".into()))
}

fn resurrect_failed(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let failed = |one: &Known| one.failed == one.invokes.len() && one.bucket.is_some();
    let failed: Vec<_> = batches(events).into_iter().filter(|(_, one)| failed(one)).collect();
    let Some(((writer, sequence), one)) = draws.pick(&failed) else { return false };
    let stamps: Vec<Stamp> =
        (0..one.rows).map(|index| Stamp::By(Value { writer: *writer, sequence: *sequence, index })).collect();
    edit(events, one.bucket.expect("checked"), |batches, end| {
        batches.push(Logged { base_offset: *end, digest: Some(1), stamps: stamps.clone(), changes: Vec::new() });
        *end += stamps.len() as i64;
    })
}

fn read_behind_end(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let Some((question, at)) = fetch(events, draws, |_, _, rows| !rows.is_empty()) else { return false };
    let (.., bucket) = times_of(events, question, at);
    let end = logs(events).filter(|(of, ..)| *of == bucket).map(|(.., end, _)| *end).max().unwrap_or(0);
    let (_, rows) = answer_of(&mut events[at]);
    let last = rows.last().cloned().expect("checked");
    rows.push(Seen { offset: end, ..last });
    true
}

fn read_above(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let Some((_, at)) = fetch(events, draws, |_, end, rows| end.is_some() && !rows.is_empty()) else { return false };
    let (end, rows) = answer_of(&mut events[at]);
    *end = rows.last().map(|row| row.offset);
    true
}

/// Acked places of a bucket: when, and the last offset.
fn acked_ends(events: &[Event], bucket: Bucket, keyed: bool) -> Vec<(u64, i64)> {
    let known = batches(events).into_values().filter(|one| one.bucket == Some(bucket));
    let end = |one: Known| {
        let at = one.acks.iter().map(|ack| ack.1).min()?;
        let place = one.acks[0].2?;
        Some((at, if keyed { place - 1 } else { place + i64::from(one.rows) - 1 }))
    };
    known.filter_map(end).collect()
}

fn stale_watermark(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let fresh = |request: &Request| matches!(request, Request::Fetch { fresh: true, .. });
    let Some((question, at)) = fetch(events, draws, |request, end, _| fresh(request) && end.is_some()) else { return false };
    let (asked, _, bucket) = times_of(events, question, at);
    let keyed = tables(events).contains_key(&bucket);
    let acks = acked_ends(events, bucket, keyed);
    let Some(known) = acks.into_iter().filter(|(at, _)| *at < asked).map(|(_, last)| last).max() else { return false };
    let (end, rows) = answer_of(&mut events[at]);
    *end = Some(known);
    rows.retain(|row| row.offset < known);
    true
}

fn early_watermark(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let Some((question, at)) = fetch(events, draws, |_, end, _| end.is_some()) else { return false };
    let (_, answered, bucket) = times_of(events, question, at);
    let later = batches(events).into_values().filter(|one| one.bucket == Some(bucket) && one.invokes[0].1 > answered);
    let keyed = tables(events).contains_key(&bucket);
    let place = |one: Known| Some(one.acks.first()?.2? - i64::from(keyed));
    let Some(place) = later.filter_map(place).min() else { return false };
    *answer_of(&mut events[at]).0 = Some(place + 1);
    true
}

fn from_of(request: &Request) -> Option<i64> {
    match request {
        Request::Fetch { from, .. } => *from,
        _ => None,
    }
}

fn skip_poll(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let Some((_, at)) = fetch(events, draws, |request, _, rows| from_of(request).is_some() && rows.len() > 1) else {
        return false;
    };
    answer_of(&mut events[at]).1.remove(0);
    true
}

fn early_poll(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let Some((at, _)) = fetch(events, draws, |request, _, rows| from_of(request).is_some() && !rows.is_empty()) else {
        return false;
    };
    let Event::Invoke { request: Request::Fetch { from, .. }, .. } = &mut events[at] else { return false };
    *from = from.map(|from| from + 1);
    true
}

fn skip_inside(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let Some((_, at)) = fetch(events, draws, |_, _, rows| rows.len() > 2) else { return false };
    answer_of(&mut events[at]).1.remove(1);
    true
}

fn back_inside(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let Some((_, at)) = fetch(events, draws, |_, _, rows| rows.len() > 1) else { return false };
    let rows = answer_of(&mut events[at]).1;
    let first = rows[0].clone();
    rows.push(first);
    true
}

fn two_leaders(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let is_it = |event: &Event| matches!(event, Event::Belief { .. });
    let Some(Event::Belief { at, node, group, term, leader }) = rows_where(events, draws, is_it).cloned() else { return false };
    events.push(Event::Belief { at, node: node + 1, group, term, leader: leader + 1 });
    true
}

fn stuck(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let is_it = |event: &Event| matches!(event, Event::Progress { .. });
    let Some(Event::Progress { kept, .. }) = rows_where(events, draws, is_it) else { return false };
    *kept = false;
    true
}

/// Of a changelog that does not say whose changes it holds: drops the last change, repeats a row, or makes one up.
pub fn damage_untold(events: &mut [Event], draws: &mut Draws, name: &str) -> bool {
    let known = batches(events);
    let tables = tables(events);
    let untold = |log: &Vec<Logged>| log.last().is_some_and(|batch| batch.stamps[0] == Stamp::Untold);
    let mut logs = logs(events).filter(|(bucket, .., batches)| tables.contains_key(bucket) && untold(batches));
    let Some((_, _, end, batches)) = logs.next() else { return false };
    let last = batches.last().cloned().expect("checked");
    match name {
        "lost write" if is_after(&last.changes[0]) => {
            let [_, Cell::Int(writer), Cell::Int(sequence)] = last.changes[0].row[..] else { return false };
            if known[&(writer as u64, sequence)].acks.is_empty() {
                return false;
            }
            *end = batches.pop().expect("checked").base_offset;
        }
        "duplicate" | "phantom" if is_after(&last.changes[0]) => {
            let mut row = last.changes[0].row.clone();
            if name == "phantom" {
                row[2] = Cell::Int(4_000 + draws.below(9) as i64);
            }
            let of = |at: i64, kind, row: &Row| Logged {
                base_offset: *end + at,
                digest: None,
                stamps: vec![Stamp::Untold],
                changes: vec![Change { kind, row: row.clone() }],
            };
            let pair = [of(0, Kind::UpdateBefore, &last.changes[0].row), of(1, Kind::UpdateAfter, &row)];
            batches.extend(pair);
            *end += 2;
        }
        _ => return false,
    }
    true
}
