//! Somebody sleeps in the kernel until another process does what it waits for, and that process dies in the call, at any
//! instruction: between its store and the wake too. Knows two such sleeps: for a message, and for room.

use std::io::{ErrorKind, Read, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use quoit::Delivery::{self, AtLeastOnce, AtMostOnce};
use quoit::Wait;
use quoit::mpmc::{Receiver, Sender};

use crate::boundaries::{Case, Verdict, kill_at_each, track};
use crate::calls::{Call, Death};
use crate::harness::{alone, run_anywhere};
use crate::stage::{Before, Shape, Standing, Survivors, body, got};
use crate::tracer::{Forked, forever};

/// Longer than anybody sleeps without looking around.
const PATIENCE: Duration = Duration::from_secs(20);

/// A process that makes calls which sleep, and says what came of each.
pub(crate) struct Sleeper {
    process: Forked,
    said: UnixStream,
}

impl Sleeper {
    /// A child that is asleep in what `body` does first.
    pub(crate) fn start(body: impl FnOnce(UnixStream)) -> Sleeper {
        let mut sleeper = Sleeper::awake(body);
        // There is no event for that somebody sleeps: this looks again and again.
        while !sleeper.process.is_asleep() {
            sleeper.said.set_nonblocking(true).unwrap();
            let said = sleeper.said.read(&mut [0; 8]).map_err(|error| error.kind());
            assert_eq!(said, Err(ErrorKind::WouldBlock), "it does not sleep");
            sleeper.said.set_nonblocking(false).unwrap();
        }
        sleeper
    }

    /// A child that does `body` at once.
    pub(crate) fn awake(body: impl FnOnce(UnixStream)) -> Sleeper {
        let (said, theirs) = UnixStream::pair().unwrap();
        said.set_read_timeout(Some(PATIENCE)).unwrap();
        Sleeper {
            process: Forked::start(|| {
                run_anywhere();
                body(theirs);
            }),
            said,
        }
    }

    /// Has it end what it does.
    pub(crate) fn stop(&mut self) {
        say(&mut self.said, 0);
    }

    /// What it says next, within the time that any sleeper needs.
    pub(crate) fn next(&mut self, path: &str) -> u64 {
        let mut word = [0; 8];
        let read = self.said.read_exact(&mut word);
        assert!(read.is_ok(), "it sleeps on: {read:?}: {:#?}", quoit::inspect(path));
        u64::from_le_bytes(word)
    }
}

pub(crate) fn say(to: &mut UnixStream, number: u64) {
    to.write_all(&number.to_le_bytes()).unwrap();
}

/// A death in a call that sends, which a receiver is asleep for.
struct ForMessage {
    death: Death,
    wait: Wait,
    sleeper: Option<Sleeper>,
}

impl Case for ForMessage {
    fn name(&self) -> String {
        format!("{}, a receiver asleep ({:?})", self.death, self.wait)
    }

    fn prepare(&mut self) {
        self.death.prepare();
        let stage = &self.death.stage;
        let (path, wait, longest) = (&stage.path, self.wait, stage.shape.len);
        self.sleeper = Some(Sleeper::start(|mut to| {
            let rx = Receiver::open(path).unwrap();
            rx.set_wait(wait);
            loop {
                let number = got(&rx.recv().unwrap(), longest).number;
                say(&mut to, number);
            }
        }));
    }

    fn steady(&self) -> bool {
        self.death.steady()
    }

    fn call(&mut self) {
        self.death.call();
    }

    fn shared(&mut self) -> Vec<Range<*const u8>> {
        self.death.shared()
    }

    /// What is committed reaches the sleeper by itself; then so does what another sender sends.
    fn judge(&mut self, _: bool) -> Verdict {
        let mut sleeper = self.sleeper.take().unwrap();
        let (path, number) = (self.death.stage.path.clone(), self.death.numbers[0]);
        // The ring becomes empty by itself, whether it was a message or only a claim.
        let start = Instant::now();
        while quoit::inspect(&path).unwrap().used > 0 {
            assert!(start.elapsed() < PATIENCE, "it sleeps on: {:#?}", quoit::inspect(&path));
            std::thread::yield_now();
        }
        let mut came = self.death.sent();
        if came {
            assert_eq!(sleeper.next(&path), number);
        }
        let last = self.death.stage.send_one();
        let mut next = sleeper.next(&path);
        if next == number {
            assert!(!came, "{number} came twice");
            came = true;
            next = sleeper.next(&path);
        }
        assert_eq!(next, last);
        drop(sleeper);
        let found = self.death.stage.go_on(&[]);
        assert_eq!((&found.got[..], found.lost), (&[][..], 0), "the sleeper had it all");
        Verdict { stage: came.into(), word: if came { "delivered" } else { "not delivered" } }
    }
}

/// A death in a call that receives, on a full ring, whose room a sender is asleep for.
struct ForRoom {
    death: Death,
    wait: Wait,
    sleeper: Option<Sleeper>,
}

impl Case for ForRoom {
    fn name(&self) -> String {
        format!("{}, a sender asleep ({:?})", self.death, self.wait)
    }

    fn prepare(&mut self) {
        self.death.prepare();
        let stage = &mut self.death.stage;
        let number = stage.number();
        let (path, wait, message) = (&stage.path, self.wait, body(number, stage.shape.len));
        self.sleeper = Some(Sleeper::start(|mut to| {
            let tx = Sender::open(path).unwrap();
            tx.set_wait(wait);
            tx.send(&message).unwrap();
            say(&mut to, number);
            forever();
        }));
        stage.standing.push(Standing { number, attempts: 0, held: false });
    }

    fn steady(&self) -> bool {
        self.death.steady()
    }

    fn call(&mut self) {
        self.death.call();
    }

    fn shared(&mut self) -> Vec<Range<*const u8>> {
        self.death.shared()
    }

    /// As soon as there is room the sleeper's message is sent by itself; then all is as if it had been there before.
    fn judge(&mut self, returned: bool) -> Verdict {
        let mut sleeper = self.sleeper.take().unwrap();
        let stage = &self.death.stage;
        let info = quoit::inspect(&stage.path).unwrap();
        let taken = info.used < info.capacity || info.seats.iter().any(|seat| seat.reading > 0);
        // What is to be delivered again makes no room.
        if taken && stage.shape.delivery == Delivery::AtMostOnce {
            let number = stage.standing.last().map(|standing| standing.number);
            assert_eq!(Some(sleeper.next(&stage.path)), number);
        }
        self.death.judge(returned)
    }
}

fn shape(delivery: Delivery) -> Shape {
    Shape { slots: 2, len: 12, delivery, survivors: Survivors::AreThere }
}

#[test]
fn a_receiver_asleep_gets_what_a_dying_sender_has_committed() {
    alone("sleepers::a_receiver_asleep_gets_what_a_dying_sender_has_committed", |lab| {
        for wait in [Wait::Block, Wait::Adaptive] {
            let death = Death::new(lab, Call::TrySend, Before::Empty, shape(AtLeastOnce));
            let mut case = ForMessage { death, wait, sleeper: None };
            let track = track(lab, &mut case);
            let account = kill_at_each(lab, &mut case, &track);
            account.say(lab, &case.name());
            assert!(account.count("not delivered") > 0 && account.count("delivered") > 0);
        }
    });
}

#[test]
fn a_sender_asleep_gets_the_room_that_a_dying_receiver_leaves() {
    alone("sleepers::a_sender_asleep_gets_the_room_that_a_dying_receiver_leaves", |lab| {
        for (wait, delivery) in [(Wait::Block, AtMostOnce), (Wait::Adaptive, AtLeastOnce)] {
            let death = Death::new(lab, Call::TryRecv, Before::Full, shape(delivery));
            let mut case = ForRoom { death, wait, sleeper: None };
            let track = track(lab, &mut case);
            let account = kill_at_each(lab, &mut case, &track);
            account.say(lab, &case.name());
            assert!(account.count("still there") > 0 && account.count("received") > 0);
        }
    });
}
