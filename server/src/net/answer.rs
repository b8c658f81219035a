//! What a handler gives back, and its frame.

use bytes::Bytes;
use floss_protocol::error_code::ErrorCode;
use floss_protocol::frame::{encode_error, encode_response_pieces};
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

/// The frame of an answer. An answer that does not fit in a frame becomes a refusal.
pub(crate) fn frame(request_id: i32, answer: Answer) -> Framed {
    let refusal = match answer {
        Ok(body) => match encode_response_pieces(request_id, body.pieces) {
            Ok(pieces) => return Framed { pieces, room: body.room },
            Err(error) => Refusal::new(ErrorCode::UnknownServerError, error.to_string()),
        },
        Err(refusal) => refusal,
    };
    let error = rpc::ErrorResponse::new(refusal.code, refusal.message);
    let frame = encode_error(request_id, &error).expect("our messages are short");
    Framed { pieces: vec![frame], room: None }
}

/// A frame ready to be written.
#[derive(Debug)]
pub(crate) struct Framed {
    pub pieces: Vec<Bytes>,
    pub room: Option<OwnedSemaphorePermit>,
}
