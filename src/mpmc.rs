//! Many senders, many receivers, each message to one of them.
//!
//! Knows what a user means by each call. Knows nothing of words and laps.
//!
//! The verbs are those of `std::sync::mpsc`, as in [`spsc`](crate::spsc). Handles are cloned, one for each thread; the clones
//! of a process share its seat at the ring. Receivers compete: a message goes to one of them, and if that one dies with it
//! in hand, to another, marked [`redelivered`](Message::redelivered).
//!
//! ```
//! use quoit::{Options, mpmc};
//!
//! let (tx, rx) = mpmc::channel(&Options::new())?;
//! let workers: Vec<_> = (0..2)
//!     .map(|_| {
//!         let rx = rx.clone();
//!         std::thread::spawn(move || rx.iter().count())
//!     })
//!     .collect();
//! drop(rx);
//! for n in 0..100u64 {
//!     tx.send(&n.to_le_bytes())?;
//! }
//! drop(tx);
//! let received: usize = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
//! assert_eq!(received, 100);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Order, full and empty
//!
//! A sender claims a slot, writes, and commits. Messages are delivered in the order of their claims, so what one handle sends
//! is taken in the order in which it was sent. (Two receivers may finish in another order, and a message that is delivered
//! again comes late.) A message behind one that is still being written waits for it: `try_recv` may answer `Empty` although a
//! later `send` has returned, until the earlier one is committed or given up. A slot is free again when its message is
//! released, and slots are used in turn: `Full` means that the message of one lap ago is still there.
//!
//! So a handle that holds as many messages as there are slots, or an open reservation, and then waits, waits for itself.
//!
//! # The end
//!
//! `Disconnected` comes when no sender is left, nothing can be taken, and nothing is in another receiver's hands: what is
//! there may come back. A worker that is killed at the very end loses nothing. A handle that has a message in hand itself
//! waits for no other's, because they would wait for each other.
//!
//! # Who stands still
//!
//! Whoever is stopped in the middle of a claim holds the others up; they time out with its name
//! ([`Holder`](crate::Holder)), and nothing is taken from it. Whoever dies there is found within milliseconds, by whoever
//! waits.

use core::cell::Cell;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::time::Duration;
use std::time::Instant;

use crate::blocking::{self, Side, Stop};
use crate::draft::Draft;
use crate::error::{
    Fault, OpenError, RecvError, RecvTimeoutError, RingName, SendError, SendTimeoutError,
    TryRecvError, TrySendError,
};
use crate::layout::control::SeatWord;
use crate::layout::geometry::Slots;
use crate::options::{Delivery, Options, Wait};
use crate::party::{Party, Place, Tally};
use crate::recovery::Recovered;
use crate::region;
use crate::ring::mpmc::{Claim, Consumer, Held, Producer, waiting};
use crate::ring::{Damage, Refused};
use crate::roster::{Presence, Role};
use crate::sync::{self, Deadline};

/// What a handle's seat has seen since it was taken, by this handle and its clones. News for everybody else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages sent.
    pub sent: u64,
    /// Messages received and released.
    pub received: u64,
    /// Messages received that had been handed out before.
    pub redelivered: u64,
    /// Claims without a message that were stepped over: their senders died, or gave them up.
    pub skipped: u64,
    /// Messages counted lost with this seat's holders ([`Delivery::AtMostOnce`]).
    pub lost: u64,
    /// Times a call found the ring full and waited.
    pub full_waits: u64,
    /// Times a call found the ring empty and waited.
    pub empty_waits: u64,
    /// Times this seat had to wake others by a system call.
    pub wakes: u64,
    /// Seats that the other side holds now; one that died is counted until somebody finds it.
    pub peers: u32,
    /// How the end went that this handle was told of last (`Disconnected`): [`Presence::Left`] when all of the other side let
    /// go, [`Presence::Died`] when one of them died since this handle was opened or last told. `None` before any end.
    pub end: Option<Presence>,
    /// The ring's file has lost its name: those who hold it go on with each other, nobody else will find it.
    pub unlinked: bool,
}

/// Makes the ring `name` without taking a seat at it: [`Options::capacity`] slots for messages of up to
/// [`Options::max_len`] bytes.
///
/// # Errors
///
/// [`OpenError::AlreadyExists`], and whatever keeps the file from being made.
#[cfg(all(
    target_os = "linux",
    not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
))]
pub fn create(name: &str, options: &Options) -> Result<(), OpenError> {
    crate::endpoint::Endpoint::make(name, crate::endpoint::Kind::Mpmc, options)
}

/// A ring of this process alone: its handles go to threads.
///
/// It lives on the heap and has no name. All waits are private to the process, so nothing needs slices, locks or repair; the
/// last handle of a side that is dropped tells the other at once. [`Options::mode`] and what else concerns files is ignored.
///
/// # Errors
///
/// [`OpenError::BadOption`] for a number of slots or a length that no ring can have. Memory that the process cannot have ends
/// it, as any other allocation does.
pub fn channel(options: &Options) -> Result<(Sender, Receiver), OpenError> {
    options.check_slots()?;
    let ring = Slots::new(options.get_slots(), options.get_max_len(), SEATS_OF_A_CHANNEL);
    let ring = ring.ok_or_else(|| OpenError::BadOption {
        what: "capacity",
        why: String::from("so many slots of that length are more than a ring can have"),
    })?;
    let view = region::slots(ring, options.get_start());
    let place = |role| Place {
        view: view.clone(),
        role,
        name: RingName::new("(channel)"),
        behind: None,
        keep_open: options.get_keep_open(),
        at_most_once: options.get_delivery() == Delivery::AtMostOnce,
    };
    Ok((Sender::at(place(Role::Sender))?, Receiver::at(place(Role::Receiver))?))
}

/// One for each side: clones share it, and threads of one process cannot die alone.
const SEATS_OF_A_CHANNEL: u32 = 2;

/// How often to begin again when the name leads to another file by the time a seat is taken.
#[cfg(all(
    target_os = "linux",
    not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
))]
const RETRIES: u32 = 3;

/// A sender on a full ring waits so many times as long for a stretch as a receiver looks for one message.
const STRETCH_LOOKS: u32 = 8;

fn corrupt(name: &RingName, refused: Refused) -> OpenError {
    OpenError::Corrupt { ring: name.clone(), what: damage(refused).what() }
}

/// What an attaching or receiving side refuses for: it never finds a ring full, nor a message too long.
fn damage(refused: Refused) -> Damage {
    match refused {
        Refused::Corrupt(damage) => damage,
        Refused::Full | Refused::TooLong => Damage::Lap,
    }
}

macro_rules! opening {
    ($role:ident) => {
        /// Opens the ring of a modelled process and takes a seat.
        ///
        /// # Errors
        ///
        /// As opening a ring by its name.
        #[doc(hidden)]
        #[cfg(any(all(loom, feature = "model"), all(shuttle, feature = "model")))]
        pub fn of(process: &crate::endpoint::Process) -> Result<Self, OpenError> {
            Self::behind(process.open(None)?)
        }

        /// Makes the ring `name` and takes a seat at it.
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
            Endpoint::create_and(name, Kind::Mpmc, None, options, Self::behind)
        }

        /// Opens the ring `name` and takes a seat at it.
        ///
        /// # Errors
        ///
        /// [`OpenError::NotFound`]; [`OpenError::Crowded`] when all seats are held by the living; and one error of its own
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
            Self::named(|| Endpoint::open(name, Kind::Mpmc, None, options))
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
            Self::named(|| Endpoint::open_or_create(name, Kind::Mpmc, None, options))
        }

        /// Opens, takes a seat, and begins again if the name leads to another file by then: whoever unlinks a ring and
        /// makes it anew has it to itself.
        #[cfg(all(
            target_os = "linux",
            not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
        ))]
        fn named(
            open: impl Fn() -> Result<crate::endpoint::Endpoint, OpenError>,
        ) -> Result<Self, OpenError> {
            let mut retries = 0;
            loop {
                let handle = Self::behind(open()?)?;
                if !handle.party.renamed()? {
                    return Ok(handle);
                }
                retries += 1;
                if retries > RETRIES {
                    return Err(OpenError::NotFound { ring: handle.name().clone() });
                }
            }
        }

        #[cfg(any(
            target_os = "linux",
            all(loom, feature = "model"),
            all(shuttle, feature = "model")
        ))]
        fn behind(endpoint: crate::endpoint::Endpoint) -> Result<Self, OpenError> {
            Self::at(Place {
                view: endpoint.slots()?,
                role: Role::$role,
                name: endpoint.name().clone(),
                keep_open: endpoint.keep_open(),
                at_most_once: endpoint.delivery() == Delivery::AtMostOnce,
                behind: Some(endpoint),
            })
        }
    };
}

macro_rules! common {
    () => {
        /// How this handle waits from now on.
        pub fn set_wait(&self, wait: Wait) {
            self.party.wait.set(wait);
        }

        /// Whether this handle, from now on, waits for the next peer instead of reporting `Disconnected`. What a ring was
        /// made with ([`Options::keep_open`]) is the default.
        pub fn set_keep_open(&self, on: bool) {
            self.party.set_keep_open(on);
        }

        /// How many messages the ring has room for.
        pub fn capacity(&self) -> usize {
            self.ring.view().ring().slots() as usize
        }

        /// The longest message that the ring takes, in bytes.
        pub fn max_len(&self) -> usize {
            self.ring.view().ring().max_len() as usize
        }

        /// The ring's name, as it was opened.
        pub fn name(&self) -> &RingName {
            self.party.name()
        }

        /// The number of the seat that this handle and its clones hold, as `quoit stat` shows it.
        pub fn seat(&self) -> u32 {
            self.party.number()
        }

        /// Messages that wait to be received: committed and not in anybody's hand. Looks at every slot, and is only news.
        pub fn len(&self) -> usize {
            if !self.party.is_usable() {
                return 0;
            }
            waiting(self.ring.view()) as usize
        }

        /// Looks for seats whose holders died, and gives back what they had claimed, now. Nobody needs to call this: whoever
        /// arrives does it, and whoever waits.
        ///
        /// # Errors
        ///
        /// The handle is of no more use, or the kernel refuses to say who is alive.
        pub fn recover(&self) -> Result<Recovered, Fault> {
            self.party.usable()?;
            self.party.recover()
        }

        /// What this seat has seen so far, and how the other side is.
        pub fn stats(&self) -> Stats {
            let Tally {
                sent,
                received,
                redelivered,
                skipped,
                lost,
                full_waits,
                empty_waits,
                wakes,
            } = self.party.counters();
            Stats {
                sent,
                received,
                redelivered,
                skipped,
                lost,
                full_waits,
                empty_waits,
                wakes,
                peers: self.party.peers(),
                end: self.party.end(),
                unlinked: self.party.unlinked(),
            }
        }
    };
}

/// A sending handle. One thread at a time uses it; clone it for each further thread.
///
/// Dropping the last clone lets go of the process's seat. When the last sender has let go, receivers get what was sent, then
/// `Disconnected`. Dying does the same, a little later.
pub struct Sender {
    ring: Producer,
    party: Party,
    /// The claim of the last reservation, until it is committed or dropped: so that one that was forgotten can be given up.
    reserved: Cell<Option<Claim>>,
    _one_thread: PhantomData<Cell<()>>,
}

impl core::fmt::Debug for Sender {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Sender")
            .field("ring", self.party.name())
            .field("seat", &self.party.number())
            .finish_non_exhaustive()
    }
}

/// A handle for another thread, on the same seat. What each clone sends is in order by itself.
impl Clone for Sender {
    fn clone(&self) -> Sender {
        Sender {
            ring: self.ring.clone(),
            party: self.party.another(),
            reserved: Cell::new(None),
            _one_thread: PhantomData,
        }
    }
}

/// Messages of a batch that are committed, and of which nobody has been told: told even if the caller's `AsRef` panics.
struct Committed<'a> {
    sender: &'a Sender,
    count: usize,
}

impl Drop for Committed<'_> {
    fn drop(&mut self) {
        if self.count != 0 && !sync::dead() {
            self.sender.sent(self.count as u64);
        }
    }
}

/// A handle that waits.
struct Waiter<'a> {
    party: &'a Party,
}

impl<'a> Side for Waiter<'a> {
    type Tie = &'a Party;

    fn tie(&mut self) -> &mut &'a Party {
        &mut self.party
    }
}

impl Sender {
    opening!(Sender);

    fn at(place: Place) -> Result<Self, OpenError> {
        let (view, name) = (place.view.clone(), place.name.clone());
        let party = Party::join(place)?;
        let ring =
            Producer::attach(view, party.number()).map_err(|refused| corrupt(&name, refused))?;
        Ok(Self { ring, party, reserved: Cell::new(None), _one_thread: PhantomData })
    }

    /// Sends a message if there is room for it now. Never waits, never calls the kernel unless a receiver sleeps; on a full
    /// ring it asks the kernel, every 10 ms at most, who is alive.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`]; [`TrySendError::TooLong`]; [`TrySendError::Disconnected`] when the last receiver has let go of
    /// its seat, or has died and the ring is full; [`TrySendError::Fault`] when this handle is of no more use. The message
    /// is not sent then.
    #[inline]
    pub fn try_send(&self, message: &[u8]) -> Result<(), TrySendError> {
        if self.party.unusual() || self.reserved.get().is_some() {
            self.check()?;
        }
        match self.ring.try_send(message) {
            Ok(()) => {
                self.sent(1);
                Ok(())
            }
            Err(refused) => self.refused(refused, message.len(), |ring| ring.try_send(message)),
        }
    }

    /// Sends a message, waiting for room. `Ok` means committed: it is delivered even if this process dies at once.
    ///
    /// # Errors
    ///
    /// [`SendError::Disconnected`] when the last receiver is gone and there is no hope of room, [`SendError::TooLong`],
    /// [`SendError::Fault`]. The message is not sent then.
    #[inline]
    pub fn send(&self, message: &[u8]) -> Result<(), SendError> {
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
    /// As [`send`](Self::send), and [`SendTimeoutError::Timeout`] after at least one try, naming who holds the slot that was
    /// waited for, if somebody does.
    pub fn send_timeout(&self, message: &[u8], timeout: Duration) -> Result<(), SendTimeoutError> {
        self.send_until(message, Deadline::after(timeout))
    }

    /// Sends a message, waiting for room until `deadline` at most. A deadline in the past is one try.
    ///
    /// # Errors
    ///
    /// As [`send_timeout`](Self::send_timeout).
    pub fn send_deadline(&self, message: &[u8], deadline: Instant) -> Result<(), SendTimeoutError> {
        self.send_until(message, Deadline::at(deadline))
    }

    fn send_until(&self, message: &[u8], deadline: Deadline) -> Result<(), SendTimeoutError> {
        match self.try_send(message) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full) => self.send_slow(message, deadline),
            Err(error) => Err(error.still_room().into()),
        }
    }

    #[cold]
    fn send_slow(&self, message: &[u8], deadline: Deadline) -> Result<(), SendTimeoutError> {
        self.until_room(deadline, message.len(), |ring| ring.try_send(message))?;
        self.sent(1);
        Ok(())
    }

    /// Sends as many of `messages`, from the first on, as there is room for now. Answers how many.
    ///
    /// Each becomes visible as it is written, in order, possibly with messages of other senders in between; receivers that
    /// sleep are woken once, at the end. A sender that dies in the middle has sent the first of them, and none of the rest.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send), and then nothing is sent; one message that is too long refuses the whole call.
    pub fn try_send_batch<B: AsRef<[u8]>>(&self, messages: &[B]) -> Result<usize, TrySendError> {
        if self.party.unusual() || self.reserved.get().is_some() {
            self.check()?;
        }
        self.check_lengths(messages)?;
        self.try_batch(messages)
    }

    /// The same without a look at the lengths.
    fn try_batch<B: AsRef<[u8]>>(&self, messages: &[B]) -> Result<usize, TrySendError> {
        match self.batch(messages) {
            Ok(sent) => Ok(sent),
            Err(refused) => {
                let first = messages.first().map_or(0, |message| message.as_ref().len());
                self.refused(refused, first, |_| self.batch(messages))
            }
        }
    }

    /// Sends what there is room for; answers how many, of which the receivers know already.
    fn batch<B: AsRef<[u8]>>(&self, messages: &[B]) -> Result<usize, Refused> {
        let mut committed = Committed { sender: self, count: 0 };
        for message in messages {
            match self.ring.try_send(message.as_ref()) {
                Ok(()) => committed.count += 1,
                Err(_) if committed.count != 0 => break,
                Err(refused) => return Err(refused),
            }
        }
        Ok(committed.count)
    }

    /// Sends `messages` in order, waiting for room; see [`try_send_batch`](Self::try_send_batch). Answers how many were sent:
    /// all of them, or fewer when the receivers went in between; the next call then says so.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), when nothing at all was sent; one message that is too long refuses the whole call before a
    /// byte is written.
    pub fn send_batch<B: AsRef<[u8]>>(&self, messages: &[B]) -> Result<usize, SendError> {
        self.batch_until(messages, Deadline::NEVER).map_err(SendTimeoutError::without_deadline)
    }

    /// As [`send_batch`](Self::send_batch), waiting at most `timeout` in all.
    ///
    /// # Errors
    ///
    /// As [`send_batch`](Self::send_batch), and [`SendTimeoutError::Timeout`] when nothing was sent in time.
    pub fn send_batch_timeout<B: AsRef<[u8]>>(
        &self,
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
        &self,
        messages: &[B],
        deadline: Instant,
    ) -> Result<usize, SendTimeoutError> {
        self.batch_until(messages, Deadline::at(deadline))
    }

    fn batch_until<B: AsRef<[u8]>>(
        &self,
        messages: &[B],
        deadline: Deadline,
    ) -> Result<usize, SendTimeoutError> {
        self.check_lengths(messages).map_err(TrySendError::still_room)?;
        let mut sent = 0;
        while sent < messages.len() {
            let rest = &messages[sent..];
            if self.party.unusual() || self.reserved.get().is_some() {
                match self.check() {
                    Ok(()) => {}
                    Err(_) if sent > 0 => break,
                    Err(error) => return Err(error.still_room().into()),
                }
            }
            let tried = match self.try_batch(rest) {
                Ok(now) => Ok(now),
                Err(TrySendError::Full) => self.until_room(deadline, 0, |_| self.batch(rest)),
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

    /// Waits until `attempt` finds room, the receivers are gone, or the deadline has passed.
    fn until_room<T>(
        &self,
        deadline: Deadline,
        len: usize,
        attempt: impl Fn(&Producer) -> Result<T, Refused>,
    ) -> Result<T, SendTimeoutError> {
        // Perhaps the receivers are just making it.
        if !deadline.passed() {
            self.ring.wait_for_stretch(self.party.wait.get().looks() * STRETCH_LOOKS);
        }
        let waited =
            blocking::until(&mut Waiter { party: &self.party }, deadline, |_| {
                match attempt(&self.ring) {
                    Ok(done) => Ok(Some(done)),
                    Err(Refused::Full) => {
                        self.party.blocked_by(self.ring.blocker(), self.ring.hurried());
                        Ok(None)
                    }
                    Err(refused) => Err(refused),
                }
            });
        let done = waited.map_err(|stop| self.stopped(stop, len))?;
        // Whoever was woken for this room may not be the only one who waits, nor this the only room.
        if self.ring.is_full() == Ok(false) {
            self.party.pass_on();
        }
        Ok(done)
    }

    fn check_lengths<B: AsRef<[u8]>>(&self, messages: &[B]) -> Result<(), TrySendError> {
        let max = self.max_len();
        match messages.iter().map(|message| message.as_ref().len()).find(|&len| len > max) {
            Some(len) => Err(TrySendError::TooLong { ring: self.name().clone(), len, max }),
            None => Ok(()),
        }
    }

    /// Takes a slot of the ring for a message of `len` bytes, to be written in place and then committed.
    ///
    /// From here on no receiver gets past this slot: write, and commit or drop.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send).
    pub fn try_reserve(&mut self, len: usize) -> Result<Reservation<'_>, TrySendError> {
        if self.party.unusual() || self.reserved.get().is_some() {
            self.check()?;
        }
        match self.ring.try_claim(len) {
            Ok(claim) => Ok(self.reservation(claim, len)),
            Err(refused) => {
                let claim = self.refused(refused, len, |ring| ring.try_claim(len))?;
                Ok(self.reservation(claim, len))
            }
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
        if self.party.unusual() || self.reserved.get().is_some() {
            self.check().map_err(TrySendError::still_room)?;
        }
        let claim = match self.ring.try_claim(len) {
            Ok(claim) => claim,
            Err(Refused::Full) => self.until_room(deadline, len, |ring| ring.try_claim(len))?,
            Err(refused) => return Err(self.stopped(Stop::Refused(refused), len)),
        };
        Ok(self.reservation(claim, len))
    }

    fn reservation(&mut self, claim: Claim, len: usize) -> Reservation<'_> {
        self.reserved.set(Some(claim));
        let draft = Draft::new(self.ring.payload(claim), len);
        Reservation { sender: self, claim, draft }
    }

    /// A reservation that was forgotten would hold the receivers up for as long as this process lives.
    fn give_up_forgotten(&self) {
        if let Some(claim) = self.reserved.take() {
            self.abort(claim);
        }
    }

    #[cold]
    fn abort(&self, claim: Claim) {
        self.ring.abort(claim);
        // What was committed behind it can be taken now.
        self.party.notify(1);
    }

    common!();

    /// Whether nothing is waiting to be received. Looks at every slot, and is only news.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is no free slot. Only news, whatever it answers: other senders send.
    pub fn is_full(&self) -> bool {
        self.party.is_usable() && self.ring.is_full().unwrap_or(false)
    }

    /// Whether a `send` now would, sooner or later, answer `Disconnected`: the last receiver let go of its seat or died.
    /// Asks the kernel's locks. Another receiver may come at any time.
    pub fn is_disconnected(&self) -> bool {
        self.party.is_usable()
            && self.party.recover().is_ok()
            && self.party.is_gone(true).unwrap_or(false)
    }

    /// `n` messages were committed: wakes receivers that sleep, and counts.
    #[inline]
    fn sent(&self, n: u64) {
        self.party.notify(u32::try_from(n).unwrap_or(u32::MAX));
        self.party.tally(SeatWord::SENT, n);
    }

    /// What was unusual: a fault, receivers that have let go, a reservation that was forgotten (while one lives, no other
    /// call can be made), or nothing much.
    #[cold]
    fn check(&self) -> Result<(), TrySendError> {
        match self.party.examine() {
            Ok(false) => {
                self.give_up_forgotten();
                Ok(())
            }
            Ok(true) => {
                self.party.report_end();
                Err(TrySendError::Disconnected { ring: self.name().clone() })
            }
            Err(fault) => Err(TrySendError::Fault(fault)),
        }
    }

    /// What a refusal means. Asking who is alive may have made room: then `again` is tried once.
    #[cold]
    fn refused<T>(
        &self,
        refused: Refused,
        len: usize,
        again: impl Fn(&Producer) -> Result<T, Refused>,
    ) -> Result<T, TrySendError> {
        let ring = self.name().clone();
        match refused {
            Refused::Full => {
                self.party.blocked_by(self.ring.blocker(), self.ring.hurried());
                let probe = self.party.is_probe_due();
                let gone = self.party.is_gone(probe)?;
                if !probe && !gone {
                    return Err(TrySendError::Full);
                }
                match again(&self.ring) {
                    Ok(done) => Ok(done),
                    Err(Refused::Full) if gone => {
                        self.party.report_end();
                        Err(TrySendError::Disconnected { ring })
                    }
                    Err(Refused::Full) => Err(TrySendError::Full),
                    Err(refused) => Err(TrySendError::Fault(self.party.corrupt(damage(refused)))),
                }
            }
            Refused::TooLong => Err(TrySendError::TooLong { ring, len, max: self.max_len() }),
            Refused::Corrupt(damage) => Err(TrySendError::Fault(self.party.corrupt(damage))),
        }
    }

    #[cold]
    fn stopped(&self, stop: Stop<Refused>, len: usize) -> SendTimeoutError {
        let ring = self.name().clone();
        match stop {
            Stop::TimedOut | Stop::Refused(Refused::Full) => {
                SendTimeoutError::Timeout { ring, holder: self.party.holder() }
            }
            Stop::Gone => {
                self.party.report_end();
                SendTimeoutError::Disconnected { ring }
            }
            Stop::Refused(Refused::TooLong) => {
                SendTimeoutError::TooLong { ring, len, max: self.max_len() }
            }
            Stop::Refused(Refused::Corrupt(damage)) => {
                SendTimeoutError::Fault(self.party.corrupt(damage))
            }
            Stop::Fault(fault) => SendTimeoutError::Fault(fault),
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !sync::dead() && self.party.is_usable() {
            self.give_up_forgotten();
        }
    }
}

/// A slot of the ring for one message. [`commit`](Self::commit) sends it; dropping it sends nothing, and receivers step over
/// the slot.
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
            .field("ring", self.sender.name())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl Reservation<'_> {
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
        self.usable()?;
        self.draft.write_at(self.sender.ring.view(), offset, bytes)
    }

    fn usable(&self) -> std::io::Result<()> {
        self.sender
            .party
            .usable()
            .map_err(|_| std::io::Error::other("a reservation cannot be used in a forked child"))
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
        if self.usable().is_err() {
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
            let (ring, max) = (self.sender.name().clone(), self.len());
            return Err(SendError::TooLong { ring, len, max });
        }
        self.sender.party.usable().map_err(SendError::Fault)?;
        self.draft.fill_up_to(self.sender.ring.view(), len);
        self.sender.ring.commit(self.claim, len);
        self.sender.reserved.set(None);
        self.sender.sent(1);
        Ok(())
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !sync::dead() && self.sender.party.is_usable() {
            // Unless it was committed.
            self.sender.give_up_forgotten();
        }
    }
}

impl std::io::Write for Reservation<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.usable()?;
        self.draft.write(self.sender.ring.view(), bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A receiving handle. One thread at a time uses it; clone it for each further thread.
///
/// Dropping the last clone lets go of the process's seat. When the last receiver has let go, senders get `Disconnected`.
pub struct Receiver {
    ring: Consumer,
    party: Party,
    _one_thread: PhantomData<Cell<()>>,
}

impl core::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Receiver")
            .field("ring", self.party.name())
            .field("seat", &self.party.number())
            .finish_non_exhaustive()
    }
}

/// A handle for another thread, on the same seat.
impl Clone for Receiver {
    fn clone(&self) -> Receiver {
        Receiver { ring: self.ring.clone(), party: self.party.another(), _one_thread: PhantomData }
    }
}

impl Receiver {
    opening!(Receiver);

    fn at(place: Place) -> Result<Self, OpenError> {
        let (view, name) = (place.view.clone(), place.name.clone());
        let party = Party::join(place)?;
        let ring =
            Consumer::attach(view, party.number()).map_err(|refused| corrupt(&name, refused))?;
        Ok(Self { ring, party, _one_thread: PhantomData })
    }

    /// The next message, if one can be taken. Never waits.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`]: none is committed, or one is and another before it is still being written;
    /// [`TryRecvError::Disconnected`] when the last sender let go or died and everything was received;
    /// [`TryRecvError::Fault`] when this handle is of no more use. A loop of calls asks, every 10 ms at most, whether whoever
    /// is in the way is alive.
    #[inline(always)]
    pub fn try_recv(&self) -> Result<Message<'_>, TryRecvError> {
        self.party.usable()?;
        let held = match self.take(0) {
            Ok(Some(held)) => held,
            Ok(None) => self.empty()?,
            Err(refused) => return Err(TryRecvError::Fault(self.corrupt(refused))),
        };
        Ok(Message::new(self, held))
    }

    /// Takes the next message in hand, if one can be taken, looking up to `looks` times.
    #[inline(always)]
    fn take(&self, looks: u32) -> Result<Option<Held>, Refused> {
        // What is rare answers a bit, and hands the message on in the ring: an answer that the common case and a call share
        // would go through memory.
        match self.ring.take_now(looks)? {
            Some(held) => Ok(Some(held)),
            None => Ok(self.take_with_care()?.then(|| self.ring.taken())),
        }
    }

    #[cold]
    fn take_with_care(&self) -> Result<bool, Refused> {
        let took = self.ring.take_with_care();
        let skipped = self.ring.skipped();
        if skipped != 0 {
            self.stepped_over(skipped);
        }
        took
    }

    #[cold]
    fn stepped_over(&self, skipped: u64) {
        // Each made room for a sender.
        self.party.notify(u32::try_from(skipped).unwrap_or(u32::MAX));
        self.party.tally(SeatWord::SKIPPED, skipped);
    }

    /// The next message, waiting for it.
    ///
    /// # Errors
    ///
    /// [`RecvError::Disconnected`] when the last sender let go or died, everything was received, and nothing is in another
    /// receiver's hands; [`RecvError::Fault`]. Before any sender came, and on a ring that is kept open, it waits. After `Disconnected` the same handle goes on as
    /// soon as a new sender comes.
    #[inline(always)]
    pub fn recv(&self) -> Result<Message<'_>, RecvError> {
        match self.take_until(Deadline::NEVER) {
            Ok(held) => Ok(Message::new(self, held)),
            Err(error) => Err(error.without_deadline()),
        }
    }

    /// The next message, waiting for it at most `timeout`. A timeout that overflows the clock means for ever.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), and [`RecvTimeoutError::Timeout`] after at least one try, naming who holds the slot that was
    /// waited for, if somebody does.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Message<'_>, RecvTimeoutError> {
        let held = self.take_until(Deadline::after(timeout))?;
        Ok(Message::new(self, held))
    }

    /// The next message, waiting for it until `deadline` at most. A deadline in the past is one try.
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<Message<'_>, RecvTimeoutError> {
        let held = self.take_until(Deadline::at(deadline))?;
        Ok(Message::new(self, held))
    }

    #[inline(always)]
    fn take_until(&self, deadline: Deadline) -> Result<Held, RecvTimeoutError> {
        self.party.usable()?;
        match self.take(self.party.wait.get().looks()) {
            Ok(Some(held)) => Ok(held),
            Ok(None) => self.take_slow(deadline),
            Err(refused) => Err(RecvTimeoutError::Fault(self.corrupt(refused))),
        }
    }

    #[cold]
    fn take_slow(&self, deadline: Deadline) -> Result<Held, RecvTimeoutError> {
        let taken = blocking::until(&mut Waiter { party: &self.party }, deadline, |_| {
            let took = self.take(0)?;
            if took.is_none() {
                self.party.blocked_by(self.ring.blocker(), self.ring.hurried());
            }
            Ok(took)
        });
        let ring = || self.name().clone();
        match taken {
            Ok(held) => {
                // Whoever was woken for this message may not be the only one who waits, nor this the only message: those
                // behind a claim were committed while nobody could take them.
                if self.has_message() {
                    self.party.pass_on();
                }
                Ok(held)
            }
            Err(Stop::TimedOut) => {
                Err(RecvTimeoutError::Timeout { ring: ring(), holder: self.party.holder() })
            }
            Err(Stop::Gone) => {
                self.party.report_end();
                Err(RecvTimeoutError::Disconnected { ring: ring() })
            }
            Err(Stop::Refused(refused)) => Err(RecvTimeoutError::Fault(self.corrupt(refused))),
            Err(Stop::Fault(fault)) => Err(RecvTimeoutError::Fault(fault)),
        }
    }

    /// Nothing can be taken: is that all there will be, or is somebody dead in the way?
    #[cold]
    fn empty(&self) -> Result<Held, TryRecvError> {
        self.party.blocked_by(self.ring.blocker(), self.ring.hurried());
        let probe = self.party.is_probe_due();
        let gone = self.party.is_gone(probe)?;
        if !gone && !probe && !self.party.hurried() {
            return Err(TryRecvError::Empty);
        }
        // What was committed before the end is seen with the end; and a repair may have cleared the way.
        match self.take(0) {
            Ok(Some(held)) => Ok(held),
            Ok(None) if gone => {
                self.party.report_end();
                Err(TryRecvError::Disconnected { ring: self.name().clone() })
            }
            Ok(None) => Err(TryRecvError::Empty),
            Err(refused) => Err(TryRecvError::Fault(self.corrupt(refused))),
        }
    }

    /// Receives the next message into `to`, if one can be taken: clears `to`, fills it, releases the message, answers the
    /// length.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv); `to` is as it was then, or empty if the file was cut short in the middle of the copy.
    pub fn try_recv_into(&self, to: &mut Vec<u8>) -> Result<usize, TryRecvError> {
        Ok(self.try_recv()?.into_vec(to)?)
    }

    /// As [`try_recv_into`](Self::try_recv_into), waiting for a message.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_into(&self, to: &mut Vec<u8>) -> Result<usize, RecvError> {
        Ok(self.recv()?.into_vec(to)?)
    }

    /// As [`try_recv_into`](Self::try_recv_into), waiting for a message at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_into_timeout(
        &self,
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
        &self,
        to: &mut Vec<u8>,
        deadline: Instant,
    ) -> Result<usize, RecvTimeoutError> {
        Ok(self.recv_deadline(deadline)?.into_vec(to)?)
    }

    /// Takes up to `max` messages that can be taken now, in order, behind what is in `to`; answers how many. All of them are
    /// in hand at once: each is released when it is dropped.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv), when there is none at all.
    pub fn try_recv_batch<'a>(
        &'a self,
        to: &mut Vec<Message<'a>>,
        max: usize,
    ) -> Result<usize, TryRecvError> {
        if max == 0 {
            return Ok(0);
        }
        to.push(self.try_recv()?);
        Ok(1 + self.more_of(to, max - 1))
    }

    /// As [`try_recv_batch`](Self::try_recv_batch), waiting for the first of them.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_batch<'a>(
        &'a self,
        to: &mut Vec<Message<'a>>,
        max: usize,
    ) -> Result<usize, RecvError> {
        self.batch_until(to, max, Deadline::NEVER).map_err(RecvTimeoutError::without_deadline)
    }

    /// As [`recv_batch`](Self::recv_batch), waiting at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_batch_timeout<'a>(
        &'a self,
        to: &mut Vec<Message<'a>>,
        max: usize,
        timeout: Duration,
    ) -> Result<usize, RecvTimeoutError> {
        self.batch_until(to, max, Deadline::after(timeout))
    }

    /// As [`recv_batch`](Self::recv_batch), waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`recv_deadline`](Self::recv_deadline).
    pub fn recv_batch_deadline<'a>(
        &'a self,
        to: &mut Vec<Message<'a>>,
        max: usize,
        deadline: Instant,
    ) -> Result<usize, RecvTimeoutError> {
        self.batch_until(to, max, Deadline::at(deadline))
    }

    fn batch_until<'a>(
        &'a self,
        to: &mut Vec<Message<'a>>,
        max: usize,
        deadline: Deadline,
    ) -> Result<usize, RecvTimeoutError> {
        if max == 0 {
            return Ok(0);
        }
        to.push(Message::new(self, self.take_until(deadline)?));
        Ok(1 + self.more_of(to, max - 1))
    }

    /// Takes what else there is. What goes wrong meanwhile is told by the next call.
    fn more_of<'a>(&'a self, to: &mut Vec<Message<'a>>, max: usize) -> usize {
        let before = to.len();
        while to.len() - before < max {
            match self.take(0) {
                Ok(Some(held)) => to.push(Message::new(self, held)),
                Ok(None) => break,
                Err(refused) => {
                    self.corrupt(refused);
                    break;
                }
            }
        }
        to.len() - before
    }

    /// The messages as vectors, waiting for each, until the stream ends or the handle is of no more use. For guards
    /// instead of copies: `while let Ok(message) = receiver.recv()`.
    pub fn iter(&self) -> Iter<'_> {
        Iter { receiver: self }
    }

    common!();

    /// Whether there is no message that this handle could take. Only news, whatever it answers: other receivers receive.
    pub fn is_empty(&self) -> bool {
        if !self.party.is_usable() {
            return true;
        }
        !self.has_message()
    }

    fn has_message(&self) -> bool {
        let there = self.ring.has_message().unwrap_or(false);
        let skipped = self.ring.skipped();
        if skipped != 0 {
            self.stepped_over(skipped);
        }
        there
    }

    /// Whether the stream has ended: the last sender let go or died, and everything was received. Asks the kernel's locks.
    /// Another sender may come at any time.
    pub fn is_disconnected(&self) -> bool {
        self.party.is_usable()
            && self.party.recover().is_ok()
            && self.party.is_gone(true).unwrap_or(false)
            && self.is_empty()
    }

    /// The end of a message. Not part of its destructor: that one is small then, and the message itself stays in registers.
    #[inline(never)]
    fn let_go(&self, held: Held, back: bool) {
        if sync::dead() || !self.party.is_usable() {
            return;
        }
        if back {
            return self.hand_back(held);
        }
        self.ring.release(&held);
        self.party.released();
        self.party.closed();
        self.party.tally(SeatWord::RECEIVED, 1);
    }

    #[cold]
    #[inline(never)]
    fn hand_back(&self, held: Held) {
        self.ring.give_back(&held);
        self.party.closed();
        self.party.pass_on();
    }

    #[cold]
    fn corrupt(&self, refused: Refused) -> Fault {
        self.party.corrupt(damage(refused))
    }
}

/// A message in the ring's own memory. Dropping it releases its slot.
///
/// Until then nobody else gets it, and the slot is not used again. Given back, or dropped by a panic that began while it was
/// held, it is delivered again, marked [`redelivered`](Self::redelivered), before any that was not taken yet. So is one
/// whose receiver died; on a ring that delivers at most once ([`Delivery::AtMostOnce`]) that one is counted lost instead.
/// One that was forgotten stays taken until the seat is let go of, and then goes the same way.
pub struct Message<'a> {
    receiver: &'a Receiver,
    held: Held,
    /// Whether no panic was under way when it was handed out: one that begins later is this message's.
    calm: bool,
}

/// Says where it stands and how long it is, never what is in it.
impl core::fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Message")
            .field("ring", self.receiver.name())
            .field("position", &self.position())
            .field("len", &self.len())
            .field("attempts", &self.attempts())
            .finish()
    }
}

impl<'a> Message<'a> {
    #[inline(always)]
    fn new(receiver: &'a Receiver, held: Held) -> Self {
        receiver.party.opened();
        if held.attempts() > 1 {
            receiver.party.tally(SeatWord::REDELIVERED, 1);
        }
        Self { receiver, held, calm: !std::thread::panicking() }
    }

    /// Bytes of payload.
    #[inline]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether it has no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where it stands in the order of all messages of the ring: one more for each claim, and the same each time a message
    /// is delivered, so it tells a duplicate. Wraps with the laps of the ring, after 2^48 of them.
    pub fn position(&self) -> u64 {
        self.receiver.ring.position(&self.held)
    }

    /// Whether it was handed out before: to a receiver that died, panicked, forgot it or gave it back.
    pub fn redelivered(&self) -> bool {
        self.held.attempts() > 1
    }

    /// How often it has been handed out, this time included. A death in the wrong moment may cost one; stops at 256.
    pub fn attempts(&self) -> u32 {
        self.held.attempts()
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
        self.receiver.party.is_whole()
    }

    /// Copies as many of its bytes as fit into `to`; answers how many.
    pub fn copy_to(&self, to: &mut [u8]) -> usize {
        if !self.receiver.party.readable() {
            return 0;
        }
        // SAFETY: `MaybeUninit<u8>` is laid out as `u8`, and `read` writes only bytes.
        let to = unsafe { &mut *(core::ptr::from_mut(to) as *mut [MaybeUninit<u8>]) };
        self.receiver.ring.read(&self.held, to).len()
    }

    fn append_to(&self, to: &mut Vec<u8>) {
        if !self.receiver.party.readable() {
            return;
        }
        let before = to.len();
        to.reserve(self.len());
        let read = self.receiver.ring.read(&self.held, to.spare_capacity_mut()).len();
        // SAFETY: `read` bytes behind `before` were just written.
        unsafe { to.set_len(before + read) };
    }

    /// Copies it out and releases it, whatever panics are under way.
    fn into_vec(mut self, to: &mut Vec<u8>) -> Result<usize, Fault> {
        to.clear();
        self.append_to(to);
        self.calm = false;
        match self.receiver.party.whole() {
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

    /// Gives it back instead of releasing it: the next receiver gets it, which may be this one.
    pub fn give_back(self) {
        let message = core::mem::ManuallyDrop::new(self);
        message.receiver.let_go(message.held, true);
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
        if !self.receiver.party.readable() {
            return &[];
        }
        let ring = &self.receiver.ring;
        let address = ring.view().address_data(ring.payload(&self.held));
        // SAFETY: the length was compared with what a slot holds, so `len` bytes from the payload on lie within the ring;
        // nobody writes them by the caller's promise, and this receiver does not release them before the message is dropped.
        unsafe { core::slice::from_raw_parts(address, self.len()) }
    }
}

impl Drop for Message<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // A panic that began later is this message's.
        self.receiver.let_go(self.held, std::thread::panicking() && self.calm);
    }
}

/// Messages as vectors; see [`Receiver::iter`].
#[derive(Debug)]
pub struct Iter<'a> {
    receiver: &'a Receiver,
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

impl<'a> IntoIterator for &'a Receiver {
    type Item = Vec<u8>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}
