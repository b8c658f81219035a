//! Damage to primary-key tables: what lookups found, what changelogs and rows say.
#![allow(clippy::ptr_arg)] // all kinds of damage have one signature

use crate::damage::{batches, edit, logs, tables, value};
use crate::generate::{Draws, NUMBERS, is_after};
use floss_checker::history::*;
use floss_checker::{Cell, Change, Image, Kind, Row, Rows, Table};
use std::collections::BTreeMap;

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

pub fn stale_lookup(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let answers = stale_answers(events, |_, _| true);
    answer_with(events, draws, &answers)
}

pub fn resurrect_row(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let answers = stale_answers(events, |old, now| old.is_some() && now.is_none());
    answer_with(events, draws, &answers)
}

/// A row that goes later, so that it could be seen to be away, only not at the place that the answer names.
pub fn torn_scan(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
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

pub fn wrong_number_of_rows(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
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

pub fn no_number(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let Some((bucket, new)) = new_rows(events) else { return false };
    let Some((at, which)) = draws.pick(&new).copied() else { return false };
    edit(events, bucket, |batches, _| batches[at].changes[which].row[NUMBERS] = Cell::Null)
}

pub fn number_twice(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let Some((bucket, new)) = new_rows(events).filter(|(_, new)| new.len() > 1) else { return false };
    let second = 1 + draws.below(new.len() as u64 - 1) as usize;
    let ((at, which), (other, of)) = (new[0], new[second]);
    edit(events, bucket, |batches, _| {
        batches[other].changes[of].row[NUMBERS] = batches[at].changes[which].row[NUMBERS].clone();
    })
}

pub fn phantom_lookup(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let is_it = |event: &Event| matches!(event, Event::Return { outcome: Outcome::Ok(Answer::Found { .. }), .. });
    let all: Vec<_> = (0..events.len()).filter(|at| is_it(&events[*at])).map(|at| (at, 0, Some(vec![Cell::Int(77)]))).collect();
    answer_with(events, draws, &all)
}

pub fn phantom_lookup_alone(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
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

pub fn wrong_before(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let is_it = |_: &Table, all: &[Logged], at, which| matches!(kind(all, at, which), Kind::UpdateBefore | Kind::Delete);
    let Some((bucket, at, which)) = change_where(events, draws, is_it) else { return false };
    edit(events, bucket, |batches, _| batches[at].changes[which].row[1] = Cell::Int(-5))
}

pub fn drop_before(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let is_it = |_: &Table, all: &[Logged], at, which| kind(all, at, which) == Kind::UpdateBefore;
    let Some((bucket, at, which)) = change_where(events, draws, is_it) else { return false };
    edit(events, bucket, |batches, _| drop(batches[at].changes.remove(which)))
}

pub fn cut_pair(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let is_it =
        |table: &Table, all: &[Logged], at, which| table.image == Image::Full && kind(all, at, which) == Kind::UpdateAfter;
    let Some((bucket, at, which)) = change_where(events, draws, is_it) else { return false };
    edit(events, bucket, |batches, _| drop(batches[at].changes.remove(which)))
}

pub fn insert_live(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
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

pub fn delete_twice(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    after_delete(events, draws, |change| vec![change.clone()])
}

pub fn update_nothing(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let of = |kind, change: &Change| Change { kind, row: change.row.clone() };
    after_delete(events, draws, |change| vec![of(Kind::UpdateBefore, change), of(Kind::UpdateAfter, change)])
}

pub fn append_kind(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let is_it = |_: &Table, all: &[Logged], at, which| kind(all, at, which) == Kind::Insert;
    let Some((bucket, at, which)) = change_where(events, draws, is_it) else { return false };
    edit(events, bucket, |batches, _| batches[at].changes[which].kind = Kind::Append)
}

pub fn wrong_merge(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
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

pub fn rows_where<'a>(events: &'a mut [Event], draws: &mut Draws, is_it: impl Fn(&Event) -> bool) -> Option<&'a mut Event> {
    let found: Vec<usize> = (0..events.len()).filter(|at| is_it(&events[*at])).collect();
    draws.pick(&found).map(|at| &mut events[*at])
}

pub fn wrong_rows(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
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

pub fn wrong_count(events: &mut Vec<Event>, draws: &mut Draws) -> bool {
    let is_it = |event: &Event| matches!(event, Event::Rows { count: Some(_), .. });
    let Some(Event::Rows { count, .. }) = rows_where(events, draws, is_it) else { return false };
    *count = count.map(|count| count + 1);
    true
}
