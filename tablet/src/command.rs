//! What a log entry of a bucket says. The bytes are a format: numbers are never reused.

use crate::error::TabletError;
use bytes::{BufMut, Bytes, BytesMut};

/// Bytes before the batches in an encoded [`Command::Append`]; readers slice them off, so a fetch copies nothing.
pub const APPEND_HEADER_BYTES: usize = 16;

const VERSION: u8 = 1;
const KIND_APPEND: u8 = 1;
const KIND_TRIM: u8 = 2;
const KIND_EXPIRE_WRITERS: u8 = 3;

/// One replicated command.
///
/// ```text
/// 0  1  version = 1
/// 1  1  kind: 1 append, 2 trim, 3 expire writers
/// 2  6  zero
/// 8  8  decided_term, u64 LE
/// 16 .. append: whole log batches, stamped, at least one
///       trim: log_start, i64 LE; expire writers: before_ms, i64 LE
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Whole batches, back to back, with base offset, commit timestamp (and leader epoch, V2) stamped by the leader that decided
    /// them in `decided_term`.
    Append { decided_term: u64, batches: Bytes },
    /// Retention: nothing below `log_start` is wanted any more. A batch boundary.
    Trim { decided_term: u64, log_start: i64 },
    /// Writers silent since before `before_ms` are forgotten.
    ExpireWriters { decided_term: u64, before_ms: i64 },
}

impl Command {
    /// The term whose leader decided this.
    pub fn decided_term(&self) -> u64 {
        match self {
            Self::Append { decided_term, .. } | Self::Trim { decided_term, .. } | Self::ExpireWriters { decided_term, .. } => {
                *decided_term
            }
        }
    }

    pub fn encode(&self) -> Bytes {
        match self {
            Self::Append { decided_term, batches } => {
                let mut out = append_header(*decided_term, batches.len());
                out.put_slice(batches);
                out.freeze()
            }
            Self::Trim { decided_term, log_start } => encode_number(KIND_TRIM, *decided_term, *log_start),
            Self::ExpireWriters { decided_term, before_ms } => encode_number(KIND_EXPIRE_WRITERS, *decided_term, *before_ms),
        }
    }

    /// Back from bytes. `Append::batches` shares the payload; the batches in it are not looked at.
    ///
    /// Errors: `CorruptCommand` for anything that [`Self::encode`] does not write.
    pub fn decode(payload: &Bytes) -> Result<Self, TabletError> {
        let corrupt = |reason: String| TabletError::CorruptCommand { reason };
        let Some((header, body)) = payload.split_first_chunk::<APPEND_HEADER_BYTES>() else {
            return Err(corrupt(format!("{} bytes, expected at least {APPEND_HEADER_BYTES}", payload.len())));
        };
        let [version, kind, zeros @ .., _, _, _, _, _, _, _, _] = header;
        if *version != VERSION {
            return Err(corrupt(format!("version={version}, expected {VERSION}")));
        }
        if zeros.iter().any(|byte| *byte != 0) {
            return Err(corrupt(format!("reserved bytes are {zeros:?}, expected zeros")));
        }
        let decided_term = u64::from_le_bytes(*header.last_chunk().expect("16 bytes end with 8 bytes"));
        let number = || match body.try_into() {
            Ok(bytes) => Ok(i64::from_le_bytes(bytes)),
            Err(_) => Err(corrupt(format!("kind={kind} with {} bytes after the header, expected 8", body.len()))),
        };
        match *kind {
            KIND_APPEND if body.is_empty() => Err(corrupt("append without a batch".to_string())),
            KIND_APPEND => Ok(Self::Append { decided_term, batches: payload.slice(APPEND_HEADER_BYTES..) }),
            KIND_TRIM => Ok(Self::Trim { decided_term, log_start: number()? }),
            KIND_EXPIRE_WRITERS => Ok(Self::ExpireWriters { decided_term, before_ms: number()? }),
            unknown => Err(corrupt(format!("kind={unknown}, expected 1 to 3"))),
        }
    }
}

/// The header of an append, in a buffer that has room for `batches_bytes` more.
pub(crate) fn append_header(decided_term: u64, batches_bytes: usize) -> BytesMut {
    header(KIND_APPEND, decided_term, batches_bytes)
}

fn header(kind: u8, decided_term: u64, body_bytes: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(APPEND_HEADER_BYTES + body_bytes);
    out.put_u8(VERSION);
    out.put_u8(kind);
    out.put_bytes(0, 6);
    out.put_u64_le(decided_term);
    out
}

fn encode_number(kind: u8, decided_term: u64, number: i64) -> Bytes {
    let mut out = header(kind, decided_term, 8);
    out.put_i64_le(number);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_bytes() {
        let append = Command::Append { decided_term: 0x0102, batches: Bytes::from_static(b"batch") };
        assert_eq!(&append.encode()[..], b"\x01\x01\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0batch");
        let trim = Command::Trim { decided_term: 3, log_start: 0x0405 };
        assert_eq!(&trim.encode()[..], b"\x01\x02\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x05\x04\0\0\0\0\0\0");
        let expire = Command::ExpireWriters { decided_term: 3, before_ms: -1 };
        assert_eq!(&expire.encode()[..], b"\x01\x03\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff");
    }

    #[test]
    fn decoded_batches_share_the_payload() {
        let payload = Command::Append { decided_term: 1, batches: Bytes::from_static(b"batch") }.encode();
        let Command::Append { batches, .. } = Command::decode(&payload).unwrap() else { panic!("not an append") };
        assert_eq!(batches.as_ptr(), payload[APPEND_HEADER_BYTES..].as_ptr());
    }

    #[test]
    fn refuses_what_it_does_not_write() {
        let good = Command::Trim { decided_term: 1, log_start: 5 }.encode();
        for (at, byte) in [(0, 2), (1, 0), (1, 4), (2, 1), (7, 1)] {
            let mut bad = good.to_vec();
            bad[at] = byte;
            assert!(matches!(Command::decode(&bad.into()), Err(TabletError::CorruptCommand { .. })), "byte {at} = {byte}");
        }
        assert!(Command::decode(&good.slice(..23)).is_err());
        assert!(Command::decode(&Command::Append { decided_term: 1, batches: Bytes::new() }.encode()).is_err());
    }

    proptest! {
        #[test]
        fn decoding_is_the_inverse_of_encoding(bytes in prop::collection::vec(any::<u8>(), 0..40), fix in any::<bool>()) {
            let mut bytes = bytes;
            if fix && bytes.len() >= 8 {
                bytes[0] = 1;
                bytes[1] %= 4;
                bytes[2..8].fill(0);
            }
            let bytes = Bytes::from(bytes);
            if let Ok(command) = Command::decode(&bytes) {
                prop_assert_eq!(command.encode(), bytes);
            }
        }
    }
}
