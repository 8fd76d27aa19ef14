//! The model worlds: loom's or shuttle's atomics, a futex made of a lock and a condition, and death.
//!
//! Knows how an actor dies: it has a budget of shared steps, and when that is used up it unwinds to [`actor`] and does
//! nothing more, destructors included. `kill -9` at any instruction is this, because only shared steps are seen by
//! others.
//!
//! # What the model leaves out
//!
//! Time: a deadline never passes. Sleeps have no slices, so a lost wake-up is a deadlock, which the checker reports. Only a
//! death ends slices ([`expire`]): one in each wait that is going on or begins later; then the clock of whoever slept moves on.

use core::cell::Cell as StdCell;
use core::panic::Location;
use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

#[cfg(all(loom, feature = "model"))]
use loom as checker;
#[cfg(all(shuttle, feature = "model", not(all(loom, feature = "model"))))]
use shuttle as checker;

use checker::sync::atomic;
use checker::sync::{Condvar, Mutex, MutexGuard};

use super::{Ordering, Scope, Slept, story, weaken};

/// Whether this world is a model.
pub const MODELLED: bool = true;

/// Steps left before the actor dies; `None` is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Immortal,
    Steps(u32),
    Dead,
}

checker::thread_local! {
    static LIFE: StdCell<Life> = StdCell::new(Life::Immortal);
    static CLOCK_MS: StdCell<u64> = StdCell::new(0);
    /// How many of the deaths have ended a slice of this actor's present wait.
    static MOURNED: StdCell<u32> = StdCell::new(0);
    static LIGHT: StdCell<bool> = StdCell::new(false);
}

/// What unwinds a dead actor.
struct Died;

/// Runs `body` as an actor that dies at its `steps`-th shared step (counted from 0), or never. `None` when it died.
pub fn actor<T>(steps: Option<u32>, body: impl FnOnce() -> T) -> Option<T> {
    LIFE.with(|life| life.set(steps.map_or(Life::Immortal, Life::Steps)));
    let ended = catch_unwind(AssertUnwindSafe(body));
    LIFE.with(|life| life.set(Life::Immortal));
    match ended {
        Ok(value) => Some(value),
        Err(cause) if cause.is::<Died>() => None,
        Err(cause) => resume_unwind(cause),
    }
}

/// Dies here and now.
#[track_caller]
pub fn die() -> ! {
    story::step(Location::caller(), || "dies before this".into());
    LIFE.with(|life| life.set(Life::Dead));
    resume_unwind(Box::new(Died));
}

/// Makes the light fences of the handles that this thread opens from now on hold the compiler only, as they do where the
/// kernel runs the other half. For models in which nobody sleeps: that half is not modelled, and a full fence would hide
/// that an ordering is missing.
pub fn set_light(on: bool) {
    LIGHT.with(|light| light.set(on));
}

/// Whether the actor that runs here has died: its destructors do nothing. So do those of whoever panics, because the model
/// has failed then; and after a deadlock the checker has no thread left whose steps theirs could be.
pub fn dead() -> bool {
    std::thread::panicking() || LIFE.try_with(|life| life.get() == Life::Dead).unwrap_or(false)
}

/// Runs `body` without counting its steps: for setting up.
pub fn quietly<T>(body: impl FnOnce() -> T) -> T {
    let before = LIFE.with(|life| life.replace(Life::Immortal));
    let value = body();
    LIFE.with(|life| life.set(before));
    value
}

/// One shared step: the actor may die here, before it takes effect.
#[track_caller]
pub fn step() {
    let died = LIFE.with(|life| match life.get() {
        Life::Immortal => false,
        Life::Dead => true,
        // Whoever fails an assertion ends by that, its destructors included.
        Life::Steps(0) if std::thread::panicking() => false,
        Life::Steps(0) => {
            life.set(Life::Dead);
            true
        }
        Life::Steps(left) => {
            life.set(Life::Steps(left - 1));
            false
        }
    });
    if died {
        // A destructor that touches shared memory after its owner's death is a fault of the code under test.
        assert!(!std::thread::panicking(), "a dead actor's destructor took a shared step");
        die();
    }
}

macro_rules! atomic {
    ($name:ident, $inner:ident, $value:ty) => {
        /// An atomic whose every access is a shared step.
        #[derive(Debug)]
        pub struct $name {
            inner: atomic::$inner,
            #[allow(dead_code)] // Nobody sleeps on a word of 64 bits.
            queue: Queue,
        }

        impl $name {
            /// An atomic that holds `value`.
            pub fn new(value: $value) -> Self {
                Self { inner: atomic::$inner::new(value), queue: Queue::default() }
            }

            /// A load.
            #[track_caller]
            pub fn load(&self, order: Ordering) -> $value {
                step();
                let order = weaken::access(Location::caller(), order);
                let found = self.inner.load(order);
                story::step(Location::caller(), || format!("load {order:?}: {found:#x}"));
                found
            }

            /// A store.
            #[track_caller]
            pub fn store(&self, value: $value, order: Ordering) {
                step();
                let order = weaken::access(Location::caller(), order);
                story::step(Location::caller(), || format!("store {order:?}: {value:#x}"));
                self.inner.store(value, order);
            }

            /// Stores and answers what was there.
            #[track_caller]
            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                step();
                let order = weaken::access(Location::caller(), order);
                let found = self.inner.swap(value, order);
                story::step(Location::caller(), || {
                    format!("swap {order:?}: {found:#x} with {value:#x}")
                });
                found
            }

            /// Bitwise or.
            #[track_caller]
            pub fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                step();
                let order = weaken::access(Location::caller(), order);
                let found = self.inner.fetch_or(value, order);
                story::step(Location::caller(), || {
                    format!("fetch_or {order:?}: {found:#x} with {value:#x}")
                });
                found
            }

            /// Bitwise and.
            #[track_caller]
            pub fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                step();
                let order = weaken::access(Location::caller(), order);
                let found = self.inner.fetch_and(value, order);
                story::step(Location::caller(), || {
                    format!("fetch_and {order:?}: {found:#x} with {value:#x}")
                });
                found
            }

            /// Addition.
            #[track_caller]
            pub fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                step();
                let order = weaken::access(Location::caller(), order);
                let found = self.inner.fetch_add(value, order);
                story::step(Location::caller(), || {
                    format!("fetch_add {order:?}: {found:#x} with {value:#x}")
                });
                found
            }

            /// Compare and swap.
            #[track_caller]
            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                step();
                let success = weaken::access(Location::caller(), success);
                let done = self.inner.compare_exchange(current, new, success, failure);
                story::step(Location::caller(), || match done {
                    Ok(_) => format!("exchange {success:?}: {current:#x} for {new:#x}"),
                    Err(found) => {
                        format!("exchange of {current:#x} for {new:#x} in vain: {found:#x}")
                    }
                });
                done
            }
        }
    };
}

/// The futex of one word.
#[derive(Debug)]
struct Queue {
    sleepers: Mutex<Sleepers>,
    woken: Condvar,
}

#[derive(Debug)]
struct Sleepers {
    asleep: u32,
    /// How many have died who might have woken somebody here.
    deaths: u32,
}

impl Sleepers {
    /// Whether a slice of this actor has ended by itself.
    fn slice_ended(&self) -> bool {
        MOURNED.with(|mourned| mourned.replace(self.deaths)) != self.deaths
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Sleepers> {
        self.sleepers.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self { sleepers: Mutex::new(Sleepers { asleep: 0, deaths: 0 }), woken: Condvar::new() }
    }
}

/// 64-bit words are never slept on.
#[derive(Debug, Default)]
struct NoQueue;

mod wide {
    use super::{Location, NoQueue as Queue, Ordering, atomic, step, story, weaken};
    atomic!(AtomicU64, AtomicU64, u64);
}
mod narrow {
    use super::{Location, Ordering, Queue, atomic, step, story, weaken};
    atomic!(AtomicU32, AtomicU32, u32);

    impl AtomicU32 {
        pub(super) fn queue(&self) -> &Queue {
            &self.queue
        }

        pub(super) fn peek(&self) -> u32 {
            self.inner.load(Ordering::SeqCst)
        }
    }
}
pub use narrow::AtomicU32;
pub use wide::AtomicU64;

/// A word of payload that no protocol word shares: concurrent access is an error that the checker reports.
#[derive(Debug)]
pub struct Cell(
    #[cfg(all(loom, feature = "model"))] loom::cell::UnsafeCell<u64>,
    #[cfg(not(all(loom, feature = "model")))] core::cell::UnsafeCell<u64>,
);

// SAFETY: the model exists to show that no two actors touch a cell at once; loom checks every access.
unsafe impl Sync for Cell {}

impl Cell {
    /// A cell that holds `value`.
    pub fn new(value: u64) -> Self {
        #[cfg(all(loom, feature = "model"))]
        {
            Self(loom::cell::UnsafeCell::new(value))
        }
        #[cfg(not(all(loom, feature = "model")))]
        {
            Self(core::cell::UnsafeCell::new(value))
        }
    }

    /// Reads it.
    pub fn get(&self) -> u64 {
        #[cfg(all(loom, feature = "model"))]
        {
            // SAFETY: loom has just checked that nobody writes.
            self.0.with(|cell| unsafe { *cell })
        }
        #[cfg(not(all(loom, feature = "model")))]
        {
            // SAFETY: shuttle runs one thread at a time.
            unsafe { *self.0.get() }
        }
    }

    /// Writes it.
    pub fn set(&self, value: u64) {
        #[cfg(all(loom, feature = "model"))]
        {
            // SAFETY: loom has just checked that nobody else has access.
            self.0.with_mut(|cell| unsafe { *cell = value });
        }
        #[cfg(not(all(loom, feature = "model")))]
        {
            // SAFETY: shuttle runs one thread at a time.
            unsafe { *self.0.get() = value };
        }
    }
}

/// A fence.
#[track_caller]
pub fn fence(order: Ordering) {
    if let Some(order) = weaken::fence(Location::caller(), order) {
        story::step(Location::caller(), || format!("fence {order:?}"));
        atomic::fence(order);
    }
}

/// A turn of a spin loop: somebody else must run before it can end.
pub fn spin_loop() {
    checker::thread::yield_now();
}

/// Gives way.
pub fn yield_now() {
    checker::thread::yield_now();
}

/// The model has no clock: a deadline has passed from the start, or never passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(bool);

impl Deadline {
    /// The deadline that never passes.
    pub const NEVER: Self = Self(true);

    /// Passed from the start for no wait at all, else never.
    pub fn after(wait: Duration) -> Self {
        Self(wait != Duration::ZERO)
    }

    /// Passed from the start.
    pub fn at(_: std::time::Instant) -> Self {
        Self(false)
    }

    /// Whether it has passed.
    pub fn passed(self) -> bool {
        !self.0
    }

    /// The nearer of the two.
    pub fn min(self, other: Self) -> Self {
        Ord::min(self, other)
    }
}

/// What a slice takes.
const SLICE_MS: u64 = 100;

/// A clock that moves only for whoever sleeps: by a slice for each that ended by itself.
pub fn coarse_ms() -> u64 {
    CLOCK_MS.with(StdCell::get)
}

fn timed_out() -> Slept {
    CLOCK_MS.with(|clock| clock.set(clock.get() + SLICE_MS));
    Slept::TimedOut
}

/// The actor that runs: 0 is the model's own thread, and the others are numbered as they are spawned.
pub(super) fn whoever_runs() -> String {
    format!("{:?}", checker::thread::current().id())
        .replace("ThreadId(", "thread ")
        .replace(')', "")
}

/// The kernel's wait: compares and sleeps in one step against every wake.
#[track_caller]
pub fn futex_wait(word: &AtomicU32, expected: u32, _: Deadline, scope: Scope) -> Slept {
    step();
    atomic::fence(Ordering::SeqCst);
    let mut sleepers = word.queue().lock();
    let now = word.peek();
    story::step(Location::caller(), || format!("sleep while {expected:#x}; it is {now:#x}"));
    if now != expected {
        return Slept::Look;
    }
    if scope == Scope::Shared && sleepers.slice_ended() {
        drop(sleepers);
        yield_now();
        return timed_out();
    }
    sleepers.asleep += 1;
    let woken = word.queue().woken.wait(sleepers).unwrap_or_else(|poison| poison.into_inner());
    if scope == Scope::Shared && woken.slice_ended() { timed_out() } else { Slept::Look }
}

/// The kernel's wake.
#[track_caller]
pub fn futex_wake(word: &AtomicU32, n: u32, _: Scope) -> u32 {
    step();
    atomic::fence(Ordering::SeqCst);
    let mut sleepers = word.queue().lock();
    let woken = n.min(sleepers.asleep);
    story::step(Location::caller(), || format!("wake {n}; {} sleep", sleepers.asleep));
    sleepers.asleep -= woken;
    for _ in 0..woken {
        word.queue().woken.notify_one();
    }
    woken
}

/// Whether memory of some ring was found gone: here it never is.
#[inline(always)]
pub const fn memory_lost() -> bool {
    false
}

/// A wait begins: each death that was or will be ends one of its slices, and no more, so that what the living lose is not
/// made good by time.
pub fn wait_begins() {
    MOURNED.with(|mourned| mourned.set(0));
}

/// Somebody has died who might have woken those who sleep on a word, and nothing but time wakes whoever waits for that.
pub fn expire(word: &AtomicU32) {
    let mut sleepers = word.queue().lock();
    sleepers.asleep = 0;
    sleepers.deaths += 1;
    word.queue().woken.notify_all();
}

/// Both sides of the handshake are full fences here: the pair is what `membarrier` gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LightFence {
    /// Nothing, for models in which nobody sleeps ([`set_light`]).
    Compiler,
    /// A full fence.
    Full,
}

impl LightFence {
    /// A full fence, unless the model says otherwise.
    pub fn best() -> Self {
        if LIGHT.with(StdCell::get) { Self::Compiler } else { Self::Full }
    }

    /// Orders the caller's stores before its later loads.
    #[track_caller]
    pub fn run(self) {
        if self == Self::Full {
            fence(Ordering::SeqCst);
        }
    }
}

/// The sleeper's side of [`LightFence`]: both sides run full fences of their own here.
pub fn remote_fence() -> bool {
    true
}

/// Models do not fork.
pub fn generation() -> u64 {
    0
}

/// Models do not fork.
pub fn arm_generation() -> std::io::Result<u64> {
    Ok(0)
}
