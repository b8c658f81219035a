//! Puts and reads of a bucket fit into the order that its changelog gives: no read is older than what was answered before it was
//! asked, none sees what never came to be (I6), and no put is placed before one that had been answered. An answer about many keys is of
//! one single place: several keys looked up at once, a prefix, a scan (the place that it names itself), a count of rows.

use super::Oracle;
use super::replay::Replay;
use crate::history::{BucketNo, DumpBatch, Event, Outcome, WriterNo};
use floss_checker::{Cut, Operation, Table, What, check_order};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct Linear {
    tables: BTreeMap<BucketNo, Table>,
    /// First send and first ack of a batch.
    puts: BTreeMap<(BucketNo, WriterNo, i32), (u64, Option<u64>)>,
    reads: BTreeMap<BucketNo, Vec<Operation>>,
    checked: BTreeSet<BucketNo>,
}

impl Linear {
    fn check(&self, bucket: BucketNo, table: &Table, batches: &[DumpBatch]) -> Result<(), String> {
        // One that is not well formed is another oracle's finding.
        let Ok(replay) = Replay::new(table, batches) else { return Ok(()) };
        let mut operations = Vec::new();
        for batch in batches {
            let Some(Ok(value)) = batch.rows.first() else { continue };
            let (writer, sequence) = (value.writer, value.sequence);
            let Some((asked, answered)) = self.puts.get(&(bucket, writer, sequence)).copied() else { continue };
            let place = batch.base_offset + batch.records.max(1);
            let name = format!("put w{writer} #{sequence}");
            operations.push(Operation { asked, answered, what: What::Write { place }, name });
        }
        operations.extend(self.reads.get(&bucket).into_iter().flatten().cloned());
        check_order(&replay.versions, operations).map_err(|anomaly| format!("b{bucket}: {anomaly}"))
    }
}

impl Linear {
    fn read(&mut self, bucket: BucketNo, asked: u64, answered: u64, what: What, name: String) {
        let name = format!("{name} ({:.3} s)", answered as f64 / 1e9);
        self.reads.entry(bucket).or_default().push(Operation { asked, answered: Some(answered), what, name });
    }
}

impl Oracle for Linear {
    fn id(&self) -> &'static str {
        "linear"
    }

    fn observe(&mut self, at_ns: u64, event: &Event) -> Result<(), String> {
        match event {
            Event::Start { keyed, .. } => self.tables = keyed.clone(),
            Event::Send { writer, bucket, sequence, first: true, .. } if self.tables.contains_key(bucket) => {
                self.puts.entry((*bucket, *writer, *sequence)).or_insert((at_ns, None));
            }
            Event::Done { writer, bucket, sequence, outcome: Outcome::Put { .. }, .. } => {
                if let Some((_, answered)) = self.puts.get_mut(&(*bucket, *writer, *sequence)) {
                    answered.get_or_insert(at_ns);
                }
            }
            Event::Lookup { looker, bucket, node, sent_ns, found } => {
                let cut = Cut { found: found.iter().cloned().collect(), ..Cut::default() };
                self.read(*bucket, *sent_ns, at_ns, What::Cut(cut), format!("lookup of l{looker} at n{node}"));
            }
            Event::Scan { looker, bucket, node, sent_ns, at_ns, what, cut } => {
                let name = format!("{what} of l{looker} at n{node}");
                self.read(*bucket, *sent_ns, *at_ns, What::Cut(cut.clone()), name);
            }
            Event::RowCount { looker, bucket, node, sent_ns, rows } => {
                let name = format!("row count of l{looker} at n{node}");
                self.read(*bucket, *sent_ns, at_ns, What::Count { rows: *rows }, name);
            }
            Event::Dump { bucket, log_start: 0, batches: Ok(batches), .. } if self.checked.insert(*bucket) => {
                if let Some(table) = self.tables.get(bucket) {
                    self.check(*bucket, table, batches)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}
