//! Somebody sleeps in the kernel at a ring of bytes. Knows three such sleeps: for a message and for room, while the other end
//! dies in its call at any instruction, between its store and the wake too; and the call in which one dies itself, asleep and
//! then woken.

use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering::SeqCst;

use quoit::Delivery::{self, AtLeastOnce, AtMostOnce};
use quoit::spsc::{Receiver, Sender};
use quoit::{Presence, Wait};

use crate::boundaries::{Account, Case, Verdict, kill_at_each, track};
use crate::bytes::Before::{self, Empty, Full};
use crate::bytes::{SHORT, Shape, got};
use crate::bytes_calls::Death;
use crate::calls::{Call, Notes, Role};
use crate::harness::{Lab, alone};
use crate::sleepers::{Sleeper, say};
use crate::stage::{Standing, Survivors, body};
use crate::tracer::forever;

/// What a sleeper says when it is told that the other end is gone.
const END: u64 = 0;

/// What whoever is to wake the child says when it has its end.
const HERE: u64 = u64::MAX;

/// In so many deaths no successor comes before the sleeper has found out by itself.
const ALONE: u32 = 16;

/// A death in a call that sends, which a receiver is asleep for.
struct ForMessage {
    death: Death,
    wait: Wait,
    sleeper: Option<Sleeper>,
    turn: u32,
}

impl Case for ForMessage {
    fn name(&self) -> String {
        format!("{}, a receiver asleep ({:?})", self.death, self.wait)
    }

    fn prepare(&mut self) {
        self.turn += 1;
        self.death.prepare();
    }

    fn call(&mut self) {
        self.death.call();
    }

    /// A sender has the other end by now.
    fn begun(&mut self) {
        let ring = &self.death.ring;
        let (path, wait, longest) = (&ring.path, self.wait, ring.shape.len);
        self.sleeper = Some(Sleeper::start(|mut to| {
            let mut rx = Receiver::open(path).unwrap();
            rx.set_wait(wait);
            loop {
                let said = match rx.recv() {
                    Ok(message) => got(&message, longest).number,
                    Err(error) => {
                        assert!(error.is_disconnected(), "{error}");
                        END
                    }
                };
                say(&mut to, said);
            }
        }));
    }

    fn shared(&mut self) -> Vec<Range<*const u8>> {
        self.death.shared()
    }

    /// What is committed reaches the sleeper; so does the end, if nobody comes in time; so does what the successor sends.
    fn judge(&mut self, _: bool) -> Verdict {
        let mut sleeper = self.sleeper.take().unwrap();
        let (path, numbers) = (self.death.ring.path.clone(), self.death.numbers);
        assert_eq!(self.death.ring.fate().presence, Presence::Died);
        let mut came = Vec::new();
        if self.turn % ALONE == 0 {
            came.extend(std::iter::from_fn(|| Some(sleeper.next(&path)).filter(|&it| it != END)));
        }
        let last = self.death.ring.send_one();
        loop {
            match sleeper.next(&path) {
                END => {}
                number if number == last => break,
                number => came.push(number),
            }
        }
        drop(sleeper);
        let sent = if self.death.call == Call::SendBatch { &numbers[..] } else { &numbers[..1] };
        let accepted = self.death.notes.accepted(&numbers);
        assert!(came.is_empty() && accepted.is_empty() || came == sent, "{came:?} of {sent:?}");
        let found = self.death.ring.go_on(&[]);
        assert_eq!((&found.got[..], found.lost), (&[][..], 0), "the sleeper had it all");
        let delivered = !came.is_empty();
        let word = if delivered { "delivered" } else { "not delivered" };
        Verdict { stage: delivered.into(), word }
    }
}

/// A death in a call that receives, on a full ring, whose room a sender is asleep for.
struct ForRoom {
    death: Death,
    wait: Wait,
    sleeper: Option<Sleeper>,
    turn: u32,
    /// Up to where there was room before the call.
    head: u64,
}

impl Case for ForRoom {
    fn name(&self) -> String {
        format!("{}, a sender asleep ({:?})", self.death, self.wait)
    }

    fn prepare(&mut self) {
        self.turn += 1;
        self.death.prepare();
        let number = self.death.ring.number();
        self.death.ring.standing.push(Standing { number, attempts: 0, held: false });
    }

    fn call(&mut self) {
        self.death.call();
    }

    /// A receiver has the other end by now.
    fn begun(&mut self) {
        let ring = &self.death.ring;
        self.head = ring.info().head;
        let (path, wait, longest) = (&ring.path, self.wait, ring.shape.len);
        let number = ring.standing.last().unwrap().number;
        self.sleeper = Some(Sleeper::start(|mut to| {
            let mut tx = Sender::open(path).unwrap();
            tx.set_wait(wait);
            while let Err(error) = tx.send(&body(number, longest)) {
                assert!(error.is_disconnected(), "{error}");
                say(&mut to, END);
                tx.set_keep_open(true);
            }
            say(&mut to, number);
            forever();
        }));
    }

    fn shared(&mut self) -> Vec<Range<*const u8>> {
        self.death.shared()
    }

    /// If there is room by now the sleeper's message is sent by itself, and otherwise it is told of the end; when a successor
    /// has come, it is sent in any case.
    fn judge(&mut self, _: bool) -> Verdict {
        let mut sleeper = self.sleeper.take().unwrap();
        let ring = &mut self.death.ring;
        assert_eq!(ring.fate().presence, Presence::Died);
        let number = ring.standing.last().unwrap().number;
        if self.turn % ALONE == 0 {
            let room = ring.info().head != self.head;
            assert_eq!(sleeper.next(&ring.path), if room { number } else { END });
        }
        ring.receive_up_to(number);
        drop(sleeper);
        let found = self.death.account();
        self.death.judge_found(&found)
    }
}

/// A death in a call that sleeps, and is woken by the other end each time it does.
struct Woken {
    death: Death,
    /// What the other end sends.
    number: u64,
    other: Option<Sleeper>,
}

/// Whether the child sleeps in the kernel: whoever is traced and stopped does not.
fn sleeps(notes: &Notes) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", notes.pid.load(SeqCst)));
    stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, it)| it.starts_with('S')))
}

/// Does something each time the child sleeps, and says what; until it is told to stop.
fn each_time_it_sleeps(
    mut to: UnixStream,
    notes: &Notes,
    mut something: impl FnMut() -> Option<u64>,
) {
    say(&mut to, HERE);
    to.set_nonblocking(true).unwrap();
    loop {
        let told = to.read(&mut [0; 8]);
        if told.is_ok() {
            return say(&mut to, END);
        }
        assert_eq!(told.unwrap_err().kind(), ErrorKind::WouldBlock);
        // There is no event for that somebody sleeps: this looks again and again.
        if sleeps(notes) {
            if let Some(number) = something() {
                say(&mut to, number);
            }
        }
        std::thread::yield_now();
    }
}

impl Case for Woken {
    fn name(&self) -> String {
        format!("{}, woken", self.death)
    }

    fn prepare(&mut self) {
        self.death.prepare();
        self.number = self.death.ring.number();
    }

    fn call(&mut self) {
        self.death.call();
    }

    fn begun(&mut self) {
        let (ring, notes, number) = (&self.death.ring, self.death.notes, self.number);
        let (path, longest) = (&ring.path, ring.shape.len);
        let mut other = Sleeper::awake(|to| {
            if ring.dying == Role::Sender {
                let mut rx = Receiver::open(path).unwrap();
                let receive = || rx.try_recv().ok().map(|message| got(&message, longest).number);
                each_time_it_sleeps(to, notes, receive);
            } else {
                let mut tx = Sender::open(path).unwrap();
                let mut sent = false;
                let message = body(number, longest);
                let send = || {
                    let now = !std::mem::replace(&mut sent, true);
                    now.then(|| tx.try_send(&message).unwrap()).map(|()| number)
                };
                each_time_it_sleeps(to, notes, send);
            }
        });
        assert_eq!(other.next(path), HERE);
        self.other = Some(other);
    }

    /// When it sleeps, and for how long, is the clock's.
    fn steady(&self) -> bool {
        false
    }

    fn shared(&mut self) -> Vec<Range<*const u8>> {
        self.death.shared()
    }

    fn judge(&mut self, returned: bool) -> Verdict {
        let mut other = self.other.take().unwrap();
        other.stop();
        let ring = &mut self.death.ring;
        loop {
            match other.next(&ring.path) {
                END => break,
                number if ring.dying == Role::Sender => {
                    assert_eq!(ring.standing.remove(0).number, number, "the first is received");
                }
                number => ring.standing.push(Standing { number, attempts: 0, held: false }),
            }
        }
        drop(other);
        self.death.judge(returned)
    }
}

fn newcomers(len: usize, back: usize, delivery: Delivery) -> Shape {
    Shape { len, back, delivery, survivors: Survivors::ComeLater }
}

#[test]
fn a_receiver_asleep_at_bytes_gets_what_a_dying_sender_has_committed_and_then_the_end() {
    alone(
        "bytes_sleepers::a_receiver_asleep_at_bytes_gets_what_a_dying_sender_has_committed_and_then_the_end",
        |lab| {
            for (call, wait, back) in
                [(Call::TrySend, Wait::Block, 0), (Call::SendBatch, Wait::Adaptive, 128)]
            {
                let death = Death::new(lab, call, Empty, newcomers(SHORT, back, AtLeastOnce));
                let mut case = ForMessage { death, wait, sleeper: None, turn: 0 };
                let track = track(lab, &mut case);
                let account = kill_at_each(lab, &mut case, &track);
                account.say(lab, &case.name());
                assert!(account.count("not delivered") > 0 && account.count("delivered") > 0);
            }
        },
    );
}

#[test]
fn a_sender_asleep_at_bytes_gets_the_room_that_a_dying_receiver_leaves_or_the_end() {
    alone(
        "bytes_sleepers::a_sender_asleep_at_bytes_gets_the_room_that_a_dying_receiver_leaves_or_the_end",
        |lab| {
            for (call, wait, delivery, back) in [
                (Call::TryRecv, Wait::Block, AtMostOnce, 0),
                // One message, and the next one needs a pad: there is none left whose release would make good a repair that
                // makes no room.
                (Call::Release, Wait::Adaptive, AtLeastOnce, 4096 - 64),
            ] {
                let death = Death::new(lab, call, Full, newcomers(1984, back, delivery));
                let mut case = ForRoom { death, wait, sleeper: None, turn: 0, head: 0 };
                let track = track(lab, &mut case);
                let account = kill_at_each(lab, &mut case, &track);
                account.say(lab, &case.name());
                let hands = if delivery == AtMostOnce { "lost, counted" } else { "again, marked" };
                assert!(account.count(hands) > 0 && account.count("received") > 0, "{account:?}");
            }
        },
    );
}

fn woken(lab: &mut Lab, call: Call, before: Before, len: usize, back: usize) -> Account {
    let death = Death::new(lab, call, before, newcomers(len, back, AtLeastOnce));
    let mut case = Woken { death, number: 0, other: None };
    let track = track(lab, &mut case);
    let account = kill_at_each(lab, &mut case, &track);
    account.say(lab, &case.name());
    account
}

#[test]
fn a_sender_of_bytes_that_dies_asleep_or_woken_has_sent_its_message_or_not() {
    alone(
        "bytes_sleepers::a_sender_of_bytes_that_dies_asleep_or_woken_has_sent_its_message_or_not",
        |lab| {
            let account = woken(lab, Call::Send, Full, 1984, 0);
            assert!(account.count("not delivered") > 0 && account.count("delivered") > 0);
            // It sleeps more than once, and what it has sent before it sleeps again is there.
            let account = woken(lab, Call::SendBatch, Full, 1000, 128);
            for word in ["not delivered", "some delivered", "all delivered"] {
                assert!(account.count(word) > 0, "{word}: {account:?}");
            }
        },
    );
}

#[test]
fn a_receiver_of_bytes_that_dies_asleep_or_woken_loses_nothing() {
    alone("bytes_sleepers::a_receiver_of_bytes_that_dies_asleep_or_woken_loses_nothing", |lab| {
        let account = woken(lab, Call::Recv, Empty, SHORT, 64);
        for word in ["nothing there", "still there", "again, marked", "received"] {
            assert!(account.count(word) > 0, "{word}: {account:?}");
        }
    });
}
