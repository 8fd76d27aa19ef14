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

use crate::os::sigbus::{self, Watched};
use crate::os::{fork, lock};

/// How often an opening is repeated because a fork came in between. After that the
/// child may keep a copy: then our death goes unnoticed until it ends.
const FORKS_BORNE: u32 = 32;

/// An open file that a forked child closes before it runs.
#[derive(Debug)]
pub(crate) struct Held {
    // Given up by `drop`, and not at all in a forked child.
    ticket: ManuallyDrop<fork::FdTicket>,
    file: ManuallyDrop<File>,
    generation: u64,
}

impl Held {
    /// Opens a file so that no child has a copy of the descriptor: not even one
    /// that is forked during the call, for then it opens once more.
    pub(crate) fn open(mut open: impl FnMut() -> io::Result<File>) -> io::Result<Held> {
        let mut tries = 0;
        loop {
            let watch = fork::Watch::start();
            let file = open()?;
            let held = Held {
                ticket: ManuallyDrop::new(fork::register_fd(file.as_fd())),
                file: ManuallyDrop::new(file),
                generation: fork::generation(),
            };
            tries += 1;
            if !watch.disturbed() || tries == FORKS_BORNE {
                return Ok(held);
            }
        }
    }

    /// The file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Its descriptor.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if fork::generation() != self.generation {
            return;
        }
        // Explicitly, so that a lock is gone even if a child has a copy of the
        // descriptor that no handler closed. Fails only where none could be taken.
        let _ = lock::unlock_all(self.file.as_fd());
        // Before the number can be another file's.
        // SAFETY: this is the only place that drops the field, and `drop` runs once.
        unsafe { ManuallyDrop::drop(&mut self.ticket) };
        // SAFETY: as above.
        unsafe { ManuallyDrop::drop(&mut self.file) };
    }
}

/// Memory that maps the first bytes of a file.
#[derive(Debug)]
pub(crate) struct Area {
    // The order matters: what is unmapped is watched no more.
    watched: Watched,
    map: MmapRaw,
}

impl Area {
    fn new(map: MmapRaw) -> Area {
        Area { watched: sigbus::watch(map.as_mut_ptr(), map.len()), map }
    }

    /// The first byte.
    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.map.as_ptr()
    }

    /// How many bytes are mapped.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// The offset of a byte that was found gone from the file, if one was (see
    /// [`sigbus`]). Then nothing of the file is left here.
    pub(crate) fn lost(&self) -> Option<u64> {
        self.watched.lost()
    }
}

/// A shared, writable mapping of the first bytes of a file.
#[derive(Debug)]
pub(crate) struct Mapping {
    // Given up by `drop`, before `held`, and not at all in a forked child.
    area: ManuallyDrop<Area>,
    held: Held,
    disturbed: bool,
}

impl Mapping {
    /// Maps the first `len` bytes of a file. The file must be that long: touching
    /// what lies behind its end is a bus error.
    pub(crate) fn new(held: Held, len: usize) -> io::Result<Mapping> {
        let watch = fork::Watch::start();
        let area = Area::new(MmapOptions::new().len(len).map_raw(held.file())?);
        // The file that the mapping pins carries the lock that says we are alive.
        // A child that kept the mapping would say so after our death.
        area.map.advise(Advice::DontFork)?;
        let disturbed = watch.disturbed();
        // Best effort (from Linux 5.14): otherwise first touches take the faults.
        let _ = area.map.advise(Advice::PopulateWrite);
        Ok(Mapping { area: ManuallyDrop::new(area), held, disturbed })
    }

    /// Whether a child may have a copy of this mapping, because another thread
    /// forked in the middle of `new`. Then drop it and begin with a new file.
    pub(crate) fn disturbed(&self) -> bool {
        self.disturbed
    }

    /// The first byte. Aligned to a page; valid while the mapping lives and this
    /// process is not a forked child.
    pub(crate) fn base(&self) -> *mut u8 {
        self.area.map.as_mut_ptr()
    }

    /// How many bytes are mapped.
    pub(crate) fn len(&self) -> usize {
        self.area.len()
    }

    /// As [`Area::lost`].
    pub(crate) fn lost(&self) -> Option<u64> {
        self.area.lost()
    }

    /// The file behind the mapping, for locks and questions about its state.
    pub(crate) fn file(&self) -> &File {
        self.held.file()
    }

    /// The descriptor behind the mapping.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.held.fd()
    }

    /// The generation (see [`fork`]) in which the file was opened.
    pub(crate) fn generation(&self) -> u64 {
        self.held.generation
    }

    /// Whether this process is a forked copy of the one that mapped.
    #[inline]
    pub(crate) fn forked(&self) -> bool {
        fork::generation() != self.held.generation
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.forked() {
            return;
        }
        // Before `held` gives the lock up: once it is free, nobody here can store.
        // SAFETY: this is the only place that drops the field, and `drop` runs once.
        unsafe { ManuallyDrop::drop(&mut self.area) };
    }
}

/// Maps the first `len` bytes of a file to be read only.
pub(crate) fn read_only(file: &File, len: usize) -> io::Result<Area> {
    // So that it is told from what a child has in the same place (`sigbus`).
    fork::arm()?;
    MmapOptions::new().len(len).map_raw_read_only(file).map(Area::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::{self, Child};
    use crate::sync::{AtomicU32, Ordering};
    use std::os::fd::AsRawFd;
    use std::path::Path;

    fn file(dir: &Path) -> io::Result<File> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join("f"))?;
        file.set_len(8192)?;
        Ok(file)
    }

    fn map(dir: &Path) -> Mapping {
        fork::arm().unwrap();
        Mapping::new(Held::open(|| file(dir)).unwrap(), 8192).unwrap()
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
        if !testing::can_keep_maps_from_children() {
            return testing::skip("a_child_has_neither", "no MADV_DONTFORK");
        }
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
    fn a_child_forked_in_the_middle_of_opening_keeps_no_lock() {
        use std::io::{Read, Write};
        use std::os::unix::net::UnixStream;
        const BYTE: u64 = 1 << 62;
        let dir = testing::forking_dir();
        let probe = file(dir.path()).unwrap();
        let (mut ready, mut tell) = UnixStream::pair().unwrap();
        let (mut end_of_test, mut keep_alive) = UnixStream::pair().unwrap();
        let folder = dir.path().to_owned();
        let parent = Child::start(move || {
            fork::arm().unwrap();
            let mut opened = 0;
            let held = Held::open(|| {
                let file = file(&folder)?;
                opened += 1;
                if opened == 1 {
                    // Open, and not yet known to be closed in children.
                    let _child = Child::start(|| end_of_test.read_exact(&mut [0]).is_ok());
                }
                Ok(file)
            });
            let held = held.unwrap();
            assert_eq!(opened, 2, "it opened once more");
            assert!(lock::try_lock(held.fd(), BYTE).unwrap());
            tell.write_all(b"!").unwrap();
            loop {
                std::thread::park();
            }
        });
        ready.read_exact(&mut [0]).unwrap();
        assert!(lock::is_held(probe.as_fd(), BYTE).unwrap());
        parent.kill();
        assert!(!lock::is_held(probe.as_fd(), BYTE).unwrap());
        keep_alive.write_all(b"!").unwrap();
    }

    #[test]
    fn a_mapping_that_fails_closes_its_file() {
        let dir = testing::dir();
        fork::arm().unwrap();
        let held = Held::open(|| file(dir.path())).unwrap();
        let _copy = held.file().try_clone().unwrap();
        assert!(lock::try_lock(held.fd(), 1 << 62).unwrap());
        assert!(Mapping::new(held, usize::MAX / 2).is_err());
        let probe = File::options().write(true).open(dir.path().join("f")).unwrap();
        assert!(!lock::is_held(probe.as_fd(), 1 << 62).unwrap());
    }
}
