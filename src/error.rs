//! What can go wrong, in sentences. Knows names and numbers to put into them;
//! knows nothing of how anything went wrong.
//!
//! Every message says what happened, to which ring, why, and what to do about it.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// The name under which a ring was created or opened, as the caller gave it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RingName(Arc<str>);

impl RingName {
    pub(crate) fn new(name: &str) -> RingName {
        RingName(Arc::from(name))
    }

    /// The name as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Quoted, with control characters escaped: what error messages print.
impl fmt::Debug for RingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl AsRef<str> for RingName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Who has claimed the slot of a ring that a call waited for, and holds it.
///
/// Alive, as the kernel's lock says. It may be stopped: then the ring waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Holder {
    /// Its seat in the ring's table.
    pub seat: u32,
    /// `"sender"` or `"receiver"`.
    pub role: &'static str,
    /// Its process, as it numbers itself. 0: unknown, or this one.
    pub pid: u32,
}

impl Holder {
    /// Why a call that waited for it timed out.
    fn why(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} in seat {}", self.role, self.seat)?;
        if self.pid != 0 {
            write!(f, " (process {})", self.pid)?;
        }
        let what = match self.role {
            "sender" => "has claimed the next message and not committed it",
            _ => "has taken the next message and not released it",
        };
        write!(f, " {what}; it is alive, perhaps stopped: give it more time, or end it")
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in seat {}", self.role, self.seat)?;
        if self.pid == 0 { Ok(()) } else { write!(f, ", process {}", self.pid) }
    }
}

/// Why a call timed out: because of somebody, or for a reason that is nobody's.
struct Because<'a> {
    holder: &'a Option<Holder>,
    otherwise: &'static str,
}

impl fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.holder {
            Some(holder) => holder.why(f),
            None => f.write_str(self.otherwise),
        }
    }
}

/// Why a ring stayed full.
fn full(holder: &Option<Holder>) -> Because<'_> {
    let otherwise =
        "its receiver is slow, stopped or not there yet; try again, or give it more time";
    Because { holder, otherwise }
}

/// Why a ring stayed empty.
fn empty(holder: &Option<Holder>) -> Because<'_> {
    let otherwise =
        "its sender is silent, stopped or not there yet; try again, or give it more time";
    Because { holder, otherwise }
}

/// Writes one predicate for each variant, so that a caller need not import the enum
/// to ask the one question it has.
macro_rules! predicates {
    ($enum:ident { $($(#[$doc:meta])* $is:ident => $variant:pat,)* }) => {
        impl $enum {
            $($(#[$doc])*
            pub fn $is(&self) -> bool {
                matches!(self, $variant)
            })*
        }
    };
}

/// Why a ring could not be created, opened, looked at or unlinked.
///
/// ```
/// # #[cfg(target_os = "linux")] {
/// let error = quoit::OpenError::BadName { name: "..".into(), why: "it is a folder" };
/// assert!(error.is_bad_name() && !error.is_not_found());
/// assert!(error.to_string().starts_with("\"..\" can not name a ring: it is a folder"));
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no ring of that name.
    #[error(
        "ring {ring:?} does not exist: create it first, or let whoever comes first create it \
         with open_or_create"
    )]
    NotFound {
        /// The ring.
        ring: RingName,
    },
    /// The name is taken.
    #[error(
        "ring {ring:?} exists already: open it, or unlink it first if nobody needs it any more"
    )]
    AlreadyExists {
        /// The ring.
        ring: RingName,
    },
    /// Somebody else, who is alive, is this end of the ring.
    #[error(
        "ring {ring:?} has a {role} already, and it is alive: wait until it leaves, or use \
         another ring"
    )]
    SeatTaken {
        /// The ring.
        ring: RingName,
        /// `"sender"` or `"receiver"`.
        role: &'static str,
    },
    /// Every seat of the ring is somebody's who is alive.
    #[error(
        "all {seats} seats of ring {ring:?} are held by processes that are alive: wait until one \
         of them leaves, or use another ring"
    )]
    Crowded {
        /// The ring.
        ring: RingName,
        /// How many seats it has.
        seats: u32,
    },
    /// No ring can have that name. Nothing was asked of the kernel.
    #[error(
        "{name:?} can not name a ring: {why}; a plain name has 1 to 200 bytes and no leading \
         dot, a name with a '/' is the path of a file"
    )]
    BadName {
        /// The name as it was given.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The folder of the ring is missing, or not to be trusted.
    #[error("folder {path:?} can not hold rings: {why}")]
    BadFolder {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it, and the way out.
        why: String,
    },
    /// An option has a value that no ring can have.
    #[error("option {what} is not usable: {why}")]
    BadOption {
        /// The option's name.
        what: &'static str,
        /// What is wrong with its value, and the way out.
        why: String,
    },
    /// The ring exists, and was created with another value of an option that the
    /// caller asked for.
    #[error(
        "ring {ring:?} has {what} {found}, and {wanted} was asked for: ask for {found} or for \
         nothing, or unlink the ring first"
    )]
    Mismatch {
        /// The ring.
        ring: RingName,
        /// The option's name.
        what: &'static str,
        /// The ring's value.
        found: String,
        /// The caller's value.
        wanted: String,
    },
    /// What has that name is something else.
    #[error("{ring:?} is not a ring: {why}; choose another name, or remove what is there")]
    NotARing {
        /// The name.
        ring: RingName,
        /// What it is instead.
        why: &'static str,
    },
    /// The ring is of the other kind.
    #[error("ring {ring:?} is of kind {found}, and {wanted} was asked for: use quoit::{found}")]
    WrongKind {
        /// The ring.
        ring: RingName,
        /// The ring's kind.
        found: &'static str,
        /// The caller's kind.
        wanted: &'static str,
    },
    /// The ring was made by a version of this library that lays it out differently.
    #[error(
        "ring {ring:?} has layout version {found}, this build reads {supported}: use the same \
         version of quoit on both sides, or unlink the ring and create it again"
    )]
    Version {
        /// The ring.
        ring: RingName,
        /// The file's version.
        found: u32,
        /// The version that this build reads.
        supported: u32,
    },
    /// The file is shorter than the ring in it.
    #[error(
        "ring {ring:?} is cut short: its file has {found} bytes and needs {wanted}; somebody \
         truncated or copied it, so unlink it and create it again"
    )]
    Truncated {
        /// The ring.
        ring: RingName,
        /// The file's length in bytes.
        found: u64,
        /// The length that the ring needs.
        wanted: u64,
    },
    /// The file begins like a ring and contradicts itself.
    #[error("ring {ring:?} is damaged: its {what} is wrong; unlink it and create it again")]
    Corrupt {
        /// The ring.
        ring: RingName,
        /// The part of the header that is wrong.
        what: &'static str,
    },
    /// The ring's file belongs to a user whom the caller did not name.
    #[error(
        "ring {ring:?} belongs to user {uid}, who is neither the caller nor root: if that user \
         or the file's group is to be trusted, say so with accept_uid or accept_gid"
    )]
    NotOurs {
        /// The ring.
        ring: RingName,
        /// The owner of the file.
        uid: u32,
    },
    /// Every user of the machine may write to the ring.
    #[error(
        "ring {ring:?} has mode {mode:04o}, so every user of this machine can write to it: take \
         that right away (chmod o-w), or unlink the ring and create it again"
    )]
    TooOpen {
        /// The ring.
        ring: RingName,
        /// The mode of the file.
        mode: u32,
    },
    /// There is no room for the ring. Nothing was left behind.
    #[error(
        "no space for ring {ring:?}: it needs {wanted} bytes and {free} are free; use a smaller \
         capacity, make room, or put it elsewhere with a path or QUOIT_DIR"
    )]
    NoSpace {
        /// The ring.
        ring: RingName,
        /// The bytes that the ring needs.
        wanted: u64,
        /// The bytes that its filesystem had left.
        free: u64,
    },
    /// The kernel refused something else.
    #[error("ring {ring:?} is not usable: {doing} failed: {source}")]
    Os {
        /// The ring.
        ring: RingName,
        /// What was being done.
        doing: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

predicates!(OpenError {
    /// Whether there is no ring of that name.
    is_not_found => Self::NotFound { .. },
    /// Whether the name is taken.
    is_already_exists => Self::AlreadyExists { .. },
    /// Whether somebody else is this end of the ring.
    is_seat_taken => Self::SeatTaken { .. },
    /// Whether every seat of the ring is somebody's who is alive.
    is_crowded => Self::Crowded { .. },
    /// Whether no ring can have that name.
    is_bad_name => Self::BadName { .. },
    /// Whether the folder is missing or not to be trusted.
    is_bad_folder => Self::BadFolder { .. },
    /// Whether an option has an impossible value.
    is_bad_option => Self::BadOption { .. },
    /// Whether the ring has another value of an option that was asked for.
    is_mismatch => Self::Mismatch { .. },
    /// Whether what has that name is not a ring.
    is_not_a_ring => Self::NotARing { .. },
    /// Whether the ring is of the other kind.
    is_wrong_kind => Self::WrongKind { .. },
    /// Whether the ring has a layout that this build does not read.
    is_version => Self::Version { .. },
    /// Whether the file is shorter than the ring.
    is_truncated => Self::Truncated { .. },
    /// Whether the ring's header contradicts itself.
    is_corrupt => Self::Corrupt { .. },
    /// Whether the ring belongs to a user whom the caller did not name.
    is_not_ours => Self::NotOurs { .. },
    /// Whether every user may write to the ring.
    is_too_open => Self::TooOpen { .. },
    /// Whether there is no room for the ring.
    is_no_space => Self::NoSpace { .. },
    /// Whether the kernel refused something else.
    is_os => Self::Os { .. },
});

/// A ring that can not be used any more by this handle, whatever the operation.
///
/// ```
/// # use quoit::Fault;
/// fn is_hopeless(fault: &Fault) -> bool {
///     fault.is_corrupt() || fault.is_forked() || fault.is_truncated() || fault.is_os()
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The shared memory holds something that no correct peer writes.
    #[error(
        "ring {ring:?} is damaged: its {what} is wrong; a process that can write to it is \
         faulty or hostile, so unlink it and create it again"
    )]
    Corrupt {
        /// The ring.
        ring: RingName,
        /// The part that is wrong.
        what: &'static str,
    },
    /// The handle was inherited through `fork`. It belongs to the parent.
    #[error(
        "ring {ring:?} was opened before this process was forked, and the handle belongs to \
         the parent: open the ring again here"
    )]
    Forked {
        /// The ring.
        ring: RingName,
    },
    /// Somebody cut the ring's file short.
    #[error(
        "ring {ring:?} was cut short: its file has {found} bytes and needs {wanted}; unlink it \
         and create it again"
    )]
    Truncated {
        /// The ring.
        ring: RingName,
        /// The file's length in bytes.
        found: u64,
        /// The length that the ring needs.
        wanted: u64,
    },
    /// The kernel refused something.
    #[error("ring {ring:?} is not usable: {doing} failed: {source}")]
    Os {
        /// The ring.
        ring: RingName,
        /// What was being done.
        doing: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

predicates!(Fault {
    /// Whether the shared memory holds garbage.
    is_corrupt => Self::Corrupt { .. },
    /// Whether the handle belongs to the parent of this process.
    is_forked => Self::Forked { .. },
    /// Whether somebody cut the ring's file short.
    is_truncated => Self::Truncated { .. },
    /// Whether the kernel refused something.
    is_os => Self::Os { .. },
});

/// Why `send` did not send.
///
/// ```
/// # use quoit::SendError;
/// fn can_retry_shorter(error: &SendError) -> bool {
///     error.is_too_long() && !error.is_disconnected() && !error.is_fault()
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The receiver has left.
    #[error("ring {ring:?} has no receiver any more: send again when another has come, or stop")]
    Disconnected {
        /// The ring.
        ring: RingName,
    },
    /// The message can never fit.
    #[error(
        "a message of {len} bytes is too long for ring {ring:?}, which takes up to {max}: split \
         it, or create the ring with room for longer ones"
    )]
    TooLong {
        /// The ring.
        ring: RingName,
        /// The message's length.
        len: usize,
        /// The longest message that the ring takes.
        max: usize,
    },
    /// The ring can not be used any more.
    #[error(transparent)]
    Fault(#[from] Fault),
}

predicates!(SendError {
    /// Whether the receiver has left.
    is_disconnected => Self::Disconnected { .. },
    /// Whether the message can never fit.
    is_too_long => Self::TooLong { .. },
    /// Whether the ring can not be used any more.
    is_fault => Self::Fault(_),
});

/// Why `try_send` did not send.
///
/// ```
/// # use quoit::{SendError, TrySendError};
/// assert!(TrySendError::Full.is_full());
/// fn widen(error: SendError) -> TrySendError {
///     let error = TrySendError::from(error);
///     assert!(error.is_disconnected() || error.is_too_long() || error.is_fault());
///     error
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrySendError {
    /// There is no room now. Carries nothing: it is the answer of a fast path.
    #[error("the ring is full: try again when the receiver has received, or use send to wait")]
    Full,
    /// The receiver has left.
    #[error("ring {ring:?} has no receiver any more: send again when another has come, or stop")]
    Disconnected {
        /// The ring.
        ring: RingName,
    },
    /// The message can never fit.
    #[error(
        "a message of {len} bytes is too long for ring {ring:?}, which takes up to {max}: split \
         it, or create the ring with room for longer ones"
    )]
    TooLong {
        /// The ring.
        ring: RingName,
        /// The message's length.
        len: usize,
        /// The longest message that the ring takes.
        max: usize,
    },
    /// The ring can not be used any more.
    #[error(transparent)]
    Fault(#[from] Fault),
}

predicates!(TrySendError {
    /// Whether there is no room now.
    is_full => Self::Full,
    /// Whether the receiver has left.
    is_disconnected => Self::Disconnected { .. },
    /// Whether the message can never fit.
    is_too_long => Self::TooLong { .. },
    /// Whether the ring can not be used any more.
    is_fault => Self::Fault(_),
});

/// Why `send_timeout` or `send_deadline` did not send.
///
/// ```
/// # use quoit::{SendError, SendTimeoutError};
/// fn widen(error: SendError) -> SendTimeoutError {
///     let error = SendTimeoutError::from(error);
///     assert!(!error.is_timeout());
///     assert!(error.is_disconnected() || error.is_too_long() || error.is_fault());
///     error
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendTimeoutError {
    /// There was no room until the deadline.
    #[error("ring {ring:?} stayed full until the deadline: {}", full(.holder))]
    Timeout {
        /// The ring.
        ring: RingName,
        /// Who holds the slot that the call waited for, if that is known. Rings of bytes have no slots.
        holder: Option<Holder>,
    },
    /// The receiver has left.
    #[error("ring {ring:?} has no receiver any more: send again when another has come, or stop")]
    Disconnected {
        /// The ring.
        ring: RingName,
    },
    /// The message can never fit.
    #[error(
        "a message of {len} bytes is too long for ring {ring:?}, which takes up to {max}: split \
         it, or create the ring with room for longer ones"
    )]
    TooLong {
        /// The ring.
        ring: RingName,
        /// The message's length.
        len: usize,
        /// The longest message that the ring takes.
        max: usize,
    },
    /// The ring can not be used any more.
    #[error(transparent)]
    Fault(#[from] Fault),
}

predicates!(SendTimeoutError {
    /// Whether there was no room until the deadline.
    is_timeout => Self::Timeout { .. },
    /// Whether the receiver has left.
    is_disconnected => Self::Disconnected { .. },
    /// Whether the message can never fit.
    is_too_long => Self::TooLong { .. },
    /// Whether the ring can not be used any more.
    is_fault => Self::Fault(_),
});

/// Why `recv` returned without a message.
///
/// ```
/// # use quoit::RecvError;
/// fn is_end_of_stream(error: &RecvError) -> bool {
///     error.is_disconnected() && !error.is_fault()
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The sender has left and everything that it sent was received.
    #[error(
        "ring {ring:?} is drained and has no sender any more: receive again when another has \
         come, or stop"
    )]
    Disconnected {
        /// The ring.
        ring: RingName,
    },
    /// The ring can not be used any more.
    #[error(transparent)]
    Fault(#[from] Fault),
}

predicates!(RecvError {
    /// Whether the sender has left and the ring is drained.
    is_disconnected => Self::Disconnected { .. },
    /// Whether the ring can not be used any more.
    is_fault => Self::Fault(_),
});

/// Why `try_recv` returned without a message.
///
/// ```
/// # use quoit::{RecvError, TryRecvError};
/// assert!(TryRecvError::Empty.is_empty());
/// fn widen(error: RecvError) -> TryRecvError {
///     let error = TryRecvError::from(error);
///     assert!(error.is_disconnected() || error.is_fault());
///     error
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TryRecvError {
    /// There is no message now. Carries nothing: it is the answer of a fast path.
    #[error("the ring is empty: try again when the sender has sent, or use recv to wait")]
    Empty,
    /// The sender has left and everything that it sent was received.
    #[error(
        "ring {ring:?} is drained and has no sender any more: receive again when another has \
         come, or stop"
    )]
    Disconnected {
        /// The ring.
        ring: RingName,
    },
    /// The ring can not be used any more.
    #[error(transparent)]
    Fault(#[from] Fault),
}

predicates!(TryRecvError {
    /// Whether there is no message now.
    is_empty => Self::Empty,
    /// Whether the sender has left and the ring is drained.
    is_disconnected => Self::Disconnected { .. },
    /// Whether the ring can not be used any more.
    is_fault => Self::Fault(_),
});

/// Why `recv_timeout` or `recv_deadline` returned without a message.
///
/// ```
/// # use quoit::{RecvError, RecvTimeoutError};
/// fn widen(error: RecvError) -> RecvTimeoutError {
///     let error = RecvTimeoutError::from(error);
///     assert!(!error.is_timeout());
///     assert!(error.is_disconnected() || error.is_fault());
///     error
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecvTimeoutError {
    /// There was no message until the deadline.
    #[error("ring {ring:?} stayed empty until the deadline: {}", empty(.holder))]
    Timeout {
        /// The ring.
        ring: RingName,
        /// Who holds the slot that the call waited for, if that is known. Rings of bytes have no slots.
        holder: Option<Holder>,
    },
    /// The sender has left and everything that it sent was received.
    #[error(
        "ring {ring:?} is drained and has no sender any more: receive again when another has \
         come, or stop"
    )]
    Disconnected {
        /// The ring.
        ring: RingName,
    },
    /// The ring can not be used any more.
    #[error(transparent)]
    Fault(#[from] Fault),
}

predicates!(RecvTimeoutError {
    /// Whether there was no message until the deadline.
    is_timeout => Self::Timeout { .. },
    /// Whether the sender has left and the ring is drained.
    is_disconnected => Self::Disconnected { .. },
    /// Whether the ring can not be used any more.
    is_fault => Self::Fault(_),
});

impl From<SendError> for TrySendError {
    fn from(error: SendError) -> TrySendError {
        match error {
            SendError::Disconnected { ring } => TrySendError::Disconnected { ring },
            SendError::TooLong { ring, len, max } => TrySendError::TooLong { ring, len, max },
            SendError::Fault(fault) => TrySendError::Fault(fault),
        }
    }
}

impl From<SendError> for SendTimeoutError {
    fn from(error: SendError) -> SendTimeoutError {
        match error {
            SendError::Disconnected { ring } => SendTimeoutError::Disconnected { ring },
            SendError::TooLong { ring, len, max } => SendTimeoutError::TooLong { ring, len, max },
            SendError::Fault(fault) => SendTimeoutError::Fault(fault),
        }
    }
}

impl From<RecvError> for TryRecvError {
    fn from(error: RecvError) -> TryRecvError {
        match error {
            RecvError::Disconnected { ring } => TryRecvError::Disconnected { ring },
            RecvError::Fault(fault) => TryRecvError::Fault(fault),
        }
    }
}

impl From<RecvError> for RecvTimeoutError {
    fn from(error: RecvError) -> RecvTimeoutError {
        match error {
            RecvError::Disconnected { ring } => RecvTimeoutError::Disconnected { ring },
            RecvError::Fault(fault) => RecvTimeoutError::Fault(fault),
        }
    }
}

impl TrySendError {
    /// What a blocking call makes of it, once it has dealt with `Full`.
    pub(crate) fn still_room(self) -> SendError {
        match self {
            TrySendError::TooLong { ring, len, max } => SendError::TooLong { ring, len, max },
            TrySendError::Disconnected { ring } => SendError::Disconnected { ring },
            TrySendError::Fault(fault) => SendError::Fault(fault),
            // Callers have dealt with it.
            TrySendError::Full => SendError::Disconnected { ring: RingName::new("(channel)") },
        }
    }
}

impl SendTimeoutError {
    /// What a call without a deadline makes of it.
    pub(crate) fn without_deadline(self) -> SendError {
        match self {
            SendTimeoutError::TooLong { ring, len, max } => SendError::TooLong { ring, len, max },
            SendTimeoutError::Fault(fault) => SendError::Fault(fault),
            // `Timeout` cannot be: the deadline was never.
            SendTimeoutError::Disconnected { ring } | SendTimeoutError::Timeout { ring, .. } => {
                SendError::Disconnected { ring }
            }
        }
    }
}

impl RecvTimeoutError {
    /// What a call without a deadline makes of it.
    pub(crate) fn without_deadline(self) -> RecvError {
        match self {
            RecvTimeoutError::Fault(fault) => RecvError::Fault(fault),
            // `Timeout` cannot be: the deadline was never.
            RecvTimeoutError::Disconnected { ring } | RecvTimeoutError::Timeout { ring, .. } => {
                RecvError::Disconnected { ring }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    fn ring() -> RingName {
        RingName::new("ticks")
    }

    fn refused() -> io::Error {
        io::Error::from(io::ErrorKind::PermissionDenied)
    }

    fn open_errors() -> Vec<OpenError> {
        let (ring, why, what) = (ring(), "why not", "part");
        vec![
            OpenError::NotFound { ring: ring.clone() },
            OpenError::AlreadyExists { ring: ring.clone() },
            OpenError::SeatTaken { ring: ring.clone(), role: "sender" },
            OpenError::Crowded { ring: ring.clone(), seats: 1024 },
            OpenError::BadName { name: "ticks".into(), why },
            OpenError::BadFolder { path: "/ticks".into(), why: why.into() },
            OpenError::BadOption { what: "ticks", why: why.into() },
            OpenError::Mismatch { ring: ring.clone(), what, found: "1".into(), wanted: "2".into() },
            OpenError::NotARing { ring: ring.clone(), why },
            OpenError::WrongKind { ring: ring.clone(), found: "mpmc", wanted: "spsc" },
            OpenError::Version { ring: ring.clone(), found: 2, supported: 1 },
            OpenError::Truncated { ring: ring.clone(), found: 1, wanted: 2 },
            OpenError::Corrupt { ring: ring.clone(), what },
            OpenError::NotOurs { ring: ring.clone(), uid: 7 },
            OpenError::TooOpen { ring: ring.clone(), mode: 0o666 },
            OpenError::NoSpace { ring: ring.clone(), wanted: 2, free: 1 },
            OpenError::Os { ring, doing: "mapping it", source: refused() },
        ]
    }

    fn faults() -> Vec<Fault> {
        vec![
            Fault::Corrupt { ring: ring(), what: "tail" },
            Fault::Forked { ring: ring() },
            Fault::Truncated { ring: ring(), found: 1, wanted: 2 },
            Fault::Os { ring: ring(), doing: "waiting", source: refused() },
        ]
    }

    fn fault() -> Fault {
        Fault::Forked { ring: ring() }
    }

    fn is_a_sentence(error: &dyn Error) {
        let text = error.to_string();
        assert!(!text.ends_with('.'), "{text}");
        assert!(!text.contains('\n') && !text.contains("  "), "{text}");
        assert!(!text.starts_with(char::is_uppercase), "{text}");
    }

    #[test]
    fn every_open_error_is_a_sentence_that_names_its_ring() {
        for error in open_errors() {
            is_a_sentence(&error);
            assert!(error.to_string().contains("ticks"), "{error}");
        }
    }

    #[test]
    fn every_fault_is_a_sentence_that_names_its_ring() {
        for error in faults() {
            is_a_sentence(&error);
            assert!(error.to_string().contains("\"ticks\""), "{error}");
        }
    }

    #[test]
    fn each_open_error_answers_to_one_predicate_only() {
        let predicates = [
            OpenError::is_not_found,
            OpenError::is_already_exists,
            OpenError::is_seat_taken,
            OpenError::is_crowded,
            OpenError::is_bad_name,
            OpenError::is_bad_folder,
            OpenError::is_bad_option,
            OpenError::is_mismatch,
            OpenError::is_not_a_ring,
            OpenError::is_wrong_kind,
            OpenError::is_version,
            OpenError::is_truncated,
            OpenError::is_corrupt,
            OpenError::is_not_ours,
            OpenError::is_too_open,
            OpenError::is_no_space,
            OpenError::is_os,
        ];
        for (at, error) in open_errors().iter().enumerate() {
            for (of, predicate) in predicates.iter().enumerate() {
                assert_eq!(predicate(error), at == of, "{error:?}");
            }
        }
    }

    #[test]
    fn each_fault_answers_to_one_predicate_only() {
        let predicates = [Fault::is_corrupt, Fault::is_forked, Fault::is_truncated, Fault::is_os];
        for (at, error) in faults().iter().enumerate() {
            for (of, predicate) in predicates.iter().enumerate() {
                assert_eq!(predicate(error), at == of, "{error:?}");
            }
        }
    }

    fn send_errors() -> Vec<SendError> {
        vec![
            SendError::Disconnected { ring: ring() },
            SendError::TooLong { ring: ring(), len: 9, max: 8 },
            SendError::Fault(fault()),
        ]
    }

    #[test]
    fn a_send_error_keeps_its_meaning_and_its_words_on_the_way_up() {
        for (error, twin) in send_errors().into_iter().zip(send_errors()) {
            let is = (error.is_disconnected(), error.is_too_long(), error.is_fault());
            let text = error.to_string();
            is_a_sentence(&error);
            assert!(text.contains("\"ticks\""), "{text}");
            let tried = TrySendError::from(error);
            assert_eq!(is, (tried.is_disconnected(), tried.is_too_long(), tried.is_fault()));
            assert!(!tried.is_full());
            assert_eq!(text, tried.to_string());
            let timed = SendTimeoutError::from(twin);
            assert_eq!(is, (timed.is_disconnected(), timed.is_too_long(), timed.is_fault()));
            assert!(!timed.is_timeout());
            assert_eq!(text, timed.to_string());
        }
        assert!(SendTimeoutError::Timeout { ring: ring(), holder: None }.is_timeout());
        assert!(TrySendError::Full.is_full());
        is_a_sentence(&SendTimeoutError::Timeout { ring: ring(), holder: None });
        is_a_sentence(&TrySendError::Full);
    }

    #[test]
    fn a_recv_error_keeps_its_meaning_and_its_words_on_the_way_up() {
        let errors = || [RecvError::Disconnected { ring: ring() }, RecvError::Fault(fault())];
        for (error, twin) in errors().into_iter().zip(errors()) {
            let is = (error.is_disconnected(), error.is_fault());
            let text = error.to_string();
            is_a_sentence(&error);
            let tried = TryRecvError::from(error);
            assert_eq!(is, (tried.is_disconnected(), tried.is_fault()));
            assert!(!tried.is_empty());
            assert_eq!(text, tried.to_string());
            let timed = RecvTimeoutError::from(twin);
            assert_eq!(is, (timed.is_disconnected(), timed.is_fault()));
            assert!(!timed.is_timeout());
            assert_eq!(text, timed.to_string());
        }
        assert!(RecvTimeoutError::Timeout { ring: ring(), holder: None }.is_timeout());
        assert!(TryRecvError::Empty.is_empty());
        is_a_sentence(&RecvTimeoutError::Timeout { ring: ring(), holder: None });
        is_a_sentence(&TryRecvError::Empty);
    }

    #[test]
    fn a_timeout_names_who_held_the_call_up() {
        let sender = Holder { seat: 5, role: "sender", pid: 1234 };
        let receiver = Holder { seat: 6, role: "receiver", pid: 0 };
        assert_eq!(sender.to_string(), "sender in seat 5, process 1234");
        assert_eq!(receiver.to_string(), "receiver in seat 6");
        let error = RecvTimeoutError::Timeout { ring: ring(), holder: Some(sender) };
        is_a_sentence(&error);
        assert_eq!(
            error.to_string(),
            "ring \"ticks\" stayed empty until the deadline: the sender in seat 5 (process 1234) \
             has claimed the next message and not committed it; it is alive, perhaps stopped: give \
             it more time, or end it"
        );
        let error = SendTimeoutError::Timeout { ring: ring(), holder: Some(receiver) };
        is_a_sentence(&error);
        assert_eq!(
            error.to_string(),
            "ring \"ticks\" stayed full until the deadline: the receiver in seat 6 has taken the \
             next message and not released it; it is alive, perhaps stopped: give it more time, or \
             end it"
        );
    }

    #[test]
    fn a_timeout_that_is_nobodys_says_what_may_be_wrong() {
        let error = RecvTimeoutError::Timeout { ring: ring(), holder: None };
        assert_eq!(
            error.to_string(),
            "ring \"ticks\" stayed empty until the deadline: its sender is silent, stopped or not \
             there yet; try again, or give it more time"
        );
        let error = SendTimeoutError::Timeout { ring: ring(), holder: None };
        assert_eq!(
            error.to_string(),
            "ring \"ticks\" stayed full until the deadline: its receiver is slow, stopped or not \
             there yet; try again, or give it more time"
        );
    }

    #[test]
    fn the_kernels_answer_is_the_source() {
        let error = OpenError::Os { ring: ring(), doing: "mapping it", source: refused() };
        assert!(error.source().is_some());
        let error =
            SendError::Fault(Fault::Os { ring: ring(), doing: "waiting", source: refused() });
        assert!(error.source().is_some());
    }

    #[test]
    fn a_name_prints_as_it_is_and_is_escaped_where_it_is_quoted() {
        let name = RingName::new("a\u{1b}[2Jb");
        assert_eq!(name.to_string(), "a\u{1b}[2Jb");
        assert_eq!(format!("{name:?}"), "\"a\\u{1b}[2Jb\"");
        assert_eq!(format!("{:>8}|", RingName::new("ticks")), "   ticks|");
    }

    #[test]
    fn errors_cross_threads() {
        fn assert<T: Send + Sync + 'static>() {}
        assert::<OpenError>();
        assert::<SendTimeoutError>();
        assert::<RecvTimeoutError>();
    }
}
