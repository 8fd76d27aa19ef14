//! When a stream has ended, and when it has not.

use crate::harness::{Ring, every_sleep, everywhere};

/// One whole round on a ring: three messages, the end is reported, both leave.
fn round(ring: &Ring) {
    let (mut tx, mut rx) = (ring.sender(), ring.receiver());
    for number in 1..=3 {
        assert_eq!(tx.ask(format!("send {number}")), "ok");
    }
    assert_eq!(tx.ask("leave"), "ok");
    assert_eq!(rx.ask("drain"), "1..4 Disconnected");
    assert_eq!(rx.ask("leave"), "ok");
}

#[test]
fn a_receiver_that_comes_after_the_sender_left_gets_everything_and_the_end() {
    everywhere(|ring| {
        let mut tx = ring.sender();
        assert_eq!((tx.ask("send 1"), tx.ask("send 2")), ("ok".into(), "ok".into()));
        assert_eq!(tx.ask("leave"), "ok");
        assert_eq!(ring.receiver().ask("drain"), "1..3 Disconnected");
        assert_eq!(ring.receiver().ask("try_recv"), "Empty", "an end is reported once");
    });
}

#[test]
fn a_receiver_that_comes_first_waits_for_a_sender_and_gets_the_end() {
    every_sleep(|ring, wait| {
        let mut rx = ring.receiver();
        assert_eq!(rx.ask(format!("wait {wait}")), "ok");
        assert_eq!(rx.ask("try_recv"), "Empty");
        assert_eq!(rx.ask("peer"), "Never");
        rx.tell("drain");
        rx.asleep();
        rx.sleeps_on(3);
        let mut tx = ring.sender();
        rx.asleep();
        assert_eq!((tx.ask("send 1"), tx.ask("send 2")), ("ok".into(), "ok".into()));
        assert_eq!(tx.ask("leave"), "ok");
        assert_eq!(rx.answer(), "1..3 Disconnected");
        assert_eq!(rx.ask("peer"), "Left");
    });
}

#[test]
fn a_sender_that_sends_nothing_ends_a_stream_too() {
    every_sleep(|ring, wait| {
        let mut rx = ring.receiver();
        assert_eq!(rx.ask(format!("wait {wait}")), "ok");
        rx.tell("recv");
        rx.asleep();
        let mut tx = ring.sender();
        assert_eq!(tx.ask("leave"), "ok");
        assert_eq!(rx.answer(), "Disconnected");
    });
}

#[test]
fn a_second_round_with_the_receiver_first_does_not_end_before_it_began() {
    everywhere(|ring| {
        round(&ring);
        let mut rx = ring.receiver();
        assert_eq!(rx.ask("try_recv"), "Empty");
        assert_eq!(rx.ask("peer"), "Left");
        rx.tell("drain");
        rx.asleep();
        rx.sleeps_on(3);
        let mut tx = ring.sender();
        assert_eq!(tx.ask("send 1"), "ok");
        assert_eq!(tx.ask("leave"), "ok");
        assert_eq!(rx.answer(), "1..2 Disconnected");
    });
}

#[test]
fn a_second_round_with_the_sender_first_waits_for_its_own_receiver() {
    every_sleep(|ring, wait| {
        round(&ring);
        let mut tx = ring.sender();
        assert_eq!(tx.ask(format!("wait {wait}")), "ok");
        assert_eq!(tx.ask("peer"), "Left");
        let next = tx.fill(1);
        tx.tell(format!("send {next}"));
        tx.asleep();
        tx.sleeps_on(3);
        let mut rx = ring.receiver();
        rx.tell("drain");
        assert_eq!(tx.answer(), "ok");
        assert_eq!(tx.ask("leave"), "ok");
        assert_eq!(rx.answer(), format!("1..{} Disconnected", next + 1));
    });
}

#[test]
fn a_second_round_after_deaths_begins_like_the_first() {
    everywhere(|ring| {
        let (mut tx, mut rx) = (ring.sender(), ring.receiver());
        tx.kill();
        assert_eq!(rx.ask("recv"), "Disconnected");
        rx.kill();
        let mut tx = ring.sender();
        let next = tx.fill(1);
        tx.tell(format!("send {next}"));
        tx.asleep();
        tx.sleeps_on(3);
        let mut rx = ring.receiver();
        rx.tell("drain");
        assert_eq!(tx.answer(), "ok");
        assert_eq!(tx.ask("leave"), "ok");
        assert_eq!(rx.answer(), format!("1..{} Disconnected", next + 1));
        assert_eq!(rx.ask("leave"), "ok");
        let mut rx = ring.receiver();
        rx.tell("recv");
        rx.asleep();
        rx.sleeps_on(3);
    });
}

#[test]
fn a_sender_learns_at_once_that_the_last_receiver_left_even_with_room() {
    everywhere(|ring| {
        let (mut tx, mut rx) = (ring.sender(), ring.receiver());
        assert_eq!(tx.ask("send 1"), "ok");
        assert_eq!(rx.ask("leave"), "ok");
        assert_eq!(tx.ask("try_send 2"), "Disconnected");
        assert_eq!(tx.ask("send 2"), "Disconnected");
        assert_eq!(tx.ask("peer"), "Left");
        let mut rx = ring.receiver();
        assert_eq!(tx.ask("send 2"), "ok", "the same handle goes on with the next receiver");
        assert_eq!(tx.ask("leave"), "ok");
        assert_eq!(rx.ask("drain"), "1..3 Disconnected");
    });
}

#[test]
fn a_sender_asleep_on_a_full_ring_learns_that_the_receiver_left() {
    every_sleep(|ring, wait| {
        let (mut tx, mut rx) = (ring.sender(), ring.receiver());
        assert_eq!(tx.ask(format!("wait {wait}")), "ok");
        let next = tx.fill(1);
        tx.tell(format!("send {next}"));
        tx.asleep();
        assert_eq!(rx.ask("leave"), "ok");
        assert_eq!(tx.answer(), "Disconnected");
        assert_eq!(tx.ask("peer"), "Left");
    });
}

#[test]
fn a_ring_that_is_kept_open_never_ends_for_its_receiver() {
    every_sleep(|ring, wait| {
        let ring = ring.keep_open();
        let mut rx = ring.receiver();
        assert_eq!(rx.ask(format!("wait {wait}")), "ok");
        for killed in [false, true] {
            let mut tx = ring.sender();
            assert_eq!(tx.ask("send 1"), "ok");
            assert_eq!(rx.recv().unwrap().number, 1);
            rx.tell("recv");
            rx.asleep();
            if killed {
                tx.kill()
            } else {
                assert_eq!(tx.ask("leave"), "ok")
            }
            rx.sleeps_on(3);
            let mut tx = ring.sender();
            assert_eq!(tx.ask("send 2"), "ok");
            assert!(rx.answer().starts_with("2 at "));
            assert_eq!(tx.ask("leave"), "ok");
            assert_eq!(rx.ask("try_recv"), "Empty");
        }
    });
}

#[test]
fn a_ring_that_is_kept_open_never_ends_for_its_sender() {
    every_sleep(|ring, wait| {
        let ring = ring.keep_open();
        let mut tx = ring.sender();
        assert_eq!(tx.ask(format!("wait {wait}")), "ok");
        let mut next = 1;
        for killed in [false, true] {
            let mut rx = ring.receiver();
            if killed {
                rx.kill()
            } else {
                assert_eq!(rx.ask("leave"), "ok")
            }
            let first = next;
            next = tx.fill(first);
            tx.tell(format!("send {next}"));
            tx.asleep();
            tx.sleeps_on(3);
            let mut rx = ring.receiver();
            for number in first..=next {
                assert_eq!(rx.recv().unwrap().number, number);
            }
            assert_eq!(tx.answer(), "ok");
            next += 1;
        }
    });
}

#[test]
fn a_handle_may_keep_open_what_the_ring_would_end() {
    everywhere(|ring| {
        let (mut tx, mut rx) = (ring.sender(), ring.receiver());
        assert_eq!(rx.ask("keep_open on"), "ok");
        rx.tell("recv");
        rx.asleep();
        assert_eq!(tx.ask("leave"), "ok");
        rx.sleeps_on(3);
        let mut tx = ring.sender();
        assert_eq!(tx.ask("send 1"), "ok");
        assert!(rx.answer().starts_with("1 at "));
        assert_eq!(rx.ask("keep_open off"), "ok");
        assert_eq!(tx.ask("leave"), "ok");
        assert_eq!(rx.ask("recv"), "Disconnected");
    });
}

#[test]
fn a_clean_leave_is_never_called_a_death() {
    every_sleep(|ring, wait| {
        let mut rx = ring.receiver();
        assert_eq!(rx.ask(format!("wait {wait}")), "ok");
        let mut tx = ring.process();
        for round in 0..100 {
            assert_eq!(tx.ask("sender open"), "ok");
            let verb = ["recv", "poll", "watch"][round % 3];
            rx.tell(verb);
            assert_eq!(tx.ask("leave"), "ok");
            assert_eq!(rx.answer(), "Disconnected");
            assert_eq!(rx.ask("end"), "Some(Left)", "{verb} in round {round}");
        }
    });
}

#[test]
fn what_is_sent_just_before_a_leave_is_never_missed() {
    for wait in ["Spin", "Adaptive", "Block"] {
        everywhere(|ring| {
            let (mut tx, mut rx) = (ring.process(), ring.receiver());
            assert_eq!(rx.ask(format!("wait {wait}")), "ok");
            for number in 1..500u64 {
                assert_eq!(tx.ask("sender open"), "ok");
                // The receiver looks, finds nothing, and asks for the sender, all the time.
                rx.tell("drain");
                let end = format!("{number}..{} Disconnected", number + 1);
                assert_eq!(tx.ask(format!("send_and_leave {number}")), "ok");
                assert_eq!(rx.answer(), end, "with {wait}");
            }
        });
    }
}
