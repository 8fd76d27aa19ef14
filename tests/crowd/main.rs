//! What `quoit::mpmc` promises to many processes, whatever happens to some of them; and what both rings promise to those who are
//! killed again and again.
//!
//! Nearly all processes here work on their own: this same program, told by its environment which [`worker`] to be. Each
//! writes down what it is about to do and how it went, in a file that outlives it ([`notes`]), and the test compares the
//! books ([`books`]). `QUOIT_CROWD=full` runs the claims at their full size (`just crowd`).
#![cfg(target_os = "linux")]

mod books;
mod busy;
mod bytes;
mod flow;
mod harness;
mod journal;
mod names;
mod notes;
mod nursery;
mod random;
mod restarts;
mod seats;
mod stalled;
mod storm;
mod toll;
mod wakes;
mod wiped;
mod worker;

/// Not a claim: what the other processes run. It does nothing when nobody made it one of them.
#[test]
fn other_process() {
    worker::run();
}
