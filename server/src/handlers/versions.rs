//! ApiVersions: what this server answers. `server_type` stays out, so one port may be both roles (framing.md 6.2).

use crate::dispatch::SERVED;
use crate::net::answer::{Answer, Body};
use crate::shared::Shared;
use floss_protocol::rpc;
use std::sync::Arc;

pub(crate) async fn versions(_shared: Arc<Shared>, _request: rpc::ApiVersionsRequest) -> Answer {
    let api_versions = SERVED
        .iter()
        .map(|(key, versions)| rpc::PbApiVersion {
            api_key: i32::from(key.key()),
            min_version: i32::from(*versions.start()),
            max_version: i32::from(*versions.end()),
        })
        .collect();
    Ok(Body::message(&rpc::ApiVersionsResponse { api_versions, server_type: None }))
}
