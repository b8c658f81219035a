//! I5: purged <= snapshot <= applied <= committed <= last, and each only grows while a node lives. (`last` may shrink: a tail that
//! was not committed is truncated. What was purged stays so over restarts.)

use super::Oracle;
use crate::history::{Event, NodeNo};
use std::collections::BTreeMap;

const NAMES: [&str; 5] = ["purged", "snapshot", "applied", "committed", "last"];
/// Those that only grow.
const GROWING: usize = 4;

struct Seen {
    boot: u32,
    pointers: [u64; 5],
    term: u64,
    high_watermark: i64,
}

#[derive(Default)]
pub struct PointerOrder {
    seen: BTreeMap<(NodeNo, u64), Seen>,
}

impl Oracle for PointerOrder {
    fn id(&self) -> &'static str {
        "I5"
    }

    fn observe(&mut self, _at_ns: u64, event: &Event) -> Result<(), String> {
        let Event::Probe { node, boot, replicas } = event else { return Ok(()) };
        // One that failed stands between what Raft decided and what its disk took; it is never used again.
        for replica in replicas.iter().filter(|replica| replica.failed.is_none()) {
            let (group, pointers) = (replica.group, replica.pointers);
            for (at, pair) in pointers.windows(2).enumerate() {
                if pair[0] > pair[1] {
                    let (low, high) = (NAMES[at], NAMES[at + 1]);
                    return Err(format!("g{group} on n{node}: {low}={} above {high}={}", pair[0], pair[1]));
                }
            }
            let now = Seen { boot: *boot, pointers, term: replica.term, high_watermark: replica.high_watermark };
            let Some(before) = self.seen.insert((*node, group), now).filter(|before| before.boot == *boot) else { continue };
            for at in 0..GROWING {
                if pointers[at] < before.pointers[at] {
                    let (name, was, is) = (NAMES[at], before.pointers[at], pointers[at]);
                    return Err(format!("g{group} on n{node}: {name} went back from {was} to {is}"));
                }
            }
            if replica.term < before.term {
                return Err(format!("g{group} on n{node}: term went back from {} to {}", before.term, replica.term));
            }
            if replica.high_watermark < before.high_watermark {
                let (was, is) = (before.high_watermark, replica.high_watermark);
                return Err(format!("g{group} on n{node}: watermark went back from {was} to {is}"));
            }
        }
        Ok(())
    }
}
