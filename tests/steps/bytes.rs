//! A ring of bytes that somebody dies at, and those who go on with it: whoever is at the other end, and the successor of the
//! dead one. Knows which messages were sent and have to come; knows neither which call it was that somebody died in, nor what
//! a ring looks like inside, but for where its words and lines lie.

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use quoit::spsc::{self, Receiver, Sender};
use quoit::{Delivery, Info, Options, Presence, SeatInfo};

use crate::calls::Role;
use crate::harness::Lab;
use crate::stage::{self, Found, Got, Standing, Survivors, body};
use crate::tracer;

/// The smallest ring there is.
const CAPACITY: usize = 4096;

const LINE: usize = 64;

/// A message that takes one line with its header.
pub(crate) const SHORT: usize = 12;

/// What takes longer would take for ever.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is in the ring before the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    Empty,
    One,
    Full,
    /// A message that was handed out before.
    Again,
    /// The child itself has sent a message, or received one and knows that another is there: nothing is left from anybody else.
    Own,
    /// A claim that its sender died with, filled.
    DeadClaim,
    /// A full ring, whose first message was in the hands of a receiver that died.
    DeadHands,
}

impl Before {
    /// Whose death comes before the call, if there is one.
    fn death(self) -> Option<Role> {
        match self {
            Before::DeadClaim => Some(Role::Sender),
            Before::DeadHands => Some(Role::Receiver),
            _ => None,
        }
    }
}

/// What a ring is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// The longest message, in bytes.
    pub(crate) len: usize,
    /// So many bytes before the end of the memory, the stream begins. A new ring's position wraps there too.
    pub(crate) back: usize,
    pub(crate) delivery: Delivery,
    pub(crate) survivors: Survivors,
}

/// How the survivors come to know of the death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cure {
    /// The next of its kind is there before anybody has noticed.
    Successor,
    /// Whoever is at the other end asks.
    Asking,
    /// It goes on with calls that do not wait, until it is told.
    Polling,
    /// It goes on with calls that wait, until it is told.
    Waiting,
}

const TURNS: u64 = 240;

impl Cure {
    /// In turn. Those that take time are seldom.
    fn of(turn: u64) -> Cure {
        match turn % TURNS {
            11 | 131 => Cure::Polling,
            35 => Cure::Waiting,
            turn if turn % 2 == 0 => Cure::Successor,
            _ => Cure::Asking,
        }
    }
}

pub(crate) struct Ring {
    pub(crate) path: String,
    pub(crate) shape: Shape,
    /// The end of whoever dies in the call.
    pub(crate) dying: Role,
    options: Options,
    tx: Option<Sender>,
    rx: Option<Receiver>,
    /// The number of the next message.
    next: u64,
    pub(crate) standing: Vec<Standing>,
    /// What the survivors had before they went on.
    pub(crate) early: Vec<Got>,
    /// Messages counted lost so far.
    lost: u64,
    /// An end of the stream that nobody at the other end was told of.
    untold: bool,
    turn: u64,
    map: Option<memmap2::MmapRaw>,
}

impl Ring {
    pub(crate) fn new(lab: &mut Lab, dying: Role, shape: Shape) -> Ring {
        // One lap before the call.
        let start = 0u64.wrapping_sub((shape.back + CAPACITY) as u64);
        let options =
            Options::new().capacity(CAPACITY).delivery(shape.delivery).start_position(start);
        Ring {
            path: lab.path("ring"),
            shape,
            dying,
            options,
            tx: None,
            rx: None,
            next: 1,
            standing: Vec::new(),
            early: Vec::new(),
            lost: 0,
            untold: false,
            turn: lab.random.below(TURNS),
            map: None,
        }
    }

    /// Makes the ring what it is before the call, from whatever it is. Nobody is at the end of the one who dies then.
    pub(crate) fn prepare(&mut self, before: Before) {
        self.turn += 1;
        self.standing.clear();
        self.early.clear();
        // The lengths of messages are the same for every death.
        self.next = self.next.next_multiple_of(3);
        if self.shape.survivors == Survivors::ComeLater || self.map.is_none() {
            self.anew();
        }
        self.open();
        self.roll();
        match before {
            Before::Own if self.dying == Role::Receiver => {
                // One that the child receives before its call, and one that stands.
                let first = body(0, self.shape.len);
                self.tx().try_send(&first).unwrap();
                self.send();
            }
            Before::Empty | Before::DeadClaim | Before::Own => {}
            Before::One => self.send(),
            Before::Full | Before::DeadHands => while self.try_send().is_some() {},
            Before::Again => {
                self.send();
                self.rx().try_recv().unwrap().give_back();
                self.standing[0].attempts = 1;
            }
        }
        if self.shape.survivors == Survivors::ComeLater {
            (self.tx, self.rx) = (None, None);
        }
        self.dismiss(self.dying);
        self.die(before);
    }

    /// The death that comes before the call, if there is one.
    fn die(&mut self, before: Before) {
        let Some(role) = before.death() else { return };
        self.dismiss(role);
        let (path, number, len) = (&self.path, self.next + 1, self.shape.len);
        tracer::die(|| {
            if role == Role::Sender {
                let mut tx = Sender::open(path).unwrap();
                let mut claim = tx.try_reserve(len).unwrap();
                claim.write_at(0, &body(number, len)).unwrap();
                tracer::sigkill();
            }
            let mut rx = Receiver::open(path).unwrap();
            let _message = rx.try_recv().unwrap();
            tracer::sigkill();
        });
        if role == Role::Receiver {
            let first = &mut self.standing[0];
            (first.held, first.attempts) = (true, first.attempts + 1);
        }
    }

    /// Makes a new ring in place of the old one.
    pub(crate) fn anew(&mut self) {
        (self.tx, self.rx) = (None, None);
        let _ = std::fs::remove_file(&self.path);
        spsc::create(&self.path, &self.options).unwrap();
        (self.lost, self.untold) = (0, false);
        let file = std::fs::File::open(&self.path).unwrap();
        self.map = Some(memmap2::MmapOptions::new().map_raw_read_only(&file).unwrap());
        self.open();
        // A lap, or nearly: nothing is left as it was made.
        for _ in 1..CAPACITY / LINE {
            self.exchange(SHORT);
        }
    }

    /// Both ends, in turn the one or the other first.
    fn open(&mut self) {
        if self.turn % 2 == 0 {
            self.tx_or_new();
        }
        if self.rx.is_none() {
            self.rx = Some(Receiver::open(&self.path).unwrap());
        }
        self.tx_or_new();
    }

    fn tx_or_new(&mut self) -> &mut Sender {
        self.tx.get_or_insert_with(|| Sender::open(&self.path).unwrap())
    }

    /// Nobody at this end, until the survivors go on.
    pub(crate) fn dismiss(&mut self, role: Role) {
        match role {
            Role::Sender => self.tx = None,
            Role::Receiver => self.rx = None,
        }
    }

    /// Until the stream is where it is to be before the call.
    fn roll(&mut self) {
        while self.exchange(SHORT).wrapping_add((LINE + self.shape.back) as u64) % CAPACITY as u64
            != 0
        {}
    }

    pub(crate) fn folder(&self) -> &Path {
        Path::new(&self.path).parent().unwrap()
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn info(&self) -> Info {
        quoit::inspect(&self.path).unwrap()
    }

    /// What is known of the one who dies in the call.
    pub(crate) fn fate(&self) -> SeatInfo {
        let info = self.info();
        if self.dying == Role::Sender { info.sender } else { info.receiver }
    }

    pub(crate) fn tx(&mut self) -> &mut Sender {
        self.tx.as_mut().unwrap()
    }

    pub(crate) fn rx(&mut self) -> &mut Receiver {
        self.rx.as_mut().unwrap()
    }

    /// A message that nobody has sent.
    pub(crate) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A message that is committed.
    fn send(&mut self) {
        assert!(self.try_send().is_some(), "there is room");
    }

    /// Sends a message that stands then, if there is room; its number.
    pub(crate) fn try_send(&mut self) -> Option<u64> {
        let (number, len) = (self.number(), self.shape.len);
        match self.tx().try_send(&body(number, len)) {
            Ok(()) => {
                self.standing.push(Standing { number, attempts: 0, held: false });
                Some(number)
            }
            Err(error) => {
                assert!(error.is_full(), "{error}");
                None
            }
        }
    }

    /// Sends a message that somebody else receives; its number.
    pub(crate) fn send_one(&mut self) -> u64 {
        self.tx_or_new();
        self.send();
        self.standing.pop().unwrap().number
    }

    /// The next receiver takes all that there is up to this message.
    pub(crate) fn receive_up_to(&mut self, number: u64) {
        let longest = self.shape.len;
        self.rx = Some(Receiver::open(&self.path).unwrap());
        while self.early.last().is_none_or(|last| last.number != number) {
            let message = self.rx.as_mut().unwrap().recv_timeout(PATIENCE).unwrap();
            self.early.push(got(&message, longest));
        }
    }

    /// Receives a message that nobody has had, if one is there; its number.
    pub(crate) fn try_recv(&mut self) -> Option<u64> {
        let len = self.shape.len;
        match self.rx().try_recv() {
            Ok(message) => {
                assert_eq!(message.attempts(), 1);
                Some(got(&message, len).number)
            }
            Err(error) => {
                assert!(error.is_empty(), "{error}");
                None
            }
        }
    }

    /// A message that is sent and received at once; where it was.
    fn exchange(&mut self, len: usize) -> u64 {
        let (number, longest) = (self.number(), self.shape.len);
        self.tx().try_send(&body(number, len)).unwrap();
        let got = got(&self.rx().try_recv().unwrap(), longest);
        assert_eq!((got.number, got.attempts), (number, 1));
        got.position
    }

    /// The words of the ring, and its memory.
    pub(crate) fn shared(&mut self) -> Vec<Range<*const u8>> {
        let map = self.map.as_ref().unwrap();
        vec![map.as_ptr()..map.as_ptr().wrapping_add(map.len())]
    }

    /// Goes on after a death, until all that is there has come, these in any case; and then with a lap of new messages.
    pub(crate) fn go_on(&mut self, due: &[u64]) -> Found {
        let (before, fate, cure) = (self.info(), self.fate().presence, Cure::of(self.turn));
        let mut found = Found { got: std::mem::take(&mut self.early), ..Found::default() };
        let survives = match self.dying {
            Role::Sender => self.rx.is_some(),
            Role::Receiver => self.tx.is_some(),
        };
        let mut sent = Vec::new();
        let told = survives && cure != Cure::Successor;
        if told && self.dying == Role::Sender {
            self.drain_to_the_end(cure, &mut found.got);
            let there = |number| found.got.iter().any(|got| got.number == number);
            assert!(due.iter().all(|&number| there(number)), "{due:?} before the end: {found:?}");
        } else if told {
            sent = self.fill_to_the_end(cure);
        }
        self.check_end(told, fate);
        self.open();
        let longest = self.shape.len;
        loop {
            match self.rx().try_recv() {
                Ok(message) => found.got.push(got(&message, longest)),
                Err(error) => break assert!(error.is_empty(), "{error}"),
            }
        }
        assert!(found.got.is_sorted_by(|a, b| a.number < b.number), "once, in order: {found:?}");
        let came = |number: &u64| found.got.iter().any(|got| got.number == *number);
        assert!(due.iter().chain(&sent).all(came), "{due:?} and {sent:?} must come: {found:?}");
        found.got.retain(|got| !sent.contains(&got.number));

        self.one_lap_more();
        let info = self.info();
        assert_eq!((info.used, info.acked, info.head), (0, info.tail, info.tail), "{info:#?}");
        for (was, is) in [(before.sender, info.sender), (before.receiver, info.receiver)] {
            assert_eq!(is.presence, Presence::Present, "{is:?}");
            let died = u64::from(was.presence == Presence::Died);
            assert_eq!(is.deaths - was.deaths, died, "each death is counted: {was:?} {is:?}");
        }
        found.lost = info.lost - self.lost;
        self.lost = info.lost;
        found
    }

    /// All that the dead sender's receiver gets before it is told of the end.
    fn drain_to_the_end(&mut self, cure: Cure, to: &mut Vec<Got>) {
        let (start, longest) = (Instant::now(), self.shape.len);
        let rx = self.rx();
        loop {
            if cure == Cure::Asking && rx.is_empty() {
                assert!(rx.is_disconnected(), "the lock says so");
            }
            let received = match cure {
                Cure::Waiting => rx.recv_timeout(PATIENCE).map_err(|e| e.is_disconnected()),
                _ => rx.try_recv().map_err(|e| e.is_disconnected()),
            };
            match received {
                Ok(message) => to.push(got(&message, longest)),
                Err(true) => return,
                Err(false) => assert!(start.elapsed() < PATIENCE, "the death is not noticed"),
            }
        }
    }

    /// All that the dead receiver's sender can send before it is told of the end.
    fn fill_to_the_end(&mut self, cure: Cure) -> Vec<u64> {
        let (start, longest, mut sent) = (Instant::now(), self.shape.len, Vec::new());
        if cure == Cure::Asking {
            assert!(self.tx().is_disconnected(), "the lock says so");
        }
        loop {
            let number = self.number();
            let message = body(number, longest);
            let accepted = match cure {
                Cure::Waiting => {
                    self.tx().send_timeout(&message, PATIENCE).map_err(|e| e.is_disconnected())
                }
                _ => self.tx().try_send(&message).map_err(|e| e.is_disconnected()),
            };
            match accepted {
                Ok(()) => sent.push(number),
                Err(true) => return sent,
                Err(false) => assert!(start.elapsed() < PATIENCE, "the death is not noticed"),
            }
        }
    }

    /// How the end went that the survivor was told of.
    fn check_end(&mut self, told: bool, fate: Presence) {
        if told {
            let end = match self.dying {
                Role::Sender => self.rx().stats().end,
                Role::Receiver => self.tx().stats().end,
            };
            // A death before it is told with it.
            let untold = self.untold && end == Some(Presence::Died);
            assert!(end == Some(fate) || untold, "{fate:?} was told as {end:?}");
        }
        self.untold = !told;
    }

    /// Every line serves once more, without a wait, and is clean again.
    fn one_lap_more(&mut self) {
        // A short one first: what it does not cover must not be taken for the next one.
        let from = self.exchange(SHORT);
        assert_eq!(self.try_recv(), None);
        while self.exchange(self.shape.len).wrapping_sub(from) < CAPACITY as u64 {
            assert_eq!(self.try_recv(), None);
        }
        // The lines begin behind the words; the first word of each says whether something is committed there.
        const LINES: usize = 0x5000;
        let map = self.map.as_ref().unwrap();
        for line in (LINES..map.len()).step_by(LINE) {
            let at = map.as_ptr().wrapping_add(line).cast::<u64>();
            // SAFETY: the word lies in the mapping, which begins on a page, and nobody who could change it runs now.
            let word = unsafe { at.read() };
            assert_eq!(word, 0, "a line that is not clean, at {:#x}", line - LINES);
        }
    }
}

/// A message, whose every byte is as it was sent. All are as long as can be, or short.
pub(crate) fn got(message: &spsc::Message<'_>, longest: usize) -> Got {
    stage::got(message, if message.len() <= SHORT { SHORT } else { longest })
}
