//! `floss-sim`: run, replay, and measure the simulator.
#![allow(clippy::disallowed_methods)] // the harness itself reads files, starts processes and measures time

#[cfg(madsim)]
mod commands;

#[cfg(madsim)]
fn main() -> std::process::ExitCode {
    commands::main()
}

#[cfg(not(madsim))]
fn main() -> std::process::ExitCode {
    eprintln!("floss-sim must be built with --cfg madsim: use `make sim`");
    std::process::ExitCode::from(2)
}
