//! Threads on the two channels, a few messages each: what Miri looks at from many sides (`-Zmiri-many-seeds`).
//!
//! Knows the calls and what their contracts allow. Each claim is short, because Miri runs it once for each seed and takes
//! a thousand times as long; natively it is many laps. The unsafe calls lead to plain accesses of the ring's own memory:
//! where those are used, Miri reports a missing ordering as the data race that it is, whatever values were read. Where both
//! ends spin, nothing but the ring's own words orders them: a sleep and a wake-up would hide what those leave out.

use std::io::Write;
use std::thread;
use std::time::Duration;

use quoit::{Options, Wait, mpmc, spsc};

/// Messages that one sender sends.
const MESSAGES: u8 = if cfg!(miri) { 5 } else { 200 };

/// A ring of 4 KiB holds two messages of this length. Whole words: a plain store to a part of a word that was stored
/// atomically before is more than Miri's store buffers can take (it stops with an internal error).
const LONG: usize = 1504;

/// A slot of three lines; whole words, as above.
const SLOT: usize = 152;

/// What tells message `n` from the others, in every word of it. Line by line, which is quick under Miri.
fn message(n: u8, len: usize) -> Vec<u8> {
    let line: Vec<u8> = (0..64).map(|at| n.wrapping_mul(31).wrapping_add(at)).collect();
    let mut bytes = line.repeat(len.div_ceil(64));
    bytes.truncate(len);
    bytes
}

/// The two ends of a ring of 4 KiB, a few lines before the end of all positions.
fn bytes(wait: Wait) -> (spsc::Sender, spsc::Receiver) {
    let options = Options::new().capacity(4096).start_position(0u64.wrapping_sub(3 * 64));
    let (mut tx, mut rx) = spsc::channel(&options).unwrap();
    tx.set_wait(wait);
    rx.set_wait(wait);
    (tx, rx)
}

/// The two ends of a ring of two slots, a few before the end of all positions.
fn slots(wait: Wait) -> (mpmc::Sender, mpmc::Receiver) {
    let options = Options::new().capacity(2).max_len(SLOT).start_position(0u64.wrapping_sub(3));
    let (tx, rx) = mpmc::channel(&options).unwrap();
    tx.set_wait(wait);
    rx.set_wait(wait);
    (tx, rx)
}

/// Two senders call `send` with all of their numbers, two receivers `take` until the end: each number is taken once.
fn two_and_two(
    wait: Wait,
    send: impl Fn(&mut mpmc::Sender, u8) + Sync,
    take: impl Fn(&mpmc::Receiver) -> Option<Vec<u8>> + Sync,
) {
    let (tx, rx) = slots(wait);
    let mut all: Vec<u8> = thread::scope(|scope| {
        for first in [0, MESSAGES / 2] {
            let (mut tx, send) = (tx.clone(), &send);
            scope.spawn(move || (first..first + MESSAGES / 2).for_each(|n| send(&mut tx, n)));
        }
        drop(tx);
        let receivers = [rx.clone(), rx].map(|rx| {
            let take = &take;
            scope.spawn(move || std::iter::from_fn(|| take(&rx)).collect::<Vec<_>>())
        });
        let got = receivers.map(|receiver| receiver.join().unwrap()).concat();
        got.iter().for_each(|bytes| assert_eq!(*bytes, message(number(bytes), bytes.len())));
        got.iter().map(|bytes| number(bytes)).collect()
    });
    all.sort_unstable();
    assert!(all.into_iter().eq(0..MESSAGES / 2 * 2));
}

/// A slot with message `n`, written there by plain stores.
fn in_place(tx: &mut mpmc::Sender, n: u8) -> mpmc::Reservation<'_> {
    let (bytes, mut room) = (message(n, SLOT), tx.reserve(SLOT).unwrap());
    // SAFETY: a channel has no other process; the pointer is used before the commit.
    let to = unsafe { room.as_mut_ptr() };
    // SAFETY: `SLOT` bytes may be written there until the commit; `bytes` is another allocation.
    unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), SLOT) };
    room
}

/// A message, read by plain loads.
fn read_in_place(got: &mpmc::Message<'_>) -> Vec<u8> {
    // SAFETY: a channel has no other process.
    unsafe { got.as_slice() }.to_vec()
}

/// Which message that is: 31 times 223 is 1, in a byte.
fn number(bytes: &[u8]) -> u8 {
    bytes[0].wrapping_mul(223)
}

#[test]
fn messages_written_and_read_in_place_are_whole_over_many_laps() {
    for wait in [Wait::Spin, Wait::Block] {
        let (mut tx, mut rx) = bytes(wait);
        let sender = thread::spawn(move || {
            for n in 0..MESSAGES {
                let (bytes, mut room) = (message(n, LONG), tx.reserve(LONG).unwrap());
                // SAFETY: a channel has no other process; the pointer is used before the commit.
                let to = unsafe { room.as_mut_ptr() };
                // SAFETY: `LONG` bytes may be written there until the commit; `bytes` is another allocation.
                unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), LONG) };
                room.commit().unwrap();
            }
        });
        for n in 0..MESSAGES {
            // Late, so that the sender has seen a full ring, and has only this release to go by. The last two have none behind.
            while n + 2 <= MESSAGES && rx.len() < 2 * LONG {
                thread::yield_now();
            }
            let got = rx.recv().unwrap();
            // SAFETY: a channel has no other process.
            assert_eq!(unsafe { got.as_slice() }, message(n, LONG));
        }
        assert!(rx.recv().unwrap_err().is_disconnected());
        sender.join().unwrap();
    }
}

#[test]
fn slots_written_and_read_in_place_are_whole_whoever_shares_them() {
    for wait in [Wait::Spin, Wait::Block] {
        two_and_two(
            wait,
            |tx, n| {
                in_place(tx, n).commit().unwrap();
            },
            |rx| rx.recv().ok().map(|got| read_in_place(&got)),
        );
    }
}

#[test]
fn messages_of_a_batch_arrive_in_order_and_the_end_after_them() {
    let (mut tx, mut rx) = bytes(Wait::Block);
    let sender = thread::spawn(move || {
        let batch: Vec<_> = (0..MESSAGES).map(|n| message(n, 8 + 40 * usize::from(n))).collect();
        let short = batch.iter().filter(|message| message.len() <= tx.max_len());
        let short: Vec<_> = short.collect();
        assert_eq!(tx.send_batch(&short).unwrap(), short.len());
    });
    let mut buffer = Vec::new();
    let mut n = 0;
    while rx.recv_into(&mut buffer).is_ok() {
        assert_eq!(buffer, message(n, 8 + 40 * usize::from(n)));
        buffer.clear();
        n += 1;
    }
    assert!(n == MESSAGES || 8 + 40 * usize::from(n) > 1900);
    sender.join().unwrap();
}

#[test]
fn messages_that_are_copied_are_whole_whoever_shares_the_slots() {
    two_and_two(
        Wait::Adaptive,
        |tx, n| tx.send(&message(n, 8 + usize::from(n) % 100)).unwrap(),
        |rx| rx.recv().ok().map(|got| got.to_vec()),
    );
}

#[test]
fn a_batch_is_shared_out_among_the_receivers() {
    let (tx, rx) = slots(Wait::Block);
    let other = rx.clone();
    let takes = |rx: mpmc::Receiver| {
        move || {
            let (mut held, mut taken) = (Vec::new(), 0);
            while rx.recv_batch(&mut held, 2).is_ok() {
                taken += held.drain(..).inspect(|got| assert_eq!(got.len(), 9)).count();
            }
            taken
        }
    };
    let receivers = [thread::spawn(takes(rx)), thread::spawn(takes(other))];
    let batch: Vec<_> = (0..MESSAGES).map(|n| message(n, 9)).collect();
    assert_eq!(tx.send_batch(&batch).unwrap(), batch.len());
    drop(tx);
    let taken: usize = receivers.map(|receiver| receiver.join().unwrap()).iter().sum();
    assert_eq!(taken, batch.len());
}

#[test]
fn reservations_that_are_dropped_or_forgotten_lie_between_messages_and_are_none() {
    let (mut tx, mut rx) = bytes(Wait::Block);
    let sender = thread::spawn(move || {
        for n in 0..MESSAGES {
            let mut room = tx.reserve(LONG).unwrap();
            room.write_at(300, &[0xff; 700]).unwrap();
            // It has no destructor today; a user cannot know.
            #[allow(clippy::forget_non_drop, clippy::drop_non_drop)]
            if n % 2 == 0 {
                drop(room)
            } else {
                std::mem::forget(room)
            }
            let mut room = tx.reserve(100).unwrap();
            room.write_all(&message(n, 70)).unwrap();
            room.commit_len(70).unwrap();
        }
    });
    for n in 0..MESSAGES {
        assert_eq!(rx.recv().unwrap().to_vec(), message(n, 70));
    }
    assert!(rx.recv().unwrap_err().is_disconnected());
    sender.join().unwrap();
}

#[test]
fn claims_of_slots_that_are_given_up_hold_nobody_up() {
    for wait in [Wait::Spin, Wait::Block] {
        two_and_two(
            wait,
            |tx, n| {
                let room = in_place(tx, 0xff);
                if n % 2 == 0 {
                    drop(room)
                } else {
                    std::mem::forget(room)
                }
                in_place(tx, n).commit().unwrap();
            },
            |rx| rx.recv().ok().map(|got| read_in_place(&got)),
        );
    }
}

#[test]
fn a_message_given_back_goes_to_whoever_comes_next_and_is_still_one() {
    for wait in [Wait::Spin, Wait::Block] {
        two_and_two(
            wait,
            |tx, n| in_place(tx, n).commit().unwrap(),
            |rx| loop {
                let got = rx.recv().ok()?;
                let bytes = read_in_place(&got);
                if got.redelivered() {
                    return Some(bytes);
                }
                got.give_back();
            },
        );
    }
    let (mut tx, mut rx) = bytes(Wait::Block);
    let sender = thread::spawn(move || {
        (0..MESSAGES).for_each(|n| tx.send(&message(n, LONG)).unwrap());
    });
    for n in 0..MESSAGES {
        rx.recv().unwrap().give_back();
        let again = rx.recv().unwrap();
        assert_eq!((again.attempts(), again.to_vec()), (2, message(n, LONG)));
    }
    sender.join().unwrap();
}

#[test]
fn a_sleep_with_a_deadline_is_woken_by_a_message_by_room_and_by_the_end() {
    const LATE: Duration = Duration::from_secs(3600);
    let (mut tx, mut rx) = bytes(Wait::Block);
    let sender = thread::spawn(move || {
        (0..MESSAGES).for_each(|n| tx.send_timeout(&message(n, LONG), LATE).unwrap());
    });
    for n in 0..MESSAGES {
        assert_eq!(rx.recv_timeout(LATE).unwrap().to_vec(), message(n, LONG));
    }
    assert!(rx.recv_timeout(LATE).unwrap_err().is_disconnected());
    sender.join().unwrap();
    two_and_two(
        Wait::Block,
        |tx, n| tx.send_timeout(&message(n, 8), LATE).unwrap(),
        |rx| rx.recv_timeout(LATE).ok().map(|got| got.to_vec()),
    );
    let (_tx, rx) = slots(Wait::Block);
    assert!(rx.recv_timeout(Duration::from_micros(10)).unwrap_err().is_timeout());
}
