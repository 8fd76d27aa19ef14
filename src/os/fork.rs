//! What a forked child must not touch. Knows that this process may be a copy of
//! the one that opened a handle; knows nothing of handles.
//!
//! A child inherits its parent's descriptors, and with them the locks that say "the
//! parent is alive". So three things happen here:
//!
//! - A word in a page that the kernel wipes in a child (`MADV_WIPEONFORK`) holds
//!   the *generation* of this process. A handle remembers the generation in which
//!   it was opened and compares on every call: two loads, no system call.
//! - A list of the descriptors that belong to rings, which a `pthread_atfork`
//!   handler closes in the child: the parent's death then frees its lock although
//!   the child lives on.
//! - A [`Watch`] that notices a fork in the short time between opening a
//!   descriptor and having it on that list.
//!
//! A child made by a bare `clone` system call runs no handlers: it keeps its copies
//! until it exits or executes another program. `posix_spawn` and
//! `std::process::Command` are not concerned: what they start closes everything.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::os::clock::now_ns;
use crate::os::list::List;
use crate::sync::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// What [`generation`] reads before anybody armed this process.
static UNARMED: AtomicU64 = AtomicU64::new(0);

/// The word in the wiped page, or `UNARMED`. Changes once in a process's life.
static WORD: AtomicPtr<AtomicU64> = AtomicPtr::new(UNARMED_PTR);
const UNARMED_PTR: *mut AtomicU64 = (&raw const UNARMED).cast_mut();

/// The youngest generation ever used. Ordinary memory: a child copies it, so its
/// own generation is another than its parent's.
static YOUNGEST: AtomicU64 = AtomicU64::new(0);

/// Whether the handlers are in place; a child inherits them.
static HANDLERS: AtomicU32 = AtomicU32::new(0);

/// Forks that began, and forks whose end the parent has seen.
static FORKS_BEGUN: AtomicU64 = AtomicU64::new(0);
static FORKS_ENDED: AtomicU64 = AtomicU64::new(0);

/// No fork takes longer than this: it copies page tables.
const LONGEST_FORK_NS: u64 = 5_000_000_000;

/// The descriptors to close in a child, and room for some. Nothing but the numbers is
/// handed over, so all accesses are Relaxed.
static FDS: List<AtomicI32> = List::new();

const NO_FD: i32 = -1;

unsafe extern "C" {
    fn pthread_atfork(
        prepare: Option<unsafe extern "C" fn()>,
        parent: Option<unsafe extern "C" fn()>,
        child: Option<unsafe extern "C" fn()>,
    ) -> libc::c_int;
}

fn word() -> &'static AtomicU64 {
    // Relaxed: whoever asks has armed this process itself, or got its handle from
    // a thread that did; that hand-over orders the two stores of `arm` before us.
    let word = WORD.load(Ordering::Relaxed);
    // SAFETY: the pointer is that of a static, or of a page that is never unmapped
    // and that the kernel handed out zeroed, which is a value of the type.
    unsafe { &*word }
}

/// The generation of this process: 0 when nobody armed it, or in a child whose
/// parent did.
#[inline]
pub(crate) fn generation() -> u64 {
    // Relaxed: the word is stored by this process (or wiped by the kernel before
    // it ran its first instruction) and publishes nothing.
    word().load(Ordering::Relaxed)
}

/// Whether this process is a child that was forked after its parent armed itself,
/// and has not armed itself since.
#[inline]
#[cfg_attr(not(test), allow(dead_code))]
pub(crate) fn forked() -> bool {
    // Relaxed: as in `generation`.
    generation() == 0 && YOUNGEST.load(Ordering::Relaxed) != 0
}

/// Makes this process notice that it was forked. Returns its generation. Cheap
/// when it is armed already.
pub(crate) fn arm() -> io::Result<u64> {
    if HANDLERS.load(Ordering::Acquire) == 0 {
        // Two threads may both get here: the handlers may run twice.
        // SAFETY: the three functions are async-signal-safe and live as long as
        // the program.
        let rc = unsafe { pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) };
        if rc != 0 {
            return Err(io::Error::from_raw_os_error(rc));
        }
        HANDLERS.store(1, Ordering::Release);
    }
    if WORD.load(Ordering::Acquire) == UNARMED_PTR {
        publish_page()?;
    }
    // Relaxed, all three: a counter and a word that only we and our threads use.
    let seen = generation();
    if seen != 0 {
        return Ok(seen);
    }
    let next = YOUNGEST.fetch_add(1, Ordering::Relaxed) + 1;
    match word().compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => Ok(next),
        Err(other) => Ok(other),
    }
}

/// Maps the page that a child finds wiped and makes it the word's home.
fn publish_page() -> io::Result<()> {
    // One page is the smallest thing that can be wiped; the kernel rounds up.
    let len = size_of::<AtomicU64>();
    // SAFETY: a new private mapping of anonymous memory at an address of the
    // kernel's choice replaces nothing that exists.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // Where the kernel (or a filter) refuses, `in_child` wipes the word instead.
    // SAFETY: the range is the mapping made above, nobody else knows it.
    let _ = unsafe { libc::madvise(page, len, libc::MADV_WIPEONFORK) };
    let new = page.cast::<AtomicU64>();
    // Release: pairs with the Acquire in `arm`.
    if WORD.compare_exchange(UNARMED_PTR, new, Ordering::AcqRel, Ordering::Acquire).is_err() {
        // Another thread was first.
        // SAFETY: the range is the mapping made above and was never published.
        let _ = unsafe { libc::munmap(page, len) };
    }
    Ok(())
}

extern "C" fn before_fork() {
    // SeqCst, here and in `Watch`: forks are rare, and so are openings.
    FORKS_BEGUN.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn in_parent() {
    FORKS_ENDED.fetch_add(1, Ordering::SeqCst);
}

/// Runs alone in the child, before `fork` returns there. Only atomics and `close`:
/// everything here is async-signal-safe.
extern "C" fn in_child() {
    word().store(0, Ordering::Relaxed);
    FORKS_ENDED.store(FORKS_BEGUN.load(Ordering::SeqCst), Ordering::SeqCst);
    for fd in FDS.iter() {
        let fd = fd.swap(NO_FD, Ordering::Relaxed);
        if fd >= 0 {
            // SAFETY: the descriptor is the child's copy of one that a ring owns.
            // Its owner knows (by the generation) that it must not use it here.
            unsafe { libc::close(fd) };
        }
    }
}

/// A descriptor that a forked child closes before it runs. Given up by dropping.
#[derive(Debug)]
pub(crate) struct FdTicket {
    fd: &'static AtomicI32,
    generation: u64,
}

/// Has `fd` closed in every child that is forked from now on. The ticket must be
/// dropped *before* the descriptor is closed: its number may be another file's at
/// once.
pub(crate) fn register_fd(fd: BorrowedFd<'_>) -> FdTicket {
    let fd = fd.as_raw_fd();
    let take = |free: &AtomicI32| {
        free.compare_exchange(NO_FD, fd, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    };
    FdTicket { fd: FDS.claim(take, || AtomicI32::new(fd)), generation: generation() }
}

impl Drop for FdTicket {
    fn drop(&mut self) {
        // In a child the entry was freed when it began, and may have a new user.
        if generation() == self.generation {
            self.fd.store(NO_FD, Ordering::Relaxed);
        }
    }
}

/// Notices a fork by another thread while a descriptor was open but not yet
/// registered, or mapped but not yet kept out of children.
#[derive(Debug)]
pub(crate) struct Watch {
    begun: u64,
}

impl Watch {
    /// Starts to watch, after any fork that is under way.
    pub(crate) fn start() -> Watch {
        let mut begun = FORKS_BEGUN.load(Ordering::SeqCst);
        let mut given_up_at = None;
        while FORKS_ENDED.load(Ordering::SeqCst) < begun {
            let now = now_ns();
            if now > *given_up_at.get_or_insert(now + LONGEST_FORK_NS) {
                // Not a fork but a miscount: a bare clone in the middle of one.
                FORKS_ENDED.fetch_max(begun, Ordering::SeqCst);
                break;
            }
            std::thread::yield_now();
            begun = FORKS_BEGUN.load(Ordering::SeqCst);
        }
        Watch { begun }
    }

    /// Whether a fork began since the start.
    pub(crate) fn disturbed(&self) -> bool {
        FORKS_BEGUN.load(Ordering::SeqCst) != self.begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::lock;
    use crate::os::testing::{self, Child};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn arming_twice_keeps_the_generation() {
        let first = arm().unwrap();
        assert_ne!(first, 0);
        assert_eq!(first, arm().unwrap());
        assert_eq!(first, generation());
        assert!(!forked());
    }

    #[test]
    fn a_child_sees_that_it_was_forked_until_it_arms_itself() {
        let _alone = testing::may_fork();
        let parents = arm().unwrap();
        assert!(Child::run(|| {
            let before = generation() == 0 && forked();
            let own = arm().unwrap();
            before && own != parents && own == generation() && !forked()
        }));
        assert_eq!(parents, generation(), "the parent is as it was");
    }

    #[test]
    fn a_grandchild_differs_from_both() {
        let _alone = testing::may_fork();
        let parents = arm().unwrap();
        assert!(Child::run(move || {
            let own = arm().unwrap();
            Child::run(move || {
                let theirs = arm().unwrap();
                generation() == theirs && theirs != own && theirs != parents
            })
        }));
    }

    #[test]
    fn a_child_closes_what_is_registered_and_nothing_else() {
        let _alone = testing::may_fork();
        arm().unwrap();
        let kept = tempfile::tempfile().unwrap();
        let given_up = tempfile::tempfile().unwrap();
        let closed = tempfile::tempfile().unwrap();
        let _ticket = register_fd(closed.as_fd());
        drop(register_fd(given_up.as_fd()));
        let fds = [kept.as_raw_fd(), given_up.as_raw_fd(), closed.as_raw_fd()];
        assert!(Child::run(move || fds.map(testing::is_open) == [true, true, false]));
        assert_eq!(fds.map(testing::is_open), [true; 3]);
    }

    #[test]
    fn a_dropped_ticket_in_a_child_leaves_a_new_owner_alone() {
        let _alone = testing::may_fork();
        arm().unwrap();
        let file = tempfile::tempfile().unwrap();
        let ticket = register_fd(file.as_fd());
        assert!(Child::run(move || {
            arm().unwrap();
            let mine = tempfile::tempfile().unwrap();
            let own = register_fd(mine.as_fd());
            drop(ticket);
            own.fd.load(Ordering::Relaxed) == mine.as_raw_fd()
        }));
    }

    #[test]
    fn a_parents_lock_is_free_when_it_dies_although_its_child_lives() {
        const BYTE: u64 = 1 << 62;
        let dir = testing::forking_dir();
        let path = dir.path().join("f");
        let probe = std::fs::File::create_new(&path).unwrap();
        let (mut grandchild_alive, alive_end) = UnixStream::pair().unwrap();
        let (end_of_test, mut keep_alive) = UnixStream::pair().unwrap();
        let parent = Child::start(move || {
            use std::io::{Read, Write};
            arm().unwrap();
            let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
            let _ticket = register_fd(file.as_fd());
            assert!(lock::try_lock(file.as_fd(), BYTE).unwrap());
            let _grandchild = Child::start(move || {
                let (mut alive_end, mut end_of_test) = (alive_end, end_of_test);
                alive_end.write_all(b"!").unwrap();
                end_of_test.read_exact(&mut [0]).is_ok()
            });
            loop {
                std::thread::park();
            }
        });
        std::io::Read::read_exact(&mut grandchild_alive, &mut [0]).unwrap();
        assert!(lock::is_held(probe.as_fd(), BYTE).unwrap());
        parent.kill();
        assert!(!lock::is_held(probe.as_fd(), BYTE).unwrap());
        // It was alive all the time: only now does it end.
        std::io::Write::write_all(&mut keep_alive, b"!").unwrap();
        assert_eq!(std::io::Read::read(&mut grandchild_alive, &mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_watch_sees_a_fork() {
        let _alone = testing::may_fork();
        arm().unwrap();
        let watch = Watch::start();
        assert!(Child::run(|| !Watch::start().disturbed()));
        assert!(watch.disturbed());
    }
}
