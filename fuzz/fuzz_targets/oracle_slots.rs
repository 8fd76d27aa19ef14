//! `quoit_fuzz::oracle_slots`, with what libFuzzer makes up.
#![no_main]

use quoit_fuzz::{Tape, oracle_slots};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    oracle_slots(&mut Tape::of(data));
});
