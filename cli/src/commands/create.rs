//! `quoit create`: a ring with nobody at it yet.

use quoit::{Delivery, Options};

use crate::exit::End;
use crate::{args, picture};

/// Make a ring
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A plain name, or a path (with a slash)
    name: String,

    /// Room for messages: a power of two from 4KiB
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = args::size)]
    capacity: usize,

    /// Permissions of the file, in octal
    #[arg(long, default_value = "600", value_parser = args::mode)]
    mode: u32,

    /// Receivers wait for the next sender instead of seeing the end
    #[arg(long)]
    keep_open: bool,

    /// A message that a receiver died with is lost, not delivered again
    #[arg(long)]
    at_most_once: bool,

    /// Print the new ring as JSON: the fields of `quoit stat --json`
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<End> {
    let mut options =
        Options::new().capacity(args.capacity).mode(args.mode).keep_open(args.keep_open);
    if args.at_most_once {
        options = options.delivery(Delivery::AtMostOnce);
    }
    quoit::spsc::create(&args.name, &options)?;
    if args.json {
        picture::print_json(&picture::Ring::from(&quoit::inspect(&args.name)?))?;
    }
    Ok(End::Done)
}
