//! One file per command; each has its `Args` and a `run` that gives how it
//! ended.

pub(crate) mod completions;
pub(crate) mod create;
pub(crate) mod demo;
pub(crate) mod ls;
pub(crate) mod man;
pub(crate) mod recv;
pub(crate) mod rm;
pub(crate) mod send;
pub(crate) mod stat;

use quoit::{OpenError, Options};

use crate::args;
use crate::exit;

/// The ring is made if it is missing; shared by `send` and `recv`.
#[derive(Debug, clap::Args)]
pub(crate) struct Making {
    /// Make the ring if there is none
    #[arg(long)]
    create: bool,

    /// Size of a ring that is made: a power of two from 4KiB [default: 64KiB]
    #[arg(long, value_name = "SIZE", requires = "create", value_parser = args::size)]
    capacity: Option<usize>,
}

impl Making {
    /// Opens by `open`, or makes by `open_or_create` when that was asked for.
    fn open<E>(
        &self,
        name: &str,
        open: impl FnOnce(&str) -> Result<E, OpenError>,
        open_or_create: impl FnOnce(&str, &Options) -> Result<E, OpenError>,
    ) -> anyhow::Result<E> {
        if self.create {
            let mut options = Options::new();
            if let Some(capacity) = self.capacity {
                options = options.capacity(capacity);
            }
            return Ok(open_or_create(name, &options)?);
        }
        open(name).map_err(|error| match error {
            OpenError::NotFound { .. } => exit::failure(
                exit::NO_RING,
                format!(
                    "ring {name:?} does not exist: make it with `quoit create {name}`, \
                     or add --create"
                ),
            ),
            other => other.into(),
        })
    }
}
