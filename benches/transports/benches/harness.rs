//! The measuring harness: what a message costs between two processes, next to what the machine
//! itself takes, and what each choice in the ring's design is worth.
//!
//! It knows the questions, the order of the bursts and which of them to believe. It refuses to know
//! how a burst is run (`support::work`) and how a byte travels (`support::bare`, `support::floor`).
//! The method, and how to read the tables, is in `docs/benchmarks.md`.
//!
//! ```text
//! cargo bench --bench harness -- --reps 3 all
//! cargo bench --bench harness -- --quick --only fence --json fence.jsonl
//! ```

// A bench that prints nothing would be of little use; errors go where errors go.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod support;

use std::collections::BTreeMap;
use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quoit_transports::{Clock, cores};

use support::bare::{Bare, Commit, Design, Drained, Fence, NEVER, Read};
use support::copy::CopyBy;
use support::floor::Slots;
use support::quoit::{Adapts, Copies, Manner, Mpmc, Quoit, Spins};
use support::report::{Key, Results, Sample};
use support::textbook::{self, Textbook};
use support::work::{Job, Outcome, Workload, burst};

/// Floors before and after a burst may differ by so much (of the smaller one).
const AGREE: f64 = 0.25;
/// A burst whose floors disagree, or which stood on another floor than the rest, is run again so
/// often.
const AGAIN: u32 = 3;
/// From so many samples on it is known what the usual floor is.
const KNOWN: usize = 10;

const SIZES: &[usize] = &[8, 64, 256, 1024, 4096, 65536];
/// For rings of slots: two sizes of one line, two of several.
const SLOT_SIZES: &[usize] = &[8, 40, 256, 1024];
/// For questions about where a payload begins.
const FINE_SIZES: &[usize] = &[48, 128, 192, 256, 512, 1024, 4096, 65536];
/// For questions about lengths that differ: the most of them. Up to 48 bytes lie on the line of their header.
const MOST: &[usize] = &[32, 48, 64, 1024];
const BOTH: &[Workload] = &[Workload::Roundtrip, Workload::Stream];
const ROUNDTRIP: &[Workload] = &[Workload::Roundtrip];

type Burst = fn(&Job) -> io::Result<Outcome>;

/// One line of a table: a candidate with a name.
#[derive(Clone, Copy, Debug)]
struct Row {
    name: &'static str,
    what: &'static str,
    burst: Burst,
    workloads: &'static [Workload],
}

/// One choice, and the rows that answer it.
#[derive(Debug)]
struct Question {
    name: &'static str,
    asks: &'static str,
    sizes: &'static [usize],
    /// Whether every row is set against the first one.
    yardstick: bool,
    rows: Vec<Row>,
}

/// Names a design: the base, except for what is said.
macro_rules! designs {
    ($($(#[$doc:meta])* $name:ident { $($item:item)* })*) => {
        $($(#[$doc])* #[derive(Debug)] struct $name; impl Design for $name { $($item)* })*
    };
}

designs! {
    /// Every default.
    Base {}

    Packed {
        const ALIGN: u64 = 8;
        const HEADER: u64 = 8;
        const OWN_LINE: u64 = NEVER;
        const TOUCH: bool = false;
    }
    PackedIndex {
        const ALIGN: u64 = 8;
        const HEADER: u64 = 8;
        const OWN_LINE: u64 = NEVER;
        const COMMIT: Commit = Commit::Index;
        const TOUCH: bool = false;
    }
    PackedIndexTouch {
        const ALIGN: u64 = 8;
        const HEADER: u64 = 8;
        const OWN_LINE: u64 = NEVER;
        const COMMIT: Commit = Commit::Index;
    }

    Header8 { const HEADER: u64 = 8; const OWN_LINE: u64 = NEVER; }
    Header16 { const OWN_LINE: u64 = NEVER; }
    OwnLine { const OWN_LINE: u64 = 0; }
    OwnLine128 { const OWN_LINE: u64 = 128; }
    OwnLine256 { const OWN_LINE: u64 = 256; }
    OwnLine512 { const OWN_LINE: u64 = 512; }

    InBand { const COMMIT: Commit = Commit::InBand; }
    Index { const COMMIT: Commit = Commit::Index; }
    IndexNoTouch { const COMMIT: Commit = Commit::Index; const TOUCH: bool = false; }

    LockOr { const FENCE: Fence = Fence::LockOr; }
    LockOrBoth { const FENCE: Fence = Fence::LockOrBoth; }
    SeqCst { const FENCE: Fence = Fence::SeqCst; }

    Pauses0 { const PAUSES: u32 = 0; }
    Pauses2 { const PAUSES: u32 = 2; }
    Pauses8 { const PAUSES: u32 = 8; }
    Pauses16 { const PAUSES: u32 = 16; }
    LookFirst { const DRAINED: Drained = Drained::LookFirst; }

    Words { const COPY: CopyBy = CopyBy::Words; }
    Plain { const COPY: CopyBy = CopyBy::Plain; }
    OutBlocks { const READ: Read = Read::CopyOut; }
    OutWords { const COPY: CopyBy = CopyBy::Words; const READ: Read = Read::CopyOut; }
    OutPlain { const COPY: CopyBy = CopyBy::Plain; const READ: Read = Read::CopyOut; }
}

/// The textbook queue.
#[derive(Debug)]
struct Plainly;
impl textbook::Design for Plainly {}

/// The same, touching.
#[derive(Debug)]
struct Touching;
impl textbook::Design for Touching {
    const TOUCH: bool = true;
}

/// The same, with payloads right behind the header.
#[derive(Debug)]
struct Close;
impl textbook::Design for Close {
    const OWN_LINE: usize = usize::MAX;
}

fn row<D: Design>(name: &'static str, what: &'static str) -> Row {
    Row { name, what, burst: burst::<Bare<D>, false, false>, workloads: BOTH }
}

fn slots<D: textbook::Design>(name: &'static str, what: &'static str) -> Row {
    Row { name, what, burst: burst::<Textbook<D>, false, false>, workloads: BOTH }
}

fn shipped<M: Manner>(name: &'static str, what: &'static str) -> Row {
    Row { name, what, burst: burst::<Quoit<M>, false, false>, workloads: BOTH }
}

fn base() -> Row {
    row::<Base>("base", "every default")
}

/// All questions. A row with the same name in two of them is measured once, for both.
fn questions() -> Vec<Question> {
    let slot = Row {
        name: "slot",
        what: "one reused slot: payload, then flag",
        burst: burst::<Slots, false, false>,
        workloads: ROUNDTRIP,
    };
    let holding = Row {
        name: "reply first",
        what: "the server answers before it releases the request",
        burst: burst::<Bare<Base>, true, false>,
        workloads: ROUNDTRIP,
    };
    vec![
        Question {
            name: "floor",
            asks: "how far is the ring from the machine?",
            sizes: SIZES,
            yardstick: false,
            rows: vec![slot, base()],
        },
        Question {
            name: "shipped",
            asks: "what do validation, liveness, wake-ups and crash repair cost?",
            sizes: SIZES,
            yardstick: false,
            rows: vec![
                base(),
                shipped::<Spins>("quoit", "the ring that ships, spinning"),
                shipped::<Adapts>("quoit adaptive", "the same, waiting as it does by default"),
                row::<OutBlocks>("out blocks", "bare, copied out"),
                shipped::<Copies>("quoit copied", "the ring that ships, copied out"),
            ],
        },
        Question {
            name: "alignment",
            asks: "do records begin on lines or on words?",
            sizes: SIZES,
            yardstick: false,
            rows: vec![
                base(),
                row::<Packed>("packed", "8 B aligned, the sender clears the next header"),
                row::<PackedIndex>("packed index", "8 B aligned, index only, no touch"),
                row::<PackedIndexTouch>("packed index touch", "8 B aligned, index only, touch"),
            ],
        },
        Question {
            name: "header",
            asks: "how long is the header, and from which length does a payload begin a line?",
            sizes: FINE_SIZES,
            yardstick: false,
            rows: vec![
                row::<Header8>("header 8", "8 B header, own line never"),
                row::<Header16>("header 16", "16 B header, own line never"),
                row::<OwnLine>("own line", "16 B header, own line always"),
                row::<OwnLine128>("own line 128", "own line from 128 B"),
                base(),
                row::<OwnLine256>("own line 256", "own line from 256 B"),
                row::<OwnLine512>("own line 512", "own line from 512 B"),
            ],
        },
        Question {
            name: "commit",
            asks: "how does a commit become visible?",
            sizes: SIZES,
            yardstick: false,
            rows: vec![
                base(),
                row::<InBand>("in-band", "word 0 only"),
                row::<Index>("index touch", "tail only, touch"),
                row::<IndexNoTouch>("index", "tail only, no touch"),
            ],
        },
        Question {
            name: "fence",
            asks: "what does a full fence after each commit cost?",
            sizes: SIZES,
            yardstick: false,
            rows: vec![
                base(),
                row::<LockOr>("lock or", "`lock or` after commit"),
                row::<LockOrBoth>("lock or both", "`lock or` after commit and after release"),
                row::<SeqCst>("seqcst", "fence(SeqCst) after commit"),
            ],
        },
        Question {
            name: "pauses",
            asks: "how long does a receiver that caught up look away?",
            sizes: SIZES,
            yardstick: false,
            rows: vec![
                row::<Pauses0>("pauses 0", ""),
                row::<Pauses2>("pauses 2", ""),
                base(),
                row::<Pauses8>("pauses 8", ""),
                row::<Pauses16>("pauses 16", ""),
                row::<LookFirst>("look first", "4 pauses, but only after a look at tail"),
            ],
        },
        Question {
            name: "copy",
            asks: "what does a copy cost that is defined under a race?",
            sizes: SIZES,
            yardstick: false,
            rows: vec![
                base(),
                row::<Words>("words", "in by atomic words, read in place"),
                row::<Plain>("plain", "in by memcpy, read in place"),
                row::<OutBlocks>("out blocks", "in and out by blocks"),
                row::<OutWords>("out words", "in and out by atomic words"),
                row::<OutPlain>("out plain", "in and out by memcpy"),
            ],
        },
        Question {
            name: "release",
            asks: "does a request have to be released before it is answered?",
            sizes: SIZES,
            yardstick: false,
            rows: vec![Row { workloads: ROUNDTRIP, ..base() }, holding],
        },
        Question {
            name: "lengths",
            asks: "what does it cost that a message is not as long as the one before?",
            sizes: MOST,
            yardstick: true,
            rows: vec![
                base(),
                Row {
                    name: "base mixed",
                    what: "every default, any length up to this",
                    burst: burst::<Bare<Base>, false, true>,
                    workloads: BOTH,
                },
                shipped::<Spins>("quoit", "the ring that ships, spinning"),
                Row {
                    name: "quoit mixed",
                    what: "the same, any length up to this",
                    burst: burst::<Quoit<Spins>, false, true>,
                    workloads: BOTH,
                },
            ],
        },
        Question {
            name: "mpmc",
            asks: "what does it cost that every slot has an owner?",
            sizes: SLOT_SIZES,
            yardstick: true,
            rows: vec![
                slots::<Plainly>("textbook", "Vyukov's queue, one sender, one receiver"),
                Row {
                    name: "quoit mpmc",
                    what: "the ring that ships, spinning",
                    burst: burst::<Mpmc<Spins>, false, false>,
                    workloads: BOTH,
                },
                slots::<Touching>("textbook touch", "the lines after the first touched"),
                slots::<Close>("textbook close", "payloads at +16 whatever their length"),
            ],
        },
    ]
}

/// What the command line says.
#[derive(Debug)]
struct Settings {
    quick: bool,
    reps: u32,
    only: Vec<String>,
    sizes: Vec<usize>,
    capacity: usize,
    slots: usize,
    cores: Option<(usize, usize)>,
    floors: Option<(f64, f64)>,
    seed: u64,
    json: Option<String>,
    /// `--test`, or no `--bench`: somebody wants to know whether it runs, not how fast.
    smoke: bool,
}

const HELP: &str = "\
usage: cargo bench --bench harness -- [OPTIONS] [QUESTION]...

questions: floor shipped alignment header commit fence pauses copy release mpmc all
           (default: all)

  --only QUESTION    the same as naming it; may be repeated
  --reps N           repetitions (default 3)
  --quick            very short bursts, one repetition: does it run?
  --sizes A,B,...    only these payload sizes
  --capacity BYTES   of each ring, a power of two (default 1048576)
  --slots N          of each ring that is counted in slots, a power of two (default 1024)
  --cores A,B        client's and server's core (default: the first two allowed)
  --floors LO,HI     which floors, in ns, the tables are about (default: within a quarter of the
                     median floor); the JSON has all samples
  --seed N           of the order (default: from the clock; printed)
  --json FILE        all samples, a line of JSON each";

impl Settings {
    /// Reads the command line; `None` if there is nothing to do.
    fn parse(args: impl Iterator<Item = String>) -> Result<Option<Settings>, String> {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut settings = Settings {
            quick: false,
            reps: 0,
            only: Vec::new(),
            sizes: Vec::new(),
            capacity: 1 << 20,
            slots: 1024,
            cores: None,
            floors: None,
            seed: clock.as_nanos() as u64,
            json: None,
            smoke: true,
        };
        let mut args = args;
        let (mut named, mut tested) = (false, false);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value\n{HELP}"));
            match arg.as_str() {
                "--bench" => settings.smoke = false,
                "--test" => tested = true,
                "--help" | "-h" => {
                    println!("{HELP}");
                    return Ok(None);
                }
                // What test runners ask of every test binary: this one holds no tests.
                "--list" => return Ok(None),
                "--quick" => settings.quick = true,
                "--reps" => settings.reps = number(&arg, &value()?)?,
                "--seed" => settings.seed = number(&arg, &value()?)?,
                "--capacity" => settings.capacity = number(&arg, &value()?)?,
                "--slots" => settings.slots = number(&arg, &value()?)?,
                "--cores" => settings.cores = Some(pair(&arg, &value()?)?),
                "--floors" => settings.floors = Some(pair(&arg, &value()?)?),
                "--sizes" => {
                    settings.sizes = value()?
                        .split(',')
                        .map(|one| number(&arg, one))
                        .collect::<Result<_, _>>()?;
                }
                "--json" => settings.json = Some(value()?),
                "--only" => {
                    named = true;
                    settings.only.extend(value()?.split('|').map(str::to_owned));
                }
                name if !name.starts_with('-') => {
                    named = true;
                    settings.only.push(name.to_owned());
                }
                other => return Err(format!("there is no option {other}\n{HELP}")),
            }
        }
        // Run by hand, with something to do, it is no smoke test either.
        settings.smoke &= !named && !settings.quick && settings.reps == 0;
        settings.smoke |= tested;
        if settings.reps == 0 {
            settings.reps = if settings.quick || settings.smoke { 1 } else { 3 };
        }
        if settings.only.iter().any(|name| name == "all") {
            settings.only.clear();
        }
        if !settings.capacity.is_power_of_two() || settings.capacity < 4096 {
            return Err("--capacity wants a power of two, at least 4096".into());
        }
        if !settings.slots.is_power_of_two() || !(2..=65536).contains(&settings.slots) {
            return Err("--slots wants a power of two, at least 2, at most 65536".into());
        }
        if settings.sizes.iter().any(|size| !(8..=65536).contains(size) || !size.is_multiple_of(8))
        {
            return Err("--sizes wants multiples of 8, at most 65536".into());
        }
        Ok(Some(settings))
    }
}

fn number<T: std::str::FromStr>(option: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{option}: {text:?} is not such a number"))
}

fn pair<T: std::str::FromStr>(option: &str, text: &str) -> Result<(T, T), String> {
    let (a, b) = text.split_once(',').ok_or(format!("{option} wants two numbers, A,B"))?;
    Ok((number(option, a)?, number(option, b)?))
}

/// A small generator for the order of the bursts (splitmix64).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % below as u64) as usize
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for n in (1..items.len()).rev() {
            items.swap(n, self.roll(n + 1));
        }
    }
}

/// How long things last.
#[derive(Clone, Copy, Debug)]
struct Times {
    roundtrip: Duration,
    stream: Duration,
    check: Duration,
    gap: Duration,
}

impl Times {
    const FULL: Times = Times {
        roundtrip: Duration::from_millis(50),
        stream: Duration::from_millis(70),
        check: Duration::from_millis(4),
        gap: Duration::from_millis(70),
    };
    const QUICK: Times = Times {
        roundtrip: Duration::from_millis(6),
        stream: Duration::from_millis(6),
        check: Duration::from_millis(1),
        gap: Duration::from_millis(2),
    };
}

/// Runs a burst until its floors agree, with each other and with the rest of the run; at most
/// `1 + AGAIN` times.
fn believe(
    (key, row): &(Key, Row),
    job: &Job,
    repetition: u32,
    gap: Duration,
    floors: Option<(f64, f64)>,
    results: &mut Results,
) -> io::Result<()> {
    for _ in 0..=AGAIN {
        std::thread::sleep(gap);
        let outcome = (row.burst)(job)?;
        results.errors += outcome.errors;
        let (low, high) = (outcome.before.min(outcome.after), outcome.before.max(outcome.after));
        if high > low * (1.0 + AGREE) || !outcome.typical.is_finite() {
            results.dropped += 1;
            continue;
        }
        // A sample of another placement is kept, for the file, but it does not count.
        let sample = Sample { repetition, outcome };
        results.add(*key, sample);
        let wanted = match floors {
            Some(floors) => floors,
            None if results.within((0.0, f64::INFINITY)) < KNOWN => return Ok(()),
            None => results.usual(),
        };
        if wanted.0 <= sample.floor() && sample.floor() <= wanted.1 {
            return Ok(());
        }
    }
    results.given_up += 1;
    Ok(())
}

fn run(settings: &Settings) -> Result<(), String> {
    let mut questions = questions();
    if settings.smoke {
        questions.truncate(1);
    }
    for name in &settings.only {
        if !questions.iter().any(|question| question.name == name) {
            return Err(format!("there is no question {name}\n{HELP}"));
        }
    }
    if !settings.only.is_empty() {
        questions.retain(|question| settings.only.iter().any(|name| name == question.name));
    }

    let allowed = cores().map_err(|error| format!("cannot ask for the cores: {error}"))?;
    let cores = match (settings.cores, allowed.as_slice()) {
        (Some(cores), _) => cores,
        (None, [a, b, ..]) => (*a, *b),
        (None, _) if settings.smoke => {
            println!("one core only: nothing that spins can be tried here");
            return Ok(());
        }
        (None, _) => return Err("two cores are needed: both processes spin".into()),
    };

    let wanted = |size: &usize| {
        (settings.sizes.is_empty() || settings.sizes.contains(size))
            && *size <= settings.capacity / 2 - 64
    };
    let sizes = |question: &Question| -> Vec<usize> {
        question.sizes.iter().copied().filter(wanted).collect()
    };
    // One entry for each thing to measure, however many questions ask for it.
    let mut tasks: BTreeMap<Key, Row> = BTreeMap::new();
    for question in &questions {
        for row in &question.rows {
            for &workload in row.workloads {
                for size in sizes(question) {
                    tasks.insert((row.name, workload, size), *row);
                }
            }
        }
    }
    let mut order: Vec<(Key, Row)> = tasks.into_iter().collect();

    let times = if settings.quick || settings.smoke { Times::QUICK } else { Times::FULL };
    let clock = Clock::best();
    let mut dice = Dice(settings.seed);
    let mut results = Results::default();
    println!(
        "{} measurements, {} repetitions, cores {} and {}, rings of {} bytes or {} slots, seed {}{}\n",
        order.len(),
        settings.reps,
        cores.0,
        cores.1,
        settings.capacity,
        settings.slots,
        settings.seed,
        if settings.quick { ", quick: not figures to believe" } else { "" },
    );
    let began = Instant::now();
    // The last round makes up for what stood on another floor before the usual one was known.
    for repetition in 0..=settings.reps {
        let makes_up = repetition == settings.reps;
        let floors = settings.floors.unwrap_or_else(|| results.usual());
        dice.shuffle(&mut order);
        for task in &order {
            let (row, workload, size) = task.0;
            if makes_up && results.count(task.0, floors) >= settings.reps as usize {
                continue;
            }
            let job = Job {
                workload,
                size,
                capacity: settings.capacity,
                slots: settings.slots,
                clock,
                run: match workload {
                    Workload::Roundtrip => times.roundtrip,
                    Workload::Stream => times.stream,
                },
                check: times.check,
                cores,
            };
            believe(task, &job, repetition, times.gap, settings.floors, &mut results)
                .map_err(|error| format!("{row}, {}, {size} B: {error}", workload.name()))?;
        }
    }

    let floors = settings.floors.unwrap_or_else(|| results.usual());
    for question in &questions {
        println!("### {}: {}\n", question.name, question.asks);
        let rows: Vec<_> = question.rows.iter().map(|row| (row.name, row.what)).collect();
        for &workload in BOTH {
            if question.rows.iter().any(|row| row.workloads.contains(&workload)) {
                println!("{}", results.table(&rows, &sizes(question), workload, floors));
                if question.yardstick {
                    println!("{}", results.quotients(&rows, &sizes(question), workload, floors));
                }
            }
        }
    }
    println!("Cells: median of the repetitions [min-max] and the ratio to the flag round trip");
    println!("measured around each burst (`x`); round trips: / p50 / p99.");
    println!(
        "Tables: the {} samples with a floor of {:.0} to {:.0} ns.",
        results.within(floors),
        floors.0,
        floors.1
    );
    println!("{}; {:.0} s", results.summary(), began.elapsed().as_secs_f64());
    if let Some(path) = &settings.json {
        std::fs::write(path, results.json(settings.capacity, settings.slots))
            .map_err(|error| format!("cannot write {path}: {error}"))?;
    }
    if results.errors != 0 {
        return Err(format!("{} messages did not arrive as they were sent", results.errors));
    }
    Ok(())
}

fn main() -> ExitCode {
    let settings = match Settings::parse(std::env::args().skip(1)) {
        Ok(Some(settings)) => settings,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("harness: {error}");
            return ExitCode::FAILURE;
        }
    };
    match run(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("harness: {error}");
            ExitCode::FAILURE
        }
    }
}
