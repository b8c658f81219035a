//! The client's end of a connection, without the socket: bytes out, bytes in.
//!
//! The simulator's clients, the benchmarks and the tests of the server use it. One connection carries many requests at
//! once; answers come in any order and are matched by request id.

use crate::api::{ApiKey, VersionRange};
use crate::frame::{FrameDecoder, FrameError, ResponseFrame, encode_request};
use crate::limits::IN_FLIGHT_REQUESTS_MAX;
use crate::rpc::{AnyResponse, ApiVersionsResponse, ErrorResponse, Rpc, decode_response};
use bytes::{Bytes, BytesMut};
use prost::Message;
use std::collections::BTreeMap;

/// Why a request was not sent. The connection stays usable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Before the answer to ApiVersions only ApiVersions can be sent.
    #[error("{key} sent before the peer's versions are known")]
    NoHandshake { key: ApiKey },
    /// The peer does not list the call or has no version in common.
    #[error("peer does not support {key}")]
    NotSupported { key: ApiKey },
    #[error("{in_flight} requests in flight, at most {limit}")]
    TooManyInFlight { in_flight: usize, limit: usize },
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// The connection is lost: the peer said so or broke the protocol. Final.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConnectionError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("peer closed the connection: {error}")]
    ServerFailure { error: ErrorResponse },
    /// Nobody asked, or the answer came twice.
    #[error("answer to request_id={request_id}, which is not in flight")]
    UnknownRequest { request_id: i32 },
    #[error("answer to {key} request_id={request_id} does not parse: {source}")]
    Malformed { key: ApiKey, request_id: i32, source: prost::DecodeError },
    #[error("error body of {length} bytes does not parse: {source}")]
    MalformedError { length: usize, source: prost::DecodeError },
    #[error("peer lists api_key={api_key} versions {min}..={max}, which are not int16")]
    BadVersions { api_key: i32, min: i32, max: i32 },
}

/// Why a reply holds no response of the wanted type.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReplyError {
    #[error("{key} refused: {error}")]
    Refused { key: ApiKey, error: ErrorResponse },
    #[error("reply to {found}, expected one to {expected}")]
    WrongCall { found: ApiKey, expected: ApiKey },
    #[error("answer to {key} does not parse: {source}")]
    Malformed { key: ApiKey, source: prost::DecodeError },
}

/// The answer to one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub request_id: i32,
    pub key: ApiKey,
    /// The encoded response message, or why the request failed as a whole.
    pub outcome: Result<Bytes, ErrorResponse>,
}

impl Reply {
    /// The response to a request of type `R`.
    pub fn decode<R: Rpc>(&self) -> Result<R::Response, ReplyError> {
        if self.key != R::KEY {
            return Err(ReplyError::WrongCall { found: self.key, expected: R::KEY });
        }
        let body = self.body()?;
        R::Response::decode(body).map_err(|source| ReplyError::Malformed { key: self.key, source })
    }

    /// The response to whatever was asked.
    pub fn decode_any(&self) -> Result<AnyResponse, ReplyError> {
        let body = self.body()?;
        let response = decode_response(self.key, body).map_err(|source| ReplyError::Malformed { key: self.key, source })?;
        Ok(response.expect("requests are only sent for keys that have messages"))
    }

    fn body(&self) -> Result<Bytes, ReplyError> {
        self.outcome.clone().map_err(|error| ReplyError::Refused { key: self.key, error })
    }
}

struct InFlight {
    key: ApiKey,
    /// Nobody waits any more; the answer is dropped when it comes.
    abandoned: bool,
}

/// State of one connection. First send `ApiVersionsRequest`; its answer, when taken with `next_reply`, sets the versions
/// of all later requests.
///
/// Strict where the official clients are lenient: an answer that nobody asked for ends the connection, so that a server
/// that answers twice is found.
#[derive(Default)]
pub struct ClientConnection {
    next_id: i32,
    in_flight: BTreeMap<i32, InFlight>,
    decoder: FrameDecoder<ResponseFrame>,
    peer: Option<BTreeMap<ApiKey, VersionRange>>,
    failed: Option<ConnectionError>,
}

impl ClientConnection {
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes `request` in the highest common version. Gives its id and the bytes to write.
    pub fn send<R: Rpc>(&mut self, request: &R) -> Result<(i32, Bytes), SendError> {
        let version = self.version_of(R::KEY)?;
        self.send_at_version(version, request)
    }

    /// Like `send`, in any version and without a handshake: for tests of what a server refuses.
    pub fn send_at_version<R: Rpc>(&mut self, version: i16, request: &R) -> Result<(i32, Bytes), SendError> {
        if self.in_flight.len() >= IN_FLIGHT_REQUESTS_MAX {
            return Err(SendError::TooManyInFlight { in_flight: self.in_flight.len(), limit: IN_FLIGHT_REQUESTS_MAX });
        }
        let request_id = self.free_id();
        let frame = encode_request(version, request_id, request)?;
        self.next_id = following_id(request_id);
        self.in_flight.insert(request_id, InFlight { key: R::KEY, abandoned: false });
        Ok((request_id, frame))
    }

    /// Drops the answer to `request_id` when it comes: the caller's time is up.
    pub fn abandon(&mut self, request_id: i32) {
        if let Some(request) = self.in_flight.get_mut(&request_id) {
            request.abandoned = true;
        }
    }

    /// Takes bytes from the peer, in any pieces.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.decoder.feed(bytes);
    }

    /// The buffer to read a socket into, instead of `receive`.
    pub fn read_buffer(&mut self) -> &mut BytesMut {
        self.decoder.read_buffer()
    }

    /// The next whole answer; `None` when more bytes are needed. An error is final and comes again on every call.
    pub fn next_reply(&mut self) -> Result<Option<Reply>, ConnectionError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let next = self.take_reply();
        if let Err(error) = &next {
            self.failed = Some(error.clone());
        }
        next
    }

    /// Requests without an answer, abandoned ones included.
    pub fn in_flight_count(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether the peer's versions are known.
    pub fn is_ready(&self) -> bool {
        self.peer.is_some()
    }

    fn version_of(&self, key: ApiKey) -> Result<i16, SendError> {
        let ours = key.versions().ok_or(SendError::NotSupported { key })?;
        // The handshake itself is sent in our own highest version.
        if key == ApiKey::ApiVersions {
            return Ok(ours.max);
        }
        let peer = self.peer.as_ref().ok_or(SendError::NoHandshake { key })?;
        let theirs = peer.get(&key).ok_or(SendError::NotSupported { key })?;
        ours.highest_common(*theirs).ok_or(SendError::NotSupported { key })
    }

    /// Ends because fewer requests are in flight than there are ids (`limits`).
    fn free_id(&self) -> i32 {
        let mut id = self.next_id;
        while self.in_flight.contains_key(&id) {
            id = following_id(id);
        }
        id
    }

    fn take_reply(&mut self) -> Result<Option<Reply>, ConnectionError> {
        while let Some(frame) = self.decoder.next_frame()? {
            let (request_id, outcome) = match frame {
                ResponseFrame::Success { request_id, body } => (request_id, Ok(body)),
                ResponseFrame::Error { request_id, body } => (request_id, Err(decode_error(body)?)),
                ResponseFrame::ServerFailure { body } => {
                    return Err(ConnectionError::ServerFailure { error: decode_error(body)? });
                }
            };
            let request = self.in_flight.remove(&request_id).ok_or(ConnectionError::UnknownRequest { request_id })?;
            if request.abandoned {
                continue;
            }
            if let (ApiKey::ApiVersions, Ok(body)) = (request.key, &outcome) {
                self.peer = Some(decode_versions(request_id, body.clone())?);
            }
            return Ok(Some(Reply { request_id, key: request.key, outcome }));
        }
        Ok(None)
    }
}

/// Ids are 31 bits and start again at 0.
fn following_id(id: i32) -> i32 {
    id.wrapping_add(1) & i32::MAX
}

fn decode_error(body: Bytes) -> Result<ErrorResponse, ConnectionError> {
    let length = body.len();
    ErrorResponse::decode(body).map_err(|source| ConnectionError::MalformedError { length, source })
}

/// What the peer lists, without the keys that we do not know.
fn decode_versions(request_id: i32, body: Bytes) -> Result<BTreeMap<ApiKey, VersionRange>, ConnectionError> {
    let response = ApiVersionsResponse::decode(body).map_err(|source| ConnectionError::Malformed {
        key: ApiKey::ApiVersions,
        request_id,
        source,
    })?;
    let mut versions = BTreeMap::new();
    for listed in response.api_versions {
        let bad = ConnectionError::BadVersions { api_key: listed.api_key, min: listed.min_version, max: listed.max_version };
        let key = i16::try_from(listed.api_key).map_err(|_| bad.clone())?;
        let min = i16::try_from(listed.min_version).map_err(|_| bad.clone())?;
        let max = i16::try_from(listed.max_version).map_err(|_| bad)?;
        if let Some(key) = ApiKey::from_key(key) {
            versions.insert(key, VersionRange { min, max });
        }
    }
    Ok(versions)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::error_code::ErrorCode;
    use crate::frame::{RequestFrame, encode_error, encode_response};
    use crate::rpc::*;

    fn versions(listed: &[(i32, i32, i32)]) -> ApiVersionsResponse {
        let one = |(api_key, min_version, max_version): &(i32, i32, i32)| PbApiVersion {
            api_key: *api_key,
            min_version: *min_version,
            max_version: *max_version,
        };
        ApiVersionsResponse { api_versions: listed.iter().map(one).collect(), server_type: None }
    }

    fn connected(listed: &[(i32, i32, i32)]) -> ClientConnection {
        let mut connection = ClientConnection::new();
        let (id, _) = connection.send(&ApiVersionsRequest::default()).unwrap();
        connection.receive(&encode_response(id, &versions(listed)).unwrap());
        connection.next_reply().unwrap().unwrap();
        connection
    }

    fn sent(bytes: Bytes) -> RequestFrame {
        let mut decoder = FrameDecoder::<RequestFrame>::new();
        decoder.feed(&bytes);
        decoder.next_frame().unwrap().unwrap()
    }

    #[test]
    fn handshake_first_then_the_highest_common_version() {
        let mut connection = ClientConnection::new();
        let early = connection.send(&MetadataRequest::default()).unwrap_err();
        assert_eq!(early, SendError::NoHandshake { key: ApiKey::GetMetadata });
        let mut connection = connected(&[(1016, 0, 2), (1014, 5, 9), (1012, 0, 7), (2000, 0, 0)]);
        assert!(connection.is_ready());
        assert_eq!(sent(connection.send(&PutKvRequest::default()).unwrap().1).version, 2);
        assert_eq!(sent(connection.send(&MetadataRequest::default()).unwrap().1).version, 0);
        let none_common = connection.send(&ProduceLogRequest::default()).unwrap_err();
        assert_eq!(none_common, SendError::NotSupported { key: ApiKey::ProduceLog });
        let not_listed = connection.send(&LookupRequest::default()).unwrap_err();
        assert_eq!(not_listed, SendError::NotSupported { key: ApiKey::Lookup });
        assert_eq!(connection.in_flight_count(), 2);
    }

    #[test]
    fn answers_come_in_any_order() {
        let mut connection = connected(&[(1026, 0, 0), (1004, 0, 0)]);
        let (writer, _) = connection.send(&InitWriterRequest::default()).unwrap();
        let (exists, _) = connection.send(&DatabaseExistsRequest::default()).unwrap();
        let (refused, _) = connection.send(&InitWriterRequest::default()).unwrap();
        connection.receive(&encode_error(refused, &ErrorResponse::new(ErrorCode::AuthorizationException, "no")).unwrap());
        connection.receive(&encode_response(exists, &DatabaseExistsResponse { exists: true }).unwrap());
        connection.receive(&encode_response(writer, &InitWriterResponse { writer_id: 9 }).unwrap());

        let reply = connection.next_reply().unwrap().unwrap();
        assert_eq!(reply.request_id, refused);
        let error = reply.decode::<InitWriterRequest>().unwrap_err();
        assert_eq!(error.to_string(), "InitWriter (1026) refused: AUTHORIZATION_EXCEPTION (48): no");
        let reply = connection.next_reply().unwrap().unwrap();
        assert_eq!(reply.decode::<DatabaseExistsRequest>(), Ok(DatabaseExistsResponse { exists: true }));
        let wrong = reply.decode::<InitWriterRequest>().unwrap_err();
        assert_eq!(wrong, ReplyError::WrongCall { found: ApiKey::DatabaseExists, expected: ApiKey::InitWriter });
        let reply = connection.next_reply().unwrap().unwrap();
        assert_eq!(reply.decode_any(), Ok(AnyResponse::InitWriter(InitWriterResponse { writer_id: 9 })));
        assert_eq!((connection.next_reply(), connection.in_flight_count()), (Ok(None), 0));
    }

    #[test]
    fn an_answer_nobody_asked_for_is_final_unless_abandoned() {
        let mut connection = connected(&[(1026, 0, 0)]);
        let (id, _) = connection.send(&InitWriterRequest::default()).unwrap();
        let answer = encode_response(id, &InitWriterResponse { writer_id: 9 }).unwrap();
        connection.abandon(id);
        connection.receive(&answer);
        assert_eq!(connection.next_reply(), Ok(None));
        connection.receive(&answer);
        assert_eq!(connection.next_reply(), Err(ConnectionError::UnknownRequest { request_id: id }));
        assert_eq!(connection.next_reply(), Err(ConnectionError::UnknownRequest { request_id: id }));
    }

    #[test]
    fn a_server_failure_is_final() {
        let mut connection = ClientConnection::new();
        let error = ErrorResponse::new(ErrorCode::CorruptMessage, "too long");
        let frame = ResponseFrame::ServerFailure { body: error.encode_to_vec().into() };
        connection.receive(&frame.to_bytes().unwrap());
        assert_eq!(connection.next_reply(), Err(ConnectionError::ServerFailure { error }));
    }

    #[test]
    fn versions_must_be_int16() {
        let mut connection = ClientConnection::new();
        let (id, _) = connection.send(&ApiVersionsRequest::default()).unwrap();
        connection.receive(&encode_response(id, &versions(&[(1012, 0, 40_000)])).unwrap());
        assert_eq!(connection.next_reply(), Err(ConnectionError::BadVersions { api_key: 1012, min: 0, max: 40_000 }));
    }

    #[test]
    fn ids_start_again_and_skip_those_in_flight() {
        let mut connection = connected(&[(1026, 0, 0)]);
        let (first, _) = connection.send(&InitWriterRequest::default()).unwrap();
        assert_eq!(first, 1);
        connection.next_id = i32::MAX;
        let ids: Vec<i32> = (0..3).map(|_| connection.send(&InitWriterRequest::default()).unwrap().0).collect();
        assert_eq!(ids, [i32::MAX, 0, 2]);
    }
}
