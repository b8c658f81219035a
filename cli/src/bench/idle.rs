//! What many buckets cost: to create, and to have.

use super::cluster::{BenchCluster, create};
use super::{Figure, append};
use crate::exit::{Failure, OrFail};
use crate::output::Output;
use fluss::rpc::message::OffsetSpec;
use std::time::{Duration, Instant};

const SETTLE: Duration = Duration::from_secs(10);

pub async fn run(cluster: &BenchCluster, buckets: i32, seconds: u64, output: &Output) -> Result<Vec<Figure>, Failure> {
    let rest = Duration::from_secs(seconds.max(5));
    output.note(format!("idle: {buckets} buckets, {} s each", rest.as_secs()));
    let connection = cluster.connect(|_| {}).await?;
    let admin = connection.get_admin().or_fail("open the admin client")?;
    let before = resting(cluster, rest).await?;
    let began = Instant::now();
    let path = create(&connection, "bench_idle", append::integers(2)?, buckets).await?;
    let all: Vec<i32> = (0..buckets).collect();
    while admin.list_offsets(&path, &all, OffsetSpec::Latest).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let created = began.elapsed().as_secs_f64();
    tokio::time::sleep(SETTLE).await;
    let after = resting(cluster, rest).await?;
    let resident = cluster.resident_mib();
    admin.drop_table(&path, true).await.or_fail("drop the bench table")?;
    Ok(vec![
        Figure::new(format!("create {buckets} buckets until all answer"), created, "s"),
        Figure::new("idle CPU without them, all nodes", before, "% of a core"),
        Figure::new(format!("idle CPU with {buckets} buckets, all nodes"), after, "% of a core"),
        Figure::new(format!("resident with {buckets} buckets, all nodes"), resident, "MiB"),
    ])
}

async fn resting(cluster: &BenchCluster, time: Duration) -> Result<f64, Failure> {
    let cpu = cluster.cpu_seconds()?;
    tokio::time::sleep(time).await;
    Ok((cluster.cpu_seconds()? - cpu) / time.as_secs_f64() * 100.0)
}
