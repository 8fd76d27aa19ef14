//! What is asked of a transport: four works, as each of the two ends does them (a fifth is in `crowd`).
//!
//! It knows numbered messages, the clock that both ends share, and when a work is over. It refuses to know which
//! transport it is given, and what the figures mean.

use std::io;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use hdrhistogram::Histogram;
use quoit_transports::{Board, Check, Clock, Rx, Seen, Source, Tx};
use serde::{Deserialize, Serialize};

use crate::meter::Meter;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// The client sends, the server answers with a message of the same size; timed by the client.
    Roundtrip,
    /// The client sends as fast as it can; the server times windows of messages.
    Stream,
    /// A message that comes after the receiver has slept: from just before it is sent until it is there.
    Wake,
    /// A message at every tick of a rate: from the moment that it was due until it is there.
    FixedRate,
    /// Two senders and two receivers of one channel; a receiver times windows of what both receive.
    #[serde(rename = "stream-2x2")]
    Crowd,
}

impl Work {
    /// What is asked of two ends.
    pub const ALL: [Work; 4] = [Work::Roundtrip, Work::Stream, Work::Wake, Work::FixedRate];

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Work::Roundtrip => "roundtrip",
            Work::Stream => "stream",
            Work::Wake => "wake",
            Work::FixedRate => "fixed-rate",
            Work::Crowd => "stream-2x2",
        }
    }

    /// The process that has the figures.
    pub(crate) fn timed_by_the_client(self) -> bool {
        self == Work::Roundtrip
    }
}

/// How long a work goes on.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// So long, the warm-up in the first fifth of it, but [`LEAST`] figures in any case.
    pub(crate) run: Duration,
    /// No more messages than these, and none of them warm-up.
    pub(crate) messages: Option<u64>,
    /// Messages a second of a fixed rate.
    pub(crate) rate: u64,
}

/// So many figures are taken even when the time is over.
const LEAST: u64 = 3;
/// The first fifth is warm-up.
pub(crate) const WARM_UP: u32 = 5;
/// So long a receiver is left alone, that it may sleep; a little more or less from one message to the next.
const GAP: Duration = Duration::from_millis(1);
const GAP_STEP: Duration = Duration::from_micros(37);
pub(crate) const WINDOW: Duration = Duration::from_millis(1);
/// From the server's being ready to the first message of a fixed rate.
const START: Duration = Duration::from_micros(500);

/// Words of the board; 0 and 1 are the floor's.
const SENT: usize = 2;
const GOT: usize = 3;
const BEGUN: usize = 4;

/// Latencies are counted in picoseconds: a message of a stream takes a few nanoseconds.
pub const PS: f64 = 1000.0;

/// What was timed.
#[derive(Debug)]
pub(crate) struct Times {
    clock: Clock,
    pub(crate) histogram: Histogram<u64>,
    /// Messages that the figures are about, and how long they took together.
    pub(crate) messages: u64,
    pub(crate) ns: f64,
}

/// A histogram of times in picoseconds: up to a minute, three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000_000, 3).expect("bounds that make sense")
}

impl Times {
    pub(crate) fn new(clock: Clock) -> Times {
        Times { clock, histogram: histogram(), messages: 0, ns: 0.0 }
    }

    #[inline(always)]
    fn add(&mut self, ticks: u64) {
        self.histogram.saturating_record((self.clock.ns(ticks) * PS) as u64);
    }

    /// So many messages in so long: the mean is one figure.
    pub(crate) fn window(&mut self, ticks: u64, count: u64) {
        let ns = self.clock.ns(ticks);
        self.histogram.saturating_record((ns * PS / count as f64) as u64);
        self.messages += count;
        self.ns += ns;
    }
}

/// The mean of the middle four fifths, in nanoseconds: what neither the steps of the clock nor interruptions move.
pub(crate) fn typical(times: &Histogram<u64>) -> f64 {
    let (low, high) = (times.len() / 10, times.len() - times.len() / 10);
    let (mut below, mut sum) = (0, 0.0);
    for step in times.iter_recorded() {
        let (from, to) = (below, below + step.count_since_last_iteration());
        let inside = to.min(high).saturating_sub(from.max(low));
        sum += step.value_iterated_to() as f64 * inside as f64;
        below = to;
    }
    sum / PS / (high - low) as f64
}

/// How many messages pass between two looks at the clock: 16 KiB of them, at most 256, so that it does not show.
pub(crate) fn stride(size: usize) -> u64 {
    (16 * 1024 / size as u64).clamp(1, 256)
}

/// What one side did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) times: Option<Times>,
    /// Messages that passed in either direction, warm-up included.
    pub(crate) messages: u64,
    /// System calls that the work itself made, to let time pass.
    pub(crate) own_calls: u64,
}

/// What both sides have when a work begins.
pub(crate) struct Ends<'a, T, R> {
    pub(crate) tx: T,
    pub(crate) rx: R,
    pub(crate) board: &'a Board,
    pub(crate) clock: Clock,
    pub(crate) size: usize,
    /// The client turns a bit of this message.
    pub(crate) spoil: Option<u64>,
}

fn alone() -> io::Error {
    io::Error::other("two ends are no crowd")
}

impl<T: Tx, R: Rx> Ends<'_, T, R> {
    /// The client's part.
    pub(crate) fn ask(
        &mut self,
        work: Work,
        limits: &Limits,
        meter: &mut Meter<'_>,
    ) -> io::Result<Done> {
        let mut source = Source::new(self.size);
        if let Some(number) = self.spoil {
            source.spoil(number);
        }
        match work {
            Work::Roundtrip => self.trips(source, limits, meter),
            Work::Stream => self.pour(source, limits, meter),
            Work::Wake => self.rouse(source, limits, meter),
            Work::FixedRate => self.pace(source, limits, meter),
            Work::Crowd => Err(alone()),
        }
    }

    /// The server's part.
    pub(crate) fn answer(
        &mut self,
        work: Work,
        limits: &Limits,
        meter: &mut Meter<'_>,
    ) -> io::Result<Done> {
        match work {
            Work::Roundtrip => self.reply(meter),
            Work::Stream => self.drain(limits, meter),
            Work::Wake => self.be_roused(meter),
            Work::FixedRate => self.keep_pace(limits, meter),
            Work::Crowd => Err(alone()),
        }
    }

    fn end(&mut self, mut source: Source) -> io::Result<()> {
        source.end(|message| self.tx.send(message))
    }

    /// Round trips, each timed; the answer is checked like the question.
    fn trips(
        &mut self,
        mut source: Source,
        limits: &Limits,
        meter: &mut Meter<'_>,
    ) -> io::Result<Done> {
        let mut check = Check::new(self.size);
        let mut times = Times::new(self.clock);
        let most = limits.messages.unwrap_or(u64::MAX);
        meter.begin()?;
        let begun = self.clock.now();
        let warm = match limits.messages {
            Some(_) => begun,
            None => begun + self.clock.ticks(limits.run / WARM_UP),
        };
        let end = begun + self.clock.ticks(limits.run);
        let (mut trips, mut first) = (0, None);
        loop {
            let start = self.clock.now();
            source.emit(|message| self.tx.send(message))?;
            let seen = check.look(self.rx.recv()?).map_err(io::Error::other)?;
            let now = self.clock.now();
            if seen == Seen::End {
                return Err(io::Error::other("the server has ended before its time"));
            }
            trips += 1;
            if start >= warm {
                let first = *first.get_or_insert(start);
                times.add(now.saturating_sub(start));
                if trips >= most || (now >= end && times.histogram.len() >= LEAST) {
                    times.ns = self.clock.ns(now - first);
                    break;
                }
            }
        }
        self.end(source)?;
        meter.end()?;
        times.messages = times.histogram.len() * 2;
        Ok(Done { times: Some(times), messages: trips * 2, own_calls: 0 })
    }

    fn reply(&mut self, meter: &mut Meter<'_>) -> io::Result<Done> {
        let (mut source, mut check) = (Source::new(self.size), Check::new(self.size));
        meter.begin()?;
        while check.look(self.rx.recv()?).map_err(io::Error::other)? != Seen::End {
            source.emit(|message| self.tx.send(message))?;
        }
        meter.end()?;
        Ok(Done { times: None, messages: 0, own_calls: 0 })
    }

    fn pour(
        &mut self,
        mut source: Source,
        limits: &Limits,
        meter: &mut Meter<'_>,
    ) -> io::Result<Done> {
        let most = limits.messages.unwrap_or(u64::MAX);
        meter.begin()?;
        let end = self.clock.now() + self.clock.ticks(limits.run);
        // The server needs a window after its warm-up, and may begin later.
        let least = if limits.messages.is_some() { 1 } else { stride(self.size) * 8 };
        let mut sent = 0;
        while sent < most && (sent < least || self.clock.now() < end) {
            for _ in 0..stride(self.size).min(most - sent) {
                source.emit(|message| self.tx.send(message))?;
                sent += 1;
            }
        }
        self.end(source)?;
        meter.end()?;
        Ok(Done { times: None, messages: 0, own_calls: 0 })
    }

    /// Receives and checks, and times windows: a figure is the mean of a window, so a standstill counts as long as it was.
    fn drain(&mut self, limits: &Limits, meter: &mut Meter<'_>) -> io::Result<Done> {
        let mut check = Check::new(self.size);
        let mut times = Times::new(self.clock);
        meter.begin()?;
        let begun = self.clock.now();
        let warm = begun + self.clock.ticks(limits.run / WARM_UP);
        let window = self.clock.ticks(WINDOW.min(limits.run / 20)).max(1);
        let stride = stride(self.size);
        let (mut received, mut warming) = (0, true);
        let (mut start, mut count) = (begun, 0);
        'run: loop {
            for _ in 0..stride {
                if check.look(self.rx.recv()?).map_err(io::Error::other)? == Seen::End {
                    break 'run;
                }
                received += 1;
                count += 1;
            }
            let now = self.clock.now();
            if warming {
                if now >= warm {
                    (warming, start, count) = (false, now, 0);
                }
            } else if now - start >= window {
                times.window(now - start, count);
                (start, count) = (now, 0);
            }
        }
        if times.messages == 0 && received > 0 {
            // Too short for a window: all that there was is one.
            let (since, count) =
                if warming || count == 0 { (begun, received) } else { (start, count) };
            times.window(self.clock.now() - since, count);
        }
        meter.end()?;
        Ok(Done { times: Some(times), messages: received, own_calls: 0 })
    }

    /// Lets the receiver sleep, then sends; and again when that has arrived.
    fn rouse(
        &mut self,
        mut source: Source,
        limits: &Limits,
        meter: &mut Meter<'_>,
    ) -> io::Result<Done> {
        let most = limits.messages.unwrap_or(u64::MAX);
        meter.begin()?;
        let end = self.clock.now() + self.clock.ticks(limits.run);
        let (mut sent, mut own_calls) = (0, 0);
        while sent < most && (sent <= LEAST || self.clock.now() < end) {
            loop {
                std::thread::sleep(GAP + GAP_STEP * (sent % 8) as u32);
                own_calls += 1;
                // Acquire: pairs with the Release in `be_roused`.
                if self.board.word(GOT).load(Acquire) == sent {
                    break;
                }
            }
            // Release: pairs with the Acquire in `be_roused`, as the message itself does.
            self.board.word(SENT).store(self.clock.now(), Release);
            source.emit(|message| self.tx.send(message))?;
            sent += 1;
        }
        self.end(source)?;
        meter.end()?;
        Ok(Done { times: None, messages: 0, own_calls })
    }

    fn be_roused(&mut self, meter: &mut Meter<'_>) -> io::Result<Done> {
        let mut check = Check::new(self.size);
        let mut times = Times::new(self.clock);
        meter.begin()?;
        let begun = self.clock.now();
        loop {
            let message = self.rx.recv()?;
            let now = self.clock.now();
            let Seen::Next(number) = check.look(message).map_err(io::Error::other)? else { break };
            let sent = self.board.word(SENT).load(Acquire);
            // The first finds a process that has only just come.
            if number > 0 {
                times.add(now.saturating_sub(sent));
            }
            self.board.word(GOT).store(number + 1, Release);
        }
        times.ns = self.clock.ns(self.clock.now() - begun);
        meter.end()?;
        times.messages = times.histogram.len();
        let messages = times.messages + 1;
        Ok(Done { times: Some(times), messages, own_calls: 0 })
    }

    /// Sends each message when it is due, or as soon after that as there is room; whoever is late does not wait for the
    /// next tick, and the receiver counts from the tick in any case.
    fn pace(
        &mut self,
        mut source: Source,
        limits: &Limits,
        meter: &mut Meter<'_>,
    ) -> io::Result<Done> {
        let all = limits.messages.unwrap_or(u64::MAX).min(limits.due());
        meter.begin()?;
        let start = self.clock.now() + self.clock.ticks(START);
        // A rate that the transport cannot keep ends after twice its time.
        let end = start + self.clock.ticks(limits.run * 2);
        // Release: pairs with the Acquire in `keep_pace`.
        self.board.word(BEGUN).store(start, Release);
        for number in 0..all {
            let due = start + self.tick(number, limits);
            let mut now = self.clock.now();
            while now < due {
                std::hint::spin_loop();
                now = self.clock.now();
            }
            if now >= end && number > LEAST * 2 {
                break;
            }
            source.emit(|message| self.tx.send(message))?;
        }
        self.end(source)?;
        meter.end()?;
        Ok(Done { times: None, messages: 0, own_calls: 0 })
    }

    fn keep_pace(&mut self, limits: &Limits, meter: &mut Meter<'_>) -> io::Result<Done> {
        let mut check = Check::new(self.size);
        let mut times = Times::new(self.clock);
        let (mut received, mut begun) = (0, 0);
        let warm = if limits.messages.is_some() { 0 } else { limits.due() / 10 };
        let mut last = 0;
        meter.begin()?;
        loop {
            let message = self.rx.recv()?;
            let now = self.clock.now();
            let Seen::Next(number) = check.look(message).map_err(io::Error::other)? else { break };
            if received == 0 {
                begun = self.board.word(BEGUN).load(Acquire);
            }
            received += 1;
            let due = begun + self.tick(number, limits);
            if number >= warm || number >= LEAST {
                times.add(now.saturating_sub(due));
            }
            last = now;
        }
        meter.end()?;
        times.messages = times.histogram.len();
        times.ns = self.clock.ns(last.saturating_sub(begun)) * times.messages as f64
            / received.max(1) as f64;
        Ok(Done { times: Some(times), messages: received, own_calls: 0 })
    }

    /// When a message is due, from the first on.
    fn tick(&self, number: u64, limits: &Limits) -> u64 {
        let ns = u128::from(number) * 1_000_000_000 / u128::from(limits.rate);
        self.clock.ticks(Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX)))
    }
}

impl Limits {
    /// How many messages a fixed rate comes to.
    fn due(&self) -> u64 {
        ((self.run.as_secs_f64() * self.rate as f64) as u64).max(LEAST * 4)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nix::sys::resource::UsageWho;
    use quoit_transports::{Pipe, Shape, Side, Transport, Wait};

    use super::*;

    const STALL: Duration = Duration::from_millis(30);

    /// A sender that stands still once, before a message.
    struct Stalling<T> {
        tx: T,
        before: u64,
    }

    impl<T: Tx> Tx for Stalling<T> {
        fn send(&mut self, message: &[u8]) -> io::Result<()> {
            if self.before == 0 {
                thread::sleep(STALL);
            }
            self.before = self.before.wrapping_sub(1);
            self.tx.send(message)
        }
    }

    /// Both parts of a work, over pipes, with such a sender: what the client and the server did.
    fn both(work: Work, limits: Limits) -> (Done, Done) {
        let shape = Shape { size: 16, wait: Wait::Block };
        let Ok(laid) = Pipe::lay(&shape) else { panic!("no pipe") };
        let (client, server) = (laid.client, laid.server);
        let here = Board::create().unwrap();
        let there = here.try_clone().unwrap();
        let (clock, size, spoil) = (Clock::Kernel, shape.size, None);
        thread::scope(|scope| {
            let server = scope.spawn(move || {
                let board = Board::open(there).unwrap();
                let (tx, rx) = Pipe::ends(server, Side::Server, &shape).unwrap();
                let mut meter = Meter::new(&board, UsageWho::RUSAGE_THREAD, false);
                let mut ends = Ends { tx, rx, board: &board, clock, size, spoil };
                let done = ends.answer(work, &limits, &mut meter).unwrap();
                meter.usage().unwrap();
                done
            });
            let board = Board::open(here).unwrap();
            let (tx, rx) = Pipe::ends(client, Side::Client, &shape).unwrap();
            let tx = Stalling { tx, before: 50 };
            let mut meter = Meter::new(&board, UsageWho::RUSAGE_THREAD, false);
            let done = Ends { tx, rx, board: &board, clock, size, spoil }
                .ask(work, &limits, &mut meter)
                .unwrap();
            meter.usage().unwrap();
            (done, server.join().unwrap())
        })
    }

    fn limits(messages: u64) -> Limits {
        Limits { run: Duration::from_secs(10), messages: Some(messages), rate: 2000 }
    }

    #[test]
    fn all_that_was_due_while_the_sender_stood_still_is_late() {
        let (_, server) = both(Work::FixedRate, limits(200));
        let times = server.times.unwrap().histogram;
        assert_eq!(times.len(), 200);
        // 60 were due meanwhile, half of them in its first half; from when it was sent, one was late at most.
        let half = (STALL / 2).as_nanos() as u64 * 1000;
        let late = times.count_between(half, u64::MAX);
        assert!(late >= 29, "{late}");
    }

    #[test]
    fn a_round_trip_is_two_messages_and_one_time() {
        let (client, server) = both(Work::Roundtrip, limits(100));
        let times = client.times.unwrap();
        assert_eq!((client.messages, times.messages, times.histogram.len()), (200, 200, 100));
        assert!(times.histogram.max() >= STALL.as_nanos() as u64 * 999);
        assert!(server.times.is_none());
    }

    #[test]
    fn a_stream_counts_what_arrived() {
        let (_, server) = both(Work::Stream, limits(20_000));
        let times = server.times.unwrap();
        assert_eq!(server.messages, 20_000);
        assert!(times.messages > 0 && times.messages <= 20_000);
    }

    #[test]
    fn who_is_waked_is_timed_from_when_the_message_was_sent() {
        let (client, server) = both(Work::Wake, limits(60));
        let times = server.times.unwrap();
        // The first is no figure: its receiver has only just come.
        assert_eq!((server.messages, times.histogram.len()), (60, 59));
        assert!(client.own_calls >= 60);
        // Its sender stood still between the clock and the call.
        assert!(times.histogram.max() >= STALL.as_nanos() as u64 * 999);
    }
}
