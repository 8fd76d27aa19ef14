//! Is what a memory that lies is for found at all?
#![cfg(fuzzing)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use quoit_fuzz::sketch::Sketch;
use quoit_fuzz::{Hearing, Tape};

/// How many of a thousand tapes a parser does not survive, which is not worth a line each.
fn falls(parser: impl Fn(&Sketch)) -> usize {
    std::panic::set_hook(Box::new(|_| ()));
    let survives = |seed| {
        let sketch = Sketch::default();
        let mut hearing = Hearing::of(Tape::endless(seed), 1000);
        catch_unwind(AssertUnwindSafe(|| hearing.call(|| parser(&sketch)))).is_ok()
    };
    let falls = (0..1000).filter(|&seed| !survives(seed)).count();
    let _ = std::panic::take_hook();
    falls
}

#[test]
fn a_length_that_is_read_twice_and_a_loop_that_the_memory_ends_are_found() {
    assert_eq!(falls(|sketch| _ = std::hint::black_box(sketch.once())), 0);
    let twice = falls(|sketch| _ = std::hint::black_box(sketch.twice()));
    assert!(twice > 50, "only {twice} of 1000");
    assert_eq!(falls(Sketch::endless), 1000);
}
