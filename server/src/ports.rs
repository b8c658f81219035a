//! The sockets of a node and what others are told about them.

use crate::config::NodeConfig;
use crate::node::NodeError;
use floss_raft::env::runtime::net::TcpListener;

/// Bound, not yet served.
pub(crate) struct Ports {
    pub clients: TcpListener,
    pub peers: TcpListener,
    pub admin: Option<TcpListener>,
    /// `host:port`, with the real ports.
    pub client_address: String,
    pub peer_address: String,
    pub admin_address: Option<String>,
}

impl Ports {
    /// Errors: `NodeError::Io` with the address that could not be bound.
    pub async fn bind(config: &NodeConfig) -> Result<Self, NodeError> {
        let clients = bind("listen", &config.listen).await?;
        let peers = bind("peer_listen", &config.peer_listen).await?;
        let (admin, admin_address) = match &config.admin_listen {
            Some(address) => {
                let listener = bind("admin_listen", address).await?;
                let address = bound(&listener)?;
                (Some(listener), Some(address))
            }
            None => (None, None),
        };
        let client_address = advertised(&config.advertise, &clients)?;
        let peer_address = advertised(&config.peer_advertise, &peers)?;
        Ok(Self { clients, peers, admin, client_address, peer_address, admin_address })
    }
}

async fn bind(what: &str, address: &str) -> Result<TcpListener, NodeError> {
    TcpListener::bind(address).await.map_err(|source| NodeError::Io { path: format!("{what} {address}"), source })
}

fn bound(listener: &TcpListener) -> Result<String, NodeError> {
    let address = listener.local_addr().map_err(|source| NodeError::Io { path: "listener".to_owned(), source })?;
    Ok(address.to_string())
}

/// As configured (port 0 = the bound one), else the bound address.
fn advertised(configured: &Option<String>, listener: &TcpListener) -> Result<String, NodeError> {
    let bound = bound(listener)?;
    let port = bound.rsplit_once(':').map_or("0", |(_, port)| port);
    match configured.as_ref().and_then(|address| address.rsplit_once(':')) {
        None => Ok(bound),
        Some((host, "0")) => Ok(format!("{host}:{port}")),
        Some((host, port)) => Ok(format!("{host}:{port}")),
    }
}
