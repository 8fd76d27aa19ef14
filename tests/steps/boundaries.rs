//! Which boundaries between two instructions of a call are tried, and the account of them. Knows that two boundaries
//! between which no shared byte changed and the kernel was not entered leave the same behind; knows no ring.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use crate::harness::{Lab, say};
use crate::tracer::{Traced, enters_the_kernel, place};

/// What became of the call's work when its process died at a boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Verdict {
    /// Grows from boundary to boundary.
    pub(crate) stage: u32,
    /// What the stage is called.
    pub(crate) word: &'static str,
}

/// Which boundaries are tried when not all are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Everyday {
    /// One for every state that the call leaves behind, and some more.
    States { more: usize },
    /// The first one of every state and the last, before the instruction that changes it, and some more.
    Edges { more: usize },
    /// The last one of every state.
    Brinks,
}

/// A call, what it is done to, and what must hold after a death in it.
pub(crate) trait Case {
    fn name(&self) -> String;

    /// Makes all as it is before the call, from whatever the last death left.
    fn prepare(&mut self);

    /// In the child: `gate`, the call, `gate`.
    fn call(&mut self);

    /// Whether the call takes the same instructions each time, so that later boundaries never come back to an earlier stage.
    fn steady(&self) -> bool {
        true
    }

    /// Which boundaries are tried every day.
    fn everyday(&self) -> Everyday {
        Everyday::States { more: 16 }
    }

    /// Whether all boundaries are tried when all are asked for.
    fn every(&self) -> bool {
        true
    }

    /// Before the first step: the child stands at its first gate.
    fn begun(&mut self) {}

    /// The child stands at its boundary. True if it is not to die there, but behind its second gate.
    fn stopped(&mut self) -> bool {
        false
    }

    /// The shared bytes that the call may change. They stay where they are until the next call of `prepare`.
    fn shared(&mut self) -> Vec<Range<*const u8>>;

    /// What the survivors find. `returned`: the child died behind its second gate.
    fn judge(&mut self, returned: bool) -> Verdict;
}

/// The account of one case.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// How many boundaries the call has: one more than it has instructions.
    pub(crate) boundaries: usize,
    /// How many of them leave something else than the one before.
    pub(crate) states: usize,
    /// How many deaths and stops there were.
    pub(crate) tried: usize,
    /// How many of them were stops.
    pub(crate) stops: usize,
    /// What they came to.
    pub(crate) verdicts: BTreeMap<Verdict, usize>,
    /// How many deaths did not come where they should, because the call ran another way than when it was followed.
    pub(crate) astray: usize,
    /// How long it took.
    pub(crate) took: Duration,
}

impl Account {
    /// Says what came of the deaths.
    pub(crate) fn say(&self, lab: &mut Lab, name: &str) {
        lab.boundaries += self.boundaries;
        lab.deaths += self.tried - self.stops;
        lab.stops += self.stops;
        let came_to: Vec<String> =
            self.verdicts.iter().map(|(verdict, n)| format!("{n} {}", verdict.word)).collect();
        let astray = match self.astray {
            0 => String::new(),
            astray => format!(" ({astray} elsewhere than followed)"),
        };
        say(&format!(
            "steps: {name}: {} boundaries, {} states; {} deaths, {} stops{astray} in {:.1} s: {}",
            self.boundaries,
            self.states,
            self.tried - self.stops,
            self.stops,
            self.took.as_secs_f64(),
            came_to.join(", ")
        ));
    }

    /// Takes another account into this one.
    pub(crate) fn add(&mut self, other: &Account) {
        self.boundaries += other.boundaries;
        self.states += other.states;
        self.tried += other.tried;
        self.stops += other.stops;
        self.astray += other.astray;
        self.took += other.took;
        for (verdict, n) in &other.verdicts {
            *self.verdicts.entry(*verdict).or_default() += n;
        }
    }

    pub(crate) fn count(&self, word: &str) -> usize {
        self.verdicts.iter().filter(|(verdict, _)| verdict.word == word).map(|(_, n)| n).sum()
    }
}

/// A call that was followed from one gate to the other.
#[derive(Default)]
pub(crate) struct Track {
    /// The instruction that comes after so many steps.
    next: Vec<usize>,
    /// Of each boundary, how many times its instruction had run before.
    runs: Vec<usize>,
    /// Of each boundary, from which one it is reached soonest: there by breakpoint, then in steps.
    from: Vec<usize>,
    /// The boundaries that leave something else than the one before.
    pub(crate) states: Vec<usize>,
    seen: HashMap<usize, usize>,
}

/// A breakpoint that is met and passed takes as long as so many steps.
const PASS: usize = 3;

impl Track {
    /// One boundary more.
    fn push(&mut self, next: usize) {
        let at = self.next.len();
        let seen = self.seen.entry(next).or_default();
        let runs = *seen;
        *seen += 1;
        self.next.push(next);
        self.runs.push(runs);
        let from = match self.from.last() {
            Some(&from) if self.effort(from, at) <= PASS * (runs + 1) => from,
            _ => at,
        };
        self.from.push(from);
    }

    /// How long it takes to `at` by way of a breakpoint at `from`, in steps.
    fn effort(&self, from: usize, at: usize) -> usize {
        let met = if from == 0 { 0 } else { PASS * (self.runs[from] + 1) };
        met + at - from
    }
}

/// Whoever makes more steps makes them for ever.
const FAR: usize = 400_000;
/// Follows the call from gate to gate. It dies behind the second one.
pub(crate) fn track(lab: &mut Lab, case: &mut dyn Case) -> Track {
    let name = case.name();
    lab.at(&format!("{name}, being followed"));
    case.prepare();
    let traced = Traced::start(|| case.call());
    case.begun();
    let track = follow(&traced, &case.shared());
    traced.kill();
    judge(case, &mut Account::default(), true, || format!("{name}, returned"));
    track
}

/// Kills the call at its boundaries, and judges each death.
pub(crate) fn kill_at_each(lab: &mut Lab, case: &mut dyn Case, track: &Track) -> Account {
    let name = case.name();
    let (start, end) = (Instant::now(), track.next.len());
    let mut account =
        Account { boundaries: end + 1, states: track.states.len(), ..Account::default() };
    let mut stage = 0;
    for at in chosen(track, lab, case.everyday(), case.every()) {
        lab.at(&format!("{name}, {at} of {end}"));
        case.prepare();
        let traced = Traced::start(|| case.call());
        case.begun();
        let mut returned = !go_to(&traced, track, at);
        let next = traced.next();
        let astray = returned || next != track.next[at];
        let resumed = case.stopped() && !returned;
        if resumed {
            traced.run_to_gate();
            returned = true;
            account.stops += 1;
        }
        traced.kill();
        let (seed, how) = (lab.seed, if resumed { "stopped" } else { "killed" });
        let whence =
            || format!("{name}, {how} at {at} of {end}, before {} (seed {seed})", place(next));
        let verdict = judge(case, &mut account, returned, whence);
        if astray {
            account.astray += 1;
        } else if case.steady() {
            assert!(verdict.stage >= stage, "{verdict:?} comes after stage {stage}: {}", whence());
            stage = verdict.stage;
        }
    }
    account.took = start.elapsed();
    account
}

/// Steps the call to its end.
fn follow(traced: &Traced, shared: &[Range<*const u8>]) -> Track {
    let mut shadows: Vec<Shadow> = shared.iter().map(Shadow::of).collect();
    let mut track = Track { states: vec![0], ..Track::default() };
    track.push(traced.next());
    while track.next.len() <= FAR {
        let entering = track.next.last().is_some_and(|&at| enters_the_kernel(at));
        if !traced.step() {
            return track;
        }
        // All of them, for each learns what is new.
        let changed = shadows.iter_mut().filter_map(Shadow::changed).count();
        if changed > 0 || entering {
            track.states.push(track.next.len());
        }
        track.push(traced.next());
    }
    panic!("the call has not returned after {FAR} steps");
}

/// Bytes as they were a step ago.
struct Shadow {
    at: *const u8,
    bytes: Vec<u8>,
}

impl Shadow {
    fn of(range: &Range<*const u8>) -> Shadow {
        let mut bytes = vec![0; range.end.addr() - range.start.addr()];
        // SAFETY: a case names bytes that are mapped, the vector is as long, and nobody runs who could change them now.
        unsafe { range.start.copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
        Shadow { at: range.start, bytes }
    }

    /// Whether they are others now.
    fn changed(&mut self) -> Option<()> {
        let (was, len) = (self.bytes.as_mut_ptr(), self.bytes.len());
        // SAFETY: as above. The comparison is libc's, because an unoptimised one would take longer than the steps.
        let changed = unsafe { libc::memcmp(self.at.cast(), was.cast(), len) } != 0;
        if changed {
            // SAFETY: as above.
            unsafe { self.at.copy_to_nonoverlapping(was, len) };
        }
        changed.then_some(())
    }
}

/// The boundaries to try, from the first to the last.
fn chosen(track: &Track, lab: &mut Lab, everyday: Everyday, every: bool) -> Vec<usize> {
    let end = track.next.len();
    if lab.all && every {
        return (0..end).collect();
    }
    let mut chosen = BTreeSet::from([0, end - 1]);
    let mut pick = |from: usize, to: usize| {
        // Some are a long way off, in a loop. One of a few is not.
        let some = [(); 4].map(|()| from + lab.random.below((to - from) as u64) as usize);
        chosen.extend(some.into_iter().min_by_key(|&at| track.effort(track.from[at], at)));
    };
    match everyday {
        Everyday::States { more } => {
            for (i, &from) in track.states.iter().enumerate() {
                pick(from, track.states.get(i + 1).copied().unwrap_or(end));
            }
            (0..more).for_each(|_| pick(0, end));
        }
        Everyday::Edges { more } => {
            (0..more).for_each(|_| pick(0, end));
            chosen.extend(track.states.iter().flat_map(|&from| [from, from.saturating_sub(1)]));
        }
        Everyday::Brinks => chosen.extend(track.states.iter().skip(1).map(|&from| from - 1)),
    }
    chosen.into_iter().collect()
}

/// Goes on with a call that stands at its first gate until it has made so many steps. False when it returned before.
pub(crate) fn go_to(traced: &Traced, track: &Track, at: usize) -> bool {
    let from = track.from[at];
    if from > 0 && !traced.run_to(track.next[from], track.runs[from]) {
        return false;
    }
    (from..at).all(|_| traced.step())
}

fn judge(
    case: &mut dyn Case,
    account: &mut Account,
    returned: bool,
    whence: impl Fn() -> String,
) -> Verdict {
    match catch_unwind(AssertUnwindSafe(|| case.judge(returned))) {
        Ok(verdict) => {
            account.tried += 1;
            *account.verdicts.entry(verdict).or_default() += 1;
            verdict
        }
        Err(panic) => {
            say(&format!("steps: {}", whence()));
            resume_unwind(panic);
        }
    }
}
