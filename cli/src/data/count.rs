//! `floss count`: how many rows a table has now.

use crate::Global;
use crate::connect::{connect, table_path};
use crate::exit::{Failure, OrFail};
use crate::output::Output;
use clap::Args;
use fluss::metadata::BucketStatsRequest;
use serde_json::json;

#[derive(Args)]
#[command(after_help = "Examples:\n  floss count shop.customers\n  floss count shop.customers -o json")]
pub struct Count {
    table: String,
}

pub async fn run(count: Count, global: &Global, output: &Output) -> Result<(), Failure> {
    let connection = connect(global).await?;
    let path = table_path(&count.table)?;
    let doing = || format!("count rows of {path}");
    let table = connection.get_table(&path).await.or_fail(format!("open table {path}"))?;
    let info = table.get_table_info();
    let admin = connection.get_admin().or_fail("open the admin client")?;
    let buckets = (0..info.get_num_buckets()).map(|bucket| BucketStatsRequest::new(None, bucket)).collect();
    let stats = admin.get_table_stats(info.get_table_id(), buckets, Vec::new()).await.or_fail(doing())?;
    let mut rows = 0i64;
    for bucket in &stats.buckets {
        match (bucket.row_count, &bucket.error) {
            (Some(count), None) => rows += count,
            (_, error) => {
                let why = error.as_ref().map_or_else(|| "no count".to_string(), |error| format!("{error:?}"));
                return Err(Failure::failed(doing()).why(format!("bucket {}: {why}", bucket.bucket_id)));
            }
        }
    }
    output.object("count", &json!({"table": path.to_string(), "rows": rows}))
}
