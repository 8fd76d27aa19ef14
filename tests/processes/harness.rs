//! Rings in folders of their own, and processes that do to them what they are told.

use std::env;
use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use quoit::{Delivery, Info, Options};

/// A test that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a claim on a ring that begins at 0, and on one whose positions wrap after a few lines.
pub(crate) fn everywhere(claim: impl Fn(Ring)) {
    for start in [0, 0u64.wrapping_sub(3 * 64)] {
        claim(Ring::new(start));
    }
}

/// Runs a claim for each way to sleep, on both rings.
pub(crate) fn every_sleep(claim: impl Fn(Ring, &str)) {
    for wait in ["Block", "Adaptive"] {
        everywhere(|ring| claim(ring, wait));
    }
}

/// Says on the real standard error, which no test harness holds back.
pub(crate) fn say(line: &str) {
    let line = format!("{line}\n");
    // SAFETY: the bytes live during the call, which reads as many as they are.
    unsafe { libc::write(2, line.as_ptr().cast(), line.len()) };
}

/// A ring's name in a folder of its own, and what to make it of.
pub(crate) struct Ring {
    pub(crate) path: String,
    pub(crate) capacity: usize,
    pub(crate) start: u64,
    pub(crate) keep_open: bool,
    pub(crate) at_most_once: bool,
    _watchdog: mpsc::Sender<()>,
    folder: tempfile::TempDir,
}

impl Ring {
    pub(crate) fn new(start: u64) -> Ring {
        let folder = tempfile::Builder::new().prefix("quoit-test-").tempdir_in("/dev/shm").unwrap();
        let path = folder.path().join("ring").into_os_string().into_string().unwrap();
        let _watchdog = watch(path.clone());
        let (capacity, keep_open, at_most_once) = (4096, false, false);
        Ring { path, capacity, start, keep_open, at_most_once, _watchdog, folder }
    }

    pub(crate) fn keep_open(mut self) -> Ring {
        self.keep_open = true;
        self
    }

    pub(crate) fn at_most_once(mut self) -> Ring {
        self.at_most_once = true;
        self
    }

    /// Another file in the ring's folder.
    pub(crate) fn beside(&self, name: &str) -> String {
        self.folder.path().join(name).into_os_string().into_string().unwrap()
    }

    pub(crate) fn inspect(&self) -> Info {
        quoit::inspect(&self.path).unwrap()
    }

    /// How many names the ring's folder holds.
    pub(crate) fn names(&self) -> usize {
        std::fs::read_dir(self.folder.path()).unwrap().count()
    }

    /// A process that has not opened anything yet.
    pub(crate) fn process(&self) -> Process {
        Process::start(self)
    }

    /// The same, started by a command that ends by running a program with the arguments that it is given.
    pub(crate) fn process_by(&self, command: Command) -> Process {
        Process::start_by(self, command)
    }

    /// A process that is the sender.
    pub(crate) fn sender(&self) -> Process {
        self.process().seated("sender")
    }

    /// A process that is the receiver.
    pub(crate) fn receiver(&self) -> Process {
        self.process().seated("receiver")
    }
}

/// Ends the whole test, with a picture of the ring, when it hangs.
fn watch(path: String) -> mpsc::Sender<()> {
    let (alive, watched) = mpsc::channel();
    std::thread::spawn(move || {
        if watched.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            say(&format!("a test hangs; its ring: {:#?}", quoit::inspect(&path)));
            // Nobody unwinds now.
            let _ = std::fs::remove_dir_all(std::path::Path::new(&path).parent().unwrap());
            std::process::abort();
        }
    });
    alive
}

/// What a child reads from its environment.
pub(crate) const RING: &str = "QUOIT_TEST_RING";

/// The options of [`RING`].
pub(crate) fn options(capacity: usize, start: u64, keep_open: bool, at_most_once: bool) -> Options {
    let delivery = if at_most_once { Delivery::AtMostOnce } else { Delivery::AtLeastOnce };
    Options::new().capacity(capacity).start_position(start).keep_open(keep_open).delivery(delivery)
}

/// A message that was received.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) number: u64,
    pub(crate) position: u64,
    pub(crate) attempt: u32,
}

/// Another process. It does what it is told, one order after the other, and dies with its value.
pub(crate) struct Process {
    child: Child,
    /// Its thread that obeys.
    thread: String,
    orders: UnixStream,
    answers: BufReader<UnixStream>,
}

impl Process {
    fn start(ring: &Ring) -> Process {
        Process::start_by(ring, Command::new(env::current_exe().unwrap()))
    }

    fn start_by(ring: &Ring, mut command: Command) -> Process {
        // The other end is the child's standard input, and its way to answer.
        let (ours, theirs) = UnixStream::pair().unwrap();
        let child = command
            .args(["--exact", "other_process", "--nocapture", "--test-threads=1"])
            .env(
                RING,
                format!(
                    "{} {} {} {} {}",
                    ring.capacity, ring.start, ring.keep_open, ring.at_most_once, ring.path
                ),
            )
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let answers = BufReader::new(ours.try_clone().unwrap());
        let mut process = Process { child, thread: String::new(), orders: ours, answers };
        process.thread = process.answer();
        process
    }

    pub(crate) fn seated(mut self, role: &str) -> Process {
        assert_eq!(self.ask(format!("{role} open_or_create")), "ok");
        self
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The thread that obeys, as the kernel numbers it.
    #[allow(dead_code)] // Not every test looks at it.
    pub(crate) fn thread(&self) -> libc::pid_t {
        self.thread.parse().unwrap()
    }

    /// Gives an order, whose answer may come later.
    pub(crate) fn tell(&mut self, order: impl Display) {
        self.orders.write_all(format!("{order}\n").as_bytes()).unwrap();
    }

    /// Waits for the answer to an order.
    pub(crate) fn answer(&mut self) -> String {
        let mut answer = String::new();
        let read = self.answers.read_line(&mut answer);
        if !matches!(read, Ok(1..)) {
            panic!("the other process is gone: {:?}, {read:?}", self.child.wait());
        }
        answer.trim_end().to_owned()
    }

    /// The answer that is there already, if one is.
    pub(crate) fn answer_so_far(&mut self) -> Option<String> {
        self.orders.set_nonblocking(true).unwrap();
        let seen = self.answers.fill_buf().map(|bytes| !bytes.is_empty());
        self.orders.set_nonblocking(false).unwrap();
        match seen {
            Ok(_) => Some(self.answer()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn ask(&mut self, order: impl Display) -> String {
        self.tell(order);
        self.answer()
    }

    /// Asks for the next message, or hears why there is none.
    pub(crate) fn recv(&mut self) -> Result<Got, String> {
        let answer = self.ask("recv");
        got(&answer)
    }

    /// Takes the next message in hand and keeps it there: the next order is "release" or "give back".
    pub(crate) fn hold(&mut self) -> Got {
        let answer = self.ask("hold");
        got(&answer).unwrap()
    }

    /// Fills the ring with messages from this number on; the first number that found no room.
    pub(crate) fn fill(&mut self, from: u64) -> u64 {
        let (next, why) = self.fill_until_refused(from);
        assert_eq!(why, "Full");
        next
    }

    /// Sends from this number on until a message is refused; which one, and why.
    pub(crate) fn fill_until_refused(&mut self, from: u64) -> (u64, String) {
        let answer = self.ask(format!("fill {from}"));
        let (next, why) = answer.split_once(' ').unwrap();
        (next.parse().unwrap(), why.to_owned())
    }

    /// Waits until the process sleeps in the kernel on a word of memory.
    ///
    /// There is no event for what a process does in the kernel: this looks again and again. An answer that comes instead
    /// is a failure.
    pub(crate) fn asleep(&mut self) {
        // As the kernel prints it: the call's number first.
        let futex = format!("{} ", libc::SYS_futex);
        while !(self.proc("syscall").starts_with(&futex) && self.state() == 'S') {
            self.no_answer();
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Waits until the process, asleep on a word of memory, has looked around and gone to sleep again so many times.
    pub(crate) fn sleeps_on(&mut self, times: u64) {
        let before = self.sleeps();
        while self.sleeps() < before + times {
            self.no_answer();
            std::thread::sleep(Duration::from_millis(1));
        }
        self.asleep();
    }

    fn no_answer(&mut self) {
        if let Some(answer) = self.answer_so_far() {
            panic!("it answered instead of sleeping: {answer}");
        }
    }

    /// How often it went to sleep in the kernel.
    pub(crate) fn sleeps(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
        line.rsplit_once('\t').unwrap().1.parse().unwrap()
    }

    /// 'R' when it wants to run, 'S' when it sleeps, 'T' when it is stopped.
    fn state(&self) -> char {
        self.proc("stat").rsplit_once(") ").unwrap().1.chars().next().unwrap()
    }

    /// What the kernel says of its thread.
    fn proc(&self, what: &str) -> String {
        let (process, thread) = (self.id(), &self.thread);
        std::fs::read_to_string(format!("/proc/{process}/task/{thread}/{what}")).unwrap()
    }

    /// Waits for an answer, or for its end: the signal that it died of.
    pub(crate) fn killed_by(&mut self) -> Option<libc::c_int> {
        match self.answers.fill_buf() {
            Ok([_, ..]) => None,
            _ => std::os::unix::process::ExitStatusExt::signal(&self.child.wait().unwrap()),
        }
    }

    /// kill -9; returns when the process is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn stop(&self) {
        self.signal(libc::SIGSTOP);
        while self.state() != 'T' {
            std::thread::yield_now();
        }
    }

    pub(crate) fn go_on(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: libc::c_int) {
        // SAFETY: kill takes two numbers; the child is ours and not yet waited for.
        let rc = unsafe { libc::kill(self.id() as libc::pid_t, signal) };
        assert_eq!(rc, 0);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads `<number> at <position> attempt <n>`.
pub(crate) fn got(answer: &str) -> Result<Got, String> {
    let words: Vec<&str> = answer.split(' ').collect();
    match words[..] {
        [number, "at", position, "attempt", attempt] => Ok(Got {
            number: number.parse().unwrap(),
            position: position.parse().unwrap(),
            attempt: attempt.parse().unwrap(),
        }),
        _ => Err(answer.to_owned()),
    }
}

/// Maps the first `len` bytes of a file, shared.
pub(crate) fn map(path: &str, len: usize) -> memmap2::MmapRaw {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    memmap2::MmapOptions::new().len(len).map_raw(&file).unwrap()
}
