//! Accepts client connections until the node stops.

use super::connection::{Service, serve};
use crate::limits::CONNECTIONS_MAX;
use crate::stop::Tasks;
use floss_raft::env::runtime::sync::Semaphore;
use floss_raft::env::runtime::{net, time};
use std::sync::Arc;
use std::time::Duration;

/// After a failed accept (out of file handles) the loop rests instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One task per connection; each ends with the node.
pub(crate) async fn run(listener: net::TcpListener, service: Arc<dyn Service>, tasks: Tasks) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accept");
                time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = room.clone().try_acquire_owned() else {
            tracing::warn!(limit = CONNECTIONS_MAX, "too many connections");
            continue;
        };
        let service = service.clone();
        tasks.spawn(async move {
            serve(stream, service).await;
            drop(permit);
        });
    }
}
