//! Whatever stands in a ring's memory, whoever wrote it and whenever, a call answers: no panic (the tests run with overflow
//! checks), no access outside of the memory, no endless loop.
//!
//! `opening` opens files that are wrong; `calls` writes into rings in files and makes every call; `torture` does so a million times a second, with nothing but
//! walls beside the memory; `scribbler` does it from a process of its own while others exchange messages. What is seen
//! where only the words change in the middle of a call is asked in `fuzz/`.
//!
//! `QUOIT_GARBAGE=full` runs the claims at their full size (`just garbage`).
#![cfg(target_os = "linux")]

mod bytes;
mod calls;
#[path = "../crowd/harness.rs"]
#[allow(dead_code)]
mod harness;
#[path = "../crowd/journal.rs"]
mod journal;
#[path = "../crowd/notes.rs"]
#[allow(dead_code)]
mod notes;
mod opening;
#[path = "../crowd/random.rs"]
mod random;
mod scribbler;
mod seal;
mod sketch;
mod slots;
mod torture;
mod walls;

/// How often something is done, unless the environment says otherwise: everyday, and at full size.
fn rounds(everyday: u64, at_full: u64) -> u64 {
    let told = |name| std::env::var(name).ok();
    let full = told("QUOIT_GARBAGE").is_some_and(|size| size == "full");
    let told = told("QUOIT_TEST_ROUNDS").map(|rounds| rounds.parse().unwrap());
    told.unwrap_or(if full { at_full } else { everyday })
}

/// Not a claim: what the other processes run. It does nothing when nobody made it one of them.
#[test]
fn other_process() {
    scribbler::run();
}
