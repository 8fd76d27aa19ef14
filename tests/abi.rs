//! The bytes of a ring, as docs/memory-layout.md has them.
//!
//! Knows numbers and the public calls. Shares no code with the library: the offsets, the bits and the check sum are
//! written here a second time.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use quoit::spsc::{Receiver, Sender};
use quoit::{Delivery, Options};

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

/// Whether the sender's and the receiver's byte are locked, as the kernel tells somebody who only looks.
fn held_locks(path: &Path) -> [bool; 2] {
    let file = File::open(path).expect("the ring's file");
    [1, 2].map(|byte| {
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
