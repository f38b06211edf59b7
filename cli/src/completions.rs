//! `ferrolb completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;

pub(crate) fn main(shell: Shell) {
    clap_complete::generate(
        shell,
        &mut Cli::command(),
        "ferrolb",
        &mut std::io::stdout(),
    );
}
