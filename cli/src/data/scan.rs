//! `floss scan` and `floss tail`.

use super::patience::{open_table, patiently};
use crate::Global;
use crate::connect::{connect, table_path};
use crate::exit::{Failure, OrFail};
use crate::output::{Output, RowPrinter};
use arrow59::array::{ArrayRef, RecordBatch, StringArray};
use arrow59::datatypes::{DataType, Field, Schema, SchemaRef};
use clap::Args;
use fluss::client::{EARLIEST_OFFSET, FlussConnection, FlussTable, RecordBatchLogReader, RecordBatchLogScanner, TableScan};
use fluss::metadata::{RowType, TableBucket};
use fluss::record::{RowAppendRecordBatchBuilder, ScanRecord, to_arrow_schema};
use fluss::rpc::message::OffsetSpec;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// In front of each change that `tail` prints.
const CHANGE_COLUMN: &str = "_change_type";

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
    let table = open_table(&connection, &path).await?;
    if table.has_primary_key() {
        return scan_rows(&connection, &table, &scan.what, output).await;
    }
    let from = offsets(&connection, &table, From::Earliest).await?;
    let admin = connection.get_admin().or_fail("open the admin client")?;
    let doing = || format!("scan {path}");
    projected(&table, &scan.what)?;
    let open = async || {
        let scanner = project(&table, &scan.what)?.create_record_batch_log_scanner()?;
        scanner.subscribe_buckets(&from).await?;
        RecordBatchLogReader::new_until_latest(scanner, &admin).await
    };
    let mut reader = patiently(&connection, &path, &doing(), open).await?;
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
    let table = open_table(&connection, &path).await?;
    if table.has_primary_key() {
        return tail_changes(&connection, &table, &tail, output).await;
    }
    let scanner = scanner(&table, &tail.what)?;
    let from = offsets(&connection, &table, tail.from).await?;
    scanner.subscribe_buckets(&from).await.or_fail("subscribe")?;
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

/// The rows of a primary-key table as they are now, bucket after bucket.
async fn scan_rows(connection: &FlussConnection, table: &FlussTable<'_>, what: &What, output: &Output) -> Result<(), Failure> {
    let info = table.get_table_info();
    projected(table, what)?;
    let mut printer = RowPrinter::new(output.format);
    let mut left = what.limit.unwrap_or(usize::MAX);
    for number in 0..info.get_num_buckets() {
        let limit = i32::try_from(left).unwrap_or(i32::MAX);
        if limit == 0 {
            break;
        }
        let bucket = TableBucket::new(info.get_table_id(), number);
        // A bucket is one call, and a scanner that failed is spent.
        let call =
            async || project(table, what)?.limit(limit)?.create_bucket_batch_scanner(bucket.clone())?.collect_all_batches().await;
        let path = table.table_path();
        for batch in patiently(connection, path, &format!("scan {path}"), call).await? {
            let rows = batch.num_records().min(left);
            left -= rows;
            printer.print(batch.batch().slice(0, rows), false)?;
        }
    }
    printer.finish(&*schema_of(table, what)?)
}

/// The changes of a primary-key table, each with its kind: +I -U +U -D.
async fn tail_changes(connection: &FlussConnection, table: &FlussTable<'_>, tail: &Tail, output: &Output) -> Result<(), Failure> {
    let doing = || format!("tail {}", table.table_path());
    let scanner = projected(table, &tail.what)?.create_log_scanner().or_fail(doing())?;
    let from = offsets(connection, table, tail.from).await?;
    scanner.subscribe_buckets(&from).await.or_fail("subscribe")?;
    let row_type = row_type_of(table, &tail.what)?;
    let mut printer = RowPrinter::new(output.format);
    let mut left = tail.what.limit.unwrap_or(usize::MAX);
    while left > 0 {
        let polled = scanner.poll(Duration::from_secs(1)).await.or_fail(doing())?.into_records_by_buckets();
        let mut buckets: Vec<(TableBucket, Vec<ScanRecord>)> = polled.into_iter().collect();
        buckets.sort_by_key(|(bucket, _)| bucket.bucket_id());
        for (_, mut records) in buckets {
            records.truncate(left);
            left -= records.len();
            if !records.is_empty() {
                printer.print(changes(&records, &row_type).or_fail(doing())?, true)?;
            }
        }
    }
    Ok(())
}

/// Rows with their kind of change in front.
fn changes(records: &[ScanRecord], row_type: &RowType) -> Result<RecordBatch, fluss::error::Error> {
    let mut rows = RowAppendRecordBatchBuilder::new(row_type)?;
    for record in records {
        rows.append(record.row())?;
    }
    let rows = rows.build_arrow_record_batch()?;
    let kinds: ArrayRef =
        Arc::new(StringArray::from_iter_values(records.iter().map(|record| record.change_type().short_string())));
    let mut fields = vec![Field::new(CHANGE_COLUMN, DataType::Utf8, false)];
    fields.extend(rows.schema().fields().iter().map(|field| field.as_ref().clone()));
    let columns = std::iter::once(kinds).chain(rows.columns().iter().cloned()).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns);
    batch.map_err(|error| fluss::error::Error::UnexpectedError { message: error.to_string(), source: None })
}

fn scanner(table: &FlussTable<'_>, what: &What) -> Result<RecordBatchLogScanner, Failure> {
    projected(table, what)?.create_record_batch_log_scanner().or_fail("open a scanner")
}

fn projected<'a>(table: &'a FlussTable<'_>, what: &What) -> Result<TableScan<'a>, Failure> {
    let names = table.get_table_info().get_schema().column_names();
    if let Some(unknown) = what.columns.iter().find(|column| !names.contains(&column.as_str())) {
        return Err(Failure::usage(format!("column {unknown}")).why(format!("the table has {}", names.join(", "))));
    }
    project(table, what).or_fail("project columns")
}

fn project<'a>(table: &'a FlussTable<'_>, what: &What) -> fluss::error::Result<TableScan<'a>> {
    let scan = table.new_scan();
    if what.columns.is_empty() {
        return Ok(scan);
    }
    let columns: Vec<&str> = what.columns.iter().map(String::as_str).collect();
    scan.project_by_name(&columns)
}

fn row_type_of(table: &FlussTable<'_>, what: &What) -> Result<RowType, Failure> {
    let all = table.get_table_info().get_row_type();
    if what.columns.is_empty() {
        return Ok(all.clone());
    }
    all.project_with_field_names(&what.columns).or_fail("project columns")
}

fn schema_of(table: &FlussTable<'_>, what: &What) -> Result<SchemaRef, Failure> {
    to_arrow_schema(&row_type_of(table, what)?).or_fail("table schema")
}

async fn offsets(connection: &FlussConnection, table: &FlussTable<'_>, from: From) -> Result<HashMap<i32, i64>, Failure> {
    let buckets: Vec<i32> = (0..table.get_table_info().get_num_buckets()).collect();
    if from == From::Earliest {
        return Ok(buckets.into_iter().map(|bucket| (bucket, EARLIEST_OFFSET)).collect());
    }
    let admin = connection.get_admin().or_fail("open the admin client")?;
    let path = table.table_path();
    let ask = async || admin.list_offsets(path, &buckets, OffsetSpec::Latest).await;
    patiently(connection, path, "find the end of the table", ask).await
}
