//! Event counters of the kernel, with the messages in shared memory: the bounded buffer of the textbooks.
//!
//! It knows two counters for each way, how many slots are filled and how many are free, and takes from one and adds to
//! the other with every message. It refuses to save a call: that would be a ring of its own, and there are two here.

use std::io;
use std::os::fd::OwnedFd;

use nix::sys::eventfd::{EfdFlags, EventFd as Counter};
use nix::unistd::{read, write};

use crate::patience::Patience;
use crate::shared::Shared;
use crate::{Kit, Laid, Refusal, Rx, Shape, Side, Transport, Tx, unpack};

/// Two such buffers.
#[derive(Debug)]
pub struct EventFd;

/// Of each way; fewer where messages are long.
const SLOTS: usize = 64;
const MEMORY: usize = 8 << 20;

fn slots(shape: &Shape) -> usize {
    (MEMORY / shape.size).clamp(4, SLOTS)
}

/// What one way consists of: filled, free, memory.
fn way(shape: &Shape) -> io::Result<[OwnedFd; 3]> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_SEMAPHORE;
    let room = u32::try_from(slots(shape)).map_err(io::Error::other)?;
    let filled = Counter::from_value_and_flags(0, flags)?;
    let free = Counter::from_value_and_flags(room, flags)?;
    Ok([filled.into(), free.into(), Shared::create(slots(shape), shape.size)?])
}

impl Transport for EventFd {
    type Tx = EventFdTx;
    type Rx = EventFdRx;

    fn lay(shape: &Shape) -> Result<Laid, Refusal> {
        let (there, back) = (way(shape)?, way(shape)?);
        let copy = |way: &[OwnedFd; 3]| way.each_ref().map(OwnedFd::try_clone);
        let client: io::Result<Vec<_>> = copy(&there).into_iter().chain(copy(&back)).collect();
        let server = back.into_iter().chain(there).collect();
        Ok(Laid::of(client?, server))
    }

    fn ends(kit: Kit, _: Side, shape: &Shape) -> io::Result<(EventFdTx, EventFdRx)> {
        let [to_filled, to_free, to, from_filled, from_free, from] = unpack(kit)?;
        let tx = EventFdTx {
            patience: Patience::to_read(shape.wait, &to_free)?,
            memory: Shared::open(to, slots(shape), shape.size)?,
            filled: to_filled,
            free: to_free,
            slot: 0,
            slots: slots(shape),
        };
        let rx = EventFdRx {
            patience: Patience::to_read(shape.wait, &from_filled)?,
            memory: Shared::open(from, slots(shape), shape.size)?,
            filled: from_filled,
            free: from_free,
            slot: 0,
            slots: slots(shape),
            message: vec![0; shape.size],
        };
        Ok((tx, rx))
    }
}

/// Takes one from a counter; waits while there is none.
#[inline(always)]
fn take(counter: &OwnedFd, patience: Patience) -> io::Result<()> {
    patience.until(counter, || read(counter, &mut [0; 8]))?;
    Ok(())
}

/// Adds one to a counter.
#[inline(always)]
fn add(counter: &OwnedFd) -> io::Result<()> {
    write(counter, &1_u64.to_ne_bytes())?;
    Ok(())
}

/// The sending end.
#[derive(Debug)]
pub struct EventFdTx {
    filled: OwnedFd,
    free: OwnedFd,
    patience: Patience,
    memory: Shared,
    slot: usize,
    slots: usize,
}

impl Tx for EventFdTx {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        take(&self.free, self.patience)?;
        self.memory.put(self.slot, message);
        self.slot = (self.slot + 1) % self.slots;
        add(&self.filled)
    }
}

/// The receiving end.
#[derive(Debug)]
pub struct EventFdRx {
    filled: OwnedFd,
    free: OwnedFd,
    patience: Patience,
    memory: Shared,
    slot: usize,
    slots: usize,
    message: Vec<u8>,
}

impl Rx for EventFdRx {
    #[inline(always)]
    fn recv(&mut self) -> io::Result<&[u8]> {
        take(&self.filled, self.patience)?;
        self.memory.get(self.slot, &mut self.message);
        self.slot = (self.slot + 1) % self.slots;
        add(&self.free)?;
        Ok(&self.message)
    }
}
