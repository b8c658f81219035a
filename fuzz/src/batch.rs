//! Log batches.

use bytes::Bytes;
use floss_protocol::ids::LogOffset;
use floss_protocol::log_batch::{LogBatch, LogBatches, Stamp, stamp_all};

/// Input: `records`, batches back to back.
///
/// The walk covers the input without gap or overlap up to its end or its first error. Whatever validates stays valid when the
/// leader stamps it, and stops being valid when any bit under its checksum flips.
pub fn check_log_batch(input: &[u8]) {
    let records = Bytes::copy_from_slice(input);
    let mut position = 0;
    for batch in LogBatches::new(records.clone()) {
        match batch {
            Ok(batch) => {
                assert_eq!(batch.position(), position);
                assert_eq!(batch.bytes(), &records[position..position + batch.total_bytes()]);
                position += batch.total_bytes();
                check_one(&batch);
                // Few inputs carry the right checksum: with one made right, more code is reached.
                check_one(&sealed(&batch));
            }
            Err(error) => {
                assert_eq!(error.position(), position);
                assert!(!error.to_string().is_empty());
                return;
            }
        }
    }
    assert_eq!(position, records.len());
}

/// The batch with the checksum that it should have.
pub fn sealed(batch: &LogBatch) -> LogBatch {
    let mut bytes = batch.bytes().to_vec();
    let crc_at = batch.header().magic.crc_at();
    bytes[crc_at..crc_at + 4].copy_from_slice(&batch.computed_crc().to_le_bytes());
    LogBatch::read(&bytes.into(), 0).expect("the checksum is not looked at here")
}

fn check_one(batch: &LogBatch) {
    let mut header = Vec::new();
    batch.header().write(&mut header);
    assert_eq!(header, batch.bytes()[..batch.header_bytes()], "a header is written as it was read");
    for section in [batch.statistics(), batch.change_types(), batch.arrow_message()].into_iter().flatten() {
        assert!(section.len() <= batch.total_bytes());
    }
    if let Ok(rows) = batch.rows() {
        // A row takes at least five bytes, so this ends.
        assert!(rows.count() <= batch.total_bytes());
    }
    let _ = (batch.validate_change_types(), batch.validate_rows());
    if batch.validate().is_err() {
        return;
    }
    assert!(batch.offset_count() >= 1, "a valid batch takes an offset");
    let mut stamped = batch.bytes().to_vec();
    let stamp = Stamp { base_offset: LogOffset(77), commit_timestamp_ms: 88, leader_epoch: 99 };
    let end = stamp_all(&mut stamped, stamp).expect("a whole batch can be stamped");
    let stamped = LogBatch::read(&stamped.into(), 0).expect("stamping keeps the shape");
    assert_eq!(stamped.validate(), Ok(()));
    assert_eq!((stamped.base_offset.0, stamped.end_offset(), stamped.commit_timestamp_ms), (77, end, 88));
    check_flips(batch);
}

/// One flipped bit in each of up to 64 bytes under the checksum, spread over all of them.
fn check_flips(batch: &LogBatch) {
    let from = batch.magic.crc_from();
    let step = ((batch.total_bytes() - from) / 64).max(1);
    for at in (from..batch.total_bytes()).step_by(step) {
        let mut bytes = batch.bytes().to_vec();
        bytes[at] ^= 1 << (at % 8);
        let flipped = LogBatch::read(&bytes.into(), 0).expect("no length lies under the checksum");
        assert!(flipped.validate().is_err(), "a flipped bit in byte {at} went unnoticed");
    }
}
