//! The two ends of a ring, whichever kind of ring it is.
//!
//! Knows which module of the library has the end that a ring needs. Knows
//! nothing of what flows through it.

use std::time::{Duration, Instant};

use quoit::{
    Kind, OpenError, Options, Presence, RecvTimeoutError, RingName, SendError, SendTimeoutError,
    TryRecvError, TrySendError, mpmc, spsc,
};

/// Does the same with an end of either kind.
macro_rules! either {
    ($end:expr, $ring:ident => $do:expr) => {
        match $end {
            Self::Bytes($ring) => $do,
            Self::Slots($ring) => $do,
        }
    };
}

/// What both ends do in the same words.
macro_rules! ends {
    ($End:ident) => {
        impl $End {
            /// Opens a ring of either kind.
            pub(crate) fn open(name: &str) -> Result<Self, OpenError> {
                match spsc::$End::open(name) {
                    Err(OpenError::WrongKind { .. }) => mpmc::$End::open(name).map(Self::Slots),
                    opened => opened.map(Self::Bytes),
                }
            }

            /// Opens the ring, or makes it. Without a kind a ring of either is
            /// opened, and one of bytes is made.
            pub(crate) fn open_or_create(
                name: &str,
                kind: Option<Kind>,
                options: &Options,
            ) -> Result<Self, OpenError> {
                if kind == Some(Kind::Mpmc) {
                    return mpmc::$End::open_or_create(name, options).map(Self::Slots);
                }
                match spsc::$End::open_or_create(name, options) {
                    Err(OpenError::WrongKind { .. }) if kind.is_none() => Self::open(name),
                    opened => opened.map(Self::Bytes),
                }
            }

            pub(crate) fn name(&self) -> &RingName {
                either!(self, ring => ring.name())
            }

            /// How the end of the other side went that this one was told of.
            pub(crate) fn end(&self) -> Option<Presence> {
                either!(self, ring => ring.stats().end)
            }
        }
    };
}

/// The end that sends.
#[derive(Debug)]
pub(crate) enum Sender {
    Bytes(spsc::Sender),
    Slots(mpmc::Sender),
}

ends!(Sender);

impl Sender {
    pub(crate) fn max_len(&self) -> usize {
        either!(self, ring => ring.max_len())
    }

    /// A good size for the messages of a stream that may be cut anywhere: of a
    /// ring of bytes several fit in.
    pub(crate) fn piece(&self) -> usize {
        match self {
            Self::Bytes(ring) => (ring.capacity() / 4).saturating_sub(64).min(ring.max_len()),
            Self::Slots(ring) => ring.max_len(),
        }
    }

    pub(crate) fn try_send_batch(&mut self, messages: &[&[u8]]) -> Result<usize, TrySendError> {
        either!(self, ring => ring.try_send_batch(messages))
    }

    pub(crate) fn send_batch(&mut self, messages: &[&[u8]]) -> Result<usize, SendError> {
        either!(self, ring => ring.send_batch(messages))
    }

    pub(crate) fn send_batch_timeout(
        &mut self,
        messages: &[&[u8]],
        timeout: Duration,
    ) -> Result<usize, SendTimeoutError> {
        either!(self, ring => ring.send_batch_timeout(messages, timeout))
    }
}

/// The end that receives.
#[derive(Debug)]
pub(crate) enum Receiver {
    Bytes(spsc::Receiver),
    Slots(mpmc::Receiver),
}

ends!(Receiver);

impl Receiver {
    pub(crate) fn set_keep_open(&mut self, on: bool) {
        either!(self, ring => ring.set_keep_open(on));
    }

    pub(crate) fn try_recv(&mut self) -> Result<Message<'_>, TryRecvError> {
        match self {
            Self::Bytes(ring) => ring.try_recv().map(Message::Bytes),
            Self::Slots(ring) => ring.try_recv().map(Message::Slots),
        }
    }

    pub(crate) fn recv_deadline(
        &mut self,
        deadline: Instant,
    ) -> Result<Message<'_>, RecvTimeoutError> {
        match self {
            Self::Bytes(ring) => ring.recv_deadline(deadline).map(Message::Bytes),
            Self::Slots(ring) => ring.recv_deadline(deadline).map(Message::Slots),
        }
    }
}

/// A message in hand. Dropped, it is released.
#[derive(Debug)]
pub(crate) enum Message<'a> {
    Bytes(spsc::Message<'a>),
    Slots(mpmc::Message<'a>),
}

impl Message<'_> {
    pub(crate) fn len(&self) -> usize {
        either!(self, message => message.len())
    }

    pub(crate) fn copy_to(&self, to: &mut [u8]) -> usize {
        either!(self, message => message.copy_to(to))
    }

    /// It will be delivered again.
    pub(crate) fn give_back(self) {
        either!(self, message => message.give_back());
    }
}
