//! `floss scan` and `floss tail`.

use crate::Global;
use crate::connect::{connect, table_path};
use crate::exit::{Failure, OrFail};
use crate::output::{Output, RowPrinter};
use clap::Args;
use fluss::client::{EARLIEST_OFFSET, FlussConnection, FlussTable, RecordBatchLogReader, RecordBatchLogScanner};
use fluss::rpc::message::OffsetSpec;
use std::collections::HashMap;
use std::time::Duration;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  floss scan shop.orders --columns id,price --limit 20\n  floss scan shop.orders -o csv > orders.csv"
)]
pub struct Scan {
    table: String,
    #[command(flatten)]
    what: What,
}

#[derive(Args)]
#[command(after_help = "Examples:\n  floss tail shop.orders\n  floss tail shop.orders --from earliest --columns id -o jsonl")]
pub struct Tail {
    table: String,
    #[command(flatten)]
    what: What,
    /// Where to start
    #[arg(long, value_enum, default_value_t = From::Latest)]
    from: From,
}

#[derive(Args)]
struct What {
    /// Only these, pruned by the server
    #[arg(long, value_delimiter = ',', value_name = "COLUMN,...")]
    columns: Vec<String>,
    /// Stop after so many rows
    #[arg(long)]
    limit: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum From {
    Earliest,
    Latest,
}

pub async fn run_scan(scan: Scan, global: &Global, output: &Output) -> Result<(), Failure> {
    let connection = connect(global).await?;
    let path = table_path(&scan.table)?;
    let table = connection.get_table(&path).await.or_fail(format!("open table {path}"))?;
    let scanner = scanner(&table, &scan.what)?;
    subscribe(&connection, &table, &scanner, From::Earliest).await?;
    let admin = connection.get_admin().or_fail("open the admin client")?;
    let doing = || format!("scan {path}");
    let mut reader = RecordBatchLogReader::new_until_latest(scanner, &admin).await.or_fail(doing())?;
    let mut printer = RowPrinter::new(output.format);
    let mut left = scan.what.limit.unwrap_or(usize::MAX);
    while left > 0 {
        let Some(batch) = reader.next_batch().await.or_fail(doing())? else { break };
        let rows = batch.num_records().min(left);
        left -= rows;
        printer.print(batch.batch().slice(0, rows), false)?;
    }
    printer.finish(&reader.schema())
}

pub async fn run_tail(tail: Tail, global: &Global, output: &Output) -> Result<(), Failure> {
    let connection = connect(global).await?;
    let path = table_path(&tail.table)?;
    let table = connection.get_table(&path).await.or_fail(format!("open table {path}"))?;
    let scanner = scanner(&table, &tail.what)?;
    subscribe(&connection, &table, &scanner, tail.from).await?;
    let mut printer = RowPrinter::new(output.format);
    let mut left = tail.what.limit.unwrap_or(usize::MAX);
    while left > 0 {
        for batch in scanner.poll(Duration::from_secs(1)).await.or_fail(format!("tail {path}"))? {
            let rows = batch.num_records().min(left);
            left -= rows;
            printer.print(batch.into_batch().slice(0, rows), true)?;
        }
    }
    Ok(())
}

fn scanner(table: &FlussTable<'_>, what: &What) -> Result<RecordBatchLogScanner, Failure> {
    let names = table.get_table_info().get_schema().column_names();
    if let Some(unknown) = what.columns.iter().find(|column| !names.contains(&column.as_str())) {
        return Err(Failure::usage(format!("column {unknown}")).why(format!("the table has {}", names.join(", "))));
    }
    let mut scan = table.new_scan();
    if !what.columns.is_empty() {
        let columns: Vec<&str> = what.columns.iter().map(String::as_str).collect();
        scan = scan.project_by_name(&columns).or_fail("project columns")?;
    }
    scan.create_record_batch_log_scanner().or_fail("open a scanner")
}

async fn subscribe(
    connection: &FlussConnection,
    table: &FlussTable<'_>,
    scanner: &RecordBatchLogScanner,
    from: From,
) -> Result<(), Failure> {
    let buckets: Vec<i32> = (0..table.get_table_info().get_num_buckets()).collect();
    let offsets: HashMap<i32, i64> = match from {
        From::Earliest => buckets.into_iter().map(|bucket| (bucket, EARLIEST_OFFSET)).collect(),
        From::Latest => {
            let admin = connection.get_admin().or_fail("open the admin client")?;
            admin.list_offsets(table.table_path(), &buckets, OffsetSpec::Latest).await.or_fail("find the end of the table")?
        }
    };
    scanner.subscribe_buckets(&offsets).await.or_fail("subscribe")
}
