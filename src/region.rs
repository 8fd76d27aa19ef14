//! Where a ring's memory comes from: the heap of this process, or a mapped file.
//!
//! Knows how to make memory that outlives every view of it, with the first values of the cursors. Knows nothing of
//! names, peers or algorithms.

use crate::layout::control::{ACKED, HEAD, TAIL, TAKEN, Word};
use crate::layout::geometry::Geometry;
use crate::layout::view::View;

/// The control words that do not start as zero: all cursors stand where the ring begins.
pub const CURSORS: [Word; 4] = [TAIL, HEAD, ACKED, TAKEN];

/// A ring of this process alone, whose positions begin at `start`, a multiple of the line.
#[cfg(not(any(all(loom, feature = "model"), all(shuttle, feature = "model"))))]
pub fn heap(ring: Geometry, start: u64) -> View {
    use crate::layout::control::CONTROL_LEN;
    use crate::layout::geometry::LINE;
    use crate::layout::view::Keeper;
    use crate::sync::{AtomicU64, Ordering::Relaxed};
    use core::ptr::NonNull;
    use std::sync::Arc;

    /// Two cache lines, because the wait words are spaced so.
    #[repr(C, align(128))]
    struct Lines([AtomicU64; 2 * LINE as usize / 8]);

    // Not a box: moving one would claim that nobody else points into it.
    struct Heap(Arc<[Lines]>);
    impl Keeper for Heap {}

    let bytes = CONTROL_LEN + ring.capacity() as usize;
    let lines = bytes.div_ceil(size_of::<Lines>());
    let memory =
        Heap((0..lines).map(|_| Lines(core::array::from_fn(|_| AtomicU64::new(0)))).collect());
    let base = NonNull::from(&*memory.0).cast::<u8>();
    // SAFETY: V1: the allocation is aligned to 128 bytes, at least `bytes` long, made of atomics, does not move when its owner
    // does, and lives as long as the keeper.
    let view = unsafe { View::over(base, ring, Arc::new(memory)) };
    for word in CURSORS {
        // Relaxed: nobody else knows this memory yet.
        view.word(word).store(start, Relaxed);
    }
    view
}

/// A ring of this process alone, whose positions begin at `start`, a multiple of the line.
#[cfg(any(all(loom, feature = "model"), all(shuttle, feature = "model")))]
pub fn heap(ring: Geometry, start: u64) -> View {
    let view = View::model(ring);
    for word in CURSORS {
        crate::sync::quietly(|| view.word(word).store(start, crate::sync::Ordering::Relaxed));
    }
    view
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
pub fn mapped(mapping: std::sync::Arc<crate::os::map::Mapping>, ring: Geometry) -> Option<View> {
    use crate::layout::control::CONTROL_LEN;

    let enough = mapping.len() >= CONTROL_LEN + ring.capacity() as usize;
    let base = core::ptr::NonNull::new(mapping.base())?;
    // SAFETY: V1: a map is aligned to a page, its length was just checked, it lives as long as the keeper, and this
    // process touches it only through views.
    enough.then(|| unsafe { View::over(base, ring, mapping) })
}
