//! `floss bucket`.
use crate::Global;
use crate::exit::Failure;
use crate::output::Output;
#[derive(clap::Subcommand)]
pub enum BucketVerb {
    /// Buckets of a table
    List { table: String },
}
pub async fn run(_verb: BucketVerb, _global: &Global, _output: &Output) -> Result<(), Failure> {
    todo!()
}
