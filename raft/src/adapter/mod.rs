//! openraft's traits over our journal, machine and transport. The only place that names openraft.
//!
//! openraft's indexes start at 0, ours at 1 (0 = none): every index is shifted by one at this border, in `codec`.

pub mod codec;
pub mod machine;
pub mod network;
pub mod store;
#[cfg(test)]
mod suite;

use crate::env::runtime::RaftRuntime;
use crate::env::runtime::sync::Notify;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

openraft::declare_raft_types!(
    /// One group's types.
    pub Types:
        D = Payload,
        R = Reply,
        NodeId = u64,
        Node = (),
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = RaftRuntime,
);

pub type Raft = openraft::Raft<Types, machine::StateMachine>;
pub type Entry = openraft::alias::EntryOf<Types>;
pub type RaftLogId = openraft::alias::LogIdOf<Types>;
pub type RaftVote = openraft::alias::VoteOf<Types>;

/// What the halves of one replica (log, machine, network) tell each other.
pub struct Shared {
    /// First index that readers still want, by the machine.
    pub wanted_from: AtomicU64,
    /// A snapshot is on its way into the machine: the log has a hole until it is there.
    pub installing: AtomicBool,
    /// The machine, its snapshots or its log are broken and openraft is about to stop, or it has been stopped.
    pub broken: AtomicBool,
    /// Told after `installing` or `broken` changed.
    pub installed: Notify,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            wanted_from: AtomicU64::new(1),
            installing: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            installed: Notify::new(),
        }
    }
}

impl Shared {
    /// Nothing is read or applied any more; whoever waits for it learns that.
    pub fn end(&self) {
        self.broken.store(true, Ordering::SeqCst);
        self.installed.notify_waiters();
    }
}

macro_rules! bytes_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name(pub Bytes);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} bytes", self.0.len())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.as_ref().serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Ok(Self(Vec::<u8>::deserialize(deserializer)?.into()))
            }
        }
    };
}

bytes_type!(
    /// What is proposed.
    Payload
);
bytes_type!(
    /// What the machine answers.
    Reply
);
