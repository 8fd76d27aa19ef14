//! One who dies and one or two whom that death holds up, at a ring of their own for each sample.
//!
//! It knows the cases: who holds what, who waits for it, and what that one is told in the end.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use hdrhistogram::Histogram;
use nix::unistd::pause;
use quoit::{Delivery, Options, Wait, mpmc, spsc};
use quoit_measure::histogram;

use crate::moment;
use crate::support::{Other, Part, Place, note, now, say};

/// So many samples at a time: they mostly sleep.
const LANES: usize = 8;

/// One kind of death.
pub(crate) struct Case {
    pub(crate) what: &'static str,
    /// Who is held up; one or two.
    pub(crate) who: &'static [&'static str],
    /// The 99th percentile that is wished, in milliseconds.
    pub(crate) wish: Option<u64>,
    pub(crate) samples: u64,
    /// How long all of them wait at least before the kill.
    held: Duration,
    stage: fn(&Place, Wait) -> Result<Stage>,
}

/// Those of one sample, each where it should be.
struct Stage {
    victim: Other,
    /// Who is held up, in the order of the case, and what it comes back with.
    blocked: Vec<(Other, &'static str)>,
}

impl Stage {
    fn new(victim: Other, blocked: Other, comes_back_with: &'static str) -> Stage {
        Stage { victim, blocked: vec![(blocked, comes_back_with)] }
    }
}

const TOLD: &str = "disconnected";
const ROOM: &str = "room";
const MESSAGE: &str = "message";

/// Whoever waits behind a claim asks after its owner every 16 ms.
const BEHIND: Option<u64> = Some(20);
/// Whoever sleeps otherwise looks around every 100 ms.
const ASLEEP: Option<u64> = Some(150);

pub(crate) const CASES: &[Case] = &[
    Case {
        what: "mpmc, sender killed in its claim",
        who: &["receiver behind it"],
        wish: BEHIND,
        samples: 1000,
        held: Duration::ZERO,
        stage: claimed,
    },
    Case {
        what: "mpmc, sender killed in its claim of 1 s",
        who: &["receiver behind it"],
        wish: BEHIND,
        samples: 500,
        held: Duration::from_secs(1),
        stage: claimed,
    },
    Case {
        what: "mpmc, full, at most once, killed with the first",
        who: &["sender"],
        wish: BEHIND,
        samples: 1000,
        held: Duration::ZERO,
        stage: |place, wait| {
            let victim = in_hand(place, wait, Delivery::AtMostOnce)?;
            Ok(Stage::new(victim, Other::start("mpmc-send", wait, place, "")?, ROOM))
        },
    },
    Case {
        what: "mpmc, full, at least once, killed with the first",
        who: &["sender", "receiver of it"],
        wish: BEHIND,
        samples: 1000,
        held: Duration::ZERO,
        stage: |place, wait| {
            let victim = in_hand(place, wait, Delivery::AtLeastOnce)?;
            let sender = Other::start("mpmc-send", wait, place, "")?;
            let other = Other::start("again", wait, place, "")?;
            Ok(Stage { victim, blocked: vec![(sender, ROOM), (other, MESSAGE)] })
        },
    },
    Case {
        what: "mpmc, full, asleep before the first was taken",
        who: &["sender"],
        wish: ASLEEP,
        samples: 1000,
        held: Duration::ZERO,
        stage: |place, wait| {
            ring(place, Delivery::AtMostOnce)?;
            let sender = Other::start("mpmc-send", wait, place, "")?;
            sender.asleep()?;
            Ok(Stage::new(Other::start("hand", wait, place, "")?, sender, ROOM))
        },
    },
    asleep("spsc, empty, sender killed", &["receiver"], |place, wait| {
        spsc::create(&place.path, &Options::new().capacity(4096))?;
        pair(place, wait, ["spsc-sender", "spsc-recv"])
    }),
    asleep("spsc, full, receiver killed", &["sender"], |place, wait| {
        spsc::create(&place.path, &Options::new().capacity(4096))?;
        pair(place, wait, ["spsc-receiver", "spsc-send"])
    }),
    asleep("mpmc, empty, sender killed", &["receiver"], |place, wait| {
        mpmc::create(&place.path, &Options::new().capacity(16))?;
        pair(place, wait, ["mpmc-sender", "mpmc-recv"])
    }),
    asleep("mpmc, full, receiver killed", &["sender"], |place, wait| {
        mpmc::create(&place.path, &Options::new().capacity(16))?;
        pair(place, wait, ["mpmc-receiver", "mpmc-send"])
    }),
];

/// The last peer of a sleeper dies, which is told so.
const fn asleep(
    what: &'static str,
    who: &'static [&'static str],
    stage: fn(&Place, Wait) -> Result<Stage>,
) -> Case {
    Case { what, who, wish: ASLEEP, samples: 1000, held: Duration::ZERO, stage }
}

fn pair(place: &Place, wait: Wait, [victim, blocked]: [&str; 2]) -> Result<Stage> {
    let victim = Other::start(victim, wait, place, "")?;
    Ok(Stage::new(victim, Other::start(blocked, wait, place, "")?, TOLD))
}

/// A ring of slots at which nobody is told an end.
fn ring(place: &Place, delivery: Delivery) -> Result<()> {
    let options = Options::new().capacity(16).keep_open(true).delivery(delivery);
    Ok(mpmc::create(&place.path, &options)?)
}

/// A claim, and a message behind it.
fn claimed(place: &Place, wait: Wait) -> Result<Stage> {
    ring(place, Delivery::AtLeastOnce)?;
    let victim = Other::start("claim", wait, place, "")?;
    mpmc::Sender::open(&place.path)?.send(b"behind")?;
    Ok(Stage::new(victim, Other::start("mpmc-recv", wait, place, "")?, MESSAGE))
}

/// Somebody who has the first message of a ring in hand.
fn in_hand(place: &Place, wait: Wait, delivery: Delivery) -> Result<Other> {
    ring(place, delivery)?;
    mpmc::Sender::open(&place.path)?.send(b"first")?;
    Other::start("hand", wait, place, "")
}

/// From the kill to the return of each who was held up: so many samples.
pub(crate) fn deaths(case: &Case, wait: Wait, samples: u64) -> Result<Vec<Histogram<u64>>> {
    let all = Mutex::new(case.who.iter().map(|_| histogram()).collect::<Vec<_>>());
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        let lane = || -> Result<()> {
            loop {
                // Relaxed: a number for each.
                let number = next.fetch_add(1, Relaxed);
                if number >= samples {
                    return Ok(());
                }
                let (killed, returned) = sample(case, wait, number)?;
                let mut all = all.lock().map_err(|_| anyhow!("another sample has panicked"))?;
                all.iter_mut().zip(returned).for_each(|(spans, at)| note(spans, killed, at));
            }
        };
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().try_for_each(|lane| {
            lane.join().map_err(|_| anyhow!("a sample has panicked"))?.context(case.what)
        })
    })?;
    Ok(all.into_inner()?)
}

/// One death: the moment before it, and the moments at which the others came back.
fn sample(case: &Case, wait: Wait, number: u64) -> Result<(u64, Vec<u64>)> {
    let place = Place::new()?;
    let mut stage = (case.stage)(&place, wait)?;
    for (blocked, _) in &stage.blocked {
        blocked.asleep()?;
    }
    // The moment of a death is no event that one could wait for.
    thread::sleep(case.held + moment(number));
    let killed = stage.victim.kill()?;
    let mut returned = Vec::new();
    for (blocked, comes_back_with) in &mut stage.blocked {
        let picture = || format!("its ring: {:#?}", quoit::inspect(&place.path));
        let said = blocked.hear().with_context(picture)?;
        let (at, what) = said.split_once(' ').context("a time and a word")?;
        ensure!(what == *comes_back_with, "it came back with {what}, not with {comes_back_with}");
        let at: u64 = at.parse()?;
        ensure!(at > killed, "it came back before the kill");
        returned.push(at);
    }
    Ok((killed, returned))
}

/// What one of the other processes does.
pub(crate) fn run(part: &Part) -> Result<()> {
    part.hurry();
    let (path, wait) = (&part.path, part.wait);
    match part.word.as_str() {
        "spsc-sender" => hold(spsc::Sender::open(path)?),
        "spsc-receiver" => hold(spsc::Receiver::open(path)?),
        "mpmc-sender" => hold(mpmc::Sender::open(path)?),
        "mpmc-receiver" => hold(mpmc::Receiver::open(path)?),
        "claim" => hold(mpmc::Sender::open(path)?.reserve(8)?),
        "hand" => hold(mpmc::Receiver::open(path)?.recv()?),
        "spsc-recv" => {
            let mut rx = spsc::Receiver::open(path)?;
            rx.set_wait(wait);
            say("ready");
            let message = rx.recv();
            told(now(), MESSAGE, message.is_err_and(|end| end.is_disconnected()));
        }
        "mpmc-recv" => {
            let rx = mpmc::Receiver::open(path)?;
            rx.set_wait(wait);
            say("ready");
            let message = rx.recv();
            told(now(), MESSAGE, message.is_err_and(|end| end.is_disconnected()));
        }
        "spsc-send" => {
            let mut tx = spsc::Sender::open(path)?;
            tx.set_wait(wait);
            while tx.try_send(b"x").is_ok() {}
            say("ready");
            let sent = tx.send(b"x");
            told(now(), ROOM, sent.is_err_and(|end| end.is_disconnected()));
        }
        "mpmc-send" => {
            let tx = mpmc::Sender::open(path)?;
            tx.set_wait(wait);
            while tx.try_send(b"x").is_ok() {}
            say("ready");
            let sent = tx.send(b"x");
            told(now(), ROOM, sent.is_err_and(|end| end.is_disconnected()));
        }
        "again" => {
            let rx = mpmc::Receiver::open(path)?;
            rx.set_wait(wait);
            say("ready");
            loop {
                let message = rx.recv()?;
                let received = now();
                if message.redelivered() {
                    drop(message);
                    told(received, MESSAGE, false);
                    break;
                }
            }
        }
        other => bail!("nobody does {other}"),
    }
    Ok(())
}

/// Holds on to something until it is killed.
fn hold<T>(_end: T) {
    say("ready");
    loop {
        pause();
    }
}

fn told(at: u64, what: &str, disconnected: bool) {
    say(&format!("{at} {}", if disconnected { TOLD } else { what }));
}
