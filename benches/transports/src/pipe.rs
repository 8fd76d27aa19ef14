//! Two pipes, one for each way.
//!
//! It knows which end goes to whom. It refuses to know how bytes are moved (`bytes`).

use std::io;

use crate::bytes::{BytesRx, BytesTx};
use crate::{Kit, Laid, Refusal, Shape, Side, Transport, unpack};

/// Two pipes.
#[derive(Debug)]
pub struct Pipe;

impl Transport for Pipe {
    type Tx = BytesTx;
    type Rx = BytesRx;

    fn lay(_: &Shape) -> Result<Laid, Refusal> {
        let (there_rx, there_tx) = io::pipe()?;
        let (back_rx, back_tx) = io::pipe()?;
        Ok(Laid::of(vec![there_tx.into(), back_rx.into()], vec![back_tx.into(), there_rx.into()]))
    }

    fn ends(kit: Kit, _: Side, shape: &Shape) -> io::Result<(BytesTx, BytesRx)> {
        let [tx, rx] = unpack(kit)?;
        Ok((BytesTx::new(tx, shape)?, BytesRx::new(rx, shape)?))
    }
}
