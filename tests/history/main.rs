//! Many processes call a ring of slots by every verb and write down every call; then it is asked whether that can have
//! happened on a ring that keeps its promises.
//!
//! The processes are this same program, told by its environment which [`worker`] to be. Each writes its calls into a [`log`]
//! of its own; the test reads the logs into one history and has it [`check`]ed. The check itself is checked: by histories
//! made by hand, one for each rule (`cases`); by real logs that are falsified in one place; and by the same
//! pipeline over rings that are [`wrong`].
//!
//! `QUOIT_HISTORY=full` makes more than 10 million calls; everyday runs some hundred thousand. Needs no more memory than
//! the largest of its histories.
#![cfg(target_os = "linux")]

mod cases;
mod check;
#[path = "../crowd/harness.rs"]
#[allow(dead_code)]
mod harness;
#[path = "../crowd/journal.rs"]
mod journal;
mod log;
#[path = "../crowd/notes.rs"]
#[allow(dead_code)]
mod notes;
#[path = "../crowd/random.rs"]
mod random;
mod runs;
mod worker;
mod wrong;

/// Not a claim: what the other processes run. It does nothing when nobody made it one of them.
#[test]
fn other_process() {
    worker::run();
}
