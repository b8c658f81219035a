//! Rows from a file or from stdin, as Arrow batches.

use crate::exit::{Failure, OrFail};
use arrow59::array::RecordBatch;
use arrow59::datatypes::{Schema, SchemaRef};
use parquet59::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};
use std::path::Path;
use std::sync::Arc;

/// Rows per batch handed to the writer.
const BATCH_ROWS: usize = 8192;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum InputFormat {
    Jsonl,
    Csv,
    Parquet,
}

impl InputFormat {
    pub fn of_path(path: &Path) -> Result<Self, Failure> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("jsonl" | "ndjson" | "json") => Ok(Self::Jsonl),
            Some("csv") => Ok(Self::Csv),
            Some("parquet") => Ok(Self::Parquet),
            _ => Err(Failure::usage(format!("format of {}", path.display()))
                .why("its name ends in none of .jsonl .csv .parquet")
                .next("--format jsonl|csv|parquet")),
        }
    }
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, arrow59::error::ArrowError>> + Send>;

/// One source of rows.
pub struct Input {
    schema: SchemaRef,
    batches: Batches,
    /// None when it cannot be known before the end.
    pub rows_total: Option<u64>,
}

impl Input {
    /// `-` is stdin. `wanted` is the table's schema: text formats are parsed by it; without it they are guessed from the rows.
    pub fn open(path: &Path, format: InputFormat, wanted: Option<SchemaRef>) -> Result<Self, Failure> {
        if path == Path::new("-") {
            if let (Some(schema), InputFormat::Jsonl | InputFormat::Csv) = (&wanted, format) {
                return Self::text(BufReader::new(std::io::stdin()), format, schema.clone());
            }
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).or_fail("read stdin")?;
            return Self::seekable(Cursor::new(bytes), "stdin", format, wanted);
        }
        let name = path.display().to_string();
        let file = File::open(path).or_fail(format!("open {name}"))?;
        if format == InputFormat::Parquet {
            return Self::parquet(file, &name);
        }
        Self::seekable(BufReader::new(file), &name, format, wanted)
    }

    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    fn seekable<R>(mut source: R, name: &str, format: InputFormat, wanted: Option<SchemaRef>) -> Result<Self, Failure>
    where
        R: Read + Seek + std::io::BufRead + Send + 'static,
    {
        if format == InputFormat::Parquet {
            let mut bytes = Vec::new();
            source.read_to_end(&mut bytes).or_fail(format!("read {name}"))?;
            return Self::parquet(bytes::Bytes::from(bytes), name);
        }
        let schema = match wanted {
            Some(schema) => schema,
            None => {
                let guessed = match format {
                    InputFormat::Csv => arrow59::csv::reader::Format::default()
                        .with_header(true)
                        .infer_schema(&mut source, Some(10_000))
                        .map(|(schema, _)| schema),
                    _ => arrow59::json::reader::infer_json_schema(&mut source, Some(10_000)).map(|(schema, _)| schema),
                };
                source.rewind().or_fail(format!("read {name} again"))?;
                Arc::new(guessed.or_fail(format!("guess the columns of {name}"))?)
            }
        };
        Self::text(source, format, schema)
    }

    fn text<R>(source: R, format: InputFormat, schema: SchemaRef) -> Result<Self, Failure>
    where
        R: std::io::BufRead + Send + 'static,
    {
        let batches: Batches = match format {
            InputFormat::Csv => Box::new(
                arrow59::csv::ReaderBuilder::new(schema.clone())
                    .with_header(true)
                    .with_batch_size(BATCH_ROWS)
                    .build_buffered(source)
                    .or_fail("read csv")?,
            ),
            _ => Box::new(
                arrow59::json::ReaderBuilder::new(schema.clone())
                    .with_batch_size(BATCH_ROWS)
                    .with_strict_mode(true)
                    .build(source)
                    .or_fail("read jsonl")?,
            ),
        };
        Ok(Self { schema, batches, rows_total: None })
    }

    fn parquet(source: impl parquet59::file::reader::ChunkReader + 'static, name: &str) -> Result<Self, Failure> {
        let bad = |error: parquet59::errors::ParquetError| Failure::failed(format!("read parquet {name}")).why(error);
        let builder = ParquetRecordBatchReaderBuilder::try_new(source).map_err(bad)?;
        let rows = builder.metadata().file_metadata().num_rows();
        let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(bad)?;
        let schema = arrow59::array::RecordBatchReader::schema(&reader);
        Ok(Self { schema, batches: Box::new(reader), rows_total: Some(rows as u64) })
    }

    /// The next rows, or `None` at the end.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>, Failure> {
        self.batches.next().transpose().or_fail("read rows")
    }
}
