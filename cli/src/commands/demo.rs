//! `quoit demo`: two processes, two rings, and what they manage; or several
//! processes at one ring (`crew`).
//!
//! The parent makes a ring for each direction and starts itself again as the
//! peer. First it streams messages of many sizes and asks the peer for the
//! checksum of what arrived; then it measures round trips. Nothing is left
//! behind, however it ends: the rings lose their names as soon as both are at
//! them.

mod crew;

use std::io::IsTerminal;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, io, process};

use anyhow::{Context, bail, ensure};
use crc32fast::Hasher;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use quoit::Options;
use quoit::spsc::{Receiver, Sender};
use serde::Serialize;

use crate::exit::{self, End};
use crate::signals::{SLICE, Signals};
use crate::{args, picture};

pub(crate) use crew::{WorkerArgs, worker};

/// Show what a ring does: two processes, a stream and round trips
///
/// With --mpmc: two senders and two receivers at one ring for two seconds. One
/// of the receivers is killed in the middle, another takes its place, and every
/// message is accounted for.
///
/// With --json, an object: `size`; `processes` with the pids `parent` and
/// `peer`; `stream` with `messages`, `bytes`, `seconds`, `messages_per_second`,
/// `bytes_per_second`, `crc32` and `checksum` (ok: a run where it is not fails);
/// `round_trip` with `count` and in nanoseconds `min`, `p50`, `p90`, `p99`,
/// `p99_9` and `max`. With --mpmc: `size`, `slots`, `seconds`; `processes` with
/// the pids `parent`, `senders`, `receivers`, `killed` (one of them) and
/// `replacement`; `sent`, `messages_per_second`, `bytes_per_second`, `received`
/// (different messages), `redelivered` (of those, how many were in the killed
/// one's hands), `reported_twice` (of those, how many it was done with)
/// and `lost` (0: a run where it is not fails).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Several senders and receivers at one ring, and one of them is killed
    #[arg(long, conflicts_with = "count")]
    mpmc: bool,

    /// Bytes of a round trip's message; those of the stream vary around it
    /// (with --mpmc, bytes of every message)
    #[arg(long, value_name = "SIZE", default_value = "64", value_parser = args::size)]
    size: usize,

    /// So many messages and so many round trips
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// Spend so much time, half of it on each part (with --mpmc, half before the kill)
    #[arg(long, value_name = "N", conflicts_with = "count", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,

    /// Print an object instead of the report
    #[arg(long)]
    json: bool,
}

/// The other process of a demo.
#[derive(Debug, clap::Args)]
pub(crate) struct PeerArgs {
    /// The ring it receives from
    from: String,
    /// The ring it sends to
    to: String,
}

const CAPACITY: usize = 1 << 20;
/// A stream ends after so many bytes, or after its time.
const STREAM_BYTES: u64 = 320_000_000;
const STREAM_TIME: Duration = Duration::from_millis(2500);
const TRIPS_TIME: Duration = Duration::from_millis(1500);
const WARM_UP: u64 = 1000;

/// When a part of the demo is over.
#[derive(Debug, Clone, Copy)]
struct Plan {
    messages: u64,
    bytes: u64,
    time: Duration,
}

#[derive(Debug, Serialize)]
struct Report {
    size: usize,
    processes: Processes,
    stream: Stream,
    round_trip: RoundTrip,
}

#[derive(Debug, Serialize)]
struct Processes {
    parent: u32,
    peer: u32,
}

#[derive(Debug, Serialize)]
struct Stream {
    messages: u64,
    bytes: u64,
    seconds: f64,
    messages_per_second: f64,
    bytes_per_second: f64,
    crc32: String,
    checksum: &'static str,
}

#[derive(Debug, Serialize)]
struct RoundTrip {
    count: u64,
    min: u64,
    p50: u64,
    p90: u64,
    p99: u64,
    p99_9: u64,
    max: u64,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<End> {
    if args.mpmc {
        return crew::run(args);
    }
    let signals = Signals::listen().context("listening for signals")?;
    let (stream_plan, trips_plan) = plans(args);

    let options = Options::new().capacity(CAPACITY.max((args.size * 8).next_power_of_two()));
    let (there, back) = (Name::new("there"), Name::new("back"));
    let sender = Sender::create(&there.0, &options)?;
    let receiver = Receiver::create(&back.0, &options)?;
    let peer = Peer::start(&there, &back)?;
    let mut pair = Pair { peer, sender, receiver, signals };

    let outcome = (|| -> anyhow::Result<Report> {
        // The peer's first word: it sits at both rings, their names may go.
        pair.wait(&mut Vec::new())?;
        drop((there, back));
        let stream = stream(&mut pair, args.size, stream_plan)?;
        let round_trip = round_trips(&mut pair, args.size, trips_plan)?;
        pair.put(&[])?;
        pair.peer.join()?;
        Ok(Report {
            size: args.size,
            processes: Processes { parent: process::id(), peer: pair.peer.child.id() },
            stream,
            round_trip,
        })
    })();
    if let Some(end) = pair.signals.asked() {
        return Ok(end);
    }
    let report = outcome?;
    if args.json {
        picture::print_json(&report)?;
    } else {
        picture::print(page(&report).as_bytes())?;
    }
    Ok(End::Done)
}

fn plans(args: &Args) -> (Plan, Plan) {
    let for_ever = Duration::MAX;
    let half = args.seconds.map(|seconds| Duration::from_secs(seconds) / 2);
    match (args.count, half) {
        (Some(messages), _) => {
            let plan = Plan { messages, bytes: u64::MAX, time: for_ever };
            (plan, plan)
        }
        (None, Some(time)) => {
            let plan = Plan { messages: u64::MAX, bytes: u64::MAX, time };
            (plan, plan)
        }
        (None, None) => (
            Plan { messages: u64::MAX, bytes: STREAM_BYTES, time: STREAM_TIME },
            Plan { messages: u64::MAX, bytes: u64::MAX, time: TRIPS_TIME },
        ),
    }
}

/// A ring in the folder of plain names. Dropped, it is removed.
#[derive(Debug)]
struct Name(String);

impl Name {
    fn new(what: &str) -> Name {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Name(format!("demo-{}-{now:x}-{what}", process::id()))
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = quoit::unlink(&self.0);
    }
}

/// The other process. Dropped, it is ended.
#[derive(Debug)]
struct Peer {
    child: Child,
}

impl Peer {
    fn start(there: &Name, back: &Name) -> anyhow::Result<Peer> {
        let child = Command::new(env::current_exe().context("finding this program")?)
            .args(["demo-peer", &there.0, &back.0])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("starting the other process")?;
        Ok(Peer { child })
    }

    fn join(&mut self) -> anyhow::Result<()> {
        let status = self.child.wait()?;
        ensure!(status.success(), "the other process ended with {status}");
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Both fail if it has ended already, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Both directions, as the parent has them.
struct Pair {
    // First, because it goes first: it shall not complain of an end it did not
    // expect.
    peer: Peer,
    sender: Sender,
    receiver: Receiver,
    signals: Signals,
}

impl Pair {
    fn put(&mut self, message: &[u8]) -> anyhow::Result<()> {
        loop {
            match self.sender.send_timeout(message, SLICE) {
                Ok(()) => return Ok(()),
                Err(error) if error.is_timeout() => self.look_up()?,
                Err(error) if error.is_disconnected() => return Err(gone()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn wait(&mut self, into: &mut Vec<u8>) -> anyhow::Result<()> {
        loop {
            match self.receiver.recv_into_timeout(into, SLICE) {
                Ok(_) => return Ok(()),
                Err(error) if error.is_timeout() => self.look_up()?,
                Err(error) if error.is_disconnected() => return Err(gone()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// In a wait: is anybody still there, does anybody still want it?
    fn look_up(&mut self) -> anyhow::Result<()> {
        if self.signals.asked().is_some() {
            bail!("interrupted");
        }
        match self.peer.child.try_wait()? {
            Some(_) => Err(gone()),
            None => Ok(()),
        }
    }
}

fn gone() -> anyhow::Error {
    exit::failure(exit::PEER_DIED, "the other process of the demo died")
}

/// What both sides know of a stream, each by its own count.
#[derive(Debug, Clone, Default)]
struct Tally {
    messages: u64,
    bytes: u64,
    hasher: Hasher,
}

impl Tally {
    fn add(&mut self, message: &[u8]) {
        self.messages += 1;
        self.bytes += message.len() as u64;
        // The length too: a cut in the wrong place has the same bytes.
        self.hasher.update(&(message.len() as u64).to_le_bytes());
        self.hasher.update(message);
    }

    fn seal(&self) -> Vec<u8> {
        let mut seal = self.messages.to_le_bytes().to_vec();
        seal.extend(self.bytes.to_le_bytes());
        seal.extend(self.hasher.clone().finalize().to_le_bytes());
        seal
    }
}

/// Sizes from 1 to twice the size asked for, each 64th up to 256 times it, and
/// bytes from a pool that is no multiple of a cache line long.
struct Source {
    pool: Vec<u8>,
    state: u64,
    size: usize,
    large: usize,
}

impl Source {
    fn new(size: usize, longest: usize) -> Source {
        let large = (size * 256).min(longest).min(1 << 16).max(size * 2).min(longest);
        let mut source = Source { pool: Vec::new(), state: 0x9e37_79b9_7f4a_7c15, size, large };
        while source.pool.len() < large + 65_521 {
            let word = source.next();
            source.pool.extend(word.to_le_bytes());
        }
        source
    }

    /// Xorshift: a sequence that is the same in every run.
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn message(&mut self, number: u64) -> &[u8] {
        let word = self.next();
        let top = if number % 64 == 63 { self.large } else { (self.size * 2).min(self.large) };
        // Both fit: they are remainders of a usize.
        let len = 1 + (word >> 32) as usize % top;
        let start = (word & 0xffff) as usize % (self.pool.len() - len);
        &self.pool[start..start + len]
    }
}

fn stream(pair: &mut Pair, size: usize, plan: Plan) -> anyhow::Result<Stream> {
    let mut source = Source::new(size, pair.sender.max_len());
    let mut tally = Tally::default();
    let bar = bar(plan);
    let start = Instant::now();
    while tally.messages < plan.messages && tally.bytes < plan.bytes {
        if tally.messages % 4096 == 0 {
            if start.elapsed() >= plan.time {
                break;
            }
            if pair.signals.asked().is_some() {
                bail!("interrupted");
            }
            bar.set_position(tally.bytes);
        }
        let message = source.message(tally.messages);
        tally.add(message);
        pair.put(message)?;
    }
    // No message of the stream is empty: this one ends it.
    pair.put(&[])?;
    let mut seal = Vec::new();
    pair.wait(&mut seal)?;
    let seconds = start.elapsed().as_secs_f64();
    bar.finish_and_clear();

    ensure!(
        seal == tally.seal(),
        "the stream did not arrive as it was sent: the other process counted and hashed otherwise"
    );
    Ok(Stream {
        messages: tally.messages,
        bytes: tally.bytes,
        seconds,
        messages_per_second: tally.messages as f64 / seconds,
        bytes_per_second: tally.bytes as f64 / seconds,
        crc32: format!("{:08x}", tally.hasher.finalize()),
        checksum: "ok",
    })
}

/// On standard error, and only where somebody looks at it.
fn bar(plan: Plan) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    if plan.bytes == u64::MAX {
        return ProgressBar::new_spinner();
    }
    let bar = ProgressBar::new(plan.bytes);
    if let Ok(style) = ProgressStyle::with_template("streaming {bar:40} {bytes}, {bytes_per_sec}") {
        bar.set_style(style);
    }
    bar
}

fn round_trips(pair: &mut Pair, size: usize, plan: Plan) -> anyhow::Result<RoundTrip> {
    let message = vec![0x51; size];
    let mut answer = Vec::with_capacity(size);
    for _ in 0..WARM_UP.min(plan.messages) {
        pair.put(&message)?;
        pair.wait(&mut answer)?;
    }
    let mut times = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3)?;
    let start = Instant::now();
    while times.len() < plan.messages && start.elapsed() < plan.time {
        let left = Instant::now();
        pair.put(&message)?;
        pair.wait(&mut answer)?;
        times.saturating_record(u64::try_from(left.elapsed().as_nanos())?);
        ensure!(answer == message, "an answer is not what was asked");
        if times.len() % 4096 == 0 && pair.signals.asked().is_some() {
            bail!("interrupted");
        }
    }
    Ok(RoundTrip {
        count: times.len(),
        min: times.min(),
        p50: times.value_at_quantile(0.5),
        p90: times.value_at_quantile(0.9),
        p99: times.value_at_quantile(0.99),
        p99_9: times.value_at_quantile(0.999),
        max: times.max(),
    })
}

fn page(report: &Report) -> String {
    let Report { size, processes, stream, round_trip } = report;
    format!(
        "\
two processes, {} and {}, a ring for each direction
stream       {} messages, {:.0} MB in {:.2} s: {:.2} million messages/s, {:.0} MB/s
             checksum ok (crc32 {}), counted and hashed on both sides
round trips  {} of {size} bytes there and back
             p50 {}   p90 {}   p99 {}   p99.9 {}   max {}
",
        processes.parent,
        processes.peer,
        stream.messages,
        stream.bytes as f64 / 1e6,
        stream.seconds,
        stream.messages_per_second / 1e6,
        stream.bytes_per_second / 1e6,
        stream.crc32,
        round_trip.count,
        time(round_trip.p50),
        time(round_trip.p90),
        time(round_trip.p99),
        time(round_trip.p99_9),
        time(round_trip.max),
    )
}

fn time(nanoseconds: u64) -> String {
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => format!("{:.1} us", nanoseconds as f64 / 1e3),
        _ => format!("{:.1} ms", nanoseconds as f64 / 1e6),
    }
}

/// The other process: hashes the stream, answers the seal, then sends every
/// message back until an empty one comes. It ends with its parent, whose death
/// it sees as the end of the stream.
pub(crate) fn peer(args: &PeerArgs) -> anyhow::Result<End> {
    let mut receiver = Receiver::open(&args.from)?;
    let mut sender = Sender::open(&args.to)?;
    let mut message = Vec::new();
    sender.send(&[])?;

    let mut tally = Tally::default();
    while receiver.recv_into(&mut message)? > 0 {
        tally.add(&message);
    }
    sender.send(&tally.seal())?;

    while receiver.recv_into(&mut message)? > 0 {
        sender.send(&message)?;
    }
    Ok(End::Done)
}
