//! Frames: the captured ones, any way of cutting a stream, and hostile bytes.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)]

mod common;

use bytes::Bytes;
use floss_protocol::api::ApiKey;
use floss_protocol::connection::ClientConnection;
use floss_protocol::frame::{
    Frame, FrameDecoder, FrameError, RequestFrame, ResponseFrame, encode_error, encode_request, encode_response,
    encode_response_pieces,
};
use floss_protocol::rpc::*;
use proptest::prelude::*;
use serde_json::Value;

/// Every object with a `frame_hex` in the vectors: file, key, version, request id, frame.
fn captured() -> Vec<(String, i16, i16, i32, Bytes)> {
    fn collect(name: &str, value: &Value, found: &mut Vec<(String, i16, i16, i32, Bytes)>) {
        if let Some(frame) = value.get("frame_hex") {
            let number = |key: &str| value[key].as_i64().unwrap();
            let (key, version) = (number("api_key") as i16, number("api_version") as i16);
            found.push((name.to_owned(), key, version, number("request_id") as i32, common::unhex(frame.as_str().unwrap())));
        }
        match value {
            Value::Object(object) => object.values().for_each(|value| collect(name, value, found)),
            Value::Array(array) => array.iter().for_each(|value| collect(name, value, found)),
            _ => {}
        }
    }
    let mut names: Vec<String> =
        std::fs::read_dir(common::path("")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".json"));
    names.sort();
    let mut found = Vec::new();
    names.iter().for_each(|name| collect(name, &common::json(name), &mut found));
    found
}

fn decode_all<F: Frame>(decoder: &mut FrameDecoder<F>) -> Result<Vec<F>, FrameError> {
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next_frame()? {
        frames.push(frame);
    }
    Ok(frames)
}

#[test]
fn captured_frames_decode_and_encode_back() {
    let captured = captured();
    assert_eq!(captured.len(), 22);
    for (name, key, version, request_id, bytes) in captured {
        let mut decoder = FrameDecoder::<RequestFrame>::new();
        decoder.feed(&bytes);
        let frame = decoder.next_frame().unwrap().unwrap();
        assert_eq!((frame.key, frame.version, frame.request_id), (key, version, request_id), "{name}");
        assert_eq!((decoder.next_frame(), decoder.buffered_bytes()), (Ok(None), 0), "{name}");
        assert_eq!(frame.to_bytes().unwrap(), bytes, "{name}");
        // And from the message itself, through the typed encoder.
        let request = frame.decode_body().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(request.key().key(), key);
        assert_eq!(request.encode_to_vec(), frame.body, "{name}");
    }
}

#[test]
fn the_first_frame_of_a_client() {
    let request = ApiVersionsRequest { client_software_name: "fluss-rust".into(), client_software_version: "1.0.0".into() };
    let captured = common::hex("frame_api_versions.json", "frame_hex");
    assert_eq!(encode_request(0, 0, &request).unwrap(), captured);
    // The same from a whole client.
    assert_eq!(ClientConnection::new().send(&request).unwrap(), (0, captured));
}

#[test]
fn responses_have_a_type_and_an_id() {
    let answer = encode_response(7, &InitWriterResponse { writer_id: 300 }).unwrap();
    assert_eq!(answer, &[0, 0, 0, 8, 0, 0, 0, 0, 7, 0x08, 0xac, 0x02][..]);
    let error = encode_error(7, &ErrorResponse { error_code: 2, error_message: None }).unwrap();
    assert_eq!(error, &[0, 0, 0, 7, 1, 0, 0, 0, 7, 0x08, 0x02][..]);
    let pieces = encode_response_pieces(7, vec![Bytes::from_static(&[0x08]), Bytes::from_static(&[0xac, 0x02])]).unwrap();
    assert_eq!(pieces.concat(), answer);
}

#[test]
fn a_request_that_a_server_would_refuse_is_not_encoded() {
    let limit = floss_protocol::limits::REQUEST_FRAME_BYTES_MAX;
    let request = AuthenticateRequest { protocol: "PLAIN".into(), token: vec![0; limit].into() };
    assert!(matches!(encode_request(0, 0, &request), Err(FrameError::TooLong { .. })));
}

fn request_frame() -> impl Strategy<Value = RequestFrame> {
    let body = prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
    (any::<i16>(), any::<i16>(), any::<i32>(), body).prop_map(|(key, version, request_id, body)| RequestFrame {
        key,
        version,
        request_id,
        body,
    })
}

fn response_frame() -> impl Strategy<Value = ResponseFrame> {
    let body = prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
    (0..3, any::<i32>(), body).prop_map(|(kind, request_id, body)| match kind {
        0 => ResponseFrame::Success { request_id, body },
        1 => ResponseFrame::Error { request_id, body },
        _ => ResponseFrame::ServerFailure { body },
    })
}

/// Cuts `stream` at the given places, feeds the pieces, both ways in turn, and takes frames after each.
fn in_pieces<F: Frame>(stream: &[u8], cuts: &[prop::sample::Index]) -> Result<Vec<F>, FrameError> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).chain([stream.len()]).collect();
    places.sort();
    let mut decoder = FrameDecoder::<F>::new();
    let (mut frames, mut from) = (Vec::new(), 0);
    for (turn, to) in places.into_iter().enumerate() {
        match turn % 2 {
            0 => decoder.feed(&stream[from..to]),
            _ => decoder.read_buffer().extend_from_slice(&stream[from..to]),
        }
        from = to;
        frames.extend(decode_all(&mut decoder)?);
    }
    assert_eq!(decoder.buffered_bytes(), 0);
    Ok(frames)
}

/// A body of any request: random bytes, or a recorded-looking one: a valid encoding with a few bytes changed.
fn hostile_body() -> impl Strategy<Value = Bytes> {
    let noise = prop::collection::vec(any::<u8>(), 0..200);
    let bodies: Vec<Vec<u8>> = captured().into_iter().map(|(_, _, _, _, frame)| frame[12..].to_vec()).collect();
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
    let changed = (prop::sample::select(bodies), changes, any::<prop::sample::Index>()).prop_map(|(mut body, changes, end)| {
        for (place, byte) in changes.iter().filter(|_| !body.is_empty()).collect::<Vec<_>>() {
            let at = place.index(body.len());
            body[at] = *byte;
        }
        body.truncate(end.index(2 * body.len() + 1));
        body
    });
    prop_oneof![noise, changed].prop_map(Bytes::from)
}

/// Mostly keys that exist.
fn key() -> impl Strategy<Value = i16> {
    prop_oneof![4 => 995..1070i16, 1 => any::<i16>()]
}

proptest! {
    #[test]
    fn requests_cut_anywhere(frames in prop::collection::vec(request_frame(), 0..8), cuts: Vec<prop::sample::Index>) {
        let stream: Vec<u8> = frames.iter().flat_map(|frame| frame.to_bytes().unwrap()).collect();
        prop_assert_eq!(in_pieces::<RequestFrame>(&stream, &cuts).unwrap(), frames);
    }

    #[test]
    fn responses_cut_anywhere(frames in prop::collection::vec(response_frame(), 0..8), cuts: Vec<prop::sample::Index>) {
        let stream: Vec<u8> = frames.iter().flat_map(|frame| frame.to_bytes().unwrap()).collect();
        prop_assert_eq!(in_pieces::<ResponseFrame>(&stream, &cuts).unwrap(), frames);
    }

    #[test]
    fn hostile_streams_never_panic(stream: Vec<u8>) {
        let mut requests = FrameDecoder::<RequestFrame>::new();
        requests.feed(&stream);
        let _ = decode_all(&mut requests);
        let mut client = ClientConnection::new();
        client.send(&ApiVersionsRequest::default()).unwrap();
        client.receive(&stream);
        while let Ok(Some(_)) = client.next_reply() {}
    }

    #[test]
    fn hostile_answers_never_panic(kind in 0..2u8, body in hostile_body()) {
        let mut client = ClientConnection::new();
        client.send(&ApiVersionsRequest::default()).unwrap();
        let answer = match kind {
            0 => ResponseFrame::Success { request_id: 0, body },
            _ => ResponseFrame::Error { request_id: 0, body },
        };
        client.receive(&answer.to_bytes().unwrap());
        let _ = client.next_reply();
    }

    #[test]
    fn any_key_and_version_has_an_answer(key in key(), version in prop_oneof![-2..6i16, any::<i16>()], body in hostile_body()) {
        let error = decode_request(key, version, body).err();
        let known = ApiKey::from_key(key).and_then(ApiKey::versions);
        match error {
            None => prop_assert!(known.is_some_and(|versions| versions.contains(version))),
            Some(RequestError::UnknownApi { .. }) => prop_assert!(known.is_none()),
            Some(RequestError::UnsupportedVersion { .. }) => prop_assert!(known.is_some_and(|versions| !versions.contains(version))),
            Some(RequestError::Malformed { .. } | RequestError::TooLarge { .. } | RequestError::TooMany { .. }) => {
                prop_assert!(known.is_some_and(|versions| versions.contains(version)));
            }
        }
    }

    /// Every decoder sees every body. What decodes encodes to something that decodes to the same message.
    #[test]
    fn hostile_bodies_never_panic(body in hostile_body()) {
        for key in ApiKey::ALL {
            let Some(versions) = key.versions() else { continue };
            for version in versions.min..=versions.max {
                match decode_request(key.key(), version, body.clone()) {
                    Ok(request) => {
                        let again = decode_request(key.key(), version, request.encode_to_vec().into());
                        // Debug text, because a float may be NaN.
                        prop_assert_eq!(format!("{:?}", again), format!("{:?}", Ok::<_, RequestError>(request)));
                    }
                    Err(error) => prop_assert!(matches!(error, RequestError::Malformed { .. }), "{}", error),
                }
            }
            let _ = decode_response(*key, body.clone());
        }
    }
}

#[test]
fn a_deeply_nested_predicate_is_malformed_and_does_not_overflow_the_stack() {
    use prost::Message;
    let mut predicate = PbPredicate { r#type: 0, leaf: None, compound: None }.encode_to_vec();
    for _ in 0..20_000 {
        // PbPredicate.compound (3) around PbCompoundPredicate.children (2) around the last one.
        for number in [2, 3] {
            let mut outer = Vec::new();
            prost::encoding::bytes::encode(number, &predicate, &mut outer);
            predicate = outer;
        }
    }
    let mut table = Vec::new();
    prost::encoding::bytes::encode(5, &predicate, &mut table);
    let mut body = Vec::new();
    prost::encoding::bytes::encode(3, &table, &mut body);
    let error = decode_request(ApiKey::FetchLog.key(), 0, body.into()).unwrap_err();
    assert!(matches!(error, RequestError::Malformed { .. }), "{error}");
}
