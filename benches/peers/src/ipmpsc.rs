//! `ipmpsc`: two of its shared ring buffers, in files.
//!
//! It knows byte strings, which it sends as they are. A sender always waits for the ring's own condition; a receiver that
//! spins asks again and again.

use std::io;

use ipmpsc::{Receiver, Sender, SharedRingBuffer};
use quoit_transports::{
    Kit, Laid, Named, Refusal, Rx, Shape, Side, Spsc, Transport, Tx, Wait, draw, ways,
};
use serde_bytes::Bytes;

use crate::spin;

/// Where memory has names.
const DIR: &str = "/dev/shm";

/// Two ring buffers.
#[derive(Debug)]
pub(crate) struct Ipmpsc;

impl Transport for Ipmpsc {
    type Tx = IpmpscTx;
    type Rx = IpmpscRx;

    fn lay(shape: &Shape) -> Result<Laid, Refusal> {
        let room = u32::try_from(Spsc::room(shape)).map_err(io::Error::other)?;
        let names = ["there", "back"].map(|way| Named::File(format!("{DIR}/{}", draw(way))));
        for name in &names {
            SharedRingBuffer::create(name.text(), room).map_err(io::Error::other)?;
        }
        Ok(Laid::named(names.into()))
    }

    fn ends(kit: Kit, side: Side, shape: &Shape) -> io::Result<(IpmpscTx, IpmpscRx)> {
        let (to, from) = ways(&kit, side)?;
        let tx = Sender::new(SharedRingBuffer::open(to).map_err(io::Error::other)?);
        let rx = Receiver::new(SharedRingBuffer::open(from).map_err(io::Error::other)?);
        let rx =
            IpmpscRx { end: rx, blocks: shape.wait == Wait::Block, message: vec![0; shape.size] };
        Ok((IpmpscTx(tx), rx))
    }
}

/// The sending end.
pub(crate) struct IpmpscTx(Sender);

impl Tx for IpmpscTx {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.0.send(&Bytes::new(message)).map_err(io::Error::other)
    }
}

/// The receiving end.
pub(crate) struct IpmpscRx {
    end: Receiver,
    blocks: bool,
    message: Vec<u8>,
}

impl Rx for IpmpscRx {
    #[inline(always)]
    fn recv(&mut self) -> io::Result<&[u8]> {
        let message = &mut self.message;
        let mut copy = |from: &Bytes| {
            message.clear();
            message.extend_from_slice(from);
        };
        if self.blocks {
            let mut context = self.end.zero_copy_context();
            copy(context.recv().map_err(io::Error::other)?);
        } else {
            spin::until(|| match self.end.zero_copy_context().try_recv() {
                Ok(None) => None,
                Ok(Some(message)) => {
                    copy(message);
                    Some(Ok(()))
                }
                Err(error) => Some(Err(io::Error::other(error))),
            })?;
        }
        Ok(&self.message)
    }
}
