//! Calls that outlive the death of a node: until the others have elected a leader, metadata names the dead one.

use crate::exit::{Failure, OrFail};
use fluss::client::{FlussConnection, FlussTable};
use fluss::error::{Error, Result};
use fluss::metadata::TablePath;
use std::time::{Duration, Instant};

/// An election takes well below a second; a majority that is down does not come back by waiting.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(200);

/// Repeats `call`, with fresh metadata of `path` in between, while it fails for want of a living leader.
///
/// Errors: the last one, once it has failed so for 10 s; any other one at once.
pub async fn patiently<T>(
    connection: &FlussConnection,
    path: &TablePath,
    doing: &str,
    mut call: impl AsyncFnMut() -> Result<T>,
) -> std::result::Result<T, Failure> {
    let began = Instant::now();
    loop {
        let error = match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if !may_pass(&error) {
            return Err(error).or_fail(doing);
        }
        if began.elapsed() >= PATIENCE {
            return Err(Failure::client(doing, &error).next(advice()));
        }
        tokio::time::sleep(PAUSE).await;
        // It asks a node that has not failed before; if that one fails too, the next round asks yet another.
        let _ = connection.get_metadata().update_table_metadata(path).await;
    }
}

fn advice() -> String {
    format!("no leader answered for {} s; floss cluster health shows whether a majority is up", PATIENCE.as_secs())
}

/// For calls that the client itself repeats without an end: gives up as late as [`patiently`] does.
pub async fn bounded<T>(
    doing: &str,
    call: impl Future<Output = std::result::Result<T, Failure>>,
) -> std::result::Result<T, Failure> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Failure::timed_out(doing).why("the client still tries").next(advice())),
    }
}

/// The client wraps some of its errors once more; what is inside decides.
fn may_pass(error: &Error) -> bool {
    if error.is_retriable() {
        return true;
    }
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if inner.downcast_ref::<Error>().is_some_and(Error::is_retriable) {
            return true;
        }
        source = inner.source();
    }
    false
}

/// A table, also while nodes die.
pub async fn open_table<'a>(connection: &'a FlussConnection, path: &TablePath) -> std::result::Result<FlussTable<'a>, Failure> {
    patiently(connection, path, &format!("open table {path}"), async || connection.get_table(path).await).await
}
