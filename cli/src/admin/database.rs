//! `floss database`.

use crate::Global;
use crate::connect::connect;
use crate::exit::{Failure, OrFail};
use crate::output::{Listing, Output};
use clap::Subcommand;
use serde_json::json;

#[derive(Subcommand)]
pub enum DatabaseVerb {
    /// All databases
    #[command(alias = "ls", after_help = "Examples:\n  floss database list\n  floss database list -o json")]
    List,
    #[command(after_help = "Examples:\n  floss database create shop\n  floss database create shop --if-not-exists")]
    /// Create a database
    Create {
        name: String,
        #[arg(long)]
        if_not_exists: bool,
    },
    /// Delete a database
    #[command(alias = "rm", after_help = "Examples:\n  floss database delete shop\n  floss database delete shop --cascade --yes")]
    Delete {
        name: String,
        /// With all its tables
        #[arg(long, requires = "yes")]
        cascade: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

pub async fn run(verb: DatabaseVerb, global: &Global, output: &Output) -> Result<(), Failure> {
    let connection = connect(global).await?;
    let admin = connection.get_admin().or_fail("open the admin client")?;
    match verb {
        DatabaseVerb::List => {
            let mut names = admin.list_databases().await.or_fail("list databases")?;
            names.sort();
            let rows = names.into_iter().map(|name| vec![json!(name)]).collect();
            output.listing(&Listing { name: "database.list", columns: vec!["name"], rows })
        }
        DatabaseVerb::Create { name, if_not_exists } => {
            admin.create_database(&name, None, if_not_exists).await.or_fail(format!("create database {name}"))
        }
        DatabaseVerb::Delete { name, cascade, yes: _ } => {
            admin.drop_database(&name, false, cascade).await.or_fail(format!("delete database {name}"))
        }
    }
}
