//! A TCP connection over the loopback device, without delay.
//!
//! It knows how it is made. It refuses to know how bytes are moved (`bytes`).

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use crate::bytes::{BytesRx, BytesTx};
use crate::{Kit, Laid, Refusal, Shape, Side, Transport, unpack};

/// A connection over 127.0.0.1 with TCP_NODELAY.
#[derive(Debug)]
pub struct Tcp;

fn connect() -> io::Result<(TcpStream, TcpStream)> {
    let door = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(door.local_addr()?)?;
    loop {
        let (server, from) = door.accept()?;
        // Whoever else may have found the door is sent away.
        if from == client.local_addr()? {
            return Ok((client, server));
        }
    }
}

impl Transport for Tcp {
    type Tx = BytesTx;
    type Rx = BytesRx;

    fn lay(_: &Shape) -> Result<Laid, Refusal> {
        let (client, server) = connect()
            .map_err(|e| Refusal::Here(format!("there is no loopback connection here: {e}")))?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        Ok(Laid::of(vec![client.into()], vec![server.into()]))
    }

    fn ends(kit: Kit, _: Side, shape: &Shape) -> io::Result<(BytesTx, BytesRx)> {
        let [fd] = unpack(kit)?;
        Ok((BytesTx::new(fd.try_clone()?, shape)?, BytesRx::new(fd, shape)?))
    }
}
