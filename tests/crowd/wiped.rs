//! Everybody dies at once, and others go on.

use std::sync::Barrier;
use std::time::Duration;

use quoit::mpmc::{Receiver, Sender};
use quoit::{Delivery, Recovered};

use crate::harness::{Process, Random, Ring, Shape, sized};
use crate::notes::{COUNT, LOG};
use crate::stalled::FEW;
use crate::storm::Storm;
use crate::worker::{body, id};

#[test]
fn all_die_at_once_again_and_again_and_the_next_ones_go_on_where_they_were() {
    let mut random = Random::seeded("all at once");
    for (start, delivery) in
        [(0, Delivery::AtLeastOnce), (0u64.wrapping_sub(9000), Delivery::AtMostOnce)]
    {
        let shape = Shape { slots: 32, start, delivery, ..Shape::default() };
        let mut storm = Storm::new(shape, 3, 3);
        let all: Vec<usize> = (0..storm.workers.len()).collect();
        let rounds = sized(10, 300);
        for round in 1..=rounds {
            // In the middle of work.
            let goal = 1 + random.below(2000);
            while storm.received() < goal {
                storm.workers.iter_mut().for_each(Process::still_there);
                std::thread::sleep(Duration::from_micros(50));
            }
            storm.kill(&all);
            if random.once_in(2) {
                let found = quoit::recover(&storm.ring.path).unwrap();
                assert!(found.seats <= all.len() as u64, "{found:?}");
                let nothing = quoit::recover(&storm.ring.path).unwrap();
                assert_eq!(nothing, Recovered::default(), "after {found:?}");
            }
            if round < rounds {
                all.iter().for_each(|&index| storm.replace(index));
            }
        }
        storm.compare(&format!("all at once, {delivery}"));
    }
}

#[test]
fn a_bystander_finds_all_that_the_dead_left_and_then_nothing() {
    for start in [0, 0u64.wrapping_sub(2)] {
        for delivery in [Delivery::AtLeastOnce, Delivery::AtMostOnce] {
            let ring = Ring::new(Shape { slots: 8, start, delivery, ..Shape::default() });
            let tx = Sender::open(&ring.path).unwrap();
            let mut dying =
                vec![ring.process("idle sender", FEW), ring.process("idle receiver", FEW)];
            for number in 1..=3 {
                tx.send(&body(number)).unwrap();
            }
            dying.push(ring.process("hold 2", FEW));
            for process in &mut dying {
                process.ready(&ring, 1);
            }
            dying.push(ring.process("claim 4 Block", FEW));
            dying[3].ready(&ring, 1);
            tx.send(&body(5)).unwrap();
            drop(tx);
            assert_eq!(quoit::recover(&ring.path).unwrap(), Recovered::default(), "all live");

            dying.iter().for_each(|process| process.send(libc::SIGKILL));
            dying.iter_mut().for_each(Process::kill);
            let found = quoit::recover(&ring.path).unwrap();
            assert_eq!((found.seats, found.skipped), (4, 1));
            let once = delivery == Delivery::AtMostOnce;
            let again = if once { (0, 2) } else { (2, 0) };
            assert_eq!((found.redelivered, found.lost), again);
            assert_eq!(quoit::recover(&ring.path).unwrap(), Recovered::default());
            assert_eq!(ring.deaths(), 4);
            assert_eq!([dying[2].journal.get(LOG), dying[2].journal.get(LOG + 1)], [1, 2]);

            let rx = Receiver::open(&ring.path).unwrap();
            let mut came: Vec<_> = std::iter::from_fn(|| rx.try_recv().ok())
                .map(|message| (id(&message), message.attempts()))
                .collect();
            let behind = came.split_off(if once { 0 } else { 2 });
            came.sort_unstable();
            assert_eq!(came, if once { vec![] } else { vec![(1, 2), (2, 2)] });
            assert_eq!(behind, [(3, 1), (5, 1)], "what was never committed is stepped over");
            assert_eq!((rx.stats().skipped, rx.recover().unwrap()), (1, Recovered::default()));
        }
    }
}

#[test]
fn the_end_is_told_after_what_was_in_other_hands_is_done_with() {
    for start in [0, 0u64.wrapping_sub(1)] {
        for round in 0..sized(8, 200) {
            let ring = Ring::new(Shape { start, ..Shape::default() });
            let tx = Sender::open(&ring.path).unwrap();
            tx.send(&body(round)).unwrap();
            let mut holder = ring.process("hold 1", FEW);
            holder.ready(&ring, 1);
            let mut heir = ring.process("sleep receiver Block", FEW);
            heir.ready(&ring, 1);
            heir.asleep();
            if round % 2 == 0 {
                // Nobody has found out when the last sender leaves.
                holder.kill();
                drop(tx);
                heir.finish();
                let noted = [COUNT, LOG, LOG + 1].map(|word| heir.journal.get(word));
                assert_eq!(noted, [1, round, 2], "count, message, attempt");
            } else {
                drop(tx);
                // It has heard of that, and waits for the one who is alive.
                heir.sleeps_on(2);
                holder.go(1);
                heir.finish();
                assert_eq!(heir.journal.get(COUNT), 0);
                holder.go(2);
                holder.finish();
            }
        }
    }
}

#[test]
fn those_who_hold_something_do_not_wait_for_each_other_at_the_end() {
    for start in [0, 0u64.wrapping_sub(1)] {
        let ring = Ring::new(Shape { start, ..Shape::default() });
        let tx = Sender::open(&ring.path).unwrap();
        let receivers: Vec<_> = (0..3).map(|_| Receiver::open(&ring.path).unwrap()).collect();
        (0..3).for_each(|number| tx.send(&body(number)).unwrap());
        let all_hold = Barrier::new(4);
        std::thread::scope(|scope| {
            for rx in receivers {
                let all_hold = &all_hold;
                scope.spawn(move || {
                    let held = rx.recv().unwrap();
                    all_hold.wait();
                    let error = rx.recv_timeout(Duration::from_secs(20)).map(drop).unwrap_err();
                    assert!(error.is_disconnected(), "{error}");
                    drop(held);
                    assert!(rx.recv().unwrap_err().is_disconnected());
                });
            }
            all_hold.wait();
            drop(tx);
        });
        assert_eq!(ring.info().used, 0);
    }
}
