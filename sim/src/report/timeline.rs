//! Spans and changes, gathered while a run goes on; small enough to keep for every run.

use crate::history::{BucketNo, Event, NodeNo, Outcome, Replica, WriterNo};
use std::collections::BTreeMap;

/// Events kept as text: the last ones before the violation say most.
const LAST_EVENTS: usize = 400;

/// A span of virtual time; open until the end of the run if `to_ns` is 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub from_ns: u64,
    pub to_ns: u64,
    pub what: String,
}

/// One send of a batch and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    pub from_ns: u64,
    pub to_ns: u64,
    pub writer: WriterNo,
    pub bucket: BucketNo,
    pub sequence: i32,
    pub node: NodeNo,
    /// None: no answer when the run ended.
    pub outcome: Option<Outcome>,
}

#[derive(Debug, Default)]
pub struct Timeline {
    pub nodes: u64,
    pub buckets: u32,
    pub end_ns: u64,
    pub healed_ns: Option<u64>,
    /// When all was mended for a while.
    pub rests: Vec<Span>,
    /// Per action of the plan.
    pub faults: BTreeMap<usize, Span>,
    /// Per node: when it was up.
    pub up: BTreeMap<NodeNo, Vec<Span>>,
    pub appends: Vec<Append>,
    /// (reader, bucket, at, offsets read).
    pub fetches: Vec<(u32, BucketNo, u64, i64)>,
    /// (bucket, node) led from, in which term; None = the catalog.
    pub led: BTreeMap<(Option<BucketNo>, NodeNo), Vec<Span>>,
    /// Per bucket and node: watermarks, when they were seen to change.
    pub watermarks: BTreeMap<(BucketNo, NodeNo), Vec<(u64, i64)>>,
    /// The last events but probes, as in the trace.
    pub last: std::collections::VecDeque<(u64, String)>,
    open: BTreeMap<(WriterNo, BucketNo, i32, NodeNo), usize>,
}

impl Timeline {
    /// `text` is the line of the trace.
    pub fn observe(&mut self, at_ns: u64, event: &Event, text: String) {
        self.end_ns = self.end_ns.max(at_ns);
        if !matches!(event, Event::Probe { .. } | Event::Rows { .. }) {
            if self.last.len() == LAST_EVENTS {
                self.last.pop_front();
            }
            self.last.push_back((at_ns, text));
        }
        match event {
            Event::Start { nodes, buckets, .. } => (self.nodes, self.buckets) = (*nodes, *buckets),
            Event::FaultBegins { action, what, nodes } => {
                let nodes: Vec<String> = nodes.iter().map(|node| format!("n{node}")).collect();
                let what = if nodes.is_empty() { what.clone() } else { format!("{what} = {}", nodes.join(" ")) };
                self.faults.insert(*action, Span { from_ns: at_ns, to_ns: 0, what });
            }
            Event::FaultEnds { action, .. } => {
                if let Some(span) = self.faults.get_mut(action) {
                    span.to_ns = at_ns;
                }
            }
            Event::Boot { node, boot } => {
                // One that joined later.
                self.nodes = self.nodes.max(*node);
                let what = format!("boot {boot}");
                self.up.entry(*node).or_default().push(Span { from_ns: at_ns, to_ns: 0, what });
            }
            Event::Down { node, .. } => self.on_down(at_ns, *node),
            Event::RestBegins => self.rests.push(Span { from_ns: at_ns, to_ns: 0, what: "rest".to_owned() }),
            Event::RestEnds => {
                if let Some(rest) = self.rests.last_mut() {
                    rest.to_ns = at_ns;
                }
            }
            Event::Healed => self.healed_ns = Some(at_ns),
            Event::Send { writer, bucket, sequence, node, .. } => {
                self.open.insert((*writer, *bucket, *sequence, *node), self.appends.len());
                let (writer, bucket, sequence, node) = (*writer, *bucket, *sequence, *node);
                self.appends.push(Append { from_ns: at_ns, to_ns: 0, writer, bucket, sequence, node, outcome: None });
            }
            Event::Done { writer, bucket, sequence, node, outcome } => {
                if let Some(index) = self.open.remove(&(*writer, *bucket, *sequence, *node)) {
                    self.appends[index].to_ns = at_ns;
                    self.appends[index].outcome = Some(outcome.clone());
                }
            }
            Event::Fetch { reader, bucket, rows, .. } => {
                if let Some(row) = rows.last() {
                    self.fetches.push((*reader, *bucket, at_ns, row.offset));
                }
            }
            Event::Probe { node, replicas, .. } => replicas.iter().for_each(|replica| self.on_probe(at_ns, *node, replica)),
            _ => {}
        }
    }

    fn on_down(&mut self, at_ns: u64, node: NodeNo) {
        let spans = self.up.entry(node).or_default().iter_mut();
        let led = self.led.iter_mut().filter(|((_, leader), _)| *leader == node).flat_map(|(_, spans)| spans);
        spans.chain(led).filter(|span| span.to_ns == 0).for_each(|span| span.to_ns = at_ns);
    }

    fn on_probe(&mut self, at_ns: u64, node: NodeNo, replica: &Replica) {
        if replica.bucket.is_none() && replica.group != 0 {
            // Of a table that a maker made.
            return;
        }
        let leads = replica.leader == Some(node);
        let what = format!("term {}", replica.term);
        let spans = self.led.entry((replica.bucket, node)).or_default();
        match spans.last_mut().filter(|span| span.to_ns == 0) {
            Some(span) if !leads || span.what != what => {
                span.to_ns = at_ns;
                if leads {
                    spans.push(Span { from_ns: at_ns, to_ns: 0, what });
                }
            }
            None if leads => spans.push(Span { from_ns: at_ns, to_ns: 0, what }),
            _ => {}
        }
        if let Some(bucket) = replica.bucket {
            let marks = self.watermarks.entry((bucket, node)).or_default();
            if marks.last().is_none_or(|(_, mark)| *mark != replica.high_watermark) {
                marks.push((at_ns, replica.high_watermark));
            }
        }
    }

    /// Where a span ends that is still open.
    pub fn end_of(&self, span: &Span) -> u64 {
        if span.to_ns == 0 { self.end_ns } else { span.to_ns }
    }
}
