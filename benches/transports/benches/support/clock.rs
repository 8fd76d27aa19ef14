//! Ticks: the cheapest steady counter of the machine, and what one tick is worth.
//!
//! It knows the instruction that reads the counter and calibrates it once. It refuses to know what
//! is being timed.

use std::time::{Duration, Instant};

/// How long a calibration watches both clocks.
const CALIBRATION: Duration = Duration::from_millis(20);

/// Converts ticks to nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    ns_per_tick: f64,
}

impl Clock {
    /// Holds the counter against the monotonic clock for a moment.
    ///
    /// The counter must run at one rate on every core (`constant_tsc`), as it does on every x86-64
    /// machine of the last decade.
    pub(crate) fn calibrate() -> Clock {
        let (wall, start) = (Instant::now(), ticks());
        while wall.elapsed() < CALIBRATION {
            std::hint::spin_loop();
        }
        let (ns, counted) = (wall.elapsed().as_nanos() as f64, ticks() - start);
        Clock { ns_per_tick: ns / counted as f64 }
    }

    /// The nanoseconds in so many ticks.
    pub(crate) fn ns(self, ticks: u64) -> f64 {
        ticks as f64 * self.ns_per_tick
    }

    /// The ticks in a duration.
    pub(crate) fn ticks(self, duration: Duration) -> u64 {
        (duration.as_nanos() as f64 / self.ns_per_tick) as u64
    }
}

/// Reads the counter once everything before it has been executed.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn ticks() -> u64 {
    let mut core = 0;
    // SAFETY: every x86-64 machine that Linux runs on with two cores has RDTSCP, and the kernel
    // leaves it enabled in user mode; `core` is a live local.
    unsafe { std::arch::x86_64::__rdtscp(&mut core) }
}

/// Nanoseconds of the monotonic clock, where no cheaper counter is known.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn ticks() -> u64 {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}
