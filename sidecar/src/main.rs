//! The binary `integratedb`.

use clap::Parser;
use integratedb_sidecar::cli::Cli;

fn main() -> std::process::ExitCode {
    Cli::parse().run()
}
