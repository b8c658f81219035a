//! `floss append`: rows into a log table.

use super::input::{Input, InputFormat};
use super::patience::open_table;
use crate::Global;
use crate::connect::{bootstrap, close, connect_with, table_path};
use crate::exit::{Failure, OrFail};
use crate::output::Output;
use arrow59::array::{ArrayRef, RecordBatch, new_null_array};
use arrow59::datatypes::SchemaRef;
use clap::Args;
use fluss::client::WriteResultFuture;
use fluss::config::Config;
use fluss::record::to_arrow_schema;
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Instant;

/// Writes handed to the writer and not yet acknowledged, batches or single rows: bounds memory, and errors show early.
const IN_FLIGHT_BATCHES: usize = 64;
/// Of single rows.
pub const IN_FLIGHT_ROWS: usize = 65_536;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  floss append shop.orders orders.jsonl\n  cat orders.csv | floss append shop.orders - --format csv"
)]
pub struct Append {
    table: String,
    /// Files, in order; `-` is stdin
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Default: from the file's name
    #[arg(long, value_enum)]
    format: Option<InputFormat>,
}

pub async fn run(append: Append, global: &Global, output: &Output) -> Result<(), Failure> {
    let path = table_path(&append.table)?;
    let connection = connect_with(Config { bootstrap_servers: bootstrap(global)?, ..Default::default() }).await?;
    let rows = {
        let table = open_table(&connection, &path).await?;
        let info = table.get_table_info();
        let schema = to_arrow_schema(info.get_row_type()).or_fail("table schema")?;
        let writer = table.new_append().and_then(|append| append.create_writer()).or_fail(format!("append to {path}"))?;
        let mut loaded = Loaded::new(IN_FLIGHT_BATCHES);
        for file in &append.files {
            let format = append.format.map_or_else(|| InputFormat::of_path(file), Ok)?;
            let mut input = Input::open(file, format, Some(schema.clone()))?;
            loaded.expect(input.rows_total);
            while let Some(batch) = input.next_batch()? {
                let batch = fit(&batch, &schema)?;
                let count = batch.num_rows() as u64;
                let ack = writer.append_arrow_batch(batch).or_fail(format!("append to {path}"))?;
                loaded.add(ack, count).await?;
            }
        }
        writer.flush().await.or_fail(format!("append to {path}"))?;
        loaded.finish("appended").await?
    };
    close(connection).await?;
    output.note(rows);
    Ok(())
}

/// Counts what is acknowledged, and shows it when a person looks.
pub struct Loaded {
    in_flight: usize,
    waiting: VecDeque<(WriteResultFuture, u64)>,
    rows: u64,
    bar: ProgressBar,
    began: Instant,
}

impl Loaded {
    /// At most `in_flight` writes wait for their acknowledgement.
    pub fn new(in_flight: usize) -> Self {
        let bar = if Output::stderr_is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        Self { in_flight, waiting: VecDeque::new(), rows: 0, bar, began: Instant::now() }
    }

    pub fn expect(&mut self, rows: Option<u64>) {
        if let Some(rows) = rows {
            self.bar.set_length(self.bar.length().unwrap_or(0) + rows);
            let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} rows  {per_sec}  {eta}");
            self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        }
    }

    pub async fn add(&mut self, ack: WriteResultFuture, rows: u64) -> Result<(), Failure> {
        self.waiting.push_back((ack, rows));
        if self.waiting.len() >= self.in_flight { self.settle_one().await } else { Ok(()) }
    }

    async fn settle_one(&mut self) -> Result<(), Failure> {
        if let Some((ack, rows)) = self.waiting.pop_front() {
            let so_far = self.rows;
            ack.await.map_err(|error| {
                let mut failure = Failure::client("write", &error).next(format!("{so_far} rows were acknowledged before"));
                if so_far > 0 {
                    failure.code = crate::exit::PARTIAL;
                }
                failure
            })?;
            self.rows += rows;
            self.bar.inc(rows);
        }
        Ok(())
    }

    /// `done`: what happened to the rows.
    pub async fn finish(mut self, done: &str) -> Result<String, Failure> {
        while !self.waiting.is_empty() {
            self.settle_one().await?;
        }
        self.bar.finish_and_clear();
        let seconds = self.began.elapsed().as_secs_f64();
        Ok(format!("{done} {} rows in {seconds:.2} s", self.rows))
    }
}

/// Columns by name in the table's order and types; absent nullable ones become null; unknown ones are refused.
pub fn fit(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, Failure> {
    for field in batch.schema().fields() {
        if schema.field_with_name(field.name()).is_err() {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(Failure::usage(format!("column {}", field.name()))
                .why(format!("the table has no such column, it has {}", names.join(", "))));
        }
    }
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let column = match batch.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => column.clone(),
            Some(column) => arrow59::compute::cast(column, field.data_type()).or_fail(format!("column {}", field.name()))?,
            None => new_null_array(field.data_type(), batch.num_rows()),
        };
        columns.push(column);
    }
    RecordBatch::try_new(schema.clone(), columns).or_fail("rows do not fit the table")
}
