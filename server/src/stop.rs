//! The end of a node: one signal, and a count of the tasks that still run.

use floss_raft::env::runtime::{self, select, sync, time};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Given to everything that a node spawns. Clones share the signal.
///
/// Every task ends at the signal, at its next await point: [`Tasks::spawn`] sees to it.
#[derive(Clone)]
pub(crate) struct Tasks {
    signal: Arc<Signal>,
    /// Held by every running task; the receiver ends when the last one is gone.
    alive: sync::mpsc::Sender<()>,
}

struct Signal {
    stopped: AtomicBool,
    changed: sync::Notify,
}

/// The other end: stops the tasks and waits for them.
pub(crate) struct Stopper {
    signal: Arc<Signal>,
    ended: sync::mpsc::Receiver<()>,
}

/// A signal and its count.
pub(crate) fn tasks() -> (Tasks, Stopper) {
    let signal = Arc::new(Signal { stopped: AtomicBool::new(false), changed: sync::Notify::new() });
    let (alive, ended) = sync::mpsc::channel(1);
    (Tasks { signal: signal.clone(), alive }, Stopper { signal, ended })
}

impl Tasks {
    /// Runs `future` until it ends or the node stops.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let tasks = self.clone();
        drop(runtime::spawn(async move {
            select! {
                biased;
                _ = tasks.stopped() => {}
                _ = future => {}
            }
            drop(tasks.alive);
        }));
    }

    /// Ends when the node stops.
    pub async fn stopped(&self) {
        let mut changed = std::pin::pin!(self.signal.changed.notified());
        // Registered before the look at the flag, so that a signal in between is not missed.
        changed.as_mut().enable();
        if self.is_stopped() {
            return;
        }
        changed.await;
    }

    pub fn is_stopped(&self) -> bool {
        self.signal.stopped.load(Ordering::Acquire)
    }
}

impl Stopper {
    /// Tells every task to end and waits for that, at most `wait`. True if all have ended.
    pub async fn stop(mut self, wait: Duration) -> bool {
        self.signal.stopped.store(true, Ordering::Release);
        self.signal.changed.notify_waiters();
        time::timeout(wait, self.ended.recv()).await.is_ok()
    }
}

/// Why a node gave up after it had started.
#[derive(Default)]
pub(crate) struct Fatal {
    reason: Mutex<Option<String>>,
    set: sync::Notify,
}

impl Fatal {
    /// The first reason counts.
    pub fn set(&self, reason: String) {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        self.set.notify_waiters();
    }

    fn get(&self) -> Option<String> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends when there is one.
    pub async fn wait(&self) -> String {
        let mut set = std::pin::pin!(self.set.notified());
        loop {
            set.as_mut().enable();
            if let Some(reason) = self.get() {
                return reason;
            }
            set.as_mut().await;
            set.set(self.set.notified());
        }
    }
}
