//! What a ring of slots looks like: its table of seats, its slots, and what they say together.
//!
//! Knows where seats and slots lie and what their bits mean. Decides nothing. Each word is read once, and none is believed:
//! whatever it holds, the answer is only wrong.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use super::{SeatInfo, Seen, Words};
use crate::layout::control::{self, SeatWord};
use crate::layout::geometry::{SEAT_LEN, Slots};
use crate::layout::header::DATA_OFF;
use crate::layout::slot::{State, Word};
use crate::os::{lock, process};
use crate::roster::{Presence, Role};
use crate::seats::{self, Entry};

/// One seat of a ring of slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seated {
    /// Its number.
    pub seat: u32,
    /// `"sender"` or `"receiver"`: what somebody is here, or was who died and whom nobody has found yet. `None` after it was
    /// let go of.
    pub role: Option<&'static str>,
    /// Whether somebody is there. Whoever repairs what a dead one left counts as there meanwhile.
    pub presence: Presence,
    /// The process that is or was there last, as it numbers itself. 0: unknown.
    pub pid: u32,
    /// How many have come.
    pub arrivals: u64,
    /// Whether that process is stopped, by a signal or a debugger. Only for the eye: the number of a process of another
    /// container may be somebody else's here.
    pub stopped: bool,
    /// Slots that it has claimed to write to.
    pub writing: u64,
    /// Messages that it has in hand.
    pub reading: u64,
    /// Messages sent from here, by all who were.
    pub sent: u64,
    /// Messages received and released.
    pub received: u64,
    /// Messages received that had been handed out before.
    pub redelivered: u64,
    /// Claims without a message that were stepped over.
    pub skipped: u64,
    /// Messages that were lost with those who had them in hand here.
    pub lost: u64,
    /// How often somebody here found the ring full and waited.
    pub full_waits: u64,
    /// How often somebody here found it empty and waited.
    pub empty_waits: u64,
    /// How often somebody here woke another.
    pub wakes: u64,
}

impl Seated {
    /// To whom its wakes are counted, which the seat keeps in one sum: what sits there, else what it did more of.
    fn is_more_of(&self, role: Role) -> bool {
        let sends = self.role.map_or(self.sent > self.received, |is| is == Role::Sender.name());
        sends == (role == Role::Sender)
    }
}

/// Looks at the table and at every slot.
pub(super) fn look(words: &Words, file: &File, ring: Slots) -> io::Result<Seen> {
    // The slots first: a claim is then of somebody who has not come later.
    let slots = Claims::look(words, ring);
    let used = words.load(control::SEATS_USED).min(u64::from(ring.seats())) as u32;
    let mut table = Vec::new();
    for seat in 0..used {
        table.extend(seated(words, file, seat, &slots)?);
    }
    let sum = |of: fn(&Seated) -> u64| table.iter().map(of).fold(0, u64::saturating_add);
    Ok(Seen {
        used: slots.used,
        tail: slots.tail.unwrap_or_else(|| words.load(control::TAIL)),
        head: slots.head.unwrap_or_else(|| words.load(control::HEAD)),
        acked: slots.acked.unwrap_or_else(|| words.load(control::HEAD)),
        sender: end(words, &table, Role::Sender),
        receiver: end(words, &table, Role::Receiver),
        lost: sum(|seat| seat.lost),
        redelivered: sum(|seat| seat.redelivered),
        seats: table,
    })
}

/// What the slots say.
#[derive(Default)]
struct Claims {
    used: u64,
    /// The first position that no sender has claimed, that no receiver has taken, and that none has released.
    tail: Option<u64>,
    head: Option<u64>,
    acked: Option<u64>,
    /// How many are claimed by each seat.
    writing: Vec<u64>,
    reading: Vec<u64>,
}

impl Claims {
    fn look(words: &Words, ring: Slots) -> Claims {
        let none = vec![0; ring.seats() as usize];
        let mut claims = Claims { writing: none.clone(), reading: none, ..Claims::default() };
        for index in 0..ring.slots() {
            let at = DATA_OFF + ring.table() + index * ring.stride();
            claims.count(ring, index, Word(words.at(at as usize)));
        }
        claims
    }

    fn count(&mut self, ring: Slots, index: u64, word: Word) {
        let state = word.state().filter(|_| word.lap() <= ring.lap_mask());
        self.used += u64::from(state != Some(State::Empty));
        // What nobody can have written says nothing of where the ring stands.
        let Some(state) = state else { return };
        let owner = word.owner() as usize;
        let taken = matches!(state, State::Reading | State::Redeliver);
        match state {
            State::Writing => self.writing.get_mut(owner).into_iter().for_each(|of| *of += 1),
            State::Reading => self.reading.get_mut(owner).into_iter().for_each(|of| *of += 1),
            _ => {}
        }
        let next = |done: bool| {
            let position = ring.position(word.lap(), index);
            ring.canonical(if done { position.wrapping_add(ring.slots()) } else { position })
        };
        earliest(ring, &mut self.tail, next(state != State::Empty));
        earliest(ring, &mut self.head, next(taken));
        earliest(ring, &mut self.acked, next(false));
    }
}

/// Keeps the earlier of two positions.
fn earliest(ring: Slots, so_far: &mut Option<u64>, position: u64) {
    if so_far.is_none_or(|so_far| ring.ahead(position, so_far) < 0) {
        *so_far = Some(position);
    }
}

/// One seat, if it was ever taken.
fn seated(words: &Words, file: &File, seat: u32, slots: &Claims) -> io::Result<Option<Seated>> {
    let word =
        |word: SeatWord| words.at((DATA_OFF + u64::from(seat) * SEAT_LEN) as usize + word.offset());
    let before = Entry::of(word(SeatWord::STATE));
    if before.presence(false) == Presence::Never {
        return Ok(None);
    }
    // As for the ends of a ring of bytes: the word, the lock, and the word again.
    let held = lock::is_held(file.as_fd(), seats::lock_byte(seat))?;
    let entry = if held { before } else { Entry::of(word(SeatWord::STATE)) };
    let presence = entry.presence(held);
    let pid = u32::try_from(word(SeatWord::PID)).unwrap_or(0);
    Ok(Some(Seated {
        seat,
        role: entry.here().map(Role::name),
        presence,
        pid,
        arrivals: entry.arrivals(),
        stopped: presence == Presence::Present && process::is_stopped(pid),
        writing: slots.writing[seat as usize],
        reading: slots.reading[seat as usize],
        sent: word(SeatWord::SENT),
        received: word(SeatWord::RECEIVED),
        redelivered: word(SeatWord::REDELIVERED),
        skipped: word(SeatWord::SKIPPED),
        lost: word(SeatWord::LOST),
        full_waits: word(SeatWord::FULL_WAITS),
        empty_waits: word(SeatWord::EMPTY_WAITS),
        wakes: word(SeatWord::WAKES),
    }))
}

/// All senders, or all receivers, as one.
fn end(words: &Words, table: &[Seated], role: Role) -> SeatInfo {
    let here = |how: Presence| {
        table.iter().filter(move |seat| seat.role == Some(role.name()) && seat.presence == how)
    };
    let arrivals = words.load(role.arrivals());
    let presence = if here(Presence::Present).next().is_some() {
        Presence::Present
    } else if here(Presence::Died).next().is_some() {
        Presence::Died
    } else if arrivals == 0 {
        Presence::Never
    } else if words.load(role.leaves()) == 0 {
        // Who was the last of several is not written anywhere.
        Presence::Died
    } else {
        Presence::Left
    };
    let mut present = here(Presence::Present);
    let pid = match (present.next(), present.next()) {
        (Some(only), None) => only.pid,
        _ => 0,
    };
    let sum = |of: fn(&Seated) -> u64| table.iter().map(of).fold(0, u64::saturating_add);
    let (messages, waits) = match role {
        Role::Sender => (sum(|seat| seat.sent), sum(|seat| seat.full_waits)),
        Role::Receiver => (sum(|seat| seat.received), sum(|seat| seat.empty_waits)),
    };
    let wakes = table.iter().filter(|seat| seat.is_more_of(role)).map(|seat| seat.wakes);
    SeatInfo {
        presence,
        pid,
        arrivals,
        deaths: words.load(role.deaths()),
        messages,
        bytes: 0,
        waits,
        wakes: wakes.fold(0, u64::saturating_add),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::{Endpoint, Kind};
    use crate::inspect::{Info, inspect};
    use crate::layout::view::View;
    use crate::options::{Delivery, Options};
    use crate::os::testing::{self, Child};
    use crate::region;
    use crate::ring::mpmc::{Consumer, Producer};
    use crate::sync::Ordering::Relaxed;
    use std::fs;
    use std::os::unix::fs::{FileExt, MetadataExt};

    fn create(name: &str, options: &Options) -> Endpoint {
        Endpoint::create(name, Kind::Mpmc, None, options).unwrap()
    }

    fn small() -> Options {
        Options::new().capacity(8).max_len(40)
    }

    fn put(ring: &Endpoint, at: usize, value: u64) {
        ring.mapping.file().write_all_at(&value.to_le_bytes(), at as u64).unwrap();
    }

    fn put_seat(ring: &Endpoint, seat: usize, word: usize, value: u64) {
        put(ring, 0x5000 + 128 * seat + word, value);
    }

    const SEATS_USED: usize = 0x4100;

    #[test]
    fn a_new_ring_of_slots_looks_as_it_was_asked_for() {
        let dir = testing::dir();
        for (at, start) in [0, 13, 0u64.wrapping_sub(5)].into_iter().enumerate() {
            let name = dir.name(&format!("ticks-{at}"));
            let options =
                small().keep_open(true).delivery(Delivery::AtMostOnce).start_position(start);
            let ring = create(&name, &options);
            let canonical = ring.header.slots().unwrap().canonical(start);
            let info = inspect(&name).unwrap();
            assert_eq!(info.kind, Kind::Mpmc);
            assert_eq!((info.capacity, info.max_len, info.used), (8, 40, 0));
            assert!(info.keep_open);
            assert_eq!(info.delivery, Delivery::AtMostOnce);
            assert_eq!(info.uuid, ring.header.uuid);
            assert_eq!([info.tail, info.head, info.acked], [canonical; 3]);
            assert_eq!(info.sender, SeatInfo::default());
            assert_eq!(info.receiver, SeatInfo::default());
            assert_eq!((info.lost, info.redelivered), (0, 0));
            assert_eq!(info.seats, []);
        }
    }

    #[test]
    fn every_word_of_a_seat_is_read_from_its_place() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        let ring = create(&name, &small());
        for seat in 0..4 {
            for word in (0..128).step_by(8) {
                put_seat(&ring, seat, word, (seat * 1000 + word) as u64);
            }
        }
        // Nobody has sat in 1, and 3 is beyond those that were used.
        put_seat(&ring, 0, 0, 7 << 3 | 3);
        put_seat(&ring, 1, 0, 9 << 3);
        put_seat(&ring, 2, 0, 5 << 3 | 2);
        put(&ring, SEATS_USED, 3);
        let seat = |number: u64, role, presence, arrivals| Seated {
            seat: number as u32,
            role,
            presence,
            pid: (number * 1000 + 8) as u32,
            arrivals,
            stopped: false,
            writing: 0,
            reading: 0,
            sent: number * 1000 + 64,
            received: number * 1000 + 72,
            redelivered: number * 1000 + 80,
            skipped: number * 1000 + 88,
            lost: number * 1000 + 96,
            full_waits: number * 1000 + 104,
            empty_waits: number * 1000 + 112,
            wakes: number * 1000 + 120,
        };
        let info = inspect(&name).unwrap();
        let first = seat(0, None, Presence::Left, 7);
        let last = seat(2, Some("receiver"), Presence::Died, 5);
        assert_eq!(info.seats, [first, last]);
        assert_eq!((info.lost, info.redelivered), (96 + 2096, 80 + 2080));
        put_seat(&ring, 0, 8, u64::MAX);
        assert_eq!(inspect(&name).unwrap().seats[0].pid, 0, "no process has that number");
    }

    #[test]
    fn the_ends_are_sums_over_the_table_and_the_rings_own_words() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        let ring = create(&name, &small());
        for (at, value) in [(0x1088, 11), (0x2108, 12), (0x4180, 21), (0x4200, 22)] {
            put(&ring, at, value);
        }
        for (at, value) in [(0x4188, 5), (0x4208, 6), (SEATS_USED, 5)] {
            put(&ring, at, value);
        }
        // Two senders, a receiver, and two that were let go of: one had sent more, one had received more.
        for (seat, state, sent, received) in
            [(0, 1, 10, 1), (1, 1, 20, 2), (2, 2, 0, 50), (3, 3, 7, 3), (4, 4, 3, 7)]
        {
            put_seat(&ring, seat, 0, 1 << 3 | state);
            put_seat(&ring, seat, 8, 1000 + seat as u64);
            put_seat(&ring, seat, 64, sent);
            put_seat(&ring, seat, 72, received);
            put_seat(&ring, seat, 104, 100 + seat as u64);
            put_seat(&ring, seat, 112, 200 + seat as u64);
            put_seat(&ring, seat, 120, 1 << seat);
        }
        let sit = |seat: u32| {
            let at = Endpoint::open(&name, Kind::Mpmc, None, &Options::new()).unwrap();
            assert!(at.try_lock(seats::lock_byte(seat)).unwrap());
            at
        };
        let sender = sit(0);
        let _receiver = sit(2);
        let info = inspect(&name).unwrap();
        let expected = SeatInfo {
            presence: Presence::Present,
            pid: 1000,
            arrivals: 21,
            deaths: 11,
            messages: 40,
            bytes: 0,
            waits: 510,
            wakes: 1 + 2 + 8,
        };
        assert_eq!(info.sender, expected);
        let receiver = SeatInfo {
            pid: 1002,
            arrivals: 22,
            deaths: 12,
            messages: 63,
            waits: 1010,
            wakes: 20,
            ..expected
        };
        assert_eq!(info.receiver, receiver);

        let _another = sit(1);
        let both = inspect(&name).unwrap();
        assert_eq!(both.sender.pid, 0, "one number does not name two");
        assert_eq!(both.sender.presence, Presence::Present);
        drop(sender);
        let one = inspect(&name).unwrap();
        assert_eq!((one.sender.presence, one.sender.pid), (Presence::Present, 1001));
        assert_eq!(one.seats[0].presence, Presence::Died);
    }

    #[test]
    fn an_end_that_nobody_is_says_how_they_went() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        let ring = create(&name, &small());
        let presence = |state: u64, arrivals: u64, leaves: u64| {
            put_seat(&ring, 0, 0, 1 << 3 | state);
            put(&ring, SEATS_USED, 1);
            put(&ring, 0x4180, arrivals);
            put(&ring, 0x4188, leaves);
            inspect(&name).unwrap().sender.presence
        };
        assert_eq!(presence(0, 0, 0), Presence::Never);
        assert_eq!(presence(2, 0, 0), Presence::Never, "a receiver is no sender");
        assert_eq!(presence(1, 2, 1), Presence::Died, "it is not repaired yet");
        assert_eq!(presence(4, 1, 0), Presence::Died, "nobody has left");
        assert_eq!(presence(3, 1, 1), Presence::Left);
        assert_eq!(presence(4, 2, 1), Presence::Left, "the last is not known");
    }

    #[test]
    fn the_lock_says_who_is_alive_and_the_word_what_they_are() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        let ring = create(&name, &small());
        put(&ring, SEATS_USED, 1024);
        let seen = |state: u64| {
            put_seat(&ring, 1023, 0, 3 << 3 | state);
            let seats = inspect(&name).unwrap().seats;
            seats
                .into_iter()
                .next()
                .map(|seat| (seat.seat, seat.role, seat.presence, seat.arrivals))
        };
        use Presence::{Died, Left, Present};
        let (sender, receiver) = (Some("sender"), Some("receiver"));
        assert_eq!(seen(0), None);
        assert_eq!(seen(1), Some((1023, sender, Died, 3)));
        assert_eq!(seen(2), Some((1023, receiver, Died, 3)));
        assert_eq!(seen(3), Some((1023, None, Left, 3)));
        assert_eq!(seen(4), Some((1023, None, Died, 3)));
        assert!(ring.try_lock(seats::lock_byte(1023)).unwrap());
        assert_eq!(seen(1), Some((1023, sender, Present, 3)));
        assert_eq!(seen(2), Some((1023, receiver, Present, 3)));
        assert_eq!(seen(3), Some((1023, None, Left, 3)), "somebody comes or goes");
        ring.unlock(seats::lock_byte(1023)).unwrap();
        assert!(ring.try_lock(seats::lock_byte(1022)).unwrap());
        assert_eq!(seen(1), Some((1023, sender, Died, 3)), "that was another seat's lock");
    }

    /// What the slots say: used, tail, head, acked, and per seat who holds how many.
    fn claims(info: &Info) -> ([u64; 4], Vec<(u32, u64, u64)>) {
        let held = info.seats.iter().map(|seat| (seat.seat, seat.writing, seat.reading));
        let held = held.filter(|&(_, writing, reading)| writing + reading > 0);
        ([info.used, info.tail, info.head, info.acked], held.collect())
    }

    #[test]
    fn the_slots_say_where_the_ring_stands_whatever_the_hints_say() {
        let dir = testing::dir();
        for (at, start) in
            [0, 5, 0u64.wrapping_sub(3), 0u64.wrapping_sub(11)].into_iter().enumerate()
        {
            let name = dir.name(&format!("ticks-{at}"));
            let ring = create(&name, &small().start_position(start));
            let view: View<Slots> = ring.slots().unwrap();
            let shape = view.ring();
            let from = |n: u64| shape.canonical(start.wrapping_add(n));
            put(&ring, SEATS_USED, 1024);
            for seat in [0, 3, 1023] {
                put_seat(&ring, seat, 0, 1 << 3 | 1);
            }
            let look = || {
                // Lies, of which none is believed.
                for hint in region::HINTS {
                    view.word(hint).store(from(1000), Relaxed);
                }
                claims(&inspect(&name).unwrap())
            };
            let (one, two) = (
                Producer::attach(view.clone(), 0).unwrap(),
                Producer::attach(view.clone(), 1023).unwrap(),
            );
            let rx = Consumer::attach(view.clone(), 3).unwrap();
            assert_eq!(look(), ([0, from(0), from(0), from(0)], vec![]));
            one.try_send(b"first").unwrap();
            assert_eq!(look(), ([1, from(1), from(0), from(0)], vec![]));
            let claim = one.try_claim(8).unwrap();
            let other = two.try_claim(8).unwrap();
            assert_eq!(look(), ([3, from(3), from(0), from(0)], vec![(0, 1, 0), (1023, 1, 0)]));
            let held = rx.try_take().unwrap().unwrap();
            let writers = vec![(0, 1, 0), (3, 0, 1), (1023, 1, 0)];
            assert_eq!(look(), ([3, from(3), from(1), from(0)], writers));
            two.commit(other, 8);
            one.abort(claim);
            assert_eq!(look(), ([3, from(3), from(1), from(0)], vec![(3, 0, 1)]));
            rx.give_back(&held);
            assert_eq!(look(), ([3, from(3), from(1), from(0)], vec![]), "aside, and not released");
            for _ in 0..2 {
                let held = rx.try_take().unwrap().unwrap();
                rx.release(&held);
            }
            assert_eq!(look(), ([0, from(3), from(3), from(3)], vec![]));
            while one.try_send(b"more").is_ok() {}
            assert_eq!(look(), ([8, from(11), from(3), from(3)], vec![]));
            let first = rx.try_take().unwrap().unwrap();
            let second = rx.try_take().unwrap().unwrap();
            rx.release(&second);
            assert_eq!(look(), ([7, from(11), from(5), from(3)], vec![(3, 0, 1)]));
            rx.release(&first);
            assert_eq!(look(), ([6, from(11), from(5), from(5)], vec![]));
        }
    }

    #[test]
    fn garbage_in_every_byte_behind_the_header_is_looked_at_without_harm() {
        let dir = testing::dir();
        let mut random = 1u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        for (at, (capacity, max_len)) in
            [(2, 0), (8, 40), (64, 192), (512, 40)].into_iter().enumerate()
        {
            let name = dir.name(&format!("ticks-{at}"));
            let ring = create(&name, &Options::new().capacity(capacity).max_len(max_len));
            let len = ring.header.total() as usize - 0x1000;
            let scribble = |fill: &mut dyn FnMut() -> u64| {
                let bytes: Vec<u8> = (0..len / 8).flat_map(|_| fill().to_le_bytes()).collect();
                ring.mapping.file().write_all_at(&bytes, 0x1000).unwrap();
                let info = inspect(&name).unwrap();
                assert!(info.used <= capacity as u64);
                assert!(info.seats.len() <= 1024);
                for seat in &info.seats {
                    assert_ne!(seat.presence, Presence::Never);
                    assert!(seat.writing + seat.reading <= capacity as u64);
                }
            };
            scribble(&mut || u64::MAX);
            scribble(&mut || 1 << 63);
            for state in 0..16 {
                scribble(&mut || next() & !15 | state);
                scribble(&mut || next() & 0xfff0 | state);
            }
            for _ in 0..8 {
                scribble(&mut next);
            }
        }
    }

    #[test]
    fn a_stopped_holder_of_a_claim_is_seen_and_so_is_its_death() {
        use std::io::{Read, Write};
        let dir = testing::forking_dir();
        let name = dir.name("ticks");
        let _ring = create(&name, &small());
        let (mut ready, mut tell) = std::os::unix::net::UnixStream::pair().unwrap();
        let path = name.clone();
        let child = Child::start(move || {
            let ring = Endpoint::open(&path, Kind::Mpmc, None, &Options::new()).unwrap();
            assert!(ring.try_lock(seats::lock_byte(2)).unwrap());
            put(&ring, SEATS_USED, 3);
            put_seat(&ring, 2, 8, std::process::id().into());
            put_seat(&ring, 2, 0, 1 << 3 | 1);
            let tx = Producer::attach(ring.slots().unwrap(), 2).unwrap();
            let _claim = tx.try_claim(1).unwrap();
            tell.write_all(b"!").unwrap();
            loop {
                std::thread::park();
            }
        });
        ready.read_exact(&mut [0]).unwrap();
        let look = || inspect(&name).unwrap().seats.remove(0);
        let running = look();
        assert_eq!(running.role, Some("sender"));
        assert_eq!(running.presence, Presence::Present);
        assert_eq!((running.pid, running.writing, running.stopped), (child.pid(), 1, false));
        child.stop();
        assert_eq!(look(), Seated { stopped: true, ..running.clone() });
        child.kill();
        assert_eq!(look(), Seated { presence: Presence::Died, ..running });
    }

    #[test]
    fn a_ring_is_looked_at_while_it_runs() {
        const MESSAGES: u64 = 2_000;
        let dir = testing::dir();
        let name = dir.name("ticks");
        let ring = create(&name, &small());
        let view = ring.slots().unwrap();
        put(&ring, SEATS_USED, 2);
        std::thread::scope(|scope| {
            let (tx, rx) = (view.clone(), view.clone());
            scope.spawn(move || {
                let tx = Producer::attach(tx, 0).unwrap();
                for _ in 0..MESSAGES {
                    while tx.try_send(b"tick").is_err() {
                        std::thread::yield_now();
                    }
                }
            });
            scope.spawn(move || {
                let rx = Consumer::attach(rx, 1).unwrap();
                for _ in 0..MESSAGES {
                    let held = loop {
                        match rx.try_take().unwrap() {
                            Some(held) => break held,
                            None => std::thread::yield_now(),
                        }
                    };
                    rx.release(&held);
                }
            });
            let mut last = 0;
            while last < MESSAGES {
                let info = inspect(&name).unwrap();
                assert!(info.used <= 8);
                assert!(info.acked <= info.head && info.head <= info.tail, "{info:?}");
                assert!(last <= info.acked && info.tail <= MESSAGES, "{info:?}");
                last = info.acked;
            }
        });
        assert_eq!(inspect(&name).unwrap().used, 0);
    }

    #[test]
    fn looking_at_slots_takes_no_seat_and_changes_nothing() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        let ring = create(&name, &small());
        Producer::attach(ring.slots().unwrap(), 0).unwrap().try_send(b"tick").unwrap();
        put_seat(&ring, 0, 0, 1 << 3 | 1);
        put(&ring, SEATS_USED, 1);
        let picture = || {
            let found = fs::metadata(&name).unwrap();
            (fs::read(&name).unwrap(), found.mtime(), found.mtime_nsec(), found.ctime_nsec())
        };
        let before = picture();
        let info = inspect(&name).unwrap();
        assert_eq!(inspect(&name).unwrap(), info);
        assert!(picture() == before);
        for byte in [1, 2, 3, 64].map(|byte| crate::roster::LOCK_BASE + byte) {
            assert!(!ring.is_held(byte).unwrap());
        }
    }

    #[test]
    fn a_file_of_slots_that_is_cut_short_is_not_looked_into() {
        let dir = testing::dir();
        let name = dir.name("ticks");
        let ring = create(&name, &small());
        let total = ring.header.total();
        for len in [total - 1, 0x25000, 0x5000, 256] {
            ring.mapping.file().set_len(len).unwrap();
            assert!(inspect(&name).unwrap_err().is_truncated());
        }
    }
}
