//! `quoit bench`: rings, pipes, sockets and the floor under them, between two processes of this program.
//!
//! It knows what may be said on the command line, and which transports there are. How they are measured is in
//! `quoit-measure`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use quoit_measure::{Entrant, Kind, Work};
use quoit_transports::{LEAST, LONGEST, Name, Wait, with};

use crate::exit::{self, End};
use crate::signals::Signals;
use crate::{args, picture};

/// The other process of `quoit bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct EndArgs {}

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
/// payload, then flag) of the same size; what a sleeper costs at least is transport `futex`, such a slot with the
/// kernel's futex. CPU s, CALLS and SWITCH are of both processes, for a million messages (of a fixed rate the receiver's
/// alone), from the first message to the last: processor seconds, system calls (counted under ptrace in a run of its own)
/// and context switches.
///
/// The verdict is that the machine was too noisy if more than a quarter of the samples have a floor more than a quarter
/// off the median floor, or two floors that differ by more than a quarter; if the host took more than 1 % of the
/// processors' time, or other processes more than 5 %; if a quota held the bench back; if the two had no processor each;
/// or if there were fewer than 5 runs.
///
/// With --json, an object: `environment`; `floor` (`flag_ns`, `spread_ns`, `samples`, `slots`); `results`, with
/// `transport`, `place`, `wait`, `work`, `size`, `p50_ns`, `p90_ns`, `p99_ns`, `p999_ns`, `max_ns`, `samples`, `messages`,
/// `msgs_per_s`, `bytes_per_s`, `floor_ns`, `to_floor`, `to_slot`, `runs`, `spread`, `per_million`, `counted` (`messages`
/// and `system_calls` of the run under ptrace) and `each` (the runs); `skipped`, each with its `reason`; `system_calls`
/// (why they were not counted, or null); `verdict` (`conclusive`, `reasons`).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to ask of them: roundtrip, stream, wake, fixed-rate
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "roundtrip,stream")]
    work: Vec<String>,

    /// What to measure: floor, futex, spsc, mpmc, pipe, unix-stream, unix-seqpacket, unix-dgram, tcp, eventfd, mqueue
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

/// All of them, in the order of the tables.
fn field() -> Vec<Entrant> {
    quoit_measure::field(Name::ALL.map(|name| (name.word(), with!(name, T => Kind::apart::<T>()))))
}

impl Args {
    /// What was said, understood. One line says what was not: a list of words is too long for clap's way of saying it.
    fn plan(&self) -> anyhow::Result<quoit_measure::Plan> {
        let field = field();
        let transport = |word: &str| one_of(word, &field, |one| one.word());
        let plan = quoit_measure::Plan {
            work: understood("work", &self.work, work)?,
            entrants: understood("transport", &self.transport, transport)?,
            wait: understood("wait", &self.wait, wait)?,
            size: understood("size", &self.size, size)?,
            duration: understood("duration", [&self.duration], duration)?[0],
            runs: self.runs,
            rate: self.rate,
            cores: None,
            calls: true,
            bases: Vec::new(),
            spoil: self.spoil,
        };
        let pin = understood("pin", &self.pin, pin)?.first().copied();
        Ok(quoit_measure::Plan { cores: cores(pin)?, ..plan })
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
fn cores(pin: Option<Pin>) -> anyhow::Result<Option<[usize; 2]>> {
    let allowed = quoit_measure::allowed()?;
    match pin {
        Some(Pin::Nowhere) => Ok(None),
        None => Ok(quoit_measure::choose(&allowed)),
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
    let signals = Signals::listen().context("listening for signals")?;
    for dir in [&args.hgrm, &args.svg].into_iter().flatten() {
        // Before all the work, not after it.
        std::fs::create_dir_all(dir)
            .with_context(|| format!("making the folder {}", dir.display()))?;
    }
    let measured = quoit_measure::measure(plan, &|| signals.asked().is_some());
    if let Some(end) = signals.asked() {
        return Ok(end);
    }
    let results = measured?;
    if let Some(dir) = &args.hgrm {
        quoit_measure::write_percentiles(&results, dir)?;
    }
    if let Some(dir) = &args.svg {
        quoit_measure::draw(&results, dir)?;
    }
    if args.json {
        picture::print_json(&results)?;
    } else {
        picture::print(quoit_measure::page(&results).as_bytes())?;
    }
    Ok(End::Done)
}

/// The command `bench-end`.
pub(crate) fn end(_: &EndArgs) -> anyhow::Result<End> {
    quoit_measure::end("quoit bench", &field())?;
    Ok(End::Done)
}
