//! Models of quoit's rings, over the code that ships.
//!
//! Knows how to run a model so that it cannot pass without having explored: every actor is spawned, the executions are
//! counted against a minimum, and the outcomes that were seen are handed back. Knows nothing of any one ring.
//!
//! Run with `cargo loom` and `cargo shuttle` (README.md). In an ordinary build this crate holds one ignored test that says
//! so.

#[cfg(loom)]
mod explore;
#[cfg(any(loom, shuttle))]
pub mod face;
#[cfg(any(loom, shuttle))]
mod outcomes;
#[cfg(shuttle)]
mod sample;
#[cfg(loom)]
pub use explore::*;
#[cfg(any(loom, shuttle))]
pub use outcomes::Outcomes;
#[cfg(shuttle)]
pub use sample::*;

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    #[test]
    #[ignore = "the models need `cargo loom` or `cargo shuttle`: an ordinary build has no model memory"]
    fn run_with_cargo_loom() {
        unreachable!("ignored");
    }
}
