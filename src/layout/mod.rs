//! The bytes of a ring: where everything lies and what its bits mean.
//!
//! Knows offsets, widths and bits. Knows nothing of an algorithm, a file or a peer.

pub mod control;
pub mod geometry;
#[cfg(all(
    target_os = "linux",
    not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
))]
pub(crate) mod header;
pub mod record;
pub mod slot;

#[cfg(not(any(all(loom, feature = "model"), all(shuttle, feature = "model"))))]
pub mod view;

#[cfg(any(all(loom, feature = "model"), all(shuttle, feature = "model")))]
#[path = "view_model.rs"]
pub mod view;
