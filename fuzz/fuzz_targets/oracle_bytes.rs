//! `quoit_fuzz::oracle_bytes`, with what libFuzzer makes up.
#![no_main]

use quoit_fuzz::{Tape, oracle_bytes};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    oracle_bytes(&mut Tape::of(data));
});
