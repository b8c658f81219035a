//! Joins Raft and tablet: committed entries in, replies and wake-ups out.

use super::replica::Replica;
use bytes::Bytes;
use floss_raft::machine::Machine;
use floss_raft::types::LogId;
use floss_tablet::command::Command;
use floss_tablet::effects::Applied;
use floss_tablet::kv::fold::Folded;
use std::sync::Arc;

/// The machine of one bucket's group.
pub(crate) struct BucketMachine {
    replica: Arc<Replica>,
}

impl BucketMachine {
    pub fn new(replica: Arc<Replica>) -> Self {
        Self { replica }
    }
}

/// The reply that travels from `apply` to whoever proposed.
pub(crate) fn encode(applied: &Applied) -> Bytes {
    Bytes::from(postcard::to_stdvec(applied).expect("a closed enum of numbers always encodes"))
}

/// Back from [`encode`].
pub(crate) fn decode(reply: &[u8]) -> Applied {
    postcard::from_bytes(reply).expect("our own encoding, from this process")
}

impl Machine for BucketMachine {
    fn apply(&mut self, id: LogId, payload: Option<Bytes>) -> Bytes {
        let command = payload.map(|payload| {
            // The leader encoded it and the journal checked its sum: anything else is a bug of ours.
            Command::decode(&payload).unwrap_or_else(|error| panic!("{} entry {id}: {error}", self.replica.bucket))
        });
        let mut core = self.replica.inspect();
        let applied = core.tablet.apply(id.term, id.index, command.as_ref());
        core.applied_index = id.index;
        if let Some(kv) = &mut core.kv
            && let Folded::Behind { .. } = kv.apply(id.term, id.index, command.as_ref())
        {
            self.replica.kv_behind.notify_one();
        }
        encode(&applied)
    }

    fn applied(&mut self) {
        let mut core = self.replica.inspect();
        let high_watermark = core.tablet.high_watermark();
        core.waits.wake_below(high_watermark);
    }

    fn snapshot(&self) -> Bytes {
        self.replica.inspect().tablet.snapshot()
    }

    fn restore(&mut self, at: LogId, state: &Bytes) -> Result<(), String> {
        let mut core = self.replica.inspect();
        core.tablet.restore(state).map_err(|error| error.to_string())?;
        core.applied_index = at.index;
        // The snapshot holds no rows: they are folded from the entries that came with it.
        self.replica.kv_behind.notify_one();
        // Readers that wait below the snapshot's end have something to see, or an error.
        core.waits.wake_all();
        Ok(())
    }

    fn retained_from(&self) -> u64 {
        self.replica.inspect().tablet.retained_from()
    }
}
