//! `quoit demo --mpmc`: several processes at one ring, one of which is killed.
//!
//! The parent makes the ring and starts itself again as its workers. Senders
//! number their messages. A receiver checks what it has in hand, reports the
//! numbers to the parent, and only then releases it: so the parent knows of every
//! message who had it, whenever a receiver dies.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{self, Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use quoit::Options;
use quoit::mpmc::{Receiver, Sender};
use serde::Serialize;

use super::{Args, Name};
use crate::exit::{self, End};
use crate::picture;
use crate::signals::{SLICE, Signals};

const SENDERS: usize = 2;
const RECEIVERS: usize = 2;
const SLOTS: usize = 1024;
/// A ring of large messages has fewer slots.
const ROOM: usize = 1 << 26;
const TIME: Duration = Duration::from_secs(2);
/// How long to wait for a receiver to stand still.
const PATIENCE: Duration = Duration::from_secs(2);

/// Messages that a receiver has in hand at once. What it reports of them is one
/// write, short enough for a pipe to take it whole or not at all.
const BATCH: usize = 128;
/// What it reports first: that it is there.
const HERE: u64 = u64::MAX;
/// In a report: the message had been handed out before.
const REDELIVERED: u64 = 1 << 63;
/// A message's number: its sender in the upper bits, its place in the lower.
const PLACE_BITS: u32 = 48;
const PLACE: u64 = (1 << PLACE_BITS) - 1;

#[derive(Debug, Serialize)]
struct Report {
    size: usize,
    slots: usize,
    seconds: f64,
    processes: Processes,
    sent: u64,
    messages_per_second: f64,
    bytes_per_second: f64,
    received: u64,
    redelivered: u64,
    reported_twice: u64,
    lost: u64,
}

#[derive(Debug, Serialize)]
struct Processes {
    parent: u32,
    senders: Vec<u32>,
    receivers: Vec<u32>,
    killed: u32,
    replacement: u32,
}

pub(super) fn run(args: &Args) -> anyhow::Result<End> {
    let size = args.size;
    if size < 8 {
        let text = "with --mpmc a message carries its number: a --size is 8 or more";
        return Err(exit::failure(exit::USAGE, text));
    }
    let signals = Signals::listen().context("listening for signals")?;
    let time = args.seconds.map_or(TIME, Duration::from_secs);
    let slots = SLOTS.min(1 << (ROOM / size).max(2).ilog2());

    let name = Name::new("crew");
    quoit::mpmc::create(&name.0, &Options::new().capacity(slots).max_len(size))?;
    let mut crew = Crew::new(&name.0, size);
    let outcome = show(&mut crew, time, &signals, name);
    if let Some(end) = signals.asked() {
        return Ok(end);
    }
    let (seconds, processes, books) = outcome?;
    let (sent, received) = books.check()?;
    let report = Report {
        size,
        slots,
        seconds,
        processes,
        sent,
        messages_per_second: sent as f64 / seconds,
        bytes_per_second: sent as f64 * size as f64 / seconds,
        received,
        redelivered: books.again.len() as u64,
        reported_twice: books.twice,
        lost: sent - received,
    };
    if args.json {
        picture::print_json(&report)?;
    } else {
        picture::print(page(&report, time / 2).as_bytes())?;
    }
    Ok(End::Done)
}

/// From the first worker to the last: how long, who, and what they reported.
fn show(
    crew: &mut Crew,
    time: Duration,
    signals: &Signals,
    name: Name,
) -> anyhow::Result<(f64, Processes, Books)> {
    let mut receivers = Vec::new();
    for _ in 0..RECEIVERS {
        receivers.push(crew.start(Role::Receiver, 0)?);
    }
    let mut senders = Vec::new();
    let start = Instant::now();
    for number in 0..SENDERS {
        senders.push(crew.start(Role::Sender, number)?);
    }
    crew.work_until(start + time / 2, signals)?;
    let killed = receivers[0];
    crew.kill_in_the_middle(killed)?;
    if crew.next_end(signals, None)? != Some((killed, false)) {
        return Err(gone());
    }
    let replacement = crew.start(Role::Receiver, 0)?;
    // Everybody is there.
    drop(name);
    crew.work_until(start + time, signals)?;

    crew.leave.clear();
    for _ in 0..RECEIVERS + SENDERS {
        if !crew.next_end(signals, None)?.is_some_and(|(_, well)| well) {
            return Err(gone());
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let parent = process::id();
    let processes = Processes { parent, senders, receivers, killed, replacement };
    Ok((seconds, processes, std::mem::take(&mut lock(&crew.books))))
}

fn gone() -> anyhow::Error {
    exit::failure(exit::PEER_DIED, "one of the other processes of the demo died")
}

fn page(report: &Report, half: Duration) -> String {
    let Report { size, slots, processes, sent, redelivered, .. } = report;
    let again = match report.reported_twice {
        0 => String::new(),
        twice => format!("; {twice} of them it was done with and had not released"),
    };
    format!(
        "\
one ring of {slots} slots; {SENDERS} senders and {RECEIVERS} receivers, each a process of its own
sent         {sent} messages of {size} bytes in {:.2} s: {} messages/s, {:.0} MB/s
killed       receiver {}, with SIGKILL after {}; receiver {} took its place
redelivered  {redelivered} messages that it had in hand, each marked{again}
received     {} messages, all that were sent, each checked; {} lost
",
        report.seconds,
        rate(report.messages_per_second),
        report.bytes_per_second / 1e6,
        processes.killed,
        humantime::format_duration(half),
        processes.replacement,
        report.received,
        report.lost,
    )
}

fn rate(per_second: f64) -> String {
    match per_second {
        1e6.. => format!("{:.2} million", per_second / 1e6),
        1e4.. => format!("{:.0} thousand", per_second / 1e3),
        _ => format!("{per_second:.0}"),
    }
}

/// The workers by their pids, and what they reported. Dropped, it ends them.
#[derive(Debug)]
struct Crew {
    ring: String,
    size: usize,
    workers: Vec<Worker>,
    /// Closed, these tell the senders to leave.
    leave: Vec<ChildStdin>,
    books: Arc<Mutex<Books>>,
    /// Told by whoever reads the reports, when there will be no more of them.
    silent: (mpsc::Sender<u32>, mpsc::Receiver<u32>),
}

#[derive(Debug)]
struct Worker {
    child: Child,
    /// While it is locked, the reports are not read.
    gate: Arc<Mutex<()>>,
}

impl Crew {
    fn new(ring: &str, size: usize) -> Crew {
        Crew {
            ring: ring.into(),
            size,
            workers: Vec::new(),
            leave: Vec::new(),
            books: Arc::default(),
            silent: mpsc::channel(),
        }
    }

    /// Starts a worker; a receiver is at the ring when this returns.
    fn start(&mut self, role: Role, number: usize) -> anyhow::Result<u32> {
        let word = |number: usize| number.to_string();
        let mut child = Command::new(env::current_exe().context("finding this program")?)
            .args(["demo-worker", role.word(), &self.ring, &word(number), &word(self.size)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting another process")?;
        let (pid, pipe) = (child.id(), child.stdout.take());
        self.leave.extend(child.stdin.take().filter(|_| role == Role::Sender));
        let gate = Arc::default();
        self.workers.push(Worker { child, gate: Arc::clone(&gate) });
        let mut pipe = BufReader::new(pipe.context("its reports")?);
        if role == Role::Receiver {
            pipe.read_exact(&mut [0; 8]).map_err(|_| gone())?;
        }
        let (books, silent) = (Arc::clone(&self.books), self.silent.0.clone());
        thread::spawn(move || {
            // However it ends, there is no more to come.
            let _ = read(pipe, |numbers| {
                drop(lock(&gate));
                lock(&books).note(role, number, numbers);
            });
            let _ = silent.send(pid);
        });
        Ok(pid)
    }

    /// Lets all of them work.
    fn work_until(&mut self, end: Instant, signals: &Signals) -> anyhow::Result<()> {
        match self.next_end(signals, Some(end))? {
            None => Ok(()),
            Some(_) => Err(gone()),
        }
    }

    /// Waits for a worker to end: who it was, and whether it ended well. `None` when
    /// nobody did in time.
    fn next_end(
        &mut self,
        signals: &Signals,
        until: Option<Instant>,
    ) -> anyhow::Result<Option<(u32, bool)>> {
        loop {
            if signals.asked().is_some() {
                bail!("interrupted");
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            match self.silent.1.recv_timeout(left.map_or(SLICE, |left| left.min(SLICE))) {
                Ok(pid) => {
                    let status = self.worker(pid)?.child.wait()?;
                    return Ok(Some((pid, status.success())));
                }
                Err(RecvTimeoutError::Timeout) if left == Some(Duration::ZERO) => return Ok(None),
                Err(_) => {}
            }
        }
    }

    /// Kills a receiver while it has messages in hand: it has them until its report
    /// is read.
    fn kill_in_the_middle(&mut self, pid: u32) -> anyhow::Result<()> {
        let gate = Arc::clone(&self.worker(pid)?.gate);
        let _closed = lock(&gate);
        let end = Instant::now() + PATIENCE;
        // When some looks in a row see the same messages in its hands, its pipe is full.
        let (mut before, mut looks) = (None, 0);
        while looks < 5 && Instant::now() < end {
            let info = quoit::inspect(&self.ring)?;
            let seat = info.seats.iter().find(|seat| seat.pid == pid && seat.reading > 0);
            let now = seat.map(|seat| (seat.reading, seat.received));
            looks = if now.is_some() && now == before { looks + 1 } else { 0 };
            before = now;
        }
        self.worker(pid)?.child.kill().context("killing another process")
    }

    fn worker(&mut self, pid: u32) -> anyhow::Result<&mut Worker> {
        let mut workers = self.workers.iter_mut();
        workers.find(|worker| worker.child.id() == pid).context("whose pid is that?")
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        // All of them before any is waited for: none shall complain of another's end.
        // Each call fails for those that have ended, which is as well.
        for worker in &mut self.workers {
            let _ = worker.child.kill();
        }
        for worker in &mut self.workers {
            let _ = worker.child.wait();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands on the numbers that a worker reports, until it ends.
fn read(mut pipe: impl BufRead, note: impl Fn(&[[u8; 8]])) -> io::Result<()> {
    loop {
        // Reports are multiples of 8 bytes, and a pipe keeps each of them together.
        let (numbers, _) = pipe.fill_buf()?.as_chunks();
        if numbers.is_empty() {
            return Ok(());
        }
        note(numbers);
        let read = size_of_val(numbers);
        pipe.consume(read);
    }
}

/// Every message that was sent, and every one that came.
#[derive(Debug, Default)]
struct Books {
    sent: [u64; SENDERS],
    came: [Places; SENDERS],
    /// Those that were handed out before.
    again: HashSet<u64>,
    /// Of those, how many the killed one had reported too.
    twice: u64,
    /// Others that came twice, which cannot be.
    unmarked: u64,
}

impl Books {
    /// Takes a report down. A sender's is how many it sent.
    fn note(&mut self, role: Role, sender: usize, numbers: &[[u8; 8]]) {
        for number in numbers {
            let number = u64::from_le_bytes(*number);
            match role {
                Role::Sender => self.sent[sender] = number,
                Role::Receiver => self.came(number & !REDELIVERED, number & REDELIVERED != 0),
            }
        }
    }

    fn came(&mut self, number: u64, marked: bool) {
        if marked {
            self.again.insert(number);
        }
        let (sender, place) = ((number >> PLACE_BITS) as usize, number & PLACE);
        let is_new = self.came.get_mut(sender).is_some_and(|places| places.insert(place));
        // The pipes are read in no order: the mark may come before the first report.
        match is_new {
            true => {}
            false if self.again.contains(&number) => self.twice += 1,
            false => self.unmarked += 1,
        }
    }

    /// How many were sent and how many of them came: it has to be all.
    fn check(&self) -> anyhow::Result<(u64, u64)> {
        let sent = self.sent.iter().sum();
        let received = self.came.iter().map(Places::count).sum();
        let unmarked = self.unmarked;
        ensure!(unmarked == 0, "{unmarked} messages came twice, without a mark");
        for (places, sent) in self.came.iter().zip(self.sent) {
            let whole = places.below == sent && places.beyond.is_empty();
            ensure!(whole, "of {sent} messages of a sender, {} came", places.count());
        }
        Ok((sent, received))
    }
}

/// A set of numbers that come nearly in order.
#[derive(Debug, Default)]
struct Places {
    /// All of these are in it.
    below: u64,
    /// Which of the next are.
    beyond: VecDeque<bool>,
}

impl Places {
    /// `false` if it was there.
    fn insert(&mut self, place: u64) -> bool {
        let Some(at) = place.checked_sub(self.below) else { return false };
        let at = at as usize;
        if self.beyond.len() <= at {
            self.beyond.resize(at + 1, false);
        }
        let is_new = !std::mem::replace(&mut self.beyond[at], true);
        while self.beyond.front() == Some(&true) {
            self.beyond.pop_front();
            self.below += 1;
        }
        is_new
    }

    fn count(&self) -> u64 {
        self.below + self.beyond.iter().filter(|there| **there).count() as u64
    }
}

/// One of the other processes of a demo with --mpmc.
#[derive(Debug, clap::Args)]
pub(crate) struct WorkerArgs {
    role: Role,
    ring: String,
    /// Which of the senders.
    number: u64,
    /// Bytes of a message.
    size: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    Sender,
    Receiver,
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Role::Sender => "sender",
            Role::Receiver => "receiver",
        }
    }
}

pub(crate) fn worker(args: &WorkerArgs) -> anyhow::Result<End> {
    // Past the line buffer of `Stdout`: each report is one write.
    let pipe = File::from(io::stdout().as_fd().try_clone_to_owned().context("standard output")?);
    match args.role {
        Role::Sender => send(args, pipe),
        Role::Receiver => receive(args, pipe),
    }
    .map(|()| End::Done)
}

/// Sends numbered messages until it is told to leave, and reports how many.
fn send(args: &WorkerArgs, mut pipe: File) -> anyhow::Result<()> {
    let sender = Sender::open(&args.ring)?;
    let mut message = vec![0; args.size];
    let leave = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&leave);
    thread::spawn(move || {
        // Nothing comes: the parent closes its end, or dies.
        let _ = io::stdin().read(&mut [0]);
        told.store(true, Ordering::Relaxed);
    });
    let mut sent = 0_u64;
    // Relaxed: that it is told is all that there is to know.
    while !leave.load(Ordering::Relaxed) {
        fill(&mut message, args.number << PLACE_BITS | sent);
        sender.send(&message)?;
        sent += 1;
    }
    pipe.write_all(&sent.to_le_bytes())?;
    Ok(())
}

/// Receives until the last sender has left, checks each message and reports its
/// number.
fn receive(args: &WorkerArgs, mut pipe: File) -> anyhow::Result<()> {
    let receiver = Receiver::open(&args.ring)?;
    pipe.write_all(&HERE.to_le_bytes())?;
    let (mut held, mut report) = (Vec::new(), Vec::new());
    let (mut message, mut wanted) = (vec![0; args.size], vec![0; args.size]);
    loop {
        match receiver.recv_batch(&mut held, BATCH) {
            Ok(_) => {}
            Err(error) if error.is_disconnected() => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        report.clear();
        for in_hand in &held {
            ensure!(in_hand.copy_to(&mut message) == args.size, "a message was cut");
            let number = u64::from_le_bytes(*message.first_chunk().context("a number")?);
            fill(&mut wanted, number);
            ensure!(message == wanted, "a message is not what was sent");
            let mark = if in_hand.redelivered() { REDELIVERED } else { 0 };
            report.extend((number | mark).to_le_bytes());
        }
        pipe.write_all(&report)?;
        // Now they are released.
        held.clear();
    }
}

/// A message: its number, and bytes that follow from it.
fn fill(message: &mut [u8], number: u64) {
    let mut word = number;
    for bytes in message.chunks_mut(8) {
        bytes.copy_from_slice(&word.to_le_bytes()[..bytes.len()]);
        word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    }
}
