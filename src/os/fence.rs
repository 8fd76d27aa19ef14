//! The asymmetric fence: one side pays a system call so that the other pays
//! nothing. Knows the membarrier call; knows nothing of who uses it for what.
//!
//! A process whose threads want to be fenced from outside registers once. After
//! that, [`heavy`] in any process acts as if every running thread of every
//! registered process had executed a full fence.

use crate::os::fork;
use crate::sync::{AtomicU64, Ordering};

const GLOBAL_EXPEDITED: libc::c_int = 1 << 1;
const REGISTER_GLOBAL_EXPEDITED: libc::c_int = 1 << 2;

/// The fork generation for which registering has succeeded. A child is asked
/// again: whether it inherits its parent's registration is the kernel's affair.
static REGISTERED: AtomicU64 = AtomicU64::new(0);

fn membarrier(command: libc::c_int) -> bool {
    // SAFETY: membarrier takes two integers and a cpu number (unused here) and
    // touches no memory of ours.
    let rc = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
    rc == 0
}

/// Lets [`heavy`] reach the threads of this process. `false` when the kernel (or a
/// filter in front of it) refuses: then light fences here must be full ones.
pub(crate) fn register() -> bool {
    let generation = fork::generation();
    // Relaxed: the word remembers an answer, it publishes nothing.
    if generation != 0 && REGISTERED.load(Ordering::Relaxed) == generation {
        return true;
    }
    let done = membarrier(REGISTER_GLOBAL_EXPEDITED);
    if done {
        // Relaxed: as above.
        REGISTERED.store(generation, Ordering::Relaxed);
    }
    done
}

/// A full fence on every running thread of every registered process, this one
/// included. `false`: there was none.
pub(crate) fn heavy() -> bool {
    membarrier(GLOBAL_EXPEDITED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registering_twice_gives_the_same_answer() {
        let first = register();
        assert_eq!(first, register());
        fork::arm().unwrap();
        assert_eq!(first, register());
        assert_eq!(first, register());
    }

    #[test]
    fn a_kernel_that_registers_also_fences() {
        if register() {
            assert!(heavy());
        }
    }
}
