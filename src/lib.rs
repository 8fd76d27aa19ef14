//! quoit: a lock-free ring-buffer transport between processes of one machine.

// Beside the tower: plain data.
mod error;
mod options;

// Layer 0: ground.
#[cfg(all(
    target_os = "linux",
    not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
))]
#[allow(dead_code)]
mod os;
#[allow(unreachable_pub, dead_code)] // Public to the models only.
mod sync;

// Layer 1: bytes.
#[allow(unreachable_pub, dead_code)]
mod layout;

// Layer 2: algorithms.
#[allow(unreachable_pub, dead_code)]
mod region;
#[allow(unreachable_pub, dead_code)]
mod ring;
#[allow(dead_code)]
mod roster;
#[allow(unreachable_pub, dead_code)]
mod wake;

// Layer 3: meaning.
#[cfg(all(
    target_os = "linux",
    not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
))]
#[allow(dead_code)]
mod endpoint;
#[cfg(all(
    target_os = "linux",
    not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
))]
mod inspect;

pub use error::{
    Fault, OpenError, RecvError, RecvTimeoutError, RingName, SendError, SendTimeoutError, TryRecvError, TrySendError,
};
#[cfg(all(
    target_os = "linux",
    not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
))]
pub use inspect::{
    Info, Listed, Presence, SeatInfo, inspect, inspect_with, list, name_path, unlink,
};
#[cfg(all(
    target_os = "linux",
    not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
))]
pub use layout::header::Kind;
pub use options::{Delivery, Options};
pub use roster::Presence;

/// What the models are made of. Outside semver.
#[cfg(any(all(loom, feature = "model"), all(shuttle, feature = "model")))]
#[doc(hidden)]
#[allow(missing_docs)]
pub mod model {
    pub use crate::layout;
    pub use crate::region;
    pub use crate::ring;
    pub use crate::sync;
    pub use crate::wake;
}
