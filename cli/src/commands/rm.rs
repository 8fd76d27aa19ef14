//! `quoit rm`: takes a ring's name away.

use quoit::{Info, Presence, SeatInfo};

use crate::exit::{self, End};
use crate::picture;

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
        let here: Vec<String> = picture::ends(&info)
            .into_iter()
            .filter_map(|(role, end)| held(&info, role, end))
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

fn held(info: &Info, role: &str, end: &SeatInfo) -> Option<String> {
    match (end.presence, picture::seated(info, role, Presence::Present), end.pid) {
        (Presence::Present, many @ 2.., _) => Some(format!("{many} {role}s")),
        (Presence::Present, _, 0) => Some(role.into()),
        (Presence::Present, _, pid) => Some(format!("{role} (process {pid})")),
        _ => None,
    }
}
