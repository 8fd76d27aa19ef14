//! Memory that maps a file and is gone: the file was cut short under it. Knows the
//! stretches of memory that map rings, and the signal that the kernel sends to whoever
//! touches what is gone; knows nothing of what was there.
//!
//! Without [`catch_sigbus`] the signal ends the process. With it, the whole stretch is
//! replaced by zeros of this process's own, and the access goes on with those. From
//! then on nothing of the file is seen or changed through it, and [`Watched::lost`]
//! says so.
//!
//! The whole stretch and not the page: half of a ring and half of zeros would contradict
//! itself in ways that nobody has thought of, and a sender that goes on for a while would
//! write to the half that others still have.

use std::io;
use std::mem::MaybeUninit;
use std::sync::{Mutex, PoisonError};

use crate::os::fork;
use crate::os::list::List;
use crate::sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

/// Memory that maps a file from its start.
struct Stretch {
    /// Another number each time it is used; or one of those below. Changes around the
    /// fields, so that a handler never takes the start of one for that of another.
    stamp: AtomicU64,
    /// The process that mapped it: a forked child has something else there.
    generation: AtomicU64,
    base: AtomicPtr<u8>,
    len: AtomicU64,
    /// The lowest offset that was found gone.
    lost: AtomicU64,
}

const FREE: u64 = 0;
const CHANGING: u64 = 1;
const NOTHING_LOST: u64 = u64::MAX;

static STRETCHES: List<Stretch> = List::new();
/// Whether any of them ever lost something, for those who cannot ask after each.
static LOST: AtomicU32 = AtomicU32::new(0);
/// The youngest stamp.
static STAMPS: AtomicU64 = AtomicU64::new(CHANGING);

impl Stretch {
    /// Makes it the caller's, if it is free.
    fn take(&self) -> bool {
        // Acquire: pairs with the Release in `Watched::drop`.
        self.stamp.compare_exchange(FREE, CHANGING, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Where in it an address lies, and where it begins.
    fn holds(&self, address: *mut u8) -> Option<(*mut u8, usize, u64)> {
        // Acquire: pairs with the Release in `watch`.
        let stamp = self.stamp.load(Ordering::Acquire);
        if stamp <= CHANGING {
            return None;
        }
        // Relaxed, all three: the stamp before and after them says that they belong
        // together.
        let generation = self.generation.load(Ordering::Relaxed);
        let base = self.base.load(Ordering::Relaxed);
        let len = self.len.load(Ordering::Relaxed);
        // Pairs with the fence in `watch`.
        fence(Ordering::Acquire);
        if self.stamp.load(Ordering::Relaxed) != stamp || generation != fork::generation() {
            return None;
        }
        let at = (address.addr() as u64).checked_sub(base.addr() as u64)?;
        // The kernel maps whole pages.
        let len = len.next_multiple_of(page());
        (at < len).then_some((base, usize::try_from(len).ok()?, at))
    }
}

/// A stretch of memory that is looked after, for as long as this lives. Dropped before
/// the memory is unmapped.
#[derive(Debug)]
pub(crate) struct Watched {
    stretch: &'static Stretch,
    stamp: u64,
}

impl std::fmt::Debug for Stretch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stretch").field("base", &self.base).finish_non_exhaustive()
    }
}

/// Looks after `len` bytes at `base` that map a file from its start.
pub(crate) fn watch(base: *mut u8, len: usize) -> Watched {
    let stretch = STRETCHES.claim(Stretch::take, || Stretch {
        stamp: AtomicU64::new(CHANGING),
        generation: AtomicU64::new(0),
        base: AtomicPtr::new(std::ptr::null_mut()),
        len: AtomicU64::new(0),
        lost: AtomicU64::new(0),
    });
    // Pairs with the fence in `holds`: whoever reads a field from below has the stamp
    // that says so.
    fence(Ordering::Release);
    stretch.generation.store(fork::generation(), Ordering::Relaxed);
    stretch.base.store(base, Ordering::Relaxed);
    stretch.len.store(len as u64, Ordering::Relaxed);
    stretch.lost.store(NOTHING_LOST, Ordering::Relaxed);
    // Relaxed: only that it is another one.
    let stamp = STAMPS.fetch_add(1, Ordering::Relaxed) + 1;
    // Release: pairs with the Acquire in `holds`.
    stretch.stamp.store(stamp, Ordering::Release);
    Watched { stretch, stamp }
}

impl Watched {
    /// The lowest offset that was found gone, if any was. Then nothing of the file is
    /// left here.
    pub(crate) fn lost(&self) -> Option<u64> {
        // Acquire: pairs with the AcqRel in `replace`. Whoever has read a zero that it
        // left comes after it all the same: the kernel changed the map in between.
        Some(self.stretch.lost.load(Ordering::Acquire)).filter(|&at| at != NOTHING_LOST)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Unless it is somebody else's by now. A child has a copy of the whole list, in which
        // this frees what is nobody's there.
        // Release: pairs with the Acquire in `take`.
        let _ = self.stretch.stamp.compare_exchange(
            self.stamp,
            FREE,
            Ordering::Release,
            Ordering::Relaxed,
        );
    }
}

/// Whether any stretch of this process was ever found gone. One load.
#[inline]
pub(crate) fn any_lost() -> bool {
    // Acquire: what was read before this is not read after it, so a zero that another
    // thread let in has the word with it: pairs with the Release in `replace`.
    fence(Ordering::Acquire);
    // Relaxed: as above.
    LOST.load(Ordering::Relaxed) != 0
}

/// The size of a page, once [`catch_sigbus`] has asked for it: a handler must not.
static PAGE: AtomicU64 = AtomicU64::new(0);

fn page() -> u64 {
    // Relaxed: a number that is always the same.
    match PAGE.load(Ordering::Relaxed) {
        0 => {
            // SAFETY: sysconf takes a number.
            let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
            let page = u64::try_from(page).unwrap_or(4096);
            PAGE.store(page, Ordering::Relaxed);
            page
        }
        page => page,
    }
}

/// Puts zeros in the place of the stretch that holds `address`; whether there is one.
/// Only atomics and two system calls: everything here is async-signal-safe.
fn replace(address: *mut u8) -> bool {
    for stretch in STRETCHES.iter() {
        let Some((base, len, at)) = stretch.holds(address) else { continue };
        // Before the zeros are there to be read. AcqRel: see `Watched::lost`.
        stretch.lost.fetch_min(at - at % page(), Ordering::AcqRel);
        // Release: pairs with the Acquire in `any_lost`.
        LOST.store(1, Ordering::Release);
        // SAFETY: the range is a mapping of a ring of this process (the stamp and the
        // generation say so), which is in use at this moment by whoever touched it, so
        // nobody unmaps it. What is accessed there is accessed by atomics and by copies
        // that expect any bytes at any moment.
        let new = unsafe {
            libc::mmap(
                base.cast(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if new == libc::MAP_FAILED {
            return false;
        }
        // As what was there before. If the kernel refuses, a child has zeros that it does not use.
        // SAFETY: the range was just mapped.
        unsafe { libc::madvise(new, len, libc::MADV_DONTFORK) };
        return true;
    }
    false
}

/// What was done at this signal before we came. Never freed.
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(std::ptr::null_mut());

/// Makes this process survive that the file of a ring is cut short while it is open.
///
/// Every process that may write to a ring's file may also cut it short, and whoever then
/// touches a page that is gone is sent SIGBUS by the kernel, which ends the process.
/// After this call such an access meets zeros instead, and the handle answers
/// [`Fault::Truncated`](crate::Fault::Truncated): the call that met them, or the next
/// one that finds nothing to receive, no room, or nonsense. `docs/trust-model.md` says
/// what exactly is promised.
///
/// A handler of signals is the whole process's, so this is for the program to decide
/// and never done unasked. A signal that has nothing to do with a ring goes to the
/// handler that was there before, if one was. A handler that is installed later takes
/// this one's place and ought to do the same. Calling this again does nothing.
///
/// # Errors
///
/// The kernel's, when it refuses the handler.
///
/// ```
/// quoit::catch_sigbus()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn catch_sigbus() -> io::Result<()> {
    static CAUGHT: Mutex<bool> = Mutex::new(false);
    let mut caught = CAUGHT.lock().unwrap_or_else(PoisonError::into_inner);
    if *caught {
        return Ok(());
    }
    page();
    let mut previous = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: no new action is passed, and `previous` has room for the old one.
    let rc = unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), previous.as_mut_ptr()) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just filled it.
    let previous = unsafe { previous.assume_init() };
    // Before there is a handler that reads it. Release: pairs with `pass_on`.
    PREVIOUS.store(Box::leak(Box::new(previous)), Ordering::Release);
    // SAFETY: sigaction is integers and pointers, for which zero is a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: Handler = on_sigbus;
    action.sa_sigaction = handler as libc::sighandler_t;
    // On the stack that the thread has put by for signals, if it has.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: `action` lives during the call; its handler is async-signal-safe.
    let rc = unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    *caught = true;
    Ok(())
}

type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

extern "C" fn on_sigbus(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: it takes nothing and answers where this thread's errno is.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: a live integer of this thread.
    let before = unsafe { *errno };
    // SAFETY: with SA_SIGINFO the kernel passes what it knows of the signal.
    let known = unsafe { &*info };
    let code = known.si_code;
    // SAFETY: the structure has this field; for a code of the kernel's own it is the
    // address, and whatever it is otherwise is only looked up.
    let address = unsafe { known.si_addr() };
    if code != libc::BUS_ADRERR || !replace(address.cast()) {
        pass_on(signal, code, info, context);
    }
    // SAFETY: as above. Whoever was interrupted may be about to read it.
    unsafe { *errno = before };
}

/// Does what would have been done without us.
fn pass_on(
    signal: libc::c_int,
    code: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // Acquire: pairs with the Release in `catch_sigbus`.
    let previous = PREVIOUS.load(Ordering::Acquire);
    // SAFETY: it is a leaked box since before this handler was installed, and only read.
    let previous = unsafe { &*previous };
    let (handler, flags) = (previous.sa_sigaction, previous.sa_flags);
    // Above 0: the kernel's own, of an access that will be tried again.
    let of_an_access = code > 0;
    match handler {
        libc::SIG_IGN if !of_an_access => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: sigaction is integers and pointers, for which zero is a value:
            // SIG_DFL.
            let action: libc::sigaction = unsafe { std::mem::zeroed() };
            // SAFETY: `action` lives during the call.
            unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
            if !of_an_access {
                // SAFETY: raise takes a number. It arrives when this handler returns.
                unsafe { libc::raise(signal) };
            }
        }
        handler if flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: whoever installed it said that it is a function of this type.
            let handler = unsafe { std::mem::transmute::<libc::sighandler_t, Handler>(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: as above, without SA_SIGINFO.
            let handler = unsafe {
                std::mem::transmute::<libc::sighandler_t, extern "C" fn(libc::c_int)>(handler)
            };
            handler(signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::map::{Held, Mapping};
    use crate::os::testing::{self, Child};
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    /// An address that no program has: near the end of all of them.
    fn nowhere(power: u32) -> *mut u8 {
        std::ptr::without_provenance_mut(0usize.wrapping_sub(1 << power))
    }

    #[test]
    fn an_address_belongs_to_the_stretch_that_holds_it_as_long_as_that_is_watched() {
        fork::arm().unwrap();
        let base: *mut u8 = nowhere(20);
        let find = |at: u64| {
            let address = base.wrapping_add(at as usize);
            STRETCHES.iter().find_map(|stretch| stretch.holds(address)).map(|(_, _, at)| at)
        };
        assert_eq!(find(0), None);
        let watched = watch(base, 5000);
        assert_eq!(find(0), Some(0));
        assert_eq!(find(5000), Some(5000), "the kernel maps whole pages");
        assert_eq!(find(page() * 2), None);
        assert_eq!(find(0u64.wrapping_sub(1)), None);
        assert_eq!(watched.lost(), None);
        drop(watched);
        assert_eq!(find(0), None);
    }

    #[test]
    fn a_child_has_something_else_where_its_parent_watched() {
        let _alone = testing::may_fork();
        fork::arm().unwrap();
        let base: *mut u8 = nowhere(21);
        let watched = watch(base, 4096);
        let held = || STRETCHES.iter().any(|stretch| stretch.holds(base).is_some());
        assert!(held());
        assert!(Child::run(|| !held()));
        drop(watched);
    }

    const PAGES: u64 = 4;

    fn file(folder: &Path) -> File {
        let file = File::options().read(true).write(true).create_new(true).open(folder.join("f"));
        let file = file.unwrap();
        file.write_all_at(&vec![7; (PAGES * page()) as usize], 0).unwrap();
        file
    }

    /// A mapping of a file that is full of sevens, in a process that has no other.
    fn map(file: &File) -> Mapping {
        fork::arm().unwrap();
        let held = Held::open(|| file.try_clone()).unwrap();
        Mapping::new(held, (PAGES * page()) as usize).unwrap()
    }

    /// The word at the beginning of a page.
    fn word(map: &Mapping, at: u64) -> &AtomicU32 {
        let address = map.base().wrapping_add((at * page()) as usize);
        // SAFETY: inside the mapping, which lives, aligned to a page, and only used by
        // atomics in this process.
        unsafe { AtomicU32::from_ptr(address.cast()) }
    }

    fn read(map: &Mapping, at: u64) -> u32 {
        word(map, at).load(Ordering::Relaxed)
    }

    const SEVENS: u32 = 0x0707_0707;

    #[test]
    fn memory_that_is_gone_reads_as_zeros_and_the_file_is_out_of_reach() {
        let dir = testing::forking_dir();
        assert!(Child::run(|| {
            catch_sigbus().unwrap();
            catch_sigbus().unwrap();
            let (file, other) = (file(dir.path()), tempfile::tempfile().unwrap());
            other.set_len(PAGES * page()).unwrap();
            let (map, untouched) = (map(&file), map(&other));
            assert!(read(&map, 2) == SEVENS && map.lost().is_none() && !any_lost());
            file.set_len(2 * page()).unwrap();
            assert_eq!(read(&map, 1), SEVENS, "as long as nobody misses anything");
            assert_eq!(read(&map, 3), 0);
            assert_eq!((map.lost(), any_lost()), (Some(3 * page()), true));
            assert_eq!((0..PAGES).map(|at| read(&map, at)).max(), Some(0), "all of it");
            word(&map, 0).store(1, Ordering::Relaxed);
            assert_eq!(read(&map, 0), 1);
            let mut bytes = [0; 4];
            file.read_exact_at(&mut bytes, 0).unwrap();
            assert_eq!(u32::from_ne_bytes(bytes), SEVENS);
            drop(map);
            word(&untouched, 0).store(5, Ordering::Relaxed);
            untouched.lost().is_none() && read(&untouched, 0) == 5
        }));
    }

    #[test]
    fn a_page_that_was_punched_out_of_a_full_filesystem_is_gone_too() {
        let dir = testing::forking_dir();
        let (inside, can) = (
            dir.path().to_owned(),
            Child::run(|| testing::mount_small_tmpfs(dir.path(), 4096).is_ok()),
        );
        if !can {
            return testing::skip("a_page_that_was_punched_out", "may not mount");
        }
        assert!(Child::run(move || {
            testing::mount_small_tmpfs(&inside, 8 * page() as usize).unwrap();
            catch_sigbus().unwrap();
            let file = file(&inside);
            let map = map(&file);
            testing::punch(&file, page(), page());
            let full = File::create(inside.join("full")).unwrap();
            let mut at = 0;
            while full.write_at(&[1; 4096], at).is_ok() {
                at += 4096;
            }
            assert_eq!((read(&map, 0), map.lost()), (SEVENS, None));
            assert_eq!((read(&map, 1), map.lost()), (0, Some(page())));
            true
        }));
    }

    /// How a child ends that touches a page which is gone.
    fn end_of(before: impl FnOnce(&Mapping), touch: impl FnOnce(&Mapping)) -> i32 {
        let dir = testing::forking_dir();
        Child::start(|| {
            let file = file(dir.path());
            let map = map(&file);
            before(&map);
            file.set_len(0).unwrap();
            touch(&map);
            true
        })
        .wait()
    }

    fn killed_by(status: i32) -> Option<i32> {
        libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status))
    }

    #[test]
    fn whoever_does_not_ask_for_it_dies() {
        let end = end_of(|_| {}, |map| assert_eq!(read(map, 0), 0));
        assert_eq!(killed_by(end), Some(libc::SIGBUS));
    }

    #[test]
    fn a_fault_of_somebody_else_kills_as_ever() {
        for action in [None, Some(libc::SIG_DFL), Some(libc::SIG_IGN)] {
            let end = end_of(
                |_| {
                    action.into_iter().for_each(testing::on_sigbus);
                    catch_sigbus().unwrap();
                },
                |map| {
                    // Memory that nobody watches.
                    let strange =
                        memmap2::MmapOptions::new().len(4096).map_raw_read_only(map.file());
                    let strange = strange.unwrap();
                    // SAFETY: a page that is mapped and gone: this ends the process.
                    unsafe { strange.as_ptr().read_volatile() };
                },
            );
            assert_eq!(killed_by(end), Some(libc::SIGBUS), "{action:?}");
        }
    }

    #[test]
    fn a_signal_that_was_sent_does_what_it_did() {
        for (action, ends) in [(libc::SIG_DFL, true), (libc::SIG_IGN, false)] {
            let end = end_of(
                |_| {
                    testing::on_sigbus(action);
                    catch_sigbus().unwrap();
                },
                |_| testing::raise_sigbus(),
            );
            assert_eq!(killed_by(end).is_some(), ends);
        }
    }

    extern "C" fn plain(signal: libc::c_int) {
        testing::exit(if signal == libc::SIGBUS { 7 } else { 8 });
    }

    #[test]
    fn the_handler_that_was_there_before_hears_of_what_is_not_ours() {
        let handler: extern "C" fn(libc::c_int) = plain;
        let end = end_of(
            |_| {
                testing::on_sigbus(handler as libc::sighandler_t);
                catch_sigbus().unwrap();
            },
            |map| {
                assert_eq!(read(map, 0), 0, "ours");
                testing::raise_sigbus();
            },
        );
        assert!(libc::WIFEXITED(end) && libc::WEXITSTATUS(end) == 7, "{end:#x}");
    }

    #[test]
    fn several_threads_that_miss_the_same_memory_go_on() {
        let end = end_of(
            |_| catch_sigbus().unwrap(),
            |map| {
                std::thread::scope(|s| {
                    for at in 0..PAGES {
                        s.spawn(move || (0..1000).for_each(|_| assert_eq!(read(map, at), 0)));
                    }
                });
                assert!(map.lost().is_some());
            },
        );
        assert_eq!(end, 0);
    }
}
