//! Help for tests that need the kernel: children, temporary folders, odd files.

use std::io::{self, Write};
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A child is a copy of the whole test process, with every descriptor and lock that
/// other tests hold at that moment. So tests that fork run alone.
static FORKS: RwLock<()> = RwLock::new(());

/// Keeps other tests of this process from forking.
pub(crate) fn no_forks() -> RwLockReadGuard<'static, ()> {
    FORKS.read().unwrap_or_else(PoisonError::into_inner)
}

/// Lets a test fork: no other test minds.
pub(crate) fn may_fork() -> RwLockWriteGuard<'static, ()> {
    FORKS.write().unwrap_or_else(PoisonError::into_inner)
}

/// A folder in shared memory that goes away with its value, and a guard.
#[derive(Debug)]
pub(crate) struct Dir<G> {
    folder: tempfile::TempDir,
    _guard: G,
}

impl<G> Dir<G> {
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A path in the folder, as the name of a ring.
    pub(crate) fn name(&self, file: &str) -> String {
        self.path().join(file).into_os_string().into_string().unwrap()
    }

    /// How many names the folder holds.
    pub(crate) fn count(&self) -> usize {
        std::fs::read_dir(self.path()).unwrap().count()
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("quoit-test-").tempdir_in("/dev/shm").unwrap()
}

/// A folder for a test that does not fork.
pub(crate) fn dir() -> Dir<RwLockReadGuard<'static, ()>> {
    Dir { _guard: no_forks(), folder: folder() }
}

/// A folder for a test that forks.
pub(crate) fn forking_dir() -> Dir<RwLockWriteGuard<'static, ()>> {
    Dir { _guard: may_fork(), folder: folder() }
}

/// Says on the real standard error that a test could not do its work here.
pub(crate) fn skip(test: &str, why: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED: {test}: {why}");
}

/// Whether a number is an open descriptor of this process.
pub(crate) fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD takes no argument and reads nothing of ours, whatever the
    // number is.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// A forked child of this test process.
#[derive(Debug)]
pub(crate) struct Child {
    pid: libc::pid_t,
}

impl Child {
    /// Forks and runs `body` in the child, which then ends without unwinding into
    /// the test harness. A child that hangs is ended by its own alarm.
    pub(crate) fn start(body: impl FnOnce() -> bool) -> Child {
        // SAFETY: the child runs `body` and leaves by _exit. It is a copy of one
        // thread: the C library makes its allocator usable, and the bodies use no
        // lock that another test's thread might hold.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork: {}", io::Error::last_os_error());
        if pid == 0 {
            // SAFETY: alarm takes a number and touches no memory.
            unsafe { libc::alarm(60) };
            let code = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
                Ok(true) => 0,
                Ok(false) => 1,
                Err(_) => 2,
            };
            // SAFETY: _exit ends the process and runs nothing of ours.
            unsafe { libc::_exit(code) };
        }
        Child { pid }
    }

    /// Forks, runs `body` in the child and waits: whether it returned true.
    pub(crate) fn run(body: impl FnOnce() -> bool) -> bool {
        Child::start(body).wait() == 0
    }

    /// Waits for the child; the status it left with.
    pub(crate) fn wait(self) -> i32 {
        let mut status = 0;
        loop {
            // SAFETY: `status` is a live integer of this frame.
            let rc = unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
            if rc == self.pid {
                return status;
            }
            let error = io::Error::last_os_error();
            assert_eq!(error.kind(), io::ErrorKind::Interrupted, "waitpid: {error}");
        }
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.pid as u32
    }

    /// Stops the child, and waits until it stands still.
    pub(crate) fn stop(&self) {
        // SAFETY: kill takes two numbers; the child is ours and not yet waited for.
        let rc = unsafe { libc::kill(self.pid, libc::SIGSTOP) };
        assert_eq!(rc, 0);
        let mut status = 0;
        // SAFETY: `status` is a live integer of this frame.
        let rc = unsafe { libc::waitpid(self.pid, &raw mut status, libc::WUNTRACED) };
        assert!(rc == self.pid && libc::WIFSTOPPED(status), "{}", io::Error::last_os_error());
    }

    /// Ends the child as a crash would, and waits until it is gone.
    pub(crate) fn kill(self) {
        // SAFETY: kill takes two numbers; the child is ours and not yet waited for.
        let rc = unsafe { libc::kill(self.pid, libc::SIGKILL) };
        assert_eq!(rc, 0);
        self.wait();
    }
}

/// Ends a child at once, with a code for its test.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: _exit ends the process and runs nothing of ours.
    unsafe { libc::_exit(code) }
}

fn c(path: &Path) -> std::ffi::CString {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// Makes a named pipe.
pub(crate) fn mkfifo(path: &Path) {
    let path = c(path);
    // SAFETY: `path` is a string that ends in NUL and lives during the call.
    let rc = unsafe { libc::mkfifo(path.as_ptr(), 0o600) };
    assert_eq!(rc, 0, "{}", io::Error::last_os_error());
}

/// Makes a character device like /dev/null, if this process may.
pub(crate) fn mknod_null(path: &Path) -> io::Result<()> {
    let path = c(path);
    // SAFETY: `path` is a string that ends in NUL and lives during the call.
    let rc = unsafe { libc::mknod(path.as_ptr(), libc::S_IFCHR | 0o600, libc::makedev(1, 3)) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn check(rc: libc::c_int) -> io::Result<()> {
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives this process (a child!) a private view of the mounts, with a small tmpfs
/// at `path`.
pub(crate) fn mount_small_tmpfs(path: &Path, bytes: usize) -> io::Result<()> {
    // SAFETY: unshare takes flags and touches no memory of ours.
    let alone = check(unsafe { libc::unshare(libc::CLONE_NEWNS) });
    if alone.is_err() {
        // SAFETY: geteuid takes nothing and cannot fail, and getegid likewise.
        let uid = unsafe { libc::geteuid() };
        // SAFETY: as above.
        let gid = unsafe { libc::getegid() };
        // SAFETY: as above; with a user namespace of our own we may mount.
        check(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) })?;
        // Without a number there, we could own no file.
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))?;
    }
    let (none, root, tmpfs) = (c"none", c"/", c"tmpfs");
    // SAFETY: all strings end in NUL and live during the call; no data is passed.
    check(unsafe {
        libc::mount(
            none.as_ptr(),
            root.as_ptr(),
            std::ptr::null(),
            libc::MS_REC | libc::MS_PRIVATE,
            std::ptr::null(),
        )
    })?;
    let path = c(path);
    let data = std::ffi::CString::new(format!("size={bytes},mode=0700")).unwrap();
    // SAFETY: all strings end in NUL and live during the call.
    check(unsafe {
        libc::mount(none.as_ptr(), path.as_ptr(), tmpfs.as_ptr(), 0, data.as_ptr().cast())
    })
}

extern "C" fn on_alarm(_: libc::c_int) {}

/// Interrupts this process (a child!) every half millisecond, without restarting
/// the system call that it is in.
pub(crate) fn interrupt_often() {
    // SAFETY: sigaction is integers and pointers, for which zero is a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_alarm as *const () as libc::sighandler_t;
    // SAFETY: `action` lives during the call, and the handler does nothing.
    let rc = unsafe { libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) };
    assert_eq!(rc, 0);
    let every = libc::timeval { tv_sec: 0, tv_usec: 500 };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: `timer` lives during the call, which only reads it.
    let rc = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    assert_eq!(rc, 0);
}

/// Makes a hole in a file.
pub(crate) fn punch(file: &std::fs::File, from: u64, len: u64) {
    use std::os::fd::AsRawFd;
    let flags = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    let (from, len) = (from as libc::off64_t, len as libc::off64_t);
    // SAFETY: the descriptor is open while it is borrowed; no memory is passed.
    let rc = unsafe { libc::fallocate64(file.as_raw_fd(), flags, from, len) };
    assert_eq!(rc, 0, "{}", io::Error::last_os_error());
}

/// Sets what this process (a child!) does at SIGBUS: a handler of one argument, or one
/// of the kernel's two.
pub(crate) fn on_sigbus(handler: libc::sighandler_t) {
    // SAFETY: sigaction is integers and pointers, for which zero is a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    // SAFETY: `action` lives during the call, and the tests' handlers end the process.
    let rc = unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) };
    assert_eq!(rc, 0);
}

/// Sends this process (a child!) the signal of memory that is gone.
pub(crate) fn raise_sigbus() {
    // SAFETY: raise takes a number.
    unsafe { libc::raise(libc::SIGBUS) };
}

/// Sets this process's (a child's!) mask for the modes of new files.
pub(crate) fn umask(mask: u32) {
    // SAFETY: umask takes a number and cannot fail.
    unsafe { libc::umask(mask as libc::mode_t) };
}

/// Sets one of this process's (a child's!) limits; whether it holds (under an
/// emulator it may not).
macro_rules! limit {
    ($(#[$doc:meta])* $name:ident, $resource:ident) => {
        $(#[$doc])*
        pub(crate) fn $name(value: u64) -> bool {
            let value = value as libc::rlim_t;
            let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
            // SAFETY: `limit` lives during the call, which only reads it.
            let rc = unsafe { libc::setrlimit(libc::$resource, &raw const limit) };
            assert_eq!(rc, 0);
            let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: `now` is a live structure of this frame.
            let rc = unsafe { libc::getrlimit(libc::$resource, &raw mut now) };
            assert_eq!(rc, 0);
            now.rlim_cur == value
        }
    };
}

limit! {
    /// Limits how large a file this process (a child!) may make.
    limit_file_size, RLIMIT_FSIZE
}
limit! {
    /// Limits how many files this process (a child!) may have open.
    limit_open_files, RLIMIT_NOFILE
}
limit! {
    /// Limits how much this process (a child!) may map.
    limit_address_space, RLIMIT_AS
}

/// Maps a file exactly at `base` where nothing is mapped; whether that worked.
pub(crate) fn map_at(base: *mut u8, len: usize, file: &std::fs::File) -> bool {
    use std::os::fd::AsRawFd;
    // SAFETY: MAP_FIXED_NOREPLACE never touches a mapping that exists.
    let got = unsafe {
        libc::mmap(
            base.cast(),
            len,
            libc::PROT_READ,
            libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE,
            file.as_raw_fd(),
            0,
        )
    };
    got.cast() == base
}

/// Whether a mapping can be kept out of children here. An emulator of another
/// processor may ignore the request. Forks.
pub(crate) fn can_keep_maps_from_children() -> bool {
    let map = memmap2::MmapMut::map_anon(4096).unwrap();
    map.advise(memmap2::Advice::DontFork).unwrap();
    let base = map.as_ptr().cast_mut();
    Child::run(|| !is_mapped(base))
}

/// Whether the page at `base` is mapped.
pub(crate) fn is_mapped(base: *mut u8) -> bool {
    // SAFETY: MS_ASYNC on a page writes nothing and answers ENOMEM for a hole.
    unsafe { libc::msync(base.cast(), 1, libc::MS_ASYNC) == 0 }
}
