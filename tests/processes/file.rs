//! What becomes of a ring whose file is touched while it is in use.

use std::fs::File;

use crate::harness::{Ring, every_sleep, everywhere};

#[test]
fn a_ring_that_lost_its_name_goes_on_and_the_name_is_free() {
    everywhere(|ring| {
        let (mut tx, mut rx) = (ring.sender(), ring.receiver());
        assert_eq!((tx.ask("unlinked"), rx.ask("unlinked")), ("false".into(), "false".into()));
        quoit::unlink(&ring.path).unwrap();
        assert_eq!((tx.ask("unlinked"), rx.ask("unlinked")), ("true".into(), "true".into()));
        assert_eq!(tx.ask("send 1"), "ok");
        assert_eq!(rx.recv().unwrap().number, 1);

        // Another ring of that name, beside the old one.
        let (mut new_tx, mut new_rx) = (ring.process(), ring.process());
        assert!(new_rx.ask("receiver open").starts_with("NotFound: "));
        assert_eq!(new_tx.ask("sender create"), "ok");
        assert_eq!(new_rx.ask("receiver open"), "ok");
        for number in 2..200 {
            assert_eq!(tx.ask(format!("send {number}")), "ok");
            assert_eq!(new_tx.ask(format!("send {}", number + 1000)), "ok");
            assert_eq!(rx.recv().unwrap().number, number);
            assert_eq!(new_rx.recv().unwrap().number, number + 1000);
        }
        rx.tell("recv");
        rx.asleep();
        tx.kill();
        assert_eq!(rx.answer(), "Disconnected", "a death is noticed without a name too");
        assert_eq!(new_tx.ask("send 1"), "ok");
    });
}

/// Bytes of a ring's file before its data.
const CONTROL: u64 = 0x5000;

fn cut(ring: &Ring, len: u64) {
    File::options().write(true).open(&ring.path).unwrap().set_len(len).unwrap();
}

#[test]
fn a_sleeping_receiver_learns_that_the_file_was_cut_short() {
    every_sleep(|ring, wait| {
        let (mut tx, mut rx) = (ring.sender(), ring.receiver());
        assert_eq!(rx.ask(format!("wait {wait}")), "ok");
        assert_eq!(tx.ask("send 1"), "ok");
        assert_eq!(rx.recv().unwrap().number, 1);
        rx.tell("recv");
        rx.asleep();
        cut(&ring, CONTROL);
        assert_eq!(rx.answer(), "Truncated");
        assert_eq!(rx.ask("recv"), "Truncated", "it stays so");
        assert_eq!(rx.ask("try_recv"), "Truncated");
        assert_eq!(rx.ask("messages"), "0", "where they were counted is not there");
        assert_eq!(rx.ask("leave"), "ok");
        assert!(rx.ask("receiver open").starts_with("Truncated: "));
    });
}

#[test]
fn a_sender_asleep_on_a_full_ring_learns_that_the_file_was_cut_short() {
    every_sleep(|ring, wait| {
        let (mut tx, _rx) = (ring.sender(), ring.receiver());
        assert_eq!(tx.ask(format!("wait {wait}")), "ok");
        let next = tx.fill(1);
        tx.tell(format!("send {next}"));
        tx.asleep();
        cut(&ring, CONTROL);
        assert_eq!(tx.answer(), "Truncated");
        assert_eq!(tx.ask("try_send 0"), "Truncated", "it stays so");
        assert_eq!(tx.ask("leave"), "ok");
    });
}

#[test]
fn a_file_that_was_made_longer_disturbs_nobody() {
    everywhere(|ring| {
        let (mut tx, mut rx) = (ring.sender(), ring.receiver());
        cut(&ring, 1 << 20);
        rx.tell("recv");
        rx.asleep();
        rx.sleeps_on(3);
        assert_eq!(tx.ask("send 1"), "ok");
        assert!(rx.answer().starts_with("1 at "));
    });
}
