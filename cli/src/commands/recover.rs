//! `quoit recover`: what the dead left at a ring of slots, given back now.

use quoit::{OpenError, Recovered};
use serde::Serialize;

use crate::exit::{self, End};
use crate::picture;

/// Give back what the dead left at a ring made with --mpmc
///
/// The claims of senders that died are skipped, and the messages that dead
/// receivers had in hand are put back, to be delivered again (or counted lost, on
/// a ring made with --at-most-once). Nobody has to run this: whoever opens the
/// ring does the same, and whoever waits at it.
///
/// With --json, an object: `seats` (whose holders had died), `skipped`,
/// `redelivered` and `lost`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A plain name, or a path (with a slash)
    name: String,

    /// Print an object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    seats: u64,
    skipped: u64,
    redelivered: u64,
    lost: u64,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<End> {
    let Recovered { seats, skipped, redelivered, lost, .. } =
        quoit::recover(&args.name).map_err(|error| match error {
            OpenError::WrongKind { ring, found, .. } => exit::failure(
                exit::INCOMPATIBLE,
                format!(
                    "ring {ring:?} is of kind {found}, whose next sender or receiver repairs it \
                     on arrival: there is nothing to do"
                ),
            ),
            other => other.into(),
        })?;
    let report = Report { seats, skipped, redelivered, lost };
    if args.json {
        picture::print_json(&report)?;
    } else {
        picture::print(sentence(&report).as_bytes())?;
    }
    Ok(End::Done)
}

fn sentence(report: &Report) -> String {
    let Report { seats, skipped, redelivered, lost } = *report;
    if seats == 0 {
        return "nobody died\n".into();
    }
    format!(
        "{} of the dead: {} skipped, {} put back, {lost} lost\n",
        picture::count(seats, "seat"),
        picture::count(skipped, "claim"),
        picture::count(redelivered, "message"),
    )
}
