//! Any sequence of calls by one thread, at a ring of slots and at a ring of bytes, on the heap and in a file, against a model
//! that is a queue.
//!
//! The models ([`slots`], [`bytes`]) know what the calls promise, and for how much there is room the layout of
//! docs/memory-layout.md. They say of every answer what it must be: which message, at which position, for the how-manieth
//! time; `Full`, `TooLong`, `Empty` or `Disconnected`; how many wait, and what was counted. With one thread at work what is
//! "only news" elsewhere is exact. Where the promise leaves something open, they take what it allows and go by what happened.
//!
//! A sequence that fails is made shorter until it no longer fails when anything is left out, printed, and kept in
//! `tests/sequences/regressions.txt`, which is committed: what is there is tried first, every time. `PROPTEST_CASES` says
//! how many sequences are tried.
#![cfg(target_os = "linux")]

#[path = "sequences/bytes.rs"]
mod bytes;
#[path = "sequences/slots.rs"]
mod slots;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};

/// How many sequences are tried when nothing is said.
const CASES: u32 = 500;

/// What happened in all sequences, so that none of what is claimed is claimed of nothing.
#[derive(Default)]
struct Seen(RefCell<BTreeMap<&'static str, u64>>);

impl Seen {
    fn note(&self, what: &'static str) {
        *self.0.borrow_mut().entry(what).or_default() += 1;
    }
}

/// Tries sequences, and asserts that all of this was seen in them.
fn try_all<S: Strategy>(sequences: S, wanted: &[&str], attempt: impl Fn(S::Value, &Seen)) {
    let mut config = Config::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    config.source_file = Some(file!());
    config.failure_persistence =
        Some(Box::new(FileFailurePersistence::Direct("tests/sequences/regressions.txt")));
    config.max_shrink_iters = 20_000;
    let (cases, seen) = (config.cases, Seen::default());
    let mut runner = TestRunner::new(config);
    let tried = runner.run(&sequences, |sequence| {
        attempt(sequence, &seen);
        Ok(())
    });
    if let Err(failed) = tried {
        panic!("{failed}");
    }
    let seen = seen.0.into_inner();
    let mut out = std::io::stdout();
    writeln!(out, "{cases} sequences: {seen:?}").unwrap();
    let missing: Vec<_> = wanted.iter().filter(|what| !seen.contains_key(*what)).collect();
    assert!(missing.is_empty() || cases < 100, "a hollow pass, without {missing:?}");
}

/// A name for a ring of its own.
fn path(folder: &tempfile::TempDir) -> String {
    static RINGS: AtomicU32 = AtomicU32::new(0);
    let path = folder.path().join(RINGS.fetch_add(1, Relaxed).to_string());
    path.into_os_string().into_string().unwrap()
}

/// The `n`-th message: so many bytes, which tell it from others.
fn body(n: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (n.wrapping_mul(31) ^ at.wrapping_mul(7)) as u8 | 1).collect()
}

/// What a message says, in both ways of asking.
fn assert_reads(wanted: &[u8], whole: Vec<u8>, copy: impl Fn(&mut [u8]) -> usize) {
    assert_eq!(whole, wanted);
    let mut part = vec![0; wanted.len() / 2 + 1];
    let copied = copy(&mut part);
    assert_eq!(copied, part.len().min(wanted.len()));
    assert_eq!(part[..copied], wanted[..copied]);
}

/// Drops something by a panic that begins while it is held.
fn drop_by_a_panic<T>(held: T) {
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _held = held;
        std::panic::resume_unwind(Box::new("whoever holds it fails"));
    }));
    assert!(panicked.is_err());
}

#[test]
fn any_sequence_of_calls_at_a_ring_of_slots_answers_as_a_queue_does() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    try_all(slots::sequences(), slots::WANTED, |(plan, calls), seen| {
        slots::run(&plan, &calls, &path(&folder), seen);
    });
}

#[test]
fn any_sequence_of_calls_at_a_ring_of_bytes_answers_as_a_queue_does() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    try_all(bytes::sequences(), bytes::WANTED, |(plan, calls), seen| {
        bytes::run(&plan, &calls, &path(&folder), seen);
    });
}
