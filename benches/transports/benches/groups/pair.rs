//! Two ends of a transport: this process, and another that is this program once more; or a thread, for what is between
//! threads.
//!
//! It knows how the other end is started, what a burst is, and whose fault it is when one fails. It refuses to know which
//! figures are wanted.
//!
//! Nothing here hangs. The other process dies with this one; whoever waits for a dead end is told by the transport; and a
//! pair that stands still is ended by a watchdog, and named.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{env, fmt, process};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use quoit_transports::{
    Board, Check, Kit, Laid, Name, Refusal, Rx, Seen, Shape, Side, Source, Transport, Tx, pin,
    receive, send, with,
};
use serde::{Deserialize, Serialize};

/// What tells a process that it is the other end.
const OTHER: &str = "QUOIT_GROUPS_OTHER_END";
/// Turn a bit of this message of every pair, to see that it is noticed.
const SPOIL: &str = "QUOIT_GROUPS_SPOIL";

/// A pair that has done no burst for so long hangs. (Between bursts criterion thinks for a moment.)
const PATIENCE: Duration = Duration::from_secs(30);
/// Whose transport has failed waits so long for what the other end has to say.
const GRACE: Duration = Duration::from_secs(1);
/// A pause after a burst is as long as that, but never longer.
const PAUSE_MOST: Duration = Duration::from_millis(200);

/// The word of the board that says up to which message a stream is answered once.
const DUE: usize = 0;

/// What is asked of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Work {
    /// Every message is answered by one of the same size.
    RoundTrip,
    /// The last message of a burst is answered.
    Stream,
}

/// Where the other end is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// In another process, which finds the transport by its name.
    Process(Name),
    /// In another thread.
    Thread,
}

/// What the other end has to know. Descriptors come beside it: the board, then the transport's.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    /// None where the transport is a type of the thread's.
    transport: Option<Name>,
    shape: Shape,
    work: Work,
    core: Option<usize>,
    /// Who started it.
    parent: u32,
    names: Vec<String>,
}

/// The other end's part, from its ends to its last word.
fn answer<T: Transport>(job: &Job, board: OwnedFd, kit: Kit, control: &UnixStream) {
    let said = match work::<T>(job, board, kit, control) {
        Ok(()) => "done\n".into(),
        Err(error) => format!("{error}\n"),
    };
    // Whoever is not there to hear it has failed himself.
    let _ = (&*control).write_all(said.as_bytes());
}

fn work<T: Transport>(
    job: &Job,
    board: OwnedFd,
    kit: Kit,
    mut control: &UnixStream,
) -> io::Result<()> {
    if let Some(core) = job.core {
        pin(core)?;
    }
    let board = Board::open(board)?;
    let (mut tx, mut rx) = T::ends(kit, Side::Server, &job.shape)?;
    let (mut source, mut check) = (Source::new(job.shape.size), Check::new(job.shape.size));
    control.write_all(b"ready\n")?;
    match job.work {
        Work::RoundTrip => {
            while check.look(rx.recv()?).map_err(io::Error::other)? != Seen::End {
                source.emit(|message| tx.send(message))?;
            }
        }
        Work::Stream => {
            let (mut seen, mut due) = (0, 0);
            while check.look(rx.recv()?).map_err(io::Error::other)? != Seen::End {
                seen += 1;
                if seen > due {
                    // Acquire: pairs with the Release in `Pair::try_burst`, as the message itself does.
                    due = board.word(DUE).load(Acquire);
                }
                if seen == due {
                    source.emit(|message| tx.send(message))?;
                }
            }
        }
    }
    Ok(())
}

/// Does the other end's part if that is what this process was started for.
pub(crate) fn other_end() -> Option<ExitCode> {
    env::var_os(OTHER)?;
    let done = || -> io::Result<()> {
        // Whatever happens to the parent, nobody spins on.
        set_pdeathsig(Signal::SIGKILL)?;
        let control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let (job, fds) = receive(&control)?;
        let job: Job = serde_json::from_str(&job)?;
        if getppid().as_raw().cast_unsigned() != job.parent {
            return Err(io::Error::other("the parent was gone before it could be asked to care"));
        }
        let mut fds = fds.into_iter();
        let missing = || io::Error::other("a part of the job is missing");
        let board = fds.next().ok_or_else(missing)?;
        let kit = Kit { fds: fds.collect(), names: job.names.clone() };
        with!(job.transport.ok_or_else(missing)?, T => answer::<T>(&job, board, kit, &control));
        Ok(())
    };
    // The parent hears what went wrong from the control, or that this process is gone.
    Some(if done().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The other end, as this process has it.
struct Other {
    control: BufReader<UnixStream>,
    runs: Runs,
}

enum Runs {
    Process(Child),
    Thread(Option<JoinHandle<()>>),
}

impl Other {
    fn start<T: Transport>(
        place: Place,
        job: Job,
        board: OwnedFd,
        fds: Vec<OwnedFd>,
    ) -> io::Result<Other> {
        let (ours, theirs) = UnixStream::pair()?;
        let runs = match place {
            Place::Process(_) => {
                let child = Command::new(env::current_exe()?)
                    .env(OTHER, "1")
                    .stdin(Stdio::from(OwnedFd::from(theirs)))
                    .stdout(Stdio::null())
                    .spawn()?;
                // It is ended with this value, whatever fails from here on.
                let child = Runs::Process(child);
                let other = Other { control: BufReader::new(ours), runs: child };
                let fds: Vec<OwnedFd> = [board].into_iter().chain(fds).collect();
                send(other.control.get_ref(), &serde_json::to_string(&job)?, &fds)?;
                return Ok(other);
            }
            Place::Thread => {
                let kit = Kit { fds, names: job.names.clone() };
                Runs::Thread(Some(thread::spawn(move || answer::<T>(&job, board, kit, &theirs))))
            }
        };
        Ok(Other { control: BufReader::new(ours), runs })
    }

    /// Its next word.
    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.control.read_line(&mut line)?;
        Ok(line.trim_end().into())
    }

    /// Its last word, or how it ended without one. Nothing if it is there and silent.
    fn last(&mut self) -> Option<String> {
        let mut said = String::new();
        let _ = self.control.get_ref().set_read_timeout(Some(GRACE));
        match self.control.read_to_string(&mut said) {
            Err(_) => return None,
            Ok(_) if !said.is_empty() => return Some(said.trim_end().into()),
            Ok(_) => {}
        }
        match &mut self.runs {
            Runs::Process(child) => child.wait().ok().map(|status| format!("it ended by {status}")),
            Runs::Thread(_) => Some("it panicked".into()),
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        match &mut self.runs {
            Runs::Process(child) => {
                // Both fail if it has ended already, which is as well.
                let _ = child.kill();
                let _ = child.wait();
            }
            // The ends of this side are gone, so it ends by itself; it has said why.
            Runs::Thread(thread) => drop(thread.take().map(JoinHandle::join)),
        }
    }
}

/// Ends everything when no burst ends for too long.
struct Watchdog {
    bursts: Arc<AtomicU64>,
    /// Dropped, it is called off.
    _leash: Sender<()>,
}

impl Watchdog {
    fn start(what: &str) -> Watchdog {
        let (leash, held) = mpsc::channel();
        let bursts = Arc::new(AtomicU64::new(0));
        let (what, seen) = (what.to_owned(), Arc::clone(&bursts));
        thread::spawn(move || {
            let mut before = u64::MAX;
            while held.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                // Relaxed: a number, and nothing that goes with it.
                let now = seen.load(Relaxed);
                if now == before {
                    eprintln!("{what} hangs after {now} bursts");
                    process::exit(2);
                }
                before = now;
            }
        });
        Watchdog { bursts, _leash: leash }
    }
}

/// Both ends.
pub(crate) struct Pair<T: Transport> {
    what: String,
    work: Work,
    board: Board,
    source: Source,
    check: Check,
    sent: u64,
    // Before the other end, so that one that waits for us learns of our leave.
    tx: T::Tx,
    rx: T::Rx,
    other: Other,
    // Last, so that it watches the leave as well.
    watchdog: Watchdog,
}

impl<T: Transport> Pair<T> {
    /// Lays the transport out, starts the other end, and waits until it is there.
    pub(crate) fn start(
        what: &str,
        place: Place,
        work: Work,
        shape: Shape,
        cores: Option<[usize; 2]>,
    ) -> Pair<T> {
        Pair::try_start(what, place, work, shape, cores)
            .unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    fn try_start(
        what: &str,
        place: Place,
        work: Work,
        shape: Shape,
        cores: Option<[usize; 2]>,
    ) -> io::Result<Pair<T>> {
        let watchdog = Watchdog::start(what);
        let Laid { client, server, names } = T::lay(&shape).map_err(|refusal| match refusal {
            Refusal::Here(why) => io::Error::other(why),
            Refusal::Failed(error) => error,
        })?;
        let board = Board::create()?;
        let job = Job {
            transport: match place {
                Place::Process(name) => Some(name),
                Place::Thread => None,
            },
            shape,
            work,
            core: cores.map(|[_, other]| other),
            parent: process::id(),
            names: server.names,
        };
        let mut other = Other::start::<T>(place, job, board.try_clone()?, server.fds)?;
        if let Some([core, _]) = cores {
            pin(core)?;
        }
        let (tx, rx) = T::ends(client, Side::Client, &shape)?;
        match other.line()? {
            word if word == "ready" => {}
            word if word.is_empty() => return Err(blame(other.last())),
            word => return Err(blame(Some(word))),
        }
        drop(names);
        let mut source = Source::new(shape.size);
        if let Some(number) = env::var(SPOIL).ok().and_then(|number| number.parse().ok()) {
            source.spoil(number);
        }
        Ok(Pair {
            what: what.to_owned(),
            work,
            watchdog,
            board: Board::open(board)?,
            source,
            check: Check::new(shape.size),
            sent: 0,
            tx,
            rx,
            other,
        })
    }

    /// So many messages, and what they took.
    pub(crate) fn burst(&mut self, messages: u64) -> Duration {
        let took = self.try_burst(messages).unwrap_or_else(|error| self.fail(&error));
        self.watchdog.bursts.fetch_add(1, Relaxed);
        // A quota fills up again while nobody works.
        thread::sleep(took.min(PAUSE_MOST));
        took
    }

    fn try_burst(&mut self, messages: u64) -> io::Result<Duration> {
        self.sent += messages;
        // Release: pairs with the Acquire in `work`, as the messages do.
        self.board.word(DUE).store(self.sent, Release);
        let Pair { source, check, tx, rx, .. } = self;
        let mut answered = || check.look(rx.recv()?).map_err(io::Error::other);
        let start = Instant::now();
        match self.work {
            Work::RoundTrip => {
                for _ in 0..messages {
                    source.emit(|message| tx.send(message))?;
                    answered()?;
                }
            }
            Work::Stream => {
                for _ in 0..messages {
                    source.emit(|message| tx.send(message))?;
                }
                answered()?;
            }
        }
        Ok(start.elapsed())
    }

    /// Tells the other end that it is over, and hears that it was content.
    pub(crate) fn finish(mut self) {
        if let Err(error) = self.source.end(|message| self.tx.send(message)) {
            self.fail(&error)
        }
        let last = self.other.line().unwrap_or_default();
        assert!(last == "done", "{}: {}", self.what, blame(Some(last)));
    }

    /// Says what went wrong, in the words of whoever saw it.
    fn fail(&mut self, error: &io::Error) -> ! {
        match self.other.last() {
            Some(said) => panic!("{}: {}", self.what, blame(Some(said))),
            None => panic!("{}: {error}", self.what),
        }
    }
}

impl<T: Transport> fmt::Debug for Pair<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("what", &self.what).field("sent", &self.sent).finish()
    }
}

fn blame(said: Option<String>) -> io::Error {
    let said = said.filter(|said| !said.is_empty());
    io::Error::other(format!("the other end: {}", said.as_deref().unwrap_or("without a word")))
}
