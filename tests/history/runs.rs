//! The runs: who works at which ring, for how long, and what must have happened for a run to say anything.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use quoit::mpmc::Receiver;

use crate::check::{Answer, Fate, Handle, History, Rule, Span, Taken, Verdict, check};
use crate::harness::{Process, Random, Ring, Shape, now, say};
use crate::log::{self, Call, Figures, Log, Reading, Said, Then, at_once};
use crate::notes::{COUNT, GO, READY};
use crate::worker::{BEGUN, DONE, Manner, log_of, tell};
use crate::wrong::{self, Fault};

/// Whether the runs have their full size.
fn is_full() -> bool {
    std::env::var("QUOIT_HISTORY").is_ok_and(|size| size == "full")
}

/// One number for everyday, another at full size.
fn sized(everyday: u64, at_full: u64) -> u64 {
    if is_full() { at_full } else { everyday }
}

/// Entries that the log of a worker has room for. The file has holes where nothing was written.
const ROOM: usize = 1 << 24;

/// What a run is made of.
#[derive(Clone, Copy)]
struct Plan {
    name: &'static str,
    slots: u64,
    senders: u64,
    receivers: u64,
    manner: Manner,
    /// Of all senders together.
    messages: u64,
    start: u64,
}

/// A ring, those who work at it, and where they write.
struct Run {
    ring: Ring,
    logs: tempfile::TempDir,
    processes: Vec<Process>,
    killed: Vec<(u64, Span)>,
    positions: u64,
}

impl Run {
    fn new(slots: u64, start: u64) -> Run {
        let ring = Ring::new(Shape { slots, max_len: 16, start, ..Shape::default() });
        // Not in memory, where the ring is: the logs are large.
        let logs = tempfile::Builder::new().prefix("quoit-history-").tempdir().unwrap();
        Run { ring, logs, processes: Vec::new(), killed: Vec::new(), positions: slots << 48 }
    }

    fn start(&self, role: &str, messages: u64, manner: Manner) -> Process {
        let logs = self.logs.path().display();
        self.ring.process(&format!("{logs} {ROOM} {role} {messages} {manner:?}"), 0)
    }

    fn add(&mut self, role: &str, messages: u64, manner: Manner) {
        let process = self.start(role, messages, manner);
        self.processes.push(process);
    }

    fn log(&self, number: u64) -> PathBuf {
        log_of(self.logs.path(), number)
    }

    /// Waits until all of them have a handle.
    fn ready(&mut self) {
        for process in &mut self.processes {
            process.ready(&self.ring, BEGUN);
        }
    }

    /// Lets all of them begin at once.
    fn begin(&mut self) {
        self.ready();
        self.ring.signal(1);
    }

    fn progress(&self) -> u64 {
        self.processes.iter().map(|process| process.journal.get(COUNT)).sum()
    }

    /// Waits until those from `from` on and below `to` are done, and lets them end.
    fn finish(&mut self, from: usize, to: usize) {
        let mut before = 0;
        for index in from..to {
            while self.processes[index].journal.get(READY) < DONE {
                self.processes[index].still_there();
                let now = self.progress();
                if now != before {
                    self.ring.alive();
                }
                before = now;
                std::thread::sleep(Duration::from_micros(200));
            }
            self.processes[index].journal.set(GO, 1);
            self.processes[index].finish();
            self.ring.alive();
        }
    }

    /// kill -9, and somebody else in its place.
    fn replace(&mut self, index: usize, role: &str) {
        let number = self.processes[index].number;
        let from = now();
        self.processes[index].kill();
        self.killed.push((number, Span { from, to: now() }));
        self.processes[index] = self.start(role, u64::MAX >> 24, Manner::Mixed);
        self.ring.alive();
    }

    /// Takes what is left, as one receiver more; answers its number.
    fn drain(&self) -> u64 {
        // Nobody has that one.
        let number = 1 << 19;
        let mut log = Log::create(&self.log(number), 1 << 16);
        let rx = log.around(Call::OpenReceiver, || Receiver::open(&self.ring.path).unwrap());
        rx.recover().unwrap();
        loop {
            let call = || match rx.try_recv() {
                Ok(message) => Ok(vec![message]),
                Err(error) if error.is_empty() => Err(Said::NotNow),
                Err(error) if error.is_disconnected() => Err(Said::Ended),
                Err(error) => panic!("{error}"),
            };
            let Ok(held) = log.receive(call, tell) else { break };
            for (message, entry) in held {
                log.then(entry, Then::Release, || drop(message));
            }
        }
        log.around(Call::Leave, || drop(rx));
        number
    }

    /// All that was written down.
    fn read(&self, start: u64) -> (History, Figures) {
        let mut history = History { slots: self.ring.shape.slots, ..History::default() };
        let mut figures = Figures::default();
        let mut read = |number, killed| {
            let reading = Reading { number, start, positions: self.positions, killed };
            log::read(&self.log(number), reading, &mut history, &mut figures);
        };
        for &(number, killed) in &self.killed {
            read(number, Some(killed));
        }
        for process in &self.processes {
            read(process.number, None);
        }
        (history, figures)
    }
}

/// What a run did, for people; and that it did enough to say something.
fn judge(name: &str, history: &History, figures: &Figures, verdict: &Verdict, checked: Duration) {
    let [sends, takes] = log::calls(history);
    let (met, crossed) = (at_once(&sends, &takes), at_once(&sends, &sends));
    let time = figures.time.unwrap();
    let seconds = (time.to - time.from) as f64 / 1e9;
    let share = |of: u64| 100 * of / (sends.len() as u64).max(1);
    say(&format!(
        "{name}: {} calls in {seconds:.1} s, {:.0} per second; {} messages sent, {} received; {} full ({} judged), {} empty \
         ({} while something was there), {} + {} timeouts, {} ends; {} claims given up, {} messages given back, {} in doubt; \
         {} % of the sends while somebody received, {} % while another sent; checked in {:.1} s",
        figures.calls,
        figures.calls as f64 / seconds,
        figures.sent,
        figures.received,
        figures.full,
        verdict.full[1],
        figures.empty,
        verdict.empty[1],
        figures.timeouts[0],
        figures.timeouts[1],
        figures.ends,
        figures.given_up,
        figures.given_back,
        figures.in_doubt,
        share(met),
        share(crossed),
        checked.as_secs_f64(),
    ));
    let broken: Vec<_> = verdict.broken.iter().map(ToString::to_string).collect();
    assert!(broken.is_empty(), "{name}: {broken:#?}");
    assert!(met > 0, "{name}: they took turns, a hollow pass");
}

/// Runs a plan to its end; answers its history.
fn run(plan: Plan) -> (History, Figures) {
    let mut run = Run::new(plan.slots, plan.start);
    for _ in 0..plan.senders {
        run.add("sender", plan.messages / plan.senders, plan.manner);
    }
    for _ in 0..plan.receivers {
        run.add("receiver", 0, plan.manner);
    }
    run.begin();
    let (senders, all) = (plan.senders as usize, run.processes.len());
    run.finish(0, senders);
    run.ring.signal(2);
    run.finish(senders, all);
    assert_eq!(run.ring.info().used, 0);
    run.read(plan.start)
}

fn checked(plan: Plan) -> (History, Figures, Verdict) {
    let (history, figures) = run(plan);
    let began = Instant::now();
    let verdict = check(&history);
    judge(plan.name, &history, &figures, &verdict, began.elapsed());
    // What it was meant for has happened.
    assert_eq!(figures.sent, plan.messages / plan.senders * plan.senders);
    assert_eq!(figures.received, figures.sent + figures.given_back);
    assert!(figures.ends >= plan.receivers, "the end is told to each receiver");
    if plan.manner == Manner::Blocking {
        assert_eq!((figures.full, figures.empty), (0, 0));
    } else {
        assert!(figures.given_up > 0);
        // A large ring may keep everybody busy.
        let small = plan.slots <= 16;
        assert!(!small || (figures.full > 0 && figures.empty > 0), "nobody had to wait");
        assert!(!small || verdict.full[1] > 0, "no answer `Full` could be judged");
    }
    assert!(figures.given_back > 0);
    (history, figures, verdict)
}

#[test]
fn whatever_many_call_at_once_what_they_are_answered_fits_together() {
    let near_the_end = |messages: u64| 0u64.wrapping_sub(messages / 2);
    let (some, many) = (sized(12_000, 450_000), sized(24_000, 1_600_000));
    let (mixed, blocking) = (Manner::Mixed, Manner::Blocking);
    let plan = |name, slots, senders, receivers, manner, messages, start| Plan {
        name,
        slots,
        senders,
        receivers,
        manner,
        messages,
        start,
    };
    let (mut calls, mut messages) = (0, 0);
    for plan in [
        plan("2 and 2 over 2 slots", 2, 2, 2, mixed, some, near_the_end(some)),
        plan("4 and 4 over 16 slots", 16, 4, 4, mixed, many, 0),
        plan("4 and 4 over 1024 slots, waiting", 1024, 4, 4, blocking, many, near_the_end(many)),
        plan("1 and 6 over 8 slots", 8, 1, 6, mixed, some, 0),
        plan("6 and 1 over 8 slots", 8, 6, 1, mixed, some, 0),
        plan("4 and 4 over 4 slots, trying", 4, 4, 4, Manner::Trying, some, near_the_end(some)),
        plan("2 and 2 over 256 slots, trying", 256, 2, 2, Manner::Trying, many, 0),
        plan("3 and 3 over 8 slots, fickle", 8, 3, 3, Manner::Fickle, some, 0),
    ] {
        let (_, figures, _) = checked(plan);
        calls += figures.calls;
        messages += figures.sent;
    }
    say(&format!("history: {calls} calls, {messages} messages in all"));
    assert!(calls >= sized(150_000, 10_000_000), "only {calls} calls");
}

#[test]
fn whoever_is_killed_what_the_others_are_answered_fits_together() {
    let mut random = Random::seeded("histories with kills");
    let (senders, receivers) = (3, 3);
    for (slots, start) in [(8, 0), (64, 0u64.wrapping_sub(10_000))] {
        let mut run = Run::new(slots, start);
        for _ in 0..senders {
            run.add("sender", u64::MAX >> 24, Manner::Mixed);
        }
        for _ in 0..receivers {
            run.add("receiver", 0, Manner::Mixed);
        }
        run.begin();
        let kills = sized(40, 400);
        while (run.killed.len() as u64) < kills {
            // So long they work: there is nothing to wait for but the time.
            std::thread::sleep(Duration::from_micros(random.below(12_000)));
            let victim = random.below(senders + receivers) as usize;
            run.processes.iter_mut().for_each(Process::still_there);
            let begun = run.processes[victim].journal.get(COUNT) > 0;
            if begun || random.once_in(16) {
                run.replace(victim, if victim < senders as usize { "sender" } else { "receiver" });
            }
        }
        // Whoever comes when the end was told waits for the next sender, and there is none.
        run.ready();
        run.ring.signal(2);
        run.finish(0, (senders + receivers) as usize);
        let last = run.drain();
        assert_eq!(run.ring.info().used, 0);
        let (mut history, mut figures) = run.read(start);
        let reading = Reading { number: last, start, positions: run.positions, killed: None };
        log::read(&run.log(last), reading, &mut history, &mut figures);
        let began = Instant::now();
        let verdict = check(&history);
        let name = format!("3 and 3 over {slots} slots, {kills} killed");
        judge(&name, &history, &figures, &verdict, began.elapsed());
        assert!(figures.in_doubt > 0 && figures.full > 0 && figures.empty > 0);
        assert!(history.taken.iter().any(|taken| taken.attempts > 1));
    }
}

#[test]
fn the_check_finds_what_is_wrong_with_a_wrong_ring_and_nothing_with_a_right_one() {
    for fault in Fault::ALL {
        let mut run = Run::new(2, 0);
        wrong::Ring::create(&format!("{}.wrong", run.ring.path), fault);
        run.positions = 1 << 48;
        for _ in 0..2 {
            run.add("wrong-sender", sized(10_000, 100_000), Manner::Trying);
        }
        for _ in 0..2 {
            run.add("wrong-receiver", 0, Manner::Trying);
        }
        run.begin();
        run.finish(0, 2);
        run.ring.signal(2);
        run.finish(2, 4);
        let (mut history, figures) = run.read(0);
        history.slots = wrong::CELLS;
        let began = Instant::now();
        let verdict = check(&history);
        let broken: Vec<Rule> = verdict.broken.iter().map(|broken| broken.rule).collect();
        let name = format!("a wrong ring, {fault:?}");
        if fault == Fault::Nothing {
            judge(&name, &history, &figures, &verdict, began.elapsed());
            continue;
        }
        say(&format!("{name}: {} calls, broken: {broken:?}", figures.calls));
        let wanted = match fault {
            Fault::Nothing => unreachable!("judged above"),
            Fault::Twice => Rule::Twice,
            Fault::Lost => Rule::Lost,
            Fault::Swapped => Rule::RealTime,
            Fault::Late | Fault::Empty => Rule::Empty,
            Fault::Full => Rule::Full,
            Fault::Early => Rule::Reused,
        };
        assert!(verdict.breaks(wanted), "{name}: {wanted:?} is not among {broken:?}");
    }
}

/// One of them that is so, at random.
fn some<T>(of: &[T], random: &mut Random, so: impl Fn(usize, &T) -> bool) -> usize {
    let all: Vec<usize> = (0..of.len()).filter(|&index| so(index, &of[index])).collect();
    assert!(!all.is_empty(), "the history has none of those");
    all[random.below(all.len() as u64) as usize]
}

/// Somebody changes one thing in a history.
type Forgery = fn(&mut History, &mut Random);

fn is_new(taken: &Taken) -> bool {
    taken.attempts == 1
}

/// Taken once and released.
fn is_plain(taken: &Taken) -> bool {
    is_new(taken) && taken.fate == Fate::Released
}

/// When everything was over.
fn end_of(history: &History) -> u64 {
    history.taken.iter().map(|taken| taken.end.to).max().unwrap()
}

/// The last time a message was taken, and all that came of it, moves to a later time.
fn delay(taken: &mut Taken, to: u64) {
    taken.take = Span { from: to, to: to + 1 };
    taken.end = Span { from: to + 2, to: to + 3 };
}

const FORGERIES: [(&str, &[Rule], Forgery); 16] = [
    ("a message that nobody took", &[Rule::Lost], |history, random| {
        let index = some(&history.taken, random, |_, taken| is_plain(taken));
        history.taken.remove(index);
    }),
    ("a message given back that did not come again", &[Rule::Lost], |history, random| {
        let index = some(&history.taken, random, |_, taken| is_plain(taken));
        history.taken[index].fate = Fate::GivenBack;
    }),
    ("a message that nobody sent", &[Rule::Invented], |history, random| {
        let index = some(&history.sent, random, |_, _| true);
        history.sent.remove(index);
    }),
    ("a message taken before it was sent", &[Rule::Invented], |history, random| {
        let index = some(&history.taken, random, |_, taken| is_plain(taken));
        history.taken[index].take = Span { from: 1, to: 2 };
    }),
    ("a message taken twice", &[Rule::Twice], |history, random| {
        let index = some(&history.taken, random, |_, taken| is_plain(taken));
        history.taken.insert(index + 1, history.taken[index]);
    }),
    ("a mark without a reason", &[Rule::Twice], |history, random| {
        let index = some(&history.taken, random, |_, taken| is_plain(taken));
        history.taken[index].attempts = 2;
    }),
    ("a mark that is missing", &[Rule::Twice], |history, random| {
        let index = some(&history.taken, random, |_, taken| !is_new(taken));
        history.taken[index].attempts -= 1;
    }),
    ("two at one place", &[Rule::Moved], |history, random| {
        let index = some(&history.taken, random, |_, taken| is_plain(taken));
        let id = history.taken[index].id;
        let other = some(&history.taken, random, |_, taken| taken.id != id);
        history.taken[other].order = history.taken[index].order;
    }),
    ("two places exchanged", &[Rule::ReceiverOrder], |history, random| {
        let taken = &mut history.taken;
        let index = some(taken, random, |index, one| {
            let next = taken.get(index + 1);
            is_plain(one)
                && next.is_some_and(|next| is_plain(next) && next.receiver == one.receiver)
        });
        (taken[index].order, taken[index + 1].order) = (taken[index + 1].order, taken[index].order);
    }),
    ("a message that came late", &[Rule::ClaimOrder, Rule::TakeOrder], |history, random| {
        let (end, half) = (end_of(history), history.taken.len() as u64 / 4);
        let index = some(&history.taken, random, |_, taken| is_plain(taken) && taken.order < half);
        delay(&mut history.taken[index], end + 10);
        let id = history.taken[index].id;
        let sent = history.sent.iter_mut().find(|sent| sent.id == id).unwrap();
        (sent.claim.from, sent.claim.to) = (end + 5, end + 6);
        sent.commit = sent.claim;
    }),
    ("a message taken late", &[Rule::TakeOrder, Rule::RealTime], |history, random| {
        let (end, half) = (end_of(history), history.taken.len() as u64 / 4);
        let index = some(&history.taken, random, |_, taken| is_plain(taken) && taken.order < half);
        delay(&mut history.taken[index], end + 10);
    }),
    ("a message released late", &[Rule::Reused], |history, random| {
        let end = end_of(history);
        let places: HashSet<u64> = history.taken.iter().map(|taken| taken.order).collect();
        let slots = history.slots;
        let index = some(&history.taken, random, |_, taken| {
            is_plain(taken) && places.contains(&(taken.order + slots))
        });
        history.taken[index].end = Span { from: end + 1, to: end + 2 };
    }),
    ("empty, and something was there", &[Rule::Empty], |history, random| {
        let end = end_of(history);
        let index = some(&history.taken, random, |_, taken| is_plain(taken));
        delay(&mut history.taken[index], end + 10);
        history.refused.push((Answer::Empty, Span { from: end + 1, to: end + 2 }));
    }),
    ("empty, and something was aside", &[Rule::Aside], |history, random| {
        let end = end_of(history);
        let index =
            some(&history.taken, random, |_, taken| !is_new(taken) && taken.fate == Fate::Released);
        delay(&mut history.taken[index], end + 10);
        history.refused.push((Answer::Empty, Span { from: end + 1, to: end + 2 }));
    }),
    ("full, and there was room", &[Rule::Full], |history, _| {
        let end = end_of(history);
        let last = history.taken.iter().map(|taken| taken.order).max().unwrap();
        let index = history.taken.iter().position(|taken| taken.order == last).unwrap();
        let id = history.taken[index].id;
        for taken in history.taken.iter_mut().filter(|taken| taken.id == id) {
            delay(taken, end + 10 + 10 * taken.attempts);
        }
        let sent = history.sent.iter_mut().find(|sent| sent.id == id).unwrap();
        sent.claim = Span { from: end + 5, to: end + 6 };
        sent.commit = sent.claim;
        history.refused.push((Answer::Full, Span { from: end + 1, to: end + 2 }));
    }),
    ("an end, and somebody was there", &[Rule::Ended], |history, random| {
        let index = some(&history.handles, random, |_, _| true);
        let Handle { sends, opened, .. } = history.handles[index];
        let answer = if sends { Answer::NoSender } else { Answer::NoReceiver };
        history.refused.push((answer, Span { from: opened + 1, to: opened + 2 }));
    }),
];

#[test]
fn a_real_history_that_is_falsified_in_one_place_is_found_out() {
    let mut random = Random::seeded("falsified histories");
    let (history, ..) = checked(Plan {
        name: "3 and 3 over 8 slots, to be falsified",
        slots: 8,
        senders: 3,
        receivers: 3,
        manner: Manner::Mixed,
        messages: 4500,
        start: 0,
    });
    for (what, rules, forge) in FORGERIES {
        for _ in 0..sized(3, 50) {
            let mut forged = history.clone();
            forge(&mut forged, &mut random);
            let verdict = check(&forged);
            for rule in rules {
                let broken = &verdict.broken;
                assert!(verdict.breaks(*rule), "{what}: {rule:?} is not among {broken:?}");
            }
        }
    }
}
