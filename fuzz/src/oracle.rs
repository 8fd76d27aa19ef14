//! Calls on a ring whose memory says what the tape says. Knows what a call may answer, and how many loads it may take.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use quoit::oracle::{Question, answered_by};
use quoit::{Delivery, Fault, Options, mpmc, spsc};

use crate::Tape;

/// The most loads of shared words that a call takes, on the rings here. What was seen at most stands in
/// docs/verification.md.
const LOADS: u64 = 2_000;

/// The same of a call that looks at the table of 1024 seats of a ring in a file, or that opens one: eight looks for a seat,
/// with a sweep after each.
const LOADS_WITH_TABLE: u64 = 100_000;

/// This thread's memory as the tape has it, for as long as the value lives.
pub struct Hearing {
    tape: Rc<RefCell<Tape>>,
    loads: Rc<Cell<u64>>,
    /// The most loads of one call so far.
    pub most: u64,
    /// Calls so far.
    pub calls: u64,
}

impl Hearing {
    /// Begins; no call may take more loads than `limit`.
    pub fn of(tape: Tape, limit: u64) -> Hearing {
        let mut tape = tape;
        let mood = Mood::of(&mut tape);
        let (tape, loads) = (Rc::new(RefCell::new(tape)), Rc::new(Cell::new(0)));
        let (asked, count) = (Rc::clone(&tape), Rc::clone(&loads));
        answered_by(Some(Box::new(move |question| {
            count.set(count.get() + 1);
            assert!(count.get() <= limit, "a call takes more than {limit} loads");
            mood.answer(&mut asked.borrow_mut(), question)
        })));
        Hearing { tape, loads, most: 0, calls: 0 }
    }

    fn below(&self, limit: u8) -> u8 {
        self.tape.borrow_mut().below(limit)
    }

    fn next(&self) -> Option<u8> {
        self.tape.borrow_mut().byte()
    }

    /// A call: its loads are counted from 0.
    pub fn call<T>(&mut self, call: impl FnOnce() -> T) -> T {
        self.loads.set(0);
        let done = call();
        self.most = self.most.max(self.loads.get());
        self.calls += 1;
        done
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        answered_by(None);
    }
}

/// How the memory lies: at random, and in some ways for ever, because a loop that only the memory ends is ended by dice too.
#[derive(Clone, Copy)]
struct Mood {
    /// Somebody is always faster than whoever exchanges.
    envious: bool,
    /// Somebody always sleeps in every bed.
    sleepy: bool,
    /// What is only loaded is what stands there.
    honest: bool,
}

impl Mood {
    fn of(tape: &mut Tape) -> Mood {
        let mood = tape.below(8);
        Mood { envious: mood & 1 != 0, sleepy: mood & 2 != 0, honest: mood & 4 != 0 }
    }

    fn answer(self, tape: &mut Tape, question: Question) -> u64 {
        match question.expected {
            Some(expected) if self.envious => return expected ^ 2,
            None if self.honest && question.bits == 64 => return question.truth,
            _ => {}
        }
        // Half of the time the truth, so that something happens.
        let said = match tape.byte() {
            None | Some(0..128) => question.truth,
            Some(128..160) => question.expected.unwrap_or(question.truth),
            Some(_) => tape.lie(question.truth),
        };
        match question.bits {
            32 => said & u64::from(u32::MAX) | u64::from(self.sleepy),
            _ => said,
        }
    }
}

/// The same as a refusal: the handle is of no more use.
fn over(fault: &Fault) -> bool {
    assert!(fault.is_corrupt(), "{fault}");
    true
}

/// What is not waited for, but by the way of those who wait.
const NOW: Duration = Duration::ZERO;

/// Calls that a tape is good for, at most.
const CALLS: u32 = 64;

fn options(tape: &mut Tape) -> Options {
    let delivery = [Delivery::AtLeastOnce, Delivery::AtMostOnce][usize::from(tape.below(2))];
    Options::new().delivery(delivery).start_position(0u64.wrapping_sub(256))
}

std::thread_local! {
    static FOLDER: tempfile::TempDir =
        tempfile::Builder::new().prefix("quoit-fuzz-").tempdir_in("/dev/shm").unwrap();
}

/// A path where nothing is.
fn fresh() -> String {
    let path = FOLDER.with(|folder| folder.path().join("ring"));
    let _ = std::fs::remove_file(&path);
    path.into_os_string().into_string().unwrap()
}

/// Calls on a ring of bytes. Answers how many, and the most loads that one of them took.
pub fn oracle_bytes(tape: &mut Tape) -> (u64, u64) {
    let options = options(tape).capacity(4096);
    let named = tape.below(4) == 0;
    let tape = std::mem::replace(tape, Tape::of(&[]));
    let path = fresh();
    let channel = if named {
        spsc::create(&path, &options).unwrap();
        None
    } else {
        Some(spsc::channel(&options).unwrap())
    };
    let mut hearing = Hearing::of(tape, LOADS);
    let (mut tx, mut rx) = match channel {
        Some((tx, rx)) => (Some(tx), Some(rx)),
        None => (
            hearing.call(|| spsc::Sender::open(&path).ok()),
            hearing.call(|| spsc::Receiver::open(&path).ok()),
        ),
    };
    for _ in 0..CALLS {
        let Some(which) = hearing.next() else { break };
        let len = usize::from(hearing.below(255)) * 9;
        let spoiled = match which % 16 {
            0..7 => tx.as_mut().is_some_and(|tx| bytes_out(&mut hearing, tx, which % 16, len)),
            7..14 => rx.as_mut().is_some_and(|rx| bytes_in(&mut hearing, rx, which % 16)),
            14 if named => {
                hearing.call(|| tx = None);
                tx = hearing.call(|| spsc::Sender::open(&path).ok());
                let _ = rx.as_ref().map(|rx| hearing.call(|| rx.stats()));
                false
            }
            15 if named => {
                hearing.call(|| rx = None);
                rx = hearing.call(|| spsc::Receiver::open(&path).ok());
                let _ = hearing.call(|| quoit::inspect(&path)).map(|info| info.used <= 4096);
                false
            }
            _ => false,
        };
        if spoiled && !named {
            break;
        }
    }
    hearing.call(|| tx = None);
    hearing.call(|| rx = None);
    (hearing.calls, hearing.most)
}

/// Whether the handle is spoiled.
fn bytes_out(hearing: &mut Hearing, tx: &mut spsc::Sender, which: u8, len: usize) -> bool {
    use quoit::TrySendError::{Fault as Spoiled, TooLong};
    let text = vec![7; len];
    let max = tx.max_len();
    let sent = match which {
        0..3 => hearing.call(|| tx.try_send(&text)),
        3 => hearing
            .call(|| tx.try_send_batch(&[&text[..len / 2], &text[..len / 3], b""]))
            .map(|sent| assert!((1..=3).contains(&sent))),
        4 => hearing.call(|| match tx.try_reserve(len) {
            Ok(mut room) => {
                assert_eq!(room.len(), len);
                room.write_at(len / 2, &text[len / 2..]).unwrap();
                if len.is_multiple_of(2) { Ok(room.commit_len(len / 2)?) } else { Ok(()) }
            }
            Err(why) => Err(why),
        }),
        5 => match hearing.call(|| tx.send_timeout(&text, NOW)) {
            Err(quoit::SendTimeoutError::Fault(fault)) => Err(Spoiled(fault)),
            _ => Ok(()),
        },
        _ => {
            assert!(hearing.call(|| tx.len()) <= 4096);
            hearing.call(|| (tx.is_full(), tx.is_empty(), tx.is_disconnected(), tx.stats()));
            Ok(())
        }
    };
    match sent {
        Err(TooLong { .. }) => assert!(len > max),
        Err(Spoiled(fault)) => return over(&fault),
        _ => {}
    }
    false
}

fn bytes_in(hearing: &mut Hearing, rx: &mut spsc::Receiver, which: u8) -> bool {
    use quoit::TryRecvError::Fault as Spoiled;
    let max = rx.max_len();
    let got = match which {
        7..10 => hearing.call(|| {
            rx.try_recv().map(|message| {
                assert!(message.len() <= max, "{}", message.len());
                assert_eq!(message.to_vec().len(), message.len());
            })
        }),
        10 => hearing.call(|| rx.try_recv().map(|message| message.give_back())),
        11 => hearing.call(|| rx.try_recv().map(std::mem::forget)),
        12 => match hearing.call(|| rx.recv_timeout(NOW).map(|message| message.to_vec().len())) {
            Err(quoit::RecvTimeoutError::Fault(fault)) => Err(Spoiled(fault)),
            got => {
                assert!(got.is_err() || got.is_ok_and(|len| len <= max));
                Ok(())
            }
        },
        _ => {
            assert!(hearing.call(|| rx.len()) <= 4096);
            hearing.call(|| (rx.is_empty(), rx.is_disconnected(), rx.stats()));
            Ok(())
        }
    };
    matches!(got, Err(Spoiled(fault)) if over(&fault))
}

/// Calls on a ring of slots. Answers how many, and the most loads that one of them took.
pub fn oracle_slots(tape: &mut Tape) -> (u64, u64) {
    let max = [48, 960][usize::from(tape.below(2))];
    let options = options(tape).capacity(8).max_len(max);
    let named = tape.below(8) == 0;
    let tape = std::mem::replace(tape, Tape::of(&[]));
    let path = fresh();
    let channel = if named {
        mpmc::create(&path, &options).unwrap();
        None
    } else {
        Some(mpmc::channel(&options).unwrap())
    };
    let mut hearing = Hearing::of(tape, if named { LOADS_WITH_TABLE } else { LOADS });
    let (mut tx, mut rx) = match channel {
        Some((tx, rx)) => (Some(tx), Some(rx)),
        None => (
            hearing.call(|| mpmc::Sender::open(&path).ok()),
            hearing.call(|| mpmc::Receiver::open(&path).ok()),
        ),
    };
    for _ in 0..CALLS {
        let Some(which) = hearing.next() else { break };
        let len = usize::from(hearing.below(255)) * 4 % (max + 2);
        let spoiled = match which % 16 {
            0..7 => tx.as_mut().is_some_and(|tx| slots_out(&mut hearing, tx, which % 16, len)),
            7..14 => rx.as_ref().is_some_and(|rx| slots_in(&mut hearing, rx, which % 16)),
            14 if named => {
                hearing.call(|| tx = None);
                tx = hearing.call(|| mpmc::Sender::open(&path).ok());
                let _ = hearing.call(|| quoit::recover(&path));
                false
            }
            15 if named => {
                hearing.call(|| rx = None);
                rx = hearing.call(|| mpmc::Receiver::open(&path).ok());
                let _ = hearing.call(|| quoit::inspect(&path)).map(|info| assert!(info.used <= 8));
                false
            }
            14 => {
                tx = hearing.call(|| tx.clone());
                false
            }
            _ => {
                rx = hearing.call(|| rx.clone());
                false
            }
        };
        if spoiled && !named {
            break;
        }
    }
    hearing.call(|| tx = None);
    hearing.call(|| rx = None);
    (hearing.calls, hearing.most)
}

fn slots_out(hearing: &mut Hearing, tx: &mut mpmc::Sender, which: u8, len: usize) -> bool {
    use quoit::TrySendError::{Fault as Spoiled, TooLong};
    let text = vec![7; len];
    let max = tx.max_len();
    let sent = match which {
        0..3 => hearing.call(|| tx.try_send(&text)),
        3 => hearing
            .call(|| tx.try_send_batch(&[&text[..len / 2], &text[..len / 3], b""]))
            .map(|sent| assert!((1..=3).contains(&sent))),
        4 => hearing.call(|| match tx.try_reserve(len) {
            Ok(mut room) => {
                assert_eq!(room.len(), len);
                room.write_at(len / 2, &text[len / 2..]).unwrap();
                match len % 4 {
                    0 => Ok(()),
                    1 => {
                        std::mem::forget(room);
                        Ok(())
                    }
                    _ => Ok(room.commit_len(len / 2)?),
                }
            }
            Err(why) => Err(why),
        }),
        5 => match hearing.call(|| tx.send_timeout(&text, NOW)) {
            Err(quoit::SendTimeoutError::Fault(fault)) => Err(Spoiled(fault)),
            _ => Ok(()),
        },
        _ => {
            assert!(hearing.call(|| tx.len()) <= 8);
            hearing.call(|| (tx.is_full(), tx.is_empty(), tx.is_disconnected(), tx.stats()));
            hearing.call(|| tx.recover()).map(drop).map_err(Spoiled)
        }
    };
    match sent {
        Err(TooLong { .. }) => assert!(len > max),
        Err(Spoiled(fault)) => return over(&fault),
        _ => {}
    }
    false
}

fn slots_in(hearing: &mut Hearing, rx: &mpmc::Receiver, which: u8) -> bool {
    use quoit::TryRecvError::Fault as Spoiled;
    let max = rx.max_len();
    let got = match which {
        7..10 => hearing.call(|| {
            rx.try_recv().map(|message| {
                assert!(message.len() <= max, "{}", message.len());
                assert_eq!(message.to_vec().len(), message.len());
            })
        }),
        10 => hearing.call(|| rx.try_recv().map(|message| message.give_back())),
        11 => hearing.call(|| {
            let mut some = Vec::new();
            let got = rx.try_recv_batch(&mut some, 3).map(|got| assert_eq!(got, some.len()));
            some.into_iter().for_each(|message| assert_eq!(message.to_vec().len(), message.len()));
            got
        }),
        12 => match hearing.call(|| rx.recv_timeout(NOW).map(|message| message.to_vec().len())) {
            Err(quoit::RecvTimeoutError::Fault(fault)) => Err(Spoiled(fault)),
            got => {
                assert!(got.is_err() || got.is_ok_and(|len| len <= max));
                Ok(())
            }
        },
        _ => {
            assert!(hearing.call(|| rx.len()) <= 8);
            hearing.call(|| (rx.is_empty(), rx.is_disconnected(), rx.stats()));
            hearing.call(|| rx.recover()).map(drop).map_err(Spoiled)
        }
    };
    matches!(got, Err(Spoiled(fault)) if over(&fault))
}
