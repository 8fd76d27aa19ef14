//! `quoit_fuzz::repair`, with what libFuzzer makes up.
#![no_main]

use quoit_fuzz::{Tape, repair};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    repair(&mut Tape::of(data));
});
