//! Which boundaries between two instructions of a call are tried, and the account of them. Knows that two boundaries
//! between which no shared byte changed and the kernel was not entered leave the same behind; knows no ring.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::harness::{Lab, say};
use crate::tracer::{Traced, enters_the_kernel, place};

/// What became of the call's work when its process died at a boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Verdict {
    /// Later boundaries never come back to an earlier stage.
    pub(crate) stage: u32,
    /// What the stage is called.
    pub(crate) word: &'static str,
}

/// A call, what it is done to, and what must hold after a death in it.
pub(crate) trait Case {
    fn name(&self) -> String;

    /// Makes all as it is before the call, from whatever the last death left.
    fn prepare(&mut self);

    /// In the child: `gate`, the call, `gate`.
    fn call(&mut self);

    /// Before the first step: the child stands at its first gate.
    fn begun(&mut self) {}

    /// The shared bytes that the call may change.
    fn shared(&self) -> Vec<Range<*const u8>>;

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
    /// How many deaths there were.
    pub(crate) tried: usize,
    /// What they came to.
    pub(crate) verdicts: BTreeMap<Verdict, usize>,
    /// How many deaths did not come where they should, because the call ran another way than when it was followed.
    pub(crate) astray: usize,
}

impl Account {
    pub(crate) fn count(&self, word: &str) -> usize {
        self.verdicts.iter().filter(|(verdict, _)| verdict.word == word).map(|(_, n)| n).sum()
    }
}

/// A call that was followed from one gate to the other.
struct Track {
    /// The instruction that comes after so many steps.
    next: Vec<usize>,
    /// Of each boundary, the last one up to it before whose instruction that instruction had not run.
    fresh: Vec<usize>,
    /// The boundaries that leave something else than the one before.
    states: Vec<usize>,
}

/// Longer calls are followed so far and no farther.
const FAR: usize = 400_000;
/// Boundaries that are tried besides one for every state.
const SAMPLES: usize = 16;

/// Kills the call at its boundaries, and judges each death. Says the account.
pub(crate) fn kill_at_each(lab: &mut Lab, case: &mut dyn Case) -> Account {
    let name = case.name();
    lab.at(&format!("{name}, being followed"));
    case.prepare();
    let traced = Traced::start(|| case.call());
    case.begun();
    let track = follow(&traced, &case.shared());
    traced.kill();
    let end = track.next.len();
    let mut account =
        Account { boundaries: end + 1, states: track.states.len(), ..Account::default() };
    let mut stage = 0;
    judge(case, &mut account, true, || format!("{name}, returned"));
    for at in chosen(&track, lab) {
        lab.at(&format!("{name}, {at} of {end}"));
        case.prepare();
        let traced = Traced::start(|| case.call());
        case.begun();
        let returned = !go_to(&traced, &track, at);
        let next = traced.next();
        let astray = returned || next != track.next[at];
        traced.kill();
        let whence = || format!("{name}, killed at {at} of {end}, before {}", place(next));
        let verdict = judge(case, &mut account, returned, whence);
        if astray {
            account.astray += 1;
        } else {
            assert!(verdict.stage >= stage, "{verdict:?} comes after stage {stage}: {}", whence());
            stage = verdict.stage;
        }
    }
    report(&name, &account);
    account
}

/// Steps the call to its end.
fn follow(traced: &Traced, shared: &[Range<*const u8>]) -> Track {
    let mut shadows: Vec<Shadow> = shared.iter().map(Shadow::of).collect();
    let mut track = Track { next: vec![traced.next()], fresh: vec![0], states: vec![0] };
    let mut seen = HashSet::from([traced.next()]);
    while track.next.len() < FAR {
        let entering = track.next.last().is_some_and(|&at| enters_the_kernel(at));
        if !traced.step() {
            break;
        }
        // All of them, for each learns what is new.
        let changed = shadows.iter_mut().filter_map(Shadow::changed).count();
        if changed > 0 || entering {
            track.states.push(track.next.len());
        }
        let next = traced.next();
        let last = track.fresh.last().copied().unwrap_or_default();
        track.fresh.push(if seen.insert(next) { track.next.len() } else { last });
        track.next.push(next);
    }
    track
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
fn chosen(track: &Track, lab: &mut Lab) -> Vec<usize> {
    let end = track.next.len();
    if lab.all() {
        return (0..end).collect();
    }
    let mut chosen = BTreeSet::from([0, end - 1]);
    for (i, &from) in track.states.iter().enumerate() {
        let to = track.states.get(i + 1).copied().unwrap_or(end);
        chosen.insert(from + lab.random.below((to - from) as u64) as usize);
    }
    chosen.extend((0..SAMPLES).map(|_| lab.random.below(end as u64) as usize));
    chosen.into_iter().collect()
}

/// Goes on with a call that stands at its first gate until it has made so many steps. False when it returned before.
///
/// An instruction that runs for the first time can be run to; only the way from the last such one is stepped.
fn go_to(traced: &Traced, track: &Track, at: usize) -> bool {
    let from = track.fresh[at];
    if from > 0 && !traced.run_to(track.next[from]) {
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

fn report(name: &str, account: &Account) {
    let came_to: Vec<String> =
        account.verdicts.iter().map(|(verdict, n)| format!("{n} {}", verdict.word)).collect();
    let astray = match account.astray {
        0 => String::new(),
        astray => format!(" ({astray} elsewhere than followed)"),
    };
    say(&format!(
        "steps: {name}: {} boundaries, {} states; {} deaths{astray}: {}",
        account.boundaries,
        account.states,
        account.tried,
        came_to.join(", ")
    ));
}
