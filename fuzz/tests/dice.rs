//! The targets of the fuzzer, by dice instead of libFuzzer: with a seed, on any Rust (`cargo oracle`).
//!
//! `QUOIT_TEST_ROUNDS` says how many tapes each target is given, `QUOIT_TEST_SEED` which.
#![cfg(fuzzing)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use quoit_fuzz::{Tape, header, open, oracle_bytes, oracle_slots, record, repair};

type Target = fn(&mut Tape);

fn told(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|told| told.parse().unwrap())
}

/// Gives a target so many tapes: half of them end after some bytes, half never do.
fn throw(what: &str, rounds: u64, mut target: impl FnMut(&mut Tape)) {
    let first = told("QUOIT_TEST_SEED").unwrap_or_else(|| std::process::id().into());
    let rounds = told("QUOIT_TEST_ROUNDS").unwrap_or(rounds);
    println!("{what}: {rounds} tapes from seed {first} on");
    for seed in first..first + rounds {
        let mut endless = Tape::endless(seed);
        let mut tape = if seed % 2 == 0 {
            let len = usize::from(endless.short()) % 2000;
            Tape::of(&endless.rest(len))
        } else {
            endless
        };
        let thrown = catch_unwind(AssertUnwindSafe(|| target(&mut tape)));
        assert!(thrown.is_ok(), "{what}: QUOIT_TEST_SEED={seed} QUOIT_TEST_ROUNDS=1 does it again");
    }
}

/// A garbling of a file reads its tape to the end, so the tape has one.
fn short(mut target: impl FnMut(&mut Tape)) -> impl FnMut(&mut Tape) {
    move |tape| {
        let len = usize::from(tape.below(120));
        target(&mut Tape::of(&tape.rest(len)));
    }
}

#[test]
fn what_the_fuzzer_begins_with_is_survived() {
    let targets: [(&str, Target); 6] = [
        ("header", header),
        ("record", record),
        ("open", open),
        ("repair", repair),
        ("oracle_bytes", |tape| _ = oracle_bytes(tape)),
        ("oracle_slots", |tape| _ = oracle_slots(tape)),
    ];
    for (name, target) in targets {
        let seeds = format!("{}/seeds/{name}", env!("CARGO_MANIFEST_DIR"));
        let mut survived = 0;
        for seed in std::fs::read_dir(seeds).unwrap() {
            target(&mut Tape::of(&std::fs::read(seed.unwrap().path()).unwrap()));
            survived += 1;
        }
        assert!(survived >= 10, "{name} has {survived} seeds");
    }
}

#[test]
fn a_header_is_sound_or_refused() {
    throw("header", 20_000, short(header));
}

#[test]
fn a_record_lies_in_the_ring_or_is_none() {
    throw("record", 200_000, short(record));
}

#[test]
fn any_file_is_opened_or_refused() {
    throw("open", 1000, short(open));
}

#[test]
fn any_ring_of_the_dead_is_repaired_once_and_for_all() {
    throw("repair", 1000, short(repair));
}

#[test]
fn a_ring_of_bytes_whose_memory_lies_answers_within_bounds() {
    let (mut calls, mut most) = (0, 0);
    throw("oracle_bytes", 20_000, |tape| {
        let (made, loads) = oracle_bytes(tape);
        (calls, most) = (calls + made, most.max(loads));
    });
    println!("oracle_bytes: {calls} calls, none of more than {most} loads");
}

#[test]
fn a_ring_of_slots_whose_memory_lies_answers_within_bounds() {
    let (mut calls, mut most) = (0, 0);
    throw("oracle_slots", 10_000, |tape| {
        let (made, loads) = oracle_slots(tape);
        (calls, most) = (calls + made, most.max(loads));
    });
    println!("oracle_slots: {calls} calls, none of more than {most} loads");
}
