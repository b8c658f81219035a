//! GetFileSystemSecurityToken: there is no remote storage, so an empty token that never expires.

use crate::net::answer::{Answer, Body};
use crate::shared::Shared;
use bytes::Bytes;
use floss_protocol::rpc;
use std::sync::Arc;

pub(crate) async fn security_token(_shared: Arc<Shared>, _request: rpc::GetFileSystemSecurityTokenRequest) -> Answer {
    Ok(Body::message(&rpc::GetFileSystemSecurityTokenResponse {
        schema: "file".to_owned(),
        token: Bytes::new(),
        expiration_time: None,
        addition_info: Vec::new(),
    }))
}
