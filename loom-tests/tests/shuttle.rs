//! Four senders and four receivers, which loom cannot have: schedules at random instead of all of them (README.md).
//!
//! On a channel they come and go in order, by every verb; in the memory of a ring they die at any step and others repair.
//! A sleep of the model has no slices, so a lost wake-up is a deadlock, which shuttle reports. Knows nothing of weak memory:
//! every access is sequentially consistent here.
#![cfg(shuttle)]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::sync::Arc;

use quoit::model::control::SeatWord;
use quoit::model::geometry::{Geometry, Slots};
use quoit::model::view::View;
use quoit::model::{self, Ordering, Refused, actor, mpmc as slots, spsc as bytes};
use quoit::mpmc::{self, Message, Receiver, Sender};
use quoit::{Options, Wait, spsc};
use quoit_loom_tests::{Outcomes, below, face, sample};
use shuttle::sync::atomic::AtomicU32;
use shuttle::thread;

/// Senders, and receivers.
const SIDE: usize = 4;

/// Messages of each sender on a channel.
const EACH: u8 = 3;

/// A message in somebody's hands.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    from: u8,
    n: u8,
    position: u64,
    attempts: u32,
    released: bool,
}

/// The `n`-th message of a sender.
fn message(from: u8, n: u8) -> [u8; 8] {
    [from, n, !from, !n, from, n, !from, !n]
}

/// What a message says, which must be whole.
fn parse(bytes: &[u8], position: u64, attempts: u32) -> Sighting {
    assert_eq!(bytes, message(bytes[0], bytes[1]), "torn");
    Sighting { from: bytes[0], n: bytes[1], position, attempts, released: false }
}

/// What a receiver had not been handed before came by position, and of each sender in the order in which it was sent.
fn assert_in_order(seen: &[Sighting]) {
    let new: Vec<_> = seen.iter().filter(|one| one.attempts == 1).collect();
    assert!(new.is_sorted_by(|a, b| a.position < b.position), "{seen:?}");
    for from in 0..=u8::MAX {
        let of = new.iter().filter(|one| one.from == from).map(|one| one.n);
        assert!(of.is_sorted_by(|a, b| a < b), "of {from}: {seen:?}");
    }
}

/// All that was seen, by sender and number.
fn by_message(all: &[Sighting]) -> BTreeMap<(u8, u8), Vec<Sighting>> {
    let mut by: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for one in all {
        by.entry((one.from, one.n)).or_default().push(*one);
    }
    by.values_mut().for_each(|of| of.sort_by_key(|one| one.attempts));
    by
}

/// Each message stands in one place, alone; of one sender they stand in the order in which they were sent; and whoever had
/// one that came again had not released it, and it was marked.
fn assert_consistent(by: &BTreeMap<(u8, u8), Vec<Sighting>>) {
    let mut places = BTreeMap::new();
    let mut last: Option<((u8, u8), u64)> = None;
    for (&id, of) in by {
        assert!(of.iter().all(|one| one.position == of[0].position), "{of:?} moved");
        assert_eq!(places.insert(of[0].position, id), None, "{id:?} stands where another does");
        for pair in of.windows(2) {
            assert!(pair[0].attempts < pair[1].attempts, "came twice without a mark: {of:?}");
            assert!(!pair[0].released, "came again after its release: {of:?}");
        }
        if let Some((before, position)) = last.replace((id, of[0].position)) {
            assert!(before.0 != id.0 || position < of[0].position, "{id:?} before {before:?}");
        }
    }
}

/// What of an execution is worth knowing, so that none passes hollow.
fn note(seen: &Outcomes, what: &str) {
    seen.note(what);
}

fn any_wait() -> Wait {
    [Wait::Block, Wait::Adaptive, Wait::Spin][below(3)]
}

/// A channel, its senders and its receivers.
fn channel(capacity: usize) -> (Vec<Sender>, Vec<Receiver>) {
    // The lap wraps behind the first message.
    let options = Options::new().capacity(capacity).max_len(8).start_position(u64::MAX);
    let (tx, rx) = mpmc::channel(&options).expect("legal in a model");
    let txs = (0..SIDE).map(|_| tx.clone()).collect();
    (txs, (0..SIDE).map(|_| rx.clone()).collect())
}

/// Sends messages `next..` by some verb; answers how many.
fn send_somehow(tx: &mut Sender, me: u8, next: u8, seen: &Outcomes) -> u8 {
    match below(8) {
        0 | 1 => match tx.try_send(&message(me, next)) {
            Ok(()) => 1,
            Err(error) => {
                assert!(error.is_full(), "{error}");
                note(seen, "full");
                thread::yield_now();
                0
            }
        },
        2 => {
            let mut claim = tx.reserve(8).expect("the receivers stay");
            claim.write_at(0, &message(me, next)).expect("room");
            claim.commit().expect("usable");
            1
        }
        3 => {
            if let Ok(claim) = tx.try_reserve(8) {
                note(seen, "claim given up");
                drop(claim);
            }
            0
        }
        4 => {
            let rest: Vec<_> = (next..EACH).map(|n| message(me, n)).collect();
            let sent = tx.send_batch(&rest).expect("the receivers stay");
            assert_eq!(sent, rest.len());
            sent as u8
        }
        5 => {
            let rest: Vec<_> = (next..EACH).map(|n| message(me, n)).collect();
            match tx.try_send_batch(&rest) {
                Ok(sent) => {
                    if sent < rest.len() {
                        note(seen, "half a batch");
                    }
                    sent as u8
                }
                Err(error) => {
                    assert!(error.is_full(), "{error}");
                    0
                }
            }
        }
        _ => {
            tx.send(&message(me, next)).expect("the receivers stay");
            1
        }
    }
}

/// Writes down a message in hand, and ends it in one way or another.
fn end(message: Message<'_>, slots: usize, all: &mut Vec<Sighting>, seen: &Outcomes) {
    let slots = slots as u64;
    // The first message stands at the last position that there is, behind which the laps wrap.
    let order = message.position().wrapping_add(1) & ((slots << 48) - 1);
    let mut one = parse(&message.to_vec(), order, message.attempts());
    one.released = below(6) != 0;
    all.push(one);
    if one.released {
        drop(message);
    } else {
        note(seen, "given back");
        message.give_back();
    }
}

/// By every verb, until the end is told to each.
#[test]
fn what_four_send_four_receive_once_and_in_order_and_each_is_told_the_end() {
    let outcomes = Outcomes::default();
    let seen = outcomes.clone();
    sample("four and four on a channel, every verb", 12000, move || {
        let (txs, rxs) = channel(2 << below(2));
        let senders: Vec<_> = txs
            .into_iter()
            .enumerate()
            .map(|(me, mut tx)| {
                let seen = seen.clone();
                thread::spawn(move || {
                    tx.set_wait(any_wait());
                    let mut next = 0;
                    while next < EACH {
                        next += send_somehow(&mut tx, me as u8, next, &seen);
                    }
                })
            })
            .collect();
        let receivers: Vec<_> = rxs
            .into_iter()
            .map(|rx| {
                let seen = seen.clone();
                thread::spawn(move || {
                    rx.set_wait(any_wait());
                    let mut all = Vec::new();
                    let mut held = Vec::new();
                    loop {
                        let took = match below(4) {
                            0 => rx
                                .recv_batch(&mut held, 2)
                                .map(drop)
                                .map_err(|e| e.is_disconnected()),
                            1 => match rx.try_recv() {
                                Ok(message) => {
                                    held.push(message);
                                    Ok(())
                                }
                                Err(error) if error.is_empty() => {
                                    note(&seen, "empty");
                                    thread::yield_now();
                                    Ok(())
                                }
                                Err(error) => Err(error.is_disconnected()),
                            },
                            _ => {
                                rx.recv().map(|one| held.push(one)).map_err(|e| e.is_disconnected())
                            }
                        };
                        held.drain(..)
                            .for_each(|message| end(message, rx.capacity(), &mut all, &seen));
                        if let Err(ended) = took {
                            assert!(ended, "only by the end");
                            break;
                        }
                    }
                    assert!(rx.try_recv().expect_err("the end stays").is_disconnected());
                    all
                })
            })
            .collect();
        senders.into_iter().for_each(|sender| sender.join().expect("ends"));
        let all: Vec<_> = receivers.into_iter().map(|rx| rx.join().expect("ends")).collect();
        all.iter().for_each(|one| assert_in_order(one));
        let most = all.iter().map(|one| one.iter().filter(|one| one.released).count()).max();
        if most < Some(SIDE * EACH as usize / 2) {
            note(&seen, "shared");
        }
        let by = by_message(&all.concat());
        assert_consistent(&by);
        let ids = (0..SIDE as u8).flat_map(|from| (0..EACH).map(move |n| (from, n)));
        assert!(by.keys().copied().eq(ids), "{by:?}");
        for of in by.values() {
            assert!(of.last().is_some_and(|last| last.released), "lost: {of:?}");
            assert!(of.iter().map(|one| one.attempts).eq(1..=of.len() as u32), "{of:?}");
        }
    });
    let wanted = ["claim given up", "empty", "full", "given back", "half a batch", "shared"];
    assert_eq!(outcomes.seen(), wanted);
}

/// Nobody leaves before everybody is done, so nobody is woken by that: who sleeps is woken by what they sleep for.
#[test]
fn of_four_and_four_whoever_sleeps_is_woken_though_nobody_leaves() {
    let outcomes = Outcomes::default();
    let seen = outcomes.clone();
    sample("four and four asleep on a channel", 12000, move || {
        // The fewer there are, the less a wake-up that was lost is made good by the next.
        let (each, (txs, rxs)) = (1 + below(EACH.into()), channel(2));
        // Takes one, if there is one, gives it back, and wants no more.
        let giver = thread::spawn({
            let (rx, seen) = (rxs[0].clone(), seen.clone());
            move || {
                let given = rx.try_recv().map(Message::give_back);
                note(&seen, if given.is_ok() { "given back" } else { "empty" });
                rx
            }
        });
        let senders: Vec<_> = txs
            .into_iter()
            .enumerate()
            .map(|(me, mut tx)| {
                let seen = seen.clone();
                thread::spawn(move || {
                    tx.set_wait(Wait::Block);
                    for n in 0..each as u8 {
                        if below(4) == 0 {
                            drop(tx.reserve(8).expect("the receivers stay"));
                            note(&seen, "claim given up");
                        }
                        if below(2) == 0 {
                            let mut claim = tx.reserve(8).expect("the receivers stay");
                            claim.write_at(0, &message(me as u8, n)).expect("room");
                            thread::yield_now();
                            claim.commit().expect("usable");
                        } else {
                            tx.send(&message(me as u8, n)).expect("the receivers stay");
                        }
                    }
                    tx
                })
            })
            .collect();
        // As many as there are, in uneven shares.
        let shares = [below(2 * each + 1), below(2 * each + 1)];
        let receivers: Vec<_> = rxs
            .into_iter()
            .zip(shares.into_iter().flat_map(|share| [share, 2 * each - share]))
            .map(|(rx, share)| {
                let seen = seen.clone();
                thread::spawn(move || {
                    rx.set_wait(Wait::Block);
                    let mut all = Vec::new();
                    let mut held = Vec::new();
                    loop {
                        let released = |one: &&Sighting| one.released;
                        let wanted = share - all.iter().filter(released).count();
                        if wanted == 0 {
                            break;
                        }
                        let some = 1 + below(wanted.min(2));
                        rx.recv_batch(&mut held, some).expect("the senders stay");
                        // The later one first.
                        for message in held.drain(..).rev() {
                            end(message, rx.capacity(), &mut all, &seen);
                        }
                    }
                    drop(held);
                    all.sort_by_key(|one| (one.attempts, one.position));
                    (all, rx)
                })
            })
            .collect();
        let kept: Vec<_> = senders.into_iter().map(|sender| sender.join().expect("ends")).collect();
        let (all, rxs): (Vec<_>, Vec<_>) =
            receivers.into_iter().map(|rx| rx.join().expect("ends")).unzip();
        all.iter().for_each(|one| assert_in_order(one));
        let by = by_message(&all.concat());
        assert_consistent(&by);
        assert_eq!(by.len(), SIDE * each);
        assert!(rxs[0].try_recv().expect_err("all was received").is_empty());
        drop((kept, giver.join().expect("ends")));
    });
    assert_eq!(outcomes.seen(), ["claim given up", "empty", "given back"]);
}

// ----------------------------------------------------------------------------------------------------------------------
// Deaths, in the memory of a ring of slots.

/// A seat: somebody sits there and is alive, or is dead and has not been found, or is being repaired after; or nobody does.
const HERE: u32 = 0;
const DEAD: u32 = 1;
const REPAIRED: u32 = 2;
const FREE: u32 = 3;

/// Seats 0 to 3 are the senders', 4 to 7 the receivers'.
const SEATS: usize = 2 * SIDE;

type Ring = View<Slots>;

/// A ring and the locks of its seats, which order as the kernel's do: no holder of one is found free before it is dead.
#[derive(Clone)]
struct Hall {
    ring: Ring,
    seats: Arc<[AtomicU32; SEATS]>,
    at_most_once: bool,
}

/// What was lost with receivers, counted as the table of seats does it.
struct Counted(Ring);

impl slots::Losses for Counted {
    fn about_to_lose(&self, owner: u32, position: u64) {
        let next = self.get(owner, SeatWord::LOST) + 1;
        self.set(owner, SeatWord::LOST_AT, position);
        self.set(owner, SeatWord::LOST_NEXT, next);
    }

    fn lost(&self, owner: u32) {
        let next = self.get(owner, SeatWord::LOST_NEXT);
        self.set(owner, SeatWord::LOST, next);
        self.set(owner, SeatWord::LOST_NEXT, 0);
    }
}

impl Counted {
    fn get(&self, seat: u32, word: SeatWord) -> u64 {
        self.0.seat(seat, word).load(Ordering::SeqCst)
    }

    fn set(&self, seat: u32, word: SeatWord, value: u64) {
        self.0.seat(seat, word).store(value, Ordering::SeqCst);
    }

    /// Finishes what a repairer that died had begun to count.
    fn resume(&self, seat: u32) {
        let at = self.get(seat, SeatWord::LOST_AT);
        if self.get(seat, SeatWord::LOST_NEXT) != 0 && !slots::is_in_hand(&self.0, seat, at) {
            slots::Losses::lost(self, seat);
        }
    }
}

impl Hall {
    fn new(slots: u64, at_most_once: bool) -> Hall {
        let shape = Slots::new(slots, 8, SEATS as u32).expect("legal");
        // The lap wraps in the middle.
        let start = shape.position(shape.lap_mask(), slots - 1);
        let seats = Arc::new(std::array::from_fn(|_| AtomicU32::new(FREE)));
        Hall { ring: model::slots(shape, start), seats, at_most_once }
    }

    fn change(&self, seat: u32, from: u32, to: u32) -> bool {
        use Ordering::SeqCst;
        self.seats[seat as usize].compare_exchange(from, to, SeqCst, SeqCst).is_ok()
    }

    fn set(&self, seat: u32, to: u32) {
        self.seats[seat as usize].store(to, Ordering::SeqCst);
    }

    /// Gives back what the dead of `suspects` had claimed, and frees their seats; whoever does so may die over it.
    fn repair(&self, suspects: std::ops::Range<u32>, locks: &RefCell<Vec<u32>>, seen: &Outcomes) {
        for seat in suspects {
            if self.change(seat, DEAD, REPAIRED) {
                locks.borrow_mut().push(seat);
            }
        }
        let mine = locks.borrow().clone();
        if mine.is_empty() {
            return;
        }
        let counted = Counted(self.ring.clone());
        if self.at_most_once {
            mine.iter().for_each(|&seat| counted.resume(seat));
        }
        let losses = self.at_most_once.then_some(&counted);
        let done = slots::repair(&self.ring, |owner| mine.contains(&owner), losses);
        for (count, what) in [
            (done.skipped, "a dead one's claim given up"),
            (done.redelivered, "a dead one's message put aside"),
            (done.lost, "a dead one's message lost"),
        ] {
            if count != 0 {
                note(seen, what);
            }
        }
        for seat in mine {
            self.set(seat, FREE);
        }
        locks.borrow_mut().clear();
    }

    /// Lives so many lives in a seat, each but the last perhaps to its end: dies at some step, and comes back.
    fn live(&self, seat: u32, lives: u32, seen: &Outcomes, mut work: impl FnMut(&dyn Fn(u32))) {
        for life in 0..lives {
            let (locks, sits) = (RefCell::new(Vec::new()), Cell::new(false));
            let steps = (life + 1 < lives).then(|| below(45) as u32);
            let ended = actor(steps, || {
                self.repair(0..SEATS as u32, &locks, seen);
                while !self.change(seat, FREE, HERE) {
                    self.repair(seat..seat + 1, &locks, seen);
                    thread::yield_now();
                }
                sits.set(true);
                work(&|blocker| self.repair(blocker..blocker + 1, &locks, seen));
            });
            // The kernel frees what a dead one had locked, in any order.
            for &lock in locks.borrow().iter() {
                note(seen, "a repairer died");
                self.set(lock, DEAD);
            }
            if sits.get() {
                self.set(seat, if ended.is_some() { FREE } else { DEAD });
            }
        }
    }
}

/// Messages that a sender was told of as sent, over all its lives.
fn mortal_sender(hall: &Hall, me: u32, lives: u32, seen: &Outcomes) -> u8 {
    let next = Cell::new(0);
    hall.live(me, lives, seen, |repair| {
        let tx = slots::Producer::attach(hall.ring.clone(), me).expect("sound");
        for _ in 0..3 {
            if let Some(Ok(claim)) = (below(5) == 0).then(|| tx.try_claim(8)) {
                tx.view().write_data(tx.payload(claim), &[0xee; 8]);
                tx.abort(claim);
            }
            match tx.try_send(&message(me as u8, next.get())) {
                Ok(()) => next.set(next.get() + 1),
                Err(Refused::Full) => {
                    note(seen, "full");
                    tx.blocker().into_iter().for_each(repair);
                    thread::yield_now();
                }
                Err(refused) => panic!("{refused:?}"),
            }
        }
    });
    next.get()
}

/// Takes a message, if there is one.
fn take(rx: &slots::Consumer) -> Option<(slots::Held, Sighting)> {
    let held = rx.try_take().expect("sound")?;
    let mut bytes = [MaybeUninit::uninit(); 8];
    let start = {
        let shape = rx.view().ring();
        shape.position(shape.lap_mask(), shape.slots() - 1)
    };
    let position = rx.view().ring().canonical(rx.position(&held).wrapping_sub(start));
    let one = parse(rx.read(&held, &mut bytes), position, held.attempts());
    Some((held, one))
}

/// What a receiver had in hand, one list for each of its lives.
fn mortal_receiver(hall: &Hall, me: u32, lives: u32, seen: &Outcomes) -> Vec<Vec<Sighting>> {
    let all = RefCell::new(Vec::new());
    hall.live(me, lives, seen, |repair| {
        all.borrow_mut().push(Vec::new());
        let note_down = |one| all.borrow_mut().last_mut().expect("this life's").push(one);
        let rx = slots::Consumer::attach(hall.ring.clone(), me).expect("sound");
        for _ in 0..5 {
            match take(&rx) {
                Some((held, one)) => {
                    note_down(one);
                    if below(6) == 0 {
                        rx.give_back(&held);
                        note(seen, "given back");
                    } else {
                        rx.release(&held);
                        let mut all = all.borrow_mut();
                        let last = all.last_mut().and_then(|life| life.last_mut());
                        last.expect("just noted").released = true;
                    }
                }
                None => {
                    note(seen, "empty");
                    rx.blocker().into_iter().for_each(repair);
                    thread::yield_now();
                }
            }
        }
    });
    all.into_inner()
}

fn many_die(name: &str, iterations: usize, at_most_once: bool) -> Outcomes {
    let outcomes = Outcomes::default();
    let seen = outcomes.clone();
    sample(name, iterations, move || {
        let hall = Hall::new(2 << below(2), at_most_once);
        let senders: Vec<_> = (0..SIDE as u32)
            .map(|me| {
                let (hall, seen) = (hall.clone(), seen.clone());
                thread::spawn(move || mortal_sender(&hall, me, 1 + below(2) as u32, &seen))
            })
            .collect();
        let receivers: Vec<_> = (SIDE as u32..SEATS as u32)
            .map(|me| {
                let (hall, seen) = (hall.clone(), seen.clone());
                thread::spawn(move || mortal_receiver(&hall, me, 1 + below(2) as u32, &seen))
            })
            .collect();
        let sent: Vec<u8> = senders.into_iter().map(|tx| tx.join().expect("ends")).collect();
        let mut lives: Vec<Vec<Sighting>> =
            receivers.into_iter().flat_map(|rx| rx.join().expect("ends")).collect();

        // Whoever comes when all is over finds the rest, and then room for as many as there are slots.
        hall.repair(0..SEATS as u32, &RefCell::default(), &seen);
        let rx = slots::Consumer::attach(hall.ring.clone(), SIDE as u32).expect("sound");
        let rest = std::iter::from_fn(|| {
            let (held, one) = take(&rx)?;
            rx.release(&held);
            Some(Sighting { released: true, ..one })
        });
        lives.push(rest.collect());
        assert_eq!((rx.has_message(), slots::waiting(&hall.ring)), (Ok(false), 0));
        let tx = slots::Producer::attach(hall.ring.clone(), 0).expect("sound");
        let room = std::iter::from_fn(|| tx.try_send(&[0; 8]).ok()).count() as u64;
        assert_eq!((room, tx.blocker()), (hall.ring.ring().slots(), None));

        lives.iter().for_each(|life| assert_in_order(life));
        let by = by_message(&lives.concat());
        assert_consistent(&by);
        let accepted: usize = sent.iter().map(|&sent| usize::from(sent)).sum();
        for &(from, n) in by.keys() {
            assert!(n < sent[usize::from(from)], "{n} of {from}, whose send had not returned");
        }
        let released = by.values().filter(|of| of.last().is_some_and(|last| last.released)).count();
        let counted = Counted(hall.ring.clone());
        let lost: u64 = (0..SEATS as u32).map(|seat| counted.get(seat, SeatWord::LOST)).sum();
        assert_eq!(released + lost as usize, accepted, "{lost} lost: {by:?}");
    });
    outcomes
}

/// D1 to D9, X1 to X4 of docs/crash-safety.md, several of them in one execution.
#[test]
fn of_four_and_four_who_die_and_come_back_every_message_is_received_once_or_marked() {
    let seen = many_die("four and four who die, at least once", 16000, false);
    let wanted = [
        "a dead one's claim given up",
        "a dead one's message put aside",
        "a repairer died",
        "empty",
        "full",
        "given back",
    ];
    assert_eq!(seen.seen(), wanted);
}

/// The same where a message is delivered at most once: what is lost is counted, exactly, X5.
#[test]
fn of_four_and_four_who_die_and_come_back_every_message_is_received_or_counted_lost() {
    let seen = many_die("four and four who die, at most once", 16000, true);
    let wanted = [
        "a dead one's claim given up",
        "a dead one's message lost",
        "a repairer died",
        "empty",
        "full",
        "given back",
    ];
    assert_eq!(seen.seen(), wanted);
}

// ----------------------------------------------------------------------------------------------------------------------
// The ring of bytes.

/// The payload of a message of the ring of bytes: a line, two lines, or more than two.
fn payload(n: u8) -> Vec<u8> {
    let len = [8, 60, 12, 100][usize::from(n) % 4];
    (0..len).map(|at| if at == 0 { n } else { n ^ at }).collect()
}

/// By every verb, over pads and wraps, until the end is told.
#[test]
fn what_one_sends_another_receives_in_order_and_is_told_the_end() {
    let outcomes = Outcomes::default();
    let seen = outcomes.clone();
    sample("one and one on a channel, every verb", 16000, move || {
        const MESSAGES: u8 = 8;
        let options = Options::new().capacity(256).start_position(0u64.wrapping_sub(128));
        let (mut tx, mut rx) = spsc::channel(&options).expect("legal in a model");
        let sender = thread::spawn({
            let seen = seen.clone();
            move || {
                tx.set_wait(any_wait());
                let mut next = 0;
                while next < MESSAGES {
                    let bytes = payload(next);
                    next += match below(6) {
                        0 => u8::from(
                            tx.try_send(&bytes).inspect_err(|_| note(&seen, "full")).is_ok(),
                        ),
                        1 => {
                            let mut claim =
                                tx.reserve(bytes.len() + 4).expect("the receiver stays");
                            claim.write_at(0, &bytes).expect("room");
                            claim.commit_len(bytes.len()).expect("usable");
                            1
                        }
                        2 => {
                            let mut claim = tx.reserve(90).expect("the receiver stays");
                            claim.write_at(0, &[0xee; 90]).expect("room");
                            note(&seen, "claim given up");
                            0
                        }
                        3 => {
                            let batch: Vec<_> =
                                (next..MESSAGES.min(next + 3)).map(payload).collect();
                            tx.send_batch(&batch).expect("the receiver stays") as u8
                        }
                        _ => {
                            tx.send(&bytes).expect("the receiver stays");
                            1
                        }
                    };
                    thread::yield_now();
                }
            }
        });
        let receiver = thread::spawn({
            let seen = seen.clone();
            move || {
                rx.set_wait(any_wait());
                let (mut next, mut attempts) = (0, 1);
                loop {
                    let got = match below(3) {
                        0 => match rx.try_recv() {
                            Ok(message) => message,
                            Err(error) if error.is_empty() => {
                                note(&seen, "empty");
                                thread::yield_now();
                                continue;
                            }
                            Err(_) => break,
                        },
                        _ => match rx.recv() {
                            Ok(message) => message,
                            Err(_) => break,
                        },
                    };
                    assert_eq!((got.to_vec(), got.attempts()), (payload(next), attempts));
                    if below(5) == 0 {
                        note(&seen, "given back");
                        got.give_back();
                        attempts += 1;
                    } else {
                        drop(got);
                        (next, attempts) = (next + 1, 1);
                    }
                }
                assert_eq!(next, MESSAGES);
                assert!(rx.recv().expect_err("the end stays").is_disconnected());
            }
        });
        sender.join().expect("ends");
        receiver.join().expect("ends");
    });
    assert_eq!(outcomes.seen(), ["claim given up", "empty", "full", "given back"]);
}

/// How far a message came with a receiver of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    InHand,
    Releasing,
    Released,
}

/// C1 to C7 of docs/crash-safety.md: both ends die again and again, at any step; the next one goes on.
#[test]
fn of_one_and_one_who_die_and_come_back_every_message_is_received_once_or_marked() {
    let outcomes = Outcomes::default();
    let seen = outcomes.clone();
    sample("one and one who die", 16000, move || {
        const MESSAGES: u8 = 10;
        const LIVES: u32 = 4;
        let start = 0u64.wrapping_sub(192);
        let view = model::heap(Geometry::new(256).expect("legal"), start);
        let over = Arc::new(AtomicU32::new(0));
        let sender = thread::spawn({
            let (view, over, seen) = (view.clone(), Arc::clone(&over), seen.clone());
            move || {
                // Whether the call that sent a message had returned, in order.
                let (sent, next) = (RefCell::new(Vec::new()), Cell::new(0));
                for life in 0..LIVES {
                    let steps = (life + 1 < LIVES).then(|| below(40) as u32);
                    let ended = actor(steps, || {
                        let mut tx = bytes::Producer::attach(view.clone()).expect("sound");
                        while next.get() < MESSAGES {
                            let n = next.get();
                            match tx.try_send(&payload(n)) {
                                Ok(()) => {
                                    sent.borrow_mut().push((n, true));
                                    next.set(n + 1);
                                }
                                Err(Refused::Full) => {
                                    note(&seen, "full");
                                    thread::yield_now();
                                }
                                Err(refused) => panic!("{refused:?}"),
                            }
                        }
                    });
                    if ended.is_none() {
                        note(&seen, "the sender died");
                        if next.get() < MESSAGES {
                            sent.borrow_mut().push((next.get(), false));
                            next.set(next.get() + 1);
                        }
                    }
                }
                over.store(1, Ordering::SeqCst);
                sent.into_inner()
            }
        });
        let receiver = thread::spawn({
            let seen = seen.clone();
            move || {
                // Number, attempts, and how far it came.
                let all: RefCell<Vec<(u8, u32, Came)>> = RefCell::default();
                for life in 0..LIVES {
                    let steps = (life + 1 < LIVES).then(|| below(60) as u32);
                    let ended = actor(steps, || {
                        let mut rx = bytes::Consumer::attach(view.clone(), false).expect("sound");
                        loop {
                            let over = over.load(Ordering::SeqCst) != 0;
                            if !face::take(&mut rx, 0).expect("sound") {
                                if over {
                                    break;
                                }
                                thread::yield_now();
                                continue;
                            }
                            let mut to = vec![MaybeUninit::uninit(); rx.len()];
                            let got = rx.read(&mut to).to_vec();
                            assert_eq!(got, payload(got[0]), "torn");
                            all.borrow_mut().push((got[0], rx.attempts(), Came::InHand));
                            let came =
                                |how| all.borrow_mut().last_mut().expect("just noted").2 = how;
                            if below(6) == 0 {
                                rx.give_back();
                            } else {
                                came(Came::Releasing);
                                face::release(&mut rx);
                                came(Came::Released);
                            }
                        }
                    });
                    if ended.is_none() {
                        note(&seen, "the receiver died");
                    }
                }
                all.into_inner()
            }
        });
        let sent = sender.join().expect("ends");
        let got = receiver.join().expect("ends");
        for pair in got.windows(2) {
            let ((n, attempts, came), (next, again, _)) = (pair[0], pair[1]);
            assert!(n <= next, "{n} before {next}: {got:?}");
            if n == next {
                assert!(again > 1, "{n} came twice without a mark: {got:?}");
                // A death in the middle of a release may cost some of the count (docs/crash-safety.md).
                let counted = came == Came::Releasing || attempts < again;
                assert!(came != Came::Released && counted, "{n}: {got:?}");
                note(&seen, "came again");
            }
        }
        let mut numbers: Vec<u8> = got.iter().map(|got| got.0).collect();
        numbers.dedup();
        for (n, returned) in sent {
            let came = numbers.binary_search(&n).is_ok();
            assert!(came || !returned, "{n} was lost: {got:?}");
            if !returned {
                note(&seen, if came { "in doubt and sent" } else { "in doubt and not sent" });
            }
        }
        assert!(numbers.len() <= usize::from(MESSAGES));
    });
    let wanted = [
        "came again",
        "full",
        "in doubt and not sent",
        "in doubt and sent",
        "the receiver died",
        "the sender died",
    ];
    assert_eq!(outcomes.seen(), wanted);
}
