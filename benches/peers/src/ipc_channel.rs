//! `ipc-channel`: two of its channels of bytes, which are Unix sockets.
//!
//! It knows how two processes that have only a socket in common meet: the server waits at a name that it draws, and says
//! it over that socket; the client makes both channels and hands the server its ends. A sender always blocks; a receiver
//! that spins makes calls that do not.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use ipc_channel::TryRecvError;
use ipc_channel::ipc::{
    IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender, bytes_channel,
};
use quoit_transports::{Kit, Laid, Refusal, Rx, Shape, Side, Transport, Tx, Wait, unpack};

use crate::spin;

/// Two channels of bytes.
#[derive(Debug)]
pub(crate) struct IpcChannel;

/// What the client hands over.
type Ends = (IpcBytesSender, IpcBytesReceiver);

impl Transport for IpcChannel {
    type Tx = ChannelTx;
    type Rx = ChannelRx;

    fn lay(_: &Shape) -> Result<Laid, Refusal> {
        let (client, server) = UnixStream::pair()?;
        Ok(Laid::of(vec![client.into()], vec![server.into()]))
    }

    fn ends(kit: Kit, side: Side, shape: &Shape) -> io::Result<(ChannelTx, ChannelRx)> {
        let [meeting] = unpack(kit)?;
        let mut meeting = UnixStream::from(meeting);
        let (tx, rx) = match side {
            Side::Server => {
                let (server, name) = IpcOneShotServer::<Ends>::new()?;
                meeting.write_all(format!("{name}\n").as_bytes())?;
                server.accept().map_err(io::Error::other)?.1
            }
            Side::Client => {
                let mut name = String::new();
                BufReader::new(meeting).read_line(&mut name)?;
                let server = IpcSender::<Ends>::connect(name.trim_end().into())?;
                let (there, from_here) = bytes_channel()?;
                let (from_there, back) = bytes_channel()?;
                server.send((from_there, from_here)).map_err(io::Error::other)?;
                (there, back)
            }
        };
        let blocks = shape.wait == Wait::Block;
        Ok((ChannelTx(tx), ChannelRx { end: rx, blocks, message: Vec::new() }))
    }
}

/// The sending end.
pub(crate) struct ChannelTx(IpcBytesSender);

impl Tx for ChannelTx {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.0.send(message)
    }
}

/// The receiving end.
pub(crate) struct ChannelRx {
    end: IpcBytesReceiver,
    blocks: bool,
    /// It comes in memory of its own each time.
    message: Vec<u8>,
}

impl Rx for ChannelRx {
    #[inline(always)]
    fn recv(&mut self) -> io::Result<&[u8]> {
        self.message = if self.blocks {
            self.end.recv().map_err(io::Error::other)?
        } else {
            spin::until(|| match self.end.try_recv() {
                Ok(message) => Some(Ok(message)),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::IpcError(error)) => Some(Err(io::Error::other(error))),
            })?
        };
        Ok(&self.message)
    }
}
