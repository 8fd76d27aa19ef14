//! Many more processes than processors at one ring of slots, of which one after another is killed in its claim.
//!
//! It knows the words past the ring by which a sender is told to hold its claim, and says that it does. A message is the
//! number of the claim that its sender knew to be held before it began to send: it lies behind that claim, so nobody can
//! have it before the claim is given up.

use std::fs::File;
use std::io::stdin;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use nix::unistd::pause;
use quoit::{Options, Wait, mpmc};
use quoit_measure::histogram;
use quoit_transports::Board;

use crate::moment;
use crate::support::{Other, Part, Place, note, now, say, until};

/// What the processes do when nobody dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// All of them send and receive as fast as they can; behind the claim the receivers nap, and the senders sleep as soon as
    /// the ring is full.
    Busy,
    /// The receivers sleep, and the senders wait to be told; one message is sent behind the claim.
    Asleep,
}

/// Words of the board: which claim is wished from whoever claims next, who holds it, which one is held, and when the first
/// message behind a claim was received, for the last few claims.
const WISHED: usize = 0;
const HOLDER: usize = 1;
const HELD: usize = 2;
const RECEIVED: usize = 8;

fn received(board: &Board, claim: u64) -> &AtomicU64 {
    board.word(RECEIVED + claim as usize % 16)
}

/// Between two looks at the board: with many who want the processors, looking is work.
const LOOK: Duration = Duration::from_micros(200);

/// From the kill of a sender in its claim to the first message behind it: so many samples.
pub(crate) fn deaths(
    manner: Manner,
    wait: Wait,
    side: usize,
    samples: u64,
) -> Result<Histogram<u64>> {
    let place = Place::new()?;
    mpmc::create(&place.path, &Options::new().capacity(64).keep_open(true))?;
    let shared: OwnedFd = Board::create()?;
    let there = format!("/proc/{}/fd/{}", std::process::id(), shared.as_raw_fd());
    let board = Board::open(shared.try_clone()?)?;
    let start = |word: &str| Other::start(word, wait, &place, &there);
    let sender = match manner {
        Manner::Busy => "crowd-send",
        Manner::Asleep => "crowd-idle",
    };
    let receivers = (0..side).map(|_| start("crowd-recv")).collect::<Result<Vec<_>>>()?;
    let mut senders = (0..side).map(|_| start(sender)).collect::<Result<Vec<_>>>()?;
    let mut spans = histogram();
    for claim in 1..=samples {
        // Relaxed: nobody writes or looks at it before this claim is wished.
        received(&board, claim).store(0, Relaxed);
        let held = || {
            let so = || board.word(HELD).load(Acquire) == claim;
            until("a claim", LOOK, so)
                .with_context(|| format!("{:#?}", quoit::inspect(&place.path)))
        };
        let victim = match manner {
            Manner::Busy => {
                board.word(WISHED).store(claim, Release);
                held()?;
                // Relaxed: stored before HELD, which was Acquire.
                let holder = board.word(HOLDER).load(Relaxed);
                let at = senders.iter().position(|sender| u64::from(sender.id()) == holder);
                at.context("a claim of nobody")?
            }
            Manner::Asleep => {
                receivers.iter().try_for_each(Other::asleep)?;
                let (victim, other) = (claim as usize % side, (claim as usize + 1) % side);
                senders[victim].order(&format!("claim {claim}"))?;
                held()?;
                senders[other].order(&format!("send {claim}"))?;
                senders[other].hear()?;
                victim
            }
        };
        // The moment of a death is no event that one could wait for.
        thread::sleep(moment(claim));
        let killed = senders[victim].kill()?;
        let so = || received(&board, claim).load(Acquire) != 0;
        until("a message behind the dead claim", LOOK, so)
            .with_context(|| format!("{:#?}", quoit::inspect(&place.path)))?;
        // Relaxed: nobody stores twice.
        let at = received(&board, claim).load(Relaxed);
        ensure!(at > killed, "a message passed a claim that was held");
        note(&mut spans, killed, at);
        senders[victim] = start(sender)?;
    }
    Ok(spans)
}

/// What one of the crowd does, until it is killed.
pub(crate) fn run(word: &str, part: &Part) -> Result<()> {
    let shared = File::options().read(true).write(true).open(&part.more)?;
    let board = Board::open(shared.into())?;
    match word {
        "send" => send(part, &board),
        "idle" => idle(part, &board),
        "recv" => receive(part, &board),
        other => bail!("nobody does {other}"),
    }
}

fn send(part: &Part, board: &Board) -> Result<()> {
    let mut tx = mpmc::Sender::open(&part.path)?;
    tx.set_wait(part.wait);
    say("ready");
    loop {
        // Acquire: whoever sees the claim held sends behind it.
        let behind = board.word(HELD).load(Acquire);
        let mut reserved = tx.reserve(8)?;
        // Relaxed: only one gets it.
        let wished = board.word(WISHED).load(Relaxed);
        if wished != 0 && board.word(WISHED).compare_exchange(wished, 0, Relaxed, Relaxed).is_ok() {
            board.word(HOLDER).store(std::process::id().into(), Relaxed);
            held(board, wished);
        }
        reserved.write_at(0, &behind.to_le_bytes())?;
        reserved.commit()?;
    }
}

/// Says that the caller's claim is held, and holds it until it is killed.
fn held(board: &Board, claim: u64) -> ! {
    // Release: with the claim and its holder.
    board.word(HELD).store(claim, Release);
    loop {
        pause();
    }
}

fn idle(part: &Part, board: &Board) -> Result<()> {
    let mut tx = mpmc::Sender::open(&part.path)?;
    tx.set_wait(part.wait);
    say("ready");
    for line in stdin().lines() {
        let line = line?;
        let (what, claim) = line.split_once(' ').context("an order and a number")?;
        let claim: u64 = claim.parse()?;
        if what == "claim" {
            let _reserved = tx.reserve(8)?;
            held(board, claim);
        }
        tx.send(&claim.to_le_bytes())?;
        say("sent");
    }
    Ok(())
}

fn receive(part: &Part, board: &Board) -> Result<()> {
    let rx = mpmc::Receiver::open(&part.path)?;
    rx.set_wait(part.wait);
    say("ready");
    loop {
        let message = rx.recv()?;
        let mut claim = [0; 8];
        message.copy_to(&mut claim);
        let claim = u64::from_le_bytes(claim);
        // Relaxed: a message of an earlier claim is of no interest any more, and the first one is the first by the clock too,
        // or nearly.
        if claim != 0
            && board.word(HELD).load(Relaxed) == claim
            && received(board, claim).load(Relaxed) == 0
        {
            let _ = received(board, claim).compare_exchange(0, now(), Release, Relaxed);
        }
    }
}
