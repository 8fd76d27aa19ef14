//! `quoit_fuzz::open`, with what libFuzzer makes up.
#![no_main]

use quoit_fuzz::{Tape, open};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    open(&mut Tape::of(data));
});
