//! I6: no reader sees above the high watermark, and what is below it is final.
//!
//! A watermark that was shown promises that the offsets below it are taken: an append sent afterwards cannot get one of them. What
//! was read must still be there at the end. (Lookups of rows that never came to be: `linear`, which knows the order of all states.)

use super::Oracle;
use crate::history::{BucketNo, Event, Outcome, WriterNo};
use std::collections::BTreeMap;

/// The highest watermark of a bucket that anybody was told: (when, offset), only those higher than all before.
type Shown = Vec<(u64, i64, u32)>;

#[derive(Default)]
pub struct Watermark {
    shown: BTreeMap<BucketNo, Shown>,
    first_sent: BTreeMap<(BucketNo, WriterNo, i32), u64>,
    read_end: BTreeMap<BucketNo, (i64, u32)>,
}

impl Watermark {
    fn check_ack(&self, key: (BucketNo, WriterNo, i32), base_offset: i64) -> Result<(), String> {
        let (bucket, writer, sequence) = key;
        let Some(sent_ns) = self.first_sent.get(&key) else { return Ok(()) };
        let shown = self.shown.get(&bucket).map(Vec::as_slice).unwrap_or_default();
        let before = shown.partition_point(|(at_ns, ..)| at_ns < sent_ns);
        match shown[..before].last() {
            Some((_, watermark, reader)) if *watermark > base_offset => Err(format!(
                "r{reader} was shown watermark={watermark} of b{bucket}, later w{writer} #{sequence} was sent and got offset={base_offset}"
            )),
            _ => Ok(()),
        }
    }
}

impl Oracle for Watermark {
    fn id(&self) -> &'static str {
        "I6"
    }

    fn observe(&mut self, at_ns: u64, event: &Event) -> Result<(), String> {
        match event {
            Event::Send { writer, bucket, sequence, .. } => {
                self.first_sent.entry((*bucket, *writer, *sequence)).or_insert(at_ns);
            }
            Event::Done { writer, bucket, sequence, outcome: Outcome::Acked { base_offset }, .. } => {
                self.check_ack((*bucket, *writer, *sequence), *base_offset)?;
            }
            Event::Done { writer, bucket, sequence, outcome: Outcome::Put { end_offset }, .. } => {
                self.check_ack((*bucket, *writer, *sequence), end_offset - 1)?;
            }
            Event::Fetch { reader, bucket, node, high_watermark, rows, .. } => {
                if let Some(row) = rows.iter().find(|row| row.offset >= *high_watermark) {
                    let offset = row.offset;
                    return Err(format!("r{reader} got offset={offset} of b{bucket} from n{node}, watermark={high_watermark}"));
                }
                let shown = self.shown.entry(*bucket).or_default();
                if shown.last().is_none_or(|(_, highest, _)| highest < high_watermark) {
                    shown.push((at_ns, *high_watermark, *reader));
                }
                let end = rows.last().map_or(0, |row| row.offset + 1);
                let known = self.read_end.entry(*bucket).or_insert((end, *reader));
                *known = (*known).max((end, *reader));
            }
            Event::Dump { node, bucket, high_watermark, batches: Ok(_), .. } => {
                if let Some((end, reader)) = self.read_end.get(bucket).filter(|(end, _)| end > high_watermark) {
                    return Err(format!(
                        "r{reader} read b{bucket} up to offset={end}, at the end n{node} has only {high_watermark}"
                    ));
                }
                let shown = self.shown.get(bucket).and_then(|shown| shown.last());
                if let Some((_, watermark, reader)) = shown.filter(|(_, watermark, _)| watermark > high_watermark) {
                    return Err(format!(
                        "r{reader} was shown watermark={watermark} of b{bucket}, n{node} ends at {high_watermark}"
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
