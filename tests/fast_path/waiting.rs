//! What waiting costs: an end that is idle, and two ends that share a core. Knows how often they call the kernel, and what an
//! idle end uses of a core; of other times it asserts nothing.
//!
//! `QUOIT_WAITING=full` (`just waiting`) takes longer and tells what it has seen: also how long round trips on one core take.

use std::io;
use std::mem::zeroed;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use quoit::{Options, Wait};

use crate::actor::Actor;
use crate::harness::{Process, Ring, say};
use crate::tracer::{Call, Traced, mark, summary};

/// How long an idle end is watched by a tracer: some slices. And how long it is left alone; twice as long at full size.
const WATCHED: Duration = Duration::from_millis(450);
const SPELL: Duration = Duration::from_secs(5);

/// The most that an idle end may use of a core, in percent; half of that at full size, which is for a machine that does nothing
/// else.
const MOST: f64 = 0.2;

/// Calls of an idle end for each time that it goes to sleep: the sleep, a fence, and questions about the file and the locks.
const CALLS_A_SLEEP: usize = 8;

/// Round trips that a tracer looks at, that are measured, and those before them.
const TRACED_TRIPS: u32 = 200;
const TRIPS: u32 = 50_000;
const TRIPS_BEFORE: u32 = 100;

/// Messages of a stream that a tracer looks at, at full size and else, and those before them.
const LONG_STREAM: u64 = 20_000_000;
const STREAM: u64 = 50_000;
const STREAM_BEFORE: u64 = 10_000;

fn full() -> bool {
    std::env::var_os("QUOIT_WAITING").is_some_and(|what| what == "full")
}

fn wait(name: &str) -> Wait {
    let all = [Wait::Spin, Wait::Adaptive, Wait::Block];
    all.into_iter().find(|wait| format!("{wait:?}") == name).expect("a way to wait")
}

macro_rules! waiting {
    ($ring:ident, $options:expr) => {
        #[allow(unused_mut)] // The handles of a ring of slots are used through shared references.
        pub(crate) mod $ring {
            use super::*;
            use quoit::$ring::{Receiver, Sender};

            pub(crate) fn obey(actor: &mut Actor, path: &str, what: &[&str]) {
                match what {
                    ["create", names @ ..] => {
                        for name in names {
                            quoit::$ring::create(&format!("{path}{name}"), &$options).unwrap();
                        }
                    }
                    ["idle", verb, how, millis] => {
                        let spell = Duration::from_millis(millis.parse().unwrap());
                        idle(actor, path, verb, wait(how), spell);
                    }
                    ["stream", how, count] => stream(path, wait(how), count.parse().unwrap()),
                    ["drain", how, count] => drain(path, wait(how), count.parse().unwrap()),
                    ["ping", how, trips] => ping(actor, path, wait(how), trips.parse().unwrap()),
                    ["pong", how, trips] => pong(path, wait(how), trips.parse().unwrap()),
                    _ => panic!("no such order: {what:?}"),
                }
            }

            /// Waits in vain. This process has the other end too: it is there, and does nothing.
            fn idle(actor: &mut Actor, path: &str, verb: &str, wait: Wait, spell: Duration) {
                let (mut tx, mut rx) = (Sender::open(path).unwrap(), Receiver::open(path).unwrap());
                tx.set_wait(wait);
                rx.set_wait(wait);
                if verb == "send" {
                    while tx.try_send(b"").is_ok() {}
                }
                actor.say("waiting");
                mark();
                let timed_out = match verb {
                    "recv" => rx.recv_timeout(spell).map(drop).unwrap_err().is_timeout(),
                    "send" => tx.send_timeout(b"", spell).unwrap_err().is_timeout(),
                    _ => panic!("no such verb: {verb}"),
                };
                mark();
                assert!(timed_out);
            }

            /// Sends as fast as it can.
            fn stream(path: &str, wait: Wait, count: u64) {
                let mut tx = Sender::open(&format!("{path}.stream")).unwrap();
                tx.set_wait(wait);
                for number in 0..STREAM_BEFORE + count {
                    if number == STREAM_BEFORE {
                        mark();
                    }
                    tx.send(&number.to_le_bytes()).unwrap();
                }
                mark();
            }

            fn drain(path: &str, wait: Wait, count: u64) {
                let mut rx = Receiver::open(&format!("{path}.stream")).unwrap();
                rx.set_wait(wait);
                for number in 0..STREAM_BEFORE + count {
                    if number == STREAM_BEFORE {
                        mark();
                    }
                    let mut bytes = [0; 8];
                    rx.recv().unwrap().copy_to(&mut bytes);
                    assert_eq!(u64::from_le_bytes(bytes), number);
                }
                mark();
            }

            /// Sends and waits for the answer; says how long that took.
            fn ping(actor: &mut Actor, path: &str, wait: Wait, trips: u32) {
                stay_on_one_core();
                let mut tx = Sender::open(&format!("{path}there")).unwrap();
                let mut rx = Receiver::open(&format!("{path}back")).unwrap();
                tx.set_wait(wait);
                rx.set_wait(wait);
                let mut spans = Histogram::<u64>::new(3).expect("3 digits are legal");
                let mut before = switches();
                for trip in 0..TRIPS_BEFORE + trips {
                    if trip == TRIPS_BEFORE {
                        before = switches();
                        spans.reset();
                        mark();
                    }
                    let start = Instant::now();
                    tx.send(&trip.to_le_bytes()).unwrap();
                    assert_eq!(rx.recv().unwrap().len(), 4);
                    spans.record(start.elapsed().as_nanos() as u64).unwrap();
                }
                mark();
                let after = switches();
                let at = |quantile| spans.value_at_quantile(quantile) as f64 / 1e3;
                let a_trip = |count: i64| count as f64 / f64::from(trips);
                actor.say(&format!(
                    "{:.1} {:.1} {:.1} {:.1} us; of one end, a trip: {:.2} switches by its will, {:.2} against it",
                    at(0.5),
                    at(0.9),
                    at(0.99),
                    spans.max() as f64 / 1e3,
                    a_trip(after.0 - before.0),
                    a_trip(after.1 - before.1),
                ));
            }

            fn pong(path: &str, wait: Wait, trips: u32) {
                stay_on_one_core();
                let mut rx = Receiver::open(&format!("{path}there")).unwrap();
                let mut tx = Sender::open(&format!("{path}back")).unwrap();
                tx.set_wait(wait);
                rx.set_wait(wait);
                for trip in 0..TRIPS_BEFORE + trips {
                    if trip == TRIPS_BEFORE {
                        mark();
                    }
                    let mut bytes = [0; 4];
                    rx.recv().unwrap().copy_to(&mut bytes);
                    tx.send(&bytes).unwrap();
                }
                mark();
            }
        }
    };
}

waiting!(spsc, Options::new());
waiting!(mpmc, Options::new().max_len(8));

/// This thread runs on the first of the cores that it may run on, and on no other.
fn stay_on_one_core() {
    // SAFETY: a set of cores is bits, for which zero is a value.
    let (mut all, mut one): (libc::cpu_set_t, libc::cpu_set_t) = unsafe { zeroed() };
    let len = size_of::<libc::cpu_set_t>();
    // SAFETY: `all` is a live set of this frame, of that length.
    let rc = unsafe { libc::sched_getaffinity(0, len, &raw mut all) };
    assert_eq!(rc, 0, "{}", io::Error::last_os_error());
    let first = (0..libc::CPU_SETSIZE as usize).find(|&core| {
        // SAFETY: below the size of a set.
        unsafe { libc::CPU_ISSET(core, &all) }
    });
    // SAFETY: as above.
    unsafe { libc::CPU_SET(first.expect("it runs somewhere"), &mut one) };
    // SAFETY: `one` is a live set of this frame, of that length.
    let rc = unsafe { libc::sched_setaffinity(0, len, &raw const one) };
    assert_eq!(rc, 0, "{}", io::Error::last_os_error());
}

/// How often this thread let go of its core, by its own will and not.
fn switches() -> (i64, i64) {
    // SAFETY: rusage is integers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { zeroed() };
    // SAFETY: `usage` is a live structure of this frame.
    let rc = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    assert_eq!(rc, 0);
    (usage.ru_nvcsw as i64, usage.ru_nivcsw as i64)
}

/// The processor time of another process.
fn processor_time(process: u32) -> Duration {
    let mut clock = 0;
    // SAFETY: `clock` is a live number of this frame.
    let rc = unsafe { libc::clock_getcpuclockid(process as libc::pid_t, &raw mut clock) };
    assert_eq!(rc, 0, "{}", io::Error::from_raw_os_error(rc));
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live structure of this frame.
    let rc = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(rc, 0, "{}", io::Error::last_os_error());
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Each ring, each way to sleep, and each verb that may have to.
fn each_idle(mut claim: impl FnMut(&str, &str, &str)) {
    for kind in ["spsc", "mpmc"] {
        for how in ["Block", "Adaptive"] {
            for verb in ["recv", "send"] {
                claim(kind, how, verb);
            }
        }
    }
}

/// A process that is about to be idle for a while.
fn idle(kind: &str) -> (Ring, Process) {
    let ring = Ring::new(0);
    let mut process = ring.process();
    assert_eq!(process.ask(format!("peer {kind} create")), "ok");
    (ring, process)
}

#[test]
fn an_idle_end_calls_the_kernel_a_few_times_for_each_sleep_and_never_to_give_way() {
    each_idle(|kind, how, verb| {
        let (_ring, mut process) = idle(kind);
        let Ok(mut traced) = Traced::seize(process.thread()) else {
            return say("SKIPPED: no process may trace another here");
        };
        process.tell(format!("wait {kind} idle {verb} {how} {}", WATCHED.as_millis()));
        let mut calls = traced.calls();
        drop(traced);
        let first = calls.iter().position(Call::sleeps).expect("it sleeps");
        let calls = calls.split_off(first);
        let sleeps = calls.iter().filter(|call| call.sleeps()).count();
        let said = format!("{kind} {verb} {how}: {}", summary(&calls));
        assert!(calls.len() <= CALLS_A_SLEEP * sleeps, "{said}");
        assert!(!calls.iter().any(|call| call.is(libc::SYS_sched_yield)), "{said}");
        if full() {
            let a_second = calls.len() as f64 / WATCHED.as_secs_f64();
            say(&format!("idle: {kind} {verb} {how}: {a_second:.0} calls of the kernel a second"));
        }
    });
}

#[test]
fn an_idle_end_uses_next_to_nothing_of_a_core() {
    let (spell, most) = if full() { (2 * SPELL, MOST / 2.0) } else { (SPELL, MOST) };
    let mut idlers = Vec::new();
    each_idle(|kind, how, verb| {
        let (ring, mut process) = idle(kind);
        let longer = spell + Duration::from_secs(30);
        process.tell(format!("wait {kind} idle {verb} {how} {}", longer.as_millis()));
        assert_eq!(process.answer(), "waiting");
        process.asleep();
        idlers.push((format!("{kind} {verb} {how}"), process, ring));
    });
    let before: Vec<_> =
        idlers.iter().map(|(_, it, _)| (processor_time(it.id()), it.sleeps())).collect();
    let start = Instant::now();
    // This is what is measured, so there is nothing to wait for but the time.
    thread::sleep(spell);
    for ((what, process, _ring), before) in idlers.iter().zip(before) {
        let spell = start.elapsed().as_secs_f64();
        let used = processor_time(process.id()) - before.0;
        let percent = used.as_secs_f64() / spell * 100.0;
        let sleeps = (process.sleeps() - before.1) as f64 / spell;
        if full() {
            say(&format!("idle: {what}: {percent:.4} % of a core, {sleeps:.1} sleeps a second"));
        }
        assert!(percent <= most, "FAIL: {what} uses {percent:.3} % of a core");
    }
}

/// What a process calls that does one half of round trips.
fn half(process: &mut Process, order: &str) -> Option<Vec<Call>> {
    let mut traced = Traced::seize(process.thread()).ok()?;
    process.tell(order);
    Some(traced.calls())
}

/// What both call that do the halves of something.
fn halves(one: (&mut Process, &str), other: (&mut Process, &str)) -> Option<[Vec<Call>; 2]> {
    thread::scope(|scope| {
        let other = scope.spawn(|| half(other.0, other.1));
        let one = half(one.0, one.1);
        Some([one?, other.join().unwrap()?])
    })
}

/// What is called, so often for each round trip.
fn tell(calls: &[Call], what: &str, like: impl Fn(&Call) -> bool) -> String {
    let count = calls.iter().filter(|call| like(call)).count();
    format!("{:.2} {what}", count as f64 / f64::from(TRACED_TRIPS))
}

/// Whoever is quicker waits for the other. How often it calls the kernel meanwhile depends on the machine, so only the full size,
/// which is for a machine that does nothing else, judges it, and of a sender to one who is awake alone; whoever does not wait calls nothing (`peers`), and whoever blocks never gives way.
#[test]
fn a_stream_through_a_ring_that_is_full_and_empty_arrives() {
    let count = if full() { LONG_STREAM } else { STREAM };
    for kind in ["spsc", "mpmc"] {
        for how in ["Block", "Adaptive", "Spin"] {
            let ring = Ring::new(0);
            let (mut tx, mut rx) = (ring.process(), ring.process());
            assert_eq!(tx.ask(format!("wait {kind} create .stream")), "ok");
            let [stream, drain] =
                ["stream", "drain"].map(|verb| format!("wait {kind} {verb} {how} {count}"));
            let Some(calls) = halves((&mut tx, &stream), (&mut rx, &drain)) else {
                return say("SKIPPED: no process may trace another here");
            };
            assert_eq!((tx.answer(), rx.answer()), ("ok".into(), "ok".into()));
            let gives_way = |call: &Call| call.is(libc::SYS_sched_yield);
            assert!(how != "Block" || !calls.iter().flatten().any(gives_way), "{kind}");
            if full() {
                for (who, calls) in ["sender", "receiver"].into_iter().zip(calls) {
                    let each = calls.len() as f64 * 10_000.0 / count as f64;
                    let said =
                        format!("stream: {kind} {how}: {who}: {each:.2} for 10,000 messages");
                    say(&format!("{said} ({})", summary(&calls)));
                    assert!(who == "receiver" || how == "Block" || each < 1.0, "FAIL: {said}");
                }
            }
        }
    }
}

/// Each round trip ends although only one of the two can run, and whoever spins gives way meanwhile. A tracer's stops give the core
/// away too, so how often is only told, by the full size, beside what is measured without a tracer.
#[test]
fn two_ends_that_share_a_core_take_turns() {
    for kind in ["spsc", "mpmc"] {
        for how in ["Block", "Adaptive", "Spin"] {
            let ring = Ring::new(0);
            let (mut one, mut other) = (ring.process(), ring.process());
            assert_eq!(one.ask(format!("wait {kind} create there back")), "ok");
            let pong = format!("wait {kind} pong {how} {TRACED_TRIPS}");
            let ping = format!("wait {kind} ping {how} {TRACED_TRIPS}");
            let Some(calls) = halves((&mut one, &ping), (&mut other, &pong)) else {
                return say("SKIPPED: no process may trace another here");
            };
            let calls = calls.concat();
            drop(one.answer());
            assert_eq!((one.answer(), other.answer()), ("ok".into(), "ok".into()));
            let gives_way = |call: &Call| call.is(libc::SYS_sched_yield);
            assert_eq!(
                calls.iter().any(gives_way),
                how != "Block",
                "{kind} {how}: {}",
                summary(&calls)
            );
            if full() {
                let said = [
                    tell(&calls, "calls", |_| true),
                    tell(&calls, "sleeps", Call::sleeps),
                    tell(&calls, "wakes", Call::wakes),
                    tell(&calls, "times giving way", gives_way),
                ];
                say(&format!("one core, traced: {kind} {how}: a round trip: {}", said.join(", ")));
            }
        }
    }
}

#[test]
fn round_trips_on_one_core_come_to_an_end() {
    let trips = if full() { TRIPS } else { TRACED_TRIPS };
    for kind in ["spsc", "mpmc"] {
        for how in ["Block", "Adaptive", "Spin"] {
            let ring = Ring::new(0);
            let (mut one, mut other) = (ring.process(), ring.process());
            assert_eq!(one.ask(format!("wait {kind} create there back")), "ok");
            other.tell(format!("wait {kind} pong {how} {trips}"));
            one.tell(format!("wait {kind} ping {how} {trips}"));
            let said = one.answer();
            if full() {
                say(&format!("one core: {kind} {how}: p50 p90 p99 max {said}"));
            }
            assert_eq!((one.answer(), other.answer()), ("ok".into(), "ok".into()));
        }
    }
}
