//! Ends of a socket that keeps messages apart: sequenced packets and datagrams of the Unix family.
//!
//! They know that a message goes with one call. They refuse to know which of the two it is.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, recv, send, setsockopt, socketpair, sockopt,
};

use crate::patience::Patience;
use crate::{Kit, Laid, Refusal, Rx, Shape, Tx, unpack};

/// A pair of sockets of such a kind, if they take messages of this size.
pub(crate) fn lay(kind: SockType, shape: &Shape) -> Result<Laid, Refusal> {
    let pair = || socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC);
    let (client, server) = pair()?;
    for end in [&client, &server] {
        // As far as the machine allows: a message counts for more than its bytes.
        setsockopt(end, sockopt::SndBuf, &(shape.size * 2 + 4096).max(1 << 18))?;
    }
    let message = vec![0; shape.size];
    match send(client.as_raw_fd(), &message, MsgFlags::MSG_DONTWAIT) {
        Ok(_) => {}
        Err(Errno::EMSGSIZE | Errno::ENOBUFS | Errno::EAGAIN) => {
            return Err(Refusal::Here(format!(
                "its sockets take no message of {} bytes here (net.core.wmem_max)",
                shape.size
            )));
        }
        Err(error) => return Err(error.into()),
    }
    let mut message = message;
    recv(server.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT)?;
    Ok(Laid::of(vec![client], vec![server]))
}

/// Both ends of one process.
pub(crate) fn ends(kit: Kit, shape: &Shape) -> io::Result<(PacketsTx, PacketsRx)> {
    let [fd] = unpack(kit)?;
    let tx = fd.try_clone()?;
    let (to_write, to_read) =
        (Patience::to_write(shape.wait, &tx)?, Patience::to_read(shape.wait, &fd)?);
    // One byte more, to see a message that is too long.
    let message = vec![0; shape.size + 1];
    Ok((PacketsTx { fd: tx, patience: to_write }, PacketsRx { fd, patience: to_read, message }))
}

/// The sending end.
#[derive(Debug)]
pub struct PacketsTx {
    fd: OwnedFd,
    patience: Patience,
}

impl Tx for PacketsTx {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let fd = self.fd.as_raw_fd();
        self.patience.until(&self.fd, || send(fd, message, MsgFlags::MSG_NOSIGNAL))?;
        Ok(())
    }
}

/// The receiving end.
#[derive(Debug)]
pub struct PacketsRx {
    fd: OwnedFd,
    patience: Patience,
    message: Vec<u8>,
}

impl Rx for PacketsRx {
    #[inline(always)]
    fn recv(&mut self) -> io::Result<&[u8]> {
        let (fd, message) = (self.fd.as_raw_fd(), &mut self.message);
        let len = self.patience.until(&self.fd, || recv(fd, message, MsgFlags::empty()))?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(&self.message[..len])
    }
}
