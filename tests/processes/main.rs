//! What quoit promises between processes, whatever happens to them.
//!
//! Every end of a ring here is a process of its own, this same program told to be an [`actor`]. They are killed with
//! SIGKILL, stopped with SIGSTOP, and forked. Each claim runs on a ring whose positions begin at 0, and on one whose
//! positions are about to wrap.
#![cfg(target_os = "linux")]

mod actor;
mod apart;
mod death;
mod ending;
mod exchange;
mod file;
mod fork;
mod futex;
mod gone;
mod harness;
mod seats;

/// Not a claim: what the other processes run. It does nothing when nobody gives it orders.
#[test]
fn other_process() {
    actor::run();
}
