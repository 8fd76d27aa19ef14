//! Every call on a ring in a file into which something was written in between, by those who have it open and by those who
//! come. Knows where words lie; expects nothing but an answer.

use std::fs::File;
use std::os::unix::fs::FileExt;

use std::time::Duration;

use quoit::spsc::{Receiver, Sender};
use quoit::{Delivery, Options, mpmc};

use crate::harness::Random;
use crate::rounds;

/// The control words of the file, and the first words of its lines.
fn somewhere(dice: &mut Random) -> u64 {
    const WORDS: [u64; 20] = [
        0x1000, 0x1080, 0x1088, 0x1098, 0x1100, 0x1110, 0x1118, 0x2000, 0x2080, 0x2088, 0x2090,
        0x2098, 0x20a0, 0x20a8, 0x2100, 0x2118, 0x2120, 0x3000, 0x3080, 0x3ff8,
    ];
    match dice.below(3) {
        0 => 0x5000 + dice.below(64) * 64,
        1 => 0x5000 + dice.below(512) * 8,
        _ => WORDS[dice.below(20) as usize],
    }
}

/// Near what is right, or anything.
fn something(dice: &mut Random, was: u64) -> u64 {
    match dice.below(6) {
        0 => was.wrapping_add(64).wrapping_sub(dice.below(3) * 64),
        1 => was ^ (1 << dice.below(64)),
        2 => was.wrapping_add(4096).wrapping_sub(dice.below(3) * 4096),
        3 => {
            [0, 1, 63, 64, 4095, 4096, 1 << 31, 1 << 32, 1 << 63, u64::MAX][dice.below(10) as usize]
        }
        4 => (1 + dice.below(3)) << 40 | dice.below(4200),
        _ => dice.next(),
    }
}

fn use_them(dice: &mut Random, tx: Option<&mut Sender>, rx: Option<&mut Receiver>) {
    if let Some(tx) = tx {
        for _ in 0..dice.below(20) {
            let len = dice.below(2100) as usize;
            match dice.below(4) {
                0 => drop(tx.try_send(&vec![7; len])),
                1 => drop(tx.try_send_batch(&[vec![1; len / 2], vec![2; len / 3], vec![]])),
                2 => drop(tx.try_reserve(len).and_then(|mut room| {
                    room.write_at(len / 2, &[9]).ok();
                    Ok(room.commit_len(len / 2)?)
                })),
                _ => {
                    let _ =
                        (tx.len(), tx.is_full(), tx.is_empty(), tx.is_disconnected(), tx.stats());
                }
            }
        }
    }
    if let Some(rx) = rx {
        for _ in 0..dice.below(20) {
            match dice.below(4) {
                0 => drop(rx.try_recv().map(|message| message.to_vec())),
                1 => drop(rx.try_recv().map(|message| message.give_back())),
                2 => drop(rx.try_recv_into(&mut Vec::new())),
                _ => {
                    let _ = (rx.len(), rx.is_empty(), rx.is_disconnected(), rx.stats());
                }
            }
        }
    }
}

#[test]
fn garbage_in_the_file_is_answered_by_every_call() {
    let (mut dice, rounds) = (Random::seeded("garbage in a file"), rounds(6000, 60_000));
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("ring");
    let path = path.to_str().unwrap();
    for _ in 0..rounds {
        let start = 0u64.wrapping_sub(dice.below(100) * 64);
        let options = Options::new().capacity(4096).start_position(start);
        let mut tx = Some(Sender::create(path, &options).unwrap());
        let mut rx = Receiver::open(path).ok();
        let file = File::options().read(true).write(true).open(path).unwrap();
        for _ in 0..dice.below(6) {
            use_them(&mut dice, tx.as_mut(), rx.as_mut());
            let at = somewhere(&mut dice);
            let mut was = [0; 8];
            file.read_exact_at(&mut was, at).unwrap();
            let now = something(&mut dice, u64::from_le_bytes(was));
            file.write_all_at(&now.to_le_bytes(), at).unwrap();
            // Successors meet it too.
            if dice.below(4) == 0 {
                drop(tx.take());
                tx = Sender::open(path).ok();
            }
            if dice.below(4) == 0 {
                drop(rx.take());
                rx = Receiver::open(path).ok();
            }
            drop(quoit::inspect(path));
        }
        use_them(&mut dice, tx.as_mut(), rx.as_mut());
        drop((tx, rx));
        quoit::unlink(path).unwrap();
    }
}

/// A word of a ring of slots: of its control words, its first seats, or its first slots.
fn somewhere_in_slots(dice: &mut Random) -> u64 {
    const WORDS: [u64; 16] = [
        0x1000, 0x1088, 0x2000, 0x2108, 0x2120, 0x3000, 0x3080, 0x4000, 0x4080, 0x4100, 0x4108,
        0x4180, 0x4188, 0x4200, 0x4208, 0x4280,
    ];
    match dice.below(4) {
        0 => WORDS[dice.below(16) as usize],
        1 => 0x5000 + dice.below(4) * 128 + dice.below(16) * 8,
        2 => 0x25000 + dice.below(4) * 320,
        _ => 0x25000 + dice.below(160) * 8,
    }
}

/// Near what is right: another lap, owner or state; or anything.
fn something_of_slots(dice: &mut Random, was: u64) -> u64 {
    match dice.below(7) {
        0 => was.wrapping_add(1 << 16).wrapping_sub(dice.below(3) << 16),
        1 => was ^ (1 << dice.below(64)),
        2 => was & !0xffff | dice.below(2000) << 4 | dice.below(16),
        3 => was & !0xf | dice.below(8),
        4 => was.wrapping_add(2).wrapping_sub(dice.below(5)),
        5 => [0, 1, 256, 257, 1 << 16, 1 << 31, 1 << 32, 1 << 48, 1 << 63, u64::MAX]
            [dice.below(10) as usize],
        _ => dice.next(),
    }
}

fn use_slots(dice: &mut Random, tx: Option<&mut mpmc::Sender>, rx: Option<&mpmc::Receiver>) {
    let moment = Duration::from_micros(100);
    if let Some(tx) = tx {
        for _ in 0..dice.below(12) {
            let len = dice.below(260) as usize;
            match dice.below(6) {
                0 | 1 => drop(tx.try_send(&vec![7; len])),
                2 => drop(tx.try_send_batch(&[vec![1; len / 2], vec![2; len / 3], vec![]])),
                3 => drop(tx.try_reserve(len).and_then(|mut room| {
                    room.write_at(len / 2, &[9]).ok();
                    if len % 3 == 0 { Ok(()) } else { Ok(room.commit_len(len / 2)?) }
                })),
                4 => drop(tx.send_timeout(b"x", moment)),
                _ => {
                    let _ = (tx.len(), tx.is_full(), tx.is_disconnected(), tx.stats());
                    drop(tx.recover());
                }
            }
        }
    }
    if let Some(rx) = rx {
        let mut held = Vec::new();
        for _ in 0..dice.below(12) {
            match dice.below(6) {
                0 | 1 => drop(rx.try_recv().map(|message| message.to_vec())),
                2 => drop(rx.try_recv().map(|message| message.give_back())),
                3 => drop(rx.try_recv_batch(&mut held, 3)),
                4 => drop(rx.recv_timeout(moment)),
                _ => {
                    let _ = (rx.len(), rx.is_empty(), rx.is_disconnected(), rx.stats());
                    drop(rx.recover());
                }
            }
        }
        if dice.below(8) == 0 {
            held.into_iter().for_each(std::mem::forget);
        }
    }
}

#[test]
fn garbage_in_a_file_of_slots_is_answered_by_every_call() {
    let (mut dice, rounds) = (Random::seeded("garbage in slots"), rounds(1500, 15_000));
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("ring");
    let path = path.to_str().unwrap();
    for _ in 0..rounds {
        let start = 0u64.wrapping_sub(dice.below(10));
        let mut options = Options::new().capacity(4).max_len(256).start_position(start);
        if dice.below(2) == 0 {
            options = options.delivery(Delivery::AtMostOnce);
        }
        let mut tx = Some(mpmc::Sender::create(path, &options).unwrap());
        let mut rx = mpmc::Receiver::open(path).ok();
        let file = File::options().read(true).write(true).open(path).unwrap();
        for _ in 0..dice.below(6) {
            use_slots(&mut dice, tx.as_mut(), rx.as_ref());
            let at = somewhere_in_slots(&mut dice);
            let mut was = [0; 8];
            file.read_exact_at(&mut was, at).unwrap();
            let now = something_of_slots(&mut dice, u64::from_le_bytes(was));
            file.write_all_at(&now.to_le_bytes(), at).unwrap();
            // Those who come meet it too.
            if dice.below(4) == 0 {
                drop(tx.take());
                tx = mpmc::Sender::open(path).ok();
            }
            if dice.below(4) == 0 {
                drop(rx.take());
                rx = mpmc::Receiver::open(path).ok();
            }
            drop(quoit::inspect(path));
        }
        use_slots(&mut dice, tx.as_mut(), rx.as_ref());
        drop((tx, rx));
        quoit::unlink(path).unwrap();
    }
}

#[test]
fn a_message_in_hand_can_be_read_although_the_next_one_was_garbage() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("ring");
    let path = path.to_str().unwrap();
    let tx = mpmc::Sender::create(path, &Options::new().capacity(4).max_len(48)).unwrap();
    let rx = mpmc::Receiver::open(path).unwrap();
    tx.send(b"sound").unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(&[0xff; 8], 0x25000 + 64).unwrap();
    let mut some = Vec::new();
    assert_eq!(rx.try_recv_batch(&mut some, 2).unwrap(), 1);
    let message = some.pop().unwrap();
    assert_eq!(message.to_vec(), b"sound");
    let mut bytes = [0; 3];
    assert_eq!((message.copy_to(&mut bytes), bytes), (3, *b"sou"));
    // SAFETY: nobody else has the ring open but `tx`, which sends nothing.
    assert_eq!(unsafe { message.as_slice() }, b"sound");
    assert!(rx.try_recv().unwrap_err().is_fault());
    // It is not known to have been finished with.
    drop((message, some));
    drop(rx);
    file.write_all_at(&[0; 8], 0x25000 + 64).unwrap();
    let again = mpmc::Receiver::open(path).unwrap();
    assert_eq!(again.recv().unwrap().attempts(), 2);
}
