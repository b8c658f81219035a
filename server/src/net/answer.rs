//! What a handler gives back, and its frame.

use bytes::{BufMut, Bytes, BytesMut};
use floss_protocol::error_code::ErrorCode;
use floss_protocol::rpc;
use floss_raft::env::runtime::sync::OwnedSemaphorePermit;
use prost::Message;

/// A whole-request failure: response type 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub code: ErrorCode,
    pub message: String,
}

impl Refusal {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// A body in pieces: payloads are not copied between the journal and the socket.
#[derive(Debug, Default)]
pub(crate) struct Body {
    pub pieces: Vec<Bytes>,
    /// Room for a large answer, given back when it is written.
    pub room: Option<OwnedSemaphorePermit>,
}

impl Body {
    pub fn message(message: &impl Message) -> Self {
        Self { pieces: vec![Bytes::from(message.encode_to_vec())], room: None }
    }
}

pub(crate) type Answer = Result<Body, Refusal>;

const TYPE_SUCCESS: u8 = 0;
const TYPE_ERROR: u8 = 1;

/// The frame of an answer, in pieces.
///
/// ```text
/// 0  4  bytes that follow, i32 BE
/// 4  1  0 success, 1 error (2 is never sent: the Rust client misreads it)
/// 5  4  request id, i32 BE
/// 9  .. body
/// ```
pub(crate) fn frame(request_id: i32, answer: Answer) -> Framed {
    let (kind, body) = match answer {
        Ok(body) => (TYPE_SUCCESS, body),
        Err(refusal) => (TYPE_ERROR, Body::message(&error_response(refusal))),
    };
    let body_bytes: usize = body.pieces.iter().map(Bytes::len).sum();
    // A body never comes near 2^31: FETCH_BYTES_MAX bounds the only large one.
    let frame_bytes = i32::try_from(body_bytes + 5).expect("answers are bounded by FETCH_BYTES_MAX");
    let first_bytes = body.pieces.first().map_or(0, Bytes::len);
    // Small bodies share one piece with the header: one buffer for the socket instead of two.
    let inline = if first_bytes <= 512 { first_bytes } else { 0 };
    let mut head = BytesMut::with_capacity(9 + inline);
    head.put_i32(frame_bytes);
    head.put_u8(kind);
    head.put_i32(request_id);
    let mut pieces = body.pieces.into_iter();
    if inline > 0 {
        head.extend_from_slice(&pieces.next().unwrap_or_default());
    }
    let mut frame = Vec::with_capacity(1 + pieces.len());
    frame.push(head.freeze());
    frame.extend(pieces.filter(|piece| !piece.is_empty()));
    Framed { pieces: frame, room: body.room }
}

/// A frame ready to be written.
#[derive(Debug)]
pub(crate) struct Framed {
    pub pieces: Vec<Bytes>,
    pub room: Option<OwnedSemaphorePermit>,
}

fn error_response(refusal: Refusal) -> rpc::ErrorResponse {
    rpc::ErrorResponse { error_code: refusal.code.code(), error_message: Some(refusal.message) }
}
