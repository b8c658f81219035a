//! `floss sim`: hands over to the simulator, a binary of its own that is built with another runtime and stands beside this one.

use crate::exit::Failure;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

const NAME: &str = "floss-sim";

/// Replaces this process; returns only if that fails. Exit codes: 10 a promise was broken, 11 nothing was exercised.
pub fn run(arguments: &[String]) -> Failure {
    let program = match find() {
        Ok(program) => program,
        Err(failure) => return failure,
    };
    let error = Command::new(&program).args(arguments).exec();
    Failure::failed(format!("start {}: {error}", program.display()))
}

fn find() -> Result<PathBuf, Failure> {
    if let Some(path) = std::env::var_os("FLOSS_SIM") {
        return Ok(path.into());
    }
    let me = std::env::current_exe().and_then(|path| path.canonicalize());
    let me = me.map_err(|error| Failure::failed(format!("find this program: {error}")))?;
    let beside = me.with_file_name(NAME);
    if beside.is_file() {
        return Ok(beside);
    }
    Err(Failure::not_found(format!(
        "no simulator at {}; build it with `make sim-build`, or name it in FLOSS_SIM",
        beside.display()
    )))
}
