//! A pair of Unix sockets of the stream kind.
//!
//! It knows how they are made. It refuses to know how bytes are moved (`bytes`).

use std::io;
use std::os::unix::net;

use crate::bytes::{BytesRx, BytesTx};
use crate::{Kit, Laid, Refusal, Shape, Side, Transport, unpack};

/// A pair of Unix stream sockets.
#[derive(Debug)]
pub struct UnixStream;

impl Transport for UnixStream {
    type Tx = BytesTx;
    type Rx = BytesRx;

    fn lay(_: &Shape) -> Result<Laid, Refusal> {
        let (client, server) = net::UnixStream::pair()?;
        Ok(Laid::of(vec![client.into()], vec![server.into()]))
    }

    fn ends(kit: Kit, _: Side, shape: &Shape) -> io::Result<(BytesTx, BytesRx)> {
        let [fd] = unpack(kit)?;
        Ok((BytesTx::new(fd.try_clone()?, shape)?, BytesRx::new(fd, shape)?))
    }
}
