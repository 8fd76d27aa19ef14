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
    let mut outcome = timed(job, side, board, || {
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
    'run: loop {
        for _ in 0..stride(size) {
            match check.look(rx.recv()?).map_err(io::Error::other)? {
                Seen::Next(number) => count.add(number),
                Seen::End => break 'run,
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
