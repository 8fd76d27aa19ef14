//! The parts of the measuring harness, and the face that a candidate shows to it.
//!
//! It knows that a candidate has two ways, that a message is bytes, and that each end is made after
//! the fork in the process that uses it. It refuses to know how bytes travel, how time is taken and
//! what a figure means.
//!
//! The face is not [`quoit_transports::Transport`], on purpose. That one shows what a safe program
//! sees of something finished: messages copied out, errors, ends that another program can take. The
//! questions of the harness are about what lies below: a message is read where it lies, and may be
//! answered before it is released; a candidate cannot fail, and gets bare memory before a fork.

use std::rc::Rc;

pub(crate) mod bare;
pub(crate) mod copy;
pub(crate) mod floor;
pub(crate) mod lengths;
pub(crate) mod proc;
pub(crate) mod quoit;
pub(crate) mod report;
pub(crate) mod textbook;
pub(crate) mod work;

use proc::Arena;
use work::Job;

/// One of the two directions between the client (parent) and the server (child).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Client to server.
    There,
    /// Server to client.
    Back,
}

/// A design that carries messages between the two processes.
///
/// To measure one more: implement the three traits in a file of its own and add a row to
/// `questions` in `harness.rs`. A candidate that finds its memory by name draws the name in
/// [`Candidate::lay`], ignores the arena and opens its ends in [`Candidate::tx`] and
/// [`Candidate::rx`], which run at the same time in the two processes: whoever comes first creates.
pub(crate) trait Candidate: Sized + 'static {
    /// The sending end.
    type Tx: Tx;
    /// The receiving end.
    type Rx: Rx;

    /// How many bytes of the arena each way takes at most.
    fn room(job: &Job) -> usize {
        // The ring with its index pages, or a slot.
        job.capacity.max(64 * 1024) + 64 * 1024
    }
    /// Runs once, before the fork. The arena is zeroed shared memory.
    fn lay(arena: &Rc<Arena>, job: &Job) -> Self;
    /// Runs after the fork, in the process that sends this way.
    fn tx(&self, way: Way) -> Self::Tx;
    /// Runs after the fork, in the process that receives this way.
    fn rx(&self, way: Way) -> Self::Rx;
}

/// The sending end of one way.
pub(crate) trait Tx {
    /// Sends one message, a whole number of words; spins while there is no room.
    fn send(&mut self, payload: &[u8]);
}

/// The receiving end of one way.
pub(crate) trait Rx {
    /// Spins for the next message, shows it, and releases it when `look` has returned.
    fn recv<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> R;
}
