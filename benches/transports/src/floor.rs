//! The floor: what the machine itself takes to bring a message over, with nothing in between.
//!
//! It knows one slot for each way that is used over and over: the payload is stored, then the flag, and the answer is
//! the permission to use the slot again. So it carries round trips and nothing else, and it never sleeps.

use std::io;
use std::sync::atomic::Ordering::{Acquire, Release};

use crate::shared::Shared;
use crate::{Kit, Laid, Refusal, Rx, Shape, Side, Transport, Tx, unpack};

/// One reused slot each way.
#[derive(Debug)]
pub struct Floor;

/// An end that has seen nothing for so many looks shares its core with the other, and gives way.
const LOOKS: u32 = 4_000;

impl Transport for Floor {
    type Tx = FloorTx;
    type Rx = FloorRx;

    const QUEUES: bool = false;
    const SLEEPS: bool = false;

    fn lay(shape: &Shape) -> Result<Laid, Refusal> {
        let memory = Shared::create(2, shape.size)?;
        Ok(Laid::of(vec![memory.try_clone()?], vec![memory]))
    }

    fn ends(kit: Kit, side: Side, shape: &Shape) -> io::Result<(FloorTx, FloorRx)> {
        let [memory] = unpack(kit)?;
        let (to, from) = match side {
            Side::Client => (0, 1),
            Side::Server => (1, 0),
        };
        let tx = Shared::open(memory.try_clone()?, 2, shape.size)?;
        let rx = Shared::open(memory, 2, shape.size)?;
        Ok((
            FloorTx { memory: tx, slot: to, turn: 0 },
            FloorRx { memory: rx, slot: from, turn: 0, message: vec![0; shape.size] },
        ))
    }
}

/// The sending end.
#[derive(Debug)]
pub struct FloorTx {
    memory: Shared,
    slot: usize,
    turn: u64,
}

impl Tx for FloorTx {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.turn += 1;
        // The other side has answered, or never looked yet.
        self.memory.put(self.slot, message);
        // Release: publishes the bytes; pairs with the Acquire in `FloorRx::recv`.
        self.memory.flag(self.slot).store(self.turn, Release);
        Ok(())
    }
}

/// The receiving end.
#[derive(Debug)]
pub struct FloorRx {
    memory: Shared,
    slot: usize,
    turn: u64,
    message: Vec<u8>,
}

impl Rx for FloorRx {
    #[inline(always)]
    fn recv(&mut self) -> io::Result<&[u8]> {
        self.turn += 1;
        let flag = self.memory.flag(self.slot);
        let mut looks = 0;
        // Acquire: pairs with the Release in `FloorTx::send`.
        while flag.load(Acquire) != self.turn {
            looks += 1;
            if looks >= LOOKS {
                std::thread::yield_now();
                looks = 0;
            }
        }
        self.memory.get(self.slot, &mut self.message);
        Ok(&self.message)
    }
}
