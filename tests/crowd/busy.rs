//! Far more processes than processors, all waiting for each other, each call with a deadline.
//!
//! How long after its deadline a call ends depends on who gets a processor when; it is measured and told, and only the full
//! size judges it.

use std::io::Write;
use std::time::Duration;

use quoit::mpmc::Sender;

use crate::flow::{Tally, bits, compare, numbered};
use crate::harness::{Meter, Ring, Shape, full, say, sized};
use crate::notes::{ACCEPTED, Doing, ENDS, Histogram, OVERRUNS, SPANS, TIMEOUTS};
use crate::worker::{Refusal, Worker};

/// A deadline of some milliseconds.
fn deadline(worker: &mut Worker) -> Duration {
    Duration::from_micros(worker.random.below(20_000))
}

/// Sends until it is enough, or until `most` messages were sent.
pub(crate) fn sender(worker: &mut Worker, index: u64, most: u64) {
    let wait = worker.some_wait();
    let mut tx = worker.open_sender(wait);
    worker.ready(1);
    worker.until_all_begin();
    let mut next = 0;
    while next < most && !worker.is_over() {
        match send(worker, &mut tx, index, most, next) {
            Ok(sent) => {
                next += sent;
                worker.journal.set(ACCEPTED, next);
            }
            Err(why) => {
                worker.refused(why);
            }
        }
    }
    worker.leave(tx);
}

fn send(
    worker: &mut Worker,
    tx: &mut Sender,
    index: u64,
    most: u64,
    next: u64,
) -> Result<u64, Refusal> {
    let timeout = deadline(worker);
    let message = numbered(index, most, next);
    match worker.random.below(8) {
        0 => {
            let batch: Vec<_> =
                (next..most.min(next + 4)).map(|seq| numbered(index, most, seq)).collect();
            let send = || tx.send_batch_timeout(&batch, timeout);
            Ok(worker.call(Doing::SendingBatch, Some(timeout), send)? as u64)
        }
        1 => {
            let mut claim = worker.call(Doing::Reserving, Some(timeout), || {
                tx.reserve_timeout(message.len(), timeout)
            })?;
            claim.write_all(&message).unwrap();
            if worker.random.once_in(200) {
                // Long enough for others to time out because of this one.
                std::thread::sleep(Duration::from_millis(worker.random.below(30)));
            }
            claim.commit().unwrap();
            Ok(1)
        }
        _ => {
            let send = || tx.send_timeout(&message, timeout);
            worker.call(Doing::Sending, Some(timeout), send)?;
            Ok(1)
        }
    }
}

/// Receives until the last sender has left.
pub(crate) fn receiver(worker: &mut Worker, most: u64) {
    let wait = worker.some_wait();
    let rx = worker.open_receiver(wait);
    worker.ready(1);
    worker.until_all_begin();
    let mut tally = Tally::new(most);
    let mut held = Vec::new();
    loop {
        let timeout = deadline(worker);
        let took = if worker.random.once_in(4) {
            worker.call(Doing::ReceivingBatch, Some(timeout), || {
                rx.recv_batch_timeout(&mut held, 4, timeout).map(drop)
            })
        } else {
            let receive = || rx.recv_timeout(timeout);
            worker.call(Doing::Receiving, Some(timeout), receive).map(|one| held.push(one))
        };
        if worker.random.once_in(500) {
            std::thread::sleep(Duration::from_millis(worker.random.below(30)));
        }
        for message in held.drain(..) {
            tally.note(&worker.journal, &message);
        }
        if let Err(why) = took {
            if worker.refused(Refusal::from(why)) == Refusal::Ended {
                break;
            }
        }
    }
    drop(held);
    worker.leave(rx);
}

#[test]
fn among_many_processes_every_call_ends_and_every_message_arrives() {
    let (side, spell) = (sized(8, 32), Duration::from_secs(sized(2, 60)));
    let most = sized(1 << 17, 1 << 22);
    let ring = Ring::new(Shape { start: 0u64.wrapping_sub(5000), ..Shape::default() });
    let mut senders: Vec<_> =
        (0..side).map(|index| ring.process(&format!("busy sender {index} {most}"), 0)).collect();
    let mut receivers: Vec<_> = (0..side)
        .map(|_| ring.process(&format!("busy receiver {most}"), bits(side * most)))
        .collect();
    for process in senders.iter_mut().chain(&mut receivers) {
        process.ready(&ring, 1);
    }
    let meter = Meter::start();
    ring.signal(1);
    // So long they work: there is nothing to wait for but the time.
    std::thread::sleep(spell);
    ring.signal(2);
    let (mut spans, mut overruns) = (Histogram::new(), Histogram::new());
    let (mut timeouts, mut ends) = (0, 0);
    for process in senders.iter_mut().chain(&mut receivers) {
        process.finish();
        ring.alive();
        SPANS.add(&process.journal, &mut spans);
        OVERRUNS.add(&process.journal, &mut overruns);
        timeouts += process.journal.get(TIMEOUTS);
        ends += process.journal.get(ENDS);
    }
    assert_eq!(ends, side, "only receivers are told of an end, once each");
    let sent: Vec<_> = senders.iter().map(|sender| sender.journal.get(ACCEPTED)).collect();
    let receivers: Vec<_> = receivers.iter_mut().collect();
    compare(&receivers, &sent, most);
    say(&format!(
        "{} processes, {} s: {} messages, {timeouts} timeouts; calls {}; past their deadline {}; the \
         machine overslept {:.1} ms",
        2 * side,
        spell.as_secs(),
        sent.iter().sum::<u64>(),
        spans.show(),
        overruns.show(),
        meter.worst()
    ));
    assert!(
        !full() || overruns.at(1.0) <= 1000.0 + meter.worst(),
        "FAIL: a call outlived its deadline by more than 1 s"
    );
}
