//! Puts and lookups of a bucket fit into the order that its changelog gives: no lookup is older than what was answered before it was
//! asked, none sees what never came to be (I6), and no put is placed before one that had been answered.

use super::Oracle;
use super::replay::Replay;
use crate::history::{BucketNo, DumpBatch, Event, Outcome, WriterNo};
use floss_checker::{Key, Operation, Row, Table, What, check_order};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct Linear {
    tables: BTreeMap<BucketNo, Table>,
    /// First send and first ack of a batch.
    puts: BTreeMap<(BucketNo, WriterNo, i32), (u64, Option<u64>)>,
    lookups: BTreeMap<BucketNo, Vec<Lookup>>,
    checked: BTreeSet<BucketNo>,
}

struct Lookup {
    sent_ns: u64,
    at_ns: u64,
    found: Vec<(Key, Option<Row>)>,
    name: String,
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
        for lookup in self.lookups.get(&bucket).into_iter().flatten() {
            operations.extend(lookup.found.iter().map(|(key, value)| Operation {
                asked: lookup.sent_ns,
                answered: Some(lookup.at_ns),
                what: What::Read { key: key.clone(), value: value.clone() },
                name: lookup.name.clone(),
            }));
        }
        check_order(&replay.versions, operations).map_err(|anomaly| format!("b{bucket}: {anomaly}"))
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
                let name = format!("lookup of l{looker} at n{node} ({:.3} s)", at_ns as f64 / 1e9);
                let lookup = Lookup { sent_ns: *sent_ns, at_ns, found: found.clone(), name };
                self.lookups.entry(*bucket).or_default().push(lookup);
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
