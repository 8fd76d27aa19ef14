//! Who is measured: transports between two processes and channels between two threads, in the order of the tables.
//!
//! It knows a word, a place and what to call. It refuses to know any transport by name.

use std::cmp::Ordering;
use std::io;
use std::os::unix::net::UnixStream;

use quoit_transports::{Kit, Laid, Refusal, Rx, Shape, Transport, Tx, Wait};
use serde::{Serialize, Serializer};

use crate::end::{self, Job, Outcome};
use crate::work::Work;

/// Between whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Two processes.
    Processes,
    /// Two threads of one process.
    Threads,
}

impl Place {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Place::Processes => "processes",
            Place::Threads => "threads",
        }
    }
}

/// A channel between threads of one process. The thread that will use neither end makes it.
pub trait Channel {
    /// The sending end.
    type Tx: Tx + Send + 'static;
    /// The receiving end.
    type Rx: Rx + Send + 'static;

    /// Makes one way.
    fn make(shape: &Shape) -> Result<(Self::Tx, Self::Rx), Refusal>;
}

/// A channel whose ends may be many.
pub trait Crowded: Channel {
    /// One more end of each kind, of the same channel.
    fn more(tx: &Self::Tx, rx: &Self::Rx) -> (Self::Tx, Self::Rx);
}

/// What a process of the bench does for its job; it hears from its parent when to begin.
pub type Run = fn(&Job, Kit, &mut UnixStream) -> io::Result<Vec<Outcome>>;

/// What stands behind a word.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    place: Place,
    queues: bool,
    sleeps: bool,
    lay: Lay,
    run: Run,
    crowd: Option<Run>,
}

impl Kind {
    /// A transport between two processes.
    pub fn apart<T: Transport>() -> Kind {
        Kind {
            place: Place::Processes,
            queues: T::QUEUES,
            sleeps: T::SLEEPS,
            lay: Lay::Out(T::lay),
            run: end::apart::<T>,
            crowd: None,
        }
    }

    /// A channel between two threads. `fits` refuses messages that it cannot carry; `crowd` is for two and two.
    pub fn together(fits: fn(&Shape) -> Result<(), Refusal>, run: Run, crowd: Option<Run>) -> Kind {
        Kind {
            place: Place::Threads,
            queues: true,
            sleeps: false,
            lay: Lay::Nothing(fits),
            run,
            crowd,
        }
    }
}

/// How it is laid out before its processes are started.
#[derive(Clone, Copy, Debug)]
enum Lay {
    Out(fn(&Shape) -> Result<Laid, Refusal>),
    /// Nothing to lay out.
    Nothing(fn(&Shape) -> Result<(), Refusal>),
}

/// One that is measured, by its place in the field.
#[derive(Clone, Copy, Debug)]
pub struct Entrant {
    rank: usize,
    word: &'static str,
    kind: Kind,
}

/// The field: all that may be asked for.
pub fn field(all: impl IntoIterator<Item = (&'static str, Kind)>) -> Vec<Entrant> {
    all.into_iter().enumerate().map(|(rank, (word, kind))| Entrant { rank, word, kind }).collect()
}

impl Entrant {
    /// The word for it.
    pub fn word(&self) -> &'static str {
        self.word
    }

    /// Between whom it carries messages.
    pub fn place(&self) -> Place {
        self.kind.place
    }

    /// Whether it has one slot and no queue.
    pub(crate) fn is_slot(&self) -> bool {
        !self.kind.queues
    }

    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    /// Lays it out; there is nothing to lay out between threads.
    pub(crate) fn lay(&self, shape: &Shape) -> Result<Laid, Refusal> {
        match self.kind.lay {
            Lay::Out(lay) => lay(shape),
            Lay::Nothing(fits) => fits(shape).map(|()| Laid {
                client: Kit::default(),
                server: Kit::default(),
                names: Vec::new(),
            }),
        }
    }

    /// What its processes do.
    pub(crate) fn run(&self, work: Work) -> Run {
        match work {
            Work::Crowd => self.kind.crowd.unwrap_or(self.kind.run),
            _ => self.kind.run,
        }
    }

    /// Whether that is asked of it at all: two and two only of those that may be.
    pub(crate) fn is_asked(&self, work: Work) -> bool {
        work != Work::Crowd || self.kind.crowd.is_some()
    }

    /// What makes no sense for it, and why.
    pub(crate) fn senseless(&self, work: Work, wait: Wait) -> Option<&'static str> {
        if self.kind.place == Place::Threads && wait != Wait::Spin {
            Some("between threads it is only asked to spin")
        } else if !self.kind.sleeps && wait != Wait::Spin {
            Some("there is nothing that could sleep: it only spins")
        } else if !self.kind.queues && work != Work::Roundtrip {
            Some("one slot holds one message: it only answers")
        } else if work == Work::Wake && wait == Wait::Spin {
            Some("who spins does not sleep")
        } else {
            None
        }
    }
}

impl PartialEq for Entrant {
    fn eq(&self, other: &Entrant) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Entrant {}

impl PartialOrd for Entrant {
    fn partial_cmp(&self, other: &Entrant) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entrant {
    fn cmp(&self, other: &Entrant) -> Ordering {
        self.rank.cmp(&other.rank)
    }
}

impl Serialize for Entrant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word)
    }
}
