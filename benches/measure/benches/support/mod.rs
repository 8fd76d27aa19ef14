//! What `latency` and `deaths` share: the command line, rings of their own, other processes, the clock, and tables.
//!
//! It knows processes and how a span is shown. It refuses to know which spans there are.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use hdrhistogram::Histogram;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::alarm;
use quoit::Wait;
use quoit_measure::{PS, write_histogram};
use quoit_transports::Clock;

/// What tells a process that it is another one's: what it does, how it waits, the ring's path, and one word more.
const PART: &str = "QUOIT_BENCH_PART";

/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// From so many samples on a thousandth of them says something.
const MANY: u64 = 1000;

/// The ways to wait in which somebody sleeps.
pub(crate) const WAITS: [Wait; 2] = [Wait::Block, Wait::Adaptive];

/// What is said on the command line
#[derive(Debug, Default, Parser)]
pub(crate) struct Args {
    /// Only rows with one of these words in their names
    words: Vec<String>,

    /// Writes each row's percentiles into this folder, for HdrHistogram's plotters
    #[arg(long, value_name = "DIR")]
    hgrm: Option<PathBuf>,

    /// Two samples of each row: only to see whether it runs
    #[arg(long)]
    pub(crate) test: bool,

    /// What `cargo bench` says
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    /// Without `--bench` it is run as a test, whose words are the test runner's.
    pub(crate) fn look() -> Args {
        let bench = std::env::args().any(|arg| arg == "--bench");
        if bench { Args::parse() } else { Args { test: true, ..Args::default() } }
    }

    /// So many samples.
    pub(crate) fn samples(&self, all: u64) -> u64 {
        if self.test { 2 } else { all }
    }

    /// Whether somebody wants to know this row.
    pub(crate) fn wanted(&self, row: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| row.contains(word.as_str()))
    }
}

/// The time of the clock that all processes share, CLOCK_MONOTONIC, in nanoseconds.
pub(crate) fn now() -> u64 {
    Clock::Kernel.now()
}

/// Notes a span of the clock.
pub(crate) fn note(spans: &mut Histogram<u64>, from: u64, to: u64) {
    spans.saturating_record((to.saturating_sub(from) as f64 * PS) as u64);
}

/// A table of spans, in one unit.
pub(crate) struct Table<'a> {
    args: &'a Args,
    /// The name of the unit, and its nanoseconds.
    unit: (&'static str, f64),
}

impl Table<'_> {
    pub(crate) fn new<'a>(args: &'a Args, unit: (&'static str, f64)) -> Table<'a> {
        let what = format!("in {}", unit.0);
        println!(
            "{what:76} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "p50", "p90", "p99", "p99.9", "max", "samples"
        );
        Table { args, unit }
    }

    /// Prints a row, with a word at its end, and writes its file.
    pub(crate) fn row(&self, name: &str, spans: &Histogram<u64>, remark: &str) -> Result<()> {
        let shown = |ps: u64| format!("{:.1}", ps as f64 / PS / self.unit.1);
        let at = |quantile| shown(spans.value_at_quantile(quantile));
        let thousandth = if spans.len() < MANY { "-".into() } else { at(0.999) };
        println!(
            "{name:76} {:>8} {:>8} {:>8} {thousandth:>8} {:>8} {:>8}  {remark}",
            at(0.5),
            at(0.9),
            at(0.99),
            shown(spans.max()),
            spans.len()
        );
        if let Some(dir) = &self.args.hgrm {
            let words = name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
            let file = words.collect::<Vec<_>>().join("-").to_lowercase();
            write_histogram(dir, &file, spans)?;
        }
        Ok(())
    }
}

/// A folder for one ring.
pub(crate) struct Place {
    pub(crate) path: String,
    _folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Result<Place> {
        let folder = tempfile::Builder::new().prefix("quoit-bench-").tempdir_in("/dev/shm")?;
        let path = folder.path().join("ring").to_str().context("a path of text")?.to_owned();
        Ok(Place { path, _folder: folder })
    }
}

/// What this process is to do for another one.
pub(crate) struct Part {
    pub(crate) word: String,
    pub(crate) wait: Wait,
    pub(crate) path: String,
    pub(crate) more: String,
}

impl Part {
    /// `None` in the process that somebody has started.
    pub(crate) fn of_this_process() -> Result<Option<Part>> {
        let Ok(said) = std::env::var(PART) else { return Ok(None) };
        // Whatever happens to the first process, this one ends.
        set_pdeathsig(Signal::SIGKILL)?;
        let words: Vec<&str> = said.split(' ').collect();
        let &[word, wait, path, more] = words.as_slice() else { bail!("no part: {said}") };
        let wait = if wait == "Block" { Wait::Block } else { Wait::Adaptive };
        Ok(Some(Part { word: word.into(), wait, path: path.into(), more: more.into() }))
    }

    /// What is not over by then hangs: it ends, and the first process hears nothing of it any more.
    pub(crate) fn hurry(&self) {
        alarm::set(PATIENCE.as_secs() as u32);
    }
}

/// Says something to the first process.
pub(crate) fn say(what: &str) {
    println!("{what}");
}

/// Another process, which is at its end of the ring. It dies with its value.
pub(crate) struct Other {
    word: String,
    child: Child,
    orders: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Other {
    /// Starts it, and waits until it says that it is ready.
    pub(crate) fn start(word: &str, wait: Wait, place: &Place, more: &str) -> Result<Other> {
        let mut child = Command::new(std::env::current_exe()?)
            .env(PART, format!("{word} {wait:?} {} {more}", place.path))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take().context("its input")?;
        let said = BufReader::new(child.stdout.take().context("its output")?);
        let mut other = Other { word: word.into(), child, orders, said };
        other.hear()?;
        Ok(other)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it says.
    pub(crate) fn hear(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.said.read_line(&mut line)? == 0 {
            bail!("the process {} ended or hung before it said what it was to say", self.word);
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }

    /// Tells it something.
    pub(crate) fn order(&mut self, what: &str) -> Result<()> {
        Ok(writeln!(self.orders, "{what}")?)
    }

    /// kill -9; the moment before.
    pub(crate) fn kill(&mut self) -> Result<u64> {
        let killed = now();
        self.child.kill()?;
        Ok(killed)
    }

    /// Waits until it sleeps in the kernel on a word of memory.
    pub(crate) fn asleep(&self) -> Result<()> {
        // As the kernel prints it: the call's number first.
        let futex = format!("{} ", libc::SYS_futex);
        let says = |what, so: &dyn Fn(&str) -> bool| {
            fs::read_to_string(format!("/proc/{}/{what}", self.id())).is_ok_and(|text| so(&text))
        };
        until("somebody to fall asleep", Duration::from_micros(50), || {
            says("syscall", &|text| text.starts_with(&futex))
                && says("stat", &|text| text.contains(") S "))
        })
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something is so that only other processes can make so, and looks every so often.
pub(crate) fn until(what: &str, every: Duration, mut so: impl FnMut() -> bool) -> Result<()> {
    let began = Instant::now();
    while !so() {
        if began.elapsed() > PATIENCE {
            bail!("waited for {} s for {what}", PATIENCE.as_secs());
        }
        thread::sleep(every);
    }
    Ok(())
}
