//! The floor: what the machine itself takes to bring a message over, with nothing in between.
//!
//! It knows one slot for each way that is used over and over: the payload is stored, then the flag, and the answer is
//! the permission to use the slot again. So it carries round trips and nothing else, and it never sleeps.

use std::io;
use std::sync::atomic::Ordering::{Acquire, Release};

use crate::shared::Slot;
use crate::{Kit, Laid, Refusal, Rx, Shape, Side, Transport, Tx};

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
        Ok(Slot::lay(shape)?)
    }

    fn ends(kit: Kit, side: Side, shape: &Shape) -> io::Result<(FloorTx, FloorRx)> {
        let (to, from) = Slot::ends(kit, side, shape)?;
        let message = vec![0; shape.size];
        Ok((FloorTx { slot: to, turn: 0 }, FloorRx { slot: from, turn: 0, message }))
    }
}

/// The sending end.
#[derive(Debug)]
pub struct FloorTx {
    slot: Slot,
    turn: u32,
}

impl Tx for FloorTx {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.turn = self.turn.wrapping_add(1);
        // The other side has answered, or never looked yet.
        self.slot.put(message);
        // Release: publishes the bytes; pairs with the Acquire in `FloorRx::recv`.
        self.slot.flag().store(self.turn, Release);
        Ok(())
    }
}

/// The receiving end.
#[derive(Debug)]
pub struct FloorRx {
    slot: Slot,
    turn: u32,
    message: Vec<u8>,
}

impl Rx for FloorRx {
    #[inline(always)]
    fn recv(&mut self) -> io::Result<&[u8]> {
        self.turn = self.turn.wrapping_add(1);
        let flag = self.slot.flag();
        let mut looks = 0;
        // Acquire: pairs with the Release in `FloorTx::send`.
        while flag.load(Acquire) != self.turn {
            looks += 1;
            if looks >= LOOKS {
                std::thread::yield_now();
                looks = 0;
            }
        }
        self.slot.get(&mut self.message);
        Ok(&self.message)
    }
}
