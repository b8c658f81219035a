//! The messages of all calls, generated from `proto/*.proto` (prost). Field names and numbers are Fluss's.
//!
//! Absent differs from default for every optional field, and encoding writes every required field: the Java client
//! rejects a message that lacks one. Decoding does not check required fields; a missing one reads as its default.

include!(concat!(env!("OUT_DIR"), "/floss.rpc.rs"));

mod bounds;
mod call;
mod fetch_pieces;

pub use bounds::{check_body, request_bytes_max};
pub use call::{AnyRequest, AnyResponse, RequestError, Rpc, decode_request, decode_response};
pub use fetch_pieces::{FetchedBucket, FetchedTable, encode_fetch_response};
