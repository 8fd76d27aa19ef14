//! `quoit rm`: takes a ring's name away.

use quoit::{Presence, SeatInfo};

use crate::exit::{self, End};

/// Remove a ring
///
/// Processes that have it open go on with each other; nobody can open it any
/// more.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A plain name, or a path (with a slash)
    name: String,

    /// Even if somebody sits at it, or it is damaged; never what is no ring at all
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<End> {
    if !args.force {
        let info = quoit::inspect(&args.name)?;
        let here: Vec<String> = [("sender", &info.sender), ("receiver", &info.receiver)]
            .into_iter()
            .filter_map(|(role, seat)| held(role, seat))
            .collect();
        if !here.is_empty() {
            return Err(exit::failure(
                exit::FAILED,
                format!(
                    "ring {:?} is in use by its {}: end it first, or add --force",
                    args.name,
                    here.join(" and its ")
                ),
            ));
        }
    }
    quoit::unlink(&args.name)?;
    Ok(End::Done)
}

fn held(role: &str, seat: &SeatInfo) -> Option<String> {
    match (seat.presence, seat.pid) {
        (Presence::Present, 0) => Some(role.into()),
        (Presence::Present, pid) => Some(format!("{role} (process {pid})")),
        _ => None,
    }
}
