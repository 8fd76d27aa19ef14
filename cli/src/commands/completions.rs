//! `quoit completions`: what a shell needs to complete the command line.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::End;
use crate::picture;

/// Print the completions of a shell
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For which shell
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<End> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "quoit", &mut text);
    picture::print(&text)?;
    Ok(End::Done)
}
