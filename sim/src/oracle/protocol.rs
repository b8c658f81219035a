//! What clients depend on beside the invariants: no answer that an official client chokes on, no replica that fails by itself.

use super::Oracle;
use crate::history::Event;

#[derive(Default)]
pub struct Protocol {}

impl Oracle for Protocol {
    fn id(&self) -> &'static str {
        "protocol"
    }

    fn observe(&mut self, _at_ns: u64, event: &Event) -> Result<(), String> {
        match event {
            Event::Broken { what } => Err(what.clone()),
            Event::FetchRefused { reader, bucket, node, from, code, message } => {
                Err(format!("n{node} refused r{reader} offset={from} of b{bucket}: code={code} {message}"))
            }
            _ => Ok(()),
        }
    }
}
