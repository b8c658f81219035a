//! I13: retained log is readable from every in-sync replica, also after a snapshot install: at the end every replica must give its log
//! from offset 0, or from the first entry that retention keeps; and replicas that applied the same have the same state and know the same
//! voters.

use super::Oracle;
use crate::history::{BucketNo, Event, Expiry, NodeNo, Outcome, Replica, WriterNo};
use std::collections::BTreeMap;

/// What the run calls the moment from which on nothing moves.
pub const CAUGHT_UP: &str = "every replica catches up";

#[derive(Default)]
pub struct Readable {
    /// group, applied -> digest of the writers' state and the node that had it; of probes after the last write.
    states: BTreeMap<(u64, u64), (u64, NodeNo)>,
    /// group, applied -> voters and the node that knows them; of the same probes.
    voters: BTreeMap<(u64, u64), (Vec<NodeNo>, NodeNo)>,
    quiet: bool,
    ends: BTreeMap<BucketNo, (i64, NodeNo)>,
    expiring: BTreeMap<BucketNo, Expiry>,
    /// Where entries expire: when a batch was sent first.
    sent: BTreeMap<(BucketNo, WriterNo, i32), u64>,
    /// Bucket and base offset of a batch that was acked there -> when it was sent first, and acked.
    acked: BTreeMap<(BucketNo, i64), (u64, u64)>,
}

impl Readable {
    /// Nothing goes early, and in the end what is old is gone.
    fn check_start(&self, at_ns: u64, node: NodeNo, bucket: BucketNo, log_start: i64) -> Result<(), String> {
        let Some(expiry) = self.expiring.get(&bucket) else {
            return match log_start {
                0 => Ok(()),
                _ => Err(format!("n{node} has b{bucket} only from offset={log_start}, nothing expired")),
            };
        };
        let age_ms = |since: u64| (at_ns - since) / 1_000_000;
        for ((_, offset), (sent_ns, acked_ns)) in self.acked.range((bucket, i64::MIN)..=(bucket, i64::MAX)) {
            if *offset < log_start && age_ms(*sent_ns) < expiry.kept_ms {
                let (age, kept) = (age_ms(*sent_ns), expiry.kept_ms);
                return Err(format!(
                    "n{node} has b{bucket} only from offset={log_start}, {offset} is {age} ms old: kept for {kept}"
                ));
            }
            if *offset >= log_start && age_ms(*acked_ns) > expiry.gone_ms {
                let (age, gone) = (age_ms(*acked_ns), expiry.gone_ms);
                return Err(format!("n{node} still has offset={offset} of b{bucket}, {age} ms old: gone after {gone}"));
            }
        }
        Ok(())
    }

    fn note_batch(&mut self, at_ns: u64, event: &Event) {
        match event {
            Event::Start { expiring, .. } => self.expiring = expiring.clone(),
            Event::Send { writer, bucket, sequence, first: true, .. } if self.expiring.contains_key(bucket) => {
                self.sent.insert((*bucket, *writer, *sequence), at_ns);
            }
            Event::Done { writer, bucket, sequence, outcome: Outcome::Acked { base_offset }, .. } => {
                if let Some(sent_ns) = self.sent.remove(&(*bucket, *writer, *sequence)) {
                    self.acked.insert((*bucket, *base_offset), (sent_ns, at_ns));
                }
            }
            _ => {}
        }
    }

    /// Who votes is part of the log.
    fn compare_voters(&mut self, node: NodeNo, replicas: &[Replica]) -> Result<(), String> {
        // With something above, who votes may be decided and not yet applied.
        let still = replicas.iter().filter(|replica| replica.pointers[2] == replica.pointers[4] && replica.failed.is_none());
        for replica in still {
            let (group, applied) = (replica.group, replica.pointers[2]);
            let Some(voters) = &replica.voters else { continue };
            let (known, other) = self.voters.entry((group, applied)).or_insert_with(|| (voters.clone(), node));
            if known != voters {
                return Err(format!("g{group} applied={applied}: voters are {voters:?} for n{node}, {known:?} for n{other}"));
            }
        }
        Ok(())
    }
}

impl Oracle for Readable {
    fn id(&self) -> &'static str {
        "I13"
    }

    fn observe(&mut self, at_ns: u64, event: &Event) -> Result<(), String> {
        self.note_batch(at_ns, event);
        match event {
            // Before, entries are on their way, and what a probe shows of one replica is not of one moment.
            Event::Progress { what, kept: true } if what == CAUGHT_UP => self.quiet = true,
            Event::Probe { node, replicas, .. } if self.quiet => {
                self.compare_voters(*node, replicas)?;
                for replica in replicas.iter().filter(|replica| replica.bucket.is_some()) {
                    let (group, applied) = (replica.group, replica.pointers[2]);
                    let (digest, other) = *self.states.entry((group, applied)).or_insert((replica.writers_digest, *node));
                    if digest != replica.writers_digest {
                        return Err(format!("g{group} applied={applied}: the writers of n{node} and n{other} differ"));
                    }
                }
            }
            Event::Dump { node, bucket, log_start, high_watermark, batches } => {
                if let Err(error) = batches {
                    return Err(format!("the log of b{bucket} on n{node} cannot be read: {error}"));
                }
                self.check_start(at_ns, *node, *bucket, *log_start)?;
                let (end, other) = *self.ends.entry(*bucket).or_insert((*high_watermark, *node));
                if end != *high_watermark {
                    return Err(format!("b{bucket} ends at offset={high_watermark} on n{node}, at {end} on n{other}"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
