//! What is thrown at quoit's memory: by libFuzzer (`fuzz_targets`), which learns from what it covers, and by dice
//! (`tests`), which need nothing but a seed.
//!
//! Each of the functions here takes a [`Tape`] of bytes and makes of them a header, a word, a file, or a sequence of calls
//! and the answers of a memory that lies. It panics when quoit does what it must not do.
//!
//! | target                           | made of the tape                                               | asked                      |
//! |----------------------------------|----------------------------------------------------------------|----------------------------|
//! | [`header`]                       | the first bytes of a file, and its length                      | sound, or refused          |
//! | [`record`]                       | a word that commits a record, and where it stands              | inside the ring, or none   |
//! | [`open`]                         | a whole file, and its length                                   | opened, or refused         |
//! | [`repair`]                       | the table and the slots of a ring that nobody has open         | repaired once and for all  |
//! | [`oracle_bytes`], [`oracle_slots`] | calls, and the answer to each load of a shared word           | an answer, in bounds       |
//!
//! The oracle is the strongest of them: a word may say something else each time it is loaded, so what is checked and then
//! loaded again is found without luck. Every call's loads are counted, and there is a number that none exceeds.

mod files;
mod oracle;
pub mod sketch;
mod tape;

pub use files::{header, open, record, repair};
pub use oracle::{Hearing, oracle_bytes, oracle_slots};
pub use tape::Tape;
