//! What a death leaves, at every instruction.
//!
//! A child makes one call. Its parent runs it one instruction after the other, kills it at a boundary between two of them,
//! and looks whether the others can go on and every message is accounted for; then the same with the next boundary, until
//! the call has returned. `QUOIT_STEPS=all` tries every boundary; without it, every state of the shared bytes that the call
//! leaves behind is met at one boundary, and some other boundaries are.
//!
//! What is called `bytes` is about the ring of bytes; the rest, where a ring comes into it, about the ring of slots or both.
//!
//! Besides those who are killed: whoever is stopped at any instruction is not robbed, and goes on. And whoever is refused a
//! system call, any of them, says so and leaves nothing behind.
//!
//! The harness is shown to find what it is for: the same deaths wedge a textbook ring.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod boundaries;
mod bytes;
mod bytes_calls;
mod bytes_deaths;
mod bytes_repairs;
mod bytes_sleepers;
mod bytes_stops;
mod calls;
mod comings;
mod endings;
mod errnos;
mod harness;
#[path = "../crowd/random.rs"]
#[allow(dead_code)]
mod random;
mod receivers;
mod refusals;
mod repairs;
mod senders;
mod sleepers;
mod stage;
mod stops;
mod textbook;
mod tracer;
