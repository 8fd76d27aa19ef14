//! What carries messages between two processes, behind one trait: the rings of `quoit`, what the kernel has, and the
//! floor under them all.
//!
//! It knows how each transport is laid out by a process that uses neither end, how its ends are taken by the two that
//! do, and how each waits. It refuses to know what is asked of a transport, how time is taken and what a figure means.
//!
//! To measure one more: implement [`Transport`] in a file of its own, and give it a [`Name`] and a line in [`with!`].
//! [`Threads`] alone has none.

mod bytes;
mod clock;
mod cores;
mod eventfd;
mod floor;
mod futex;
mod hand;
mod mpmc;
mod mqueue;
mod packets;
mod patience;
mod payload;
mod pipe;
mod shared;
mod spsc;
mod tcp;
mod threads;
mod turn;
mod unix_dgram;
mod unix_seqpacket;
mod unix_stream;

use std::io;
use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

pub use clock::Clock;
pub use cores::{cores, pin};
pub use hand::{receive, send};
pub use payload::{Check, LEAST, Mixed, Seen, Source, Wrong};
pub use shared::Board;

pub use eventfd::EventFd;
pub use floor::Floor;
pub use futex::Futex;
pub use mpmc::{Mpmc, MpmcRx, MpmcTx};
pub use mqueue::Mqueue;
pub use pipe::Pipe;
pub use spsc::{Spsc, SpscRx, SpscTx};
pub use tcp::Tcp;
pub use threads::Threads;
pub use unix_dgram::UnixDgram;
pub use unix_seqpacket::UnixSeqpacket;
pub use unix_stream::UnixStream;

/// The longest message that any of them is asked to carry.
pub const LONGEST: usize = 1 << 20;

/// A transport, by the word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Name {
    Floor,
    Futex,
    Spsc,
    Mpmc,
    Pipe,
    UnixStream,
    UnixSeqpacket,
    UnixDgram,
    Tcp,
    Eventfd,
    Mqueue,
}

impl Name {
    /// All of them, in the order of the tables.
    pub const ALL: [Name; 11] = [
        Name::Floor,
        Name::Futex,
        Name::Spsc,
        Name::Mpmc,
        Name::Pipe,
        Name::UnixStream,
        Name::UnixSeqpacket,
        Name::UnixDgram,
        Name::Tcp,
        Name::Eventfd,
        Name::Mqueue,
    ];

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Name::Floor => "floor",
            Name::Futex => "futex",
            Name::Spsc => "spsc",
            Name::Mpmc => "mpmc",
            Name::Pipe => "pipe",
            Name::UnixStream => "unix-stream",
            Name::UnixSeqpacket => "unix-seqpacket",
            Name::UnixDgram => "unix-dgram",
            Name::Tcp => "tcp",
            Name::Eventfd => "eventfd",
            Name::Mqueue => "mqueue",
        }
    }
}

/// Does the same with the [`Transport`] of a [`Name`].
#[macro_export]
macro_rules! with {
    ($name:expr, $T:ident => $do:expr) => {
        $crate::with!(@each $name, $T => $do;
            Floor Floor, Futex Futex, Spsc Spsc, Mpmc Mpmc, Pipe Pipe, UnixStream UnixStream,
            UnixSeqpacket UnixSeqpacket, UnixDgram UnixDgram, Tcp Tcp, Eventfd EventFd, Mqueue Mqueue)
    };
    (@each $name:expr, $T:ident => $do:expr; $($word:ident $Type:ident),*) => {
        match $name {
            $($crate::Name::$word => {
                type $T = $crate::$Type;
                $do
            })*
        }
    };
}

/// How an end waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wait {
    /// Never sleeps: asks again and again.
    Spin,
    /// Asks again for some tens of microseconds, then sleeps.
    Adaptive,
    /// Sleeps at once.
    Block,
}

impl Wait {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Wait::Spin => "spin",
            Wait::Adaptive => "adaptive",
            Wait::Block => "block",
        }
    }

    fn of_a_ring(self) -> quoit::Wait {
        match self {
            Wait::Spin => quoit::Wait::Spin,
            Wait::Adaptive => quoit::Wait::Adaptive,
            Wait::Block => quoit::Wait::Block,
        }
    }
}

/// One of the two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// It asks, and sends the streams.
    Client,
    /// It answers, and receives them.
    Server,
}

/// What a transport is made for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Shape {
    /// The length of every message.
    pub size: usize,
    /// How both ends wait.
    pub wait: Wait,
}

/// What one process needs to take its ends.
#[derive(Debug, Default)]
pub struct Kit {
    /// Descriptors, in an order that the transport knows.
    pub fds: Vec<OwnedFd>,
    /// Names that it opens, in such an order too.
    pub names: Vec<String>,
}

/// A transport that has been laid out: a kit for each process, and the names that are in the world meanwhile.
#[derive(Debug)]
pub struct Laid {
    /// For the client.
    pub client: Kit,
    /// For the server.
    pub server: Kit,
    /// To be dropped when both are at their ends.
    pub names: Vec<Named>,
}

impl Laid {
    /// No names, only descriptors.
    pub fn of(client: Vec<OwnedFd>, server: Vec<OwnedFd>) -> Laid {
        Laid {
            client: Kit { fds: client, names: Vec::new() },
            server: Kit { fds: server, names: Vec::new() },
            names: Vec::new(),
        }
    }

    /// The same names for both, the way from client to server first.
    pub fn named(names: Vec<Named>) -> Laid {
        let all: Vec<String> = names.iter().map(|named| named.text().into()).collect();
        Laid {
            client: Kit { fds: Vec::new(), names: all.clone() },
            server: Kit { fds: Vec::new(), names: all },
            names,
        }
    }
}

/// Something that has a name in the world. Dropped, it loses it.
#[derive(Debug)]
pub enum Named {
    /// A ring of the user's folder.
    Ring(String),
    /// A message queue of the kernel.
    Queue(String),
    /// A slot of this process.
    Slot(String),
    /// A file.
    File(String),
}

impl Named {
    /// The name.
    pub fn text(&self) -> &str {
        match self {
            Named::Ring(name) | Named::Queue(name) | Named::Slot(name) | Named::File(name) => name,
        }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        // It may never have been made, or somebody was faster.
        match self {
            Named::Ring(name) => drop(quoit::unlink(name.as_str())),
            Named::Queue(name) => drop(nix::mqueue::mq_unlink(name.as_str())),
            Named::Slot(name) => threads::forget(name),
            Named::File(name) => drop(std::fs::remove_file(name)),
        }
    }
}

/// A name that nobody else has.
pub fn draw(way: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("bench-{}-{now:x}-{way}", std::process::id())
}

/// Why a transport cannot be had.
#[derive(Debug)]
pub enum Refusal {
    /// This machine does not offer it, or not at this size. It is left out, and the reason is said.
    Here(String),
    /// It failed where it should not.
    Failed(io::Error),
}

impl<E: Into<io::Error>> From<E> for Refusal {
    fn from(error: E) -> Refusal {
        Refusal::Failed(error.into())
    }
}

/// Something that carries messages between two processes, both ways.
pub trait Transport {
    /// The sending end.
    type Tx: Tx;
    /// The receiving end.
    type Rx: Rx;

    /// Whether a second message may be on the way before the first is answered.
    const QUEUES: bool = true;
    /// Whether an end can sleep.
    const SLEEPS: bool = true;

    /// Lays it out, in a process that will use neither end.
    fn lay(shape: &Shape) -> Result<Laid, Refusal>;
    /// Takes the ends of one process, in that process.
    fn ends(kit: Kit, side: Side, shape: &Shape) -> io::Result<(Self::Tx, Self::Rx)>;
}

/// The sending end of one way.
pub trait Tx {
    /// Sends one message; waits while there is no room.
    fn send(&mut self, message: &[u8]) -> io::Result<()>;
}

/// The receiving end of one way. Every transport copies the message out into memory of its own, as a safe program would.
pub trait Rx {
    /// Waits for the next message and shows it.
    fn recv(&mut self) -> io::Result<&[u8]>;
}

/// So many descriptors, in their order.
pub fn unpack<const N: usize>(kit: Kit) -> io::Result<[OwnedFd; N]> {
    kit.fds.try_into().map_err(|_| io::Error::other("not the descriptors that this transport has"))
}

/// The name to send to and the name to receive from, of the two that [`Laid::named`] gives.
pub fn ways(kit: &Kit, side: Side) -> io::Result<(&str, &str)> {
    match (side, kit.names.as_slice()) {
        (Side::Client, [there, back]) => Ok((there, back)),
        (Side::Server, [there, back]) => Ok((back, there)),
        _ => Err(io::Error::other("not the names that this transport has")),
    }
}
