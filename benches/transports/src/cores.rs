//! Cores, and who is nailed to which.
//!
//! It knows two calls of the kernel. It refuses to know which cores go well together.

use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The thread that calls.
const CALLER: Pid = Pid::from_raw(0);

/// The cores that the calling thread may use.
pub fn cores() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(CALLER)?;
    Ok((0..CpuSet::count()).filter(|&core| set.is_set(core).unwrap_or(false)).collect())
}

/// Nails the calling thread to a core.
pub fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    Ok(sched_setaffinity(CALLER, &set)?)
}
