//! The memory model, in three worlds.
//!
//! Knows which atomics, fences, sleeps and clocks the rest of the crate runs on, and how a modelled actor
//! dies. Knows nothing of rings, files or layouts. This is the only module that names `std::sync::atomic`,
//! `loom` or `shuttle`.
//!
//! | world   | picked by                           | atomics         | futex                        | death          |
//! |---------|-------------------------------------|-----------------|------------------------------|----------------|
//! | native  | default                             | the processor's | the kernel's                 | the kernel's   |
//! | loom    | `--cfg loom`, feature `model`       | loom's          | a lock and a condition       | [`actor`]      |
//! | shuttle | `--cfg shuttle`, feature `model`    | shuttle's       | a lock and a condition       | [`actor`]      |
//!
//! A native build with `--cfg fuzzing` and the feature `model` has the processor's atomics behind `oracle`, which may
//! answer each load of shared memory as it likes.
//!
//! The same names exist in every world, so the code above is the same text in all of them.

pub use core::sync::atomic::Ordering;

#[cfg(not(any(all(loom, feature = "model"), all(shuttle, feature = "model"))))]
mod copy;
#[cfg(not(any(all(loom, feature = "model"), all(shuttle, feature = "model"))))]
mod native;
#[cfg(not(any(all(loom, feature = "model"), all(shuttle, feature = "model"))))]
pub use native::*;

#[cfg(all(fuzzing, feature = "model", not(any(loom, shuttle))))]
pub(crate) mod oracle;

#[cfg(any(all(loom, feature = "model"), all(shuttle, feature = "model")))]
mod model;
#[cfg(any(all(loom, feature = "model"), all(shuttle, feature = "model")))]
mod story;
#[cfg(any(all(loom, feature = "model"), all(shuttle, feature = "model")))]
mod weaken;
#[cfg(any(all(loom, feature = "model"), all(shuttle, feature = "model")))]
pub use model::*;
#[cfg(any(all(loom, feature = "model"), all(shuttle, feature = "model")))]
pub use story::tell;

/// Whether the waiters on a word are all threads of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Any process that maps the word may wait on it or wake it.
    Shared,
    /// Only this process uses the word.
    Private,
}

/// Why a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slept {
    /// Woken, or interrupted, or the word had already changed: look again.
    Look,
    /// The deadline of the sleep passed.
    TimedOut,
}
