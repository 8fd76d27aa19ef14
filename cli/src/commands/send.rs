//! `quoit send`: messages into a ring, from the command line or from standard
//! input.
//!
//! Knows where a message ends and what to do when it cannot be sent; knows
//! nothing of who reads it.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use anyhow::Context;
use memchr::{memchr_iter, memrchr};
use quoit::Presence;

use crate::commands::Making;
use crate::ends::Sender;
use crate::exit::{self, End};
use crate::{args, picture};

/// Send messages: the arguments, or standard input
///
/// Standard input is cut into lines. The newline stays outside the message, an
/// empty line is a message of 0 bytes, a last line without a newline is sent
/// too, and a line longer than the ring takes is an error, never split. What is
/// there is sent at once, however slowly the rest comes.
///
/// If standard input cannot be sent to its end, the sender counts as dead, so
/// that `quoit recv` does not take the cut stream for a whole one.
///
/// A ring made with --mpmc takes many senders, whose messages mingle; each of
/// them arrives whole. The pieces of --raw mingle too: only with one sender and
/// one receiver does a raw stream come out as it went in.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A plain name, or a path (with a slash)
    name: String,

    /// The messages, one each, instead of standard input
    #[arg(value_name = "MESSAGE")]
    messages: Vec<OsString>,

    /// Each line of standard input is a message (the default)
    #[arg(long, conflicts_with_all = ["raw", "messages"])]
    lines: bool,

    /// Standard input is bytes, cut into messages anywhere
    #[arg(long, conflicts_with = "messages")]
    raw: bool,

    #[command(flatten)]
    making: Making,

    /// Give up (status 4) when the ring stays full for so long, such as 5s
    #[arg(long, value_name = "DURATION", value_parser = args::duration)]
    timeout: Option<Duration>,

    /// Give up (status 5) when the ring is full
    #[arg(long, conflicts_with = "timeout")]
    no_wait: bool,
}

/// How long to wait for room.
#[derive(Debug, Clone, Copy)]
enum Patience {
    None,
    Some(Duration),
    Endless,
}

/// One read of standard input.
const READ: usize = 256 * 1024;

pub(crate) fn run(args: &Args) -> anyhow::Result<End> {
    let sender = args.making.open(&args.name, Sender::open, Sender::open_or_create)?;
    let patience = match args.timeout {
        Some(time) => Patience::Some(time),
        None if args.no_wait => Patience::None,
        None => Patience::Endless,
    };
    let mut sink = Sink { sender, patience, sent: 0 };

    if !args.messages.is_empty() {
        let messages: Vec<&[u8]> = args.messages.iter().map(|m| m.as_bytes()).collect();
        sink.put(&messages)?;
        return Ok(End::Done);
    }
    let stream = if args.raw { raw(&mut sink) } else { lines(&mut sink) };
    if stream.is_err() {
        // Its seat is not given back: to the receiver, we died.
        std::mem::forget(sink);
    }
    stream.map(|()| End::Done)
}

/// The ring, and how much went into it.
#[derive(Debug)]
struct Sink {
    sender: Sender,
    patience: Patience,
    sent: u64,
}

impl Sink {
    /// All of these, in order, in as few steps as the room allows.
    fn put(&mut self, mut messages: &[&[u8]]) -> anyhow::Result<()> {
        while !messages.is_empty() {
            let taken = match self.patience {
                Patience::None => self.sender.try_send_batch(messages).map_err(|error| {
                    if error.is_full() {
                        self.explain(exit::failure(exit::NOT_NOW, self.about("is full")), false)
                    } else {
                        let gone = error.is_disconnected();
                        self.explain(error.into(), gone)
                    }
                }),
                Patience::Some(time) => {
                    self.sender.send_batch_timeout(messages, time).map_err(|error| {
                        let gone = error.is_disconnected();
                        self.explain(error.into(), gone)
                    })
                }
                Patience::Endless => self.sender.send_batch(messages).map_err(|error| {
                    let gone = error.is_disconnected();
                    self.explain(error.into(), gone)
                }),
            }?;
            self.sent += taken as u64;
            messages = messages.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    fn about(&self, what: &str) -> String {
        format!("ring {:?} {what}", self.sender.name().as_str())
    }

    /// Says how far it came, and tells a death from a farewell.
    fn explain(&self, error: anyhow::Error, gone: bool) -> anyhow::Error {
        let error = match gone.then(|| self.sender.end().unwrap_or_default()) {
            Some(Presence::Died) => {
                let died = match self.sender {
                    Sender::Bytes(_) => "has lost its receiver, which died",
                    Sender::Slots(_) => "has no receiver any more, and one of them died",
                };
                exit::failure(exit::PEER_DIED, self.about(died))
            }
            Some(_) => exit::failure(exit::FAILED, self.about("has no receiver any more")),
            None => error,
        };
        match self.sent {
            0 => error,
            sent => error.context(format!("after {}", picture::count(sent, "message"))),
        }
    }
}

/// Each line a message.
fn lines(sink: &mut Sink) -> anyhow::Result<()> {
    let longest = sink.sender.max_len();
    let mut input = io::stdin().lock();
    let mut buffer = vec![0; READ];
    // Of the line that has no end yet.
    let mut held = 0;
    loop {
        if held == buffer.len() {
            buffer.resize(held * 2, 0);
        }
        let read = input.read(&mut buffer[held..]).context("reading standard input")?;
        let filled = &buffer[..held + read];
        // What was held has no newline.
        let ends = match memrchr(b'\n', &filled[held..]) {
            Some(last) => held + last + 1,
            None => 0,
        };

        let mut whole = Vec::new();
        let mut start = 0;
        for end in memchr_iter(b'\n', &filled[..ends]) {
            whole.push(&filled[start..end]);
            start = end + 1;
        }
        let rest = &filled[ends..];
        if read == 0 && !rest.is_empty() {
            whole.push(rest);
        }

        let too_long = whole.iter().position(|line| line.len() > longest);
        sink.put(&whole[..too_long.unwrap_or(whole.len())])?;
        if too_long.is_some() || rest.len() > longest {
            return Err(exit::failure(
                exit::FAILED,
                format!(
                    "line {} of standard input is longer than {longest} bytes, which is all \
                     that ring {:?} takes in a message: use a ring made with a larger {}, or --raw",
                    sink.sent + 1,
                    sink.sender.name().as_str(),
                    match sink.sender {
                        Sender::Bytes(_) => "--capacity",
                        Sender::Slots(_) => "--max-message",
                    }
                ),
            ));
        }
        if read == 0 {
            return Ok(());
        }
        held = rest.len();
        buffer.copy_within(ends..ends + held, 0);
    }
}

/// Bytes, in messages of which several fit into the ring.
fn raw(sink: &mut Sink) -> anyhow::Result<()> {
    let piece = sink.sender.piece().clamp(1, READ / 2);
    let mut input = io::stdin().lock();
    let mut buffer = vec![0; READ];
    loop {
        let read = input.read(&mut buffer).context("reading standard input")?;
        if read == 0 {
            return Ok(());
        }
        let pieces: Vec<&[u8]> = buffer[..read].chunks(piece).collect();
        sink.put(&pieces)?;
    }
}
