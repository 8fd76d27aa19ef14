//! Locks on single bytes of a file, held by an open file description. Knows a
//! descriptor and an offset; knows nothing of seats.
//!
//! The kernel drops such a lock when the last reference to the description goes:
//! every descriptor closed *and* every mapping gone. So a free lock proves that
//! its former holder can not store into the ring any more, which no pid, clock or
//! heartbeat can prove. Two openings of a file conflict even in one process; two
//! descriptors of one opening never do.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

fn region(kind: libc::c_int, start: u64, len: u64) -> io::Result<libc::flock64> {
    let offset =
        |n: u64| libc::off64_t::try_from(n).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL));
    // SAFETY: flock64 is plain integers (and padding), for which zero is a value.
    let mut lock: libc::flock64 = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = offset(start)?;
    lock.l_len = offset(len)?;
    // l_pid stays 0, as the kernel demands for this kind of lock.
    Ok(lock)
}

fn fcntl(fd: BorrowedFd<'_>, command: libc::c_int, lock: &mut libc::flock64) -> io::Result<()> {
    loop {
        // SAFETY: the descriptor is open while it is borrowed, and `lock` is the
        // structure that these commands read and write.
        #[cfg(target_pointer_width = "64")]
        let rc = unsafe { libc::fcntl(fd.as_raw_fd(), command, std::ptr::from_mut(lock)) };
        // The C library's fcntl takes 32-bit offsets here and our bytes lie beyond.
        // SAFETY: as above; fcntl64 takes the structure with 64-bit offsets.
        #[cfg(not(target_pointer_width = "64"))]
        let rc = unsafe {
            libc::syscall(libc::SYS_fcntl64, fd.as_raw_fd(), command, std::ptr::from_mut(lock))
        };
        if rc >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Takes the lock on one byte. `false`: somebody else's opening holds it. The
/// descriptor must be open for writing.
pub(crate) fn try_lock(fd: BorrowedFd<'_>, byte: u64) -> io::Result<bool> {
    let mut lock = region(libc::F_WRLCK, byte, 1)?;
    match fcntl(fd, libc::F_OFD_SETLK, &mut lock) {
        Ok(()) => Ok(true),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether *another* opening holds the lock on a byte. Changes nothing, and works
/// on a descriptor that is open for reading only.
pub(crate) fn is_held(fd: BorrowedFd<'_>, byte: u64) -> io::Result<bool> {
    let mut lock = region(libc::F_WRLCK, byte, 1)?;
    fcntl(fd, libc::F_OFD_GETLK, &mut lock)?;
    Ok(libc::c_int::from(lock.l_type) != libc::F_UNLCK)
}

/// Gives one byte back.
pub(crate) fn unlock(fd: BorrowedFd<'_>, byte: u64) -> io::Result<()> {
    fcntl(fd, libc::F_OFD_SETLK, &mut region(libc::F_UNLCK, byte, 1)?)
}

/// Gives back every byte that this opening holds, also those that a forked child's
/// copy of the descriptor would keep.
pub(crate) fn unlock_all(fd: BorrowedFd<'_>) -> io::Result<()> {
    // A length of 0 reaches to the end of all offsets.
    fcntl(fd, libc::F_OFD_SETLK, &mut region(libc::F_UNLCK, 0, 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    const BYTE: u64 = (1 << 62) + 1;

    fn twice() -> (impl Sized, std::path::PathBuf, File, File) {
        let dir = crate::os::testing::dir();
        let path = dir.path().join("f");
        let a = File::create_new(&path).unwrap();
        let b = File::options().read(true).write(true).open(&path).unwrap();
        (dir, path, a, b)
    }

    #[test]
    fn two_openings_in_one_process_exclude_each_other() {
        let (_dir, _, a, b) = twice();
        assert!(try_lock(a.as_fd(), BYTE).unwrap());
        assert!(!try_lock(b.as_fd(), BYTE).unwrap());
        assert!(try_lock(b.as_fd(), BYTE + 1).unwrap());
        assert!(is_held(b.as_fd(), BYTE).unwrap());
        assert!(!is_held(a.as_fd(), BYTE).unwrap(), "one's own lock is not another's");
        unlock(a.as_fd(), BYTE).unwrap();
        assert!(try_lock(b.as_fd(), BYTE).unwrap());
    }

    #[test]
    fn a_reader_sees_who_holds_what() {
        let (_dir, path, a, _b) = twice();
        let reader = File::open(path).unwrap();
        assert!(!is_held(reader.as_fd(), BYTE).unwrap());
        assert!(try_lock(a.as_fd(), BYTE).unwrap());
        assert!(is_held(reader.as_fd(), BYTE).unwrap());
        assert!(!is_held(reader.as_fd(), BYTE + 1).unwrap());
        assert!(try_lock(reader.as_fd(), BYTE).is_err(), "a reader can not take one");
    }

    #[test]
    fn closing_gives_the_lock_back() {
        let (_dir, _, a, b) = twice();
        assert!(try_lock(a.as_fd(), BYTE).unwrap());
        drop(a);
        assert!(try_lock(b.as_fd(), BYTE).unwrap());
    }

    #[test]
    fn giving_all_back_also_frees_what_a_duplicate_would_keep() {
        let (_dir, _, a, b) = twice();
        let _duplicate = a.try_clone().unwrap();
        assert!(try_lock(a.as_fd(), BYTE).unwrap());
        assert!(try_lock(a.as_fd(), BYTE + 1).unwrap());
        unlock_all(a.as_fd()).unwrap();
        assert!(!is_held(b.as_fd(), BYTE).unwrap());
        assert!(!is_held(b.as_fd(), BYTE + 1).unwrap());
    }

    #[test]
    fn an_offset_that_no_file_has_is_an_error() {
        let (_dir, _, a, _b) = twice();
        assert!(try_lock(a.as_fd(), u64::MAX).is_err());
    }
}
