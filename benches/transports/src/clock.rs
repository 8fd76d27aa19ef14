//! Ticks: the cheapest steady counter that both processes share, and what one tick is worth.
//!
//! It knows the processor's counter and the kernel's monotonic clock. It refuses to know what is being timed.

use std::fs;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// How long a calibration watches both clocks.
const CALIBRATION: Duration = Duration::from_millis(20);

/// A clock that shows the same in every process of the machine.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Clock {
    /// The processor's counter: so many nanoseconds a tick.
    Counter(f64),
    /// The kernel's monotonic clock, in nanoseconds.
    Kernel,
}

impl Clock {
    /// The processor's counter where the kernel itself keeps time by it (so it is steady, and the same on every core),
    /// otherwise the kernel's clock.
    pub fn best() -> Clock {
        let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        let trusted = fs::read_to_string(source).is_ok_and(|name| name.trim() == "tsc");
        if !cfg!(target_arch = "x86_64") || !trusted {
            return Clock::Kernel;
        }
        let (wall, start) = (nanoseconds(), counter());
        while nanoseconds() - wall < CALIBRATION.as_nanos() as u64 {
            std::hint::spin_loop();
        }
        let (ns, ticks) = (nanoseconds() - wall, counter() - start);
        Clock::Counter(ns as f64 / ticks as f64)
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Clock::Counter(_) => "tsc",
            Clock::Kernel => "monotonic",
        }
    }

    /// Now.
    #[inline(always)]
    pub fn now(self) -> u64 {
        match self {
            Clock::Counter(_) => counter(),
            Clock::Kernel => nanoseconds(),
        }
    }

    /// The nanoseconds in so many ticks.
    #[inline(always)]
    pub fn ns(self, ticks: u64) -> f64 {
        match self {
            Clock::Counter(ns) => ticks as f64 * ns,
            Clock::Kernel => ticks as f64,
        }
    }

    /// The ticks in a duration.
    pub fn ticks(self, duration: Duration) -> u64 {
        match self {
            Clock::Counter(ns) => (duration.as_nanos() as f64 / ns) as u64,
            Clock::Kernel => duration.as_nanos() as u64,
        }
    }

    /// What one look at it takes, in nanoseconds.
    pub fn cost(self) -> f64 {
        const LOOKS: u64 = 10_000;
        let start = self.now();
        for _ in 1..LOOKS {
            std::hint::black_box(self.now());
        }
        self.ns(self.now() - start) / LOOKS as f64
    }
}

fn nanoseconds() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// Reads the counter once everything before it has been executed.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn counter() -> u64 {
    let mut core = 0;
    // SAFETY: where the kernel keeps time by this counter (`Clock::best`) the processor has RDTSCP and leaves it enabled
    // in user mode; `core` is a live local.
    unsafe { std::arch::x86_64::__rdtscp(&mut core) }
}

#[cfg(not(target_arch = "x86_64"))]
fn counter() -> u64 {
    nanoseconds()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_clock_agrees_with_the_kernels() {
        let clock = Clock::best();
        let (wall, start) = (nanoseconds(), clock.now());
        std::thread::sleep(Duration::from_millis(50));
        let (ticks, wall_end) = (clock.now() - start, nanoseconds());
        // The thread may be put aside between the readings: only the lower bound is exact.
        assert!(clock.ns(ticks) >= 49e6, "{clock:?}");
        assert!(clock.ns(ticks) <= (wall_end - wall) as f64 * 1.01, "{clock:?}");
    }
}
