//! quoit: a lock-free ring-buffer transport between processes of one machine.

// Layer 0: ground.
#[cfg(all(
    target_os = "linux",
    not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
))]
#[allow(dead_code)]
mod os;
#[allow(unused_imports)]
mod sync;

// Layer 2: algorithms.
#[allow(dead_code)]
mod roster;
