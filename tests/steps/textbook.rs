//! A bounded ring as textbooks have it: a sequence number in each cell, two shared cursors, and nobody who could tell that
//! the owner of a claim is dead. Knows nothing of quoit. Its claim is that the harness finds what is wrong with it.

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::boundaries::{Case, Verdict, kill_at_each, track};
use crate::harness::{alone, say};
use crate::tracer::{gate, shared_memory};

const CELLS: usize = 4;

/// A cell belongs to whoever moved a cursor over it, until its sequence number says otherwise.
#[repr(C)]
struct Cell {
    sequence: AtomicU64,
    value: AtomicU64,
}

#[repr(C)]
struct Textbook {
    tail: AtomicU64,
    head: AtomicU64,
    cells: [Cell; CELLS],
    /// What the child did: a value that it popped, or that its push returned.
    note: AtomicU64,
}

impl Textbook {
    /// In memory that forks share, for the life of this process.
    fn shared() -> &'static Textbook {
        let at: NonNull<Textbook> = shared_memory();
        // SAFETY: the memory is as long as the ring and never unmapped; it is zero, which atomics may be.
        unsafe { at.as_ref() }
    }

    fn reset(&self) {
        self.tail.store(0, Ordering::Relaxed);
        self.head.store(0, Ordering::Relaxed);
        self.note.store(0, Ordering::Relaxed);
        for (i, cell) in self.cells.iter().enumerate() {
            cell.sequence.store(i as u64, Ordering::Relaxed);
            cell.value.store(0, Ordering::Relaxed);
        }
    }

    #[inline(never)]
    fn push(&self, value: u64) -> bool {
        let mut at = self.tail.load(Ordering::Relaxed);
        loop {
            let cell = &self.cells[at as usize % CELLS];
            match cell.sequence.load(Ordering::Acquire).cmp(&at) {
                std::cmp::Ordering::Equal => match self.claim(&self.tail, at) {
                    Ok(()) => {
                        cell.value.store(value, Ordering::Relaxed);
                        cell.sequence.store(at + 1, Ordering::Release);
                        return true;
                    }
                    Err(now) => at = now,
                },
                std::cmp::Ordering::Less => return false,
                std::cmp::Ordering::Greater => at = self.tail.load(Ordering::Relaxed),
            }
        }
    }

    #[inline(never)]
    fn pop(&self) -> Option<u64> {
        let mut at = self.head.load(Ordering::Relaxed);
        loop {
            let cell = &self.cells[at as usize % CELLS];
            match cell.sequence.load(Ordering::Acquire).cmp(&(at + 1)) {
                std::cmp::Ordering::Equal => match self.claim(&self.head, at) {
                    Ok(()) => {
                        let value = cell.value.load(Ordering::Relaxed);
                        cell.sequence.store(at + CELLS as u64, Ordering::Release);
                        return Some(value);
                    }
                    Err(now) => at = now,
                },
                std::cmp::Ordering::Less => return None,
                std::cmp::Ordering::Greater => at = self.head.load(Ordering::Relaxed),
            }
        }
    }

    fn claim(&self, cursor: &AtomicU64, at: u64) -> Result<(), u64> {
        cursor.compare_exchange(at, at + 1, Ordering::Relaxed, Ordering::Relaxed).map(drop)
    }
}

/// The value that is in question; the survivors' own ones are greater.
const VALUE: u64 = 7;

struct Death {
    ring: &'static Textbook,
    pop: bool,
}

impl Case for Death {
    fn name(&self) -> String {
        format!("textbook {}", if self.pop { "pop" } else { "push" })
    }

    fn prepare(&mut self) {
        self.ring.reset();
        if self.pop {
            assert!(self.ring.push(VALUE));
        }
    }

    fn call(&mut self) {
        gate();
        let note = match self.pop {
            true => self.ring.pop().unwrap_or_default(),
            false => u64::from(self.ring.push(VALUE)),
        };
        self.ring.note.store(note, Ordering::SeqCst);
        gate();
    }

    fn shared(&mut self) -> Vec<Range<*const u8>> {
        let from = std::ptr::from_ref(self.ring).cast::<u8>();
        vec![from..from.wrapping_add(size_of::<Textbook>())]
    }

    /// Pushes and pops for two laps. Nobody else is left, so what is refused now is refused for ever.
    fn judge(&mut self, returned: bool) -> Verdict {
        let mut popped = Vec::new();
        let mut wedged = false;
        for value in 100..100 + 2 * CELLS as u64 {
            wedged |= !self.ring.push(value);
            let before = popped.len();
            popped.extend(std::iter::from_fn(|| self.ring.pop()));
            wedged |= popped.len() == before;
        }
        let (stage, word) = match (wedged, popped.contains(&VALUE), self.pop) {
            (true, ..) => (1, "wedged"),
            (false, true, true) => (0, "still there"),
            (false, false, true) => (2, "taken"),
            (false, false, false) => (0, "not delivered"),
            (false, true, false) => (2, "delivered"),
        };
        let returned = returned || self.ring.note.load(Ordering::SeqCst) != 0;
        assert!(!returned || stage == 2, "{word}, and the call had returned");
        Verdict { stage, word }
    }
}

#[test]
fn the_textbook_ring_wedges_when_a_claimant_is_killed() {
    alone("textbook::the_textbook_ring_wedges_when_a_claimant_is_killed", |lab| {
        for pop in [false, true] {
            let mut death = Death { ring: Textbook::shared(), pop };
            let track = track(lab, &mut death);
            let account = kill_at_each(lab, &mut death, &track);
            account.say(lab, &death.name());
            let words: Vec<_> = account.verdicts.keys().map(|verdict| verdict.word).collect();
            let (wedged, tried) = (account.count("wedged"), account.tried);
            let call = if pop { "pop" } else { "push" };
            say(&format!(
                "steps: {wedged} of {tried} boundaries of {call} wedge the textbook ring"
            ));
            assert!(wedged > 0);
            assert_eq!(words.len(), 3, "{words:?}");
        }
    });
}
