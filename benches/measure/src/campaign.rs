//! A bench: all samples of all cases, interleaved, and what they come to.
//!
//! The parent lays a transport out, starts this program once or twice more, and sleeps while those measure; so it disturbs
//! nothing, sees every death, and can end all. What they do is in `work`, what they say in `end`, and what it comes to in
//! `results`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal};
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use quoit_transports::{Board, Clock, Laid, Refusal, Shape, Side, Wait};

use crate::end::Job;
use crate::field::{Entrant, Place};
use crate::machine::{Disturbance, Disturbed, Machine};
use crate::pair::{Pair, SLICE};
use crate::results::{Case, Counted, Results, Sample, Skipped};
use crate::work::{Limits, Work};
use crate::{Stop, calls, machine};

/// What is to be measured, and how.
#[derive(Debug)]
pub struct Plan {
    /// What to ask.
    pub work: Vec<Work>,
    /// Of whom.
    pub entrants: Vec<Entrant>,
    /// How all wait.
    pub wait: Vec<Wait>,
    /// Bytes of a message.
    pub size: Vec<usize>,
    /// How long one sample takes.
    pub duration: Duration,
    /// Samples of each kind.
    pub runs: u32,
    /// Messages a second of [`Work::FixedRate`].
    pub rate: u64,
    /// The processors of client and server.
    pub cores: Option<[usize; 2]>,
    /// Whether to count system calls, where that can be done.
    pub calls: bool,
    /// With whom the others of a block are compared: the first of these that is there.
    pub bases: Vec<Entrant>,
    /// Turn a bit of this message of every sample.
    pub spoil: Option<u64>,
}

/// Measures.
///
/// # Errors
///
/// [`Died`](crate::Died) when a process of the bench did; a message that did not arrive as it was sent; and when `stop`
/// says so.
pub fn measure(plan: Plan, stop: Stop<'_>) -> anyhow::Result<Results> {
    let clock = Clock::best();
    let machine = Machine::look(plan.cores, machine::allowed()?.len(), clock);
    let mut bench = Bench { plan, clock, stop, skipped: Vec::new(), no_calls: None };
    let Measured { samples, calls, disturbed } = bench.measure()?;
    let mut results =
        Results::new(machine, &samples, &calls, bench.skipped, bench.no_calls, disturbed);
    results.compare(&bench.plan.bases);
    Ok(results)
}

/// All samples.
struct Measured {
    samples: BTreeMap<Case, Vec<Sample>>,
    calls: BTreeMap<Case, Counted>,
    disturbed: Disturbed,
}

struct Bench<'a> {
    plan: Plan,
    clock: Clock,
    stop: Stop<'a>,
    skipped: Vec<Skipped>,
    /// Why system calls cannot be counted here.
    no_calls: Option<String>,
}

/// A run whose calls are counted: so long, or so many messages, which only whoever makes few calls comes to.
const COUNTED: u64 = 10_000_000;
const COUNTED_WAKES: u64 = 20;
const COUNTED_FOR: Duration = Duration::from_millis(100);
/// A look at the floor takes this part of a sample's time, within limits.
const FLOOR: u32 = 8;
const FLOOR_LEAST: Duration = Duration::from_millis(1);
const FLOOR_MOST: Duration = Duration::from_millis(10);

impl Bench<'_> {
    fn measure(&mut self) -> anyhow::Result<Measured> {
        let mut cases = self.cases();
        let mut samples: BTreeMap<Case, Vec<Sample>> = BTreeMap::new();
        let mut calls = BTreeMap::new();
        let rounds = u64::from(self.plan.runs) + u64::from(self.plan.calls);
        let bar = bar(cases.len() as u64 * rounds);
        let then = Disturbance::look();
        for run in 0..self.plan.runs {
            // The same order in every bench, another in every run of it.
            shuffle(&mut cases, u64::from(run) + 1);
            let mut left_out = BTreeSet::new();
            for case in &cases {
                bar.set_message(case.text());
                match self.sample(case)? {
                    Some(sample) => samples.entry(*case).or_default().push(sample),
                    None => drop(left_out.insert(*case)),
                }
                bar.inc(1);
                // A quota fills up again while nobody works.
                self.pause()?;
            }
            cases.retain(|case| !left_out.contains(case));
        }
        let disturbed = Disturbance::look().since(then);
        for case in &cases {
            if !self.plan.calls || self.no_calls.is_some() {
                break;
            }
            bar.set_message(format!("counting calls: {}", case.text()));
            if let Some(count) = self.calls(case)? {
                calls.insert(*case, count);
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(Measured { samples, calls, disturbed })
    }

    /// What is to be measured, once each; what cannot be is noted.
    fn cases(&mut self) -> Vec<Case> {
        let mut cases = BTreeSet::new();
        for &work in &self.plan.work {
            for &wait in &self.plan.wait {
                for &size in &self.plan.size {
                    let asked = self.plan.entrants.iter().filter(|one| one.is_asked(work));
                    for &transport in asked {
                        let place = transport.place();
                        cases.insert(Case { work, place, wait, size, transport });
                    }
                }
            }
        }
        let (mut kept, mut skipped) = (Vec::new(), Vec::new());
        for case in cases {
            match case.transport.senseless(case.work, case.wait) {
                None => kept.push(case),
                Some(reason) => skipped.push(Skipped { case, reason: reason.into() }),
            }
        }
        self.skipped = skipped;
        kept
    }

    fn pause(&self) -> anyhow::Result<()> {
        let end = std::time::Instant::now() + self.plan.duration;
        loop {
            let left = end.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            anyhow::ensure!(!(self.stop)(), "interrupted");
            std::thread::sleep(left.min(SLICE));
        }
    }

    /// Lays a transport out; `None` if this machine does not have it.
    fn lay(&mut self, case: &Case) -> anyhow::Result<Option<Laid>> {
        let shape = Shape { size: case.size, wait: case.wait };
        match case.transport.lay(&shape) {
            Ok(laid) => Ok(Some(laid)),
            Err(Refusal::Here(reason)) => {
                self.skipped.push(Skipped { case: *case, reason });
                Ok(None)
            }
            Err(Refusal::Failed(error)) => Err(error).with_context(|| case.text()),
        }
    }

    fn job(&self, case: &Case, side: Option<Side>, laid: &Laid, limits: Limits) -> Job {
        let floor = (self.plan.duration / FLOOR).clamp(FLOOR_LEAST, FLOOR_MOST);
        let kit = match side {
            Some(Side::Server) => &laid.server,
            _ => &laid.client,
        };
        Job {
            rank: case.transport.rank(),
            shape: Shape { size: case.size, wait: case.wait },
            side,
            work: case.work,
            limits,
            floor: limits.messages.is_none().then_some(floor),
            cores: self.plan.cores,
            clock: self.clock,
            spoil: self.plan.spoil,
            names: kit.names.clone(),
        }
    }

    fn pair(&self, case: &Case, laid: Laid, limits: Limits) -> anyhow::Result<Pair> {
        let job = |side| self.job(case, side, &laid, limits);
        match case.place {
            Place::Processes => {
                let (client, server) = (job(Some(Side::Client)), job(Some(Side::Server)));
                Pair::start(&client, &server, laid, Board::create()?, self.stop)
            }
            Place::Threads => Pair::start_one(&job(None), laid, Board::create()?, self.stop),
        }
    }

    /// One sample; `None` if this machine does not have the transport.
    fn sample(&mut self, case: &Case) -> anyhow::Result<Option<Sample>> {
        let Some(laid) = self.lay(case)? else { return Ok(None) };
        let limits = Limits { run: self.plan.duration, messages: None, rate: self.plan.rate };
        let measured = || -> anyhow::Result<Sample> {
            let mut pair = self.pair(case, laid, limits)?;
            pair.go();
            let outcomes = pair.outcomes(limits.run * 2, self.stop)?;
            Sample::new(case, outcomes)
        };
        measured().with_context(|| case.text()).map(Some)
    }

    /// Counts system calls; `None` if this machine does not let us.
    fn calls(&mut self, case: &Case) -> anyhow::Result<Option<Counted>> {
        if case.place == Place::Threads {
            return Ok(None);
        }
        let Some(laid) = self.lay(case)? else { return Ok(None) };
        let messages = if case.work == Work::Wake { COUNTED_WAKES } else { COUNTED };
        let run = COUNTED_FOR.min(self.plan.duration * 4);
        let limits = Limits { run, messages: Some(messages), rate: self.plan.rate };
        let mut refused = None;
        let counted = || -> anyhow::Result<Option<Counted>> {
            let mut pair = self.pair(case, laid, limits)?;
            let pids = pair.pids().context("calls are counted of two processes")?;
            if let Err(error) = calls::seize(pids) {
                refused = Some(format!("this machine does not let a process be traced: {error}"));
                return Ok(None);
            }
            pair.go();
            let patience = limits.run + COUNTED_PATIENCE;
            let Some(calls) = calls::count(pids, patience, self.stop)? else {
                // Somebody is gone: the pair knows who, and how.
                let heard = pair.outcomes(Duration::ZERO, self.stop);
                return Err(heard.err().unwrap_or_else(|| anyhow::anyhow!("one side was gone")));
            };
            let [client, server] = pair.outcomes(limits.run, self.stop)?;
            Ok(Some(Counted::new(case, calls, &client, &server)))
        };
        let counted = counted().with_context(|| case.text());
        self.no_calls = refused;
        counted
    }
}

/// Longer than any such run takes on a busy machine.
const COUNTED_PATIENCE: Duration = Duration::from_secs(30);

/// Fisher and Yates, with a sequence that the seed decides.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for last in (1..items.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        items.swap(last, (state >> 16) as usize % (last + 1));
    }
}

/// On standard error, and only where somebody looks at it.
fn bar(steps: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(steps);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len}, {eta} left; {wide_msg}")
    {
        bar.set_style(style);
    }
    bar
}
