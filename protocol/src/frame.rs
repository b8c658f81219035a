//! What stands around a message on a connection.
//!
//! Everything here is big-endian. `frame_length` counts what follows it.
//!
//! ```text
//! request    0  frame_length  int32      response   0  frame_length   int32
//!            4  api_key       int16                 4  response_type  int8: 0 success, 1 error, 2 server failure
//!            6  api_version   int16                 5  request_id     int32, absent in a server failure
//!            8  request_id    int32                    body
//!           12  body
//! ```

mod decoder;

pub use decoder::{Frame, FrameDecoder};

use crate::limits::{REQUEST_FRAME_BYTES_MAX, RESPONSE_FRAME_BYTES_MAX};
use crate::rpc::{AnyRequest, ErrorResponse, RequestError, Rpc, decode_request};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

const LENGTH_BYTES: usize = 4;
const REQUEST_HEADER_BYTES: usize = 8;
const RESPONSE_HEADER_BYTES: usize = 5;
const SERVER_FAILURE_HEADER_BYTES: usize = 1;

const SUCCESS: i8 = 0;
const ERROR: i8 = 1;
const SERVER_FAILURE: i8 = 2;

/// The stream of frames is broken or would be. After one of these while reading no later byte has a meaning: close.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("frame_length={length} is negative")]
    NegativeLength { length: i32 },
    #[error("frame_length={length}, at most {limit}")]
    TooLong { length: usize, limit: usize },
    #[error("frame_length={length}, at least {minimum}")]
    TooShort { length: usize, minimum: usize },
    #[error("response_type={found}, expected 0, 1 or 2")]
    UnknownResponseType { found: i8 },
}

/// A whole request, its body not yet looked at. Key and version may be ones that nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFrame {
    pub key: i16,
    pub version: i16,
    pub request_id: i32,
    /// A slice of the buffer the bytes were received in, which stays allocated as long as this does.
    pub body: Bytes,
}

impl Frame for RequestFrame {
    const LENGTH_MIN: usize = REQUEST_HEADER_BYTES;
    const LENGTH_MAX: usize = REQUEST_FRAME_BYTES_MAX;

    fn parse(mut content: Bytes) -> Result<Self, FrameError> {
        check_length(content.len(), Self::LENGTH_MIN, Self::LENGTH_MAX)?;
        Ok(Self { key: content.get_i16(), version: content.get_i16(), request_id: content.get_i32(), body: content })
    }
}

impl RequestFrame {
    /// The message, by key and version. On an error answer [`RequestError::to_response`] under this request id.
    pub fn decode_body(&self) -> Result<AnyRequest, RequestError> {
        decode_request(self.key, self.version, self.body.clone())
    }

    /// The bytes this frame was parsed from.
    pub fn to_bytes(&self) -> Result<Bytes, FrameError> {
        let mut frame = request_header(self.key, self.version, self.request_id, self.body.len())?;
        frame.put_slice(&self.body);
        Ok(frame.freeze())
    }
}

/// A whole response, its body not yet looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseFrame {
    /// The body is the response message of the call that has this request id.
    Success { request_id: i32, body: Bytes },
    /// The request failed as a whole; the body is an [`ErrorResponse`].
    Error { request_id: i32, body: Bytes },
    /// The connection failed, no request is known; the body is an [`ErrorResponse`]. Never send it: fluss-rs reads four
    /// bytes of it as a request id. Close the socket instead.
    ServerFailure { body: Bytes },
}

impl Frame for ResponseFrame {
    const LENGTH_MIN: usize = SERVER_FAILURE_HEADER_BYTES;
    const LENGTH_MAX: usize = RESPONSE_FRAME_BYTES_MAX;

    fn parse(mut content: Bytes) -> Result<Self, FrameError> {
        let length = content.len();
        check_length(length, Self::LENGTH_MIN, Self::LENGTH_MAX)?;
        let response_type = content.get_i8();
        match response_type {
            SERVER_FAILURE => return Ok(Self::ServerFailure { body: content }),
            SUCCESS | ERROR => check_length(length, RESPONSE_HEADER_BYTES, Self::LENGTH_MAX)?,
            found => return Err(FrameError::UnknownResponseType { found }),
        }
        let request_id = content.get_i32();
        Ok(match response_type {
            SUCCESS => Self::Success { request_id, body: content },
            _ => Self::Error { request_id, body: content },
        })
    }
}

impl ResponseFrame {
    pub fn body(&self) -> &Bytes {
        match self {
            Self::Success { body, .. } | Self::Error { body, .. } | Self::ServerFailure { body } => body,
        }
    }

    /// The bytes this frame was parsed from.
    pub fn to_bytes(&self) -> Result<Bytes, FrameError> {
        let body = self.body();
        let mut frame = match self {
            Self::Success { request_id, .. } => response_header(SUCCESS, *request_id, body.len())?,
            Self::Error { request_id, .. } => response_header(ERROR, *request_id, body.len())?,
            Self::ServerFailure { .. } => {
                let mut frame = start_frame(SERVER_FAILURE_HEADER_BYTES, body.len(), RESPONSE_FRAME_BYTES_MAX)?;
                frame.put_i8(SERVER_FAILURE);
                frame
            }
        };
        frame.put_slice(body);
        Ok(frame.freeze())
    }
}

/// A request as it goes to the socket.
///
/// Errors: `TooLong` when a server would refuse it.
pub fn encode_request<R: Rpc>(version: i16, request_id: i32, request: &R) -> Result<Bytes, FrameError> {
    let mut frame = request_header(R::KEY.key(), version, request_id, request.encoded_len())?;
    request.encode_raw(&mut frame);
    Ok(frame.freeze())
}

/// The answer to one request as it goes to the socket.
///
/// Errors: `TooLong` when the length does not fit; answer an error instead.
pub fn encode_response<M: Message>(request_id: i32, response: &M) -> Result<Bytes, FrameError> {
    let mut frame = response_header(SUCCESS, request_id, response.encoded_len())?;
    response.encode_raw(&mut frame);
    Ok(frame.freeze())
}

/// Like [`encode_response`] for a message that is already encoded in pieces; write them in order.
///
/// Errors: `TooLong` when the length does not fit; answer an error instead.
pub fn encode_response_pieces(request_id: i32, body: Vec<Bytes>) -> Result<Vec<Bytes>, FrameError> {
    let body_bytes = body.iter().map(Bytes::len).sum();
    let header = response_header_only(SUCCESS, request_id, body_bytes)?;
    let mut pieces = Vec::with_capacity(body.len() + 1);
    pieces.push(header.freeze());
    pieces.extend(body);
    Ok(pieces)
}

/// The answer to a request that failed as a whole.
///
/// Errors: `TooLong` for a message of two gigabytes.
pub fn encode_error(request_id: i32, error: &ErrorResponse) -> Result<Bytes, FrameError> {
    let mut frame = response_header(ERROR, request_id, error.encoded_len())?;
    error.encode_raw(&mut frame);
    Ok(frame.freeze())
}

fn check_length(length: usize, minimum: usize, limit: usize) -> Result<(), FrameError> {
    if length < minimum {
        return Err(FrameError::TooShort { length, minimum });
    }
    if length > limit {
        return Err(FrameError::TooLong { length, limit });
    }
    Ok(())
}

fn frame_length(header_bytes: usize, body_bytes: usize, limit: usize) -> Result<i32, FrameError> {
    let length = header_bytes.saturating_add(body_bytes);
    check_length(length, header_bytes, limit)?;
    i32::try_from(length).map_err(|_| FrameError::TooLong { length, limit: RESPONSE_FRAME_BYTES_MAX })
}

/// A buffer with room for the whole frame that holds its length.
fn start_frame(header_bytes: usize, body_bytes: usize, limit: usize) -> Result<BytesMut, FrameError> {
    let length = frame_length(header_bytes, body_bytes, limit)?;
    let mut frame = BytesMut::with_capacity(LENGTH_BYTES + header_bytes + body_bytes);
    frame.put_i32(length);
    Ok(frame)
}

fn request_header(key: i16, version: i16, request_id: i32, body_bytes: usize) -> Result<BytesMut, FrameError> {
    let mut frame = start_frame(REQUEST_HEADER_BYTES, body_bytes, REQUEST_FRAME_BYTES_MAX)?;
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(request_id);
    Ok(frame)
}

fn response_header(response_type: i8, request_id: i32, body_bytes: usize) -> Result<BytesMut, FrameError> {
    let mut frame = start_frame(RESPONSE_HEADER_BYTES, body_bytes, RESPONSE_FRAME_BYTES_MAX)?;
    frame.put_i8(response_type);
    frame.put_i32(request_id);
    Ok(frame)
}

/// Like `response_header`, without room for the body, which travels in buffers of its own.
fn response_header_only(response_type: i8, request_id: i32, body_bytes: usize) -> Result<BytesMut, FrameError> {
    let length = frame_length(RESPONSE_HEADER_BYTES, body_bytes, RESPONSE_FRAME_BYTES_MAX)?;
    let mut frame = BytesMut::with_capacity(LENGTH_BYTES + RESPONSE_HEADER_BYTES);
    frame.put_i32(length);
    frame.put_i8(response_type);
    frame.put_i32(request_id);
    Ok(frame)
}
