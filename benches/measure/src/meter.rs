//! What a work takes of the machine, from its first message to its last.
//!
//! It knows the two points between which that is taken: both ends are there and prepared, and the last message has
//! passed. It refuses to know what lies between them. What an end needs for its work is made before the first point, and
//! given back behind the second.

use std::io;
use std::sync::atomic::Ordering::Release;

use nix::sys::resource::UsageWho;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quoit_transports::Board;

use crate::end::{Usage, until};

/// The word of the board where both ends meet; those before it are the floor's and the works'.
const MET: usize = 11;

/// One end's.
pub(crate) struct Meter<'a> {
    board: &'a Board,
    who: UsageWho,
    /// Whom to signal at both points, where somebody counts the calls between them (`calls`): this process. It is asked for
    /// before the first.
    marks: Option<Pid>,
    begun: Option<Usage>,
    usage: Option<Usage>,
}

impl Meter<'_> {
    pub(crate) fn new(board: &Board, who: UsageWho, marks: bool) -> Meter<'_> {
        Meter { board, who, marks: marks.then(Pid::this), begun: None, usage: None }
    }

    /// This end is prepared: waits until the other is as well. Once in a run.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        let met = self.board.word(MET);
        // Release, and Acquire in `until`: nothing that the works store is older than this.
        met.fetch_add(1, Release);
        until(met, |met| met >= 2);
        self.begun = Some(Usage::of(self.who)?);
        self.mark()
    }

    /// The last message has passed.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        self.mark()?;
        let now = Usage::of(self.who)?;
        self.usage = self.begun.take().map(|begun| now.since(begun));
        Ok(())
    }

    fn mark(&self) -> io::Result<()> {
        if let Some(this) = self.marks {
            kill(this, Signal::SIGURG)?;
        }
        Ok(())
    }

    /// What was taken between the two points.
    pub(crate) fn usage(self) -> io::Result<Usage> {
        self.usage.ok_or_else(|| io::Error::other("a work did not say when it began and ended"))
    }
}
