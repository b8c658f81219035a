//! Ways to damage a good history, and the name that each must be reported under.
#![allow(clippy::ptr_arg)] // all kinds of damage have one signature

use crate::generate::{Draws, NUMBERS, is_after};
use floss_checker::history::*;
use floss_checker::{Cell, Change, Image, Kind, Row, Rows, Table};
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
fn logs(events: &mut [Event]) -> impl Iterator<Item = (Bucket, Source, &mut i64, &mut Vec<Logged>)> {
    events.iter_mut().filter_map(|event| match event {
        Event::Log { by, bucket, end, batches: Ok(batches), .. } => Some((*bucket, *by, end, batches)),
        _ => None,
    })
}

fn tables(events: &[Event]) -> BTreeMap<Bucket, Table> {
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
fn edit(events: &mut [Event], bucket: Bucket, mut change: impl FnMut(&mut Vec<Logged>, &mut i64)) -> bool {
    logs(events).filter(|(of, ..)| *of == bucket).for_each(|(.., end, batches)| change(batches, end));
    true
}

fn value(batch: &Logged) -> Option<Value> {
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
struct Known {
    invokes: Vec<(usize, u64)>,
    /// Event and time; of acks, also the place.
    acks: Vec<(usize, u64, Option<i64>)>,
    failed: usize,
    bucket: Option<Bucket>,
    rows: u32,
}

fn batches(events: &[Event]) -> BTreeMap<(Writer, i64), Known> {
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

/// What a key went through: place, row, and when the batch was acked.
type Story = Vec<(i64, Option<Row>, Option<u64>)>;

fn stories(events: &mut [Event], bucket: Bucket, table: &Table) -> BTreeMap<Row, Story> {
    let known = batches(events);
    let mut rows = Rows::new();
    let mut stories: BTreeMap<Row, Story> = BTreeMap::new();
    let Some(log) = logs(events).find(|(of, ..)| *of == bucket).map(|(.., batches)| batches.clone()) else { return stories };
    for batch in log {
        for change in &batch.changes {
            match change.kind {
                Kind::Insert | Kind::UpdateAfter => _ = rows.insert(table.key(&change.row), change.row.clone()),
                Kind::Delete => _ = rows.remove(&table.key(&change.row)),
                _ => {}
            }
        }
        let acked = value(&batch).and_then(|value| known[&(value.writer, value.sequence)].acks.iter().map(|ack| ack.1).min());
        for change in &batch.changes {
            let key = table.key(&change.row);
            let row = rows.get(&key).cloned();
            stories.entry(key).or_insert_with(|| vec![(0, None, Some(0))]).push((batch.end(), row, acked));
        }
    }
    stories
}

/// Lookups that could be told an older row of their key: event, which key, the row.
fn stale_answers(events: &mut [Event], is_it: impl Fn(&Option<Row>, &Option<Row>) -> bool) -> Vec<(usize, usize, Option<Row>)> {
    let mut found = Vec::new();
    for (bucket, table) in tables(events) {
        let stories = stories(events, bucket, &table);
        let mut asked = BTreeMap::new();
        for (index, event) in events.iter().enumerate() {
            match event {
                Event::Invoke { at, op, bucket: Some(of), request: Request::Lookup { keys }, .. } if *of == bucket => {
                    asked.insert(*op, (*at, keys));
                }
                Event::Return { op, outcome: Outcome::Ok(Answer::Found { .. }), .. } => {
                    let Some((asked, keys)) = asked.get(op) else { continue };
                    for (which, story) in keys.iter().enumerate().filter_map(|(which, key)| Some((which, stories.get(key)?))) {
                        let done = |step: &(i64, Option<Row>, Option<u64>)| step.2.is_some_and(|at| at < *asked);
                        let Some(now) = story.iter().rposition(done) else { continue };
                        for (_, old, _) in &story[..now] {
                            let returns = story[now..].iter().any(|(_, row, _)| row == old);
                            if !returns && is_it(old, &story[now].1) {
                                found.push((index, which, old.clone()));
                            }
                        }
                    }
                }
                _ => {}
            }
        }
    }
    found
}

fn answer_with(events: &mut [Event], draws: &mut Draws, answers: &[(usize, usize, Option<Row>)]) -> bool {
    let Some((index, which, row)) = draws.pick(answers) else { return false };
    let Event::Return { outcome: Outcome::Ok(Answer::Found { rows }), .. } = &mut events[*index] else { return false };
    rows[*which] = row.clone();
    true
}

fn stale_lookup(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let answers = stale_answers(events, |_, _| true);
    answer_with(events, draws, &answers)
}

fn resurrect_row(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let answers = stale_answers(events, |old, now| old.is_some() && now.is_none());
    answer_with(events, draws, &answers)
}

/// A row that goes later, so that it could be seen to be away, only not at the place that the answer names.
fn torn_scan(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let tables = tables(events);
    let mut asked = BTreeMap::new();
    let mut fitting = Vec::new();
    let stories: BTreeMap<Bucket, BTreeMap<Row, Story>> =
        tables.iter().map(|(bucket, table)| (*bucket, stories(events, *bucket, table))).collect();
    for (index, event) in events.iter().enumerate() {
        match event {
            Event::Invoke { op, bucket: Some(bucket), request: Request::Scan { .. }, .. } => _ = asked.insert(*op, *bucket),
            Event::Return { op, outcome: Outcome::Ok(Answer::Scanned { rows, place: Some(place), .. }), .. } => {
                let (table, stories) = (&tables[&asked[op]], &stories[&asked[op]]);
                let goes = |row: &Row| stories[&table.key(row)].iter().any(|(at, row, _)| at > place && row.is_none());
                fitting.extend((0..rows.len()).filter(|at| goes(&rows[*at])).map(|at| (index, at)));
            }
            _ => {}
        }
    }
    let Some((index, at)) = draws.pick(&fitting).copied() else { return false };
    let Event::Return { outcome: Outcome::Ok(Answer::Scanned { rows, .. }), .. } = &mut events[index] else { return false };
    rows.remove(at);
    true
}

fn wrong_number_of_rows(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let is_it = |event: &Event| matches!(event, Event::Return { outcome: Outcome::Ok(Answer::Counted { .. }), .. });
    let Some(Event::Return { outcome: Outcome::Ok(Answer::Counted { rows }), .. }) = rows_where(events, draws, is_it) else {
        return false;
    };
    *rows += 1_000;
    true
}

/// All new rows of a numbered bucket: batch, and which of its changes.
fn new_rows(events: &mut [Event]) -> Option<(Bucket, Vec<(usize, usize)>)> {
    let bucket = match &events[0] {
        Event::Start { numbered, .. } => *numbered.keys().next()?,
        _ => return None,
    };
    let log = logs(events).find(|(of, ..)| *of == bucket).map(|(.., batches)| batches.clone())?;
    let of = |(at, batch): (usize, &Logged)| {
        let new = (0..batch.changes.len()).filter(|which| batch.changes[*which].kind == Kind::Insert);
        new.map(|which| (at, which)).collect::<Vec<_>>()
    };
    Some((bucket, log.iter().enumerate().flat_map(of).collect()))
}

fn no_number(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let Some((bucket, new)) = new_rows(events) else { return false };
    let Some((at, which)) = draws.pick(&new).copied() else { return false };
    edit(events, bucket, |batches, _| batches[at].changes[which].row[NUMBERS] = Cell::Null)
}

fn number_twice(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let Some((bucket, new)) = new_rows(events).filter(|(_, new)| new.len() > 1) else { return false };
    let second = 1 + draws.below(new.len() as u64 - 1) as usize;
    let ((at, which), (other, of)) = (new[0], new[second]);
    edit(events, bucket, |batches, _| {
        batches[other].changes[of].row[NUMBERS] = batches[at].changes[which].row[NUMBERS].clone();
    })
}

fn phantom_lookup(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let is_it = |event: &Event| matches!(event, Event::Return { outcome: Outcome::Ok(Answer::Found { .. }), .. });
    let all: Vec<_> = (0..events.len()).filter(|at| is_it(&events[*at])).map(|at| (at, 0, Some(vec![Cell::Int(77)]))).collect();
    answer_with(events, draws, &all)
}

fn phantom_lookup_alone(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let is_done = phantom_lookup(events, draws);
    events.retain(|event| !matches!(event, Event::Log { .. }));
    is_done
}

/// A batch of a changelog and one of its changes.
fn change_where(
    events: &mut [Event],
    draws: &mut Draws,
    is_it: impl Fn(&Table, &[Logged], usize, usize) -> bool,
) -> Option<(Bucket, usize, usize)> {
    let tables = tables(events);
    let mut found = Vec::new();
    for (bucket, _, _, batches) in logs(events) {
        let Some(table) = tables.get(&bucket) else { continue };
        for at in 0..batches.len() {
            let fitting = (0..batches[at].changes.len()).filter(|which| is_it(table, batches, at, *which));
            found.extend(fitting.map(|which| (bucket, at, which)));
        }
    }
    draws.pick(&found).copied()
}

fn kind(batches: &[Logged], at: usize, which: usize) -> Kind {
    batches[at].changes[which].kind
}

fn wrong_before(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let is_it = |_: &Table, all: &[Logged], at, which| matches!(kind(all, at, which), Kind::UpdateBefore | Kind::Delete);
    let Some((bucket, at, which)) = change_where(events, draws, is_it) else { return false };
    edit(events, bucket, |batches, _| batches[at].changes[which].row[1] = Cell::Int(-5))
}

fn drop_before(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let is_it = |_: &Table, all: &[Logged], at, which| kind(all, at, which) == Kind::UpdateBefore;
    let Some((bucket, at, which)) = change_where(events, draws, is_it) else { return false };
    edit(events, bucket, |batches, _| drop(batches[at].changes.remove(which)))
}

fn cut_pair(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let is_it =
        |table: &Table, all: &[Logged], at, which| table.image == Image::Full && kind(all, at, which) == Kind::UpdateAfter;
    let Some((bucket, at, which)) = change_where(events, draws, is_it) else { return false };
    edit(events, bucket, |batches, _| drop(batches[at].changes.remove(which)))
}

fn insert_live(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    // Alone, so that no pair is cut.
    let is_it =
        |_: &Table, all: &[Logged], at: usize, which| kind(all, at, which) == Kind::Insert && which + 1 == all[at].changes.len();
    let Some((bucket, at, which)) = change_where(events, draws, is_it) else { return false };
    edit(events, bucket, |batches, _| {
        let again = batches[at].changes[which].clone();
        batches[at].changes.push(again);
    })
}

fn after_delete(events: &mut [Event], draws: &mut Draws, more: impl Fn(&Change) -> Vec<Change>) -> bool {
    let is_it = |table: &Table, all: &[Logged], at: usize, which| {
        table.image == Image::Full && kind(all, at, which) == Kind::Delete && which + 1 == all[at].changes.len()
    };
    let Some((bucket, at, which)) = change_where(events, draws, is_it) else { return false };
    edit(events, bucket, |batches, _| {
        let more = more(&batches[at].changes[which]);
        batches[at].changes.extend(more);
    })
}

fn delete_twice(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    after_delete(events, draws, |change| vec![change.clone()])
}

fn update_nothing(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let of = |kind, change: &Change| Change { kind, row: change.row.clone() };
    after_delete(events, draws, |change| vec![of(Kind::UpdateBefore, change), of(Kind::UpdateAfter, change)])
}

fn append_kind(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let is_it = |_: &Table, all: &[Logged], at, which| kind(all, at, which) == Kind::Insert;
    let Some((bucket, at, which)) = change_where(events, draws, is_it) else { return false };
    edit(events, bucket, |batches, _| batches[at].changes[which].kind = Kind::Append)
}

fn wrong_merge(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    // The last word about its key, so that no image is wrong.
    let is_it = |table: &Table, all: &[Logged], at: usize, which: usize| {
        let change = &all[at].changes[which];
        let key = table.key(&change.row);
        let told = all[at].stamps[0] != Stamp::Untold;
        let mut later = all[at].changes[which + 1..].iter().chain(all[at + 1..].iter().flat_map(|batch| &batch.changes));
        told && is_after(change) && later.all(|later| table.key(&later.row) != key)
    };
    let Some((bucket, at, which)) = change_where(events, draws, is_it) else { return false };
    edit(events, bucket, |batches, _| batches[at].changes[which].row[1] = Cell::Int(-5))
}

fn rows_where<'a>(events: &'a mut [Event], draws: &mut Draws, is_it: impl Fn(&Event) -> bool) -> Option<&'a mut Event> {
    let found: Vec<usize> = (0..events.len()).filter(|at| is_it(&events[*at])).collect();
    draws.pick(&found).map(|at| &mut events[*at])
}

fn wrong_rows(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let is_it = |event: &Event| matches!(event, Event::Rows { rows: Ok(rows), .. } if !rows.is_empty());
    let Some(Event::Rows { rows: Ok(rows), count, .. }) = rows_where(events, draws, is_it) else { return false };
    let at = draws.below(rows.len() as u64) as usize;
    match draws.percent(50) {
        true => rows[at][1] = Cell::Int(-5),
        false => {
            rows.remove(at);
            *count = count.map(|count| count - 1);
        }
    }
    true
}

fn wrong_count(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let is_it = |event: &Event| matches!(event, Event::Rows { count: Some(_), .. });
    let Some(Event::Rows { count, .. }) = rows_where(events, draws, is_it) else { return false };
    *count = count.map(|count| count + 1);
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
