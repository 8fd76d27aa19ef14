//! One sender, one receiver, and nobody takes the seat of one that is alive.

use crate::harness::{Process, everywhere};

fn refused(process: &mut Process, order: &str, role: &str) {
    let answer = process.ask(order);
    assert!(answer.starts_with("SeatTaken: "), "{answer}");
    assert!(answer.contains(&format!("has a {role} already")), "{answer}");
}

#[test]
fn a_second_holder_of_a_seat_is_refused_at_once_and_told_which_seat_it_is() {
    everywhere(|ring| {
        let (mut tx, mut rx, mut third) = (ring.sender(), ring.receiver(), ring.process());
        for how in ["open", "open_or_create"] {
            refused(&mut third, &format!("sender {how}"), "sender");
            refused(&mut third, &format!("receiver {how}"), "receiver");
        }
        refused(&mut tx, "another sender", "sender");
        refused(&mut rx, "another receiver", "receiver");
        // Nobody was disturbed.
        assert_eq!(tx.ask("send 1"), "ok");
        assert_eq!(rx.recv().unwrap().number, 1);
        assert_eq!((tx.ask("peer"), rx.ask("peer")), ("Present".into(), "Present".into()));
        let info = ring.inspect();
        assert_eq!((info.sender.arrivals, info.receiver.arrivals), (1, 1));
    });
}

#[test]
fn one_process_may_hold_both_ends() {
    everywhere(|ring| {
        let mut both = ring.sender();
        assert_eq!(both.ask("receiver open"), "ok");
        assert_eq!(both.ask("send 1"), "ok");
        assert_eq!(both.recv().unwrap().number, 1);
        refused(&mut both, "another sender", "sender");
        refused(&mut both, "another receiver", "receiver");
        assert_eq!(both.ask("send 2"), "ok");
        assert_eq!(both.recv().unwrap().number, 2);
    });
}

#[test]
fn a_seat_is_free_as_soon_as_its_holder_left_or_died() {
    everywhere(|ring| {
        for _ in 0..50 {
            let mut tx = ring.sender();
            assert_eq!(tx.ask("leave"), "ok");
            assert_eq!(tx.ask("sender open"), "ok");
            tx.kill();
            let mut rx = ring.receiver();
            assert_eq!(rx.ask("leave"), "ok");
            assert_eq!(rx.ask("receiver open"), "ok");
            rx.kill();
        }
        let info = ring.inspect();
        assert_eq!((info.sender.arrivals, info.sender.deaths), (100, 49));
        assert_eq!((info.receiver.arrivals, info.receiver.deaths), (100, 49));
    });
}

#[test]
fn a_stopped_receiver_is_never_robbed() {
    everywhere(|ring| {
        let (mut tx, mut rx, mut third) = (ring.sender(), ring.receiver(), ring.process());
        assert_eq!(tx.ask("send 1"), "ok");
        let held = rx.hold();
        rx.stop();
        let next = tx.fill(2);
        tx.tell(format!("send {next}"));
        tx.asleep();
        // Long enough to have asked the lock.
        tx.sleeps_on(3);
        refused(&mut third, "receiver open", "receiver");
        assert_eq!(ring.inspect().receiver.presence, quoit::Presence::Present);
        rx.go_on();
        assert_eq!(rx.ask("release"), "ok");
        rx.tell("drain");
        assert_eq!(tx.answer(), "ok");
        assert_eq!(tx.ask("leave"), "ok");
        assert_eq!(rx.answer(), format!("2..{} Disconnected", next + 1));
        assert_eq!((held.number, held.attempt), (1, 1));
        assert_eq!(ring.inspect().receiver.deaths, 0);
    });
}

#[test]
fn a_stopped_sender_is_never_robbed() {
    everywhere(|ring| {
        let (mut tx, mut rx, mut third) = (ring.sender(), ring.receiver(), ring.process());
        assert_eq!(tx.ask("send 1"), "ok");
        assert_eq!(rx.recv().unwrap().number, 1);
        tx.stop();
        rx.tell("recv");
        rx.asleep();
        rx.sleeps_on(3);
        refused(&mut third, "sender open", "sender");
        tx.tell("send 2");
        rx.sleeps_on(1);
        tx.go_on();
        assert_eq!(tx.answer(), "ok");
        assert!(rx.answer().starts_with("2 at "));
        assert_eq!(tx.ask("leave"), "ok");
        assert_eq!(rx.ask("recv"), "Disconnected");
        assert_eq!(ring.inspect().sender.deaths, 0);
    });
}
