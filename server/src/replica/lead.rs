//! The right to decide appends, bound to one term.

use floss_protocol::mutant;
use floss_raft::types::{Leadership, NodeId};
use floss_tablet::prepare::Lead;
use floss_tablet::tablet::LogTablet;

/// Made anew when a term's leadership is ready; dropped when it ends or when a proposal of it failed, because
/// then what it believes to be in flight may never be applied.
#[derive(Default)]
pub(crate) struct TermLead {
    held: Option<(u64, Lead)>,
    /// Only in the world where decided rows outlive the leadership that decided them.
    kept: Option<Lead>,
}

impl TermLead {
    /// The lead for this leadership, if `node` may decide now.
    pub fn get(&mut self, tablet: &LogTablet, leadership: Leadership, node: NodeId) -> Option<&mut Lead> {
        if leadership.leader != Some(node) || !leadership.ready {
            self.discard();
            return None;
        }
        if self.held.as_ref().is_some_and(|(term, _)| *term != leadership.term) {
            self.discard();
        }
        let (_, lead) = self.held.get_or_insert_with(|| {
            let mut lead = Lead::new(tablet, leadership.term);
            if let Some(old) = self.kept.take() {
                lead.keep_pending_of(old);
            }
            (leadership.term, lead)
        });
        Some(lead)
    }

    pub fn discard(&mut self) {
        let held = self.held.take();
        if mutant!("K02") {
            self.kept = held.map(|(_, lead)| lead).or(self.kept.take());
        }
    }
}
