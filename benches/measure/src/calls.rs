//! Counting system calls, in a run of its own that nobody times.
//!
//! It knows two children that mark the beginning and the end of their work with a signal (`meter`). It refuses to know what the
//! work is.
//!
//! Each child is seized and stopped, and from there on stops at every entry and exit of a call. Between the two marks
//! that makes two stops for each call, and two for the `kill` that is the second mark.

use std::time::{Duration, Instant};

use anyhow::ensure;
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::Stop;

const MARK: Signal = Signal::SIGURG;
/// Looks for the next stop before a short sleep.
const LOOKS: u32 = 200;
const NAP: Duration = Duration::from_micros(100);

/// A child that is traced.
struct Traced {
    pid: Pid,
    marks: u32,
    stops: u64,
}

/// Seizes the children. They wait for the word to begin; an error is a machine where that is not allowed.
pub(crate) fn seize(pids: [Pid; 2]) -> nix::Result<()> {
    for pid in pids {
        ptrace::seize(pid, Options::PTRACE_O_TRACESYSGOOD)?;
        ptrace::interrupt(pid)?;
    }
    Ok(())
}

/// Follows the children from their first mark to their second and lets them go there; gives the calls of each, or
/// nothing if one of them is gone before that.
pub(crate) fn count(
    pids: [Pid; 2],
    patience: Duration,
    stop: Stop<'_>,
) -> anyhow::Result<Option<[u64; 2]>> {
    let mut traced = pids.map(|pid| Traced { pid, marks: 0, stops: 0 });
    let (end, mut idle) = (Instant::now() + patience, 0);
    while traced.iter().any(|child| child.marks < 2) {
        idle += 1;
        for child in traced.iter_mut().filter(|child| child.marks < 2) {
            // Whoever ends is only looked at, not reaped: that is for whoever started it.
            let look = WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
            match waitid(Id::Pid(child.pid), look | WaitPidFlag::WNOWAIT) {
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
                Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => return Ok(None),
                Ok(_) => {
                    idle = 0;
                    match child.go_on() {
                        // Killed in its stop: seen in the next round.
                        Err(Errno::ESRCH) => {}
                        done => done?,
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        if idle > 0 {
            ensure!(!stop(), "interrupted");
            ensure!(Instant::now() < end, "a run whose calls were counted did not end");
            if idle > LOOKS {
                std::thread::sleep(NAP);
            } else {
                std::thread::yield_now();
            }
        }
    }
    Ok(Some(traced.map(|child| (child.stops / 2).saturating_sub(1))))
}

impl Traced {
    /// Notes what it has stopped for, and lets it go on.
    fn go_on(&mut self) -> nix::Result<()> {
        match waitid(Id::Pid(self.pid), WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG)? {
            WaitStatus::PtraceSyscall(_) => self.stops += u64::from(self.marks == 1),
            WaitStatus::PtraceEvent(_, MARK, 0) => {
                self.marks += 1;
                if self.marks == 2 {
                    return ptrace::detach(self.pid, None);
                }
            }
            // Some other signal, which it shall have.
            WaitStatus::PtraceEvent(_, signal, 0) => return ptrace::syscall(self.pid, signal),
            WaitStatus::StillAlive => return Ok(()),
            // The stop that seizing it began with.
            _ => {}
        }
        ptrace::syscall(self.pid, None)
    }
}
