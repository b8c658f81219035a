//! `floss`: runs nodes, moves data, operates clusters. Thin: every verb is a few lines over the server library or the
//! official client.
//!
//! stdout carries data, stderr everything else. Exit codes: see [`exit`].
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a tool at the edge: files, clocks and processes are its job

mod admin;
mod bench;
mod connect;
mod data;
mod demo;
mod dev;
mod exit;
mod inspect;
mod output;
mod serve;
mod sim;

use clap::{Args, Parser, Subcommand};
use exit::Failure;
use output::{Format, Output};
use std::process::ExitCode;

/// Payloads are allocated on one thread and freed on another all the time: several times cheaper here than with the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(
    name = "floss",
    version,
    about = "A streaming table store: Fluss clients in front, one Raft group per bucket behind",
    infer_subcommands = true,
    after_help = "Examples:\n  floss dev up                                  three nodes on this machine\n  \
                  floss append shop.orders orders.jsonl         load rows\n  \
                  floss scan shop.orders --columns id,price     read them back\n\n\
                  Exit codes: 0 ok, 1 failed, 2 usage, 3 cluster unreachable, 4 not found, 5 unhealthy, 6 timed out,\n\
                  7 not allowed, 8 partly done, 10 a promise was broken (sim), 11 nothing was exercised (sim), 130 interrupted"
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Args, Clone)]
struct Global {
    /// Where the cluster answers; default: the local dev cluster
    #[arg(long, global = true, env = "FLUSS_BOOTSTRAP_SERVERS", value_name = "HOST:PORT,...")]
    bootstrap: Option<String>,
    /// How to print data
    #[arg(short = 'o', long = "output", global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Subcommand)]
enum Verb {
    /// Run one node
    #[command(subcommand)]
    Server(serve::ServerVerb),
    /// A cluster of real processes on this machine
    #[command(subcommand)]
    Dev(dev::DevVerb),
    /// The cluster as a whole
    #[command(subcommand)]
    Cluster(admin::cluster::ClusterVerb),
    /// The nodes
    #[command(subcommand)]
    Node(admin::node::NodeVerb),
    /// The buckets of a table: leaders and replicas
    #[command(subcommand)]
    Bucket(admin::bucket::BucketVerb),
    /// Databases
    #[command(subcommand)]
    Database(admin::database::DatabaseVerb),
    /// Tables
    #[command(subcommand)]
    Table(admin::table::TableVerb),
    /// Append rows from jsonl, csv or parquet
    Append(data::append::Append),
    /// Write rows of a primary-key table: insert what is new, replace what is there
    Upsert(data::upsert::Upsert),
    /// Delete rows of a primary-key table by key
    DeleteRows(data::upsert::DeleteRows),
    /// Rows of a primary-key table by key
    Lookup(data::lookup::Lookup),
    /// How many rows a table has
    Count(data::count::Count),
    /// Read a table up to its present end
    Scan(data::scan::Scan),
    /// Follow a table
    Tail(data::scan::Tail),
    /// Three nodes, real data, a killed leader: what Floss promises, shown in under a minute
    Demo(demo::Demo),
    /// Look at the files of a node that does not run
    #[command(subcommand)]
    Inspect(inspect::InspectVerb),
    /// Measure, as ratios inside one run
    #[command(subcommand)]
    Bench(bench::BenchVerb),
    /// Simulate whole clusters under faults, from seeds; `floss sim help` tells the verbs
    #[command(disable_help_flag = true)]
    Sim {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            ExitCode::from(failure.code)
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    if let Verb::Server(verb) = cli.verb {
        return serve::run(verb);
    }
    if let Verb::Sim { arguments } = &cli.verb {
        return Err(sim::run(arguments));
    }
    let output = Output::new(cli.global.output);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("start the runtime: {error}")))?;
    let result = runtime.block_on(async {
        let work = verbs(cli.verb, &cli.global, &output);
        tokio::select! {
            biased;
            result = work => result,
            _ = tokio::signal::ctrl_c() => Err(Failure::interrupted()),
        }
    });
    // The client keeps background tasks (token refresh, senders) that nobody awaits.
    runtime.shutdown_background();
    result
}

async fn verbs(verb: Verb, global: &Global, output: &Output) -> Result<(), Failure> {
    match verb {
        Verb::Server(_) | Verb::Sim { .. } => unreachable!("handled before the client runtime exists"),
        Verb::Dev(verb) => dev::run(verb, output).await,
        Verb::Cluster(verb) => admin::cluster::run(verb, global, output).await,
        Verb::Node(verb) => admin::node::run(verb, global, output).await,
        Verb::Bucket(verb) => admin::bucket::run(verb, global, output).await,
        Verb::Database(verb) => admin::database::run(verb, global, output).await,
        Verb::Table(verb) => admin::table::run(verb, global, output).await,
        Verb::Append(verb) => data::append::run(verb, global, output).await,
        Verb::Upsert(verb) => data::upsert::run_upsert(verb, global, output).await,
        Verb::DeleteRows(verb) => data::upsert::run_delete(verb, global, output).await,
        Verb::Lookup(verb) => data::lookup::run(verb, global, output).await,
        Verb::Count(verb) => data::count::run(verb, global, output).await,
        Verb::Scan(verb) => data::scan::run_scan(verb, global, output).await,
        Verb::Tail(verb) => data::scan::run_tail(verb, global, output).await,
        Verb::Demo(demo) => demo::run(demo, output).await,
        Verb::Inspect(verb) => inspect::run(verb, output),
        Verb::Bench(verb) => bench::run(verb, output).await,
    }
}
