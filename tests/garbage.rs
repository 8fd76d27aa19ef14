//! Whatever stands in the file, a call answers: no panic (the tests run with overflow checks), no access outside the map,
//! no endless loop.

use std::fs::File;
use std::os::unix::fs::FileExt;

use quoit::Options;
use quoit::spsc::{Receiver, Sender};

/// A small generator (splitmix64), seeded so that a failure can be run again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }
}

/// The control words of the file, and the first words of its lines.
fn somewhere(dice: &mut Dice) -> u64 {
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
fn something(dice: &mut Dice, was: u64) -> u64 {
    match dice.below(6) {
        0 => was.wrapping_add(64).wrapping_sub(dice.below(3) * 64),
        1 => was ^ (1 << dice.below(64)),
        2 => was.wrapping_add(4096).wrapping_sub(dice.below(3) * 4096),
        3 => {
            [0, 1, 63, 64, 4095, 4096, 1 << 31, 1 << 32, 1 << 63, u64::MAX][dice.below(10) as usize]
        }
        4 => (1 + dice.below(3)) << 40 | dice.below(4200),
        _ => dice.roll(),
    }
}

fn use_them(dice: &mut Dice, tx: Option<&mut Sender>, rx: Option<&mut Receiver>) {
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
    let seed =
        std::env::var("QUOIT_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let rounds =
        std::env::var("QUOIT_TEST_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(6000);
    #[allow(clippy::print_stdout)] // Shown when the test fails.
    let () = println!("QUOIT_TEST_SEED={seed} QUOIT_TEST_ROUNDS={rounds}");
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("ring");
    let path = path.to_str().unwrap();
    let mut dice = Dice(seed);
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
