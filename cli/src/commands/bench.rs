//! `quoit bench`: rings, pipes, sockets and the floor under them, between two processes of this program.
//!
//! The parent lays a transport out, starts itself twice more, and sleeps while the two measure; so it disturbs nothing,
//! sees every death, and can end both. What the two do is in `work`, what they say in `end`, and what it comes to in
//! `results`.

mod calls;
mod end;
mod hgrm;
mod machine;
mod pair;
mod results;
mod svg;
mod table;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use quoit_transports::{
    Board, Clock, LEAST, LONGEST, Laid, Name, Refusal, Shape, Side, Transport, Wait, with,
};

use crate::exit::{self, End};
use crate::signals::Signals;
use crate::{args, picture};

pub(crate) use end::{EndArgs, end};

use end::{Job, Outcome};
use machine::{Disturbance, Disturbed, Machine};
use pair::Pair;
use results::{Case, Results, Sample, Skipped};
use work::{Limits, Work};

/// Measure rings beside pipes, sockets and the floor of the machine
///
/// Each sample has two fresh processes, each on its processor. Every message carries a number and a checksum, which the
/// receiver verifies. Right before and after each sample the same two bounce a bare flag between two cache lines: the
/// floor, by which the figures can be compared when the machine changes. Samples of all transports are interleaved, with
/// a pause after each; the table has the median over the runs and, in brackets, the least and the most.
///
/// Works: `roundtrip`, there and back, which is two messages; `stream`, the time for each message of as many as go, as
/// the mean of windows of a millisecond; `wake`, one way to a receiver that has slept; `fixed-rate`, one way from the
/// time at which a message was due, whenever it was sent. Whoever spins makes calls that do not block, again and again;
/// every transport copies a message out into memory of the receiver's.
///
/// Columns: P50 [RUNS], P99, P99.9 are times; xFLAG is P50 over the floor, xSLOT over transport `floor` (one reused slot:
/// payload, then flag) of the same size. CPU s, CALLS and SWITCH are of both processes, for a million messages (of a
/// fixed rate the receiver's alone): processor seconds, system calls (counted under ptrace in a run of its own) and
/// context switches.
///
/// The verdict is that the machine was too noisy if more than a quarter of the samples have a floor more than a quarter
/// off the median floor, or two floors that differ by more than a quarter; if the host took more than 1 % of the
/// processors' time, or other processes more than 5 %; if a quota held the bench back; if the two had no processor each;
/// or if there were fewer than 5 runs.
///
/// With --json, an object: `environment`; `floor` (`flag_ns`, `spread_ns`, `samples`, `slots`); `results`, with
/// `transport`, `wait`, `work`, `size`, `p50_ns`, `p90_ns`, `p99_ns`, `p999_ns`, `max_ns`, `samples`, `messages`,
/// `msgs_per_s`, `bytes_per_s`, `floor_ns`, `to_floor`, `to_slot`, `runs`, `spread`, `per_million` and `each` (the runs);
/// `skipped`, each with its `reason`; `system_calls` (why they were not counted, or null); `verdict` (`conclusive`,
/// `reasons`).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to ask of them: roundtrip, stream, wake, fixed-rate
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "roundtrip,stream")]
    work: Vec<String>,

    /// What to measure: floor, spsc, mpmc, pipe, unix-stream, unix-seqpacket, unix-dgram, tcp, eventfd, mqueue
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "floor,spsc,mpmc,pipe,unix-stream"
    )]
    transport: Vec<String>,

    /// How both ends wait: spin, adaptive, block
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "spin,block")]
    wait: Vec<String>,

    /// Bytes of a message
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "8,64,1KiB")]
    size: Vec<String>,

    /// How long one sample takes; short, so that no quota of the machine is used up
    #[arg(long, value_name = "TIME", default_value = "60ms")]
    duration: String,

    /// Samples of each kind
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000), default_value = "5")]
    runs: u32,

    /// Messages a second of `fixed-rate`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000), default_value = "10000")]
    rate: u64,

    /// The processors of client and server, such as 0,1; or `none` [default: two cores that share a cache]
    #[arg(long, value_name = "A,B")]
    pin: Option<String>,

    /// Print an object instead of the tables
    #[arg(long)]
    json: bool,

    /// Write HdrHistogram percentile files into this folder
    #[arg(long, value_name = "DIR")]
    hgrm: Option<PathBuf>,

    /// Draw pictures into this folder
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,

    /// Turn a bit of this message of every sample, to see that it is noticed
    #[arg(long, value_name = "NUMBER", hide = true)]
    spoil: Option<u64>,
}

/// What was said, understood. One line says what was not: a list of words is too long for clap's way of saying it.
#[derive(Debug)]
struct Plan {
    work: Vec<Work>,
    transport: Vec<Name>,
    wait: Vec<Wait>,
    size: Vec<usize>,
    duration: Duration,
    pin: Option<Pin>,
}

impl Args {
    fn plan(&self) -> anyhow::Result<Plan> {
        Ok(Plan {
            work: understood("work", &self.work, work)?,
            transport: understood("transport", &self.transport, transport)?,
            wait: understood("wait", &self.wait, wait)?,
            size: understood("size", &self.size, size)?,
            duration: understood("duration", [&self.duration], duration)?[0],
            pin: understood("pin", &self.pin, pin)?.first().copied(),
        })
    }
}

fn understood<'a, T>(
    option: &str,
    words: impl IntoIterator<Item = &'a String>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> anyhow::Result<Vec<T>> {
    let one = |word: &String| {
        parse(word).map_err(|why| exit::failure(exit::USAGE, format!("--{option} {word:?}: {why}")))
    };
    words.into_iter().map(one).collect()
}

/// Which processors.
#[derive(Clone, Copy, Debug)]
enum Pin {
    Nowhere,
    To([usize; 2]),
}

fn one_of<T: Copy>(text: &str, all: &[T], word: impl Fn(T) -> &'static str) -> Result<T, String> {
    all.iter().copied().find(|one| word(*one) == text).ok_or_else(|| {
        let words: Vec<&str> = all.iter().map(|one| word(*one)).collect();
        format!("it is one of {}", words.join(", "))
    })
}

fn work(text: &str) -> Result<Work, String> {
    one_of(text, &Work::ALL, Work::word)
}

fn transport(text: &str) -> Result<Name, String> {
    one_of(text, &Name::ALL, Name::word)
}

fn wait(text: &str) -> Result<Wait, String> {
    one_of(text, &[Wait::Spin, Wait::Adaptive, Wait::Block], Wait::word)
}

fn size(text: &str) -> Result<usize, String> {
    match args::size(text)? {
        size if size < LEAST => {
            Err(format!("a message has a number and a checksum: {LEAST} bytes at least"))
        }
        size if size > LONGEST => Err("a message of the bench has 1MiB at most".into()),
        size => Ok(size),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    match args::interval(text)? {
        long if long > Duration::from_secs(60) => {
            Err("a sample takes a minute at most: say more --runs".into())
        }
        short if short < Duration::from_millis(1) => Err("a sample takes 1ms at least".into()),
        some => Ok(some),
    }
}

fn pin(text: &str) -> Result<Pin, String> {
    if text == "none" {
        return Ok(Pin::Nowhere);
    }
    let two = text.split_once(',').and_then(|(a, b)| Some([a.parse().ok()?, b.parse().ok()?]));
    two.map(Pin::To)
        .ok_or_else(|| "two processors with a comma between them, such as 0,1; or none".into())
}

/// Where the two go: as asked, or two that fit, if there are two.
fn cores(pin: Option<Pin>, allowed: &[usize]) -> anyhow::Result<Option<[usize; 2]>> {
    match pin {
        Some(Pin::Nowhere) => Ok(None),
        None => Ok(machine::choose(allowed)),
        Some(Pin::To(cores)) => match cores.iter().find(|core| !allowed.contains(core)) {
            Some(core) => Err(exit::failure(
                exit::USAGE,
                format!("this process may not use processor {core}"),
            )),
            None => Ok(Some(cores)),
        },
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<End> {
    let plan = args.plan()?;
    let allowed = machine::allowed()?;
    let cores = cores(plan.pin, &allowed)?;
    let signals = Signals::listen().context("listening for signals")?;
    for dir in [&args.hgrm, &args.svg].into_iter().flatten() {
        // Before all the work, not after it.
        std::fs::create_dir_all(dir)
            .with_context(|| format!("making the folder {}", dir.display()))?;
    }
    let clock = Clock::best();
    let machine = Machine::look(cores, allowed.len(), clock);
    let mut bench =
        Bench { args, plan, cores, clock, signals, skipped: Vec::new(), no_calls: None };
    match bench.measure() {
        _ if bench.signals.asked().is_some() => Ok(bench.signals.asked().unwrap_or(End::Done)),
        Err(error) => Err(error),
        Ok(Measured { samples, calls, disturbed }) => {
            let results =
                Results::new(machine, &samples, &calls, bench.skipped, bench.no_calls, disturbed);
            if let Some(dir) = &args.hgrm {
                hgrm::write(&results, dir)?;
            }
            if let Some(dir) = &args.svg {
                svg::draw(&results, dir)?;
            }
            if args.json {
                picture::print_json(&results)?;
            } else {
                picture::print(table::page(&results).as_bytes())?;
            }
            Ok(End::Done)
        }
    }
}

/// All samples.
struct Measured {
    samples: BTreeMap<Case, Vec<Sample>>,
    /// System calls for a million messages.
    calls: BTreeMap<Case, f64>,
    disturbed: Disturbed,
}

struct Bench<'a> {
    args: &'a Args,
    plan: Plan,
    cores: Option<[usize; 2]>,
    clock: Clock,
    signals: Signals,
    skipped: Vec<Skipped>,
    /// Why system calls cannot be counted here.
    no_calls: Option<String>,
}

/// A run whose calls are counted: so many messages, or so long.
const COUNTED: u64 = 20_000;
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
        let bar = bar(cases.len() as u64 * (u64::from(self.args.runs) + 1));
        let then = Disturbance::look();
        for run in 0..self.args.runs {
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
            if self.no_calls.is_some() {
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
                    for &transport in &self.plan.transport {
                        cases.insert(Case { work, wait, size, transport });
                    }
                }
            }
        }
        let (mut kept, mut skipped) = (Vec::new(), Vec::new());
        for case in cases {
            match senseless(&case) {
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
            anyhow::ensure!(self.signals.asked().is_none(), "interrupted");
            std::thread::sleep(left.min(crate::signals::SLICE));
        }
    }

    /// Lays a transport out; `None` if this machine does not have it.
    fn lay(&mut self, case: &Case) -> anyhow::Result<Option<Laid>> {
        let shape = Shape { size: case.size, wait: case.wait };
        match with!(case.transport, T => T::lay(&shape)) {
            Ok(laid) => Ok(Some(laid)),
            Err(Refusal::Here(reason)) => {
                self.skipped.push(Skipped { case: *case, reason });
                Ok(None)
            }
            Err(Refusal::Failed(error)) => Err(error).with_context(|| case.text()),
        }
    }

    fn job(&self, case: &Case, side: Side, laid: &Laid, limits: Limits) -> Job {
        let floor = (self.plan.duration / FLOOR).clamp(FLOOR_LEAST, FLOOR_MOST);
        let (core, kit) = match side {
            Side::Client => (0, &laid.client),
            Side::Server => (1, &laid.server),
        };
        Job {
            transport: case.transport,
            shape: Shape { size: case.size, wait: case.wait },
            side,
            work: case.work,
            limits,
            floor: limits.messages.is_none().then_some(floor),
            core: self.cores.map(|cores| cores[core]),
            clock: self.clock,
            spoil: self.args.spoil,
            names: kit.names.clone(),
        }
    }

    fn pair(&self, case: &Case, laid: Laid, limits: Limits) -> anyhow::Result<Pair> {
        let client = self.job(case, Side::Client, &laid, limits);
        let server = self.job(case, Side::Server, &laid, limits);
        Pair::start(&client, &server, laid, Board::create()?, &self.signals)
    }

    /// One sample; `None` if this machine does not have the transport.
    fn sample(&mut self, case: &Case) -> anyhow::Result<Option<Sample>> {
        let Some(laid) = self.lay(case)? else { return Ok(None) };
        let limits = Limits { run: self.plan.duration, messages: None, rate: self.args.rate };
        let measured = || -> anyhow::Result<Sample> {
            let mut pair = self.pair(case, laid, limits)?;
            pair.go()?;
            let outcomes = pair.outcomes(limits.run * 2, &self.signals)?;
            Sample::new(case, outcomes)
        };
        measured().with_context(|| case.text()).map(Some)
    }

    /// System calls for a million messages; `None` if this machine does not let us count them.
    fn calls(&mut self, case: &Case) -> anyhow::Result<Option<f64>> {
        let Some(laid) = self.lay(case)? else { return Ok(None) };
        let messages = if case.work == Work::Wake { COUNTED_WAKES } else { COUNTED };
        let run = COUNTED_FOR.min(self.plan.duration * 4);
        let limits = Limits { run, messages: Some(messages), rate: self.args.rate };
        let mut refused = None;
        let counted = || -> anyhow::Result<Option<f64>> {
            let mut pair = self.pair(case, laid, limits)?;
            if let Err(error) = calls::seize(pair.pids()) {
                refused = Some(format!("this machine does not let a process be traced: {error}"));
                return Ok(None);
            }
            pair.go()?;
            let patience = limits.run + COUNTED_PATIENCE;
            let Some(calls) = calls::count(pair.pids(), patience, &self.signals)? else {
                // Somebody is gone: the pair knows who, and how.
                let heard = pair.outcomes(Duration::ZERO, &self.signals);
                return Err(heard.err().unwrap_or_else(|| anyhow::anyhow!("one side was gone")));
            };
            let [client, server] = pair.outcomes(limits.run, &self.signals)?;
            Ok(Some(per_million(case, calls, &client, &server)))
        };
        let counted = counted().with_context(|| case.text());
        self.no_calls = refused;
        counted
    }
}

/// Longer than any such run takes on a busy machine.
const COUNTED_PATIENCE: Duration = Duration::from_secs(30);

fn per_million(
    case: &Case,
    [by_client, by_server]: [u64; 2],
    client: &Outcome,
    server: &Outcome,
) -> f64 {
    let calls = match case.work {
        Work::FixedRate => by_server,
        _ => by_client.saturating_sub(client.own_calls) + by_server,
    };
    calls as f64 / client.messages.max(server.messages).max(1) as f64 * 1e6
}

/// What makes no sense for anybody, and why.
fn senseless(case: &Case) -> Option<&'static str> {
    let (queues, sleeps) = with!(case.transport, T => (T::QUEUES, T::SLEEPS));
    if !sleeps && case.wait != Wait::Spin {
        Some("there is nothing that could sleep: it only spins")
    } else if !queues && case.work != Work::Roundtrip {
        Some("one slot holds one message: it only answers")
    } else if case.work == Work::Wake && case.wait == Wait::Spin {
        Some("who spins does not sleep")
    } else {
        None
    }
}

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
