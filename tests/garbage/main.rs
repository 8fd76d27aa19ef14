//! Whatever stands in a ring's memory, whoever wrote it and whenever, a call answers: no panic (the tests run with overflow
//! checks), no access outside of the memory, no endless loop.
//!
//! `QUOIT_GARBAGE=full` runs the claims at their full size (`just garbage`).
#![cfg(target_os = "linux")]

mod calls;
#[path = "../crowd/harness.rs"]
#[allow(dead_code)]
mod harness;
#[path = "../processes/journal.rs"]
mod journal;
#[path = "../crowd/notes.rs"]
#[allow(dead_code)]
mod notes;

/// How often something is done, unless the environment says otherwise: everyday, and at full size.
fn rounds(everyday: u64, at_full: u64) -> u64 {
    let told = |name| std::env::var(name).ok();
    let full = told("QUOIT_GARBAGE").is_some_and(|size| size == "full");
    let told = told("QUOIT_TEST_ROUNDS").map(|rounds| rounds.parse().unwrap());
    told.unwrap_or(if full { at_full } else { everyday })
}
