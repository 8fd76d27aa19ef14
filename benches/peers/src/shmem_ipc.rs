//! `shmem-ipc`: two of its shared rings, of bytes.
//!
//! It knows that every message is of one length, and so needs no header. Whoever spins looks at the ring alone; whoever
//! blocks waits for the ring's eventfd, as it is meant, and signals it.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::ptr;

use quoit_transports::{Kit, Laid, Refusal, Rx, Shape, Side, Spsc, Transport, Tx, Wait, unpack};
use shmem_ipc::sharedring::{Receiver, Sender};

use crate::spin;

/// Two shared rings.
#[derive(Debug)]
pub(crate) struct ShmemIpc;

impl Transport for ShmemIpc {
    type Tx = ShmemTx;
    type Rx = ShmemRx;

    fn lay(shape: &Shape) -> Result<Laid, Refusal> {
        let mut fds = Vec::new();
        for _ in 0..2 {
            let ring = Sender::<u8>::new(Spsc::room(shape)).map_err(io::Error::other)?;
            for file in [ring.memfd().as_file(), ring.empty_signal(), ring.full_signal()] {
                fds.push(OwnedFd::from(file.try_clone()?));
            }
        }
        let same = fds.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
        Ok(Laid::of(same, fds))
    }

    fn ends(kit: Kit, side: Side, shape: &Shape) -> io::Result<(ShmemTx, ShmemRx)> {
        let [there, a, b, back, c, d] = unpack(kit)?.map(File::from);
        let (to, from) = match side {
            Side::Client => ([there, a, b], [back, c, d]),
            Side::Server => ([back, c, d], [there, a, b]),
        };
        let ([memory, empty, full], room) = (to, Spsc::room(shape));
        let tx = Sender::open(room, memory, empty, full).map_err(io::Error::other)?;
        let [memory, empty, full] = from;
        let rx = Receiver::open(room, memory, empty, full).map_err(io::Error::other)?;
        let blocks = shape.wait == Wait::Block;
        Ok((ShmemTx { end: tx, blocks }, ShmemRx { end: rx, blocks, message: vec![0; shape.size] }))
    }
}

/// The sending end.
pub(crate) struct ShmemTx {
    end: Sender<u8>,
    blocks: bool,
}

impl Tx for ShmemTx {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let mut rest = message;
        while !rest.is_empty() {
            let mut sent = 0;
            let put = |to: *mut u8, room: usize| {
                sent = room.min(rest.len());
                // SAFETY: the ring has `room` bytes at `to`, and its receiver leaves them alone until they are sent; both
                // ends are this bench's.
                unsafe { ptr::copy_nonoverlapping(rest.as_ptr(), to, sent) };
                sent
            };
            if self.blocks {
                self.end.block_until_writable().map_err(io::Error::other)?;
                self.end.send_raw(put).map_err(io::Error::other)?;
            } else {
                spin::until(|| room(self.end.sender_mut().write_count()))?;
                self.end.sender_mut().send(put).map_err(io::Error::other)?;
            }
            rest = &rest[sent..];
        }
        Ok(())
    }
}

/// The receiving end.
pub(crate) struct ShmemRx {
    end: Receiver<u8>,
    blocks: bool,
    message: Vec<u8>,
}

impl Rx for ShmemRx {
    #[inline(always)]
    fn recv(&mut self) -> io::Result<&[u8]> {
        let mut have = 0;
        while have < self.message.len() {
            let rest = &mut self.message[have..];
            let mut got = 0;
            let take = |from: *const u8, there: usize| {
                got = there.min(rest.len());
                // SAFETY: the ring has `there` bytes at `from`, and its sender leaves them alone until they are received;
                // both ends are this bench's.
                unsafe { ptr::copy_nonoverlapping(from, rest.as_mut_ptr(), got) };
                got
            };
            if self.blocks {
                self.end.block_until_readable().map_err(io::Error::other)?;
                self.end.receive_raw(take).map_err(io::Error::other)?;
            } else {
                spin::until(|| room(self.end.receiver_mut().read_count()))?;
                self.end.receiver_mut().recv(take).map_err(io::Error::other)?;
            }
            have += got;
        }
        Ok(&self.message)
    }
}

/// Done when there is something, or never will be.
#[inline(always)]
fn room<E: std::error::Error + Send + Sync + 'static>(
    count: Result<usize, E>,
) -> Option<io::Result<()>> {
    match count {
        Ok(0) => None,
        Ok(_) => Some(Ok(())),
        Err(error) => Some(Err(io::Error::other(error))),
    }
}
