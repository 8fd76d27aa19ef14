//! How an end waits that can only try: as a ring of quoit does that spins.
//!
//! It knows looks, pauses and giving way. It refuses to know what is tried.

/// So many looks with a pause after each, and then one that gives way to others after each.
const PAUSES: u32 = 64;

/// Tries until it is done.
#[inline(always)]
pub(crate) fn until<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let mut looks = 0;
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        if looks < PAUSES {
            looks += 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}
