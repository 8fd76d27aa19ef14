//! What the spsc calls promise, between two handles of one process: a channel, and the two ends of a named ring.
//!
//! Under Miri, which knows no shared map and takes a thousand times as long, the same on channels, and less of it.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use quoit::spsc::{self, Receiver, Sender};
use quoit::{Delivery, Options, Presence, TryRecvError, TrySendError, Wait};

/// How often, or how large: under Miri less.
const fn times(usual: usize, under_miri: usize) -> usize {
    if cfg!(miri) { under_miri } else { usual }
}

/// Where a claim is tried: on the heap or in a file, with positions that begin at 0 or are about to wrap.
struct Place {
    start: u64,
    /// Where the ring's file goes, if it is to have one.
    folder: Option<tempfile::TempDir>,
}

impl Place {
    /// The two ends of a fresh ring of 4 KiB, changed by `options`.
    fn pair(&self, options: impl Fn(Options) -> Options) -> (Sender, Receiver) {
        static RINGS: AtomicU32 = AtomicU32::new(0);
        let options = options(Options::new().capacity(4096).start_position(self.start));
        let Some(folder) = &self.folder else { return spsc::channel(&options).unwrap() };
        let path = folder.path().join(RINGS.fetch_add(1, Relaxed).to_string());
        let path = path.to_str().unwrap();
        let sender = Sender::create(path, &options).unwrap();
        (sender, Receiver::open_with(path, &options).unwrap())
    }
}

/// Tries a claim in every place.
fn everywhere(claim: impl Fn(&Place)) {
    for named in [false, true] {
        if named && cfg!(miri) {
            continue;
        }
        for start in [0, 0u64.wrapping_sub(3 * 64)] {
            let folder = named.then(|| tempfile::tempdir_in("/dev/shm").unwrap());
            claim(&Place { start, folder });
        }
    }
}

#[test]
fn messages_of_every_length_arrive_in_order_and_whole() {
    everywhere(|place| {
        let (mut tx, mut rx) = place.pair(|options| options);
        let max = tx.max_len();
        let lengths = move || (0..=max).chain((0..=max).rev()).step_by(times(1, 613));
        let sender = std::thread::spawn(move || {
            for len in lengths() {
                let message: Vec<u8> = (0..len).map(|i| (i ^ len) as u8).collect();
                tx.send(&message).unwrap();
            }
        });
        let mut last = None;
        for len in lengths() {
            let message = rx.recv().unwrap();
            assert_eq!(message.len(), len);
            assert!(
                message.to_vec().iter().enumerate().all(|(i, &byte)| byte == (i ^ len) as u8),
                "{len}"
            );
            assert!(!message.redelivered());
            if let Some(last) = last {
                assert!((message.position().wrapping_sub(last) as i64) > 0);
            }
            last = Some(message.position());
        }
        sender.join().unwrap();
        assert!(rx.recv().unwrap_err().is_disconnected());
    });
}

#[test]
fn a_full_ring_refuses_and_an_empty_one_says_so() {
    everywhere(|place| {
        let (mut tx, mut rx) = place.pair(|options| options);
        assert!(matches!(rx.try_recv().unwrap_err(), TryRecvError::Empty));
        let mut sent = 0u64;
        while tx.try_send(&sent.to_le_bytes()).is_ok() {
            sent += 1;
        }
        assert_eq!(sent, 64, "a small message takes a line");
        assert!(tx.is_full());
        assert!(matches!(tx.try_send(b"").unwrap_err(), TrySendError::Full));
        assert_eq!(rx.len(), 4096);
        for wanted in 0..sent {
            assert_eq!(rx.try_recv().unwrap().to_vec(), wanted.to_le_bytes());
        }
        assert!(rx.try_recv().unwrap_err().is_empty());
        assert!(!tx.is_full());
        assert!(tx.try_send(&vec![1; tx.max_len() + 1]).unwrap_err().is_too_long());
    });
}

#[test]
fn a_dropped_or_forgotten_reservation_leaves_no_hole() {
    everywhere(|place| {
        let (mut tx, mut rx) = place.pair(|options| options);
        for round in 0..times(500, 5) as u64 {
            let len = (round as usize * 37) % tx.max_len();
            let mut abandoned = tx.reserve(len).unwrap();
            abandoned.write_at(0, &vec![0xff; len]).unwrap();
            // It has no destructor today; a user cannot know.
            #[allow(clippy::forget_non_drop, clippy::drop_non_drop)]
            if round % 2 == 0 {
                drop(abandoned)
            } else {
                std::mem::forget(abandoned)
            }
            assert!(rx.try_recv().unwrap_err().is_empty(), "nothing of it is visible");
            tx.send(&round.to_le_bytes()).unwrap();
            assert_eq!(rx.recv().unwrap().to_vec(), round.to_le_bytes());
            assert!(rx.try_recv().unwrap_err().is_empty(), "nothing behind it is visible");
        }
    });
}

#[test]
fn a_reservation_is_zero_where_nothing_was_written() {
    use std::io::Write;
    everywhere(|place| {
        let (mut tx, mut rx) = place.pair(|options| options);
        for round in 0..times(200, 2) {
            // Dirty the ring first.
            tx.send(&[0xaa; 300]).unwrap();
            drop(rx.recv().unwrap());
            let mut room = tx.reserve(300).unwrap();
            room.write_at(13, b"hello").unwrap();
            room.write_at(7, b"abc").unwrap();
            room.write_at(260, &[9; 11]).unwrap();
            assert!(room.write_at(299, b"no").is_err());
            room.write_all(b"xy").unwrap();
            let keep = if round % 2 == 0 { 300 } else { 100 };
            room.commit_len(keep).unwrap();
            let mut wanted = vec![0; 300];
            wanted[13..18].copy_from_slice(b"hello");
            wanted[7..10].copy_from_slice(b"abc");
            wanted[260..271].fill(9);
            wanted[..2].copy_from_slice(b"xy");
            assert_eq!(rx.recv().unwrap().to_vec(), wanted[..keep]);
        }
    });
}

#[test]
fn a_batch_is_visible_at_one_point_and_in_order() {
    everywhere(|place| {
        let (mut tx, mut rx) = place.pair(|options| options);
        let batch: Vec<Vec<u8>> =
            (0..times(300, 20)).map(|i| vec![i as u8; (i * 29) % 400]).collect();
        let wanted = batch.clone();
        let sender = std::thread::spawn(move || {
            for _ in 0..times(50, 2) {
                assert_eq!(tx.send_batch(&batch).unwrap(), batch.len());
            }
        });
        for _ in 0..times(50, 2) {
            for message in &wanted {
                assert_eq!(&rx.recv().unwrap().to_vec(), message);
            }
        }
        sender.join().unwrap();
    });
}

#[test]
fn one_message_that_is_too_long_refuses_the_whole_batch() {
    everywhere(|place| {
        let (mut tx, mut rx) = place.pair(|options| options);
        let long = vec![0; tx.max_len() + 1];
        assert!(tx.send_batch(&[b"fine".to_vec(), long]).unwrap_err().is_too_long());
        assert!(rx.try_recv().unwrap_err().is_empty());
        assert_eq!(tx.send_batch::<&[u8]>(&[]).unwrap(), 0);
    });
}

#[test]
fn a_message_that_was_not_released_is_delivered_again_and_says_so() {
    everywhere(|place| {
        let (mut tx, mut rx) = place.pair(|options| options);
        tx.send(b"one").unwrap();
        tx.send(b"two").unwrap();
        let first = rx.recv().unwrap();
        let position = first.position();
        assert!(!first.redelivered());
        std::mem::forget(first);
        let again = rx.recv().unwrap();
        assert_eq!(
            (again.position(), again.attempts(), again.to_vec()),
            (position, 2, b"one".to_vec())
        );
        again.give_back();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _third = rx.recv().unwrap();
            std::panic::resume_unwind(Box::new("the worker fails"));
        }));
        assert!(panicked.is_err());
        let fourth = rx.recv().unwrap();
        assert_eq!((fourth.position(), fourth.attempts()), (position, 4));
        drop(fourth);
        let two = rx.recv().unwrap();
        assert_eq!((two.to_vec(), two.redelivered()), (b"two".to_vec(), false));
        drop(two);
        assert_eq!(rx.stats().redelivered, 3);
    });
}

#[test]
fn at_most_once_a_forgotten_message_is_counted_lost() {
    everywhere(|place| {
        let (mut tx, mut rx) = place.pair(|options| options.delivery(Delivery::AtMostOnce));
        tx.send(b"one").unwrap();
        tx.send(b"two").unwrap();
        std::mem::forget(rx.recv().unwrap());
        assert_eq!(rx.recv().unwrap().to_vec(), b"two");
        assert_eq!(rx.stats().lost, 1);
        tx.send(b"three").unwrap();
        rx.recv().unwrap().give_back();
        let again = rx.recv().unwrap();
        assert_eq!((again.attempts(), again.to_vec()), (2, b"three".to_vec()));
        again.give_back();
        let third = rx.recv().unwrap();
        assert_eq!(third.attempts(), 3);
        std::mem::forget(third);
        assert!(rx.is_empty(), "it was handed out and forgotten, so it is lost");
        assert!(rx.try_recv().unwrap_err().is_empty());
        assert_eq!(rx.stats().lost, 2);
        tx.send(b"four").unwrap();
        assert_eq!(rx.recv().unwrap().attempts(), 1, "the count of a lost message went with it");
    });
}

#[test]
#[cfg_attr(miri, ignore = "needs a file")]
fn at_most_once_a_receiver_whose_predecessor_lost_the_last_message_waits_for_the_next() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("ring");
    let path = path.to_str().unwrap();
    let options = Options::new().capacity(4096).delivery(Delivery::AtMostOnce);
    let mut tx = Sender::create(path, &options).unwrap();
    let mut first = Receiver::open_with(path, &options).unwrap();
    tx.send(b"one").unwrap();
    std::mem::forget(first.recv().unwrap());
    drop(first);
    let mut rx = Receiver::open_with(path, &options).unwrap();
    assert!(rx.try_recv().unwrap_err().is_empty());
    assert_eq!(rx.stats().lost, 1);
    for _ in 0..3 {
        tx.send(b"").unwrap();
        assert_eq!(rx.try_recv().unwrap().len(), 0);
        assert!(rx.try_recv().unwrap_err().is_empty());
    }
}

#[test]
fn a_receiver_that_is_drained_by_a_destructor_during_a_panic_releases_what_it_takes() {
    struct Drain(Receiver, std::sync::mpsc::Sender<Vec<u8>>);
    impl Drop for Drain {
        fn drop(&mut self) {
            while let Ok(message) = self.0.try_recv() {
                self.1.send(message.to_vec()).unwrap();
            }
        }
    }
    everywhere(|place| {
        let (mut tx, rx) = place.pair(|options| options);
        tx.send_batch(&[b"one", b"two"]).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _drain = Drain(rx, tell);
            std::panic::resume_unwind(Box::new("something else fails"));
        }));
        assert!(panicked.is_err());
        assert_eq!(told.iter().collect::<Vec<_>>(), [b"one", b"two"]);
    });
}

#[test]
fn how_the_other_end_went_is_told_apart_from_its_being_there() {
    everywhere(|place| {
        let (tx, mut rx) = place.pair(|options| options);
        assert_eq!((rx.stats().peer, rx.stats().end), (Presence::Present, None));
        drop(tx);
        assert!(rx.recv().unwrap_err().is_disconnected());
        assert_eq!((rx.stats().peer, rx.stats().end), (Presence::Left, Some(Presence::Left)));
    });
}

#[test]
fn the_stream_ends_when_the_sender_lets_go_and_everything_was_received() {
    everywhere(|place| {
        for wait in [Wait::Spin, Wait::Adaptive, Wait::Block] {
            let (mut tx, mut rx) = place.pair(|options| options);
            rx.set_wait(wait);
            let sender = std::thread::spawn(move || {
                for i in 0..times(1000, 70) as u32 {
                    tx.send(&i.to_le_bytes()).unwrap();
                }
            });
            let got: Vec<Vec<u8>> = rx.iter().collect();
            assert_eq!(got.len(), times(1000, 70));
            assert!(rx.recv().unwrap_err().is_disconnected());
            assert!(rx.try_recv().unwrap_err().is_disconnected());
            assert!(rx.is_disconnected());
            sender.join().unwrap();
        }
    });
}

#[test]
fn a_sender_learns_at_once_that_the_receiver_let_go_even_with_room() {
    everywhere(|place| {
        let (mut tx, rx) = place.pair(|options| options);
        tx.send(b"fine").unwrap();
        drop(rx);
        assert!(tx.try_send(b"x").unwrap_err().is_disconnected());
        assert!(tx.send(b"x").unwrap_err().is_disconnected());
        assert!(tx.reserve(1).unwrap_err().is_disconnected());
        assert!(tx.send_batch(&[b"x"]).unwrap_err().is_disconnected());
        tx.set_keep_open(true);
        tx.send(b"kept").unwrap();
    });
}

#[test]
fn a_sender_that_sleeps_on_a_full_ring_is_woken_by_the_receiver_letting_go() {
    everywhere(|place| {
        for wait in [Wait::Spin, Wait::Adaptive, Wait::Block] {
            let (mut tx, mut rx) = place.pair(|options| options);
            tx.set_wait(wait);
            while tx.try_send(&[1; 64]).is_ok() {}
            let sleeper = std::thread::spawn(move || {
                loop {
                    // Fills whatever room there is, and then waits for more.
                    if let Err(error) = tx.send(&[1; 64]) {
                        return error.is_disconnected();
                    }
                }
            });
            while rx.stats().messages < 3 {
                drop(rx.recv().unwrap());
            }
            drop(rx);
            assert!(sleeper.join().unwrap());
        }
    });
}

#[test]
fn a_deadline_in_the_past_is_one_try_and_then_a_timeout() {
    everywhere(|place| {
        use std::time::{Duration, Instant};
        let (mut tx, mut rx) = place.pair(|options| options);
        assert!(rx.recv_deadline(Instant::now()).unwrap_err().is_timeout());
        assert!(rx.recv_timeout(Duration::ZERO).unwrap_err().is_timeout());
        tx.send(b"there").unwrap();
        assert_eq!(rx.recv_timeout(Duration::ZERO).unwrap().to_vec(), b"there");
        while tx.try_send(&[1; 64]).is_ok() {}
        assert!(tx.send_timeout(&[1; 64], Duration::from_millis(1)).unwrap_err().is_timeout());
        assert!(tx.send_deadline(&[1; 64], Instant::now()).unwrap_err().is_timeout());
        assert!(tx.reserve_timeout(64, Duration::from_millis(1)).unwrap_err().is_timeout());
        assert!(
            tx.send_batch_timeout(&[[1; 64]], Duration::from_millis(1)).unwrap_err().is_timeout()
        );
        let mut buffer = vec![7];
        rx.recv_into_timeout(&mut buffer, Duration::MAX).unwrap();
        assert_eq!(buffer, [1; 64]);
    });
}

#[test]
fn what_a_handle_or_a_message_prints_is_short_and_holds_no_payload() {
    let (mut tx, mut rx) = spsc::channel(&Options::new()).unwrap();
    tx.send(b"secret").unwrap();
    assert_eq!(format!("{tx:?}"), r#"Sender { ring: "(channel)", .. }"#);
    assert_eq!(format!("{rx:?}"), r#"Receiver { ring: "(channel)", .. }"#);
    let printed = format!("{:?}", rx.recv().unwrap());
    assert_eq!(printed, r#"Message { ring: "(channel)", position: 0, len: 6, attempts: 1 }"#);
}

#[test]
fn handles_move_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    let (tx, rx) = spsc::channel(&Options::new()).unwrap();
    is_send(&tx);
    is_send(&rx);
}

#[test]
fn a_capacity_that_no_ring_can_have_is_an_error() {
    for bad in [0, 1, 4095, 5000, 2048] {
        assert!(spsc::channel(&Options::new().capacity(bad)).is_err(), "{bad}");
    }
}

#[test]
fn a_request_and_its_reply_never_wait_for_each_other() {
    everywhere(|place| {
        // Two rings of the smallest size; each side waits for the other with nothing in reserve.
        for wait in [Wait::Spin, Wait::Adaptive, Wait::Block] {
            let (mut ask, mut asked) = place.pair(|options| options);
            let (mut answer, mut answered) = place.pair(|options| options);
            for handle in [&mut asked, &mut answered] {
                handle.set_wait(wait);
            }
            for handle in [&mut ask, &mut answer] {
                handle.set_wait(wait);
            }
            let server = std::thread::spawn(move || {
                while let Ok(question) = asked.recv() {
                    let question = question.to_vec();
                    answer.send(&question).unwrap();
                }
            });
            for i in 0..times(2000, 5) {
                let question = vec![i as u8; (i * 131) % 1900];
                ask.send(&question).unwrap();
                assert_eq!(answered.recv().unwrap().to_vec(), question);
            }
            drop(ask);
            server.join().unwrap();
        }
    });
}
