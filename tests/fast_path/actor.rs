//! What the other process does: reads orders from its standard input, which is a socket, and answers each with a line.
//! Knows which order is whose; knows nothing of who counts.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use crate::harness::RING;
use crate::{peers, verbs, waiting};

/// Where a ring lives.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// In the heap of the process.
    Channel,
    /// In this file.
    File(&'a str),
}

impl Place<'_> {
    /// As an order names it.
    fn named<'a>(name: &str, path: &'a str) -> Place<'a> {
        match name {
            "channel" => Place::Channel,
            "file" => Place::File(path),
            _ => panic!("no such place: {name}"),
        }
    }
}

/// The other process's side of the conversation.
pub(crate) struct Actor {
    orders: BufReader<UnixStream>,
    /// In a folder of the test's own; what stands behind it may be anything.
    path: String,
}

/// Obeys until nobody gives orders any more.
pub(crate) fn run() {
    let Ok(ring) = std::env::var(RING) else { return };
    // SAFETY: prctl and alarm take numbers only. Whatever happens to the test, its children end.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    // SAFETY: as above.
    unsafe { libc::alarm(90) };
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
    let path = ring.splitn(5, ' ').last().unwrap().to_owned();
    let mut actor = Actor { orders: BufReader::new(socket), path };
    // SAFETY: gettid takes nothing.
    actor.say(&unsafe { libc::gettid() }.to_string());
    while let Some(order) = actor.order() {
        actor.obey(&order);
        actor.say("ok");
    }
}

impl Actor {
    /// The next order.
    pub(crate) fn order(&mut self) -> Option<String> {
        let mut order = String::new();
        let read = self.orders.read_line(&mut order).unwrap_or(0);
        (read > 0).then(|| order.trim_end().to_owned())
    }

    pub(crate) fn say(&mut self, answer: &str) {
        let _ = self.orders.get_mut().write_all(format!("{answer}\n").as_bytes());
    }

    fn obey(&mut self, order: &str) {
        let path = self.path.clone();
        let words: Vec<&str> = order.split(' ').collect();
        match words[..] {
            ["verbs", "spsc", place] => verbs::spsc::between_marks(Place::named(place, &path)),
            ["verbs", "mpmc", place] => verbs::mpmc::between_marks(Place::named(place, &path)),
            ["peer", "spsc", ref what @ ..] => peers::spsc::obey(self, &path, what),
            ["peer", "mpmc", ref what @ ..] => peers::mpmc::obey(self, &path, what),
            ["wait", "spsc", ref what @ ..] => waiting::spsc::obey(self, &path, what),
            ["wait", "mpmc", ref what @ ..] => waiting::mpmc::obey(self, &path, what),
            _ => panic!("no such order: {order}"),
        }
    }
}
