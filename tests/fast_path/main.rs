//! What the fast path costs besides time: no memory, and no call of the kernel. And what waiting costs.
//!
//! Knows the verbs of both rings, a counting allocator, and a tracer that writes down the system calls of another process.
//! Knows nothing of how the rings do it, and measures no time but where it is told to (`just waiting`).
//!
//! Fast path: a send that finds room, a receive that finds a message, and what is asked of the ring's memory alone. Not so,
//! and documented where they are: a call that finds the ring full or empty asks the kernel's locks every 10 ms, and
//! `stats` and `is_disconnected` do so each time. A clock is read without a call of the kernel (in the vDSO); where that is not so,
//! calls with a timeout call the kernel for the time, and that is not counted here.
//! `to_vec`, and an iterator over messages, which answers the same, ask for the memory that they hand out.
#![cfg(target_os = "linux")]

mod actor;
mod allocator;
#[path = "../processes/harness.rs"]
#[allow(dead_code)] // The other test uses all of it.
mod harness;
mod peers;
mod tracer;
mod verbs;
mod waiting;

/// Not a claim: what the other processes run. It does nothing when nobody gives it orders.
#[test]
fn other_process() {
    actor::run();
}
