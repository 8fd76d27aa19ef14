//! What becomes of a call whose system calls fail, each of them, with each error that the kernel has for it.
//!
//! Knows what a user may rely on then: an error that is a sentence, or success; nothing left behind; the ring as useful to
//! others as before; and success when the call is made again. Knows nothing of why quoit makes which system call.

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use libc::c_int;
use quoit::{Options, mpmc, spsc};

use crate::errnos;
use crate::harness::{Lab, alone, say};
use crate::sleepers::Sleeper;
use crate::tracer::{Forked, SystemCall, Traced, forever, gate};

type Done = Result<(), Box<dyn Error>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bytes,
    Slots,
}

/// What is done between the gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// Makes the ring, with an end or seat.
    Create,
    /// The same where files without names cannot be made.
    CreateHidden,
    /// The same in a folder of plain names that is not there yet.
    CreatePlain,
    Open,
    OpenOrCreate,
    /// The same when there is none yet.
    OpenOrNew,
    /// Sends to somebody asleep.
    Send,
    /// Waits for room that does not come.
    SendFull,
    /// Waits for a message that does not come.
    RecvEmpty,
    /// Lets go of the ring.
    Leave,
    /// Asks what it has seen so far.
    Stats,
    Recover,
    Inspect,
    List,
    Unlink,
}

impl Act {
    fn creates(self) -> bool {
        use Act::{Create, CreateHidden, CreatePlain, OpenOrNew};
        matches!(self, Create | CreateHidden | CreatePlain | OpenOrNew)
    }
}

/// What one run does to its system calls.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    None,
    /// The n-th of them is refused.
    Once(usize, c_int),
    /// So are all of its kind from then on.
    FromThenOn(usize, c_int),
    /// The n-th of them does half of its work.
    Short(usize),
}

impl Trouble {
    /// The call that it meets first.
    fn of(self, calls: &[SystemCall]) -> Option<SystemCall> {
        match self {
            Trouble::None => None,
            Trouble::Once(at, _) | Trouble::FromThenOn(at, _) | Trouble::Short(at) => {
                calls.get(at).copied()
            }
        }
    }
}

/// A handle of either ring.
enum End {
    BytesSender(spsc::Sender),
    BytesReceiver(spsc::Receiver),
    SlotsSender(mpmc::Sender),
    SlotsReceiver(mpmc::Receiver),
}

/// A call, and the ring that it is made on.
struct Scene {
    kind: Kind,
    act: Act,
    folder: PathBuf,
    path: String,
    /// The name under which the call finds the ring.
    name: String,
}

/// What a run said.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    answer: String,
    /// The same call made again, without trouble.
    again: String,
    /// What the process had when the call began that it has not, or the other way round.
    left: String,
}

fn options(kind: Kind) -> Options {
    match kind {
        Kind::Bytes => Options::new().capacity(4096),
        Kind::Slots => Options::new().capacity(2).max_len(12),
    }
}

impl Scene {
    fn new(lab: &Lab, kind: Kind, act: Act) -> Scene {
        let folder = PathBuf::from(lab.path("refusals"));
        let path = folder.join("ring");
        let plain = matches!(act, Act::CreatePlain | Act::List);
        let name = if plain { "ring".into() } else { text(&path) };
        Scene { kind, act, path: text(&path), folder, name }
    }

    fn is_there_before(&self) -> bool {
        !self.act.creates()
    }

    /// Makes the ring what it is before the call.
    fn prepare(&self) {
        let _ = fs::remove_dir_all(&self.folder);
        if self.act != Act::CreatePlain {
            fs::create_dir(&self.folder).unwrap();
        }
        if !self.is_there_before() {
            return;
        }
        let (path, kind) = (self.path.clone(), self.kind);
        in_a_child(move || {
            match kind {
                Kind::Bytes => spsc::create(&path, &options(kind)).unwrap(),
                Kind::Slots => mpmc::create(&path, &options(kind)).unwrap(),
            }
            // Somebody died here, with something to repair.
            match kind {
                Kind::Bytes => {
                    let mut tx = spsc::Sender::open(&path).unwrap();
                    drop(tx.reserve(100).unwrap());
                    std::mem::forget(tx);
                }
                Kind::Slots => {
                    let mut tx = mpmc::Sender::open(&path).unwrap();
                    std::mem::forget(tx.reserve(5).unwrap());
                    std::mem::forget(tx);
                }
            }
        });
    }

    /// What the call needs besides the ring.
    fn hold(&self) -> Option<End> {
        let path = &self.path;
        let receives = matches!(self.act, Act::RecvEmpty);
        if !matches!(self.act, Act::Send | Act::SendFull | Act::RecvEmpty | Act::Leave | Act::Stats)
        {
            return None;
        }
        let mut end = match (self.kind, receives) {
            (Kind::Bytes, false) => End::BytesSender(spsc::Sender::open(path).unwrap()),
            (Kind::Bytes, true) => End::BytesReceiver(spsc::Receiver::open(path).unwrap()),
            (Kind::Slots, false) => End::SlotsSender(mpmc::Sender::open(path).unwrap()),
            (Kind::Slots, true) => End::SlotsReceiver(mpmc::Receiver::open(path).unwrap()),
        };
        if self.act == Act::SendFull {
            while send(&mut end, Duration::ZERO).is_ok() {}
        }
        Some(end)
    }

    /// The call. What it opens it lets go of.
    fn call(&self, end: &mut Option<End>) -> Done {
        let (name, options) = (&self.name[..], &options(self.kind));
        let soon = Duration::from_millis(3);
        match (self.act, self.kind) {
            (Act::Create | Act::CreateHidden | Act::CreatePlain, Kind::Bytes) => {
                spsc::Sender::create(name, options)?;
            }
            (Act::Create | Act::CreateHidden | Act::CreatePlain, Kind::Slots) => {
                mpmc::Receiver::create(name, options)?;
            }
            (Act::Open, Kind::Bytes) => {
                spsc::Sender::open(name)?;
                spsc::Receiver::open(name)?;
            }
            (Act::Open, Kind::Slots) => {
                mpmc::Sender::open(name)?;
                mpmc::Receiver::open(name)?;
            }
            (Act::OpenOrCreate | Act::OpenOrNew, Kind::Bytes) => {
                spsc::Receiver::open_or_create(name, options)?;
            }
            (Act::OpenOrCreate | Act::OpenOrNew, Kind::Slots) => {
                mpmc::Sender::open_or_create(name, options)?;
            }
            (Act::Send, _) => send(end.as_mut().unwrap(), Duration::MAX)?,
            (Act::SendFull, _) => send(end.as_mut().unwrap(), soon)?,
            (Act::RecvEmpty, _) => recv(end.as_mut().unwrap(), soon)?,
            (Act::Leave, _) => drop(end.take()),
            (Act::Stats, _) => stats(end.as_mut().unwrap()),
            (Act::Recover, _) => drop(quoit::recover(name)?),
            (Act::Inspect, _) => drop(quoit::inspect(name)?),
            (Act::List, _) => {
                for listed in quoit::list()? {
                    listed.info?;
                }
            }
            (Act::Unlink, _) => quoit::unlink(name)?,
        }
        Ok(())
    }

    /// What the child does that the calls are traced of.
    fn perform(&self, mut to: UnixStream) {
        if matches!(self.act, Act::CreatePlain | Act::List) {
            // SAFETY: this process has one thread.
            unsafe { std::env::set_var("QUOIT_DIR", &self.folder) };
        }
        let bare = belongings(&self.folder);
        let mut end = self.hold();
        // Others may come.
        gate();
        // So that the allocator asks the kernel for nothing in the call.
        drop(std::hint::black_box(Vec::<u8>::with_capacity(100_000)));
        let before = belongings(&self.folder);
        gate();
        let answer = self.call(&mut end);
        gate();
        let answer = self.told(&answer);
        let after = belongings(&self.folder);
        let expected = if self.act == Act::Leave { bare } else { before };
        let left = match after == expected {
            true => String::new(),
            false => format!("{expected:?} became {after:?}"),
        };
        let again = match self.act {
            Act::Leave => answer.clone(),
            act if act.creates() || act == Act::Unlink => match &answer[..] {
                "done" => answer.clone(),
                _ => self.told(&self.call(&mut end)),
            },
            _ => self.told(&self.call(&mut end)),
        };
        drop(end);
        to.write_all(format!("{answer}\0{left}\0{again}\0").as_bytes()).unwrap();
        gate();
        forever();
    }

    /// An answer in words; an error is a sentence that names the ring or its folder.
    fn told(&self, answer: &Done) -> String {
        let Err(error) = answer else { return "done".into() };
        let sentence = error.to_string();
        assert!(
            sentence.contains(&self.name) || sentence.contains(&text(&self.folder)),
            "{sentence}"
        );
        assert!(sentence.len() > 30, "not a sentence: {sentence}");
        sentence
    }

    /// One run; the system calls that it made, and what came of it.
    fn run(&self, trouble: Trouble) -> (Vec<SystemCall>, Report) {
        self.prepare();
        let (mut said, to) = UnixStream::pair().unwrap();
        let (path, kind) = (&self.path, self.kind);
        let child = Traced::start(|| self.perform(to));
        let sleeper = (self.act == Act::Send).then(|| asleep(path, kind));
        child.run_to_gate();
        let calls = meddle(&child, self.act, trouble);
        child.run_to_gate();
        let mut words = String::new();
        let mut byte = [0];
        while words.matches('\0').count() < 3 {
            said.read_exact(&mut byte).unwrap();
            words.push(char::from(byte[0]));
        }
        let words: Vec<&str> = words.split('\0').collect();
        let report =
            Report { answer: words[0].into(), left: words[1].into(), again: words[2].into() };
        if let Some(mut sleeper) = sleeper {
            // Whatever was refused: it is woken, or looks around.
            sleeper.next(path);
        }
        self.look_around(&report, &trouble.of(&calls));
        (calls, report)
    }

    /// Whether others find the ring as it should be, while whoever met the trouble is still alive.
    fn look_around(&self, report: &Report, refused: &Option<SystemCall>) {
        let names: Vec<_> = fs::read_dir(&self.folder).unwrap().map(|it| it.unwrap()).collect();
        let unlinked = self.act == Act::Unlink && report.again == "done";
        // A name that could not be taken away stays.
        if !refused.is_some_and(errnos::takes_away) {
            assert_eq!(names.len(), usize::from(!unlinked), "{names:?} after {report:?}");
        }
        if unlinked {
            return;
        }
        let (path, kind) = (self.path.clone(), self.kind);
        in_a_child(move || exchange(&path, kind));
    }
}

/// Sends something short, waiting for so long.
fn send(end: &mut End, wait: Duration) -> Done {
    match end {
        End::BytesSender(tx) => tx.send_timeout(b"message", wait)?,
        End::SlotsSender(tx) => tx.send_timeout(b"message", wait)?,
        _ => unreachable!("a receiver sends nothing"),
    }
    Ok(())
}

fn recv(end: &mut End, wait: Duration) -> Done {
    match end {
        End::BytesReceiver(rx) => drop(rx.recv_timeout(wait)?),
        End::SlotsReceiver(rx) => drop(rx.recv_timeout(wait)?),
        _ => unreachable!("a sender receives nothing"),
    }
    Ok(())
}

fn stats(end: &mut End) {
    match end {
        End::BytesSender(tx) => drop(tx.stats()),
        End::BytesReceiver(rx) => drop(rx.stats()),
        End::SlotsSender(tx) => drop(tx.stats()),
        End::SlotsReceiver(rx) => drop(rx.stats()),
    }
}

/// A process asleep on the empty ring, which says what it has received.
fn asleep(path: &str, kind: Kind) -> Sleeper {
    Sleeper::start(|mut to| {
        let mut say = |len: usize| crate::sleepers::say(&mut to, len as u64);
        match kind {
            Kind::Bytes => {
                let mut rx = spsc::Receiver::open(path).unwrap();
                while let Ok(message) = rx.recv() {
                    say(message.len());
                }
            }
            Kind::Slots => {
                let rx = mpmc::Receiver::open(path).unwrap();
                while let Ok(message) = rx.recv() {
                    say(message.len());
                }
            }
        }
        forever();
    })
}

/// Goes through a call's system calls up to the second gate.
fn meddle(child: &Traced, act: Act, trouble: Trouble) -> Vec<SystemCall> {
    let mut calls: Vec<SystemCall> = Vec::new();
    while let Some(call) = child.to_call() {
        if act == Act::CreateHidden && errnos::opens_without_a_name(call) {
            child.refuse(libc::EOPNOTSUPP);
            continue;
        }
        if !errnos::is_refusable(call) {
            child.make();
            continue;
        }
        let here = calls.len();
        calls.push(call);
        let error = match trouble {
            Trouble::Once(at, error) if here == at => Some(error),
            Trouble::FromThenOn(at, error) if here >= at && call.number == calls[at].number => {
                Some(error)
            }
            Trouble::Short(at) if here == at => {
                child.make_shorter(call.args[2] / 2);
                continue;
            }
            _ => None,
        };
        match error {
            Some(error) if errnos::is_done_all_the_same(call) => child.make_and_refuse(error),
            Some(error) => child.refuse(error),
            None => child.make(),
        }
    }
    calls
}

/// Runs `body` in a child; whatever it opened is gone afterwards.
fn in_a_child(body: impl FnOnce()) {
    assert!(Forked::start(body).returned(), "what others do with the ring fails");
}

/// Receives what is there, and sends and receives as much as the ring holds.
fn exchange(path: &str, kind: Kind) {
    match kind {
        Kind::Bytes => {
            let mut rx = spsc::Receiver::open(path).unwrap();
            let mut tx = spsc::Sender::open(path).unwrap();
            while rx.try_recv().is_ok() {}
            for number in 0..200u64 {
                tx.send(&number.to_le_bytes()).unwrap();
                assert_eq!(rx.recv().unwrap().to_vec(), number.to_le_bytes());
            }
        }
        Kind::Slots => {
            let (tx, rx) = (mpmc::Sender::open(path).unwrap(), mpmc::Receiver::open(path).unwrap());
            while rx.try_recv().is_ok() {}
            for number in 0..10u64 {
                tx.send(&number.to_le_bytes()).unwrap();
                assert_eq!(rx.recv().unwrap().to_vec(), number.to_le_bytes());
            }
        }
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// What this process has of files: its descriptors, the locks that are held through them, and what it maps of the folder.
fn belongings(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let fds: Vec<_> = fs::read_dir("/proc/self/fd").unwrap().map(|fd| fd.unwrap().path()).collect();
    // The one that lists the others is closed by now.
    all.extend(fds.iter().filter_map(|fd| fs::read_link(fd).ok()).map(|to| text(&to)));
    for fd in &fds {
        let known = Path::new("/proc/self/fdinfo").join(fd.file_name().unwrap());
        let known = fs::read_to_string(known).unwrap_or_default();
        all.extend(known.lines().filter(|line| line.starts_with("lock:")).map(String::from));
    }
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let ours = text(folder);
    let mapped = |line: &&str| line.contains(&ours) || line.contains("/dev/shm/#");
    all.extend(maps.lines().filter(mapped).map(|line| line.split_whitespace().skip(1).collect()));
    all.sort();
    all
}

/// What was tried in all.
#[derive(Default)]
struct Tally {
    calls: usize,
    troubles: usize,
    refused: usize,
    /// What the second run did not come to: a sleep may take more turns, or fewer.
    missed: usize,
}

/// Every trouble, in every system call.
fn try_all(lab: &mut Lab, kind: Kind, act: Act, tally: &mut Tally) {
    if act == Act::Recover && kind == Kind::Bytes {
        return;
    }
    let scene = Scene::new(lab, kind, act);
    let (calls, usual) = scene.run(Trouble::None);
    assert!(!calls.is_empty(), "{kind:?} {act:?}: no system call");
    assert_eq!((&usual.left[..], &usual.again), ("", &usual.answer), "{kind:?} {act:?}");
    tally.calls += calls.len();
    for (at, &call) in calls.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| calls[at]);
        let place =
            format!("{kind:?} {act:?}, call {at} of {}, {}", calls.len(), errnos::name(call));
        lab.at(&place);
        let mut troubles: Vec<Trouble> =
            errnos::errors(call, before).iter().map(|&error| Trouble::Once(at, error)).collect();
        if calls[..at].iter().all(|before| before.number != call.number) {
            let forever = [libc::ENOSYS, libc::EPERM].map(|error| Trouble::FromThenOn(at, error));
            let spares = !errnos::takes_away(call) && !errnos::is_done_all_the_same(call);
            troubles.extend(forever.into_iter().filter(|_| spares));
        }
        if errnos::may_be_short(call) {
            troubles.push(Trouble::Short(at));
        }
        for trouble in troubles {
            let place = format!("{place}: {}", described(trouble));
            let (met, report) = scene.run(trouble);
            tally.troubles += 1;
            tally.missed += usize::from(met.get(at).is_none_or(|met| met.number != call.number));
            tally.refused += usize::from(report.answer != usual.answer);
            let harmless = match trouble {
                Trouble::Once(_, error) => error == libc::EINTR || errnos::is_dispensable(call),
                Trouble::Short(_) | Trouble::None => true,
                Trouble::FromThenOn(..) => {
                    errnos::is_dispensable(call) && call.number != libc::SYS_madvise
                }
            };
            if harmless {
                assert_eq!(report.answer, usual.answer, "{place}");
            }
            assert_eq!(report.again, usual.again, "{place}: made again");
            assert!(report.left.is_empty() || errnos::takes_away(call), "{place}: {}", report.left);
        }
    }
}

fn described(trouble: Trouble) -> String {
    match trouble {
        Trouble::None => "nothing".into(),
        Trouble::Once(_, error) => errnos::symbol(error),
        Trouble::FromThenOn(_, error) => format!("{} from then on", errnos::symbol(error)),
        Trouble::Short(_) => "half".into(),
    }
}

/// Every act, at both rings.
fn all(lab: &mut Lab, acts: &[Act]) {
    let mut tally = Tally::default();
    for kind in [Kind::Bytes, Kind::Slots] {
        for &act in acts {
            try_all(lab, kind, act, &mut tally);
        }
    }
    let Tally { calls, troubles, refused, missed } = tally;
    say(&format!(
        "refusals: {troubles} troubles in {calls} system calls of {acts:?}: {refused} errors, \
         {missed} missed"
    ));
    assert!(refused > 0 && missed * 10 < troubles, "next to nothing was tried");
}

#[test]
fn whoever_is_refused_a_system_call_while_it_makes_a_ring_leaves_nothing() {
    alone(
        "refusals::whoever_is_refused_a_system_call_while_it_makes_a_ring_leaves_nothing",
        |lab| all(lab, &[Act::Create, Act::CreateHidden, Act::CreatePlain, Act::OpenOrNew]),
    );
}

#[test]
fn whoever_is_refused_a_system_call_while_it_opens_a_ring_leaves_it_to_others() {
    alone(
        "refusals::whoever_is_refused_a_system_call_while_it_opens_a_ring_leaves_it_to_others",
        |lab| all(lab, &[Act::Open, Act::OpenOrCreate, Act::Leave]),
    );
}

#[test]
fn whoever_is_refused_a_system_call_while_it_wakes_or_sleeps_goes_on() {
    alone("refusals::whoever_is_refused_a_system_call_while_it_wakes_or_sleeps_goes_on", |lab| {
        all(lab, &[Act::Send, Act::SendFull, Act::RecvEmpty]);
    });
}

#[test]
fn whoever_is_refused_a_system_call_while_it_looks_or_tidies_up_harms_nobody() {
    alone(
        "refusals::whoever_is_refused_a_system_call_while_it_looks_or_tidies_up_harms_nobody",
        |lab| all(lab, &[Act::Stats, Act::Recover, Act::Inspect, Act::List, Act::Unlink]),
    );
}
