//! `floss cluster`.

use crate::Global;
use crate::connect::connect;
use crate::exit::{Failure, OrFail};
use crate::output::Output;
use clap::Subcommand;
use fluss::metadata::{ClusterHealth, ClusterHealthStatus};
use serde_json::json;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(200);

#[derive(Subcommand)]
pub enum ClusterVerb {
    /// Are all replicas there, and does every bucket lead? Exit 5 if not
    #[command(after_help = "Examples:\n  floss cluster health\n  floss cluster health --exit-when-healthy --timeout 60")]
    Health {
        /// Wait until all is well
        #[arg(long)]
        exit_when_healthy: bool,
        /// Seconds to wait with --exit-when-healthy
        #[arg(long, default_value_t = 300)]
        timeout: u64,
    },
}

pub async fn run(verb: ClusterVerb, global: &Global, output: &Output) -> Result<(), Failure> {
    let ClusterVerb::Health { exit_when_healthy, timeout } = verb;
    let deadline = Instant::now() + Duration::from_secs(timeout);
    loop {
        let found = health(global).await;
        let done = matches!(&found, Ok(health) if is_green(health));
        if !done && exit_when_healthy && Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
            continue;
        }
        let health = found?;
        let colour = format!("{:?}", health.status).to_lowercase();
        output.object(
            "cluster.health",
            &json!({
                "status": colour,
                "replicas": health.num_replicas,
                "in_sync_replicas": health.in_sync_replicas,
                "leaders": health.num_leader_replicas,
                "active_leaders": health.active_leader_replicas,
            }),
        )?;
        return match (done, exit_when_healthy) {
            (true, _) => Ok(()),
            (false, true) => Err(Failure::timed_out(format!("not healthy within {timeout} s, status {colour}"))),
            (false, false) if matches!(health.status, ClusterHealthStatus::Red) => {
                Err(Failure::unhealthy("some buckets have no leader").next("floss node list, floss bucket list TABLE"))
            }
            // Yellow: everything is served, with fewer replicas than wanted.
            (false, false) => Ok(()),
        };
    }
}

async fn health(global: &Global) -> Result<ClusterHealth, Failure> {
    let connection = connect(global).await?;
    let admin = connection.get_admin().or_fail("open the admin client")?;
    admin.get_cluster_health().await.or_fail("ask for cluster health")
}

fn is_green(health: &ClusterHealth) -> bool {
    matches!(health.status, ClusterHealthStatus::Green)
}
