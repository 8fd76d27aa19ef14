//! `quoit_fuzz::record`, with what libFuzzer makes up.
#![no_main]

use quoit_fuzz::{Tape, record};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    record(&mut Tape::of(data));
});
