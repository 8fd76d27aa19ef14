//! How an end waits for a descriptor of the kernel.
//!
//! It knows calls that say "not now". It refuses to know what they carry.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::Wait;

/// So long an adaptive end asks before it sleeps: about as long as a ring's.
pub(crate) const SPINS: Duration = Duration::from_micros(50);

/// After so many looks in vain an end that does not sleep gives way once, as a ring's does: it may share its core with the
/// other.
pub(crate) const IN_VAIN: u64 = 64;

/// The manner of one end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    wait: Wait,
    /// What it waits for.
    event: PollFlags,
}

impl Patience {
    /// For a receiver.
    pub(crate) fn to_read(wait: Wait, fd: impl AsFd) -> io::Result<Patience> {
        Patience { wait, event: PollFlags::POLLIN }.prepare(fd.as_fd())
    }

    /// For a sender.
    pub(crate) fn to_write(wait: Wait, fd: impl AsFd) -> io::Result<Patience> {
        Patience { wait, event: PollFlags::POLLOUT }.prepare(fd.as_fd())
    }

    /// Whoever blocks makes blocking calls; whoever asks first makes calls that do not block.
    fn prepare(self, fd: BorrowedFd<'_>) -> io::Result<Patience> {
        let mut flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
        flags.set(OFlag::O_NONBLOCK, self.wait != Wait::Block);
        fcntl(fd, FcntlArg::F_SETFL(flags))?;
        Ok(self)
    }

    /// Attempts until it is done.
    #[inline(always)]
    pub(crate) fn until<T>(
        self,
        fd: impl AsFd,
        mut attempt: impl FnMut() -> nix::Result<T>,
    ) -> io::Result<T> {
        let (mut since, mut in_vain) = (None, 0_u64);
        loop {
            match attempt() {
                Ok(done) => return Ok(done),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    in_vain += 1;
                    if self.wait != Wait::Spin
                        && since.get_or_insert_with(Instant::now).elapsed() >= SPINS
                    {
                        self.sleep(fd.as_fd())?;
                        since = None;
                    } else if in_vain % IN_VAIN == 0 {
                        std::thread::yield_now();
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    #[cold]
    fn sleep(self, fd: BorrowedFd<'_>) -> io::Result<()> {
        match poll(&mut [PollFd::new(fd, self.event)], PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
