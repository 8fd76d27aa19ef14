//! The fast path between processes: with somebody at the other end who is at work, and with somebody who sleeps. Knows the
//! calls of the kernel that a tracer saw, and asserts about those alone.

use quoit::{Options, Wait};

use crate::actor::Actor;
use crate::harness::{Process, Ring, say};
use crate::tracer::{Traced, mark, summary};

/// Messages that are counted, and those before them, after which both ends know each other.
const MESSAGES: u64 = 100_000;
const BEFORE: u64 = 1_000;

/// Sends to one who sleeps.
const WAKES: usize = 50;

macro_rules! peers {
    ($ring:ident, $options:expr) => {
        #[allow(unused_mut)] // The handles of a ring of slots are used through shared references.
        pub(crate) mod $ring {
            use super::*;
            use quoit::$ring::{Receiver, Sender, channel};

            pub(crate) fn obey(actor: &mut Actor, path: &str, what: &[&str]) {
                match what {
                    ["create"] => quoit::$ring::create(path, &$options).unwrap(),
                    ["stream", "traced"] => stream(&mut Sender::open(path).unwrap()),
                    ["stream"] => busy_sender(path),
                    ["drain", "traced"] => drain(&mut Receiver::open(path).unwrap()),
                    ["drain"] => busy_receiver(path),
                    ["sleep"] => sleeper(actor, path),
                    ["wake"] => {
                        let mut tx = Sender::open(path).unwrap();
                        while actor.order().is_some() {
                            wake(&mut tx);
                        }
                    }
                    ["wake", "thread"] => wake_thread(),
                    _ => panic!("no such order: {what:?}"),
                }
            }

            /// Sends where there is room, and waits for room by looking at the ring: what is counted never finds it full.
            fn stream(tx: &mut Sender) {
                for number in 0..BEFORE + MESSAGES {
                    if number == BEFORE {
                        mark();
                    }
                    while tx.len() > tx.capacity() / 2 {
                        std::hint::spin_loop();
                    }
                    match number % 2 {
                        0 => tx.send(&number.to_le_bytes()).unwrap(),
                        _ => tx.try_send(&number.to_le_bytes()).unwrap(),
                    }
                }
                mark();
            }

            /// Receives where there is a message, as above.
            fn drain(rx: &mut Receiver) {
                for number in 0..BEFORE + MESSAGES {
                    if number == BEFORE {
                        mark();
                    }
                    while rx.is_empty() {
                        std::hint::spin_loop();
                    }
                    let message = match number % 2 {
                        0 => rx.recv().unwrap(),
                        _ => rx.try_recv().unwrap(),
                    };
                    let mut bytes = [0; 8];
                    message.copy_to(&mut bytes);
                    assert_eq!(u64::from_le_bytes(bytes), number);
                }
                mark();
            }

            fn busy_sender(path: &str) {
                let mut tx = Sender::open(path).unwrap();
                tx.set_wait(Wait::Spin);
                (0..BEFORE + MESSAGES).for_each(|number| tx.send(&number.to_le_bytes()).unwrap());
            }

            fn busy_receiver(path: &str) {
                let mut rx = Receiver::open(path).unwrap();
                rx.set_wait(Wait::Spin);
                let mut count = 0;
                while let Ok(message) = rx.recv() {
                    assert_eq!(message.len(), 8);
                    drop(message);
                    count += 1;
                }
                assert_eq!(count, BEFORE + MESSAGES);
            }

            fn sleeper(actor: &mut Actor, path: &str) {
                let mut rx = Receiver::open(path).unwrap();
                rx.set_wait(Wait::Block);
                while rx.recv().is_ok() {
                    actor.say("received");
                    let _ = actor.order();
                }
            }

            fn wake(tx: &mut Sender) {
                mark();
                tx.send(b"up").unwrap();
                mark();
            }

            /// The same within a process, where a sleep has no end but this one.
            fn wake_thread() {
                let (mut tx, mut rx) = channel(&$options).unwrap();
                let (tell, told) = std::sync::mpsc::channel();
                let sleeper = std::thread::spawn(move || {
                    // SAFETY: gettid takes nothing.
                    tell.send(unsafe { libc::gettid() }).unwrap();
                    rx.recv().map(drop)
                });
                asleep(told.recv().unwrap());
                wake(&mut tx);
                sleeper.join().unwrap().unwrap();
            }
        }
    };
}

peers!(spsc, Options::new().capacity(4096));
peers!(mpmc, Options::new().capacity(64).max_len(8));

/// Waits until a thread of this process sleeps in the kernel on a word of memory.
fn asleep(thread: libc::pid_t) {
    let futex = format!("{} ", libc::SYS_futex);
    let read = |what| std::fs::read_to_string(format!("/proc/self/task/{thread}/{what}")).unwrap();
    while !(read("syscall").starts_with(&futex) && read("stat").contains(") S ")) {
        std::thread::yield_now();
    }
}

/// Both rings, each with a process that is traced.
fn traced(claim: impl Fn(&Ring, &str, Process, Traced)) {
    for kind in ["spsc", "mpmc"] {
        let ring = Ring::new(0);
        let mut process = ring.process();
        assert_eq!(process.ask(format!("peer {kind} create")), "ok");
        let Ok(traced) = Traced::seize(process.thread()) else {
            return say("SKIPPED: no process may trace another here");
        };
        claim(&ring, kind, process, traced);
    }
}

/// What a process calls that does one half of a stream, while another process does the other half.
fn one_half(half: &str, other: &str) {
    traced(|ring, kind, mut process, mut traced| {
        let mut peer = ring.process();
        peer.tell(format!("peer {kind} {other}"));
        process.tell(format!("peer {kind} {half} traced"));
        let calls = traced.calls();
        assert!(calls.is_empty(), "{kind}: {half}: {MESSAGES} messages, {}", summary(&calls));
        drop(traced);
        assert_eq!(process.answer(), "ok");
        assert_eq!(peer.answer(), "ok");
    });
}

#[test]
fn sending_to_a_busy_process_does_not_call_the_kernel() {
    one_half("stream", "drain");
}

#[test]
fn receiving_from_a_busy_process_does_not_call_the_kernel() {
    one_half("drain", "stream");
}

#[test]
fn a_send_to_a_sleeping_thread_is_one_wake() {
    traced(|_, kind, mut process, mut traced| {
        process.tell(format!("peer {kind} wake thread"));
        let calls = traced.calls();
        assert!(calls.len() == 1 && calls[0].wakes(), "{kind}: {calls:?}");
        drop(traced);
        assert_eq!(process.answer(), "ok");
    });
}

/// A sleeper between processes looks around every 100 ms. Whoever sends just then finds it awake, or leaves: these rounds
/// say nothing, and they are few.
#[test]
fn a_send_to_a_sleeping_process_is_one_wake() {
    traced(|ring, kind, mut process, mut traced| {
        let mut sleeper = ring.process();
        sleeper.tell(format!("peer {kind} sleep"));
        process.tell(format!("peer {kind} wake"));
        let mut one = 0;
        for _ in 0..WAKES {
            sleeper.asleep();
            process.tell("send");
            let calls = traced.calls();
            one += usize::from(calls.len() == 1 && calls[0].wakes());
            assert!(calls.len() <= 2 && calls.iter().all(|call| call.wakes()), "{kind}: {calls:?}");
            assert_eq!(sleeper.answer(), "received");
            sleeper.tell("again");
        }
        assert!(one > WAKES * 9 / 10, "{kind}: {one} of {WAKES} sends were one wake");
    });
}
