//! Makes a red plan small: takes away what is not needed for the same oracle to object. Delta debugging; every candidate is run.
//!
//! Randomness is counted per stream, so taking one fault or one writer away leaves all other draws as they were. What is shrunk, the coarse
//! things first: the time until the heal, faults, writers, readers, spans of time in which a writer appends, tables, buckets, nodes, sizes, conditions.
//! Source: Zeller and Hildebrandt, ddmin.

use crate::plan::{Fault, Plan, Target, Workload};
use std::cmp::Ordering;

/// Runs candidates and says which of them is red in the same way: the lowest index. None: none of them, or time is up.
pub type Judge<'a> = dyn FnMut(&[Plan]) -> Option<usize> + 'a;

/// Rounds over all parts; a later part may make an earlier one smaller still.
const ROUNDS: usize = 4;
/// Writers' spans start as so many equal parts of the run.
const SPANS: u64 = 16;
/// Spans are not cut finer than this.
const SPAN_MS_MIN: u64 = 100;
const CALM_MS_MIN: u64 = 500;
const PAUSE_MS_MAX: u64 = 10_000;
/// Snapshots are taken, and files end, as early as in any run.
const FEW_ENTRIES: u64 = 5;
const UPKEEP_MS: u64 = 300;
/// Lookups are many and meet the few keys that change.
const FEW_KEYS: u64 = 2;
const LOOK_MS: u64 = 20;
const FILE_BYTES: u64 = 64 << 10;
/// Groups have leaders by then.
const FIRST_ACTION_MS: u64 = 1_000;

/// The smallest plan found; `plan` itself if nothing can go.
pub fn minimise(plan: Plan, judge: &mut Judge<'_>) -> Plan {
    let mut best = plan;
    for _ in 0..ROUNDS {
        let before = best.clone();
        shorten(&mut best, judge);
        leap(&mut best, judge);
        let all = best.actions.clone();
        drop_items(&mut best, all, judge, |plan, actions| plan.actions = actions);
        let all = best.rests_ms.clone();
        drop_items(&mut best, all, judge, |plan, rests| plan.rests_ms = rests);
        let all = best.workload.writers.clone();
        drop_items(&mut best, all, judge, |plan, writers| plan.workload.writers = writers);
        let all = best.workload.keyed_writers.clone();
        drop_items(&mut best, all, judge, |plan, writers| plan.workload.keyed_writers = writers);
        let all = best.workload.lookers.clone();
        drop_items(&mut best, all, judge, |plan, lookers| plan.workload.lookers = lookers);
        let all = best.workload.makers.clone();
        drop_items(&mut best, all, judge, |plan, makers| plan.workload.makers = makers);
        let all = best.workload.readers.clone();
        drop_items(&mut best, all, judge, |plan, readers| plan.workload.readers = readers);
        narrow_spans(&mut best, judge);
        shrink_cluster(&mut best, judge);
        simplify(&mut best, judge);
        if best == before {
            break;
        }
    }
    best
}

/// Takes the first candidate that is still red. False if none is.
fn take(best: &mut Plan, candidates: Vec<Plan>, judge: &mut Judge<'_>) -> bool {
    let candidates: Vec<Plan> = candidates.into_iter().filter(|plan| plan != best).collect();
    if candidates.is_empty() {
        return false;
    }
    let Some(index) = judge(&candidates) else { return false };
    *best = candidates.into_iter().nth(index).expect("the judge picks one of them");
    true
}

/// Halves the time before the heal as long as it stays red, then the calm after it.
fn shorten(best: &mut Plan, judge: &mut Judge<'_>) {
    let cut = |plan: &Plan, part: u64| {
        let mut plan = plan.clone();
        plan.heal_at_ms = (plan.heal_at_ms * part / 8).max(1);
        plan.actions.retain(|action| action.at_ms < plan.heal_at_ms);
        plan.rests_ms.retain(|rest_ms| *rest_ms < plan.heal_at_ms);
        plan
    };
    while take(best, [1, 2, 4, 6, 7].map(|part| cut(best, part)).to_vec(), judge) {}
    while best.calm_ms > CALM_MS_MIN {
        let mut plan = best.clone();
        plan.calm_ms = (plan.calm_ms / 2).max(CALM_MS_MIN);
        if !take(best, vec![plan], judge) {
            break;
        }
    }
}

/// Guesses that save many runs where they are right: what happened last is what matters, it could have happened earlier, one writer is
/// enough, fewer entries and keys are, and it may be slow.
fn leap(best: &mut Plan, judge: &mut Judge<'_>) {
    let last = |plan: &Plan, count: usize| {
        let mut plan = plan.clone();
        plan.actions.drain(..plan.actions.len() - count);
        plan
    };
    let counts = [0, 1, 2, 4, 8].into_iter().filter(|count| *count < best.actions.len());
    take(best, counts.map(|count| last(best, count)).collect(), judge);
    let idle_ms = best.actions.first().map_or(0, |action| action.at_ms.saturating_sub(FIRST_ACTION_MS));
    let earlier = |plan: &Plan, by_ms: u64| {
        let mut plan = plan.clone();
        plan.actions.iter_mut().for_each(|action| action.at_ms -= by_ms);
        plan.rests_ms = plan.rests_ms.iter().filter_map(|rest_ms| rest_ms.checked_sub(by_ms)).collect();
        plan.heal_at_ms -= by_ms;
        plan
    };
    if idle_ms > 0 {
        take(best, vec![earlier(best, idle_ms), earlier(best, idle_ms / 2)], judge);
    }
    let (logs, keyed) = (best.workload.writers.len(), best.workload.keyed_writers.len());
    if logs + keyed > 1 {
        let only = |writer: usize| {
            let mut plan = best.clone();
            let Workload { writers, keyed_writers, .. } = &mut plan.workload;
            *writers = writers.drain(..).enumerate().filter(|(at, _)| *at == writer).map(|(_, one)| one).collect();
            *keyed_writers =
                keyed_writers.drain(..).enumerate().filter(|(at, _)| logs + at == writer).map(|(_, one)| one).collect();
            plan
        };
        take(best, (0..logs + keyed).map(only).collect(), judge);
    }
    let mut eager = best.clone();
    (eager.environment.compact_entries, eager.environment.tail_entries, eager.environment.upkeep_ms) =
        (FEW_ENTRIES, 0, UPKEEP_MS);
    eager.environment.journal_file_bytes = eager.environment.journal_file_bytes.min(FILE_BYTES);
    take(best, vec![eager], judge);
    let mut curious = best.clone();
    curious.workload.keyed.iter_mut().for_each(|table| table.keys = table.keys.min(FEW_KEYS));
    for looker in &mut curious.workload.lookers {
        looker.pause_ms = looker.pause_ms.min(LOOK_MS);
        looker.stray_ms = if looker.stray_ms == 0 { 0 } else { looker.stray_ms.min(LOOK_MS) };
    }
    take(best, vec![curious], judge);
    let slower = |times: u64| {
        let mut plan = best.clone();
        let Workload { writers, keyed_writers, .. } = &mut plan.workload;
        let keyed = keyed_writers.iter_mut().map(|writer| &mut writer.pause_ms);
        writers.iter_mut().map(|writer| &mut writer.pause_ms).chain(keyed).for_each(|pause_ms| *pause_ms *= times);
        plan
    };
    let slow_enough = |plan: &Plan| {
        let Workload { writers, keyed_writers, .. } = &plan.workload;
        let mut pauses = writers.iter().map(|writer| writer.pause_ms).chain(keyed_writers.iter().map(|writer| writer.pause_ms));
        pauses.all(|pause_ms| pause_ms <= PAUSE_MS_MAX)
    };
    take(best, [16, 8, 4, 2].map(slower).into_iter().filter(slow_enough).collect(), judge);
}

/// ddmin over a list: all are left out, then ever smaller parts; those that are not missed stay out.
fn drop_items<T: Clone>(best: &mut Plan, mut items: Vec<T>, judge: &mut Judge<'_>, put: impl Fn(&mut Plan, Vec<T>)) {
    let mut none = best.clone();
    put(&mut none, Vec::new());
    if items.is_empty() || take(best, vec![none], judge) {
        return;
    }
    let mut parts = 2;
    while !items.is_empty() {
        let size = items.len().div_ceil(parts.min(items.len()));
        let without = |at: usize| [&items[..at], &items[(at + size).min(items.len())..]].concat();
        let lists: Vec<Vec<T>> = (0..items.len()).step_by(size).map(without).collect();
        let plan_of = |list: &Vec<T>| {
            let mut plan = best.clone();
            put(&mut plan, list.clone());
            plan
        };
        let plans: Vec<Plan> = lists.iter().map(plan_of).collect();
        match judge(&plans) {
            Some(index) => {
                *best = plans.into_iter().nth(index).expect("the judge picks one of them");
                items = lists.into_iter().nth(index).expect("one list per plan");
                parts = parts.saturating_sub(1).max(2);
            }
            None if size == 1 => return,
            None => parts = (parts * 2).min(items.len()),
        }
    }
}

/// Which spans of time each writer is needed in; then those are cut in halves.
fn narrow_spans(best: &mut Plan, judge: &mut Judge<'_>) {
    let end = best.heal_at_ms + best.calm_ms;
    for writer in 0..best.writer_tables().len() {
        let mut spans = spans_mut(best, writer).clone();
        if spans.is_empty() {
            let step = end.div_ceil(SPANS).max(1);
            spans = (0..end).step_by(step as usize).map(|from| (from, from + step)).collect();
        }
        loop {
            // No spans would mean no limit.
            let keep_one = |plan: &mut Plan, spans: Vec<(u64, u64)>| {
                *spans_mut(plan, writer) = if spans.is_empty() { vec![(0, 1)] } else { spans };
            };
            let before = best.clone();
            drop_items(best, spans, judge, keep_one);
            let kept = spans_mut(best, writer).clone();
            if *best == before || kept.iter().all(|(from, to)| to - from <= SPAN_MS_MIN) {
                break;
            }
            let halves = |(from, to): &(u64, u64)| match (from + to) / 2 {
                middle if to - from > SPAN_MS_MIN => vec![(*from, middle), (middle, *to)],
                _ => vec![(*from, *to)],
            };
            spans = kept.iter().flat_map(halves).collect();
        }
    }
}

/// Writers are counted over both kinds of tables.
fn spans_mut(plan: &mut Plan, writer: usize) -> &mut Vec<(u64, u64)> {
    let Workload { writers, keyed_writers, .. } = &mut plan.workload;
    match writer.checked_sub(writers.len()) {
        None => &mut writers[writer].spans_ms,
        Some(writer) => &mut keyed_writers[writer].spans_ms,
    }
}

fn pause_mut(plan: &mut Plan, writer: usize) -> &mut u64 {
    let Workload { writers, keyed_writers, .. } = &mut plan.workload;
    match writer.checked_sub(writers.len()) {
        None => &mut writers[writer].pause_ms,
        Some(writer) => &mut keyed_writers[writer].pause_ms,
    }
}

fn bucket_count_mut(plan: &mut Plan, table: usize) -> &mut i32 {
    let Workload { tables, keyed, .. } = &mut plan.workload;
    match table.checked_sub(tables.len()) {
        None => &mut tables[table],
        Some(table) => &mut keyed[table].buckets,
    }
}

/// Fewer tables, buckets and nodes.
fn shrink_cluster(best: &mut Plan, judge: &mut Judge<'_>) {
    for table in best.tables().rev() {
        if best.tables().len() > 1 {
            take(best, without_table(best, table).into_iter().collect(), judge);
        }
    }
    for table in best.tables() {
        for count in 1..best.bucket_count(table) {
            let mut plan = best.clone();
            *bucket_count_mut(&mut plan, table) = count;
            if take(best, vec![plan], judge) {
                break;
            }
        }
    }
    if best.spares > 0 {
        take(best, vec![Plan { spares: 0, ..best.clone() }], judge);
    }
    if best.nodes > 3 {
        let mut plan = best.clone();
        plan.nodes = 3;
        plan.environment.clock_skew_ms.truncate(3);
        take(best, vec![plan], judge);
    }
}

/// None if somebody uses it.
fn without_table(plan: &Plan, table: usize) -> Option<Plan> {
    let mut plan = plan.clone();
    let first = plan.first_bucket(table);
    let count = plan.bucket_count(table) as u32;
    let Workload { tables, writers, readers, keyed, keyed_writers, lookers, makers, .. } = &mut plan.workload;
    let log = writers.iter_mut().map(|writer| &mut writer.table).chain(readers.iter_mut().map(|reader| &mut reader.table));
    let rows = keyed_writers.iter_mut().map(|writer| &mut writer.table).chain(lookers.iter_mut().map(|looker| &mut looker.table));
    let made = makers.iter_mut().filter_map(|maker| maker.like.as_mut());
    for used in log.chain(rows).chain(made) {
        match (*used).cmp(&table) {
            Ordering::Less => {}
            Ordering::Equal => return None,
            Ordering::Greater => *used -= 1,
        }
    }
    match table.checked_sub(tables.len()) {
        None => drop(tables.remove(table)),
        Some(table) => drop(keyed.remove(table)),
    }
    for action in &mut plan.actions {
        let bucket = match &mut action.fault {
            Fault::HandOver(bucket) => Some(bucket),
            fault => match fault.target_mut() {
                Some(Target::LeaderOf(bucket) | Target::FollowerOf(bucket) | Target::LastFollowerOf(bucket)) => Some(bucket),
                _ => None,
            },
        };
        if let Some(bucket) = bucket {
            if *bucket >= first + count {
                *bucket -= count;
            } else if *bucket >= first {
                *bucket = 0;
            }
        }
    }
    Some(plan)
}

/// Plain conditions instead of drawn ones, each by itself; shorter faults.
fn simplify(best: &mut Plan, judge: &mut Judge<'_>) {
    let plain: [fn(&mut Plan); 16] = [
        |plan| plan.workload.log_ttl_ms = 0,
        |plan| plan.environment.rows_lost_per_mille = 0,
        |plan| plan.workload.keyed_writers.iter_mut().for_each(|writer| (writer.records_max, writer.text_bytes_max) = (1, 4)),
        |plan| plan.workload.keyed_writers.iter_mut().for_each(|writer| writer.open_max = 1),
        |plan| plan.workload.lookers.iter_mut().for_each(|looker| looker.stray_ms = 0),
        |plan| plan.workload.lookers.iter_mut().for_each(|looker| looker.range_ms = 0),
        |plan| plan.workload.lookers.iter_mut().for_each(|looker| looker.scan_ms = 0),
        |plan| plan.workload.keyed.iter_mut().for_each(|table| table.parts = 0),
        |plan| plan.workload.keyed.iter_mut().for_each(|table| table.numbers_at_once = 0),
        |plan| plan.environment.loss_per_mille = 0,
        |plan| plan.environment.clock_skew_ms.iter_mut().for_each(|skew| *skew = 0),
        |plan| plan.environment.link_us_max = plan.environment.link_us_min + 1,
        |plan| plan.environment.disk.read_miss_per_mille = 0,
        |plan| plan.workload.writers.iter_mut().for_each(|writer| writer.records_max = 1),
        |plan| plan.workload.writers.iter_mut().for_each(|writer| writer.payload_bytes_max = 8),
        |plan| plan.workload.writers.iter_mut().for_each(|writer| (writer.busy_ms, writer.idle_ms) = (0, 0)),
    ];
    for change in plain {
        let mut plan = best.clone();
        change(&mut plan);
        take(best, vec![plan], judge);
    }
    for writer in 0..best.writer_tables().len() {
        for times in [8, 4, 2] {
            let mut plan = best.clone();
            *pause_mut(&mut plan, writer) *= times;
            if take(best, vec![plan], judge) {
                break;
            }
        }
    }
    for action in 0..best.actions.len() {
        let mut plan = best.clone();
        plan.actions[action].lasts_ms /= 2;
        take(best, vec![plan], judge);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Fault, generate};

    /// Red if a power loss and, later, a split are there and writer 1's original is: what is left must be just that.
    #[test]
    fn only_what_is_needed_is_left() {
        let seed = (1..200).find(|seed| {
            let plan = generate(*seed, 60);
            plan.actions.len() > 12 && !plan.rests_ms.is_empty() && is_red(&plan)
        });
        let plan = generate(seed.expect("such a plan is drawn"), 60);
        let mut runs = 0;
        let small = minimise(plan.clone(), &mut |plans: &[Plan]| {
            runs += plans.len();
            plans.iter().position(is_red)
        });
        assert!(is_red(&small));
        assert_eq!(small.actions.len(), 2, "{:?}", small.actions);
        assert_eq!((small.workload.writers.len(), small.workload.readers.len()), (1, 0));
        assert_eq!((small.workload.tables.as_slice(), small.nodes), ([1].as_slice(), 3));
        assert!(small.workload.keyed.is_empty() && small.workload.lookers.is_empty() && small.rests_ms.is_empty());
        assert!(small.workload.writers[0].spans_ms.iter().all(|(from, to)| to - from <= 2 * SPAN_MS_MIN), "{small:?}");
        assert!(small.heal_at_ms < plan.heal_at_ms && runs < 400, "{runs} runs");
    }

    /// A budget may run out in the middle of any part.
    #[test]
    fn it_ends_wherever_time_is_up() {
        let seed = (1..200).find(|seed| is_red(&generate(*seed, 60))).expect("such a plan is drawn");
        let plan = generate(seed, 60);
        for limit in 0..150 {
            let mut runs = 0;
            let small = minimise(plan.clone(), &mut |plans: &[Plan]| {
                runs += plans.len();
                plans.iter().position(is_red).filter(|_| runs < limit)
            });
            assert!(is_red(&small), "after {limit} runs");
        }
    }

    fn is_red(plan: &Plan) -> bool {
        let first = plan.actions.iter().position(|action| matches!(action.fault, Fault::PowerLoss(_)));
        let later = |first: usize| plan.actions[first..].iter().any(|action| matches!(action.fault, Fault::Split(_)));
        let writes = |at: u64| {
            plan.workload
                .writers
                .iter()
                .any(|writer| writer.spans_ms.is_empty() || writer.spans_ms.iter().any(|(from, to)| (*from..*to).contains(&at)))
        };
        first.is_some_and(later) && writes(1_000)
    }

    #[test]
    fn a_table_that_is_used_stays_and_buckets_behind_a_removed_one_move_up() {
        let mut plan = generate(1, 20);
        plan.workload = Workload { writers: plan.workload.writers, readers: plan.workload.readers, ..Workload::default() };
        plan.workload.tables = vec![1, 2, 1];
        plan.workload.writers.iter_mut().for_each(|writer| writer.table = 2);
        plan.workload.readers.iter_mut().for_each(|reader| reader.table = 0);
        plan.actions.truncate(1);
        plan.actions[0].fault = Fault::Crash(Target::LeaderOf(3));
        assert_eq!(without_table(&plan, 2), None);
        let smaller = without_table(&plan, 1).unwrap();
        assert_eq!(smaller.workload.tables, vec![1, 1]);
        assert!(smaller.workload.writers.iter().all(|writer| writer.table == 1));
        assert_eq!(smaller.actions[0].fault, Fault::Crash(Target::LeaderOf(1)));
    }
}
