//! Many processes that make, open and take away one name at the same time. Knows who may win and who may lose; knows nothing
//! of how a ring comes by its name.

use std::path::Path;

use quoit::mpmc::{self, Receiver, Sender};
use quoit::{OpenError, Options, spsc};

use crate::harness::{Process, Ring, Shape, say, sized};
use crate::notes::{ACCEPTED, COUNT};
use crate::worker::Worker;

/// How many of them there are.
const CROWD: usize = 64;

fn options() -> Options {
    Options::new().capacity(8).max_len(48).keep_open(true)
}

/// The name that they want.
fn name(path: &str) -> String {
    format!("{path}.wanted")
}

/// Tries once a round to make the ring, all at the same moment; notes in which rounds it did.
pub(crate) fn create(worker: &Worker, rounds: u64) {
    let mut made = 0;
    for round in 1..=rounds {
        worker.ready(round);
        worker.until(round);
        match mpmc::create(&name(&worker.path), &options()) {
            Ok(()) => made |= 1 << round,
            Err(OpenError::AlreadyExists { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        worker.journal.set(ACCEPTED, made);
    }
    worker.ready(rounds + 1);
}

/// Opens the ring or makes it, once a round, all at the same moment, and stays until all have.
pub(crate) fn meet(worker: &Worker, rounds: u64) {
    for round in 1..=rounds {
        worker.ready(2 * round - 1);
        worker.until(2 * round - 1);
        let tx = Sender::open_or_create(&name(&worker.path), &options()).unwrap();
        worker.journal.set(COUNT, u64::from(tx.seat()) + 1);
        worker.ready(2 * round);
        worker.until(2 * round);
        drop(tx);
    }
    worker.ready(2 * rounds + 1);
}

/// Makes, opens and takes away, as it comes. Whoever got hold of a ring can use it, and finds there what it put in.
pub(crate) fn scramble(worker: &mut Worker, times: u64) {
    let name = name(&worker.path);
    worker.ready(1);
    worker.until_all_begin();
    for _ in 0..times {
        let refused = match worker.random.below(6) {
            0 => quoit::unlink(&name).err(),
            1 => mpmc::create(&name, &options()).err(),
            2 => Sender::create(&name, &options()).map(drop).err(),
            3 => Sender::open(&name).map(|tx| drop(tx.try_send(b"one of many"))).err(),
            4 => match Receiver::open_or_create(&name, &options()) {
                Ok(rx) => {
                    while let Ok(message) = rx.try_recv() {
                        assert_eq!(message.to_vec(), b"one of many");
                    }
                    None
                }
                Err(error) => Some(error),
            },
            // The other kind is there or it is not; it is never half of one.
            _ => spsc::Sender::open(&name).map(drop).err(),
        };
        match refused {
            None => worker.journal.set(COUNT, worker.journal.get(COUNT) + 1),
            Some(
                OpenError::NotFound { .. }
                | OpenError::AlreadyExists { .. }
                | OpenError::WrongKind { .. },
            ) => {}
            Some(error) => panic!("{error}"),
        }
    }
}

fn crowd(ring: &Ring, work: &str) -> Vec<Process> {
    (0..CROWD).map(|_| ring.process(work, 0)).collect()
}

fn all_ready(ring: &Ring, crowd: &mut [Process], step: u64) {
    crowd.iter_mut().for_each(|process| process.ready(ring, step));
}

#[test]
fn of_many_who_make_one_name_at_once_exactly_one_does() {
    let ring = Ring::new(Shape::default());
    let rounds = sized(10, 60);
    let mut crowd = crowd(&ring, &format!("names create {rounds}"));
    for round in 1..=rounds {
        all_ready(&ring, &mut crowd, round);
        if round > 1 {
            // They are done with the round before.
            let winners =
                |process: &&Process| process.journal.get(ACCEPTED) >> (round - 1) & 1 == 1;
            assert_eq!(crowd.iter().filter(winners).count(), 1, "in round {}", round - 1);
            quoit::unlink(&name(&ring.path)).unwrap();
        }
        crowd.iter().for_each(|process| process.go(round));
    }
    all_ready(&ring, &mut crowd, rounds + 1);
    crowd.iter_mut().for_each(Process::finish);
    quoit::unlink(&name(&ring.path)).unwrap();
    nothing_is_left(&ring);
    let won = |process: &Process| u64::from(process.journal.get(ACCEPTED).count_ones());
    let winners: Vec<_> = crowd.iter().map(won).collect();
    say(&format!(
        "{CROWD} make one name, {rounds} rounds: {} winners, {} of the processes won",
        winners.iter().sum::<u64>(),
        winners.iter().filter(|won| **won > 0).count()
    ));
}

#[test]
fn many_who_open_or_make_one_name_at_once_meet_on_one_ring() {
    let ring = Ring::new(Shape::default());
    let rounds = sized(5, 60);
    let mut crowd = crowd(&ring, &format!("names meet {rounds}"));
    for round in 1..=rounds {
        all_ready(&ring, &mut crowd, 2 * round - 1);
        crowd.iter().for_each(|process| process.go(2 * round - 1));
        all_ready(&ring, &mut crowd, 2 * round);
        let info = quoit::inspect(&name(&ring.path)).unwrap();
        assert_eq!(info.sender.arrivals, CROWD as u64, "in round {round}");
        let mut seats: Vec<_> = crowd.iter().map(|process| process.journal.get(COUNT)).collect();
        seats.sort_unstable();
        assert!(seats.windows(2).all(|two| two[0] != two[1]), "one seat each: {seats:?}");
        quoit::unlink(&name(&ring.path)).unwrap();
        crowd.iter().for_each(|process| process.go(2 * round));
    }
    all_ready(&ring, &mut crowd, 2 * rounds + 1);
    crowd.iter_mut().for_each(Process::finish);
    nothing_is_left(&ring);
    say(&format!("{CROWD} open or make one name, {rounds} rounds: all on one ring in each"));
}

#[test]
fn many_who_make_open_and_take_away_one_name_never_meet_half_a_ring() {
    let ring = Ring::new(Shape::default());
    let times = sized(100, 5000);
    let mut crowd = crowd(&ring, &format!("names scramble {times}"));
    all_ready(&ring, &mut crowd, 1);
    ring.signal(1);
    crowd.iter_mut().for_each(|process| {
        process.finish();
        ring.alive();
    });
    let done: u64 = crowd.iter().map(|process| process.journal.get(COUNT)).sum();
    assert!(done > times, "next to nothing was got hold of: {done}");
    let _ = quoit::unlink(&name(&ring.path));
    nothing_is_left(&ring);
    let calls = times * CROWD as u64;
    say(&format!("{CROWD} make, open and unlink one name: {calls} calls, {done} got hold of it"));
}

/// No file has a name that nobody gave it.
pub(crate) fn nothing_is_left(ring: &Ring) {
    let folder = Path::new(&ring.path).parent().unwrap();
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let strange: Vec<_> = names
        .filter(|name| {
            !Path::new(&ring.path)
                .file_name()
                .is_some_and(|ours| name.to_string_lossy().starts_with(&*ours.to_string_lossy()))
        })
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
    assert!(!Path::new(&name(&ring.path)).exists());
}
