//! InitWriter: a writer id that nobody else ever gets.

use crate::limits::CATALOG_PROPOSE_WAIT;
use crate::net::answer::{Answer, Body};
use crate::shared::Shared;
use floss_protocol::rpc;
use std::sync::Arc;

/// The tables in the request are for authorisation only; there is no authoriser yet.
pub(crate) async fn init_writer(shared: Arc<Shared>, _request: rpc::InitWriterRequest) -> Answer {
    let writer_id = shared.catalog.writer_id(CATALOG_PROPOSE_WAIT).await?;
    Ok(Body::message(&rpc::InitWriterResponse { writer_id }))
}
