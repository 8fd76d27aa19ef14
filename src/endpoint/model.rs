//! The endpoint's twin in the model worlds: one opening of a ring that has no file.
//!
//! Knows a ring's memory, who holds which lock byte, and what the kernel does when a process dies: its locks are free, and
//! whoever sleeps looks again sooner or later. Knows nothing of names, files and headers, nor of what the bytes do
//! afterwards: those are the same text as in the native world.
//!
//! # What stands in for the kernel
//!
//! | the kernel's                                   | here                                                             |
//! |------------------------------------------------|------------------------------------------------------------------|
//! | a lock byte of an open file description        | a word: 0, or the number of the opening that holds it            |
//! | taking it, asking for it                       | Acquire: what its last holder did is seen                        |
//! | giving it back, or dying                       | Release                                                          |
//! | a slice that ends (100 ms)                     | each death ends one slice of each wait, going on or to come      |
//!
//! The kernel orders more than these words do: all questions about one file go through one lock of its own. Whoever sleeps
//! when somebody dies sees what the dead did by the futex's lock already, before it asks; so it is the models in which
//! nobody sleeps that show what the lock bytes order.
//!
//! No other slice ends: a wake-up that the living lose is a deadlock, which the checker reports.
#![forbid(unsafe_code)]

use core::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{OpenError, RingName};
use crate::layout::control::{NOT_EMPTY, NOT_FULL};
use crate::layout::geometry::{Geometry, Slots};
use crate::layout::view::View;
use crate::options::Delivery;
use crate::region;
use crate::roster::{LOCK_BASE, Role};
use crate::seats;
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{self, AtomicU64};

/// Lock bytes before those of the seats: the two roles and whoever looks through the table.
const SINGLE: u64 = 4;

/// What all openings of a ring share.
#[derive(Debug)]
struct File {
    memory: Memory,
    keep_open: bool,
    delivery: Delivery,
    locks: Vec<AtomicU64>,
    /// Which bytes an opening holds; `None` of a process that died. The kernel's own notes: no actor sees them.
    openings: Mutex<BTreeMap<u64, Option<Vec<u64>>>>,
}

#[derive(Debug)]
enum Memory {
    Bytes(View),
    Slots(View<Slots>),
}

impl File {
    fn openings(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Option<Vec<u64>>>> {
        self.openings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self, byte: u64) -> io::Result<&AtomicU64> {
        let at = byte.wrapping_sub(LOCK_BASE);
        let first_seat = seats::lock_byte(0) - LOCK_BASE;
        let index = if at < SINGLE {
            Some(at)
        } else {
            at.checked_sub(first_seat).map(|seat| seat + SINGLE)
        };
        let lock = index.and_then(|index| self.locks.get(usize::try_from(index).ok()?));
        lock.ok_or_else(|| io::Error::other("a lock byte that no ring has"))
    }

    /// Gives back what an opening holds, as the kernel does when its last descriptor goes. No step of any process.
    fn close(&self, opening: u64) {
        // The entry stays, so that no number means two openings.
        let held = self.openings().insert(opening, Some(Vec::new())).flatten();
        for lock in held.into_iter().flatten().filter_map(|byte| self.lock(byte).ok()) {
            // Release, for success: pairs with the Acquire of whoever asks. An exchange, because the checker lets a plain store
            // come in between the two halves of another's exchange.
            let _ = lock.compare_exchange(opening, 0, Release, Relaxed);
        }
    }
}

/// A ring of a model that several processes may open.
#[derive(Clone, Debug)]
pub struct Ring(Arc<File>);

impl Ring {
    /// A ring of bytes whose positions begin at `start`.
    pub fn bytes(shape: Geometry, start: u64, keep_open: bool, delivery: Delivery) -> Ring {
        Self::new(Memory::Bytes(region::heap(shape, start)), 0, keep_open, delivery)
    }

    /// A ring of slots whose positions begin at `start`.
    pub fn slots(shape: Slots, start: u64, keep_open: bool, delivery: Delivery) -> Ring {
        let memory = Memory::Slots(region::slots(shape, start));
        Self::new(memory, shape.seats().into(), keep_open, delivery)
    }

    fn new(memory: Memory, seats: u64, keep_open: bool, delivery: Delivery) -> Ring {
        let locks = (0..SINGLE + seats).map(|_| AtomicU64::new(0)).collect();
        let openings = Mutex::default();
        Ring(Arc::new(File { memory, keep_open, delivery, locks, openings }))
    }

    /// A process that has not opened the ring yet.
    pub fn process(&self) -> Process {
        Process { ring: self.clone(), openings: RefCell::default() }
    }

    /// Ends a slice of all who wait at the ring, or will: what a death left is found at the end of a slice only.
    fn expire(&self) {
        let beds = match &self.0.memory {
            Memory::Bytes(view) => [view.word32(NOT_EMPTY), view.word32(NOT_FULL)],
            Memory::Slots(view) => [view.word32(NOT_EMPTY), view.word32(NOT_FULL)],
        };
        beds.into_iter().for_each(sync::expire);
    }

    /// The memory of a ring of bytes.
    pub fn view(&self) -> Option<View> {
        match &self.0.memory {
            Memory::Bytes(view) => Some(view.clone()),
            Memory::Slots(_) => None,
        }
    }

    /// The memory of a ring of slots.
    pub fn slots_view(&self) -> Option<View<Slots>> {
        match &self.0.memory {
            Memory::Slots(view) => Some(view.clone()),
            Memory::Bytes(_) => None,
        }
    }
}

/// A process of a model: what it has opened goes with it.
#[derive(Debug)]
pub struct Process {
    ring: Ring,
    openings: RefCell<Vec<u64>>,
}

impl Process {
    /// Runs `body` in this process, which dies at its `steps`-th shared step (counted from 0), or lives. `None` when it died:
    /// then what it had opened is closed, and its locks are free.
    pub fn run<T>(&self, steps: Option<u32>, body: impl FnOnce(&Process) -> T) -> Option<T> {
        let ended = sync::actor(steps, || body(self));
        if ended.is_none() {
            for opening in self.openings.take() {
                self.ring.0.close(opening);
                self.ring.0.openings().insert(opening, None);
            }
            self.ring.expire();
        }
        ended
    }

    /// Opens the ring, and takes the seat, if one is named.
    pub(crate) fn open(&self, seat: Option<Role>) -> Result<Endpoint, OpenError> {
        let file = Arc::clone(&self.ring.0);
        let opening = {
            let mut openings = file.openings();
            let opening = openings.last_key_value().map_or(1, |(last, _)| last + 1);
            openings.insert(opening, Some(Vec::new()));
            opening
        };
        self.openings.borrow_mut().push(opening);
        let endpoint = Endpoint { file, opening, name: RingName::new("(model)"), role: seat };
        if let Some(role) = seat {
            let locked = endpoint.try_lock(role.lock_byte()).map_err(|source| OpenError::Os {
                ring: endpoint.name.clone(),
                doing: "locking the seat",
                source,
            })?;
            if !locked {
                return Err(OpenError::SeatTaken {
                    ring: endpoint.name.clone(),
                    role: role.name(),
                });
            }
        }
        Ok(endpoint)
    }

    /// Opens the ring without a seat, and gives back what the dead left there.
    ///
    /// # Errors
    ///
    /// A ring of bytes.
    pub fn recover(&self) -> Result<crate::recovery::Recovered, OpenError> {
        crate::recovery::at(&self.open(None)?)
    }
}

/// A system call: one step, which happens whole or not at all.
fn call<T>(kernel: impl FnOnce() -> T) -> T {
    sync::step();
    sync::quietly(kernel)
}

/// One opening of a ring, and the locks that it holds.
#[derive(Debug)]
pub(crate) struct Endpoint {
    file: Arc<File>,
    opening: u64,
    name: RingName,
    role: Option<Role>,
}

impl Endpoint {
    /// Whether somebody alive is the other end. Without a role there is no other end.
    pub(crate) fn peer_holds_lock(&self) -> io::Result<bool> {
        self.role.map_or(Ok(false), |role| self.is_held(role.peer().lock_byte()))
    }

    /// Takes the lock on one byte. `false`: another opening holds it.
    pub(crate) fn try_lock(&self, byte: u64) -> io::Result<bool> {
        let lock = self.file.lock(byte)?;
        // Acquire: pairs with whoever gave it back.
        let taken = call(|| lock.compare_exchange(0, self.opening, Acquire, Relaxed));
        if taken.is_ok() {
            self.note(|held| held.push(byte));
        }
        Ok(taken.is_ok() || taken == Err(self.opening))
    }

    /// Gives the lock on one byte back.
    pub(crate) fn unlock(&self, byte: u64) -> io::Result<()> {
        let lock = self.file.lock(byte)?;
        // Release, for success: as in `close`. A byte that is not held stays as it is.
        let _ = call(|| lock.compare_exchange(self.opening, 0, Release, Relaxed));
        self.note(|held| held.retain(|&other| other != byte));
        Ok(())
    }

    /// Whether another opening holds the lock on one byte.
    pub(crate) fn is_held(&self, byte: u64) -> io::Result<bool> {
        // Acquire: pairs with whoever gave it back.
        let lock = self.file.lock(byte)?;
        let holder = call(|| lock.load(Acquire));
        Ok(holder != 0 && holder != self.opening)
    }

    fn note(&self, change: impl FnOnce(&mut Vec<u64>)) {
        match self.file.openings().get_mut(&self.opening) {
            Some(Some(held)) => change(held),
            _ => panic!(
                "a handle of the model outlived its process: it must be moved into what dies"
            ),
        }
    }

    /// A model's ring has no name to lose.
    pub(crate) fn is_unlinked(&self) -> bool {
        false
    }

    /// A model's ring has no file that could be cut short.
    pub(crate) fn truncated(&self) -> Option<(u64, u64)> {
        None
    }

    /// The memory of a ring of bytes.
    pub(crate) fn view(&self) -> Result<View, OpenError> {
        match &self.file.memory {
            Memory::Bytes(view) => Ok(view.clone()),
            Memory::Slots(_) => Err(self.wrong_kind()),
        }
    }

    /// The memory of a ring of slots.
    pub(crate) fn slots(&self) -> Result<View<Slots>, OpenError> {
        match &self.file.memory {
            Memory::Slots(view) => Ok(view.clone()),
            Memory::Bytes(_) => Err(self.wrong_kind()),
        }
    }

    fn wrong_kind(&self) -> OpenError {
        OpenError::Corrupt { ring: self.name.clone(), what: "kind" }
    }

    /// The ring's name.
    pub(crate) fn name(&self) -> &RingName {
        &self.name
    }

    /// Whether the ring waits for the next peer for ever.
    pub(crate) fn keep_open(&self) -> bool {
        self.file.keep_open
    }

    /// What becomes of a message whose receiver dies.
    pub(crate) fn delivery(&self) -> Delivery {
        self.file.delivery
    }
}

/// A process that lives gives its locks back when it closes the ring; those of one that died are the kernel's to free.
impl Drop for Endpoint {
    fn drop(&mut self) {
        if !sync::dead() {
            self.note(|_| {});
            call(|| self.file.close(self.opening));
        }
    }
}
