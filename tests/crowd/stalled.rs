//! Whoever is stopped in the middle of something is waited for, named, and never robbed.

use std::time::{Duration, Instant};

use quoit::mpmc::{Receiver, Sender};
use quoit::{Holder, Recovered, Wait};

use crate::harness::{Process, Ring, Shape};
use crate::notes::{Doing, LOG, SEAT};
use crate::worker::{self, Worker, body, id};

/// Claims a slot, commits it when it may (1), leaves when it may (2).
pub(crate) fn claim(worker: &Worker, number: u64, wait: &str) {
    let mut tx = worker.open_sender(worker::wait(wait));
    let message = body(number);
    let mut claim = tx.reserve(message.len()).unwrap();
    claim.write_at(0, &message).unwrap();
    worker.ready(1);
    worker.until(1);
    claim.commit().unwrap();
    worker.ready(2);
    worker.until(2);
    worker.leave(tx);
}

/// Takes messages in hand, releases them when it may (1), leaves when it may (2).
pub(crate) fn hold(worker: &Worker, count: usize) {
    let rx = worker.open_receiver(Wait::Block);
    let mut held = Vec::new();
    while held.len() < count {
        let missing = count - held.len();
        rx.recv_batch(&mut held, missing).unwrap();
    }
    for (at, message) in held.iter().enumerate() {
        worker.journal.set(LOG + at, id(message));
    }
    worker.ready(1);
    worker.until(1);
    drop(held);
    worker.ready(2);
    worker.until(2);
    worker.leave(rx);
}

/// Sits there until it may leave (1).
pub(crate) fn idle(worker: &Worker, role: &str) {
    let (mut tx, mut rx) = (None, None);
    match role {
        "sender" => tx = Some(worker.open_sender(Wait::Block)),
        _ => rx = Some(worker.open_receiver(Wait::Block)),
    }
    worker.ready(1);
    worker.until(1);
    worker.call(Doing::Leaving, None, || (tx.take(), rx.take()));
}

/// Room in a journal for what a process holds.
pub(crate) const FEW: usize = 16;

/// Deadlines here: long enough for several slices of sleep.
const A_WHILE: Duration = Duration::from_millis(350);

/// Runs a claim on rings at 0 and near the end of all positions, for each way to wait; all at once, because it is little
/// work and much waiting.
fn everywhere(claim: impl Fn(Ring, Wait) + Sync) {
    std::thread::scope(|scope| {
        for start in [0, 0u64.wrapping_sub(3)] {
            for wait in [Wait::Block, Wait::Adaptive, Wait::Spin] {
                let claim = &claim;
                scope.spawn(move || {
                    claim(Ring::new(Shape { slots: 8, start, ..Shape::default() }), wait);
                });
            }
        }
    });
}

/// Asserts that an error names the process that is in the way, in its field and in its sentence.
fn names(error: &(impl std::error::Error + Holding), role: &str, stopped: &Process) {
    let holder = error.holder().unwrap_or_else(|| panic!("nobody is named: {error}"));
    let seat = stopped.journal.get(SEAT) - 1;
    assert_eq!((holder.role, u64::from(holder.seat), holder.pid), (role, seat, stopped.id()));
    let named = format!("the {role} in seat {seat} (process {})", stopped.id());
    assert!(error.to_string().contains(&named), "{error}");
}

/// A timeout's field.
trait Holding {
    fn holder(&self) -> Option<Holder>;
}

impl Holding for quoit::SendTimeoutError {
    fn holder(&self) -> Option<Holder> {
        match self {
            quoit::SendTimeoutError::Timeout { holder, .. } => *holder,
            other => panic!("{other}"),
        }
    }
}

impl Holding for quoit::RecvTimeoutError {
    fn holder(&self) -> Option<Holder> {
        match self {
            quoit::RecvTimeoutError::Timeout { holder, .. } => *holder,
            other => panic!("{other}"),
        }
    }
}

fn at_its_deadline<T>(call: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let answer = call();
    assert!(began.elapsed() >= A_WHILE, "not before the deadline");
    answer
}

#[test]
fn a_sender_stopped_in_its_claim_is_named_and_not_robbed_and_goes_on() {
    everywhere(|ring, wait| {
        let (tx, rx) = (Sender::open(&ring.path).unwrap(), Receiver::open(&ring.path).unwrap());
        tx.set_wait(wait);
        rx.set_wait(wait);
        let mut stopped = ring.process("claim 1 Block", FEW);
        stopped.ready(&ring, 1);
        stopped.stop();
        tx.send(&body(2)).unwrap();

        let other = Receiver::open(&ring.path).unwrap();
        let waiting = std::thread::spawn(move || {
            let error = at_its_deadline(|| other.recv_timeout(A_WHILE).map(drop)).unwrap_err();
            (error, other)
        });
        let error = at_its_deadline(|| rx.recv_timeout(A_WHILE).map(drop)).unwrap_err();
        names(&error, "sender", &stopped);
        let (error, other) = waiting.join().unwrap();
        names(&error, "sender", &stopped);
        let mut held = Vec::new();
        let error = at_its_deadline(|| rx.recv_batch_timeout(&mut held, 3, A_WHILE)).unwrap_err();
        names(&error, "sender", &stopped);

        // The ring fills up behind the claim, and then senders wait for the same.
        let mut next = 3;
        while tx.try_send(&body(next)).is_ok() {
            next += 1;
        }
        let error = at_its_deadline(|| tx.send_timeout(&body(next), A_WHILE)).unwrap_err();
        names(&error, "sender", &stopped);
        assert_eq!(rx.recover().unwrap(), Recovered::default());
        assert_eq!(quoit::recover(&ring.path).unwrap(), Recovered::default());

        stopped.go_on();
        stopped.go(1);
        stopped.ready(&ring, 2);
        for number in 1..next {
            let message = rx.recv().unwrap();
            assert_eq!((id(&message), message.attempts()), (number, 1));
        }
        assert!(other.try_recv().unwrap_err().is_empty());
        stopped.go(2);
        stopped.finish();
        assert_eq!(ring.deaths(), 0);
    });
}

#[test]
fn a_receiver_stopped_with_a_message_in_hand_is_named_and_not_robbed_and_goes_on() {
    everywhere(|ring, wait| {
        let (mut tx, rx) = (Sender::open(&ring.path).unwrap(), Receiver::open(&ring.path).unwrap());
        tx.set_wait(wait);
        tx.send(&body(1)).unwrap();
        let mut stopped = ring.process("hold 1", FEW);
        stopped.ready(&ring, 1);
        stopped.stop();
        assert_eq!(stopped.journal.get(LOG), 1);

        let mut next = 2;
        while tx.try_send(&body(next)).is_ok() {
            next += 1;
        }
        // What the others take and release makes no room before the slot that is next.
        for number in 2..5 {
            assert_eq!(id(&rx.recv().unwrap()), number);
        }
        let error = at_its_deadline(|| tx.send_timeout(&body(next), A_WHILE)).unwrap_err();
        names(&error, "receiver", &stopped);
        let error = at_its_deadline(|| tx.reserve_timeout(9, A_WHILE).map(drop)).unwrap_err();
        names(&error, "receiver", &stopped);
        let batch = [body(next)];
        let error = at_its_deadline(|| tx.send_batch_timeout(&batch, A_WHILE)).unwrap_err();
        names(&error, "receiver", &stopped);
        assert_eq!(tx.recover().unwrap(), Recovered::default());
        assert_eq!(quoit::recover(&ring.path).unwrap(), Recovered::default());

        // The rest can be received all the same, and nothing that the stopped one has.
        for number in 5..next {
            assert_eq!(id(&rx.recv().unwrap()), number);
        }
        assert!(rx.try_recv().unwrap_err().is_empty());
        stopped.go_on();
        stopped.go(1);
        tx.send(&body(next)).unwrap();
        let message = rx.recv().unwrap();
        assert_eq!((id(&message), message.attempts()), (next, 1));
        drop(message);
        assert!(rx.try_recv().unwrap_err().is_empty());
        stopped.go(2);
        stopped.finish();
        assert_eq!(ring.deaths(), 0);
    });
}

#[test]
fn a_receiver_stopped_with_the_last_message_in_hand_is_named_by_those_who_wait_for_the_end() {
    everywhere(|ring, wait| {
        let (tx, rx) = (Sender::open(&ring.path).unwrap(), Receiver::open(&ring.path).unwrap());
        rx.set_wait(wait);
        tx.send(&body(1)).unwrap();
        let mut stopped = ring.process("hold 1", FEW);
        stopped.ready(&ring, 1);
        stopped.stop();
        drop(tx);
        let error = at_its_deadline(|| rx.recv_timeout(A_WHILE).map(drop)).unwrap_err();
        names(&error, "receiver", &stopped);
        stopped.go_on();
        stopped.go(1);
        assert!(rx.recv().unwrap_err().is_disconnected());
        stopped.go(2);
        stopped.finish();
    });
}
