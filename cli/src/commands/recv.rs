//! `quoit recv`: messages out of a ring, onto standard output.
//!
//! Knows when a message may be released (after it was written, not before) and
//! how a stream ends; knows nothing of who sent it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::Context;
use quoit::{Holder, Presence, RecvTimeoutError};

use crate::commands::Making;
use crate::ends::{Message, Receiver};
use crate::exit::{self, End};
use crate::signals::{SLICE, Signals};
use crate::{args, picture};

/// Receive messages, onto standard output
///
/// Ends when the last sender has left and everything it sent is written; with
/// status 6 if the sender died, because then nobody knows whether it had more
/// to say. A message leaves the ring only after it was written: a receiver that
/// is killed loses none.
///
/// A ring made with --mpmc takes many receivers, and each message goes to one of
/// them. It ends when all of its senders have left and no other receiver has a
/// message in hand, with status 6 if one of the senders died. A raw stream comes
/// out as it went in only with one sender and one receiver.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A plain name, or a path (with a slash)
    name: String,

    /// A newline after each message (the default)
    #[arg(long, conflicts_with = "raw")]
    lines: bool,

    /// The bytes of the messages and nothing else
    #[arg(long)]
    raw: bool,

    /// Stop after so many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// When a sender leaves, wait for the next
    #[arg(long)]
    follow: bool,

    #[command(flatten)]
    making: Making,

    /// Give up (status 4) when no message comes for so long, such as 5s
    #[arg(long, value_name = "DURATION", value_parser = args::duration)]
    timeout: Option<Duration>,

    /// Take what is there; status 5 if it is nothing, or less than --count
    #[arg(long, conflicts_with_all = ["timeout", "follow"])]
    no_wait: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<End> {
    let signals = Signals::listen().context("listening for signals")?;
    let mut receiver = args.making.open(&args.name, Receiver::open, Receiver::open_or_create)?;
    if args.follow {
        receiver.set_keep_open(true);
    }
    // Past the line buffer of `Stdout`: each message is one write, whole.
    let file = File::from(io::stdout().as_fd().try_clone_to_owned().context("standard output")?);
    let out = Out { file, newline: !args.raw, buffer: Vec::new(), written: 0 };
    let mut tap = Tap { receiver, out };

    loop {
        if let Some(end) = signals.asked() {
            return Ok(end);
        }
        if args.count == Some(tap.out.written) {
            return Ok(End::Done);
        }
        match tap.next(args, &signals)? {
            Next::Written => {}
            Next::Signal => {}
            Next::Empty if args.count.is_none() && tap.out.written > 0 => return Ok(End::Done),
            Next::Empty => {
                return Err(exit::failure(
                    exit::NOT_NOW,
                    format!("ring {:?} is empty{}", tap.receiver.name().as_str(), tap.so_far()),
                ));
            }
            Next::TimedOut(holder) => {
                let why = holder.map_or(String::new(), |holder| {
                    format!(": it waits for the {holder}, which is alive, perhaps stopped")
                });
                return Err(exit::failure(
                    exit::TIMED_OUT,
                    format!(
                        "no message came on ring {:?} in time{}{why}",
                        tap.receiver.name().as_str(),
                        tap.so_far()
                    ),
                ));
            }
            Next::End if tap.receiver.end() == Some(Presence::Died) => {
                let died = match tap.receiver {
                    Receiver::Bytes(_) => "has lost its sender, which died",
                    Receiver::Slots(_) => "has no sender any more, and one of them died",
                };
                return Err(exit::failure(
                    exit::PEER_DIED,
                    format!(
                        "ring {:?} {died}: the stream may be cut{}",
                        tap.receiver.name().as_str(),
                        tap.so_far()
                    ),
                ));
            }
            Next::End => return Ok(End::Done),
        }
    }
}

/// What became of one try.
enum Next {
    Written,
    Empty,
    /// And who, on a ring of slots, has the next one and does not let go.
    TimedOut(Option<Holder>),
    Signal,
    End,
}

/// The ring and where it flows to.
struct Tap {
    receiver: Receiver,
    out: Out,
}

/// Standard output.
struct Out {
    file: File,
    newline: bool,
    /// A message and its newline, which go out in one write.
    buffer: Vec<u8>,
    written: u64,
}

impl Out {
    /// Writes a message, then releases it; one that could not be written is
    /// given back.
    fn write(&mut self, message: Message<'_>) -> anyhow::Result<()> {
        let len = message.len();
        self.buffer.resize(len + usize::from(self.newline), b'\n');
        message.copy_to(&mut self.buffer[..len]);
        if self.newline {
            self.buffer[len] = b'\n';
        }
        if let Err(error) = self.file.write_all(&self.buffer) {
            message.give_back();
            return Err(error).context("writing standard output");
        }
        self.written += 1;
        Ok(())
    }
}

impl Tap {
    /// Writes the next message and then releases it.
    fn next(&mut self, args: &Args, signals: &Signals) -> anyhow::Result<Next> {
        // The clock is asked only where there is nothing to do.
        let error = match self.receiver.try_recv() {
            Ok(message) => {
                self.out.write(message)?;
                return Ok(Next::Written);
            }
            Err(error) => error,
        };
        if error.is_disconnected() {
            return Ok(Next::End);
        }
        if !error.is_empty() {
            return Err(error.into());
        }
        if args.no_wait {
            return Ok(Next::Empty);
        }

        // A time that overflows is for ever.
        let deadline = args.timeout.and_then(|time| Instant::now().checked_add(time));
        loop {
            let slice = Instant::now() + SLICE;
            let until = deadline.map_or(slice, |deadline| deadline.min(slice));
            let error = match self.receiver.recv_deadline(until) {
                Ok(message) => {
                    self.out.write(message)?;
                    return Ok(Next::Written);
                }
                Err(error) => error,
            };
            if error.is_disconnected() {
                return Ok(Next::End);
            }
            if !error.is_timeout() {
                return Err(error.into());
            }
            if signals.asked().is_some() {
                return Ok(Next::Signal);
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                let holder = match error {
                    RecvTimeoutError::Timeout { holder, .. } => holder,
                    _ => None,
                };
                return Ok(Next::TimedOut(holder));
            }
        }
    }

    fn so_far(&self) -> String {
        match self.out.written {
            0 => String::new(),
            n => format!(" (after {})", picture::count(n, "message")),
        }
    }
}
