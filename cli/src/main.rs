//! The `ferrolb` binary: it parses arguments and calls the crates of the daemons, which do the work.

mod args;
mod cleanup;
mod completions;
mod controller;
mod crds;
mod error;
mod log;
mod node;
mod status;

use std::process::ExitCode;

use args::{Cli, Command};
use clap::Parser;

fn main() -> ExitCode {
    ferrolb_source::memory::keep_little();
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Node(args) => node::main(&args),
        Command::Controller(args) => controller::main(&args),
        Command::Crds => crds::main(),
        Command::Status(args) => status::main(&args),
        Command::Cleanup(args) => cleanup::main(&args),
        Command::Completions(args) => completions::main(args.shell),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ferrolb: {error}");
            ExitCode::from(error.code())
        }
    }
}
