//! After everything is healed: all buckets led, all writers go on, all replicas catch up, within a bound.

use super::Oracle;
use crate::history::Event;

#[derive(Default)]
pub struct Liveness {}

impl Oracle for Liveness {
    fn id(&self) -> &'static str {
        "liveness"
    }

    fn observe(&mut self, _at_ns: u64, event: &Event) -> Result<(), String> {
        match event {
            Event::Progress { what, kept: false } => Err(what.clone()),
            _ => Ok(()),
        }
    }
}
