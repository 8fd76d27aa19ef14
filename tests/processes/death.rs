//! kill -9 of one end, while the other sleeps or polls, and what its successor finds.

use crate::harness::{Process, Ring, every_sleep, everywhere};

/// A sender that came, sent two messages, and the receiver that has them.
fn two_received(ring: &Ring, wait: &str) -> (Process, Process) {
    let (mut tx, mut rx) = (ring.sender(), ring.receiver());
    for process in [&mut tx, &mut rx] {
        assert_eq!(process.ask(format!("wait {wait}")), "ok");
    }
    for number in [1, 2] {
        assert_eq!(tx.ask(format!("send {number}")), "ok");
        assert_eq!(rx.recv().unwrap().number, number);
    }
    (tx, rx)
}

/// The receiver was told of a death; a new sender comes, and the same handle goes on.
fn goes_on_with_a_new_sender(ring: &Ring, rx: &mut Process) {
    assert_eq!((rx.ask("peer"), rx.ask("end")), ("Died".into(), "Some(Died)".into()));
    assert_eq!(rx.ask("recv"), "Disconnected", "the answer stays");
    assert_eq!(rx.ask("try_recv"), "Disconnected", "the answer stays");
    let mut tx = ring.sender();
    assert_eq!(rx.ask("peer"), "Present");
    assert_eq!(rx.ask("try_recv"), "Empty");
    assert_eq!(tx.ask("send 100"), "ok");
    assert_eq!(rx.recv().unwrap().number, 100);
    rx.tell("recv");
    rx.asleep();
    assert_eq!(tx.ask("leave"), "ok");
    assert_eq!(rx.answer(), "Disconnected");
    assert_eq!((rx.ask("peer"), rx.ask("end")), ("Left".into(), "Some(Left)".into()));
    assert_eq!(ring.inspect().sender.deaths, 1);
}

#[test]
fn a_sleeping_receiver_learns_that_the_sender_was_killed_and_goes_on_with_the_next() {
    every_sleep(|ring, wait| {
        let (mut tx, mut rx) = two_received(&ring, wait);
        rx.tell("recv");
        rx.asleep();
        tx.kill();
        assert_eq!(rx.answer(), "Disconnected");
        goes_on_with_a_new_sender(&ring, &mut rx);
    });
}

#[test]
fn a_loop_of_try_recv_learns_that_the_sender_was_killed() {
    everywhere(|ring| {
        let (mut tx, mut rx) = two_received(&ring, "Adaptive");
        rx.tell("poll");
        tx.kill();
        assert_eq!(rx.answer(), "Disconnected");
        goes_on_with_a_new_sender(&ring, &mut rx);
    });
}

#[test]
fn a_spinning_receiver_learns_that_the_sender_was_killed() {
    everywhere(|ring| {
        let (mut tx, mut rx) = two_received(&ring, "Spin");
        rx.tell("recv");
        tx.kill();
        assert_eq!(rx.answer(), "Disconnected");
        assert_eq!(rx.ask("wait Adaptive"), "ok");
        goes_on_with_a_new_sender(&ring, &mut rx);
    });
}

#[test]
fn all_that_a_killed_sender_had_sent_comes_before_the_end() {
    every_sleep(|ring, wait| {
        let (mut tx, mut rx) = two_received(&ring, wait);
        rx.tell("drain");
        rx.asleep();
        // The receiver does not run between what is sent and the death.
        rx.stop();
        let next = tx.fill(3);
        tx.kill();
        rx.go_on();
        assert_eq!(rx.answer(), format!("3..{next} Disconnected"));
        goes_on_with_a_new_sender(&ring, &mut rx);
    });
}

#[test]
fn what_a_killed_sender_wrote_and_did_not_commit_is_never_seen() {
    everywhere(|ring| {
        let (mut tx, mut rx) = two_received(&ring, "Adaptive");
        assert_eq!(tx.ask("scribble"), "scribbled");
        tx.kill();
        assert_eq!(rx.ask("recv"), "Disconnected");
        let mut tx = ring.sender();
        for number in 3..60 {
            assert_eq!(tx.ask(format!("send {number}")), "ok");
            assert_eq!(rx.recv().unwrap().number, number);
            assert_eq!(rx.ask("try_recv"), "Empty", "nothing is behind message {number}");
        }
    });
}

/// A full ring: the receiver released message 1 and has message 2 in hand, the sender sleeps in `send(next)`. Answers the
/// two, the position of message 2, and `next`.
fn full_with_one_in_hand(ring: &Ring, wait: &str) -> (Process, Process, u64, u64) {
    let (mut tx, mut rx) = (ring.sender(), ring.receiver());
    assert_eq!(tx.ask(format!("wait {wait}")), "ok");
    assert_eq!((tx.ask("send 1"), tx.ask("send 2")), ("ok".into(), "ok".into()));
    assert_eq!(rx.recv().unwrap().number, 1);
    let held = rx.hold();
    assert_eq!((held.number, held.attempt), (2, 1));
    let next = tx.fill(3);
    tx.tell(format!("send {next}"));
    tx.asleep();
    (tx, rx, held.position, next)
}

#[test]
fn a_sender_asleep_on_a_full_ring_learns_that_the_receiver_was_killed() {
    every_sleep(|ring, wait| {
        let (mut tx, mut rx, position, next) = full_with_one_in_hand(&ring, wait);
        rx.kill();
        assert_eq!(tx.answer(), "Disconnected");
        assert_eq!(tx.ask("peer"), "Died");
        // The answer stays while there is no room.
        assert_eq!(tx.ask(format!("send {next}")), "Disconnected");
        assert_eq!(tx.ask(format!("try_send {next}")), "Disconnected");

        let mut rx = ring.receiver();
        assert_eq!(tx.ask("peer"), "Present");
        let again = rx.recv().unwrap();
        assert_eq!((again.number, again.attempt), (2, 2), "what was in hand comes again, marked");
        assert_eq!(again.position, position);
        let after = rx.recv().unwrap();
        assert_eq!((after.number, after.attempt), (3, 1), "what was not in hand is not marked");
        assert_eq!(rx.ask("redelivered"), "1");
        assert_eq!(rx.ask("lost"), "0");
        rx.tell("drain");
        // What was refused was not sent, and the same handle goes on.
        assert_eq!(tx.ask(format!("send {next}")), "ok");
        assert_eq!(tx.ask("leave"), "ok");
        assert_eq!(rx.answer(), format!("4..{} Disconnected", next + 1));
        assert_eq!(ring.inspect().receiver.deaths, 1);
    });
}

#[test]
fn at_most_once_counts_the_message_in_hand_lost_and_no_other() {
    everywhere(|ring| {
        let ring = ring.at_most_once();
        let (mut tx, mut rx, _, next) = full_with_one_in_hand(&ring, "Adaptive");
        rx.kill();
        assert_eq!(tx.answer(), "Disconnected");
        assert_eq!(tx.ask("leave"), "ok");
        let mut rx = ring.receiver();
        let first = rx.recv().unwrap();
        assert_eq!((first.number, first.attempt), (3, 1));
        assert_eq!(rx.ask("lost"), "1");
        assert_eq!(rx.ask("redelivered"), "0");
        assert_eq!(rx.ask("drain"), format!("4..{next} Disconnected"));
        assert_eq!(ring.inspect().lost, 1);
    });
}

#[test]
fn a_message_that_kills_each_receiver_counts_its_attempts() {
    everywhere(|ring| {
        let mut tx = ring.sender();
        assert_eq!((tx.ask("send 1"), tx.ask("send 2")), ("ok".into(), "ok".into()));
        let mut position = None;
        for attempt in 1..=5 {
            let mut rx = ring.receiver();
            let held = rx.hold();
            assert_eq!((held.number, held.attempt), (1, attempt));
            assert_eq!(*position.get_or_insert(held.position), held.position);
            rx.kill();
        }
        let mut rx = ring.receiver();
        assert_eq!(rx.recv().unwrap().attempt, 6);
        assert_eq!(rx.recv().unwrap().attempt, 1);
    });
}

#[test]
fn a_sender_whose_receiver_was_killed_sends_while_there_is_room() {
    everywhere(|ring| {
        let (mut tx, mut rx) = two_received(&ring, "Adaptive");
        rx.kill();
        assert_eq!(tx.ask("send 3"), "ok");
        let (next, why) = tx.fill_until_refused(4);
        assert!(next > 5 && ["Full", "Disconnected"].contains(&&*why), "{why} at {next}");
        assert_eq!(tx.ask(format!("send {next}")), "Disconnected", "nobody will make room");
        assert_eq!(tx.ask("peer"), "Died");
        let mut rx = ring.receiver();
        assert_eq!(rx.recv().unwrap().number, 3);
    });
}

#[test]
fn a_loop_of_try_send_batch_learns_that_the_receiver_was_killed_although_a_line_is_free() {
    everywhere(|ring| {
        let (mut tx, mut rx) = two_received(&ring, "Adaptive");
        tx.tell("try_send_batch until refused");
        assert_eq!(tx.answer(), "full");
        rx.kill();
        assert_eq!(tx.answer(), "Disconnected");
    });
}

#[test]
fn a_sender_that_died_before_the_one_that_left_makes_the_end_a_death_once() {
    everywhere(|ring| {
        let (mut tx, mut rx) = two_received(&ring, "Block");
        assert_eq!(tx.ask("send 3"), "ok");
        tx.kill();
        let mut next = ring.sender();
        assert_eq!(next.ask("send 4"), "ok");
        assert_eq!(next.ask("leave"), "ok");
        assert_eq!(rx.ask("drain"), "3..5 Disconnected");
        assert_eq!((rx.ask("peer"), rx.ask("end")), ("Left".into(), "Some(Died)".into()));
        let mut last = ring.sender();
        assert_eq!(last.ask("send 5"), "ok");
        assert_eq!(last.ask("leave"), "ok");
        assert_eq!(rx.ask("drain"), "5..6 Disconnected");
        assert_eq!(rx.ask("end"), "Some(Left)");
    });
}

#[test]
fn a_loop_of_try_send_learns_that_the_receiver_was_killed() {
    everywhere(|ring| {
        let (mut tx, mut rx) = two_received(&ring, "Adaptive");
        tx.fill(3);
        tx.tell("try_send until refused");
        rx.kill();
        assert_eq!(tx.answer(), "Disconnected");
    });
}

#[test]
fn a_receiver_goes_on_with_the_successor_of_a_sender_killed_asleep_on_a_full_ring() {
    every_sleep(|ring, wait| {
        let (mut tx, mut rx) = two_received(&ring, wait);
        let next = tx.fill(3);
        tx.tell(format!("send {next}"));
        tx.asleep();
        tx.kill();
        // The bed is still marked as slept in; the successor sleeps in it too.
        let mut tx = ring.sender();
        assert_eq!(tx.ask(format!("wait {wait}")), "ok");
        tx.tell(format!("send {next}"));
        tx.asleep();
        rx.tell("drain");
        assert_eq!(tx.answer(), "ok");
        assert_eq!(tx.ask("leave"), "ok");
        assert_eq!(rx.answer(), format!("3..{} Disconnected", next + 1));
    });
}

#[test]
fn a_sender_goes_on_with_the_successor_of_a_receiver_killed_asleep_on_an_empty_ring() {
    every_sleep(|ring, wait| {
        let (mut tx, mut rx) = two_received(&ring, wait);
        rx.tell("recv");
        rx.asleep();
        rx.kill();
        let mut rx = ring.receiver();
        assert_eq!(rx.ask(format!("wait {wait}")), "ok");
        rx.tell("recv");
        rx.asleep();
        assert_eq!(tx.ask("send 3"), "ok");
        assert!(rx.answer().starts_with("3 at "));
        assert_eq!(tx.ask("leave"), "ok");
        assert_eq!(rx.ask("recv"), "Disconnected");
    });
}

#[test]
fn both_ends_killed_leave_the_ring_whole_for_the_next_two() {
    everywhere(|ring| {
        let (mut tx, mut rx, position, next) = full_with_one_in_hand(&ring, "Block");
        tx.kill();
        rx.kill();
        let (mut tx, mut rx) = (ring.sender(), ring.receiver());
        let again = rx.recv().unwrap();
        assert_eq!((again.number, again.attempt, again.position), (2, 2, position));
        rx.tell("drain");
        assert_eq!(tx.ask(format!("send {next}")), "ok");
        assert_eq!(tx.ask("leave"), "ok");
        assert_eq!(rx.answer(), format!("3..{} Disconnected", next + 1));
        let info = ring.inspect();
        assert_eq!((info.sender.deaths, info.receiver.deaths), (1, 1));
    });
}
