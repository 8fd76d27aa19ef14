//! The ring of slots: senders and receivers that race for two slots, the death of each at every step, and the repair.
//!
//! No actor waits for another: each tries so often, and when all have ended, a receiver that comes then must find the
//! rest. Who is dead is known by a [`Lock`], which orders as the kernel's does: whoever finds it free sees all that its
//! holder did, and nothing of the holder follows.
#![cfg(loom)]

use std::mem::MaybeUninit;
use std::sync::Arc;

use loom::sync::atomic::AtomicBool;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use loom::thread;
use quoit::model::control::{HEAD, SeatWord, TAIL};
use quoit::model::geometry::Slots;
use quoit::model::mpmc::{Consumer, Held, Losses, Producer, is_in_hand, repair, waiting};
use quoit::model::view::View;
use quoit::model::{Refused, actor, slots};
use quoit_loom_tests::{Outcomes, explore, explore_wide, sweep};

// Senders are numbered from 1, receivers from 11.
const A: u32 = 1;
const B: u32 = 2;
const C: u32 = 11;
const D: u32 = 12;
const LAST: u32 = 19;

type Ring = View<Slots>;

fn shape() -> Slots {
    Slots::new(2, 8, 1).expect("legal")
}

/// The position of the first message. The lap wraps behind it.
fn start() -> u64 {
    shape().position(shape().lap_mask(), 1)
}

fn ring() -> Ring {
    slots(shape(), start())
}

fn producer(ring: &Ring, me: u32) -> Producer {
    Producer::attach(ring.clone(), me).expect("sound")
}

fn consumer(ring: &Ring, me: u32) -> Consumer {
    Consumer::attach(ring.clone(), me).expect("sound")
}

/// The `n`-th message of a sender.
fn message(from: u32, n: u8) -> [u8; 8] {
    let from = from as u8;
    [from, n, !from, !n, from, n, !from, !n]
}

/// A message that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Got {
    from: u32,
    n: u8,
    /// Counted from the first.
    position: u64,
    attempts: u32,
}

/// As outcomes are noted: the sender, the number, and a mark if it was handed out before.
fn line(got: &[Got]) -> String {
    let name = |got: &Got| {
        let mark = if got.attempts > 1 { "!" } else { "" };
        format!("{}{}{mark}", char::from(b'a' + got.from as u8 - 1), got.n)
    };
    got.iter().map(name).collect::<Vec<_>>().join(" ")
}

fn try_send(tx: &Producer, message: [u8; 8]) -> bool {
    match tx.try_send(&message) {
        Ok(()) => true,
        Err(Refused::Full) => false,
        Err(refused) => panic!("{refused:?}"),
    }
}

/// Tries to send so often, from the `next` message of this sender on; answers which one is next then.
fn sends(tx: &Producer, me: u32, next: u8, tries: usize) -> u8 {
    (0..tries).fold(next, |next, _| next + u8::from(try_send(tx, message(me, next))))
}

/// What is in hand; it must be whole.
fn look(rx: &Consumer, held: &Held) -> Got {
    let mut bytes = [MaybeUninit::uninit(); 8];
    let bytes = rx.read(held, &mut bytes);
    let (from, n) = (u32::from(bytes[0]), bytes[1]);
    assert_eq!(bytes, message(from, n), "torn");
    let position = shape().canonical(rx.position(held).wrapping_sub(start()));
    Got { from, n, position, attempts: held.attempts() }
}

/// Takes a message, if there is one, and has a look at it.
fn try_take(rx: &Consumer) -> Option<(Held, Got)> {
    let held = rx.try_take().expect("sound")?;
    let got = look(rx, &held);
    Some((held, got))
}

/// Takes and releases a message, if there is one.
fn try_receive(rx: &Consumer) -> Option<Got> {
    let (held, got) = try_take(rx)?;
    rx.release(&held);
    Some(got)
}

/// Tries to receive so often.
fn receives(rx: &Consumer, tries: usize) -> Vec<Got> {
    (0..tries).filter_map(|_| try_receive(rx)).collect()
}

/// What a receiver gets that comes when all is over. Behind it there is nothing, and room for as many as there are slots.
fn rest(ring: &Ring) -> Vec<Got> {
    let rx = consumer(ring, LAST);
    let rest = std::iter::from_fn(|| try_receive(&rx)).collect();
    assert_eq!((rx.has_message(), waiting(ring)), (Ok(false), 0));
    let tx = producer(ring, A);
    assert!(
        try_send(&tx, [0; 8]) && try_send(&tx, [0; 8]) && !try_send(&tx, [0; 8]),
        "room for two"
    );
    assert_eq!(tx.blocker(), None);
    rest
}

/// At one receiver, new messages come by position and so in the order of their senders.
fn assert_in_order(got: &[Got]) {
    let new = || got.iter().filter(|got| got.attempts == 1);
    assert!(new().is_sorted_by_key(|got| got.position), "{got:?}");
    for from in [A, B] {
        assert!(new().filter(|got| got.from == from).is_sorted_by_key(|got| got.n), "{got:?}");
    }
}

/// Together the receivers got what each sender sent, once, and each sender's by position.
fn assert_all(sent: &[(u32, u8)], got: &[Got]) {
    let mut got = got.to_vec();
    got.sort_by_key(|got| got.position);
    for &(from, sent) in sent {
        let numbers = got.iter().filter(|got| got.from == from).map(|got| got.n);
        assert!(numbers.eq(0..sent), "{sent} of {from}: {got:?}");
    }
    assert!(got.len() == sent.iter().map(|sent| usize::from(sent.1)).sum::<usize>(), "{got:?}");
}

/// No position between the first and the last is left out.
fn assert_no_hole(got: &[Got]) {
    let mut positions: Vec<_> = got.iter().map(|got| got.position).collect();
    positions.sort_unstable();
    assert!(positions.iter().copied().eq(0..got.len() as u64), "{got:?}");
}

/// A seat's lock: held from the start, free when its holder is gone.
#[derive(Debug)]
struct Lock {
    free: AtomicBool,
    /// Whoever repaired has said that the seat may be taken.
    vacant: AtomicBool,
}

impl Lock {
    fn held() -> Arc<Lock> {
        Arc::new(Lock { free: AtomicBool::new(false), vacant: AtomicBool::new(false) })
    }

    fn let_go(&self) {
        self.free.store(true, Release);
    }

    fn is_free(&self) -> bool {
        self.free.load(Acquire)
    }

    fn vacate(&self) {
        self.vacant.store(true, Release);
    }

    fn is_vacant(&self) -> bool {
        self.vacant.load(Acquire)
    }
}

/// What was lost with receivers, counted as a table of seats does it, in the words of one seat.
struct Counted(Ring);

impl Losses for Counted {
    fn about_to_lose(&self, _: u32, position: u64) {
        let next = self.word(SeatWord::LOST).load(Relaxed) + 1;
        self.word(SeatWord::LOST_AT).store(position, Relaxed);
        self.word(SeatWord::LOST_NEXT).store(next, Release);
    }

    fn lost(&self, _: u32) {
        let next = self.word(SeatWord::LOST_NEXT).load(Relaxed);
        self.word(SeatWord::LOST).store(next, Relaxed);
        self.word(SeatWord::LOST_NEXT).store(0, Release);
    }
}

impl Counted {
    fn word(&self, word: SeatWord) -> &quoit::model::AtomicU64 {
        self.0.seat(0, word)
    }

    /// Finishes what a repairer that died had begun to count.
    fn resume(&self, owner: u32) {
        let begun = self.word(SeatWord::LOST_NEXT).load(Acquire) != 0;
        let at = self.word(SeatWord::LOST_AT).load(Relaxed);
        if begun && !is_in_hand(&self.0, owner, at) {
            self.lost(owner);
        }
    }

    fn count(&self) -> u64 {
        self.word(SeatWord::LOST).load(Acquire)
    }
}

const AT_LEAST_ONCE: Option<&Counted> = None;

/// M1 to M3, M5 to M7 of docs/memory-ordering.md.
#[test]
fn two_senders_claim_in_order_and_a_receiver_gets_all_of_it_whole() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    explore_wide("two senders, one receiver, more than a lap", 1000, move || {
        let ring = ring();
        let rx = consumer(&ring, C);
        let senders = [(A, 2), (B, 1)].map(|(me, tries)| {
            let tx = producer(&ring, me);
            thread::spawn(move || (me, sends(&tx, me, 0, tries)))
        });
        let receiver = thread::spawn(move || receives(&rx, 2));
        let sent = senders.map(|sender| sender.join().expect("ends"));
        let mut got = receiver.join().expect("ends");
        assert_in_order(&got);
        let early = line(&got);
        got.extend(rest(&ring));
        assert_no_hole(&got);
        assert_all(&sent, &got);
        noted.note(format!("{}, {} in all", early, got.len()));
    });
    outcomes.are(&[
        ", 2 in all",
        "a0 a1, 2 in all",
        "a0 a1, 3 in all",
        "a0 b0, 2 in all",
        "a0, 2 in all",
        "a0, 3 in all",
        "b0 a0, 2 in all",
        "b0, 2 in all",
        "b0, 3 in all",
    ]);
}

/// M-I4, M5 to M7. The receivers are clones of one handle and sign with one number.
#[test]
fn two_receivers_get_each_message_once_and_in_order() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    explore("one sender, two receivers, more than a lap", 1000, move || {
        let ring = ring();
        let (tx, rx) = (producer(&ring, A), consumer(&ring, C));
        assert_eq!(sends(&tx, A, 0, 2), 2);
        let receivers = [2, 1].map(|tries| {
            let rx = rx.clone();
            thread::spawn(move || receives(&rx, tries))
        });
        let sender = thread::spawn(move || try_send(&tx, message(A, 2)));
        let sent = 2 + u8::from(sender.join().expect("ends"));
        let got = receivers.map(|receiver| receiver.join().expect("ends"));
        got.iter().for_each(|got| assert_in_order(got));
        noted.note(format!("{} | {}", line(&got[0]), line(&got[1])));
        let got = [got.concat(), rest(&ring)].concat();
        assert_no_hole(&got);
        assert_all(&[(A, sent)], &got);
    });
    outcomes.are(&["a0 a1 | ", "a0 a1 | a2", "a0 a2 | a1", "a0 | a1", "a1 a2 | a0", "a1 | a0"]);
}

/// Claims and takes of four at once, over the wrap, with a slot that comes free.
#[test]
fn two_senders_and_two_receivers_exchange_a_message_each() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    explore_wide("two senders, two receivers", 1000, move || {
        let ring = ring();
        let txs = [A, B].map(|me| producer(&ring, me));
        let rxs = [C, D].map(|me| consumer(&ring, me));
        assert_eq!(sends(&txs[0], A, 0, 1), 1);
        let senders = txs.map(|tx| thread::spawn(move || try_send(&tx, message(B, 0))));
        let receivers = rxs.map(|rx| thread::spawn(move || receives(&rx, 1)));
        let sent = senders.map(|sender| u8::from(sender.join().expect("ends")));
        let got = receivers.map(|receiver| receiver.join().expect("ends"));
        noted.note(format!("{} | {}", line(&got[0]), line(&got[1])));
        let got = [got.concat(), rest(&ring)].concat();
        assert_no_hole(&got);
        assert_eq!(got.len() as u8, 1 + sent[0] + sent[1]);
    });
    outcomes.are(&[" | a0", "a0 | ", "a0 | b0", "b0 | a0"]);
}

/// M2, its Release: a sender that was idle jumps over what others claimed, on the word of one slot.
#[test]
fn an_idle_sender_catches_up_with_an_active_one() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    explore("an idle sender", 100, move || {
        let ring = ring();
        let idle = producer(&ring, B);
        let (tx, rx) = (producer(&ring, A), consumer(&ring, C));
        let active = thread::spawn(move || {
            // Position 2 is claimed after 1, and in the slot of 0.
            let sent = sends(&tx, A, 0, 1);
            let got = receives(&rx, 1);
            (sends(&tx, A, sent, 2), got)
        });
        let sender = thread::spawn(move || u8::from(try_send(&idle, message(B, 0))));
        let (a, got) = active.join().expect("ends");
        let b = sender.join().expect("ends");
        assert_in_order(&got);
        let got = [got, rest(&ring)].concat();
        assert_no_hole(&got);
        assert_all(&[(A, a), (B, b)], &got);
        noted.note(line(&got));
    });
    outcomes.are(&["a0 a1 a2", "a0 a1 b0", "a0 b0 a1", "b0 a0", "b0 a0 a1"]);
}

/// M6, its Release: a receiver that was idle jumps over what others took, on the word of one slot.
#[test]
fn an_idle_receiver_catches_up_with_an_active_one() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    explore("an idle receiver", 100, move || {
        let ring = ring();
        let idle = consumer(&ring, D);
        let (tx, rx) = (producer(&ring, A), consumer(&ring, C));
        let active = thread::spawn(move || {
            // Position 2 is taken after 1, and in the slot of 0.
            let sent = sends(&tx, A, 0, 1);
            let mut got = receives(&rx, 1);
            let sent = sends(&tx, A, sent, 2);
            let held = [try_take(&rx), try_take(&rx)];
            for (held, seen) in held.iter().flatten() {
                rx.release(held);
                got.push(*seen);
            }
            (sent, got)
        });
        let receiver = thread::spawn(move || receives(&idle, 1));
        let (sent, mut got) = active.join().expect("ends");
        let idle = receiver.join().expect("ends");
        assert_in_order(&got);
        noted.note(line(&idle));
        got.extend(idle);
        got.extend(rest(&ring));
        assert_no_hole(&got);
        assert_all(&[(A, sent)], &got);
    });
    outcomes.are(&["", "a0", "a1", "a2"]);
}

/// Stores that garble nothing but the hints: each model has one of them.
const LIES: [u64; 6] = [0, 1, 2, 3, 1 << 48, u64::MAX];

/// A ring on which 14 messages have gone by, and the handles of them all: both tell the hint of every 16th position.
fn ring_before_a_hint() -> (Ring, Producer, Consumer) {
    let ring = ring();
    let (tx, rx) = (producer(&ring, A), consumer(&ring, C));
    for _ in 0..14 {
        assert!(try_send(&tx, message(B, 0)));
        assert!(try_receive(&rx).is_some());
    }
    (ring, tx, rx)
}

/// H1, H2, M1: a sender that comes late believes the hint as far as a slot proves it.
#[test]
fn a_sender_that_attaches_while_others_go_on_finds_its_place() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    explore("a late sender and an honest hint", 100, move || {
        let (ring, tx, rx) = ring_before_a_hint();
        let active = thread::spawn(move || {
            let sent = sends(&tx, A, 0, 1);
            let got = receives(&rx, 1);
            (sends(&tx, A, sent, 2), got)
        });
        let late = thread::spawn({
            let ring = ring.clone();
            move || sends(&producer(&ring, B), B, 0, 1)
        });
        let (a, got) = active.join().expect("ends");
        let b = late.join().expect("ends");
        assert_in_order(&got);
        let got = [got, rest(&ring)].concat();
        assert_all(&[(A, a), (B, b)], &got);
        noted.note(line(&got));
    });
    outcomes.are(&["a0 a1 a2", "a0 a1 b0", "a0 b0 a1", "b0 a0", "b0 a0 a1"]);
}

/// H1, H2, M1: a receiver that comes late believes the hint as far as a slot proves it.
#[test]
fn a_receiver_that_attaches_while_others_go_on_finds_its_place() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    explore("a late receiver and an honest hint", 100, move || {
        let (ring, tx, rx) = ring_before_a_hint();
        let active = thread::spawn(move || {
            let sent = sends(&tx, A, 0, 1);
            let mut got = receives(&rx, 1);
            let sent = sends(&tx, A, sent, 2);
            got.extend(receives(&rx, 2));
            (sent, got)
        });
        let late = thread::spawn({
            let ring = ring.clone();
            move || receives(&consumer(&ring, D), 1)
        });
        let (a, got) = active.join().expect("ends");
        let late = late.join().expect("ends");
        assert_in_order(&got);
        noted.note(line(&late));
        let got = [got, late, rest(&ring)].concat();
        assert_all(&[(A, a)], &got);
    });
    outcomes.are(&["", "a0", "a1", "a2"]);
}

/// H2: a hint that lies leads nobody past what is not claimed, or not taken, and calls no ring corrupt.
#[test]
fn a_hint_that_lies_misleads_nobody() {
    for lie in LIES {
        let outcomes = Outcomes::default();
        let noted = outcomes.clone();
        explore(&format!("late handles and a hint that is {lie:#x} ahead"), 100, move || {
            let ring = ring();
            let tx = producer(&ring, A);
            assert_eq!(sends(&tx, A, 0, 1), 1);
            let liar = thread::spawn({
                let ring = ring.clone();
                move || {
                    ring.word(TAIL).store(start().wrapping_add(lie), Relaxed);
                    ring.word(HEAD).store(start().wrapping_add(lie), Relaxed);
                }
            });
            let sender = thread::spawn({
                let ring = ring.clone();
                move || u8::from(try_send(&producer(&ring, B), message(B, 0)))
            });
            let receiver = thread::spawn({
                let ring = ring.clone();
                move || receives(&consumer(&ring, D), 2)
            });
            liar.join().expect("ends");
            let b = sender.join().expect("ends");
            let got = receiver.join().expect("ends");
            assert_in_order(&got);
            noted.note(format!("{b} {}", line(&got)));
            let got = [got, rest(&ring)].concat();
            assert_no_hole(&got);
            assert_all(&[(A, 1), (B, b)], &got);
        });
        outcomes.are(&["1 a0", "1 a0 b0"]);
    }
}

/// M2 to M4, M9, G1, G2: a sender dies at each step of two sends; the receiver repairs and goes on; the next holder of its
/// seat signs with the same number.
#[test]
fn of_a_dead_sender_what_was_accepted_is_received_and_its_claim_is_stepped_over() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    sweep("a sender's death, repair and successor", 4, move |step| {
        let ring = ring();
        let (tx, rx) = (producer(&ring, A), consumer(&ring, C));
        let lock = Lock::held();
        let mortal = thread::spawn({
            let (ring, lock) = (ring.clone(), Arc::clone(&lock));
            move || {
                let accepted = std::cell::Cell::new(0);
                let ended = actor(Some(step), || {
                    for _ in 0..2 {
                        accepted.set(sends(&tx, A, accepted.get(), 1));
                    }
                });
                lock.let_go();
                thread::yield_now();
                let accepted = accepted.get();
                let again = lock.is_vacant() && try_send(&producer(&ring, A), message(A, accepted));
                (ended.is_none(), accepted, accepted + u8::from(again))
            }
        });
        let receiver = thread::spawn({
            let (ring, lock) = (ring.clone(), Arc::clone(&lock));
            move || {
                let (mut got, mut repaired, mut skipped) = (Vec::new(), None, 0);
                for _ in 0..3 {
                    match try_receive(&rx) {
                        Some(one) => got.push(one),
                        None if repaired.is_none() && lock.is_free() => {
                            repaired = Some(repair(&ring, |owner| owner == A, AT_LEAST_ONCE));
                            lock.vacate();
                        }
                        None => {}
                    }
                    skipped += rx.skipped();
                }
                (got, repaired, skipped)
            }
        });
        let (died, accepted, a) = mortal.join().expect("ends");
        let (got, repaired, skipped) = receiver.join().expect("ends");
        let early = repaired.is_some();
        let repaired = repaired.unwrap_or_else(|| repair(&ring, |owner| owner == A, AT_LEAST_ONCE));
        assert_in_order(&got);
        let got = [got, rest(&ring)].concat();
        assert_all(&[(A, a)], &got);
        assert!(skipped <= repaired.skipped && repaired.skipped <= u64::from(died));
        noted.note(format!(
            "{accepted}+{} sent, {} skipped {}",
            a - accepted,
            repaired.skipped,
            if early { "early" } else { "late" }
        ));
        died
    });
    outcomes.are(&[
        "0+0 sent, 0 skipped early",
        "0+0 sent, 0 skipped late",
        "0+0 sent, 1 skipped early",
        "0+0 sent, 1 skipped late",
        "0+1 sent, 0 skipped early",
        "0+1 sent, 1 skipped early",
        "1+0 sent, 0 skipped early",
        "1+0 sent, 0 skipped late",
        "1+0 sent, 1 skipped early",
        "1+0 sent, 1 skipped late",
        "1+1 sent, 0 skipped early",
        "1+1 sent, 1 skipped early",
        "2+0 sent, 0 skipped early",
        "2+0 sent, 0 skipped late",
        "2+1 sent, 0 skipped early",
    ]);
}

/// G1, G2, M9: the same between the claims of another sender, which goes on.
#[test]
fn a_dead_senders_claim_holds_up_no_other_sender_once_it_is_repaired() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    sweep("a sender's death between the claims of another", 2, move |step| {
        let ring = ring();
        let (tx, other, rx) = (producer(&ring, A), producer(&ring, B), consumer(&ring, C));
        let lock = Lock::held();
        let mortal = thread::spawn({
            let lock = Arc::clone(&lock);
            move || {
                let sent = actor(Some(step), || sends(&tx, A, 0, 1));
                lock.let_go();
                (sent.is_none(), sent.unwrap_or(0))
            }
        });
        let other = thread::spawn(move || sends(&other, B, 0, 1));
        let receiver = thread::spawn({
            let (ring, lock) = (ring.clone(), Arc::clone(&lock));
            move || {
                let mut got = receives(&rx, 1);
                // Only by a slot that is in the way is the dead one known to it.
                let blocked = got.is_empty() && rx.blocker() == Some(A) && lock.is_free();
                if blocked {
                    // It may have committed since.
                    repair(&ring, |owner| owner == A, AT_LEAST_ONCE);
                }
                got.extend(receives(&rx, 1));
                (got, blocked)
            }
        });
        let (died, a) = mortal.join().expect("ends");
        let b = other.join().expect("ends");
        let (got, blocked) = receiver.join().expect("ends");
        if !blocked {
            repair(&ring, |owner| owner == A, AT_LEAST_ONCE);
        }
        assert_in_order(&got);
        noted.note(format!("{} of {a} {b}{}", line(&got), if blocked { ", repaired" } else { "" }));
        let got = [got, rest(&ring)].concat();
        assert_all(&[(A, a), (B, b)], &got);
        died
    });
    outcomes.are(&[
        " of 0 1",
        " of 0 1, repaired",
        " of 1 1",
        "a0 b0 of 1 1",
        "a0 of 1 1",
        "a0 of 1 1, repaired",
        "b0 a0 of 1 1",
        "b0 of 0 1",
        "b0 of 0 1, repaired",
        "b0 of 1 1",
    ]);
}

/// What a receiver did that may have died: it notes nothing that it has not done, and all that it has.
#[derive(Clone, Default)]
struct Deeds {
    taken: Vec<Got>,
    released: Vec<Got>,
}

/// A receiver that dies at its `step`-th step of so many receives.
fn mortal_receives(rx: &Consumer, step: u32, tries: usize) -> (bool, Deeds) {
    let deeds = std::cell::RefCell::new(Deeds::default());
    let ended = actor(Some(step), || {
        for _ in 0..tries {
            if let Some((held, got)) = try_take(rx) {
                deeds.borrow_mut().taken.push(got);
                rx.release(&held);
                deeds.borrow_mut().released.push(got);
            }
        }
    });
    (ended.is_none(), deeds.into_inner())
}

/// M6 to M8, G1, G2, E1, E2: a receiver dies at each step of two receives; one repairs, another goes on.
/// `given_back`: the first message has been in hand before.
fn a_receivers_death(name: &str, given_back: bool) -> Outcomes {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    sweep(name, 6, move |step| {
        let ring = ring();
        let (tx, rx, survivor) = (producer(&ring, A), consumer(&ring, C), consumer(&ring, D));
        let lock = Lock::held();
        assert_eq!(sends(&tx, A, 0, 2), 2);
        if given_back {
            survivor.give_back(&try_take(&survivor).expect("sent").0);
        }
        let mortal = thread::spawn({
            let lock = Arc::clone(&lock);
            move || {
                let deeds = mortal_receives(&rx, step, 2);
                lock.let_go();
                deeds
            }
        });
        let reaper = thread::spawn({
            let (ring, lock) = (ring.clone(), Arc::clone(&lock));
            move || lock.is_free().then(|| repair(&ring, |owner| owner == C, AT_LEAST_ONCE))
        });
        let survivor = thread::spawn(move || receives(&survivor, 2));
        let (died, deeds) = mortal.join().expect("ends");
        let repaired = reaper.join().expect("ends");
        let got = survivor.join().expect("ends");
        let early = if repaired.is_some() { "early" } else { "late" };
        let repaired = repaired.unwrap_or_else(|| repair(&ring, |owner| owner == C, AT_LEAST_ONCE));
        assert_in_order(&deeds.taken);
        assert_in_order(&got);
        noted.note(format!("{} | {} {early}", line(&deeds.released), line(&got)));
        let others = [got, rest(&ring)].concat();
        let open = deeds.taken.len() - deeds.released.len();
        assert_eq!((repaired.redelivered, repaired.lost), (open as u64, 0));
        for got in &others {
            let before = deeds.taken.iter().any(|taken| taken.position == got.position);
            let attempts = 1 + u32::from(before) + u32::from(given_back && got.n == 0);
            assert_eq!(got.attempts, attempts, "as often as it was in hand");
        }
        let all = [deeds.released, others].concat();
        assert_no_hole(&all);
        assert_all(&[(A, 2)], &all);
        died
    });
    outcomes
}

#[test]
fn a_dead_receivers_message_is_delivered_again_marked_and_no_other() {
    let outcomes = a_receivers_death("a receiver's death, at least once", false);
    outcomes.are(&[
        " | a0 a1 early",
        " | a0 a1 late",
        " | a0 a1! early",
        " | a0 early",
        " | a0 late",
        " | a0! a1 early",
        " | a1 a0! early",
        " | a1 early",
        " | a1 late",
        "a0 a1 |  early",
        "a0 a1 |  late",
        "a0 |  early",
        "a0 |  late",
        "a0 | a1 early",
        "a0 | a1 late",
        "a0 | a1! early",
        "a1 | a0 early",
        "a1 | a0 late",
    ]);
}

/// The same where one of the two messages was in somebody's hand before.
#[test]
fn a_message_that_meets_a_second_death_is_marked_once_more() {
    let outcomes = a_receivers_death("a receiver's second death with a message", true);
    outcomes.are(&[
        " | a0! a1 early",
        " | a0! a1 late",
        " | a0! a1! early",
        " | a0! early",
        " | a0! late",
        " | a1 a0! early",
        " | a1 early",
        " | a1 late",
        "a0! a1 |  early",
        "a0! a1 |  late",
        "a0! |  early",
        "a0! |  late",
        "a0! | a1 early",
        "a0! | a1 late",
        "a0! | a1! early",
        "a1 | a0! early",
        "a1 | a0! late",
    ]);
}

/// As above where a message is delivered at most once: what was in the dead one's hands is lost and counted.
#[test]
fn a_dead_receivers_message_is_lost_and_counted_where_that_is_asked_for() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    sweep("a receiver's death, at most once", 6, move |step| {
        let ring = ring();
        let (tx, rx) = (producer(&ring, A), consumer(&ring, C));
        let lock = Lock::held();
        assert_eq!(sends(&tx, A, 0, 2), 2);
        let mortal = thread::spawn({
            let lock = Arc::clone(&lock);
            move || {
                let deeds = mortal_receives(&rx, step, 2);
                lock.let_go();
                deeds
            }
        });
        let reaper = thread::spawn({
            let (ring, lock) = (ring.clone(), Arc::clone(&lock));
            move || {
                let counted = Counted(ring.clone());
                lock.is_free().then(|| repair(&ring, |owner| owner == C, Some(&counted)))
            }
        });
        let sender = thread::spawn(move || sends(&tx, A, 2, 1));
        let (died, deeds) = mortal.join().expect("ends");
        let repaired = reaper.join().expect("ends");
        let sent = sender.join().expect("ends");
        let early = if repaired.is_some() { "early" } else { "late" };
        let counted = Counted(ring.clone());
        let repaired =
            repaired.unwrap_or_else(|| repair(&ring, |owner| owner == C, Some(&counted)));
        noted.note(format!("{} of {sent} {early}", line(&deeds.released)));
        let open = (deeds.taken.len() - deeds.released.len()) as u64;
        assert_eq!((repaired.redelivered, repaired.lost, counted.count()), (0, open, open));
        let all = [deeds.taken, rest(&ring)].concat();
        assert_no_hole(&all);
        assert_all(&[(A, sent)], &all);
        died
    });
    outcomes.are(&[
        " of 2 early",
        " of 2 late",
        " of 3 early",
        "a0 a1 of 2 early",
        "a0 a1 of 2 late",
        "a0 a1 of 3 early",
        "a0 a1 of 3 late",
        "a0 of 2 early",
        "a0 of 2 late",
        "a0 of 3 early",
        "a0 of 3 late",
    ]);
}

/// G1 to G3, E1, E2: whoever repairs after a sender and a receiver dies at each step; another repairs again, while a sender
/// and a receiver go on.
#[test]
fn a_dead_repairers_work_is_done_again_and_nothing_stays_hidden() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    sweep("a repairer's death", 5, move |step| {
        let ring = ring();
        let (tx, rx) = (producer(&ring, B), consumer(&ring, D));
        // Both slots in the hands of the dead: nobody gets on before the repair.
        assert_eq!(sends(&tx, B, 0, 1), 1);
        assert!(try_take(&consumer(&ring, C)).is_some());
        let dead = producer(&ring, A);
        let claim = dead.try_claim(8).expect("room");
        ring.write_data(dead.payload(claim), &message(A, 0));
        assert_eq!((sends(&tx, B, 1, 1), tx.blocker()), (1, Some(C)));
        assert_eq!((receives(&rx, 1), rx.blocker()), (vec![], Some(A)));

        let lock = Lock::held();
        let fix = |ring: &Ring| repair(ring, |owner| owner == A || owner == C, AT_LEAST_ONCE);
        let mortal = thread::spawn({
            let (ring, lock) = (ring.clone(), Arc::clone(&lock));
            move || {
                let done = actor(Some(step), || fix(&ring));
                if done.is_some() {
                    lock.vacate();
                }
                lock.let_go();
                done.is_none()
            }
        });
        let receiver = thread::spawn({
            let (ring, lock) = (ring.clone(), Arc::clone(&lock));
            move || {
                let (mut got, mut again) = (Vec::new(), false);
                for _ in 0..3 {
                    match try_receive(&rx) {
                        Some(one) => got.push(one),
                        None if !again && lock.is_free() && !lock.is_vacant() => {
                            fix(&ring);
                            again = true;
                        }
                        None => {}
                    }
                }
                (got, again)
            }
        });
        let sender = thread::spawn(move || sends(&tx, B, 1, 1));
        let died = mortal.join().expect("ends");
        let (got, again) = receiver.join().expect("ends");
        let sent = sender.join().expect("ends");
        if died && !again {
            fix(&ring);
        }
        noted.note(format!("{} of {sent}{}", line(&got), if again { " again" } else { "" }));
        let got = [got, rest(&ring)].concat();
        assert_all(&[(B, sent)], &got);
        assert!(got.iter().all(|got| (got.attempts, got.position) == if got.n == 0 { (2, 0) } else { (1, 2) }), "{got:?}");
        died
    });
    outcomes.are(&[
        " of 1",
        " of 1 again",
        "b0! b1 of 2",
        "b0! of 1",
        "b0! of 1 again",
        "b0! of 2",
        "b0! of 2 again",
    ]);
}

/// G1 to G3 where a message is delivered at most once: it is counted once, whenever whoever counts it dies.
#[test]
fn a_message_that_is_lost_is_counted_once_whoever_dies_counting() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    sweep("a counter's death", 9, move |step| {
        let ring = ring();
        let tx = producer(&ring, A);
        assert_eq!(sends(&tx, A, 0, 2), 2);
        assert!(try_take(&consumer(&ring, C)).is_some());
        let lock = Lock::held();
        let fix = |ring: &Ring| {
            let counted = Counted(ring.clone());
            counted.resume(C);
            repair(ring, |owner| owner == C, Some(&counted));
        };
        let mortal = thread::spawn({
            let (ring, lock) = (ring.clone(), Arc::clone(&lock));
            move || {
                let done = actor(Some(step), || fix(&ring));
                lock.let_go();
                done.is_none()
            }
        });
        // Takes the slot as soon as it is free, so that it is not as the dead one left it.
        let sender = thread::spawn(move || sends(&tx, A, 2, 1));
        let heir = thread::spawn({
            let (ring, lock) = (ring.clone(), Arc::clone(&lock));
            move || {
                let free = lock.is_free();
                if free {
                    fix(&ring);
                }
                free
            }
        });
        let died = mortal.join().expect("ends");
        let sent = sender.join().expect("ends");
        let again = heir.join().expect("ends");
        if !again {
            fix(&ring);
        }
        assert_eq!(Counted(ring.clone()).count(), 1);
        noted.note(format!("{sent} {again}"));
        let got = rest(&ring);
        assert_eq!(line(&got), if sent == 3 { "a1 a2" } else { "a1" });
        died
    });
    outcomes.are(&["2 false", "2 true", "3 false", "3 true"]);
}

/// M8, E1 to E3: a message that is given back goes to somebody, marked, and is missed by nobody.
#[test]
fn a_message_that_is_given_back_is_received_once_more_by_whoever_finds_it() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    explore_wide("two receivers and one that gives back", 100, move || {
        let ring = ring();
        let tx = producer(&ring, A);
        assert_eq!(sends(&tx, A, 0, 2), 2);
        let giver = consumer(&ring, C);
        let giver = thread::spawn(move || {
            let (held, got) = try_take(&giver)?;
            giver.give_back(&held);
            Some(got)
        });
        let receivers = [D, D + 1].map(|me| {
            let rx = consumer(&ring, me);
            thread::spawn(move || receives(&rx, 2))
        });
        let given = giver.join().expect("ends");
        let got = receivers.map(|receiver| receiver.join().expect("ends"));
        got.iter().for_each(|got| assert_in_order(got));
        noted.note(format!("{} | {}", line(&got[0]), line(&got[1])));
        let got = [got.concat(), rest(&ring)].concat();
        assert_no_hole(&got);
        assert_all(&[(A, 2)], &got);
        for got in got {
            let before = given.is_some_and(|given| given.n == got.n);
            assert_eq!(got.attempts, 1 + u32::from(before));
        }
    });
    outcomes.are(&[
        " | a0",
        " | a0 a1",
        " | a0 a1!",
        " | a0! a1",
        " | a1",
        " | a1 a0!",
        "a0 a1 | ",
        "a0 a1! | ",
        "a0 | ",
        "a0 | a1",
        "a0 | a1!",
        "a0! a1 | ",
        "a0! | a1",
        "a1 a0! | ",
        "a1 | ",
        "a1 | a0",
        "a1 | a0!",
        "a1! | a0",
    ]);
}

/// M4, M9: a claim that is given up in the middle is stepped over, and whoever waits for its slot a lap later gets it.
#[test]
fn a_claim_that_is_given_up_is_stepped_over_and_makes_room() {
    let outcomes = Outcomes::default();
    let noted = outcomes.clone();
    explore("an abort between two messages", 100, move || {
        let ring = ring();
        let (tx, other, rx) = (producer(&ring, A), producer(&ring, B), consumer(&ring, C));
        let aborter = thread::spawn(move || {
            if let Ok(claim) = tx.try_claim(8) {
                tx.view().write_data(tx.payload(claim), &[7; 8]);
                tx.abort(claim);
            }
            sends(&tx, A, 0, 1)
        });
        let receiver = thread::spawn(move || (receives(&rx, 2), rx.skipped()));
        let sender = thread::spawn(move || sends(&other, B, 0, 2));
        let a = aborter.join().expect("ends");
        let (got, skipped) = receiver.join().expect("ends");
        let b = sender.join().expect("ends");
        assert_in_order(&got);
        noted.note(format!("{} of {a} {b}, {skipped}", line(&got)));
        let got = [got, rest(&ring)].concat();
        assert_all(&[(A, a), (B, b)], &got);
    });
    outcomes.are(&[
        " of 0 1, 0",
        " of 0 1, 1",
        " of 0 2, 0",
        " of 0 2, 1",
        " of 1 0, 0",
        " of 1 0, 1",
        " of 1 1, 1",
        "a0 b0 of 1 1, 1",
        "a0 b0 of 1 2, 1",
        "a0 of 1 0, 1",
        "a0 of 1 1, 1",
        "a0 of 1 2, 1",
        "b0 a0 of 1 1, 1",
        "b0 a0 of 1 2, 1",
        "b0 b1 of 0 2, 0",
        "b0 b1 of 0 2, 1",
        "b0 b1 of 1 2, 0",
        "b0 of 0 1, 0",
        "b0 of 0 1, 1",
        "b0 of 0 2, 0",
        "b0 of 0 2, 1",
        "b0 of 1 1, 0",
        "b0 of 1 1, 1",
        "b0 of 1 2, 0",
        "b0 of 1 2, 1",
    ]);
}
