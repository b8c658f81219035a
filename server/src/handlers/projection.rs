//! Column projection of fetched batches, planned once per schema and columns.

use crate::coordinator::state::CatalogState;
use crate::coordinator::table::TableInfo;
use crate::limits::PROJECTIONS_MAX;
use bytes::Bytes;
use floss_protocol::ids::{SchemaId, TableId};
use floss_protocol::log_batch::LogBatch;
use floss_protocol::project::ProjectionPlan;
use floss_protocol::schema::{LogFormat, Schema};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Of this node, by table, newest schema and columns.
#[derive(Default)]
pub(crate) struct Projections {
    known: Mutex<BTreeMap<Key, Arc<TableProjection>>>,
}

type Key = (TableId, SchemaId, Vec<i32>);

/// The wanted columns of one table: indexes into its newest schema.
pub(crate) struct TableProjection {
    table: Arc<TableInfo>,
    newest: Schema,
    fields: Vec<i32>,
    /// By the schema that a batch names.
    plans: Mutex<BTreeMap<SchemaId, Arc<ProjectionPlan>>>,
}

impl Projections {
    /// `None` for a table that is not known: its buckets are not either.
    ///
    /// Errors: why these columns cannot be taken (wire code 34).
    pub fn of(&self, state: &CatalogState, table: TableId, fields: &[i32]) -> Result<Option<Arc<TableProjection>>, String> {
        let Some(table) = state.table_by_id(table) else { return Ok(None) };
        let (schema_id, _) = table.latest_schema();
        let key = (table.id, schema_id, fields.to_vec());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(projection) = known.get(&key) {
            return Ok(Some(projection.clone()));
        }
        let projection = Arc::new(TableProjection::new(table.clone(), fields)?);
        if known.len() >= PROJECTIONS_MAX {
            // The lowest table id is most likely one that was dropped long ago; a wrong guess costs one plan.
            known.pop_first();
        }
        known.insert(key, projection.clone());
        Ok(Some(projection))
    }
}

impl TableProjection {
    fn new(table: Arc<TableInfo>, fields: &[i32]) -> Result<Self, String> {
        if table.settings.log_format != LogFormat::Arrow {
            return Err(format!("needs log format ARROW, table {} has {:?}", table.path, table.settings.log_format));
        }
        let (schema_id, json) = table.latest_schema();
        let newest = Schema::from_json(json.as_bytes()).map_err(|error| error.to_string())?;
        let plan = ProjectionPlan::new(&newest, &newest, fields).map_err(|error| error.to_string())?;
        let plans = Mutex::new(BTreeMap::from([(schema_id, Arc::new(plan))]));
        Ok(Self { table, newest, fields: fields.to_vec(), plans })
    }

    /// The batch with the wanted columns only, in pieces.
    ///
    /// Errors: the batch is not what its schema says.
    pub fn project(&self, batch: &LogBatch) -> Result<Vec<Bytes>, String> {
        let plan = self.plan(batch.schema_id)?;
        plan.project(batch).map(|projected| projected.pieces).map_err(|error| error.to_string())
    }

    fn plan(&self, schema_id: SchemaId) -> Result<Arc<ProjectionPlan>, String> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.get(&schema_id) {
            return Ok(plan.clone());
        }
        let json = self.table.schemas.get(&schema_id).ok_or_else(|| format!("schema_id={schema_id} is unknown"))?;
        let schema = Schema::from_json(json.as_bytes()).map_err(|error| error.to_string())?;
        let plan = ProjectionPlan::new(&schema, &self.newest, &self.fields).map_err(|error| error.to_string())?;
        let plan = Arc::new(plan);
        plans.insert(schema_id, plan.clone());
        Ok(plan)
    }
}
