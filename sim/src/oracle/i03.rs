//! I3: offsets of a bucket are dense, in every answer and in every replica's log.

use super::Oracle;
use crate::history::Event;

#[derive(Default)]
pub struct Dense {}

impl Oracle for Dense {
    fn id(&self) -> &'static str {
        "I3"
    }

    fn observe(&mut self, _at_ns: u64, event: &Event) -> Result<(), String> {
        match event {
            Event::Fetch { reader, bucket, node, from, rows, .. } => {
                for (row, expected) in rows.iter().zip(*from..) {
                    if row.offset != expected {
                        let found = row.offset;
                        return Err(format!("r{reader} got offset={found} of b{bucket} from n{node}, expected {expected}"));
                    }
                }
            }
            Event::Dump { node, bucket, log_start, high_watermark, batches: Ok(batches) } => {
                let mut expected = *log_start;
                for batch in batches {
                    let found = batch.base_offset;
                    if found != expected {
                        return Err(format!("n{node} has a batch at offset={found} of b{bucket}, expected {expected}"));
                    }
                    if batch.records != batch.rows.len() as i64 {
                        let (said, held) = (batch.records, batch.rows.len());
                        return Err(format!(
                            "the batch at offset={found} of b{bucket} on n{node} says {said} records, holds {held}"
                        ));
                    }
                    expected += batch.records.max(1);
                }
                if expected != *high_watermark {
                    return Err(format!(
                        "log of b{bucket} on n{node} ends at offset={expected}, its watermark is {high_watermark}"
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
