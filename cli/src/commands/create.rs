//! `quoit create`: a ring with nobody at it yet.

use quoit::{Delivery, Kind};

use crate::commands::Shape;
use crate::exit::End;
use crate::{args, picture};

/// Make a ring
///
/// Without --mpmc it is for one sender and one receiver and holds bytes. With
/// --mpmc it is for many of both, each message goes to one of the receivers, and
/// it holds --slots messages of up to --max-message bytes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A plain name, or a path (with a slash)
    name: String,

    #[command(flatten)]
    shape: Shape,

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
    let kind = args.shape.kind()?;
    let mut options = args.shape.options().mode(args.mode).keep_open(args.keep_open);
    if args.at_most_once {
        options = options.delivery(Delivery::AtMostOnce);
    }
    let make = match kind {
        Some(Kind::Mpmc) => quoit::mpmc::create,
        _ => quoit::spsc::create,
    };
    make(&args.name, &options).map_err(|error| args.shape.in_our_words(error))?;
    if args.json {
        picture::print_json(&picture::Ring::from(&quoit::inspect(&args.name)?))?;
    }
    Ok(End::Done)
}
