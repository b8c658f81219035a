//! Messages and JSON.

use bytes::Bytes;
use floss_protocol::api::ApiKey;
use floss_protocol::rpc::{RequestError, decode_request, decode_response};
use floss_protocol::schema::{DatabaseDescriptor, Schema, TableDescriptor};

/// Input: key (i16 BE), version (i16 BE), body.
///
/// A version outside the range of its key is refused, an unknown key too. What decodes encodes to bytes that decode to the
/// same bytes again.
pub fn check_request_decoder(input: &[u8]) {
    let Some(([k0, k1, v0, v1], body)) = input.split_first_chunk::<4>() else { return };
    let (key, version) = (i16::from_be_bytes([*k0, *k1]), i16::from_be_bytes([*v0, *v1]));
    let supported = ApiKey::from_key(key).and_then(ApiKey::versions);
    let is_supported = supported.is_some_and(|versions| versions.contains(version));
    match decode_request(key, version, Bytes::copy_from_slice(body)) {
        Ok(request) => {
            assert!(is_supported, "key={key} version={version} decoded, supported are {supported:?}");
            assert_eq!(request.key().key(), key);
            let encoded = request.encode_to_vec();
            let again = decode_request(key, version, encoded.clone().into()).expect("what we encode decodes");
            assert_eq!(again.encode_to_vec(), encoded);
        }
        Err(error @ (RequestError::Malformed { .. } | RequestError::TooLarge { .. } | RequestError::TooMany { .. })) => {
            assert!(is_supported);
            assert!(!error.to_response().error_message.unwrap_or_default().is_empty());
        }
        Err(RequestError::UnknownApi { .. }) => assert!(supported.is_none()),
        Err(RequestError::UnsupportedVersion { .. }) => assert!(supported.is_some() && !is_supported),
    }
}

/// Input: key (i16 BE), body. As for requests.
pub fn check_response_decoder(input: &[u8]) {
    let Some(([k0, k1], body)) = input.split_first_chunk::<2>() else { return };
    let Some(key) = ApiKey::from_key(i16::from_be_bytes([*k0, *k1])) else { return };
    if let Ok(Some(response)) = decode_response(key, Bytes::copy_from_slice(body)) {
        assert_eq!(response.key(), key);
        let encoded = response.encode_to_vec();
        let again = decode_response(key, encoded.clone().into()).expect("what we encode decodes").expect("the key has messages");
        assert_eq!(again.encode_to_vec(), encoded);
    }
}

/// Input: JSON of a table, a schema or a database. What parses prints to text that parses to the same thing.
pub fn check_descriptors(input: &[u8]) {
    if let Ok(table) = TableDescriptor::from_json(input) {
        assert_eq!(TableDescriptor::from_json(table.to_json().as_bytes()), Ok(table.clone()));
        // Accepted or refused, with a message.
        if let Err(error) = table.table_properties() {
            assert!(!error.to_string().is_empty());
        }
        let mut completed = table;
        if completed.complete(1, 1).is_ok() {
            assert_eq!(TableDescriptor::from_json(completed.to_json().as_bytes()), Ok(completed));
        }
    }
    if let Ok(schema) = Schema::from_json(input) {
        assert_eq!(Schema::from_json(schema.to_json().as_bytes()), Ok(schema));
    }
    if let Ok(database) = DatabaseDescriptor::from_json(input) {
        let text = database.to_json();
        let again = DatabaseDescriptor::from_json(text.as_bytes()).expect("what we print parses");
        assert_eq!(again.to_json(), text);
    }
}
