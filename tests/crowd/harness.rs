//! Rings in folders of their own, processes that work at them, and a watchdog.
//!
//! Knows files, processes and signals. Knows nothing of what the processes do.

use std::cell::{Cell, RefCell};
use std::env;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use quoit::{Delivery, Info, Options};

use crate::journal::Journal;
use crate::notes::{self, GO, READY, THREAD};
pub(crate) use crate::random::Random;
use crate::random::seed;

/// Whether the claims run at their full size.
pub(crate) fn full() -> bool {
    env::var("QUOIT_CROWD").is_ok_and(|size| size == "full")
}

/// One number for everyday, another at full size.
pub(crate) fn sized(everyday: u64, at_full: u64) -> u64 {
    if full() { at_full } else { everyday }
}

/// A test that makes no progress for so long hangs; `QUOIT_TEST_PATIENCE` says how many seconds, for one that is known to.
fn patience() -> Duration {
    let told = env::var("QUOIT_TEST_PATIENCE").ok().map(|told| told.parse().unwrap());
    Duration::from_secs(told.unwrap_or_else(|| sized(60, 300)))
}

/// Says on the real standard error, which no test harness holds back.
pub(crate) fn say(line: &str) {
    let line = format!("{line}\n");
    // SAFETY: the bytes live during the call, which reads as many as they are.
    unsafe { libc::write(2, line.as_ptr().cast(), line.len()) };
}

impl Random {
    /// The same moments again with `QUOIT_TEST_SEED`.
    pub(crate) fn seeded(what: &str) -> Random {
        let seed = seed();
        say(&format!("{what}: seed {seed}; QUOIT_TEST_SEED={seed} draws the same again"));
        Random(seed)
    }
}

/// The time of the machine's clock that all processes share, in nanoseconds.
pub(crate) fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live structure of this frame.
    let rc = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    assert_eq!(rc, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Maps the first `len` bytes of a file, shared.
pub(crate) fn map(path: &str, len: usize) -> memmap2::MmapRaw {
    let file = File::options().read(true).write(true).open(path).unwrap();
    memmap2::MmapOptions::new().len(len).map_raw(&file).unwrap()
}

/// Ends the whole test when nothing moves any more.
pub(crate) struct Watchdog {
    alive: Arc<AtomicU64>,
    _watched: mpsc::Sender<()>,
}

impl Watchdog {
    /// `picture` says what is seen then; `folder` is removed, because nobody unwinds.
    pub(crate) fn new(
        folder: Option<std::path::PathBuf>,
        picture: impl FnOnce() -> String + Send + 'static,
    ) -> Watchdog {
        let alive = Arc::new(AtomicU64::new(0));
        let (_watched, gone) = mpsc::channel::<()>();
        let seen = Arc::clone(&alive);
        std::thread::spawn(move || {
            let mut last = 0;
            while gone.recv_timeout(patience()) == Err(mpsc::RecvTimeoutError::Timeout) {
                let now = seen.load(Ordering::SeqCst);
                if now == last {
                    say(&format!("a test hangs: {}", picture()));
                    folder.map(fs::remove_dir_all);
                    std::process::abort();
                }
                last = now;
            }
        });
        Watchdog { alive, _watched }
    }

    /// Something moved.
    pub(crate) fn alive(&self) {
        self.alive.fetch_add(1, Ordering::SeqCst);
    }
}

/// How much longer than a millisecond the machine lets somebody sleep who asks for one: what it does to calls with a deadline,
/// whoever makes them.
pub(crate) struct Meter {
    over: Arc<AtomicU64>,
    worst: Arc<AtomicU64>,
}

impl Meter {
    pub(crate) fn start() -> Meter {
        let meter = Meter { over: Arc::default(), worst: Arc::default() };
        let (over, worst) = (Arc::clone(&meter.over), Arc::clone(&meter.worst));
        std::thread::spawn(move || {
            while over.load(Ordering::SeqCst) == 0 {
                let began = now();
                std::thread::sleep(Duration::from_millis(1));
                worst.fetch_max(now() - began - 1_000_000, Ordering::SeqCst);
            }
        });
        meter
    }

    /// The worst so far, in milliseconds.
    pub(crate) fn worst(&self) -> f64 {
        self.worst.load(Ordering::SeqCst) as f64 / 1e6
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.over.store(1, Ordering::SeqCst);
    }
}

/// What a ring is made as.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) slots: u64,
    pub(crate) max_len: u64,
    pub(crate) start: u64,
    pub(crate) delivery: Delivery,
    pub(crate) keep_open: bool,
}

impl Default for Shape {
    fn default() -> Shape {
        let delivery = Delivery::AtLeastOnce;
        Shape { slots: 16, max_len: 512, start: 0, delivery, keep_open: false }
    }
}

/// A ring in a folder of its own.
pub(crate) struct Ring {
    pub(crate) path: String,
    pub(crate) shape: Shape,
    control: Journal,
    next: Cell<u64>,
    nursery: Option<Rc<Nursery>>,
    watchdog: Watchdog,
    _folder: tempfile::TempDir,
}

/// How many seats there are.
pub(crate) const ALL_SEATS: usize = 1024;

impl Ring {
    /// A ring of slots.
    pub(crate) fn new(shape: Shape) -> Ring {
        let options = Options::new()
            .capacity(shape.slots as usize)
            .max_len(shape.max_len as usize)
            .start_position(shape.start)
            .delivery(shape.delivery)
            .keep_open(shape.keep_open);
        Ring::made(shape, |path| quoit::mpmc::create(path, &options).unwrap())
    }

    /// Any ring.
    pub(crate) fn made(shape: Shape, make: impl FnOnce(&str)) -> Ring {
        let folder = tempfile::Builder::new().prefix("quoit-test-").tempdir_in("/dev/shm").unwrap();
        let path = folder.path().join("ring").into_os_string().into_string().unwrap();
        make(&path);
        let control = Journal::create(&format!("{path}.control"), 8);
        let name = path.clone();
        let picture = move || format!("its ring: {:#?}", quoit::inspect(&name));
        let watchdog = Watchdog::new(Some(folder.path().to_owned()), picture);
        let next = Cell::new(1);
        Ring { path, shape, control, next, nursery: None, watchdog, _folder: folder }
    }

    /// From now on processes are forked by one that has opened nothing, and not started by running a program: several times
    /// as many in the same time.
    pub(crate) fn with_nursery(mut self) -> Ring {
        self.nursery = Some(Rc::new(Nursery::start(&self.path)));
        self
    }

    /// What there is to see.
    pub(crate) fn info(&self) -> Info {
        quoit::inspect(&self.path).unwrap()
    }

    /// Something moved.
    pub(crate) fn alive(&self) {
        self.watchdog.alive();
    }

    /// Begins (1) or ends (2) the work of all.
    pub(crate) fn signal(&self, word: u64) {
        self.control.set(0, word);
    }

    /// How many deaths were found.
    pub(crate) fn deaths(&self) -> u64 {
        let info = self.info();
        info.sender.deaths + info.receiver.deaths
    }

    /// A process that does `work`, with a journal that has room for `log` words of its own.
    pub(crate) fn process(&self, work: &str, log: usize) -> Process {
        let number = self.next.get();
        self.next.set(number + 1);
        Process::start(self, number, work, log)
    }

    /// Waits until something is so that only other processes can make so; they must not end meanwhile.
    ///
    /// There is no event for what is written into memory: this looks again and again.
    pub(crate) fn wait(&self, processes: &mut [&mut Process], mut so: impl FnMut() -> bool) {
        while !so() {
            for process in processes.iter_mut() {
                process.still_there();
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        self.alive();
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(&format!("its ring: {:#?}", quoit::inspect(&self.path)));
        }
    }
}

/// What a child reads from its environment: its number, the ring's path, and what to do.
pub(crate) const WORKER: &str = "QUOIT_CROWD_WORKER";

/// This program as a process of its own, before it has been told what to do.
fn program(work: impl Display) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "other_process", "--nocapture", "--test-threads=1"])
        .env(WORKER, work.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// A process that forks others when it is told to, and waits for their ends.
///
/// It answers each line with a number: `<work>` with the process that does it, `reap <process>` with how that ended, `ended
/// <process>` with the same, or -1 while it lives. Until that is told its number is not another's.
struct Nursery {
    process: RefCell<Child>,
    lines: RefCell<BufReader<UnixStream>>,
}

impl Nursery {
    fn start(path: &str) -> Nursery {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let process =
            program(format!("0 {path} nursery")).stdin(OwnedFd::from(theirs)).spawn().unwrap();
        let lines = RefCell::new(BufReader::new(ours));
        Nursery { process: RefCell::new(process), lines }
    }

    fn ask(&self, order: impl Display) -> i32 {
        let mut lines = self.lines.borrow_mut();
        lines.get_mut().write_all(format!("{order}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        lines.read_line(&mut answer).unwrap();
        answer.trim_end().parse().expect("the nursery is there")
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        let process = self.process.get_mut();
        let _ = process.kill();
        let _ = process.wait();
    }
}

/// How a process came to be, and so who waits for it.
enum Origin {
    Started(Child),
    Forked { id: u32, ended: Option<ExitStatus>, nursery: Rc<Nursery> },
}

impl Origin {
    /// How it ended, if it has.
    fn ended(&mut self) -> Option<ExitStatus> {
        match self {
            Origin::Started(child) => child.try_wait().unwrap(),
            Origin::Forked { id, ended, nursery } => {
                if ended.is_none() {
                    let status = nursery.ask(format_args!("ended {id}"));
                    *ended = (status >= 0).then(|| ExitStatus::from_raw(status));
                }
                *ended
            }
        }
    }

    /// Waits for its end. Then nothing of it is left.
    fn end(&mut self) -> ExitStatus {
        match self {
            Origin::Started(child) => child.wait().unwrap(),
            Origin::Forked { id, ended, nursery } => *ended.get_or_insert_with(|| {
                ExitStatus::from_raw(nursery.ask(format_args!("reap {id}")))
            }),
        }
    }
}

/// Another process. It dies with its value.
pub(crate) struct Process {
    pub(crate) number: u64,
    pub(crate) journal: Journal,
    path: String,
    origin: Origin,
}

impl Process {
    fn start(ring: &Ring, number: u64, work: &str, log: usize) -> Process {
        let path = format!("{}.{number}", ring.path);
        let journal = Journal::create(&path, notes::LOG + log);
        let work = format!("{number} {} {work}", ring.path);
        let origin = match &ring.nursery {
            None => Origin::Started(program(work).spawn().unwrap()),
            Some(nursery) => {
                let id = nursery.ask(work) as u32;
                Origin::Forked { id, ended: None, nursery: Rc::clone(nursery) }
            }
        };
        Process { number, journal, path, origin }
    }

    pub(crate) fn id(&self) -> u32 {
        match &self.origin {
            Origin::Started(child) => child.id(),
            Origin::Forked { id, .. } => *id,
        }
    }

    /// Waits until it has come so far; the last thing that it does may be to say so.
    pub(crate) fn ready(&mut self, ring: &Ring, step: u64) {
        loop {
            // Asked before what it said, so that what it said last is heard.
            let ended = self.origin.ended();
            if self.journal.get(READY) >= step {
                return ring.alive();
            }
            self.must_go_on(ended);
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Lets it go on so far.
    pub(crate) fn go(&self, step: u64) {
        self.journal.set(GO, step);
    }

    /// Nobody ends by itself.
    pub(crate) fn still_there(&mut self) {
        let ended = self.origin.ended();
        self.must_go_on(ended);
    }

    fn must_go_on(&self, ended: Option<ExitStatus>) {
        if let Some(status) = ended {
            panic!("process {} ended by itself: {status}", self.number);
        }
    }

    /// Waits for its end, which is in order.
    pub(crate) fn finish(&mut self) {
        let status = self.origin.end();
        assert!(status.success(), "process {}: {status}", self.number);
    }

    /// kill -9; returns when the process is gone. It must have been there.
    pub(crate) fn kill(&mut self) {
        self.send(libc::SIGKILL);
        let status = self.origin.end();
        assert_eq!(status.signal(), Some(libc::SIGKILL), "process {}: {status}", self.number);
    }

    /// Sends a signal and does not wait for what it does.
    pub(crate) fn send(&self, signal: libc::c_int) {
        // SAFETY: kill takes two numbers; the child is ours and not yet waited for.
        let rc = unsafe { libc::kill(self.id() as libc::pid_t, signal) };
        assert_eq!(rc, 0);
    }

    pub(crate) fn stop(&self) {
        self.send(libc::SIGSTOP);
        while !matches!(self.state(), 'T' | 'Z' | 'X') {
            std::thread::yield_now();
        }
    }

    pub(crate) fn go_on(&self) {
        self.send(libc::SIGCONT);
    }

    /// Waits until it sleeps in the kernel on a word of memory.
    pub(crate) fn asleep(&mut self) {
        while !is_asleep(self.id(), self.journal.get(THREAD)) {
            self.still_there();
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Waits until it, asleep on a word of memory, has looked around and gone to sleep again so many times.
    pub(crate) fn sleeps_on(&mut self, times: u64) {
        let before = self.sleeps();
        while self.sleeps() < before + times {
            self.still_there();
            std::thread::sleep(Duration::from_millis(1));
        }
        self.asleep();
    }

    /// How often it went to sleep in the kernel.
    fn sleeps(&self) -> u64 {
        let status = proc(self.id(), self.journal.get(THREAD), "status");
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"));
        line.and_then(|line| line.rsplit_once('\t')).map_or(0, |(_, count)| count.parse().unwrap())
    }

    /// 'R' when its thread wants to run, 'S' when it sleeps, 'T' when it is stopped, 'X' when there is none.
    pub(crate) fn state(&self) -> char {
        state(self.id(), self.journal.get(THREAD))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.origin.ended().is_none() {
            self.send(libc::SIGKILL);
            self.origin.end();
        }
        let _ = fs::remove_file(&self.path);
    }
}

fn proc(process: u32, thread: u64, what: &str) -> String {
    fs::read_to_string(format!("/proc/{process}/task/{thread}/{what}")).unwrap_or_default()
}

fn state(process: u32, thread: u64) -> char {
    let stat = proc(process, thread, "stat");
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('X')
}

/// Whether a thread sleeps in the kernel on a word of memory.
pub(crate) fn is_asleep(process: u32, thread: u64) -> bool {
    // As the kernel prints it: the call's number first.
    let futex = format!("{} ", libc::SYS_futex);
    proc(process, thread, "syscall").starts_with(&futex) && state(process, thread) == 'S'
}
