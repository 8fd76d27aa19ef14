//! quoit beside its peers: between two processes, and between two threads of one, by the works and tables of `quoit bench`.
//!
//! It knows what may be said on the command line, and who is measured. How a peer is used is in a file of its own; how all
//! are measured is in `quoit-measure`.

mod iceoryx;
mod ipc_channel;
mod ipmpsc;
mod shmem_ipc;
mod spin;
mod threads;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytesize::ByteSize;
use clap::Parser;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use quoit_measure::{END, Entrant, Kind, Place, Plan, Work};
use quoit_transports::{Floor, LEAST, LONGEST, Mpmc, Pipe, Spsc, Wait};

use threads::{many, queue};

/// Measure quoit beside its peers
///
/// Between two processes: floor (one reused slot), quoit-spsc, quoit-mpmc, iceoryx2, shmem-ipc, ipmpsc, ipc-channel, pipe.
/// Between two threads: quoit-spsc, quoit-mpmc, rtrb, ringbuf, array-queue, crossbeam-channel, flume, kanal, thingbuf,
/// std-mpsc.
///
/// Works, columns and verdict are those of `quoit bench`; see its help. `stream-2x2` has two senders and two receivers of
/// one channel, a sender and a receiver on each of two processors; it is asked between threads of quoit-mpmc, array-queue,
/// crossbeam-channel, flume, kanal and thingbuf. The last column is P50 over that of a base, the first of --base that was
/// measured in the same table: x2.00 takes twice as long.
#[derive(Debug, Parser)]
#[command(name = "peers")]
struct Args {
    /// What to ask of them
    #[arg(long, value_delimiter = ',', default_value = "roundtrip,stream,stream-2x2", value_parser = works())]
    work: Vec<Work>,

    /// Between whom
    #[arg(long, value_delimiter = ',', default_value = "processes,threads", value_parser = places())]
    place: Vec<Place>,

    /// Whom to measure [default: all]
    #[arg(long, value_delimiter = ',', value_parser = words())]
    transport: Vec<String>,

    /// How both ends wait; between threads they only spin
    #[arg(long, value_delimiter = ',', default_value = "spin", value_parser = waits())]
    wait: Vec<Wait>,

    /// Bytes of a message
    #[arg(long, value_delimiter = ',', default_value = "8,64,1KiB", value_parser = size)]
    size: Vec<usize>,

    /// How long one sample takes
    #[arg(long, default_value = "60ms", value_parser = duration)]
    duration: Duration,

    /// Samples of each kind
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,

    /// With whom the others are compared
    #[arg(long, value_delimiter = ',', default_value = "quoit-spsc,quoit-mpmc", value_parser = words())]
    base: Vec<String>,

    /// Print an object instead of the tables
    #[arg(long)]
    json: bool,

    /// Turn a bit of this message of every sample, to see that it is noticed
    #[arg(long, hide = true)]
    spoil: Option<u64>,
}

/// All of them, in the order of the tables.
fn field() -> Vec<Entrant> {
    quoit_measure::field([
        ("floor", Kind::apart::<Floor>()),
        ("quoit-spsc", Kind::apart::<Spsc>()),
        ("quoit-mpmc", Kind::apart::<Mpmc>()),
        ("iceoryx2", Kind::apart::<iceoryx::Iceoryx>()),
        ("shmem-ipc", Kind::apart::<shmem_ipc::ShmemIpc>()),
        ("ipmpsc", Kind::apart::<ipmpsc::Ipmpsc>()),
        ("ipc-channel", Kind::apart::<ipc_channel::IpcChannel>()),
        ("pipe", Kind::apart::<Pipe>()),
        ("quoit-spsc", threads::QuoitSpsc::kind()),
        ("quoit-mpmc", threads::QuoitMpmc::kind()),
        ("rtrb", queue::<threads::Rtrb>()),
        ("ringbuf", queue::<threads::Ringbuf>()),
        ("array-queue", many::<threads::ArrayQueue>()),
        ("crossbeam-channel", many::<threads::CrossbeamChannel>()),
        ("flume", many::<threads::Flume>()),
        ("kanal", many::<threads::Kanal>()),
        ("thingbuf", many::<threads::Thingbuf>()),
        ("std-mpsc", queue::<threads::Std>()),
    ])
}

/// One of some, by its word.
fn one_of<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    word: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(all.iter().map(move |one| word(*one))).try_map(move |said| {
        all.iter().copied().find(|one| word(*one) == said).ok_or("it is none of these")
    })
}

fn works() -> impl TypedValueParser<Value = Work> {
    one_of(&[Work::Roundtrip, Work::Stream, Work::Crowd], Work::word)
}

fn places() -> impl TypedValueParser<Value = Place> {
    one_of(&[Place::Processes, Place::Threads], Place::word)
}

fn waits() -> impl TypedValueParser<Value = Wait> {
    one_of(&[Wait::Spin, Wait::Block], Wait::word)
}

fn words() -> PossibleValuesParser {
    let mut words: Vec<&'static str> = Vec::new();
    for entrant in field() {
        if !words.contains(&entrant.word()) {
            words.push(entrant.word());
        }
    }
    words.into()
}

fn size(text: &str) -> Result<usize, String> {
    let bytes = usize::try_from(text.parse::<ByteSize>()?.as_u64()).unwrap_or(usize::MAX);
    match (LEAST..=LONGEST).contains(&bytes) {
        true => Ok(bytes),
        false => Err(format!("a message has {LEAST} to {LONGEST} bytes")),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match (Duration::from_millis(1)..=Duration::from_secs(60)).contains(&time) {
        true => Ok(time),
        false => Err("a sample takes from 1ms to a minute".into()),
    }
}

impl Args {
    fn plan(&self) -> anyhow::Result<Plan> {
        let field = field();
        let named = |entrant: &&Entrant| {
            self.place.contains(&entrant.place())
                && (self.transport.is_empty()
                    || self.transport.iter().any(|word| word == entrant.word()))
        };
        let base = |word: &String| {
            let word = word.clone();
            field.iter().copied().filter(move |entrant| entrant.word() == word)
        };
        Ok(Plan {
            work: self.work.clone(),
            entrants: field.iter().filter(named).copied().collect(),
            wait: self.wait.clone(),
            size: self.size.clone(),
            duration: self.duration,
            runs: self.runs,
            // No work of these has a rate.
            rate: 1,
            cores: quoit_measure::choose(&quoit_measure::allowed()?),
            calls: false,
            bases: self.base.iter().flat_map(base).collect(),
            spoil: self.spoil,
        })
    }
}

fn run() -> anyhow::Result<()> {
    if std::env::args().nth(1).is_some_and(|word| word == END) {
        return quoit_measure::end("peers", &field());
    }
    let args = Args::parse();
    let plan = args.plan()?;
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // Twice is at once.
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&asked))?;
        signal_hook::flag::register(signal, Arc::clone(&asked))?;
    }
    let dir = tempfile::tempdir()?;
    let home = iceoryx::live_in(dir.path());
    // Relaxed: the flag is all that is said.
    let measured = quoit_measure::measure(plan, &|| asked.load(Ordering::Relaxed));
    drop(home);
    dir.close()?;
    let results = measured?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&results)? + "\n",
        false => quoit_measure::page(&results),
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when standard error is gone too.
            let _ = writeln!(io::stderr(), "peers: {error:#}");
            ExitCode::FAILURE
        }
    }
}
