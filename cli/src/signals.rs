//! Requests to stop. Knows SIGINT and SIGTERM; knows nothing of what has to be
//! finished first.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::exit::End;

/// A wait for a ring is cut into slices of this length, to look whether
/// somebody has asked to stop: a wait inside the library goes on after a signal.
pub(crate) const SLICE: Duration = Duration::from_millis(100);

/// The first SIGINT or SIGTERM is noted; the second does what it always does.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    which: Arc<AtomicUsize>,
}

impl Signals {
    /// From now on.
    pub(crate) fn listen() -> io::Result<Signals> {
        let which = Arc::new(AtomicUsize::new(0));
        let again = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds `again` unset, then sets it.
            flag::register_conditional_default(signal, Arc::clone(&again))?;
            flag::register(signal, Arc::clone(&again))?;
            flag::register_usize(signal, Arc::clone(&which), usize::try_from(signal).unwrap_or(0))?;
        }
        Ok(Signals { which })
    }

    /// The signal that asked to stop, if one did.
    pub(crate) fn asked(&self) -> Option<End> {
        // Relaxed: the number is all that is said.
        match self.which.load(Ordering::Relaxed) {
            0 => None,
            number => Some(End::Signal(u8::try_from(number).unwrap_or(0))),
        }
    }
}
