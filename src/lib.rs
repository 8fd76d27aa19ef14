//! quoit: a lock-free ring-buffer transport between processes of one machine.
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
//! The modules, from the bottom up; each knows only what stands before it in this list, or beside it in its layer:
//! `sync` (the memory model) and `os` (the kernel), `layout` (the bytes), `region`, `roster`, `seats`, `wake` and `ring` (the
//! algorithms), `link`, `party`, `recovery`, `blocking`, `endpoint` and [`inspect`](fn@inspect) (what they mean), [`spsc`]
//! and [`mpmc`] (what a user sees).

// Beside the tower: plain data.
mod error;
mod options;

#[cfg(all(target_os = "linux", target_endian = "big"))]
compile_error!("the words of a ring's file are little-endian");

// Layer 0: ground.
#[cfg(all(
    target_os = "linux",
    not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
))]
mod os;
#[allow(unreachable_pub)] // Public to the models only.
mod sync;

// Layer 1: bytes.
#[allow(unreachable_pub)]
#[cfg_attr(any(loom, shuttle), allow(clippy::len_without_is_empty))]
// A message is not a collection.
mod layout;

// Layer 2: algorithms.
#[allow(unreachable_pub)]
mod region;
#[allow(unreachable_pub)]
#[cfg_attr(any(loom, shuttle), allow(clippy::len_without_is_empty))]
// A message is not a collection.
mod ring;
mod roster;
#[allow(unreachable_pub)]
mod seats;
#[allow(unreachable_pub)]
mod wake;

// Layer 3: meaning.
mod blocking;
mod draft;
#[cfg(all(
    target_os = "linux",
    not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
))]
mod endpoint;
#[cfg(any(all(loom, feature = "model"), all(shuttle, feature = "model")))]
#[path = "endpoint/model.rs"]
#[allow(unreachable_pub)]
mod endpoint;
#[cfg(all(
    target_os = "linux",
    not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
))]
mod inspect;
mod link;
mod party;
mod recovery;

// Layer 4: faces.
pub mod mpmc;
pub mod spsc;

pub use error::{
    Fault, Holder, OpenError, RecvError, RecvTimeoutError, RingName, SendError, SendTimeoutError,
    TryRecvError, TrySendError,
};
#[cfg(all(
    target_os = "linux",
    not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
))]
pub use inspect::{Info, Listed, SeatInfo, Seated, inspect, inspect_with, list, name_path, unlink};
#[cfg(all(
    target_os = "linux",
    not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
))]
pub use layout::header::Kind;
pub use options::{Delivery, Options, Wait};
#[cfg(all(
    target_os = "linux",
    not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
))]
pub use os::sigbus::catch_sigbus;
pub use recovery::Recovered;
#[cfg(all(
    target_os = "linux",
    not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
))]
pub use recovery::recover;
pub use roster::Presence;

/// What the models are made of. Outside semver.
#[cfg(any(all(loom, feature = "model"), all(shuttle, feature = "model")))]
#[doc(hidden)]
#[allow(missing_docs)]
pub mod model {
    pub use crate::endpoint::{Process, Ring};
    pub use crate::layout::{control, geometry, record, slot, view};
    pub use crate::region::{heap, slots};
    pub use crate::ring::{Refused, mpmc, spsc};
    pub use crate::{sync::*, wake::*};
}

/// What is fuzzed where no name and no handle leads to. Outside semver.
#[cfg(all(fuzzing, feature = "model", target_os = "linux", not(any(loom, shuttle))))]
#[doc(hidden)]
#[allow(missing_docs)]
pub mod oracle {
    pub use crate::layout::{geometry, record};
    pub use crate::sync::oracle::{AtomicU64, Question, answered_by};

    /// Reads a header of a file of this length, and writes it as it was understood.
    pub fn header(bytes: &[u8], file_len: u64) -> Option<[u8; 256]> {
        let read = crate::layout::header::Header::decode(bytes, file_len);
        read.ok().map(|header| header.encode())
    }
}

/// The programs in the README are compiled, and run where they end by themselves.
#[cfg(all(
    doctest,
    target_os = "linux",
    not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
))]
#[doc = include_str!("../README.md")]
struct Readme;
