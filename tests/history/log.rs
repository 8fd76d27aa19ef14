//! What a process called and what it was answered, written down call by call into a file that outlives it, and read again.
//!
//! Knows words, files and the clock. Knows nothing of what may follow from what (`check`).
//!
//! An entry is begun before the call and ended after it, so a process that is killed leaves the call that it was in without a
//! response. Its words are stored in order, the invocation last of what is known before the call and the response last of
//! all: the file is mapped, and what is stored stays when the process is killed.
//!
//! # Why there are fences around the clock
//!
//! A store is seen by other processors a little after its program has gone on, and a load may be made before the look at the
//! clock that stands before it. Nothing promises otherwise: what `Ok` promises to others who share no more than a clock is
//! nothing at all. A full fence on both sides of each look makes the times bound what others can see: what was stored before
//! a response is seen by every call whose invocation is later. (The kernel keeps this clock in step on all processors.)

use std::path::Path;
use std::sync::atomic::{Ordering, fence};

use crate::check::{Answer, Fate, GivenUp, Handle, History, NEVER, Sent, Span, Taken, sender_of};
use crate::harness::now;
use crate::journal::Journal;

/// The most messages of one call.
pub(crate) const BATCH: usize = 8;

/// Bits of an id that count the messages of its sender.
const NUMBER: u32 = 40;

/// The id of a sender's message.
pub(crate) fn id_of(sender: u64, number: u64) -> u64 {
    assert!(number >> NUMBER == 0 && sender < 1 << 20);
    sender << NUMBER | number
}

// An entry: from when to when the call took, what it was, of which messages, where; then what became of a claim or of a
// message in hand, from when to when.
const FROM: usize = 0;
const TO: usize = 1;
const WHAT: usize = 2;
const ID: usize = 3;
const PLACE: usize = 4;
const THEN_FROM: usize = 5;
const THEN_TO: usize = 6;
const THEN: usize = 7;
const WORDS: usize = 8;

/// What was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    OpenSender = 1,
    OpenReceiver,
    Leave,
    Send,
    Reserve,
    Receive,
    /// A message that the last `Receive` handed out.
    Message,
}

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Ok = 1,
    /// Empty, or full.
    NotNow,
    TimedOut,
    Ended,
}

/// What was then done with a claim, or with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Commit = 1,
    Drop,
    Release,
    GiveBack,
}

fn one_of<T: Copy>(all: &[T], number: u64) -> T {
    all[number as usize - 1]
}

const CALLS: [Call; 7] = [
    Call::OpenSender,
    Call::OpenReceiver,
    Call::Leave,
    Call::Send,
    Call::Reserve,
    Call::Receive,
    Call::Message,
];
const SAID: [Said; 4] = [Said::Ok, Said::NotNow, Said::TimedOut, Said::Ended];
const THENS: [Then; 4] = [Then::Commit, Then::Drop, Then::Release, Then::GiveBack];

/// A moment that bounds what others see.
fn moment() -> u64 {
    fence(Ordering::SeqCst);
    let now = now();
    fence(Ordering::SeqCst);
    now
}

/// A file of entries.
pub(crate) struct Log {
    words: Journal,
    next: usize,
    room: usize,
}

impl Log {
    /// A fresh log with room for so many entries. The file has holes where nothing was written.
    pub(crate) fn create(path: &Path, room: usize) -> Log {
        Log { words: Journal::create(path.to_str().unwrap(), room * WORDS), next: 0, room }
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.next
    }

    /// Room for one entry, which must not be the last of the file: readers stop at one that is not there.
    fn entry(&mut self) -> usize {
        assert!(self.next + 1 < self.room, "the log is full");
        self.next += 1;
        self.next - 1
    }

    fn set(&self, entry: usize, word: usize, value: u64) {
        // Release: in order, so that what a kill leaves is a beginning.
        self.words.word(entry * WORDS + word).store(value, Ordering::Release);
    }

    fn get(&self, entry: usize, word: usize) -> u64 {
        self.words.word(entry * WORDS + word).load(Ordering::Acquire)
    }

    fn begin(&mut self, call: Call, id: u64, asked: usize) -> usize {
        let entry = self.entry();
        self.set(entry, ID, id);
        self.set(entry, WHAT, call as u64 | (asked as u64) << 16);
        self.set(entry, FROM, moment());
        entry
    }

    fn end(&self, entry: usize, said: Said, got: usize) {
        let to = moment();
        let what = self.get(entry, WHAT) | (said as u64) << 8 | (got as u64) << 32;
        self.set(entry, WHAT, what);
        self.set(entry, TO, to);
    }

    /// Opening or leaving.
    pub(crate) fn around<T>(&mut self, call: Call, work: impl FnOnce() -> T) -> T {
        let entry = self.begin(call, 0, 0);
        let done = work();
        self.end(entry, Said::Ok, 0);
        done
    }

    /// A call that sends `asked` messages from `id` on, and answers how many were sent, or why none was.
    pub(crate) fn send(
        &mut self,
        id: u64,
        asked: usize,
        call: impl FnOnce() -> Result<usize, Said>,
    ) -> Result<usize, Said> {
        let entry = self.begin(Call::Send, id, asked);
        let sent = call();
        match sent {
            Ok(sent) => self.end(entry, Said::Ok, sent),
            Err(said) => self.end(entry, said, 0),
        }
        sent
    }

    /// A call that claims room for message `id`; answers the claim and its entry.
    pub(crate) fn reserve<T>(
        &mut self,
        id: u64,
        call: impl FnOnce() -> Result<T, Said>,
    ) -> Result<(T, usize), Said> {
        let entry = self.begin(Call::Reserve, id, 1);
        match call() {
            Ok(claim) => {
                self.end(entry, Said::Ok, 1);
                Ok((claim, entry))
            }
            Err(said) => {
                self.end(entry, said, 0);
                Err(said)
            }
        }
    }

    /// What is done with a claim or a message that was written down.
    pub(crate) fn then<T>(&self, entry: usize, then: Then, work: impl FnOnce() -> T) -> T {
        self.set(entry, THEN, then as u64);
        self.set(entry, THEN_FROM, moment());
        let done = work();
        self.set(entry, THEN_TO, moment());
        done
    }

    /// A call that receives; `tell` says of each message its id, its position and its attempts. Answers the messages and
    /// their entries.
    pub(crate) fn receive<M>(
        &mut self,
        call: impl FnOnce() -> Result<Vec<M>, Said>,
        tell: impl Fn(&M) -> (u64, u64, u32),
    ) -> Result<Vec<(M, usize)>, Said> {
        let receive = self.begin(Call::Receive, 0, 0);
        let messages = match call() {
            Ok(messages) => messages,
            Err(said) => {
                self.end(receive, said, 0);
                return Err(said);
            }
        };
        // Before the messages: they say so too, and a receiver that dies in between had them unseen.
        self.end(receive, Said::Ok, messages.len());
        let (from, to) = (self.get(receive, FROM), self.get(receive, TO));
        let noted = messages.into_iter().map(|message| {
            let (id, place, attempts) = tell(&message);
            let entry = self.entry();
            let what = Call::Message as u64 | (Said::Ok as u64) << 8 | u64::from(attempts) << 48;
            for (word, value) in [(ID, id), (PLACE, place), (WHAT, what), (TO, to), (FROM, from)] {
                self.set(entry, word, value);
            }
            (message, entry)
        });
        Ok(noted.collect())
    }
}

/// What many calls were answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Calls that send, claim or receive.
    pub(crate) calls: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) full: u64,
    pub(crate) empty: u64,
    pub(crate) timeouts: [u64; 2],
    pub(crate) ends: u64,
    pub(crate) given_up: u64,
    pub(crate) given_back: u64,
    pub(crate) in_doubt: u64,
    /// When the first and the last of them was made.
    pub(crate) time: Option<Span>,
}

/// How a log is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// Whose it is.
    pub(crate) number: u64,
    /// The position of the ring's first message, and how many positions there are.
    pub(crate) start: u64,
    pub(crate) positions: u64,
    /// From when it was surely alive to when it was surely dead, if it was killed.
    pub(crate) killed: Option<Span>,
}

/// Reads a log into a history.
pub(crate) fn read(path: &Path, reading: Reading, history: &mut History, figures: &mut Figures) {
    // Whoever was killed early has none.
    let Ok(metadata) = std::fs::metadata(path) else { return };
    if metadata.len() == 0 {
        return;
    }
    let words = Journal::open(path.to_str().unwrap());
    let log = Log { words, next: 0, room: metadata.len() as usize / (WORDS * 8) };
    let died = reading.killed.map_or(NEVER, |killed| killed.to);
    let mut handle: Option<Handle> = None;
    for entry in 0.. {
        let get = |word| log.get(entry, word);
        if get(FROM) == 0 {
            break;
        }
        let response = |word| match get(word) {
            0 => NEVER,
            time => time,
        };
        let call = Span { from: get(FROM), to: response(TO) };
        let then = Span { from: get(THEN_FROM), to: response(THEN_TO) };
        let [what, said, asked, got, attempts] = [(0, 8), (8, 8), (16, 16), (32, 16), (48, 16)]
            .map(|(shift, bits)| get(WHAT) >> shift & ((1 << bits) - 1));
        let what = one_of(&CALLS, what);
        let said = (call.to != NEVER).then(|| one_of(&SAID, said));
        // A step that was begun: the time is stored behind what it was.
        let then_was = (then.from != 0).then(|| one_of(&THENS, get(THEN)));
        let ended = said.is_some() || reading.killed.is_some();
        assert!(ended, "a call of {} did not end", reading.number);
        if matches!(what, Call::Send | Call::Reserve | Call::Receive) {
            figures.calls += 1;
            let time = figures.time.get_or_insert(call);
            time.from = time.from.min(call.from);
            if call.to != NEVER {
                time.to = time.to.max(call.to);
            }
        }
        match what {
            Call::OpenSender | Call::OpenReceiver => {
                handle = said.map(|_| Handle {
                    sends: what == Call::OpenSender,
                    opened: call.to,
                    leaving: died,
                });
            }
            Call::Leave => {
                if let Some(mut left) = handle.take() {
                    left.leaving = call.from;
                    history.handles.push(left);
                }
            }
            Call::Send => {
                let count = if said.is_some() { got } else { asked };
                for id in get(ID)..get(ID) + count {
                    let accepted = said.is_some();
                    history.sent.push(Sent { id, claim: call, commit: call, accepted, died });
                    figures.sent += u64::from(accepted);
                    figures.in_doubt += u64::from(!accepted);
                }
            }
            Call::Reserve => match (said, then_was) {
                (Some(Said::Ok), Some(Then::Commit)) => {
                    let accepted = then.to != NEVER;
                    history.sent.push(Sent {
                        id: get(ID),
                        claim: call,
                        commit: then,
                        accepted,
                        died,
                    });
                    figures.sent += u64::from(accepted);
                    figures.in_doubt += u64::from(!accepted);
                }
                (Some(Said::Ok) | None, _) => {
                    // Dropped, or left open by its holder's death.
                    history.given_up.push(GivenUp { claim: call.from, end: then.to, died });
                    figures.given_up += 1;
                }
                _ => {}
            },
            Call::Receive => {}
            Call::Message => {
                let positions = reading.positions - 1;
                let fate = match then_was {
                    None => Fate::InHand,
                    Some(Then::GiveBack) => Fate::GivenBack,
                    Some(_) => Fate::Released,
                };
                history.taken.push(Taken {
                    id: get(ID),
                    order: get(PLACE).wrapping_sub(reading.start) & positions,
                    attempts,
                    receiver: reading.number,
                    take: call,
                    fate,
                    end: then,
                });
                figures.received += 1;
                figures.given_back += u64::from(fate == Fate::GivenBack);
            }
        }
        let sends = matches!(what, Call::Send | Call::Reserve);
        match said {
            Some(Said::NotNow) => {
                let answer = if sends { Answer::Full } else { Answer::Empty };
                history.refused.push((answer, call));
                *(if sends { &mut figures.full } else { &mut figures.empty }) += 1;
            }
            Some(Said::Ended) => {
                let answer = if sends { Answer::NoReceiver } else { Answer::NoSender };
                history.refused.push((answer, call));
                figures.ends += 1;
            }
            Some(Said::TimedOut) => {
                if !sends {
                    // It looked at least once, and found nothing.
                    history.refused.push((Answer::Empty, call));
                }
                figures.timeouts[usize::from(!sends)] += 1;
            }
            Some(Said::Ok) | None => {}
        }
    }
    if let (Some(mut left), Some(killed)) = (handle, reading.killed) {
        left.leaving = killed.from;
        history.handles.push(left);
    }
    if reading.killed.is_some() {
        // The messages of one call, and no more: it had no other in hand.
        history.unseen += BATCH as u64;
    }
}

/// How many of these calls were under way while somebody else's of the others was.
pub(crate) fn at_once(these: &[(u64, Span)], others: &[(u64, Span)]) -> u64 {
    let mut others = others.to_vec();
    others.sort_by_key(|other| other.1.from);
    // Of all up to each: who was under way longest, and who of the rest.
    let mut longest = Vec::with_capacity(others.len());
    let mut best: [(u64, u64); 2] = [(u64::MAX, 0); 2];
    for (who, span) in &others {
        let entry = (*who, span.to);
        if best[0].0 == *who {
            best[0].1 = best[0].1.max(span.to);
        } else if entry.1 > best[0].1 {
            best = [entry, best[0]];
        } else if entry.1 > best[1].1 {
            best[1] = entry;
        }
        longest.push(best);
    }
    let overlaps = |(who, span): &&(u64, Span)| {
        let begun = others.partition_point(|other| other.1.from <= span.to);
        begun.checked_sub(1).is_some_and(|last| {
            longest[last].iter().any(|other| other.0 != *who && other.1 >= span.from)
        })
    };
    these.iter().filter(overlaps).count() as u64
}

/// The sends and the takes of a history, each with who made it.
pub(crate) fn calls(history: &History) -> [Vec<(u64, Span)>; 2] {
    let sent = history.sent.iter().filter(|sent| sent.accepted);
    let sends =
        sent.map(|sent| (sender_of(sent.id), Span { from: sent.claim.from, to: sent.commit.to }));
    let takes = history.taken.iter().map(|taken| (taken.receiver, taken.take));
    [sends.collect(), takes.collect()]
}
