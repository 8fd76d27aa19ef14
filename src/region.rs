//! Where a ring's memory comes from: the heap of this process, or a mapped file.
//!
//! Knows how to make memory that outlives every view of it, with the first values of the cursors and of the slots. Knows
//! nothing of names, peers or algorithms.

use crate::layout::control::{ACKED, HEAD, TAIL, TAKEN, Word};
use crate::layout::geometry::{Geometry, Shape, Slots};
use crate::layout::slot;
use crate::layout::view::View;
use crate::sync::Ordering::Relaxed;

/// The control words of a ring of bytes that do not start as zero: all cursors stand where the ring begins.
pub const CURSORS: [Word; 4] = [TAIL, HEAD, ACKED, TAKEN];

/// The same of a ring of slots: its hints.
pub const HINTS: [Word; 2] = [TAIL, HEAD];

/// A ring of bytes, of this process alone, whose positions begin at `start`, a multiple of the line.
pub fn heap(ring: Geometry, start: u64) -> View {
    let view = zeros(ring, 0);
    for word in CURSORS {
        // Relaxed: nobody else knows this memory yet.
        quietly(|| view.word(word).store(start, Relaxed));
    }
    view
}

/// A ring of slots, of this process alone, whose positions begin at `start`.
pub fn slots(ring: Slots, start: u64) -> View<Slots> {
    let view = zeros(ring, ring.table());
    for word in HINTS {
        // Relaxed: nobody else knows this memory yet.
        quietly(|| view.word(word).store(ring.canonical(start), Relaxed));
    }
    for index in 0..ring.slots() {
        let word = slot::Word::empty(ring.first_lap(index, start));
        // Relaxed: as above.
        quietly(|| view.slot(index).word().store(word.0, Relaxed));
    }
    view
}

#[cfg(not(any(all(loom, feature = "model"), all(shuttle, feature = "model"))))]
fn quietly(set: impl FnOnce()) {
    set();
}

#[cfg(any(all(loom, feature = "model"), all(shuttle, feature = "model")))]
fn quietly(set: impl FnOnce()) {
    crate::sync::quietly(set);
}

#[cfg(not(any(all(loom, feature = "model"), all(shuttle, feature = "model"))))]
fn zeros<G: Shape>(ring: G, _table: u64) -> View<G> {
    use crate::layout::control::CONTROL_LEN;
    use crate::layout::geometry::LINE;
    use crate::layout::view::Keeper;
    use crate::sync::AtomicU64;
    use core::ptr::NonNull;
    use std::sync::Arc;

    /// Two cache lines, because the wait words are spaced so.
    #[repr(C, align(128))]
    struct Lines([AtomicU64; WORDS]);
    const WORDS: usize = 2 * LINE as usize / 8;

    // Not a box: moving one would claim that nobody else points into it.
    struct Heap(Arc<[Lines]>);
    impl Keeper for Heap {}

    let bytes = CONTROL_LEN + ring.bytes() as usize;
    let lines = bytes.div_ceil(size_of::<Lines>());
    let memory = Heap((0..lines).map(|_| Lines([const { AtomicU64::new(0) }; WORDS])).collect());
    let base = NonNull::from(&*memory.0).cast::<u8>();
    // SAFETY: V1: the allocation is aligned to 128 bytes, at least `bytes` long, made of atomics, does not move when its owner
    // does, and lives as long as the keeper.
    unsafe { View::over(base, ring, Arc::new(memory)) }
}

#[cfg(any(all(loom, feature = "model"), all(shuttle, feature = "model")))]
fn zeros<G: Shape>(ring: G, table: u64) -> View<G> {
    View::model(ring, table)
}

#[cfg(all(
    target_os = "linux",
    not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
))]
impl crate::layout::view::Keeper for crate::os::map::Mapping {}

/// The ring in a mapped file whose header said `ring`.
#[cfg(all(
    target_os = "linux",
    not(any(all(loom, feature = "model"), all(shuttle, feature = "model")))
))]
pub fn mapped<G: Shape>(
    mapping: std::sync::Arc<crate::os::map::Mapping>,
    ring: G,
) -> Option<View<G>> {
    use crate::layout::control::CONTROL_LEN;

    let enough = mapping.len() >= CONTROL_LEN + ring.bytes() as usize;
    let base = core::ptr::NonNull::new(mapping.base())?;
    // SAFETY: V1: a map is aligned to a page, its length was just checked, it lives as long as the keeper, and this
    // process touches it only through views.
    enough.then(|| unsafe { View::over(base, ring, mapping) })
}
