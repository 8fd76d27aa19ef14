//! Models of quoit's rings, over the code that ships.
//!
//! Knows how to run a model so that it cannot pass without having explored: every actor is spawned, the executions are
//! counted against a minimum, and the outcomes that were seen are handed back. Knows nothing of any one ring.
//!
//! Run with `cargo loom` (README.md). In an ordinary build this crate holds one ignored test that says so.

#[cfg(loom)]
mod explore;
#[cfg(loom)]
pub use explore::*;

#[cfg(all(test, not(loom)))]
mod tests {
    #[test]
    #[ignore = "the models need `cargo loom`: an ordinary build has no model memory"]
    fn run_with_cargo_loom() {
        unreachable!("ignored");
    }
}
