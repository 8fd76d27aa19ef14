//! What the other process does: reads orders from its standard input, which is a socket, and answers each with a line.

use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use quoit::spsc::{Message, Receiver, Sender};
use quoit::{OpenError, Options, Wait};

use crate::harness::{self, RING};
use crate::{fork, futex, gone};

/// The other process's side of the conversation, and what it holds.
pub(crate) struct Actor {
    orders: BufReader<UnixStream>,
    pub(crate) path: String,
    pub(crate) options: Options,
    pub(crate) tx: Option<Sender>,
    pub(crate) rx: Option<Receiver>,
    wait: Wait,
}

/// Obeys until nobody gives orders any more.
pub(crate) fn run() {
    let Ok(ring) = std::env::var(RING) else { return };
    // SAFETY: prctl and alarm take numbers only. Whatever happens to the test, its children end.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    // SAFETY: as above.
    unsafe { libc::alarm(90) };
    let words: Vec<&str> = ring.splitn(5, ' ').collect();
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
    let mut actor = Actor {
        orders: BufReader::new(socket),
        path: words[4].to_owned(),
        options: harness::options(
            words[0].parse().unwrap(),
            words[1].parse().unwrap(),
            words[2] == "true",
            words[3] == "true",
        ),
        tx: None,
        rx: None,
        wait: Wait::default(),
    };
    // SAFETY: gettid takes nothing.
    actor.say(unsafe { libc::gettid() });
    while let Some(order) = actor.order() {
        let answer = actor.obey(&order);
        actor.say(answer);
    }
}

impl Actor {
    /// The next order.
    pub(crate) fn order(&mut self) -> Option<String> {
        let mut order = String::new();
        let read = self.orders.read_line(&mut order).unwrap_or(0);
        (read > 0).then(|| order.trim_end().to_owned())
    }

    pub(crate) fn say(&mut self, answer: impl Display) {
        let _ = self.orders.get_mut().write_all(format!("{answer}\n").as_bytes());
    }

    fn obey(&mut self, order: &str) -> String {
        let words: Vec<&str> = order.split(' ').collect();
        match words[..] {
            ["sender", how] => self.take_sender(how),
            ["receiver", how] => self.take_receiver(how),
            ["another", "sender"] => refusal(Sender::open(&self.path).map(drop)),
            ["another", "receiver"] => refusal(Receiver::open(&self.path).map(drop)),
            ["wait", how] => self.set_wait(how),
            ["keep_open", how] => self.set_keep_open(how == "on"),
            ["send", number] => self.send(number.parse().unwrap()),
            ["send_text", text] => outcome(&self.tx().send(text.as_bytes())),
            ["try_send", number] => outcome(&self.tx().try_send(&body(number.parse().unwrap()))),
            ["send_and_leave", number] => {
                let sent = self.send(number.parse().unwrap());
                self.tx = None;
                sent
            }
            ["fill", from] => self.fill(from.parse().unwrap()),
            ["recv"] => received(self.rx().recv()),
            ["try_recv"] => received(self.rx().try_recv()),
            ["poll"] => self.poll(),
            ["try_send", "until", "refused"] => self.try_send_until_refused(),
            ["try_send_batch", "until", "refused"] => self.try_send_batch_until_refused(),
            ["watch"] => {
                while !self.rx().is_disconnected() {}
                String::from("Disconnected")
            }
            ["hold"] => self.hold(),
            ["scribble"] => self.scribble(),
            ["drain"] => self.drain(),
            ["leave"] => {
                (self.tx, self.rx) = (None, None);
                String::from("ok")
            }
            ["peer"] => format!("{:?}", self.stats().peer),
            ["end"] => format!("{:?}", self.stats().end),
            ["unlinked"] => self.stats().unlinked.to_string(),
            ["lost"] => self.stats().lost.to_string(),
            ["redelivered"] => self.stats().redelivered.to_string(),
            ["messages"] => self.stats().messages.to_string(),
            ["send_lengths", count] => self.send_lengths(count.parse().unwrap()),
            ["recv_lengths", count] => self.recv_lengths(count.parse().unwrap()),
            ["echo", count] => self.echo(count.parse().unwrap()),
            ["fork", what] => fork::obey(self, what),
            ["futex", how] => futex::obey(self, how),
            ["gone", ref words @ ..] => gone::obey(self, words),
            _ => panic!("no such order: {order}"),
        }
    }

    pub(crate) fn tx(&mut self) -> &mut Sender {
        self.tx.as_mut().expect("this process is not the sender")
    }

    pub(crate) fn rx(&mut self) -> &mut Receiver {
        self.rx.as_mut().expect("this process is not the receiver")
    }

    fn take_sender(&mut self, how: &str) -> String {
        let opened = match how {
            "create" => Sender::create(&self.path, &self.options),
            "open" => Sender::open(&self.path),
            _ => Sender::open_or_create(&self.path, &self.options),
        };
        refusal(opened.map(|mut tx| {
            tx.set_wait(self.wait);
            self.tx = Some(tx);
        }))
    }

    fn take_receiver(&mut self, how: &str) -> String {
        let opened = match how {
            "create" => Receiver::create(&self.path, &self.options),
            "open" => Receiver::open(&self.path),
            _ => Receiver::open_or_create(&self.path, &self.options),
        };
        refusal(opened.map(|mut rx| {
            rx.set_wait(self.wait);
            self.rx = Some(rx);
        }))
    }

    fn set_wait(&mut self, how: &str) -> String {
        self.wait = match how {
            "Block" => Wait::Block,
            "Adaptive" => Wait::Adaptive,
            "Spin" => Wait::Spin,
            _ => panic!("no such wait: {how}"),
        };
        if let Some(tx) = &mut self.tx {
            tx.set_wait(self.wait);
        }
        if let Some(rx) = &mut self.rx {
            rx.set_wait(self.wait);
        }
        String::from("ok")
    }

    fn set_keep_open(&mut self, on: bool) -> String {
        if let Some(tx) = &mut self.tx {
            tx.set_keep_open(on);
        }
        if let Some(rx) = &mut self.rx {
            rx.set_keep_open(on);
        }
        String::from("ok")
    }

    fn stats(&self) -> quoit::spsc::Stats {
        let sender = self.tx.as_ref().map(Sender::stats);
        sender.or_else(|| self.rx.as_ref().map(Receiver::stats)).expect("an end of the ring")
    }

    fn send(&mut self, number: u64) -> String {
        outcome(&self.tx().send(&body(number)))
    }

    fn fill(&mut self, from: u64) -> String {
        let mut number = from;
        loop {
            match self.tx().try_send(&body(number)) {
                Ok(()) => number += 1,
                Err(error) => return format!("{number} {}", word(&error)),
            }
        }
    }

    /// A loop of `try_recv` until it answers something else than "empty".
    fn poll(&mut self) -> String {
        loop {
            match self.rx().try_recv() {
                Err(error) if error.is_empty() => std::thread::yield_now(),
                done => return received(done),
            }
        }
    }

    /// A loop of `try_send` on a full ring until it answers something else than "full".
    fn try_send_until_refused(&mut self) -> String {
        loop {
            match self.tx().try_send(&body(0)) {
                Ok(()) => {}
                Err(error) if error.is_full() => std::thread::yield_now(),
                refused => return outcome(&refused),
            }
        }
    }

    /// Leaves one line free, where no message of two lines fits, and then tries batches of those until one is refused by
    /// something else than a full ring.
    fn try_send_batch_until_refused(&mut self) -> String {
        while self.tx().capacity() - self.tx().len() > 64 {
            self.tx().try_send(b"").unwrap();
        }
        self.say("full");
        loop {
            match self.tx().try_send_batch(&[[0; 100]]) {
                Err(error) if error.is_full() => std::thread::yield_now(),
                refused => return outcome(&refused.map(drop)),
            }
        }
    }

    /// Keeps a message in hand until the next order says what becomes of it.
    fn hold(&mut self) -> String {
        let mut rx = self.rx.take().expect("this process is not the receiver");
        let answer = match rx.recv() {
            Ok(message) => {
                self.say(described(&message));
                match self.order().as_deref() {
                    Some("release") => drop(message),
                    Some("give back") => message.give_back(),
                    _ => std::process::exit(0),
                }
                String::from("ok")
            }
            Err(error) => word(&error),
        };
        self.rx = Some(rx);
        answer
    }

    /// Writes to a reservation of the longest message and says so; it is never committed.
    fn scribble(&mut self) -> String {
        let mut tx = self.tx.take().expect("this process is not the sender");
        let mut room = tx.reserve(tx.max_len()).unwrap();
        let garbage = vec![0xff; room.len()];
        room.write_all(&garbage).unwrap();
        self.say("scribbled");
        let _ = self.order();
        drop(room);
        self.tx = Some(tx);
        String::from("ok")
    }

    /// Receives until there is an error; which numbers came, without a gap, and the error.
    fn drain(&mut self) -> String {
        let (mut first, mut next) = (None, 0);
        loop {
            match self.rx().recv() {
                Ok(message) => {
                    let number = number(&message.to_vec());
                    let first = *first.get_or_insert(number);
                    assert!(number == first || number == next, "{number} after {next}");
                    next = number + 1;
                }
                Err(error) => {
                    return match first {
                        Some(first) => format!("{first}..{next} {}", word(&error)),
                        None => format!("nothing {}", word(&error)),
                    };
                }
            }
        }
    }

    /// Sends messages of every length from 0 to the longest, by every verb that sends.
    fn send_lengths(&mut self, count: u64) -> String {
        let tx = self.tx();
        let max = tx.max_len();
        let far = Instant::now() + Duration::from_secs(3600);
        let mut at = 0;
        while at < count {
            let message = patterned(at, max);
            match at % 6 {
                0 => tx.send(&message).unwrap(),
                1 => tx.send_timeout(&message, Duration::MAX).unwrap(),
                2 => tx.send_deadline(&message, far).unwrap(),
                3 => {
                    let mut room = tx.reserve(message.len()).unwrap();
                    room.write_all(&message).unwrap();
                    room.commit().unwrap();
                }
                4 => {
                    let mut room = tx.reserve(max).unwrap();
                    room.write_all(&message).unwrap();
                    room.commit_len(message.len()).unwrap();
                }
                _ => {
                    let batch: Vec<_> =
                        (at..count.min(at + 5)).map(|at| patterned(at, max)).collect();
                    assert_eq!(tx.send_batch(&batch).unwrap(), batch.len());
                    at += batch.len() as u64 - 1;
                }
            }
            at += 1;
        }
        String::from("ok")
    }

    /// Receives what [`send_lengths`](Self::send_lengths) sent, by every verb that receives, and compares every byte.
    fn recv_lengths(&mut self, count: u64) -> String {
        let rx = self.rx();
        let max = rx.max_len();
        let far = Instant::now() + Duration::from_secs(3600);
        let mut into = Vec::new();
        for at in 0..count {
            let bytes = match at % 5 {
                0 => rx.recv().unwrap().to_vec(),
                1 => rx.recv_timeout(Duration::MAX).unwrap().to_vec(),
                2 => rx.recv_deadline(far).unwrap().to_vec(),
                3 => loop {
                    match rx.try_recv() {
                        Ok(message) => break message.to_vec(),
                        Err(error) if error.is_empty() => std::thread::yield_now(),
                        Err(error) => panic!("{error}"),
                    }
                },
                _ => {
                    rx.recv_into(&mut into).unwrap();
                    into.clone()
                }
            };
            assert!(bytes == patterned(at, max), "message {at} of {} bytes", bytes.len());
        }
        String::from("ok")
    }

    /// Says what it receives, as often as it is told.
    fn echo(&mut self, count: u64) -> String {
        for _ in 0..count {
            let said = received(self.rx().recv());
            self.say(said);
        }
        String::from("ok")
    }
}

/// A message that carries a number: 8 to some hundred bytes, so that messages take one line or several and the end of the
/// ring is met by some.
pub(crate) fn body(number: u64) -> Vec<u8> {
    let len = 8 + (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 55) as usize;
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend((8..len).map(|i| (number as usize ^ i) as u8));
    bytes
}

/// The number that a message carries, whose every byte is as it was sent.
pub(crate) fn number(bytes: &[u8]) -> u64 {
    let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert!(bytes == body(number), "message {number} is not what was sent");
    number
}

/// A message whose length and bytes follow from its place in the stream; lengths go from 0 to `max` in leaps.
fn patterned(at: u64, max: usize) -> Vec<u8> {
    let len = match at % 50 {
        0 => 0,
        1 => max,
        _ => (at as usize * 379) % (max + 1),
    };
    (0..len).map(|i| (i as u64 ^ at ^ (at >> 8)) as u8).collect()
}

fn described(message: &Message<'_>) -> String {
    assert_eq!(message.redelivered(), message.attempts() > 1);
    let number = number(&message.to_vec());
    format!("{number} at {} attempt {}", message.position(), message.attempts())
}

fn received<E: std::fmt::Debug>(result: Result<Message<'_>, E>) -> String {
    match result {
        Ok(message) => described(&message),
        Err(error) => word(&error),
    }
}

fn outcome<T, E: std::fmt::Debug>(result: &Result<T, E>) -> String {
    match result {
        Ok(_) => String::from("ok"),
        Err(error) => word(error),
    }
}

fn refusal(result: Result<(), OpenError>) -> String {
    match result {
        Ok(()) => String::from("ok"),
        Err(error) => format!("{}: {error}", word(&error)),
    }
}

/// The name of an error's variant; of the fault's, if it is one.
pub(crate) fn word(error: &impl std::fmt::Debug) -> String {
    let shown = format!("{error:?}");
    let variant = |s: &str| s.split([' ', '(', '{']).next().unwrap_or_default().to_owned();
    match shown.strip_prefix("Fault(") {
        Some(fault) => variant(fault),
        None => variant(&shown),
    }
}
