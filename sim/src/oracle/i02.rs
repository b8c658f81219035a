//! I2: the same log offset holds the same bytes on every replica that has it, and whoever saw it saw the same value.

use super::Oracle;
use crate::history::{BucketNo, Event, Outcome, Value};
use std::collections::BTreeMap;

#[derive(Default)]
pub struct SameBytes {
    /// bucket, offset -> value and who saw it first.
    values: BTreeMap<(BucketNo, i64), (Value, String)>,
    /// bucket, base offset -> digest of the batch and the replica that had it.
    bytes: BTreeMap<(BucketNo, i64), (u64, u64)>,
    records: BTreeMap<(BucketNo, u32, i32), i32>,
}

impl SameBytes {
    fn witness(&mut self, bucket: BucketNo, offset: i64, value: Value, who: impl Fn() -> String) -> Result<(), String> {
        let (known, first) = self.values.entry((bucket, offset)).or_insert_with(|| (value, who()));
        if *known == value {
            return Ok(());
        }
        Err(format!("offset={offset} of b{bucket} is {value} for {}, was {known} for {first}", who()))
    }
}

impl Oracle for SameBytes {
    fn id(&self) -> &'static str {
        "I2"
    }

    fn observe(&mut self, _at_ns: u64, event: &Event) -> Result<(), String> {
        match event {
            Event::Send { writer, bucket, sequence, records, .. } => {
                self.records.insert((*bucket, *writer, *sequence), *records);
            }
            Event::Done { writer, bucket, sequence, node, outcome: Outcome::Acked { base_offset } } => {
                let records = self.records.get(&(*bucket, *writer, *sequence)).copied().unwrap_or(0);
                for index in 0..records {
                    let value = Value { writer: *writer, sequence: *sequence, index };
                    self.witness(*bucket, base_offset + i64::from(index), value, || format!("w{writer} (ack by n{node})"))?;
                }
            }
            Event::Fetch { reader, bucket, node, rows, .. } => {
                for row in rows {
                    let offset = row.offset;
                    let value =
                        row.value.as_ref().map_err(|error| format!("r{reader} got garbage at offset={offset}: {error}"))?;
                    self.witness(*bucket, offset, *value, || format!("r{reader} (fetch from n{node})"))?;
                }
            }
            Event::Dump { node, bucket, batches: Ok(batches), .. } => {
                for batch in batches {
                    let base = batch.base_offset;
                    let (digest, first) = *self.bytes.entry((*bucket, base)).or_insert((batch.digest, *node));
                    if digest != batch.digest {
                        return Err(format!("the batch at offset={base} of b{bucket} differs in bytes on n{node} and n{first}"));
                    }
                    for (row, offset) in batch.rows.iter().zip(base..) {
                        let garbage = |error| format!("n{node} holds garbage at offset={offset} of b{bucket}: {error}");
                        self.witness(*bucket, offset, *row.as_ref().map_err(garbage)?, || format!("n{node} (its log)"))?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}
