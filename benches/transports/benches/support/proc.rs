//! Two processes, one shared mapping, and a watchdog.
//!
//! It knows the kernel's calls for that. It refuses to know what the processes say to each other.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

/// Pieces of an arena begin on a page.
const PAGE: usize = 4096;

/// Zeroed memory that parent and child share, handed out piece by piece before the fork.
#[derive(Debug)]
pub(crate) struct Arena {
    base: NonNull<u8>,
    len: usize,
    used: Cell<usize>,
}

impl Arena {
    /// Maps at least `len` bytes and faults them in.
    pub(crate) fn new(len: usize) -> io::Result<Arena> {
        let len = len.next_multiple_of(PAGE);
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: an anonymous mapping at a place of the kernel's choice disturbs nobody.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), len, prot, flags | libc::MAP_ANONYMOUS, -1, 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).expect("the kernel maps nothing at zero");
        let arena = Arena { base, len, used: Cell::new(0) };
        arena.populate();
        Ok(arena)
    }

    /// Faults every page in for the calling process, so that no fault falls into a run.
    ///
    /// Best effort: without it (kernel before 5.14) the faults fall into the warm-up.
    pub(crate) fn populate(&self) {
        // SAFETY: the range is exactly our mapping; populating does not change its bytes.
        unsafe {
            libc::madvise(self.base.as_ptr().cast(), self.len, libc::MADV_POPULATE_WRITE);
        }
    }

    /// The next `len` bytes, on a page of their own; valid as long as the arena lives.
    pub(crate) fn take(&self, len: usize) -> NonNull<u8> {
        let start = self.used.get();
        let end = start + len.next_multiple_of(PAGE);
        assert!(end <= self.len, "the arena is too small for this candidate");
        self.used.set(end);
        // SAFETY: `start < end <= len`, inside the mapping.
        unsafe { self.base.add(start) }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and everybody who holds a piece of it holds the arena.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// A child process that is waited for.
#[derive(Debug)]
pub(crate) struct Child {
    pid: libc::pid_t,
}

impl Child {
    /// Forks; the child runs `body` and ends, with this process at the latest.
    ///
    /// Call it in a process of one thread, as the harness is: the child may then do anything.
    pub(crate) fn fork(body: impl FnOnce() -> io::Result<()>) -> io::Result<Child> {
        // SAFETY: reads a number.
        let parent = unsafe { libc::getpid() };
        // SAFETY: one thread, so no lock is held by a thread that the child lacks.
        let pid = unsafe { libc::fork() };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        if pid > 0 {
            return Ok(Child { pid });
        }
        // SAFETY: sets an attribute of this process.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        // SAFETY: reads a number. A parent that was gone before the line above is seen here.
        let orphan = unsafe { libc::getppid() } != parent;
        let code = match catch_unwind(AssertUnwindSafe(|| if orphan { Ok(()) } else { body() })) {
            Ok(Ok(())) => 0,
            Ok(Err(_)) | Err(_) => 1,
        };
        // SAFETY: ends this process without running what belongs to the parent (buffers of
        // standard output, destructors of its frames).
        unsafe { libc::_exit(code) }
    }

    /// Waits for the end; an error if the child says that it failed.
    pub(crate) fn join(self) -> io::Result<()> {
        let mut status = 0;
        loop {
            // SAFETY: `status` is a live local, the pid is our child's.
            let found = unsafe { libc::waitpid(self.pid, &mut status, 0) };
            if found == self.pid {
                break;
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 {
            return Ok(());
        }
        Err(io::Error::other(format!("the second process ended with status {status:#x}")))
    }
}

/// Ends the process with a message when a run hangs: both sides spin, so nobody else could.
#[derive(Debug)]
pub(crate) struct Watchdog;

impl Watchdog {
    /// Starts the countdown. Dropping it stops it.
    pub(crate) fn start(seconds: u32) -> Watchdog {
        let bark: extern "C" fn(libc::c_int) = bark;
        // SAFETY: the handler only makes calls that are safe in a signal handler.
        unsafe { libc::signal(libc::SIGALRM, bark as libc::sighandler_t) };
        // SAFETY: arms this process's timer.
        unsafe { libc::alarm(seconds) };
        Watchdog
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // SAFETY: stops this process's timer.
        unsafe { libc::alarm(0) };
    }
}

extern "C" fn bark(_: libc::c_int) {
    let says = b"harness: a run hung (one side stopped answering); see the messages above\n";
    // SAFETY: `write` is safe in a handler, and the bytes are static.
    unsafe { libc::write(libc::STDERR_FILENO, says.as_ptr().cast(), says.len()) };
    // SAFETY: safe in a handler; the child goes with us (PR_SET_PDEATHSIG).
    unsafe { libc::_exit(2) }
}
