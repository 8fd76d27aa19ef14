//! `quoit man`: the manual page of the tool or of one of its commands.

use clap::CommandFactory;

use crate::args::Cli;
use crate::exit::{self, End};
use crate::picture;

/// Print a manual page (roff)
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The command whose page it is, instead of the tool's
    command: Option<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<End> {
    let mut tool = Cli::command();
    // Only then have the commands their full names, as `quoit send`.
    tool.build();
    let page = match &args.command {
        None => tool,
        Some(name) => tool
            .find_subcommand(name)
            .filter(|command| !command.is_hide_set())
            .cloned()
            .map(|command| {
                let name = format!("quoit-{}", command.get_name());
                command.name(name)
            })
            .ok_or_else(|| exit::failure(exit::USAGE, format!("there is no command `{name}`")))?,
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    picture::print(&text)?;
    Ok(End::Done)
}
