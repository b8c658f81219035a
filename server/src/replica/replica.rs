//! What all parts of a bucket share on this node.

use super::error::ReplicaError;
use super::mailbox::Mail;
use super::wait::{WaitId, WaitList};
use crate::limits::{LEADER_READY_WAIT, MAILBOX_REQUESTS_MAX};
use bytes::Bytes;
use floss_protocol::ids::{SchemaId, TableBucket};
use floss_protocol::log_batch::LogBatches;
use floss_protocol::project::ArrowLayout;
use floss_raft::env::runtime::sync::{Notify, mpsc};
use floss_raft::env::runtime::time;
use floss_raft::group::Group;
use floss_raft::types::{GroupId, Leadership, NodeId};
use floss_tablet::kv::fold::KvBucket;
use floss_tablet::tablet::LogTablet;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// A replica of a bucket. Shared by its mailbox, its machine, the handlers and the observer of the host.
pub(crate) struct Replica {
    pub bucket: TableBucket,
    pub group_id: GroupId,
    pub node_id: NodeId,
    layouts: Layouts,
    core: Mutex<Core>,
    mail: mpsc::Sender<Mail>,
    /// Wakes the mailbox when leadership changed.
    pub leadership_changed: Notify,
    /// Wakes [`super::kv::run_fold`]: the rows are behind the applied log.
    pub kv_behind: Notify,
    group: OnceLock<Group>,
    group_set: Notify,
}

/// How Arrow batches look, by schema; empty for the row formats.
pub(crate) type Layouts = BTreeMap<SchemaId, ArrowLayout>;

/// Held only for computing, never across an await.
pub(crate) struct Core {
    pub tablet: LogTablet,
    /// The rows of a primary-key bucket.
    pub kv: Option<KvBucket>,
    /// The last entry that `tablet` has applied.
    pub applied_index: u64,
    /// Only in the world where readers see what is decided: the newest rows of the pending tail.
    pub decided: HashMap<Bytes, Option<Bytes>>,
    pub leadership: Leadership,
    pub waits: WaitList,
    /// Why this replica serves nothing any more.
    pub failed: Option<String>,
    pub dropped: bool,
    /// Most of the other voters' nodes do not answer: somebody else may lead by now, without this node knowing.
    pub isolated: bool,
}

impl Replica {
    /// The other half goes to [`super::mailbox::run`].
    pub fn new(
        bucket: TableBucket,
        group_id: GroupId,
        node_id: NodeId,
        tablet: LogTablet,
        kv: Option<KvBucket>,
        layouts: Layouts,
    ) -> (Arc<Self>, mpsc::Receiver<Mail>) {
        let (mail, mailbox) = mpsc::channel(MAILBOX_REQUESTS_MAX);
        let core = Core {
            tablet,
            kv,
            applied_index: 0,
            decided: HashMap::new(),
            leadership: Leadership::default(),
            waits: WaitList::default(),
            failed: None,
            dropped: false,
            isolated: false,
        };
        let replica = Self {
            bucket,
            group_id,
            node_id,
            layouts,
            core: Mutex::new(core),
            mail,
            leadership_changed: Notify::new(),
            kv_behind: Notify::new(),
            group: OnceLock::new(),
            group_set: Notify::new(),
        };
        (Arc::new(replica), mailbox)
    }

    /// Once, after the host has opened the group.
    pub fn set_group(&self, group: Group) {
        assert!(self.group.set(group).is_ok(), "bucket {} got a second group", self.bucket);
        self.group_set.notify_waiters();
    }

    /// The group, also in the moment between its first leadership and the end of its opening.
    pub async fn opened_group(&self) -> Result<&Group, ReplicaError> {
        let mut set = std::pin::pin!(self.group_set.notified());
        set.as_mut().enable();
        if self.group.get().is_none() {
            // Whoever still finds nothing afterwards asks again.
            let _ = time::timeout(LEADER_READY_WAIT, set).await;
        }
        self.group()
    }

    pub fn group(&self) -> Result<&Group, ReplicaError> {
        self.group.get().ok_or(ReplicaError::NotLeader { bucket: self.bucket, leader: None })
    }

    /// The state, also of a failed replica.
    ///
    /// A machine that panicked leaves the lock poisoned; what it guards is then only shown, never served.
    pub fn inspect(&self) -> MutexGuard<'_, Core> {
        match self.core.lock() {
            Ok(core) => core,
            Err(poisoned) => {
                let mut core = poisoned.into_inner();
                core.failed.get_or_insert_with(|| "a panic while it applied".to_owned());
                core
            }
        }
    }

    /// The state of a replica that works.
    pub fn core(&self) -> Result<MutexGuard<'_, Core>, ReplicaError> {
        let core = self.inspect();
        match &core.failed {
            None if core.dropped => Err(ReplicaError::Unknown { bucket: self.bucket }),
            None => Ok(core),
            Some(reason) => Err(ReplicaError::Failed { bucket: self.bucket, reason: reason.clone() }),
        }
    }

    /// The state of a replica that leads and has applied its term's first entry.
    pub fn leading_core(&self) -> Result<MutexGuard<'_, Core>, ReplicaError> {
        let core = self.core()?;
        if core.isolated {
            return Err(ReplicaError::NotLeader { bucket: self.bucket, leader: None });
        }
        if core.leads(self.node_id) && core.leadership.ready {
            return Ok(core);
        }
        Err(ReplicaError::NotLeader { bucket: self.bucket, leader: core.leadership.leader })
    }

    /// Returns once this node leads and is ready; gives up at once if another node leads, at `deadline` if nobody does yet.
    ///
    /// For calls that clients do not repeat by themselves: a bucket that was created or won a moment ago must not refuse them.
    pub async fn wait_leading(self: &Arc<Self>, deadline: time::Instant) -> Result<(), ReplicaError> {
        let wake = Arc::new(Notify::new());
        loop {
            let error = match self.leading_core() {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let ReplicaError::NotLeader { leader, .. } = error else { return Err(error) };
            let elsewhere = leader.is_some_and(|leader| leader != self.node_id);
            let guard = self.wait_above(Seen { high_watermark: i64::MAX, readable: false }, &wake);
            if elsewhere || time::timeout_at(deadline, wake.notified()).await.is_err() {
                return Err(error);
            }
            drop(guard);
        }
    }

    /// Refuses Arrow batches that no reader could take apart; one of them would stop every projected read of the bucket.
    ///
    /// Whatever else may be wrong (checksum, unknown schema, sizes) is for the tablet to say.
    pub fn check_layout(&self, records: &Bytes) -> Result<(), ReplicaError> {
        if self.layouts.is_empty() {
            return Ok(());
        }
        for batch in LogBatches::new(records.clone()).map_while(Result::ok) {
            let Some(layout) = self.layouts.get(&batch.schema_id) else { continue };
            if let Err(error) = layout.check(&batch)
                && batch.validate().is_ok()
            {
                return Err(ReplicaError::InvalidRequest { bucket: self.bucket, reason: error.to_string() });
            }
        }
        Ok(())
    }

    /// Hands mail over without waiting; order of calls is order of handling.
    pub fn post(&self, mail: Mail) -> Result<(), ReplicaError> {
        self.mail.try_send(mail).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ReplicaError::MailboxFull { bucket: self.bucket, limit: MAILBOX_REQUESTS_MAX },
            mpsc::error::TrySendError::Closed(_) => ReplicaError::Unknown { bucket: self.bucket },
        })
    }

    /// Called by the host's observer, in order.
    pub fn on_leadership(&self, leadership: Leadership) {
        let mut core = self.inspect();
        if core.dropped {
            return;
        }
        core.leadership = leadership;
        core.waits.wake_all();
        drop(core);
        self.leadership_changed.notify_one();
    }

    /// Called when nodes become suspected or answer again. A leader that hears from no majority stops serving reads: its
    /// readers would wait for ever for what another leader commits.
    pub fn on_suspected(&self, suspected: &[NodeId]) {
        let Some(group) = self.group.get() else { return };
        let (voters, _) = group.members();
        let answering = voters.iter().filter(|voter| !suspected.contains(voter)).count();
        let isolated = answering * 2 <= voters.len() && !voters.is_empty();
        let mut core = self.inspect();
        if core.isolated != isolated {
            core.isolated = isolated;
            core.waits.wake_all();
        }
    }

    /// Called by the host's observer: serves nothing from here on.
    pub fn on_failed(&self, reason: &str) {
        let mut core = self.inspect();
        core.failed.get_or_insert_with(|| reason.to_owned());
        core.leadership.ready = false;
        core.waits.wake_all();
        drop(core);
        self.leadership_changed.notify_one();
    }

    /// The table is gone. Who waits is told that this node leads no more.
    pub fn on_dropped(&self) {
        let mut core = self.inspect();
        core.dropped = true;
        core.leadership = Leadership::default();
        core.waits.wake_all();
        drop(core);
        self.leadership_changed.notify_one();
    }

    /// Wakes `wake` once something changed for a reader that has seen `seen`; at once if it has already.
    pub fn wait_above(self: &Arc<Self>, seen: Seen, wake: &Arc<Notify>) -> WaitGuard {
        let mut core = self.inspect();
        let readable = core.leads(self.node_id) && core.leadership.ready && core.failed.is_none() && !core.isolated;
        if readable != seen.readable || core.tablet.high_watermark() > seen.high_watermark {
            wake.notify_one();
        }
        let id = core.waits.add(seen.high_watermark, wake.clone());
        drop(core);
        WaitGuard { replica: self.clone(), id }
    }
}

/// What a reader saw before it decided to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub high_watermark: i64,
    pub readable: bool,
}

impl Core {
    pub fn leads(&self, node: NodeId) -> bool {
        self.leadership.leader == Some(node)
    }
}

/// Takes the wait back when the reader goes away.
pub(crate) struct WaitGuard {
    replica: Arc<Replica>,
    id: WaitId,
}

impl Drop for WaitGuard {
    fn drop(&mut self) {
        self.replica.inspect().waits.remove(self.id);
    }
}
