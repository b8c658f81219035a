//! Data on stdout, in the format the caller asked for; notices on stderr.

use crate::exit::{Failure, OrFail};
use arrow59::array::RecordBatch;
use arrow59::datatypes::Schema;
use comfy_table::{Table, presets};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Table,
    Json,
    Jsonl,
    Csv,
}

/// Rows of one listing: a header and cells.
pub struct Listing {
    /// Name in the JSON form: `floss.<name>/v1`.
    pub name: &'static str,
    pub columns: Vec<&'static str>,
    pub rows: Vec<Vec<Value>>,
}

pub struct Output {
    pub format: Format,
}

impl Output {
    pub fn new(format: Format) -> Self {
        Self { format }
    }

    /// A notice for people.
    pub fn note(&self, text: impl AsRef<str>) {
        eprintln!("{}", text.as_ref());
    }

    pub fn stderr_is_terminal() -> bool {
        std::io::stderr().is_terminal()
    }

    pub fn listing(&self, listing: &Listing) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table => {
                let mut table = Table::new();
                table.load_style(presets::NOTHING).set_header(listing.columns.clone());
                for row in &listing.rows {
                    table.add_row(row.iter().map(plain));
                }
                format!("{}\n", table.trim_fmt())
            }
            Format::Json => {
                let items: Vec<Value> = listing.rows.iter().map(|row| object(&listing.columns, row)).collect();
                let value = json!({ "schema": format!("floss.{}/v1", listing.name), "items": items });
                format!("{value:#}\n")
            }
            Format::Jsonl => listing.rows.iter().map(|row| format!("{}\n", object(&listing.columns, row))).collect(),
            Format::Csv => {
                let mut text = format!("{}\n", listing.columns.join(","));
                for row in &listing.rows {
                    let cells: Vec<String> = row.iter().map(|cell| quote(&plain(cell))).collect();
                    text.push_str(&cells.join(","));
                    text.push('\n');
                }
                text
            }
        };
        print(text.as_bytes())
    }

    /// One object: pretty JSON, or `key value` lines.
    pub fn object(&self, name: &str, value: &Value) -> Result<(), Failure> {
        let text = match self.format {
            Format::Json => {
                let mut value = value.clone();
                if let Some(fields) = value.as_object_mut() {
                    fields.insert("schema".to_string(), json!(format!("floss.{name}/v1")));
                }
                format!("{value:#}\n")
            }
            Format::Jsonl => format!("{value}\n"),
            Format::Table | Format::Csv => {
                let fields = value.as_object().into_iter().flatten();
                fields.map(|(key, value)| format!("{key:<24} {}\n", plain(value))).collect()
            }
        };
        print(text.as_bytes())
    }
}

/// Prints batches of rows one after the other; [`RowPrinter::finish`] closes what must be closed.
pub struct RowPrinter {
    format: Format,
    batches: Vec<RecordBatch>,
    wrote_header: bool,
    wrote_row: bool,
}

impl RowPrinter {
    pub fn new(format: Format) -> Self {
        Self { format, batches: Vec::new(), wrote_header: false, wrote_row: false }
    }

    /// `follow`: print at once even in table form.
    pub fn print(&mut self, batch: RecordBatch, follow: bool) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        match self.format {
            Format::Table if follow => {
                let options = arrow59::util::display::FormatOptions::default().with_null("null");
                let formatted = arrow59::util::pretty::pretty_format_batches_with_options(&[batch], &options);
                writeln!(bytes, "{}", formatted.or_fail("format rows")?).or_fail("format rows")?;
            }
            Format::Table => {
                self.batches.push(batch);
                return Ok(());
            }
            Format::Json | Format::Jsonl => {
                let mut writer = arrow59::json::WriterBuilder::new()
                    .with_explicit_nulls(true)
                    .build::<_, arrow59::json::writer::LineDelimited>(&mut bytes);
                writer.write(&batch).or_fail("format rows")?;
                writer.finish().or_fail("format rows")?;
                if self.format == Format::Json {
                    bytes = self.as_array_items(&bytes);
                }
            }
            Format::Csv => {
                let mut writer = arrow59::csv::WriterBuilder::new().with_header(!self.wrote_header).build(&mut bytes);
                writer.write(&batch).or_fail("format rows")?;
                self.wrote_header = true;
            }
        }
        print(&bytes)
    }

    fn as_array_items(&mut self, lines: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(lines.len() + 64);
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            out.extend_from_slice(if self.wrote_row { b",\n" } else { b"[" });
            out.extend_from_slice(line);
            self.wrote_row = true;
        }
        out
    }

    pub fn finish(self, schema: &Schema) -> Result<(), Failure> {
        match self.format {
            Format::Table => {
                let batches = if self.batches.is_empty() {
                    vec![RecordBatch::new_empty(std::sync::Arc::new(schema.clone()))]
                } else {
                    self.batches
                };
                let options = arrow59::util::display::FormatOptions::default().with_null("null");
                let text = arrow59::util::pretty::pretty_format_batches_with_options(&batches, &options);
                print(format!("{}\n", text.or_fail("format rows")?).as_bytes())
            }
            Format::Json => print(if self.wrote_row { b"]\n" } else { b"[]\n" }),
            Format::Csv if !self.wrote_header => {
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                print(format!("{}\n", names.join(",")).as_bytes())
            }
            Format::Csv | Format::Jsonl => Ok(()),
        }
    }
}

/// Writes to stdout. A closed pipe (`| head`) ends the verb quietly with success.
pub fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.or_fail("write to stdout"),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_string(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn quote(cell: &str) -> String {
    if cell.contains([',', '"', '\n']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_string() }
}

fn object(columns: &[&str], row: &[Value]) -> Value {
    Value::Object(columns.iter().zip(row).map(|(key, value)| (key.to_string(), value.clone())).collect())
}
