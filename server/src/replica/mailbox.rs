//! The appends of one bucket, one after the other: prepare, propose, and answer once applied.

use super::apply::decode;
use super::error::ReplicaError;
use super::kv::shows_decided_rows;
use super::lead::TermLead;
use super::replica::Replica;
use crate::coordinator::catalog::Catalog;
use crate::limits::{BUCKET_IN_FLIGHT_MAX, CATALOG_PROPOSE_WAIT, LEADER_READY_WAIT};
use bytes::Bytes;
use floss_protocol::kv_batch::KvBatch;
use floss_protocol::{mutant, reached};
use floss_raft::env::BoxFuture;
use floss_raft::env::clock::Clock;
use floss_raft::env::runtime::sync::{mpsc, oneshot};
use floss_raft::env::runtime::{select, spawn, time};
use floss_raft::group::Group;
use floss_raft::types::{Applied as RaftApplied, GroupError};
use floss_tablet::effects::Applied;
use floss_tablet::error::TabletError;
use floss_tablet::kv::prepare::PutRequest;
use floss_tablet::prepare::Prepared;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// What a mailbox takes.
pub(crate) enum Mail {
    Append(Append),
    Put(Put),
    /// Look at retention and writer expiry.
    Upkeep,
}

/// One bucket's part of a ProduceLog.
pub(crate) struct Append {
    /// Whole log batches, back to back.
    pub records: Bytes,
    pub answer: Answer,
}

/// One bucket's part of a PutKv.
pub(crate) struct Put {
    pub request: PutRequest,
    pub answer: Answer,
}

/// Where an append or the changelog of a put lies, once applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub base_offset: i64,
    pub end_offset: i64,
}

/// A receiver that went away is no reason not to write.
pub(crate) type Answer = oneshot::Sender<Result<Written, ReplicaError>>;

/// Proposed and not applied, in the order of the log.
enum InFlight {
    Append {
        applied: BoxFuture<'static, Result<RaftApplied, GroupError>>,
        written: Written,
        answer: Answer,
    },
    /// A duplicate of something before it in this queue.
    Duplicate {
        written: Written,
        answer: Answer,
    },
    Upkeep {
        applied: BoxFuture<'static, Result<RaftApplied, GroupError>>,
    },
}

struct Mailbox {
    replica: Arc<Replica>,
    group: Group,
    clock: Arc<dyn Clock>,
    catalog: Catalog,
    lead: TermLead,
    /// A proposal of the current lead failed: no new lead before everything of the old one has an end.
    draining: bool,
    /// Term in which everything in flight was decided.
    decided_term: u64,
    in_flight: VecDeque<InFlight>,
    /// For new rows of tables with an auto-increment column; nobody else ever gets them.
    ids: Range<i64>,
}

/// Runs until the replica is dropped.
pub(crate) async fn run(
    replica: Arc<Replica>,
    group: Group,
    clock: Arc<dyn Clock>,
    catalog: Catalog,
    mut mail: mpsc::Receiver<Mail>,
) {
    let mut mailbox = Mailbox {
        replica,
        group,
        clock,
        catalog,
        ids: 0..0,
        lead: TermLead::default(),
        draining: false,
        decided_term: 0,
        in_flight: VecDeque::new(),
    };
    loop {
        let replica = mailbox.replica.clone();
        let takes = mailbox.takes_mail();
        if replica.inspect().dropped {
            return;
        }
        select! {
            biased;
            _ = replica.leadership_changed.notified() => mailbox.on_leadership(),
            applied = next_applied(&mut mailbox.in_flight), if !mailbox.in_flight.is_empty() => {
                mailbox.on_applied(applied);
            }
            next = mail.recv(), if takes => match next {
                Some(Mail::Append(append)) => mailbox.on_append(append).await,
                Some(Mail::Put(put)) => mailbox.on_put(put).await,
                Some(Mail::Upkeep) => mailbox.on_upkeep().await,
                None => return,
            },
        }
    }
}

/// Refuses a batch as out of order, once it is sure that this node still led when it found so: a deposed leader has not seen the
/// newest batches of a writer, and official clients give up when the batch that is next in their count is refused.
async fn refuse(replica: Arc<Replica>, decided_term: u64, source: TabletError, answer: Answer) {
    let bucket = replica.bucket;
    let error = match replica.prove_leadership().await {
        Ok(()) => {
            let leadership = replica.inspect().leadership;
            if leadership.term == decided_term {
                ReplicaError::Tablet { bucket, source }
            } else {
                ReplicaError::NotLeader { bucket, leader: leadership.leader }
            }
        }
        Err(error) => error,
    };
    drop(answer.send(Err(error)));
}

/// Waits for the front only: entries of one group are applied in the order in which they were proposed.
async fn next_applied(in_flight: &mut VecDeque<InFlight>) -> Option<Result<RaftApplied, GroupError>> {
    match in_flight.front_mut() {
        Some(InFlight::Append { applied, .. } | InFlight::Upkeep { applied }) => Some(applied.await),
        Some(InFlight::Duplicate { .. }) | None => None,
    }
}

impl Mailbox {
    fn takes_mail(&mut self) -> bool {
        if self.draining && self.in_flight.is_empty() {
            self.draining = false;
        }
        !self.draining && self.in_flight.len() < BUCKET_IN_FLIGHT_MAX
    }

    /// A new term or a lost one: what was proposed before may or may not take effect, the writers have to ask again.
    fn on_leadership(&mut self) {
        let (leadership, failed) = {
            let core = self.replica.inspect();
            (core.leadership, core.failed.clone())
        };
        let leads = leadership.leader == Some(self.replica.node_id) && failed.is_none();
        if leads && (self.in_flight.is_empty() || self.decided_term == leadership.term) {
            return;
        }
        self.discard_lead();
        self.draining = false;
        let error = match failed {
            Some(reason) => ReplicaError::Failed { bucket: self.replica.bucket, reason },
            None => ReplicaError::NotLeader { bucket: self.replica.bucket, leader: leadership.leader },
        };
        for in_flight in self.in_flight.drain(..) {
            match in_flight {
                InFlight::Append { answer, .. } | InFlight::Duplicate { answer, .. } => {
                    drop(answer.send(Err(error.clone())));
                }
                InFlight::Upkeep { .. } => {}
            }
        }
    }

    async fn on_append(&mut self, append: Append) {
        let Append { records, answer } = append;
        let prepared = self.prepare(records).await;
        self.on_prepared(prepared, answer).await;
    }

    async fn on_put(&mut self, put: Put) {
        let Put { request, answer } = put;
        let prepared = self.prepare_put(&request).await;
        self.on_prepared(prepared, answer).await;
    }

    async fn on_prepared(&mut self, prepared: Result<Prepared, ReplicaError>, answer: Answer) {
        match prepared {
            Ok(Prepared::Propose { entry, base_offset, end_offset }) => {
                self.propose_append(entry, Written { base_offset, end_offset }, answer).await;
            }
            Ok(Prepared::Duplicate { base_offset, end_offset }) => drop(answer.send(Ok(Written { base_offset, end_offset }))),
            Ok(Prepared::DuplicateInFlight { base_offset, end_offset }) => {
                self.in_flight.push_back(InFlight::Duplicate { written: Written { base_offset, end_offset }, answer });
            }
            Err(ReplicaError::Tablet { source: source @ TabletError::OutOfOrderSequence { .. }, .. }) => {
                spawn(refuse(self.replica.clone(), self.decided_term, source, answer));
            }
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    async fn prepare_put(&mut self, request: &PutRequest) -> Result<Prepared, ReplicaError> {
        self.wait_ready().await?;
        let replica = self.replica.clone();
        replica.wait_folded(time::Instant::now() + LEADER_READY_WAIT).await?;
        match self.decide_put(request) {
            Err(ReplicaError::Tablet { source: TabletError::OutOfIds { .. }, .. }) => {
                self.take_ids(request).await?;
                self.decide_put(request)
            }
            decided => decided,
        }
    }

    fn decide_put(&mut self, request: &PutRequest) -> Result<Prepared, ReplicaError> {
        let replica = self.replica.clone();
        let now_ms = self.clock.now_ms();
        let mut core = replica.core()?;
        let Some(kv) = &core.kv else { return Err(ReplicaError::NotPrimaryKeyTable { bucket: replica.bucket }) };
        let Some(lead) = self.lead.get(&core.tablet, core.leadership, replica.node_id) else {
            return Err(ReplicaError::NotLeader { bucket: replica.bucket, leader: core.leadership.leader });
        };
        self.decided_term = core.leadership.term;
        let prepared = lead
            .prepare_put(&core.tablet, kv, request, &mut self.ids, now_ms)
            .map_err(|source| ReplicaError::Tablet { bucket: replica.bucket, source })?;
        if shows_decided_rows() {
            core.decided = lead.pending_rows().collect();
        }
        Ok(prepared)
    }

    /// What is left of the old range is lost: ids may have gaps.
    async fn take_ids(&mut self, request: &PutRequest) -> Result<(), ReplicaError> {
        let bucket = self.replica.bucket;
        if self.ids == (0..0) && self.replica.core()?.tablet.high_watermark() > 0 {
            reached!("row_ids_taken_by_the_next_leader");
        }
        let usual = self.replica.core()?.kv.as_ref().map_or(1, |kv| kv.table().auto_increment_cache_size());
        // Enough for this batch in any case.
        let needed = KvBatch::read(&request.records).map_or(1, |batch| i64::from(batch.record_count));
        if mutant!("K21") && self.ids == (0..0) {
            self.ids = 1..usual.max(needed) + 1;
            return Ok(());
        }
        let taken = self.catalog.row_ids(bucket.table_id, usual.max(needed), CATALOG_PROPOSE_WAIT).await;
        self.ids = taken.map_err(|error| ReplicaError::NoIds { bucket, reason: error.to_string() })?;
        Ok(())
    }

    async fn prepare(&mut self, records: Bytes) -> Result<Prepared, ReplicaError> {
        self.wait_ready().await?;
        let replica = self.replica.clone();
        replica.check_layout(&records)?;
        let now_ms = self.clock.now_ms();
        let core = replica.core()?;
        if core.kv.is_some() {
            return Err(ReplicaError::PrimaryKeyTable { bucket: replica.bucket });
        }
        let Some(lead) = self.lead.get(&core.tablet, core.leadership, replica.node_id) else {
            return Err(ReplicaError::NotLeader { bucket: replica.bucket, leader: core.leadership.leader });
        };
        self.decided_term = core.leadership.term;
        lead.prepare_append(&core.tablet, records, now_ms)
            .map_err(|source| ReplicaError::Tablet { bucket: replica.bucket, source })
    }

    /// Just elected: the writer came with fresh metadata, so let it wait for the first entry of the term instead of
    /// sending it in circles.
    async fn wait_ready(&mut self) -> Result<(), ReplicaError> {
        let until = time::Instant::now() + LEADER_READY_WAIT;
        loop {
            let (leads, leadership) = {
                let core = self.replica.core()?;
                (core.leads(self.replica.node_id), core.leadership)
            };
            let not_leader = ReplicaError::NotLeader { bucket: self.replica.bucket, leader: leadership.leader };
            if !leads {
                return Err(not_leader);
            }
            if leadership.ready {
                return Ok(());
            }
            if time::timeout_at(until, self.replica.leadership_changed.notified()).await.is_err() {
                return Err(not_leader);
            }
            self.on_leadership();
        }
    }

    async fn propose_append(&mut self, entry: Bytes, written: Written, answer: Answer) {
        match self.group.propose(entry).await {
            Ok(applied) if floss_protocol::mutant!("M08") => {
                drop(answer.send(Ok(written)));
                self.in_flight.push_back(InFlight::Upkeep { applied: Box::pin(applied) });
            }
            Ok(applied) => {
                self.in_flight.push_back(InFlight::Append { applied: Box::pin(applied), written, answer });
            }
            Err(source) => {
                self.give_up_lead();
                drop(answer.send(Err(ReplicaError::Group { bucket: self.replica.bucket, source })));
            }
        }
    }

    fn discard_lead(&mut self) {
        self.lead.discard();
        self.replica.inspect().decided.clear();
    }

    fn give_up_lead(&mut self) {
        self.discard_lead();
        self.draining = true;
    }

    /// The front of the queue has an end.
    fn on_applied(&mut self, applied: Option<Result<RaftApplied, GroupError>>) {
        let front = self.in_flight.pop_front().expect("called when there is a front");
        let outcome = applied.map(|applied| applied.map(|applied| decode(&applied.reply)));
        let bucket = self.replica.bucket;
        match (front, outcome) {
            (InFlight::Append { written, answer, .. }, Some(Ok(applied))) => {
                let result = self.on_append_applied(written, applied);
                drop(answer.send(result));
            }
            (InFlight::Append { answer, .. }, Some(Err(source))) => {
                self.give_up_lead();
                drop(answer.send(Err(ReplicaError::Group { bucket, source })));
            }
            (InFlight::Duplicate { written, answer }, _) => {
                drop(answer.send(self.duplicate_result(written)));
            }
            (InFlight::Upkeep { .. }, Some(Ok(Applied::Stale { .. }) | Err(_))) => self.give_up_lead(),
            (InFlight::Upkeep { .. }, _) => {}
            (InFlight::Append { .. }, None) => unreachable!("an append at the front is awaited"),
        }
    }

    fn on_append_applied(&mut self, expected: Written, applied: Applied) -> Result<Written, ReplicaError> {
        let bucket = self.replica.bucket;
        match applied {
            Applied::Appended { base_offset, .. } => {
                assert_eq!(
                    base_offset, expected.base_offset,
                    "bucket {bucket}: append applied elsewhere than decided (our code)"
                );
                Ok(expected)
            }
            Applied::Stale { decided_term, entry_term } => {
                floss_protocol::reached!("append_stale");
                self.give_up_lead();
                Err(ReplicaError::Tablet { bucket, source: TabletError::Stale { decided_term, entry_term } })
            }
            other @ (Applied::Nothing | Applied::Trimmed { .. } | Applied::WritersExpired { .. }) => {
                panic!("bucket {bucket}: an append was applied as {other:?} (our code)")
            }
        }
    }

    /// What it repeats was before it in the queue, so by now it is applied or has failed.
    fn duplicate_result(&self, written: Written) -> Result<Written, ReplicaError> {
        let core = self.replica.leading_core()?;
        if !self.draining && core.tablet.high_watermark() >= written.end_offset {
            return Ok(written);
        }
        Err(ReplicaError::NotLeader { bucket: self.replica.bucket, leader: core.leadership.leader })
    }

    async fn on_upkeep(&mut self) {
        let commands = {
            let replica = self.replica.clone();
            let now_ms = self.clock.now_ms();
            let Ok(core) = replica.core() else { return };
            match self.lead.get(&core.tablet, core.leadership, replica.node_id) {
                Some(lead) => {
                    self.decided_term = core.leadership.term;
                    lead.prepare_upkeep(&core.tablet, now_ms)
                }
                None => return,
            }
        };
        for command in commands {
            match self.group.propose(command).await {
                Ok(applied) => self.in_flight.push_back(InFlight::Upkeep { applied: Box::pin(applied) }),
                Err(_) => return self.give_up_lead(),
            }
        }
    }
}
