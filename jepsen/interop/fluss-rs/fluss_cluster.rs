//! Replaces the container helper of the fluss-rs 1.0.0 integration suite: the tests stay as published, the cluster is ours.
//! `FLOSS_CLUSTER_JSON` holds what `floss dev print cluster-json` printed.

use fluss::client::FlussConnection;
use fluss::config::Config;
use std::collections::HashMap;
use std::path::PathBuf;

#[derive(Clone)]
pub struct FlussTestingCluster {
    bootstrap: String,
    sasl_bootstrap: Option<String>,
    users: Vec<(String, String)>,
}

pub struct FlussTestingClusterBuilder {
    users: Vec<(String, String)>,
}

impl FlussTestingClusterBuilder {
    pub fn new_with_cluster_conf(_name: impl Into<String>, _conf: &HashMap<String, String>) -> Self {
        Self { users: Vec::new() }
    }

    pub fn with_sasl(mut self, users: Vec<(String, String)>) -> Self {
        self.users = users;
        self
    }

    pub fn with_remote_data_dir(self, _dir: PathBuf) -> Self {
        self
    }

    pub async fn build(self) -> FlussTestingCluster {
        let json = std::env::var("FLOSS_CLUSTER_JSON").expect("FLOSS_CLUSTER_JSON is set by the runner");
        FlussTestingCluster {
            bootstrap: string_field(&json, "bootstrap_servers").expect("cluster json names bootstrap_servers"),
            sasl_bootstrap: string_field(&json, "sasl_bootstrap_servers"),
            users: self.users,
        }
    }
}

/// The one string value of `key`; `None` when it is null. The suite has no JSON crate among its own dependencies.
fn string_field(json: &str, key: &str) -> Option<String> {
    let rest = json.split_once(&format!("\"{key}\""))?.1;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start();
    Some(rest.strip_prefix('"')?.split('"').next()?.to_string())
}

impl FlussTestingCluster {
    pub fn stop(&self) {}

    pub fn sasl_users(&self) -> &[(String, String)] {
        &self.users
    }

    pub fn plaintext_bootstrap_servers(&self) -> &str {
        &self.bootstrap
    }

    pub fn plaintext_tablet_bootstrap_server(&self, index: usize) -> Option<&str> {
        self.bootstrap.split(',').nth(index)
    }

    pub async fn get_fluss_connection(&self) -> FlussConnection {
        let config =
            Config { writer_acks: "all".to_string(), bootstrap_servers: self.bootstrap.clone(), ..Default::default() };
        connect(config).await.expect("the cluster accepts a connection")
    }

    /// Without a SASL listener the suite's readiness probe is answered in plain text; the SASL tests themselves are
    /// listed as not passing.
    pub async fn get_fluss_connection_with_sasl(&self, user: &str, password: &str) -> FlussConnection {
        if self.sasl_bootstrap.is_none() {
            return self.get_fluss_connection().await;
        }
        self.try_fluss_connection_with_sasl(user, password).await.expect("the cluster accepts these credentials")
    }

    pub async fn try_fluss_connection_with_sasl(
        &self,
        user: &str,
        password: &str,
    ) -> Result<FlussConnection, fluss::error::Error> {
        let bootstrap_servers = self.sasl_bootstrap.clone().unwrap_or_else(|| self.bootstrap.clone());
        connect(Config {
            writer_acks: "all".to_string(),
            bootstrap_servers,
            security_protocol: "sasl".to_string(),
            security_sasl_mechanism: "PLAIN".to_string(),
            security_sasl_username: user.to_string(),
            security_sasl_password: password.to_string(),
            ..Default::default()
        })
        .await
    }
}

async fn connect(config: Config) -> Result<FlussConnection, fluss::error::Error> {
    let mut tries = 0;
    loop {
        match FlussConnection::new(config.clone()).await {
            Ok(connection) => return Ok(connection),
            Err(error) if tries >= 20 => return Err(error),
            Err(_) => tries += 1,
        }
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
}
