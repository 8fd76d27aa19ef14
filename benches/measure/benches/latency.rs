//! How soon a sleeper learns of a message: `just latency`.
//!
//! From before `send` to after the return of the receiver's `recv`, between two processes, on two processors of their own,
//! with the receiver really asleep in the kernel when it begins. How soon it learns of a death is asked by `deaths`.
#![allow(clippy::print_stdout)]

// The rest is for `deaths`.
#[allow(dead_code)]
mod support;

use anyhow::Result;
use hdrhistogram::Histogram;
use quoit::{Options, Wait, mpmc, spsc};
use quoit_measure::{allowed, choose, histogram};
use quoit_transports::pin;

use support::{Args, Other, Part, Place, Table, WAITS, note, now, say};

/// Messages to a sleeper.
const WAKES: u64 = 2000;

fn main() -> Result<()> {
    if let Some(part) = Part::of_this_process()? {
        return receive(&part);
    }
    let args = Args::look();
    let cores = choose(&allowed()?);
    let there = match cores {
        Some([here, there]) => {
            pin(here)?;
            println!("the sender on processor {here}, the receiver on processor {there}");
            there.to_string()
        }
        None => {
            println!("one processor for both");
            String::new()
        }
    };
    let table = Table::new(&args, ("microseconds", 1e3));
    for ring in ["spsc", "mpmc"] {
        for wait in WAITS {
            let name = format!("{ring}, send to a sleeper, {wait:?}");
            if args.wanted(&name) {
                table.row(&name, &wakes(ring, wait, &there, args.samples(WAKES))?, "")?;
            }
        }
    }
    Ok(())
}

/// From before a send to after the return of a sleeping receiver.
fn wakes(ring: &str, wait: Wait, there: &str, samples: u64) -> Result<Histogram<u64>> {
    let place = Place::new()?;
    if ring == "spsc" {
        let mut tx = spsc::Sender::create(&place.path, &Options::new().capacity(4096))?;
        measure(Other::start(ring, wait, &place, there)?, samples, || Ok(tx.send(b"!")?))
    } else {
        let tx = mpmc::Sender::create(&place.path, &Options::new().capacity(16))?;
        measure(Other::start(ring, wait, &place, there)?, samples, || Ok(tx.send(b"!")?))
    }
}

fn measure(
    mut receiver: Other,
    samples: u64,
    mut send: impl FnMut() -> Result<()>,
) -> Result<Histogram<u64>> {
    let mut spans = histogram();
    for _ in 0..samples {
        receiver.asleep()?;
        let sent = now();
        send()?;
        note(&mut spans, sent, receiver.hear()?.parse()?);
    }
    Ok(spans)
}

/// The other process: receives, and says when.
fn receive(part: &Part) -> Result<()> {
    if !part.more.is_empty() {
        pin(part.more.parse()?)?;
    }
    if part.word == "spsc" {
        let mut rx = spsc::Receiver::open(&part.path)?;
        rx.set_wait(part.wait);
        say("ready");
        while let Ok(message) = rx.recv() {
            let received = now();
            drop(message);
            say(&received.to_string());
        }
    } else {
        let rx = mpmc::Receiver::open(&part.path)?;
        rx.set_wait(part.wait);
        say("ready");
        while let Ok(message) = rx.recv() {
            let received = now();
            drop(message);
            say(&received.to_string());
        }
    }
    Ok(())
}
