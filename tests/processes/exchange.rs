//! Two processes, nothing goes wrong.

use crate::harness::{Ring, everywhere};

/// Messages of each exchange: some laps of the smallest ring.
const MESSAGES: u64 = 10_000;

#[test]
fn messages_of_every_length_arrive_whole_and_in_order_whoever_comes_first() {
    for first in ["sender", "receiver"] {
        everywhere(|ring| {
            let (mut tx, mut rx) = match first {
                "sender" => (ring.sender(), ring.receiver()),
                _ => {
                    let rx = ring.receiver();
                    (ring.sender(), rx)
                }
            };
            tx.tell(format!("send_lengths {MESSAGES}"));
            rx.tell(format!("recv_lengths {MESSAGES}"));
            assert_eq!(tx.answer(), "ok");
            assert_eq!(rx.answer(), "ok");
            assert_eq!(tx.ask("leave"), "ok");
            assert_eq!(rx.ask("drain"), "nothing Disconnected", "and nothing else");
        });
    }
}

#[test]
fn what_was_sent_before_a_receiver_came_is_there_when_it_comes() {
    everywhere(|ring| {
        let mut tx = ring.sender();
        let next = tx.fill(1);
        assert_eq!(tx.ask("leave"), "ok");
        let mut rx = ring.receiver();
        assert_eq!(rx.ask("drain"), format!("1..{next} Disconnected"));
    });
}

#[test]
fn a_sender_goes_on_where_its_predecessor_left_off() {
    everywhere(|ring| {
        let mut rx = ring.receiver();
        let mut next = 1;
        for _ in 0..20 {
            let mut tx = ring.sender();
            let first = next;
            next = tx.fill(first);
            assert_eq!(tx.ask("leave"), "ok");
            assert_eq!(rx.ask("drain"), format!("{first}..{next} Disconnected"));
        }
    });
}

#[test]
fn of_two_that_create_at_once_exactly_one_does() {
    let ring = Ring::new(0);
    let (mut a, mut b) = (ring.process(), ring.process());
    for _ in 0..300 {
        a.tell("sender create");
        b.tell("receiver create");
        let answers = [a.answer(), b.answer()];
        let made = answers.iter().filter(|answer| *answer == "ok").count();
        let refused = answers.iter().filter(|answer| answer.starts_with("AlreadyExists")).count();
        assert_eq!((made, refused), (1, 1), "{answers:?}");
        assert_eq!(ring.names(), 1, "nothing else is left behind");
        for process in [&mut a, &mut b] {
            assert_eq!(process.ask("leave"), "ok");
        }
        quoit::unlink(&ring.path).unwrap();
    }
}

#[test]
fn two_that_open_or_create_at_once_meet_on_one_ring_and_each_learns_that_the_other_leaves() {
    everywhere(|ring| {
        let (mut tx, mut rx) = (ring.process(), ring.process());
        for round in 0..300 {
            tx.tell("sender open_or_create");
            rx.tell("receiver open_or_create");
            assert_eq!((tx.answer(), rx.answer()), ("ok".into(), "ok".into()), "round {round}");
            assert_eq!(ring.names(), 1);
            assert_eq!(tx.ask("send 7"), "ok");
            assert_eq!(rx.recv().unwrap().number, 7);
            if round % 2 == 0 {
                assert_eq!(tx.ask("leave"), "ok");
                assert_eq!(rx.ask("recv"), "Disconnected", "round {round}");
            } else {
                assert_eq!(rx.ask("leave"), "ok");
                assert_eq!(tx.ask("send 8"), "Disconnected", "round {round}");
            }
            for process in [&mut tx, &mut rx] {
                assert_eq!(process.ask("leave"), "ok");
            }
            if round % 3 != 0 {
                quoit::unlink(&ring.path).unwrap();
            }
        }
    });
}
