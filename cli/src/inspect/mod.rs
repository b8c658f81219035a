//! `floss inspect`: what lies in the files of a node, read without a node and without changing them.

mod kv;

use crate::exit::Failure;
use crate::output::Output;
use clap::Subcommand;

#[derive(Subcommand)]
pub enum InspectVerb {
    /// The rows of primary-key tables: per bucket how many, how far, how large
    #[command(
        after_help = "Examples:\n  floss inspect kv node-1/data\n  floss inspect kv node-1/data/kv --rows 4 --limit 20 -o jsonl"
    )]
    Kv(kv::Kv),
}

pub fn run(verb: InspectVerb, output: &Output) -> Result<(), Failure> {
    match verb {
        InspectVerb::Kv(kv) => kv::run(&kv, output),
    }
}
