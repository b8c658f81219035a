//! The run in Chrome's trace event format, which Perfetto opens: nodes, faults and writers as threads, watermarks as counters.

use super::{Span, Timeline};
use crate::oracle::Violation;
use serde_json::{Value, json};

const FAULTS: u32 = 1;
const NODES: u32 = 2;
const LEADERS: u32 = 3;
const WRITERS: u32 = 4;
const BUCKETS: u32 = 5;

/// Times in µs.
pub fn perfetto(timeline: &Timeline, violation: Option<&Violation>) -> Value {
    let mut events = Vec::new();
    let processes = [(FAULTS, "faults"), (NODES, "nodes"), (LEADERS, "leaders"), (WRITERS, "writers"), (BUCKETS, "buckets")];
    for (pid, name) in processes {
        events.push(json!({"ph": "M", "name": "process_name", "pid": pid, "args": {"name": name}}));
    }
    let span = |pid: u32, tid: u64, span: &Span| complete(pid, tid, &span.what, span.from_ns, timeline.end_of(span));
    events.extend(timeline.faults.iter().map(|(action, fault)| span(FAULTS, *action as u64 + 1, fault)));
    for (node, spans) in &timeline.up {
        events.push(thread(NODES, *node, &format!("n{node}")));
        events.extend(spans.iter().map(|up| span(NODES, *node, up)));
    }
    for (bucket, name) in (0..=timeline.buckets).map(|at| (at.checked_sub(1), at)) {
        let text = bucket.map_or_else(|| "catalog".to_owned(), |bucket| format!("b{bucket}"));
        events.push(thread(LEADERS, u64::from(name) + 1, &text));
    }
    for ((bucket, node), spans) in &timeline.led {
        let tid = bucket.map_or(0, |bucket| u64::from(bucket) + 1) + 1;
        let named = spans.iter().map(|led| Span { what: format!("n{node} {}", led.what), ..led.clone() });
        events.extend(named.map(|led| span(LEADERS, tid, &led)));
    }
    for append in &timeline.appends {
        let tid = u64::from(append.writer) * 1000 + u64::from(append.bucket) + 1;
        let outcome = append.outcome.as_ref().map_or_else(|| "no answer".to_owned(), ToString::to_string);
        let name = format!("w{} b{} #{} n{}: {outcome}", append.writer, append.bucket, append.sequence, append.node);
        let to_ns = if append.to_ns == 0 { timeline.end_ns } else { append.to_ns };
        events.push(complete(WRITERS, tid, &name, append.from_ns, to_ns));
    }
    for ((bucket, node), marks) in &timeline.watermarks {
        let name = format!("b{bucket} n{node} high watermark");
        let counter = |(at_ns, mark): &(u64, i64)| json!({"ph": "C", "name": name, "pid": BUCKETS, "ts": us(*at_ns), "args": {"offset": mark}});
        events.extend(marks.iter().map(counter));
    }
    if let Some(Violation { oracle, at_ns, what }) = violation {
        events.push(
            json!({"ph": "i", "s": "g", "name": format!("VIOLATED {oracle}: {what}"), "pid": FAULTS, "tid": 0, "ts": us(*at_ns)}),
        );
    }
    json!({"traceEvents": events, "displayTimeUnit": "ms"})
}

fn us(ns: u64) -> f64 {
    ns as f64 / 1e3
}

fn complete(pid: u32, tid: u64, name: &str, from_ns: u64, to_ns: u64) -> Value {
    json!({"ph": "X", "name": name, "pid": pid, "tid": tid, "ts": us(from_ns), "dur": us(to_ns.saturating_sub(from_ns))})
}

fn thread(pid: u32, tid: u64, name: &str) -> Value {
    json!({"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": name}})
}
