//! A process of a sample: one end of two, or both ends in two threads.
//!
//! It knows its job, which comes over standard input with the descriptors of a transport. It refuses to know the other
//! process but by what arrives, and it judges nothing.

use std::io::{self, BufRead, BufReader, Write};
use std::ops::AddAssign;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use quoit_transports::{
    Board, Clock, Kit, Refusal, Rx, Shape, Side, Transport, Tx, Wrong, receive,
};
use serde::{Deserialize, Serialize};

use crate::crowd::part;
use crate::field::{Channel, Crowded, Entrant};
use crate::meter::Meter;
use crate::work::{Done, Ends, Limits, PS, Times, Work};

/// What one process is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Its place in the field.
    pub(crate) rank: usize,
    pub(crate) shape: Shape,
    /// Nothing where one process is both.
    pub(crate) side: Option<Side>,
    pub(crate) work: Work,
    pub(crate) limits: Limits,
    /// How long each look at the floor takes; none where calls are counted.
    pub(crate) floor: Option<Duration>,
    /// The client's and the server's.
    pub(crate) cores: Option<[usize; 2]>,
    pub(crate) clock: Clock,
    /// The message that the client spoils.
    pub(crate) spoil: Option<u64>,
    /// The names that the transport needs; its descriptors come with the job, behind the board's.
    pub(crate) names: Vec<String>,
}

impl Job {
    /// What the transport is made for.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }
}

/// What came of it at one end.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub(crate) figures: Option<Figures>,
    pub(crate) usage: Usage,
    /// The flags' round trip before and after, as the client sees it.
    pub(crate) floor: Option<[f64; 2]>,
    pub(crate) messages: u64,
    pub(crate) own_calls: u64,
}

/// What was timed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Picoseconds, and how often.
    pub(crate) times: Vec<(u64, u64)>,
    pub(crate) messages: u64,
    pub(crate) ns: f64,
}

/// What the work took of the machine.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) cpu_ns: u64,
    pub(crate) voluntary: u64,
    pub(crate) involuntary: u64,
}

/// The last word of a process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    /// Of each end that the process had, the client's first.
    Done(Vec<Outcome>),
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

/// What a process does that was started with [`END`](crate::END) as its one word: does a job and reports. `bench` is the
/// command that it is a part of.
///
/// # Errors
///
/// When it was not started by a bench, or its parent is gone.
pub fn end(bench: &str, field: &[Entrant]) -> anyhow::Result<()> {
    let control = io::stdin().as_fd().try_clone_to_owned().context("finding the parent")?;
    let mut control = UnixStream::from(control);
    if control.peer_addr().is_err() {
        bail!("this is a part of `{bench}`, which starts it");
    }
    // Whatever happens to the parent, nobody spins on.
    set_pdeathsig(Signal::SIGKILL)?;
    let (job, fds) = receive(&control).context("receiving the job")?;
    let job: Job = serde_json::from_str(&job).context("reading the job")?;
    let kit = Kit { fds, names: job.names.clone() };
    let entrant = field.get(job.rank).context("the job is for nobody here")?;
    let said = match entrant.run(job.work)(&job, kit, &mut control) {
        Ok(outcomes) => Said::Done(outcomes),
        Err(error) => Said::Failed(error.to_string(), is_wrong(&error)),
    };
    let mut text = serde_json::to_vec(&said)?;
    text.push(b'\n');
    control.write_all(&text)?;
    Ok(())
}

fn is_wrong(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Wrong>())
}

/// One end of two processes.
pub(crate) fn apart<T: Transport>(
    job: &Job,
    kit: Kit,
    control: &mut UnixStream,
) -> io::Result<Vec<Outcome>> {
    let side = job.side.ok_or_else(|| io::Error::other("a process that has no side"))?;
    pin(job, side)?;
    let (board, kit) = board(kit)?;
    let board = Board::open(board)?;
    let ends = T::ends(kit, side, &job.shape)?;
    begin(control)?;
    let mut ends = job.ends(ends, &board);
    let outcome = timed(job, side, &board, |meter| match side {
        Side::Client => ends.ask(job.work, &job.limits, meter),
        Side::Server => ends.answer(job.work, &job.limits, meter),
    })?;
    Ok(vec![outcome])
}

/// Both ends in two threads.
///
/// # Errors
///
/// Whatever one of them meets first.
pub fn together<T: Channel>(
    job: &Job,
    kit: Kit,
    control: &mut UnixStream,
) -> io::Result<Vec<Outcome>> {
    let (to, from) = T::make(&job.shape).map_err(refused)?;
    let (back, answered) = T::make(&job.shape).map_err(refused)?;
    begin(control)?;
    both(job, kit, [(to, answered), (back, from)], |job, side, [board, _], ends| {
        let board = Board::open(board)?;
        let mut ends = job.ends(ends, &board);
        timed(job, side, &board, |meter| match side {
            Side::Client => ends.ask(job.work, &job.limits, meter),
            Side::Server => ends.answer(job.work, &job.limits, meter),
        })
    })
}

/// Two senders and two receivers of one channel: one of each on each of the two processors.
///
/// # Errors
///
/// Whatever one of them meets first.
pub fn crowd<T: Crowded>(
    job: &Job,
    kit: Kit,
    control: &mut UnixStream,
) -> io::Result<Vec<Outcome>> {
    let ends = T::make(&job.shape).map_err(refused)?;
    let more = T::more(&ends.0, &ends.1);
    begin(control)?;
    both(job, kit, [ends, more], part)
}

/// Runs both sides, each in a thread of its own, until both are done or one has failed; then the other is left to the end
/// of the process.
fn both<E: Send + 'static>(
    job: &Job,
    kit: Kit,
    ends: [E; 2],
    part: fn(&Job, Side, [OwnedFd; 2], E) -> io::Result<Outcome>,
) -> io::Result<Vec<Outcome>> {
    let (shared, _) = board(kit)?;
    let (say, hear) = mpsc::channel();
    for (side, ends) in [Side::Client, Side::Server].into_iter().zip(ends) {
        let (job, say) = (job.clone(), say.clone());
        let boards = [shared.try_clone()?, shared.try_clone()?];
        thread::spawn(move || {
            let run = || {
                pin(&job, side)?;
                part(&job, side, boards, ends)
            };
            // Nobody hears it when the other has failed.
            let _ = say.send((side, run()));
        });
    }
    drop(say);
    let mut outcomes = [None, None];
    for (side, outcome) in hear {
        outcomes[usize::from(side == Side::Server)] = Some(outcome?);
    }
    let [Some(client), Some(server)] = outcomes else {
        return Err(io::Error::other("one of the two threads of the bench has panicked"));
    };
    Ok(vec![client, server])
}

fn refused(refusal: Refusal) -> io::Error {
    match refusal {
        Refusal::Here(why) => io::Error::other(why),
        Refusal::Failed(error) => error,
    }
}

/// The board, which comes before all that is the transport's.
fn board(mut kit: Kit) -> io::Result<(OwnedFd, Kit)> {
    if kit.fds.is_empty() {
        return Err(io::Error::other("no board came with the job"));
    }
    Ok((kit.fds.remove(0), kit))
}

/// The calling thread goes to its processor.
fn pin(job: &Job, side: Side) -> io::Result<()> {
    if let Some([client, server]) = job.cores {
        let mut cores = CpuSet::new();
        cores.set(if side == Side::Client { client } else { server })?;
        sched_setaffinity(Pid::from_raw(0), &cores)?;
    }
    Ok(())
}

/// Ready: the names may go. And then all are told to begin.
fn begin(control: &mut UnixStream) -> io::Result<()> {
    control.write_all(b"ready\n")?;
    let mut go = String::new();
    if BufReader::new(control).read_line(&mut go)? == 0 {
        return Err(io::Error::other("the parent is gone"));
    }
    Ok(())
}

impl Job {
    fn ends<'a, T, R>(&self, (tx, rx): (T, R), board: &'a Board) -> Ends<'a, T, R>
    where
        T: Tx,
        R: Rx,
    {
        let (clock, size, spoil) = (self.clock, self.shape.size, self.spoil);
        Ends { tx, rx, board, clock, size, spoil }
    }

    fn who(&self) -> UsageWho {
        match self.side {
            Some(_) => UsageWho::RUSAGE_SELF,
            None => UsageWho::RUSAGE_THREAD,
        }
    }
}

/// The work of one side between two looks at the floor, and what it took.
pub(crate) fn timed(
    job: &Job,
    side: Side,
    board: &Board,
    work: impl FnOnce(&mut Meter<'_>) -> io::Result<Done>,
) -> io::Result<Outcome> {
    let look = || match (job.floor, side) {
        (None, _) => None,
        (Some(run), Side::Client) => Some(ping(board, job.clock, run)),
        (Some(_), Side::Server) => {
            pong(board);
            None
        }
    };
    let before = look();
    // Where calls are counted nobody looks at the floor.
    let mut meter = Meter::new(board, job.who(), job.floor.is_none());
    let Done { times, messages, own_calls } = work(&mut meter)?;
    let usage = meter.usage()?;
    let after = look();
    Ok(Outcome {
        figures: times.as_ref().map(Figures::from),
        usage,
        floor: before.zip(after).map(|(before, after)| [before, after]),
        messages,
        own_calls,
    })
}

impl Usage {
    /// Of the process or the thread, so far.
    pub(crate) fn of(who: UsageWho) -> io::Result<Usage> {
        let usage = getrusage(who)?;
        let ns = |time: nix::sys::time::TimeVal| {
            time.tv_sec() as u64 * 1_000_000_000 + time.tv_usec() as u64 * 1000
        };
        Ok(Usage {
            cpu_ns: ns(usage.user_time()) + ns(usage.system_time()),
            voluntary: u64::try_from(usage.voluntary_context_switches()).unwrap_or(0),
            involuntary: u64::try_from(usage.involuntary_context_switches()).unwrap_or(0),
        })
    }

    /// From then to now.
    pub(crate) fn since(self, then: Usage) -> Usage {
        Usage {
            cpu_ns: self.cpu_ns - then.cpu_ns,
            voluntary: self.voluntary - then.voluntary,
            involuntary: self.involuntary - then.involuntary,
        }
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Usage) {
        self.cpu_ns += other.cpu_ns;
        self.voluntary += other.voluntary;
        self.involuntary += other.involuntary;
    }
}

const THERE: usize = 0;
const BACK: usize = 1;
/// This bit in the flag ends a ping-pong.
const STOP: u64 = 1 << 63;
/// Who has looked so often in vain shares the core with the other, and gives way.
const LOOKS: u32 = 4_000;

/// Looks at a word until it is as it should be.
pub(crate) fn until(word: &AtomicU64, answered: impl Fn(u64) -> bool) -> u64 {
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
    let mut times = crate::work::histogram();
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
    crate::work::typical(&times)
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
