//! A ring that somebody dies at, and those who go on with it. Knows which messages were sent and have to come; knows neither
//! which call it was that somebody died in, nor what a ring looks like inside, but for where the words lie that change.

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use quoit::mpmc::{self, Receiver, Sender};
use quoit::{Delivery, Options, Presence, Recovered, Wait, spsc};

use crate::harness::Lab;
use crate::tracer;

/// Who goes on after a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Survivors {
    /// The ring is new for every death, nobody else has it open then, and those who go on come afterwards.
    ComeLater,
    /// One ring for all deaths, and a sender and a receiver that have been there since it was made.
    AreThere,
}

/// What is in the ring before the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    Empty,
    One,
    Full,
    /// A message that was handed out before.
    Again,
    /// A claim that was given up, and a message behind it.
    Skip,
    /// The claim of a dead sender, whom nobody has found yet, and a message behind it.
    DeadClaim,
    /// A full ring, whose first message is in the hands of a dead receiver, whom nobody has found yet.
    DeadHands,
    /// A message in the hands of one that was a receiver and a sender, and its claim; nobody has found it yet.
    DeadBoth,
}

impl Before {
    pub(crate) fn is_a_death(self) -> bool {
        matches!(self, Before::DeadClaim | Before::DeadHands | Before::DeadBoth)
    }
}

/// A message that is committed and not received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) number: u64,
    /// How often it has been handed out.
    pub(crate) attempts: u32,
    /// Whether somebody died with it in hand, and nobody has looked yet.
    pub(crate) held: bool,
}

/// A message that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) number: u64,
    pub(crate) attempts: u32,
    pub(crate) position: u64,
}

/// What the survivors found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) got: Vec<Got>,
    /// How many messages were counted lost.
    pub(crate) lost: u64,
    pub(crate) recovered: Recovered,
}

impl Found {
    /// How a message came, if it did.
    pub(crate) fn came(&self, number: u64) -> Option<Got> {
        let mut those = self.got.iter().filter(|got| got.number == number);
        let came = those.next().copied();
        assert_eq!(those.next(), None, "message {number} came twice: {:?}", self.got);
        came
    }
}

/// How the survivors come to know of the death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cure {
    /// The receiver asks.
    Receiver,
    /// The sender asks.
    Sender,
    /// Somebody asks who takes no part.
    Name,
    /// Nobody asks: they go on with calls that do not wait.
    Polling,
    /// Nobody asks: they go on with calls that wait.
    Waiting,
}

impl Cure {
    /// In turn. One who asks is done at once; the others wait for some tens of milliseconds, and their turn comes seldom.
    fn of(turn: u64) -> Cure {
        match turn % 48 {
            11 => Cure::Polling,
            35 => Cure::Waiting,
            turn if turn % 3 == 0 => Cure::Receiver,
            turn if turn % 3 == 1 => Cure::Sender,
            _ => Cure::Name,
        }
    }
}

/// What takes longer would take for ever.
const PATIENCE: Duration = Duration::from_secs(20);

/// As many take a seat at once here, at most.
const SEATS: usize = 8;

/// How long a call of the survivors waits: longer than one needs who learns of a death by itself.
const A_WHILE: Duration = Duration::from_millis(500);

/// What a ring is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) slots: usize,
    /// The longest message, in bytes.
    pub(crate) len: usize,
    pub(crate) delivery: Delivery,
    pub(crate) survivors: Survivors,
}

pub(crate) struct Stage {
    pub(crate) path: String,
    pub(crate) shape: Shape,
    options: Options,
    tx: Option<Sender>,
    rx: Option<Receiver>,
    /// The number of the next message.
    next: u64,
    pub(crate) standing: Vec<Standing>,
    /// Messages counted lost so far.
    lost: u64,
    turn: u64,
    map: Option<memmap2::MmapRaw>,
}

impl Stage {
    pub(crate) fn new(lab: &mut Lab, shape: Shape) -> Stage {
        // Positions wrap in the course of one ring's deaths.
        let start = 0u64.wrapping_sub(128);
        let options = Options::new()
            .capacity(shape.slots)
            .max_len(shape.len)
            .delivery(shape.delivery)
            // A ring whose survivors come later has nobody in the meantime.
            .keep_open(shape.survivors == Survivors::ComeLater)
            .start_position(if shape.survivors == Survivors::AreThere { start } else { 0 });
        Stage {
            path: lab.path("ring"),
            shape,
            options,
            tx: None,
            rx: None,
            next: 1,
            standing: Vec::new(),
            lost: 0,
            turn: lab.random.below(48),
            map: None,
        }
    }

    /// Makes the ring what it is before the call, from whatever it is.
    pub(crate) fn prepare(&mut self, before: Before) {
        self.turn += 1;
        self.standing.clear();
        // The lengths of messages are the same for every death.
        self.next = self.next.next_multiple_of(3);
        if self.shape.survivors == Survivors::ComeLater || self.tx.is_none() {
            self.anew();
        }
        // A ring that has been used for some laps. One that serves for all deaths comes to stand on any slot.
        for _ in 0..=2 * self.shape.slots {
            self.send();
            self.receive();
        }
        match before {
            Before::Empty => {}
            Before::One | Before::DeadBoth => self.send(),
            Before::Full | Before::DeadHands => (0..self.shape.slots).for_each(|_| self.send()),
            Before::Again => {
                self.send();
                let message = self.rx().recv().unwrap();
                message.give_back();
                self.standing[0].attempts = 1;
            }
            Before::Skip => {
                self.die(Before::DeadClaim);
                assert_eq!(self.tx().recover().unwrap().skipped, 1);
            }
            Before::DeadClaim => {}
        }
        if self.shape.survivors == Survivors::ComeLater {
            (self.tx, self.rx) = (None, None);
        }
    }

    /// The death that comes before the call, if there is one. Whoever opens the ring after it repairs it.
    pub(crate) fn die(&mut self, before: Before) {
        let (behind, len) = (self.number(), self.shape.len);
        tracer::die(|| match before {
            Before::DeadClaim => {
                let mut tx = Sender::open(&self.path).unwrap();
                let other = tx.clone();
                let _claim = tx.try_reserve(len).unwrap();
                other.try_send(&body(behind, len)).unwrap();
                tracer::sigkill();
            }
            Before::DeadHands => {
                let rx = Receiver::open(&self.path).unwrap();
                let _message = rx.try_recv().unwrap();
                tracer::sigkill();
            }
            Before::DeadBoth => {
                let rx = Receiver::open(&self.path).unwrap();
                let mut tx = Sender::open(&self.path).unwrap();
                let _message = rx.try_recv().unwrap();
                let _claim = tx.try_reserve(len).unwrap();
                tracer::sigkill();
            }
            _ => tracer::sigkill(),
        });
        match before {
            Before::DeadClaim => {
                self.standing.push(Standing { number: behind, attempts: 0, held: false });
            }
            Before::DeadHands | Before::DeadBoth => {
                let first = &mut self.standing[0];
                (first.held, first.attempts) = (true, first.attempts + 1);
            }
            _ => {}
        }
    }

    /// Makes a new ring in place of the old one.
    pub(crate) fn anew(&mut self) {
        (self.tx, self.rx) = (None, None);
        let _ = std::fs::remove_file(&self.path);
        mpmc::create(&self.path, &self.options).unwrap();
        self.lost = 0;
        self.open();
    }

    fn open(&mut self) {
        if self.tx.is_none() {
            self.tx = Some(Sender::open(&self.path).unwrap());
        }
        if self.rx.is_none() {
            self.rx = Some(Receiver::open(&self.path).unwrap());
        }
    }

    /// No sender among the survivors, until they go on.
    pub(crate) fn dismiss_sender(&mut self) {
        self.tx = None;
    }

    /// Where the ring is, and nothing else.
    pub(crate) fn folder(&self) -> &Path {
        Path::new(&self.path).parent().unwrap()
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn tx(&self) -> &Sender {
        self.tx.as_ref().unwrap()
    }

    pub(crate) fn rx(&self) -> &Receiver {
        self.rx.as_ref().unwrap()
    }

    /// A message that nobody has sent.
    pub(crate) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A message that is committed.
    fn send(&mut self) {
        let number = self.number();
        self.tx().try_send(&body(number, self.shape.len)).unwrap();
        self.standing.push(Standing { number, attempts: 0, held: false });
    }

    /// Sends a message if there is room; its number.
    pub(crate) fn try_send(&mut self) -> Option<u64> {
        let number = self.number();
        match self.tx().try_send(&body(number, self.shape.len)) {
            Ok(()) => Some(number),
            Err(error) => {
                assert!(error.is_full(), "{error}");
                None
            }
        }
    }

    /// Receives a message that nobody has had, if one is there; its number.
    pub(crate) fn try_recv(&self) -> Option<u64> {
        match self.rx().try_recv() {
            Ok(message) => {
                assert_eq!(message.attempts(), 1);
                Some(self.got(&message).number)
            }
            Err(error) => {
                assert!(error.is_empty(), "{error}");
                None
            }
        }
    }

    /// Sends a message that somebody else receives; its number.
    pub(crate) fn send_one(&mut self) -> u64 {
        self.send();
        self.standing.pop().unwrap().number
    }

    fn got(&self, message: &mpmc::Message<'_>) -> Got {
        got(message, self.shape.len)
    }

    /// Receives what was sent last, alone.
    fn receive(&mut self) {
        let standing = self.standing.pop().unwrap();
        assert_eq!(self.got(&self.rx().try_recv().unwrap()).number, standing.number);
        assert!(self.standing.is_empty());
    }

    /// The words of the ring, and as many seats as anybody takes here.
    pub(crate) fn shared(&mut self) -> Vec<Range<*const u8>> {
        const SEATS_END: usize = 0x5000 + SEATS * 128;
        const SLOTS: usize = 0x25000;
        let file = std::fs::File::open(&self.path).unwrap();
        let map = memmap2::MmapOptions::new().map_raw_read_only(&file).unwrap();
        let (at, len) = (map.as_ptr(), map.len());
        self.map = Some(map);
        vec![at..at.wrapping_add(SEATS_END), at.wrapping_add(SLOTS)..at.wrapping_add(len)]
    }

    /// Goes on after a death, until a new message has come through and so have these. Then whatever is there.
    pub(crate) fn go_on(&mut self, due: &[u64]) -> Found {
        self.open();
        let cure = Cure::of(self.turn);
        let mut found = Found {
            recovered: match cure {
                Cure::Receiver => self.rx().recover().unwrap(),
                Cure::Sender => self.tx().recover().unwrap(),
                Cure::Name => quoit::recover(&self.path).unwrap(),
                Cure::Polling | Cure::Waiting => Recovered::default(),
            },
            ..Found::default()
        };
        let last = self.number();
        let message = body(last, self.shape.len);
        let (start, mut sent) = (Instant::now(), false);
        loop {
            let there = |found: &Found, number| found.got.iter().any(|got| got.number == number);
            if there(&found, last) && due.iter().all(|&number| there(&found, number)) {
                break;
            }
            if !sent {
                match self.tx().try_send(&message) {
                    Ok(()) => sent = true,
                    Err(error) => assert!(error.is_full(), "{error}"),
                }
            }
            if cure == Cure::Waiting {
                match self.rx().recv_timeout(A_WHILE) {
                    Ok(message) => found.got.push(self.got(&message)),
                    Err(error) => assert!(error.is_timeout(), "{error}"),
                }
                // Not before the last of what comes by itself: a message that is to come again leaves no room.
                if !sent && self.rx().is_empty() && due.iter().all(|&number| there(&found, number))
                {
                    match self.tx().send_timeout(&message, A_WHILE) {
                        Ok(()) => sent = true,
                        Err(error) => assert!(error.is_timeout(), "{error}"),
                    }
                }
            } else {
                match self.rx().try_recv() {
                    Ok(message) => found.got.push(self.got(&message)),
                    Err(error) if error.is_empty() => std::thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(
                start.elapsed() < PATIENCE,
                "wedged ({cure:?}): {due:?} and {last} must come, and so far came {:?}: {:#?}",
                found.got,
                quoit::inspect(&self.path)
            );
        }
        // What could still be somewhere comes now.
        let more = self.rx().recover().unwrap();
        let all = &mut found.recovered;
        all.seats += more.seats;
        all.skipped += more.skipped;
        all.redelivered += more.redelivered;
        all.lost += more.lost;
        while let Ok(message) = self.rx().try_recv() {
            found.got.push(self.got(&message));
        }
        found.got.retain(|got| got.number != last);
        self.one_lap_more();
        let info = quoit::inspect(&self.path).unwrap();
        assert_eq!(info.used, 0, "{info:#?}");
        for seat in &info.seats {
            assert_eq!((seat.writing, seat.reading), (0, 0), "{info:#?}");
            assert!(seat.role.is_none() || seat.presence == Presence::Present, "{info:#?}");
        }
        // The seats of the dead are taken again.
        assert!(info.seats.len() <= SEATS, "{info:#?}");
        found.lost = info.lost - self.lost;
        self.lost = info.lost;
        found
    }

    /// Every slot serves once more, without a wait.
    fn one_lap_more(&mut self) {
        for _ in 0..=self.shape.slots {
            let number = self.number();
            self.tx().try_send(&body(number, self.shape.len)).unwrap();
            let message = self.rx().try_recv().unwrap();
            assert_eq!((self.got(&message).number, message.attempts()), (number, 1));
        }
        assert!(self.rx().try_recv().unwrap_err().is_empty());
    }
}

/// A message that carries a number: up to two bytes shorter than `longest`, so that a slot's next one is of another length.
pub(crate) fn body(number: u64, longest: usize) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend((8..longest - number as usize % 3).map(|i| (number as usize ^ i) as u8));
    bytes
}

/// A message in hand, of either kind of ring.
pub(crate) trait InHand {
    fn attempts(&self) -> u32;
    fn redelivered(&self) -> bool;
    fn position(&self) -> u64;
    fn copy_to(&self, to: &mut [u8]) -> usize;
    fn to_vec(&self) -> Vec<u8>;
}

macro_rules! in_hand {
    ($($message:ty),*) => {$(
        impl InHand for $message {
            fn attempts(&self) -> u32 {
                self.attempts()
            }

            fn redelivered(&self) -> bool {
                self.redelivered()
            }

            fn position(&self) -> u64 {
                self.position()
            }

            fn copy_to(&self, to: &mut [u8]) -> usize {
                self.copy_to(to)
            }

            fn to_vec(&self) -> Vec<u8> {
                self.to_vec()
            }
        }
    )*};
}

in_hand!(mpmc::Message<'_>, spsc::Message<'_>);

/// A message, whose every byte is as it was sent.
pub(crate) fn got(message: &impl InHand, longest: usize) -> Got {
    let (attempts, position) = (message.attempts(), message.position());
    assert_eq!(message.redelivered(), attempts > 1);
    let bytes = message.to_vec();
    let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert!(bytes == body(number, longest), "message {number} is not what was sent: {bytes:?}");
    Got { number, attempts, position }
}

/// How a handle of the child waits: as little as it can before it sleeps.
pub(crate) const WAIT: Wait = Wait::Block;
