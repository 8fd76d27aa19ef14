//! The native world: the processor's atomics and the kernel's futex.
//!
//! Knows how the names of `sync` map onto the machine. Knows nothing of what they are used for. Under Miri, which knows
//! futexes but neither `membarrier` nor forks, it does as on a machine that has neither.

pub use core::sync::atomic::{AtomicI32, AtomicPtr, compiler_fence, fence};
#[cfg(not(all(fuzzing, feature = "model")))]
pub use core::sync::atomic::{AtomicU32, AtomicU64};

#[cfg(all(fuzzing, feature = "model"))]
pub use super::oracle::{AtomicU32, AtomicU64};

use super::{Scope, Slept, copy};
#[cfg(target_os = "linux")]
use crate::os;

/// Whether this world is a model.
pub const MODELLED: bool = false;

/// Whether the modelled actor that runs here has died. Nobody is modelled in this world: a real death runs no
/// destructor, so there is nothing to ask.
#[inline(always)]
pub const fn dead() -> bool {
    false
}

/// Whether memory of some ring of this process was found gone, ever: then what was copied may be zeros that nobody sent.
#[inline(always)]
pub fn memory_lost() -> bool {
    #[cfg(target_os = "linux")]
    {
        os::sigbus::any_lost()
    }
    #[cfg(not(target_os = "linux"))]
    {
        false
    }
}

/// A wait begins. In this world its slices end by themselves, so there is nothing to do.
#[inline(always)]
pub fn wait_begins() {}

/// A hint to the processor that this is a spin loop.
#[inline]
pub fn spin_loop() {
    core::hint::spin_loop();
}

/// Gives the processor to somebody else.
pub fn yield_now() {
    std::thread::yield_now();
}

/// A point in time on `CLOCK_MONOTONIC`, in nanoseconds; `u64::MAX` is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(u64);

impl Deadline {
    /// The deadline that never passes.
    pub const NEVER: Self = Self(u64::MAX);

    /// `wait` from now; never, when the sum overflows.
    pub fn after(wait: core::time::Duration) -> Self {
        let wait = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        Self(now_ns().saturating_add(wait))
    }

    /// The same moment as `at`; a moment in the past has passed.
    pub fn at(at: std::time::Instant) -> Self {
        Self::after(at.saturating_duration_since(std::time::Instant::now()))
    }

    /// Whether it has passed.
    pub fn passed(self) -> bool {
        self != Self::NEVER && now_ns() >= self.0
    }

    /// The nearer of the two.
    pub fn min(self, other: Self) -> Self {
        Ord::min(self, other)
    }

    #[cfg(target_os = "linux")]
    fn ns(self) -> Option<u64> {
        (self != Self::NEVER).then_some(self.0)
    }
}

#[cfg(target_os = "linux")]
fn now_ns() -> u64 {
    os::clock::now_ns()
}

#[cfg(not(target_os = "linux"))]
fn now_ns() -> u64 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX - 1)
}

/// A clock that is cheap to read and coarse: milliseconds since some moment.
#[cfg(all(target_os = "linux", not(miri)))]
pub fn coarse_ms() -> u64 {
    os::clock::coarse_ms()
}

/// A clock that is cheap to read and coarse: milliseconds since some moment.
#[cfg(not(all(target_os = "linux", not(miri))))]
pub fn coarse_ms() -> u64 {
    now_ns() / 1_000_000
}

/// Sleeps while `word` holds `expected`, until woken or until `deadline`. May return early for no reason.
///
/// A private sleep without a deadline is `atomic-wait`'s; that crate sets the private flag and has no timeout, so
/// every other sleep is a call of our own (docs/wake-protocol.md).
pub fn futex_wait(word: &AtomicU32, expected: u32, deadline: Deadline, scope: Scope) -> Slept {
    if scope == Scope::Private && deadline == Deadline::NEVER {
        atomic_wait::wait(word, expected);
        return Slept::Look;
    }
    #[cfg(target_os = "linux")]
    {
        // SAFETY: a reference to an atomic is a mapped, aligned word for the whole call.
        unsafe { os::futex::wait(word.as_ptr(), expected, deadline.ns(), scope) }
    }
    #[cfg(not(target_os = "linux"))]
    {
        portable::wait(word, expected, deadline.0)
    }
}

/// Wakes up to `n` sleepers on `word`; says how many, where the platform knows.
pub fn futex_wake(word: &AtomicU32, n: u32, scope: Scope) -> u32 {
    #[cfg(target_os = "linux")]
    {
        os::futex::wake(word.as_ptr(), n, scope)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (n, scope);
        portable::wake(word)
    }
}

/// Elsewhere than on Linux a sleep with a deadline goes through a condition variable; every wake goes to both kinds of
/// sleeper.
#[cfg(any(not(target_os = "linux"), test))]
mod portable {
    use super::{AtomicU32, Slept, now_ns};
    use core::sync::atomic::Ordering::Relaxed;
    use std::sync::{Condvar, Mutex, PoisonError};
    use std::time::Duration;

    static LOCK: Mutex<()> = Mutex::new(());
    static WOKEN: Condvar = Condvar::new();

    pub(super) fn wait(word: &AtomicU32, expected: u32, deadline_ns: u64) -> Slept {
        let held = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        // Relaxed: the lock orders this look against the waker's change of the word.
        if word.load(Relaxed) != expected {
            return Slept::Look;
        }
        let left = Duration::from_nanos(deadline_ns.saturating_sub(now_ns()));
        let (held, slept) = WOKEN.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner);
        drop(held);
        if slept.timed_out() { Slept::TimedOut } else { Slept::Look }
    }

    pub(super) fn wake(word: &AtomicU32) -> u32 {
        drop(LOCK.lock().unwrap_or_else(PoisonError::into_inner));
        WOKEN.notify_all();
        atomic_wait::wake_all(word);
        1
    }
}

/// How this process orders its own store before its own later load, when it is the side that does so for every
/// message: by the compiler alone where the other side pays for both (`membarrier`), else by a full fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LightFence {
    /// Only the compiler is held; the sleeper runs `membarrier`.
    Compiler,
    /// A full fence for every message.
    Full,
}

impl LightFence {
    /// The cheapest kind that this process may use: it must be registered before its first light fence.
    pub fn best() -> Self {
        #[cfg(all(target_os = "linux", not(miri)))]
        if os::fence::register() {
            return Self::Compiler;
        }
        Self::Full
    }

    /// Orders the caller's stores before its later loads (row W1 of docs/memory-ordering.md; partner: [`remote_fence`]).
    #[inline(always)]
    pub fn run(self) {
        match self {
            Self::Compiler => compiler_fence(super::Ordering::SeqCst),
            Self::Full => full_fence(),
        }
    }
}

/// `fence(SeqCst)`, as cheaply as the processor has it.
///
/// On x86-64 the compiler makes `mfence` of it up to Rust 1.85 at least, which costs 8 times a locked instruction.
#[inline(always)]
fn full_fence() {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: ORs 0 into a word below the stack, which `asm!` without `nostack` may use; a locked instruction orders all
    // loads and stores around it, and `asm!` without `nomem` holds the compiler.
    unsafe {
        core::arch::asm!("lock or dword ptr [rsp - 64], 0");
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    fence(super::Ordering::SeqCst);
}

/// The sleeper's side of [`LightFence::Compiler`]: a full fence on every processor that runs a registered process. The
/// caller has run its own. Answers false when the kernel refuses: the caller must then sleep only briefly.
pub fn remote_fence() -> bool {
    #[cfg(all(target_os = "linux", not(miri)))]
    {
        os::fence::heavy()
    }
    #[cfg(not(all(target_os = "linux", not(miri))))]
    {
        false
    }
}

/// Asks for the line of `address`, which will be stored to. A hint: it faults nowhere and changes nothing.
#[inline(always)]
pub fn will_write(address: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a hint. Processors since 2006 that do not have it take these bytes for a no-operation.
    unsafe {
        core::arch::asm!("prefetchw [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: a hint.
    unsafe {
        core::arch::asm!("prfm pstl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
    let _ = address;
}

/// Asks for the line of `address`, which will be loaded. A hint: it faults nowhere and changes nothing.
#[inline(always)]
pub fn will_read(address: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a hint.
    unsafe {
        core::arch::asm!("prefetcht0 [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: a hint.
    unsafe {
        core::arch::asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
    let _ = address;
}

/// Which life of this process runs: a child made by `fork` has another one than its parent.
#[inline]
pub fn generation() -> u64 {
    #[cfg(all(target_os = "linux", not(miri)))]
    {
        os::fork::generation()
    }
    #[cfg(not(all(target_os = "linux", not(miri))))]
    {
        0
    }
}

/// Makes [`generation`] able to tell a forked child. Never fails elsewhere than on Linux.
pub fn arm_generation() -> std::io::Result<u64> {
    #[cfg(all(target_os = "linux", not(miri)))]
    os::fork::arm()?;
    Ok(generation())
}

/// Stores `from` into shared memory at `to`; the bytes up to the next multiple of 8 become zero.
///
/// # Safety
///
/// C1 and C2 of `copy` hold for `[to, to + from.len())`.
#[inline]
pub unsafe fn copy_to_shared(to: *mut u8, from: &[u8]) {
    // SAFETY: C1 by contract; C2 because `from` is a private slice.
    unsafe { copy::store(to, from.as_ptr(), from.len()) }
}

/// Loads `len` bytes of shared memory at `from` into `to`.
///
/// # Safety
///
/// C1 and C2 of `copy` hold for `[from, from + len)`, and `to` is writable for `len` bytes.
#[inline]
pub unsafe fn copy_from_shared(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: by contract.
    unsafe { copy::load(to, from, len) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn the_portable_wait_is_woken_and_times_out() {
        let word = Arc::new(AtomicU32::new(0));
        assert_eq!(portable::wait(&word, 1, u64::MAX), Slept::Look, "the word differs");
        assert_eq!(portable::wait(&word, 0, now_ns() + 1_000), Slept::TimedOut);
        let sleeper = std::thread::spawn({
            let word = Arc::clone(&word);
            move || {
                while word.load(core::sync::atomic::Ordering::Acquire) == 0 {
                    portable::wait(&word, 0, now_ns() + 60_000_000_000);
                }
            }
        });
        word.store(1, core::sync::atomic::Ordering::Release);
        portable::wake(&word);
        sleeper.join().expect("the sleeper ends");
    }

    #[test]
    fn a_deadline_that_overflows_never_passes() {
        assert_eq!(Deadline::after(core::time::Duration::MAX), Deadline::NEVER);
        assert!(!Deadline::NEVER.passed());
        assert!(Deadline::after(core::time::Duration::ZERO).passed());
    }
}
