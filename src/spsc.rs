//! One sender, one receiver, messages of any length.
//!
//! Knows what a user means by each call. Knows nothing of words and lines.
//!
//! The verbs are those of `std::sync::mpsc`. Each comes four ways: `try_send` answers at once, [`send`](Sender::send)
//! waits, `send_timeout` and `send_deadline` wait for a while. What is sent is copied into the ring, and
//! [`recv`](Receiver::recv) answers a [`Message`], a guard on the ring's own memory: dropping it releases the space.
//!
//! ```
//! use quoit::{Options, spsc};
//!
//! let (mut tx, mut rx) = spsc::channel(&Options::new())?;
//! std::thread::spawn(move || tx.send(b"hello"));
//! assert_eq!(rx.recv()?.to_vec(), b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Between processes the ring has a name, and each end opens it: see [`Sender::open_or_create`] and
//! [`Receiver::open_or_create`].

use core::cell::Cell;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::time::Duration;
use std::time::Instant;

use crate::blocking::{self, Side, Stop, Tie};
use crate::draft::Draft;
use crate::error::{
    Fault, OpenError, RecvError, RecvTimeoutError, RingName, SendError, SendTimeoutError,
    TryRecvError, TrySendError,
};
use crate::layout::geometry::Geometry;
use crate::layout::view::View;
use crate::link::{Behind, Link};
use crate::options::{Delivery, Options, Wait};
use crate::region;
use crate::ring::spsc::{Claim, Consumer, Producer};
use crate::ring::{Damage, Refused};
use crate::roster::{Presence, Receiving, Role, Sending};
use crate::sync::{self, Deadline};

/// What a handle has seen. The counters are those of its end of the ring, over all its holders; they are exact for the
/// handle that asks and news for everybody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages sent, or received and released. 0 where the ring's memory is not: in a forked child, and when the file was cut
    /// short.
    pub messages: u64,
    /// Bytes of payload in them; 0 as above.
    pub bytes: u64,
    /// Times a call found nothing to do and waited.
    pub waits: u64,
    /// Times this end had to wake the other by a system call.
    pub wakes: u64,
    /// Messages delivered again because a receiver died, panicked or gave them back. 0 for a sender.
    pub redelivered: u64,
    /// Messages counted lost with a receiver that died ([`Delivery::AtMostOnce`]). 0 for a sender.
    pub lost: u64,
    /// The other end, as the kernel's lock tells it now.
    pub peer: Presence,
    /// How the end went that this handle was told of last (`Disconnected`): [`Presence::Left`] when the other end let go of it,
    /// [`Presence::Died`] when it died, or one before it did since this handle was opened or last told; then what it had
    /// still to send or receive is missing. `None` before any end.
    pub end: Option<Presence>,
    /// The ring's file has lost its name: those who hold it go on with each other, nobody else will find it.
    pub unlinked: bool,
}

/// Makes the ring `name` without taking either end of it.
///
/// # Errors
///
/// [`OpenError::AlreadyExists`], and whatever keeps the file from being made.
#[cfg(all(
    target_os = "linux",
    not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
))]
pub fn create(name: &str, options: &Options) -> Result<(), OpenError> {
    crate::endpoint::Endpoint::make(name, crate::endpoint::Kind::Spsc, options)
}

/// A ring of this process alone: the two ends go to two threads.
///
/// It lives on the heap and has no name. All waits are private to the process, so nothing needs slices or locks; a handle
/// that is dropped tells the other at once. [`Options::mode`] and what else concerns files is ignored.
///
/// # Errors
///
/// [`OpenError::BadOption`] for a capacity that no ring can have. Memory that the process cannot have ends it, as any other
/// allocation does.
pub fn channel(options: &Options) -> Result<(Sender, Receiver), OpenError> {
    options.check_bytes()?;
    let ring = Geometry::new(options.get_capacity()).ok_or_else(|| OpenError::BadOption {
        what: "capacity",
        why: String::from("is not a power of two"),
    })?;
    let view = region::heap(ring, options.get_start());
    let name = RingName::new("(channel)");
    let sender = Sender::over(view.clone(), name.clone(), None, options.get_keep_open())?;
    let at_most_once = options.get_delivery() == Delivery::AtMostOnce;
    let receiver = Receiver::over(view, name, None, options.get_keep_open(), at_most_once)?;
    Ok((sender, receiver))
}

/// A sender on a full ring waits so many times as long for a stretch as a receiver looks for one message: some tens of
/// microseconds, in which a receiver that is at work frees it.
const STRETCH_LOOKS: u32 = 8;

fn os_error(name: &RingName, doing: &'static str, source: std::io::Error) -> OpenError {
    OpenError::Os { ring: name.clone(), doing, source }
}

fn corrupt(name: &RingName, refused: Refused) -> OpenError {
    OpenError::Corrupt { ring: name.clone(), what: damage(refused).what() }
}

/// What an attaching or receiving side refuses for: it never finds a ring full, nor a message too long.
fn damage(refused: Refused) -> Damage {
    match refused {
        Refused::Corrupt(damage) => damage,
        Refused::Full | Refused::TooLong => Damage::Overrun,
    }
}

macro_rules! opening {
    ($role:ident) => {
        /// Opens the ring of a modelled process and takes this end.
        ///
        /// # Errors
        ///
        /// As opening a ring by its name.
        #[doc(hidden)]
        #[cfg(any(all(loom, feature = "model"), all(shuttle, feature = "model")))]
        pub fn of(process: &crate::endpoint::Process) -> Result<Self, OpenError> {
            Self::behind(process.open(Some(Role::$role))?)
        }

        /// Makes the ring `name` and takes this end of it.
        ///
        /// A plain name is a file in the folder of plain names (`/dev/shm/quoit-<uid>`, or `QUOIT_DIR`); a name with a `/`
        /// is a path.
        ///
        /// # Errors
        ///
        /// [`OpenError::AlreadyExists`], [`OpenError::NoSpace`], and whatever else keeps the file from being made. Nothing
        /// is left behind.
        #[cfg(all(
            target_os = "linux",
            not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
        ))]
        pub fn create(name: &str, options: &Options) -> Result<Self, OpenError> {
            use crate::endpoint::{Endpoint, Kind};
            Endpoint::create_and(name, Kind::Spsc, Some(Role::$role), options, Self::behind)
        }

        /// Opens the ring `name` and takes this end of it.
        ///
        /// # Errors
        ///
        /// [`OpenError::NotFound`]; [`OpenError::SeatTaken`] at once when somebody holds this end; and one error of its own
        /// for each thing that a file may be instead of a ring of this user. The file is not changed then.
        #[cfg(all(
            target_os = "linux",
            not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
        ))]
        pub fn open(name: &str) -> Result<Self, OpenError> {
            Self::open_with(name, &Options::new())
        }

        /// Opens the ring `name`, accepting an owner that `options` names ([`Options::accept_uid`],
        /// [`Options::accept_gid`]).
        ///
        /// # Errors
        ///
        /// As [`open`](Self::open); and [`OpenError::Mismatch`] when an option that was given differs from the ring's.
        #[cfg(all(
            target_os = "linux",
            not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
        ))]
        pub fn open_with(name: &str, options: &Options) -> Result<Self, OpenError> {
            use crate::endpoint::{Endpoint, Kind};
            Self::behind(Endpoint::open(name, Kind::Spsc, Some(Role::$role), options)?)
        }

        /// Opens the ring `name`, or makes it: whichever process comes first makes it.
        ///
        /// # Errors
        ///
        /// As [`open_with`](Self::open_with) and [`create`](Self::create).
        #[cfg(all(
            target_os = "linux",
            not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
        ))]
        pub fn open_or_create(name: &str, options: &Options) -> Result<Self, OpenError> {
            use crate::endpoint::{Endpoint, Kind};
            Self::behind(Endpoint::open_or_create(name, Kind::Spsc, Some(Role::$role), options)?)
        }
    };
}

macro_rules! common {
    () => {
        /// How this handle waits from now on.
        pub fn set_wait(&mut self, wait: Wait) {
            self.link.wait = wait;
        }

        /// Whether this handle, from now on, waits for the next peer instead of reporting `Disconnected`. What a ring was
        /// made with ([`Options::keep_open`]) is the default.
        pub fn set_keep_open(&mut self, on: bool) {
            self.link.set_keep_open(on);
        }

        /// Bytes in the ring, headers and pads included: what this lies within is settled by [`Options::capacity`].
        pub fn capacity(&self) -> usize {
            self.ring.view().ring().capacity() as usize
        }

        /// The longest message that is sure to fit, in bytes: a little less than half the capacity.
        pub fn max_len(&self) -> usize {
            self.ring.view().ring().max_len() as usize
        }

        /// The ring's name, as it was opened.
        pub fn name(&self) -> &RingName {
            self.link.name()
        }
    };
}

/// The sending end. One thread at a time uses it; it may move between threads.
///
/// Dropping it lets go of the end: the receiver gets what was sent, then `Disconnected`. Dying does the same, a little
/// later.
pub struct Sender {
    ring: Producer,
    link: Link<Sending>,
    _one_thread: PhantomData<Cell<()>>,
}

impl core::fmt::Debug for Sender {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Sender").field("ring", self.link.name()).finish_non_exhaustive()
    }
}

impl Side for Sender {
    type Tie = Link<Sending>;

    fn tie(&mut self) -> &mut Link<Sending> {
        &mut self.link
    }
}

impl Sender {
    opening!(Sender);

    #[cfg(any(target_os = "linux", all(loom, feature = "model"), all(shuttle, feature = "model")))]
    fn behind(endpoint: Behind) -> Result<Self, OpenError> {
        let (view, name, keep_open) =
            (endpoint.view()?, endpoint.name().clone(), endpoint.keep_open());
        Self::over(view, name, Some(endpoint), keep_open)
    }

    fn over(
        view: View,
        name: RingName,
        behind: Option<Behind>,
        keep_open: bool,
    ) -> Result<Self, OpenError> {
        let ring = Producer::attach(view.clone()).map_err(|refused| corrupt(&name, refused))?;
        let link = Link::join(view, name.clone(), behind, keep_open)
            .map_err(|source| os_error(&name, "taking the sender's end", source))?;
        let mut sender = Self { ring, link, _one_thread: PhantomData };
        // A receiver that waits for whoever comes next may go by the index now.
        sender.link.notify();
        Ok(sender)
    }

    /// Sends a message if there is room for it now. Never waits, never calls the kernel unless the receiver sleeps; on a full
    /// ring it asks the kernel, every 10 ms at most, whether the receiver is alive.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`]; [`TrySendError::TooLong`]; [`TrySendError::Disconnected`] when the last receiver has let go
    /// of its end, or has died and the ring is full; [`TrySendError::Fault`] when this handle is of no more use. The
    /// message is not sent then.
    #[inline]
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), TrySendError> {
        if self.link.unusual() {
            self.check()?;
        }
        match self.ring.try_send(message) {
            Ok(()) => {
                self.link.notify();
                Ok(())
            }
            Err(refused) => Err(self.refused(refused, message.len())),
        }
    }

    /// Sends a message, waiting for room. `Ok` means committed: it is delivered even if this process dies at once.
    ///
    /// # Errors
    ///
    /// [`SendError::Disconnected`] when the last receiver is gone and there is no hope of room, [`SendError::TooLong`],
    /// [`SendError::Fault`]. The message is not sent then.
    #[inline]
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        match self.try_send(message) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full) => {
                self.send_slow(message, Deadline::NEVER).map_err(SendTimeoutError::without_deadline)
            }
            Err(error) => Err(error.still_room()),
        }
    }

    /// Sends a message, waiting for room at most `timeout`. A timeout that overflows the clock means for ever.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`SendTimeoutError::Timeout`] after at least one try.
    pub fn send_timeout(
        &mut self,
        message: &[u8],
        timeout: Duration,
    ) -> Result<(), SendTimeoutError> {
        self.send_until(message, Deadline::after(timeout))
    }

    /// Sends a message, waiting for room until `deadline` at most. A deadline in the past is one try.
    ///
    /// # Errors
    ///
    /// As [`send_timeout`](Self::send_timeout).
    pub fn send_deadline(
        &mut self,
        message: &[u8],
        deadline: Instant,
    ) -> Result<(), SendTimeoutError> {
        self.send_until(message, Deadline::at(deadline))
    }

    fn send_until(&mut self, message: &[u8], deadline: Deadline) -> Result<(), SendTimeoutError> {
        match self.try_send(message) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full) => self.send_slow(message, deadline),
            Err(error) => Err(error.still_room().into()),
        }
    }

    #[cold]
    fn send_slow(&mut self, message: &[u8], deadline: Deadline) -> Result<(), SendTimeoutError> {
        let sent = self.until_room(deadline, |ring| ring.try_send(message));
        match sent {
            Ok(()) => {
                self.link.notify();
                Ok(())
            }
            Err(stop) => Err(self.stopped(stop, message.len())),
        }
    }

    /// Sends as many of `messages`, from the first on, as there is room for now, and makes them visible at one point:
    /// the receiver sees none of them or all. Answers how many.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send), and then nothing is sent; one message that is too long refuses the whole call.
    pub fn try_send_batch<B: AsRef<[u8]>>(
        &mut self,
        messages: &[B],
    ) -> Result<usize, TrySendError> {
        if self.link.unusual() {
            self.check()?;
        }
        self.check_lengths(messages)?;
        match self.ring.try_send_batch(messages) {
            Ok(sent) => {
                self.link.notify();
                Ok(sent)
            }
            Err(refused) => {
                let first = messages.first().map_or(0, |message| message.as_ref().len());
                Err(self.refused(refused, first))
            }
        }
    }

    /// Sends `messages` in order, waiting for room, in prefixes that each become visible at one point. Answers how many
    /// were sent: all of them, or fewer when the receiver went in between; the next call then says so.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), when nothing at all was sent; one message that is too long refuses the whole call before
    /// a byte is written.
    pub fn send_batch<B: AsRef<[u8]>>(&mut self, messages: &[B]) -> Result<usize, SendError> {
        self.batch_until(messages, Deadline::NEVER).map_err(SendTimeoutError::without_deadline)
    }

    /// As [`send_batch`](Self::send_batch), waiting at most `timeout` in all.
    ///
    /// # Errors
    ///
    /// As [`send_batch`](Self::send_batch), and [`SendTimeoutError::Timeout`] when nothing was sent in time.
    pub fn send_batch_timeout<B: AsRef<[u8]>>(
        &mut self,
        messages: &[B],
        timeout: Duration,
    ) -> Result<usize, SendTimeoutError> {
        self.batch_until(messages, Deadline::after(timeout))
    }

    /// As [`send_batch`](Self::send_batch), waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`send_batch_timeout`](Self::send_batch_timeout).
    pub fn send_batch_deadline<B: AsRef<[u8]>>(
        &mut self,
        messages: &[B],
        deadline: Instant,
    ) -> Result<usize, SendTimeoutError> {
        self.batch_until(messages, Deadline::at(deadline))
    }

    fn batch_until<B: AsRef<[u8]>>(
        &mut self,
        messages: &[B],
        deadline: Deadline,
    ) -> Result<usize, SendTimeoutError> {
        let mut sent = 0;
        while sent < messages.len() {
            let rest = &messages[sent..];
            let tried = match self.try_send_batch(rest) {
                Ok(now) => Ok(now),
                Err(TrySendError::Full) => self.batch_slow(rest, deadline),
                Err(error) => Err(error.still_room().into()),
            };
            match tried {
                Ok(now) => sent += now,
                Err(_) if sent > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    #[cold]
    fn batch_slow<B: AsRef<[u8]>>(
        &mut self,
        messages: &[B],
        deadline: Deadline,
    ) -> Result<usize, SendTimeoutError> {
        let sent = self.until_room(deadline, |ring| ring.try_send_batch(messages));
        match sent {
            Ok(sent) => {
                self.link.notify();
                Ok(sent)
            }
            Err(stop) => Err(self.stopped(stop, 0)),
        }
    }

    /// Waits until `attempt` finds room, the receiver is gone, or the deadline has passed.
    fn until_room<T>(
        &mut self,
        deadline: Deadline,
        mut attempt: impl FnMut(&mut Producer) -> Result<T, Refused>,
    ) -> Result<T, Stop<Refused>> {
        // Perhaps the receiver is just making it.
        if !deadline.passed() {
            let pauses = self.link.wait.looks() * STRETCH_LOOKS;
            self.ring.wait_for_stretch(pauses).map_err(Stop::Refused)?;
        }
        blocking::until(self, deadline, |this| match attempt(&mut this.ring) {
            Ok(done) => Ok(Some(done)),
            Err(Refused::Full) => Ok(None),
            Err(refused) => Err(refused),
        })
    }

    fn check_lengths<B: AsRef<[u8]>>(&mut self, messages: &[B]) -> Result<(), TrySendError> {
        let max = self.max_len();
        match messages.iter().map(|message| message.as_ref().len()).find(|&len| len > max) {
            Some(len) => Err(TrySendError::TooLong { ring: self.link.name().clone(), len, max }),
            None => Ok(()),
        }
    }

    /// Takes room for a message of `len` bytes in the ring itself, to be written in place and then committed.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send).
    pub fn try_reserve(&mut self, len: usize) -> Result<Reservation<'_>, TrySendError> {
        if self.link.unusual() {
            self.check()?;
        }
        match self.ring.try_claim(len) {
            Ok(claim) => Ok(Reservation::new(self, claim)),
            Err(refused) => Err(self.refused(refused, len)),
        }
    }

    /// As [`try_reserve`](Self::try_reserve), waiting for room.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn reserve(&mut self, len: usize) -> Result<Reservation<'_>, SendError> {
        self.reserve_until(len, Deadline::NEVER).map_err(SendTimeoutError::without_deadline)
    }

    /// As [`try_reserve`](Self::try_reserve), waiting for room at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`send_timeout`](Self::send_timeout).
    pub fn reserve_timeout(
        &mut self,
        len: usize,
        timeout: Duration,
    ) -> Result<Reservation<'_>, SendTimeoutError> {
        self.reserve_until(len, Deadline::after(timeout))
    }

    /// As [`try_reserve`](Self::try_reserve), waiting for room until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`send_deadline`](Self::send_deadline).
    pub fn reserve_deadline(
        &mut self,
        len: usize,
        deadline: Instant,
    ) -> Result<Reservation<'_>, SendTimeoutError> {
        self.reserve_until(len, Deadline::at(deadline))
    }

    fn reserve_until(
        &mut self,
        len: usize,
        deadline: Deadline,
    ) -> Result<Reservation<'_>, SendTimeoutError> {
        if self.link.unusual() {
            self.check().map_err(TrySendError::still_room)?;
        }
        let claim = match self.ring.try_claim(len) {
            Ok(claim) => Ok(claim),
            Err(Refused::Full) => self.until_room(deadline, |ring| ring.try_claim(len)),
            Err(refused) => Err(Stop::Refused(refused)),
        };
        match claim {
            Ok(claim) => Ok(Reservation::new(self, claim)),
            Err(stop) => Err(self.stopped(stop, len)),
        }
    }

    common!();

    /// Bytes of the ring in use, headers and pads included. The receiver may be releasing some at this moment: they are in
    /// use at most.
    pub fn len(&mut self) -> usize {
        if !self.link.is_usable() {
            return 0;
        }
        self.ring.unreleased().map_or(0, |bytes| bytes as usize)
    }

    /// Whether nothing is waiting to be received or released. `true` is a promise until this handle sends; `false` is only
    /// news.
    pub fn is_empty(&mut self) -> bool {
        self.link.is_usable() && self.ring.unreleased() == Ok(0)
    }

    /// Whether there is no room even for a message of 0 bytes. `false` is a promise until this handle sends; `true` is only
    /// news.
    pub fn is_full(&mut self) -> bool {
        self.link.is_usable() && !self.ring.has_room(0).unwrap_or(false)
    }

    /// Whether a `send` now would, sooner or later, answer `Disconnected`: the last receiver let go of its end or died.
    /// Asks the kernel's lock. Another receiver may come at any time.
    pub fn is_disconnected(&mut self) -> bool {
        self.link.is_usable() && self.link.gone(true).unwrap_or(false)
    }

    /// What this end has seen so far.
    pub fn stats(&self) -> Stats {
        let (messages, bytes) =
            if self.link.has_memory() { self.ring.sent() } else { Default::default() };
        let (waits, wakes) = self.link.counters();
        let (peer, end, unlinked) = (self.link.peer(), self.link.end(), self.link.unlinked());
        Stats { messages, bytes, waits, wakes, redelivered: 0, lost: 0, peer, end, unlinked }
    }

    /// What was unusual: a fault, a receiver that has let go, or nothing much.
    #[cold]
    fn check(&mut self) -> Result<(), TrySendError> {
        match self.link.examine() {
            Ok(false) => Ok(()),
            Ok(true) => {
                self.link.report_end();
                Err(TrySendError::Disconnected { ring: self.link.name().clone() })
            }
            Err(fault) => Err(TrySendError::Fault(fault)),
        }
    }

    #[cold]
    fn refused(&mut self, refused: Refused, len: usize) -> TrySendError {
        let ring = self.link.name().clone();
        match refused {
            Refused::Full => {
                let probe = self.link.probe_due();
                match self.link.gone(probe) {
                    // A last look: it may have made room before it went.
                    Ok(true) if self.ring.has_room(len as u64) == Ok(false) => {
                        self.link.report_end();
                        TrySendError::Disconnected { ring }
                    }
                    Ok(_) => TrySendError::Full,
                    Err(fault) => TrySendError::Fault(fault),
                }
            }
            Refused::TooLong => TrySendError::TooLong { ring, len, max: self.max_len() },
            Refused::Corrupt(damage) => TrySendError::Fault(self.link.corrupt(damage)),
        }
    }

    #[cold]
    fn stopped(&mut self, stop: Stop<Refused>, len: usize) -> SendTimeoutError {
        let ring = self.link.name().clone();
        match stop {
            Stop::TimedOut | Stop::Refused(Refused::Full) => {
                SendTimeoutError::Timeout { ring, holder: None }
            }
            Stop::Gone => {
                self.link.report_end();
                SendTimeoutError::Disconnected { ring }
            }
            Stop::Refused(Refused::TooLong) => {
                SendTimeoutError::TooLong { ring, len, max: self.max_len() }
            }
            Stop::Refused(Refused::Corrupt(damage)) => {
                SendTimeoutError::Fault(self.link.corrupt(damage))
            }
            Stop::Fault(fault) => SendTimeoutError::Fault(fault),
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !sync::dead() {
            self.link.leave();
        }
    }
}

/// Room for one message in the ring's own memory. [`commit`](Self::commit) sends it; dropping it sends nothing and leaves
/// no hole.
///
/// Bytes that are not written are zero in the message. It implements [`std::io::Write`], which fills it from the front.
#[must_use = "a reservation that is dropped sends nothing"]
pub struct Reservation<'a> {
    sender: &'a mut Sender,
    claim: Claim,
    draft: Draft,
}

impl core::fmt::Debug for Reservation<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Reservation")
            .field("ring", self.sender.link.name())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl<'a> Reservation<'a> {
    fn new(sender: &'a mut Sender, claim: Claim) -> Self {
        let ring = sender.ring.view().ring();
        let draft = Draft::new(ring.offset(claim.payload()), claim.len() as usize);
        Self { sender, claim, draft }
    }

    /// Bytes that the message may have.
    pub fn len(&self) -> usize {
        self.draft.len()
    }

    /// Whether the message has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies `bytes` to `offset` bytes behind the message's start.
    ///
    /// # Errors
    ///
    /// [`WriteZero`](std::io::ErrorKind::WriteZero) when they reach beyond the reservation; nothing is written then.
    pub fn write_at(&mut self, offset: usize, bytes: &[u8]) -> std::io::Result<()> {
        self.draft.end(offset, bytes.len())?;
        if !self.sender.link.is_usable() {
            return Err(std::io::Error::other("a reservation cannot be used in a forked child"));
        }
        self.draft.write_at(self.sender.ring.view(), offset, bytes)
    }

    /// The first byte of the message, for writing in place without a copy. The rest of the message is zeroed first. Null when
    /// the handle is of no more use.
    ///
    /// # Safety
    ///
    /// [`len`](Self::len) bytes may be written through the pointer until this reservation is committed or dropped, and not
    /// afterwards. Another process that maps the ring could write there too: form a reference only if every process that
    /// can open the ring is trusted to follow the protocol. A child made by `fork` must not use it: the ring is not mapped
    /// there.
    #[cfg(not(any(all(loom, feature = "model"), all(shuttle, feature = "model"))))]
    pub unsafe fn as_mut_ptr(&mut self) -> *mut u8 {
        if !self.sender.link.is_usable() {
            return core::ptr::null_mut();
        }
        self.draft.fill_up_to(self.sender.ring.view(), self.draft.len());
        self.draft.address(self.sender.ring.view())
    }

    /// Sends the whole of it.
    ///
    /// # Errors
    ///
    /// [`SendError::Fault`] in a forked child; nothing is sent then.
    pub fn commit(self) -> Result<(), SendError> {
        let len = self.len();
        self.commit_len(len)
    }

    /// Sends the first `len` bytes of it.
    ///
    /// # Errors
    ///
    /// [`SendError::TooLong`] when `len` is more than was reserved, [`SendError::Fault`] in a forked child; nothing is sent
    /// then.
    pub fn commit_len(mut self, len: usize) -> Result<(), SendError> {
        if len > self.len() {
            let (ring, max) = (self.sender.link.name().clone(), self.len());
            return Err(SendError::TooLong { ring, len, max });
        }
        self.sender.link.usable().map_err(SendError::Fault)?;
        self.draft.fill_up_to(self.sender.ring.view(), len);
        self.sender.ring.commit(self.claim, len as u64);
        self.sender.link.notify();
        Ok(())
    }
}

impl std::io::Write for Reservation<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if !self.sender.link.is_usable() {
            return Err(std::io::Error::other("a reservation cannot be used in a forked child"));
        }
        self.draft.write(self.sender.ring.view(), bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The receiving end. One thread at a time uses it; it may move between threads.
///
/// Dropping it lets go of the end: the sender gets `Disconnected`. A message that was received and not released is
/// delivered to the next receiver (or counted lost, [`Delivery::AtMostOnce`]).
pub struct Receiver {
    ring: Consumer,
    link: Link<Receiving>,
    _one_thread: PhantomData<Cell<()>>,
}

impl core::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Receiver").field("ring", self.link.name()).finish_non_exhaustive()
    }
}

impl Side for Receiver {
    type Tie = Link<Receiving>;

    fn tie(&mut self) -> &mut Link<Receiving> {
        &mut self.link
    }
}

impl Receiver {
    opening!(Receiver);

    #[cfg(any(target_os = "linux", all(loom, feature = "model"), all(shuttle, feature = "model")))]
    fn behind(endpoint: Behind) -> Result<Self, OpenError> {
        let (view, name, keep_open) =
            (endpoint.view()?, endpoint.name().clone(), endpoint.keep_open());
        let at_most_once = endpoint.delivery() == Delivery::AtMostOnce;
        Self::over(view, name, Some(endpoint), keep_open, at_most_once)
    }

    fn over(
        view: View,
        name: RingName,
        behind: Option<Behind>,
        keep_open: bool,
        at_most_once: bool,
    ) -> Result<Self, OpenError> {
        let ring = Consumer::attach(view.clone(), at_most_once)
            .map_err(|refused| corrupt(&name, refused))?;
        let link = Link::join(view, name.clone(), behind, keep_open)
            .map_err(|source| os_error(&name, "taking the receiver's end", source))?;
        let mut receiver = Self { ring, link, _one_thread: PhantomData };
        // The attach may have published space that a predecessor died over.
        receiver.link.notify();
        Ok(receiver)
    }

    /// The next message, if one is committed. Never waits.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`]; [`TryRecvError::Disconnected`] when the last sender let go or died and everything it sent
    /// was received; [`TryRecvError::Fault`] when this handle is of no more use. A sender that died is noticed by a loop of
    /// calls within 10 ms.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Message<'_>, TryRecvError> {
        if !self.take_now() {
            self.try_take_slow()?;
        }
        Ok(Message::new(self))
    }

    /// Takes the next message in hand with care, looking up to `looks` times.
    fn take(&mut self, looks: u32) -> Result<bool, Refused> {
        let took = self.ring.take_with_care(looks);
        if self.ring.freed() {
            self.link.notify();
        }
        took
    }

    /// Takes the next message in hand if that is easy.
    #[inline(always)]
    fn take_now(&mut self) -> bool {
        self.link.is_usable() && self.ring.take_now()
    }

    #[inline(never)]
    fn try_take_slow(&mut self) -> Result<(), TryRecvError> {
        self.link.usable()?;
        match self.take(0) {
            Ok(true) => Ok(()),
            Ok(false) => self.empty(),
            Err(refused) => Err(TryRecvError::Fault(self.corrupt(refused))),
        }
    }

    /// The next message, waiting for it.
    ///
    /// # Errors
    ///
    /// [`RecvError::Disconnected`] when the last sender let go or died and everything it sent was received;
    /// [`RecvError::Fault`]. Before any sender came, and on a ring that is kept open, it waits. After `Disconnected` the
    /// same handle goes on as soon as a new sender comes.
    #[inline]
    pub fn recv(&mut self) -> Result<Message<'_>, RecvError> {
        if !self.take_now() {
            self.take_soon(Deadline::NEVER).map_err(RecvTimeoutError::without_deadline)?;
        }
        Ok(Message::new(self))
    }

    /// The next message, waiting for it at most `timeout`. A timeout that overflows the clock means for ever.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), and [`RecvTimeoutError::Timeout`] after at least one try.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Message<'_>, RecvTimeoutError> {
        self.take_until(Deadline::after(timeout))?;
        Ok(Message::new(self))
    }

    /// The next message, waiting for it until `deadline` at most. A deadline in the past is one try.
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<Message<'_>, RecvTimeoutError> {
        self.take_until(Deadline::at(deadline))?;
        Ok(Message::new(self))
    }

    fn take_until(&mut self, deadline: Deadline) -> Result<(), RecvTimeoutError> {
        if self.take_now() { Ok(()) } else { self.take_soon(deadline) }
    }

    /// What is not there at the first look: a short look, then a wait.
    #[inline(never)]
    fn take_soon(&mut self, deadline: Deadline) -> Result<(), RecvTimeoutError> {
        self.link.usable()?;
        match self.take(self.link.wait.looks()) {
            Ok(true) => Ok(()),
            Ok(false) => self.take_slow(deadline),
            Err(refused) => Err(RecvTimeoutError::Fault(self.corrupt(refused))),
        }
    }

    #[cold]
    fn take_slow(&mut self, deadline: Deadline) -> Result<(), RecvTimeoutError> {
        let taken = blocking::until(self, deadline, |this| Ok(this.take(0)?.then_some(())));
        match taken {
            Ok(()) => Ok(()),
            Err(Stop::TimedOut) => {
                Err(RecvTimeoutError::Timeout { ring: self.link.name().clone(), holder: None })
            }
            Err(Stop::Gone) => {
                self.link.report_end();
                Err(RecvTimeoutError::Disconnected { ring: self.link.name().clone() })
            }
            Err(Stop::Refused(refused)) => Err(RecvTimeoutError::Fault(self.corrupt(refused))),
            Err(Stop::Fault(fault)) => Err(RecvTimeoutError::Fault(fault)),
        }
    }

    /// Nothing is committed: is that all there will be?
    #[cold]
    fn empty(&mut self) -> Result<(), TryRecvError> {
        let probe = self.link.probe_due();
        if !self.link.gone(probe)? {
            return Err(TryRecvError::Empty);
        }
        // What was committed before the end is seen with the end.
        match self.take(0) {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.link.report_end();
                Err(TryRecvError::Disconnected { ring: self.link.name().clone() })
            }
            Err(refused) => Err(TryRecvError::Fault(self.corrupt(refused))),
        }
    }

    /// Receives the next message into `to`, if one is committed: clears `to`, fills it, releases the message, answers the
    /// length.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv); `to` is as it was then, or empty if the file was cut short in the middle of the copy.
    pub fn try_recv_into(&mut self, to: &mut Vec<u8>) -> Result<usize, TryRecvError> {
        Ok(self.try_recv()?.into_vec(to)?)
    }

    /// As [`try_recv_into`](Self::try_recv_into), waiting for a message.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_into(&mut self, to: &mut Vec<u8>) -> Result<usize, RecvError> {
        Ok(self.recv()?.into_vec(to)?)
    }

    /// As [`try_recv_into`](Self::try_recv_into), waiting for a message at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_into_timeout(
        &mut self,
        to: &mut Vec<u8>,
        timeout: Duration,
    ) -> Result<usize, RecvTimeoutError> {
        Ok(self.recv_timeout(timeout)?.into_vec(to)?)
    }

    /// As [`try_recv_into`](Self::try_recv_into), waiting for a message until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`recv_deadline`](Self::recv_deadline).
    pub fn recv_into_deadline(
        &mut self,
        to: &mut Vec<u8>,
        deadline: Instant,
    ) -> Result<usize, RecvTimeoutError> {
        Ok(self.recv_deadline(deadline)?.into_vec(to)?)
    }

    /// The messages as vectors, waiting for each, until the stream ends or the handle is of no more use. For guards
    /// instead of copies: `while let Ok(message) = receiver.recv()`.
    pub fn iter(&mut self) -> Iter<'_> {
        Iter { receiver: self }
    }

    common!();

    /// Bytes of the ring that wait to be received, headers and pads included. The message that the sender is committing at
    /// this moment may be missing.
    pub fn len(&mut self) -> usize {
        if !self.link.is_usable() {
            return 0;
        }
        self.ring.unread().map_or(0, |bytes| bytes as usize)
    }

    /// Whether no message is committed. `false` is a promise until this handle receives; `true` was exact at the look.
    pub fn is_empty(&mut self) -> bool {
        if !self.link.is_usable() {
            return true;
        }
        let there = self.ring.has_message().unwrap_or(false);
        if self.ring.freed() {
            self.link.notify();
        }
        !there
    }

    /// Whether the stream has ended: the last sender let go or died, and everything was received. Asks the kernel's lock.
    /// Another sender may come at any time.
    pub fn is_disconnected(&mut self) -> bool {
        self.link.is_usable() && self.link.gone(true).unwrap_or(false) && self.is_empty()
    }

    /// What this end has seen so far.
    pub fn stats(&self) -> Stats {
        let (messages, bytes) =
            if self.link.has_memory() { self.ring.received() } else { Default::default() };
        let (waits, wakes) = self.link.counters();
        let (lost, redelivered) = self.ring.troubles();
        let (peer, end, unlinked) = (self.link.peer(), self.link.end(), self.link.unlinked());
        Stats { messages, bytes, waits, wakes, redelivered, lost, peer, end, unlinked }
    }

    /// The end of a message. Not part of its destructor: that one is small then, and the message itself stays in registers.
    #[inline(never)]
    fn let_go(&mut self, back: bool) {
        if sync::dead() || !self.link.is_usable() {
            return;
        }
        if back || self.ring.is_marked() {
            return self.let_go_with_care(back);
        }
        self.ring.release();
        self.link.notify();
    }

    #[cold]
    #[inline(never)]
    fn let_go_with_care(&mut self, back: bool) {
        if back {
            return self.ring.give_back();
        }
        self.ring.unmark();
        self.ring.release();
        self.link.notify();
    }

    #[cold]
    fn corrupt(&mut self, refused: Refused) -> Fault {
        self.link.corrupt(damage(refused))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if !sync::dead() {
            self.link.leave();
        }
    }
}

/// A message in the ring's own memory. Dropping it releases the space.
///
/// Until then it is the next message: given back, or dropped by a panic that began while it was held, it is delivered again,
/// marked [`redelivered`](Self::redelivered). So is one that was forgotten, or whose receiver died; on a ring that delivers
/// at most once ([`Delivery::AtMostOnce`]) those two are counted lost instead.
pub struct Message<'a> {
    receiver: &'a mut Receiver,
    /// Whether no panic was under way when it was handed out: one that begins later is this message's.
    calm: bool,
}

/// Says where it stands and how long it is, never what is in it.
impl core::fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Message")
            .field("ring", self.receiver.link.name())
            .field("position", &self.position())
            .field("len", &self.len())
            .field("attempts", &self.attempts())
            .finish()
    }
}

impl<'a> Message<'a> {
    #[inline]
    fn new(receiver: &'a mut Receiver) -> Self {
        Self { receiver, calm: !std::thread::panicking() }
    }

    /// Bytes of payload.
    #[inline]
    pub fn len(&self) -> usize {
        self.receiver.ring.len()
    }

    /// Whether it has no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where it stands in the stream, in bytes since the ring was made: grows from message to message, and is the same each
    /// time a message is delivered, so it tells a duplicate.
    pub fn position(&self) -> u64 {
        self.receiver.ring.position()
    }

    /// Whether it was handed out before: to a receiver that died, panicked, forgot it or gave it back.
    pub fn redelivered(&self) -> bool {
        self.receiver.ring.attempts() > 1
    }

    /// How often it has been handed out, this time included.
    pub fn attempts(&self) -> u32 {
        self.receiver.ring.attempts()
    }

    /// Its bytes, copied. A peer that breaks the protocol could change them in the ring while they are copied; what is
    /// answered is yours.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.append_to(&mut bytes);
        bytes
    }

    /// Whether all of its memory has been there so far. A program that survives that a file is cut short
    /// (`catch_sigbus`) asks this after a copy: `false` says that what was copied may be zeros that
    /// nobody sent. The calls that receive into a vector ask by themselves.
    pub fn is_whole(&self) -> bool {
        self.receiver.link.is_whole()
    }

    /// Copies as many of its bytes as fit into `to`; answers how many.
    pub fn copy_to(&self, to: &mut [u8]) -> usize {
        if !self.receiver.link.is_usable() {
            return 0;
        }
        // SAFETY: `MaybeUninit<u8>` is laid out as `u8`, and `read` writes only bytes.
        let to = unsafe { &mut *(core::ptr::from_mut(to) as *mut [MaybeUninit<u8>]) };
        self.receiver.ring.read(to).len()
    }

    fn append_to(&self, to: &mut Vec<u8>) {
        if !self.receiver.link.is_usable() {
            return;
        }
        let before = to.len();
        to.reserve(self.len());
        let read = self.receiver.ring.read(to.spare_capacity_mut()).len();
        // SAFETY: `read` bytes behind `before` were just written.
        unsafe { to.set_len(before + read) };
    }

    /// Copies it out and releases it, whatever panics are under way.
    fn into_vec(mut self, to: &mut Vec<u8>) -> Result<usize, Fault> {
        to.clear();
        self.append_to(to);
        self.calm = false;
        match self.receiver.link.whole() {
            Ok(()) => Ok(to.len()),
            Err(fault) => {
                to.clear();
                Err(fault)
            }
        }
    }

    fn into_new_vec(self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.into_vec(&mut bytes).ok().map(|_| bytes)
    }

    /// Gives it back instead of releasing it: it is the next message again, for this receiver or its successor.
    pub fn give_back(self) {
        let mut message = core::mem::ManuallyDrop::new(self);
        if message.receiver.link.is_usable() {
            message.receiver.ring.give_back();
        }
    }

    /// Its bytes in the ring's own memory, without a copy.
    ///
    /// # Safety
    ///
    /// No process changes these bytes while the slice lives. The protocol sees to that as long as every process that can
    /// open the ring follows it: call this only if you trust all of them to. [`copy_to`](Self::copy_to) needs no trust. A
    /// child made by `fork` must not use the slice: the ring is not mapped there.
    #[cfg(not(any(all(loom, feature = "model"), all(shuttle, feature = "model"))))]
    pub unsafe fn as_slice(&self) -> &[u8] {
        if !self.receiver.link.is_usable() {
            return &[];
        }
        let address = self.receiver.ring.view().address(self.receiver.ring.payload());
        // SAFETY: the header was validated, so `len` bytes from the payload on lie within the ring; nobody writes them by
        // the caller's promise, and this receiver does not release them before the message is dropped.
        unsafe { core::slice::from_raw_parts(address, self.len()) }
    }
}

impl Drop for Message<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // A panic that began later is this message's.
        self.receiver.let_go(std::thread::panicking() && self.calm);
    }
}

/// Messages as vectors; see [`Receiver::iter`].
#[derive(Debug)]
pub struct Iter<'a> {
    receiver: &'a mut Receiver,
}

impl Iterator for Iter<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        self.receiver.recv().ok().and_then(Message::into_new_vec)
    }
}

/// Messages as vectors, from a receiver of one's own; see [`Receiver::iter`].
#[derive(Debug)]
pub struct IntoIter {
    receiver: Receiver,
}

impl Iterator for IntoIter {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        self.receiver.recv().ok().and_then(Message::into_new_vec)
    }
}

impl IntoIterator for Receiver {
    type Item = Vec<u8>;
    type IntoIter = IntoIter;

    fn into_iter(self) -> IntoIter {
        IntoIter { receiver: self }
    }
}

impl<'a> IntoIterator for &'a mut Receiver {
    type Item = Vec<u8>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}
