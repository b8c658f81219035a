//! What nodes tell each other about leaders, as bytes in a ping. Version byte, then postcard.

use super::command::{decode, encode};
use bytes::Bytes;
use floss_raft::types::{GroupId, NodeId};
use serde::{Deserialize, Serialize};

const VERSION: u8 = 1;

/// `leader` leads `group` in `term`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    pub group: GroupId,
    pub term: u64,
    pub leader: NodeId,
}

/// What changed at the sender in versions `after + 1..=upto` (less what the receiver told it), and what it has of the
/// receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// Of the sender: versions of another boot do not count.
    pub boot_id: u64,
    pub after: u64,
    pub upto: u64,
    pub news: Vec<News>,
    /// Everything up to version `ack` of the receiver's boot `ack_boot_id` has arrived (0 = nothing was ever heard).
    pub ack_boot_id: u64,
    pub ack: u64,
}

pub fn encode_payload(payload: &Payload) -> Bytes {
    Bytes::from(encode(VERSION, payload))
}

/// Errors: another version, bytes missing or left over.
pub fn decode_payload(bytes: &[u8]) -> Result<Payload, String> {
    decode(VERSION, bytes)
}
