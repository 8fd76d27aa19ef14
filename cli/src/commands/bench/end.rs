//! One of the two processes of a sample.
//!
//! It knows its job, which comes over standard input with the descriptors of a transport. It refuses to know the other
//! process but by what arrives, and it judges nothing.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quoit_transports::{Board, Clock, Kit, Name, Shape, Side, Transport, Wrong, receive, with};
use serde::{Deserialize, Serialize};

use super::work::{Done, Ends, Limits, PS, Times, Work};
use crate::exit::End;

/// The other process of `quoit bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct EndArgs {}

/// What one process is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) transport: Name,
    pub(super) shape: Shape,
    pub(super) side: Side,
    pub(super) work: Work,
    pub(super) limits: Limits,
    /// How long each look at the floor takes; none where calls are counted.
    pub(super) floor: Option<Duration>,
    pub(super) core: Option<usize>,
    pub(super) clock: Clock,
    /// The message that the client spoils.
    pub(super) spoil: Option<u64>,
    /// The names that the transport needs; its descriptors come with the job, behind the board's.
    pub(super) names: Vec<String>,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub(super) figures: Option<Figures>,
    pub(super) usage: Usage,
    /// The flags' round trip before and after, as the client sees it.
    pub(super) floor: Option<[f64; 2]>,
    pub(super) messages: u64,
    pub(super) own_calls: u64,
}

/// What was timed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Figures {
    /// Picoseconds, and how often.
    pub(super) times: Vec<(u64, u64)>,
    pub(super) messages: u64,
    pub(super) ns: f64,
}

/// What the work took of the machine.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Usage {
    pub(super) cpu_ns: u64,
    pub(super) voluntary: u64,
    pub(super) involuntary: u64,
}

/// The last word of a process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Said {
    Done(Outcome),
    /// What went wrong; and whether it was a message that arrived otherwise than it was sent.
    Failed(String, bool),
}

impl From<&Times> for Figures {
    fn from(times: &Times) -> Figures {
        let steps = times.histogram.iter_recorded();
        Figures {
            times: steps.map(|s| (s.value_iterated_to(), s.count_since_last_iteration())).collect(),
            messages: times.messages,
            ns: times.ns,
        }
    }
}

/// The command `bench-end`: does a job and reports.
pub(crate) fn end(_: &EndArgs) -> anyhow::Result<End> {
    let control = io::stdin().as_fd().try_clone_to_owned().context("finding the parent")?;
    let mut control = UnixStream::from(control);
    if control.peer_addr().is_err() {
        bail!("this is a part of `quoit bench`, which starts it");
    }
    // Whatever happens to the parent, nobody spins on.
    set_pdeathsig(Signal::SIGKILL)?;
    let (job, fds) = receive(&control).context("receiving the job")?;
    let job: Job = serde_json::from_str(&job).context("reading the job")?;
    let mut fds = fds.into_iter();
    let board = fds.next().context("no board came with the job")?;
    let kit = Kit { fds: fds.collect(), names: job.names.clone() };
    let said = match with!(job.transport, T => work::<T>(&job, board, kit, &mut control)) {
        Ok(outcome) => Said::Done(outcome),
        Err(error) => Said::Failed(error.to_string(), is_wrong(&error)),
    };
    let mut text = serde_json::to_vec(&said)?;
    text.push(b'\n');
    control.write_all(&text)?;
    Ok(End::Done)
}

fn is_wrong(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Wrong>())
}

fn work<T: Transport>(
    job: &Job,
    board: std::os::fd::OwnedFd,
    kit: Kit,
    control: &mut UnixStream,
) -> io::Result<Outcome> {
    if let Some(core) = job.core {
        let mut cores = CpuSet::new();
        cores.set(core)?;
        sched_setaffinity(Pid::from_raw(0), &cores)?;
    }
    let board = Board::open(board)?;
    let (tx, rx) = T::ends(kit, job.side, &job.shape)?;
    let (clock, size, spoil) = (job.clock, job.shape.size, job.spoil);
    let mut ends = Ends { tx, rx, board: &board, clock, size, spoil };

    // Ready: the names may go. And then both are told to begin.
    control.write_all(b"ready\n")?;
    let mut go = String::new();
    if BufReader::new(&mut *control).read_line(&mut go)? == 0 {
        return Err(io::Error::other("the parent is gone"));
    }

    let look = |board: &Board| match (job.floor, job.side) {
        (None, _) => None,
        (Some(run), Side::Client) => Some(ping(board, clock, run)),
        (Some(_), Side::Server) => {
            pong(board);
            None
        }
    };
    let before = look(&board);
    let this = Pid::this();
    let mark = || match job.floor {
        Some(_) => Ok(()),
        // Calls are counted between two of these (`calls`).
        None => kill(this, Signal::SIGURG),
    };
    let start = usage()?;
    mark()?;
    let done = match job.side {
        Side::Client => ends.ask(job.work, &job.limits),
        Side::Server => ends.answer(job.work, &job.limits),
    };
    mark()?;
    let Done { times, messages, own_calls } = done?;
    let end = usage()?;
    let after = look(&board);
    Ok(Outcome {
        figures: times.as_ref().map(Figures::from),
        usage: Usage {
            cpu_ns: end.cpu_ns - start.cpu_ns,
            voluntary: end.voluntary - start.voluntary,
            involuntary: end.involuntary - start.involuntary,
        },
        floor: before.zip(after).map(|(before, after)| [before, after]),
        messages,
        own_calls,
    })
}

fn usage() -> io::Result<Usage> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let ns = |time: nix::sys::time::TimeVal| {
        time.tv_sec() as u64 * 1_000_000_000 + time.tv_usec() as u64 * 1000
    };
    Ok(Usage {
        cpu_ns: ns(usage.user_time()) + ns(usage.system_time()),
        voluntary: u64::try_from(usage.voluntary_context_switches()).unwrap_or(0),
        involuntary: u64::try_from(usage.involuntary_context_switches()).unwrap_or(0),
    })
}

const THERE: usize = 0;
const BACK: usize = 1;
/// This bit in the flag ends a ping-pong.
const STOP: u64 = 1 << 63;
/// Who has looked so often in vain shares the core with the other, and gives way.
const LOOKS: u32 = 4_000;

fn until(word: &std::sync::atomic::AtomicU64, answered: impl Fn(u64) -> bool) -> u64 {
    let mut looks = 0;
    loop {
        // Acquire, and Release where it is stored: the flags are all that is said, and they are said in order.
        let flag = word.load(Acquire);
        if answered(flag) {
            return flag;
        }
        looks += 1;
        if looks % LOOKS == 0 {
            std::thread::yield_now();
        }
    }
}

/// The client's side of a ping-pong of bare flags: nanoseconds of a typical round trip.
fn ping(board: &Board, clock: Clock, run: Duration) -> f64 {
    let (there, back) = (board.word(THERE), board.word(BACK));
    let mut flag = there.load(Acquire) & !STOP;
    let mut times = super::work::histogram();
    let end = clock.now() + clock.ticks(run);
    loop {
        let start = clock.now();
        flag += 1;
        there.store(flag, Release);
        until(back, |answer| answer == flag);
        let now = clock.now();
        times.saturating_record((clock.ns(now.saturating_sub(start)) * PS) as u64);
        if now >= end {
            break;
        }
    }
    let last = STOP | (flag + 1);
    there.store(last, Release);
    until(back, |answer| answer == last);
    super::work::typical(&times)
}

/// The server's side of [`ping`].
fn pong(board: &Board) {
    let (there, back) = (board.word(THERE), board.word(BACK));
    let mut last = back.load(Acquire);
    loop {
        last = until(there, |flag| flag != last);
        back.store(last, Release);
        if last & STOP != 0 {
            return;
        }
    }
}
