//! How soon a sleeper learns of what the other process did: `just latency`.
//!
//! Four spans, each between two processes, each with the sleeper really asleep in the kernel when it begins:
//!
//! - from kill -9 of the sender to the receiver's `Disconnected`, on an empty ring;
//! - from kill -9 of the receiver to the sender's `Disconnected`, on a full ring;
//! - from before `send` to after the return of the receiver's `recv`;
//! - of a ring of slots, from kill -9 of a sender in its claim to the return of the receiver's `recv` with the message of
//!   another sender that lay behind it.
//!
//! A death wakes nobody: it is found when a slice of sleep ends, so all but the third depend on the moment of the kill
//! within the slice, which is drawn at random. Whoever waits behind a claim sleeps in shorter slices.
#![allow(clippy::print_stdout)]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use hdrhistogram::Histogram;
use quoit::spsc::{Receiver, Sender};
use quoit::{Options, Wait, mpmc};

/// Kills of each end, and messages to a sleeper.
const DEATHS: usize = 200;
const WAKES: usize = 2000;

/// So many trials; a few where somebody only wants to know whether it runs: `--test`, or no `--bench`.
fn trials(all: usize) -> usize {
    let said = |word| std::env::args().any(|arg| arg == word);
    if said("--bench") && !said("--test") { all } else { 2 }
}

/// The kill comes at any moment of a slice.
const SLICE: Duration = Duration::from_millis(100);

/// What tells a process that it is the other one, and which.
const ROLE: &str = "QUOIT_LATENCY_ROLE";

fn main() {
    if let Ok(role) = std::env::var(ROLE) {
        let path = std::env::args().next_back().expect("the ring's path");
        return match &*role {
            "sender" => hold(Sender::open(&path).unwrap()),
            "receiver" => hold(Receiver::open(&path).unwrap()),
            "claim" => {
                let mut tx = mpmc::Sender::open(&path).unwrap();
                hold(tx.reserve(1).unwrap())
            }
            _ => receive(&path, &role),
        };
    }
    println!("{:34} {:>9} {:>9} {:>9} {:>9}", "in microseconds", "p50", "p90", "p99", "max");
    for wait in [Wait::Block, Wait::Adaptive] {
        print(&format!("sender killed, receiver {wait:?}"), &deaths("sender", wait));
    }
    for wait in [Wait::Block, Wait::Adaptive] {
        print(&format!("receiver killed, sender {wait:?}"), &deaths("receiver", wait));
    }
    for wait in [Wait::Block, Wait::Adaptive] {
        print(&format!("send to a sleeper, {wait:?}"), &wakes(wait));
    }
    for wait in [Wait::Block, Wait::Adaptive] {
        print(&format!("killed in a claim, receiver {wait:?}"), &claims(wait));
    }
}

fn print(what: &str, spans: &Histogram<u64>) {
    let at = |quantile| spans.value_at_quantile(quantile) as f64 / 1e3;
    let max = spans.max() as f64 / 1e3;
    println!("{what:34} {:9.1} {:9.1} {:9.1} {max:9.1}", at(0.5), at(0.9), at(0.99));
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("3 digits are legal")
}

/// The time of the machine's clock that all processes share, in nanoseconds.
fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live structure of this frame.
    let rc = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    assert_eq!(rc, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A ring of its own for one trial.
struct Place {
    path: String,
    _folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let folder =
            tempfile::Builder::new().prefix("quoit-latency-").tempdir_in("/dev/shm").unwrap();
        let path = folder.path().join("ring").to_str().unwrap().to_owned();
        Place { path, _folder: folder }
    }
}

/// The other process; dies with its value.
struct Other {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Other {
    /// Starts it, and waits until it has its end of the ring.
    fn start(role: &str, place: &Place) -> Other {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(&place.path)
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut String::new()).unwrap();
        Other { child, said }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other process: holds one end until it is killed, or until the first process is gone.
fn hold<T>(_end: T) {
    println!("ready");
    let _ = std::io::stdin().read(&mut [0]);
}

/// The other process: receives, and says how old each message is, in nanoseconds.
fn receive(path: &str, wait: &str) {
    let mut rx = Receiver::open(path).unwrap();
    rx.set_wait(if wait == "Block" { Wait::Block } else { Wait::Adaptive });
    println!("ready");
    while let Ok(message) = rx.recv() {
        let now = now();
        let mut sent = [0; 8];
        message.copy_to(&mut sent);
        println!("{}", now - u64::from_le_bytes(sent));
    }
}

/// Waits until a thread sleeps in the kernel on a word of memory.
fn asleep(process: u32, thread: i32) {
    let futex = format!("{} ", libc::SYS_futex);
    let task = format!("/proc/{process}/task/{thread}");
    let read = |what| std::fs::read_to_string(format!("{task}/{what}")).unwrap_or_default();
    while !(read("syscall").starts_with(&futex) && read("stat").contains(") S ")) {
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// From the kill of one end to the return of the other's call.
fn deaths(victim: &str, wait: Wait) -> Histogram<u64> {
    let mut spans = histogram();
    let mut random = Random(0x51ce);
    for _ in 0..trials(DEATHS) {
        let place = Place::new();
        let options = Options::new().capacity(4096);
        quoit::spsc::create(&place.path, &options).unwrap();
        let other = Other::start(victim, &place);
        let (tell, told) = mpsc::channel();
        let (path, receives) = (place.path.clone(), victim == "sender");
        let survivor = std::thread::spawn(move || {
            // SAFETY: gettid takes nothing.
            tell.send(unsafe { libc::gettid() }).unwrap();
            if receives {
                let mut rx = Receiver::open(&path).unwrap();
                rx.set_wait(wait);
                let end = rx.recv().map(drop).unwrap_err();
                (now(), end.is_disconnected())
            } else {
                let mut tx = Sender::open(&path).unwrap();
                tx.set_wait(wait);
                while tx.try_send(b"x").is_ok() {}
                let end = tx.send(b"x").unwrap_err();
                (now(), end.is_disconnected())
            }
        });
        asleep(std::process::id(), told.recv().unwrap());
        std::thread::sleep(SLICE.mul_f64(random.fraction()));
        let killed = now();
        drop(other);
        let (returned, disconnected) = survivor.join().unwrap();
        assert!(disconnected);
        spans.record(returned.saturating_sub(killed)).unwrap();
    }
    spans
}

/// From the kill of a sender in its claim to the message behind that claim.
fn claims(wait: Wait) -> Histogram<u64> {
    let mut spans = histogram();
    let mut random = Random(0xc1a1);
    let place = Place::new();
    mpmc::create(&place.path, &Options::new().capacity(16).keep_open(true)).unwrap();
    let tx = mpmc::Sender::open(&place.path).unwrap();
    for _ in 0..trials(DEATHS) {
        let other = Other::start("claim", &place);
        tx.send(b"behind").unwrap();
        let (tell, told) = mpsc::channel();
        let path = place.path.clone();
        let survivor = std::thread::spawn(move || {
            // SAFETY: gettid takes nothing.
            tell.send(unsafe { libc::gettid() }).unwrap();
            let rx = mpmc::Receiver::open(&path).unwrap();
            rx.set_wait(wait);
            let message = rx.recv().unwrap();
            (now(), message.to_vec())
        });
        asleep(std::process::id(), told.recv().unwrap());
        std::thread::sleep(SLICE.mul_f64(random.fraction()));
        let killed = now();
        drop(other);
        let (returned, message) = survivor.join().unwrap();
        assert_eq!(message, b"behind");
        spans.record(returned.saturating_sub(killed)).unwrap();
    }
    spans
}

/// From before a send to after the return of a sleeping receiver.
fn wakes(wait: Wait) -> Histogram<u64> {
    let mut spans = histogram();
    let place = Place::new();
    let mut tx = Sender::create(&place.path, &Options::new().capacity(4096)).unwrap();
    let mut other = Other::start(&format!("{wait:?}"), &place);
    let process = other.child.id();
    let mut line = String::new();
    for _ in 0..trials(WAKES) {
        asleep(process, process as i32);
        tx.send(&now().to_le_bytes()).unwrap();
        line.clear();
        other.said.read_line(&mut line).unwrap();
        spans.record(line.trim().parse().unwrap()).unwrap();
    }
    let _ = std::io::stdout().flush();
    spans
}

/// A small generator of numbers that look random: SplitMix64.
struct Random(u64);

impl Random {
    /// From 0 to 1.
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}
