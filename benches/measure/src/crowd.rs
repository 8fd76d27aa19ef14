//! Two senders and two receivers of one channel, on two processors: each has one of both.
//!
//! It knows that a queue hands on what each sender sends in its order, all of it and once, and asks for that. It refuses
//! to know the channel.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::thread;

use nix::sys::resource::UsageWho;
use quoit_transports::{Board, Mixed, Rx, Seen, Side, Source, Tx};

use crate::end::{Job, Outcome, Usage, timed};
use crate::work::{Done, Times, WARM_UP, WINDOW, stride};

const SENDERS: u32 = 2;

/// Words of the board, behind those of the other works.
const GOT_BY_THE_OTHER: usize = 5;
const SIDES_DONE: usize = 6;
const SENT: Tally = Tally(7);
const GOT: Tally = Tally(9);

/// Two words: how many messages, and what their numbers come to.
struct Tally(usize);

/// What one thread has seen pass.
#[derive(Default)]
struct Count {
    messages: u64,
    /// Spread out before they are added: one lost and another twice do not make up for each other.
    numbers: u64,
}

impl Count {
    #[inline(always)]
    fn add(&mut self, number: u64) {
        self.messages += 1;
        self.numbers =
            self.numbers.wrapping_add((number + 1).wrapping_mul(number ^ 0x9e37_79b9_7f4a_7c15));
    }
}

impl Tally {
    fn add(&self, board: &Board, count: &Count) {
        // Relaxed: `SIDES_DONE` orders them.
        board.word(self.0).fetch_add(count.messages, Relaxed);
        board.word(self.0 + 1).fetch_add(count.numbers, Relaxed);
    }

    fn read(&self, board: &Board) -> [u64; 2] {
        [0, 1].map(|word| board.word(self.0 + word).load(Relaxed))
    }
}

/// The client's part is a sender, the server's a receiver, which has the figures; each has a helper beside it on its
/// processor, which is the other thing and has a place at the board of its own.
pub(crate) fn part<T, R>(
    job: &Job,
    side: Side,
    [board, there]: [OwnedFd; 2],
    (mut tx, mut rx): (T, R),
) -> io::Result<Outcome>
where
    T: Tx + Send,
    R: Rx + Send,
{
    let board = &Board::open(board)?;
    let mut helped = Usage::default();
    let mut outcome = timed(job, side, board, |meter| {
        meter.begin()?;
        let done = thread::scope(|scope| {
            let (tx, rx) = (&mut tx, &mut rx);
            let (mine, helper): (io::Result<Option<Times>>, _) = match side {
                Side::Client => {
                    let helper = scope.spawn(move || {
                        receive(job, side, &Board::open(there)?, rx)?;
                        Usage::of(UsageWho::RUSAGE_THREAD)
                    });
                    (send(job, side, board, tx).map(|()| None), helper)
                }
                Side::Server => {
                    let helper = scope.spawn(move || {
                        send(job, side, &Board::open(there)?, tx)?;
                        Usage::of(UsageWho::RUSAGE_THREAD)
                    });
                    (receive(job, side, board, rx).map(Some), helper)
                }
            };
            let theirs = helper.join().map_err(|_| io::Error::other("a helper has panicked"))?;
            helped = theirs?;
            mine
        })?;
        meter.end()?;
        compare(side, board, done)
    })?;
    outcome.usage += helped;
    Ok(outcome)
}

/// Sends until the time is over; then one message that ends one receiver.
fn send(job: &Job, side: Side, board: &Board, tx: &mut impl Tx) -> io::Result<()> {
    let (clock, size) = (job.clock, job.shape.size);
    let mut source = Source::among(size, u32::from(side == Side::Server), SENDERS);
    if let Some(number) = job.spoil {
        source.spoil(number);
    }
    let end = clock.now() + clock.ticks(job.limits.run);
    let mut count = Count::default();
    let mut number = u64::from(side == Side::Server);
    while clock.now() < end {
        for _ in 0..stride(size) {
            source.emit(|message| tx.send(message))?;
            count.add(number);
            number += u64::from(SENDERS);
        }
    }
    SENT.add(board, &count);
    source.end(|message| tx.send(message))
}

/// Receives and checks until one sender ends it: the last of both to be ended has received all that was left. The
/// server's times windows, in which it counts what both have received.
fn receive(job: &Job, side: Side, board: &Board, rx: &mut impl Rx) -> io::Result<Times> {
    let (clock, size) = (job.clock, job.shape.size);
    let mut check = Mixed::new(size, SENDERS);
    let mut times = Times::new(clock);
    let other = board.word(GOT_BY_THE_OTHER);
    let begun = clock.now();
    let warm = begun + clock.ticks(job.limits.run / WARM_UP);
    let window = clock.ticks(WINDOW).max(1);
    let (mut count, mut start, mut before) = (Count::default(), None, 0);
    let mut wrong = None;
    'run: loop {
        for _ in 0..stride(size) {
            match check.look(rx.recv()?) {
                Ok(Seen::Next(number)) => count.add(number),
                Ok(Seen::End) => break 'run,
                // It goes on receiving: a sender that found no room would keep its side from telling.
                Err(error) => wrong = wrong.or(Some(error)),
            }
        }
        if side == Side::Client {
            // Relaxed: a number that is a little old makes a window a little shorter and the next one longer.
            other.store(count.messages, Relaxed);
            continue;
        }
        let (now, all) = (clock.now(), count.messages + other.load(Relaxed));
        match start {
            None if now >= warm => (start, before) = (Some(now), all),
            Some(since) if now - since >= window => {
                times.window(now - since, all - before);
                (start, before) = (Some(now), all);
            }
            _ => {}
        }
    }
    if let Some(wrong) = wrong {
        return Err(io::Error::other(wrong));
    }
    if times.messages == 0 && side == Side::Server {
        // Too short for a window: all that there was is one.
        let all = count.messages + other.load(Relaxed);
        times.window(clock.now() - begun, all.max(1));
    }
    GOT.add(board, &count);
    Ok(times)
}

/// Waits for the other side; then the server looks whether all that was sent has been received.
fn compare(side: Side, board: &Board, times: Option<Times>) -> io::Result<Done> {
    // Release and Acquire: whoever sees both sees what they have added.
    board.word(SIDES_DONE).fetch_add(1, Release);
    while side == Side::Server && board.word(SIDES_DONE).load(Acquire) < 2 {
        thread::yield_now();
    }
    let (sent, got) = (SENT.read(board), GOT.read(board));
    if side == Side::Server && sent != got {
        return Err(io::Error::other(format!(
            "{} messages were sent and {} received, and they are not the same",
            sent[0], got[0]
        )));
    }
    let messages = if side == Side::Server { got[0] } else { 0 };
    Ok(Done { times, messages, own_calls: 0 })
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use quoit_transports::{Clock, Shape, Wait};

    use super::*;
    use crate::work::{Limits, Work};

    /// What a queue does to the message that is put at a place.
    #[derive(Clone, Copy)]
    enum Fault {
        None,
        Loses,
        Repeats,
    }

    const SIZE: usize = 16;
    const PLACE: usize = 1000;

    struct Queue {
        messages: VecDeque<Vec<u8>>,
        put: usize,
        fault: Fault,
    }

    #[derive(Clone)]
    struct End(Arc<Mutex<Queue>>, Vec<u8>);

    impl Tx for End {
        fn send(&mut self, message: &[u8]) -> io::Result<()> {
            let mut queue = self.0.lock().unwrap();
            let message = message.to_vec();
            queue.put += 1;
            match (queue.put, queue.fault) {
                (PLACE, Fault::Loses) => return Ok(()),
                (PLACE, Fault::Repeats) => queue.messages.push_back(message.clone()),
                _ => {}
            }
            queue.messages.push_back(message);
            Ok(())
        }
    }

    impl Rx for End {
        fn recv(&mut self) -> io::Result<&[u8]> {
            loop {
                let mut queue = self.0.lock().unwrap();
                // Nothing is taken before the place of the fault is full.
                if queue.put > PLACE + 1
                    && let Some(message) = queue.messages.pop_front()
                {
                    self.1 = message;
                    return Ok(&self.1);
                }
                drop(queue);
                thread::yield_now();
            }
        }
    }

    /// Both sides over such a queue: what they say, in no order.
    fn both(fault: Fault, spoil: Option<u64>) -> Vec<io::Result<Outcome>> {
        let queue = Queue { messages: VecDeque::new(), put: 0, fault };
        let end = End(Arc::new(Mutex::new(queue)), Vec::new());
        let job = Job {
            rank: 0,
            shape: Shape { size: SIZE, wait: Wait::Spin },
            side: None,
            work: Work::Crowd,
            limits: Limits { run: Duration::from_millis(20), messages: None, rate: 1 },
            floor: Some(Duration::from_millis(1)),
            cores: None,
            clock: Clock::Kernel,
            spoil,
            names: Vec::new(),
        };
        let board = Board::create().unwrap();
        let (say, hear) = std::sync::mpsc::channel();
        for side in [Side::Client, Side::Server] {
            let boards = [board.try_clone().unwrap(), board.try_clone().unwrap()];
            let (say, job, ends) = (say.clone(), job.clone(), (end.clone(), end.clone()));
            thread::spawn(move || {
                // Whoever has heard enough is gone.
                let _ = say.send(part(&job, side, boards, ends));
            });
        }
        drop(say);
        // Who waits for one that has failed goes on until the process ends.
        let mut said = Vec::new();
        for outcome in hear {
            let failed = outcome.is_err();
            said.push(outcome);
            if failed {
                break;
            }
        }
        said
    }

    #[test]
    fn what_two_and_two_hand_on_is_counted_and_timed() {
        let said = both(Fault::None, None);
        let outcomes: Vec<Outcome> = said.into_iter().map(Result::unwrap).collect();
        let messages: u64 = outcomes.iter().map(|outcome| outcome.messages).sum();
        let figures: Vec<_> = outcomes.iter().filter_map(|o| o.figures.as_ref()).collect();
        assert_eq!((outcomes.len(), figures.len()), (2, 1));
        assert!(messages > PLACE as u64 && figures[0].messages <= messages);
    }

    #[test]
    fn one_message_lost_repeated_or_spoilt_between_four_is_noticed() {
        for (fault, spoil) in [
            (Fault::Loses, None),
            (Fault::Repeats, None),
            (Fault::None, Some(2)),
            (Fault::None, Some(3)),
        ] {
            let error = both(fault, spoil).pop().unwrap().expect_err("nobody noticed");
            // A receiver may have seen by itself what was repeated.
            let words = match spoil {
                Some(number) => vec![format!("message {number} did not arrive")],
                None => {
                    ["they are not the same", "one before it came after it"].map(Into::into).into()
                }
            };
            assert!(words.iter().any(|word| error.to_string().contains(word)), "{error}");
        }
    }

    #[test]
    fn one_that_came_twice_does_not_make_up_for_those_that_did_not_come() {
        let board = Board::open(Board::create().unwrap()).unwrap();
        for (tally, numbers) in [(SENT, [0, 1, 2, 3]), (GOT, [0, 1, 1, 4])] {
            let mut count = Count::default();
            numbers.into_iter().for_each(|number| count.add(number));
            tally.add(&board, &count);
        }
        assert_ne!(SENT.read(&board), GOT.read(&board));
    }
}
