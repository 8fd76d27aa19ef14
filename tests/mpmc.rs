//! What the calls of `quoit::mpmc` promise, one claim a test, between the threads of one process and on named rings.
//!
//! Every claim runs on a ring whose positions begin at 0, and on one whose positions are about to wrap. Under Miri, which
//! knows neither shared maps nor other processes, on channels only.

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use quoit::mpmc::{self, Receiver, Sender};
use quoit::{Delivery, Options, Presence, Wait};

/// A few slots before all laps of a small ring are over.
const NEAR_THE_END: u64 = 0u64.wrapping_sub(5);

fn options(start: u64) -> Options {
    Options::new().capacity(4).max_len(100).start_position(start)
}

/// Runs a claim on channels and on rings in files, at 0 and near the end of all positions.
fn everywhere(claim: impl Fn(Sender, Receiver)) {
    with(|options| options, claim);
}

fn with(adapt: impl Fn(Options) -> Options, claim: impl Fn(Sender, Receiver)) {
    for start in [0, 3, NEAR_THE_END] {
        let options = adapt(options(start));
        let (tx, rx) = mpmc::channel(&options).unwrap();
        claim(tx, rx);
        if cfg!(all(target_os = "linux", not(miri))) {
            let folder = tempfile::tempdir_in("/dev/shm").unwrap();
            let name = folder.path().join("ring").into_os_string().into_string().unwrap();
            let tx = Sender::create(&name, &options).unwrap();
            let rx = Receiver::open(&name).unwrap();
            claim(tx, rx);
        }
    }
}

fn fill(tx: &Sender) {
    while tx.try_send(b"x").is_ok() {}
}

#[test]
fn messages_arrive_whole_and_in_order() {
    everywhere(|tx, rx| {
        for len in [0, 1, 7, 8, 9, 48, 99, 100] {
            let message: Vec<u8> = (0..len).map(|at| at as u8).collect();
            tx.send(&message).unwrap();
            tx.send(b"next").unwrap();
            let got = rx.recv().unwrap();
            assert_eq!((got.len(), got.to_vec()), (len, message));
            assert!(!got.redelivered() && got.attempts() == 1);
            drop(got);
            assert_eq!(rx.recv().unwrap().to_vec(), b"next");
        }
        assert!(rx.try_recv().unwrap_err().is_empty());
    });
}

#[test]
fn a_message_that_is_too_long_is_refused_whole() {
    everywhere(|tx, rx| {
        let error = tx.try_send(&[0; 101]).unwrap_err();
        assert!(error.is_too_long(), "{error}");
        assert!(tx.send_batch(&[&[1; 3][..], &[0; 101]]).unwrap_err().is_too_long());
        assert!(rx.is_empty() && rx.try_recv().unwrap_err().is_empty());
    });
}

#[test]
fn a_full_ring_has_room_again_when_a_message_is_released() {
    everywhere(|tx, rx| {
        fill(&tx);
        assert!(tx.is_full() && tx.len() == 4);
        assert!(tx.try_send(b"more").unwrap_err().is_full());
        let held = rx.recv().unwrap();
        assert!(tx.try_send(b"more").unwrap_err().is_full(), "still in hand");
        drop(held);
        tx.try_send(b"more").unwrap();
        assert!(tx.send_timeout(b"x", Duration::from_millis(1)).unwrap_err().is_timeout());
    });
}

#[test]
fn a_timeout_names_whoever_holds_the_slot() {
    everywhere(|mut tx, rx| {
        let other = tx.clone();
        let seat = tx.seat();
        let room = tx.reserve(3).unwrap();
        other.send(b"behind").unwrap();
        assert!(rx.try_recv().unwrap_err().is_empty(), "the first claim is open");
        let error = rx.recv_timeout(Duration::from_millis(1)).unwrap_err();
        assert!(error.is_timeout());
        assert!(error.to_string().contains(&format!("sender in seat {seat}")), "{error}");
        room.commit().unwrap();
        assert_eq!(rx.recv().unwrap().to_vec(), [0; 3]);
        assert_eq!(rx.recv().unwrap().to_vec(), b"behind");
        fill(&other);
        let held = rx.recv().unwrap();
        let error = other.send_timeout(b"x", Duration::from_millis(1)).unwrap_err();
        assert!(error.to_string().contains(&format!("receiver in seat {}", rx.seat())), "{error}");
        drop(held);
    });
}

#[test]
fn several_messages_may_be_in_hand_and_end_in_any_order() {
    everywhere(|tx, rx| {
        assert_eq!(tx.send_batch(&[b"a", b"b", b"c"]).unwrap(), 3);
        let mut held = Vec::new();
        assert_eq!(rx.recv_batch(&mut held, 10).unwrap(), 3);
        held.swap_remove(0).give_back();
        assert_eq!(held.pop().unwrap().to_vec(), b"b");
        let again = rx.recv().unwrap();
        assert_eq!((again.to_vec(), again.attempts()), (b"a".to_vec(), 2));
        assert!(rx.try_recv().unwrap_err().is_empty());
        assert_eq!(held.pop().unwrap().to_vec(), b"c");
        assert_eq!(rx.try_recv_batch(&mut held, 0).unwrap(), 0);
    });
}

#[test]
fn a_batch_goes_as_far_as_there_is_room() {
    everywhere(|tx, rx| {
        assert_eq!(tx.try_send_batch(&[[1], [2], [3], [4], [5], [6]]).unwrap(), 4);
        assert!(tx.try_send_batch(&[[5]]).unwrap_err().is_full());
        assert_eq!(tx.try_send_batch::<[u8; 1]>(&[]).unwrap(), 0);
        let other = tx.clone();
        let numbers = thread::scope(|scope| {
            let sender = scope.spawn(move || other.send_batch(&[[5], [6], [7]]).unwrap());
            let numbers: Vec<u8> = rx.iter().map(|message| message[0]).take(7).collect();
            assert_eq!(sender.join().unwrap(), 3);
            numbers
        });
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7]);
    });
}

#[test]
fn a_reservation_is_written_in_place_and_a_dropped_one_leaves_no_message() {
    everywhere(|mut tx, rx| {
        for round in 0..10u8 {
            let mut room = tx.reserve(40).unwrap();
            room.write_all(&[round; 5]).unwrap();
            room.write_at(20, b"there").unwrap();
            drop(room);
            let mut room = tx.reserve(20).unwrap();
            room.write_at(3, &[round]).unwrap();
            assert!(room.write_at(18, b"xyz").is_err());
            room.commit_len(6).unwrap();
            assert_eq!(rx.recv().unwrap().to_vec(), [0, 0, 0, round, 0, 0]);
        }
        assert_eq!(rx.stats().skipped, 10);
        assert!(tx.reserve(8).unwrap().commit_len(9).unwrap_err().is_too_long());
        assert!(rx.try_recv().unwrap_err().is_empty());
    });
}

#[test]
fn a_forgotten_reservation_is_given_up_by_the_next_call_or_with_the_handle() {
    everywhere(|mut tx, rx| {
        std::mem::forget(tx.reserve(3).unwrap());
        assert!(rx.try_recv().unwrap_err().is_empty());
        tx.send(b"after").unwrap();
        assert_eq!(rx.recv().unwrap().to_vec(), b"after");
        let mut other = tx.clone();
        std::mem::forget(other.reserve(3).unwrap());
        tx.send(b"behind").unwrap();
        assert!(rx.try_recv().unwrap_err().is_empty());
        drop(other);
        assert_eq!(rx.recv().unwrap().to_vec(), b"behind");
    });
}

#[test]
fn a_message_dropped_by_a_panic_is_given_back() {
    everywhere(|tx, rx| {
        tx.send(b"hot").unwrap();
        let other = rx.clone();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _held = rx.recv().unwrap();
            panic!("in the middle of it");
        }));
        assert!(panicked.is_err());
        let again = other.recv().unwrap();
        assert!(again.redelivered());
        assert_eq!((again.to_vec(), again.attempts()), (b"hot".to_vec(), 2));
    });
}

#[test]
fn a_forgotten_message_stays_taken_until_its_seat_is_left() {
    everywhere(|tx, rx| {
        tx.send(b"forgotten").unwrap();
        if tx.name().as_str() == "(channel)" {
            // All receivers of a channel share one seat: nobody is left to get it.
            return;
        }
        let heir = Receiver::open(tx.name().as_str()).unwrap();
        std::mem::forget(rx.recv().unwrap());
        assert!(heir.try_recv().unwrap_err().is_empty());
        assert_eq!(rx.recover().unwrap(), quoit::Recovered::default(), "its holder is alive");
        drop(rx);
        let again = heir.recv().unwrap();
        assert_eq!((again.to_vec(), again.attempts()), (b"forgotten".to_vec(), 2));
    });
    with(
        |options| options.delivery(Delivery::AtMostOnce),
        |tx, rx| {
            tx.send(b"forgotten").unwrap();
            std::mem::forget(rx.recv().unwrap());
            tx.send(b"next").unwrap();
            if tx.name().as_str() != "(channel)" {
                let heir = Receiver::open(tx.name().as_str()).unwrap();
                drop(rx);
                assert_eq!(heir.recv().unwrap().to_vec(), b"next");
                assert!(heir.try_recv().unwrap_err().is_empty());
            }
        },
    );
}

#[test]
fn the_last_sender_ends_the_stream_and_a_new_one_begins_it_again() {
    everywhere(|tx, rx| {
        let other = tx.clone();
        tx.send(b"one").unwrap();
        drop(tx);
        assert!(!rx.is_disconnected());
        other.send(b"two").unwrap();
        let name = other.name().clone();
        drop(other);
        assert_eq!(rx.recv().unwrap().to_vec(), b"one");
        assert_eq!(rx.recv().unwrap().to_vec(), b"two");
        assert!(rx.recv().unwrap_err().is_disconnected());
        assert!(rx.try_recv().unwrap_err().is_disconnected());
        assert!(rx.is_disconnected());
        assert_eq!((rx.stats().end, rx.stats().peers), (Some(Presence::Left), 0));
        if name.as_str() != "(channel)" {
            let tx = Sender::open(name.as_str()).unwrap();
            assert!(rx.try_recv().unwrap_err().is_empty());
            tx.send(b"three").unwrap();
            drop(tx);
            assert_eq!(rx.recv().unwrap().to_vec(), b"three");
            assert!(rx.recv().unwrap_err().is_disconnected());
            // Who comes after the end waits for the next sender.
            let late = Receiver::open(name.as_str()).unwrap();
            assert!(late.try_recv().unwrap_err().is_empty());
        }
    });
}

#[test]
fn the_end_is_not_told_while_a_message_is_in_other_hands() {
    everywhere(|tx, rx| {
        let other = rx.clone();
        tx.send(b"job").unwrap();
        drop(tx);
        let held = rx.recv().unwrap();
        assert!(other.try_recv().unwrap_err().is_empty(), "its holder may give it back");
        assert!(!other.is_disconnected());
        // Whoever asks with a message in its own hands does not wait for itself.
        assert!(rx.try_recv().unwrap_err().is_disconnected());
        held.give_back();
        assert_eq!(other.recv().unwrap().to_vec(), b"job");
        assert!(other.recv().unwrap_err().is_disconnected());
    });
}

#[test]
fn senders_are_told_when_the_last_receiver_has_left() {
    everywhere(|tx, rx| {
        let other = rx.clone();
        drop(rx);
        tx.send(b"x").unwrap();
        drop(other);
        assert!(tx.try_send(b"x").unwrap_err().is_disconnected());
        assert!(tx.send(b"x").unwrap_err().is_disconnected());
        assert!(tx.is_disconnected());
        tx.set_keep_open(true);
        tx.send(b"x").unwrap();
    });
}

#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn before_any_receiver_a_sender_fills_the_ring_and_waits() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let name = folder.path().join("ring").into_os_string().into_string().unwrap();
    let tx = Sender::create(&name, &options(0)).unwrap();
    fill(&tx);
    assert!(tx.send_timeout(b"x", Duration::from_millis(1)).unwrap_err().is_timeout());
    let rx = Receiver::open(&name).unwrap();
    assert_eq!(rx.recv().unwrap().to_vec(), b"x");
    tx.send(b"y").unwrap();
    assert_eq!(tx.stats().peers, 1);
}

#[test]
fn many_threads_share_a_ring_and_every_message_goes_to_one_of_them() {
    for wait in [Wait::Block, Wait::Adaptive, Wait::Spin] {
        everywhere(|tx, rx| {
            const SENDERS: u64 = 3;
            const EACH: u64 = if cfg!(miri) { 4 } else { 2000 };
            tx.set_wait(wait);
            rx.set_wait(wait);
            let mut all: Vec<u64> = thread::scope(|scope| {
                for sender in 0..SENDERS {
                    let tx = tx.clone();
                    scope.spawn(move || {
                        for number in 0..EACH {
                            tx.send(&(sender << 32 | number).to_le_bytes()).unwrap();
                        }
                    });
                }
                drop(tx);
                let receivers: Vec<_> = (0..3)
                    .map(|_| {
                        let rx = rx.clone();
                        scope.spawn(move || {
                            let read =
                                |bytes: Vec<u8>| u64::from_le_bytes(bytes.try_into().unwrap());
                            rx.iter().map(read).collect::<Vec<u64>>()
                        })
                    })
                    .collect();
                drop(rx);
                let mut all = Vec::new();
                for receiver in receivers {
                    let got = receiver.join().unwrap();
                    for sender in 0..SENDERS {
                        let of = got.iter().filter(|number| **number >> 32 == sender);
                        assert!(of.is_sorted(), "what one sends arrives in order at each");
                    }
                    all.extend(got);
                }
                all
            });
            all.sort_unstable();
            let sent = (0..SENDERS).flat_map(|sender| (0..EACH).map(move |n| sender << 32 | n));
            assert!(all.into_iter().eq(sent));
        });
    }
}

#[test]
fn handles_go_to_other_threads_and_not_to_two_at_once() {
    fn sends<T: Send + Clone>() {}
    sends::<Sender>();
    sends::<Receiver>();
}

#[test]
fn the_counters_are_those_of_the_seat_since_it_was_taken() {
    everywhere(|tx, rx| {
        let other = tx.clone();
        tx.send(b"x").unwrap();
        other.send(b"y").unwrap();
        drop(rx.recv().unwrap());
        rx.recv().unwrap().give_back();
        drop(rx.recv().unwrap());
        assert_eq!((tx.stats().sent, other.stats().sent, tx.stats().received), (2, 2, 0));
        assert_eq!((rx.stats().received, rx.stats().redelivered), (2, 1));
        let name = tx.name().clone();
        if name.as_str() != "(channel)" {
            let seat = rx.seat();
            drop(rx);
            let next = Receiver::open(name.as_str()).unwrap();
            assert_eq!((next.seat(), next.stats().received), (seat, 0));
        }
    });
}

/// Not a claim: what the other process of the next claims runs.
#[test]
fn other_process() {
    let Ok(ring) = std::env::var("QUOIT_TEST_RING") else { return };
    if std::env::var_os("QUOIT_TEST_SENDS").is_some() {
        let tx = Sender::open(&ring).unwrap();
        tx.send(b"half of it").unwrap();
        writeln!(std::io::stdout(), "holds true").unwrap();
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        return;
    }
    let rx = Receiver::open(&ring).unwrap();
    let held = rx.recv_timeout(Duration::from_secs(60));
    writeln!(std::io::stdout(), "holds {}", held.is_ok()).unwrap();
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// A receiver in another process that has a message in hand.
#[cfg(all(target_os = "linux", not(miri)))]
fn holder(ring: &str) -> std::process::Child {
    other(ring, &[])
}

#[cfg(all(target_os = "linux", not(miri)))]
fn other(ring: &str, more: &[(&str, &str)]) -> std::process::Child {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "other_process", "--nocapture"])
        .envs(more.iter().copied())
        .env("QUOIT_TEST_RING", ring)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.as_mut().unwrap()).lines().map(Result::unwrap);
    assert!(said.into_iter().any(|line| line.contains("holds true")));
    child
}

#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn the_end_is_not_told_before_a_dead_receivers_message_was_delivered_again() {
    for at_once in [true, false] {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let name = folder.path().join("ring").into_os_string().into_string().unwrap();
        let tx = Sender::create(&name, &options(0)).unwrap();
        tx.send(b"job").unwrap();
        let mut dead = holder(&name);
        // It has just looked through the seats, and nobody was dead.
        let rx = Receiver::open(&name).unwrap();
        assert!(rx.try_recv().unwrap_err().is_empty());
        dead.kill().unwrap();
        dead.wait().unwrap();
        drop(tx);
        let again = if at_once { rx.try_recv().unwrap() } else { rx.recv().unwrap() };
        assert_eq!((again.to_vec(), again.attempts()), (b"job".to_vec(), 2));
        drop(again);
        assert!(rx.try_recv().unwrap_err().is_disconnected());
    }
}

#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn a_sender_that_comes_after_all_receivers_were_killed_fills_the_ring() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let name = folder.path().join("ring").into_os_string().into_string().unwrap();
    let first = Sender::create(&name, &options(0)).unwrap();
    first.send(b"job").unwrap();
    let mut dead = holder(&name);
    drop(first);
    dead.kill().unwrap();
    dead.wait().unwrap();
    let tx = Sender::open(&name).unwrap();
    assert!(!tx.is_disconnected());
    // The dead one's message is one of the four.
    assert_eq!(tx.try_send_batch(&[b"1", b"2", b"3", b"4"]).unwrap(), 3);
    assert!(tx.try_send(b"x").unwrap_err().is_full());
}

#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn a_stream_that_was_cut_does_not_pass_for_whole_whoever_found_the_dead_sender() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let name = folder.path().join("ring").into_os_string().into_string().unwrap();
    mpmc::create(&name, &options(0)).unwrap();
    let mut dead = other(&name, &[("QUOIT_TEST_SENDS", "1")]);
    dead.kill().unwrap();
    dead.wait().unwrap();
    assert_eq!(quoit::recover(&name).unwrap().seats, 1);
    let rx = Receiver::open(&name).unwrap();
    assert_eq!(rx.recv().unwrap().to_vec(), b"half of it");
    assert!(rx.recv().unwrap_err().is_disconnected());
    assert_eq!(rx.stats().end, Some(Presence::Died));
    // The next stream is another one.
    let next = Receiver::open(&name).unwrap();
    let tx = Sender::open(&name).unwrap();
    drop(tx);
    assert!(next.recv().unwrap_err().is_disconnected());
    assert_eq!(next.stats().end, Some(Presence::Left));
}
