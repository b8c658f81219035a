//! A run told in text: conditions, faults, starts, elections, and the last events before the violation.

use super::Timeline;
use crate::oracle::Violation;
use crate::plan::Plan;
use std::fmt::Write;

const LAST: usize = 40;

/// In order of time; `violation` at its place. Ends with the last events of the bucket that the violation names, if it names one.
pub fn story(plan: &Plan, timeline: &Timeline, violation: Option<&Violation>) -> String {
    let mut text = String::new();
    let write = |text: &mut String, line: String| writeln!(text, "{line}").expect("a string takes everything");
    let Plan { seed, nodes, workload, actions, .. } = plan;
    let (tables, writers, readers) = (&workload.tables, workload.writers.len(), workload.readers.len());
    write(&mut text, format!("seed {seed}: {nodes} nodes, tables with {tables:?} buckets, {writers} writers, {readers} readers"));
    write(&mut text, format!("{} faults planned, {} batches sent", actions.len(), timeline.appends.len()));
    for (at_ns, line) in moments(timeline) {
        if violation.is_none_or(|violation| violation.at_ns == 0 || at_ns <= violation.at_ns) {
            write(&mut text, format!("{:10.3} s  {line}", seconds(at_ns)));
        }
    }
    let Some(violation) = violation else {
        write(&mut text, "nothing was violated".to_owned());
        return text;
    };
    write(&mut text, format!("{:10.3} s  VIOLATED {}: {}", seconds(violation.at_ns), violation.oracle, violation.what));
    let bucket = bucket_of(&violation.what);
    let fits = |line: &str| bucket.as_ref().is_none_or(|bucket| line.split([' ', ':', ',']).any(|word| word == bucket));
    let before: Vec<_> = timeline.last.iter().filter(|(at_ns, line)| *at_ns <= violation.at_ns && fits(line)).collect();
    let of = bucket.as_ref().map_or_else(String::new, |bucket| format!(" of {bucket}"));
    write(&mut text, format!("\nthe last events{of} before it:"));
    for (at_ns, line) in &before[before.len().saturating_sub(LAST)..] {
        write(&mut text, format!("{:10.3} s  {line}", seconds(*at_ns)));
    }
    text
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// `b3` in "offset=7 of b3 is ..".
fn bucket_of(what: &str) -> Option<String> {
    let words = what.split([' ', ':', ',']);
    let is_bucket = |word: &&str| word.strip_prefix('b').is_some_and(|number| number.parse::<u32>().is_ok());
    words.into_iter().find(is_bucket).map(str::to_owned)
}

fn moments(timeline: &Timeline) -> Vec<(u64, String)> {
    let mut moments = Vec::new();
    for (action, span) in &timeline.faults {
        moments.push((span.from_ns, format!("fault {action} begins: {}", span.what)));
        if span.to_ns > 0 {
            moments.push((span.to_ns, format!("fault {action} is mended")));
        }
    }
    for (node, spans) in &timeline.up {
        for span in spans {
            moments.push((span.from_ns, format!("n{node} starts, {}", span.what)));
            if span.to_ns > 0 {
                moments.push((span.to_ns, format!("n{node} is down")));
            }
        }
    }
    for ((bucket, node), spans) in &timeline.led {
        let led = bucket.map_or_else(|| "the catalog".to_owned(), |bucket| format!("b{bucket}"));
        moments.extend(spans.iter().map(|span| (span.from_ns, format!("n{node} is seen to lead {led} in {}", span.what))));
    }
    for rest in &timeline.rests {
        moments.push((rest.from_ns, "all is mended for a while".to_owned()));
        if rest.to_ns > 0 {
            moments.push((rest.to_ns, "all go on; faults may come again".to_owned()));
        }
    }
    moments.extend(timeline.healed_ns.map(|at_ns| (at_ns, "everything is healed".to_owned())));
    moments.sort();
    moments
}
