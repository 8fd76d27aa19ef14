//! More handles than there are seats.

use quoit::mpmc::{Receiver, Sender};
use quoit::{OpenError, Recovered, Wait};

use crate::harness::{ALL_SEATS, Process, Ring, Shape, sized};
use crate::worker::Worker;

/// Takes so many seats, half of them to send from, and stays.
pub(crate) fn sit(worker: &Worker, count: u64) {
    let mut handles = Vec::new();
    for _ in 0..count / 2 {
        let ends = (worker.open_sender(Wait::Block), worker.open_receiver(Wait::Block));
        handles.push(ends);
    }
    worker.ready(1);
    worker.until(1);
    drop(handles);
}

/// Every handle has a descriptor, of which a process may have 1024 and not more.
const EACH: usize = 128;

/// Processes that hold so many seats together.
fn sitting(ring: &Ring, seats: usize) -> Vec<Process> {
    let mut processes: Vec<_> =
        (0..seats / EACH).map(|_| ring.process(&format!("sit {EACH}"), 0)).collect();
    processes.iter_mut().for_each(|process| process.ready(ring, 1));
    processes
}

fn kill(processes: &mut [Process]) {
    processes.iter().for_each(|process| process.send(libc::SIGKILL));
    processes.iter_mut().for_each(Process::kill);
}

#[test]
fn a_table_full_of_the_living_is_crowded_and_one_full_of_the_dead_is_not() {
    let ring = Ring::new(Shape { keep_open: true, ..Shape::default() });
    let mut dying = sitting(&ring, ALL_SEATS - EACH);
    let mut living: Vec<_> = (0..EACH).map(|_| Sender::open(&ring.path).unwrap()).collect();
    let crowded = || {
        for error in [
            Sender::open(&ring.path).map(drop).unwrap_err(),
            Receiver::open(&ring.path).map(drop).unwrap_err(),
        ] {
            let OpenError::Crowded { seats, .. } = &error else { panic!("{error}") };
            assert_eq!(*seats as usize, ALL_SEATS);
            let text = error.to_string();
            assert!(text.contains("all 1024 seats") && text.contains(&ring.path), "{text}");
        }
        assert_eq!(quoit::recover(&ring.path).unwrap(), Recovered::default(), "nobody is put out");
    };
    crowded();
    // One that leaves makes room for one, wherever it sat.
    let left = living.swap_remove(EACH / 2).seat();
    living.push(Sender::open(&ring.path).unwrap());
    assert_eq!(living[EACH - 1].seat(), left);
    crowded();

    kill(&mut dying);
    let rx = Receiver::open(&ring.path).unwrap();
    assert_eq!(ring.deaths() as usize, ALL_SEATS - EACH);
    assert_eq!(rx.stats().peers as usize, EACH);
    assert_eq!(quoit::recover(&ring.path).unwrap(), Recovered::default());
    living[0].send(b"there is room").unwrap();
    assert_eq!(rx.recv().unwrap().to_vec(), b"there is room");
}

#[test]
fn seats_of_the_dead_are_taken_over_and_over() {
    let ring = Ring::new(Shape { keep_open: true, ..Shape::default() });
    let rounds = sized(2, 12);
    for _ in 0..rounds {
        // They come all at once, to a table that is full of the dead.
        kill(&mut sitting(&ring, ALL_SEATS));
    }
    assert_eq!(quoit::recover(&ring.path).unwrap().seats, ALL_SEATS as u64);
    assert_eq!(ring.deaths(), rounds * ALL_SEATS as u64, "each is counted once");
    assert_eq!(Sender::open(&ring.path).unwrap().seat(), 0);
}
