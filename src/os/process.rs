//! Processes as the kernel sees them. Knows this one's user and source of
//! randomness, and what /proc says of another; knows nothing of who takes part in
//! what.

use std::{fs, io};

/// The user whose rights count when this process opens a file.
pub(crate) fn euid() -> u32 {
    // SAFETY: geteuid takes nothing, touches no memory of ours and cannot fail.
    unsafe { libc::geteuid() }
}

/// Sixteen bytes that nobody else has drawn.
pub(crate) fn random() -> io::Result<[u8; 16]> {
    let mut bytes = [0u8; 16];
    loop {
        // SAFETY: the buffer is ours and has exactly the length we name.
        let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        // Requests up to 256 bytes are never cut short once they are answered.
        if n == bytes.len() as isize {
            return Ok(bytes);
        }
        let error = if n < 0 {
            io::Error::last_os_error()
        } else {
            io::Error::from(io::ErrorKind::UnexpectedEof)
        };
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Whether a process has been stopped, by a signal or by a debugger. For the eye
/// only: numbers are used again, and mean something else in another container.
pub(crate) fn is_stopped(pid: u32) -> bool {
    pid != 0 && fs::read(format!("/proc/{pid}/stat")).is_ok_and(|stat| is_stop(&stat))
}

/// The state stands behind the program's name, which may hold anything.
fn is_stop(stat: &[u8]) -> bool {
    let name_ends = stat.iter().rposition(|&byte| byte == b')');
    let state = name_ends.and_then(|at| stat.get(at + 2));
    matches!(state, Some(b'T' | b't'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::{self, Child};

    #[test]
    fn a_stopped_process_is_told_from_one_that_runs() {
        let _alone = testing::may_fork();
        assert!(!is_stopped(std::process::id()));
        let child = Child::start(|| {
            loop {
                std::thread::park();
            }
        });
        assert!(!is_stopped(child.pid()));
        child.stop();
        assert!(is_stopped(child.pid()));
        let pid = child.pid();
        child.kill();
        assert!(!is_stopped(pid));
    }

    #[test]
    fn the_name_of_a_program_is_not_taken_for_its_state() {
        assert!(is_stop(b"7 (a) T 1 7"));
        assert!(is_stop(b"7 (a) R) t 1 7"));
        for stat in [&b"7 (a) S 1 7"[..], b"7 (x) T) S 1", b"7 (T", b"7 (a)", b"7 (a) ", b"", b"T"]
        {
            assert!(!is_stop(stat), "{}", String::from_utf8_lossy(stat));
        }
        assert!(!is_stopped(0));
    }

    #[test]
    fn two_draws_differ() {
        assert_ne!(random().unwrap(), random().unwrap());
    }
}
