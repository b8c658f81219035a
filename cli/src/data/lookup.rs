//! `floss lookup`: rows of a primary-key table by key or by the front of it.

use super::input::{Input, InputFormat};
use super::patience::{bounded, open_table, patiently};
use crate::Global;
use crate::connect::{connect, table_path};
use crate::exit::{Failure, OrFail};
use crate::output::{Output, RowPrinter};
use arrow59::array::{ArrayRef, RecordBatch, StringArray};
use clap::Args;
use fluss::client::{FlussTable, LookupResult, Lookuper, PrefixKeyLookuper};
use fluss::metadata::RowType;
use fluss::record::to_arrow_schema;
use fluss::row::ColumnarRow;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  floss lookup shop.customers 7 8 9\n  floss lookup shop.orders 2026-11-21,17   # key of two columns\n  floss lookup shop.orders 2026-11-21 --prefix\n  floss lookup shop.customers --keys ids.csv -o jsonl"
)]
pub struct Lookup {
    table: String,
    /// Values of the key columns, comma between them
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
    /// More keys, from a file with the key columns; `-` is stdin
    #[arg(long = "keys", value_name = "FILE")]
    file: Option<PathBuf>,
    #[arg(long, value_enum)]
    format: Option<InputFormat>,
    /// By the bucket key, which is the front of the primary key: all rows that have it
    #[arg(long)]
    prefix: bool,
}

/// Which of the client's two ways.
enum By {
    Key(Lookuper),
    Prefix(PrefixKeyLookuper),
}

impl By {
    async fn look_up(&mut self, row: &ColumnarRow) -> fluss::error::Result<LookupResult> {
        match self {
            Self::Key(lookuper) => lookuper.lookup(row).await,
            Self::Prefix(lookuper) => lookuper.lookup(row).await,
        }
    }
}

pub async fn run(lookup: Lookup, global: &Global, output: &Output) -> Result<(), Failure> {
    let connection = connect(global).await?;
    let path = table_path(&lookup.table)?;
    let table = open_table(&connection, &path).await?;
    let doing = || format!("look up in {path}");
    let columns = key_columns(&table, lookup.prefix)?;
    let schema = table.get_table_info().get_row_type();
    let key_type = schema.project_with_field_names(&columns).or_fail(doing())?;
    let new = table.new_lookup().or_fail(doing())?;
    let mut by = if lookup.prefix {
        By::Prefix(new.lookup_by(columns.clone()).create_lookuper().or_fail(doing())?)
    } else {
        By::Key(new.create_lookuper().or_fail(doing())?)
    };
    let schema = to_arrow_schema(schema).or_fail("table schema")?;
    let mut printer = RowPrinter::new(output.format);
    let (mut asked, mut found) = (0u64, 0u64);
    for batch in batches(&lookup, &key_type, &columns)? {
        let count = batch.num_rows();
        let mut row = ColumnarRow::new(Arc::new(batch), Arc::new(key_type.clone()), 0, None).or_fail(doing())?;
        for number in 0..count {
            row.set_row_id(number);
            let result = bounded(&doing(), patiently(&connection, &path, &doing(), async || by.look_up(&row).await)).await?;
            let rows = result.to_record_batch().or_fail(doing())?;
            asked += 1;
            found += u64::from(rows.num_rows() > 0);
            printer.print(rows, false)?;
        }
    }
    printer.finish(&schema)?;
    if found < asked {
        return Err(Failure::not_found(format!("{} of {asked} keys in {path}", asked - found)).why("no such row"));
    }
    Ok(())
}

fn key_columns(table: &FlussTable<'_>, prefix: bool) -> Result<Vec<String>, Failure> {
    let info = table.get_table_info();
    let keys: Vec<String> = info.get_schema().primary_key_column_names().iter().map(|name| (*name).to_string()).collect();
    if keys.is_empty() {
        return Err(Failure::usage(format!("look up in {}", table.table_path())).why("it has no primary key"));
    }
    Ok(if prefix { info.get_bucket_keys().to_vec() } else { keys })
}

/// The keys, from the command line and from the file, typed as the table has them.
fn batches(lookup: &Lookup, key_type: &RowType, columns: &[String]) -> Result<Vec<RecordBatch>, Failure> {
    let schema = to_arrow_schema(key_type).or_fail("key columns")?;
    let mut batches = Vec::new();
    if !lookup.keys.is_empty() {
        let mut values: Vec<Vec<&str>> = vec![Vec::new(); columns.len()];
        for key in &lookup.keys {
            let parts: Vec<&str> = key.splitn(columns.len(), ',').collect();
            if parts.len() != columns.len() {
                return Err(Failure::usage(format!("key {key}")).why(format!(
                    "{} values, expected {}: {}",
                    parts.len(),
                    columns.len(),
                    columns.join(",")
                )));
            }
            values.iter_mut().zip(parts).for_each(|(column, part)| column.push(part));
        }
        let mut typed: Vec<ArrayRef> = Vec::new();
        for (field, texts) in schema.fields().iter().zip(values) {
            let texts: ArrayRef = Arc::new(StringArray::from(texts));
            // A value that does not parse is an error, not a null key.
            let strict = arrow59::compute::CastOptions { safe: false, ..Default::default() };
            let array = arrow59::compute::cast_with_options(&texts, field.data_type(), &strict);
            typed.push(array.map_err(|error| Failure::usage(format!("key column {}", field.name())).why(error))?);
        }
        batches.push(RecordBatch::try_new(schema.clone(), typed).or_fail("keys")?);
    }
    if let Some(file) = &lookup.file {
        let format = lookup.format.map_or_else(|| InputFormat::of_path(file), Ok)?;
        let mut input = Input::open(file, format, Some(schema.clone()))?;
        while let Some(batch) = input.next_batch()? {
            batches.push(super::append::fit(&batch, &schema)?);
        }
    }
    if batches.is_empty() {
        return Err(Failure::usage("look up").why("no key given").next("floss lookup TABLE KEY..., or --keys FILE"));
    }
    Ok(batches)
}
