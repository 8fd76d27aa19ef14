//! The bytes of a ring, as docs/memory-layout.md has them.
//!
//! Knows numbers and the public calls. Shares no code with the library: the offsets, the bits and the check sum are
//! written here a second time.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use quoit::spsc::{Receiver, Sender};
use quoit::{Delivery, Options, mpmc};

const DATA: usize = 0x5000;
const CAPACITY: usize = 4096;

/// The ring begins 16 lines before its data and its positions wrap.
const START: u64 = 0u64.wrapping_sub(1024);

const TAIL: usize = 0x1000;
const SENDER_SEAT: usize = 0x1080;
const SENDER_DEATHS: usize = 0x1088;
const SENDER_PID: usize = 0x1090;
const SENDER_LIGHT: usize = 0x1098;
const SENDER_WAITS: usize = 0x1100;
const SENDER_WAKES: usize = 0x1108;
const SENT: usize = 0x1110;
const SENT_BYTES: usize = 0x1118;
const HEAD: usize = 0x2000;
const ACKED: usize = 0x2080;
const TAKEN: usize = 0x2088;
const ATTEMPTS: usize = 0x2090;
const LOST: usize = 0x2098;
const REDELIVERED: usize = 0x20a0;
const RECEIVED: usize = 0x20a8;
const RECEIVED_BYTES: usize = 0x20b0;
const RECEIVER_SEAT: usize = 0x2100;
const RECEIVER_DEATHS: usize = 0x2108;
const RECEIVER_PID: usize = 0x2110;
const RECEIVER_LIGHT: usize = 0x2118;
const ENDED: usize = 0x2120;
const RECEIVER_WAITS: usize = 0x2180;
const RECEIVER_WAKES: usize = 0x2188;
const NOT_EMPTY: usize = 0x3000;
const NOT_FULL: usize = 0x3080;

/// Every word of the table: offset and bytes.
const WORDS: [(usize, usize); 26] = [
    (TAIL, 8),
    (SENDER_SEAT, 8),
    (SENDER_DEATHS, 8),
    (SENDER_PID, 8),
    (SENDER_LIGHT, 4),
    (SENDER_WAITS, 8),
    (SENDER_WAKES, 8),
    (SENT, 8),
    (SENT_BYTES, 8),
    (HEAD, 8),
    (ACKED, 8),
    (TAKEN, 8),
    (ATTEMPTS, 8),
    (LOST, 8),
    (REDELIVERED, 8),
    (RECEIVED, 8),
    (RECEIVED_BYTES, 8),
    (RECEIVER_SEAT, 8),
    (RECEIVER_DEATHS, 8),
    (RECEIVER_PID, 8),
    (RECEIVER_LIGHT, 4),
    (ENDED, 8),
    (RECEIVER_WAITS, 8),
    (RECEIVER_WAKES, 8),
    (NOT_EMPTY, 4),
    (NOT_FULL, 4),
];

/// A folder of the test's own in shared memory, gone with it.
struct House {
    dir: tempfile::TempDir,
}

impl House {
    fn new() -> House {
        let dir = tempfile::Builder::new().prefix("quoit-abi-").tempdir_in("/dev/shm");
        House { dir: dir.expect("a folder in /dev/shm") }
    }

    fn path(&self, ring: &str) -> PathBuf {
        self.dir.path().join(ring)
    }

    fn name(&self, ring: &str) -> String {
        self.path(ring).to_str().expect("a path of ASCII").to_owned()
    }
}

/// What the file holds at this moment.
struct Bytes(Vec<u8>);

impl Bytes {
    fn of(path: &Path) -> Bytes {
        Bytes(std::fs::read(path).expect("the ring's file"))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().expect("4 bytes"))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().expect("8 bytes"))
    }

    /// `len` bytes behind a position.
    fn at(&self, position: u64, len: usize) -> &[u8] {
        let at = DATA + (position % CAPACITY as u64) as usize;
        &self.0[at..at + len]
    }

    /// The first word of the line at a position.
    fn line(&self, position: u64) -> u64 {
        u64::from_le_bytes(self.at(position, 8).try_into().expect("8 bytes"))
    }

    fn words<const N: usize>(&self, at: [usize; N]) -> [u64; N] {
        at.map(|at| self.u64(at))
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// A record's first word.
fn header(position: u64, kind: u64, length: u64) -> u64 {
    (position / 64 % 65536) << 48 | kind << 40 | (length + 1)
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8 + 1).collect()
}

fn options() -> Options {
    Options::new().capacity(CAPACITY).start_position(START)
}

#[test]
fn the_header_has_every_field_at_its_offset() {
    let house = House::new();
    let all = Options::new()
        .capacity(8192)
        .keep_open(true)
        .delivery(Delivery::AtMostOnce)
        .start_position(128);
    quoit::spsc::create(&house.name("all"), &all).expect("created");
    quoit::spsc::create(&house.name("plain"), &Options::new().capacity(CAPACITY)).expect("created");
    let all = Bytes::of(&house.path("all"));
    let plain = Bytes::of(&house.path("plain"));

    for (bytes, flags, capacity, start) in [(&all, 3, 8192, 128), (&plain, 0, 4096, 0)] {
        assert_eq!(bytes.0.len() as u64, 0x5000 + capacity);
        assert_eq!(&bytes.0[..8], b"QUOITRNG");
        assert_eq!(bytes.u32(0x08), 1, "version");
        assert_eq!(bytes.u32(0x0c), 1, "kind");
        assert_eq!(bytes.u64(0x10), flags, "flags");
        assert_eq!(bytes.u64(0x18), capacity, "capacity");
        assert_eq!(bytes.u64(0x20), capacity / 2 - 64, "max_len");
        assert_eq!(bytes.u64(0x28), 64, "line");
        assert_eq!(bytes.u64(0x30), 0x5000, "data_off");
        assert_eq!(bytes.u64(0x38), 0x5000 + capacity, "total");
        assert_eq!(bytes.u64(0x50), start, "start");
        assert_eq!(bytes.u64(0xf8), fnv1a(&bytes.0[..0xf8]), "check");
        assert!(bytes.0[0x60..0xf8].iter().all(|&byte| byte == 0));
    }
    let info = quoit::inspect(&house.name("all")).expect("a ring");
    assert_eq!(all.0[0x40..0x50], info.uuid);
    assert_ne!(all.0[0x40..0x50], plain.0[0x40..0x50]);
    let created = info.created.duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    assert_eq!(u128::from(all.u64(0x58)), created.as_nanos());
}

#[test]
fn a_new_ring_is_zero_but_for_its_header_and_its_cursors() {
    let house = House::new();
    quoit::spsc::create(&house.name("new"), &options()).expect("created");
    let bytes = Bytes::of(&house.path("new"));
    let cursors = [TAIL, HEAD, ACKED, TAKEN];
    assert_eq!(bytes.words(cursors), [START; 4]);
    for (at, &byte) in bytes.0.iter().enumerate().skip(0x100) {
        let in_a_cursor = cursors.iter().any(|cursor| (*cursor..cursor + 8).contains(&at));
        assert!(byte == 0 || in_a_cursor, "byte {at:#x} is {byte}");
    }
}

#[test]
fn records_and_cursors_are_what_the_page_says() {
    let house = House::new();
    let (name, path) = (house.name("ring"), house.path("ring"));
    let mut tx = Sender::create(&name, &options()).expect("created");
    let mut rx = Receiver::open(&name).expect("opened");

    // Where each goes: the last does not fit before the end of the data, so it is put behind a pad.
    let (nothing, small, large, pad, behind) =
        (START, START.wrapping_add(64), START.wrapping_add(128), 0u64.wrapping_sub(512), 0u64);
    let end = 576;
    for len in [0, 8, 300, 500] {
        tx.send(&payload(len)).expect("there is room");
    }

    let sent = Bytes::of(&path);
    assert_eq!(sent.line(nothing), 0xfff0_0100_0000_0001);
    assert_eq!(sent.line(nothing), header(nothing, 1, 0));
    assert_eq!(sent.line(small), header(small, 1, 8));
    assert_eq!(sent.at(small.wrapping_add(16), 8), payload(8));
    assert_eq!(sent.line(large), header(large, 3, 300));
    assert_eq!(sent.at(large.wrapping_add(64), 300), payload(300));
    assert_eq!(sent.at(large.wrapping_add(64 + 300), 4), [0; 4], "filled up to a word");
    assert_eq!(sent.line(pad), 0xfff8_0200_0000_0201);
    assert_eq!(sent.line(pad), header(pad, 2, 512));
    assert_eq!(sent.line(behind), 0x0000_0300_0000_01f5);
    assert_eq!(sent.at(behind + 64, 500), payload(500));
    assert_eq!(sent.line(end), 0, "nothing here yet");
    for line in (64..512).step_by(64) {
        assert_eq!(sent.line(pad.wrapping_add(line)), 0, "inside the pad");
    }
    assert_eq!(sent.words([TAIL, SENT, SENT_BYTES]), [end, 4, 808]);
    assert_eq!(sent.words([HEAD, ACKED, TAKEN]), [START; 3]);
    assert_eq!(sent.words([RECEIVED, RECEIVED_BYTES, ATTEMPTS, REDELIVERED, LOST]), [0; 5]);

    // In hand: `taken` alone has moved. Given back and taken again: it counts.
    let message = rx.try_recv().expect("the first");
    assert_eq!((message.position(), message.len()), (nothing, 0));
    let held = Bytes::of(&path);
    assert_eq!(held.words([HEAD, ACKED, TAKEN, ATTEMPTS]), [START, START, small, 0]);
    message.give_back();
    let message = rx.try_recv().expect("the first again");
    let again = Bytes::of(&path);
    assert_eq!(again.words([ACKED, TAKEN, ATTEMPTS, REDELIVERED]), [START, small, 1, 1]);
    assert_eq!(again.line(nothing), header(nothing, 1, 0), "not released yet");
    drop(message);
    let released = Bytes::of(&path);
    assert_eq!(released.words([HEAD, ACKED, TAKEN, ATTEMPTS]), [small, small, small, 0]);
    assert_eq!(released.words([RECEIVED, RECEIVED_BYTES]), [1, 0]);
    assert_eq!(released.line(nothing), 0, "reset");

    for (position, len) in [(small, 8), (large, 300), (behind, 500)] {
        let message = rx.try_recv().expect("the next");
        assert_eq!((message.position(), message.to_vec()), (position, payload(len)));
    }
    let drained = Bytes::of(&path);
    assert_eq!(drained.words([TAIL, HEAD, ACKED, TAKEN]), [end; 4]);
    assert_eq!(drained.words([RECEIVED, RECEIVED_BYTES]), [4, 808]);
    let mut line = START;
    while line != end {
        assert_eq!(drained.line(line), 0, "reset at {line:#x}");
        line = line.wrapping_add(64);
    }
    let (before, after) = (sent.at(behind + 72, 56), drained.at(behind + 72, 56));
    assert_eq!(before, after, "only first words are reset");
    assert_eq!(drained.words([SENDER_WAITS, SENDER_WAKES, RECEIVER_WAITS, RECEIVER_WAKES]), [0; 4]);
    assert_eq!([drained.u32(NOT_EMPTY), drained.u32(NOT_FULL)], [0; 2], "nobody has slept");

    // All of this touched nothing that the page does not name.
    for at in 0x100..DATA {
        let named = WORDS.iter().any(|&(word, len)| (word..word + len).contains(&at));
        assert!(named || drained.0[at] == 0, "byte {at:#x} is {}", drained.0[at]);
    }
}

#[test]
fn a_message_committed_shorter_keeps_its_payload_where_it_was_reserved() {
    let house = House::new();
    let name = house.name("ring");
    let mut tx = Sender::create(&name, &options()).expect("created");
    let mut room = tx.reserve(200).expect("there is room");
    room.write_at(0, b"short").expect("within");
    room.commit_len(5).expect("less than was reserved");
    let bytes = Bytes::of(&house.path("ring"));
    assert_eq!(bytes.line(START), header(START, 3, 5));
    assert_eq!(bytes.at(START.wrapping_add(64), 5), b"short");
    assert_eq!(bytes.u64(TAIL), START.wrapping_add(128));
}

#[test]
fn the_longest_of_the_short_and_the_shortest_of_the_long_are_laid_out_apart() {
    let house = House::new();
    let name = house.name("ring");
    let mut tx = Sender::create(&name, &Options::new().capacity(CAPACITY)).expect("created");
    for len in [48, 49, 191, 192] {
        tx.send(&payload(len)).expect("there is room");
    }
    let bytes = Bytes::of(&house.path("ring"));
    for (position, kind, len) in [(0, 1, 48), (64, 1, 49), (192, 1, 191), (448, 3, 192)] {
        assert_eq!(bytes.line(position), header(position, kind, len), "{len}");
    }
    assert_eq!(bytes.u64(TAIL), 448 + 256);
}

#[test]
fn seats_and_lock_bytes_say_who_is_there() {
    let house = House::new();
    let (name, path) = (house.name("ring"), house.path("ring"));
    let me = u64::from(std::process::id());
    let mut rx = Receiver::create(&name, &options()).expect("created");
    let bytes = Bytes::of(&path);
    assert_eq!(bytes.words([SENDER_SEAT, RECEIVER_SEAT]), [0, 1 << 2 | 1]);
    assert_eq!(bytes.words([SENDER_PID, RECEIVER_PID]), [0, me]);
    assert_eq!(held_locks(&path), [false, true]);

    let tx = Sender::open(&name).expect("opened");
    let bytes = Bytes::of(&path);
    assert_eq!(bytes.words([SENDER_SEAT, SENDER_PID]), [1 << 2 | 1, me]);
    let light = [bytes.u32(SENDER_LIGHT), bytes.u32(RECEIVER_LIGHT)];
    assert!(light == [0; 2] || light == [1; 2], "one process, one answer: {light:?}");
    assert_eq!(held_locks(&path), [true, true]);

    drop(tx);
    assert!(rx.try_recv().expect_err("the stream has ended").is_disconnected());
    let bytes = Bytes::of(&path);
    assert_eq!(bytes.words([SENDER_SEAT, ENDED]), [1 << 2 | 2, 1]);
    assert_eq!(held_locks(&path), [false, true]);

    drop(Sender::open(&name).expect("opened again"));
    drop(rx);
    let bytes = Bytes::of(&path);
    assert_eq!(bytes.words([SENDER_SEAT, RECEIVER_SEAT]), [2 << 2 | 2, 1 << 2 | 2]);
    assert_eq!(bytes.words([SENDER_DEATHS, RECEIVER_DEATHS]), [0; 2]);
    assert_eq!(held_locks(&path), [false, false]);
}

#[test]
fn a_message_lost_at_most_once_is_counted() {
    let house = House::new();
    let name = house.name("ring");
    let options = options().delivery(Delivery::AtMostOnce);
    let mut tx = Sender::create(&name, &options).expect("created");
    tx.send(b"lost").expect("there is room");
    let mut rx = Receiver::open(&name).expect("opened");
    std::mem::forget(rx.try_recv().expect("the message"));
    drop(rx);
    let mut rx = Receiver::open(&name).expect("opened again");
    assert!(rx.try_recv().expect_err("it is lost").is_empty());
    let bytes = Bytes::of(&house.path("ring"));
    let next = START.wrapping_add(64);
    assert_eq!(bytes.words([LOST, HEAD, ACKED, RECEIVED]), [1, next, next, 0]);
}

// What follows is of rings of slots.

const SLOTS: usize = 0x25000;
const EPOCH: usize = 0x4000;
const SCANNED: usize = 0x4080;
const SEATS_USED: usize = 0x4100;
const SWEEPS: usize = 0x4108;
const SENDER_ARRIVALS: usize = 0x4180;
const SENDER_LEAVES: usize = 0x4188;
const RECEIVER_ARRIVALS: usize = 0x4200;
const RECEIVER_LEAVES: usize = 0x4208;
const LIGHT: usize = 0x4280;

const EMPTY: u64 = 0;
const WRITING: u64 = 1;
const READY: u64 = 2;
const READING: u64 = 3;
const REDELIVER: u64 = 4;
const SKIP: u64 = 5;

/// Every word that a ring of slots uses before its table of seats.
const SLOT_WORDS: [(usize, usize); 16] = [
    (TAIL, 8),
    (SENDER_DEATHS, 8),
    (HEAD, 8),
    (RECEIVER_DEATHS, 8),
    (ENDED, 8),
    (NOT_EMPTY, 4),
    (NOT_FULL, 4),
    (EPOCH, 8),
    (SCANNED, 8),
    (SEATS_USED, 8),
    (SWEEPS, 8),
    (SENDER_ARRIVALS, 8),
    (SENDER_LEAVES, 8),
    (RECEIVER_ARRIVALS, 8),
    (RECEIVER_LEAVES, 8),
    (LIGHT, 4),
];

/// A word of a seat: its offset in the file.
fn seat(number: usize, word: usize) -> usize {
    DATA + 128 * number + word
}

/// The word of a slot.
fn slot(lap: u64, owner: u64, state: u64) -> u64 {
    lap << 16 | owner << 4 | state
}

/// 4 slots, whose payload begins on a line of its own.
const LONG: usize = 300;
const LONG_STRIDE: usize = 384;

fn slots() -> Options {
    Options::new().capacity(4).max_len(LONG)
}

/// The words of 4 long slots.
fn slot_words(bytes: &Bytes) -> [u64; 4] {
    bytes.words([0, 1, 2, 3].map(|index| SLOTS + LONG_STRIDE * index))
}

#[test]
fn the_header_of_slots_has_every_field_at_its_offset() {
    let house = House::new();
    let all = Options::new()
        .capacity(8)
        .max_len(191)
        .keep_open(true)
        .delivery(Delivery::AtMostOnce)
        .start_position(13);
    mpmc::create(&house.name("all"), &all).expect("created");
    mpmc::create(&house.name("plain"), &Options::new()).expect("created");
    mpmc::create(&house.name("long"), &slots()).expect("created");
    for (ring, flags, capacity, max_len, stride, start) in
        [("all", 3, 8, 191, 256, 13), ("plain", 0, 1024, 256, 320, 0), ("long", 0, 4, 300, 384, 0)]
    {
        let bytes = Bytes::of(&house.path(ring));
        let total = SLOTS as u64 + capacity * stride;
        assert_eq!(bytes.0.len() as u64, total);
        assert_eq!(&bytes.0[..8], b"QUOITRNG");
        assert_eq!(bytes.u32(0x08), 1, "version");
        assert_eq!(bytes.u32(0x0c), 2, "kind");
        assert_eq!(bytes.u64(0x10), flags, "flags");
        assert_eq!(bytes.u64(0x18), capacity, "capacity");
        assert_eq!(bytes.u64(0x20), max_len, "max_len");
        assert_eq!(bytes.u64(0x28), 64, "line");
        assert_eq!(bytes.u64(0x30), 0x25000, "data_off");
        assert_eq!(bytes.u64(0x38), total, "total");
        assert_eq!(bytes.u64(0x50), start, "start");
        assert_eq!(bytes.u64(0xf8), fnv1a(&bytes.0[..0xf8]), "check");
        assert!(bytes.0[0x60..0xf8].iter().all(|&byte| byte == 0));
        let info = quoit::inspect(&house.name(ring)).expect("a ring");
        assert_eq!(bytes.0[0x40..0x50], info.uuid);
        let created = info.created.duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        assert_eq!(u128::from(bytes.u64(0x58)), created.as_nanos());
    }
}

#[test]
fn a_new_ring_of_slots_is_zero_but_for_its_header_its_hints_and_its_laps() {
    let house = House::new();
    // With 4 slots, a lap has 48 bits and a position 50.
    let positions = (1u64 << 50) - 1;
    for (at, start) in [0, 4, 6, 0u64.wrapping_sub(3)].into_iter().enumerate() {
        let ring = format!("new-{at}");
        mpmc::create(&house.name(&ring), &slots().start_position(start)).expect("created");
        let bytes = Bytes::of(&house.path(&ring));
        let mut expected = vec![0; SLOTS + 4 * LONG_STRIDE];
        expected[..0x100].copy_from_slice(&bytes.0[..0x100]);
        let mut put = |at: usize, value: u64| {
            expected[at..at + 8].copy_from_slice(&value.to_le_bytes());
        };
        put(TAIL, start & positions);
        put(HEAD, start & positions);
        // The next four positions, each in its slot.
        for next in 0..4 {
            let position = start.wrapping_add(next) & positions;
            put(SLOTS + LONG_STRIDE * (position % 4) as usize, slot(position / 4, 0, EMPTY));
        }
        for (at, (found, wanted)) in bytes.0.iter().zip(&expected).enumerate() {
            assert_eq!(found, wanted, "byte {at:#x}, start {start}");
        }
        assert_eq!(bytes.0.len(), expected.len());
    }
    // The same once more, by hand.
    let bytes = Bytes::of(&house.path("new-2"));
    assert_eq!(slot_words(&bytes), [2 << 16, 2 << 16, 1 << 16, 1 << 16]);
}

#[test]
fn slots_and_their_words_are_what_the_page_says() {
    let house = House::new();
    let (name, path) = (house.name("ring"), house.path("ring"));
    let tx = mpmc::Sender::create(&name, &slots().start_position(6)).expect("created");
    let rx = mpmc::Receiver::open(&name).expect("opened");
    // Seat 0 sends and seat 1 receives. The first position is 6: slot 2, lap 1.
    assert_eq!((tx.seat(), rx.seat()), (0, 1));
    tx.send(&payload(13)).expect("there is room");
    tx.send(&payload(LONG)).expect("there is room");
    let mut next = tx.clone();
    let mut room = next.reserve(20).expect("there is room");
    room.write_at(0, b"claimed").expect("within");

    let sent = Bytes::of(&path);
    let ready = [slot(2, 0, WRITING), slot(2, 0, EMPTY), slot(1, 0, READY), slot(1, 0, READY)];
    assert_eq!(slot_words(&sent), ready);
    let (first, second) = (SLOTS + 2 * LONG_STRIDE, SLOTS + 3 * LONG_STRIDE);
    assert_eq!(sent.words([first + 8, second + 8]), [13, 300]);
    assert_eq!(sent.0[first + 64..first + 64 + 13], payload(13));
    assert_eq!(sent.0[first + 64 + 13..first + 64 + 16], [0; 3], "filled up to a word");
    assert_eq!(sent.0[second + 64..second + 64 + LONG], payload(LONG));
    assert_eq!(sent.0[SLOTS + 64..SLOTS + 71], *b"claimed");
    assert_eq!(sent.words([seat(0, 64), seat(1, 72)]), [2, 0]);

    // In hand, given back, and in hand again.
    let message = rx.try_recv().expect("the first");
    assert_eq!((message.position(), message.len()), (6, 13));
    assert_eq!(slot_words(&Bytes::of(&path))[2], slot(1, 1, READING));
    assert_eq!(slot_words(&Bytes::of(&path))[2], 0x1_0013);
    message.give_back();
    let given = Bytes::of(&path);
    assert_eq!(slot_words(&given)[2], slot(1, 0, REDELIVER));
    assert_eq!(given.words([EPOCH, first + 8]), [1, 13]);
    let message = rx.try_recv().expect("the first again");
    let again = Bytes::of(&path);
    assert_eq!(slot_words(&again)[2], slot(1, 1, READING));
    assert_eq!(again.u64(first + 8), 1 << 32 | 13, "handed out again once");
    drop(message);
    let released = Bytes::of(&path);
    assert_eq!(slot_words(&released)[2], slot(2, 0, EMPTY));
    assert_eq!(released.words([seat(1, 72), seat(1, 80)]), [1, 1]);
    assert_eq!(released.0[first + 8..first + 80], again.0[first + 8..first + 80], "as it was");

    // A claim that is given up is stepped over.
    drop(room);
    assert_eq!(slot_words(&Bytes::of(&path))[0], slot(2, 0, SKIP));
    drop(rx.try_recv().expect("the second"));
    let drained = Bytes::of(&path);
    let payload_and_rest = second + 8..second + LONG_STRIDE;
    assert_eq!(drained.0[payload_and_rest.clone()], sent.0[payload_and_rest], "as it was");
    assert!(rx.try_recv().expect_err("nothing is left").is_empty());
    let stepped = Bytes::of(&path);
    assert_eq!(
        slot_words(&stepped),
        [slot(3, 0, EMPTY), slot(2, 0, EMPTY), slot(2, 0, EMPTY), slot(2, 0, EMPTY)]
    );
    assert_eq!(stepped.words([SCANNED, EPOCH]), [1, 1]);
    assert_eq!(stepped.words([seat(0, 64), seat(1, 72), seat(1, 80), seat(1, 88)]), [2, 2, 1, 1]);
    assert_eq!([stepped.u32(NOT_EMPTY), stepped.u32(NOT_FULL)], [0; 2], "nobody has slept");

    // All of this touched nothing that the page does not name.
    for at in 0x100..DATA {
        let named = SLOT_WORDS.iter().any(|&(word, len)| (word..word + len).contains(&at));
        assert!(named || stepped.0[at] == 0, "byte {at:#x} is {}", stepped.0[at]);
    }
    for at in DATA..SLOTS {
        let named = at < seat(2, 0) && !(32..64).contains(&(at % 128));
        assert!(named || stepped.0[at] == 0, "byte {at:#x} is {}", stepped.0[at]);
    }
}

#[test]
fn short_slots_share_the_line_of_their_word_and_long_ones_do_not() {
    let house = House::new();
    for (max_len, payload_at, stride) in
        [(0, 16, 64), (48, 16, 64), (49, 16, 128), (191, 16, 256), (192, 64, 256), (193, 64, 320)]
    {
        let (name, path) = (house.name(&max_len.to_string()), house.path(&max_len.to_string()));
        let options = Options::new().capacity(2).max_len(max_len);
        let tx = mpmc::Sender::create(&name, &options).expect("created");
        for _ in 0..2 {
            tx.send(&payload(max_len)).expect("there is room");
        }
        let bytes = Bytes::of(&path);
        assert_eq!(bytes.0.len(), SLOTS + 2 * stride, "{max_len}");
        for at in [SLOTS, SLOTS + stride] {
            assert_eq!(bytes.words([at, at + 8]), [READY, max_len as u64], "{max_len}");
            assert_eq!(bytes.0[at + payload_at..at + payload_at + max_len], payload(max_len));
        }
    }
}

#[test]
fn the_table_and_its_lock_bytes_say_who_sits_where() {
    let house = House::new();
    let (name, path) = (house.name("ring"), house.path("ring"));
    let me = u64::from(std::process::id());
    let locks = || held(&path, [1, 2, 3, 64, 65, 66]);
    mpmc::create(&name, &slots()).expect("created");
    assert_eq!(locks(), [false; 6]);
    let rx = mpmc::Receiver::open(&name).expect("opened");
    let bytes = Bytes::of(&path);
    assert_eq!(bytes.words([seat(0, 0), seat(0, 8), SEATS_USED]), [1 << 3 | 2, me, 1]);
    assert_eq!(bytes.words([SENDER_ARRIVALS, RECEIVER_ARRIVALS]), [0, 1]);
    assert_eq!(locks(), [false, false, false, true, false, false]);

    let tx = mpmc::Sender::open(&name).expect("opened");
    let clone = tx.clone();
    let bytes = Bytes::of(&path);
    assert_eq!(bytes.words([seat(1, 0), seat(1, 8), SEATS_USED]), [1 << 3 | 1, me, 2]);
    assert_eq!(bytes.words([SENDER_ARRIVALS, SENDER_LEAVES]), [1, 0]);
    assert!(bytes.u32(LIGHT) <= 1);
    assert_eq!(locks(), [false, false, false, true, true, false]);

    drop(tx);
    assert_eq!(Bytes::of(&path).u64(seat(1, 0)), 1 << 3 | 1, "a clone shares the seat");
    drop(clone);
    assert!(rx.try_recv().expect_err("the stream has ended").is_disconnected());
    let bytes = Bytes::of(&path);
    assert_eq!(bytes.words([seat(1, 0), SENDER_LEAVES, ENDED]), [1 << 3 | 3, 1, 1]);
    assert_eq!(locks(), [false, false, false, true, false, false]);

    drop(rx);
    let tx = mpmc::Sender::open(&name).expect("opened again");
    let bytes = Bytes::of(&path);
    assert_eq!(tx.seat(), 0, "the first that is free");
    assert_eq!(bytes.words([seat(0, 0), SEATS_USED]), [2 << 3 | 1, 2]);
    assert_eq!(bytes.words([SENDER_ARRIVALS, SENDER_LEAVES]), [2, 1]);
    assert_eq!(bytes.words([RECEIVER_ARRIVALS, RECEIVER_LEAVES]), [1, 1]);
    assert_eq!(bytes.words([SENDER_DEATHS, RECEIVER_DEATHS]), [0; 2]);
}

#[test]
fn a_message_of_a_slot_that_is_lost_at_most_once_is_counted_in_its_seat() {
    let house = House::new();
    let (name, path) = (house.name("ring"), house.path("ring"));
    let options = slots().delivery(Delivery::AtMostOnce);
    let tx = mpmc::Sender::create(&name, &options).expect("created");
    tx.send(b"lost").expect("there is room");
    let rx = mpmc::Receiver::open(&name).expect("opened");
    std::mem::forget(rx.try_recv().expect("the message"));
    assert_eq!(slot_words(&Bytes::of(&path))[0], slot(0, 1, READING));
    drop(rx);
    let bytes = Bytes::of(&path);
    assert_eq!(slot_words(&bytes), [slot(1, 0, EMPTY), 0, 0, 0]);
    assert_eq!(bytes.words([seat(1, 96), seat(1, 24), seat(1, 72)]), [1, 0, 0]);
}

/// Whether the sender's and the receiver's byte are locked.
fn held_locks(path: &Path) -> [bool; 2] {
    held(path, [1, 2])
}

/// Whether bytes from 2^62 on are locked, as the kernel tells somebody who only looks.
fn held<const N: usize>(path: &Path, bytes: [i64; N]) -> [bool; N] {
    let file = File::open(path).expect("the ring's file");
    bytes.map(|byte| {
        // SAFETY: flock64 is plain integers (and padding), for which zero is a value.
        let mut lock: libc::flock64 = unsafe { std::mem::zeroed() };
        lock.l_type = libc::F_WRLCK as libc::c_short;
        lock.l_whence = libc::SEEK_SET as libc::c_short;
        lock.l_start = (1 << 62) + byte;
        lock.l_len = 1;
        // SAFETY: the descriptor is open while `file` lives, and `lock` is the structure that this command fills in.
        let rc = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
        assert_eq!(rc, 0, "{}", std::io::Error::last_os_error());
        libc::c_int::from(lock.l_type) != libc::F_UNLCK
    })
}
