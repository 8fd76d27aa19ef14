//! Two processes, one shared mapping, a core for each, and a watchdog.
//!
//! It knows the kernel's calls for that. It refuses to know what the processes say to each other.

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

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
        assert!(end <= self.len, "the arena is too small for this transport");
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

/// A page of words, each on two lines of its own, for what the harness itself has to say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Board<'a> {
    base: NonNull<u8>,
    _arena: &'a Arena,
}

impl<'a> Board<'a> {
    const APART: usize = 128;

    /// Takes the page.
    pub(crate) fn new(arena: &'a Arena) -> Board<'a> {
        Board { base: arena.take(PAGE), _arena: arena }
    }

    /// Word number `n`.
    #[inline(always)]
    pub(crate) fn word(&self, n: usize) -> &'a AtomicU64 {
        assert!(n < PAGE / Self::APART, "the board has no such word");
        // SAFETY: `n * APART` is inside the page that was taken for the board.
        let word = unsafe { self.base.add(n * Self::APART) };
        // SAFETY: aligned to a line, mapped as long as the arena lives (`'a`), and the board's
        // words are only ever used through this function, as atomics.
        unsafe { AtomicU64::from_ptr(word.cast().as_ptr()) }
    }
}

/// The cores that this process may use.
pub(crate) fn cores() -> io::Result<Vec<usize>> {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: the kernel fills at most the size we name.
    let result =
        unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all zero bits are a valid, empty set, and the kernel has filled it since.
    let set = unsafe { set.assume_init() };
    // SAFETY: only reads the set, and `core` is below its size.
    Ok((0..libc::CPU_SETSIZE as usize)
        .filter(|&core| unsafe { libc::CPU_ISSET(core, &set) })
        .collect())
}

/// Nails the calling thread to a core.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    // SAFETY: all zero bits are a valid, empty set.
    let mut set = unsafe { MaybeUninit::<libc::cpu_set_t>::zeroed().assume_init() };
    assert!(core < libc::CPU_SETSIZE as usize, "no core has such a number");
    // SAFETY: `core` is below the set's size.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the set is a live local of the size we name.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
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
