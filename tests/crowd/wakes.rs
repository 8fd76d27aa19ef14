//! Several that sleep in one bed.
//!
//! Between processes every sleep is a slice, so a wake-up that is lost is made good before anybody hangs. The threads of a
//! channel sleep until they are woken: there it hangs, and the watchdog barks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use quoit::mpmc::{self, Message, Receiver, Sender};
use quoit::{Delivery, Options, Wait};

use crate::harness::{Process, Random, Ring, Shape, Watchdog, is_asleep, now, sized};
use crate::notes::{COUNT, LOG, READY};
use crate::stalled::FEW;
use crate::worker::{self, Worker, body, id};

/// Receives and writes down, until the last sender has left.
pub(crate) fn receiver(worker: &Worker, wait: &str) {
    let rx = worker.open_receiver(worker::wait(wait));
    worker.ready(1);
    let mut count = 0;
    while let Ok(message) = rx.recv() {
        worker.journal.set(LOG + 2 * count, id(&message));
        worker.journal.set(LOG + 2 * count + 1, u64::from(message.attempts()));
        count += 1;
        worker.journal.set(COUNT, count as u64);
    }
    worker.leave(rx);
}

/// Sends one message and leaves.
pub(crate) fn sender(worker: &Worker, wait: &str, number: u64) {
    let tx = worker.open_sender(worker::wait(wait));
    worker.ready(1);
    tx.send(&body(number)).unwrap();
    worker.ready(2);
    worker.until(1);
    worker.leave(tx);
}

/// Threads of a channel that receive, one message each time they are told to, and hold it until they are told to let go.
struct Sleepers {
    told: Arc<Told>,
    threads: Vec<JoinHandle<()>>,
    watchdog: Watchdog,
}

#[derive(Default)]
struct Told {
    /// So many rounds have begun, and in so many were the messages let go.
    round: AtomicU64,
    let_go: AtomicU64,
    /// Messages in hand since the threads began, and let go.
    in_hand: AtomicU64,
    done: AtomicU64,
    over: AtomicU64,
    ids: [AtomicU64; 8],
}

/// Waits for what other threads write into memory. The kernel's sleep here is none on a word of memory.
fn until(so: impl Fn() -> bool) {
    while !so() {
        std::thread::sleep(Duration::from_micros(20));
    }
}

fn thread_id() -> u64 {
    // SAFETY: gettid takes nothing.
    unsafe { libc::gettid() as u64 }
}

/// Waits until threads of this process sleep in the kernel on a word of memory.
fn all_asleep(ids: &[AtomicU64]) {
    for id in ids {
        until(|| id.load(SeqCst) != 0 && is_asleep(std::process::id(), id.load(SeqCst)));
    }
}

impl Sleepers {
    fn start(rx: &Receiver, count: u64) -> Sleepers {
        let told = Arc::new(Told::default());
        let threads = (0..count)
            .map(|index| {
                let (rx, told) = (rx.clone(), Arc::clone(&told));
                std::thread::spawn(move || {
                    told.ids[index as usize].store(thread_id(), SeqCst);
                    let mut round = 0;
                    loop {
                        round += 1;
                        // Nothing here sleeps in the kernel but `recv`.
                        until(|| told.round.load(SeqCst) >= round || told.over.load(SeqCst) == 1);
                        if told.over.load(SeqCst) == 1 {
                            return;
                        }
                        let message = rx.recv().unwrap();
                        told.in_hand.fetch_add(1, SeqCst);
                        until(|| told.let_go.load(SeqCst) >= round);
                        drop(message);
                        told.done.fetch_add(1, SeqCst);
                    }
                })
            })
            .collect();
        let seen = Arc::clone(&told);
        let watchdog = Watchdog::new(None, move || {
            let [round, in_hand, done] =
                [&seen.round, &seen.in_hand, &seen.done].map(|word| word.load(SeqCst));
            format!("round {round} of {count} sleepers; {in_hand} received, {done} let go of")
        });
        Sleepers { told, threads, watchdog }
    }

    fn count(&self) -> u64 {
        self.threads.len() as u64
    }

    /// All of them receive, and sleep.
    fn to_bed(&self) {
        self.told.round.fetch_add(1, SeqCst);
        self.all_asleep();
    }

    fn all_asleep(&self) {
        all_asleep(&self.told.ids[..self.threads.len()]);
    }

    /// Waits until each of them has a message in hand, all at the same time, then lets them go.
    fn all_in_hand(&self) {
        let round = self.told.round.load(SeqCst);
        until(|| self.told.in_hand.load(SeqCst) == round * self.count());
        self.told.let_go.store(round, SeqCst);
        until(|| self.told.done.load(SeqCst) == round * self.count());
        self.watchdog.alive();
    }

    fn end(self) {
        self.told.over.store(1, SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

fn channel(slots: usize, start: u64, wait: Wait) -> (Sender, Receiver) {
    let options = Options::new().capacity(slots).max_len(64).start_position(start);
    let (tx, rx) = mpmc::channel(&options).unwrap();
    tx.set_wait(wait);
    rx.set_wait(wait);
    (tx, rx)
}

/// Runs a claim with so many sleepers, on channels at 0 and near the end of all positions, for each way to sleep.
fn asleep(count: u64, mut claim: impl FnMut(&mut Sender, &Receiver, &Sleepers)) {
    for start in [0, 0u64.wrapping_sub(100)] {
        for wait in [Wait::Block, Wait::Adaptive] {
            let (mut tx, rx) = channel(8, start, wait);
            let sleepers = Sleepers::start(&rx, count);
            claim(&mut tx, &rx, &sleepers);
            sleepers.end();
        }
    }
}

/// Rounds of each kind.
fn rounds() -> u64 {
    sized(40, 2000)
}

#[test]
fn a_burst_wakes_as_many_as_there_are_messages() {
    asleep(4, |tx, _, sleepers| {
        for round in 0..rounds() {
            sleepers.to_bed();
            match round % 3 {
                0 => assert_eq!(tx.send_batch(&[[1], [2], [3], [4]]).unwrap(), 4),
                1 => (0..4).for_each(|_| tx.send(b"x").unwrap()),
                _ => {
                    tx.send(b"x").unwrap();
                    assert_eq!(tx.send_batch(&[[1], [2], [3]]).unwrap(), 3);
                }
            }
            sleepers.all_in_hand();
        }
    });
}

#[test]
fn one_message_at_a_time_wakes_one_sleeper_after_the_other() {
    asleep(4, |tx, _, sleepers| {
        for _ in 0..rounds() {
            sleepers.to_bed();
            for _ in 0..4 {
                let before = sleepers.told.in_hand.load(SeqCst);
                tx.send(b"x").unwrap();
                until(|| sleepers.told.in_hand.load(SeqCst) == before + 1);
            }
            sleepers.all_in_hand();
        }
    });
}

#[test]
fn messages_that_one_commit_sets_free_wake_as_many_as_there_are() {
    asleep(3, |tx, _, sleepers| {
        let behind = tx.clone();
        for round in 0..rounds() {
            let mut claim = tx.reserve(1).unwrap();
            sleepers.to_bed();
            behind.send(b"b").unwrap();
            behind.send(b"c").unwrap();
            // They were woken for nothing and sleep again.
            sleepers.all_asleep();
            if round % 2 == 0 {
                claim.write_at(0, b"a").unwrap();
                claim.commit().unwrap();
            } else {
                behind.send(b"d").unwrap();
                sleepers.all_asleep();
                // Given up, it lets them pass all the same.
                drop(claim);
            }
            sleepers.all_in_hand();
        }
    });
}

#[test]
fn a_claim_that_was_given_up_between_them_hides_no_message_from_a_sleeper() {
    asleep(2, |tx, _, sleepers| {
        let (mut other, behind) = (tx.clone(), tx.clone());
        for _ in 0..rounds() {
            let claim = tx.reserve(1).unwrap();
            let given_up = other.reserve(1).unwrap();
            behind.send(b"b").unwrap();
            drop(given_up);
            sleepers.to_bed();
            claim.commit().unwrap();
            sleepers.all_in_hand();
        }
    });
}

#[test]
fn messages_that_are_given_back_wake_sleepers_too() {
    asleep(2, |tx, rx, sleepers| {
        for _ in 0..rounds() {
            assert_eq!(tx.send_batch(&[[1], [2]]).unwrap(), 2);
            let mut held = Vec::new();
            assert_eq!(rx.recv_batch(&mut held, 2).unwrap(), 2);
            sleepers.to_bed();
            held.into_iter().for_each(Message::give_back);
            sleepers.all_in_hand();
        }
    });
}

/// Those who are awake take some of what one commit sets free, at any moment, and never pass anything on. Whoever slept gets
/// the rest.
#[test]
fn whoever_is_awake_takes_no_wake_up_from_those_who_sleep() {
    let mut random = Random::seeded("takers");
    asleep(2, |tx, rx, sleepers| {
        let behind = tx.clone();
        let taker = rx.clone();
        taker.set_wait(Wait::Spin);
        for _ in 0..rounds() {
            let claim = tx.reserve(1).unwrap();
            sleepers.to_bed();
            for _ in 0..3 {
                behind.send(b"b").unwrap();
            }
            sleepers.all_asleep();
            claim.commit().unwrap();
            let moment = now() + random.below(60_000);
            while now() < moment {
                std::hint::spin_loop();
            }
            let mut held = Vec::new();
            while held.len() < 2 {
                // Each is a call of its own, as of somebody who comes by.
                held.extend(taker.try_recv());
            }
            sleepers.all_in_hand();
        }
    });
}

/// Threads of a channel that send, one message each time they are told to.
struct Senders {
    told: Arc<Told>,
    threads: Vec<JoinHandle<()>>,
    watchdog: Watchdog,
}

impl Senders {
    fn start(tx: &Sender, count: u64) -> Senders {
        let told = Arc::new(Told::default());
        let threads = (0..count)
            .map(|index| {
                let (tx, told) = (tx.clone(), Arc::clone(&told));
                std::thread::spawn(move || {
                    told.ids[index as usize].store(thread_id(), SeqCst);
                    for round in 1..=rounds() {
                        until(|| told.round.load(SeqCst) >= round);
                        tx.send(b"late").unwrap();
                        told.done.fetch_add(1, SeqCst);
                    }
                })
            })
            .collect();
        let seen = Arc::clone(&told);
        let watchdog = Watchdog::new(None, move || {
            let [round, done] = [&seen.round, &seen.done].map(|word| word.load(SeqCst));
            format!("round {round} of {count} senders; {done} messages sent")
        });
        Senders { told, threads, watchdog }
    }

    /// All of them send, and sleep.
    fn to_bed(&self) {
        self.told.round.fetch_add(1, SeqCst);
        self.all_asleep();
    }

    fn all_asleep(&self) {
        all_asleep(&self.told.ids[..self.threads.len()]);
    }

    /// Waits until each of them has sent its message.
    fn all_sent(&self) {
        let sent = self.told.round.load(SeqCst) * self.threads.len() as u64;
        until(|| self.told.done.load(SeqCst) == sent);
        self.watchdog.alive();
    }

    fn end(self) {
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// Runs a claim with so many senders on a ring of four slots.
fn asleep_on_a_full_ring(count: u64, claim: impl Fn(&mut Sender, &Receiver, &Senders)) {
    for start in [0, 0u64.wrapping_sub(50)] {
        for wait in [Wait::Block, Wait::Adaptive] {
            let (mut tx, rx) = channel(4, start, wait);
            let senders = Senders::start(&tx, count);
            for _ in 0..rounds() {
                claim(&mut tx, &rx, &senders);
                senders.all_sent();
                for _ in 0..count {
                    assert_eq!(rx.recv().unwrap().to_vec(), b"late");
                }
            }
            senders.end();
        }
    }
}

#[test]
fn slots_that_are_released_out_of_order_wake_as_many_senders_as_there_is_room() {
    asleep_on_a_full_ring(3, |tx, rx, senders| {
        assert_eq!(tx.try_send_batch(&[[1], [2], [3]]).unwrap(), 3);
        let mut held = Vec::new();
        assert_eq!(rx.recv_batch(&mut held, 3).unwrap(), 3);
        tx.try_send(b"late").unwrap();
        senders.to_bed();
        // Woken, and the slot that is next is not the one that was released.
        drop(held.remove(2));
        drop(held.remove(1));
        senders.all_asleep();
        drop(held);
        senders.all_sent();
        assert_eq!(rx.recv().unwrap().to_vec(), b"late");
    });
}

#[test]
fn claims_that_were_given_up_make_room_for_as_many_senders_when_they_are_stepped_over() {
    asleep_on_a_full_ring(4, |tx, rx, senders| {
        for _ in 0..4 {
            drop(tx.try_reserve(1).unwrap());
        }
        senders.to_bed();
        assert!(rx.is_empty());
    });
}

/// Processes that sleep in `recv`.
fn sleeping(ring: &Ring, count: u64, wait: &str, entries: u64) -> Vec<Process> {
    let work = format!("sleep receiver {wait}");
    let mut sleepers: Vec<_> =
        (0..count).map(|_| ring.process(&work, 2 * entries as usize)).collect();
    sleepers.iter_mut().for_each(|sleeper| sleeper.ready(ring, 1));
    sleepers.iter_mut().for_each(Process::asleep);
    sleepers
}

fn received(sleepers: &[Process]) -> u64 {
    sleepers.iter().map(|sleeper| sleeper.journal.get(COUNT)).sum()
}

/// What each of them wrote down: ids and attempts.
fn log(sleeper: &Process) -> impl Iterator<Item = (u64, u64)> + '_ {
    (0..sleeper.journal.get(COUNT) as usize)
        .map(|entry| LOG + 2 * entry)
        .map(|at| (sleeper.journal.get(at), sleeper.journal.get(at + 1)))
}

/// Claims that were stepped over.
fn skipped(ring: &Ring) -> u64 {
    ring.info().seats.iter().map(|seat| seat.skipped).sum()
}

/// If each of these messages lay there until somebody's slice ends, the watchdog would bark.
const ONE_BY_ONE: u64 = 3_000;

#[test]
fn of_several_processes_asleep_one_is_woken_for_each_message_and_not_by_its_slice() {
    for wait in ["Block", "Adaptive"] {
        let ring = Ring::new(Shape { slots: 2, ..Shape::default() });
        let tx = Sender::open(&ring.path).unwrap();
        let mut sleepers = sleeping(&ring, 2, wait, ONE_BY_ONE);
        // The watchdog is not told of each: it is to bark when all of them take too long together.
        for number in 0..ONE_BY_ONE {
            sleepers.iter_mut().for_each(Process::asleep);
            tx.send(&body(number)).unwrap();
            while received(&sleepers) <= number {
                std::thread::yield_now();
            }
        }
        ring.alive();
        drop(tx);
        sleepers.iter_mut().for_each(Process::finish);
        let mut all: Vec<_> = sleepers.iter().flat_map(log).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq((0..ONE_BY_ONE).map(|number| (number, 1))));
    }
}

#[test]
fn a_message_whose_sleeper_is_killed_or_stopped_as_it_is_woken_is_picked_up_by_another() {
    let mut random = Random::seeded("woken and gone");
    let messages = sized(60, 1500);
    for delivery in [Delivery::AtLeastOnce, Delivery::AtMostOnce] {
        let ring = Ring::new(Shape { slots: 4, delivery, ..Shape::default() });
        let tx = Sender::open(&ring.path).unwrap();
        let mut sleepers = sleeping(&ring, 3, "Block", messages);
        let mut dead: Vec<Process> = Vec::new();
        let lost = || ring.info().lost;
        for number in 0..messages {
            sleepers.iter_mut().for_each(Process::asleep);
            // The kernel wakes whoever has slept longest; nobody knows who that is.
            let victim = random.below(3) as usize;
            let signal = if random.once_in(2) { libc::SIGKILL } else { libc::SIGSTOP };
            let moment = now() + random.below(40_000);
            let pause = || while now() < moment {};
            if random.once_in(3) {
                sleepers[victim].send(signal);
                pause();
                tx.send(&body(number)).unwrap();
            } else {
                tx.send(&body(number)).unwrap();
                pause();
                sleepers[victim].send(signal);
            }
            let got = |process: &Process| log(process).any(|(id, _)| id == number);
            if signal == libc::SIGSTOP {
                // Whoever has it, it does not lie there: the stopped one may have it in hand.
                ring.wait(&mut [], || tx.is_empty());
                sleepers[victim].go_on();
                ring.wait(&mut [], || sleepers.iter().any(got));
            } else {
                sleepers[victim].kill();
                let fresh = sleeping(&ring, 1, "Block", messages).remove(0);
                dead.push(std::mem::replace(&mut sleepers[victim], fresh));
                let last = dead.last().unwrap();
                ring.wait(&mut [], || {
                    got(last) || sleepers.iter().any(got) || tx.is_empty() && lost() > 0
                });
            }
        }
        quoit::recover(&ring.path).unwrap();
        drop(tx);
        sleepers.iter_mut().for_each(Process::finish);
        let mut times = vec![Vec::new(); messages as usize];
        for (number, attempts) in sleepers.iter().chain(&dead).flat_map(log) {
            times[number as usize].push(attempts);
        }
        let lost = lost();
        let missing = times.iter().filter(|times| times.is_empty()).count() as u64;
        match delivery {
            Delivery::AtMostOnce => {
                assert!(missing <= lost && lost <= dead.len() as u64, "{missing} of {lost}");
                assert!(times.iter().all(|times| times.len() <= 1));
            }
            _ => {
                assert_eq!((missing, lost), (0, 0));
                for times in &mut times {
                    times.sort_unstable();
                    assert!(times.windows(2).all(|two| two[0] < two[1]), "unmarked: {times:?}");
                }
            }
        }
    }
}

#[test]
fn a_claim_whose_sender_is_killed_lets_sleepers_pass() {
    for start in [0, 0u64.wrapping_sub(1)] {
        for wait in ["Block", "Adaptive", "Spin"] {
            let shape = Shape { slots: 4, start, keep_open: true, ..Shape::default() };
            let ring = Ring::new(shape);
            let tx = Sender::open(&ring.path).unwrap();
            for number in 0..sized(3, 100) {
                let mut dying = ring.process("claim 99 Block", FEW);
                dying.ready(&ring, 1);
                let work = format!("sleep receiver {wait}");
                let mut sleepers: Vec<_> = (0..2).map(|_| ring.process(&work, 2 * FEW)).collect();
                sleepers.iter_mut().for_each(|sleeper| sleeper.ready(&ring, 1));
                tx.send(&body(2 * number)).unwrap();
                tx.send(&body(2 * number + 1)).unwrap();
                if wait != "Spin" {
                    sleepers.iter_mut().for_each(Process::asleep);
                }
                assert_eq!(received(&sleepers), 0);
                dying.kill();
                ring.wait(&mut [], || received(&sleepers) == 2);
                let mut all: Vec<_> = sleepers.iter().flat_map(log).collect();
                all.sort_unstable();
                assert_eq!(all, [(2 * number, 1), (2 * number + 1, 1)]);
            }
            assert_eq!(skipped(&ring), sized(3, 100));
        }
    }
}

#[test]
fn a_message_in_a_dead_hand_wakes_a_sleeper_or_is_lost_and_makes_room() {
    for start in [0, 0u64.wrapping_sub(1)] {
        for wait in ["Block", "Adaptive"] {
            let ring = Ring::new(Shape { slots: 2, start, ..Shape::default() });
            let tx = Sender::open(&ring.path).unwrap();
            tx.send(&body(1)).unwrap();
            let mut dying = ring.process("hold 1", FEW);
            dying.ready(&ring, 1);
            let mut sleepers = sleeping(&ring, 2, wait, 1);
            dying.kill();
            ring.wait(&mut [], || received(&sleepers) == 1);
            drop(tx);
            sleepers.iter_mut().for_each(Process::finish);
            assert_eq!(sleepers.iter().flat_map(log).collect::<Vec<_>>(), [(1, 2)]);

            let delivery = Delivery::AtMostOnce;
            let ring = Ring::new(Shape { slots: 2, start, delivery, ..Shape::default() });
            let tx = Sender::open(&ring.path).unwrap();
            tx.send(&body(1)).unwrap();
            let mut dying = ring.process("hold 1", FEW);
            dying.ready(&ring, 1);
            tx.send(&body(2)).unwrap();
            let mut sleepers: Vec<_> = (3..5)
                .map(|number| ring.process(&format!("sleep sender {wait} {number}"), FEW))
                .collect();
            sleepers.iter_mut().for_each(|sleeper| sleeper.ready(&ring, 1));
            sleepers.iter_mut().for_each(Process::asleep);
            let heir = Receiver::open(&ring.path).unwrap();
            dying.kill();
            // There is room for one of the two.
            let sent = |process: &Process| process.journal.get(READY) == 2;
            ring.wait(&mut [], || sleepers.iter().any(sent));
            let came: Vec<_> = (0..3).map(|_| id(&heir.recv().unwrap())).collect();
            assert!(matches!(came[..], [2, 3, 4] | [2, 4, 3]), "{came:?}");
            assert_eq!(ring.info().lost, 1);
            sleepers.iter().for_each(|sleeper| sleeper.go(1));
            sleepers.iter_mut().for_each(Process::finish);
        }
    }
}
