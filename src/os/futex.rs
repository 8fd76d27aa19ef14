//! Sleeping on a word until somebody changes it. Knows one 32-bit word and an
//! absolute deadline; knows nothing of what the word means.
//!
//! A [`Scope::Shared`] sleeper is found by its file and offset, so a wake from
//! another process (through another mapping, in another namespace) reaches it. A
//! [`Scope::Private`] one is found by its address and costs a little less.

use std::io;

use crate::sync::{Scope, Slept};

/// The flag of the system call.
const fn flag(scope: Scope) -> libc::c_int {
    match scope {
        Scope::Shared => 0,
        Scope::Private => libc::FUTEX_PRIVATE_FLAG,
    }
}

/// The timespec of the system call itself. libc's own has 64-bit seconds on some
/// 32-bit targets, where `SYS_futex` still takes 32-bit ones.
#[repr(C)]
struct Timespec {
    sec: libc::c_long,
    nsec: libc::c_long,
}

impl Timespec {
    fn at(ns: u64) -> Timespec {
        // A clamped deadline is at least 68 years after boot: for ever.
        let sec = libc::c_long::try_from(ns / 1_000_000_000).unwrap_or(libc::c_long::MAX);
        Timespec { sec, nsec: (ns % 1_000_000_000) as libc::c_long }
    }
}

/// Sleeps while `*word == expected`, at the longest until `deadline_ns` on
/// [`now_ns`](super::clock::now_ns)'s clock.
///
/// Returns early at will: an interrupted sleep, and a word whose page is gone (a
/// truncated file), are [`Slept::Look`]. Callers loop, and ask after their file
/// when nothing else explains the wake.
///
/// # Safety
///
/// `word` is aligned to 4 and lies in a mapping that stays in place during the
/// call.
pub(crate) unsafe fn wait(
    word: *const u32,
    expected: u32,
    deadline_ns: Option<u64>,
    scope: Scope,
) -> Slept {
    let deadline = deadline_ns.map(Timespec::at);
    let timeout = deadline.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // WAIT_BITSET and not WAIT, because only its timeout is absolute: a sleep that
    // a signal cuts short starts again without growing.
    // SAFETY: the caller vouches for `word`; `timeout` is null or points at
    // `deadline`, which outlives the call; the kernel only reads both.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word,
            libc::FUTEX_WAIT_BITSET | flag(scope),
            expected,
            timeout,
            std::ptr::null::<u32>(),
            libc::FUTEX_BITSET_MATCH_ANY,
        )
    };
    if rc == 0 {
        return Slept::Look;
    }
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN) => Slept::Look,
        Some(libc::ETIMEDOUT) => Slept::TimedOut,
        Some(libc::EINTR | libc::EFAULT) => Slept::Look,
        _ => {
            // A filter forbids the call. The caller's loop must not burn the core.
            std::thread::yield_now();
            Slept::Look
        }
    }
}

/// Wakes up to `n` sleepers on `word` and returns how many there were.
///
/// Any address may be given: the kernel uses it as a key and answers an unmapped
/// one with an error, which counts as nobody.
pub(crate) fn wake(word: *const u32, n: u32, scope: Scope) -> u32 {
    let n = libc::c_int::try_from(n).unwrap_or(libc::c_int::MAX);
    // SAFETY: FUTEX_WAKE neither reads nor writes through the address from here;
    // the kernel resolves it and fails with EFAULT if it can not.
    let rc = unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE | flag(scope), n) };
    u32::try_from(rc).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::clock::now_ns;
    use crate::sync::{AtomicU32, Ordering};

    const SCOPES: [Scope; 2] = [Scope::Shared, Scope::Private];

    #[test]
    fn a_word_that_differs_is_not_slept_on() {
        let word = AtomicU32::new(7);
        for scope in SCOPES {
            // SAFETY: `word` lives in this frame for the whole call.
            let slept = unsafe { wait(word.as_ptr(), 8, None, scope) };
            assert_eq!(slept, Slept::Look);
        }
    }

    #[test]
    fn a_deadline_in_the_past_times_out_at_once() {
        let word = AtomicU32::new(7);
        for scope in SCOPES {
            // SAFETY: `word` lives in this frame for the whole call.
            let slept = unsafe { wait(word.as_ptr(), 7, Some(1), scope) };
            assert_eq!(slept, Slept::TimedOut);
        }
    }

    #[test]
    fn a_sleep_lasts_until_its_deadline() {
        let word = AtomicU32::new(7);
        let deadline = now_ns() + 20_000_000;
        loop {
            // SAFETY: `word` lives in this frame for the whole call.
            let slept = unsafe { wait(word.as_ptr(), 7, Some(deadline), Scope::Shared) };
            if slept == Slept::TimedOut {
                break;
            }
        }
        assert!(now_ns() >= deadline);
    }

    #[test]
    fn a_wake_reaches_a_sleeper() {
        for scope in SCOPES {
            let word = AtomicU32::new(0);
            std::thread::scope(|s| {
                s.spawn(|| {
                    while word.load(Ordering::Acquire) == 0 {
                        // SAFETY: `word` outlives the scope that joins this thread.
                        unsafe { wait(word.as_ptr(), 0, Some(u64::MAX), scope) };
                    }
                });
                // Waking nobody until somebody sleeps: the count says when.
                while wake(word.as_ptr(), 1, scope) == 0 {
                    std::thread::yield_now();
                }
                word.store(1, Ordering::Release);
                wake(word.as_ptr(), u32::MAX, scope);
            });
        }
    }

    #[test]
    fn waking_an_unmapped_word_wakes_nobody() {
        assert_eq!(wake(std::ptr::without_provenance(4096), 1, Scope::Shared), 0);
    }
}
