//! `floss table`.

use super::columns;
use crate::Global;
use crate::connect::{connect, table_path};
use crate::data::input::{Input, InputFormat};
use crate::exit::{Failure, OrFail};
use crate::output::{Listing, Output};
use clap::{Args, Subcommand};
use fluss::client::FlussAdmin;
use fluss::metadata::{Schema, SchemaBuilder, TableDescriptor, TableInfo};
use fluss::record::from_arrow_field;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum TableVerb {
    /// Create a table
    #[command(
        after_help = "Examples:\n  floss table create shop.orders --column 'id bigint not null' --column 'item string' --buckets 3\n  \
        floss table create flights --like flights.parquet --buckets 3 --property table.log.ttl='30 d'"
    )]
    Create(Box<Create>),
    /// The tables of a database, or of all
    #[command(alias = "ls", after_help = "Examples:\n  floss table list\n  floss table list shop -o json")]
    List { database: Option<String> },
    /// Schema, buckets, properties, offsets
    #[command(
        alias = "get",
        after_help = "Examples:\n  floss table describe shop.orders\n  floss table describe shop.orders -o json"
    )]
    Describe { table: String },
    /// Delete a table and its data
    #[command(
        alias = "rm",
        after_help = "Examples:\n  floss table delete shop.orders --yes\n  floss table delete shop.orders --yes --if-exists"
    )]
    Delete {
        table: String,
        #[arg(long)]
        if_exists: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Args)]
pub struct Create {
    table: String,
    /// `NAME TYPE [not null]`, in order; repeat
    #[arg(long = "column", value_name = "COLUMN", conflicts_with = "like")]
    columns: Vec<String>,
    /// Take the columns from a parquet, csv or jsonl file
    #[arg(long, value_name = "FILE")]
    like: Option<PathBuf>,
    #[arg(long, value_delimiter = ',', value_name = "COLUMN,...")]
    primary_key: Vec<String>,
    #[arg(long)]
    buckets: Option<i32>,
    #[arg(long, value_delimiter = ',', value_name = "COLUMN,...")]
    bucket_key: Vec<String>,
    #[arg(long, value_delimiter = ',', value_name = "COLUMN,...")]
    partition_by: Vec<String>,
    /// `table.*` keys are settings, others are yours
    #[arg(long = "property", value_name = "KEY=VALUE")]
    properties: Vec<String>,
    #[arg(long)]
    comment: Option<String>,
    #[arg(long)]
    if_not_exists: bool,
}

pub async fn run(verb: TableVerb, global: &Global, output: &Output) -> Result<(), Failure> {
    if let TableVerb::Delete { table, yes: false, .. } = &verb {
        return Err(Failure::usage(format!("delete table {table} and all its data"))
            .why("not confirmed")
            .next(format!("floss table delete {table} --yes")));
    }
    let connection = connect(global).await?;
    let admin = connection.get_admin().or_fail("open the admin client")?;
    match verb {
        TableVerb::Create(create) => create_table(&admin, *create, output).await,
        TableVerb::List { database } => list(&admin, database, output).await,
        TableVerb::Describe { table } => describe(&admin, &table, output).await,
        TableVerb::Delete { table, if_exists, .. } => {
            let path = table_path(&table)?;
            admin.drop_table(&path, if_exists).await.or_fail(format!("delete table {table}"))
        }
    }
}

async fn create_table(admin: &FlussAdmin, create: Create, output: &Output) -> Result<(), Failure> {
    let path = table_path(&create.table)?;
    let mut schema = schema_builder(&create)?;
    if !create.primary_key.is_empty() {
        schema = schema.primary_key(create.primary_key.clone()).or_fail("primary key")?;
    }
    let mut descriptor =
        TableDescriptor::builder().schema(schema.build().or_fail("schema")?).partitioned_by(create.partition_by.clone());
    if create.buckets.is_some() || !create.bucket_key.is_empty() {
        descriptor = descriptor.distributed_by(create.buckets, create.bucket_key.clone());
    }
    for property in &create.properties {
        let (key, value) =
            property.split_once('=').ok_or_else(|| Failure::usage(format!("property {property}")).why("expected KEY=VALUE"))?;
        descriptor =
            if key.starts_with("table.") { descriptor.property(key, value) } else { descriptor.custom_property(key, value) };
    }
    if let Some(comment) = create.comment {
        descriptor = descriptor.comment(comment);
    }
    let descriptor = descriptor.build().or_fail(format!("describe table {}", create.table))?;
    admin.create_table(&path, &descriptor, create.if_not_exists).await.or_fail(format!("create table {path}"))?;
    output.note(format!("created {path}"));
    Ok(())
}

fn schema_builder(create: &Create) -> Result<SchemaBuilder, Failure> {
    let mut schema = Schema::builder();
    if let Some(file) = &create.like {
        let input = Input::open(file, InputFormat::of_path(file)?, None)?;
        for field in input.schema().fields() {
            let data_type = from_arrow_field(field).or_fail(format!("column {}", field.name()))?;
            schema = schema.column(field.name().clone(), data_type);
        }
        return Ok(schema);
    }
    if create.columns.is_empty() {
        return Err(Failure::usage(format!("create table {}", create.table))
            .why("it has no columns")
            .next("--column 'id bigint' ..., or --like FILE"));
    }
    for column in &create.columns {
        let (name, data_type) = columns::parse(column)?;
        schema = schema.column(name, data_type);
    }
    Ok(schema)
}

async fn list(admin: &FlussAdmin, database: Option<String>, output: &Output) -> Result<(), Failure> {
    let mut databases = match database {
        Some(name) => vec![name],
        None => admin.list_databases().await.or_fail("list databases")?,
    };
    databases.sort();
    let mut rows = Vec::new();
    for database in databases {
        let mut tables = admin.list_tables(&database).await.or_fail(format!("list tables of {database}"))?;
        tables.sort();
        rows.extend(tables.into_iter().map(|table| vec![json!(database), json!(table)]));
    }
    output.listing(&Listing { name: "table.list", columns: vec!["database", "table"], rows })
}

async fn describe(admin: &FlussAdmin, table: &str, output: &Output) -> Result<(), Failure> {
    let path = table_path(table)?;
    let info = admin.get_table_info(&path).await.or_fail(format!("describe table {table}"))?;
    output.object("table.describe", &as_json(&info))
}

fn as_json(info: &TableInfo) -> Value {
    let columns: Vec<Value> =
        info.get_schema().columns().iter().map(|column| json!(format!("{} {}", column.name(), column.data_type()))).collect();
    let properties: BTreeMap<_, _> = info.get_properties().iter().collect();
    let custom: BTreeMap<_, _> = info.get_custom_properties().iter().collect();
    json!({
        "table": info.get_table_path().to_string(),
        "id": info.get_table_id(),
        "schema_id": info.get_schema_id(),
        "columns": columns,
        "primary_key": info.get_primary_keys(),
        "bucket_key": info.get_bucket_keys(),
        "buckets": info.get_num_buckets(),
        "partitioned_by": info.get_partition_keys().to_vec(),
        "properties": properties.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(),
        "custom_properties": custom.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(),
        "comment": info.get_comment(),
        "created_ms": info.get_created_time(),
    })
}
