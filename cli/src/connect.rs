//! From flags to a connected client.

use crate::Global;
use crate::dev::state::ClusterState;
use crate::exit::{Failure, OrFail};
use fluss::client::FlussConnection;
use fluss::config::Config;
use fluss::metadata::TablePath;
use std::time::Duration;

/// The bootstrap list: the flag, the environment, else the default dev cluster.
pub fn bootstrap(global: &Global) -> Result<String, Failure> {
    if let Some(servers) = &global.bootstrap {
        return Ok(servers.clone());
    }
    let state = ClusterState::load(&crate::dev::default_dir());
    state.map(|state| state.bootstrap_servers()).map_err(|_| {
        Failure::usage("no cluster named")
            .why("neither --bootstrap nor FLUSS_BOOTSTRAP_SERVERS is set, and no dev cluster is known")
            .next("floss dev up, or --bootstrap HOST:PORT")
    })
}

pub async fn connect(global: &Global) -> Result<FlussConnection, Failure> {
    connect_with(Config { bootstrap_servers: bootstrap(global)?, ..Default::default() }).await
}

pub async fn connect_with(config: Config) -> Result<FlussConnection, Failure> {
    let servers = config.bootstrap_servers.clone();
    match tokio::time::timeout(Duration::from_secs(20), FlussConnection::new(config)).await {
        Ok(connection) => connection.map_err(|error| {
            Failure::unreachable(format!("connect to {servers}"))
                .why(error)
                .next("check --bootstrap, or start a local cluster with: floss dev up")
        }),
        Err(_) => Err(Failure::unreachable(format!("connect to {servers}")).why("no answer within 20 s")),
    }
}

/// `database.table`, or `table` in the database `fluss`.
pub fn table_path(name: &str) -> Result<TablePath, Failure> {
    let (database, table) = name.split_once('.').unwrap_or(("fluss", name));
    for part in [database, table] {
        if let Some(problem) = TablePath::detect_invalid_name(part) {
            return Err(Failure::usage(format!("table name {name}")).why(problem));
        }
    }
    Ok(TablePath::new(database, table))
}

/// Closes the connection so that nothing buffered is lost.
pub async fn close(connection: FlussConnection) -> Result<(), Failure> {
    connection.close(Duration::from_secs(10)).await.or_fail("close the connection")
}
