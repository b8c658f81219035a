//! `floss upsert` and `floss delete-rows`: rows into and out of a primary-key table.

use super::append::{IN_FLIGHT_ROWS, Loaded, fit};
use super::input::{Input, InputFormat};
use super::patience::open_table;
use crate::Global;
use crate::connect::{bootstrap, close, connect_with, table_path};
use crate::exit::{Failure, OrFail};
use crate::output::Output;
use arrow59::array::RecordBatch;
use arrow59::datatypes::{Field, Schema, SchemaRef};
use clap::Args;
use fluss::client::{UpsertWriter, WriteResultFuture};
use fluss::config::Config;
use fluss::metadata::RowType;
use fluss::record::to_arrow_schema;
use fluss::row::ColumnarRow;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  floss upsert shop.customers customers.csv\n  echo '{\"id\":7,\"city\":\"Ulm\"}' | floss upsert shop.customers - --format jsonl --partial id,city"
)]
pub struct Upsert {
    #[command(flatten)]
    rows: Rows,
    /// Write only these columns, the key among them; the others keep their values
    #[arg(long, value_delimiter = ',', value_name = "COLUMN,...")]
    partial: Vec<String>,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  floss delete-rows shop.customers gone.csv\n  echo '{\"id\":7}' | floss delete-rows shop.customers - --format jsonl"
)]
pub struct DeleteRows {
    #[command(flatten)]
    rows: Rows,
}

#[derive(Args)]
struct Rows {
    table: String,
    /// Files, in order; `-` is stdin
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Default: from the file's name
    #[arg(long, value_enum)]
    format: Option<InputFormat>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Upsert,
    Delete,
}

pub async fn run_upsert(upsert: Upsert, global: &Global, output: &Output) -> Result<(), Failure> {
    run(upsert.rows, What::Upsert, upsert.partial, global, output).await
}

pub async fn run_delete(delete: DeleteRows, global: &Global, output: &Output) -> Result<(), Failure> {
    run(delete.rows, What::Delete, Vec::new(), global, output).await
}

async fn run(rows: Rows, what: What, partial: Vec<String>, global: &Global, output: &Output) -> Result<(), Failure> {
    let path = table_path(&rows.table)?;
    let doing = || if what == What::Upsert { format!("upsert into {path}") } else { format!("delete rows of {path}") };
    let connection = connect_with(Config { bootstrap_servers: bootstrap(global)?, ..Default::default() }).await?;
    let told = {
        let table = open_table(&connection, &path).await?;
        let info = table.get_table_info();
        let row_type = Arc::new(info.get_row_type().clone());
        let schema = to_arrow_schema(&row_type).or_fail("table schema")?;
        let keys: Vec<String> = info.get_schema().primary_key_column_names().iter().map(|name| (*name).to_string()).collect();
        if keys.is_empty() {
            return Err(Failure::usage(doing()).why("it has no primary key").next(format!("floss append {path} FILE")));
        }
        let mut new = table.new_upsert().or_fail(doing())?;
        if !partial.is_empty() {
            let columns: Vec<&str> = partial.iter().map(String::as_str).collect();
            new = new.partial_update_with_column_names(&columns).or_fail(doing())?;
        }
        let sink = Sink { writer: new.create_writer().or_fail(doing())?, what, row_type, schema };
        // Text is parsed by the columns that count; nothing else is asked for.
        let wanted = match what {
            What::Delete => only(&sink.schema, &keys),
            What::Upsert if !partial.is_empty() => only(&sink.schema, &partial),
            What::Upsert => sink.schema.clone(),
        };
        let mut loaded = Loaded::new(IN_FLIGHT_ROWS);
        for file in &rows.files {
            let format = rows.format.map_or_else(|| InputFormat::of_path(file), Ok)?;
            let mut input = Input::open(file, format, Some(wanted.clone()))?;
            loaded.expect(input.rows_total);
            while let Some(batch) = input.next_batch()? {
                require(&batch, &keys)?;
                for ack in sink.send(&batch, &doing())? {
                    loaded.add(ack, 1).await?;
                }
            }
        }
        sink.writer.flush().await.or_fail(doing())?;
        loaded.finish(if what == What::Upsert { "upserted" } else { "deleted" }).await?
    };
    close(connection).await?;
    output.note(told);
    Ok(())
}

struct Sink {
    writer: UpsertWriter,
    what: What,
    row_type: Arc<RowType>,
    schema: SchemaRef,
}

impl Sink {
    fn send(&self, batch: &RecordBatch, doing: &str) -> Result<Vec<WriteResultFuture>, Failure> {
        let batch = Arc::new(fit(batch, &nullable(&self.schema))?);
        let count = batch.num_rows();
        let mut row = ColumnarRow::new(batch, self.row_type.clone(), 0, None).or_fail(doing)?;
        let mut acks = Vec::with_capacity(count);
        for number in 0..count {
            row.set_row_id(number);
            let ack = match self.what {
                What::Upsert => self.writer.upsert(&row),
                What::Delete => self.writer.delete(&row),
            };
            acks.push(ack.or_fail(doing)?);
        }
        Ok(acks)
    }
}

/// Columns that are not written are null on the way, whatever the table says; the server keeps or refuses them.
fn nullable(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<Vec<Field>>()))
}

fn only(schema: &Schema, names: &[String]) -> SchemaRef {
    let kept = schema.fields().iter().filter(|field| names.contains(field.name()));
    Arc::new(Schema::new(kept.map(|field| field.as_ref().clone()).collect::<Vec<Field>>()))
}

fn require(batch: &RecordBatch, keys: &[String]) -> Result<(), Failure> {
    match keys.iter().find(|key| batch.column_by_name(key).is_none()) {
        None => Ok(()),
        Some(key) => Err(Failure::usage(format!("key column {key}")).why("the rows have no such column")),
    }
}
