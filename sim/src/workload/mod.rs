//! What the clients do: idempotent appends of values that say who wrote them, puts into few keys, lookups, and scans.

mod append;
mod ask;
pub mod keyed_rows;
mod layout;
mod look;
mod maker;
mod range;
mod reader;
pub mod rows;
mod tables;
mod writer;

pub use layout::Layout;
pub use look::run_looker;
pub use maker::run_maker;
pub use reader::run_reader;
pub use tables::create_tables;
pub use writer::run_writer;

use crate::client::Session;
use crate::plan::Plan;
use crate::recorder::Recorder;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What all clients of a run share.
pub struct Shared {
    pub plan: Arc<Plan>,
    pub recorder: Arc<Recorder>,
    /// Table ids, once created.
    pub table_ids: Vec<i64>,
    mode: AtomicU8,
    /// Batches not acked yet, over all writers.
    pub open_batches: AtomicU64,
    sessions: Mutex<Vec<Arc<Session>>>,
    /// By table id: whether it is there, as its maker knows; ids whose maker does not know are not here.
    made: Mutex<BTreeMap<i64, bool>>,
}

/// What writers are told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// As the plan says.
    Planned = 0,
    /// No idle times: the heal demands that everybody goes on.
    Busy = 1,
    /// Nothing new; what is open is finished.
    Finish = 2,
    Stop = 3,
}

impl Shared {
    pub fn new(plan: Arc<Plan>, recorder: Arc<Recorder>, table_ids: Vec<i64>) -> Self {
        let open_batches = AtomicU64::new(0);
        Self {
            plan,
            recorder,
            table_ids,
            mode: AtomicU8::new(0),
            open_batches,
            sessions: Mutex::default(),
            made: Mutex::default(),
        }
    }

    pub fn mode(&self) -> Mode {
        match self.mode.load(Ordering::SeqCst) {
            0 => Mode::Planned,
            1 => Mode::Busy,
            2 => Mode::Finish,
            _ => Mode::Stop,
        }
    }

    pub fn set_mode(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::SeqCst);
    }

    pub fn add_session(&self, session: Arc<Session>) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }

    /// Breaks all client connections. How many were open.
    pub fn reset_connections(&self) -> usize {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.iter().map(|session| session.reset()).sum()
    }

    /// What a maker knows of its tables by now; None: it does not.
    fn note_made(&self, ids: &[i64], is_there: Option<bool>) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            match is_there {
                Some(is_there) => drop(made.insert(*id, is_there)),
                None => drop(made.remove(id)),
            }
        }
    }

    pub fn made(&self) -> BTreeMap<i64, bool> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn stopped(&self) -> bool {
        self.mode() == Mode::Stop
    }
}

pub fn table_name(table: usize) -> String {
    format!("t{table}")
}
