//! Two rings of bytes, as a user of the library has them.
//!
//! It knows the public face of `quoit::spsc`. It refuses to know what is inside: validation, liveness, wake-ups and
//! crash repair are all there.

use std::io;

use quoit::{Options, spsc};

use crate::{Kit, Laid, Named, Refusal, Rx, Shape, Side, Transport, Tx, draw};

/// Two rings of one sender and one receiver each.
#[derive(Debug)]
pub struct Spsc;

/// Of a ring; more where messages are longer than an eighth of it.
const CAPACITY: usize = 1 << 20;

impl Spsc {
    /// How many bytes a ring of that shape has room for.
    pub fn room(shape: &Shape) -> usize {
        CAPACITY.max((shape.size * 8).next_power_of_two())
    }

    /// One ring between two threads of this process.
    pub fn channel(shape: &Shape) -> io::Result<(SpscTx, SpscRx)> {
        let options = Options::new().capacity(Self::room(shape));
        let (tx, rx) = spsc::channel(&options).map_err(io::Error::other)?;
        Ok(Self::waiting(tx, rx, shape))
    }

    fn waiting(mut tx: spsc::Sender, mut rx: spsc::Receiver, shape: &Shape) -> (SpscTx, SpscRx) {
        tx.set_wait(shape.wait.of_a_ring());
        rx.set_wait(shape.wait.of_a_ring());
        (SpscTx(tx), SpscRx { end: rx, message: vec![0; shape.size + 1] })
    }
}

impl Transport for Spsc {
    type Tx = SpscTx;
    type Rx = SpscRx;

    fn lay(shape: &Shape) -> Result<Laid, Refusal> {
        let options = Options::new().capacity(Self::room(shape));
        let names = vec![Named::Ring(draw("there")), Named::Ring(draw("back"))];
        for name in &names {
            spsc::create(name.text(), &options).map_err(io::Error::other)?;
        }
        Ok(Laid::named(names))
    }

    fn ends(kit: Kit, side: Side, shape: &Shape) -> io::Result<(SpscTx, SpscRx)> {
        let (to, from) = crate::ways(&kit, side)?;
        let tx = spsc::Sender::open(to).map_err(io::Error::other)?;
        let rx = spsc::Receiver::open(from).map_err(io::Error::other)?;
        Ok(Self::waiting(tx, rx, shape))
    }
}

/// The sending end.
#[derive(Debug)]
pub struct SpscTx(spsc::Sender);

impl Tx for SpscTx {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.0.send(message).map_err(io::Error::other)
    }
}

/// The receiving end.
#[derive(Debug)]
pub struct SpscRx {
    end: spsc::Receiver,
    /// A byte longer than a message, to see one that is too long.
    message: Vec<u8>,
}

impl Rx for SpscRx {
    #[inline(always)]
    fn recv(&mut self) -> io::Result<&[u8]> {
        let len = self.end.recv().map_err(io::Error::other)?.copy_to(&mut self.message);
        Ok(&self.message[..len])
    }
}
