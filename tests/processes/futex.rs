//! Who can wake whom: sleeps inside one process and sleeps between processes are different things to the kernel.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::actor::Actor;
use crate::harness::{Ring, every_sleep, map};

/// Where a receiver sleeps, and where a sender does: offsets in the file (docs/memory-layout.md).
const NOT_EMPTY: usize = 0x3000;
const NOT_FULL: usize = 0x3080;

/// A word of a file that is mapped shared.
fn word(map: &memmap2::MmapRaw, at: usize) -> &AtomicU32 {
    assert!(at % 4 == 0 && at + 4 <= map.len());
    // SAFETY: inside the mapping.
    let at = unsafe { map.as_mut_ptr().add(at) };
    // SAFETY: aligned, as the mapping is, and it lives as long as the answer; everybody uses the word through atomics.
    unsafe { AtomicU32::from_ptr(at.cast()) }
}

/// Wakes everybody that sleeps on a word, through one kind of futex; how many that were.
fn wake(word: &AtomicU32, private: libc::c_int) -> libc::c_long {
    // SAFETY: FUTEX_WAKE only uses the address.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | private, i32::MAX) }
}

/// Sleeps on word 0 of the file beside the ring, through one kind of futex, until it is not 0.
pub(crate) fn obey(actor: &mut Actor, how: &str) -> String {
    let map = map(&format!("{}.word", actor.path), 4096);
    let word = word(&map, 0);
    match how {
        "private" => atomic_wait::wait(word, 0),
        "shared" => {
            let forever = std::ptr::null::<libc::timespec>();
            // SAFETY: FUTEX_WAIT reads the word, which is live, and no time.
            unsafe {
                libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, 0, forever);
            }
        }
        _ => panic!("no such futex: {how}"),
    }
    String::from("woken")
}

#[test]
fn a_private_futex_never_wakes_another_process_and_a_shared_one_does() {
    let ring = Ring::new(0);
    let path = ring.beside("ring.word");
    std::fs::write(&path, [0; 4096]).unwrap();
    let map = map(&path, 4096);
    let word = word(&map, 0);
    let (mut private, mut shared) = (ring.process(), ring.process());
    private.tell("futex private");
    shared.tell("futex shared");
    private.asleep();
    shared.asleep();

    word.store(1, Ordering::SeqCst);
    atomic_wait::wake_all(word);
    assert_eq!(wake(word, libc::FUTEX_PRIVATE_FLAG), 0, "a private wake finds nobody");
    assert_eq!(wake(word, 0), 1, "a shared wake finds the shared sleeper, and only that");
    assert_eq!(shared.answer(), "woken");
    private.asleep();
    assert_eq!(private.answer_so_far(), None);
}

#[test]
fn the_ends_of_a_named_ring_sleep_where_another_process_can_wake_them() {
    every_sleep(|ring, wait| {
        let (mut tx, mut rx) = (ring.sender(), ring.receiver());
        let map = map(&ring.path, 0x5000);
        for process in [&mut tx, &mut rx] {
            assert_eq!(process.ask(format!("wait {wait}")), "ok");
        }
        rx.tell("recv");
        // Between two slices it is awake for a moment.
        while wake(word(&map, NOT_EMPTY), 0) == 0 {
            rx.asleep();
        }
        assert_eq!(wake(word(&map, NOT_EMPTY), libc::FUTEX_PRIVATE_FLAG), 0);
        rx.asleep();
        assert_eq!(tx.ask("send 1"), "ok");
        assert!(rx.answer().starts_with("1 at "));

        let next = tx.fill(2);
        tx.tell(format!("send {next}"));
        while wake(word(&map, NOT_FULL), 0) == 0 {
            tx.asleep();
        }
        tx.asleep();
        rx.tell("drain");
        assert_eq!(tx.answer(), "ok");
    });
}

/// If each of these sleeps lasted until the end of its slice, the watchdog would bark.
const SLEEPS: u64 = 2_000;

#[test]
fn a_sleep_is_ended_by_the_other_process_and_not_by_its_slice() {
    every_sleep(|ring, wait| {
        let (mut tx, mut rx) = (ring.sender(), ring.receiver());
        assert_eq!(rx.ask(format!("wait {wait}")), "ok");
        for number in 0..SLEEPS {
            rx.tell("recv");
            rx.asleep();
            assert_eq!(tx.ask(format!("send {number}")), "ok");
            assert!(rx.answer().starts_with(&format!("{number} at ")));
        }
        assert!(ring.inspect().sender.wakes >= SLEEPS);
    });
}
