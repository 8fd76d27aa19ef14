//! One file per command; each has its `Args` and a `run` that gives how it
//! ended.

pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod create;
pub(crate) mod demo;
pub(crate) mod ls;
pub(crate) mod man;
pub(crate) mod recover;
pub(crate) mod recv;
pub(crate) mod rm;
pub(crate) mod send;
pub(crate) mod stat;

use quoit::{Kind, OpenError, Options};

use crate::args;
use crate::exit;

/// What ring to make; shared by `create`, `send` and `recv`.
#[derive(Debug, clap::Args)]
pub(crate) struct Shape {
    /// Make it for many senders and many receivers, with slots of one length
    #[arg(long)]
    mpmc: bool,

    /// Its room for messages, without --mpmc: a power of two from 4KiB [default: 64KiB]
    #[arg(long, value_name = "SIZE", value_parser = args::size)]
    capacity: Option<usize>,

    /// Its room with --mpmc, in messages: a power of two from 2 [default: 1024]
    #[arg(long, value_name = "N")]
    slots: Option<usize>,

    /// Its longest message with --mpmc [default: 256]
    #[arg(long, value_name = "SIZE", value_parser = args::size)]
    max_message: Option<usize>,
}

impl Shape {
    /// The kind, as far as it was said.
    fn kind(&self) -> anyhow::Result<Option<Kind>> {
        let of_slots = self.slots.is_some() || self.max_message.is_some();
        match (self.mpmc, self.capacity.is_some()) {
            (true, true) => Err(usage(
                "--capacity is the size of a ring of bytes; one with --mpmc has --slots and \
                 --max-message",
            )),
            (false, _) if of_slots => Err(usage(
                "--slots and --max-message are of a ring with --mpmc: add it, or say --capacity",
            )),
            (true, _) => Ok(Some(Kind::Mpmc)),
            (false, true) => Ok(Some(Kind::Spsc)),
            (false, false) => Ok(None),
        }
    }

    fn options(&self) -> Options {
        let mut options = Options::new();
        if let Some(capacity) = self.capacity.or(self.slots) {
            options = options.capacity(capacity);
        }
        if let Some(longest) = self.max_message {
            options = options.max_len(longest);
        }
        options
    }

    /// An error in the words of the command line.
    fn in_our_words(&self, error: OpenError) -> anyhow::Error {
        match error {
            OpenError::BadOption { what: "capacity", why } if self.mpmc => {
                usage(format!("option --slots is not usable: {why}"))
            }
            OpenError::BadOption { what: "max_len", why } => {
                usage(format!("option --max-message is not usable: {why}"))
            }
            OpenError::WrongKind { ring, found, wanted } => exit::failure(
                exit::INCOMPATIBLE,
                format!(
                    "ring {ring:?} exists and is of kind {found}, and {wanted} was asked for: \
                     leave out what a new ring would be, or remove it first"
                ),
            ),
            other => other.into(),
        }
    }
}

fn usage(text: impl Into<String>) -> anyhow::Error {
    exit::failure(exit::USAGE, text)
}

/// The ring is made if it is missing; shared by `send` and `recv`.
#[derive(Debug, clap::Args)]
pub(crate) struct Making {
    /// Make the ring if there is none: --mpmc, --capacity, --slots and --max-message say how
    #[arg(long)]
    create: bool,

    #[command(flatten)]
    shape: Shape,
}

impl Making {
    /// Opens by `open`, or makes by `open_or_create` when that was asked for.
    fn open<E>(
        &self,
        name: &str,
        open: impl FnOnce(&str) -> Result<E, OpenError>,
        open_or_create: impl FnOnce(&str, Option<Kind>, &Options) -> Result<E, OpenError>,
    ) -> anyhow::Result<E> {
        let kind = self.shape.kind()?;
        if self.create {
            return open_or_create(name, kind, &self.shape.options())
                .map_err(|error| self.shape.in_our_words(error));
        }
        if kind.is_some() {
            return Err(usage(
                "--mpmc, --slots, --max-message and --capacity say what ring to make: add --create",
            ));
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
