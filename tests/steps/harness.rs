//! The process that steps others, and whoever waits for it. Knows how a test runs its body in a process of its own with one
//! thread and one processor, and what to do when that hangs; knows nothing of steps and rings.

use std::env;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::random::{Random, seed};
use crate::tracer;

/// A boundary that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the other process reads from its environment: the folder in which it may make files.
const FOLDER: &str = "QUOIT_STEPS_FOLDER";

/// And which of a test's parts it is to run.
const PART: &str = "QUOIT_STEPS_PART";

/// And on which processor.
const PROCESSOR: &str = "QUOIT_STEPS_PROCESSOR";

/// What it answers when all is done.
const DONE: &str = "done";

/// Says on the real standard error, which no test harness holds back.
pub(crate) fn say(line: &str) {
    let line = format!("{line}\n");
    // SAFETY: the bytes live during the call, which reads as many as they are.
    unsafe { libc::write(2, line.as_ptr().cast(), line.len()) };
}

/// Where a test's body runs.
pub(crate) struct Lab {
    folder: PathBuf,
    /// Whether every boundary is tried (`QUOIT_STEPS=all`), or every state that the calls leave behind and some of the rest.
    pub(crate) all: bool,
    pub(crate) random: Random,
    /// `QUOIT_TEST_SEED` tries the same boundaries again.
    pub(crate) seed: u64,
    /// So far, over all that was tried.
    pub(crate) boundaries: usize,
    pub(crate) deaths: usize,
    pub(crate) stops: usize,
    parent: UnixStream,
}

/// Runs `body` in a process that runs this program's test of the same name and nothing else, in a folder of its own. Panics
/// if it did.
pub(crate) fn alone(test: &str, body: fn(&mut Lab)) {
    each_alone(test, 1, &[body], |lab, body| body(lab));
}

/// Does so with each of these, or with the first few, in a process for each, some at once.
pub(crate) fn each_alone<T: Copy>(test: &str, few: usize, all: &[T], body: fn(&mut Lab, T)) {
    let every = every();
    match env::var_os(FOLDER) {
        Some(folder) => {
            let part: usize = env::var(PART).unwrap().parse().unwrap();
            inside(test, PathBuf::from(folder), every, |lab| body(lab, all[part]));
        }
        None => std::thread::scope(|threads| {
            for part in 0..if every { all.len() } else { few } {
                threads.spawn(move || outside(test, part));
            }
        }),
    }
}

/// Whether every boundary is to be tried.
fn every() -> bool {
    env::var_os("QUOIT_STEPS").is_some_and(|what| what == "all")
}

/// The processors of this process, once they are known, each with the number of its tenants.
static TENANTS: (Mutex<Vec<(usize, usize)>>, Condvar) = (Mutex::new(Vec::new()), Condvar::new());

/// One steps while the other waits for a death to be noticed.
const AT_ONCE: usize = 2;

/// A processor on which this value is a tenant. Whoever steps and whoever is stepped take turns, so that two processors do no
/// more for them than one, and have to be woken each time.
struct Processor(usize);

impl Processor {
    /// Waits for one.
    fn take() -> Processor {
        let mut all = TENANTS.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.is_empty() {
            all.extend(processors().into_iter().map(|number| (number, 0)));
        }
        loop {
            let least = all.iter_mut().min_by_key(|(_, tenants)| *tenants).unwrap();
            if least.1 < AT_ONCE {
                least.1 += 1;
                return Processor(least.0);
            }
            all = TENANTS.1.wait(all).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        let mut all = TENANTS.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter_mut().filter(|(number, _)| *number == self.0).for_each(|it| it.1 -= 1);
        TENANTS.1.notify_one();
    }
}

/// The numbers of those that this process may run on.
fn processors() -> Vec<usize> {
    // SAFETY: a set of processors is integers, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set lives during the call and is as long as is said.
    let rc = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    assert_eq!(rc, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the numbers are within the set.
    (0..libc::CPU_SETSIZE as usize).filter(|&it| unsafe { libc::CPU_ISSET(it, &set) }).collect()
}

/// Where this process might run before it was given one processor.
static ANYWHERE: OnceLock<Vec<usize>> = OnceLock::new();

/// This process is one that runs beside those who step and are stepped.
pub(crate) fn run_anywhere() {
    run_on(ANYWHERE.get().unwrap());
}

/// This thread, and whatever it forks, runs there.
fn run_on(processors: &[usize]) {
    // SAFETY: as above.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &number in processors {
        // SAFETY: the number was found in a set of this length.
        unsafe { libc::CPU_SET(number, &mut set) };
    }
    // SAFETY: as above; nothing is written.
    let rc = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    assert_eq!(rc, 0, "{}", std::io::Error::last_os_error());
}

fn outside(test: &str, part: usize) {
    let processor = Processor::take();
    let folder = tempfile::Builder::new().prefix("quoit-steps-").tempdir_in("/dev/shm").unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder.path())
        .env(PART, part.to_string())
        .env(PROCESSOR, processor.0.to_string())
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut answers = BufReader::new(ours);
    let mut last = String::from("its start");
    loop {
        let mut line = String::new();
        match answers.read_line(&mut line) {
            Ok(1..) if line.trim_end() == DONE => break,
            Ok(1..) => last = line.trim_end().to_owned(),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                hangs(folder.path(), &last);
                let _ = child.kill();
                let _ = child.wait();
                // Nobody unwinds now.
                let _ = std::fs::remove_dir_all(folder.path());
                std::process::abort();
            }
            _ => panic!("the other process ended with {:?} at {last}", child.wait()),
        }
    }
    assert!(child.wait().unwrap().success());
}

fn hangs(folder: &Path, last: &str) {
    say(&format!("a test hangs at {last}"));
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        say(&format!("{}: {:#?}", path.display(), quoit::inspect(&path.to_string_lossy())));
    }
}

fn inside(test: &str, folder: PathBuf, all: bool, body: impl FnOnce(&mut Lab)) {
    dies_with_its_parent();
    ANYWHERE.set(processors()).unwrap();
    run_on(&[env::var(PROCESSOR).unwrap().parse().unwrap()]);
    let parent = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    if let Some(why) = tracer::hindrance() {
        say(&format!("SKIPPED: {why}"));
        let mut parent = parent;
        return parent.write_all(format!("{DONE}\n").as_bytes()).unwrap();
    }
    let seed = seed();
    let mut lab =
        Lab { folder, all, random: Random(seed), seed, boundaries: 0, deaths: 0, stops: 0, parent };
    body(&mut lab);
    let Lab { boundaries, deaths, stops, .. } = lab;
    say(&format!(
        "steps: {deaths} deaths, {stops} stops at {boundaries} boundaries (QUOIT_TEST_SEED={seed}): {test}"
    ));
    lab.at(DONE);
}

/// Whatever happens to the thread that made it, this process ends with it.
pub(crate) fn dies_with_its_parent() {
    // SAFETY: prctl takes numbers only here.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

impl Lab {
    /// A sign of life, which says where it is.
    pub(crate) fn at(&mut self, place: &str) {
        if self.parent.write_all(format!("{place}\n").as_bytes()).is_err() {
            std::process::exit(1);
        }
    }

    /// The first few of these, or all.
    pub(crate) fn first<'a, T>(&self, few: usize, all: &'a [T]) -> &'a [T] {
        if self.all { all } else { &all[..few] }
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.join(name).into_os_string().into_string().unwrap()
    }
}
