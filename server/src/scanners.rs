//! Open KV scans of this node's buckets: who may continue which, and when they end (semantics.md 6).

use crate::limits::{SCAN_IDLE_MAX, SCANS_EXPIRED_REMEMBERED, SCANS_PER_BUCKET_MAX, SCANS_PER_NODE_MAX};
use crate::replica::replica::Replica;
use bytes::{BufMut, Bytes, BytesMut};
use floss_protocol::error_code::ErrorCode;
use floss_raft::env::runtime::time::{self, Instant};
use floss_tablet::kv::scan::ScanId;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const PURGE_PAUSE: Duration = Duration::from_secs(10);

/// One scan that a client goes through call by call.
#[derive(Clone)]
pub(crate) struct Scanner {
    pub replica: Arc<Replica>,
    pub scan: ScanId,
    /// In which it was opened.
    pub term: u64,
    /// What the next call must say.
    next_call: i32,
    used: Instant,
}

/// Of one node.
pub(crate) struct Scanners {
    /// In front of every id, so that an id of an earlier run of this node is not taken for one of this run.
    run: u64,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    opened: u64,
    scanners: BTreeMap<Bytes, Scanner>,
    /// Ended by themselves; the newest ones.
    expired: VecDeque<Bytes>,
}

impl Scanners {
    pub fn new(run: u64) -> Self {
        Self { run, open: Mutex::default() }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Errors: 69.
    pub fn check_room(&self, replica: &Replica) -> Result<(), (ErrorCode, String)> {
        let open = self.open();
        let of_bucket = open.scanners.values().filter(|scanner| scanner.replica.bucket == replica.bucket).count();
        let too_many = |count, limit| Err((ErrorCode::TooManyScanners, format!("{count} scanners are open, at most {limit}")));
        if open.scanners.len() >= SCANS_PER_NODE_MAX {
            return too_many(open.scanners.len(), SCANS_PER_NODE_MAX);
        }
        if of_bucket >= SCANS_PER_BUCKET_MAX {
            return too_many(of_bucket, SCANS_PER_BUCKET_MAX);
        }
        Ok(())
    }

    /// The id by which the client names the scan, whose first call was answered.
    pub fn add(&self, replica: Arc<Replica>, scan: ScanId) -> Bytes {
        let mut open = self.open();
        open.opened += 1;
        let mut id = BytesMut::with_capacity(16);
        id.put_u64(self.run);
        id.put_u64(open.opened);
        let id = id.freeze();
        let term = replica.inspect().leadership.term;
        open.scanners.insert(id.clone(), Scanner { replica, scan, term, next_call: 1, used: Instant::now() });
        id
    }

    /// The scan, for its call number `call`.
    ///
    /// Errors: 66, 67, 68.
    pub fn next(&self, id: &Bytes, call: i32) -> Result<Scanner, (ErrorCode, String)> {
        let mut open = self.open();
        let is_expired = open.expired.contains(id);
        let Some(scanner) = open.scanners.get_mut(id) else {
            return Err(match is_expired {
                true => (ErrorCode::ScannerExpired, "the scanner was idle for too long, or too much changed under it".to_owned()),
                false => (ErrorCode::UnknownScannerId, "the scanner is not open here".to_owned()),
            });
        };
        if scanner.next_call != call {
            let message = format!("call_seq_id={call}, expected {}", scanner.next_call);
            return Err((ErrorCode::InvalidScanRequest, message));
        }
        scanner.next_call = scanner.next_call.wrapping_add(1);
        scanner.used = Instant::now();
        Ok(scanner.clone())
    }

    /// Does nothing if it is not open.
    pub fn remove(&self, id: &Bytes) {
        let removed = self.open().scanners.remove(id);
        if let Some(scanner) = removed {
            scanner.close();
        }
    }

    /// A scan that could not go on.
    pub fn expire(&self, id: &Bytes) {
        self.remove(id);
        let mut open = self.open();
        open.expired.push_back(id.clone());
        while open.expired.len() > SCANS_EXPIRED_REMEMBERED {
            open.expired.pop_front();
        }
    }

    fn purge(&self) {
        let idle: Vec<Bytes> = {
            let open = self.open();
            let is_idle = |scanner: &Scanner| scanner.used.elapsed() >= SCAN_IDLE_MAX || scanner.replica.leading_core().is_err();
            open.scanners.iter().filter(|(_, scanner)| is_idle(scanner)).map(|(id, _)| id.clone()).collect()
        };
        idle.iter().for_each(|id| self.expire(id));
    }
}

impl Scanner {
    fn close(&self) {
        if let Some(kv) = &mut self.replica.inspect().kv {
            kv.close_scan(self.scan);
        }
    }
}

/// Ends scans that nobody continues; runs until it is dropped.
pub(crate) async fn run_purge(scanners: Arc<Scanners>) {
    loop {
        time::sleep(PURGE_PAUSE).await;
        scanners.purge();
    }
}
