//! Every verb of the fast path, by one thread that has both ends. Knows the calls of both rings; which of them are here is
//! said by [`VERBS`](spsc::VERBS).

use std::io::Write;
use std::time::{Duration, Instant};

use quoit::Options;

use crate::actor::Place;
use crate::allocator::requests;
use crate::harness::{Ring, say};
use crate::tracer::{Traced, mark, summary};

/// How often each verb meets each length: many laps of rings that hold 8 messages at most, or 4 KiB.
const ROUNDS: usize = 300;

/// A slot of a ring of slots.
const SLOT: usize = 1000;

/// Positions wrap on the way.
const START: u64 = 0u64.wrapping_sub(1 << 12);

/// The lengths of messages, up to the longest: within a line, to its end, and over several.
fn lengths(max: usize) -> [usize; 9] {
    [8, 0, 40, max, 48, 64, 200, 1, max / 2]
}

macro_rules! verbs {
    ($ring:ident, $options:expr, $held:ty, $($more:tt)*) => {
        pub(crate) mod $ring {
            use super::*;
            use quoit::$ring::{Receiver, Sender, channel};

            /// Both ends, and what a user has besides.
            pub(crate) struct Pair {
                pub(crate) tx: Sender,
                pub(crate) rx: Receiver,
                into: Vec<u8>,
                #[allow(dead_code)] // A ring of bytes has one message in hand.
                held: $held,
            }

            pub(crate) fn options() -> Options {
                $options
            }

            impl Pair {
                pub(crate) fn new(place: Place<'_>) -> Pair {
                    let (tx, rx) = match place {
                        Place::Channel => channel(&options()).unwrap(),
                        Place::File(path) => {
                            let tx = Sender::create(path, &options()).unwrap();
                            (tx, Receiver::open(path).unwrap())
                        }
                    };
                    let into = Vec::with_capacity(tx.max_len());
                    Pair { tx, rx, into, held: Default::default() }
                }

                /// Receives a message by looking at it in place.
                fn see(&mut self, message: &[u8]) {
                    let seen = self.rx.try_recv().unwrap();
                    // SAFETY: this thread has the only sender, and the ring is its own.
                    let bytes = unsafe { seen.as_slice() };
                    assert!(bytes == message);
                }
            }

            pub(crate) type Verb = (&'static str, fn(&mut Pair, &[u8]));

            /// By name. Each leaves the ring empty.
            pub(crate) const VERBS: &[Verb] = &[
                ("try_send, try_recv, in place", |pair, message| {
                    pair.tx.try_send(message).unwrap();
                    pair.see(message);
                }),
                ("send, recv, copy_to", |pair, message| {
                    let mut to = [0; 4096];
                    pair.tx.send(message).unwrap();
                    let got = pair.rx.recv().unwrap();
                    assert_eq!((got.len(), got.is_empty()), (message.len(), message.is_empty()));
                    assert_eq!((got.attempts(), got.redelivered()), (1, false));
                    let len = got.copy_to(&mut to);
                    assert!(&to[..len] == message);
                }),
                ("send_timeout, recv_timeout", |pair, message| {
                    pair.tx.send_timeout(message, FAR).unwrap();
                    drop(pair.rx.recv_timeout(FAR).unwrap());
                }),
                ("send_deadline, recv_deadline", |pair, message| {
                    let deadline = Instant::now() + FAR;
                    pair.tx.send_deadline(message, deadline).unwrap();
                    drop(pair.rx.recv_deadline(deadline).unwrap());
                }),
                ("try_recv_into", |pair, message| {
                    pair.tx.send(message).unwrap();
                    assert_eq!(pair.rx.try_recv_into(&mut pair.into).unwrap(), message.len());
                }),
                ("recv_into", |pair, message| {
                    pair.tx.send(message).unwrap();
                    assert_eq!(pair.rx.recv_into(&mut pair.into).unwrap(), message.len());
                }),
                ("recv_into_timeout, recv_into_deadline", |pair, message| {
                    pair.tx.send(message).unwrap();
                    pair.rx.recv_into_timeout(&mut pair.into, FAR).unwrap();
                    pair.tx.send(message).unwrap();
                    pair.rx.recv_into_deadline(&mut pair.into, Instant::now() + FAR).unwrap();
                    assert!(pair.into == message);
                }),
                ("give_back", |pair, message| {
                    pair.tx.send(message).unwrap();
                    pair.rx.recv().unwrap().give_back();
                    assert_eq!(pair.rx.recv().unwrap().attempts(), 2);
                }),
                ("reserve, write_all, commit", |pair, message| {
                    let mut room = pair.tx.reserve(message.len()).unwrap();
                    room.write_all(message).unwrap();
                    room.commit().unwrap();
                    pair.see(message);
                }),
                ("try_reserve, write_at, commit_len", |pair, message| {
                    let longest = pair.tx.max_len();
                    let mut room = pair.tx.try_reserve(longest).unwrap();
                    room.write_at(0, message).unwrap();
                    room.commit_len(message.len()).unwrap();
                    pair.see(message);
                }),
                ("reserve_timeout and reserve_deadline, given up", |pair, message| {
                    drop(pair.tx.reserve_timeout(message.len(), FAR).unwrap());
                    drop(pair.tx.reserve_deadline(message.len(), Instant::now() + FAR).unwrap());
                    // A claim that is given up is stepped over, in a ring of slots.
                    pair.tx.send(message).unwrap();
                    pair.see(message);
                }),
                ("try_send_batch", |pair, message| {
                    let sent = pair.tx.try_send_batch(&[message, &message[..message.len() / 2]]);
                    for _ in 0..sent.unwrap() {
                        drop(pair.rx.try_recv().unwrap());
                    }
                }),
                ("send_batch, send_batch_timeout, send_batch_deadline", |pair, message| {
                    // Three of these fit in any ring.
                    let short = &message[..message.len() / 4];
                    assert_eq!(pair.tx.send_batch(&[short; 3]).unwrap(), 3);
                    (0..3).for_each(|_| drop(pair.rx.recv().unwrap()));
                    assert_eq!(pair.tx.send_batch_timeout(&[short; 3], FAR).unwrap(), 3);
                    (0..3).for_each(|_| drop(pair.rx.recv().unwrap()));
                    let deadline = Instant::now() + FAR;
                    assert_eq!(pair.tx.send_batch_deadline(&[short; 3], deadline).unwrap(), 3);
                    (0..3).for_each(|_| drop(pair.rx.recv().unwrap()));
                }),
                ("len, is_empty, is_full, capacity, max_len, set_wait", |pair, message| {
                    assert!(pair.tx.is_empty() && pair.rx.is_empty() && !pair.tx.is_full());
                    pair.tx.set_wait(quoit::Wait::Block);
                    pair.rx.set_wait(quoit::Wait::Block);
                    pair.tx.send(message).unwrap();
                    assert!(!pair.tx.is_empty() && !pair.rx.is_empty());
                    assert!((1..=pair.tx.capacity()).contains(&pair.tx.len()));
                    assert!((1..=pair.rx.capacity()).contains(&pair.rx.len()));
                    assert_eq!(pair.tx.max_len(), pair.rx.max_len());
                    drop(pair.rx.recv().unwrap());
                    pair.tx.set_wait(quoit::Wait::Adaptive);
                    pair.rx.set_wait(quoit::Wait::Adaptive);
                }),
                $($more)*
            ];

            /// One verb, with messages of all lengths, one after the other.
            fn rounds(verb: Verb, pair: &mut Pair, count: usize, bytes: &[u8]) {
                for round in 0..count {
                    for len in lengths(bytes.len()) {
                        // Other bytes each time.
                        let from = round % (bytes.len() - len + 1);
                        verb.1(pair, &bytes[from..from + len]);
                    }
                }
            }

            fn bytes(pair: &Pair) -> Vec<u8> {
                (0..pair.tx.max_len()).map(|at| (at * 7) as u8).collect()
            }

            /// Asserts that no verb asks for memory.
            pub(crate) fn count_requests(place: Place<'_>) {
                let mut pair = Pair::new(place);
                let bytes = bytes(&pair);
                for &verb in VERBS {
                    // The other end's arrival is looked at once.
                    rounds(verb, &mut pair, 1, &bytes);
                    let count = requests(|| rounds(verb, &mut pair, ROUNDS, &bytes));
                    assert_eq!(count, 0, "requests for memory: {} at {place:?}", verb.0);
                }
            }

            /// The same, for somebody who counts calls of the kernel between marks.
            pub(crate) fn between_marks(place: Place<'_>) {
                let mut pair = Pair::new(place);
                let bytes = bytes(&pair);
                for &verb in VERBS {
                    rounds(verb, &mut pair, 1, &bytes);
                    mark();
                    rounds(verb, &mut pair, ROUNDS, &bytes);
                    mark();
                }
            }
        }
    };
}

/// Nobody waits so long.
const FAR: Duration = Duration::from_secs(3600);

verbs!(spsc, Options::new().capacity(4096).start_position(START), (),);

verbs!(
    mpmc,
    Options::new().capacity(8).max_len(SLOT).start_position(START),
    Vec<quoit::mpmc::Message<'static>>,
    ("try_recv_batch, recv_batch", |pair, message| {
        let mut held = std::mem::take(&mut pair.held);
        pair.tx.send_batch(&[message; 4]).unwrap();
        assert_eq!(pair.rx.try_recv_batch(&mut held, 2).unwrap(), 2);
        assert_eq!(pair.rx.recv_batch(&mut held, 2).unwrap(), 2);
        held.clear();
        // Nothing in it borrows from the receiver any more, and its memory serves again.
        pair.held = held.into_iter().map(|_| unreachable!("it is empty")).collect();
    }),
);

#[test]
fn no_verb_of_the_fast_path_asks_for_memory() {
    let ring = Ring::new(0);
    for place in [Place::Channel, Place::File(&ring.path)] {
        spsc::count_requests(place);
    }
    for place in [Place::Channel, Place::File(&ring.beside("slots"))] {
        mpmc::count_requests(place);
    }
}

#[test]
fn no_verb_of_the_fast_path_calls_the_kernel() {
    for kind in ["spsc", "mpmc"] {
        let ring = Ring::new(0);
        let verbs: Vec<_> = match kind {
            "spsc" => spsc::VERBS.iter().map(|verb| verb.0).collect(),
            _ => mpmc::VERBS.iter().map(|verb| verb.0).collect(),
        };
        for place in ["channel", "file"] {
            let mut process = ring.process();
            let Ok(mut traced) = Traced::seize(process.thread()) else {
                return say("SKIPPED: no process may trace another here");
            };
            process.tell(format!("verbs {kind} {place}"));
            for verb in &verbs {
                let calls = traced.calls();
                assert!(calls.is_empty(), "{kind} over a {place}: {verb}: {}", summary(&calls));
            }
            drop(traced);
            assert_eq!(process.answer(), "ok");
        }
    }
}
