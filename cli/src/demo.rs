//! `floss demo`: the main promises in under a minute, on real processes: load, prune, kill a leader, lose nothing.

use crate::connect::{connect_with, table_path};
use crate::data::input::{Input, InputFormat};
use crate::dev::state::ClusterState;
use crate::dev::{process, up};
use crate::exit::{Failure, OrFail};
use crate::output::Output;
use arrow59::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow59::datatypes::Int64Type;
use clap::Args;
use fluss::client::{EARLIEST_OFFSET, FlussConnection, RecordBatchLogReader};
use fluss::config::Config;
use fluss::metadata::{DataTypes, Schema, TableBucket, TableDescriptor, TablePath};
use fluss::record::{from_arrow_field, to_arrow_schema};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const WRITE_BEFORE_KILL: Duration = Duration::from_secs(2);
const WRITE_AFTER_KILL: Duration = Duration::from_secs(5);
const SHOWN_CARRIERS: usize = 5;

#[derive(Args)]
#[command(after_help = "Examples:\n  floss demo --data cli/data\n  floss demo --data cli/data --keep /tmp/floss-demo")]
pub struct Demo {
    /// Folder with flights.parquet and airlines.parquet
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Keep the cluster running in this directory
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

pub async fn run(demo: Demo, output: &Output) -> Result<(), Failure> {
    let dir = demo.keep.clone().unwrap_or_else(|| std::env::temp_dir().join(format!("floss-demo-{}", std::process::id())));
    let began = Instant::now();
    let state = up::bring_up(&dir, 3, output).await?;
    println!("1  three nodes up after {:.1} s: {}", began.elapsed().as_secs_f64(), state.bootstrap_servers());
    let shown = show(&demo, &dir, &state).await;
    let state = ClusterState::load(&dir)?; // a node was started again
    if demo.keep.is_none() {
        process::stop_all(&state.nodes).await?;
        std::fs::remove_dir_all(&dir).or_fail(format!("remove {}", dir.display()))?;
        println!("5  stopped and cleaned up after {:.1} s in all", began.elapsed().as_secs_f64());
    } else {
        println!("5  still running: floss dev status --dir {}", dir.display());
    }
    shown
}

async fn show(demo: &Demo, dir: &Path, state: &ClusterState) -> Result<(), Failure> {
    let config = Config { bootstrap_servers: state.bootstrap_servers(), ..Default::default() };
    let connection = connect_with(config).await?;
    let path = load_flights(&connection, &demo.data).await?;
    scan_two_columns(&connection, &path, &demo.data).await?;
    let survived = kill_a_leader(dir, state).await?;
    survived.report()
}

async fn load_flights(connection: &FlussConnection, data: &Path) -> Result<TablePath, Failure> {
    let file = data.join("flights.parquet");
    let mut input = Input::open(&file, InputFormat::Parquet, None)?;
    let mut schema = Schema::builder();
    for field in input.schema().fields() {
        schema = schema.column(field.name().clone(), from_arrow_field(field).or_fail("column type")?);
    }
    let path = table_path("flights")?;
    create(connection, &path, schema.build().or_fail("schema")?, 3).await?;
    let table = connection.get_table(&path).await.or_fail("open flights")?;
    let schema = to_arrow_schema(table.get_table_info().get_row_type()).or_fail("schema")?;
    let writer = table.new_append().and_then(|append| append.create_writer()).or_fail("open a writer")?;
    let began = Instant::now();
    let mut acks = Vec::new();
    while let Some(batch) = input.next_batch()? {
        let rows = batch.num_rows();
        let batch = crate::data::append::fit(&batch, &schema)?;
        acks.push((writer.append_arrow_batch(batch).or_fail("append flights")?, rows));
    }
    writer.flush().await.or_fail("append flights")?;
    let mut rows = 0;
    for (ack, count) in acks {
        ack.await.or_fail("append flights")?;
        rows += count;
    }
    println!(
        "2  loaded {rows} flights of 2013 ({} columns) into 3 buckets in {:.2} s; every row on the disks of a majority",
        schema.fields().len(),
        began.elapsed().as_secs_f64()
    );
    Ok(path)
}

async fn scan_two_columns(connection: &FlussConnection, path: &TablePath, data: &Path) -> Result<(), Failure> {
    let began = Instant::now();
    let batches = read(connection, path, &["carrier", "dep_delay"], 3).await?;
    let mut carriers: BTreeMap<String, (u64, i64)> = BTreeMap::new();
    let mut rows = 0;
    for batch in &batches {
        let delays = arrow59::compute::cast(batch.column(1), &arrow59::datatypes::DataType::Int64).or_fail("delays")?;
        let delays = delays.as_primitive::<Int64Type>();
        for (row, carrier) in batch.column(0).as_string::<i32>().iter().enumerate() {
            let entry = carriers.entry(carrier.unwrap_or("-").to_string()).or_default();
            entry.0 += 1;
            entry.1 += if arrow59::array::Array::is_null(delays, row) { 0 } else { delays.value(row) };
        }
        rows += batch.num_rows();
    }
    println!("3  scanned 2 of 19 columns, pruned by the server: {rows} rows in {:.2} s", began.elapsed().as_secs_f64());
    let names = airline_names(data)?;
    let mut ranked: Vec<_> = carriers.into_iter().collect();
    ranked.sort_by_key(|(_, (flights, _))| std::cmp::Reverse(*flights));
    for (carrier, (flights, delay)) in ranked.into_iter().take(SHOWN_CARRIERS) {
        let name = names.get(&carrier).map_or(carrier.as_str(), String::as_str);
        println!("     {name:<28} {flights:>7} flights, mean departure delay {:>5.1} min", delay as f64 / flights as f64);
    }
    Ok(())
}

fn airline_names(data: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let mut input = Input::open(&data.join("airlines.parquet"), InputFormat::Parquet, None)?;
    let mut names = BTreeMap::new();
    while let Some(batch) = input.next_batch()? {
        let (codes, full) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
        names.extend(codes.iter().zip(full.iter()).filter_map(|(code, name)| Some((code?.to_string(), name?.to_string()))));
    }
    Ok(names)
}

/// What a writer saw that went on while its leader was killed.
struct Survived {
    node: u64,
    acked: Vec<i64>,
    longest_wait: Duration,
    read_back: Vec<i64>,
}

impl Survived {
    fn report(&self) -> Result<(), Failure> {
        let missing = self.acked.iter().filter(|sequence| self.read_back.binary_search(sequence).is_err()).count();
        let ordered = self.read_back.windows(2).all(|pair| pair[0] < pair[1]);
        println!("4  killed node {} (kill -9), the leader of a bucket, under a running writer", self.node);
        println!(
            "     acknowledged {} rows, read back {}, missing {missing}, in order and once each: {}",
            self.acked.len(),
            self.read_back.len(),
            if ordered { "yes" } else { "NO" }
        );
        println!("     longest wait for an acknowledgement: {} ms", self.longest_wait.as_millis());
        if missing == 0 && ordered {
            Ok(())
        } else {
            Err(Failure::failed("an acknowledged row is missing, doubled or out of order"))
        }
    }
}

async fn kill_a_leader(dir: &Path, state: &ClusterState) -> Result<Survived, Failure> {
    let mut config = Config { bootstrap_servers: state.bootstrap_servers(), ..Default::default() };
    config.writer_batch_timeout_ms = 1;
    let connection = connect_with(config).await?;
    let path = table_path("survivor")?;
    let schema = Schema::builder().column("sequence", DataTypes::bigint()).build().or_fail("schema")?;
    create(&connection, &path, schema, 1).await?;
    let table = connection.get_table(&path).await.or_fail("open the table")?;
    let arrow = to_arrow_schema(table.get_table_info().get_row_type()).or_fail("schema")?;
    let writer = table.new_append().and_then(|append| append.create_writer()).or_fail("open a writer")?;
    let bucket = TableBucket::new(table.get_table_info().get_table_id(), 0);
    let leader = connection.get_metadata().get_cluster().leader_for(&bucket).map(|node| node.id() as u64);
    let leader = leader.ok_or_else(|| Failure::failed("the bucket has no leader"))?;
    let victim = &state.nodes[state.select(&leader.to_string())?[0]];
    let mut acked = Vec::new();
    let mut longest_wait = Duration::ZERO;
    let mut killed = false;
    let began = Instant::now();
    while began.elapsed() < WRITE_BEFORE_KILL + WRITE_AFTER_KILL {
        if !killed && began.elapsed() >= WRITE_BEFORE_KILL {
            process::kill(victim)?;
            killed = true;
        }
        let sequence = acked.len() as i64;
        let column = Arc::new(Int64Array::from(vec![sequence])) as ArrayRef;
        let batch = RecordBatch::try_new(arrow.clone(), vec![column]).or_fail("build a row")?;
        let asked = Instant::now();
        writer.append_arrow_batch(batch).or_fail("append")?.await.or_fail("append")?;
        longest_wait = longest_wait.max(asked.elapsed());
        acked.push(sequence);
    }
    let pid = process::spawn(dir, victim)?;
    let mut state = state.clone();
    let index = state.select(&leader.to_string())?[0];
    state.nodes[index].pid = pid;
    state.save(dir)?;
    process::wait_port(&state.nodes[index]).await?;
    let batches = read(&connection, &path, &["sequence"], 1).await?;
    let read_back = batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    Ok(Survived { node: leader, acked, longest_wait, read_back })
}

async fn create(connection: &FlussConnection, path: &TablePath, schema: Schema, buckets: i32) -> Result<(), Failure> {
    let admin = connection.get_admin().or_fail("open the admin client")?;
    let descriptor = TableDescriptor::builder().schema(schema).distributed_by(Some(buckets), vec![]).build();
    let descriptor = descriptor.or_fail("describe the table")?;
    admin.create_table(path, &descriptor, false).await.or_fail(format!("create table {path}"))
}

async fn read(
    connection: &FlussConnection,
    path: &TablePath,
    columns: &[&str],
    buckets: i32,
) -> Result<Vec<RecordBatch>, Failure> {
    let table = connection.get_table(path).await.or_fail("open the table")?;
    let scan = table.new_scan().project_by_name(columns).or_fail("project")?;
    let scanner = scan.create_record_batch_log_scanner().or_fail("open a scanner")?;
    let offsets = (0..buckets).map(|bucket| (bucket, EARLIEST_OFFSET)).collect();
    scanner.subscribe_buckets(&offsets).await.or_fail("subscribe")?;
    let admin = connection.get_admin().or_fail("open the admin client")?;
    let mut reader = RecordBatchLogReader::new_until_latest(scanner, &admin).await.or_fail("read the table")?;
    let batches = reader.collect_all_batches().await.or_fail("read the table")?;
    Ok(batches.into_iter().map(|batch| batch.into_batch()).collect())
}
