//! A pair of Unix sockets of the sequenced-packet kind.
//!
//! It knows which kind that is. It refuses to know how messages are moved (`packets`).

use std::io;

use nix::sys::socket::SockType;

use crate::packets::{self, PacketsRx, PacketsTx};
use crate::{Kit, Laid, Refusal, Shape, Side, Transport};

/// A pair of Unix sequenced-packet sockets.
#[derive(Debug)]
pub struct UnixSeqpacket;

impl Transport for UnixSeqpacket {
    type Tx = PacketsTx;
    type Rx = PacketsRx;

    fn lay(shape: &Shape) -> Result<Laid, Refusal> {
        packets::lay(SockType::SeqPacket, shape)
    }

    fn ends(kit: Kit, _: Side, shape: &Shape) -> io::Result<(PacketsTx, PacketsRx)> {
        packets::ends(kit, shape)
    }
}
