//! A file mapped into memory, and the file with it. Knows where the bytes are and
//! how long they stay; never looks at them.
//!
//! The mapping is kept out of forked children, and its descriptor is closed there.
//! A [`Mapping`] that finds itself in a child leaves everything alone: numbers and
//! addresses may belong to somebody else by then.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd};

use memmap2::{Advice, MmapOptions, MmapRaw};

use crate::os::{fork, lock};

/// A shared, writable mapping of the first bytes of a file.
#[derive(Debug)]
pub(crate) struct Mapping {
    // Given up by `drop` in this order, and not at all in a forked child.
    map: ManuallyDrop<MmapRaw>,
    ticket: ManuallyDrop<fork::FdTicket>,
    file: ManuallyDrop<File>,
    generation: u64,
}

impl Mapping {
    /// Maps the first `len` bytes of a file whose descriptor is registered to be
    /// closed in children. The file must be that long: touching what lies behind
    /// its end is a bus error.
    pub(crate) fn new(file: File, ticket: fork::FdTicket, len: usize) -> io::Result<Mapping> {
        let map = match MmapOptions::new().len(len).map_raw(&file) {
            Ok(map) => map,
            Err(error) => {
                give_up(ticket, file);
                return Err(error);
            }
        };
        // The file that the mapping pins carries the lock that says we are alive.
        // A child that kept the mapping would say so after our death.
        if let Err(error) = map.advise(Advice::DontFork) {
            drop(map);
            give_up(ticket, file);
            return Err(error);
        }
        // Best effort (from Linux 5.14): otherwise first touches take the faults.
        let _ = map.advise(Advice::PopulateWrite);
        Ok(Mapping {
            map: ManuallyDrop::new(map),
            ticket: ManuallyDrop::new(ticket),
            file: ManuallyDrop::new(file),
            generation: fork::generation(),
        })
    }

    /// The first byte. Aligned to a page; valid while the mapping lives and this
    /// process is not a forked child.
    pub(crate) fn base(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// How many bytes are mapped.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// The file behind the mapping, for locks and questions about its state.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The descriptor behind the mapping.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The generation (see [`fork`]) in which this mapping was made.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether this process is a forked copy of the one that mapped.
    #[inline]
    pub(crate) fn forked(&self) -> bool {
        fork::generation() != self.generation
    }
}

/// Closes a registered file. The lock goes first and explicitly, so that it is
/// gone even if a child has a copy of the descriptor that no handler closed.
pub(crate) fn give_up(ticket: fork::FdTicket, file: File) {
    // Fails only where no lock could have been taken either.
    let _ = lock::unlock_all(file.as_fd());
    // Before the number can be another file's.
    drop(ticket);
    drop(file);
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.forked() {
            return;
        }
        // Unmapped first: once the lock is free, nobody here can store any more.
        // SAFETY: this is the only place that drops the field, and `drop` runs once.
        unsafe { ManuallyDrop::drop(&mut self.map) };
        // SAFETY: this is the only place that takes the field, and `drop` runs once.
        let ticket = unsafe { ManuallyDrop::take(&mut self.ticket) };
        // SAFETY: as above.
        let file = unsafe { ManuallyDrop::take(&mut self.file) };
        give_up(ticket, file);
    }
}

/// Maps the first `len` bytes of a file to be read only.
pub(crate) fn read_only(file: &File, len: usize) -> io::Result<MmapRaw> {
    MmapOptions::new().len(len).map_raw_read_only(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::{self, Child};
    use crate::sync::{AtomicU32, Ordering};
    use std::os::fd::AsRawFd;
    use std::path::Path;

    fn file(dir: &Path) -> File {
        let path = dir.join("f");
        let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        file.set_len(8192).unwrap();
        file
    }

    fn map(dir: &Path) -> Mapping {
        fork::arm().unwrap();
        let file = file(dir);
        let ticket = fork::register_fd(file.as_fd());
        Mapping::new(file, ticket, 8192).unwrap()
    }

    #[test]
    fn what_is_stored_is_in_the_file() {
        let dir = testing::dir();
        let map = map(dir.path());
        assert_eq!(map.len(), 8192);
        // SAFETY: the mapping is 8192 bytes long.
        let at = unsafe { map.base().add(4096) };
        // SAFETY: `at` is page-aligned and inside the mapping, which is alive, and
        // every access to these bytes in this process is atomic.
        let word = unsafe { AtomicU32::from_ptr(at.cast()) };
        word.store(0x1234_5678, Ordering::Relaxed);
        let bytes = std::fs::read(dir.path().join("f")).unwrap();
        assert_eq!(bytes[4096..4100], 0x1234_5678u32.to_le_bytes());
    }

    #[test]
    fn the_lock_goes_with_the_mapping() {
        const BYTE: u64 = 1 << 62;
        let dir = testing::dir();
        let map = map(dir.path());
        let other = File::options().write(true).open(dir.path().join("f")).unwrap();
        assert!(lock::try_lock(map.fd(), BYTE).unwrap());
        assert!(lock::is_held(other.as_fd(), BYTE).unwrap());
        drop(map);
        assert!(!lock::is_held(other.as_fd(), BYTE).unwrap());
    }

    #[test]
    fn a_child_has_neither_the_mapping_nor_the_descriptor_and_drops_nothing() {
        let dir = testing::forking_dir();
        let map = map(dir.path());
        let fd = map.file().as_raw_fd();
        let (base, len) = (map.base(), map.len());
        assert!(Child::run(move || {
            assert!(map.forked());
            assert!(!testing::is_open(fd));
            // Somebody else takes the number and the address.
            let file = File::open("/dev/null").unwrap();
            let other = tempfile::tempfile().unwrap();
            other.set_len(len as u64).unwrap();
            assert!(testing::is_open(fd));
            let mapped = testing::map_at(base, len, &other);
            drop(map);
            assert!(testing::is_open(fd), "the number is another's");
            assert!(testing::is_mapped(base), "the address is another's");
            drop(file);
            mapped
        }));
    }

    #[test]
    fn a_mapping_that_fails_closes_its_file() {
        let dir = testing::dir();
        fork::arm().unwrap();
        let file = file(dir.path());
        let other = file.try_clone().unwrap();
        let ticket = fork::register_fd(file.as_fd());
        assert!(lock::try_lock(file.as_fd(), 1 << 62).unwrap());
        assert!(Mapping::new(file, ticket, usize::MAX / 2).is_err());
        let probe = File::options().write(true).open(dir.path().join("f")).unwrap();
        assert!(!lock::is_held(probe.as_fd(), 1 << 62).unwrap());
        drop(other);
    }
}
