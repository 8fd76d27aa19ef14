//! Ends of a stream of bytes: pipes, Unix streams, TCP.
//!
//! They know that every message is of one length, and so need no header. They refuse to know what the descriptor is.

use std::io;
use std::os::fd::OwnedFd;

use nix::unistd::{read, write};

use crate::patience::Patience;
use crate::{Rx, Shape, Tx};

/// The sending end.
#[derive(Debug)]
pub struct BytesTx {
    fd: OwnedFd,
    patience: Patience,
}

impl BytesTx {
    pub(crate) fn new(fd: OwnedFd, shape: &Shape) -> io::Result<BytesTx> {
        let patience = Patience::to_write(shape.wait, &fd)?;
        Ok(BytesTx { fd, patience })
    }
}

impl Tx for BytesTx {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let mut rest = message;
        while !rest.is_empty() {
            let written = self.patience.until(&self.fd, || write(&self.fd, rest))?;
            rest = &rest[written..];
        }
        Ok(())
    }
}

/// The receiving end.
#[derive(Debug)]
pub struct BytesRx {
    fd: OwnedFd,
    patience: Patience,
    message: Vec<u8>,
}

impl BytesRx {
    pub(crate) fn new(fd: OwnedFd, shape: &Shape) -> io::Result<BytesRx> {
        let patience = Patience::to_read(shape.wait, &fd)?;
        Ok(BytesRx { fd, patience, message: vec![0; shape.size] })
    }
}

impl Rx for BytesRx {
    #[inline(always)]
    fn recv(&mut self) -> io::Result<&[u8]> {
        let mut have = 0;
        while have < self.message.len() {
            let rest = &mut self.message[have..];
            match self.patience.until(&self.fd, || read(&self.fd, rest))? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => have += more,
            }
        }
        Ok(&self.message)
    }
}
