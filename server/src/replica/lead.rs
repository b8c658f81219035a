//! The right to decide appends, bound to one term.

use floss_raft::types::{Leadership, NodeId};
use floss_tablet::prepare::Lead;
use floss_tablet::tablet::LogTablet;

/// Made anew when a term's leadership is ready; dropped when it ends or when a proposal of it failed, because
/// then what it believes to be in flight may never be applied.
#[derive(Default)]
pub(crate) struct TermLead {
    held: Option<(u64, Lead)>,
}

impl TermLead {
    /// The lead for this leadership, if `node` may decide now.
    pub fn get(&mut self, tablet: &LogTablet, leadership: Leadership, node: NodeId) -> Option<&mut Lead> {
        if leadership.leader != Some(node) || !leadership.ready {
            self.held = None;
            return None;
        }
        if self.held.as_ref().is_some_and(|(term, _)| *term != leadership.term) {
            self.held = None;
        }
        let (_, lead) = self.held.get_or_insert_with(|| (leadership.term, Lead::new(tablet, leadership.term)));
        Some(lead)
    }

    pub fn discard(&mut self) {
        self.held = None;
    }
}
