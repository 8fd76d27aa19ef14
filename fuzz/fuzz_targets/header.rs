//! `quoit_fuzz::header`, with what libFuzzer makes up.
#![no_main]

use quoit_fuzz::{Tape, header};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    header(&mut Tape::of(data));
});
