//! `floss count`: how many rows a table has now.

use super::patience::{open_table, patiently};
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
    let table = open_table(&connection, &path).await?;
    let info = table.get_table_info();
    let admin = connection.get_admin().or_fail("open the admin client")?;
    let buckets = || (0..info.get_num_buckets()).map(|bucket| BucketStatsRequest::new(None, bucket)).collect();
    let ask = async || admin.get_table_stats(info.get_table_id(), buckets(), Vec::new()).await;
    let stats = patiently(&connection, &path, &doing(), ask).await?;
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
