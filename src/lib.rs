//! quoit: a lock-free ring-buffer transport between processes of one machine.

// Beside the tower: plain data.
#[allow(dead_code)]
mod error;
mod options;

// Layer 0: ground.
#[cfg(all(
    target_os = "linux",
    not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
))]
#[allow(dead_code)]
mod os;
#[allow(unused_imports)]
mod sync;

// Layer 1: bytes.
#[allow(dead_code)]
mod layout;

// Layer 2: algorithms.
#[allow(dead_code)]
mod roster;

pub use error::{
    Fault, OpenError, RecvError, RecvTimeoutError, RingName, SendError, SendTimeoutError,
    TryRecvError, TrySendError,
};
#[cfg(all(
    target_os = "linux",
    not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
))]
pub use layout::header::Kind;
pub use options::{Delivery, Options};
