//! A flag, a slot and the private futex, between two threads of one process: the textbook's way to hand something over,
//! and the yardstick for what a sleeper of another process costs.
//!
//! It knows two ways, each a word and the bytes of one message, that both threads find by a name. It refuses to know
//! processes: the private futex wakes nobody in another one, so this transport has no [`Name`](crate::Name), and its ends
//! are not to be had elsewhere.
//!
//! # State
//!
//! The word of a way says whether the slot is full, whether somebody sleeps until that changes, and whether an end is
//! gone. A sender writes the slot while it is empty, a receiver reads it while it is full, so one of them waits at most.
//! Whoever turns the flag takes the sleeper's mark out in the same step, and wakes.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::patience::SPINS;
use crate::{Kit, Laid, Named, Refusal, Rx, Shape, Side, Transport, Tx, Wait, draw};

/// A slot each way, between threads.
#[derive(Debug)]
pub struct Futex;

const FULL: u32 = 1;
const ASLEEP: u32 = 2;
const GONE: u32 = 4;

/// An end that has seen nothing for so many looks shares its core with the other, and gives way.
const LOOKS: u32 = 4_000;

/// The ways that were laid out and have their names still.
static WAYS: Mutex<BTreeMap<String, Arc<Way>>> = Mutex::new(BTreeMap::new());

fn ways<T>(look: impl FnOnce(&mut BTreeMap<String, Arc<Way>>) -> T) -> T {
    // Whoever panicked in here has inserted or not, found or not: the map is whole.
    look(&mut WAYS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Takes a name from the world.
pub(crate) fn forget(name: &str) {
    ways(|all| all.remove(name));
}

/// One way.
#[derive(Debug)]
struct Way {
    flag: Flag,
    /// The message as words, so that no access is anything but an atomic.
    body: Box<[AtomicU64]>,
}

/// On lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Flag(AtomicU32);

impl Way {
    fn new(size: usize) -> Way {
        let words = 0..size.div_ceil(8);
        Way { flag: Flag::default(), body: words.map(|_| AtomicU64::new(0)).collect() }
    }

    /// Waits until the slot is full, or empty; an error if that will never be, because the other end is gone.
    #[inline(always)]
    fn until(&self, full: u32, wait: Wait) -> io::Result<()> {
        let (mut looks, mut since) = (0, None);
        loop {
            // Acquire: pairs with the Release in `turn`, so the slot is ours to read, or to write again.
            let seen = self.flag.0.load(Acquire);
            if seen & FULL == full {
                return Ok(());
            }
            if seen & GONE != 0 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            match wait {
                Wait::Block => self.sleep(seen),
                Wait::Adaptive if since.get_or_insert_with(Instant::now).elapsed() >= SPINS => {
                    self.sleep(seen);
                    since = None;
                }
                Wait::Adaptive | Wait::Spin => {
                    looks += 1;
                    if looks % LOOKS == 0 {
                        std::thread::yield_now();
                    }
                    std::hint::spin_loop();
                }
            }
        }
    }

    /// Sleeps as long as the word is what was seen.
    #[cold]
    fn sleep(&self, seen: u32) {
        let flag = &self.flag.0;
        let asleep = seen | ASLEEP;
        // Relaxed: what is done about the word is decided by the next look.
        if seen == asleep || flag.compare_exchange(seen, asleep, Relaxed, Relaxed).is_ok() {
            atomic_wait::wait(flag, asleep);
        }
    }

    /// Fills or empties the slot, and wakes whoever slept until it was.
    #[inline(always)]
    fn turn(&self) {
        let turned = |seen: u32| Some((seen ^ FULL) & !ASLEEP);
        // Release: publishes the body, or that it was read; pairs with the Acquire in `until`.
        if let Ok(seen) = self.flag.0.fetch_update(Release, Relaxed, turned)
            && seen & ASLEEP != 0
        {
            atomic_wait::wake_one(&raw const self.flag.0);
        }
    }

    /// One end will not come back.
    fn leave(&self) {
        // Release: what it has sent is there; pairs with the Acquire in `until`.
        self.flag.0.fetch_or(GONE, Release);
        atomic_wait::wake_all(&raw const self.flag.0);
    }

    #[inline(always)]
    fn put(&self, message: &[u8]) {
        let (words, rest) = message.as_chunks::<8>();
        for (to, word) in self.body.iter().zip(words) {
            to.store(u64::from_ne_bytes(*word), Relaxed);
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.body[words.len()].store(u64::from_ne_bytes(last), Relaxed);
        }
    }

    #[inline(always)]
    fn get(&self, message: &mut [u8]) {
        let (words, rest) = message.as_chunks_mut::<8>();
        for (word, from) in words.iter_mut().zip(&self.body) {
            *word = from.load(Relaxed).to_ne_bytes();
        }
        if !rest.is_empty() {
            let last = self.body[words.len()].load(Relaxed).to_ne_bytes();
            rest.copy_from_slice(&last[..rest.len()]);
        }
    }
}

impl Transport for Futex {
    type Tx = FutexTx;
    type Rx = FutexRx;

    fn lay(shape: &Shape) -> Result<Laid, Refusal> {
        let names = vec![Named::Slot(draw("there")), Named::Slot(draw("back"))];
        for name in &names {
            ways(|all| all.insert(name.text().into(), Arc::new(Way::new(shape.size))));
        }
        Ok(Laid::named(names))
    }

    fn ends(kit: Kit, side: Side, shape: &Shape) -> io::Result<(FutexTx, FutexRx)> {
        let (to, from) = crate::ways(&kit, side)?;
        let find = |name: &str| {
            ways(|all| all.get(name).cloned())
                .ok_or_else(|| io::Error::other("no thread of this process has laid that out"))
        };
        let (to, from) = (find(to)?, find(from)?);
        let &Shape { size, wait } = shape;
        Ok((FutexTx { way: to, size, wait }, FutexRx { way: from, wait, message: vec![0; size] }))
    }
}

/// The sending end.
#[derive(Debug)]
pub struct FutexTx {
    way: Arc<Way>,
    size: usize,
    wait: Wait,
}

impl Tx for FutexTx {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        assert!(message.len() == self.size, "not a message of the length that was agreed on");
        self.way.until(0, self.wait)?;
        self.way.put(message);
        self.way.turn();
        Ok(())
    }
}

impl Drop for FutexTx {
    fn drop(&mut self) {
        self.way.leave();
    }
}

/// The receiving end.
#[derive(Debug)]
pub struct FutexRx {
    way: Arc<Way>,
    wait: Wait,
    message: Vec<u8>,
}

impl Rx for FutexRx {
    #[inline(always)]
    fn recv(&mut self) -> io::Result<&[u8]> {
        self.way.until(FULL, self.wait)?;
        self.way.get(&mut self.message);
        self.way.turn();
        Ok(&self.message)
    }
}

impl Drop for FutexRx {
    fn drop(&mut self) {
        self.way.leave();
    }
}
