//! What the kernel may answer instead of doing what it is asked. Knows the manual pages of the system calls that quoit makes;
//! knows nothing of what they are made for.

use libc::{c_int, c_long};

use crate::tracer::SystemCall;

/// A system call, by its name, and the errors of its manual page that can be met with sound arguments. `ENOSYS` and `EPERM`
/// stand for a filter that forbids it.
struct Page {
    number: c_long,
    name: &'static str,
    errors: &'static [c_int],
}

macro_rules! pages {
    ($($(#[$only:meta])* $number:ident $name:literal: $($error:ident)*;)*) => {
        &[$($(#[$only])* Page {
            number: libc::$number,
            name: $name,
            errors: &[$(libc::$error),*],
        }),*]
    };
}

const PAGES: &[Page] = pages! {
    SYS_openat "openat": EACCES EBUSY EDQUOT EEXIST EFBIG EINTR EINVAL EIO EISDIR ELOOP EMFILE ENAMETOOLONG ENFILE ENODEV
        ENOENT ENOMEM ENOSPC ENOSYS ENOTDIR ENXIO EOPNOTSUPP EOVERFLOW EPERM EROFS ETXTBSY EAGAIN;
    SYS_statx "statx": EACCES EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOSYS ENOTDIR EOVERFLOW EPERM;
    SYS_newfstatat "newfstatat": EACCES EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOSYS ENOTDIR EOVERFLOW EPERM;
    SYS_fcntl "fcntl": EACCES EAGAIN EINTR EINVAL EIO ENOLCK ENOMEM ENOSYS EPERM;
    SYS_mmap "mmap": EACCES EAGAIN EINVAL ENFILE ENODEV ENOMEM ENOSYS EOVERFLOW EPERM;
    SYS_madvise "madvise": EACCES EAGAIN EBADF EFAULT EHWPOISON EINVAL EIO ENOMEM ENOSYS EPERM;
    SYS_munmap "munmap": EINVAL ENOMEM;
    SYS_close "close": EDQUOT EINTR EIO ENOSPC;
    SYS_fallocate "fallocate": EFBIG EINTR EINVAL EIO ENODEV ENOSPC ENOSYS EOPNOTSUPP EPERM ETXTBSY;
    SYS_ftruncate "ftruncate": EFBIG EINTR EINVAL EIO ENOSYS EPERM ETXTBSY;
    SYS_pwrite64 "pwrite": EAGAIN EDQUOT EFBIG EINTR EIO ENOSPC ENOSYS EPERM;
    SYS_pread64 "pread": EAGAIN EINTR EIO ENOMEM ENOSYS EPERM;
    SYS_read "read": EAGAIN EINTR EIO ENOMEM ENOSYS EPERM;
    SYS_fchmod "fchmod": EIO ENOSYS EPERM EROFS;
    SYS_linkat "linkat": EACCES EDQUOT EEXIST EINVAL EIO ELOOP EMLINK ENAMETOOLONG ENOENT ENOMEM ENOSPC ENOSYS ENOTDIR EPERM
        EROFS EXDEV;
    SYS_renameat2 "renameat2": EACCES EBUSY EDQUOT EEXIST EINVAL EIO ELOOP ENOENT ENOMEM ENOSPC ENOSYS ENOTDIR EPERM EROFS;
    SYS_unlinkat "unlinkat": EACCES EBUSY EIO EISDIR ELOOP ENOENT ENOMEM ENOSYS ENOTDIR EPERM EROFS;
    SYS_mkdirat "mkdirat": EACCES EDQUOT EEXIST EIO ELOOP EMLINK ENOENT ENOMEM ENOSPC ENOSYS ENOTDIR EPERM EROFS;
    SYS_fchmodat "fchmodat": EACCES EIO ELOOP ENOENT ENOMEM ENOSYS ENOTDIR EPERM EROFS;
    SYS_getdents64 "getdents64": EIO ENOENT ENOSYS EPERM;
    SYS_fstatfs "fstatfs": EINTR EIO ENOMEM ENOSYS EOVERFLOW EPERM;
    SYS_prlimit64 "prlimit": EINVAL ENOSYS EPERM;
    SYS_getrandom "getrandom": EAGAIN EINTR ENOSYS EPERM;
    SYS_membarrier "membarrier": EINVAL ENOSYS EPERM;
    SYS_futex "futex": EAGAIN EFAULT EINTR EINVAL ENOMEM ENOSYS EPERM ETIMEDOUT;
    #[cfg(target_arch = "x86_64")]
    SYS_unlink "unlink": EACCES EBUSY EIO EISDIR ELOOP ENOENT ENOMEM ENOSYS ENOTDIR EPERM EROFS;
    #[cfg(target_arch = "x86_64")]
    SYS_mkdir "mkdir": EACCES EDQUOT EEXIST EIO ELOOP EMLINK ENOENT ENOMEM ENOSPC ENOSYS ENOTDIR EPERM EROFS;
    #[cfg(target_arch = "x86_64")]
    SYS_chmod "chmod": EACCES EIO ELOOP ENOENT ENOMEM ENOSYS ENOTDIR EPERM EROFS;
    #[cfg(target_arch = "x86_64")]
    SYS_open "open": EACCES EINTR EMFILE ENFILE ENOENT ENOMEM ENOSYS EPERM;
    SYS_fstat "fstat": EIO ENOMEM ENOSYS EOVERFLOW EPERM;
};

/// What cannot fail, or is the allocator's: who refuses that ends any program.
const NEVER: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_geteuid,
    libc::SYS_sched_yield,
    libc::SYS_clock_gettime,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_lseek,
];

fn page(call: SystemCall) -> &'static Page {
    let page = PAGES.iter().find(|page| page.number == call.number);
    page.unwrap_or_else(|| panic!("system call {} has no page here", call.number))
}

/// What it is called.
pub(crate) fn name(call: SystemCall) -> &'static str {
    page(call).name
}

/// What it may fail with, when the one before it was that.
pub(crate) fn errors(call: SystemCall, before: Option<SystemCall>) -> &'static [c_int] {
    let lists = before.is_some_and(|before| before.number == libc::SYS_getdents64);
    match call.number {
        // What closes a folder: no filesystem of Linux has an error for that, and the standard library panics at one.
        libc::SYS_close if lists => &[libc::EINTR],
        _ => page(call).errors,
    }
}

/// Whether it can fail at all, and is quoit's.
pub(crate) fn is_refusable(call: SystemCall) -> bool {
    let [_, len, _, _, fd, _] = call.args;
    // The allocator's; the one page that quoit asks for without a file is asked for by the length of a word.
    let heap = call.number == libc::SYS_mmap && fd as c_int == -1 && len > 64;
    !heap && !NEVER.contains(&call.number)
}

/// Whether its third argument is a count of bytes of which fewer may be done.
pub(crate) fn may_be_short(call: SystemCall) -> bool {
    [libc::SYS_pread64, libc::SYS_pwrite64, libc::SYS_read].contains(&call.number)
        && call.args[2] > 1
}

/// Whether the kernel has done it although it says that it failed.
pub(crate) fn is_done_all_the_same(call: SystemCall) -> bool {
    call.number == libc::SYS_close
}

/// Whether quoit does without it: a measure of prudence, or one that tidies up.
pub(crate) fn is_dispensable(call: SystemCall) -> bool {
    // The advice about forks is not: without it a child could keep a dead parent's lock.
    let populate = call.number == libc::SYS_madvise && call.args[2] as c_int != libc::MADV_DONTFORK;
    populate
        || [
            libc::SYS_close,
            libc::SYS_munmap,
            libc::SYS_membarrier,
            libc::SYS_prlimit64,
            libc::SYS_fstatfs,
            libc::SYS_futex,
        ]
        .contains(&call.number)
}

/// Whether what it takes away stays if it is refused.
pub(crate) fn takes_away(call: SystemCall) -> bool {
    const TAKE_AWAY: &[c_long] = &[
        libc::SYS_munmap,
        libc::SYS_unlinkat,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_unlink,
    ];
    call.unlocks || TAKE_AWAY.contains(&call.number)
}

/// Whether it opens a file that shall have no name.
pub(crate) fn opens_without_a_name(call: SystemCall) -> bool {
    call.number == libc::SYS_openat && call.args[2] as c_int & libc::O_TMPFILE == libc::O_TMPFILE
}

/// The symbol of an error, for a message.
pub(crate) fn symbol(error: c_int) -> String {
    format!("{error} ({})", std::io::Error::from_raw_os_error(error))
}
