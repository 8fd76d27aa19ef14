//! Two rings of slots, as a user of the library has them.
//!
//! It knows the public face of `quoit::mpmc`. It refuses to know what is inside: validation, liveness, wake-ups and
//! crash repair are all there.

use std::io;

use quoit::{Options, mpmc};

use crate::{Kit, Laid, Named, Refusal, Rx, Shape, Side, Transport, Tx, draw};

/// Two rings of slots, with one sender and one receiver each.
#[derive(Debug)]
pub struct Mpmc;

/// Of a ring; fewer where messages are so long that it would take more than [`MEMORY`].
const SLOTS: usize = 1024;
const MEMORY: usize = 32 << 20;

impl Mpmc {
    /// How many slots a ring of that shape has.
    pub fn slots(shape: &Shape) -> usize {
        // A ring has a power of two of them; `MEMORY` and `LONGEST` are powers of two, so at least 16 fit.
        SLOTS.min(MEMORY / shape.size.next_power_of_two())
    }

    fn options(shape: &Shape) -> Options {
        Options::new().capacity(Self::slots(shape)).max_len(shape.size)
    }

    /// One ring between threads of this process.
    pub fn channel(shape: &Shape) -> io::Result<(MpmcTx, MpmcRx)> {
        let (tx, rx) = mpmc::channel(&Self::options(shape)).map_err(io::Error::other)?;
        Ok(Self::waiting(tx, rx, shape))
    }

    fn waiting(tx: mpmc::Sender, rx: mpmc::Receiver, shape: &Shape) -> (MpmcTx, MpmcRx) {
        tx.set_wait(shape.wait.of_a_ring());
        rx.set_wait(shape.wait.of_a_ring());
        (MpmcTx(tx), MpmcRx { end: rx, message: vec![0; shape.size + 1] })
    }
}

impl Transport for Mpmc {
    type Tx = MpmcTx;
    type Rx = MpmcRx;

    fn lay(shape: &Shape) -> Result<Laid, Refusal> {
        let options = Self::options(shape);
        let names = vec![Named::Ring(draw("there")), Named::Ring(draw("back"))];
        for name in &names {
            mpmc::create(name.text(), &options).map_err(io::Error::other)?;
        }
        Ok(Laid::named(names))
    }

    fn ends(kit: Kit, side: Side, shape: &Shape) -> io::Result<(MpmcTx, MpmcRx)> {
        let (to, from) = crate::ways(&kit, side)?;
        let tx = mpmc::Sender::open(to).map_err(io::Error::other)?;
        let rx = mpmc::Receiver::open(from).map_err(io::Error::other)?;
        Ok(Self::waiting(tx, rx, shape))
    }
}

/// The sending end.
#[derive(Clone, Debug)]
pub struct MpmcTx(mpmc::Sender);

impl Tx for MpmcTx {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.0.send(message).map_err(io::Error::other)
    }
}

/// The receiving end.
#[derive(Clone, Debug)]
pub struct MpmcRx {
    end: mpmc::Receiver,
    /// A byte longer than a message, to see one that is too long.
    message: Vec<u8>,
}

impl Rx for MpmcRx {
    #[inline(always)]
    fn recv(&mut self) -> io::Result<&[u8]> {
        let len = self.end.recv().map_err(io::Error::other)?.copy_to(&mut self.message);
        Ok(&self.message[..len])
    }
}
