//! A pair of Unix sockets of the datagram kind.
//!
//! It knows which kind that is. It refuses to know how messages are moved (`packets`).

use std::io;

use nix::sys::socket::SockType;

use crate::packets::{self, PacketsRx, PacketsTx};
use crate::{Kit, Laid, Refusal, Shape, Side, Transport};

/// A pair of Unix datagram sockets.
#[derive(Debug)]
pub struct UnixDgram;

impl Transport for UnixDgram {
    type Tx = PacketsTx;
    type Rx = PacketsRx;

    fn lay(shape: &Shape) -> Result<Laid, Refusal> {
        packets::lay(SockType::Datagram, shape)
    }

    fn ends(kit: Kit, _: Side, shape: &Shape) -> io::Result<(PacketsTx, PacketsRx)> {
        packets::ends(kit, shape)
    }
}
