//! How soon whoever a death has blocked goes on: `just deaths`.
//!
//! From before kill -9 of one process to the moment at which another one, which it had blocked, comes back from its call, by
//! the clock of both. A death wakes nobody: it is found when a sleep ends, so all depends on the moment of the kill within
//! that sleep, which is drawn.
//!
//! It knows the cases, what is wished of each, and what is a failure: a second. What the processes of a case do is in
//! `pair` (a few) and `crowd` (64).
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "../support/mod.rs"]
mod support;

mod crowd;
mod pair;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use quoit_measure::{PS, allowed};

use crowd::Manner;
use support::{Args, Part, Table, WAITS};

/// Nobody is ever held up for so long.
const LIMIT: Duration = Duration::from_secs(1);

/// The kill comes at any moment of the longest sleep.
const SLICE: Duration = Duration::from_millis(100);

/// Senders in a crowd, and as many receivers.
const SIDE: usize = 32;

/// Kills in a crowd.
const KILLS: u64 = 500;

fn main() -> Result<ExitCode> {
    if let Some(part) = Part::of_this_process()? {
        return match part.word.strip_prefix("crowd-") {
            Some(word) => crowd::run(word, &part),
            None => pair::run(&part),
        }
        .map(|()| ExitCode::SUCCESS);
    }
    let args = Args::look();
    println!("{} processors; no process is pinned to one", allowed()?.len());
    let table = Table::new(&args, ("milliseconds", 1e6));
    let mut late = Vec::new();
    let mut row = |name: &str, spans: &Histogram<u64>, wish: Option<u64>| {
        if Duration::from_nanos((spans.max() as f64 / PS) as u64) > LIMIT {
            late.push(name.to_owned());
        }
        table.row(name, spans, &verdict(spans, wish))
    };
    for case in pair::CASES {
        for wait in WAITS {
            let name = |who| format!("{}: {who}, {wait:?}", case.what);
            let names: Vec<_> = case.who.iter().map(name).collect();
            if names.iter().any(|name| args.wanted(name)) {
                let all = pair::deaths(case, wait, args.samples(case.samples))?;
                for (name, spans) in names.iter().zip(&all) {
                    row(name, spans, case.wish)?;
                }
            }
        }
    }
    let side = if args.test { 4 } else { SIDE };
    for manner in [Manner::Busy, Manner::Asleep] {
        for wait in WAITS {
            let name =
                format!("{} processes, {manner:?}: message behind a claim, {wait:?}", 2 * side);
            if args.wanted(&name) {
                row(&name, &crowd::deaths(manner, wait, side, args.samples(KILLS))?, None)?;
            }
        }
    }
    for name in &late {
        eprintln!("{name}: somebody was held up for more than {} s by a death", LIMIT.as_secs());
    }
    Ok(if late.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is said of a row of which a 99th percentile is wished, in milliseconds. It is told and no more.
fn verdict(spans: &Histogram<u64>, wish: Option<u64>) -> String {
    let Some(wish) = wish else { return String::new() };
    let kept = spans.value_at_quantile(0.99) as f64 / PS / 1e6 <= wish as f64;
    format!("p99 of {wish} ms {}", if kept { "kept" } else { "MISSED" })
}

/// A part of a slice that looks random, another for each number: SplitMix64.
fn moment(number: u64) -> Duration {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    SLICE.mul_f64(((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64)
}
