//! What becomes of those who use a ring when memory of it goes: the file is cut short, or has holes punched into it, while
//! messages pass. Knows both rings; what a program that asked to survive it may rely on, and what happens to one that did not.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use quoit::{Options, mpmc, spsc};

use crate::actor::{Actor, body, number, word};
use crate::harness::{Process, Ring};

const KINDS: [&str; 2] = ["bytes", "slots"];

/// Either end of either ring.
enum End {
    BytesSender(spsc::Sender),
    BytesReceiver(spsc::Receiver),
    SlotsSender(mpmc::Sender),
    SlotsReceiver(mpmc::Receiver),
}

fn open(kind: &str, role: &str, path: &str) -> End {
    match (kind, role) {
        ("bytes", "send") => End::BytesSender(spsc::Sender::open(path).unwrap()),
        ("bytes", _) => End::BytesReceiver(spsc::Receiver::open(path).unwrap()),
        (_, "send") => End::SlotsSender(mpmc::Sender::open(path).unwrap()),
        _ => End::SlotsReceiver(mpmc::Receiver::open(path).unwrap()),
    }
}

/// A ring whose data are some pages long.
fn make(kind: &str, path: &str) {
    match kind {
        "bytes" => spsc::create(path, &Options::new().capacity(1 << 16)).unwrap(),
        _ => mpmc::create(path, &Options::new().capacity(64).max_len(1024)).unwrap(),
    }
}

/// No call waits longer than this for somebody who may be gone.
const A_WHILE: Duration = Duration::from_millis(300);

/// One message, sent or received; what was received, or the name of the error.
fn step(end: &mut End, next: u64, into: &mut Vec<u8>) -> Result<Option<Vec<u8>>, String> {
    match end {
        End::BytesSender(tx) => {
            tx.send_timeout(&body(next), A_WHILE).map(|()| None).map_err(|e| word(&e))
        }
        End::SlotsSender(tx) => {
            tx.send_timeout(&body(next), A_WHILE).map(|()| None).map_err(|e| word(&e))
        }
        End::BytesReceiver(rx) if next % 2 == 0 => {
            rx.recv_into_timeout(into, A_WHILE).map(|_| Some(into.clone())).map_err(|e| word(&e))
        }
        End::SlotsReceiver(rx) if next % 2 == 0 => {
            rx.recv_into_timeout(into, A_WHILE).map(|_| Some(into.clone())).map_err(|e| word(&e))
        }
        End::BytesReceiver(rx) => {
            let message = rx.recv_timeout(A_WHILE).map_err(|e| word(&e))?;
            let bytes = message.to_vec();
            if message.is_whole() { Ok(Some(bytes)) } else { Err("NotWhole".into()) }
        }
        End::SlotsReceiver(rx) => {
            let message = rx.recv_timeout(A_WHILE).map_err(|e| word(&e))?;
            let bytes = message.to_vec();
            if message.is_whole() { Ok(Some(bytes)) } else { Err("NotWhole".into()) }
        }
    }
}

/// Orders that have to do with memory that goes.
pub(crate) fn obey(actor: &mut Actor, words: &[&str]) -> String {
    match words {
        ["catch"] => {
            quoit::catch_sigbus().unwrap();
            "ok".into()
        }
        ["half", kind, path] => half(kind, path),
        ["look", path] => {
            actor.say("open");
            look(path)
        }
        // So many messages, each of which has to be what was sent.
        [kind, role, "honest", count, path] => {
            let mut end = open(kind, role, path);
            actor.say("open");
            honest(&mut end, count.parse().unwrap())
        }
        [kind, role, "whatever", path] => {
            let mut end = open(kind, role, path);
            actor.say("open");
            whatever(&mut end, path)
        }
        _ => panic!("no such order: {words:?}"),
    }
}

/// A message whose header stays and of whose bytes the second half goes, received into a vector: the answer, what is in the
/// vector, and the answer of the next call.
fn half(kind: &str, path: &str) -> String {
    let (message, mut into) = (vec![7; 6000], vec![1]);
    let options = Options::new();
    match kind {
        "bytes" => {
            spsc::create(path, &options.capacity(1 << 14)).unwrap();
            let mut tx = spsc::Sender::open(path).unwrap();
            let mut rx = spsc::Receiver::open(path).unwrap();
            tx.send(&message).unwrap();
            let held = rx.recv().unwrap();
            assert!(held.is_whole() && held.to_vec() == message);
            held.give_back();
            cut(path, 6);
            let answer = word(&rx.recv_into(&mut into).unwrap_err());
            format!("{answer} {into:?} {}", word(&rx.recv().unwrap_err()))
        }
        _ => {
            mpmc::create(path, &options.capacity(2).max_len(6000)).unwrap();
            let (tx, rx) = (mpmc::Sender::open(path).unwrap(), mpmc::Receiver::open(path).unwrap());
            tx.send(&message).unwrap();
            let held = rx.recv().unwrap();
            assert!(held.is_whole() && held.to_vec() == message);
            held.give_back();
            cut(path, 0x26);
            let answer = word(&rx.recv_into(&mut into).unwrap_err());
            format!("{answer} {into:?} {}", word(&rx.recv().unwrap_err()))
        }
    }
}

/// Looks at a ring that comes and goes, until it is told that it is enough.
fn look(path: &str) -> String {
    while !is_enough(path) {
        match quoit::inspect(path) {
            Err(error) if !(error.is_not_found() || error.is_truncated()) => return word(&error),
            _ => {}
        }
    }
    "ok".into()
}

/// Goes on to the first error, and then tries once more: what was answered at last.
fn honest(end: &mut End, count: u64) -> String {
    let mut into = Vec::new();
    for next in 0..count {
        match step(end, next, &mut into) {
            Ok(Some(bytes)) => assert_eq!(number(&bytes), next, "out of order"),
            Ok(None) => {}
            Err(why) if why == "NotWhole" => return step(end, next, &mut into).unwrap_err(),
            Err(why) => {
                assert_eq!(step(end, next, &mut into), Err(why.clone()), "it stays so");
                return why;
            }
        }
    }
    "done".into()
}

/// Goes on whatever comes, until it is told that it is enough, and a little longer; what came last.
fn whatever(end: &mut End, path: &str) -> String {
    let (mut into, mut next, mut more) = (Vec::new(), 0, 0);
    loop {
        let done = step(end, next, &mut into);
        next += 1;
        more += u32::from(is_enough(path));
        if more > 3 {
            return done.map_or_else(|why| why, |_| "ok".into());
        }
    }
}

/// Whether the processes at a ring are to end.
fn is_enough(path: &str) -> bool {
    Path::new(path).with_file_name("enough").exists()
}

/// Two processes between which messages pass, for ever.
fn traffic(ring: &Ring, kind: &str, catch: bool, how: &str) -> [Process; 2] {
    make(kind, &ring.path);
    let mut ends = [ring.process(), ring.process()];
    for (end, role) in ends.iter_mut().zip(["recv", "send"]) {
        if catch {
            assert_eq!(end.ask("gone catch"), "ok");
        }
        assert_eq!(end.ask(format!("gone {kind} {role} {how} {}", ring.path)), "open");
    }
    let begun = ring.inspect().head;
    while ring.inspect().head.wrapping_sub(begun) < 100 {
        std::thread::yield_now();
    }
    ends
}

const FOREVER: u64 = u64::MAX;

/// Where a file may be cut, in pages from its beginning: nothing is left; the header; the words that all share; half of the
/// data; all but the last page.
fn cuts(path: &str) -> [u64; 5] {
    let pages = std::fs::metadata(path).unwrap().len() / 4096;
    [0, 1, 5, 5 + (pages - 5) / 2, pages - 1]
}

fn cut(path: &str, pages: u64) {
    File::options().write(true).open(path).unwrap().set_len(pages * 4096).unwrap();
}

#[test]
fn whoever_asked_to_survive_is_told_that_the_file_was_cut_under_the_traffic() {
    for kind in KINDS {
        for which in 0..5 {
            let ring = Ring::new(0);
            let mut ends = traffic(&ring, kind, true, &format!("honest {FOREVER}"));
            cut(&ring.path, cuts(&ring.path)[which]);
            for end in &mut ends {
                let answer = end.answer();
                assert_eq!(answer, "Truncated", "{kind}, cut {which}");
            }
            // They live, and so do their other rings.
            let other = ring.beside("other");
            make(kind, &other);
            for (end, role) in ends.iter_mut().zip(["recv", "send"]) {
                assert_eq!(end.ask(format!("gone {kind} {role} honest 1000 {other}")), "open");
            }
            ends.iter_mut().for_each(|end| assert_eq!(end.answer(), "done"));
        }
    }
}

#[test]
fn a_message_of_which_half_is_gone_is_not_delivered() {
    for kind in KINDS {
        let ring = Ring::new(0);
        let mut one = ring.process();
        assert_eq!(one.ask("gone catch"), "ok");
        let answer = one.ask(format!("gone half {kind} {}", ring.path));
        assert_eq!(answer, "Truncated [] Truncated", "{kind}");
    }
}

#[test]
fn a_file_that_is_cut_and_made_long_again_keeps_no_call() {
    for kind in KINDS {
        let ring = Ring::new(0);
        let ends = traffic(&ring, kind, true, "whatever");
        let len = std::fs::metadata(&ring.path).unwrap().len();
        cut(&ring.path, 0);
        cut(&ring.path, len.div_ceil(4096));
        // Whoever did not touch it in between finds it full of zeros.
        all_end(&ring, ends);
    }
}

/// Whether the ends of a ring whose memory was tampered with end, with answers that there are for that. Some do not notice.
fn all_end(ring: &Ring, ends: [Process; 2]) {
    std::fs::write(ring.beside("enough"), "").unwrap();
    for mut end in ends {
        let answer = end.answer();
        let all = ["ok", "Corrupt", "Timeout", "Disconnected", "Truncated"];
        assert!(all.contains(&&answer[..]), "{answer}");
    }
}

#[test]
fn whoever_did_not_ask_dies_of_the_signal() {
    for kind in KINDS {
        let ring = Ring::new(0);
        let mut ends = traffic(&ring, kind, false, &format!("honest {FOREVER}"));
        cut(&ring.path, 0);
        // One may have noticed by asking the file.
        let deaths = ends.iter_mut().filter_map(Process::killed_by);
        let deaths: Vec<_> = deaths.collect();
        assert!(!deaths.is_empty() && deaths.iter().all(|&by| by == libc::SIGBUS), "{deaths:?}");
    }
}

#[test]
fn whoever_is_at_a_ring_whose_name_goes_to_another_stays_with_those_who_were_there() {
    for kind in KINDS {
        let ring = Ring::new(0);
        let mut old = traffic(&ring, kind, false, "honest 200000");
        quoit::unlink(&ring.path).unwrap();
        assert!(old.iter_mut().all(|end| end.answer_so_far().is_none()), "they are at it");
        make(kind, &ring.path);
        let mut new = [ring.process(), ring.process()];
        for (end, role) in new.iter_mut().zip(["recv", "send"]) {
            let order = format!("gone {kind} {role} honest 1000 {}", ring.path);
            assert_eq!(end.ask(order), "open");
        }
        for end in new.iter_mut().chain(&mut old) {
            assert_eq!(end.answer(), "done", "{kind}");
        }
    }
}

/// Makes holes, one page after the other, which is full of zeros then.
fn punch(path: &str) {
    let file = File::options().write(true).open(path).unwrap();
    let pages = file.metadata().unwrap().len() / 4096;
    let flags = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    for page in (0..pages).rev() {
        let from = (page * 4096) as libc::off64_t;
        // SAFETY: the descriptor is open; no memory is passed.
        let rc = unsafe { libc::fallocate64(file.as_raw_fd(), flags, from, 4096) };
        assert_eq!(rc, 0, "{}", std::io::Error::last_os_error());
    }
}

#[test]
fn holes_under_the_traffic_end_no_process_and_keep_no_call() {
    for kind in KINDS {
        for catch in [false, true] {
            let ring = Ring::new(0);
            let ends = traffic(&ring, kind, catch, "whatever");
            punch(&ring.path);
            all_end(&ring, ends);
        }
    }
}

#[test]
fn a_ring_is_looked_at_while_it_is_cut_again_and_again() {
    for kind in KINDS {
        let ring = Ring::new(0);
        let mut one = ring.process();
        assert_eq!(one.ask("gone catch"), "ok");
        one.tell(format!("gone look {}", ring.path));
        assert_eq!(one.answer(), "open");
        let mut looks = 0;
        while looks < 200 {
            make(kind, &ring.path);
            std::thread::yield_now();
            cut(&ring.path, 3);
            quoit::unlink(&ring.path).unwrap();
            looks += 1;
        }
        std::fs::write(ring.beside("enough"), "").unwrap();
        assert_eq!(one.answer(), "ok");
    }
}
