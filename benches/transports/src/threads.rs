//! A slot and the private futex, between two threads of one process: the textbook's way to hand something over, and the
//! yardstick for what a sleeper of another process costs.
//!
//! It knows two ways, each a word and the bytes of one message, that both threads find by a name. It refuses to know
//! processes: the private futex wakes nobody in another one, so this transport has no [`Name`](crate::Name), and its ends
//! are not to be had elsewhere.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

use crate::turn::{Bed, FULL, leave, turn, until};
use crate::{Kit, Laid, Named, Refusal, Rx, Shape, Side, Transport, Tx, Wait, draw};

/// A slot each way, between threads.
#[derive(Debug)]
pub struct Threads;

/// The kernel finds a sleeper by the address.
#[derive(Debug)]
struct Within;

impl Bed for Within {
    fn sleep(word: &AtomicU32, seen: u32) {
        atomic_wait::wait(word, seen);
    }

    fn wake(word: &AtomicU32) {
        atomic_wait::wake_one(word);
    }
}

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

impl Transport for Threads {
    type Tx = ThreadTx;
    type Rx = ThreadRx;

    fn lay(shape: &Shape) -> Result<Laid, Refusal> {
        let names = vec![Named::Slot(draw("there")), Named::Slot(draw("back"))];
        for name in &names {
            ways(|all| all.insert(name.text().into(), Arc::new(Way::new(shape.size))));
        }
        Ok(Laid::named(names))
    }

    fn ends(kit: Kit, side: Side, shape: &Shape) -> io::Result<(ThreadTx, ThreadRx)> {
        let (to, from) = crate::ways(&kit, side)?;
        let find = |name: &str| {
            ways(|all| all.get(name).cloned())
                .ok_or_else(|| io::Error::other("no thread of this process has laid that out"))
        };
        let (to, from) = (find(to)?, find(from)?);
        let &Shape { size, wait } = shape;
        Ok((ThreadTx { way: to, size, wait }, ThreadRx { way: from, wait, message: vec![0; size] }))
    }
}

/// The sending end.
#[derive(Debug)]
pub struct ThreadTx {
    way: Arc<Way>,
    size: usize,
    wait: Wait,
}

impl Tx for ThreadTx {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        assert!(message.len() == self.size, "not a message of the length that was agreed on");
        until::<Within>(&self.way.flag.0, 0, self.wait)?;
        self.way.put(message);
        turn::<Within>(&self.way.flag.0);
        Ok(())
    }
}

impl Drop for ThreadTx {
    fn drop(&mut self) {
        leave::<Within>(&self.way.flag.0);
    }
}

/// The receiving end.
#[derive(Debug)]
pub struct ThreadRx {
    way: Arc<Way>,
    wait: Wait,
    message: Vec<u8>,
}

impl Rx for ThreadRx {
    #[inline(always)]
    fn recv(&mut self) -> io::Result<&[u8]> {
        until::<Within>(&self.way.flag.0, FULL, self.wait)?;
        self.way.get(&mut self.message);
        turn::<Within>(&self.way.flag.0);
        Ok(&self.message)
    }
}

impl Drop for ThreadRx {
    fn drop(&mut self) {
        leave::<Within>(&self.way.flag.0);
    }
}
