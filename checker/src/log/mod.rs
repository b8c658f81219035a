//! What a log promises, bucket by bucket. Everything sorts once and scans once.
//!
//! Reading order: `witness` (who saw what at which offset), `place` (are batches there, whole, once and in their writer's order),
//! `poll` (what readers are told), `time` (what real time allows).

mod place;
mod poll;
mod time;
mod witness;

pub(crate) use witness::Logs;

use crate::anomaly::Found;
use crate::facts::Facts;

pub(crate) fn check<'a>(facts: &Facts<'a>, found: &mut Found) -> Logs<'a> {
    let logs = Logs::fill(facts, found);
    place::check(facts, &logs, found);
    poll::check(facts, found);
    time::check(facts, &logs, found);
    logs
}
