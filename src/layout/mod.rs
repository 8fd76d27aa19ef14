//! Bytes. Knows what every byte of a ring means; knows no algorithm.

#[cfg(all(
    target_os = "linux",
    not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
))]
pub(crate) mod header;
