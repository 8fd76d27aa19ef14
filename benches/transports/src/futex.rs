//! A slot and the futex that reaches another process: the least that it takes to bring a message to a sleeper there.
//!
//! It knows a word and a slot for each way in memory that both processes map. It refuses to know rings, validation and
//! life: a message is stored, the word is turned, and whoever sleeps on it is woken. An end that was killed says nothing.

use std::io;
use std::sync::atomic::AtomicU32;

use rustix::thread::futex::{self, Flags};

use crate::shared::Slot;
use crate::turn::{Bed, FULL, leave, turn, until};
use crate::{Kit, Laid, Refusal, Rx, Shape, Side, Transport, Tx, Wait};

/// A slot each way, between processes.
#[derive(Debug)]
pub struct Futex;

/// The kernel finds a sleeper by the file and the place in it.
#[derive(Debug)]
struct Across;

impl Bed for Across {
    fn sleep(word: &AtomicU32, seen: u32) {
        // Another word, or a signal: the next look sees which.
        let _ = futex::wait(word, Flags::empty(), seen, None);
    }

    fn wake(word: &AtomicU32) {
        // The word is mapped; there is nothing else that a wake-up could fail by.
        let _ = futex::wake(word, Flags::empty(), 1);
    }
}

impl Transport for Futex {
    type Tx = FutexTx;
    type Rx = FutexRx;

    fn lay(shape: &Shape) -> Result<Laid, Refusal> {
        Ok(Slot::lay(shape)?)
    }

    fn ends(kit: Kit, side: Side, shape: &Shape) -> io::Result<(FutexTx, FutexRx)> {
        let (to, from) = Slot::ends(kit, side, shape)?;
        let (wait, message) = (shape.wait, vec![0; shape.size]);
        Ok((FutexTx { slot: to, wait }, FutexRx { slot: from, wait, message }))
    }
}

/// The sending end.
#[derive(Debug)]
pub struct FutexTx {
    slot: Slot,
    wait: Wait,
}

impl Tx for FutexTx {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        until::<Across>(self.slot.flag(), 0, self.wait)?;
        self.slot.put(message);
        turn::<Across>(self.slot.flag());
        Ok(())
    }
}

impl Drop for FutexTx {
    fn drop(&mut self) {
        leave::<Across>(self.slot.flag());
    }
}

/// The receiving end.
#[derive(Debug)]
pub struct FutexRx {
    slot: Slot,
    wait: Wait,
    message: Vec<u8>,
}

impl Rx for FutexRx {
    #[inline(always)]
    fn recv(&mut self) -> io::Result<&[u8]> {
        until::<Across>(self.slot.flag(), FULL, self.wait)?;
        self.slot.get(&mut self.message);
        turn::<Across>(self.slot.flag());
        Ok(&self.message)
    }
}

impl Drop for FutexRx {
    fn drop(&mut self) {
        leave::<Across>(self.slot.flag());
    }
}
