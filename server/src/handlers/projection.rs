//! Column projection of fetched batches, planned once per schema and columns.

use crate::coordinator::state::CatalogState;
use bytes::Bytes;
use floss_protocol::ids::TableId;
use floss_protocol::log_batch::LogBatch;
use std::sync::Arc;

/// Plans of this node.
#[derive(Default)]
pub(crate) struct Projections {}

/// The wanted columns of one table.
pub(crate) struct TableProjection {}

impl Projections {
    /// Errors: why the columns cannot be taken (wire code 34).
    pub fn of(&self, _state: &CatalogState, _table: TableId, _fields: &[i32]) -> Result<Option<Arc<TableProjection>>, String> {
        Err("projection is not served yet".to_owned())
    }
}

impl TableProjection {
    pub fn project(&self, _batch: &LogBatch) -> Result<Vec<Bytes>, String> {
        Err("projection is not served yet".to_owned())
    }
}
