//! A tablet's state as bytes: what a snapshot of its group holds beside the retained entries.
//!
//! ```text
//! 0  4  magic "FLTS"
//! 4  1  version = 1
//! 5  1  kind: 1 log tablet
//! 6  2  zero
//! 8 ..  postcard of `StateV1`: numbers are varints, signed ones zigzag
//! ```
//! No checksum of its own: the journal record that carries it has one.

use crate::error::TabletError;
use crate::log::offset_index::OffsetIndex;
use crate::log::writer_state::{BATCHES_REMEMBERED, Writers, WrittenBatch};
use crate::tablet::TabletState;
use bytes::Bytes;
use floss_protocol::mutant;
use serde::{Deserialize, Serialize};

/// Magic, version, kind (1: log tablet), two zeros.
const HEADER: [u8; 8] = *b"FLTS\x01\x01\0\0";

#[derive(Serialize, Deserialize)]
struct StateV1 {
    log_start: i64,
    log_end: i64,
    max_timestamp_ms: i64,
    /// Of the first batch; the others follow from the counts. `log_end` if there is none.
    first_offset: i64,
    batches: Vec<BatchV1>,
    /// By writer id, ascending.
    writers: Vec<(i64, Vec<WrittenV1>)>,
}

/// One batch, as differences to the one before it (or to zero).
#[derive(Serialize, Deserialize)]
struct BatchV1 {
    offset_count: u64,
    raft_index_delta: u64,
    max_timestamp_ms_delta: i64,
    bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct WrittenV1 {
    sequence: i32,
    base_offset: i64,
    offset_count: u64,
    timestamp_ms: i64,
}

pub(crate) fn encode(state: &TabletState) -> Bytes {
    let fields = StateV1 {
        log_start: state.log_start,
        log_end: state.log_end,
        max_timestamp_ms: state.index.max_timestamp_ms(),
        first_offset: state.index.first().map_or(state.log_end, |first| first.base_offset),
        batches: encode_batches(state),
        writers: if mutant!("W01") { Vec::new() } else { encode_writers(&state.writers) },
    };
    postcard::to_extend(&fields, HEADER.to_vec()).expect("numbers and vectors of known length always encode").into()
}

fn encode_batches(state: &TabletState) -> Vec<BatchV1> {
    let next_offsets = state.index.iter().skip(1).map(|(next, _)| next.base_offset).chain([state.log_end]);
    let (mut raft_index, mut max_timestamp_ms) = (0, 0);
    let with_end = state.index.iter().zip(next_offsets);
    with_end
        .map(|((batch, bytes), end_offset)| {
            let encoded = BatchV1 {
                offset_count: end_offset.abs_diff(batch.base_offset),
                raft_index_delta: batch.raft_index - raft_index,
                max_timestamp_ms_delta: batch.max_timestamp_ms.wrapping_sub(max_timestamp_ms),
                bytes,
            };
            (raft_index, max_timestamp_ms) = (batch.raft_index, batch.max_timestamp_ms);
            encoded
        })
        .collect()
}

fn encode_writers(writers: &Writers) -> Vec<(i64, Vec<WrittenV1>)> {
    let encode = |batch: &WrittenBatch| WrittenV1 {
        sequence: batch.sequence,
        base_offset: batch.base_offset,
        offset_count: batch.end_offset.abs_diff(batch.base_offset),
        timestamp_ms: batch.timestamp_ms,
    };
    writers.iter().map(|(writer_id, window)| (writer_id, window.iter().map(encode).collect())).collect()
}

/// Errors: `CorruptSnapshot` for a newer version and for anything that [`encode`] does not write.
pub(crate) fn decode(bytes: &[u8]) -> Result<TabletState, TabletError> {
    let Some(body) = bytes.strip_prefix(&HEADER) else {
        let found = &bytes[..bytes.len().min(HEADER.len())];
        return Err(corrupt(format!("header is {found:?}, expected {HEADER:?}")));
    };
    let (fields, rest) = postcard::take_from_bytes::<StateV1>(body).map_err(|error| corrupt(error.to_string()))?;
    if !rest.is_empty() {
        return Err(corrupt(format!("{} bytes after the last field", rest.len())));
    }
    let (log_start, log_end, first_offset) = (fields.log_start, fields.log_end, fields.first_offset);
    if log_start < 0 || log_start > log_end {
        return Err(corrupt(format!("log_start={log_start}, log_end={log_end}")));
    }
    if first_offset > log_start && log_start != log_end {
        return Err(corrupt(format!("first batch at {first_offset}, log_start={log_start}")));
    }
    let index = decode_batches(&fields)?;
    let log_start = if mutant!("L10") { 0 } else { log_start };
    Ok(TabletState { log_start, log_end, index, writers: decode_writers(&fields)? })
}

fn decode_batches(fields: &StateV1) -> Result<OffsetIndex, TabletError> {
    let mut index = OffsetIndex::new(i64::MIN);
    let (mut base_offset, mut raft_index, mut max_timestamp_ms) = (fields.first_offset, 0_u64, 0_i64);
    for (at, batch) in fields.batches.iter().enumerate() {
        let overflow = || corrupt(format!("batch {at} overflows"));
        raft_index = raft_index.checked_add(batch.raft_index_delta).ok_or_else(overflow)?;
        max_timestamp_ms = max_timestamp_ms.checked_add(batch.max_timestamp_ms_delta).ok_or_else(overflow)?;
        if batch.offset_count == 0 || batch.bytes > i32::MAX as u64 {
            return Err(corrupt(format!("batch {at} takes {} offsets and {} bytes", batch.offset_count, batch.bytes)));
        }
        index.push(raft_index, base_offset, max_timestamp_ms, batch.bytes);
        base_offset = base_offset.checked_add_unsigned(batch.offset_count).ok_or_else(overflow)?;
    }
    if base_offset != fields.log_end {
        return Err(corrupt(format!("batches end at {base_offset}, log_end={}", fields.log_end)));
    }
    index.raise_max_timestamp_ms(fields.max_timestamp_ms);
    Ok(index)
}

fn decode_writers(fields: &StateV1) -> Result<Writers, TabletError> {
    let mut writers = Writers::default();
    for (writer_id, window) in &fields.writers {
        if window.is_empty() || window.len() > BATCHES_REMEMBERED {
            return Err(corrupt(format!(
                "writer_id={writer_id} with {} batches, expected 1 to {BATCHES_REMEMBERED}",
                window.len()
            )));
        }
        for batch in window {
            let &WrittenV1 { sequence, base_offset, offset_count, timestamp_ms } = batch;
            let end_offset = base_offset
                .checked_add_unsigned(offset_count)
                .ok_or_else(|| corrupt(format!("writer_id={writer_id}: offset_count={offset_count} overflows")))?;
            writers.record(*writer_id, WrittenBatch { sequence, base_offset, end_offset, timestamp_ms });
        }
    }
    Ok(writers)
}

fn corrupt(reason: String) -> TabletError {
    TabletError::CorruptSnapshot { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> TabletState {
        let mut state = TabletState { log_start: 12, log_end: 15, index: OffsetIndex::new(0), writers: Writers::default() };
        state.index.push(3, 10, 1_000, 60);
        state.index.push(3, 13, 1_000, 70);
        state.index.push(5, 14, 1_200, 80);
        state.writers.record(9, WrittenBatch { sequence: 7, base_offset: 13, end_offset: 14, timestamp_ms: 1_000 });
        state.writers.record(2, WrittenBatch { sequence: 0, base_offset: 10, end_offset: 13, timestamp_ms: 1_000 });
        state.writers.record(2, WrittenBatch { sequence: 1, base_offset: 14, end_offset: 15, timestamp_ms: 1_200 });
        state
    }

    /// A format: these bytes lie in journals. A change needs a new version, and this one must stay readable.
    #[test]
    fn golden_bytes_version_1() {
        let expected = [
            b"FLTS\x01\x01\0\0".as_slice(),
            &[24, 30, 0xe0, 0x12, 20],
            &[3, 3, 3, 0xd0, 0x0f, 60, 1, 0, 0, 70, 1, 2, 0x90, 0x03, 80],
            &[2, 4, 2, 0, 20, 3, 0xd0, 0x0f, 2, 28, 1, 0xe0, 0x12, 18, 1, 14, 26, 1, 0xd0, 0x0f],
        ]
        .concat();
        assert_eq!(encode(&state()), expected);
        assert_eq!(decode(&expected).unwrap(), state());
    }

    #[test]
    fn an_emptied_log_keeps_its_pointers() {
        let mut emptied = state();
        emptied.log_start = 15;
        emptied.index.trim(15, 15);
        let decoded = decode(&encode(&emptied)).unwrap();
        assert_eq!((decoded.log_start, decoded.log_end), (15, 15));
        assert_eq!((decoded.index.batch_count(), decoded.index.max_timestamp_ms()), (0, 1_200));
        assert_eq!(decoded.writers, emptied.writers);
    }

    #[test]
    fn refuses_other_bytes() {
        let good = encode(&state());
        for cut in 0..good.len() {
            assert!(matches!(decode(&good[..cut]), Err(TabletError::CorruptSnapshot { .. })), "cut at {cut}");
        }
        assert!(decode(&[&good[..], &[0]].concat()).is_err());
        for (at, byte) in [(4, 2), (5, 2), (8, 40), (9, 28), (12, 26), (14, 0)] {
            let mut bad = good.to_vec();
            bad[at] = byte;
            assert!(decode(&bad).is_err(), "byte {at} = {byte}");
        }
    }
}
