//! What a check found, and how long writers waited around each kill.

use crate::history::PRELOADER;
use floss_checker::history::{Event, Outcome, Request};
use floss_checker::{Demands, Verdict, check};
use std::collections::BTreeMap;
use std::fmt;

const SHOWN: usize = 20;
/// Acknowledgements that may still arrive after the kill of the node that sent them.
const IN_FLIGHT_ANSWERS: usize = 50;
/// How long.
const UNDER_WAY: u64 = 100_000_000;
/// Fewer acknowledged writes than this prove nothing.
const ACKED_MIN: u64 = 100;

#[derive(Clone, Debug, Default)]
pub struct Report {
    verdict: Verdict,
    /// Without those that loaded the table.
    acked: u64,
    /// By the last reader.
    read_back: u64,
    /// Sorted; per fault that left a quorum, the longest time a writer went without an acknowledgement, in nanoseconds.
    recovery: Vec<u64>,
}

impl Report {
    pub fn of(events: &[Event]) -> Self {
        let is_preload = |event: &&Event| {
            matches!(event, Event::Invoke { process: PRELOADER, request: Request::Append { .. } | Request::Put { .. }, .. })
        };
        let preloaded = events.iter().filter(is_preload).count() as u64;
        let read_back = events.iter().map(|event| match event {
            Event::Log { batches: Ok(batches), .. } => batches.iter().map(|batch| batch.stamps.len() as u64).sum(),
            _ => 0,
        });
        let verdict = check(events, &Demands { acked: preloaded + ACKED_MIN, dumps: 1 });
        let acked = verdict.counts.acked.saturating_sub(preloaded);
        Self { verdict, acked, read_back: read_back.sum(), recovery: stalls(events) }
    }

    pub fn exit_code(&self, violated: u8, unknown: u8) -> u8 {
        self.verdict.exit_code(violated, unknown)
    }

    fn recovery_ms(&self, share: f64) -> u64 {
        let index = ((self.recovery.len() as f64 * share) as usize).min(self.recovery.len().saturating_sub(1));
        self.recovery.get(index).copied().unwrap_or(0) / 1_000_000
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unknown, faults) = (self.verdict.counts.unknown, self.verdict.counts.faults);
        let (acked, read_back) = (self.acked, self.read_back);
        writeln!(f, "rows acknowledged {acked}, outcome unknown {unknown}, read back {read_back}; faults {faults}")?;
        writeln!(
            f,
            "longest wait of a writer around a kill that left a quorum: {} kills, p50 {} ms, p99 {} ms, worst {} ms",
            self.recovery.len(),
            self.recovery_ms(0.5),
            self.recovery_ms(0.99),
            self.recovery_ms(1.0)
        )?;
        for anomaly in self.verdict.anomalies.iter().take(SHOWN) {
            writeln!(f, "VIOLATED {anomaly}")?;
        }
        match (&self.verdict.unclear, self.verdict.anomaly_count) {
            (_, count @ 1..) => write!(f, "verdict: {count} anomalies"),
            (Some(reason), 0) => write!(f, "verdict: unknown, {reason}"),
            (None, 0) => write!(f, "verdict: nothing lost, doubled or reordered"),
        }
    }
}

/// Per fault that left a quorum: the longest time that any writer went without an acknowledgement around it. Sorted.
///
/// A wait during which the quorum was lost, too, says nothing about that fault.
fn stalls(events: &[Event]) -> Vec<u64> {
    let acks = acks(events);
    let lost: Vec<u64> = events.iter().filter_map(quorum_lost).collect();
    // Answers that were under way when the last node died still arrive.
    let is_of_its_own = |from: u64, to: u64| !lost.iter().any(|at| (from.saturating_sub(UNDER_WAY)..=to).contains(at));
    let mut worst = Vec::new();
    for event in events {
        let Event::Fault { at, quorum_left: true, .. } = event else { continue };
        // The gap that the fault falls into, or the one after it if an answer was already under way.
        let gap = |times: &Vec<u64>| {
            let after = times.partition_point(|time| time <= at);
            let pair = |index: usize| {
                let (from, to) = (*times.get(index.checked_sub(1)?)?, *times.get(index)?);
                is_of_its_own(from, to).then(|| to - from)
            };
            (after..after + IN_FLIGHT_ANSWERS).filter_map(pair).max()
        };
        worst.extend(acks.values().filter_map(gap).max());
    }
    worst.sort_unstable();
    worst
}

/// When each writer was acknowledged something.
fn acks(events: &[Event]) -> BTreeMap<u64, Vec<u64>> {
    let mut writers = BTreeMap::new();
    let mut acks: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for event in events {
        match event {
            Event::Invoke { op, process, request: Request::Append { .. } | Request::Put { .. }, .. } => {
                writers.insert(*op, *process);
            }
            Event::Return { at, op, outcome: Outcome::Ok(_) } => {
                if let Some(process) = writers.get(op) {
                    acks.entry(*process).or_default().push(*at);
                }
            }
            _ => {}
        }
    }
    acks.values_mut().for_each(|times| times.sort_unstable());
    acks
}

fn quorum_lost(event: &Event) -> Option<u64> {
    match event {
        Event::Fault { at, quorum_left: false, .. } => Some(*at),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use floss_checker::history::{Answer, Logged, Source, Stamp, Value};

    fn ack(at: u64, sequence: i64) -> [Event; 2] {
        let request = Request::Append { writer: 1, sequence, rows: 1 };
        let outcome = Outcome::Ok(Answer::Appended { base_offset: None });
        let op = sequence as u64;
        [Event::Invoke { at, op, process: 1, bucket: None, request }, Event::Return { at, op, outcome }]
    }

    /// 200 rows written and acknowledged, and so many read back.
    fn written(read_back: i64) -> Vec<Event> {
        let mut events: Vec<Event> = (0..200).flat_map(|sequence| ack(sequence as u64, sequence)).collect();
        let stamp = |sequence| Stamp::By(Value { writer: 1, sequence, index: 0 });
        let logged = |sequence| Logged { base_offset: sequence, digest: None, stamps: vec![stamp(sequence)], changes: vec![] };
        let batches = Ok((0..read_back).map(logged).collect());
        events.push(Event::Log { by: Source::Reader, bucket: 0, start: 0, end: read_back, batches });
        events
    }

    #[test]
    fn verdicts_have_their_exit_codes() {
        assert_eq!(Report::of(&written(200)).exit_code(10, 11), 0);
        assert_eq!(Report::of(&written(199)).exit_code(10, 11), 10);
        assert_eq!(Report::of(&[]).exit_code(10, 11), 11);
        let mut failed = written(200);
        failed.push(Event::Harness { at: 0, what: "no disk".into() });
        assert_eq!(Report::of(&failed).exit_code(10, 11), 11);
        let report = Report::of(&written(199)).to_string();
        assert!(report.contains("VIOLATED lost write: w1 #199"), "{report}");
        assert!(report.starts_with("rows acknowledged 200, outcome unknown 0, read back 199; faults 0"), "{report}");
    }

    /// Acknowledgements at these times, in ms; then a fault that left a quorum, and one that did not.
    fn waits(acks_ms: &[u64], kill_ms: u64, all_died_ms: u64) -> Vec<u64> {
        let ns = |ms: u64| ms * 1_000_000;
        let fault =
            |at_ms: u64, quorum_left: bool| Event::Fault { at: ns(at_ms), what: "kill".into(), nodes: vec![1], quorum_left };
        let mut events: Vec<Event> = acks_ms.iter().flat_map(|at_ms| ack(ns(*at_ms), *at_ms as i64)).collect();
        events.extend([fault(kill_ms, true), fault(all_died_ms, false)]);
        stalls(&events).into_iter().map(|wait| wait / 1_000_000).collect()
    }

    #[test]
    fn a_wait_is_laid_to_a_kill_only_if_the_quorum_was_not_lost_in_it() {
        assert_eq!(waits(&[0, 10, 500, 510], 20, 900), [490], "from the last answer before the kill to the first after it");
        assert_eq!(waits(&[0, 10, 3_000, 3_010], 20, 500), [10], "the quorum was lost within the long wait");
        assert_eq!(waits(&[0, 10, 3_000, 3_010], 20, 5), [10], "it was lost just before, answers were still under way");
        assert_eq!(waits(&[0, 1_000, 3_000, 3_010], 1_020, 5), [2_000], "it was lost long before");
    }
}
